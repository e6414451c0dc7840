/* SPDX-License-Identifier: MIT */
/*
 * ALoRA's policy, option by option: what each choice changes in a plan worked out by hand, and what is refused. Random
 * agreement with a naive transcription of the algorithm is in test_alora_properties.c.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "importance/importance.h"
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

static int64_t n_move_of(const lrk_alora_options *given)
{
    int64_t n = -1;
    lrk_allocator *allocator = small_set_allocator(&s, given);
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
    lrk_allocator_destroy(allocator);
    return n;
}

/* ---- selection ------------------------------------------------------------------------------------------------------- */

START_TEST(ties_prune_exactly_as_many_as_asked_by_module_then_identity)
{
    const double values[] = {0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
    small_set_open_ranks(&s, 3, (const int64_t[]){2, 2, 2});
    options.n_move = 3;
    assert_plan(3, values, "0,1 0 .+3");
}
END_TEST

START_TEST(a_floor_keeps_its_module_from_shrinking_further)
{
    const double values[] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "m0", .floor = 2, .cap = LRK_NO_CAP};
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 3, 3});
    options.n_move = 3;
    options.limits = &limit;
    options.n_limits = 1;
    assert_plan(3, values, "0 0,1 .+3");
}
END_TEST

START_TEST(fewer_are_pruned_where_floors_leave_fewer)
{
    const double values[] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6};
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "*", .floor = 2, .cap = LRK_NO_CAP};
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 1, 2});
    options.n_move = 4;
    options.limits = &limit;
    options.n_limits = 1;
    assert_plan(3, values, "0 . .+1");
    ck_assert_int_eq(n_move_of(&options), 1);
}
END_TEST

START_TEST(a_cap_hands_its_share_to_the_next_receiver)
{
    const double values[] = {0.1, 0.1, 0.1, 0.1, 0.9, 0.8, 0.7};
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "m1", .floor = 0, .cap = 2};
    small_set_open_ranks(&s, 4, (const int64_t[]){4, 1, 1, 1});
    options.n_move = 4;
    options.limits = &limit;
    options.n_limits = 1;
    assert_plan(4, values, "0,1,2,3 .+1 .+2 .+1");
}
END_TEST

START_TEST(where_all_receivers_are_full_the_rest_is_not_given_out)
{
    const double values[] = {0.1, 0.1, 0.1, 0.9, 0.8};
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "*", .floor = 0, .cap = 2};
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 1, 1});
    options.n_move = 3;
    options.limits = &limit;
    options.n_limits = 1;
    assert_plan(3, values, "0,1,2 .+1 .+1");
}
END_TEST

START_TEST(modules_at_their_cap_are_no_receivers)
{
    const double values[] = {0.1, 0.2, 0.9, 0.8};
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "*", .floor = 0, .cap = 2};
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 2});
    options.limits = &limit;
    options.n_limits = 1;
    options.no_receiver = LRK_NO_RECEIVER_KEEP;
    assert_plan(2, values, ". .");
}
END_TEST

typedef struct fixed_host {
    float a[3][4 * 8];
    float b[3][3 * 8];
    float gates[3][8];
    float gradients[3][8 * 8];
} fixed_host;

static int32_t supply(void *user, int32_t module, int64_t rank, lrk_module_buffers *buffers)
{
    fixed_host *host = user;
    buffers->a = host->a[module];
    buffers->b = host->b[module];
    buffers->gates = host->gates[module];
    buffers->grad_a = host->gradients[module];
    buffers->grad_b = host->gradients[module] + 4 * 4;
    buffers->grad_gates = host->gradients[module] + 7 * 4;
    buffers->capacity = 4;
    return rank > 4;
}

static void ignore_storage(void *user, int32_t module)
{
    (void)user;
    (void)module;
}

