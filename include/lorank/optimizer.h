/* SPDX-License-Identifier: MIT */
/*
 * AdamW over an adapter set (Loshchilov & Hutter 2019), with a step count of its own for every rank, so that a rank
 * added late gets the bias correction of a fresh one. For each element w of rank j with gradient d:
 *     k_j += 1;  u = b1 u + (1-b1) d;  v = b2 v + (1-b2) d^2
 *     w -= lr_w (u / (1-b1^k_j) / (sqrt(v / (1-b2^k_j)) + eps) + weight_decay * w)
 * lr_w = lr for A, lr * b_ratio for B (LoRA+, Hayou et al. 2024).
 *
 * With LRK_ADAMW_GATES the gates are trained too (SoRA, Ding et al. 2023; CoDyRA, Lu et al. 2024): their passes ask for
 * LRK_GRAD_GATES, lr_w = lr * gate_ratio, d has the derivative of gate_l1 * (mean of |g| over all live ranks) added, they
 * are not decayed, and after its step every gate is pulled to 0 by the threshold c of that step (LRK_GATE_...). With t steps
 * taken before, c is 0 for t < gate_dense_steps, else gate_threshold * k / (n - 1), n = gate_stairs, where k goes from 0 to
 * n - 1 in equal parts of the next gate_rise_steps steps and stays there; n = 1: gate_threshold at once. A gate at 0 still
 * has a derivative and can come back, until a round drops its rank (lrk_allocator_create_threshold()).
 *
 * orthogonality gamma > 0 adds to dA and dB, before they are clipped, observed by estimators and used, the derivatives of
 *     gamma / n * sum over the n matrices W (A and B of every module with a rank) of |W W^T - I|_F
 * (AdaLoRA, Zhang et al. 2023, as its code has it; the paper squares the norm: LRK_ADAMW_ORTHOGONALITY_SQUARED).
 * It asks B's rows to have length 1, and so wants gates that start at 0. Cost: two products of rows for every pair of ranks
 * of a module.
 * Threads: handle-exclusive.
 */
#ifndef LRK_OPTIMIZER_H
#define LRK_OPTIMIZER_H

#include <stdint.h>

#include "adapters.h"
#include "allocation.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_optimizer lrk_optimizer;

/* Step count of the bias correction. */
#define LRK_STEPS_PER_RANK 0 /* each rank counts its own steps          */
#define LRK_STEPS_GLOBAL   1 /* new ranks join the optimizer's count    */

#define LRK_ADAMW_GATES       0x1u /* gates are trained                                                     */
#define LRK_ADAMW_GATE_SCALED 0x2u /* their threshold is c times their learning rate: a proximal gradient step */

#define LRK_ADAMW_ORTHOGONALITY_SQUARED 0x4u /* its norms are squared */

/* What a threshold c does to a gate g. */
#define LRK_GATE_SOFT  0 /* sign(g) max(|g| - c, 0)                                                              */
#define LRK_GATE_TWICE 1 /* as published code of SoRA and CoDyRA has it: if |g| > c, g - c sign(g); then, if less than
                            c is left of it, 0. So gates below 2 c go, and those of exactly c stay                 */

typedef struct lrk_adamw_options {
    uint32_t struct_size;
    uint32_t flags;      /* LRK_ADAMW_... [0]                                                */
    double beta1;        /* in [0, 1) [0.9]                                                  */
    double beta2;        /* in [0, 1) [0.999]                                                */
    double epsilon;      /* > 0 [1e-8]                                                       */
    double weight_decay; /* >= 0 [0]                                                         */
    double b_ratio;      /* > 0: learning rate of B over that of A [1]                       */
    double max_norm;     /* > 0: gradients are scaled to this global norm, infinity: never [infinity] */
    int32_t steps;       /* LRK_STEPS_... [LRK_STEPS_PER_RANK]                               */
    int32_t gate_rule;   /* LRK_GATE_... [LRK_GATE_SOFT]                                     */
    double gate_ratio;   /* > 0: learning rate of gates over that of A [1]                   */
    double gate_l1;      /* >= 0 [0]                                                         */
    double gate_threshold;    /* >= 0 [0]                                                    */
    int64_t gate_dense_steps; /* >= 0 [0]                                                    */
    int64_t gate_rise_steps;  /* >= 0 [0]                                                    */
    int64_t gate_stairs;      /* >= 1 [1]                                                    */
    double orthogonality;     /* gamma >= 0 [0]                                              */
} lrk_adamw_options;

/* Moments of a module, borrowed until the next rank change. */
#define LRK_MOMENT_FIRST_A  0 /* [rank x n_in]  */
#define LRK_MOMENT_FIRST_B  1 /* [rank x n_out] */
#define LRK_MOMENT_SECOND_A 2
#define LRK_MOMENT_SECOND_B 3
#define LRK_MOMENT_FIRST_GATES  4 /* [rank x 1], with LRK_ADAMW_GATES */
#define LRK_MOMENT_SECOND_GATES 5

