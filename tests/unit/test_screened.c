/* SPDX-License-Identifier: MIT */
/*
 * Two-point and screened scoring: estimates from mask derivatives, the pool and its growth, what is reported for ranks
 * inside and outside it, and what screening finds and costs on the toy model.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "importance/ablation.h"
#include "table.h"
#include "toy.h"

static lrk_scores *run(lrk_estimator *estimator)
{
    lrk_scores *scores;
    char text[256];
    lrk_status status = lrk_estimator_run(estimator, 0, &scores);
    lrk_context_error(estimator->adapters->context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s: %s", lrk_status_name(status), text);
    return scores;
}

static lrk_scores *run_once(table *t, const lrk_ablation_options *options)
{
    lrk_estimator *estimator = table_estimator(t, options);
    lrk_scores *scores = run(estimator);
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

/* ---- two-point ------------------------------------------------------------------------------------------------------------ */

START_TEST(two_point_scores_are_minus_the_derivatives_at_both_ends)
{
    table *t = table_create();
    table_set(t, 0, 2.0);
    table_set(t, 1, 5.0);
    for (int i = 0; i < TABLE_RANKS; i++) {
        t->gradient[LRK_BASELINE_ALL][i] = 0.25 * i - 1;
        t->gradient[LRK_BASELINE_NONE][i] = 0.5 - i;
    }
    lrk_ablation_options options = table_options(LRK_ABLATION_TWO_POINT);
    lrk_estimator *estimator = table_estimator(t, &options);
    lrk_estimate cost = {.struct_size = sizeof cost};
    ck_assert_int_eq(lrk_estimator_estimate(estimator, &cost), LRK_OK);
    ck_assert_int_eq(cost.evaluations, 0);
    ck_assert_int_eq(cost.evaluations_most, 0);
    ck_assert_int_eq(cost.differentiations, 2);
    lrk_scores *scores = run(estimator);
    for (int i = 0; i < TABLE_RANKS; i++) {
        lrk_score s = table_score(scores, i);
        ck_assert_double_eq(s.t1, 1 - 0.25 * i);
        ck_assert_double_eq(s.t2, i - 0.5);
        ck_assert_double_eq(s.score, 0.5 + 0.75 * i);
        ck_assert_double_eq(s.estimate, s.score);
        ck_assert(isnan(s.noise));
        ck_assert_uint_eq(s.flags, 0);
    }
    lrk_scores_info info = table_info(scores);
    ck_assert_str_eq(info.estimator, "ablation.two_point");
    ck_assert_double_eq(info.loss_all, 2);
    ck_assert_double_eq(info.loss_none, 5);
    ck_assert_int_eq(info.n_exact, 0);
    ck_assert_int_eq(info.evaluations, 0);
    ck_assert_int_eq(info.differentiations, 2);
    ck_assert(isnan(info.split_correlation) && isnan(info.noise_floor));
    ck_assert_int_eq(t->n_log, 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(t->log[i].kind, 'D');
        ck_assert_int_eq(t->log[i].baseline, i == 0 ? LRK_BASELINE_ALL : LRK_BASELINE_NONE);
        ck_assert_int_eq(t->log[i].first_stage, LRK_NO_STAGE);
        ck_assert_int_eq(t->log[i].index, i);
        ck_assert_uint_eq(t->log[i].identity, 0);
    }
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(a_module_that_backward_does_not_reach_is_an_error)
{
    table *t = table_create();
    lrk_ablation_options options = table_options(LRK_ABLATION_TWO_POINT);
    lrk_estimator *estimator = table_estimator(t, &options);
    lrk_scores *scores;
    t->skip_module = 1;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NO_GRADIENT,
                "no backward of module 'm1'");
    t->skip_module = 4; /* has no ranks */
    lrk_scores_destroy(run(estimator));
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

static int32_t losses_only(void *user, const lrk_evaluation *e)
{
    (void)user;
    e->parts[0] = (lrk_loss_part){1, 1};
    return 0;
}

START_TEST(a_module_that_may_lack_a_gradient_is_then_estimated_as_zero)
{
    table *t = table_create();
    lrk_adapters *full = t->adapters;
    lrk_module_spec spec = sets_spec("expert", 4, 4, 2);
    spec.flags = LRK_MODULE_MAY_LACK_GRADIENT;
    t->adapters = sets_create(t->context, &spec, 1, NULL);
    lrk_evaluator evaluator = table_evaluator(t);
    evaluator.n_parts = 1;
    evaluator.differentiate = losses_only;
    lrk_ablation_options options = table_options(LRK_ABLATION_TWO_POINT);
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, &options, &estimator), LRK_OK);
    lrk_scores *scores = run(estimator);
    ck_assert_double_eq(table_score(scores, 1).score, 0);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    lrk_adapters_destroy(t->adapters);
    t->adapters = full;
    table_destroy(t);
}
END_TEST

