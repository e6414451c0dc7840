/* SPDX-License-Identifier: MIT */
/*
 * GoRA (He et al. 2025, arXiv:2502.12171): ranks and B from the base model's gradient G = dL/dW, a mean over batches, and the frozen weight.
 * With I = mean |W_oc G_oc| over the entries of a module, r its rank so far and f = sqrt(n_in + n_out), it gets
 *     round(I / sum I * sum(f r) / f)     ranks, at least `least` r and at most `most` r (both rounded), the sums over all modules;
 * A is as LRK_INIT_KAIMING_UNIFORM, and with its new rank r and scale s
 *     B = -gamma sqrt(n_in / r) / s (A A^T)^-1 A G^T   [r x n_out],
 * so that s B^T A is a step down the gradient in the row space of A. Nothing is subtracted. The published code leaves the sign to
 * its caller and rounds the share of the budget before it divides. Gamma, f and the bounds are as other public code quotes the paper.
 *
 * The mean over entries is no function of a few products: G comes from the factors of a sketch (sketch.h), entry by entry and without being
 * held. It is exact, up to rounding, where the sketch has all directions of a module or G has no more than it holds; else G is the
 * sketch's approximation, which lacks the small singular values, and nothing bounds what I lacks.
 */
#ifndef LRK_GORA_H
#define LRK_GORA_H

#include <stdint.h>

#include "allocation.h"
#include "sketch.h"
#include "weight_start.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_gora_options {
    uint32_t struct_size;
    uint32_t flags;          /* 0                                                                  */
    double descent;          /* gamma >= 0; 0: B = 0 [0.05]                                        */
    double least;            /* of the rank so far, in [0, most] [0.5]                             */
    double most;             /* [4]                                                                */
    int64_t batches;         /* that the sketch has the sum over, of all workers, >= 1 [1]         */
    const lrk_limit *limits; /* floors and caps [NULL]                                             */
    int64_t n_limits;        /* [0]                                                                */
    void *user;
    /* As in lrk_weight_start_options; asked once for every module that has ranks. */
    int32_t (*weight)(void *user, int32_t module, lrk_weight *weight);
} lrk_gora_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_gora_options_init(lrk_gora_options *options, size_t struct_size);

/*
 * Makes the plan; nothing changes yet. `step` becomes the birth step of the ranks. A module of rank 0 stays so, and none gets more than
 * min(n_in, n_out) ranks. There is no budget: the ranks that modules have are one, kept but for rounding and bounds.
 * Errors   LRK_ERR_NO_GRADIENT  a module's gradient is 0, and its spec does not say that it may lack one (then I = 0 and B = 0); or all I are 0
 *          LRK_ERR_NONFINITE    x, dy, their products or a weight were not finite;  LRK_ERR_BUSY  an open pass feeds the sketch
 *          LRK_ERR_BUDGET       no rank in the set, or none is left under the caps
 *          LRK_ERR_WORKERS      another worker failed, or its sketch or plan differs (lrk_sketch_gather())
 *          LRK_ERR_ARGUMENT     a value out of range, step < 0, weight NULL or what it sets; a module's scale is 0 and descent is not
 *          LRK_ERR_NOT_FOUND    a limit's pattern decides no module
 *          LRK_ERR_HOST (weight refused), LRK_ERR_SHAPE, LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Cost     k n_in n_out multiply-adds in double for a module of k directions, beside the sketch's factors, twice.
 * Owner    the caller.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_gora_plan(const lrk_sketch *sketch, const lrk_gora_options *options, int64_t step,
                                                 lrk_plan **plan);

#ifdef __cplusplus
}
#endif

#endif
