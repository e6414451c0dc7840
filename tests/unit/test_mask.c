/* SPDX-License-Identifier: MIT */
/*
 * Masks: what is refused, baselines and first stages, generations. What a mask does to a pass is tested with passes.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "adapters/set.h"
#include "sets.h"

static fault host;
static lrk_context *context;
static lrk_adapters *adapters;

/* Stages out of module order: "a" rank 2 stage 5, "b" rank 3 stage 1, "c" rank 1 stage 3, "d" rank 0 stage 0. */
static void setup(void)
{
    lrk_module_spec specs[4] = {sets_spec("a", 5, 3, 2), sets_spec("b", 4, 6, 3), sets_spec("c", 7, 2, 1),
                                sets_spec("d", 2, 2, 0)};
    const int32_t stages[] = {5, 1, 3, 0};
    for (int i = 0; i < 4; i++)
        specs[i].stage = stages[i];
    fault_reset(&host);
    context = fault_context(&host);
    adapters = sets_create(context, specs, 4, NULL);
    sets_fill(adapters); /* gates other than 1: they do not matter */
}

static void teardown(void)
{
    lrk_adapters_destroy(adapters);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static void expect_info(lrk_mask *mask, int32_t baseline, int32_t first_stage)
{
    lrk_mask_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_mask_info_get(mask, &info), LRK_OK);
    ck_assert_int_eq(info.baseline, baseline);
    ck_assert_int_eq(info.first_stage, first_stage);
    ck_assert_uint_eq(info.generation, sets_info(adapters).generation);
    lrk_mask_destroy(mask);
}

START_TEST(all_and_none_equal_their_baselines)
{
    lrk_mask *mask;
    ck_assert_int_eq(lrk_mask_create_all(adapters, &mask), LRK_OK);
    expect_info(mask, LRK_BASELINE_ALL, LRK_NO_STAGE);
    ck_assert_int_eq(lrk_mask_create_none(adapters, &mask), LRK_OK);
    expect_info(mask, LRK_BASELINE_NONE, LRK_NO_STAGE);
}
END_TEST

START_TEST(masks_of_one_rank_begin_at_its_stage)
{
    const int32_t stages[] = {5, 5, 1, 1, 1, 3};
    for (uint64_t id = 1; id <= 6; id++) {
        lrk_mask *mask;
        ck_assert_int_eq(lrk_mask_create_without(adapters, id, &mask), LRK_OK);
        expect_info(mask, LRK_BASELINE_ALL, stages[id - 1]);
        ck_assert_int_eq(lrk_mask_create_only(adapters, id, &mask), LRK_OK);
        expect_info(mask, LRK_BASELINE_NONE, stages[id - 1]);
    }
}
END_TEST

START_TEST(masks_of_one_rank_name_it)
{
    lrk_mask *mask;
    ck_assert_int_eq(lrk_mask_create_only(adapters, 4, &mask), LRK_OK);
    ck_assert(mask->form == LRKI_MASK_ONLY && mask->module == 1 && mask->index == 1);
    lrk_mask_destroy(mask);
    ck_assert_int_eq(lrk_mask_create_without(adapters, 6, &mask), LRK_OK);
    ck_assert(mask->form == LRKI_MASK_WITHOUT && mask->module == 2 && mask->index == 0);
    lrk_mask_destroy(mask);
}
END_TEST

typedef struct values_case {
    float values[6]; /* a a b b b c: stages 5 5 1 1 1 3 */
    int32_t baseline;
    int32_t first_stage;
} values_case;

