/* SPDX-License-Identifier: MIT */
/*
 * The set's own gradients as a whole: zero, written, scale, norm.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "adapters/set.h"
#include "sets.h"

static fault host;
static lrk_context *context;
static lrk_module_spec specs[3];
static lrk_adapters *adapters;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    sets_three(specs);
    specs[1].n_in = 29; /* sums of more than a few lanes, and a rest */
    adapters = sets_create(context, specs, 3, NULL);
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                t.data[i] = sets_value((uint64_t)m + 1, which, i);
        }
}

static void teardown(void)
{
    lrk_adapters_destroy(adapters);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
}

/* Every gradient is factor * sets_value(), rounded once. */
static void expect_gradients(double factor)
{
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                ck_assert(t.data[i] == (float)(factor * sets_value((uint64_t)m + 1, which, i)));
        }
}

START_TEST(zero_clears_gradients_and_flags)
{
    adapters->modules[0].has_gradient = true;
    ck_assert_int_eq(lrk_adapters_zero_gradients(adapters), LRK_OK);
    expect_gradients(0.0);
    ck_assert(!adapters->modules[0].has_gradient);
}
END_TEST

START_TEST(written_sets_every_flag_and_changes_nothing_else)
{
    uint64_t digest = sets_digest(adapters);
    ck_assert_int_eq(lrk_adapters_gradients_written(adapters), LRK_OK);
    for (int m = 0; m < 3; m++)
        ck_assert(adapters->modules[m].has_gradient);
    expect_gradients(1.0);
    ck_assert_uint_eq(sets_digest(adapters), digest);
}
END_TEST

START_TEST(scale_multiplies_every_gradient_and_no_parameter)
{
    const double factors[] = {1.0 / 3, -2, 1, 0};
    uint64_t digest = sets_digest(adapters);
    int32_t finite = -1;
    ck_assert_int_eq(lrk_adapters_scale_gradients(adapters, factors[_i], &finite), LRK_OK);
    ck_assert_int_eq(finite, 1);
    expect_gradients(factors[_i]);
    ck_assert_uint_eq(sets_digest(adapters), digest);
}
END_TEST

START_TEST(scale_finds_the_one_value_that_is_not_finite)
{
    const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (int32_t m = 0; m < 2; m++)
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++)
            for (int64_t last = 0; last < 2; last++) {
                lrk_tensor t = sets_tensor(adapters, m, which);
                float *value = &t.data[last * (t.rows * t.cols - 1)], before = *value;
                int32_t finite = -1;
                *value = wrong[_i];
                ck_assert_int_eq(lrk_adapters_scale_gradients(adapters, 1, &finite), LRK_OK);
                ck_assert_int_eq(finite, 0);
                *value = before;
            }
}
END_TEST

START_TEST(scale_judges_the_results)
{
    int32_t finite = -1;
    sets_tensor(adapters, 0, LRK_TENSOR_GRAD_B).data[0] = 1e30f;
    ck_assert_int_eq(lrk_adapters_scale_gradients(adapters, 1e10, &finite), LRK_OK);
    ck_assert_int_eq(finite, 0);
    ck_assert_int_eq(lrk_adapters_zero_gradients(adapters), LRK_OK);
    ck_assert_int_eq(lrk_adapters_scale_gradients(adapters, 1, NULL), LRK_OK);
    ck_assert_int_eq(lrk_adapters_scale_gradients(adapters, 1, &finite), LRK_OK);
    ck_assert_int_eq(finite, 1);
}
END_TEST

START_TEST(scale_refuses_a_factor_that_is_not_finite)
{
    sets_expect(context, lrk_adapters_scale_gradients(adapters, NAN, NULL), LRK_ERR_ARGUMENT, "factor");
    sets_expect(context, lrk_adapters_scale_gradients(adapters, INFINITY, NULL), LRK_ERR_ARGUMENT, "factor");
    expect_gradients(1.0);
}
END_TEST

/*
 * The squares of floats are exact in double, and a sum of n of them in any order errs by at most (n - 1) DBL_EPSILON / 2
 * relative to first order; the reference, a plain sum of the same terms, by as much.
 */
