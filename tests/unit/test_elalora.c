/* SPDX-License-Identifier: MIT */
/*
 * ElaLoRA's policy: plans worked out by hand, random agreement with a naive transcription that looks for one rank at a time,
 * refusals, faults and restores. LRK_TEST_SEED sets the first seed.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "policy_rig.h"
#include "sets.h"

enum { SEEDS = 400, ROUNDS = 5 };

static small_set s;
static lrk_elalora_options options;

static void setup(void)
{
    memset(&s, 0, sizeof s);
    ck_assert_int_eq(lrk_elalora_options_init(&options, sizeof options), LRK_OK);
    options.n_move = 2;
}

static void teardown(void)
{
    small_set_close(&s);
}

static lrk_allocator *make(const small_set *set, const lrk_elalora_options *given)
{
    lrk_allocator *allocator = NULL;
    lrk_status status = lrk_allocator_create_elalora(set->adapters, given, &allocator);
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

static int64_t n_move_of(const lrk_allocator *allocator)
{
    int64_t n = -1;
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n), LRK_OK);
    return n;
}

/* ---- by hand --------------------------------------------------------------------------------------------------------- */

START_TEST(the_lowest_nominees_go_and_the_highest_bring_their_modules_a_rank)
{
    /* nominees: m0 .1 .2, m1 .3 .8, m2 .6 .7; lowest .1 .2, highest .8 .7 */
    const double values[] = {0.1, 0.2, 0.9, 0.8, 0.3, 0.9, 0.6, 0.7, 1.0};
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 3, 3});
    assert_plan(3, values, "0,1 .+1 .+1");
}
END_TEST

START_TEST(a_module_of_both_highest_nominees_grows_by_two)
{
    const double values[] = {0.1, 0.2, 0.9, 0.3, 0.4, 0.9, 0.6, 0.7, 1.0};
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 3, 3});
    assert_plan(3, values, "0,1 . .+2");
}
END_TEST

START_TEST(a_module_can_lose_its_lowest_and_grow_by_its_other_nominee)
{
    const double values[] = {0.1, 0.8, 0.9, 0.5, 0.6, 0.9};
    small_set_open_ranks(&s, 2, (const int64_t[]){3, 3});
    options.n_move = 1;
    assert_plan(2, values, "0+1 .");
}
END_TEST

START_TEST(no_module_nominates_its_last_rank)
{
    const double values[] = {-9, -8, -7, 0.5, 0.6, 0.7};
    small_set_open_ranks(&s, 4, (const int64_t[]){1, 1, 1, 3});
    options.n_move = 3;
    assert_plan(4, values, ". . . 0+1");
}
END_TEST

START_TEST(few_nominees_are_halved)
{
    const double values[] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6};
    small_set_open_ranks(&s, 3, (const int64_t[]){2, 2, 2});
    lrk_allocator *allocator = make(&s, &options);
    ck_assert_int_eq(n_move_of(allocator), 1);
    small_set_assert_plan_of(&s, allocator, 3, values, "0 . .+1");
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(a_full_module_is_passed_over)
{
    const double values[] = {0.1, 0.2, 0.9, 0.3, 0.4, 0.9, 0.6, 0.7, 1.0};
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "m2", .floor = 0, .cap = 3};
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 3, 3});
    options.limits = &limit;
    options.n_limits = 1;
    assert_plan(3, values, "0,1 .+2 .");
}
END_TEST

START_TEST(in_parameters_a_rank_that_is_too_dear_is_passed_over)
{
    /* a rank costs 2 in m0, 7 in m1 and 2 in m2: what m0 loses buys none in m1 */
    const small_module modules[] = {{1, 1, 3, 0, 0}, {4, 3, 3, 0, 0}, {1, 1, 3, 0, 0}};
    const double values[] = {0.1, 0.2, 0.9, 0.6, 0.7, 1.0, 0.3, 0.4, 0.9};
    small_set_open(&s, modules, 3, NULL);
    options.budget_unit = LRK_BUDGET_PARAMETERS;
    assert_plan(3, values, "0,1 . .+2");
}
END_TEST

START_TEST(b_goes_evenly_to_its_last_value)
{
    static const int64_t expected[] = {5, 4, 2, 1, 1, 1}; /* 5, 3.67, 2.33, 1 */
    small_set_open_ranks(&s, 4, (const int64_t[]){6, 6, 6, 6});
    options.n_move = 5;
    options.n_move_last = 1;
    options.n_rounds = 4;
    options.nominees = 4;
    lrk_allocator *allocator = make(&s, &options);
    for (int round = 0; round < 6; round++) {
        double values[24];
        for (int i = 0; i < 24; i++)
            values[i] = (double)(i * 7 % 24);
        int64_t want = expected[round];
        ck_assert_int_eq(n_move_of(allocator), want);
        lrk_scores *scores = small_set_scores(&s, values);
        lrk_plan *plan = small_set_plan(allocator, scores);
        lrk_plan_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
        ck_assert_str_eq(info.policy, "elalora");
        ck_assert_int_eq(info.n_dropped, want);
        ck_assert_int_eq(info.n_added, want);
        small_set_carry_out(plan, NULL, 0);
        lrk_plan_destroy(plan);
        lrk_scores_destroy(scores);
    }
    lrk_allocator_destroy(allocator);
}
END_TEST