static const values_case values_cases[] = {
    {{1, 1, 1, 1, 1, 1}, LRK_BASELINE_ALL, LRK_NO_STAGE},
    {{0, 0, 0, 0, 0, 0}, LRK_BASELINE_NONE, LRK_NO_STAGE},
    {{0, 0, -0.0f, 0, 0, 0}, LRK_BASELINE_NONE, LRK_NO_STAGE},
    {{1, 0, 1, 1, 1, 1}, LRK_BASELINE_ALL, 5},
    {{0, 0.5f, 0, 0, 0, 0}, LRK_BASELINE_NONE, 5},
    {{1, 1, 1, 1, 1, 0}, LRK_BASELINE_ALL, 3},
    {{0, 0, 0, 0, 0, 1}, LRK_BASELINE_NONE, 3},
    {{0, 0, 1, 1, 1, 0}, LRK_BASELINE_ALL, 3},
    {{1, 1, 0, 0, 0, 1}, LRK_BASELINE_NONE, 3},
    {{1, 1, 0, 0, 0, 0}, LRK_BASELINE_NONE, 5},
    {{0, 0, 1, 1, 1, 1}, LRK_BASELINE_ALL, 5},
    {{1, 1, 1, 0, 1, 1}, LRK_BASELINE_ALL, 1}, /* both differ at stage 1: a tie */
    {{0, 0, 2, 2, 2, 0}, LRK_BASELINE_ALL, 1},
};

START_TEST(values_take_the_baseline_that_agrees_longer)
{
    const values_case *c = &values_cases[_i];
    lrk_mask *mask;
    float values[6];
    memcpy(values, c->values, sizeof values);
    ck_assert_int_eq(lrk_mask_create_values(adapters, values, 6, &mask), LRK_OK);
    memset(values, 0xff, sizeof values); /* copied */
    ck_assert_mem_eq(mask->values, c->values, sizeof values);
    expect_info(mask, c->baseline, c->first_stage);
}
END_TEST

START_TEST(a_set_without_ranks_has_the_baseline_all)
{
    const lrki_module_change parts[4] = {{0}, {0}, {0}, {0}};
    lrki_change *change;
    lrk_mask *mask;
    ck_assert_int_eq(lrki_change_prepare(adapters, parts, 1, 0, &change), LRK_OK);
    lrki_change_commit(change);
    ck_assert_int_eq(lrk_mask_create_none(adapters, &mask), LRK_OK);
    expect_info(mask, LRK_BASELINE_ALL, LRK_NO_STAGE);
    ck_assert_int_eq(lrk_mask_create_values(adapters, NULL, 0, &mask), LRK_OK);
    expect_info(mask, LRK_BASELINE_ALL, LRK_NO_STAGE);
}
END_TEST

START_TEST(masks_that_break_their_contract_are_refused)
{
    const float values[6] = {1, 1, 1, 1, NAN, 1};
    const float infinite[6] = {1, -INFINITY, 1, 1, 1, 1};
    lrk_mask *mask = (lrk_mask *)&host;
    int64_t live = host.live;
    sets_expect(context, lrk_mask_create_without(adapters, 7, &mask), LRK_ERR_NOT_FOUND, "identity 7");
    ck_assert_ptr_null(mask);
    sets_expect(context, lrk_mask_create_only(adapters, 0, &mask), LRK_ERR_NOT_FOUND, "identity 0");
    sets_expect(context, lrk_mask_create_values(adapters, values, 5, &mask), LRK_ERR_SHAPE, "5 values for 6");
    sets_expect(context, lrk_mask_create_values(adapters, values, 7, &mask), LRK_ERR_SHAPE, "7 values for 6");
    sets_expect(context, lrk_mask_create_values(adapters, NULL, 6, &mask), LRK_ERR_ARGUMENT, "NULL");
    mask = (lrk_mask *)&host;
    sets_expect(context, lrk_mask_create_values(adapters, values, 6, &mask), LRK_ERR_NONFINITE,
                "rank 2 of module 'b'");
    ck_assert_ptr_null(mask);
    lrk_error_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
    ck_assert(info.module == 1 && info.identity == 5);
    sets_expect(context, lrk_mask_create_values(adapters, infinite, 6, &mask), LRK_ERR_NONFINITE,
                "rank 1 of module 'a'");
    sets_expect(context, lrk_mask_create_all(adapters, NULL), LRK_ERR_ARGUMENT, "NULL");
    ck_assert_int_eq(host.live, live);
    ck_assert_int_eq(lrk_mask_create_all(NULL, &mask), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_mask_create_none(NULL, &mask), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_mask_create_only(NULL, 1, &mask), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_mask_create_without(NULL, 1, &mask), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_mask_create_values(NULL, values, 6, &mask), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_mask_info_get(NULL, &(lrk_mask_info){.struct_size = 8}), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_mask_create_all(adapters, &mask), LRK_OK);
    sets_expect(context, lrk_mask_info_get(mask, NULL), LRK_ERR_ARGUMENT, "lrk_mask_info");
    lrk_mask_destroy(mask);
}
END_TEST

