/* SPDX-License-Identifier: MIT */
/*
 * IncreLoRA's policy: plans worked out by hand, random agreement with a naive transcription, refusals, faults and restores.
 * LRK_TEST_SEED sets the first seed.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "importance/importance.h"
#include "policy_rig.h"
#include "sets.h"

enum { SEEDS = 400, ROUNDS = 5 };

static small_set s;
static lrk_increlora_options options;

static void set_usual(void)
{
    ck_assert_int_eq(lrk_increlora_options_init(&options, sizeof options), LRK_OK);
    options.grow_modules = 2;
    options.budget = 20;
}

static void setup(void)
{
    memset(&s, 0, sizeof s);
    set_usual();
}

static void teardown(void)
{
    small_set_close(&s);
}

static lrk_allocator *make(const small_set *set, const lrk_increlora_options *given)
{
    lrk_allocator *allocator = NULL;
    lrk_status status = lrk_allocator_create_increlora(set->adapters, given, &allocator);
    char detail[256];
    lrk_context_error(set->context, detail, sizeof detail);
    ck_assert_msg(status == LRK_OK, "%s", detail);
    return allocator;
}

static void assert_plan(int32_t n_modules, const double *values, const char *expected)
{
    lrk_allocator *allocator = make(&s, &options);
    small_set_assert_plan_of(&s, allocator, n_modules, values, expected);
    lrk_allocator_destroy(allocator);
}

/* ---- by hand --------------------------------------------------------------------------------------------------------- */

START_TEST(the_modules_of_highest_sum_grow)
{
    const double values[] = {1, 1, 1, 2.5, 0.5, 4};
    small_set_open_ranks(&s, 4, (const int64_t[]){3, 1, 1, 1});
    options.grow_ranks = 3;
    assert_plan(4, values, ".+3 . . .+3");
    options.module_score = LRK_MODULE_MEAN;
    assert_plan(4, values, ". .+3 . .+3");
}
END_TEST

START_TEST(equal_sums_grow_in_module_order_and_rank_zero_comes_last)
{
    const double values[] = {-1, -1, -1};
    small_set_open_ranks(&s, 4, (const int64_t[]){0, 1, 1, 1});
    assert_plan(4, values, ". .+1 .+1 .");
    options.grow_modules = 4;
    assert_plan(4, values, ".+1 .+1 .+1 .+1");
}
END_TEST

START_TEST(growth_ends_at_the_budget)
{
    const double values[] = {3, 2, 1};
    small_set_open_ranks(&s, 3, (const int64_t[]){1, 1, 1});
    options.grow_ranks = 2;
    options.budget = 6;
    assert_plan(3, values, ".+2 .+1 .");
    options.budget = 3;
    assert_plan(3, values, ". . .");
}
END_TEST

START_TEST(a_full_or_dear_module_leaves_its_turn_to_the_next)
{
    const small_module modules[] = {{1, 1, 1, 0, 0}, {9, 1, 1, 0, 0}, {1, 1, 1, 0, 0}, {1, 1, 1, 0, 0}};
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "m0", .floor = 0, .cap = 1};
    const double values[] = {4, 3, 2, 1};
    small_set_open(&s, modules, 4, NULL);
    options.limits = &limit;
    options.n_limits = 1;
    options.budget_unit = LRK_BUDGET_PARAMETERS;
    options.budget = 16 + 9;
    assert_plan(4, values, ". . .+1 .+1");
}
END_TEST

START_TEST(nothing_is_pruned_and_there_is_no_cut)
{
    const double values[] = {3, 2, 1};
    int64_t n_move = -1;
    small_set_open_ranks(&s, 3, (const int64_t[]){1, 1, 1});
    lrk_allocator *allocator = make(&s, &options);
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n_move), LRK_OK);
    ck_assert_int_eq(n_move, 0);
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    ck_assert_str_eq(info.policy, "increlora");
    ck_assert(isnan(info.cut) && isnan(info.cut_next));
    small_set_carry_out(plan, NULL, 0);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(modules_are_compared_by_scores_of_one_provenance)
{
    const double values[] = {9, 1, 1};
    small_set_open_ranks(&s, 3, (const int64_t[]){1, 1, 1});
    lrk_scores *scores = small_set_scores(&s, values);
    const double estimates[] = {0, 2, 3};
    for (int i = 0; i < 3; i++)
        scores->scores[i].estimate = estimates[i];
    scores->scores[0].flags = LRK_SCORE_EXACT;
    options.grow_modules = 1;
    lrk_allocator *allocator = make(&s, &options);
    lrk_plan *plan = small_set_plan(allocator, scores);
    small_set_assert_plan(plan, 3, ". . .+1");
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_allocator_destroy(allocator);
    lrk_scores_destroy(scores);
}
END_TEST