START_TEST(a_fixed_capacity_is_a_cap)
{
    static fixed_host host;
    const small_module modules[] = {{4, 3, 4, 0, 0}, {4, 3, 3, 0, 0}, {4, 3, 2, 0, 0}};
    const lrk_storage storage = {.struct_size = sizeof storage,
                                 .flags = LRK_STORAGE_FIXED,
                                 .user = &host,
                                 .prepare = supply,
                                 .commit = ignore_storage,
                                 .abandon = ignore_storage};
    lrk_adapters_options set_options;
    ck_assert_int_eq(lrk_adapters_options_init(&set_options, sizeof set_options), LRK_OK);
    set_options.storage = &storage;
    small_set_open(&s, modules, 3, &set_options);
    options.n_move = 4;
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    small_set_move(&s, allocator, 3, (const double[]){0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.8, 0.8},
                   "0,1,2,3 .+1 .+2");
    lrk_allocator_destroy(allocator);
}
END_TEST

/* ---- receivers --------------------------------------------------------------------------------------------------------- */

START_TEST(equal_means_receive_in_module_order)
{
    const double values[] = {0.1, 0.1, 0.7, 0.7, 0.7};
    small_set_open_ranks(&s, 4, (const int64_t[]){2, 1, 1, 1});
    assert_plan(4, values, "0,1 .+1 .+1 .");
}
END_TEST

START_TEST(a_module_of_rank_zero_receives_last_even_among_negative_means)
{
    const double values[] = {-5, -5, -5, -1, -2};
    small_set_open_ranks(&s, 4, (const int64_t[]){0, 3, 1, 1});
    options.n_move = 2;
    assert_plan(4, values, ". 0,1 .+1 .+1");
    options.n_move = 3;
    assert_plan(4, values, ".+1 0,1,2 .+1 .+1");
}
END_TEST

START_TEST(unpruned_ever_excludes_who_was_pruned_before)
{
    const double first[] = {0.1, 0.9, 0.5, 0.6, 0.7, 0.8};
    const double second[] = {0.9, 0.1, 0.6, 0.7, 0.8, 0.3};
    small_set_open_ranks(&s, 3, (const int64_t[]){2, 2, 2});
    options.n_move = 1;
    lrk_allocator *this_round = small_set_allocator(&s, &options);
    options.unpruned = LRK_UNPRUNED_EVER;
    lrk_allocator *ever = small_set_allocator(&s, &options);
    small_set_move(&s, ever, 3, first, "0 . .+1");
    small_set_assert_plan_of(&s, this_round, 3, second, ".+1 0 .");
    small_set_assert_plan_of(&s, ever, 3, second, ". 0 .+1");
    lrk_allocator_destroy(this_round);
    lrk_allocator_destroy(ever);
}
END_TEST

START_TEST(an_abandoned_plan_is_no_pruning)
{
    const double values[] = {0.1, 0.9, 0.5, 0.6};
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 2});
    options.n_move = 1;
    options.unpruned = LRK_UNPRUNED_EVER;
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    small_set_assert_plan_of(&s, allocator, 2, values, "0 .+1");
    small_set_assert_plan_of(&s, allocator, 2, (const double[]){0.9, 0.8, 0.1, 0.2}, ".+1 0");
    lrk_allocator_destroy(allocator);
}
END_TEST

/* m1 has the higher mean of scores, m2 of estimates. */
static void assert_receiver_by(uint32_t flags, const double *estimates, uint32_t last_flags,
                               const char *expected)
{
    const double values[] = {0.1, 0.2, 0.9, 0.8};
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    lrk_scores *scores = small_set_scores(&s, values);
    for (int i = 0; i < 4; i++) {
        scores->scores[i].flags = i == 3 ? last_flags : flags;
        scores->scores[i].estimate = estimates[i];
    }
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_assert_plan(plan, 3, expected);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
}

START_TEST(means_use_one_provenance)
{
    const double all[] = {0.1, 0.1, 0.3, 0.4};
    const double some[] = {NAN, 0.1, 0.3, 0.4};
    small_set_open_ranks(&s, 3, (const int64_t[]){2, 1, 1});
    options.n_move = 1;
    assert_receiver_by(LRK_SCORE_EXACT, all, LRK_SCORE_EXACT, "0 .+1 .");
    assert_receiver_by(LRK_SCORE_EXACT, all, 0, "0 . .+1");
    assert_receiver_by(0, all, 0, "0 . .+1");
    assert_receiver_by(LRK_SCORE_EXACT, some, 0, "0 .+1 .");
}
END_TEST

/* ---- scope --------------------------------------------------------------------------------------------------------------- */

