/* SPDX-License-Identifier: MIT */
/*
 * Learning-rate schedules: values by hand at the corners and between, and the refusals.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "lorank/lorank.h"

/* A handful of double operations: each within half an ulp of its result, which is at most the peak here. */
static const double ROUNDING = 8 * DBL_EPSILON;

static lrk_lr_options options_of(int32_t kind, int64_t warmup, int64_t total)
{
    lrk_lr_options options;
    ck_assert_int_eq(lrk_lr_options_init(&options, sizeof options), LRK_OK);
    options.kind = kind;
    options.peak = 1;
    options.warmup_steps = warmup;
    options.total_steps = total;
    return options;
}

static double rate(const lrk_lr_options *options, int64_t step)
{
    double lr = -1;
    ck_assert_int_eq(lrk_learning_rate(options, step, &lr), LRK_OK);
    return lr;
}

START_TEST(defaults_are_linear_with_a_peak_of_one_in_ten_thousand)
{
    lrk_lr_options options;
    ck_assert_int_eq(lrk_lr_options_init(&options, sizeof options), LRK_OK);
    ck_assert_int_eq(options.kind, LRK_LR_LINEAR);
    options.total_steps = 4;
    ck_assert_double_eq(rate(&options, 0), 1e-4);
    ck_assert_double_eq_tol(rate(&options, 2), 5e-5, ROUNDING * 1e-4);
}
END_TEST

START_TEST(warmup_climbs_in_equal_steps_and_never_starts_at_zero)
{
    for (int32_t kind = LRK_LR_CONSTANT; kind <= LRK_LR_COSINE; kind++) {
        lrk_lr_options options = options_of(kind, 3, 10);
        ck_assert_double_eq(rate(&options, 0), 0.25);
        ck_assert_double_eq(rate(&options, 1), 0.5);
        ck_assert_double_eq(rate(&options, 2), 0.75);
        ck_assert_double_eq(rate(&options, 3), 1);
    }
}
END_TEST

START_TEST(linear_falls_to_its_final_ratio_and_stays)
{
    lrk_lr_options options = options_of(LRK_LR_LINEAR, 2, 12);
    options.final_ratio = 0.2;
    ck_assert_double_eq_tol(rate(&options, 7), 0.6, ROUNDING);
    ck_assert_double_eq_tol(rate(&options, 11), 1 - 0.8 * 0.9, ROUNDING);
    ck_assert_double_eq_tol(rate(&options, 12), 0.2, ROUNDING);
    ck_assert_double_eq(rate(&options, 13), rate(&options, 12));
    ck_assert_double_eq(rate(&options, INT64_MAX), rate(&options, 12));
}
END_TEST

START_TEST(cosine_is_half_way_down_in_the_middle)
{
    lrk_lr_options options = options_of(LRK_LR_COSINE, 0, 12);
    options.final_ratio = 0.1;
    ck_assert_double_eq(rate(&options, 0), 1);
    ck_assert_double_eq_tol(rate(&options, 6), 0.55, ROUNDING);
    ck_assert_double_eq_tol(rate(&options, 4), 0.1 + 0.9 * 0.75, ROUNDING); /* cos(pi / 3) = 1/2 */
    ck_assert_double_eq_tol(rate(&options, 12), 0.1, ROUNDING);
    ck_assert_double_eq(rate(&options, 99), rate(&options, 12));
}
END_TEST

START_TEST(constant_needs_no_total)
{
    lrk_lr_options options = options_of(LRK_LR_CONSTANT, 0, 0);
    ck_assert_double_eq(rate(&options, 0), 1);
    ck_assert_double_eq(rate(&options, 1000000), 1);
}
END_TEST

static void assert_refused(lrk_lr_options options)
{
    double lr = 3;
    ck_assert_int_eq(lrk_learning_rate(&options, 0, &lr), LRK_ERR_ARGUMENT);
    ck_assert_double_eq(lr, 3);
}

START_TEST(options_out_of_range_are_refused)
{
    const double bad_peaks[] = {0, -1, NAN, INFINITY};
    const double bad_ratios[] = {-0.1, 1.1, NAN};
    lrk_lr_options options = options_of(3, 0, 10);
    assert_refused(options);
    assert_refused(options_of(-1, 0, 10));
    assert_refused(options_of(LRK_LR_LINEAR, 0, 0));
    assert_refused(options_of(LRK_LR_LINEAR, 10, 10));
    assert_refused(options_of(LRK_LR_COSINE, -1, 10));
    for (int i = 0; i < 4; i++) {
        options = options_of(LRK_LR_LINEAR, 0, 10);
        options.peak = bad_peaks[i];
        assert_refused(options);
    }
    for (int i = 0; i < 3; i++) {
        options = options_of(LRK_LR_LINEAR, 0, 10);
        options.final_ratio = bad_ratios[i];
        assert_refused(options);
    }
    options = options_of(LRK_LR_LINEAR, 0, 10);
    options.flags = 1;
    assert_refused(options);
    options = options_of(LRK_LR_LINEAR, 0, 10);
    options.reserved = 1;
    assert_refused(options);
    options = options_of(LRK_LR_LINEAR, 0, 10);
    options.struct_size = 4;
    assert_refused(options);
}
END_TEST

START_TEST(bad_calls_are_refused)
{
    lrk_lr_options options = options_of(LRK_LR_LINEAR, 0, 10);
    double lr;
    ck_assert_int_eq(lrk_learning_rate(NULL, 0, &lr), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_learning_rate(&options, 0, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_learning_rate(&options, -1, &lr), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_lr_options_init(NULL, sizeof options), LRK_ERR_ARGUMENT);
}
END_TEST

Suite *learning_rate_suite(void);

Suite *learning_rate_suite(void)
{
    Suite *suite = suite_create("learning_rate");
    TCase *tests = tcase_create("learning_rate");
    tcase_add_test(tests, defaults_are_linear_with_a_peak_of_one_in_ten_thousand);
    tcase_add_test(tests, warmup_climbs_in_equal_steps_and_never_starts_at_zero);
    tcase_add_test(tests, linear_falls_to_its_final_ratio_and_stays);
    tcase_add_test(tests, cosine_is_half_way_down_in_the_middle);
    tcase_add_test(tests, constant_needs_no_total);
    tcase_add_test(tests, options_out_of_range_are_refused);
    tcase_add_test(tests, bad_calls_are_refused);
    suite_add_tcase(suite, tests);
    return suite;
}
