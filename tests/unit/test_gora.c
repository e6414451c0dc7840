/* SPDX-License-Identifier: MIT */
/*
 * GoRA against a transcription of its formulas on dense gradients, in double with the normal equations; what is refused.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "adapters/sketch.h"
#include "material.h"
#include "sets.h"
#include "sketch_rig.h"
#include "spectral.h"

#define N    3
#define K    6
#define MOST (15 * 90)

/* The weights of the last are small, so that it falls to its least rank; the second is large, so that its ranks cost more. */
static const shape shapes[N] = {
    {20, 16, 2, LRK_NO_GROUP, 0, 0.5}, {15, 90, 3, LRK_NO_GROUP, 1, -2.0}, {12, 20, 4, LRK_NO_GROUP, 1, 1.0}};
static const double spectra[N][K] = {{8, 7, 5, 3, 2, 1}, {3, 2, 1, 1, 0.5, 0.2}, {1, 1, 0.5, 0.2, 0.1, 0.1}};
static const double sizes[N] = {2, 1, 0.1};

static fault host;
static lrk_context *context;
static lrk_adapters *set;
static lrk_sketch *sketch;
static padded x[N], dy[N];
static double gradients[N][MOST];
static float weights[N][MOST]; /* in `orientation` */
static int32_t orientation, refuses;
static lrk_gora_options options;

static double weight_at(int32_t i, int64_t o, int64_t c)
{
    bool t = orientation == LRK_WEIGHT_IN_OUT;
    return (double)weights[i][t ? c * shapes[i].n_out + o : o * shapes[i].n_in + c];
}

static int32_t give_weight(void *user, int32_t module, lrk_weight *weight)
{
    ck_assert_ptr_eq(user, &host);
    weight->orientation = orientation;
    weight->data = weights[module];
    return module == refuses;
}

static void feed(int32_t i)
{
    ck_assert_int_eq(sketch_feed_one(set, sketch, i, &x[i], &dy[i]), LRK_OK);
    spectral_gradient(&x[i], &dy[i], gradients[i], NULL);
}

static void setup(void)
{
    lrk_sketch_options o;
    fault_reset(&host);
    context = fault_context(&host);
    set = set_make(context, shapes, N, 0, 0);
    set_fill(set, 1);
    lrk_sketch_options_init(&o, sizeof o);
    o.directions = K;
    o.samples = 61; /* factored whole */
    sketch = sketch_make(set, &o);
    memset(gradients, 0, sizeof gradients);
    for (int32_t i = 0; i < N; i++) {
        spectral_rows(spectra[i], K, shapes[i].n_in, shapes[i].n_out, 3 + (uint64_t)i, &x[i], &dy[i]);
        feed(i);
        for (int64_t k = 0; k < MOST; k++)
            weights[i][k] = (float)(sizes[i] * sin(1.7 * (double)(k + 31 * i) * (double)(k % 7 + 1)));
    }
    orientation = LRK_WEIGHT_OUT_IN;
    refuses = -1;
    ck_assert_int_eq(lrk_gora_options_init(&options, sizeof options), LRK_OK);
    options.user = &host;
    options.weight = give_weight;
}

