/* SPDX-License-Identifier: MIT */
/*
 * QR and SVD: orthonormal factors that multiply to the matrix, singular values of matrices made from known ones, signs,
 * degenerate shapes, refusals, lack of memory. Bounds: LAPACK's factorisations are backward stable, |error| <=
 * c n^1.5 eps ||a||_F with a modest c; c = 8 and n the larger size here.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "kernels/dense.h"
#include "sets.h"
#include "spectral.h"

static fault host;
static lrk_context *context;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
}

static void teardown(void)
{
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static const int64_t shapes[][2] = {{1, 1}, {5, 1}, {7, 7}, {40, 9}, {9, 40}, {200, 64}, {3, 2}};

#define N_SHAPES (sizeof shapes / sizeof shapes[0])

static double *make(int64_t n)
{
    double *values = calloc((size_t)n + 1, sizeof *values);
    ck_assert_ptr_nonnull(values);
    return values;
}

/* A fixed sequence without structure. */
static double *noise(int64_t n, uint64_t seed)
{
    double *values = make(n);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        values[i] = (double)(int64_t)(seed >> 11) * 0x1p-52 - 1;
    }
    return values;
}

static double norm(const double *a, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * a[i];
    return sqrt(sum);
}

static double bound(int64_t rows, int64_t cols, double size)
{
    double n = (double)(rows > cols ? rows : cols);
    return 8 * n * sqrt(n) * DBL_EPSILON * size;
}

/* Columns of q [rows x cols] are orthonormal. */
static void must_be_orthonormal(const double *q, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = i; j < cols; j++) {
            double sum = 0;
            for (int64_t t = 0; t < rows; t++)
                sum += q[t * cols + i] * q[t * cols + j];
            ck_assert_double_le(fabs(sum - (i == j)), bound(rows, cols, 1));
        }
}

/* left [rows x k] diag(s) right [k x cols] is a; s NULL: ones. */
static void must_multiply_to(const double *a, int64_t rows, int64_t cols, const double *left, const double *s,
                             const double *right, int64_t k)
{
    double size = norm(a, rows * cols);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            double sum = 0;
            for (int64_t t = 0; t < k; t++)
                sum += left[i * k + t] * (s != NULL ? s[t] : 1) * right[t * cols + j];
            ck_assert_double_le(fabs(sum - a[i * cols + j]), bound(rows, cols, size));
        }
}

static void check_qr(const double *a, int64_t rows, int64_t cols)
{
    double *q = make(rows * cols), *r = make(cols * cols), *again = make(rows * cols);
    memcpy(q, a, (size_t)(rows * cols) * sizeof *q);
    memcpy(again, a, (size_t)(rows * cols) * sizeof *q);
    ck_assert_int_eq(lrki_qr(context, rows, cols, q, r), LRK_OK);
    must_be_orthonormal(q, rows, cols);
    must_multiply_to(a, rows, cols, q, NULL, r, cols);
    for (int64_t i = 0; i < cols; i++) {
        ck_assert(r[i * cols + i] >= 0);
        for (int64_t j = 0; j < i; j++)
            ck_assert(r[i * cols + j] == 0);
    }
    ck_assert_int_eq(lrki_qr(context, rows, cols, again, NULL), LRK_OK);
    ck_assert_mem_eq(again, q, (size_t)(rows * cols) * sizeof *q);
    free(q);
    free(r);
    free(again);
}

START_TEST(qr_multiplies_to_the_matrix)
{
    for (size_t i = 0; i < N_SHAPES; i++) {
        int64_t rows = shapes[i][0], cols = shapes[i][1];
        if (rows < cols) continue;
        double *a = noise(rows * cols, i);
        check_qr(a, rows, cols);
        for (int64_t t = 0; t < rows; t++)
            a[t * cols + cols - 1] = a[t * cols]; /* two equal columns: deficient */
        check_qr(a, rows, cols);
        memset(a, 0, (size_t)(rows * cols) * sizeof *a);
        check_qr(a, rows, cols);
        free(a);
    }
}
END_TEST

