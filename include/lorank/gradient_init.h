/* SPDX-License-Identifier: MIT */
/*
 * Initial values from the spectrum of the base model's gradient G = dL/dW ~ U diag(S) V^T (a sketch), with the ranks that modules have:
 *     LoRA-GA   A = c (v_1 .. v_r), B = c (u_{r+1} .. u_{2r})      (Wang, Yu and Li 2024, arXiv:2407.05000; direction "ArB2r" of the
 *               published code); the frozen weight becomes W - s B^T A, which is the host's to do (weight_start.h says how)
 *     LoRA-One  A = c sqrt(S_i / S_1) v_i, B = -c sqrt(S_i / S_1) u_i, i <= r  (Zhang et al. 2025, arXiv:2502.01235; "OS-LoRA-Full-N" of the
 *               published code): the model begins one step down the gradient, and nothing is subtracted
 * with c = n_out^(1/4) / sqrt(gamma), the scale "stable" of both codes. They take U and V from a randomised decomposition of the dense
 * gradient; here it is that of the sketch (sketch.h).
 */
#ifndef LRK_GRADIENT_INIT_H
#define LRK_GRADIENT_INIT_H

#include <stdint.h>

#include "allocation.h"
#include "sketch.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LRK_GRADIENT_INIT_LORA_GA  0
#define LRK_GRADIENT_INIT_LORA_ONE 1

typedef struct lrk_gradient_init_options {
    uint32_t struct_size;
    uint32_t flags;   /* 0                                              */
    int32_t method;   /* LRK_GRADIENT_INIT_... [LORA_GA]                */
    int32_t reserved; /* 0                                              */
    double gamma;     /* > 0 [16]                                       */
} lrk_gradient_init_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_gradient_init_options_init(lrk_gradient_init_options *options, size_t struct_size);

/*
 * Makes the plan; nothing changes yet. options may be NULL. `step` becomes the birth step of the ranks. A module of r ranks takes 2 r
 * directions (LoRA-One: r).
 * Errors   LRK_ERR_NO_GRADIENT  a module's gradient, or what the sketch holds of it, has fewer directions than are taken, and its spec does
 *                               not say that it may lack a gradient (then its ranks begin as LRK_INIT_KAIMING_UNIFORM with B = 0)
 *          LRK_ERR_NONFINITE    x, dy or their products were not finite;  LRK_ERR_BUSY  an open pass feeds the sketch
 *          LRK_ERR_BUDGET       no rank in the set
 *          LRK_ERR_WORKERS      another worker failed, or its sketch or plan differs (lrk_sketch_gather())
 *          LRK_ERR_ARGUMENT     a value out of range, step < 0;  LRK_ERR_VERSION, LRK_ERR_NOMEM, LRK_ERR_HOST, LRK_ERR_SHAPE
 * Owner    the caller.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_gradient_init_plan(const lrk_sketch *sketch, const lrk_gradient_init_options *options,
                                                          int64_t step, lrk_plan **plan);

#ifdef __cplusplus
}
#endif

#endif
