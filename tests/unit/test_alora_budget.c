/* SPDX-License-Identifier: MIT */
/*
 * ALoRA's policy: budgets in ranks and in parameters, refilling, protection of newborn ranks, and how new ranks start.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "core/core.h"
#include "small_set.h"

static small_set s;
static lrk_alora_options options;

static void setup(void)
{
    memset(&s, 0, sizeof s);
    options = small_set_alora(2);
}

static void teardown(void)
{
    small_set_close(&s);
}

static void assert_plan(int32_t n_modules, const double *values, const char *expected)
{
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    small_set_assert_plan_of(&s, allocator, n_modules, values, expected);
    lrk_allocator_destroy(allocator);
}

/* ---- budget ---------------------------------------------------------------------------------------------------------------- */

START_TEST(refill_reaches_the_budget_and_not_more)
{
    const double values[] = {0.1, 0.2, 0.9, 0.8};
    small_set_open_ranks(&s, 3, (const int64_t[]){2, 1, 1});
    options.n_move = 1;
    options.budget = 9;
    assert_plan(3, values, "0 .+1 .");
    options.flags = LRK_ALORA_REFILL;
    assert_plan(3, values, "0 .+3 .+3");
}
END_TEST

START_TEST(where_nothing_is_pruned_refill_gives_to_all)
{
    const double values[] = {0.1, 0.9, 0.2, 0.8};
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 2});
    options.budget = 7;
    options.flags = LRK_ALORA_REFILL;
    options.no_receiver = LRK_NO_RECEIVER_KEEP;
    assert_plan(2, values, ".+2 .+1");
}
END_TEST

START_TEST(a_budget_in_parameters_gives_out_what_was_freed_as_far_as_ranks_fit)
{
    const small_module modules[] = {{10, 10, 2, 0, 0}, {10, 3, 1, 0, 0}, {5, 3, 1, 0, 0}};
    const double values[] = {0.1, 0.2, 0.9, 0.8};
    small_set_open(&s, modules, 3, NULL);
    options.budget_unit = LRK_BUDGET_PARAMETERS;
    options.n_move = 1;
    assert_plan(3, values, "0 .+1 ."); /* 20 freed: 13, then 8 does not fit the 7 left */
    options.n_move = 2;
    assert_plan(3, values, "0,1 .+2 .+1"); /* 40: 13, 8, 13 leave 6 */
}
END_TEST

START_TEST(a_budget_in_parameters_refills_from_what_is_left)
{
    const small_module modules[] = {{10, 10, 2, 0, 0}, {10, 3, 1, 0, 0}, {5, 3, 1, 0, 0}};
    const double values[] = {0.1, 0.2, 0.9, 0.8};
    small_set_open(&s, modules, 3, NULL);
    options.budget_unit = LRK_BUDGET_PARAMETERS;
    options.n_move = 1;
    options.flags = LRK_ALORA_REFILL;
    options.budget = 62; /* 61 are held: 20 freed + 1 unused = 13 + 8 */
    assert_plan(3, values, "0 .+1 .+1");
}
END_TEST

START_TEST(a_huge_budget_does_not_take_a_turn_per_rank)
{
    const double values[] = {0.1, 0.2, 0.9, 0.8};
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "*", .floor = 0, .cap = 1000};
    small_set_open_ranks(&s, 3, (const int64_t[]){2, 1, 1});
    options.n_move = 1;
    options.budget = INT64_MAX / 4;
    options.flags = LRK_ALORA_REFILL;
    options.limits = &limit;
    options.n_limits = 1;
    assert_plan(3, values, "0 .+999 .+999");
}
END_TEST

/* A second allocator of larger budget grows the set past the first one's. */
static void outgrow(int64_t budget)
{
    lrk_alora_options large = small_set_alora(1);
    large.flags = LRK_ALORA_REFILL;
    large.budget = budget;
    lrk_allocator *other = small_set_allocator(&s, &large);
    small_set_move(&s, other, 2, (const double[]){0.1, 0.2, 0.9}, "0 .+3");
    lrk_allocator_destroy(other);
}

START_TEST(a_set_that_outgrew_the_budget_is_pruned_back_or_refused)
{
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 1});
    options.n_move = 3;
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    options.n_move = 1;
    lrk_allocator *slow = small_set_allocator(&s, &options);
    outgrow(5);
    const double values[] = {0.9, 0.1, 0.2, 0.3, 0.4};
    small_set_assert_plan_of(&s, allocator, 2, values, ".+1 0,1,2");
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = (lrk_plan *)&s;
    small_set_assert_failed(s.context, lrk_allocator_plan(slow, scores, 0, &plan), LRK_ERR_BUDGET,
                            "keeps takes 4 of a budget of 3");
    ck_assert_ptr_null(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    lrk_allocator_destroy(slow);
}
END_TEST

/* ---- protection ------------------------------------------------------------------------------------------------------------ */