START_TEST(the_cut_lies_between_the_nominees)
{
    const double values[] = {0.1, 0.2, 0.9, 0.8, 0.3, 0.9, -5, 0.6, 0.7, 1.0};
    small_set_open_ranks(&s, 4, (const int64_t[]){3, 3, 1, 3});
    lrk_allocator *allocator = make(&s, &options);
    lrk_scores *scores = small_set_scores(&s, values);
    lrk_plan *plan = small_set_plan(allocator, scores);
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    ck_assert(info.cut == 0.2 && info.cut_next == 0.3);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
}
END_TEST

/* ---- the transcription ----------------------------------------------------------------------------------------------- */

typedef struct trial {
    policy_rig rig;
    lrk_elalora_options options;
} trial;

static int64_t b_of(const lrk_elalora_options *o, int64_t round)
{
    if (o->n_move_last == 0) return o->n_move;
    if (round >= o->n_rounds - 1) return o->n_move_last;
    double step = (double)(o->n_move_last - o->n_move) / (double)(o->n_rounds - 1);
    return (int64_t)floor((double)o->n_move + step * (double)round + 0.5);
}

/* Marks the module's next nominee: its lowest rank not yet named, if it may name one more. */
static bool name_one(const policy_rig *rig, const lrk_elalora_options *o, int m, bool named[RIG_RANKS])
{
    int64_t count = 0;
    int64_t best = -1;
    for (int64_t j = 0; j < rig->rank[m]; j++) {
        count += named[j];
        if (named[j] || policy_rig_newborn(rig, m, j)) continue;
        if (best < 0 || rig->score[m][j] < rig->score[m][best]) best = j;
    }
    int64_t remain = rig->rank[m] - count - 1;
    if (best < 0 || count == o->nominees || remain < 1 || remain < rig->limits[m].floor) return false;
    return named[best] = true;
}

/* Lowest or highest nominee that is not taken: by score, module, index. */
static bool find(const policy_rig *rig, bool pool[RIG_MODULES][RIG_RANKS], bool highest, int *module,
                 int64_t *index)
{
    bool found = false;
    for (int m = 0; m < rig->n_modules; m++)
        for (int64_t j = 0; j < rig->rank[m]; j++) {
            if (!pool[m][j]) continue;
            double score = rig->score[m][j];
            if (found &&
                (highest ? score < rig->score[*module][*index] : score >= rig->score[*module][*index]))
                continue;
            found = true;
            *module = m;
            *index = j;
        }
    return found;
}

static void transcribe(policy_rig *rig, void *user)
{
    const lrk_elalora_options *o = user;
    static bool pool[RIG_MODULES][RIG_RANKS];
    memset(pool, 0, sizeof pool);
    int64_t n_pool = 0;
    for (int m = 0; m < rig->n_modules; m++)
        while (name_one(rig, o, m, pool[m]))
            n_pool++;
    int64_t n = (int64_t)fmin((double)b_of(o, rig->round), (double)(n_pool / 2));
    int64_t purse = rig->budget - policy_rig_held(rig);
    int module = 0;
    int64_t index = 0;
    for (int64_t i = 0; i < n && find(rig, pool, false, &module, &index); i++) {
        rig->drop[module][index] = true;
        pool[module][index] = false;
        purse += rig->cost[module];
    }
    for (int64_t left = n; left > 0 && find(rig, pool, true, &module, &index);) {
        pool[module][index] = false;
        if (rig->cost[module] > purse || !policy_rig_has_room(rig, module)) continue;
        rig->add[module]++;
        purse -= rig->cost[module];
        left--;
    }
}

