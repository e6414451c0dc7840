/* SPDX-License-Identifier: MIT */
/*
 * Starts from weights: PiSSA against a dense decomposition, OLoRA and orthogonal by their properties, the subtraction that is the
 * host's, every refusal, threads, faults.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/set.h"
#include "material.h"
#include "sets.h"
#include "spectral.h"

#define N    4
#define MOST (30 * 40)

/* The last has more ranks than outputs, the scale of the second is negative. */
static const shape shapes[N] = {{24, 30, 3, LRK_NO_GROUP, 0, 0.5},
                                {40, 24, 4, LRK_NO_GROUP, 0, -2.0},
                                {6, 9, 0, LRK_NO_GROUP, 1, 1.0},
                                {12, 3, 5, LRK_NO_GROUP, 1, 1.0}};

static fault host;
static lrk_context *context;
static lrk_adapters *set;
static float weights[N][MOST]; /* in `orientation` */
static int32_t orientation;
static int32_t refuses;
static lrk_weight_start_options options;

static int64_t columns(int32_t i)
{
    return orientation == LRK_WEIGHT_OUT_IN ? shapes[i].n_in : shapes[i].n_out;
}

static float *entry(float *weight, int32_t i, int64_t o, int64_t c)
{
    return &weight[orientation == LRK_WEIGHT_OUT_IN ? o * columns(i) + c : c * columns(i) + o];
}

static int32_t give_weight(void *user, int32_t module, lrk_weight *weight)
{
    ck_assert_ptr_eq(user, &host);
    weight->orientation = orientation;
    weight->data = weights[module];
    weight->ld = columns(module);
    return module == refuses;
}

/* Values that fall off by 0.6 with the direction, so that the leading ones are well apart. */
static void draw_weights(void)
{
    for (int32_t i = 0; i < N; i++) {
        int64_t n_in = shapes[i].n_in, n_out = shapes[i].n_out, n = n_in < n_out ? n_in : n_out;
        double values[40], *w = calloc((size_t)(n_in * n_out), sizeof *w);
        padded x, dy;
        for (int64_t j = 0; j < n; j++)
            values[j] = 3 * pow(0.6, (double)j);
        spectral_rows(values, n, n_in, n_out, 7 + (uint64_t)i, &x, &dy);
        spectral_gradient(&x, &dy, w, NULL);
        for (int64_t o = 0; o < n_out; o++)
            for (int64_t c = 0; c < n_in; c++)
                *entry(weights[i], i, o, c) = (float)w[o * n_in + c];
        padded_free(&x);
        padded_free(&dy);
        free(w);
    }
}

static void open_at(int32_t threads)
{
    fault_reset(&host);
    host.threads = threads;
    context = fault_context(&host);
    set = set_make(context, shapes, N, 0, 0);
    set_fill(set, 1);
    ck_assert_int_eq(lrk_weight_start_options_init(&options, sizeof options), LRK_OK);
    options.user = &host;
    options.weight = give_weight;
    options.seed = 3;
    refuses = -1;
    draw_weights();
}

