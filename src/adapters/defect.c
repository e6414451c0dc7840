/* SPDX-License-Identifier: MIT */
/*
 * How far rows are from orthonormal ones: P = W W^T - I of W [rank x n]. Products are taken again whenever they are wanted; sums
 * run in index order, in double, so that the same rows give the same bits.
 */
#include <math.h>

#include "set.h"

double lrki_defect(const float *w, int64_t n, int64_t i, int64_t j)
{
    double sum = i == j ? -1 : 0;
    for (int64_t k = 0; k < n; k++)
        sum += (double)w[i * n + k] * (double)w[j * n + k];
    return sum;
}

double lrki_defect_norm(const float *w, int64_t rank, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < rank; i++)
        for (int64_t j = 0; j <= i; j++) {
            double p = lrki_defect(w, n, i, j);
            sum += i == j ? p * p : 2 * p * p;
        }
    return sqrt(sum);
}
