/* SPDX-License-Identifier: MIT */
/*
 * TwoNN on manifolds of known dimension and against a naive estimate, what it refuses; GeLoRA's ranks, floors, caps and plan.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "material.h"
#include "sets.h"

#define POINTS 1200
#define WIDTH  13

static fault host;
static lrk_context *context;
static float *points; /* [POINTS x WIDTH] */

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    points = calloc((size_t)POINTS * WIDTH, sizeof *points);
}

static void teardown(void)
{
    free(points);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

/* Uniform in a cube of k dimensions, mapped into WIDTH by a random matrix: a plane that lies askew. */
static void fill_cube(int64_t n, int64_t k, uint64_t seed)
{
    float map[WIDTH * WIDTH];
    random_floats(map, k * WIDTH, 99);
    for (int64_t i = 0; i < n; i++) {
        double u[WIDTH];
        for (int64_t j = 0; j < k; j++)
            u[j] = random_unit(&seed);
        for (int64_t c = 0; c < WIDTH; c++) {
            double sum = 3;
            for (int64_t j = 0; j < k; j++)
                sum += u[j] * (double)map[j * WIDTH + c];
            points[i * WIDTH + c] = (float)sum;
        }
    }
}

static lrk_twonn_options options_of(int32_t estimate)
{
    lrk_twonn_options options;
    ck_assert_int_eq(lrk_twonn_options_init(&options, sizeof options), LRK_OK);
    ck_assert_double_eq(options.discard, 0.1);
    options.estimate = estimate;
    return options;
}

static lrk_twonn_info run(int64_t n, const lrk_twonn_options *options)
{
    lrk_twonn_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_intrinsic_dimension(context, points, n, WIDTH, WIDTH, options, &info), LRK_OK);
    return info;
}

/*
 * d / sqrt(N) is the standard error of the likelihood; five of them, and for a cube's boundary, which has too few neighbours on
 * its far side, 3 % a dimension. The line's error is of the same size.
 */
START_TEST(the_dimension_of_a_cube_is_found_wherever_it_lies)
{
    for (int64_t k = 1; k <= 5; k += 2) {
        fill_cube(POINTS, k, 7);
        for (int32_t e = LRK_TWONN_FIT; e <= LRK_TWONN_UNBIASED; e++) {
            lrk_twonn_options options = options_of(e);
            lrk_twonn_info info = run(POINTS, &options);
            double most = (double)k * (5 / sqrt(POINTS) + 0.03 * (double)k);
            ck_assert_msg(fabs(info.dimension - (double)k) < most, "%lld dimensions: %g by %d", (long long)k,
                          info.dimension, (int)e);
            ck_assert_int_ge(info.points, POINTS - 5); /* on a line two may round to one */
            ck_assert_int_eq(info.used,
                             e == LRK_TWONN_FIT ? (int64_t)(0.9 * (double)info.points) : info.points);
        }
    }
}
END_TEST

static int ascending(const void *one, const void *two)
{
    double a = *(const double *)one, b = *(const double *)two;
    return (a > b) - (a < b);
}

/* Every pair, every ratio, in double; duplicates are found pair by pair. */
static int64_t naive_ratios(int64_t n, double *ratios)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        double first = INFINITY, second = INFINITY;
        bool is_copy = false;
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            bool copy_of_earlier = false;
            for (int64_t c = 0; c < WIDTH; c++)
                sum += pow((double)points[i * WIDTH + c] - (double)points[j * WIDTH + c], 2);
            if (j < i && sum == 0) is_copy = true;
            for (int64_t l = 0; l < j; l++)
                copy_of_earlier |= memcmp(points + l * WIDTH, points + j * WIDTH, WIDTH * sizeof(float)) == 0;
            if (sum == 0 || copy_of_earlier) continue;
            sum = sqrt(sum);
            if (sum < first)
                second = first, first = sum;
            else if (sum < second)
                second = sum;
        }
        if (!is_copy) ratios[kept++] = second / first;
    }
    return kept;
}

