/* SPDX-License-Identifier: MIT */
/*
 * Screened scoring: the pool and its growth, what is reported for ranks inside and outside it, and runs that go on where
 * they stopped.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "importance/ablation.h"
#include "table.h"

static lrk_scores *run_once(table *t, const lrk_ablation_options *options)
{
    lrk_estimator *estimator = table_estimator(t, options);
    lrk_scores *scores = table_run(estimator);
    lrk_estimator_destroy(estimator);
    return scores;
}

/* The two-point score of a rank is `estimate`, half of it from either side. */
static void set_estimate(table *t, int32_t rank, double estimate)
{
    t->gradient[LRK_BASELINE_ALL][rank] = t->gradient[LRK_BASELINE_NONE][rank] = -estimate / 2;
}

/* Both scores of a rank. */
static void set_rank(table *t, int32_t rank, double estimate, double exact)
{
    set_estimate(t, rank, estimate);
    table_terms(t, rank, exact / 4, exact * 3 / 4);
}

static bool is_exact(const lrk_scores *scores, int64_t i)
{
    return (table_score(scores, i).flags & LRK_SCORE_EXACT) != 0;
}

/* ---- the pool ----------------------------------------------------------------------------------------------------------------- */

START_TEST(the_first_pool_is_twice_the_cut_and_at_least_sixteen)
{
    lrk_ablation_options o = table_options(LRK_ABLATION_SCREENED);
    ck_assert_int_eq(lrki_pool_first(&o, 1000), 16);
    o.n_cut = 8;
    ck_assert_int_eq(lrki_pool_first(&o, 1000), 16);
    o.n_cut = 9;
    ck_assert_int_eq(lrki_pool_first(&o, 1000), 18);
    ck_assert_int_eq(lrki_pool_first(&o, 10), 10);
    ck_assert_int_eq(lrki_pool_most(&o, 1000), 1000);
    o.pool_limit = 17;
    ck_assert_int_eq(lrki_pool_first(&o, 1000), 17);
    ck_assert_int_eq(lrki_pool_most(&o, 1000), 17);
    ck_assert_int_eq(lrki_pool_most(&o, 9), 9);
    o.pool = 8;
    ck_assert_int_eq(lrki_pool_first(&o, 1000), 8);
    o = table_options(LRK_ABLATION_SCREENED);
    o.n_cut = INT64_MAX;
    ck_assert_int_eq(lrki_pool_first(&o, 1000), 1000);
}
END_TEST

static void check_entry(const table *t, int32_t at, char kind, int32_t baseline, int32_t rank)
{
    const table_entry *e = &t->log[at];
    ck_assert_int_eq(e->kind, kind);
    ck_assert_int_eq(e->index, at);
    ck_assert_int_eq(e->baseline, baseline);
    ck_assert_uint_eq(e->identity, rank < 0 ? 0 : t->identities[rank]);
}

/* Estimates 1..8 by rank; the first two are worth much more than estimated. */
static void growing_table(table *t)
{
    for (int i = 0; i < TABLE_RANKS; i++)
        set_rank(t, i, i + 1, i + 1.5);
    set_rank(t, 0, 1, 10);
    set_rank(t, 1, 2, 20);
    set_rank(t, 2, 3, 4.5);
}