typedef struct lrk_optimizer_info {
    uint32_t struct_size;
    uint32_t flags;
    int64_t steps;         /* taken since creation                    */
    double gradient_norm;  /* before clipping, of the last step; NaN before the first */
    size_t memory;         /* bytes held                              */
} lrk_optimizer_info;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_adamw_options_init(lrk_adamw_options *options, size_t struct_size);

/*
 * An AdamW of a set, with moments and counts of 0. options may be NULL (all defaults).
 * Errors   LRK_ERR_ARGUMENT (a value out of range; the detail names it), LRK_ERR_UNSUPPORTED (inference-only set),
 *          LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Owner    the caller; keeps the set alive.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_optimizer_create_adamw(lrk_adapters *adapters, const lrk_adamw_options *options,
                                                              lrk_optimizer **optimizer);

/* Gives up the caller's reference. NULL is ignored. Since 0.1 */
LRK_API void lrk_optimizer_destroy(lrk_optimizer *optimizer);

/*
 * One step with the set's gradients, which are then 0 again. Modules that may lack a gradient and do are left as they
 * are, moments and counts included.
 * Errors   LRK_ERR_NO_GRADIENT  a module got none since the last step; the detail names it
 *          LRK_ERR_NONFINITE    a gradient or orthogonality term is not finite; the detail names module and tensor;
 *                               nothing has changed
 *          LRK_ERR_STALE        ranks changed without the optimizer: it was no participant, or a snapshot was restored
 *          LRK_ERR_BUSY         a pass is open or a plan is prepared;  LRK_ERR_ARGUMENT (lr not finite or negative)
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_optimizer_step(lrk_optimizer *optimizer, double lr);

/*
 * The optimizer as a participant of plans: kept ranks keep moments and counts, new ones start at zero. Valid while the
 * optimizer lives. participant->struct_size must be set. Errors: LRK_ERR_ARGUMENT. Since 0.1
 */
LRK_API lrk_status lrk_optimizer_participant(lrk_optimizer *optimizer, lrk_participant *participant);

/*
 * Fits the moments to the set's present ranks by identity, after a restore or a plan it missed: known ranks keep
 * theirs, unknown ones start at zero. Errors: LRK_ERR_ARGUMENT, LRK_ERR_BUSY, LRK_ERR_NOMEM. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_optimizer_realign(lrk_optimizer *optimizer);

/* Borrows moments (for checkpoints). Errors: LRK_ERR_ARGUMENT, LRK_ERR_STALE. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_optimizer_moment(const lrk_optimizer *optimizer, int32_t module, int32_t which,
                                                        lrk_tensor *tensor);

/* Borrows the step counts of a module's ranks. Errors: LRK_ERR_ARGUMENT, LRK_ERR_STALE. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_optimizer_rank_steps(const lrk_optimizer *optimizer, int32_t module,
                                                            const int64_t **steps, int64_t *n);

/*
 * The LRK_GRAD_... that training passes must derive for its steps: parameters, and gates where it trains them.
 * Errors: LRK_ERR_ARGUMENT. Since 0.1
 */
LRK_API lrk_status lrk_optimizer_gradients(const lrk_optimizer *optimizer, uint32_t *gradients);

/* Threshold c of the next step, the factor of LRK_ADAMW_GATE_SCALED left out. Errors: LRK_ERR_ARGUMENT. Since 0.1 */
LRK_API lrk_status lrk_optimizer_gate_threshold(const lrk_optimizer *optimizer, double *threshold);

/* Facts. info->struct_size must be set. Errors: LRK_ERR_ARGUMENT. Threads: shared-read. Since 0.1 */
LRK_API lrk_status lrk_optimizer_info_get(const lrk_optimizer *optimizer, lrk_optimizer_info *info);

/* Learning-rate schedules. */
#define LRK_LR_CONSTANT 0
#define LRK_LR_LINEAR   1 /* to final_ratio * peak at total_steps */
#define LRK_LR_COSINE   2

typedef struct lrk_lr_options {
    uint32_t struct_size;
    uint32_t flags;       /* 0                                                                       */
    int32_t kind;         /* LRK_LR_... [LRK_LR_LINEAR]                                              */
    int32_t reserved;     /* 0                                                                       */
    double peak;          /* > 0 [1e-4]                                                              */
    double final_ratio;   /* in [0, 1]: learning rate at the end over the peak [0]                   */
    int64_t warmup_steps; /* >= 0: step i of the warm-up gets peak * (i + 1) / (warmup_steps + 1) [0] */
    int64_t total_steps;  /* >= 1, > warmup_steps [0: must be set unless constant]                   */
} lrk_lr_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_lr_options_init(lrk_lr_options *options, size_t struct_size);

/*
 * Learning rate of step `step` (from 0): warm-up, then with p = (step - warmup) / (total - warmup) in [0, 1]
 *     linear  peak * (1 - (1 - final_ratio) p),   cosine  peak * (final_ratio + (1 - final_ratio) (1 + cos(pi p)) / 2).
 * Steps past the end get the last value. Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1
 */
LRK_API lrk_status lrk_learning_rate(const lrk_lr_options *options, int64_t step, double *lr);

#ifdef __cplusplus
}
#endif

#endif