START_TEST(estimates_are_those_of_the_formulas_and_equal_points_count_once)
{
    enum { N = 60 };
    double ratios[N], sum = 0, xx = 0, xy = 0;
    fill_cube(N, 4, 3);
    memcpy(points + 50 * WIDTH, points + 3 * WIDTH, WIDTH * sizeof *points);
    memcpy(points + 7 * WIDTH, points + 3 * WIDTH, WIDTH * sizeof *points);
    int64_t n = naive_ratios(N, ratios);
    ck_assert_int_eq(n, N - 2);
    qsort(ratios, (size_t)n, sizeof *ratios, ascending);
    for (int64_t i = 0; i < n; i++)
        sum += log(ratios[i]);
    lrk_twonn_options options = options_of(LRK_TWONN_MLE);
    ck_assert_double_eq_tol(run(N, &options).dimension, (double)n / sum, 1e-10);
    options.estimate = LRK_TWONN_UNBIASED;
    ck_assert_double_eq_tol(run(N, &options).dimension, (double)(n - 1) / sum, 1e-10);
    options.estimate = LRK_TWONN_FIT;
    options.discard = 0.25;
    for (int64_t i = 0; i < 43; i++) { /* 0.75 of 58 */
        double x = log(ratios[i]), y = -log(1 - (double)(i + 1) / (double)n);
        xx += x * x, xy += x * y;
    }
    ck_assert_double_eq_tol(run(N, &options).dimension, xy / xx, 1e-10);
    ck_assert_int_eq(run(N, &options).used, 43);
    ck_assert_int_eq(run(N, &options).points, n);
    options.discard = 0;
    ck_assert_int_eq(run(N, &options).used, n - 1);
}
END_TEST

/* Neither the order of points nor threads; scaling by a power of two changes none either. */
START_TEST(order_threads_and_scale_change_no_bit)
{
    fill_cube(300, 3, 5);
    double one = run(300, NULL).dimension;
    for (int64_t c = 0; c < WIDTH; c++) {
        float held = points[c];
        points[c] = points[200 * WIDTH + c];
        points[200 * WIDTH + c] = held;
    }
    ck_assert_double_eq(run(300, NULL).dimension, one);
    for (int64_t i = 0; i < 300 * WIDTH; i++)
        points[i] *= 8;
    ck_assert_double_eq(run(300, NULL).dimension, one);
    lrk_context_destroy(context);
    host.threads = 4;
    context = fault_context(&host);
    ck_assert_double_eq(run(300, NULL).dimension, one);
}
END_TEST

static void refuse(int64_t n, const lrk_twonn_options *options, lrk_status want, const char *words)
{
    lrk_twonn_info info = {.struct_size = sizeof info, .dimension = 77};
    sets_expect(context, lrk_intrinsic_dimension(context, points, n, WIDTH, WIDTH, options, &info), want,
                words);
    ck_assert_double_eq(info.dimension, 77);
}

START_TEST(points_without_a_dimension_are_refused_with_the_reason)
{
    refuse(50, NULL, LRK_ERR_ARGUMENT, "1 points differ"); /* all 0 */
    fill_cube(2, 3, 5);
    refuse(2, NULL, LRK_ERR_ARGUMENT, "2 points differ; two neighbours each take 3");
    memcpy(points + 2 * WIDTH, points, 2 * WIDTH * sizeof *points);
    refuse(4, NULL, LRK_ERR_ARGUMENT, "2 points differ");
    memset(points, 0, 4 * WIDTH * sizeof *points);
    for (int i = 0; i < 4; i++)
        points[i * WIDTH + i] = 1; /* a simplex: all distances are one */
    for (int32_t e = LRK_TWONN_FIT; e <= LRK_TWONN_UNBIASED; e++) {
        lrk_twonn_options options = options_of(e);
        refuse(4, &options, LRK_ERR_ARGUMENT, "the dimension is not finite");
    }
    fill_cube(20, 3, 5);
    lrk_twonn_options options = options_of(LRK_TWONN_FIT);
    options.discard = 0.99;
    refuse(20, &options, LRK_ERR_ARGUMENT, "discard leaves none");
    points[4 * WIDTH + 2] = NAN;
    refuse(20, NULL, LRK_ERR_NONFINITE, "point 4 is not finite");
    points[4 * WIDTH + 2] = INFINITY;
    refuse(20, NULL, LRK_ERR_NONFINITE, "point 4 is not finite");
}
END_TEST

