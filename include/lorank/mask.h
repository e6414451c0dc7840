/* SPDX-License-Identifier: MIT */
/*
 * Masks: which ranks take part in a pass. A mask is an immutable value m_j for every live rank (1 takes part, 0 does
 * not, anything between scales); it never changes a set. Made for one generation of a set and LRK_ERR_STALE after a
 * rank change.
 *
 * A mask knows its baseline (LRK_BASELINE_ALL: every m is 1; LRK_BASELINE_NONE: every m is 0) and the first stage at
 * which it differs from it, so that a host that kept the baseline's activations re-runs only what follows. Of the two
 * baselines the one that agrees with the mask for longer is chosen, all in case of a tie. "none" silences this set
 * only; a model may carry several.
 *
 * Threads: masks are read-only after creation and may be shared by concurrent passes.
 */
#ifndef LRK_MASK_H
#define LRK_MASK_H

#include <stdint.h>

#include "adapters.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_mask lrk_mask;

#define LRK_BASELINE_ALL  0
#define LRK_BASELINE_NONE 1

#define LRK_NO_STAGE (-1) /* first stage of a mask that equals its baseline */

typedef struct lrk_mask_info {
    uint32_t struct_size;
    uint32_t flags;
    int32_t baseline;    /* LRK_BASELINE_...                                                        */
    int32_t first_stage; /* lowest stage where the mask differs from it, LRK_NO_STAGE if nowhere    */
    uint64_t generation; /* of the set it was made for                                              */
} lrk_mask_info;

/* Every rank, or no rank, takes part. Errors: LRK_ERR_ARGUMENT, LRK_ERR_NOMEM. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_mask_create_all(lrk_adapters *adapters, lrk_mask **mask);
LRK_API LRK_WARN_UNUSED lrk_status lrk_mask_create_none(lrk_adapters *adapters, lrk_mask **mask);

/*
 * All ranks but one (M without r: baseline all), or only one rank of the whole set (M_r: baseline none).
 * Errors   LRK_ERR_NOT_FOUND  no live rank has that identity;  LRK_ERR_ARGUMENT, LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_mask_create_without(lrk_adapters *adapters, uint64_t identity,
                                                           lrk_mask **mask);
LRK_API LRK_WARN_UNUSED lrk_status lrk_mask_create_only(lrk_adapters *adapters, uint64_t identity, lrk_mask **mask);

/*
 * Given values, one per live rank, module after module in index order; copied.
 * Errors   LRK_ERR_SHAPE      n is not the number of live ranks
 *          LRK_ERR_NONFINITE  a value is not finite; the detail names module and rank
 *          LRK_ERR_ARGUMENT, LRK_ERR_NOMEM
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_mask_create_values(lrk_adapters *adapters, const float *values, int64_t n,
                                                          lrk_mask **mask);

/* NULL is ignored. Since 0.1 */
LRK_API void lrk_mask_destroy(lrk_mask *mask);

/* info->struct_size must be set. Errors: LRK_ERR_ARGUMENT. Threads: shared-read. Since 0.1 */
LRK_API lrk_status lrk_mask_info_get(const lrk_mask *mask, lrk_mask_info *info);

#ifdef __cplusplus
}
#endif

#endif