START_TEST(the_pool_grows_while_a_rank_outside_is_estimated_below_the_cut)
{
    table *t = table_create();
    growing_table(t);
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    options.pool = 2;
    lrk_estimator *estimator = table_estimator(t, &options);
    lrk_estimate cost = {.struct_size = sizeof cost};
    ck_assert_int_eq(lrk_estimator_estimate(estimator, &cost), LRK_OK);
    ck_assert_int_eq(cost.evaluations, 2 * 2 + 2);
    ck_assert_int_eq(cost.evaluations_most, 2 * TABLE_RANKS + 2);
    ck_assert_int_eq(cost.differentiations, 2);
    lrk_scores *scores = table_run(estimator);
    /* cut 10: the four lowest of six join (cut 4.5 by rank 2); 7 and 8 stay outside */
    lrk_scores_info info = table_info(scores);
    ck_assert_str_eq(info.estimator, "ablation.screened");
    ck_assert_int_eq(info.n_exact, 6);
    ck_assert_int_eq(info.evaluations, 2 * 6 + 2);
    ck_assert_int_eq(info.differentiations, 2);
    ck_assert_int_eq(t->done, 16);
    ck_assert_int_eq(t->total, 16);
    for (int i = 0; i < TABLE_RANKS; i++) {
        lrk_score s = table_score(scores, i);
        bool inside = i < 6;
        ck_assert_int_eq(is_exact(scores, i), inside);
        ck_assert_double_eq(s.estimate, i + 1);
        double exact = i == 0 ? 10 : i == 1 ? 20 : i == 2 ? 4.5 : i + 1.5;
        ck_assert_double_eq(s.score, inside ? exact : i + 1);
        ck_assert_double_eq(s.t1, inside ? exact / 4 : (i + 1) / 2.0);
        ck_assert_double_eq(s.t2, inside ? exact * 3 / 4 : (i + 1) / 2.0);
        ck_assert(inside ? s.noise == 0 : isnan(s.noise));
    }
    /* rank 0 is at stage 2, ranks 1 too, 2 3 4 at stage 0, 5 at stage 1 */
    static const struct {
        char kind;
        int32_t baseline, rank;
    } want[] = {{'D', 0, -1}, {'D', 1, -1}, {'E', 0, -1}, {'E', 0, 0}, {'E', 0, 1}, {'E', 1, -1},
                {'E', 1, 0},  {'E', 1, 1},  {'E', 0, 2},  {'E', 0, 3}, {'E', 0, 4}, {'E', 0, 5},
                {'E', 1, 2},  {'E', 1, 3},  {'E', 1, 4},  {'E', 1, 5}};
    ck_assert_int_eq(t->n_log, 16);
    for (int32_t i = 0; i < 16; i++)
        check_entry(t, i, want[i].kind, want[i].baseline, want[i].rank);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(ranks_join_by_steps_and_each_step_may_lower_the_cut)
{
    /* by one or two: rank 2 (cut 4.5 from there on) and 3 (estimated 4); by more: as many as the step takes */
    static const int64_t want[] = {0, 4, 4, 5, 6, 7};
    for (int64_t step = 1; step <= 5; step++) {
        table *t = table_create();
        growing_table(t);
        lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
        options.pool = 2;
        options.pool_step = step;
        lrk_scores *scores = run_once(t, &options);
        ck_assert_int_eq(table_info(scores).n_exact, want[step]);
        lrk_scores_destroy(scores);
        table_destroy(t);
    }
}
END_TEST

START_TEST(a_tie_with_the_cut_is_decided_by_module_and_identity)
{
    table *t = table_create();
    for (int i = 0; i < TABLE_RANKS; i++)
        set_rank(t, i, 50, 60);
    set_rank(t, 4, 1, 5); /* the pool: cut (5, module 1, identity 5) */
    set_rank(t, 3, 5, 6); /* same module, older: before the cut */
    set_rank(t, 6, 5, 6); /* a later module: behind it */
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    options.pool = 1;
    lrk_scores *scores = run_once(t, &options);
    ck_assert(is_exact(scores, 4));
    ck_assert(is_exact(scores, 3));
    ck_assert(!is_exact(scores, 6));
    ck_assert_int_eq(table_info(scores).n_exact, 2);
    lrk_scores_destroy(scores);
    table_destroy(t);
}
END_TEST

START_TEST(the_pool_takes_equal_estimates_by_module_and_identity)
{
    table *t = table_create();
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    options.pool = 3;
    for (int i = 0; i < TABLE_RANKS; i++)
        set_rank(t, i, 1, 0);
    lrk_scores *scores = run_once(t, &options);
    for (int i = 0; i < TABLE_RANKS; i++)
        ck_assert_int_eq(is_exact(scores, i), i < 3);
    lrk_scores_destroy(scores);
    table_destroy(t);
}
END_TEST

START_TEST(the_pool_stops_at_its_limit_and_says_so)
{
    table *t = table_create();
    growing_table(t);
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    options.pool = 2;
    options.pool_limit = 2;
    lrk_scores *scores = run_once(t, &options);
    ck_assert_int_eq(table_info(scores).n_exact, 2);
    ck_assert_ptr_nonnull(strstr(t->fault.log, "pool_limit = 2 with 6 ranks outside"));
    lrk_scores_destroy(scores);
    t->fault.log[0] = '\0';
    options.pool_limit = 6; /* reached, but nothing is left below the cut */
    scores = run_once(t, &options);
    ck_assert_int_eq(table_info(scores).n_exact, 6);
    ck_assert_str_eq(t->fault.log, "");
    lrk_scores_destroy(scores);
    table_destroy(t);
}
END_TEST

START_TEST(the_cut_counts_as_many_ranks_as_asked)
{
    table *t = table_create();
    for (int i = 0; i < TABLE_RANKS; i++)
        set_rank(t, i, i, i);
    set_rank(t, 2, 2, 5.5); /* third lowest of the pool: ranks 3, 4, 5 outside are estimated below */
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    options.pool = 3;
    for (options.n_cut = 1; options.n_cut <= 3; options.n_cut++) {
        lrk_scores *scores = run_once(t, &options);
        ck_assert_int_eq(table_info(scores).n_exact, options.n_cut == 3 ? 6 : 3);
        lrk_scores_destroy(scores);
    }
    options.n_cut = 100; /* more than there are */
    options.pool = LRK_POOL_DEFAULT;
    lrk_scores *scores = run_once(t, &options);
    ck_assert_int_eq(table_info(scores).n_exact, TABLE_RANKS);
    lrk_scores_destroy(scores);
    table_destroy(t);
}
END_TEST

/* Whatever the numbers: what will be cut was ablated, and no estimated rank comes before it. */
START_TEST(the_lowest_n_cut_of_a_screened_run_are_exact)
{
    uint64_t state = (uint64_t)_i;
    table *t = table_create();
    for (int round = 0; round < 20; round++) {
        lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
        options.n_cut = 1 + (int64_t)(sets_random(&state) % 4);
        options.pool = options.n_cut + (int64_t)(sets_random(&state) % 3);
        options.pool_step = 1 + (int64_t)(sets_random(&state) % 3);
        for (int i = 0; i < TABLE_RANKS; i++)
            set_rank(t, i, (double)(sets_random(&state) % 6) / 4, (double)(sets_random(&state) % 8) / 4);
        table_forget_log(t);
        lrk_scores *scores = run_once(t, &options);
        int64_t lowest[TABLE_RANKS], n_exact = 0;
        ck_assert_int_eq(lrk_scores_lowest(scores, TABLE_RANKS, lowest), LRK_OK);
        for (int64_t i = 0; i < options.n_cut; i++)
            ck_assert(is_exact(scores, lowest[i]));
        for (int64_t i = 0; i < TABLE_RANKS; i++)
            n_exact += is_exact(scores, i);
        ck_assert_int_eq(table_info(scores).n_exact, n_exact);
        ck_assert_int_eq(table_info(scores).evaluations, 2 * n_exact + 2);
        ck_assert_int_eq(t->n_log, 2 * n_exact + 4);
        ck_assert_int_ge(n_exact, options.pool);
        lrk_scores_destroy(scores);
    }
    table_destroy(t);
}
END_TEST

START_TEST(a_vital_rank_at_a_flat_optimum_is_not_cut)
{
    table *t = table_create();
    for (int i = 0; i < TABLE_RANKS; i++)
        set_rank(t, i, 0.25 * (i + 1), 0.25 * (i + 1));
    set_rank(t, 3, -0.25, 0.5); /* no derivative shows that it is worth more than rank 0 */
    int64_t lowest;
    lrk_ablation_options options = table_options(LRK_ABLATION_TWO_POINT);
    lrk_scores *scores = run_once(t, &options);
    ck_assert_int_eq(lrk_scores_lowest(scores, 1, &lowest), LRK_OK);
    ck_assert_int_eq(lowest, 3);
    lrk_scores_destroy(scores);
    options.mode = LRK_ABLATION_SCREENED;
    options.pool = 1;
    scores = run_once(t, &options);
    ck_assert_int_eq(lrk_scores_lowest(scores, 1, &lowest), LRK_OK);
    ck_assert_int_eq(lowest, 0);
    lrk_scores_destroy(scores);
    table_destroy(t);
}
END_TEST

START_TEST(a_host_whose_differentiation_is_the_baseline_is_not_asked_for_it_again)
{
    table *t = table_create();
    growing_table(t);
    table_set(t, 1, 3);
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    options.pool = 2;
    options.noise_floor_repeats = 2;
    t->drift = 0.5;
    for (int32_t flag = 0; flag < 2; flag++) {
        lrk_evaluator evaluator = table_evaluator(t);
        evaluator.flags = flag == 0 ? 0 : LRK_EVALUATOR_DIFFERENTIATE_IS_BASELINE;
        lrk_estimator *estimator;
        table_forget_log(t);
        ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, &options, &estimator),
                         LRK_OK);
        lrk_estimate cost = {.struct_size = sizeof cost};
        ck_assert_int_eq(lrk_estimator_estimate(estimator, &cost), LRK_OK);
        ck_assert_int_eq(cost.evaluations, 2 * 2 + 2 * (3 - flag));
        lrk_scores *scores = table_run(estimator);
        lrk_scores_info info = table_info(scores);
        ck_assert_int_eq(t->asked[0], 3 - flag);
        ck_assert_int_eq(t->asked[1], 3 - flag);
        ck_assert_int_eq(info.evaluations, 2 * info.n_exact + 2 * (3 - flag));
        ck_assert_double_eq(info.loss_all, 1);
        ck_assert_double_eq(info.loss_none, 3);
        ck_assert_double_eq(info.noise_floor,
                            flag == 0 ? 1.0 : 0.5); /* 2 or 1 drifts, a quarter each, twice */
        ck_assert_int_eq(info.n_exact, 6);
        ck_assert_double_eq(table_score(scores, 2).score, 6.5); /* 4.5, and t2 is higher by the base's 2 */
        lrk_scores_destroy(scores);
        lrk_estimator_destroy(estimator);
    }
    table_destroy(t);
}
END_TEST