START_TEST(wrong_arguments_are_refused)
{
    lrk_twonn_info info = {.struct_size = sizeof info};
    lrk_twonn_options options = options_of(3);
    fill_cube(20, 3, 5);
    refuse(20, &options, LRK_ERR_ARGUMENT, "estimate");
    options = options_of(0), options.discard = 1;
    refuse(20, &options, LRK_ERR_ARGUMENT, "discard must be in [0, 1)");
    options.discard = NAN;
    refuse(20, &options, LRK_ERR_ARGUMENT, "discard must be in [0, 1)");
    options = options_of(0), options.flags = 1;
    refuse(20, &options, LRK_ERR_ARGUMENT, "flags");
    refuse(0, NULL, LRK_ERR_ARGUMENT, "n or width < 1");
    sets_expect(context, lrk_intrinsic_dimension(context, points, 20, WIDTH, WIDTH - 1, NULL, &info),
                LRK_ERR_ARGUMENT, "ld < width");
    sets_expect(context, lrk_intrinsic_dimension(context, NULL, 20, WIDTH, WIDTH, NULL, &info),
                LRK_ERR_ARGUMENT, "points or info is NULL");
    sets_expect(context, lrk_intrinsic_dimension(context, points, INT64_MAX / 4, WIDTH, WIDTH, NULL, &info),
                LRK_ERR_SHAPE, "overflows");
    ck_assert_int_eq(lrk_intrinsic_dimension(NULL, points, 20, WIDTH, WIDTH, NULL, &info), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_twonn_options_init(NULL, 8), LRK_ERR_ARGUMENT);
    host.loop.fail_at = host.loop.calls;
    refuse(20, NULL, LRK_ERR_HOST, "parallel_for");
    host.loop.fail_at = -1;
}
END_TEST

/* ---- ranks --------------------------------------------------------------------------------------------------------- */

static const shape shapes[4] = {{5, 4, 2, LRK_NO_GROUP, 0, 0.5},
                                {5, 4, 2, LRK_NO_GROUP, 1, 0.5},
                                {6, 3, 0, LRK_NO_GROUP, 1, 1.0},
                                {6, 3, 1, LRK_NO_GROUP, 2, 1.0}};
static const double dimensions[4] = {3.4, 5.6, 5.4, 12.49};

static lrk_status act_plan(void *user)
{
    lrk_adapters *set = ((void **)user)[0];
    return lrk_gelora_plan(set, dimensions, 4, NULL, 3, (lrk_plan **)user + 1);
}

static void undo_plan(void *user)
{
    lrk_plan *plan = ((void **)user)[1];
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
}

/* Rounded to 3, 6, 5, 12: 4 ranks, 1 and 8. */
START_TEST(stages_get_what_the_dimension_grows_by_and_one)
{
    lrk_adapters *set = set_make(context, shapes, 4, 0, 0);
    lrk_plan *plan;
    const lrk_limit limits[] = {{sizeof(lrk_limit), 0, "m3", 0, 5},
                                {sizeof(lrk_limit), 0, "m1", 3, LRK_NO_CAP}};
    lrk_gelora_options options;
    ck_assert_int_eq(lrk_gelora_options_init(&options, sizeof options), LRK_OK);
    void *user[2] = {set, NULL};
    sets_each_fault(&host, act_plan, undo_plan, user);
    for (int i = 0; i < 2; i++) {
        options.limits = i == 0 ? NULL : limits;
        options.n_limits = i == 0 ? 0 : 2;
        ck_assert_int_eq(lrk_gelora_plan(set, dimensions, 4, &options, 3, &plan), LRK_OK);
        ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
        ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
        lrk_plan_destroy(plan);
        ck_assert_int_eq(sets_rank(set, 0), 4);
        ck_assert_int_eq(sets_rank(set, 1), i == 0 ? 1 : 3);
        ck_assert_int_eq(sets_rank(set, 2), 1);
        ck_assert_int_eq(sets_rank(set, 3), i == 0 ? 8 : 5);
    }
    lrk_tensor a = set_tensor(set, 0, LRK_TENSOR_A), b = set_tensor(set, 0, LRK_TENSOR_B);
    for (int i = 0; i < 20; i++)
        ck_assert(a.data[i] != 0 && fabs((double)a.data[i]) <= 1 / sqrt(5));
    for (int i = 0; i < 16; i++)
        ck_assert_float_eq(b.data[i], 0);
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(set, 0, &info), LRK_OK);
    ck_assert_double_eq(info.scale, 0.5); /* alpha over r */
    lrk_adapters_destroy(set);
}
END_TEST

