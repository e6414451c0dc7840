/* SPDX-License-Identifier: MIT */
/*
 * The toy model in double with a running error analysis of the f32 model (Higham, Accuracy and Stability of Numerical
 * Algorithms, 3.3). Beside every value x stands a bound e with |x_f32 - x| <= e:
 *     a sum of n products in any order, fused or not:  e = sum |w| e_x + gamma(n) sum |w| (|x| + e_x)
 *     tanhf:       slope * e + 4 u  (the largest slope within e of x; glibc states at most 2 ulp, |tanh| <= 1)
 *     h + y:       e_h + e_y + u (|h + y| + e_h + e_y)
 *     the loss of a row:  2 max e of its logits (log-sum-exp is 1-Lipschitz); it is taken in double, whose own rounding
 *                  2^-48 (1 + loss) covers.
 * u = 2^-24, gamma(n) = n u / (1 - n u).
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "toy.h"

#define U 0x1p-24

typedef struct bounded {
    double value;
    double error;
} bounded;

static double gamma_of(int64_t n)
{
    return (double)n * U / (1 - (double)n * U);
}

/* sum_i w[i * stride] x[i], rounded like a sum of `terms` products. */
static bounded dot(const float *w, int64_t stride, const bounded *x, int64_t n, int64_t terms)
{
    bounded sum = {0, 0};
    double size = 0;
    for (int64_t i = 0; i < n; i++) {
        double weight = w[i * stride];
        sum.value += weight * x[i].value;
        sum.error += fabs(weight) * x[i].error;
        size += fabs(weight) * (fabs(x[i].value) + x[i].error);
    }
    sum.error += gamma_of(terms) * size;
    return sum;
}

/* y += s B^T diag(mask * g) A x for one row. H is rounded, scaled by a rounded factor, and its products join y's sum. */
static void adapt(const toy *t, int32_t module, const double *mask, const bounded *x, bounded *y)
{
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(t->adapters, module, &info), LRK_OK);
    lrk_tensor a = sets_tensor(t->adapters, module, LRK_TENSOR_A),
               b = sets_tensor(t->adapters, module, LRK_TENSOR_B);
    lrk_tensor gates = sets_tensor(t->adapters, module, LRK_TENSOR_GATES);
    bounded h[64];
    ck_assert_int_le(info.rank, 64);
    for (int64_t j = 0; j < info.rank; j++) {
        double factor = info.scale * mask[j] * gates.data[j];
        bounded raw = dot(a.data + j * a.ld, 1, x, info.n_in, info.n_in);
        h[j].value = factor * raw.value;
        h[j].error = fabs(factor) * (raw.error + gamma_of(3) * (fabs(raw.value) + raw.error));
    }
    for (int64_t o = 0; o < info.n_out; o++) {
        bounded update = dot(b.data + o, b.ld, h, info.rank, info.rank + 2);
        double size = fabs(y[o].value) + y[o].error + fabs(update.value) + update.error;
        y[o].value += update.value;
        y[o].error += update.error + gamma_of(info.rank + 2) * size;
    }
}

static bounded bounded_tanh(bounded a)
{
    double flat = tanh(fmax(0, fabs(a.value) - a.error));
    return (bounded){tanh(a.value), a.error * (1 - flat * flat) + 4 * U};
}

static void stage(const toy *t, int32_t k, const double *mask, bounded *h)
{
    const toy_shape *s = &t->shape;
    bounded a[64], y[64];
    ck_assert(s->d <= 64 && s->f <= 64);
    int64_t n_u = sets_rank(t->adapters, 2 * k);
    for (int64_t o = 0; o < s->f; o++)
        a[o] = dot(t->u + (k * s->f + o) * s->d, 1, h, s->d, s->d);
    adapt(t, 2 * k, mask, h, a);
    for (int64_t o = 0; o < s->f; o++)
        a[o] = bounded_tanh(a[o]);
    for (int64_t o = 0; o < s->d; o++)
        y[o] = dot(t->v + (k * s->d + o) * s->f, 1, a, s->f, s->f);
    adapt(t, 2 * k + 1, mask + n_u, a, y);
    for (int64_t o = 0; o < s->d; o++) {
        double value = h[o].value + y[o].value, error = h[o].error + y[o].error;
        h[o] = (bounded){value, error + U * (fabs(value) + error)};
    }
}

static bounded row_loss(const toy *t, int64_t row, const bounded *h)
{
    const toy_shape *s = &t->shape;
    bounded z[64];
    double most = -INFINITY, sum = 0, error = 0;
    ck_assert_int_le(s->classes, 64);
    for (int64_t c = 0; c < s->classes; c++) {
        z[c] = dot(t->head + c * s->d, 1, h, s->d, s->d);
        most = fmax(most, z[c].value);
        error = fmax(error, z[c].error);
    }
    for (int64_t c = 0; c < s->classes; c++)
        sum += exp(z[c].value - most);
    double loss = most + log(sum) - z[t->targets[row]].value;
    return (bounded){loss, 2 * error + 0x1p-48 * (1 + loss)};
}

void toy_oracle(const toy *t, const double *mask, double *losses, double *bounds)
{
    const toy_shape *s = &t->shape;
    memset(losses, 0, (size_t)s->parts * sizeof *losses);
    if (bounds != NULL) memset(bounds, 0, (size_t)s->parts * sizeof *bounds);
    for (int64_t r = 0; r < s->rows; r++) {
        bounded h[64];
        for (int64_t i = 0; i < s->d; i++)
            h[i] = (bounded){t->x[r * s->d + i], 0};
        const double *own = mask;
        for (int32_t k = 0; k < s->stages; k++) {
            stage(t, k, own, h);
            own += sets_rank(t->adapters, 2 * k) + sets_rank(t->adapters, 2 * k + 1);
        }
        bounded loss = row_loss(t, r, h);
        losses[r % s->parts] += loss.value;
        if (bounds != NULL) bounds[r % s->parts] += loss.error;
    }
}

double toy_oracle_mean(const toy *t, const double *mask, double *bound)
{
    double losses[64], bounds[64], sum = 0, error = 0;
    ck_assert_int_le(t->shape.parts, 64);
    toy_oracle(t, mask, losses, bounds);
    for (int32_t p = 0; p < t->shape.parts; p++) {
        sum += losses[p];
        error += bounds[p];
    }
    if (bound != NULL) *bound = error / (double)t->shape.rows;
    return sum / (double)t->shape.rows;
}
