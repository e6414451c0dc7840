/* SPDX-License-Identifier: MIT */
/*
 * Matrix products: the only includer of cblas.h and the only caller of the host's GEMM. The default is OpenBLAS with
 * the thread count that it has; lorank never changes it. int64_t narrows to the BLAS integer here and nowhere else.
 */
#include <cblas.h>
#include <stdio.h>
#include <string.h>

#include "../core/context.h"
#include "kernels.h"

static bool fits_blas(int64_t v)
{
    return (int64_t)(blasint)v == v;
}

static lrk_status default_gemm(const lrk_gemm_args *g)
{
    if (!fits_blas(g->m) || !fits_blas(g->n) || !fits_blas(g->k) || !fits_blas(g->lda) ||
        !fits_blas(g->ldb) || !fits_blas(g->ldc))
        return LRK_ERR_SHAPE;
    cblas_sgemm(CblasRowMajor, g->trans_a ? CblasTrans : CblasNoTrans, g->trans_b ? CblasTrans : CblasNoTrans,
                (blasint)g->m, (blasint)g->n, (blasint)g->k, g->alpha, g->a, (blasint)g->lda, g->b,
                (blasint)g->ldb, g->beta, g->c, (blasint)g->ldc);
    return LRK_OK;
}

/* C = beta C, for products without inner dimension. */
static void scale_rows(int64_t m, int64_t n, float beta, float *c, int64_t ldc)
{
    if (beta == 1.0f) return;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            c[i * ldc + j] = beta == 0.0f ? 0.0f : beta * c[i * ldc + j];
}

lrk_status lrki_gemm_in_task(lrk_context *context, bool trans_a, bool trans_b, int64_t m, int64_t n,
                             int64_t k, float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                             float beta, float *c, int64_t ldc)
{
    if (m == 0 || n == 0) return LRK_OK;
    if (k == 0) {
        scale_rows(m, n, beta, c, ldc);
        return LRK_OK;
    }
    const lrk_gemm_args args = {.struct_size = sizeof args,
                                .trans_a = trans_a,
                                .trans_b = trans_b,
                                .m = m,
                                .n = n,
                                .k = k,
                                .a = a,
                                .lda = lda,
                                .b = b,
                                .ldb = ldb,
                                .c = c,
                                .ldc = ldc,
                                .alpha = alpha,
                                .beta = beta};
    const lrk_host *host = &context->host;
    if (host->gemm == NULL) return default_gemm(&args);
    return host->gemm(host->gemm_user, &args) == 0 ? LRK_OK : LRK_ERR_HOST;
}

lrk_status lrki_gemm_report(lrk_context *context, lrk_status status)
{
    if (status == LRK_OK) return LRK_OK;
    if (status == LRK_ERR_SHAPE)
        return lrki_fail(context, status, "a matrix product exceeds the BLAS integer of %zu bits",
                         8 * sizeof(blasint));
    return lrki_fail(context, status, "the host's gemm reported failure");
}

lrk_status lrki_gemm(lrk_context *context, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                     float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                     float *c, int64_t ldc)
{
    lrk_status status =
        lrki_gemm_in_task(context, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    return lrki_gemm_report(context, status);
}

bool lrki_blas_has_own_threads(void)
{
    return openblas_get_parallel() == OPENBLAS_THREAD;
}

void lrki_gemm_describe(char *text, size_t size)
{
    static const char *const pools[] = {"serial", "threads", "OpenMP"};
    int pool = openblas_get_parallel();
    char version[32] = "";
    /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    if (sscanf(openblas_get_config(), "OpenBLAS %31s", version) != 1) version[0] = '\0';
    snprintf(text, size, "OpenBLAS%s%s %s (%s)", version[0] != '\0' ? " " : "", version,
             openblas_get_corename(), pool >= 0 && pool < 3 ? pools[pool] : "?");
}
