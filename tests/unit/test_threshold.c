/* SPDX-License-Identifier: MIT */
/*
 * The threshold policy: plans by hand, random agreement with a naive transcription, refusals, faults and restores.
 * LRK_TEST_SEED sets the first seed.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "policy_rig.h"
#include "sets.h"

enum { SEEDS = 400, ROUNDS = 4 };

static small_set s;
static lrk_threshold_options options;

static void setup(void)
{
    memset(&s, 0, sizeof s);
    ck_assert_int_eq(lrk_threshold_options_init(&options, sizeof options), LRK_OK);
}

static void teardown(void)
{
    small_set_close(&s);
}

static lrk_allocator *make(const small_set *set, const lrk_threshold_options *given)
{
    lrk_allocator *allocator = NULL;
    ck_assert_int_eq(lrk_allocator_create_threshold(set->adapters, given, &allocator), LRK_OK);
    return allocator;
}

/* ---- by hand --------------------------------------------------------------------------------------------------------- */

START_TEST(what_is_not_above_the_threshold_goes)
{
    const double values[] = {0, 0.1, 0, -1, 0.5, 0.25};
    small_set_open_ranks(&s, 3, (const int64_t[]){2, 2, 2});
    lrk_allocator *allocator = make(&s, NULL);
    small_set_assert_plan_of(&s, allocator, 3, values, "0 0,1 .");
    lrk_allocator_destroy(allocator);
    options.threshold = 0.25;
    allocator = make(&s, &options);
    small_set_assert_plan_of(&s, allocator, 3, values, "0,1 0,1 1");
    lrk_allocator_destroy(allocator);
    options.threshold = -2;
    allocator = make(&s, &options);
    small_set_assert_plan_of(&s, allocator, 3, values, ". . .");
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(a_floor_keeps_the_highest)
{
    const double values[] = {0.2, 0.1, 0.3, 0.1, 0.1};
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "*", .floor = 1, .cap = LRK_NO_CAP};
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 2, 0});
    options.threshold = 1;
    options.limits = &limit;
    options.n_limits = 1;
    lrk_allocator *allocator = make(&s, &options);
    small_set_assert_plan_of(&s, allocator, 3, values, "0,1 0 .");
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(there_is_no_budget_and_no_number_beforehand)
{
    const double values[] = {1, 1, 1};
    int64_t n_move = -1;
    small_set_open_ranks(&s, 1, (const int64_t[]){3});
    lrk_allocator *allocator = make(&s, NULL);
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n_move), LRK_OK);
    ck_assert_int_eq(n_move, 0);
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    ck_assert_str_eq(info.policy, "threshold");
    ck_assert(isnan(info.cut) && info.cut_next == 1);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
}
END_TEST

/* ---- the transcription ----------------------------------------------------------------------------------------------- */

/* One rank at a time: the lowest that may go, until none is left at or below the threshold. */
static void transcribe(policy_rig *rig, void *user)
{
    const lrk_threshold_options *o = user;
    for (;;) {
        int module = -1;
        int64_t index = 0;
        for (int m = 0; m < rig->n_modules; m++)
            for (int64_t j = 0; j < rig->rank[m]; j++) {
                bool floor = rig->rank[m] - policy_rig_dropped(rig, m) <= rig->limits[m].floor;
                if (floor || rig->drop[m][j] || policy_rig_newborn(rig, m, j)) continue;
                if (module >= 0 && rig->score[m][j] >= rig->score[module][index]) continue;
                module = m;
                index = j;
            }
        if (module < 0 || rig->score[module][index] > o->threshold) return;
        rig->drop[module][index] = true;
    }
}

typedef struct trial {
    policy_rig rig;
    lrk_threshold_options options;
} trial;

static void draw_trial(trial *t, uint64_t seed)
{
    policy_rig_open(&t->rig, seed);
    t->rig.n_move_unknown = true;
    lrk_threshold_options_init(&t->options, sizeof t->options);
    t->options.threshold = (double)(small_random_below(&t->rig.random, 24) - 12) / 4;
    t->options.protect_rounds = t->rig.protect_rounds;
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

START_TEST(newborn_ranks_are_safe)
{
    const double values[] = {0.9, 0.8, 0.1, 0.2};
    const double zeros[] = {0, 0, 0, 0};
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 2});
    options.protect_rounds = 1;
    lrk_alora_options alora = small_set_alora(1);
    alora.protect_rounds = 1;
    lrk_allocator *grower = small_set_allocator(&s, &alora);
    lrk_allocator *allocator = make(&s, &options);
    small_set_move(&s, allocator, 2, values, ". ."); /* its account begins */
    small_set_move(&s, grower, 2, values, ".+1 0");
    /* what came after its last plan is new to it */
    small_set_assert_plan_of(&s, allocator, 2, zeros, "0,1 0");
    lrk_allocator_destroy(allocator);
    lrk_allocator_destroy(grower);
}
END_TEST

