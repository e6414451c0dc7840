/* SPDX-License-Identifier: MIT */
/*
 * Plans as objects: what they report, their digest, when making one is refused, and what is left if memory runs out.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "adapters/set.h"
#include "allocation/allocation.h"
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
    plan = NULL;
}

static void teardown(void)
{
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    small_set_close(&s);
}

static lrk_plan_info info_of(const lrk_plan *p)
{
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(p, &info), LRK_OK);
    return info;
}

START_TEST(a_plan_reports_what_it_does)
{
    plan = small_set_plan(allocator, scores);
    lrk_plan_info info = info_of(plan);
    ck_assert_str_eq(info.policy, "alora");
    ck_assert_uint_eq(info.round, 0);
    ck_assert_int_eq(info.step, 7);
    ck_assert_int_eq(info.n_dropped, 2);
    ck_assert_int_eq(info.n_added, 2);
    ck_assert_int_eq(info.modules_changed, 3);
    ck_assert_int_eq(info.state, LRK_PLAN_OPEN);
    ck_assert_int_eq(info.bytes_moved, (2 + 3 + 2) * (4 + 3 + 1) * 4);
    lrk_plan_module part = {.struct_size = sizeof part};
    ck_assert_int_eq(lrk_plan_module_get(plan, 1, &part), LRK_OK);
    ck_assert_int_eq(part.rank_before, 3);
    ck_assert_int_eq(part.rank_after, 5);
    ck_assert_int_eq(part.n_kept, 3);
    ck_assert_int_eq(part.n_dropped, 0);
    ck_assert_int_eq(part.n_added, 2);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(part.kept[i], i);
    small_set_carry_out(plan, NULL, 0);
    ck_assert_int_eq(info_of(plan).state, LRK_PLAN_COMMITTED);
    ck_assert_int_eq(info_of(plan).ranks_before, 9);
}
END_TEST

START_TEST(bytes_moved_is_what_the_commit_copies)
{
    plan = small_set_plan(allocator, scores);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(info_of(plan).bytes_moved, lrki_change_bytes(plan->change));
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
}
END_TEST

static int32_t replace_first(void *user, const lrk_policy_request *request)
{
    (void)user;
    request->drop[0] = 1;
    request->add[0] = 1;
    return 0;
}

START_TEST(bytes_moved_counts_a_module_compacted_in_place)
{
    const lrk_custom_policy policy = {
        .struct_size = sizeof policy, .name = "replace", .plan = replace_first, .budget = LRK_BUDGET_INITIAL};
    lrk_allocator *custom = NULL;
    ck_assert_int_eq(lrk_allocator_create_custom(s.adapters, &policy, &custom), LRK_OK);
    plan = small_set_plan(custom, scores);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(info_of(plan).bytes_moved, 2 * 8 * 4);
    ck_assert_int_eq(info_of(plan).bytes_moved, lrki_change_bytes(plan->change));
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_allocator_destroy(custom);
}
END_TEST

static int32_t move_to_two(void *user, const lrk_policy_request *request)
{
    (void)user;
    request->drop[0] = request->drop[1] = request->drop[2] = 1;
    request->add[1] = 2;
    request->add[2] = 1;
    return 0;
}

START_TEST(new_identities_run_on_from_module_to_module)
{
    const lrk_custom_policy policy = {
        .struct_size = sizeof policy, .name = "two", .plan = move_to_two, .budget = LRK_BUDGET_INITIAL};
    lrk_allocator *custom = NULL;
    lrk_plan_module second = {.struct_size = sizeof second}, third = second;
    ck_assert_int_eq(lrk_allocator_create_custom(s.adapters, &policy, &custom), LRK_OK);
    plan = small_set_plan(custom, scores);
    ck_assert_int_eq(lrk_plan_module_get(plan, 1, &second), LRK_OK);
    ck_assert_int_eq(lrk_plan_module_get(plan, 2, &third), LRK_OK);
    ck_assert_uint_eq(second.added_ids[0], 10);
    ck_assert_uint_eq(second.added_ids[1], 11);
    ck_assert_uint_eq(third.added_ids[0], 12);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_allocator_destroy(custom);
}
END_TEST

START_TEST(an_empty_plan_has_no_cut_and_moves_nothing)
{
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "*", .floor = 3, .cap = LRK_NO_CAP};
    lrk_alora_options options = small_set_alora(2);
    options.limits = &limit;
    options.n_limits = 1;
    lrk_allocator *held = small_set_allocator(&s, &options);
    plan = small_set_plan(held, scores);
    small_set_assert_plan(plan, 3, ". . .");
    ck_assert(isnan(info_of(plan).cut));
    ck_assert(isnan(info_of(plan).cut_next));
    ck_assert_int_eq(info_of(plan).bytes_moved, 0);
    ck_assert_int_eq(info_of(plan).modules_changed, 0);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_allocator_destroy(held);
}
END_TEST

START_TEST(the_next_score_is_one_that_could_have_gone)
{
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "m2", .floor = 2, .cap = LRK_NO_CAP};
    lrk_alora_options options = small_set_alora(2);
    options.limits = &limit;
    options.n_limits = 1;
    lrk_allocator *limited = small_set_allocator(&s, &options);
    plan = small_set_plan(limited, scores);
    small_set_assert_plan(plan, 3, "1 .+2 0");
    ck_assert_double_eq(info_of(plan).cut, 0.2);
    ck_assert_double_eq(info_of(plan).cut_next, 0.4); /* m2's 0.3 is held by the floor now */
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_allocator_destroy(limited);
}
END_TEST

