/* SPDX-License-Identifier: MIT */
/*
 * AdaLoRA's masking against a transcription: gates of the ranks below the budget become 0 and the ranks stay, until the last
 * round drops what it would mask; restores, failing memory, and the form that AdaLoRA trains.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy_rig.h"
#include "sets.h"

#define RANKS  12
#define ROUNDS 4
#define LAST   5

static small_set s;
static lrk_prune_options options;

static void setup(void)
{
    memset(&s, 0, sizeof s);
    ck_assert_int_eq(lrk_prune_options_init(&options, sizeof options), LRK_OK);
    options.flags = LRK_PRUNE_COME_BACK;
    options.n_rounds = ROUNDS;
    options.budget = LAST;
    small_set_open_ranks(&s, 3, (const int64_t[]){4, 4, 4});
}

static void teardown(void)
{
    small_set_close(&s);
}

static lrk_allocator *create_in(small_set *set)
{
    lrk_allocator *allocator = NULL;
    ck_assert_int_eq(lrk_allocator_create_prune(set->adapters, &options, &allocator), LRK_OK);
    return allocator;
}

static float *gate(const small_set *set, int flat)
{
    return &small_set_tensor(set, flat / 4, LRK_TENSOR_GATES).data[flat % 4];
}

static lrk_plan_info info_of(const lrk_plan *plan)
{
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    return info;
}

/* Whether fewer than n ranks come before it by (score, position). */
static bool among_lowest(const double *scores, int rank, int64_t n)
{
    int64_t before = 0;
    for (int i = 0; i < RANKS; i++)
        before += scores[i] < scores[rank] || (scores[i] == scores[rank] && i < rank);
    return before < n;
}

static int64_t masked_after(int64_t t)
{
    return RANKS - (int64_t)floor(LAST + (RANKS - LAST) * pow(1 - (double)t / ROUNDS, 3));
}

