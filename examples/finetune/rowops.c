/* SPDX-License-Identifier: MIT */
/*
 * The row-wise kernels of ops.h: plain loops that the compiler vectorises.
 * Sums run in vector lanes, so their order depends on the instruction set this
 * file was compiled for, never on the thread that runs them.
 */
#include "ops.h"

#include <math.h>
#include <string.h>

/* Elements below which waking the threads costs more than it saves. */
enum { SMALL = 1 << 14 };

/* e^x within 2 ulp on [-87, 88], clamped outside: 2^n * e^r with |r| <= ln2/2 and a Taylor polynomial of degree 7,
 * whose remainder there is below 2^-26.  The C library's expf does not vectorise. */
static inline float exp_lane(float x)
{
    const float log2e = 1.44269504F, ln2_high = 0.693145752F, ln2_low = 1.42860677e-6F,
                to_integer = 12582912.0F;
    x = x < -87.0F ? -87.0F : x;
    x = x > 88.0F ? 88.0F : x;
    float n = (x * log2e + to_integer) - to_integer;
    float r = (x - n * ln2_high) - n * ln2_low;
    float p = 1.0F / 5040;
    p = p * r + 1.0F / 720;
    p = p * r + 1.0F / 120;
    p = p * r + 1.0F / 24;
    p = p * r + 1.0F / 6;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    p = p * r + 1.0F;
    uint32_t bits = ((uint32_t)(int32_t)n + 127U) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static void rmsnorm_row(int64_t n, float eps, const float *x, const float *gain, float *y)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    float inverse = 1.0F / sqrtf(sum / (float)n + eps);
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * inverse * gain[i];
}

void ops_rmsnorm(int64_t rows, int64_t n, double eps, const float *x, const float *gain, float *y)
{
#pragma omp parallel for schedule(static) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++)
        rmsnorm_row(n, (float)eps, x + row * n, gain, y + row * n);
}

/* With u = gain * dy and i = 1 / rms:  dx += i * u - x * i^3 / n * sum(u * x). */
static void rmsnorm_backward_row(int64_t n, float eps, const float *x, const float *gain, const float *dy,
                                 float *dx)
{
    float sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * x[i];
        dot += gain[i] * dy[i] * x[i];
    }
    float inverse = 1.0F / sqrtf(sum / (float)n + eps);
    float along = inverse * inverse * inverse / (float)n * dot;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dx[i] += inverse * gain[i] * dy[i] - along * x[i];
}

void ops_rmsnorm_backward(int64_t rows, int64_t n, double eps, const float *x, const float *gain,
                          const float *dy, float *dx)
{
#pragma omp parallel for schedule(static) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++)
        rmsnorm_backward_row(n, (float)eps, x + row * n, gain, dy + row * n, dx + row * n);
}

static void rotate_row(const ops_rope *rope, const float *table, float *x, float sign)
{
    int64_t half = rope->head_dim / 2;
    const float *cosine = table, *sine = table + half;
    for (int64_t head = 0; head < rope->n_heads; head++, x += rope->head_dim) {
        float *first = x, *second = x + half;
#pragma omp simd
        for (int64_t i = 0; i < half; i++) {
            float a = first[i], b = second[i], s = sign * sine[i];
            first[i] = a * cosine[i] - b * s;
            second[i] = b * cosine[i] + a * s;
        }
    }
}

void ops_rotate(const ops_rope *rope, int64_t rows, float *x, int64_t ld, int direction)
{
#pragma omp parallel for schedule(static) if (rows * ld > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        int64_t position = rope->first + row % rope->seq_len;
        rotate_row(rope, rope->table + position * rope->head_dim, x + row * ld, (float)direction);
    }
}

static void swiglu_row(int64_t n, const float *gate, const float *up, float *act)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        act[i] = gate[i] / (1.0F + exp_lane(-gate[i])) * up[i];
}

void ops_swiglu(int64_t rows, int64_t n, const float *gate_up, float *act)
{
#pragma omp parallel for schedule(static) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++)
        swiglu_row(n, gate_up + row * 2 * n, gate_up + row * 2 * n + n, act + row * n);
}

static void swiglu_backward_row(int64_t n, const float *gate, const float *up, const float *d_act,
                                float *d_gate, float *d_up)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float sigmoid = 1.0F / (1.0F + exp_lane(-gate[i]));
        d_up[i] = d_act[i] * gate[i] * sigmoid;
        d_gate[i] = d_act[i] * up[i] * sigmoid * (1.0F + gate[i] * (1.0F - sigmoid));
    }
}

void ops_swiglu_backward(int64_t rows, int64_t n, const float *gate_up, const float *d_act, float *d_gate_up)
{
#pragma omp parallel for schedule(static) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        int64_t wide = row * 2 * n;
        swiglu_backward_row(n, gate_up + wide, gate_up + wide + n, d_act + row * n, d_gate_up + wide,
                            d_gate_up + wide + n);
    }
}

static void add_range(int64_t n, const float *x, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

void ops_add(int64_t n, const float *x, float *y)
{
    enum { PIECE = 8192 };
#pragma omp parallel for schedule(static) if (n > SMALL)
    for (int64_t i = 0; i < n; i += PIECE)
        add_range(n - i < PIECE ? n - i : PIECE, x + i, y + i);
}

/* In lanes of our own: compilers do not reorder a maximum of floats themselves, for the sake of NaN. */
static float largest(int64_t n, const float *row)
{
    enum { LANES = 16 };
    float lanes[LANES], top = row[0];
    int64_t whole = n / LANES * LANES;
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = top;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] = row[i + lane] > lanes[lane] ? row[i + lane] : lanes[lane];
    for (int lane = 0; lane < LANES; lane++)
        top = lanes[lane] > top ? lanes[lane] : top;
    for (int64_t i = whole; i < n; i++)
        top = row[i] > top ? row[i] : top;
    return top;
}

/* row = exp(scale * (row - top)); returns the sum. */
static float exponentials(int64_t n, float scale, float top, float *row)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        row[i] = exp_lane(scale * (row[i] - top));
        sum += row[i];
    }
    return sum;
}

static void scale_range(int64_t n, float factor, float *row)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        row[i] *= factor;
}

void ops_softmax(int64_t n, int64_t n_live, float scale, float *row)
{
    float sum = exponentials(n_live, scale, largest(n_live, row), row);
    scale_range(n_live, 1.0F / sum, row);
    memset(row + n_live, 0, (size_t)(n - n_live) * sizeof *row);
}

void ops_softmax_backward(int64_t n, float scale, const float *p, float *d_row)
{
    float mean = 0;
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < n; i++)
        mean += p[i] * d_row[i];
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        d_row[i] = scale * p[i] * (d_row[i] - mean);
}

static int is_first_largest(const float *row, int64_t target, float top)
{
    if (!(row[target] >= top)) return 0;
    for (int64_t i = 0; i < target; i++)
        if (row[i] >= top) return 0;
    return 1;
}

double ops_cross_entropy(int64_t n, int64_t target, float *row, int want_gradient, int *is_top)
{
    float top = largest(n, row);
    *is_top = is_first_largest(row, target, top);
    double margin = (double)top - (double)row[target];
    float sum = exponentials(n, 1, top, row);
    if (want_gradient) {
        scale_range(n, 1.0F / sum, row);
        row[target] -= 1.0F;
    }
    return log((double)sum) + margin;
}

int64_t ops_argmax(int64_t n, const float *row)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (row[i] > row[best]) best = i;
    return best;
}