static void open_two_stages(void)
{
    const small_module modules[] = {{4, 3, 2, 5, 0}, {4, 3, 2, 1, 0}, {4, 3, 2, 5, 0}, {4, 3, 2, 1, 0}};
    small_set_open(&s, modules, 4, NULL);
}

START_TEST(a_stage_prunes_and_receives_on_its_own)
{
    const double values[] = {0.1, 0.2, 0.7, 0.8, 0.3, 0.4, 0.9, 0.95};
    open_two_stages();
    options.n_move = 1;
    assert_plan(4, values, "0 . . .+1");
    options.scope = LRK_SCOPE_PER_STAGE;
    assert_plan(4, values, "0 0 .+1 .+1");
    ck_assert_int_eq(n_move_of(&options), 2);
}
END_TEST

START_TEST(a_stage_without_receiver_shrinks_or_keeps_alone)
{
    const double values[] = {0.1, 0.9, 0.7, 0.8, 0.2, 0.9, 0.9, 0.95};
    open_two_stages();
    options.n_move = 2;
    options.scope = LRK_SCOPE_PER_STAGE;
    assert_plan(4, values, "0 0,1 0 .+2");
    options.no_receiver = LRK_NO_RECEIVER_KEEP;
    assert_plan(4, values, ". 0,1 . .+2");
}
END_TEST

START_TEST(a_share_is_taken_of_each_stage_and_rounded_to_nearest)
{
    const small_module modules[] = {{4, 3, 5, 0, 0}, {4, 3, 2, 1, 0}, {4, 3, 1, 1, 0}, {4, 3, 0, 2, 0}};
    small_set_open(&s, modules, 4, NULL);
    options.n_move = 0;
    options.move_share = 0.3;
    ck_assert_int_eq(n_move_of(&options), 2); /* 2.4 of 8 */
    options.scope = LRK_SCOPE_PER_STAGE;
    ck_assert_int_eq(n_move_of(&options), 3); /* 1.5 of 5 is 2; 0.9 of 3 is 1; nothing of nothing */
    options.scope = LRK_SCOPE_GLOBAL;
    options.move_share = 0.01;
    ck_assert_int_eq(n_move_of(&options), 1); /* at least one */
    options.move_share = 1;
    ck_assert_int_eq(n_move_of(&options), 8);
}
END_TEST

START_TEST(refill_over_stages_gives_the_unused_budget_to_all_in_turns)
{
    const double values[] = {0.1, 0.2, 0.7, 0.8, 0.3, 0.4, 0.9, 0.95};
    open_two_stages();
    options.n_move = 1;
    options.scope = LRK_SCOPE_PER_STAGE;
    options.flags = LRK_ALORA_REFILL;
    options.budget = 11;
    assert_plan(4, values, "0 0 .+2 .+3");
}
END_TEST

/* ---- refusals ---------------------------------------------------------------------------------------------------------------- */

static void assert_refused(lrk_status expected, const char *words)
{
    lrk_allocator *allocator = (lrk_allocator *)&s;
    small_set_assert_failed(s.context, lrk_allocator_create_alora(s.adapters, &options, &allocator), expected,
                            words);
    ck_assert_ptr_null(allocator);
    options = small_set_alora(2);
}