static void draw_trial(trial *t, uint64_t seed)
{
    policy_rig_open(&t->rig, seed);
    uint64_t *random = &t->rig.random;
    lrk_elalora_options_init(&t->options, sizeof t->options);
    t->options.n_move = 1 + small_random_below(random, 5);
    if (small_random_below(random, 2)) {
        t->options.n_move_last = 1 + small_random_below(random, 5);
        t->options.n_rounds = 2 + small_random_below(random, 4);
    }
    t->options.nominees = 1 + small_random_below(random, 4);
    t->options.budget = t->rig.budget;
    t->options.budget_unit = t->rig.budget_unit;
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

START_TEST(a_restored_run_plans_the_same)
{
    static trial old, fresh;
    for (uint64_t seed = policy_rig_first_seed(); seed < policy_rig_first_seed() + 40; seed++) {
        draw_trial(&old, seed);
        draw_trial(&fresh, seed);
        lrk_allocator *a = make(&old.rig.set, &old.options);
        lrk_allocator *b = make(&fresh.rig.set, &fresh.options);
        for (int round = 0; round < 3; round++)
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

static void assert_not_restored(lrk_elalora_options other, const char *words)
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
    lrk_elalora_options other = options;
    other.n_move = 3;
    assert_not_restored(other, "n_move is 2 in the checkpoint and 3 here");
    other = options;
    other.nominees = 1;
    assert_not_restored(other, "nominees is 2 in the checkpoint and 1 here");
    other = options;
    other.n_move_last = 1;
    other.n_rounds = 2;
    assert_not_restored(other, "n_move_last is 0 in the checkpoint and 1 here");
    options.n_move_last = 1;
    options.n_rounds = 3;
    assert_not_restored(other, "n_rounds is 3 in the checkpoint and 2 here");
}
END_TEST

static void assert_refused(lrk_status expected, const char *words)
{
    lrk_allocator *allocator = (lrk_allocator *)&s;
    lrk_status status = lrk_allocator_create_elalora(s.adapters, &options, &allocator);
    ck_assert_ptr_null(allocator);
    small_set_assert_failed(s.context, status, expected, words);
    ck_assert_int_eq(lrk_elalora_options_init(&options, sizeof options), LRK_OK);
    options.n_move = 2;
}

START_TEST(options_out_of_range_are_refused_by_name)
{
    const lrk_limit limit = {.struct_size = sizeof limit, .pattern = "none", .cap = LRK_NO_CAP};
    small_set_open_ranks(&s, 2, (const int64_t[]){2, 1});
    options.n_move = 0;
    assert_refused(LRK_ERR_ARGUMENT, "n_move must be >= 1");
    options.n_move_last = -1;
    assert_refused(LRK_ERR_ARGUMENT, "n_move_last must be >= 1");
    options.n_move_last = 1;
    options.n_rounds = 1;
    assert_refused(LRK_ERR_ARGUMENT, "n_rounds must be >= 2");
    options.n_rounds = 2;
    assert_refused(LRK_ERR_ARGUMENT, "n_rounds needs n_move_last");
    options.nominees = 0;
    assert_refused(LRK_ERR_ARGUMENT, "nominees must be >= 1");
    options.reserved = 1;
    assert_refused(LRK_ERR_ARGUMENT, "reserved");
    options.flags = 1;
    assert_refused(LRK_ERR_ARGUMENT, "flags");
    options.budget = -2;
    assert_refused(LRK_ERR_ARGUMENT, "budget");
    options.budget_unit = 2;
    assert_refused(LRK_ERR_ARGUMENT, "budget_unit");
    options.new_rank_init = LRK_INIT_ZERO;
    assert_refused(LRK_ERR_ARGUMENT, "new_rank_init");
    options.protect_rounds = -1;
    assert_refused(LRK_ERR_ARGUMENT, "protect_rounds");
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
    ck_assert_int_eq(lrk_allocator_create_elalora(NULL, &options, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_create_elalora(s.adapters, NULL, &allocator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_allocator_create_elalora(s.adapters, &options, NULL), LRK_ERR_ARGUMENT);
}
END_TEST

static lrk_status create_one(void *user)
{
    return lrk_allocator_create_elalora(s.adapters, &options, user);
}

static void destroy_one(void *user)
{
    lrk_allocator_destroy(*(lrk_allocator **)user);
}

START_TEST(every_failed_request_for_memory_leaves_everything_as_it_was)
{
    const double values[] = {0.1, 0.2, 0.9, 0.8, 0.3, 0.9, 0.6, 0.7, 1.0};
    lrk_allocator *made = NULL;
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 3, 3});
    sets_each_fault(&s.host, create_one, destroy_one, &made);
    lrk_allocator *allocator = make(&s, &options);
    lrk_scores *scores = small_set_scores(&s, values);
    policy_rig_each_fault(&s, allocator, scores);
    lrk_scores_destroy(scores);
    small_set_assert_plan_of(&s, allocator, 3, values, "0,1 .+1 .+1");
    lrk_allocator_destroy(allocator);
}
END_TEST

Suite *elalora_suite(void);
Suite *elalora_suite(void)
{
    Suite *suite = suite_create("elalora");
    TCase *tests = tcase_create("elalora");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_lowest_nominees_go_and_the_highest_bring_their_modules_a_rank);
    tcase_add_test(tests, a_module_of_both_highest_nominees_grows_by_two);
    tcase_add_test(tests, a_module_can_lose_its_lowest_and_grow_by_its_other_nominee);
    tcase_add_test(tests, no_module_nominates_its_last_rank);
    tcase_add_test(tests, few_nominees_are_halved);
    tcase_add_test(tests, a_full_module_is_passed_over);
    tcase_add_test(tests, in_parameters_a_rank_that_is_too_dear_is_passed_over);
    tcase_add_test(tests, b_goes_evenly_to_its_last_value);
    tcase_add_test(tests, the_cut_lies_between_the_nominees);
    tcase_add_test(tests, plans_agree_with_the_naive_transcription);
    tcase_add_test(tests, a_restored_run_plans_the_same);
    tcase_add_test(tests, a_restore_needs_the_same_options);
    tcase_add_test(tests, options_out_of_range_are_refused_by_name);
    tcase_add_test(tests, every_failed_request_for_memory_leaves_everything_as_it_was);
    suite_add_tcase(suite, tests);
    return suite;
}
