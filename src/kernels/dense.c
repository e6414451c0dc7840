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
void dsyevr_(const char *job, const char *range, const char *half, const int *n, double *a, const int *lda,
             const double *low, const double *high, const int *first, const int *last,
             const double *tolerance, int *found, double *w, double *z, const int *ldz, int *support,
             double *work, const int *lwork, int *iwork, const int *liwork, int *info, size_t job_length,
             size_t range_length, size_t half_length);

#define WORK_MOST (INT64_C(1) << 30) /* doubles of scratch that LAPACK may ask for */

static bool fits(int64_t rows, int64_t cols)
{
    int64_t count;
    return rows <= INT32_MAX / 2 && cols <= INT32_MAX / 2 && lrki_mul(rows, cols, &count);
}

static bool is_finite(int64_t count, const double *a)
{
    int64_t n_bad = 0;
    for (int64_t i = 0; i < count; i++)
        n_bad += !isfinite(a[i]);
    return n_bad == 0;
}

static lrk_status check_input(lrk_context *context, int64_t rows, int64_t cols, const double *a)
{
    if (!fits(rows, cols))
        return lrki_fail(context, LRK_ERR_SHAPE, "a matrix of %lld x %lld is too large for LAPACK",
                         (long long)rows, (long long)cols);
    return is_finite(rows * cols, a)
               ? LRK_OK
               : lrki_fail(context, LRK_ERR_NONFINITE, "a matrix to be factorised is not finite");
}

/* Doubles of scratch, -1 if LAPACK's integer cannot say them. */
static int64_t work_of(double wanted)
{
    return wanted < (double)WORK_MOST ? (int64_t)wanted : -1;
}