START_TEST(a_derivative_that_is_not_finite_names_the_rank)
{
    table *t = table_create();
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    lrk_estimator *estimator = table_estimator(t, &options);
    lrk_scores *scores;
    t->gradient[LRK_BASELINE_NONE][6] = INFINITY;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE,
                "rank 7 of module 'm3'");
    lrk_error_info where = {.struct_size = sizeof where};
    ck_assert_int_eq(lrk_context_error_info(t->context, &where), LRK_OK);
    ck_assert_int_eq(where.module, 3);
    ck_assert_uint_eq(where.identity, t->identities[6]);
    t->gradient[LRK_BASELINE_NONE][6] = 0;
    t->losses[1][1] = NAN;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE, "nan with no rank");
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

/* ---- the pool ----------------------------------------------------------------------------------------------------------------- */

START_TEST(the_first_pool_is_three_times_the_cut_and_at_least_sixteen)
{
    lrk_ablation_options o = table_options(LRK_ABLATION_SCREENED);
    ck_assert_int_eq(lrki_pool_first(&o, 1000), 16);
    o.n_cut = 5;
    ck_assert_int_eq(lrki_pool_first(&o, 1000), 16);
    o.n_cut = 6;
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
    lrk_scores *scores = run(estimator);
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
        lrk_scores *scores = run(estimator);
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
    lrk_scores *want = run(estimator), *scores;
    int32_t points = t->progressed, calls = t->calls, entries = t->n_log;
    for (int32_t at = 0; at < 2 * points; at++) {
        table_forget_log(t);
        *(at % 2 == 0 ? &t->cancel_at : &t->fail_call) = at / 2;
        lrk_status status = lrk_estimator_run(estimator, 0, &scores);
        ck_assert_int_eq(status, at % 2 == 0 ? LRK_ERR_CANCELLED : LRK_ERR_HOST);
        scores = run(estimator);
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

/* ---- the toy model ---------------------------------------------------------------------------------------------------------------- */

/* Six stages of 28 ranks. */
static toy_shape deep(uint64_t seed)
{
    toy_shape shape = toy_default();
    shape.stages = 6;
    shape.rank = 14;
    shape.d = shape.f = 16;
    shape.rows = 32;
    shape.seed = seed;
    shape.size = 0.1f;
    return shape;
}

static int64_t cost_of(const toy *t)
{
    return t->stage_forwards + 2 * t->stage_backwards;
}

/* Over a few models, all from fixed seeds: what screening finds of the exact lowest, and what it costs. */
START_TEST(screening_finds_the_exact_lowest_at_a_sixth_of_the_cost)
{
    int64_t found = 0, wanted = 0, cost_exact = 0, cost_screened = 0;
    const int64_t n_cut = 5; /* about 3 % of 168 */
    for (uint64_t seed = 1; seed <= 6; seed++) {
        toy_shape shape = deep(seed);
        toy *t = toy_create(&shape);
        t->differentiate_fills = true;
        lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
        options.n_cut = n_cut;
        lrk_estimator *exact = toy_estimator(t, NULL), *screened = toy_estimator(t, &options);
        lrk_scores *all = run(exact);
        ck_assert_int_eq(cost_of(t), 28 * 2 * (6 + 5 + 4 + 3 + 2 + 1) + 2 * 6);
        cost_exact += cost_of(t);
        t->stage_forwards = t->stage_backwards = 0;
        lrk_scores *some = run(screened);
        cost_screened += cost_of(t);
        int64_t low[5], guess[5];
        ck_assert_int_eq(lrk_scores_lowest(all, n_cut, low), LRK_OK);
        ck_assert_int_eq(lrk_scores_lowest(some, n_cut, guess), LRK_OK);
        for (int64_t i = 0; i < n_cut; i++) {
            for (int64_t j = 0; j < n_cut; j++)
                found += low[i] == guess[j];
            wanted++;
        }
        for (int64_t i = 0; i < table_info(some).n; i++) {
            lrk_score a = table_score(all, i), b = table_score(some, i);
            if (is_exact(some, i)) ck_assert_double_eq(a.score, b.score);
        }
        lrk_scores_destroy(all);
        lrk_scores_destroy(some);
        lrk_estimator_destroy(exact);
        lrk_estimator_destroy(screened);
        toy_destroy(t);
    }
    ck_assert_int_ge(found * 20, wanted * 19);
    ck_assert_int_le(cost_screened * 6, cost_exact);
}
END_TEST

/* Adds factor * u a^T to V of the last stage. */
static void shift_last(toy *t, const float *u, const float *a, float factor)
{
    const toy_shape *s = &t->shape;
    float *v = t->v + (s->stages - 1) * s->d * s->f;
    for (int64_t o = 0; o < s->d; o++)
        for (int64_t i = 0; i < s->f; i++)
            v[o * s->f + i] += factor * u[o] * a[i];
}

/* Minimises loss(x) over x in [low, high] for a convex loss. */
static double minimise(double low, double high, double (*loss)(toy *t, double x, void *user), toy *t,
                       void *user)
{
    for (int i = 0; i < 80; i++) {
        double a = low + (high - low) / 3, b = high - (high - low) / 3;
        if (loss(t, a, user) < loss(t, b, user))
            high = b;
        else
            low = a;
    }
    return (low + high) / 2;
}

typedef struct planted {
    float u[16], a[16];
    float *b_vital; /* row of B of the vital rank */
} planted;

/* Loss of the base once V has moved by x u a^T. */
static double base_loss(toy *t, double x, void *user)
{
    planted *p = user;
    double none[64] = {0};
    shift_last(t, p->u, p->a, (float)x);
    double loss = toy_oracle_mean(t, none, NULL);
    shift_last(t, p->u, p->a, (float)-x);
    return loss;
}

/* Loss with all ranks once the vital rank is x times -u. */
static double full_loss(toy *t, double x, void *user)
{
    planted *p = user;
    double all[64];
    for (int i = 0; i < 64; i++)
        all[i] = 1;
    for (int64_t o = 0; o < t->shape.d; o++)
        p->b_vital[o] = (float)(-x * p->u[o]);
    return toy_oracle_mean(t, all, NULL);
}

/*
 * Ranks 0 and 1 of the last module read the same direction a and write 3 u and about -3 u: without either the other
 * does harm. The base is put at its optimum along u a^T and the model with all ranks at its own, so that the derivatives
 * by both masks are near 0 at both ends, for both ranks.
 */
static void plant(toy *t)
{
    planted p;
    uint64_t state = 77;
    int32_t last = 2 * t->shape.stages - 1;
    for (int i = 0; i < 16; i++) {
        p.u[i] = (float)(sets_random(&state) >> 40) / 8388608.0f - 1;
        p.a[i] = (float)(sets_random(&state) >> 40) / 8388608.0f - 1;
    }
    lrk_tensor a = sets_tensor(t->adapters, last, LRK_TENSOR_A),
               b = sets_tensor(t->adapters, last, LRK_TENSOR_B);
    memcpy(a.data, p.a, (size_t)a.cols * sizeof(float));
    memcpy(a.data + a.ld, p.a, (size_t)a.cols * sizeof(float));
    for (int64_t o = 0; o < b.cols; o++)
        b.data[o] = 3 * p.u[o];
    p.b_vital = b.data + b.ld;
    shift_last(t, p.u, p.a, (float)minimise(-8, 8, base_loss, t, &p));
    double x = minimise(-8, 8, full_loss, t, &p);
    (void)full_loss(t, x, &p);
    ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_OK);
}

/* Turns the sign of each rank (but the planted two) that the two-point score finds harmful; true if any. */
static bool turn_harmful(toy *t, lrk_estimator *two_point)
{
    lrk_scores *scores = run(two_point);
    bool turned = false;
    for (int64_t i = 0; i < table_info(scores).n; i++) {
        lrk_score s = table_score(scores, i);
        if (s.score > 0 || (s.module == 2 * t->shape.stages - 1 && s.index < 2)) continue;
        lrk_tensor b = sets_tensor(t->adapters, s.module, LRK_TENSOR_B);
        for (int64_t o = 0; o < b.cols; o++)
            b.data[s.index * b.ld + o] *= -1;
        turned = true;
    }
    lrk_scores_destroy(scores);
    ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_OK);
    return turned;
}

