/* SPDX-License-Identifier: MIT */
/*
 * The error (accuracy.h). Names: H = x A^T and D = s dy B^T, [tokens x rank] in double; a "size" is the same formula
 * with every factor, and the value accumulated onto, replaced by its absolute value.
 */
#include "accuracy.h"

#include <math.h>
#include <stdlib.h>

#define SAMPLES 64 /* rows of y and dx, columns of dA and dB */

/* value and size, [tokens x rank] */
typedef struct products {
    double *value;
    double *size;
} products;

/* A matrix that a call adds to. dtype of x and y; gradients are f32. */
typedef struct target {
    const void *data;
    int64_t rows;
    int64_t cols;
    int32_t dtype;
    double gamma; /* of the bound */
} target;

static double gamma_of(int64_t length)
{
    double ku = (double)length * 0x1p-24;
    return ku / (1.0 - ku);
}

static int64_t pick(int64_t i, int64_t n)
{
    return n <= SAMPLES ? i : i * (n - 1) / (SAMPLES - 1);
}

static int64_t picks(int64_t n)
{
    return n < SAMPLES ? n : SAMPLES;
}

/* scale * m w^T: m [rows x n] of the dtype, w [rank x n]. */
static products multiply(const void *m, int32_t dtype, int64_t rows, int64_t n, lrk_tensor w, double scale)
{
    products p = {bench_memory((size_t)(rows * w.rows) * sizeof(double)),
                  bench_memory((size_t)(rows * w.rows) * sizeof(double))};
#pragma omp parallel for
    for (int64_t t = 0; t < rows; t++) {
        double *row = bench_memory((size_t)n * sizeof(double));
        for (int64_t i = 0; i < n; i++)
            row[i] = operand_read(m, t * n + i, dtype);
        for (int64_t j = 0; j < w.rows; j++) {
            const float *to = w.data + j * w.ld;
            double sum = 0.0, size = 0.0;
#pragma omp simd reduction(+ : sum, size)
            for (int64_t i = 0; i < n; i++) {
                double term = row[i] * (double)to[i];
                sum += term;
                size += fabs(term);
            }
            p.value[t * w.rows + j] = scale * sum;
            p.size[t * w.rows + j] = fabs(scale) * size;
        }
        free(row);
    }
    return p;
}

static void products_free(products *p)
{
    free(p->value);
    free(p->size);
}

static double worse(double worst, double error, double bound)
{
    double ratio = error == 0.0 ? 0.0 : error / bound;
    return ratio <= worst ? worst : isnan(ratio) ? INFINITY : ratio;
}

static double check(const target *t, int64_t index, double before, double value, double size)
{
    static const double unit[GRID_DTYPES] = {0.0, 0x1p-8, 0x1p-11};
    double want = before + value, bound = t->gamma * (fabs(before) + size);
    bound += unit[t->dtype] * (fabs(want) + bound);
    return worse(0.0, fabs((double)operand_read(t->data, index, t->dtype) - want), bound);
}

/* ---- rows: y += scale H B, dx += D A ------------------------------------------------------------------------------- */

static double *keep_rows(const target *t)
{
    double *before = bench_memory((size_t)(picks(t->rows) * t->cols) * sizeof(double));
    for (int64_t i = 0; i < picks(t->rows); i++)
        for (int64_t c = 0; c < t->cols; c++)
            before[i * t->cols + c] = operand_read(t->data, pick(i, t->rows) * t->cols + c, t->dtype);
    return before;
}

static double check_rows(const target *t, double *before, const products *p, double scale, lrk_tensor w)
{
    double worst = 0.0;
    for (int64_t i = 0; i < picks(t->rows); i++)
        for (int64_t c = 0; c < t->cols; c++) {
            int64_t row = pick(i, t->rows);
            double value = 0.0, size = 0.0;
            for (int64_t j = 0; j < w.rows; j++) {
                double factor = scale * (double)w.data[j * w.ld + c];
                value += p->value[row * w.rows + j] * factor;
                size += p->size[row * w.rows + j] * fabs(factor);
            }
            worst = worse(worst, check(t, row * t->cols + c, before[i * t->cols + c], value, size), 1.0);
        }
    free(before);
    return worst;
}