/* Memory for scratch that the shape asks for; NULL with *status set. */
static double *take_scratch(lrk_context *context, int64_t n, const char *what, lrk_status *status)
{
    double *scratch = n < 0 ? NULL : lrki_array(context, n, sizeof *scratch);
    if (n < 0)
        *status = lrki_fail(context, LRK_ERR_SHAPE, "a matrix is too large for LAPACK");
    else if (scratch == NULL)
        *status = lrki_fail_nomem(context, what);
    return scratch;
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

/* Of the LAPACK calls alone. */
static int64_t qr_work(int m, int n)
{
    int info, query = -1;
    double first = 0, second = 0, none = 0;
    dgelqf_(&m, &n, &none, &m, &none, &first, &query, &info);
    dorglq_(&m, &n, &m, &none, &m, &none, &second, &query, &info);
    return work_of(fmax(first, second));
}

int64_t lrki_qr_scratch(int64_t rows, int64_t cols)
{
    if (cols == 0) return 0;
    int64_t work = fits(rows, cols) ? qr_work((int)cols, (int)rows) : -1;
    return work < 0 ? -1 : work + 2 * cols;
}

void lrki_qr_in_task(int64_t rows, int64_t cols, double *a, double *r, double *scratch)
{
    int m = (int)cols, n = (int)rows, info;
    if (cols == 0) return;
    int n_work = (int)qr_work(m, n);
    double *tau = scratch, *signs = tau + cols, *work = signs + cols;
    dgelqf_(&m, &n, a, &m, tau, work, &n_work, &info);
    take_r(m, a, signs, r);
    dorglq_(&m, &n, &m, a, &m, tau, work, &n_work, &info);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            a[i * cols + j] *= signs[j];
}

lrk_status lrki_qr(lrk_context *context, int64_t rows, int64_t cols, double *a, double *r)
{
    lrk_status status = check_input(context, rows, cols, a);
    if (status != LRK_OK || cols == 0) return status;
    int64_t n = lrki_qr_scratch(rows, cols);
    double *scratch = take_scratch(context, n, "a QR factorisation", &status);
    if (scratch == NULL) return status;
    lrki_qr_in_task(rows, cols, a, r, scratch);
    lrki_array_free(context, scratch, n, sizeof *scratch);
    return LRK_OK;
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

/* Of the LAPACK call alone, whether or not vectors are wanted. */
static int64_t svd_work(int m, int n)
{
    int k = m < n ? m : n, info, query = -1;
    double with = 0, without = 0, none = 0;
    dgesdd_("S", &m, &n, &none, &m, &none, &none, &m, &none, &k, &with, &query, NULL, &info, 1);
    dgesdd_("N", &m, &n, &none, &m, &none, &none, &m, &none, &k, &without, &query, NULL, &info, 1);
    return work_of(fmax(with, without));
}

int64_t lrki_svd_scratch(int64_t rows, int64_t cols)
{
    int64_t least = rows < cols ? rows : cols;
    if (least == 0) return 0;
    int64_t work = fits(rows, cols) ? svd_work((int)cols, (int)rows) : -1;
    return work < 0 ? -1 : work + 4 * least; /* 8 integers a column */
}

lrk_status lrki_svd_in_task(int64_t rows, int64_t cols, double *a, double *u, double *s, double *vt,
                            double *scratch)
{
    int64_t least = rows < cols ? rows : cols;
    int m = (int)cols, n = (int)rows, k = (int)least, info = 0;
    double none = 0, *left = vt != NULL ? vt : &none, *right = u != NULL ? u : &none;
    if (least == 0) return LRK_OK;
    if (!is_finite(rows * cols, a)) return LRK_ERR_NONFINITE;
    int n_work = (int)svd_work(m, n);
    int *integers = (void *)scratch;
    dgesdd_(vt != NULL ? "S" : "N", &m, &n, a, &m, s, left, &m, right, &k, scratch + 4 * least, &n_work,
            integers, &info, 1);
    if (info != 0) return LRK_ERR_NONFINITE;
    if (vt != NULL) fix_signs(rows, cols, least, u, vt);
    return LRK_OK;
}

lrk_status lrki_svd(lrk_context *context, int64_t rows, int64_t cols, double *a, double *u, double *s,
                    double *vt)
{
    lrk_status status = check_input(context, rows, cols, a);
    if (status != LRK_OK || rows == 0 || cols == 0) return status;
    int64_t n = lrki_svd_scratch(rows, cols);
    double *scratch = take_scratch(context, n, "a singular value decomposition", &status);
    if (scratch == NULL) return status;
    if (lrki_svd_in_task(rows, cols, a, u, s, vt, scratch) != LRK_OK)
        status = lrki_fail(context, LRK_ERR_NONFINITE, "a singular value decomposition does not converge");
    lrki_array_free(context, scratch, n, sizeof *scratch);
    return status;
}

/* ---- eigenvalues ---- */

/* Doubles and integers of the LAPACK call alone. */
static int64_t eigen_work(int n, int *integers)
{
    int info, query = -1, found, one = 1;
    double none = 0, work = 0;
    dsyevr_("V", "I", "U", &n, &none, &n, &none, &none, &one, &n, &none, &found, &none, &none, &n, &found,
            &work, &query, integers, &query, &info, 1, 1, 1);
    return work_of(work);
}

int64_t lrki_eigen_scratch(int64_t n)
{
    int integers = 0;
    int64_t work = fits(n, n) ? eigen_work((int)n, &integers) : -1;
    return work < 0 ? -1 : work + n + (2 * n + integers) / 2 + 1;
}

lrk_status lrki_eigen_in_task(int64_t rows, int64_t top, double *a, double *values, double *vectors,
                              double *scratch)
{
    int n = (int)rows, first = (int)(rows - top + 1), found = 0, info = 0, n_integers;
    double none = 0;
    if (!is_finite(rows * rows, a)) return LRK_ERR_NONFINITE;
    int n_work = (int)eigen_work(n, &n_integers);
    double *w = scratch, *work = w + n;
    int *support = (void *)(work + n_work), *integers = support + 2 * (int64_t)n;
    dsyevr_("V", "I", "U", &n, a, &n, &none, &none, &first, &n, &none, &found, w, vectors, &n, support, work,
            &n_work, integers, &n_integers, &info, 1, 1, 1);
    if (info != 0 || found != (int)top) return LRK_ERR_NONFINITE;
    for (int64_t i = 0; i < top; i++)
        values[i] = w[top - 1 - i];
    for (int64_t i = 0, j = top - 1; i < j; i++, j--)
        for (int64_t c = 0; c < rows; c++) {
            double held = vectors[i * rows + c];
            vectors[i * rows + c] = vectors[j * rows + c];
            vectors[j * rows + c] = held;
        }
    return LRK_OK;
}