/* ---- resuming ------------------------------------------------------------------------------------------------------------------- */

START_TEST(a_screened_run_goes_on_to_the_same_scores_from_anywhere)
{
    table *t = table_create();
    growing_table(t);
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    options.pool = 2;
    options.pool_step = 2;
    lrk_evaluator evaluator = table_evaluator(t);
    evaluator.max_per_call = 2;
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, &options, &estimator), LRK_OK);
    lrk_scores *want = table_run(estimator), *scores;
    int32_t points = t->progressed, calls = t->calls, entries = t->n_log;
    for (int32_t at = 0; at < 2 * points; at++) {
        table_forget_log(t);
        *(at % 2 == 0 ? &t->cancel_at : &t->fail_call) = at / 2;
        lrk_status status = lrk_estimator_run(estimator, 0, &scores);
        ck_assert_int_eq(status, at % 2 == 0 ? LRK_ERR_CANCELLED : LRK_ERR_HOST);
        scores = table_run(estimator);
        table_same_scores(want, scores);
        ck_assert_int_eq(t->n_log, entries);
        ck_assert_int_eq(t->calls, calls + at % 2);
        lrk_scores_destroy(scores);
    }
    t->fail_call = 0;
    table_forget_log(t);
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_HOST,
                "differentiate() returned 8 with all ranks");
    lrk_scores_destroy(want);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