/* ---- digest ------------------------------------------------------------------------------------------------------------------ */

static uint64_t digest_of(const double *values)
{
    lrk_scores *given = small_set_scores(&s, values);
    lrk_plan *made = small_set_plan(allocator, given);
    uint64_t digest = 0;
    ck_assert_int_eq(lrk_plan_digest(made, &digest), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(made), LRK_OK);
    lrk_plan_destroy(made);
    lrk_scores_destroy(given);
    return digest;
}

START_TEST(the_digest_tells_plans_apart_and_not_their_scores)
{
    double values[9];
    memcpy(values, VALUES, sizeof values);
    uint64_t digest = digest_of(values);
    values[1] = 0.11;
    ck_assert_uint_eq(digest_of(values), digest);
    values[2] = 0.01; /* another rank of m0 goes */
    ck_assert_uint_ne(digest_of(values), digest);
}
END_TEST

/* FNV-1a as published, over the words that the plan of VALUES stands for, in a second writing. */
START_TEST(the_digest_is_the_same_on_every_machine)
{
    const uint64_t words[] = {3, 2, 0, 2, 1, 2, 0, 3, 0, 1, 2, 0, 2, 10, 11, 2, 1, 2, 1, 7, 0};
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (int byte = 0; byte < 8; byte++) {
            hash ^= words[i] / ((uint64_t)1 << 8 * byte) % 256;
            hash *= 1099511628211u;
        }
    ck_assert_uint_eq(digest_of(VALUES), hash);
}
END_TEST

/* ---- refusals ---------------------------------------------------------------------------------------------------------------- */

static void assert_no_plan(lrk_allocator *by, const lrk_scores *from, lrk_status expected, const char *words)
{
    lrk_plan *none = (lrk_plan *)&s;
    small_set_assert_failed(s.context, lrk_allocator_plan(by, from, 0, &none), expected, words);
    ck_assert_ptr_null(none);
}

START_TEST(scores_of_older_values_are_stale)
{
    ck_assert_int_eq(lrk_adapters_values_changed(s.adapters), LRK_OK);
    assert_no_plan(allocator, scores, LRK_ERR_STALE, "parameters changed");
}
END_TEST

START_TEST(scores_of_older_ranks_are_stale)
{
    plan = small_set_plan(allocator, scores);
    small_set_carry_out(plan, NULL, 0);
    assert_no_plan(allocator, scores, LRK_ERR_STALE, "ranks changed");
}
END_TEST

START_TEST(scores_of_another_set_are_refused)
{
    small_set other;
    small_set_open_ranks(&other, 3, (const int64_t[]){3, 3, 3});
    lrk_scores *foreign = small_set_scores(&other, VALUES);
    assert_no_plan(allocator, foreign, LRK_ERR_ARGUMENT, "another set");
    lrk_scores_destroy(foreign);
    small_set_close(&other);
}
END_TEST

