/* SPDX-License-Identifier: MIT */
/*
 * What a committed plan leaves behind: kept bits, zero gradients, identities; and on a model of 80 blocks, that nothing
 * moves but what changed.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "small_set.h"

static const double VALUES[] = {0.9, 0.1, 0.5, 0.4, 0.6, 0.8, 0.2, 0.7, 0.3};

static small_set s;
static lrk_allocator *allocator;
static lrk_scores *scores;
static lrk_plan *plan;

static void setup(void)
{
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 3, 3});
    lrk_alora_options options = small_set_alora(2);
    allocator = small_set_allocator(&s, &options);
    scores = small_set_scores(&s, VALUES);
    plan = small_set_plan(allocator, scores);
}

static void teardown(void)
{
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    small_set_close(&s);
}

/* ---- the set afterwards ------------------------------------------------------------------------------------------------------- */

START_TEST(kept_ranks_keep_their_bits_and_gradients_are_zero)
{
    float before[3][4];
    lrk_tensor a = {.struct_size = sizeof a};
    lrk_adapters_info old = {.struct_size = sizeof old};
    lrk_adapters_info new = {.struct_size = sizeof new};
    ck_assert_int_eq(lrk_adapters_info_get(s.adapters, &old), LRK_OK);
    ck_assert_int_eq(lrk_adapters_tensor(s.adapters, 0, LRK_TENSOR_A, &a), LRK_OK);
    memcpy(before, a.data, sizeof before);
    small_set_carry_out(plan, NULL, 0);
    ck_assert_int_eq(lrk_adapters_tensor(s.adapters, 0, LRK_TENSOR_A, &a), LRK_OK);
    ck_assert_int_eq(a.rows, 2);
    ck_assert_mem_eq(a.data, before[0], sizeof before[0]);
    ck_assert_mem_eq(a.data + 4, before[2], sizeof before[2]);
    ck_assert_int_eq(lrk_adapters_tensor(s.adapters, 1, LRK_TENSOR_GRAD_A, &a), LRK_OK);
    for (int64_t i = 0; i < a.rows * a.cols; i++)
        ck_assert_float_eq(a.data[i], 0);
    ck_assert_int_eq(lrk_adapters_info_get(s.adapters, &new), LRK_OK);
    ck_assert_uint_eq(new.generation, old.generation + 1);
    ck_assert_uint_gt(new.values_version, old.values_version);
    ck_assert_uint_eq(new.next_identity, 12);
    ck_assert_int_eq(new.ranks, 9);
}
END_TEST

START_TEST(identities_of_an_abandoned_plan_are_given_again)
{
    lrk_plan_module part = {.struct_size = sizeof part};
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    plan = small_set_plan(allocator, scores);
    ck_assert_int_eq(lrk_plan_module_get(plan, 1, &part), LRK_OK);
    ck_assert_uint_eq(part.added_ids[0], 10);
}
END_TEST

/* ---- a model of 80 blocks -------------------------------------------------------------------------------------------------------- */

enum { BLOCKS = 80, PER_BLOCK = 7, LARGE = BLOCKS * PER_BLOCK, WIDTH = 24, RANK = 16, MOVES = 500 };

static lrk_adapters *create_large(void)
{
    static char names[LARGE][16];
    static lrk_module_spec specs[LARGE];
    lrk_adapters *large = NULL;
    for (int i = 0; i < LARGE; i++) {
        ck_assert_int_eq(lrk_module_spec_init(&specs[i], sizeof specs[i]), LRK_OK);
        snprintf(names[i], sizeof names[i], "%d.%d", i / PER_BLOCK, i % PER_BLOCK);
        specs[i].name = names[i];
        specs[i].stage = i / PER_BLOCK;
        specs[i].n_in = specs[i].n_out = WIDTH;
        specs[i].rank = RANK;
    }
    ck_assert_int_eq(lrk_adapters_create(s.context, specs, LARGE, NULL, &large), LRK_OK);
    return large;
}

static lrk_plan *plan_large(lrk_adapters *large)
{
    static double values[LARGE * RANK];
    uint64_t random = 1;
    lrk_alora_options options = small_set_alora(MOVES);
    lrk_allocator *by = NULL;
    lrk_scores *of = NULL;
    lrk_plan *made = NULL;
    for (int i = 0; i < LARGE * RANK; i++) /* the first modules matter least, by far */
        values[i] = small_random_real(&random) + 400.0 * i / (LARGE * RANK);
    ck_assert_int_eq(lrk_allocator_create_alora(large, &options, &by), LRK_OK);
    ck_assert_int_eq(lrk_scores_create(large, values, LARGE * RANK, &of), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(by, of, 1, &made), LRK_OK);
    lrk_scores_destroy(of);
    lrk_allocator_destroy(by);
    return made;
}

static const float *block_of(lrk_adapters *large, int32_t module)
{
    lrk_tensor a = {.struct_size = sizeof a};
    ck_assert_int_eq(lrk_adapters_tensor(large, module, LRK_TENSOR_A, &a), LRK_OK);
    return a.data;
}

START_TEST(a_large_model_moves_no_more_than_its_changed_modules_hold)
{
    static const float *blocks[LARGE];
    lrk_adapters *large = create_large();
    lrk_plan *made = plan_large(large);
    lrk_plan_info info = {.struct_size = sizeof info};
    int64_t held = 0;
    for (int32_t m = 0; m < LARGE; m++)
        blocks[m] = block_of(large, m);
    ck_assert_int_eq(lrk_plan_prepare(made, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(made), LRK_OK);
    for (int32_t m = 0; m < LARGE; m++) {
        lrk_plan_module part = {.struct_size = sizeof part};
        ck_assert_int_eq(lrk_plan_module_get(made, m, &part), LRK_OK);
        bool changed = part.n_dropped + part.n_added > 0;
        if (changed) held += part.rank_before * (2 * WIDTH + 1) * (int64_t)sizeof(float);
        if (!changed) ck_assert_ptr_eq(block_of(large, m), blocks[m]);
    }
    ck_assert_int_eq(lrk_plan_info_get(made, &info), LRK_OK);
    ck_assert_int_eq(info.n_dropped, MOVES);
    ck_assert_int_eq(info.n_added, MOVES);
    ck_assert_int_lt(info.modules_changed, LARGE);
    ck_assert_int_gt(info.bytes_moved, 0);
    ck_assert_int_le(info.bytes_moved, held);
    lrk_plan_destroy(made);
    lrk_adapters_destroy(large);
}
END_TEST

Suite *transaction_set_suite(void);

Suite *transaction_set_suite(void)
{
    Suite *suite = suite_create("transaction_set");
    TCase *tests = tcase_create("transaction_set");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, kept_ranks_keep_their_bits_and_gradients_are_zero);
    tcase_add_test(tests, identities_of_an_abandoned_plan_are_given_again);
    tcase_add_test(tests, a_large_model_moves_no_more_than_its_changed_modules_hold);
    suite_add_tcase(suite, tests);
    return suite;
}