static void check_svd(const double *a, int64_t rows, int64_t cols)
{
    int64_t k = rows < cols ? rows : cols;
    double *copy = make(rows * cols), *u = make(rows * k), *s = make(k), *vt = make(k * cols),
           *v = make(k * cols), *alone = make(k);
    memcpy(copy, a, (size_t)(rows * cols) * sizeof *a);
    ck_assert_int_eq(lrki_svd(context, rows, cols, copy, u, s, vt), LRK_OK);
    must_be_orthonormal(u, rows, k);
    for (int64_t j = 0; j < k; j++)
        for (int64_t i = 0; i < cols; i++)
            v[i * k + j] = vt[j * cols + i];
    must_be_orthonormal(v, cols, k);
    must_multiply_to(a, rows, cols, u, s, vt, k);
    for (int64_t j = 0; j < k; j++) {
        double largest = 0;
        for (int64_t i = 0; i < cols; i++)
            if (fabs(vt[j * cols + i]) > fabs(largest)) largest = vt[j * cols + i];
        ck_assert(largest >= 0);
        ck_assert(s[j] >= 0 && (j == 0 || s[j] <= s[j - 1]));
    }
    memcpy(copy, a, (size_t)(rows * cols) * sizeof *a);
    ck_assert_int_eq(lrki_svd(context, rows, cols, copy, NULL, alone, NULL), LRK_OK);
    for (int64_t j = 0; j < k; j++)
        ck_assert_double_le(fabs(alone[j] - s[j]), bound(rows, cols, s[0]));
    free(copy);
    free(u);
    free(s);
    free(vt);
    free(v);
    free(alone);
}

START_TEST(svd_multiplies_to_the_matrix)
{
    for (size_t i = 0; i < N_SHAPES; i++) {
        int64_t rows = shapes[i][0], cols = shapes[i][1];
        double *a = noise(rows * cols, 100 + i);
        check_svd(a, rows, cols);
        for (int64_t t = 0; t < rows; t++)
            a[t * cols + cols - 1] = a[t * cols];
        check_svd(a, rows, cols);
        memset(a, 0, (size_t)(rows * cols) * sizeof *a);
        check_svd(a, rows, cols);
        free(a);
    }
}
END_TEST

START_TEST(singular_values_are_those_it_was_made_from)
{
    enum { ROWS = 30, COLS = 12 };
    static const double made[COLS] = {1e3, 7, 7, 7, 2, 1, 1e-3, 1e-3, 1e-9, 1e-14, 0, 0};
    double *q = noise(ROWS * COLS, 5), *p = noise(COLS * COLS, 6), a[ROWS * COLS], s[COLS];
    ck_assert_int_eq(lrki_qr(context, ROWS, COLS, q, NULL), LRK_OK);
    ck_assert_int_eq(lrki_qr(context, COLS, COLS, p, NULL), LRK_OK);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) {
            a[i * COLS + j] = 0;
            for (int t = 0; t < COLS; t++)
                a[i * COLS + j] += q[i * COLS + t] * made[t] * p[j * COLS + t];
        }
    ck_assert_int_eq(lrki_svd(context, ROWS, COLS, a, NULL, s, NULL), LRK_OK);
    for (int t = 0; t < COLS; t++)
        ck_assert_double_le(fabs(s[t] - made[t]), bound(ROWS, COLS, made[0]));
    free(q);
    free(p);
}
END_TEST

START_TEST(empty_matrices_and_refusals)
{
    double a[4] = {1, 2, NAN, 4}, s[2];
    ck_assert_int_eq(lrki_qr(context, 5, 0, NULL, NULL), LRK_OK);
    ck_assert_int_eq(lrki_svd(context, 0, 5, NULL, NULL, NULL, NULL), LRK_OK);
    sets_expect(context, lrki_qr(context, 2, 2, a, NULL), LRK_ERR_NONFINITE, "not finite");
    sets_expect(context, lrki_svd(context, 2, 2, a, NULL, s, NULL), LRK_ERR_NONFINITE, "not finite");
    a[2] = INFINITY;
    sets_expect(context, lrki_svd(context, 2, 2, a, NULL, s, NULL), LRK_ERR_NONFINITE, "not finite");
    sets_expect(context, lrki_qr(context, INT64_C(1) << 40, 1, a, NULL), LRK_ERR_SHAPE, "too large");
    sets_expect(context, lrki_svd(context, 1, INT64_C(1) << 40, a, NULL, s, NULL), LRK_ERR_SHAPE,
                "too large");
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    double a[12], u[8], s[2], vt[6];
    for (int64_t i = 0; i < 2; i++) {
        for (int j = 0; j < 12; j++)
            a[j] = j * j % 7;
        host.alloc.fail_at = host.alloc.calls;
        if (i < 1)
            sets_expect(context, lrki_qr(context, 4, 3, a, NULL), LRK_ERR_NOMEM, "QR");
        else
            sets_expect(context, lrki_svd(context, 4, 2, a, u, s, vt), LRK_ERR_NOMEM, "singular");
        host.alloc.fail_at = -1;
    }
}
END_TEST