START_TEST(plans_that_cannot_be_are_refused)
{
    lrk_adapters *set = set_make(context, shapes, 4, 0, 0);
    lrk_plan *plan = (lrk_plan *)&host;
    lrk_gelora_options options;
    const lrk_limit none = {sizeof none, 0, "m?", 0, 0}, nothing = {sizeof nothing, 0, "x", 0, 0};
    double bad[4] = {1, 2, NAN, 3};
    lrk_gelora_options_init(&options, sizeof options);
    sets_expect(context, lrk_gelora_plan(set, dimensions, 3, NULL, 0, &plan), LRK_ERR_ARGUMENT,
                "module 'm3' is of stage 2");
    ck_assert_ptr_null(plan);
    sets_expect(context, lrk_gelora_plan(set, bad, 4, NULL, 0, &plan), LRK_ERR_ARGUMENT,
                "dimension 2 is nan");
    bad[2] = -1;
    sets_expect(context, lrk_gelora_plan(set, bad, 4, NULL, 0, &plan), LRK_ERR_ARGUMENT, "dimension 2 is -1");
    sets_expect(context, lrk_gelora_plan(set, NULL, 4, NULL, 0, &plan), LRK_ERR_ARGUMENT,
                "dimensions must not");
    sets_expect(context, lrk_gelora_plan(set, dimensions, 4, NULL, -1, &plan), LRK_ERR_ARGUMENT, "step >= 0");
    sets_expect(context, lrk_gelora_plan(set, dimensions, 4, NULL, 0, NULL), LRK_ERR_ARGUMENT,
                "must not be NULL");
    options.limits = &none, options.n_limits = 1;
    sets_expect(context, lrk_gelora_plan(set, dimensions, 4, &options, 0, &plan), LRK_ERR_BUDGET,
                "no rank at all");
    options.limits = &nothing;
    sets_expect(context, lrk_gelora_plan(set, dimensions, 4, &options, 0, &plan), LRK_ERR_NOT_FOUND,
                "limit 'x'");
    options.flags = 1;
    sets_expect(context, lrk_gelora_plan(set, dimensions, 4, &options, 0, &plan), LRK_ERR_ARGUMENT, "flags");
    ck_assert_int_eq(lrk_gelora_plan(NULL, dimensions, 4, NULL, 0, &plan), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_gelora_options_init(NULL, 8), LRK_ERR_ARGUMENT);
    lrk_adapters_destroy(set);
}
END_TEST

Suite *gelora_suite(void);

Suite *gelora_suite(void)
{
    Suite *suite = suite_create("gelora");
    TCase *tests = tcase_create("gelora");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_dimension_of_a_cube_is_found_wherever_it_lies);
    tcase_add_test(tests, estimates_are_those_of_the_formulas_and_equal_points_count_once);
    tcase_add_test(tests, order_threads_and_scale_change_no_bit);
    tcase_add_test(tests, points_without_a_dimension_are_refused_with_the_reason);
    tcase_add_test(tests, wrong_arguments_are_refused);
    tcase_add_test(tests, stages_get_what_the_dimension_grows_by_and_one);
    tcase_add_test(tests, plans_that_cannot_be_are_refused);
    suite_add_tcase(suite, tests);
    return suite;
}
