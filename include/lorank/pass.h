/* SPDX-License-Identifier: MIT */
/*
 * Passes: one forward, or one forward and backward, of the host's model with an adapter set.
 *
 * A pass fixes the mask m, train or evaluate, the nonce of dropout, and where derivatives go. With x [T x n_in] (after
 * dropout: x'), A [r x n_in], B [r x n_out], gates g, scale s, w = m*g (per rank):
 *     forward    H = x' A^T;                         y  += s (H diag(w)) B
 *     backward   Q = s dy B^T,  D = Q diag(w);       dx += dropout'(D A)
 *                dA += D^T x',  dB += s (H diag(w))^T dy
 *                dL/dg_j += m_j sum_t H_tj Q_tj,     dL/dm_j += g_j sum_t H_tj Q_tj
 *     outputs    o_tj = s w_j H_tj B_j [n_out], what rank j adds to row t of y;
 *                own_j += sum_t |o_tj|^2,            joint_j += sum_t <o_tj, sum_k o_tk>
 * Dropout: x' = x * keep / (1 - p), keep a pure function of (seed, input group or module, nonce, row, column): it
 * repeats when a layer is recomputed under the same nonce, and is shared by modules of one input group.
 *
 * While a pass is open no rank change and no other change of parameters is possible (LRK_ERR_BUSY there).
 * Threads: calls within one pass are one at a time; several passes of a set may be used concurrently if each has a
 * sink of its own or needs none.
 */
#ifndef LRK_PASS_H
#define LRK_PASS_H

#include <stddef.h>
#include <stdint.h>

#include "adapters.h"
#include "mask.h"
#include "pca.h"
#include "sketch.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_pass lrk_pass;
typedef struct lrk_sink lrk_sink;

/* Types of activations; parameters, gradients and arithmetic are f32 whatever they are. */
#define LRK_DTYPE_F32  0
#define LRK_DTYPE_BF16 1 /* the upper half of an f32; written with rounding to nearest even */
#define LRK_DTYPE_F16  2 /* IEEE 754 binary16, likewise                                      */

/* A borrowed row-major matrix: rows x cols, ld >= cols elements from row to row. */
typedef struct lrk_matrix {
    uint32_t struct_size;
    int32_t dtype; /* LRK_DTYPE_... */
    const void *data;
    int64_t rows;
    int64_t cols;
    int64_t ld;
} lrk_matrix;

/* The same, written. */
typedef struct lrk_matrix_mut {
    uint32_t struct_size;
    int32_t dtype;
    void *data;
    int64_t rows;
    int64_t cols;
    int64_t ld;
} lrk_matrix_mut;

/* What backward derives. */
#define LRK_GRAD_PARAMETERS 0x1u /* dA, dB                       */
#define LRK_GRAD_GATES      0x2u /* dL/dg                        */
#define LRK_GRAD_MASK       0x4u /* dL/dm: needs a sink with it  */

#define LRK_PASS_EVALUATE 0 /* no dropout */
#define LRK_PASS_TRAIN    1

/*
 * Sums over the rows of forward of what a rank puts out. `joint` may be negative; over the ranks of a module it sums to
 * sum_t |dW x_t|^2, dW = s A^T diag(w) B.
 */
typedef struct lrk_rank_output {
    double own;
    double joint;
} lrk_rank_output;

