/* SPDX-License-Identifier: MIT */
/*
 * What the two ways of lora.h share: chunks, lanes and their scratch, and the steps on H and P that are neither a
 * product of matrices nor a kernel.
 */
#ifndef LRKI_LORA_PARTS_H
#define LRKI_LORA_PARTS_H

#include "lora.h"

typedef struct lrki_lane {
    int64_t first; /* chunks first .. first + n - 1, or pieces */
    int64_t n;
    int64_t index;
    float *tile; /* [LRKI_TILE_FLOATS] of activations, if the call has tiles */
} lrki_lane;

/* Ranks of all parts. */
int64_t lrki_call_ranks(const lrki_lora_call *call);
/* Chunks of a call, no more than lrki_lora_chunks() says, and the rows of one. */
int64_t lrki_call_chunks(const lrki_lora_call *call);
lrki_tile lrki_lora_chunk(const lrki_lora_call *call, int64_t chunk);
/* Lanes of fused backward of a call that is not small. */
int64_t lrki_lora_lanes(int64_t rows);

/*
 * Cuts `pieces` into at most `most` lanes and runs `task` on each, in parallel unless the call is small. The status is the
 * first failure that a lane reported, with its words.
 */
lrk_status lrki_lora_run(const lrki_lora_call *call, int64_t pieces, int64_t most,
                         lrk_status (*task)(const lrki_lora_call *call, const lrki_lane *lane));
/* The same with the ranks of all parts as pieces, numbered through, for a task that walks their rows `times` times. */
lrk_status lrki_lora_run_ranks(const lrki_lora_call *call, int64_t times,
                               lrk_status (*task)(const lrki_lora_call *call, const lrki_lane *lane));

/* H of a part: where forward writes it, and where backward finds or makes it. */
float *lrki_forward_h(const lrki_lora_part *part);
const float *lrki_backward_h(const lrki_lora_part *part);
/* Backward derives something from H. */
bool lrki_wants_h(const lrki_lora_part *part);

/* to = from diag(f) on the rows of t; a factor of 0 gives 0 whatever it meets. from and to may be the same. */
void lrki_scale_ranks(const lrki_lora_part *part, lrki_tile t, const float *from, float *to);
/* The chunk's row of `partial`: sum over its rows of H_tj P_tj; P is in d. */
void lrki_sum_products(const lrki_lora_part *part, lrki_tile t, int64_t chunk);

lrk_status lrki_gemm_forward(const lrki_lora_call *call);
lrk_status lrki_gemm_backward(const lrki_lora_call *call);
lrk_status lrki_fused_forward(const lrki_lora_call *call);
lrk_status lrki_fused_backward(const lrki_lora_call *call);

#endif