START_TEST(newborn_ranks_are_safe_for_the_rounds_asked_for)
{
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 2, 2});
    options.n_move = 1;
    options.protect_rounds = 2;
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    small_set_move(&s, allocator, 3, (const double[]){0.1, 0.5, 0.5, 0.9, 0.9, 0.6, 0.6}, "0 .+1 .");
    /* m1's rank 2 is new: the lowest, and safe twice; each time the next one goes */
    small_set_move(&s, allocator, 3, (const double[]){0.5, 0.5, 0.9, 0.9, 0.0, 0.2, 0.7}, ". .+1 0");
    small_set_move(&s, allocator, 3, (const double[]){0.3, 0.9, 0.9, 0.9, 0.0, 0.0, 0.7}, "0 . .+1");
    /* m1's rank 2 is old now; its rank 3 and m2's rank 1 are not */
    small_set_assert_plan_of(&s, allocator, 3, (const double[]){0.9, 0.9, 0.9, 0.0, 0.0, 0.7, 0.0},
                             ".+1 2 .");
    small_set_assert_plan_of(&s, allocator, 3, (const double[]){0.9, 0.9, 0.9, 0.8, 0.0, 0.7, 0.0},
                             ".+1 . 0");
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(initial_ranks_are_not_newborn)
{
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 1});
    options.n_move = 1;
    options.protect_rounds = INT32_MAX;
    assert_plan(2, (const double[]){0.1, 0.2, 0.9}, "0 .+1");
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    small_set_move(&s, allocator, 2, (const double[]){0.1, 0.2, 0.9}, "0 .+1");
    int64_t n = -1;
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
    ck_assert_int_eq(n, 1);
    small_set_move(&s, allocator, 2, (const double[]){0.2, 0.9, 0.0}, "0 .+1");
    small_set_move(&s, allocator, 2, (const double[]){0.9, 0.0, 0.0}, ".+1 0");
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
    ck_assert_int_eq(n, 0); /* all that live are newborn for ever */
    small_set_assert_plan_of(&s, allocator, 2, (const double[]){0.3, 0.1, 0.2}, ". .");
    lrk_allocator_destroy(allocator);
}
END_TEST

/* ---- new ranks --------------------------------------------------------------------------------------------------------------- */

START_TEST(new_ranks_start_as_asked_with_b_zero_and_gate_one)
{
    const double values[] = {0.1, 0.2, 0.9};
    for (int32_t init = LRK_INIT_KAIMING_UNIFORM; init <= LRK_INIT_GAUSSIAN; init++) {
        small_set_open_ranks(&s, 2, (const int64_t[]){2, 1});
        options.n_move = 2;
        options.new_rank_init = init;
        lrk_allocator *allocator = small_set_allocator(&s, &options);
        small_set_move(&s, allocator, 2, values, "0,1 .+2");
        lrk_tensor a = {.struct_size = sizeof a};
        lrk_tensor b = {.struct_size = sizeof b};
        lrk_tensor gates = {.struct_size = sizeof gates};
        const int64_t *births;
        int64_t n;
        ck_assert_int_eq(lrk_adapters_tensor(s.adapters, 1, LRK_TENSOR_A, &a), LRK_OK);
        ck_assert_int_eq(lrk_adapters_tensor(s.adapters, 1, LRK_TENSOR_B, &b), LRK_OK);
        ck_assert_int_eq(lrk_adapters_tensor(s.adapters, 1, LRK_TENSOR_GATES, &gates), LRK_OK);
        ck_assert_int_eq(lrk_adapters_ranks(s.adapters, 1, NULL, &births, &n), LRK_OK);
        float expected[4];
        lrki_stream stream =
            lrki_stream_make(1, LRKI_STREAM_INIT_A, 5, 0); /* identity of the second new rank */
        if (init == LRK_INIT_GAUSSIAN)
            lrki_stream_fill_normal(&stream, 0.5f, expected, 4);
        else
            lrki_stream_fill_uniform(&stream, 0.5f, expected, 4);
        ck_assert_mem_eq(a.data + 2 * 4, expected, sizeof expected);
        for (int i = 3; i < 9; i++)
            ck_assert_float_eq(b.data[i], 0);
        ck_assert_float_eq(gates.data[2], 1);
        ck_assert_int_eq(births[1], 7);
        ck_assert_int_eq(births[0], 0);
        lrk_allocator_destroy(allocator);
        if (init == LRK_INIT_KAIMING_UNIFORM) small_set_close(&s);
    }
}
END_TEST

Suite *alora_budget_suite(void);

Suite *alora_budget_suite(void)
{
    Suite *suite = suite_create("alora_budget");
    TCase *tests = tcase_create("alora_budget");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, refill_reaches_the_budget_and_not_more);
    tcase_add_test(tests, where_nothing_is_pruned_refill_gives_to_all);
    tcase_add_test(tests, a_budget_in_parameters_gives_out_what_was_freed_as_far_as_ranks_fit);
    tcase_add_test(tests, a_budget_in_parameters_refills_from_what_is_left);
    tcase_add_test(tests, a_huge_budget_does_not_take_a_turn_per_rank);
    tcase_add_test(tests, a_set_that_outgrew_the_budget_is_pruned_back_or_refused);
    tcase_add_test(tests, newborn_ranks_are_safe_for_the_rounds_asked_for);
    tcase_add_test(tests, initial_ranks_are_not_newborn);
    tcase_add_test(tests, new_ranks_start_as_asked_with_b_zero_and_gate_one);
    suite_add_tcase(suite, tests);
    return suite;
}
