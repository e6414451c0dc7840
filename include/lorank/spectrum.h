/* SPDX-License-Identifier: MIT */
/*
 * What an adapter's update is, without ever forming it: with delta = s B^T diag(g) A [n_out x n_in] and thin QR
 * factorisations B^T diag(g) = Q_b R_b, A^T = Q_a R_a, delta = Q_b (s R_b R_a^T) Q_a^T, so that its singular values are those
 * of a rank x rank matrix. All in double, over LAPACK. Threads: shared-read.
 */
#ifndef LRK_SPECTRUM_H
#define LRK_SPECTRUM_H

#include <stdint.h>

#include "adapters.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Singular values of a module's delta, descending, into values[0..n), n = its rank (those past min(n_in, n_out) are 0).
 * Errors   LRK_ERR_ARGUMENT, LRK_ERR_SHAPE (n), LRK_ERR_NONFINITE (a parameter), LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_module_spectrum(const lrk_adapters *adapters, int32_t module, double *values,
                                                       int64_t n);

/* Frobenius norms of two modules' deltas and of their difference. */
typedef struct lrk_distance {
    uint32_t struct_size;
    uint32_t flags;
    double norm_a;
    double norm_b;
    double difference; /* ||delta_a - delta_b||_F, without cancellation of squares */
} lrk_distance;

/*
 * Errors   LRK_ERR_ARGUMENT, LRK_ERR_SHAPE (n_in or n_out differ), LRK_ERR_NONFINITE, LRK_ERR_NOMEM (recorded in a's
 *          context).   Special  rank 0 is a delta of 0.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_module_distance(const lrk_adapters *a, int32_t module_a, const lrk_adapters *b,
                                                       int32_t module_b, lrk_distance *distance);

/*
 * A new set of the same modules with ranks[i] ranks in module i: the best approximation of each delta in the Frobenius
 * norm (truncated SVD), A' = V^T sqrt(sigma / s), B' = U^T sqrt(sigma / s) (sign of s in B), gates 1, the same scales;
 * ranks beyond the delta's own are A = 0, B = 0. ranks[i] equal to the module's rank copies its A, B and gates as they are.
 * Identities and births are new ones. `options` as for lrk_adapters_create() (init is not used).
 * Errors   LRK_ERR_ARGUMENT (a rank < 0), LRK_ERR_NONFINITE, LRK_ERR_NOMEM, LRK_ERR_CANCELLED (options->progress),
 *          those of lrk_adapters_create().   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_adapters_resize(const lrk_adapters *adapters, const int64_t *ranks,
                                                       const lrk_adapters_options *options, lrk_adapters **resized);

/*
 * A new set whose deltas are those of a plus sign times those of b: the ranks of both side by side, a's scales, b's share of them on
 * its rows of B. Modules have the same names and shapes, in the same order. With sign -1 and b a copy of what a started from, it
 * adapts the weight that the start was subtracted from (weight_start.h). Identities and births are new ones. `options` as for
 * lrk_adapters_create() (init is not used).
 * Errors   LRK_ERR_ARGUMENT (sign not +1 or -1, other modules, a scale of 0 in a where b has ranks; the detail names the module),
 *          LRK_ERR_SHAPE (other shapes), LRK_ERR_NOMEM, those of lrk_adapters_create().   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_adapters_stack(const lrk_adapters *a, const lrk_adapters *b, int32_t sign,
                                                      const lrk_adapters_options *options, lrk_adapters **stacked);

#ifdef __cplusplus
}
#endif

#endif