START_TEST(a_restored_run_plans_the_same_with_the_same_options)
{
    static trial old, fresh;
    draw_trial(&old, 5);
    draw_trial(&fresh, 5);
    lrk_allocator *a = make(&old.rig.set, &old.options);
    lrk_allocator *b = make(&fresh.rig.set, &fresh.options);
    policy_rig_round(&old.rig, a, transcribe, &old.options, 5);
    policy_rig_resume(&old.rig, a, &fresh.rig, b);
    lrk_allocator_destroy(b);
    fresh.options.threshold = 77;
    b = make(&fresh.rig.set, &fresh.options);
    small_set_assert_failed(fresh.rig.set.context, policy_rig_restore(&old.rig.set, a, &fresh.rig.set, b),
                            LRK_ERR_ARGUMENT, "in the checkpoint and 77 here");
    lrk_allocator_destroy(a);
    lrk_allocator_destroy(b);
    policy_rig_close(&old.rig);
    policy_rig_close(&fresh.rig);
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
}
END_TEST

/* ---- refusals and faults --------------------------------------------------------------------------------------------- */

static void assert_refused(lrk_status expected, const char *words)
{
    lrk_allocator *allocator = (lrk_allocator *)&s;
    lrk_status status = lrk_allocator_create_threshold(s.adapters, &options, &allocator);
    ck_assert_ptr_null(allocator);
    small_set_assert_failed(s.context, status, expected, words);
    ck_assert_int_eq(lrk_threshold_options_init(&options, sizeof options), LRK_OK);
}

START_TEST(options_out_of_range_are_refused_by_name)
{
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "none", .cap = LRK_NO_CAP};
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 1});
    options.threshold = NAN;
    assert_refused(LRK_ERR_ARGUMENT, "threshold must be finite");
    options.threshold = INFINITY;
    assert_refused(LRK_ERR_ARGUMENT, "threshold must be finite");
    options.flags = 1;
    assert_refused(LRK_ERR_ARGUMENT, "flags");
    options.reserved = 1;
    assert_refused(LRK_ERR_ARGUMENT, "reserved");
    options.protect_rounds = -1;
    assert_refused(LRK_ERR_ARGUMENT, "protect_rounds");
    options.n_limits = 1;
    assert_refused(LRK_ERR_ARGUMENT, "limits");
    options.limits = &limit;
    options.n_limits = 1;
    assert_refused(LRK_ERR_NOT_FOUND, "limit 'none' decides no module");
    options.struct_size = 4;
    assert_refused(LRK_ERR_ARGUMENT, "struct_size");
    lrk_allocator *allocator;
    ck_assert_int_eq(lrk_allocator_create_threshold(NULL, &options, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_create_threshold(s.adapters, &options, NULL), LRK_ERR_ARGUMENT);
}
END_TEST

static lrk_status create_one(void *user)
{
    return lrk_allocator_create_threshold(s.adapters, &options, user);
}

static void destroy_one(void *user)
{
    lrk_allocator_destroy(*(lrk_allocator **)user);
}

START_TEST(every_failed_request_for_memory_leaves_everything_as_it_was)
{
    const double values[] = {0, 2, 1};
    lrk_allocator *made = NULL;
    small_set_open_ranks(&s, 3, (const int64_t[]){1, 1, 1});
    sets_each_fault(&s.host, create_one, destroy_one, &made);
    lrk_allocator *allocator = make(&s, &options);
    lrk_scores *scores = small_set_scores(&s, values);
    policy_rig_each_fault(&s, allocator, scores);
    lrk_scores_destroy(scores);
    small_set_assert_plan_of(&s, allocator, 3, values, "0 . .");
    lrk_allocator_destroy(allocator);
}
END_TEST

Suite *threshold_suite(void);
Suite *threshold_suite(void)
{
    Suite *suite = suite_create("threshold");
    TCase *tests = tcase_create("threshold");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_is_not_above_the_threshold_goes);
    tcase_add_test(tests, a_floor_keeps_the_highest);
    tcase_add_test(tests, there_is_no_budget_and_no_number_beforehand);
    tcase_add_test(tests, plans_agree_with_the_naive_transcription);
    tcase_add_test(tests, newborn_ranks_are_safe);
    tcase_add_test(tests, a_restored_run_plans_the_same_with_the_same_options);
    tcase_add_test(tests, options_out_of_range_are_refused_by_name);
    tcase_add_test(tests, every_failed_request_for_memory_leaves_everything_as_it_was);
    suite_add_tcase(suite, tests);
    return suite;
}
