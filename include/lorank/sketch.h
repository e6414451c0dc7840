/* SPDX-License-Identifier: MIT */
/*
 * Gradient sketches: the leading directions of the loss's gradient by the frozen weights, in one pass and without ever
 * forming it. For a module with G = dL/dW = sum_t dy_t x_t^T [n_out x n_in], t over the rows of every backward that feeds
 * the sketch (x before dropout), it holds
 *     Y = G Omega [n_out x s],     W = Psi G [s x n_in],
 * Omega [n_in x s] and Psi [s x n_out] independent N(0, 1) from streams keyed by (seed, side, width, row). That is the
 * backward of an adapter of rank s with A = Omega^T and B = Psi: the same kernels, its memory with gradients (modules of
 * one width share A and B), its cost.
 * From it: with Q the k leading left singular vectors of Y, P the k leading right singular vectors of W,
 *     G ~ Q C P^T,   C = 1/2 ((Psi Q)^+ W P + Q^T Y (P^T Omega)^+)
 * (single-pass sketching after Tropp, Yurtsever, Udell and Cevher 2017, with both sides' estimates of the core averaged),
 * all in double. Exact, up to rounding, if G has rank <= k.
 * Sketches with the same seed, directions and samples add up: over batches, passes and workers.
 *
 * A pass feeds a sketch that its options name (pass.h): nothing else changes in the host's model. Whose gradient it is
 * depends on the pass: the base model's with adapters silent (mask none) or B = 0.
 * Rank changes do not touch a sketch. Threads: handle-exclusive; one open pass at a time feeds it.
 */
#ifndef LRK_SKETCH_H
#define LRK_SKETCH_H

#include <stdint.h>

#include "adapters.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_sketch lrk_sketch;

typedef struct lrk_sketch_options {
    uint32_t struct_size;
    uint32_t flags;     /* 0                                                                                        */
    uint64_t seed;      /* of Omega and Psi [0]                                                                     */
    int64_t directions; /* k >= 1: most singular vectors of a module; a module has at most min(n_in, n_out) [24]    */
    int64_t samples;    /* s > k; a module takes at most 2 min(n_in, n_out) + 1, which is exact [0: 2 k + 1]        */
} lrk_sketch_options;

/* What was fed to a module, in the order of lrk_sketch_sums()'s measures. */
typedef struct lrk_sketch_info {
    uint32_t struct_size;
    uint32_t flags;
    int64_t directions; /* k of the module                            */
    int64_t samples;    /* s of the module                            */
    double rows;        /* rows fed; 0: no backward reached it        */
    double active_rows; /* of them with dy != 0                       */
    double x_norm2;     /* sum of squares of x, of all rows           */
    double dy_norm2;    /* the same of dy                             */
} lrk_sketch_info;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_sketch_options_init(lrk_sketch_options *options, size_t struct_size);

/*
 * A sketch of every module's gradient, zero. options may be NULL.
 * Errors   LRK_ERR_ARGUMENT (a value out of range), LRK_ERR_SHAPE (a size overflows), LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Owner    the caller; keeps the set alive. Inference-only sets have sketches too.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_sketch_create(lrk_adapters *adapters, const lrk_sketch_options *options,
                                                     lrk_sketch **sketch);

/* Gives up the caller's reference. NULL is ignored. Since 0.1 */
LRK_API void lrk_sketch_destroy(lrk_sketch *sketch);

/* As if nothing had been fed. Errors: LRK_ERR_ARGUMENT, LRK_ERR_BUSY (an open pass feeds it). Since 0.1 */
LRK_API lrk_status lrk_sketch_zero(lrk_sketch *sketch);

/*
 * Adds what another sketch was fed, of this set or of another worker's set with the same shapes. The order of additions
 * decides the last bits, as in any sum of floats.
 * Errors   LRK_ERR_ARGUMENT  sketch itself; other seed, directions or samples; other modules or shapes (the detail says what)
 *          LRK_ERR_BUSY      an open pass feeds one of the two.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_sketch_add(lrk_sketch *sketch, const lrk_sketch *other);

/*
 * The sketch becomes the sum of all workers' sketches (workers.h), gathered and added in their order, in double and then
 * rounded: all workers hold the same bits, and so make the same plan. Collective; once, when each of them was fed its share, and
 * before the plan. One worker: nothing changes. Sums over another number of workers differ by rounding.
 * Errors   LRK_ERR_STATE     it was gathered already, and not set to zero since: sums would count again
 *          LRK_ERR_WORKERS   another worker failed, or has a sketch of another kind;  LRK_ERR_HOST  gather() failed
 *          LRK_ERR_ARGUMENT (NULL), LRK_ERR_BUSY (an open pass feeds it), LRK_ERR_NOMEM.  The sketch is then as before.
 * Memory   its sums once more, and 32 KiB for each worker and one, during the call.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_sketch_gather(lrk_sketch *sketch);

/*
 * Borrows all that adds up, for an all-reduce by summing: n_sums consecutive floats (per module W, then Y transposed) and
 * n_measures consecutive doubles (per module rows, active_rows, x_norm2, dy_norm2). Valid until the sketch is destroyed.
 * Errors   LRK_ERR_ARGUMENT, LRK_ERR_BUSY (an open pass feeds it).   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_sketch_sums(lrk_sketch *sketch, float **sums, int64_t *n_sums,
                                                   double **measures, int64_t *n_measures);

/* Facts of one module. Errors: LRK_ERR_ARGUMENT (no such module). Threads: shared-read. Since 0.1 */
LRK_API lrk_status lrk_sketch_info_get(const lrk_sketch *sketch, int32_t module, lrk_sketch_info *info);

/*
 * The n leading singular values of a module's G, descending, into values[0..n); right singular vectors as rows of
 * right [n x n_in], left ones as rows of left [n x n_out], both tight, either may be NULL. Of a right vector the entry of
 * largest magnitude is positive. *found (may be NULL) is the number of values above what rounding alone may leave,
 *     8 u max(sqrt(x_norm2 dy_norm2), sqrt(rows + n_in + n_out) sigma_1),   u = 2^-24;
 * vectors past it are no directions of G.
 * Errors   LRK_ERR_ARGUMENT   no such module, values NULL, n < 1 or above the module's directions
 *          LRK_ERR_NONFINITE  x or dy, or a sum of them, was not finite;  LRK_ERR_BUSY (an open pass feeds it)
 *          LRK_ERR_HOST (parallel_for failed), LRK_ERR_SHAPE (too large for LAPACK), LRK_ERR_NOMEM
 * Special  nothing fed, or a gradient of 0: values 0, *found 0.
 * Cost     O((n_in + n_out) s^2) in double, once a call.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_sketch_spectrum(const lrk_sketch *sketch, int32_t module, int64_t n,
                                                       double *values, double *right, double *left, int64_t *found);

#ifdef __cplusplus
}
#endif

#endif