/* ---- columns: dA += D^T x, dB += scale H^T dy ---------------------------------------------------------------------- */

static double *keep_columns(const target *t)
{
    double *before = bench_memory((size_t)(t->rows * picks(t->cols)) * sizeof(double));
    for (int64_t j = 0; j < t->rows; j++)
        for (int64_t i = 0; i < picks(t->cols); i++)
            before[j * picks(t->cols) + i] = operand_read(t->data, j * t->cols + pick(i, t->cols), GRID_F32);
    return before;
}

/* m [tokens x t->cols] is x or dy. */
static double check_columns(const target *t, double *before, const products *p, double scale, const void *m,
                            const bench_shape *shape)
{
    double worst = 0.0;
    for (int64_t i = 0; i < picks(t->cols); i++)
        for (int64_t j = 0; j < t->rows; j++) {
            double value = 0.0, size = 0.0;
            for (int64_t row = 0; row < shape->tokens; row++) {
                double factor =
                    scale * (double)operand_read(m, row * t->cols + pick(i, t->cols), shape->dtype);
                value += p->value[row * t->rows + j] * factor;
                size += p->size[row * t->rows + j] * fabs(factor);
            }
            int64_t index = j * t->cols + pick(i, t->cols);
            worst = worse(worst, check(t, index, before[j * picks(t->cols) + i], value, size), 1.0);
        }
    free(before);
    return worst;
}

/* ---- calls --------------------------------------------------------------------------------------------------------- */

static double forward_error(lorank_rival *r, const products *h)
{
    const bench_shape *s = &r->o->shape;
    lrk_tensor b = lorank_tensor(r, LRK_TENSOR_B);
    const target y = {r->o->sets[0].y, s->tokens, s->n_out, s->dtype, gamma_of(s->n_in + b.rows + 8)};
    double *before = keep_rows(&y);
    const rival lorank = lorank_rival_of(r);
    rival_run(&lorank, GRID_FORWARD, 0);
    return check_rows(&y, before, h, RIVAL_SCALE, b);
}

static double backward_error(lorank_rival *r, const products *h, const products *d)
{
    const bench_shape *s = &r->o->shape;
    const operand_set *set = &r->o->sets[0];
    lrk_tensor a = lorank_tensor(r, LRK_TENSOR_A);
    const target dx = {set->dx, s->tokens, s->n_in, s->dtype, gamma_of(s->n_out + a.rows + 8)};
    const target grad_a = {lorank_tensor(r, LRK_TENSOR_GRAD_A).data, a.rows, s->n_in, GRID_F32,
                           gamma_of(s->n_out + s->tokens + 8)};
    const target grad_b = {lorank_tensor(r, LRK_TENSOR_GRAD_B).data, a.rows, s->n_out, GRID_F32,
                           gamma_of(s->n_in + s->tokens + 8)};
    double *dx_before = keep_rows(&dx), *a_before = keep_columns(&grad_a), *b_before = keep_columns(&grad_b);
    const rival lorank = lorank_rival_of(r);
    rival_run(&lorank, GRID_BACKWARD, 0);
    double worst = check_rows(&dx, dx_before, d, 1.0, a);
    worst = worse(worst, check_columns(&grad_a, a_before, d, 1.0, set->x, s), 1.0);
    return worse(worst, check_columns(&grad_b, b_before, h, RIVAL_SCALE, set->dy, s), 1.0);
}

accuracy accuracy_of(lorank_rival *r)
{
    const bench_shape *s = &r->o->shape;
    const operand_set *set = &r->o->sets[0];
    products h = multiply(set->x, s->dtype, s->tokens, s->n_in, lorank_tensor(r, LRK_TENSOR_A), 1.0);
    products d =
        multiply(set->dy, s->dtype, s->tokens, s->n_out, lorank_tensor(r, LRK_TENSOR_B), RIVAL_SCALE);
    accuracy result = {.forward = forward_error(r, &h)};
    result.backward = backward_error(r, &h, &d);
    products_free(&h);
    products_free(&d);
    return result;
}
