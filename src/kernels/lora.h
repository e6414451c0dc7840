/* SPDX-License-Identifier: MIT */
/*
 * LoRA forward and backward on raw row-major pointers, for the modules of one group (one x). Per module, with
 * f_j = s * w_j:
 *     forward    H = x' A^T;          y  += (H diag(f)) B
 *     backward   P = dy B^T,  D = P diag(f);   dx += dropout'(D A)
 *                dA += D^T x',  dB += (H diag(f))^T dy,   products_j = sum_t H_tj P_tj (in double)
 * Work is cut into pieces whose borders depend on shapes alone, and sums are taken in a fixed order: the results do not
 * depend on threads, as long as the GEMM's do not. Nothing is allocated; scratch comes from the caller.
 */
#ifndef LRKI_LORA_H
#define LRKI_LORA_H

#include "dropout.h"
#include "kernels.h"

#define LRKI_LORA_ROWS  128   /* rows of a chunk                                                      */
#define LRKI_LORA_COLS  128   /* columns of a block of dA or dB                                       */
#define LRKI_LORA_LANES 32    /* most tasks of a loop: each has a tile of its own and takes every     */
                              /* LRKI_LORA_LANES-th piece                                             */
#define LRKI_LORA_SMALL 65536 /* multiply-adds of a stage up to which a loop costs more than it gives */

typedef struct lrki_lora_part {
    int64_t rank; /* ranks of the call: a run of the module's rows; all pointers begin at its first */
    int64_t n_out;
    const float *a;      /* [rank x n_in]                                                   */
    const float *b;      /* [rank x n_out]                                                  */
    const float *factor; /* [rank] f                                                        */
    bool silent;         /* every factor is 0: y, dx, dA and dB stay as they are            */
    float *keep_h;       /* forward: H is written here, [rows x rank]; NULL: not kept       */
    const float *kept_h; /* backward: H as forward kept it; NULL: computed again            */
    float *y;            /* forward */
    int64_t ld_y;
    const float *dy; /* backward */
    int64_t ld_dy;
    float *grad_a; /* both or neither; NULL: not wanted */
    float *grad_b;
    double *products; /* [rank], written; NULL: not wanted                                  */
    float *scaled_h;  /* scratch [rows x rank]                                              */
    float *d;         /* scratch [rows x rank], backward                                    */
    double *partial;  /* scratch [chunks x rank], if products are wanted                    */
} lrki_lora_part;

typedef struct lrki_lora_call {
    lrk_context *context;
    int64_t rows;
    int64_t n_in;
    const float *x;
    int64_t ld_x;
    float *dx; /* NULL: not wanted */
    int64_t ld_dx;
    const lrki_dropout *dropout; /* NULL: x' = x */
    lrki_lora_part *parts;
    int64_t n_parts;
    float *tiles; /* scratch for dropout */
} lrki_lora_call;

/* Chunks of LRKI_LORA_ROWS rows. */
int64_t lrki_lora_chunks(int64_t rows);

lrk_status lrki_lora_forward(const lrki_lora_call *call);
lrk_status lrki_lora_backward(const lrki_lora_call *call);

/* Scratch of one call: of n_parts modules with `ranks` ranks in all. */
typedef struct lrki_lora_scratch {
    lrki_lora_part *parts; /* [n_parts] */
    float *factors;        /* [ranks] */
    double *products;      /* [ranks] */
    float *scaled_h;       /* [rows x ranks] */
    float *d;              /* [rows x ranks] */
    double *partial;       /* [chunks x ranks] */
    float *tiles;
} lrki_lora_scratch;

/* Bytes of it; false on overflow. Grows with each argument. */
bool lrki_lora_scratch_size(int64_t rows, int64_t n_parts, int64_t ranks, bool dropout, size_t *bytes);
/* Cuts 64-byte aligned memory of that size. */
lrki_lora_scratch lrki_lora_scratch_cut(void *memory, int64_t rows, int64_t n_parts, int64_t ranks,
                                        bool dropout);

#endif