START_TEST(screening_sees_what_derivatives_do_not_on_a_real_model)
{
    toy_shape shape = toy_default();
    shape.size = 0.05f;
    shape.stages = 2;
    toy *t = toy_create(&shape);
    lrk_ablation_options options = table_options(LRK_ABLATION_TWO_POINT);
    lrk_estimator *two_point = toy_estimator(t, &options);
    for (int i = 0; i < 20; i++) {
        plant(t);
        if (!turn_harmful(t, two_point)) break;
        ck_assert_int_lt(i, 19);
    }
    const int64_t vital = t->n_ranks - 3, n_cut = 2;
    int64_t lowest[2], want[2];
    lrk_estimator *exact = toy_estimator(t, NULL);
    lrk_scores *all = run(exact), *guess = run(two_point);
    for (int64_t i = 0; i < t->n_ranks; i++) /* the planted rank is worth far more than any other */
        ck_assert(i == vital || table_score(all, i).score < table_score(all, vital).score / 10);
    ck_assert_int_eq(lrk_scores_lowest(guess, n_cut, lowest), LRK_OK);
    ck_assert(lowest[0] == vital || lowest[1] == vital); /* and two-point would cut it */

    options.mode = LRK_ABLATION_SCREENED;
    options.n_cut = n_cut;
    options.pool = 4;
    lrk_estimator *screened = toy_estimator(t, &options);
    lrk_scores *scores = run(screened);
    ck_assert_int_eq(lrk_scores_lowest(all, n_cut, want), LRK_OK);
    ck_assert_int_eq(lrk_scores_lowest(scores, n_cut, lowest), LRK_OK);
    for (int i = 0; i < n_cut; i++) {
        ck_assert_int_eq(lowest[i], want[i]);
        ck_assert_int_ne(lowest[i], vital);
    }
    ck_assert_int_lt(table_info(scores).n_exact, t->n_ranks);
    lrk_scores_destroy(all);
    lrk_scores_destroy(guess);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(two_point);
    lrk_estimator_destroy(screened);
    lrk_estimator_destroy(exact);
    toy_destroy(t);
}
END_TEST

Suite *screened_suite(void);

Suite *screened_suite(void)
{
    Suite *suite = suite_create("screened");
    TCase *two = tcase_create("two-point");
    tcase_add_test(two, two_point_scores_are_minus_the_derivatives_at_both_ends);
    tcase_add_test(two, a_module_that_backward_does_not_reach_is_an_error);
    tcase_add_test(two, a_module_that_may_lack_a_gradient_is_then_estimated_as_zero);
    tcase_add_test(two, a_derivative_that_is_not_finite_names_the_rank);
    suite_add_tcase(suite, two);
    TCase *pool = tcase_create("pool");
    tcase_add_test(pool, the_first_pool_is_three_times_the_cut_and_at_least_sixteen);
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
    TCase *model = tcase_create("toy");
    tcase_add_test(model, screening_finds_the_exact_lowest_at_a_sixth_of_the_cost);
    tcase_add_test(model, screening_sees_what_derivatives_do_not_on_a_real_model);
    suite_add_tcase(suite, model);
    return suite;
}