START_TEST(options_out_of_range_are_refused_by_name)
{
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 1});
    options.n_move = 0;
    assert_refused(LRK_ERR_ARGUMENT, "n_move or move_share");
    options.move_share = 0.5;
    assert_refused(LRK_ERR_ARGUMENT, "n_move or move_share");
    options.n_move = -1;
    assert_refused(LRK_ERR_ARGUMENT, "n_move");
    const double bad_shares[] = {-0.1, 1.1, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        options.n_move = 0;
        options.move_share = bad_shares[i];
        assert_refused(LRK_ERR_ARGUMENT, "move_share must be in");
    }
    options.budget = -2;
    assert_refused(LRK_ERR_ARGUMENT, "budget");
    options.budget_unit = 2;
    assert_refused(LRK_ERR_ARGUMENT, "budget_unit");
    options.unpruned = 2;
    assert_refused(LRK_ERR_ARGUMENT, "unpruned");
    options.scope = -1;
    assert_refused(LRK_ERR_ARGUMENT, "scope");
    options.no_receiver = 2;
    assert_refused(LRK_ERR_ARGUMENT, "no_receiver");
    options.new_rank_init = LRK_INIT_ZERO;
    assert_refused(LRK_ERR_ARGUMENT, "new_rank_init");
    options.protect_rounds = -1;
    assert_refused(LRK_ERR_ARGUMENT, "protect_rounds");
    options.flags = 2;
    assert_refused(LRK_ERR_ARGUMENT, "flags");
    options.n_limits = 1;
    assert_refused(LRK_ERR_ARGUMENT, "limits");
    options.n_limits = -1;
    assert_refused(LRK_ERR_ARGUMENT, "limits");
    options.budget = 2;
    assert_refused(LRK_ERR_BUDGET, "holds 3 ranks, the budget is 2");
    options.budget = 20;
    options.budget_unit = LRK_BUDGET_PARAMETERS;
    assert_refused(LRK_ERR_BUDGET, "holds 21 parameters, the budget is 20");
    options.struct_size = 4;
    assert_refused(LRK_ERR_ARGUMENT, "struct_size");
}
END_TEST

START_TEST(null_and_foreign_structs_are_refused)
{
    struct {
        lrk_alora_options known;
        uint64_t tail;
    } longer = {.tail = 1};
    lrk_allocator *allocator = (lrk_allocator *)&s;
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 1});
    ck_assert_int_eq(lrk_allocator_create_alora(NULL, &options, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(allocator);
    ck_assert_int_eq(lrk_allocator_create_alora(s.adapters, NULL, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_create_alora(s.adapters, &options, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_alora_options_init(NULL, sizeof options), LRK_ERR_ARGUMENT);
    longer.known = options;
    longer.known.struct_size = sizeof longer;
    ck_assert_int_eq(lrk_allocator_create_alora(s.adapters, &longer.known, &allocator), LRK_ERR_VERSION);
    longer.tail = 0;
    ck_assert_int_eq(lrk_allocator_create_alora(s.adapters, &longer.known, &allocator), LRK_OK);
    lrk_allocator_destroy(allocator);
    lrk_allocator_destroy(NULL);
    ck_assert_int_eq(lrk_allocator_n_move(NULL, &options.n_move), LRK_ERR_ARGUMENT);
}
END_TEST

static void select_tests(TCase *tests)
{
    tcase_add_test(tests, ties_prune_exactly_as_many_as_asked_by_module_then_identity);
    tcase_add_test(tests, a_floor_keeps_its_module_from_shrinking_further);
    tcase_add_test(tests, fewer_are_pruned_where_floors_leave_fewer);
    tcase_add_test(tests, a_cap_hands_its_share_to_the_next_receiver);
    tcase_add_test(tests, where_all_receivers_are_full_the_rest_is_not_given_out);
    tcase_add_test(tests, modules_at_their_cap_are_no_receivers);
    tcase_add_test(tests, a_fixed_capacity_is_a_cap);
    tcase_add_test(tests, equal_means_receive_in_module_order);
    tcase_add_test(tests, a_module_of_rank_zero_receives_last_even_among_negative_means);
    tcase_add_test(tests, unpruned_ever_excludes_who_was_pruned_before);
    tcase_add_test(tests, an_abandoned_plan_is_no_pruning);
    tcase_add_test(tests, means_use_one_provenance);
}

Suite *alora_suite(void);
Suite *alora_suite(void)
{
    Suite *suite = suite_create("alora");
    TCase *tests = tcase_create("alora");
    tcase_add_checked_fixture(tests, setup, teardown);
    select_tests(tests);
    tcase_add_test(tests, a_stage_prunes_and_receives_on_its_own);
    tcase_add_test(tests, a_stage_without_receiver_shrinks_or_keeps_alone);
    tcase_add_test(tests, a_share_is_taken_of_each_stage_and_rounded_to_nearest);
    tcase_add_test(tests, refill_over_stages_gives_the_unused_budget_to_all_in_turns);
    tcase_add_test(tests, options_out_of_range_are_refused_by_name);
    tcase_add_test(tests, null_and_foreign_structs_are_refused);
    suite_add_tcase(suite, tests);
    return suite;
}