/* ---- the transcription ----------------------------------------------------------------------------------------------- */

typedef struct trial {
    policy_rig rig;
    lrk_increlora_options options;
} trial;

static double score_of(const policy_rig *rig, const lrk_increlora_options *o, int m)
{
    double sum = 0;
    for (int64_t j = 0; j < rig->rank[m]; j++)
        sum += rig->score[m][j];
    if (rig->rank[m] == 0) return -INFINITY;
    return o->module_score == LRK_MODULE_SUM ? sum : sum / (double)rig->rank[m];
}

static bool can_grow(const policy_rig *rig, int m)
{
    int64_t held = policy_rig_held(rig);
    for (int i = 0; i < rig->n_modules; i++)
        held += rig->add[i] * rig->cost[i];
    return policy_rig_has_room(rig, m) && held + rig->cost[m] <= rig->budget;
}

static void transcribe(policy_rig *rig, void *user)
{
    const lrk_increlora_options *o = user;
    bool asked[RIG_MODULES] = {false};
    for (int64_t grown = 0; grown < o->grow_modules;) {
        int best = -1;
        for (int m = 0; m < rig->n_modules; m++)
            if (!asked[m] && (best < 0 || score_of(rig, o, m) > score_of(rig, o, best))) best = m;
        if (best < 0) return;
        asked[best] = true;
        grown += can_grow(rig, best);
        for (int64_t i = 0; i < o->grow_ranks && can_grow(rig, best); i++)
            rig->add[best]++;
    }
}

static void draw_trial(trial *t, uint64_t seed)
{
    policy_rig_open(&t->rig, seed);
    uint64_t *random = &t->rig.random;
    t->rig.budget += small_random_below(random, 40);
    lrk_increlora_options_init(&t->options, sizeof t->options);
    t->options.grow_modules = 1 + small_random_below(random, 4);
    t->options.grow_ranks = 1 + small_random_below(random, 3);
    t->options.module_score = (int32_t)small_random_below(random, 2);
    t->options.budget = t->rig.budget;
    t->options.budget_unit = t->rig.budget_unit;
    t->options.limits = t->rig.limits;
    t->options.n_limits = t->rig.n_modules;
}

START_TEST(plans_agree_with_the_naive_transcription)
{
    static trial t;
    for (uint64_t seed = policy_rig_first_seed(); seed < policy_rig_first_seed() + SEEDS; seed++) {
        draw_trial(&t, seed);
        lrk_allocator *allocator = make(&t.rig.set, &t.options);
        for (int round = 0; round < ROUNDS; round++)
            policy_rig_round(&t.rig, allocator, transcribe, &t.options, seed);
        lrk_allocator_destroy(allocator);
        policy_rig_close(&t.rig);
    }
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
}
END_TEST

START_TEST(a_restored_run_plans_the_same)
{
    static trial old, fresh;
    for (uint64_t seed = policy_rig_first_seed(); seed < policy_rig_first_seed() + 40; seed++) {
        draw_trial(&old, seed);
        draw_trial(&fresh, seed);
        lrk_allocator *a = make(&old.rig.set, &old.options);
        lrk_allocator *b = make(&fresh.rig.set, &fresh.options);
        for (int round = 0; round < 2; round++)
            policy_rig_round(&old.rig, a, transcribe, &old.options, seed);
        policy_rig_resume(&old.rig, a, &fresh.rig, b);
        lrk_allocator_destroy(a);
        lrk_allocator_destroy(b);
        policy_rig_close(&old.rig);
        policy_rig_close(&fresh.rig);
    }
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
}
END_TEST

/* ---- refusals and faults --------------------------------------------------------------------------------------------- */

static void assert_not_restored(lrk_increlora_options other, const char *words)
{
    lrk_allocator *a = make(&s, &options);
    lrk_allocator *b = make(&s, &other);
    small_set_assert_failed(s.context, policy_rig_restore(&s, a, &s, b), LRK_ERR_ARGUMENT, words);
    lrk_allocator_destroy(a);
    lrk_allocator_destroy(b);
}

START_TEST(a_restore_needs_the_same_options)
{
    small_set_open_ranks(&s, 2, (const int64_t[]){3, 3});
    lrk_increlora_options other = options;
    other.grow_modules = 1;
    assert_not_restored(other, "grow_modules is 2 in the checkpoint and 1 here");
    other = options;
    other.grow_ranks = 2;
    assert_not_restored(other, "grow_ranks is 1 in the checkpoint and 2 here");
    other = options;
    other.module_score = LRK_MODULE_MEAN;
    assert_not_restored(other, "module_score is 0 in the checkpoint and 1 here");
}
END_TEST