typedef struct lrk_pass_options {
    uint32_t struct_size;
    uint32_t flags;          /* 0                                                                               */
    int32_t mode;            /* LRK_PASS_... [LRK_PASS_EVALUATE]; backward works in both                        */
    uint32_t gradients;      /* LRK_GRAD_... [LRK_GRAD_PARAMETERS]; 0: backward gives dx alone                  */
    uint64_t nonce;          /* of dropout: a step or micro-batch number [0]                                    */
    int64_t first_row;       /* global number of row 0 of every x of the pass, >= 0 [0]                         */
    int64_t max_rows;        /* most rows of an x; >= 1 [0: must be set]                                        */
    const lrk_mask *mask;    /* kept alive by the pass [NULL: all]                                              */
    lrk_sink *sink;          /* where derivatives go; kept alive by the pass [NULL: the set's own gradients]    */
    void *workspace;         /* 64-byte aligned scratch for the pass alone [NULL: lorank keeps one per open pass] */
    size_t workspace_bytes;  /* >= lrk_workspace_size() if workspace is given [0]                               */
    lrk_sketch *sketch;      /* every backward also feeds it; kept alive by the pass [NULL: none]                */
    lrk_rank_output *outputs; /* every forward also adds to it, for the live ranks module after module; the host's, written
                                 by this pass alone while it is open [NULL: not wanted]                          */
    int64_t n_outputs;       /* live ranks of the set if outputs is given [0]                                   */
    lrk_pca *pca;            /* every forward also feeds it; kept alive by the pass [NULL: none]                 */
} lrk_pass_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_pass_options_init(lrk_pass_options *options, size_t struct_size);

/*
 * Bytes of scratch that any call of a pass with at most max_rows rows needs now (a rank change may change it).
 * Errors   LRK_ERR_ARGUMENT, LRK_ERR_SHAPE (overflow).   Threads shared-read.   Since 0.1
 */
LRK_API lrk_status lrk_workspace_size(const lrk_adapters *adapters, int64_t max_rows, size_t *bytes);

/*
 * Bytes of the buffer in which forward keeps H of these modules for backward. Errors: as above. Since 0.1
 */
LRK_API lrk_status lrk_saved_size(const lrk_adapters *adapters, const int32_t *modules, int32_t n_modules,
                                  int64_t rows, size_t *bytes);

/*
 * Opens a pass. Without a given workspace, memory is taken here (kept by the set and used again by later passes), so
 * that forward and backward never allocate. Gradients have one writer at a time: a pass with a sink and derivatives
 * owns the sink while it is open; a training pass without a sink owns the set's gradients; an evaluating pass takes
 * them at its first lrk_backward() that derives more than dx. A pass owns its sketch and components while it is open.
 * Errors   LRK_ERR_ARGUMENT     unknown mode, flag or gradient, max_rows < 1, workspace too small or not aligned,
 *                               mask, sink, sketch or components of another set, mask derivatives without a sink that
 *                               has them, n_outputs without outputs
 *          LRK_ERR_SHAPE        n_outputs is not the number of live ranks
 *          LRK_ERR_STALE        mask or sink made before a rank change
 *          LRK_ERR_BUSY         a plan is prepared, or another open pass writes the same gradients or feeds the same
 *                               sketch or components
 *          LRK_ERR_UNSUPPORTED  training pass of an inference-only set
 *          LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Threads  any; several passes of a set may be open.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_pass_begin(lrk_adapters *adapters, const lrk_pass_options *options,
                                                  lrk_pass **pass);

/* Ends a pass and frees the handle. NULL is ignored. Since 0.1 */
LRK_API void lrk_pass_end(lrk_pass *pass);

/* The pass's mask facts, as lrk_mask_info_get() (all: baseline all, no stage). Errors: LRK_ERR_ARGUMENT. Since 0.1 */
LRK_API lrk_status lrk_pass_mask_info(const lrk_pass *pass, lrk_mask_info *info);