START_TEST(bad_arguments_are_refused)
{
    lrk_plan_info info = {.struct_size = sizeof info};
    lrk_plan_module part = {.struct_size = sizeof part};
    uint64_t digest;
    ck_assert_int_eq(lrk_allocator_plan(NULL, scores, 0, &plan), LRK_ERR_ARGUMENT);
    assert_no_plan(allocator, NULL, LRK_ERR_ARGUMENT, "scores");
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, 0, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, -1, &plan), LRK_ERR_ARGUMENT);
    plan = small_set_plan(allocator, scores);
    ck_assert_int_eq(lrk_plan_info_get(NULL, &info), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_info_get(plan, NULL), LRK_ERR_ARGUMENT);
    info.struct_size = 4;
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_module_get(NULL, 0, &part), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_module_get(plan, -1, &part), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_module_get(plan, 3, &part), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_module_get(plan, 0, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_digest(NULL, &digest), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_digest(plan, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
}
END_TEST

START_TEST(a_second_plan_waits_for_the_first)
{
    plan = small_set_plan(allocator, scores);
    assert_no_plan(allocator, scores, LRK_ERR_STATE, "the plan of round 0");
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    assert_no_plan(allocator, scores, LRK_ERR_STATE, "the plan of round 0");
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan *again = small_set_plan(allocator, scores);
    ck_assert_uint_eq(info_of(again).round, 0);
    small_set_carry_out(again, NULL, 0);
    lrk_plan_destroy(again);
    lrk_scores *fresh = small_set_scores(&s, VALUES);
    again = small_set_plan(allocator, fresh);
    ck_assert_uint_eq(info_of(again).round, 1);
    assert_no_plan(allocator, fresh, LRK_ERR_STATE, "the plan of round 1");
    ck_assert_int_eq(lrk_plan_abandon(again), LRK_OK);
    lrk_plan_destroy(again);
    lrk_scores_destroy(fresh);
}
END_TEST

START_TEST(an_open_plan_destroyed_stays_on_the_account_and_is_logged)
{
    plan = small_set_plan(allocator, scores);
    lrk_plan_destroy(plan);
    plan = NULL;
    ck_assert_ptr_nonnull(strstr(s.host.log, "1: the plan of round 0 was destroyed while open"));
    assert_no_plan(allocator, scores, LRK_ERR_STATE, "the plan of round 0");
}
END_TEST

START_TEST(a_prepared_plan_destroyed_is_abandoned_and_logged)
{
    plan = small_set_plan(allocator, scores);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    lrk_plan_destroy(plan);
    ck_assert_ptr_nonnull(strstr(s.host.log, "1: the plan of round 0 was destroyed while prepared"));
    plan = small_set_plan(allocator, scores);
    small_set_carry_out(plan, NULL, 0);
    s.host.log[0] = '\0';
    lrk_plan_destroy(plan);
    plan = NULL;
    ck_assert_str_eq(s.host.log, "");
}
END_TEST

START_TEST(a_plan_outlives_allocator_scores_and_set)
{
    plan = small_set_plan(allocator, scores);
    lrk_allocator_destroy(allocator);
    allocator = NULL;
    lrk_scores_destroy(scores);
    scores = NULL;
    lrk_adapters_destroy(s.adapters);
    s.adapters = NULL;
    ck_assert_str_eq(info_of(plan).policy, "alora");
    small_set_carry_out(plan, NULL, 0);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------------------------------------- */

static lrk_status create_and_plan(lrk_plan **made)
{
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "*", .floor = 1, .cap = 9};
    lrk_alora_options options = small_set_alora(2);
    options.protect_rounds = 1;
    options.limits = &limit;
    options.n_limits = 1;
    lrk_allocator *own = (lrk_allocator *)&s;
    lrk_status status = lrk_allocator_create_alora(s.adapters, &options, &own);
    if (status != LRK_OK) {
        ck_assert_ptr_null(own);
        return status;
    }
    status = lrk_allocator_plan(own, scores, 0, made);
    if (status != LRK_OK) { /* a failed plan is on nobody's account */
        ck_assert_ptr_null(*made);
        s.host.alloc.fail_at = -1;
        lrk_plan *retried = small_set_plan(own, scores);
        small_set_assert_plan(retried, 3, "1 .+2 0");
        ck_assert_int_eq(lrk_plan_abandon(retried), LRK_OK);
        lrk_plan_destroy(retried);
    }
    lrk_allocator_destroy(own);
    return status;
}

START_TEST(every_allocation_may_fail) /* _i: 0 once, 1 from there on */
{
    int64_t before = s.host.alloc.calls;
    ck_assert_int_eq(create_and_plan(&plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    plan = NULL;
    int64_t total = s.host.alloc.calls - before;
    int64_t live = s.host.live;
    ck_assert_int_ge(total, 10);
    for (int64_t i = 0; i < total; i++) {
        lrk_plan *made = (lrk_plan *)&s;
        s.host.alloc = (fault_counter){.fail_at = i, .sticky = _i == 1};
        ck_assert_int_eq(create_and_plan(&made), LRK_ERR_NOMEM);
        ck_assert_int_eq(s.host.live, live);
    }
    s.host.alloc.fail_at = -1;
}
END_TEST

static void add_refusals(TCase *tests)
{
    tcase_add_test(tests, scores_of_older_values_are_stale);
    tcase_add_test(tests, scores_of_older_ranks_are_stale);
    tcase_add_test(tests, scores_of_another_set_are_refused);
    tcase_add_test(tests, bad_arguments_are_refused);
    tcase_add_test(tests, a_second_plan_waits_for_the_first);
    tcase_add_test(tests, an_open_plan_destroyed_stays_on_the_account_and_is_logged);
    tcase_add_test(tests, a_prepared_plan_destroyed_is_abandoned_and_logged);
    tcase_add_test(tests, a_plan_outlives_allocator_scores_and_set);
    tcase_add_loop_test(tests, every_allocation_may_fail, 0, 2);
}

Suite *plan_suite(void);

Suite *plan_suite(void)
{
    Suite *suite = suite_create("plan");
    TCase *tests = tcase_create("plan");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_plan_reports_what_it_does);
    tcase_add_test(tests, bytes_moved_is_what_the_commit_copies);
    tcase_add_test(tests, bytes_moved_counts_a_module_compacted_in_place);
    tcase_add_test(tests, new_identities_run_on_from_module_to_module);
    tcase_add_test(tests, an_empty_plan_has_no_cut_and_moves_nothing);
    tcase_add_test(tests, the_next_score_is_one_that_could_have_gone);
    tcase_add_test(tests, the_digest_tells_plans_apart_and_not_their_scores);
    tcase_add_test(tests, the_digest_is_the_same_on_every_machine);
    add_refusals(tests);
    suite_add_tcase(suite, tests);
    return suite;
}