static void assert_refused(lrk_status expected, const char *words)
{
    lrk_allocator *allocator = (lrk_allocator *)&s;
    lrk_status status = lrk_allocator_create_increlora(s.adapters, &options, &allocator);
    ck_assert_ptr_null(allocator);
    small_set_assert_failed(s.context, status, expected, words);
    set_usual();
}

START_TEST(options_out_of_range_are_refused_by_name)
{
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "none", .cap = LRK_NO_CAP};
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 1});
    options.grow_modules = 0;
    assert_refused(LRK_ERR_ARGUMENT, "grow_modules must be >= 1");
    options.grow_ranks = 0;
    assert_refused(LRK_ERR_ARGUMENT, "grow_ranks must be >= 1");
    options.budget = LRK_BUDGET_INITIAL;
    assert_refused(LRK_ERR_ARGUMENT, "budget must be set");
    options.module_score = 2;
    assert_refused(LRK_ERR_ARGUMENT, "module_score is unknown");
    options.reserved = 1;
    assert_refused(LRK_ERR_ARGUMENT, "reserved");
    options.flags = 1;
    assert_refused(LRK_ERR_ARGUMENT, "flags");
    options.budget_unit = 2;
    assert_refused(LRK_ERR_ARGUMENT, "budget_unit");
    options.new_rank_init = LRK_INIT_ZERO;
    assert_refused(LRK_ERR_ARGUMENT, "new_rank_init");
    options.n_limits = 1;
    assert_refused(LRK_ERR_ARGUMENT, "limits");
    options.limits = &limit;
    options.n_limits = 1;
    assert_refused(LRK_ERR_NOT_FOUND, "limit 'none' decides no module");
    options.budget = 2;
    assert_refused(LRK_ERR_BUDGET, "holds 3 ranks, the budget is 2");
    options.struct_size = 4;
    assert_refused(LRK_ERR_ARGUMENT, "struct_size");
    lrk_allocator *allocator;
    ck_assert_int_eq(lrk_allocator_create_increlora(NULL, &options, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_create_increlora(s.adapters, NULL, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_create_increlora(s.adapters, &options, NULL), LRK_ERR_ARGUMENT);
}
END_TEST

static lrk_status create_one(void *user)
{
    return lrk_allocator_create_increlora(s.adapters, &options, user);
}

static void destroy_one(void *user)
{
    lrk_allocator_destroy(*(lrk_allocator **)user);
}

START_TEST(every_failed_request_for_memory_leaves_everything_as_it_was)
{
    const double values[] = {3, 2, 1};
    lrk_allocator *made = NULL;
    small_set_open_ranks(&s, 3, (const int64_t[]){1, 1, 1});
    options.new_rank_init = LRK_INIT_ORTHOGONAL;
    sets_each_fault(&s.host, create_one, destroy_one, &made);
    lrk_allocator *allocator = make(&s, &options);
    lrk_scores *scores = small_set_scores(&s, values);
    policy_rig_each_fault(&s, allocator, scores);
    lrk_scores_destroy(scores);
    small_set_assert_plan_of(&s, allocator, 3, values, ".+1 .+1 .");
    lrk_allocator_destroy(allocator);
}
END_TEST

Suite *increlora_suite(void);
Suite *increlora_suite(void)
{
    Suite *suite = suite_create("increlora");
    TCase *tests = tcase_create("increlora");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_modules_of_highest_sum_grow);
    tcase_add_test(tests, equal_sums_grow_in_module_order_and_rank_zero_comes_last);
    tcase_add_test(tests, growth_ends_at_the_budget);
    tcase_add_test(tests, a_full_or_dear_module_leaves_its_turn_to_the_next);
    tcase_add_test(tests, nothing_is_pruned_and_there_is_no_cut);
    tcase_add_test(tests, modules_are_compared_by_scores_of_one_provenance);
    tcase_add_test(tests, plans_agree_with_the_naive_transcription);
    tcase_add_test(tests, a_restored_run_plans_the_same);
    tcase_add_test(tests, a_restore_needs_the_same_options);
    tcase_add_test(tests, options_out_of_range_are_refused_by_name);
    tcase_add_test(tests, every_failed_request_for_memory_leaves_everything_as_it_was);
    suite_add_tcase(suite, tests);
    return suite;
}