/* Gates are moved between rounds, as an optimizer would. */
START_TEST(what_is_below_the_budget_is_masked_and_can_come_back)
{
    uint64_t random = policy_rig_first_seed();
    lrk_allocator *allocator = create_in(&s);
    int came_back = 0;
    bool was_masked[RANKS] = {0};
    for (int64_t t = 1; t < ROUNDS; t++) {
        double values[RANKS];
        int64_t n = -1;
        for (int i = 0; i < RANKS; i++) {
            values[i] = (double)small_random_below(&random, 6);
            *gate(&s, i) = 0.5f + (float)i;
        }
        ck_assert_int_eq(lrk_adapters_values_changed(s.adapters), LRK_OK);
        ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
        ck_assert_int_eq(n, masked_after(t));
        lrk_scores *scores = small_set_scores(&s, values);
        lrk_plan *plan = small_set_plan(allocator, scores);
        ck_assert_str_eq(info_of(plan).policy, "adalora");
        ck_assert_int_eq(info_of(plan).n_silenced, masked_after(t));
        ck_assert_double_le(info_of(plan).cut, info_of(plan).cut_next);
        ck_assert_float_eq(*gate(&s, 0), 0.5f); /* a plan alone is a dry run */
        small_set_carry_out(plan, NULL, 0);
        ck_assert_int_eq(sets_info(s.adapters).ranks, RANKS);
        for (int i = 0; i < RANKS; i++) {
            bool masked = among_lowest(values, i, masked_after(t));
            ck_assert_float_eq(*gate(&s, i), masked ? 0 : 0.5f + (float)i);
            came_back += was_masked[i] && !masked;
            was_masked[i] = masked;
        }
        lrk_plan_destroy(plan);
        lrk_scores_destroy(scores);
    }
    ck_assert_int_gt(came_back, 0);
    small_set_move(&s, allocator, 3, (const double[]){1, 9, 2, 9, 3, 9, 4, 9, 5, 9, 6, 7}, "0,2 0,2 0,2,3");
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(floors_keep_gates)
{
    lrk_limit limit = {.struct_size = sizeof limit, .pattern = "m1", .floor = 3, .cap = LRK_NO_CAP};
    options.limits = &limit;
    options.n_limits = 1;
    lrk_allocator *allocator = create_in(&s);
    small_set_move(&s, allocator, 3, (const double[]){9, 9, 9, 9, 0, 1, 2, 3, 8, 8, 8, 8}, ". . .");
    int live = 0;
    for (int i = 4; i < 8; i++)
        live += *gate(&s, i) != 0;
    ck_assert_int_eq(live, 3);
    ck_assert(*gate(&s, 4) == 0 && *gate(&s, 8) == 0);
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(a_plan_that_masks_other_ranks_has_another_digest)
{
    uint64_t digest[2];
    lrk_allocator *allocator = create_in(&s);
    for (int i = 0; i < 2; i++) {
        double values[RANKS] = {0};
        for (int k = 0; k < RANKS; k++)
            values[k] = i == 0 ? k : -k;
        lrk_scores *scores = small_set_scores(&s, values);
        lrk_plan *plan = small_set_plan(allocator, scores);
        ck_assert_int_eq(lrk_plan_digest(plan, &digest[i]), LRK_OK);
        ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
        lrk_plan_destroy(plan);
        lrk_scores_destroy(scores);
    }
    ck_assert_uint_ne(digest[0], digest[1]);
    lrk_allocator_destroy(allocator);
}
END_TEST

/* At every round of the run: another set and allocator take the checkpoint over and do what the first ones do. */
START_TEST(a_restored_run_goes_on_exactly)
{
    for (int rounds = 0; rounds < ROUNDS; rounds++) {
        small_set sets[2];
        lrk_allocator *allocators[2];
        memset(sets, 0, sizeof sets);
        for (int k = 0; k < 2; k++) {
            small_set_open_ranks(&sets[k], 3, (const int64_t[]){4, 4, 4});
            allocators[k] = create_in(&sets[k]);
        }
        const double values[] = {3, 9, 1, 7, 5, 11, 2, 8, 4, 10, 6, 12};
        for (int t = 0; t < rounds; t++)
            small_set_move(&sets[0], allocators[0], 3, values, ". . .");
        ck_assert_int_eq(policy_rig_restore(&sets[0], allocators[0], &sets[1], allocators[1]), LRK_OK);
        for (int k = 0; k < 2; k++)
            small_set_move(&sets[k], allocators[k], 3, values,
                           rounds + 1 < ROUNDS ? ". . ." : "0,2,3 0,2 0,2");
        ck_assert_uint_eq(sets_digest(sets[0].adapters), sets_digest(sets[1].adapters));
        for (int k = 0; k < 2; k++) {
            lrk_allocator_destroy(allocators[k]);
            small_set_close(&sets[k]);
        }
    }
}
END_TEST

START_TEST(a_checkpoint_of_pruning_for_good_is_refused)
{
    lrk_allocator *back = create_in(&s);
    options.flags = 0;
    lrk_allocator *good = create_in(&s);
    small_set_assert_failed(s.context, policy_rig_restore(&s, back, &s, good), LRK_ERR_ARGUMENT,
                            "the policy");
    lrk_allocator_destroy(back);
    lrk_allocator_destroy(good);
}
END_TEST

START_TEST(planning_unwinds_when_any_request_fails)
{
    lrk_allocator *allocator = create_in(&s);
    lrk_scores *scores = small_set_scores(&s, (const double[]){1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
    policy_rig_each_fault(&s, allocator, scores);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
}
END_TEST

/* 1600 draws each: five standard deviations of their mean and of their mean square. */
START_TEST(the_triplet_form_starts_at_zero_with_small_normal_rows)
{
    const small_module module = {.n_in = 40, .n_out = 40, .rank = 40};
    lrk_adapters_options set;
    ck_assert_int_eq(lrk_adapters_options_init(&set, sizeof set), LRK_OK);
    set.init = LRK_INIT_TRIPLET;
    set.gates = LRK_GATES_ZERO;
    small_set_close(&s);
    small_set_open(&s, &module, 1, &set);
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_B; which++) {
        lrk_tensor t = small_set_tensor(&s, 0, which);
        double sum = 0, squares = 0;
        for (int i = 0; i < 1600; i++) {
            sum += t.data[i] / 0.02;
            squares += t.data[i] / 0.02 * (t.data[i] / 0.02);
        }
        ck_assert_double_lt(fabs(sum / 1600), 5.0 / 40);
        ck_assert_double_lt(fabs(squares / 1600 - 1), 5 * sqrt(2) / 40);
    }
    ck_assert(small_set_tensor(&s, 0, LRK_TENSOR_A).data[0] != small_set_tensor(&s, 0, LRK_TENSOR_B).data[0]);
    for (int j = 0; j < 40; j++)
        ck_assert(small_set_tensor(&s, 0, LRK_TENSOR_GATES).data[j] == 0);
}
END_TEST

Suite *adalora_suite(void);
Suite *adalora_suite(void)
{
    Suite *suite = suite_create("adalora");
    TCase *tests = tcase_create("adalora");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_is_below_the_budget_is_masked_and_can_come_back);
    tcase_add_test(tests, floors_keep_gates);
    tcase_add_test(tests, a_plan_that_masks_other_ranks_has_another_digest);
    tcase_add_test(tests, a_restored_run_goes_on_exactly);
    tcase_add_test(tests, a_checkpoint_of_pruning_for_good_is_refused);
    tcase_add_test(tests, planning_unwinds_when_any_request_fails);
    tcase_add_test(tests, the_triplet_form_starts_at_zero_with_small_normal_rows);
    suite_add_tcase(suite, tests);
    return suite;
}
