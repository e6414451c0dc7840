/* SPDX-License-Identifier: MIT */
/*
 * Limits and the check of answers: which limit decides which module, what is refused, and that a custom policy cannot
 * get past budget, floors, caps or fixed capacities.
 */
#include <check.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "small_set.h"

static small_set s;

/* What the host's policy answers: an index to drop and a number to add for every module. */
typedef struct answer {
    int64_t n_drop;
    int64_t drop[8];
    int64_t add[3];
    int32_t status;
    lrk_policy_request copy;
    lrk_allocator *nested; /* asked for a plan inside the callback */
    lrk_status nested_status;
    lrk_snapshot *restored; /* restored inside the callback */
    lrk_status restore_status;
    bool writes_values; /* changes values inside the callback */
} answer;

static answer given;

static int32_t answer_plan(void *user, const lrk_policy_request *request)
{
    answer *a = user;
    a->copy = *request;
    for (int64_t i = 0; i < request->n_ranks; i++)
        ck_assert_uint_eq(request->drop[i], 0);
    for (int64_t i = 0; i < a->n_drop; i++)
        request->drop[a->drop[i]] = 1;
    for (int32_t m = 0; m < request->n_modules; m++) {
        ck_assert_int_eq(request->add[m], 0);
        request->add[m] = a->add[m];
    }
    if (a->nested != NULL) {
        lrk_plan *plan = NULL;
        a->nested_status = lrk_allocator_plan(a->nested, request->scores, 0, &plan);
        ck_assert_ptr_null(plan);
    }
    if (a->restored != NULL) a->restore_status = lrk_snapshot_restore(a->restored, s.adapters);
    if (a->writes_values) ck_assert_int_eq(lrk_adapters_values_changed(s.adapters), LRK_OK);
    return a->status;
}

static lrk_custom_policy policy_of(void)
{
    lrk_custom_policy policy;
    ck_assert_int_eq(lrk_custom_policy_init(&policy, sizeof policy), LRK_OK);
    policy.user = &given;
    policy.name = "mine";
    policy.plan = answer_plan;
    return policy;
}

static void setup(void)
{
    memset(&given, 0, sizeof given);
    small_set_open_ranks(&s, 3, (const int64_t[]){2, 2, 2});
}

static void teardown(void)
{
    small_set_close(&s);
}

static lrk_limit limit_of(const char *pattern, int64_t floor, int64_t cap)
{
    lrk_limit limit;
    ck_assert_int_eq(lrk_limit_init(&limit, sizeof limit), LRK_OK);
    ck_assert_int_eq(limit.cap, LRK_NO_CAP);
    limit.pattern = pattern;
    limit.floor = floor;
    limit.cap = cap;
    return limit;
}

/* ---- which limit decides -------------------------------------------------------------------------------------------------- */

static void assert_limits_refused(const lrk_limit *limits, int64_t n, lrk_status expected, const char *words)
{
    lrk_alora_options options = small_set_alora(1);
    lrk_allocator *allocator = (lrk_allocator *)&s;
    options.limits = limits;
    options.n_limits = n;
    small_set_assert_failed(s.context, lrk_allocator_create_alora(s.adapters, &options, &allocator), expected,
                            words);
    ck_assert_ptr_null(allocator);
}

START_TEST(a_limit_that_decides_no_module_is_named)
{
    const lrk_limit unknown[] = {limit_of("m0", 0, 4), limit_of("*.q", 0, 4)};
    const lrk_limit shadowed[] = {limit_of("*", 0, 4), limit_of("m1", 0, 4)};
    assert_limits_refused(unknown, 2, LRK_ERR_NOT_FOUND, "'*.q'");
    assert_limits_refused(shadowed, 2, LRK_ERR_NOT_FOUND, "'m1'");
}
END_TEST