static void close_all(void)
{
    lrk_adapters_destroy(set);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static void setup(void)
{
    orientation = LRK_WEIGHT_OUT_IN;
    open_at(1);
}

static void carry_out(void)
{
    lrk_plan *plan = NULL;
    ck_assert_int_eq(lrk_weight_start_plan(set, &options, 5, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
    for (int32_t i = 0; i < N; i++)
        ck_assert_int_eq(sets_rank(set, i), shapes[i].rank);
}

static double at(const lrk_tensor *t, int64_t row, int64_t c)
{
    return (double)t->data[row * t->cols + c];
}

/*
 * s B^T A is the best approximation of its rank: what is left of W has the singular values that come after. f32 factors err by
 * 2^-24 each, the merge by as much of W.
 */
START_TEST(pissa_takes_the_leading_singular_triples)
{
    orientation = _i == 0 ? LRK_WEIGHT_OUT_IN : LRK_WEIGHT_IN_OUT;
    draw_weights();
    carry_out();
    for (int32_t i = 0; i < N; i++) {
        int64_t n_in = shapes[i].n_in, n_out = shapes[i].n_out, n = n_in < n_out ? n_in : n_out,
                rank = shapes[i].rank;
        lrk_tensor a = set_tensor(set, i, LRK_TENSOR_A), b = set_tensor(set, i, LRK_TENSOR_B);
        double rest[MOST], values[40];
        if (rank > n) rank = n;
        for (int64_t j = 0; j < rank; j++) {
            double aa = 0, bb = 0, s = 3 * pow(0.6, (double)j) / fabs(shapes[i].scale);
            for (int64_t c = 0; c < n_in; c++)
                aa += at(&a, j, c) * at(&a, j, c);
            for (int64_t o = 0; o < n_out; o++)
                bb += at(&b, j, o) * at(&b, j, o);
            ck_assert_double_eq_tol(aa, s, 1e-5 * s);
            ck_assert_double_eq_tol(bb, s, 1e-5 * s);
        }
        float left[MOST];
        memcpy(left, weights[i], sizeof left);
        ck_assert_int_eq(lrk_adapters_merge(set, i, -1, orientation, left, columns(i)), LRK_OK);
        for (int64_t o = 0; o < n_out; o++)
            for (int64_t c = 0; c < n_in; c++)
                rest[o * n_in + c] = (double)*entry(left, i, o, c);
        spectral_svd(n_out, n_in, rest, values, NULL);
        for (int64_t j = 0; j < n - rank; j++)
            ck_assert_double_eq_tol(values[j], 3 * pow(0.6, (double)(rank + j)), 3 * 64 * 0x1p-24);
        ck_assert_double_lt(rank < n ? 0 : values[0], 3 * 64 * 0x1p-24);
    }
}
END_TEST

/* What the host subtracts comes back with the adapter. */
START_TEST(the_start_and_the_changed_weight_are_the_original)
{
    options.method = _i;
    carry_out();
    for (int32_t i = 0; i < N; i++) {
        float left[MOST];
        int64_t n = shapes[i].n_in * shapes[i].n_out;
        memcpy(left, weights[i], sizeof left);
        ck_assert_int_eq(lrk_adapters_merge(set, i, -1, orientation, left, columns(i)), LRK_OK);
        double changed = 0;
        for (int64_t k = 0; k < n; k++)
            changed = fmax(changed, fabs((double)left[k] - (double)weights[i][k]));
        ck_assert(shapes[i].rank == 0 || (changed > 0.01) == (_i != LRK_WEIGHT_START_ORTHOGONAL));
        if (_i == LRK_WEIGHT_START_ORTHOGONAL) ck_assert_double_lt(changed, 40 * 0x1p-24);
        ck_assert_int_eq(lrk_adapters_merge(set, i, 1, orientation, left, columns(i)), LRK_OK);
        for (int64_t k = 0; k < n; k++)
            ck_assert_double_eq_tol((double)left[k], (double)weights[i][k], 64 * 0x1p-24);
    }
}
END_TEST

/* B has orthonormal rows that span the first columns of W, A = B W. */
START_TEST(olora_takes_the_first_columns)
{
    orientation = _i == 0 ? LRK_WEIGHT_OUT_IN : LRK_WEIGHT_IN_OUT;
    options.method = LRK_WEIGHT_START_OLORA;
    draw_weights();
    carry_out();
    for (int32_t i = 0; i < 2; i++) {
        int64_t n_in = shapes[i].n_in, n_out = shapes[i].n_out, rank = shapes[i].rank;
        lrk_tensor a = set_tensor(set, i, LRK_TENSOR_A), b = set_tensor(set, i, LRK_TENSOR_B);
        for (int64_t j = 0; j < rank; j++) {
            for (int64_t k = 0; k < rank; k++) {
                double sum = 0;
                for (int64_t o = 0; o < n_out; o++)
                    sum += at(&b, j, o) * at(&b, k, o);
                ck_assert_double_eq_tol(sum, j == k, 1e-6);
            }
            for (int64_t c = 0; c < n_in; c++) {
                double sum = 0;
                for (int64_t o = 0; o < n_out; o++)
                    sum += at(&b, j, o) * (double)*entry(weights[i], i, o, c);
                ck_assert_double_eq_tol(at(&a, j, c), sum, 1e-5);
                if (c < j) ck_assert_double_eq_tol(sum, 0, 1e-5); /* R is upper triangular */
            }
            ck_assert_double_gt(at(&a, j, j), 0);
        }
    }
}
END_TEST

START_TEST(orthogonal_rows_are_no_zeros_and_need_no_weight)
{
    options.method = LRK_WEIGHT_START_ORTHOGONAL;
    options.weight = NULL;
    carry_out();
    for (int32_t i = 0; i < 2; i++) {
        lrk_tensor a = set_tensor(set, i, LRK_TENSOR_A), b = set_tensor(set, i, LRK_TENSOR_B);
        double aa = 0, bb = 0, r = (double)shapes[i].rank, of_a = ceil(r / 2), of_b = floor(r / 2);
        for (int64_t k = 0; k < a.rows * a.cols; k++)
            aa += (double)a.data[k] * (double)a.data[k];
        for (int64_t k = 0; k < b.rows * b.cols; k++)
            bb += (double)b.data[k] * (double)b.data[k];
        /* rotations keep the sum of squares: chi-squared over 100, five standard errors of sqrt(2 n) */
        double na = of_a * (double)shapes[i].n_in, nb = of_b * (double)shapes[i].n_out;
        ck_assert_double_lt(fabs(100 * aa - na), 5 * sqrt(2 * na));
        ck_assert_double_lt(fabs(100 * bb - nb), 5 * sqrt(2 * nb));
    }
}
END_TEST

static uint64_t digest_at(int32_t threads, int32_t method)
{
    uint64_t digest;
    lrk_plan *plan;
    open_at(threads);
    options.method = method;
    ck_assert_int_eq(lrk_weight_start_plan(set, &options, 5, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_digest(plan, &digest), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    close_all();
    return digest;
}

START_TEST(the_number_of_threads_changes_no_bit)
{
    close_all();
    uint64_t one = digest_at(1, _i);
    ck_assert_uint_eq(one, digest_at(3, _i));
    ck_assert_uint_ne(one, digest_at(1, (_i + 1) % 3));
    open_at(1);
}
END_TEST

static void refuse(lrk_status want, const char *words)
{
    lrk_plan *plan = (lrk_plan *)&host;
    int64_t live = host.live;
    sets_expect(context, lrk_weight_start_plan(set, &options, 0, &plan), want, words);
    ck_assert_ptr_null(plan);
    ck_assert_int_eq(host.live, live);
}

static int32_t give_wrong(void *user, int32_t module, lrk_weight *weight)
{
    int32_t which = *(int32_t *)user;
    weight->data = which == 0 ? NULL : weights[module];
    if (which == 1) weight->orientation = 7;
    if (which == 2) weight->ld = 5;
    return 0;
}

START_TEST(what_cannot_be_is_refused_by_name)
{
    const lrk_weight_start_options good = options;
    const char *words[] = {"module 'm0': its weight is NULL", "module 'm0': unknown orientation",
                           "module 'm0': ld of"};
    lrk_plan *plan;
    refuses = 1;
    refuse(LRK_ERR_HOST, "module 'm1': the host refused its weight");
    refuses = -1;
    weights[1][7] = NAN;
    refuse(LRK_ERR_NONFINITE, "module 'm1': its weight is not finite");
    weights[1][7] = 0;
    for (int32_t i = 0; i < 3; i++) {
        options.user = &i, options.weight = give_wrong;
        refuse(i == 2 ? LRK_ERR_SHAPE : LRK_ERR_ARGUMENT, words[i]);
    }
    options = good, options.weight = NULL;
    refuse(LRK_ERR_ARGUMENT, "weight must not be NULL");
    options = good, options.method = 3;
    refuse(LRK_ERR_ARGUMENT, "method");
    options = good, options.iterations = -1;
    refuse(LRK_ERR_ARGUMENT, "iterations must be >= 0");
    options = good, options.flags = 1;
    refuse(LRK_ERR_ARGUMENT, "flags");
    options = good;
    set->modules[1].scale = 0;
    refuse(LRK_ERR_ARGUMENT, "module 'm1': its scale is 0");
    set->modules[1].scale = 1;
    host.loop.fail_at = host.loop.calls + 3;
    refuse(LRK_ERR_HOST, "parallel_for");
    host.loop.fail_at = -1;
    sets_expect(context, lrk_weight_start_plan(set, &options, -1, &plan), LRK_ERR_ARGUMENT, "step >= 0");
    sets_expect(context, lrk_weight_start_plan(set, NULL, 0, &plan), LRK_ERR_ARGUMENT, "options must not");
    ck_assert_int_eq(lrk_weight_start_plan(NULL, &options, 0, &plan), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_weight_start_options_init(NULL, 8), LRK_ERR_ARGUMENT);
    lrk_adapters *none = set_make(context, &shapes[2], 1, 0, 0);
    sets_expect(context, lrk_weight_start_plan(none, &options, 0, &plan), LRK_ERR_BUDGET, "no rank to begin");
    lrk_adapters_destroy(none);
}
END_TEST

static lrk_plan *made;

static lrk_status act(void *user)
{
    (void)user;
    return lrk_weight_start_plan(set, &options, 0, &made);
}

static void undo(void *user)
{
    (void)user;
    ck_assert_int_eq(lrk_plan_abandon(made), LRK_OK);
    lrk_plan_destroy(made);
}

START_TEST(planning_unwinds_when_any_request_fails)
{
    options.method = _i;
    uint64_t digest = sets_digest(set);
    sets_each_fault(&host, act, undo, NULL);
    ck_assert_uint_eq(sets_digest(set), digest);
}
END_TEST

Suite *weight_start_suite(void);

Suite *weight_start_suite(void)
{
    Suite *suite = suite_create("weight_start");
    TCase *tests = tcase_create("weight_start");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, close_all);
    tcase_add_loop_test(tests, pissa_takes_the_leading_singular_triples, 0, 2);
    tcase_add_loop_test(tests, the_start_and_the_changed_weight_are_the_original, 0, 3);
    tcase_add_loop_test(tests, olora_takes_the_first_columns, 0, 2);
    tcase_add_test(tests, orthogonal_rows_are_no_zeros_and_need_no_weight);
    tcase_add_loop_test(tests, the_number_of_threads_changes_no_bit, 0, 3);
    tcase_add_test(tests, what_cannot_be_is_refused_by_name);
    tcase_add_loop_test(tests, planning_unwinds_when_any_request_fails, 0, 3);
    suite_add_tcase(suite, tests);
    return suite;
}