/* Within a task: the same numbers from memory of the caller's. */
START_TEST(in_a_task_nothing_is_allocated)
{
    double a[2][12], r[2][9], u[2][8], s[2][2], vt[2][4];
    int64_t n_qr = lrki_qr_scratch(4, 3), n_svd = lrki_svd_scratch(4, 2);
    double *scratch = calloc((size_t)(n_qr + n_svd), sizeof *scratch);
    for (int i = 0; i < 12; i++)
        a[0][i] = a[1][i] = i * i % 7;
    ck_assert_int_eq(lrki_qr(context, 4, 3, a[0], r[0]), LRK_OK);
    int64_t calls = host.alloc.calls;
    lrki_qr_in_task(4, 3, a[1], r[1], scratch);
    ck_assert_mem_eq(a[0], a[1], sizeof a[0]);
    ck_assert_mem_eq(r[0], r[1], sizeof r[0]);
    ck_assert_int_eq(lrki_svd_in_task(4, 2, a[1], u[1], s[1], vt[1], scratch + n_qr), LRK_OK);
    ck_assert_int_eq(host.alloc.calls, calls);
    ck_assert_int_eq(lrki_svd(context, 4, 2, a[0], u[0], s[0], vt[0]), LRK_OK);
    ck_assert_mem_eq(u[0], u[1], sizeof u[0]);
    ck_assert_mem_eq(s[0], s[1], sizeof s[0]);
    ck_assert_mem_eq(vt[0], vt[1], sizeof vt[0]);
    a[1][3] = NAN;
    ck_assert_int_eq(lrki_svd_in_task(4, 2, a[1], NULL, s[1], NULL, scratch), LRK_ERR_NONFINITE);
    ck_assert_int_eq(lrki_qr_scratch(INT64_C(1) << 40, 1), -1);
    ck_assert_int_eq(lrki_svd_scratch(1, INT64_C(1) << 40), -1);
    ck_assert_int_eq(lrki_qr_scratch(5, 0), 0);
    ck_assert_int_eq(lrki_svd_scratch(0, 5), 0);
    free(scratch);
}
END_TEST

/* a = sum_i lambda_i v_i v_i^T: the largest ones, descending, and their vectors; of a matrix that is not finite none. */
START_TEST(eigenvalues_are_the_largest_in_their_order)
{
    enum { N = 9, TOP = 4 };
    static const double lambda[N] = {5, 4.5, 3, 2, 1, 0.5, 0.25, 0, -7};
    padded x, dy;
    double a[N * N] = {0}, values[TOP], vectors[TOP * N];
    spectral_rows(lambda, N, N, N, 3, &x, &dy); /* x: orthonormal rows */
    for (int k = 0; k < N; k++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                a[i * N + j] += lambda[k] * (double)x.data[k * x.ld + i] * (double)x.data[k * x.ld + j];
    int64_t n = lrki_eigen_scratch(N);
    double *scratch = calloc((size_t)n, sizeof *scratch);
    ck_assert_int_eq(lrki_eigen_in_task(N, TOP, a, values, vectors, scratch), LRK_OK);
    for (int k = 0; k < TOP; k++) {
        double along = 0;
        for (int i = 0; i < N; i++)
            along += vectors[k * N + i] * (double)x.data[k * x.ld + i];
        ck_assert_double_eq_tol(values[k], lambda[k], 1e-6); /* x is f32 */
        ck_assert_double_eq_tol(fabs(along), 1, 1e-6);
    }
    a[5] = NAN;
    ck_assert_int_eq(lrki_eigen_in_task(N, TOP, a, values, vectors, scratch), LRK_ERR_NONFINITE);
    ck_assert_int_lt(lrki_eigen_scratch((int64_t)1 << 40), 0);
    free(scratch);
    padded_free(&x);
    padded_free(&dy);
}
END_TEST

Suite *dense_suite(void);

Suite *dense_suite(void)
{
    Suite *suite = suite_create("dense");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, qr_multiplies_to_the_matrix);
    tcase_add_test(cases, svd_multiplies_to_the_matrix);
    tcase_add_test(cases, singular_values_are_those_it_was_made_from);
    tcase_add_test(cases, empty_matrices_and_refusals);
    tcase_add_test(cases, every_allocation_fails_once);
    tcase_add_test(cases, in_a_task_nothing_is_allocated);
    tcase_add_test(cases, eigenvalues_are_the_largest_in_their_order);
    suite_add_tcase(suite, cases);
    return suite;
}