START_TEST(limits_out_of_range_are_named)
{
    lrk_limit limit = limit_of("m1", -1, 4);
    assert_limits_refused(&limit, 1, LRK_ERR_ARGUMENT, "floor must be >= 0 in limit 'm1'");
    limit = limit_of("m1", 0, -2);
    assert_limits_refused(&limit, 1, LRK_ERR_ARGUMENT, "cap must be");
    limit = limit_of("m1", 4, 3);
    assert_limits_refused(&limit, 1, LRK_ERR_ARGUMENT, "floor is above cap in limit 'm1'");
    limit = limit_of(NULL, 0, 3);
    assert_limits_refused(&limit, 1, LRK_ERR_ARGUMENT, "pattern of limit 0");
    limit = limit_of("m1", 0, 3);
    limit.flags = 1;
    assert_limits_refused(&limit, 1, LRK_ERR_ARGUMENT, "flags");
    limit = limit_of("m1", 0, 3);
    limit.struct_size = 4;
    assert_limits_refused(&limit, 1, LRK_ERR_ARGUMENT, "struct_size");
    ck_assert_int_eq(lrk_limit_init(NULL, sizeof limit), LRK_ERR_ARGUMENT);
}
END_TEST

START_TEST(the_first_limit_that_matches_decides)
{
    const lrk_limit limits[] = {limit_of("m[01]", 1, 3), limit_of("*", 0, 2)};
    lrk_alora_options options = small_set_alora(4);
    options.limits = limits;
    options.n_limits = 2;
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    int64_t n = 0;
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
    ck_assert_int_eq(n, 4); /* 1 + 1 + 2 of 6 */
    lrk_scores *scores = small_set_scores(&s, (const double[]){0.1, 0.2, 0.9, 0.9, 0.3, 0.4});
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_assert_plan(plan, 3, "0 0 0,1");
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(limits_are_stepped_by_the_first_ones_size)
{
    struct {
        lrk_limit known;
        uint64_t tail;
    } limits[2] = {{limit_of("m0", 2, LRK_NO_CAP), 0}, {limit_of("m1", 2, LRK_NO_CAP), 0}};
    limits[0].known.struct_size = limits[1].known.struct_size = sizeof limits[0];
    lrk_alora_options options = small_set_alora(6);
    options.limits = &limits[0].known;
    options.n_limits = 2;
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    int64_t n = 0;
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
    ck_assert_int_eq(n, 2);
    lrk_allocator_destroy(allocator);
    limits[1].tail = 1;
    allocator = NULL;
    ck_assert_int_eq(lrk_allocator_create_alora(s.adapters, &options, &allocator), LRK_ERR_VERSION);
}
END_TEST

/* ---- answers of a custom policy -------------------------------------------------------------------------------------------- */

static lrk_status plan_by(const lrk_custom_policy *policy, const char *expected)
{
    lrk_allocator *allocator = NULL;
    lrk_plan *plan = (lrk_plan *)&s;
    ck_assert_int_eq(lrk_allocator_create_custom(s.adapters, policy, &allocator), LRK_OK);
    lrk_scores *scores = small_set_scores(&s, (const double[]){1, 2, 3, 4, 5, 6});
    lrk_status status = lrk_allocator_plan(allocator, scores, 3, &plan);
    if (status == LRK_OK) {
        small_set_assert_plan(plan, 3, expected);
        ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    } else {
        ck_assert_ptr_null(plan);
    }
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    return status;
}

static void answer_with(int64_t n_drop, const int64_t *drop, const int64_t *add)
{
    memset(&given, 0, sizeof given);
    given.n_drop = n_drop;
    for (int64_t i = 0; i < n_drop; i++)
        given.drop[i] = drop[i];
    memcpy(given.add, add, sizeof given.add);
}

START_TEST(a_custom_answer_becomes_the_plan)
{
    lrk_custom_policy policy = policy_of();
    answer_with(3, (const int64_t[]){0, 3, 4}, (const int64_t[]){0, 3, 0});
    ck_assert_int_eq(plan_by(&policy, "0 1+3 0"), LRK_OK);
    ck_assert_int_eq(given.copy.n_ranks, 6);
    ck_assert_int_eq(given.copy.n_modules, 3);
    ck_assert_uint_eq(given.copy.round, 0);
    ck_assert_uint_eq(given.copy.struct_size, sizeof given.copy);
}
END_TEST

START_TEST(an_answer_over_the_budget_names_the_module)
{
    lrk_custom_policy policy = policy_of();
    answer_with(1, (const int64_t[]){0}, (const int64_t[]){0, 1, 1});
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_BUDGET, "module 'm2'");
    lrk_error_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_context_error_info(s.context, &info), LRK_OK);
    ck_assert_int_eq(info.module, 2);
    given.add[0] = 1; /* replaced; the next is one too many */
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_BUDGET, "module 'm1'");
    given.add[0] = 2;
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_BUDGET, "module 'm0'");
    given.add[0] = 0;
    policy.budget = 7;
    ck_assert_int_eq(plan_by(&policy, "0 .+1 .+1"), LRK_OK);
    policy.budget_unit = LRK_BUDGET_PARAMETERS;
    policy.budget = 49;
    ck_assert_int_eq(plan_by(&policy, "0 .+1 .+1"), LRK_OK);
    policy.budget = 48;
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_BUDGET, "module 'm2'");
    given.add[2] = INT64_MAX;
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_BUDGET, "module 'm2'");
    given.add[2] = -1;
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_BUDGET, "module 'm2': the plan adds -1");
}
END_TEST

