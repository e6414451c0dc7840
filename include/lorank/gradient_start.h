/* SPDX-License-Identifier: MIT */
/*
 * The gradient start: which ranks to begin with, and in which directions, from a sketch of the base model's gradient.
 * Ranks are the pairs (module, i) of largest sigma_i^2, or sigma_i^2 / (n_in + n_out) with a budget in parameters, taken
 * greedily until `multiple` times the budget is full; a rank's row of A is length * v_i, v_i the i-th right singular vector
 * of dL/dW, its row of B is 0 and its gate 1: the model is the base model. The result is a plan like any other: all
 * live ranks go, the new ones come; prepare, with the participants, then commit. Any policy can go on from there.
 */
#ifndef LRK_GRADIENT_START_H
#define LRK_GRADIENT_START_H

#include <stdint.h>

#include "allocation.h"
#include "sketch.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LRK_GRADIENT_START_TOLERATE  0x1u /* modules with fewer directions than they could get take what they have */
#define LRK_GRADIENT_START_RANKS_ONLY 0x2u /* rows of A as LRK_INIT_KAIMING_UNIFORM: the ranks alone come from the sketch */

typedef struct lrk_gradient_start_options {
    uint32_t struct_size;
    uint32_t flags;          /* LRK_GRADIENT_START_... [0]                                                          */
    double multiple;         /* > 0: of the budget, rounded down [3]                                                */
    int64_t budget;          /* in budget_unit, or LRK_BUDGET_INITIAL: what the set holds now [INITIAL]             */
    int32_t budget_unit;     /* [LRK_BUDGET_RANKS]                                                                  */
    int32_t reserved;        /* 0                                                                                   */
    int64_t cap;             /* most ranks of a module, >= 1; never more than it has directions [20]                */
    double length;           /* of a row of A, > 0 [1 / sqrt(3): the root mean square length of KAIMING_UNIFORM]    */
    const lrk_limit *limits; /* further caps; and floors, taken before the rest; copied [NULL]                      */
    int64_t n_limits;        /* [0]                                                                                 */
} lrk_gradient_start_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_gradient_start_options_init(lrk_gradient_start_options *options, size_t struct_size);

/*
 * Makes the plan; nothing changes yet. options may be NULL. `step` becomes the birth step of the ranks. Ties go to the
 * lower module, then the lower i. A pair that does not fit what is left of the budget is passed over for later ones. Fewer
 * ranks come than the budget allows if caps and directions leave fewer. A floor above a module's directions is filled up with
 * rows as LRK_INIT_KAIMING_UNIFORM.
 * Errors   LRK_ERR_NO_GRADIENT  a module whose spec does not say that it may lack a gradient has none; the detail names the
 *                               module and says whether no backward reached it, its dy is 0 in every row (masked tokens
 *                               only, or a layer behind it that starts at zero: train a little first), its x is, or the
 *                               rows cancel to no more than their rounding
 *                               fewer directions than the module could get ranks (a batch of too few rows), unless
 *                               LRK_GRADIENT_START_TOLERATE
 *          LRK_ERR_NONFINITE    x, dy or their products were not finite; the detail names the module
 *          LRK_ERR_BUDGET       the floors alone exceed the multiple of the budget, or leave no room at all (0 ranks)
 *          LRK_ERR_NOT_FOUND    a limit's pattern decides no module
 *          LRK_ERR_BUSY         an open pass feeds the sketch
 *          LRK_ERR_WORKERS      another worker failed, or its sketch or plan differs (lrk_sketch_gather()); LRK_ERR_HOST (gather)
 *          LRK_ERR_ARGUMENT     a value out of range, step < 0;  LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Owner    the caller.   Threads  handle-exclusive for the sketch and its set.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_gradient_start_plan(const lrk_sketch *sketch,
                                                           const lrk_gradient_start_options *options, int64_t step,
                                                           lrk_plan **plan);

#ifdef __cplusplus
}
#endif

#endif
