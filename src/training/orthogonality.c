/* SPDX-License-Identifier: MIT */
/*
 * AdaLoRA's pull towards orthonormal rows (Zhang et al. 2023, eq. 4). For W [rank x n] (A, or B as stored) and
 * P = W W^T - I the term is |P|_F, or its square; its derivative by row i is 2 / |P|_F, or 4, times sum_j P_ij w_j. Products are
 * taken twice over (adapters/defect.c) instead of being kept, so that a step needs no memory.
 */
#include <float.h>
#include <math.h>

#include "adamw.h"

double lrki_orthogonality_factor(const lrk_optimizer *optimizer, double norm)
{
    const lrk_adapters *adapters = optimizer->adapters;
    int64_t matrices = 0;
    for (int64_t m = 0; m < adapters->n_modules; m++)
        matrices += adapters->modules[m].bank.rank > 0 ? 2 : 0;
    double weight = optimizer->options.orthogonality / (double)matrices;
    if (optimizer->options.flags & LRK_ADAMW_ORTHOGONALITY_SQUARED) return 4 * weight;
    return norm > 0 ? 2 * weight / norm : 0;
}

/* |sum_j P_ij w_j| <= |P| |W|, and |W|^2 = tr(P) + rank <= sqrt(rank) |P| + rank. */
bool lrki_orthogonality_fits(double factor, double norm, int64_t rank)
{
    return factor * norm * sqrt(sqrt((double)rank) * norm + (double)rank) < FLT_MAX / 2;
}

void lrki_orthogonality_add(const float *w, int64_t rank, int64_t n, double factor, float *gradient)
{
    for (int64_t i = 0; i < rank; i++)
        for (int64_t j = 0; j < rank; j++) {
            double along = factor * lrki_defect(w, n, i, j);
            for (int64_t k = 0; k < n; k++)
                gradient[i * n + k] = (float)((double)gradient[i * n + k] + along * (double)w[j * n + k]);
        }
}