START_TEST(an_answer_below_a_floor_or_above_a_cap_names_the_module)
{
    const lrk_limit limits[] = {limit_of("m0", 2, 3), limit_of("m1", 0, 1)};
    lrk_custom_policy policy = policy_of();
    policy.limits = limits;
    policy.n_limits = 2;
    policy.budget = 20;
    answer_with(1, (const int64_t[]){1}, (const int64_t[]){0, 0, 0});
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_BUDGET,
                            "'m0': the plan's rank 1 is below the floor 2");
    answer_with(0, NULL, (const int64_t[]){2, 0, 0});
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_BUDGET,
                            "'m0': the plan's rank 4 is above the cap");
    answer_with(0, NULL, (const int64_t[]){0, 1, 0});
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_BUDGET, "'m1'");
    answer_with(2, (const int64_t[]){0, 2}, (const int64_t[]){1, 1, 0});
    ck_assert_int_eq(plan_by(&policy, "0+1 0+1 ."), LRK_OK); /* replacing does not move a rank past a limit */
    answer_with(0, NULL, (const int64_t[]){1, 0, 0});
    ck_assert_int_eq(plan_by(&policy, ".+1 . ."), LRK_OK);
}
END_TEST

START_TEST(a_policy_that_fails_is_named)
{
    lrk_custom_policy policy = policy_of();
    given.status = 5;
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_HOST,
                            "policy 'mine': plan() returned 5");
}
END_TEST

START_TEST(inside_a_policy_plans_and_changes_are_refused)
{
    lrk_custom_policy policy = policy_of();
    lrk_alora_options options = small_set_alora(1);
    lrk_allocator *other = small_set_allocator(&s, &options);
    ck_assert_int_eq(lrk_snapshot_create(s.adapters, &given.restored), LRK_OK);
    given.nested = other;
    ck_assert_int_eq(plan_by(&policy, ". . ."), LRK_OK);
    ck_assert_int_eq(given.nested_status, LRK_ERR_BUSY);
    ck_assert_int_eq(given.restore_status, LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_snapshot_restore(given.restored, s.adapters), LRK_OK);
    lrk_snapshot_destroy(given.restored);
    lrk_allocator_destroy(other);
}
END_TEST

