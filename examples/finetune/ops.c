/* SPDX-License-Identifier: MIT */
/*
 * Threads and matrix products.  The only file that includes cblas.h: BLAS is
 * called from inside OpenMP regions, where an OpenBLAS built on OpenMP stays
 * on the calling thread, so the chunking below decides the bits, not the
 * number of threads.
 */
#include "ops.h"

#include <cblas.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* Rows of C a task computes.  Measured on 2 cores at the demo's shapes: 64 rows lose 11 % to packing the
 * weights again, 128 lose 5 %, 256 2 %; 128 still gives eight tasks to a batch of 1024 tokens. */
enum { ROW_CHUNK = 128 };
/* Columns of C a task computes where the rows make a single chunk (decoding token by token). */
enum { COLUMN_CHUNK = 256 };

void ops_set_threads(int n)
{
#ifdef _OPENMP
    omp_set_num_threads(n);
#else
    (void)n;
#endif
    if (openblas_get_parallel() == OPENBLAS_THREAD) openblas_set_num_threads(1);
}

int ops_threads(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

int ops_thread_index(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

void ops_gemm_serial(const ops_product *p)
{
    cblas_sgemm(CblasRowMajor, p->trans_a ? CblasTrans : CblasNoTrans, p->trans_b ? CblasTrans : CblasNoTrans,
                (blasint)p->m, (blasint)p->n, (blasint)p->k, p->alpha, p->a, (blasint)p->lda, p->b,
                (blasint)p->ldb, p->beta, p->c, (blasint)p->ldc);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Rows [row, row + m) and columns [column, column + n) of C as a product of its own. */
static void chunk(const ops_product *whole, int64_t row, int64_t column, int64_t m, int64_t n)
{
    ops_product p = *whole;
    p.m = m;
    p.n = n;
    p.a += p.trans_a ? row : row * p.lda;
    p.b += p.trans_b ? column * p.ldb : column;
    p.c += row * p.ldc + column;
    ops_gemm_serial(&p);
}

void ops_gemm(const ops_product *p)
{
    if (p->m <= ROW_CHUNK) {
#pragma omp parallel for schedule(static)
        for (int64_t column = 0; column < p->n; column += COLUMN_CHUNK)
            chunk(p, 0, column, p->m, smaller(COLUMN_CHUNK, p->n - column));
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < p->m; row += ROW_CHUNK)
        chunk(p, row, 0, smaller(ROW_CHUNK, p->m - row), p->n);
}

void ops_linear(int64_t rows, int64_t n_in, int64_t n_out, const float *x, const float *w, float *y)
{
    ops_gemm(&(ops_product){.trans_b = 1,
                            .m = rows,
                            .n = n_out,
                            .k = n_in,
                            .a = x,
                            .lda = n_in,
                            .b = w,
                            .ldb = n_in,
                            .c = y,
                            .ldc = n_out,
                            .alpha = 1});
}

void ops_linear_backward(int64_t rows, int64_t n_in, int64_t n_out, const float *dy, const float *w,
                         float *dx)
{
    ops_gemm(&(ops_product){.m = rows,
                            .n = n_in,
                            .k = n_out,
                            .a = dy,
                            .lda = n_out,
                            .b = w,
                            .ldb = n_in,
                            .c = dx,
                            .ldc = n_in,
                            .alpha = 1});
}