Suite *screened_suite(void);

Suite *screened_suite(void)
{
    Suite *suite = suite_create("screened");
    TCase *pool = tcase_create("pool");
    tcase_add_test(pool, the_first_pool_is_twice_the_cut_and_at_least_sixteen);
    tcase_add_test(pool, the_pool_grows_while_a_rank_outside_is_estimated_below_the_cut);
    tcase_add_test(pool, ranks_join_by_steps_and_each_step_may_lower_the_cut);
    tcase_add_test(pool, a_tie_with_the_cut_is_decided_by_module_and_identity);
    tcase_add_test(pool, the_pool_takes_equal_estimates_by_module_and_identity);
    tcase_add_test(pool, the_pool_stops_at_its_limit_and_says_so);
    tcase_add_test(pool, the_cut_counts_as_many_ranks_as_asked);
    tcase_add_loop_test(pool, the_lowest_n_cut_of_a_screened_run_are_exact, 0, 10);
    tcase_add_test(pool, a_vital_rank_at_a_flat_optimum_is_not_cut);
    tcase_add_test(pool, a_host_whose_differentiation_is_the_baseline_is_not_asked_for_it_again);
    tcase_add_test(pool, a_screened_run_goes_on_to_the_same_scores_from_anywhere);
    suite_add_tcase(suite, pool);
    return suite;
}