START_TEST(a_plan_speaks_of_the_values_that_were_scored)
{
    lrk_custom_policy policy = policy_of();
    lrk_allocator *allocator = NULL;
    given.writes_values = true;
    ck_assert_int_eq(lrk_allocator_create_custom(s.adapters, &policy, &allocator), LRK_OK);
    lrk_scores *scores = small_set_scores(&s, (const double[]){1, 2, 3, 4, 5, 6});
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_assert_failed(s.context, lrk_plan_prepare(plan, NULL, 0), LRK_ERR_STALE, "parameters changed");
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(custom_policies_out_of_contract_are_refused)
{
    lrk_allocator *allocator = (lrk_allocator *)&s;
    lrk_custom_policy policy = policy_of();
    policy.plan = NULL;
    small_set_assert_failed(s.context, lrk_allocator_create_custom(s.adapters, &policy, &allocator),
                            LRK_ERR_ARGUMENT, "plan");
    ck_assert_ptr_null(allocator);
    policy = policy_of();
    policy.name = "";
    small_set_assert_failed(s.context, lrk_allocator_create_custom(s.adapters, &policy, &allocator),
                            LRK_ERR_ARGUMENT, "name");
    policy = policy_of();
    policy.flags = 1;
    small_set_assert_failed(s.context, lrk_allocator_create_custom(s.adapters, &policy, &allocator),
                            LRK_ERR_ARGUMENT, "flags");
    policy = policy_of();
    policy.budget = 5;
    small_set_assert_failed(s.context, lrk_allocator_create_custom(s.adapters, &policy, &allocator),
                            LRK_ERR_BUDGET, "holds 6 ranks");
    policy = policy_of();
    policy.struct_size = 4;
    ck_assert_int_eq(lrk_allocator_create_custom(s.adapters, &policy, &allocator), LRK_ERR_ARGUMENT);
    policy = policy_of();
    ck_assert_int_eq(lrk_allocator_create_custom(NULL, &policy, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_create_custom(s.adapters, NULL, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_create_custom(s.adapters, &policy, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_custom_policy_init(NULL, sizeof policy), LRK_ERR_ARGUMENT);
}
END_TEST

START_TEST(shorter_structs_leave_the_defaults_of_the_rest)
{
    lrk_custom_policy policy = policy_of();
    lrk_limit limit = limit_of("m0", 2, 0);
    answer_with(1, (const int64_t[]){2}, (const int64_t[]){0, 1, 1});
    policy.budget = 100;
    policy.struct_size = offsetof(lrk_custom_policy, budget);
    small_set_assert_failed(s.context, plan_by(&policy, ""), LRK_ERR_BUDGET, "budget of 6");
    limit.struct_size = offsetof(lrk_limit, cap);
    policy = policy_of();
    policy.limits = &limit;
    policy.n_limits = 1;
    answer_with(2, (const int64_t[]){2, 3}, (const int64_t[]){2, 0, 0}); /* no cap is read */
    ck_assert_int_eq(plan_by(&policy, ".+2 0,1 ."), LRK_OK);
}
END_TEST

START_TEST(the_fixed_policy_changes_nothing_and_moves_none)
{
    lrk_allocator *allocator = NULL;
    int64_t n = -1;
    ck_assert_int_eq(lrk_allocator_create_fixed(NULL, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_create_fixed(s.adapters, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_create_fixed(s.adapters, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
    ck_assert_int_eq(n, 0);
    ck_assert_int_eq(lrk_allocator_n_move(allocator, NULL), LRK_ERR_ARGUMENT);
    lrk_scores *scores = small_set_scores(&s, (const double[]){1, 2, 3, 4, 5, 6});
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_assert_plan(plan, 3, ". . .");
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    ck_assert_str_eq(info.policy, "fixed");
    ck_assert(isnan(info.cut) && isnan(info.cut_next));
    small_set_carry_out(plan, NULL, 0);
    ck_assert_int_eq(small_set_rank(&s, 0), 2);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
}
END_TEST

Suite *limits_suite(void);

Suite *limits_suite(void)
{
    Suite *suite = suite_create("limits");
    TCase *tests = tcase_create("limits");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_limit_that_decides_no_module_is_named);
    tcase_add_test(tests, limits_out_of_range_are_named);
    tcase_add_test(tests, the_first_limit_that_matches_decides);
    tcase_add_test(tests, limits_are_stepped_by_the_first_ones_size);
    tcase_add_test(tests, a_custom_answer_becomes_the_plan);
    tcase_add_test(tests, an_answer_over_the_budget_names_the_module);
    tcase_add_test(tests, an_answer_below_a_floor_or_above_a_cap_names_the_module);
    tcase_add_test(tests, a_policy_that_fails_is_named);
    tcase_add_test(tests, inside_a_policy_plans_and_changes_are_refused);
    tcase_add_test(tests, a_plan_speaks_of_the_values_that_were_scored);
    tcase_add_test(tests, custom_policies_out_of_contract_are_refused);
    tcase_add_test(tests, shorter_structs_leave_the_defaults_of_the_rest);
    tcase_add_test(tests, the_fixed_policy_changes_nothing_and_moves_none);
    suite_add_tcase(suite, tests);
    return suite;
}