static void teardown(void)
{
    for (int i = 0; i < N; i++) {
        padded_free(&x[i]);
        padded_free(&dy[i]);
    }
    lrk_sketch_destroy(sketch);
    lrk_adapters_destroy(set);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static void carry_out(void)
{
    lrk_plan *plan = NULL;
    ck_assert_int_eq(lrk_gora_plan(sketch, &options, 4, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
}

/* ---- the transcription --------------------------------------------------------------------------------------------- */

static double importance(int32_t i)
{
    double sum = 0;
    for (int64_t o = 0; o < shapes[i].n_out; o++)
        for (int64_t c = 0; c < shapes[i].n_in; c++)
            sum += fabs(weight_at(i, o, c) * gradients[i][o * shapes[i].n_in + c]);
    return sum / (double)(shapes[i].n_out * shapes[i].n_in);
}

static int64_t want_rank(int32_t i)
{
    double all = 0, budget = 0, r = (double)shapes[i].rank;
    for (int32_t m = 0; m < N; m++) {
        all += importance(m);
        budget += (double)shapes[m].rank * sqrt((double)(shapes[m].n_in + shapes[m].n_out));
    }
    double rank = round(budget * importance(i) / all / sqrt((double)(shapes[i].n_in + shapes[i].n_out)));
    if (rank < round(options.least * r)) rank = round(options.least * r);
    if (rank > round(options.most * r)) rank = round(options.most * r);
    return (int64_t)rank;
}

/* Solves m [r x r] z = y in place by Gauss and Jordan; m is positive definite. */
static void solve(int64_t r, double *m, double *y)
{
    for (int64_t p = 0; p < r; p++) {
        double pivot = m[p * r + p];
        for (int64_t c = 0; c < r; c++)
            m[p * r + c] /= pivot;
        y[p] /= pivot;
        for (int64_t l = 0; l < r; l++) {
            double factor = m[l * r + p];
            if (l == p) continue;
            for (int64_t c = 0; c < r; c++)
                m[l * r + c] -= factor * m[p * r + c];
            y[l] -= factor * y[p];
        }
    }
}

/* Column o of B. */
static void want_column(int32_t i, const lrk_tensor *a, int64_t o, double *column)
{
    int64_t r = a->rows, n_in = a->cols;
    double m[20 * 20];
    for (int64_t j = 0; j < r; j++) {
        column[j] = 0;
        for (int64_t c = 0; c < n_in; c++)
            column[j] += (double)a->data[j * n_in + c] * gradients[i][o * n_in + c];
        for (int64_t l = 0; l < r; l++) {
            m[j * r + l] = 0;
            for (int64_t c = 0; c < n_in; c++)
                m[j * r + l] += (double)a->data[j * n_in + c] * (double)a->data[l * n_in + c];
        }
    }
    solve(r, m, column);
    for (int64_t j = 0; j < r; j++)
        column[j] *=
            -options.descent * sqrt((double)n_in / (double)r) / (shapes[i].scale * (double)options.batches);
}

static void check_set(void)
{
    for (int32_t i = 0; i < N; i++) {
        lrk_tensor a = set_tensor(set, i, LRK_TENSOR_A), b = set_tensor(set, i, LRK_TENSOR_B);
        double column[20], most = 0;
        ck_assert_int_eq(a.rows, want_rank(i));
        for (int64_t k = 0; k < b.rows * b.cols; k++)
            most = fmax(most, fabs((double)b.data[k]));
        ck_assert_double_gt(most, 0);
        for (int64_t o = 0; o < shapes[i].n_out; o++) {
            want_column(i, &a, o, column);
            for (int64_t j = 0; j < a.rows; j++)
                ck_assert_double_eq_tol((double)b.data[j * b.cols + o], column[j], 2e-5 * most);
        }
    }
}

START_TEST(ranks_and_rows_are_those_of_the_formulas)
{
    options.descent = 0.3;
    options.batches = 4;
    options.most = 8;
    ck_assert_int_gt(want_rank(0), shapes[0].rank);
    ck_assert_int_lt(want_rank(0), shapes[0].n_out); /* capped by nothing */
    ck_assert_int_eq(want_rank(2), 2);               /* its least */
    carry_out();
    check_set();
}
END_TEST

START_TEST(weights_may_lie_the_other_way)
{
    orientation = LRK_WEIGHT_IN_OUT;
    options.most = 1.5;
    ck_assert_int_eq(want_rank(0), 3); /* its most */
    carry_out();
    check_set();
}
END_TEST

START_TEST(a_step_of_no_length_leaves_b_at_zero)
{
    options.descent = 0;
    set->modules[0].scale = 0;
    carry_out();
    for (int32_t i = 0; i < N; i++) {
        lrk_tensor b = set_tensor(set, i, LRK_TENSOR_B);
        for (int64_t k = 0; k < b.rows * b.cols; k++)
            ck_assert_float_eq(b.data[k], 0);
    }
}
END_TEST

START_TEST(limits_hold)
{
    const lrk_limit limits[] = {{sizeof(lrk_limit), 0, "m0", 0, 1}, {sizeof(lrk_limit), 0, "m2", 5, 9}};
    options.limits = limits;
    options.n_limits = 2;
    carry_out();
    ck_assert_int_eq(sets_rank(set, 0), 1);
    ck_assert_int_eq(sets_rank(set, 2), 5);
}
END_TEST

static void refuse(lrk_status want, const char *words)
{
    lrk_plan *plan = (lrk_plan *)&host;
    sets_expect(context, lrk_gora_plan(sketch, &options, 0, &plan), want, words);
    ck_assert_ptr_null(plan);
}

START_TEST(modules_without_a_gradient_are_refused_unless_they_may)
{
    ck_assert_int_eq(lrk_sketch_zero(sketch), LRK_OK);
    feed(0);
    feed(2);
    refuse(LRK_ERR_NO_GRADIENT, "module 'm1': its gradient is 0");
    set->modules[1].flags = LRK_MODULE_MAY_LACK_GRADIENT;
    carry_out();
    ck_assert_int_eq(sets_rank(set, 1), 2); /* half of 3, rounded */
    memset(weights, 0, sizeof weights);
    refuse(LRK_ERR_NO_GRADIENT, "the weights times their gradients are 0");
    set->modules[1].flags = 0;
}
END_TEST

START_TEST(what_is_wrong_is_refused)
{
    const lrk_gora_options good = options;
    lrk_plan *plan;
    options.descent = -1, refuse(LRK_ERR_ARGUMENT, "descent must be >= 0");
    options = good, options.descent = NAN, refuse(LRK_ERR_ARGUMENT, "descent must be >= 0");
    options = good, options.least = 5, refuse(LRK_ERR_ARGUMENT, "least must be in [0, most]");
    options = good, options.most = INFINITY, refuse(LRK_ERR_ARGUMENT, "most must be in [0, 1e6]");
    options = good, options.batches = 0, refuse(LRK_ERR_ARGUMENT, "batches must be >= 1");
    options = good, options.flags = 1, refuse(LRK_ERR_ARGUMENT, "flags must be 0");
    options = good, options.weight = NULL, refuse(LRK_ERR_ARGUMENT, "weight must not be NULL");
    options = good, refuses = 1, refuse(LRK_ERR_HOST, "module 'm1': the host refused its weight");
    refuses = -1, orientation = 9, refuse(LRK_ERR_ARGUMENT, "module 'm0': unknown orientation");
    orientation = LRK_WEIGHT_OUT_IN, weights[1][7] = NAN,
    refuse(LRK_ERR_NONFINITE, "'m1': its weight is not");
    weights[1][7] = 0, set->modules[2].scale = 0, refuse(LRK_ERR_ARGUMENT, "module 'm2': its scale is 0");
    set->modules[2].scale = 1, options.least = options.most = 0,
    refuse(LRK_ERR_BUDGET, "the caps leave no rank");
    options = good;
    lrk_pass *pass = sketch_pass(set, sketch, 8);
    refuse(LRK_ERR_BUSY, "an open pass feeds the sketch");
    lrk_pass_end(pass);
    sets_expect(context, lrk_gora_plan(sketch, &options, -1, &plan), LRK_ERR_ARGUMENT, "step >= 0");
    sets_expect(context, lrk_gora_plan(sketch, NULL, 0, &plan), LRK_ERR_ARGUMENT, "plan and options");
    sets_expect(context, lrk_gora_plan(sketch, &options, 0, NULL), LRK_ERR_ARGUMENT, "plan and options");
    ck_assert_int_eq(lrk_gora_plan(NULL, &options, 0, &plan), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_gora_options_init(NULL, 8), LRK_ERR_ARGUMENT);
}
END_TEST

static lrk_plan *made;

static lrk_status act_plan(void *user)
{
    (void)user;
    return lrk_gora_plan(sketch, &options, 0, &made);
}

static void undo_plan(void *user)
{
    (void)user;
    ck_assert_int_eq(lrk_plan_abandon(made), LRK_OK);
    lrk_plan_destroy(made);
}

START_TEST(everything_unwinds_when_any_request_fails)
{
    sets_each_fault(&host, act_plan, undo_plan, NULL);
}
END_TEST

Suite *gora_suite(void);

Suite *gora_suite(void)
{
    Suite *suite = suite_create("gora");
    TCase *tests = tcase_create("gora");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, ranks_and_rows_are_those_of_the_formulas);
    tcase_add_test(tests, weights_may_lie_the_other_way);
    tcase_add_test(tests, a_step_of_no_length_leaves_b_at_zero);
    tcase_add_test(tests, limits_hold);
    tcase_add_test(tests, modules_without_a_gradient_are_refused_unless_they_may);
    tcase_add_test(tests, what_is_wrong_is_refused);
    tcase_add_test(tests, everything_unwinds_when_any_request_fails);
    suite_add_tcase(suite, tests);
    return suite;
}
