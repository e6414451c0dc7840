/* SPDX-License-Identifier: MIT */
/*
 * docs/worked-example.md, number by number.
 */
#include <check.h>
#include <math.h>

#include "small_set.h"

static lrk_plan_info info_of(const lrk_plan *plan)
{
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    return info;
}

START_TEST(one_round_moves_the_two_lowest_to_the_module_left_alone)
{
    const double values[] = {0.9, 0.1, 0.5, 0.4, 0.6, 0.8, 0.2, 0.7, 0.3};
    small_set s;
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 3, 3});
    lrk_alora_options options = small_set_alora(2);
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);

    small_set_assert_plan(plan, 3, "1 .+2 0");
    lrk_plan_info info = info_of(plan);
    ck_assert_str_eq(info.policy, "alora");
    ck_assert_double_eq(info.cut, 0.2);
    ck_assert_double_eq(info.cut_next, 0.3);
    ck_assert_int_eq(info.ranks_before, 9);
    ck_assert_int_eq(info.ranks_after, 9);
    ck_assert_int_eq(info.parameters_before, 63);
    ck_assert_int_eq(info.parameters_after, 63);

    lrk_plan_module part = {.struct_size = sizeof part};
    ck_assert_int_eq(lrk_plan_module_get(plan, 0, &part), LRK_OK);
    ck_assert_uint_eq(part.dropped_ids[0], 2);
    ck_assert_int_eq(part.kept[0], 0);
    ck_assert_int_eq(part.kept[1], 2);
    ck_assert_int_eq(lrk_plan_module_get(plan, 1, &part), LRK_OK);
    ck_assert_uint_eq(part.added_ids[0], 10);
    ck_assert_uint_eq(part.added_ids[1], 11);
    ck_assert_int_eq(lrk_plan_module_get(plan, 2, &part), LRK_OK);
    ck_assert_uint_eq(part.dropped_ids[0], 7);

    small_set_carry_out(plan, NULL, 0);
    ck_assert_int_eq(small_set_rank(&s, 0), 2);
    ck_assert_int_eq(small_set_rank(&s, 1), 5);
    ck_assert_int_eq(small_set_rank(&s, 2), 2);
    const uint64_t *identities;
    int64_t n;
    ck_assert_int_eq(lrk_adapters_ranks(s.adapters, 1, &identities, NULL, &n), LRK_OK);
    ck_assert_uint_eq(identities[3], 10);
    ck_assert_uint_eq(identities[4], 11);

    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    small_set_close(&s);
}
END_TEST

static void assert_four_modules(int64_t n_move, const char *expected, double cut, double cut_next)
{
    const double values[] = {0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08,
                             0.09, 0.10, 1.0,  0.8,  0.4,  0.6,  0.75, 0.65};
    small_set s;
    small_set_open_ranks(&s, 4, (const int64_t[]){10, 2, 2, 2});
    lrk_alora_options options = small_set_alora(n_move);
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_assert_plan(plan, 4, expected);
    ck_assert_double_eq(info_of(plan).cut, cut);
    ck_assert_double_eq(info_of(plan).cut_next, cut_next);
    ck_assert_int_eq(info_of(plan).ranks_after, 16);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    small_set_close(&s);
}

START_TEST(eight_ranks_over_three_modules_are_three_three_two)
{
    assert_four_modules(8, "0,1,2,3,4,5,6,7 .+3 .+2 .+3", 0.08, 0.09);
}
END_TEST

START_TEST(with_more_receivers_than_ranks_the_highest_means_get_one_each)
{
    assert_four_modules(2, "0,1 .+1 . .+1", 0.02, 0.03);
}
END_TEST

static void assert_two_modules(int32_t no_receiver, const char *expected, int64_t ranks_after)
{
    small_set s;
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 2});
    lrk_alora_options options = small_set_alora(2);
    options.no_receiver = no_receiver;
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    lrk_scores *scores = small_set_scores(&s, (const double[]){0.1, 0.9, 0.2, 0.8});
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_assert_plan(plan, 2, expected);
    ck_assert_int_eq(info_of(plan).ranks_after, ranks_after);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    small_set_close(&s);
}

START_TEST(without_receiver_the_total_shrinks)
{
    assert_two_modules(LRK_NO_RECEIVER_SHRINK, "0 0", 2);
}
END_TEST

START_TEST(without_receiver_all_can_be_kept)
{
    assert_two_modules(LRK_NO_RECEIVER_KEEP, ". .", 4);
}
END_TEST

START_TEST(refill_gives_out_what_the_round_before_left)
{
    small_set s;
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 2});
    lrk_alora_options options = small_set_alora(2);
    lrk_allocator *shrinking = small_set_allocator(&s, &options);
    options = small_set_alora(1);
    options.flags = LRK_ALORA_REFILL;
    lrk_allocator *refilling = small_set_allocator(&s, &options);

    lrk_scores *scores = small_set_scores(&s, (const double[]){0.1, 0.9, 0.2, 0.8});
    lrk_plan *plan = small_set_plan(shrinking, scores);
    small_set_carry_out(plan, NULL, 0);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);

    scores = small_set_scores(&s, (const double[]){0.9, 0.8});
    plan = small_set_plan(refilling, scores);
    small_set_assert_plan(plan, 2, ".+3 0");
    small_set_carry_out(plan, NULL, 0);
    ck_assert_int_eq(small_set_rank(&s, 0), 4);
    ck_assert_int_eq(small_set_rank(&s, 1), 0);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(shrinking);
    lrk_allocator_destroy(refilling);
    small_set_close(&s);
}
END_TEST

Suite *worked_example_suite(void);
Suite *worked_example_suite(void)
{
    Suite *suite = suite_create("worked_example");
    TCase *tests = tcase_create("worked_example");
    tcase_add_test(tests, one_round_moves_the_two_lowest_to_the_module_left_alone);
    tcase_add_test(tests, eight_ranks_over_three_modules_are_three_three_two);
    tcase_add_test(tests, with_more_receivers_than_ranks_the_highest_means_get_one_each);
    tcase_add_test(tests, without_receiver_the_total_shrinks);
    tcase_add_test(tests, without_receiver_all_can_be_kept);
    tcase_add_test(tests, refill_gives_out_what_the_round_before_left);
    suite_add_tcase(suite, tests);
    return suite;
}
