/* SPDX-License-Identifier: MIT */
/*
 * The two products that LoRA consists of when ranks are few, one implementation a set of instructions. Operands are
 * lists of pointers, one to each row of consecutive values, so that rows of activations, of adapters (whichever ranks
 * take part) and of packed panels are all the same to them:
 *     dot      out[i][j] (+)= sum_k rows[i][k] * ranks[j][k]          H = X A^T,  P = dY B^T
 *     update   dest[i][k] += sum_j coef[i][j] * src[j][k]             y += H B,  dx += D A,  dA += D^T X,  dB += H^T dY
 * Activations are f32, bf16 or f16 and converted in registers; everything else, and all arithmetic, is f32. For given
 * arguments the order of the additions is fixed. Nothing is allocated, nothing is shared: any number of threads may call.
 */
#ifndef LRKI_SKINNY_H
#define LRKI_SKINNY_H

#include <stdbool.h>
#include <stdint.h>

#include "lorank/context.h"

#define LRKI_SKINNY_ROWS 64 /* rows that a list has at most, by custom: lists live on the stack */
#define LRKI_WIDE        8192 /* n_in + n_out of modules whose rank rows do not stay in the second-level cache */
#define LRKI_FEW_TOKENS  16 /* rows of a call up to which the GEMM is slower whatever the ranks */
#define LRKI_FEW_GROUPS  4  /* groups of ranks of a call up to which its chunks have few_rows rows */

/*
 * A block that later calls will read, fetched into the second-level cache meanwhile: a line of each of LRKI_FETCH_ROWS rows
 * at a time, evenly over the multiply-adds of the calls that are given it (columns short of a vector are not counted by
 * all). Lines under way hold up operands that are near, so bursts of them cost time.
 */
typedef struct lrki_fetch {
    uintptr_t next; /* in the first of these rows: a number, since addresses past an array are no pointers */
    int64_t stride; /* bytes to the next row */
    int64_t lines;  /* of a row                              */
    int64_t left;   /* of them, not fetched in these rows    */
    int64_t rows;   /* from these on                         */
    int64_t pace;   /* multiply-adds from a fetch to the next */
    int64_t done;   /* multiply-adds since the last one      */
} lrki_fetch;

#define LRKI_FETCH_ROWS 3  /* of 1, 2, 3 and 6 the best, by a little, on Zen 3 */
#define LRKI_LINE       64 /* bytes of a cache line */

typedef struct lrki_dot_args {
    const void *const *rows;   /* [n_rows], of dtype */
    const float *const *ranks; /* [n_ranks] */
    int32_t dtype;             /* LRK_DTYPE_... */
    int32_t n_rows;
    int32_t n_ranks; /* 1 or more */
    bool add;        /* to what out holds */
    int64_t n;
    lrki_fetch *fetch; /* NULL: nothing */
    float *out;        /* [n_rows x n_ranks], row stride ld_out */
    int64_t ld_out;
} lrki_dot_args;

typedef struct lrki_update_args {
    void *const *dest;      /* [n_dest], of dest_dtype */
    const void *const *src; /* [n_src], of src_dtype; one of the two dtypes is f32 */
    int32_t dest_dtype;
    int32_t src_dtype;
    int32_t n_dest;
    int32_t n_src; /* 1 or more */
    int64_t n;
    lrki_fetch *fetch; /* as above */
    const float *coef; /* element (i, j) at i + j * ld_coef */
    int64_t ld_coef;
} lrki_update_args;

/*
 * What scratch is laid out for, whatever the implementation: limits of the next structure. A packed row is followed by
 * LRKI_SKEW floats, so that neighbours begin in different cache sets, and blocks are multiples of as many.
 */
#define LRKI_LEAST_ROWS  12          /* few_rows or more     */
#define LRKI_LEAST_COLS  512         /* cols or more         */
#define LRKI_TILE_COLS   1024        /* whole or less        */
#define LRKI_TILE_FLOATS (48 * 1024) /* rows * whole or less */
#define LRKI_SKEW        16

/*
 * How a call is cut into blocks, by measurement of the implementation ("How it works" and "What was removed" in
 * docs/performance.md).
 */
typedef struct lrki_blocks {
    int32_t few_rows;    /* most rows of a chunk of up to LRKI_FEW_GROUPS groups of ranks */
    int32_t rows;        /* the same of more ranks                                        */
    int32_t whole;       /* columns up to which rows of activations are not cut           */
    int32_t cols;        /* most columns of a block of longer ones                        */
    int32_t rank_values; /* most values of rank rows that are added to a block at once    */
} lrki_blocks;

typedef struct lrki_skinny {
    const char *name;
    int32_t group;     /* most ranks that dot takes in one pass           */
    int32_t dest;      /* most rows of f32 that update takes in one pass */
    int32_t many;      /* ranks of a module above which the GEMM is as fast, by measurement on it */
    int32_t many_wide; /* the same of n_in + n_out >= LRKI_WIDE */
    lrki_blocks blocks;
    void (*dot)(const lrki_dot_args *args);
    void (*update)(const lrki_update_args *args);
    void (*widen)(const void *from, int32_t dtype, int64_t n, float *to);
    void (*narrow)(const float *from, int32_t dtype, int64_t n, void *to);
} lrki_skinny;

/* The implementation that LRK_KERNELS_... names, NULL if this build or this processor lacks it; AUTO, BLAS: the fastest. */
const lrki_skinny *lrki_skinny_find(int32_t kernels);
/* That of a context, which asked when it was made. */
const lrki_skinny *lrki_skinny_in(const lrk_context *context);
/* Most ranks of a module that the context's fused kernels take in a call of that many rows. */
int64_t lrki_fused_ranks(const lrk_context *context, int64_t rows, int64_t n_in, int64_t n_out);

extern const lrki_skinny lrki_skinny_generic, lrki_skinny_avx2, lrki_skinny_avx512, lrki_skinny_neon;

#endif