START_TEST(norm2_is_the_sum_of_squares_of_a_and_b)
{
    double expected = 0, norm2 = -1, again = -2;
    int64_t n = 0;
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_B; which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++, n++)
                expected += (double)t.data[i] * t.data[i];
        }
    ck_assert_int_eq(lrk_adapters_gradient_norm2(adapters, &norm2), LRK_OK);
    ck_assert_double_le(fabs(norm2 - expected), (double)n * DBL_EPSILON * expected);
    ck_assert_double_gt(expected, 1);
    ck_assert_int_eq(lrk_adapters_gradient_norm2(adapters, &again), LRK_OK);
    ck_assert(memcmp(&norm2, &again, sizeof norm2) == 0);
    sets_tensor(adapters, 0, LRK_TENSOR_GRAD_GATES).data[0] = 1e9f; /* not counted */
    ck_assert_int_eq(lrk_adapters_gradient_norm2(adapters, &again), LRK_OK);
    ck_assert(memcmp(&norm2, &again, sizeof norm2) == 0);
}
END_TEST

START_TEST(norm2_counts_every_element_once)
{
    ck_assert_int_eq(lrk_adapters_zero_gradients(adapters), LRK_OK);
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_B; which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++) {
                double norm2;
                t.data[i] = 1.5f;
                ck_assert_int_eq(lrk_adapters_gradient_norm2(adapters, &norm2), LRK_OK);
                ck_assert_double_eq(norm2, 2.25);
                t.data[i] = 0;
            }
        }
}
END_TEST

START_TEST(norm2_propagates_nan_and_infinity)
{
    double norm2;
    sets_tensor(adapters, 1, LRK_TENSOR_GRAD_A).data[3] = INFINITY;
    ck_assert_int_eq(lrk_adapters_gradient_norm2(adapters, &norm2), LRK_OK);
    ck_assert(isinf(norm2));
    sets_tensor(adapters, 0, LRK_TENSOR_GRAD_B).data[1] = NAN;
    ck_assert_int_eq(lrk_adapters_gradient_norm2(adapters, &norm2), LRK_OK);
    ck_assert(isnan(norm2));
    sets_expect(context, lrk_adapters_gradient_norm2(adapters, NULL), LRK_ERR_ARGUMENT, "NULL");
}
END_TEST

START_TEST(sets_without_gradients_and_no_set_are_refused)
{
    lrk_adapters_options options;
    double norm2;
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.flags = LRK_ADAPTERS_INFERENCE;
    lrk_adapters *set = sets_create(context, specs, 3, &options);
    sets_expect(context, lrk_adapters_zero_gradients(set), LRK_ERR_UNSUPPORTED, "inference");
    sets_expect(context, lrk_adapters_gradients_written(set), LRK_ERR_UNSUPPORTED, "inference");
    sets_expect(context, lrk_adapters_scale_gradients(set, 1, NULL), LRK_ERR_UNSUPPORTED, "inference");
    sets_expect(context, lrk_adapters_gradient_norm2(set, &norm2), LRK_ERR_UNSUPPORTED, "inference");
    ck_assert(!set->modules[0].has_gradient);
    lrk_adapters_destroy(set);
    ck_assert_int_eq(lrk_adapters_zero_gradients(NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_adapters_gradients_written(NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_adapters_scale_gradients(NULL, 1, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_adapters_gradient_norm2(NULL, &norm2), LRK_ERR_ARGUMENT);
}
END_TEST

Suite *gradients_suite(void);

Suite *gradients_suite(void)
{
    Suite *suite = suite_create("gradients");
    TCase *tcase = tcase_create("gradients");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, zero_clears_gradients_and_flags);
    tcase_add_test(tcase, written_sets_every_flag_and_changes_nothing_else);
    tcase_add_loop_test(tcase, scale_multiplies_every_gradient_and_no_parameter, 0, 4);
    tcase_add_loop_test(tcase, scale_finds_the_one_value_that_is_not_finite, 0, 3);
    tcase_add_test(tcase, scale_judges_the_results);
    tcase_add_test(tcase, scale_refuses_a_factor_that_is_not_finite);
    tcase_add_test(tcase, norm2_is_the_sum_of_squares_of_a_and_b);
    tcase_add_test(tcase, norm2_counts_every_element_once);
    tcase_add_test(tcase, norm2_propagates_nan_and_infinity);
    tcase_add_test(tcase, sets_without_gradients_and_no_set_are_refused);
    suite_add_tcase(suite, tcase);
    return suite;
}
