/* SPDX-License-Identifier: MIT */
/*
 * EVA (Paischer et al. 2024, arXiv:2410.07170): which ranks to begin with, and in which directions, from the principal
 * components of the layers' inputs. Of the pairs (module, i), i below the components of the module's input, those that
 * explain the largest shares of their input's variance are taken until the budget is full; a rank's row of A is component i, or
 * that over the square root of its singular value, its row of B is 0 and its gate 1: the model is the base model. With
 * rho = 1 every module keeps its ranks. The scale does not follow the rank, which is the paper's rule for alpha.
 * The result is a plan like any other: all live ranks go, the new ones come; prepare, with the participants, then commit.
 */
#ifndef LRK_EVA_H
#define LRK_EVA_H

#include <stdint.h>

#include "allocation.h"
#include "pca.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LRK_EVA_WHITEN 0x1u /* rows of A over the square roots of their singular values */

typedef struct lrk_eva_options {
    uint32_t struct_size;
    uint32_t flags;          /* LRK_EVA_... [0]                                                          */
    int64_t budget;          /* in budget_unit, or LRK_BUDGET_INITIAL: what the set holds now [INITIAL]  */
    int32_t budget_unit;     /* in parameters, shares count by what a rank costs [LRK_BUDGET_RANKS]      */
    int32_t reserved;        /* 0                                                                        */
    const lrk_limit *limits; /* caps; and floors, taken before the rest; copied [NULL]                   */
    int64_t n_limits;        /* [0]                                                                      */
} lrk_eva_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_eva_options_init(lrk_eva_options *options, size_t struct_size);

/*
 * Between passes: which components would be taken now, and so must converge; *open (may be NULL) is how many inputs have some that
 * have not. An input whose wanted components have converged is not fed until more of it are wanted. 0: enough was fed.
 * While some input was not fed at all, all its components are wanted. options may be NULL.
 * Errors   as lrk_eva_plan(), but for inputs that were not fed.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_eva_settle(lrk_pca *pca, const lrk_eva_options *options, int64_t *open);

/*
 * Makes the plan, whether or not the components have converged; nothing changes yet. options may be NULL. `step` becomes the
 * birth step of the ranks. Ties go to the lower module, then the lower i. A pair that does not fit what is left of the budget is
 * passed over. Fewer ranks come than the budget allows if components and caps leave fewer. A floor above a module's components is
 * filled up with rows as LRK_INIT_KAIMING_UNIFORM.
 * Errors   LRK_ERR_STATE      no forward fed a module's input, and its spec does not say that it may lack a gradient
 *          LRK_ERR_NONFINITE  rows fed were not finite; the detail names the module
 *          LRK_ERR_BUDGET     the floors alone exceed the budget, or leave no room at all (0 ranks)
 *          LRK_ERR_NOT_FOUND  a limit's pattern decides no module;  LRK_ERR_BUSY  an open pass feeds the components
 *          LRK_ERR_WORKERS    another worker failed, or its components or plan differ (lrk_pca_gather()); LRK_ERR_HOST (gather)
 *          LRK_ERR_ARGUMENT   a value out of range, step < 0;  LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Owner    the caller.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_eva_plan(const lrk_pca *pca, const lrk_eva_options *options, int64_t step,
                                                lrk_plan **plan);

#ifdef __cplusplus
}
#endif

#endif
