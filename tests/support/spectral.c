/* SPDX-License-Identifier: MIT */
/* The oracle of sketches (spectral.h). */
#include "spectral.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define SWEEPS 40
#define COSINE 1e-14 /* between columns that count as orthogonal */

void spectral_gradient(const padded *x, const padded *dy, double *gradient, double *sizes)
{
    for (int64_t t = 0; t < x->rows; t++)
        for (int64_t o = 0; o < dy->cols; o++)
            for (int64_t i = 0; i < x->cols; i++) {
                double term = (double)dy->data[t * dy->ld + o] * (double)x->data[t * x->ld + i];
                gradient[o * x->cols + i] += term;
                if (sizes != NULL) sizes[o * x->cols + i] += fabs(term);
            }
}

/* Rotates columns p and q of a [rows x cols] so that they are orthogonal, and rows p and q of v with them. Columns whose
 * squares are below `nothing` are rounding. Returns the cosine between them before. */
static double rotate(int64_t rows, int64_t cols, double *a, double *v, int64_t p, int64_t q, double nothing)
{
    double pp = 0, qq = 0, pq = 0;
    for (int64_t i = 0; i < rows; i++) {
        double x = a[i * cols + p], y = a[i * cols + q];
        pp += x * x, qq += y * y, pq += x * y;
    }
    if (fmin(pp, qq) <= nothing || fabs(pq) <= COSINE * sqrt(pp * qq)) return 0;
    double zeta = (qq - pp) / (2 * pq);
    double t = (zeta >= 0 ? 1 : -1) / (fabs(zeta) + sqrt(1 + zeta * zeta));
    double c = 1 / sqrt(1 + t * t), s = c * t;
    for (int64_t i = 0; i < rows; i++) {
        double x = a[i * cols + p], y = a[i * cols + q];
        a[i * cols + p] = c * x - s * y;
        a[i * cols + q] = s * x + c * y;
    }
    for (int64_t i = 0; i < cols; i++) {
        double x = v[p * cols + i], y = v[q * cols + i];
        v[p * cols + i] = c * x - s * y;
        v[q * cols + i] = s * x + c * y;
    }
    return fabs(pq) / sqrt(pp * qq);
}

static void swap_rows(double *v, int64_t cols, int64_t p, int64_t q)
{
    for (int64_t i = 0; i < cols; i++) {
        double held = v[p * cols + i];
        v[p * cols + i] = v[q * cols + i];
        v[q * cols + i] = held;
    }
}

void spectral_svd(int64_t rows, int64_t cols, double *a, double *values, double *right)
{
    double *v = calloc((size_t)(cols * cols), sizeof *v);
    for (int64_t i = 0; i < cols; i++)
        v[i * cols + i] = 1;
    double worst = 1, total = 0;
    for (int64_t i = 0; i < rows * cols; i++)
        total += a[i] * a[i];
    for (int sweep = 0; worst > 0; sweep++) {
        ck_assert_int_lt(sweep, SWEEPS);
        worst = 0;
        for (int64_t p = 0; p < cols; p++)
            for (int64_t q = p + 1; q < cols; q++)
                worst = fmax(worst, rotate(rows, cols, a, v, p, q, total * 1e-30));
    }
    for (int64_t j = 0; j < cols; j++) {
        values[j] = 0;
        for (int64_t i = 0; i < rows; i++)
            values[j] += a[i * cols + j] * a[i * cols + j];
        values[j] = sqrt(values[j]);
    }
    for (int64_t j = 0; j < cols; j++) {
        int64_t best = j;
        for (int64_t i = j + 1; i < cols; i++)
            if (values[i] > values[best]) best = i;
        double held = values[j];
        values[j] = values[best];
        values[best] = held;
        swap_rows(v, cols, j, best);
    }
    for (int64_t i = 0; i < cols * cols && right != NULL; i++)
        right[i] = v[i];
    free(v);
}

/* n orthonormal rows of width `cols`, by Gram and Schmidt, twice. */
static double *orthonormal(int64_t n, int64_t cols, uint64_t *state)
{
    double *rows = calloc((size_t)(n * cols), sizeof *rows);
    for (int64_t j = 0; j < n; j++) {
        double *row = rows + j * cols, norm = 0;
        for (int64_t i = 0; i < cols; i++)
            row[i] = random_unit(state);
        for (int64_t again = 0; again < 2; again++)
            for (int64_t k = 0; k < j; k++) {
                double along = 0;
                for (int64_t i = 0; i < cols; i++)
                    along += row[i] * rows[k * cols + i];
                for (int64_t i = 0; i < cols; i++)
                    row[i] -= along * rows[k * cols + i];
            }
        for (int64_t i = 0; i < cols; i++)
            norm += row[i] * row[i];
        for (int64_t i = 0; i < cols; i++)
            row[i] /= sqrt(norm);
    }
    return rows;
}

void spectral_rows(const double *values, int64_t n, int64_t n_in, int64_t n_out, uint64_t seed, padded *x,
                   padded *dy)
{
    double *v = orthonormal(n, n_in, &seed), *u = orthonormal(n, n_out, &seed);
    *x = padded_make(n, n_in, 1, 1);
    *dy = padded_make(n, n_out, 2, 2);
    for (int64_t t = 0; t < n; t++) {
        for (int64_t i = 0; i < n_in; i++)
            x->data[t * x->ld + i] = (float)v[t * n_in + i];
        for (int64_t i = 0; i < n_out; i++)
            dy->data[t * dy->ld + i] = (float)(values[t] * u[t * n_out + i]);
    }
    free(u);
    free(v);
}
