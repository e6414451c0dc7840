/* SPDX-License-Identifier: MIT */
/*
 * LoRA forward and backward on the host's activations, for the modules of one group (one x). Per module, with
 * f_j = s * w_j for the ranks that take part:
 *     forward    H = x' A^T;          y  += (H diag(f)) B
 *     backward   P = dy B^T,  D = P diag(f);   dx += dropout'(D A)
 *                dA += D^T x',  dB += (H diag(f))^T dy,   products_j = sum_t H_tj P_tj (in double)
 *     outputs    own_j = sum_t (f_j H_tj)^2 |B_j|^2,   joint_j = sum_t f_j H_tj sum_k <B_j, B_k> f_k H_tk (in double)
 * Two ways: fused kernels for few ranks (lora_fused.c), the context's GEMM for many (lora_gemm.c). Work is cut into
 * pieces whose borders depend on shapes and the kernels alone, and sums are taken in a fixed order: the results do not
 * depend on threads, as long as the GEMM's do not. Nothing is allocated; scratch comes from the caller.
 */
#ifndef LRKI_LORA_H
#define LRKI_LORA_H

#include "activations.h"
#include "kernels.h"

#define LRKI_GEMM_ROWS  256 /* most rows of a chunk where the GEMM works on it */
#define LRKI_LORA_LANES 32 /* most tasks of a loop: each has scratch of its own and a run of the chunks     */
#define LRKI_LORA_SUMS  16 /* most lanes of fused backward: each but the first sums dA and dB for itself    */
#define LRKI_PACK_ROWS  64 /* least rows of a call that are worth packing rank rows for                    */

static inline int64_t lrki_smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

typedef struct lrki_lora_part {
    int64_t rank; /* ranks of the call */
    int64_t n_out;
    const float **a;     /* [rank] rows of A, n_in values each; lists, so that any ranks can take part */
    const float **b;     /* [rank] rows of B, n_out values                                  */
    const float *factor; /* [rank] f                                                        */
    bool silent;         /* every factor is 0: y, dx, dA and dB stay as they are            */
    float *keep_h;       /* forward: H is written here, [rows x rank]; NULL: not kept       */
    const float *kept_h; /* backward: H as forward kept it; NULL: computed again            */
    lrki_activations y;  /* forward                                                         */
    lrki_activations dy; /* backward                                                        */
    float **grad_a;      /* [rank] rows; both or neither; NULL: not wanted                  */
    float **grad_b;
    double *products; /* [rank], written; NULL: not wanted                                  */
    double *own;      /* outputs: [rank], written                                           */
    double *joint;
    float *h;        /* scratch [rows x rank]                                              */
    float *scaled_h; /* scratch [rows x rank]                                              */
    float *d;        /* scratch [rows x rank], backward                                    */
    double *partial; /* scratch [chunks x rank], if products are wanted                    */
    float *packed;   /* scratch: A and B packed, lrki_packed_floats() of n_in and n_out a rank */
    float *sums;     /* scratch [lrki_lora_sums() x rank x lrki_sums_floats()], if gradients are wanted */
} lrki_lora_part;

typedef struct lrki_lora_call {
    lrk_context *context;
    int64_t rows;
    int64_t n_in;
    lrki_activations x;
    lrki_activations dx;         /* data NULL: not wanted */
    const lrki_dropout *dropout; /* NULL: x' = x          */
    lrki_lora_part *parts;
    int64_t n_parts;
    float *coef;    /* scratch [rows x ranks of all parts], backward                */
    float *lanes;   /* scratch of LRKI_LORA_LANES tasks, lrki_lane_floats() each */
    bool has_tiles; /* as in lrki_lora_size                                         */
    /* set by the functions below */
    const lrki_skinny *kernels;
    bool by_gemm;
    bool is_small;      /* not worth a parallel loop */
    int64_t chunk_rows; /* of each chunk but the last */
} lrki_lora_call;

lrk_status lrki_lora_forward(lrki_lora_call *call);
lrk_status lrki_lora_backward(lrki_lora_call *call);
/* What the ranks of every part put out, from the H that lrki_lora_forward() left. */
lrk_status lrki_lora_outputs(const lrki_lora_call *call);

/* ---- scratch --------------------------------------------------------------------------------------------------------- */

/* What the scratch of a call depends on; it grows with each member. */
typedef struct lrki_lora_size {
    int64_t rows;
    int64_t n_parts;
    int64_t ranks;     /* of all parts                                                            */
    int64_t gradients; /* floats of a lane's dA and dB of the parts that the fused kernels may get */
    int64_t packed;    /* values of their A and B, packed                                 */
    bool tiles;        /* dropout, or a part that the GEMM may get                        */
} lrki_lora_size;

/* Adds a module of that many ranks, of which the fused kernels take `most` (lrki_fused_ranks()); false on overflow. */
bool lrki_lora_size_add(lrki_lora_size *size, int64_t most, int64_t n_in, int64_t n_out, int64_t ranks);

typedef struct lrki_lora_scratch {
    lrki_lora_part *parts;  /* [n_parts]                          */
    const float **lists;    /* [2 x ranks]: of rows of A and B     */
    float **gradient_lists; /* [2 x ranks]: of dA and dB          */
    float *factors;         /* [ranks]                            */
    double *products;       /* [ranks]                            */
    float *h;               /* [rows x ranks]                     */
    float *scaled_h;
    float *d;
    float *coef;
    double *partial; /* [chunks x ranks]                   */
    float *packed;   /* [packed]                         */
    float *sums;     /* [lrki_lora_sums() x gradients]   */
    float *lanes;
} lrki_lora_scratch;

/* Bytes of it; false on overflow. */
bool lrki_lora_scratch_size(const lrki_lora_size *size, size_t *bytes);
/* Cuts 64-byte aligned memory of that size. */
lrki_lora_scratch lrki_lora_scratch_cut(void *memory, const lrki_lora_size *size);

/* Most chunks of a call, and the sums that the lanes of fused backward keep for them. */
int64_t lrki_lora_chunks(int64_t rows);
int64_t lrki_lora_sums(int64_t rows);
/* Floats that a rank's sums of n = n_in + n_out values take. */
int64_t lrki_sums_floats(int64_t n);
/* Floats that a row of n values takes when it is packed. */
int64_t lrki_packed_floats(int64_t n);
/* Scratch of a lane. */
int64_t lrki_lane_floats(bool has_tiles);

#endif