/*
 * y[i] += the update of modules[i] for the rows of x, for n_modules modules that read the same x (a group: q, k, v).
 * `saved` keeps H for backward (lrk_saved_size() bytes, 8-byte aligned; NULL with 0: backward computes it again).
 * y is an array of n_modules matrices stepped by y[0].struct_size. x and y must not overlap, nor one y another.
 * Errors   LRK_ERR_ARGUMENT     NULL, no such module, a module twice, unknown dtype, modules of different input groups,
 *                               saved not aligned
 *          LRK_ERR_SHAPE        a matrix does not fit its module, rows differ or exceed max_rows, saved too small, or x has
 *                               other rows than lrk_pca_select() was told of (y is then written)
 *          LRK_ERR_HOST         gemm or parallel_for failed; y, outputs and the pass's components are then unspecified
 * Special  0 rows, rank 0, or a mask that is 0 on the module: y unchanged. A rank whose mask or gate is 0 is not read,
 *          unless its derivative is asked for. NaN and infinity propagate. y of bf16 or f16 is rounded once a call, or
 *          once for every 512 ranks where a module has more; so is backward's dx, for the ranks of all modules together.
 * Cost     one pass over x for all modules, one over each y, through parallel_for; ranks that the mask silences cost
 *          nothing unless their derivative is asked for. Outputs: for each module of r ranks r^2 (rows + n_out) multiply-adds
 *          in double, with the same bits whatever the number of threads. No allocation.
 * Source   Hu et al. 2021 (arXiv:2106.09685) 4.1; gates: Liu et al. 2024 (ALoRA) eq. 3.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_forward(lrk_pass *pass, const int32_t *modules, int32_t n_modules,
                                               const lrk_matrix *x, const lrk_matrix_mut *y, void *saved,
                                               size_t saved_bytes);

/*
 * The derivatives above for the same modules: adds to the pass's gradients and to dx (NULL: not wanted). x is what
 * forward read; saved is what forward wrote, or NULL with 0 to compute H again. dy is an array of n_modules matrices
 * stepped by dy[0].struct_size. May be called several times a step (micro-batches): gradients add up.
 * dx must not overlap x or any dy.
 * Errors   as lrk_forward() (after LRK_ERR_HOST dx, the pass's gradients and its sketch are unspecified), and
 *          LRK_ERR_STALE        saved was written before a rank change or a change of values
 *          LRK_ERR_ARGUMENT     saved was written for other modules, rows, mode, nonce, first row or mask, in a pass whose
 *                               derivatives needed other ranks, or not by lrk_forward()
 *          LRK_ERR_BUSY         another open pass writes the same gradients (evaluating passes without a sink)
 *          LRK_ERR_UNSUPPORTED  derivatives of an inference-only set (dx alone, gradients 0, is allowed)
 * Special  dx or the sketch may be the only result (gradients 0 in the options). 0 rows or rank 0: nothing is added, but the module
 *          counts as having a gradient.
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_backward(lrk_pass *pass, const int32_t *modules, int32_t n_modules,
                                                const lrk_matrix *x, const void *saved, size_t saved_bytes,
                                                const lrk_matrix *dy, const lrk_matrix_mut *dx);

/*
 * A gradient sink: derivatives of its own for passes that run beside others. `kinds` are the LRK_GRAD_... it holds.
 * Errors   LRK_ERR_ARGUMENT, LRK_ERR_UNSUPPORTED (inference-only set), LRK_ERR_NOMEM.
 * Owner    the caller; keeps the set alive. LRK_ERR_STALE after a rank change.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_sink_create(lrk_adapters *adapters, uint32_t kinds, lrk_sink **sink);

/* NULL is ignored. Since 0.1 */
LRK_API void lrk_sink_destroy(lrk_sink *sink);

/* All derivatives become 0. Errors: LRK_ERR_ARGUMENT, LRK_ERR_BUSY (an open pass writes to it). Since 0.1 */
LRK_API lrk_status lrk_sink_zero(lrk_sink *sink);

/*
 * Borrows a gradient tensor (LRK_TENSOR_GRAD_...) of a module. Errors: LRK_ERR_ARGUMENT (the sink does not hold it),
 * LRK_ERR_STALE. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_sink_tensor(const lrk_sink *sink, int32_t module, int32_t which,
                                                   lrk_tensor *tensor);

/*
 * Borrows the mask derivatives dL/dm in double, one per live rank, module after module. Errors: as above. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_sink_mask_gradients(const lrk_sink *sink, const double **values, int64_t *n);

/*
 * Adds factor * the sink's gradients to the set's own (a host calls it in a fixed order for fixed results).
 * Errors   LRK_ERR_ARGUMENT (factor not finite), LRK_ERR_STALE, LRK_ERR_BUSY.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_sink_accumulate(const lrk_sink *sink, double factor);

#ifdef __cplusplus
}
#endif

#endif
