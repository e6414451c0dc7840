/* SPDX-License-Identifier: MIT */
/*
 * Kernels: matrix products and parallel loops, on the host's services or lorank's defaults. Everything above calls
 * these; gemm.c alone knows the BLAS, parallel.c alone knows OpenMP.
 */
#ifndef LRKI_KERNELS_H
#define LRKI_KERNELS_H

#include "../core/core.h"

/*
 * C = alpha op(A) op(B) + beta C, row-major; m, n or k of 0 is handled here. LRK_ERR_HOST if the host's GEMM fails,
 * LRK_ERR_SHAPE if a dimension exceeds the BLAS integer; the detail is recorded for the calling thread.
 */
lrk_status lrki_gemm(lrk_context *context, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                     float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                     float *c, int64_t ldc);

/* The same without a detail, for tasks of a parallel loop: they run on threads whose errors nobody reads. */
lrk_status lrki_gemm_in_task(lrk_context *context, bool trans_a, bool trans_b, int64_t m, int64_t n,
                             int64_t k, float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                             float beta, float *c, int64_t ldc);

/* Records the detail for a status that lrki_gemm_in_task() gave, on the calling thread. */
lrk_status lrki_gemm_report(lrk_context *context, lrk_status status);

/* Runs task(data, i) for i in [0, n). LRK_ERR_HOST if the host's loop fails. */
lrk_status lrki_parallel_for(lrk_context *context, int64_t n, void (*task)(void *data, int64_t index),
                             void *data);

/* Threads that lrki_parallel_for() can expect: the host's word, else the default loop's width. */
int32_t lrki_parallel_width(const lrk_context *context);

/* What the default GEMM and loop are, for lrk_context_describe(): "OpenBLAS 0.3.21 (OpenMP)", "OpenMP" or "serial". */
void lrki_gemm_describe(char *text, size_t size);
const char *lrki_parallel_name(void);

/* True if the BLAS keeps threads of its own that would fight with an OpenMP loop around it. */
bool lrki_blas_has_own_threads(void);

#endif
