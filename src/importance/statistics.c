/* SPDX-License-Identifier: MIT */
/*
 * Statistics over the parts of a validation batch: means and standard errors of ratios, and Spearman's correlation.
 * All in double, summed in index order, so that the same numbers give the same bits.
 */
#include <math.h>
#include <stdlib.h>

#include "importance.h"

double lrki_ratio_mean(const double *parts, const double *weights, int64_t n, int64_t first, int64_t step)
{
    double sum = 0, weight = 0;
    for (int64_t p = first; p < n; p += step) {
        sum += parts[p];
        weight += weights[p];
    }
    return sum / weight;
}

double lrki_ratio_error(const double *parts, const double *weights, int64_t n)
{
    if (n < 2) return NAN;
    double mean = lrki_ratio_mean(parts, weights, n, 0, 1);
    double squares = 0, weight = 0;
    for (int64_t p = 0; p < n; p++) {
        double residual = parts[p] - mean * weights[p];
        squares += residual * residual;
        weight += weights[p];
    }
    return sqrt((double)n / (double)(n - 1) * squares) / weight;
}

typedef struct ranked {
    double value;
    int64_t index;
} ranked;

static int by_value(const void *left, const void *right)
{
    const ranked *a = left, *b = right;
    if (a->value != b->value) return a->value < b->value ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

/* rank[i] of values[i] from 1; equal values share the mean of the places they take. */
static void mean_ranks(const double *values, int64_t n, ranked *sorted, double *rank)
{
    for (int64_t i = 0; i < n; i++)
        sorted[i] = (ranked){values[i], i};
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    for (int64_t begin = 0, end; begin < n; begin = end) {
        for (end = begin + 1; end < n && sorted[end].value == sorted[begin].value;)
            end++;
        for (int64_t i = begin; i < end; i++)
            rank[sorted[i].index] = (double)(begin + 1 + end) / 2;
    }
}

/* Pearson correlation of two rankings; their mean is (n + 1) / 2, ties or not, so a constant side has exactly none. */
static double rank_correlation(const double *x, const double *y, int64_t n)
{
    double mean = (double)(n + 1) / 2, xx = 0, yy = 0, xy = 0;
    for (int64_t i = 0; i < n; i++) {
        xx += (x[i] - mean) * (x[i] - mean);
        yy += (y[i] - mean) * (y[i] - mean);
        xy += (x[i] - mean) * (y[i] - mean);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

lrk_status lrki_spearman(lrk_context *context, const double *x, const double *y, int64_t n, double *rho)
{
    *rho = NAN;
    if (n < 2) return LRK_OK;
    ranked *sorted = lrki_array(context, n, sizeof *sorted);
    double *ranks = lrki_array(context, n, 2 * sizeof *ranks);
    if (sorted != NULL && ranks != NULL) {
        mean_ranks(x, n, sorted, ranks);
        mean_ranks(y, n, sorted, ranks + n);
        *rho = rank_correlation(ranks, ranks + n, n);
    }
    bool done = sorted != NULL && ranks != NULL;
    lrki_array_free(context, sorted, n, sizeof *sorted);
    lrki_array_free(context, ranks, n, 2 * sizeof *ranks);
    return done ? LRK_OK : lrki_fail_nomem(context, "a rank correlation");
}
