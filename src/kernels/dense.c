/* SPDX-License-Identifier: MIT */
/*
 * LAPACK is column-major: a row-major a [rows x cols] is its transpose there, so that an LQ factorisation of that is the
 * QR factorisation of a, and the two sides of a singular value decomposition change places.
 */
#include "dense.h"

#include <math.h>

/* Debian's OpenBLAS exports LAPACK's Fortran symbols and ships no header for them. Lengths of texts come last. */
void dgelqf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work,
             const int *lwork, int *info);
void dorglq_(const int *m, const int *n, const int *k, double *a, const int *lda, const double *tau,
             double *work, const int *lwork, int *info);
void dgesdd_(const char *job, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
             const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork,
             int *info, size_t job_length);

#define WORK_MOST (INT64_C(1) << 30) /* doubles of scratch that LAPACK may ask for */

static lrk_status check_input(lrk_context *context, int64_t rows, int64_t cols, const double *a)
{
    int64_t count, n_bad = 0;
    if (rows > INT32_MAX / 2 || cols > INT32_MAX / 2 || !lrki_mul(rows, cols, &count))
        return lrki_fail(context, LRK_ERR_SHAPE, "a matrix of %lld x %lld is too large for LAPACK",
                         (long long)rows, (long long)cols);
    for (int64_t i = 0; i < count; i++)
        n_bad += !isfinite(a[i]);
    return n_bad == 0 ? LRK_OK
                      : lrki_fail(context, LRK_ERR_NONFINITE, "a matrix to be factorised is not finite");
}

static lrk_status check_work(lrk_context *context, double wanted, int *work)
{
    if (!(wanted < (double)WORK_MOST))
        return lrki_fail(context, LRK_ERR_SHAPE, "a matrix is too large for LAPACK: %.0f of scratch", wanted);
    *work = (int)wanted;
    return LRK_OK;
}

/* ---- QR ---- */

/* r = lower^T with a diagonal that is not negative; signs[j] tells which columns of q change theirs. */
static void take_r(int cols, const double *lower, double *signs, double *r)
{
    for (int i = 0; i < cols; i++)
        signs[i] = lower[(int64_t)i * cols + i] < 0 ? -1 : 1;
    for (int i = 0; r != NULL && i < cols; i++)
        for (int j = 0; j < cols; j++)
            r[(int64_t)i * cols + j] = j < i ? 0 : signs[i] * lower[(int64_t)i * cols + j];
}

static lrk_status factor_qr(int rows, int cols, double *a, double *r, double *tau, double *work, int n_work)
{
    int info;
    dgelqf_(&cols, &rows, a, &cols, tau, work, &n_work, &info);
    double *signs = tau + cols;
    take_r(cols, a, signs, r);
    dorglq_(&cols, &rows, &cols, a, &cols, tau, work, &n_work, &info);
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            a[i * cols + j] *= signs[j];
    return LRK_OK;
}

lrk_status lrki_qr(lrk_context *context, int64_t rows, int64_t cols, double *a, double *r)
{
    int n_work = 0, info, query = -1, m = (int)cols, n = (int)rows;
    double first = 0, second = 0, none = 0;
    if (cols == 0) return LRK_OK;
    lrk_status status = check_input(context, rows, cols, a);
    if (status != LRK_OK) return status;
    dgelqf_(&m, &n, a, &m, &none, &first, &query, &info);
    dorglq_(&m, &n, &m, a, &m, &none, &second, &query, &info);
    status = check_work(context, fmax(first, second), &n_work);
    if (status != LRK_OK) return status;
    double *tau = lrki_array(context, 2 * cols, sizeof *tau);
    double *work = lrki_array(context, n_work, sizeof *work);
    if (tau == NULL || work == NULL)
        status = lrki_fail_nomem(context, "a QR factorisation");
    else
        status = factor_qr(n, m, a, r, tau, work, n_work);
    lrki_array_free(context, tau, 2 * cols, sizeof *tau);
    lrki_array_free(context, work, n_work, sizeof *work);
    return status;
}

/* ---- SVD ---- */

static void fix_signs(int64_t rows, int64_t cols, int64_t k, double *u, double *vt)
{
    for (int64_t j = 0; j < k; j++) {
        double largest = 0;
        for (int64_t i = 0; i < cols; i++)
            if (fabs(vt[j * cols + i]) > fabs(largest)) largest = vt[j * cols + i];
        if (largest >= 0) continue;
        for (int64_t i = 0; i < cols; i++)
            vt[j * cols + i] = -vt[j * cols + i];
        for (int64_t i = 0; i < rows; i++)
            u[i * k + j] = -u[i * k + j];
    }
}

lrk_status lrki_svd(lrk_context *context, int64_t rows, int64_t cols, double *a, double *u, double *s,
                    double *vt)
{
    int64_t least = rows < cols ? rows : cols;
    int m = (int)cols, n = (int)rows, k = (int)least, n_work = 0, info = 0, query = -1;
    const char *job = vt != NULL ? "S" : "N";
    double wanted = 0, none = 0, *left = vt != NULL ? vt : &none, *right = u != NULL ? u : &none;
    if (least == 0) return LRK_OK;
    lrk_status status = check_input(context, rows, cols, a);
    if (status != LRK_OK) return status;
    dgesdd_(job, &m, &n, a, &m, s, left, &m, right, &k, &wanted, &query, NULL, &info, 1);
    status = check_work(context, wanted, &n_work);
    if (status != LRK_OK) return status;
    double *work = lrki_array(context, n_work, sizeof *work);
    int *integers = lrki_array(context, 8 * least, sizeof *integers);
    if (work == NULL || integers == NULL)
        status = lrki_fail_nomem(context, "a singular value decomposition");
    else
        dgesdd_(job, &m, &n, a, &m, s, left, &m, right, &k, work, &n_work, integers, &info, 1);
    lrki_array_free(context, work, n_work, sizeof *work);
    lrki_array_free(context, integers, 8 * least, sizeof *integers);
    if (status != LRK_OK) return status;
    if (info != 0)
        return lrki_fail(context, LRK_ERR_NONFINITE, "a singular value decomposition does not converge");
    if (vt != NULL) fix_signs(rows, cols, least, u, vt);
    return LRK_OK;
}
