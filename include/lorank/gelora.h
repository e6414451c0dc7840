/* SPDX-License-Identifier: MIT */
/*
 * GeLoRA (Ed-dib, Datbayev and Aboussalah 2025, arXiv:2412.09250): ranks from the intrinsic dimensions of hidden states. With d_i
 * that of the states that enter block i (d_n of those that leave the last), every module of stage i gets
 *     max(round(d_{i+1}) - round(d_i), 0) + 1
 * ranks, with rows of A as LRK_INIT_KAIMING_UNIFORM. The scale does not follow the rank: alpha over r stays constant.
 *
 * Dimensions are estimated by TwoNN (Facco, d'Errico, Rodriguez and Laio 2017): for mu = r_2 / r_1, the distances to a point's
 * second and first neighbour, P(mu > x) = x^-d. It takes all points at once: dimensions of workers' shares cannot be added up,
 * their points are gathered.
 */
#ifndef LRK_GELORA_H
#define LRK_GELORA_H

#include <stdint.h>

#include "allocation.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How the dimension follows from N ratios mu. */
#define LRK_TWONN_FIT      0 /* slope through the origin of -log(1 - i / N) over log mu_(i), the largest left out */
#define LRK_TWONN_MLE      1 /* maximum likelihood, N / sum log mu                                                */
#define LRK_TWONN_UNBIASED 2 /* (N - 1) / sum log mu                                                              */

typedef struct lrk_twonn_options {
    uint32_t struct_size;
    uint32_t flags;   /* 0                                                                    */
    int32_t estimate; /* LRK_TWONN_... [LRK_TWONN_FIT]                                        */
    int32_t reserved; /* 0                                                                    */
    double discard;   /* FIT: share of the ratios, the largest, that is left out, in [0, 1) [0.1] */
} lrk_twonn_options;

typedef struct lrk_twonn_info {
    uint32_t struct_size;
    uint32_t flags;
    double dimension;
    int64_t points; /* that differ                  */
    int64_t used;   /* ratios that the estimate took */
} lrk_twonn_info;

typedef struct lrk_gelora_options {
    uint32_t struct_size;
    uint32_t flags;          /* 0                                          */
    const lrk_limit *limits; /* floors and caps; copied [NULL]             */
    int64_t n_limits;        /* [0]                                        */
} lrk_gelora_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_twonn_options_init(lrk_twonn_options *options, size_t struct_size);
LRK_API lrk_status lrk_gelora_options_init(lrk_gelora_options *options, size_t struct_size);

/*
 * The intrinsic dimension of n points, rows of points [n x width] with stride ld. Of equal points one counts. The order of points
 * and the number of threads change no bit. options may be NULL.
 * Errors   LRK_ERR_ARGUMENT   points NULL, n or width < 1, ld < width, a value out of range
 *                             fewer than 3 points that differ, or every point has its first two neighbours at one distance (the
 *                             dimension is then infinite): the detail says which
 *          LRK_ERR_NONFINITE  a coordinate is not finite, or a distance overflows; the detail names the row
 *          LRK_ERR_SHAPE (a size overflows), LRK_ERR_HOST (parallel_for failed), LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Cost     n^2 width multiply-adds in double, through parallel_for.   Threads any.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_intrinsic_dimension(lrk_context *context, const float *points, int64_t n,
                                                           int64_t width, int64_t ld,
                                                           const lrk_twonn_options *options, lrk_twonn_info *info);

/*
 * Makes the plan from dimensions[0..n): block i's input and, at n - 1, the last one's output; nothing changes yet. options may be
 * NULL. `step` becomes the birth step of the ranks. There is no budget: the dimensions are one.
 * Errors   LRK_ERR_ARGUMENT   dimensions NULL or one not finite or < 0, n at most a module's stage + 1, step < 0, a value out of range
 *          LRK_ERR_NOT_FOUND  a limit's pattern decides no module;  LRK_ERR_BUDGET  nothing is left under the caps (0 ranks)
 *          LRK_ERR_WORKERS    another worker failed, or its dimensions or plan differ;  LRK_ERR_HOST (gather)
 *          LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Owner    the caller.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_gelora_plan(lrk_adapters *adapters, const double *dimensions, int64_t n,
                                                   const lrk_gelora_options *options, int64_t step, lrk_plan **plan);

#ifdef __cplusplus
}
#endif

#endif
