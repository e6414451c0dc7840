/* SPDX-License-Identifier: MIT */
/*
 * Nested ranks (DyLoRA: Valipour et al. 2023, arXiv:2210.07558): a set trained so that it is an adapter at every depth, and can be cut
 * at any of them afterwards without training again. Depth k of a set are ranks 0 .. min(k, r) - 1 of every module of r live
 * ranks, in index order, at
 *     f = r / min(k, r), rounded to f32,
 * times the module's scale: where s is alpha / r, depth k has alpha / k, or for modules of fewer ranks what they always have.
 * At k >= the largest rank, depth k is the set itself. A step of training draws k, trains under the mask of that depth, and in the
 * frozen variant keeps all but the last of its ranks as they are:
 *
 *     lrk_nested_draw(adapters, step, &k);
 *     lrk_mask_create_nested(adapters, k, &options.mask);
 *     ... pass, backward ...
 *     lrk_nested_freeze(adapters, k);                        (frozen alone; after gradients of workers are summed)
 *     lrk_optimizer_step(optimizer, rate);
 *
 * Nothing is kept between steps: a run that is resumed draws what the other would have. Policies may move ranks of such a set, but
 * a rank that goes moves those behind it forward, and new ones come last.
 */
#ifndef LRK_NESTED_H
#define LRK_NESTED_H

#include <stdint.h>

#include "adapters.h"
#include "mask.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LRK_NESTED_NONE       0
#define LRK_NESTED_CUMULATIVE 1 /* all ranks of the depth are trained */
#define LRK_NESTED_FROZEN     2 /* the last of them alone             */

/*
 * The depth of a step: uniform in 1 .. the largest live rank (1 if there is none), a function of the set's seed and of nonce, so of
 * nothing that earlier draws did. All workers of one seed draw the same.
 * Errors   LRK_ERR_ARGUMENT.   Threads: shared-read.   Since 0.1
 */
LRK_API lrk_status lrk_nested_draw(const lrk_adapters *adapters, uint64_t nonce, int64_t *depth);

/*
 * The mask of a depth: f for its ranks, 0 for the others. For training and for evaluating a depth.
 * Errors   LRK_ERR_ARGUMENT (depth < 1), LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_mask_create_nested(lrk_adapters *adapters, int64_t depth, lrk_mask **mask);

/*
 * Sets gradients (A, B, gate) of the ranks of a depth to 0, but for the last in every module: between backward and the step. Modules
 * keep that they have a gradient. An optimizer with moments or decay still moves such ranks by these, as the published code's
 * does. Estimators that watch the optimizer see the zeros.
 * Errors   LRK_ERR_ARGUMENT (depth < 1), LRK_ERR_UNSUPPORTED (inference-only), LRK_ERR_BUSY (an open pass).   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_nested_freeze(lrk_adapters *adapters, int64_t depth);

/*
 * A new set that is depth k: the same modules with min(k, r) ranks, their A, B and gates bit for bit, the scale times f.
 * Identities and births are new ones. Under it forward gives the bits of the mask of that depth where gates are 1, else values within
 * rounding. `options` as for lrk_adapters_create() (init is not used; NULL: defaults).
 * Errors   LRK_ERR_ARGUMENT (depth < 1), LRK_ERR_NONFINITE (a parameter), LRK_ERR_NOMEM, those of lrk_adapters_create().   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_adapters_truncate(const lrk_adapters *adapters, int64_t depth,
                                                         const lrk_adapters_options *options, lrk_adapters **truncated);

#ifdef __cplusplus
}
#endif

#endif