START_TEST(a_mask_keeps_the_generation_that_it_was_made_for)
{
    const int64_t keep[] = {0, 1, 2};
    const lrki_module_change parts[] = {
        {.n_kept = 1, .kept = keep}, {.n_kept = 3, .kept = keep}, {.n_kept = 1, .kept = keep}, {0}};
    lrki_change *change;
    lrk_mask *mask;
    lrk_mask_info info = {.struct_size = sizeof info};
    uint64_t generation = sets_info(adapters).generation;
    ck_assert_int_eq(lrk_mask_create_only(adapters, 2, &mask), LRK_OK);
    ck_assert_int_eq(lrki_change_prepare(adapters, parts, 1, 0, &change), LRK_OK);
    lrki_change_commit(change); /* drops identity 2 */
    ck_assert_int_eq(lrk_mask_info_get(mask, &info), LRK_OK);
    ck_assert_uint_eq(info.generation, generation);
    ck_assert_uint_gt(sets_info(adapters).generation, generation);
    lrk_pass_options options;
    lrk_pass *pass;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.max_rows = 1;
    options.mask = mask;
    ck_assert_int_eq(lrk_pass_begin(adapters, &options, &pass), LRK_ERR_STALE);
    lrk_mask_destroy(mask);
}
END_TEST

static lrk_mask *made;

static lrk_status make_mask(void *user)
{
    const float values[6] = {1, 0, 1, 0, 1, 0};
    switch (*(int *)user) {
    case 0:
        return lrk_mask_create_all(adapters, &made);
    case 1:
        return lrk_mask_create_none(adapters, &made);
    case 2:
        return lrk_mask_create_only(adapters, 1, &made);
    case 3:
        return lrk_mask_create_without(adapters, 1, &made);
    default:
        return lrk_mask_create_values(adapters, values, 6, &made);
    }
}

static void drop_mask(void *user)
{
    (void)user;
    lrk_mask_destroy(made);
}

START_TEST(creating_a_mask_unwinds_when_any_request_fails)
{
    int form = _i;
    sets_each_fault(&host, make_mask, drop_mask, &form);
}
END_TEST

Suite *mask_suite(void);

Suite *mask_suite(void)
{
    Suite *suite = suite_create("mask");
    TCase *tcase = tcase_create("masks");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, all_and_none_equal_their_baselines);
    tcase_add_test(tcase, masks_of_one_rank_begin_at_its_stage);
    tcase_add_test(tcase, masks_of_one_rank_name_it);
    tcase_add_loop_test(tcase, values_take_the_baseline_that_agrees_longer, 0,
                        (int)(sizeof values_cases / sizeof *values_cases));
    tcase_add_test(tcase, a_set_without_ranks_has_the_baseline_all);
    tcase_add_test(tcase, masks_that_break_their_contract_are_refused);
    tcase_add_test(tcase, a_mask_keeps_the_generation_that_it_was_made_for);
    tcase_add_loop_test(tcase, creating_a_mask_unwinds_when_any_request_fails, 0, 5);
    suite_add_tcase(suite, tcase);
    return suite;
}
