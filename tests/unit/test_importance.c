/* SPDX-License-Identifier: MIT */
/*
 * Exact AB-LoRA: what is asked and in which order, what the answers mean, resuming, misbehaving hosts; on a host whose
 * losses are a table (scores worked out by hand) and on the toy model (against its naive evaluation in double).
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "importance/importance.h"
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

/* ---- by hand ------------------------------------------------------------------------------------------------------------ */

START_TEST(the_score_is_what_leaving_out_costs_and_being_alone_gains)
{
    table *t = table_create();
    table_set(t, 0, 2.0);
    table_set(t, 1, 5.0);
    for (int i = 0; i < TABLE_RANKS; i++)
        table_terms(t, i, 0.25 * i, 1 - 0.5 * i);
    t->n_parts = 1;
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_scores *scores = run(estimator);
    for (int i = 0; i < TABLE_RANKS; i++) {
        lrk_score s = table_score(scores, i);
        ck_assert_double_eq(s.t1, 0.25 * i);
        ck_assert_double_eq(s.t2, 1 - 0.5 * i);
        ck_assert_double_eq(s.score, 1 - 0.25 * i);
        ck_assert_uint_eq(s.flags, LRK_SCORE_EXACT);
        ck_assert_uint_eq(s.identity, t->identities[i]);
        ck_assert(isnan(s.noise) && isnan(s.estimate));
    }
    lrk_scores_info info = table_info(scores);
    ck_assert_str_eq(info.estimator, "ablation.exact");
    ck_assert_double_eq(info.loss_all, 2.0);
    ck_assert_double_eq(info.loss_none, 5.0);
    ck_assert_int_eq(info.n_exact, TABLE_RANKS);
    ck_assert_int_eq(info.evaluations, 2 * TABLE_RANKS + 2);
    ck_assert_int_eq(info.differentiations, 0);
    ck_assert(isnan(info.noise_floor) && isnan(info.split_correlation));
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(parts_weigh_by_their_weight_and_show_the_noise)
{
    table *t = table_create(); /* weights 1 2 1 4 */
    for (int i = 0; i < TABLE_RANKS; i++)
        table_terms(t, i, 0, 0);
    static const double t1[TABLE_PARTS] = {1, 2, 0, 1}, t2[TABLE_PARTS] = {0, 4, 1, -1};
    for (int p = 0; p < TABLE_PARTS; p++) { /* rank 3: sums over parts */
        t->losses[2 + 2 * 3][p] += t1[p];
        t->losses[3 + 2 * 3][p] -= t2[p];
    }
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_scores *scores = run(estimator);
    lrk_score s = table_score(scores, 3);
    ck_assert_double_eq(s.t1, 4.0 / 8);
    ck_assert_double_eq(s.t2, 4.0 / 8);
    ck_assert_double_eq(s.score, 1);
    /* terms by part 1 6 1 0, less score * weight: 0 4 0 -4; sqrt(4/3 * 32) / 8 */
    ck_assert_double_eq_tol(s.noise, sqrt(4.0 / 3 * 32) / 8, 1e-15);
    ck_assert_double_eq(table_score(scores, 2).noise, 0);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(halves_are_even_and_odd_parts)
{
    table *t = table_create();
    /* even parts (weight 2) rank by i, odd parts (weight 6) by the reverse, but for one swap */
    static const double odd[TABLE_RANKS] = {7, 6, 5, 4, 3, 2, 0, 1};
    for (int i = 0; i < TABLE_RANKS; i++) {
        t->losses[2 + 2 * i][0] += i;
        t->losses[3 + 2 * i][2] -= i;
        t->losses[2 + 2 * i][1] += odd[i];
        t->losses[3 + 2 * i][3] -= 3 * odd[i];
    }
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_scores *scores = run(estimator);
    /* differences of ranks: 7 5 3 1 1 3 6 6, squares 166: 1 - 6 * 166 / (8 * 63) */
    ck_assert_double_eq_tol(table_info(scores).split_correlation, 1 - 6.0 * 166 / (8 * 63), 1e-15);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(repeats_of_the_baselines_give_the_noise_floor)
{
    table *t = table_create();
    t->drift = 0.5; /* a part each time: 4 parts, weight 8: a quarter of a loss */
    table_terms(t, 0, 0.5, 0.75);
    table_terms(t, 1, 1, 0);
    table_terms(t, 2, -1, -0.25);
    table_terms(t, 3, 0, 0);
    lrk_ablation_options options = table_options(LRK_ABLATION_EXACT);
    options.noise_floor_repeats = 2;
    lrk_estimator *estimator = table_estimator(t, &options);
    lrk_scores *scores = run(estimator);
    lrk_scores_info info = table_info(scores);
    ck_assert_double_eq(info.noise_floor,
                        0.5 + 0.5);        /* the second repeat is off by 2 drifts, under both baselines */
    ck_assert_double_eq(info.loss_all, 1); /* of the first evaluation */
    ck_assert_int_eq(info.evaluations, 2 * TABLE_RANKS + 6);
    ck_assert_int_eq(t->asked[0], 3);
    ck_assert_int_eq(t->asked[1], 3);
    ck_assert_uint_eq(table_score(scores, 0).flags, LRK_SCORE_EXACT); /* 1.25 */
    ck_assert_uint_eq(table_score(scores, 1).flags, LRK_SCORE_EXACT | LRK_SCORE_BELOW_FLOOR);
    ck_assert_uint_eq(table_score(scores, 2).flags, LRK_SCORE_EXACT); /* -1.25 */
    ck_assert_uint_eq(table_score(scores, 3).flags, LRK_SCORE_EXACT | LRK_SCORE_BELOW_FLOOR);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

/* ---- what is asked --------------------------------------------------------------------------------------------------------- */

/* Ranks by stage, then module, then index: m1 and m3 (stage 0), m2 (1), m0 (2). */
static const int32_t by_stage[TABLE_RANKS] = {2, 3, 4, 6, 7, 5, 0, 1};

static void check_entry(const table *t, int32_t at, int32_t baseline, int32_t rank)
{
    const table_entry *e = &t->log[at];
    ck_assert_int_eq(e->kind, 'E');
    ck_assert_int_eq(e->index, at);
    ck_assert_int_eq(e->baseline, baseline);
    ck_assert_uint_eq(e->identity, rank < 0 ? 0 : t->identities[rank]);
    ck_assert_int_eq(e->first_stage, rank < 0 ? LRK_NO_STAGE : t->stages[rank]);
}

/* Exact: under each baseline itself, its repeats, the ranks by ascending stage. */
static void check_order(const table *t, int32_t repeats)
{
    int32_t at = 0;
    for (int32_t baseline = LRK_BASELINE_ALL; baseline <= LRK_BASELINE_NONE; baseline++) {
        for (int32_t i = 0; i <= repeats; i++)
            check_entry(t, at++, baseline, -1);
        for (int32_t i = 0; i < TABLE_RANKS; i++)
            check_entry(t, at++, baseline, by_stage[i]);
    }
    ck_assert_int_eq(t->n_log, at);
}

START_TEST(requests_come_by_stage_within_each_baseline)
{
    for (int32_t repeats = 0; repeats < 3; repeats += 2) {
        table *t = table_create();
        lrk_ablation_options options = table_options(LRK_ABLATION_EXACT);
        options.noise_floor_repeats = repeats;
        lrk_estimator *estimator = table_estimator(t, &options);
        lrk_estimate cost = {.struct_size = sizeof cost};
        ck_assert_int_eq(lrk_estimator_estimate(estimator, &cost), LRK_OK);
        lrk_scores_destroy(run(estimator));
        check_order(t, repeats);
        ck_assert_int_eq(cost.evaluations, t->n_log);
        ck_assert_int_eq(cost.evaluations_most, t->n_log);
        ck_assert_int_eq(cost.differentiations, 0);
        ck_assert_int_eq(cost.ranks, TABLE_RANKS);
        ck_assert_int_eq(t->done, t->n_log);
        ck_assert_int_eq(t->total, t->n_log);
        ck_assert_int_eq(t->progressed, t->calls);
        lrk_estimator_destroy(estimator);
        table_destroy(t);
    }
}
END_TEST

START_TEST(several_masks_a_call_change_calls_and_not_scores)
{
    table *t = table_create();
    for (int i = 0; i < TABLE_RANKS; i++)
        table_terms(t, i, i * 0.125, i * 0.5);
    lrk_estimator *single = table_estimator(t, NULL);
    lrk_scores *want = run(single);
    for (int32_t batch = 2; batch <= 9; batch++) {
        table_forget_log(t);
        lrk_evaluator evaluator = table_evaluator(t);
        evaluator.max_per_call = batch;
        lrk_estimator *estimator;
        ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, NULL, &estimator), LRK_OK);
        lrk_scores *scores = run(estimator);
        table_same_scores(want, scores);
        check_order(t, 0);
        ck_assert_int_eq(t->calls, 2 * (1 + (TABLE_RANKS + batch - 1) / batch));
        lrk_scores_destroy(scores);
        lrk_estimator_destroy(estimator);
    }
    lrk_scores_destroy(want);
    lrk_estimator_destroy(single);
    table_destroy(t);
}
END_TEST

/* ---- resuming --------------------------------------------------------------------------------------------------------------- */

START_TEST(a_run_cancelled_anywhere_goes_on_to_the_same_scores)
{
    table *t = table_create();
    for (int i = 0; i < TABLE_RANKS; i++)
        table_terms(t, i, i * 0.125, i * 0.5);
    lrk_ablation_options options = table_options(LRK_ABLATION_EXACT);
    options.noise_floor_repeats = 1;
    lrk_estimator *estimator = table_estimator(t, &options);
    lrk_scores *want = run(estimator);
    int32_t points = t->progressed, entries = t->n_log;
    for (int32_t at = 0; at < points; at++) {
        table_forget_log(t);
        t->cancel_at = at;
        lrk_scores *scores = (lrk_scores *)t;
        sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_CANCELLED, "stopped after");
        ck_assert_ptr_null(scores);
        ck_assert_int_eq(t->done, at + 1);
        scores = run(estimator);
        table_same_scores(want, scores);
        ck_assert_int_eq(t->n_log, entries);
        check_order(t, 1);
        lrk_scores_destroy(scores);
    }
    lrk_scores_destroy(want);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(a_callback_that_fails_anywhere_is_asked_again)
{
    table *t = table_create();
    for (int i = 0; i < TABLE_RANKS; i++)
        table_terms(t, i, i * 0.125, i * 0.5);
    lrk_evaluator evaluator = table_evaluator(t);
    evaluator.max_per_call = 3;
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, NULL, &estimator), LRK_OK);
    lrk_scores *want = run(estimator);
    int32_t calls = t->calls;
    for (int32_t at = 0; at < calls; at++) {
        table_forget_log(t);
        t->fail_call = at;
        lrk_scores *scores;
        sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_HOST,
                    "evaluate() returned 7");
        ck_assert_ptr_null(scores);
        char text[512];
        lrk_context_error(t->context, text, sizeof text);
        ck_assert_ptr_null(strstr(text, "last failure in it")); /* failures of earlier calls are no cause */
        scores = run(estimator);
        table_same_scores(want, scores);
        ck_assert_int_eq(t->calls, calls + 1); /* what was evaluated is kept */
        lrk_scores_destroy(scores);
    }
    lrk_scores_destroy(want);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

static void pause_at(table *t, lrk_estimator *estimator, int32_t at)
{
    lrk_scores *scores;
    table_forget_log(t);
    t->cancel_at = at;
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_ERR_CANCELLED);
}

START_TEST(a_paused_run_is_stale_once_values_change)
{
    table *t = table_create();
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_scores *scores;
    pause_at(t, estimator, 4);
    ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_OK);
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_STALE, "after 5 evaluations");
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_STALE, "reset");
    lrk_estimator_reset(estimator);
    table_forget_log(t);
    scores = run(estimator);
    check_order(t, 0);
    ck_assert_uint_eq(table_info(scores).values_version, sets_info(t->adapters).values_version);
    lrk_scores_destroy(scores);
    pause_at(t, estimator, 9); /* destroyed while paused */
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

static void change_values(table *t)
{
    if (t->progressed == 3) ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_OK);
}

START_TEST(values_changed_by_progress_are_noticed)
{
    table *t = table_create();
    t->during_progress = change_values;
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_ERR_STALE);
    ck_assert_int_eq(t->calls, 4);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

/* ---- hosts that misbehave --------------------------------------------------------------------------------------------------- */

START_TEST(a_loss_that_is_not_finite_names_module_and_rank)
{
    table *t = table_create();
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_scores *scores;
    lrk_error_info where = {.struct_size = sizeof where};
    double kept = t->losses[2 + 2 * 5][1];
    t->losses[2 + 2 * 5][1] = INFINITY;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE,
                "inf with all but rank 6 of module 'm2'");
    ck_assert_int_eq(lrk_context_error_info(t->context, &where), LRK_OK);
    ck_assert_int_eq(where.module, 2);
    ck_assert_uint_eq(where.identity, t->identities[5]);
    t->losses[2 + 2 * 5][1] = kept;
    kept = t->losses[3 + 2 * 7][3];
    t->losses[3 + 2 * 7][3] = NAN;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE,
                "nan with only rank 8 of module 'm3'");
    t->losses[3 + 2 * 7][3] = kept;
    scores = run(estimator);
    ck_assert_int_eq(table_info(scores).evaluations, 2 * TABLE_RANKS + 2);
    lrk_scores_destroy(scores);
    t->losses[1][0] = -INFINITY;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE, "-inf with no rank");
    ck_assert_int_eq(lrk_context_error_info(t->context, &where), LRK_OK);
    ck_assert_int_eq(where.module, -1);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(losses_whose_sum_overflows_are_an_error)
{
    table *t = table_create();
    for (int p = 0; p < TABLE_PARTS; p++)
        t->losses[2 + 2 * 4][p] = 1e308;
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_scores *scores;
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE, "module 'm1'");
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

static int32_t fill_nothing(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user;
    (void)evaluations;
    (void)n;
    return 0;
}

START_TEST(parts_that_nobody_fills_are_an_error)
{
    table *t = table_create();
    lrk_evaluator evaluator = table_evaluator(t);
    evaluator.evaluate = fill_nothing;
    lrk_estimator *estimator;
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, NULL, &estimator), LRK_OK);
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE,
                "nan with all ranks");
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(a_weight_must_be_positive_and_stay)
{
    static const double bad[] = {0, -1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        table *t = table_create();
        t->weights[2] = bad[i];
        lrk_estimator *estimator = table_estimator(t, NULL);
        lrk_scores *scores;
        sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NONFINITE, "a weight is");
        t->weights[2] = 1;
        pause_at(t, estimator, 6);
        t->weights[1] = 3;
        sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_HOST,
                    "part 1 of the validation batch weighs 3 now and weighed 2");
        t->weights[1] = 2;
        lrk_scores_destroy(run(estimator));
        lrk_estimator_destroy(estimator);
        table_destroy(t);
    }
}
END_TEST

/* ---- what a callback may do -------------------------------------------------------------------------------------------------- */

typedef struct intruder {
    lrk_estimator *self;
    lrk_estimator *other;
    lrk_optimizer *optimizer;
    lrk_allocator *allocator;
    lrk_snapshot *snapshot;
    bool destroy; /* give up the estimator from within */
} intruder;

static void intrude(table *t, const lrk_evaluation *evaluations)
{
    intruder *in = t->during_user;
    lrk_scores *scores;
    lrk_plan *plan;
    double values[TABLE_RANKS] = {0};
    ck_assert_int_eq(lrk_estimator_run(in->other, 0, &scores), LRK_OK); /* whose callback ends before ours */
    lrk_scores_destroy(scores);
    sets_expect(t->context, lrk_estimator_run(in->self, 0, &scores), LRK_ERR_BUSY, "own callbacks");
    ck_assert_int_eq(lrk_optimizer_step(in->optimizer, 0.1), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_snapshot_restore(in->snapshot, t->adapters), LRK_ERR_BUSY);
    if (evaluations != NULL) ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_ERR_BUSY);
    lrk_estimator_reset(in->self); /* a running one is left alone */

    ck_assert_int_eq(lrk_scores_create(t->adapters, values, TABLE_RANKS, &scores), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(in->allocator, scores, 1, &plan), LRK_ERR_BUSY);
    lrk_scores_destroy(scores);
    ck_assert_int_eq(sets_info(t->adapters).ranks, TABLE_RANKS);
    if (in->destroy) lrk_estimator_destroy(in->self);
    in->destroy = false;
}

static void intrude_progress(table *t)
{
    intrude(t, NULL);
}

static int32_t score_zero(void *user, const uint64_t *identities, double *scores, int64_t n)
{
    (void)user;
    (void)identities;
    for (int64_t i = 0; i < n; i++)
        scores[i] = 0;
    return 0;
}

START_TEST(callbacks_may_read_the_set_and_not_change_it)
{
    table *t = table_create();
    intruder in = {.destroy = true};
    lrk_custom_estimator custom = {.struct_size = sizeof custom, .name = "zero", .score = score_zero};
    ck_assert_int_eq(lrk_estimator_create_custom(t->adapters, &custom, &in.other), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_fixed(t->adapters, &in.allocator), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_create_adamw(t->adapters, NULL, &in.optimizer), LRK_OK);
    ck_assert_int_eq(lrk_snapshot_create(t->adapters, &in.snapshot), LRK_OK);
    lrk_ablation_options options = table_options(LRK_ABLATION_SCREENED);
    in.self = table_estimator(t, &options);
    t->during = intrude;
    t->during_progress = intrude_progress;
    t->during_user = &in;
    uint64_t before = sets_digest(t->adapters);
    lrk_scores *scores;
    lrk_estimator *estimator = lrki_estimator_ref(in.self);
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_OK);
    ck_assert_uint_eq(sets_digest(t->adapters), before);
    ck_assert_int_eq(lrk_snapshot_restore(in.snapshot, t->adapters), LRK_OK); /* free again */
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    lrk_estimator_destroy(in.other);
    lrk_optimizer_destroy(in.optimizer);
    lrk_allocator_destroy(in.allocator);
    lrk_snapshot_destroy(in.snapshot);
    table_destroy(t);
}
END_TEST

START_TEST(no_run_while_a_plan_is_prepared)
{
    table *t = table_create();
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_allocator *allocator;
    lrk_plan *plan;
    double values[TABLE_RANKS] = {0};
    lrk_scores *scores;
    ck_assert_int_eq(lrk_allocator_create_fixed(t->adapters, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_scores_create(t->adapters, values, TABLE_RANKS, &scores), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, 1, &plan), LRK_OK);
    lrk_scores_destroy(scores);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_BUSY, "prepared");
    ck_assert_int_eq(t->calls, 0);
    lrk_estimator *random;
    ck_assert_int_eq(lrk_estimator_create_random(t->adapters, 1, &random), LRK_OK);
    sets_expect(t->context, lrk_estimator_run(random, 0, &scores), LRK_ERR_BUSY, "prepared");
    lrk_estimator_destroy(random);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_scores_destroy(run(estimator));
    lrk_plan_destroy(plan);
    lrk_allocator_destroy(allocator);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

/* ---- creation ------------------------------------------------------------------------------------------------------------------ */

static void refuse(table *t, const lrk_evaluator *evaluator, const lrk_ablation_options *options,
                   const char *words)
{
    lrk_estimator *estimator = (lrk_estimator *)t;
    sets_expect(t->context, lrk_estimator_create_ablation(t->adapters, evaluator, options, &estimator),
                LRK_ERR_ARGUMENT, words);
    ck_assert_ptr_null(estimator);
}

START_TEST(the_evaluator_is_checked)
{
    table *t = table_create();
    lrk_evaluator good = table_evaluator(t), bad = good;
    lrk_ablation_options exact = table_options(LRK_ABLATION_EXACT);
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_evaluator_init(NULL, sizeof good), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_ablation_options_init(NULL, sizeof exact), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_create_ablation(NULL, &good, &exact, &estimator), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &good, &exact, NULL), LRK_ERR_ARGUMENT);
    refuse(t, NULL, &exact, "evaluator");
    bad.evaluate = NULL;
    refuse(t, &bad, &exact, "evaluate must");
    bad = good;
    bad.flags = 2;
    refuse(t, &bad, &exact, "flags");
    bad = good;
    bad.max_rows = 0;
    refuse(t, &bad, &exact, "max_rows");
    for (int32_t parts = 0; parts < 4098; parts += 4097) {
        bad = good;
        bad.n_parts = parts;
        refuse(t, &bad, &exact, "n_parts");
    }
    for (int32_t calls = 0; calls < 1026; calls += 1025) {
        bad = good;
        bad.max_per_call = calls;
        refuse(t, &bad, &exact, "max_per_call");
    }
    bad = good;
    bad.struct_size = 4;
    refuse(t, &bad, &exact, "struct_size");
    bad = good;
    bad.differentiate = NULL;
    for (int32_t mode = LRK_ABLATION_SCREENED; mode <= LRK_ABLATION_TWO_POINT; mode++) {
        lrk_ablation_options options = table_options(mode);
        refuse(t, &bad, &options, "differentiate");
    }
    good.n_parts = 4096;
    good.max_per_call = 1024;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &good, &exact, &estimator), LRK_OK);
    lrk_estimator_destroy(estimator);
    bad.n_parts = 1;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &bad, &exact, &estimator), LRK_OK);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(the_options_are_checked)
{
    table *t = table_create();
    lrk_evaluator e = table_evaluator(t);
    lrk_ablation_options good = table_options(LRK_ABLATION_SCREENED), bad;
#define REFUSE(member, value)                                                                                \
    bad = good;                                                                                              \
    bad.member = value;                                                                                      \
    refuse(t, &e, &bad, #member)
    REFUSE(flags, 1);
    REFUSE(mode, 3);
    REFUSE(mode, -1);
    REFUSE(noise_floor_repeats, -1);
    REFUSE(n_cut, 0);
    REFUSE(n_cut, -1);
    REFUSE(pool, 0);
    REFUSE(pool, -2);
    REFUSE(pool_step, 0);
    REFUSE(pool_limit, 0);
    REFUSE(pool_limit, -2);
    good.n_cut = 4;
    REFUSE(pool, 3);
    REFUSE(pool_limit, 3);
    good.pool = 6;
    REFUSE(pool_limit, 5);
    good = table_options(LRK_ABLATION_TWO_POINT);
    REFUSE(noise_floor_repeats, 1);
#undef REFUSE
    struct {
        lrk_ablation_options known;
        uint64_t tail;
    } longer = {.known = table_options(LRK_ABLATION_EXACT), .tail = 1};
    longer.known.struct_size = sizeof longer;
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &e, &longer.known, &estimator),
                     LRK_ERR_VERSION);
    longer.tail = 0;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &e, &longer.known, &estimator), LRK_OK);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(an_inference_only_set_can_be_scored_exactly_and_not_by_derivatives)
{
    table *t = table_create();
    lrk_adapters *with_gradients = t->adapters;
    lrk_adapters_options options;
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.flags = LRK_ADAPTERS_INFERENCE;
    lrk_module_spec spec = sets_spec("only", 4, 4, 3);
    t->adapters = sets_create(t->context, &spec, 1, &options);
    lrk_evaluator evaluator = table_evaluator(t);
    for (int32_t mode = LRK_ABLATION_SCREENED; mode <= LRK_ABLATION_TWO_POINT; mode++) {
        lrk_ablation_options ablation = table_options(mode);
        lrk_estimator *estimator;
        sets_expect(t->context, lrk_estimator_create_ablation(t->adapters, &evaluator, &ablation, &estimator),
                    LRK_ERR_UNSUPPORTED, "inference-only");
    }
    lrk_estimator *exact = table_estimator(t, NULL);
    lrk_scores *scores = run(exact);
    ck_assert_int_eq(table_info(scores).evaluations, 8);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(exact);
    lrk_adapters_destroy(t->adapters);
    t->adapters = with_gradients;
    table_destroy(t);
}
END_TEST

static int32_t constant(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user;
    for (int32_t i = 0; i < n; i++)
        evaluations[i].parts[0] = (lrk_loss_part){3, 2};
    return 0;
}

static int32_t constant_too(void *user, const lrk_evaluation *evaluation)
{
    return constant(user, evaluation, 1);
}

START_TEST(a_set_without_ranks_has_two_baselines_and_no_scores)
{
    table *t = table_create();
    lrk_adapters *full = t->adapters;
    lrk_module_spec spec = sets_spec("empty", 4, 4, 0);
    t->adapters = sets_create(t->context, &spec, 1, NULL);
    for (int32_t mode = LRK_ABLATION_EXACT; mode <= LRK_ABLATION_TWO_POINT; mode++) {
        lrk_evaluator evaluator = table_evaluator(t);
        evaluator.n_parts = 1;
        evaluator.evaluate = constant;
        evaluator.differentiate = constant_too;
        lrk_ablation_options options = table_options(mode);
        lrk_estimator *estimator;
        ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, &options, &estimator),
                         LRK_OK);
        lrk_scores *scores = run(estimator);
        ck_assert_int_eq(table_info(scores).n, 0);
        ck_assert_int_eq(table_info(scores).evaluations, mode == LRK_ABLATION_TWO_POINT ? 0 : 2);
        ck_assert_int_eq(table_info(scores).differentiations, mode == LRK_ABLATION_EXACT ? 0 : 2);
        ck_assert_double_eq(table_info(scores).loss_all, 1.5);
        lrk_scores_destroy(scores);
        lrk_estimator_destroy(estimator);
    }
    lrk_adapters_destroy(t->adapters);
    t->adapters = full;
    table_destroy(t);
}
END_TEST

START_TEST(handles_may_be_given_up_in_any_order)
{
    table *t = table_create();
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_adapters_destroy(t->adapters);
    lrk_context_destroy(t->context);
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_OK);
    lrk_estimator_destroy(estimator);
    ck_assert_int_eq(table_info(scores).n, TABLE_RANKS);
    lrk_scores_destroy(scores);
    ck_assert_int_eq(t->fault.live, 0);
    free(t);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------------------------------------------- */

/* Every request for memory of a run fails once, alone or with all after it; then the run goes on to the same scores. */
START_TEST(a_run_survives_each_lack_of_memory)
{
    table *t = table_create();
    lrk_evaluator evaluator = table_evaluator(t);
    evaluator.max_per_call = 3;
    lrk_ablation_options options = table_options(_i);
    options.noise_floor_repeats = _i != LRK_ABLATION_TWO_POINT;
    options.pool = _i == LRK_ABLATION_SCREENED ? 2 : LRK_POOL_DEFAULT;
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, &options, &estimator), LRK_OK);
    lrk_scores *want = run(estimator);
    int64_t before = t->fault.alloc.calls;
    lrk_scores_destroy(run(estimator));
    int64_t total = t->fault.alloc.calls - before;
    ck_assert_int_gt(total, 10);
    for (int64_t i = 0; i < 2 * total; i++) {
        table_forget_log(t);
        t->fault.alloc.sticky = i % 2;
        t->fault.alloc.fail_at = t->fault.alloc.calls + i / 2;
        lrk_scores *scores = (lrk_scores *)t;
        ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_ERR_NOMEM);
        ck_assert_ptr_null(scores);
        t->fault.alloc.fail_at = -1;
        scores = run(estimator);
        table_same_scores(want, scores);
        lrk_scores_destroy(scores);
    }
    lrk_scores_destroy(want);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

static lrk_status create(void *user)
{
    void **both = user;
    table *t = both[0];
    lrk_evaluator evaluator = table_evaluator(t);
    lrk_estimator *estimator;
    lrk_status status = lrk_estimator_create_ablation(t->adapters, &evaluator, NULL, &estimator);
    both[1] = estimator;
    return status;
}

static void destroy(void *user)
{
    lrk_estimator_destroy(((void **)user)[1]);
}

START_TEST(creation_survives_each_lack_of_memory)
{
    table *t = table_create();
    void *both[2] = {t, NULL};
    sets_each_fault(&t->fault, create, destroy, both);
    table_destroy(t);
}
END_TEST

/* ---- the toy model ---------------------------------------------------------------------------------------------------------------- */

static void fill(double *mask, int64_t n, double value)
{
    for (int64_t i = 0; i < n; i++)
        mask[i] = value;
}

START_TEST(exact_scores_are_those_of_naive_evaluation)
{
    toy_shape shape = toy_default();
    shape.seed = (uint64_t)_i + 1;
    shape.stages = 2; /* worst-case bounds grow by an order of magnitude a stage */
    toy *t = toy_create(&shape);
    t->use_cache = _i % 2;
    lrk_estimator *estimator = toy_estimator(t, NULL);
    lrk_scores *scores = run(estimator);
    double mask[64], bound[4];
    ck_assert_int_le(t->n_ranks, 64);
    fill(mask, t->n_ranks, 1);
    double all = toy_oracle_mean(t, mask, &bound[0]);
    fill(mask, t->n_ranks, 0);
    double none = toy_oracle_mean(t, mask, &bound[1]);
    lrk_scores_info info = table_info(scores);
    ck_assert_double_eq_tol(info.loss_all, all, bound[0]);
    ck_assert_double_eq_tol(info.loss_none, none, bound[1]);
    double largest = 0;
    for (int64_t i = 0; i < t->n_ranks; i++) {
        lrk_score s = table_score(scores, i);
        fill(mask, t->n_ranks, 1);
        mask[i] = 0;
        double t1 = toy_oracle_mean(t, mask, &bound[2]) - all;
        fill(mask, t->n_ranks, 0);
        mask[i] = 1;
        double t2 = none - toy_oracle_mean(t, mask, &bound[3]);
        ck_assert_double_eq_tol(s.t1, t1, bound[0] + bound[2]);
        ck_assert_double_eq_tol(s.t2, t2, bound[1] + bound[3]);
        ck_assert_double_eq_tol(s.score, t1 + t2, bound[0] + bound[1] + bound[2] + bound[3]);
        largest = fmax(largest, fabs(s.score));
    }
    ck_assert_double_gt(largest,
                        20 * (bound[0] + bound[1] + bound[2] + bound[3])); /* the bounds say something */
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    toy_destroy(t);
}
END_TEST

START_TEST(noise_of_the_toy_is_that_of_its_parts)
{
    toy_shape shape = toy_default();
    shape.rows = 25; /* parts of unequal weight */
    shape.stages = 2;
    toy *t = toy_create(&shape);
    lrk_estimator *estimator = toy_estimator(t, NULL);
    lrk_scores *scores = run(estimator);
    double mask[64], l[4][4], bound[4][4], weights[4] = {7, 6, 6, 6};
    fill(mask, t->n_ranks, 1);
    toy_oracle(t, mask, l[0], bound[0]);
    fill(mask, t->n_ranks, 0);
    toy_oracle(t, mask, l[1], bound[1]);
    for (int64_t i = 0; i < t->n_ranks; i++) {
        fill(mask, t->n_ranks, 1);
        mask[i] = 0;
        toy_oracle(t, mask, l[2], bound[2]);
        fill(mask, t->n_ranks, 0);
        mask[i] = 1;
        toy_oracle(t, mask, l[3], bound[3]);
        double s[4], score = 0, squares = 0, error = 0;
        for (int p = 0; p < 4; p++) {
            s[p] = l[2][p] - l[0][p] + l[1][p] - l[3][p];
            error += bound[0][p] + bound[1][p] + bound[2][p] + bound[3][p];
            score += s[p] / 25;
        }
        for (int p = 0; p < 4; p++)
            squares += (s[p] - score * weights[p]) * (s[p] - score * weights[p]);
        /* the norm of residuals moves by at most the norm of their changes, each at most twice the summed error */
        ck_assert_double_eq_tol(table_score(scores, i).noise, sqrt(4.0 / 3 * squares) / 25,
                                sqrt(4.0 / 3) * 4 * error / 25);
    }
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    toy_destroy(t);
}
END_TEST

START_TEST(a_host_with_a_stage_cache_runs_only_what_follows)
{
    toy_shape shape = toy_default();
    toy *t = toy_create(&shape);
    lrk_estimator *estimator = toy_estimator(t, NULL);
    lrk_scores *cached = run(estimator);
    int64_t ranks_a_stage = 2 * shape.rank, want = 2 * shape.stages;
    for (int32_t k = 0; k < shape.stages; k++)
        want += ranks_a_stage * 2 * (shape.stages - k);
    ck_assert_int_eq(t->stage_forwards, want);
    t->stage_forwards = 0;
    t->use_cache = false;
    lrk_scores *naive = run(estimator);
    ck_assert_int_eq(t->stage_forwards, (2 * t->n_ranks + 2) * shape.stages);
    table_same_scores(naive, cached);
    lrk_scores_destroy(naive);
    lrk_scores_destroy(cached);
    lrk_estimator_destroy(estimator);
    toy_destroy(t);
}
END_TEST

START_TEST(a_failing_gemm_ends_the_run_and_can_be_gone_on_from)
{
    toy_shape shape = toy_default();
    shape.stages = 2;
    shape.rank = 1;
    shape.rows = 4;
    toy *t = toy_create(&shape);
    lrk_estimator *estimator = toy_estimator(t, NULL);
    lrk_scores *want = run(estimator);
    int64_t before = t->fault.gemm.calls;
    lrk_scores_destroy(run(estimator));
    int64_t total = t->fault.gemm.calls - before;
    ck_assert_int_gt(total, 0);
    for (int64_t i = 0; i < total; i++) {
        t->fault.gemm.fail_at = t->fault.gemm.calls + i;
        lrk_scores *scores;
        sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_HOST,
                    "last failure in it: the host's gemm reported failure");
        t->fault.gemm.fail_at = -1;
        scores = run(estimator);
        table_same_scores(want, scores);
        lrk_scores_destroy(scores);
    }
    lrk_scores_destroy(want);
    lrk_estimator_destroy(estimator);
    toy_destroy(t);
}
END_TEST

Suite *importance_suite(void);

Suite *importance_suite(void)
{
    Suite *suite = suite_create("importance");
    TCase *hand = tcase_create("by hand");
    tcase_add_test(hand, the_score_is_what_leaving_out_costs_and_being_alone_gains);
    tcase_add_test(hand, parts_weigh_by_their_weight_and_show_the_noise);
    tcase_add_test(hand, halves_are_even_and_odd_parts);
    tcase_add_test(hand, repeats_of_the_baselines_give_the_noise_floor);
    tcase_add_test(hand, requests_come_by_stage_within_each_baseline);
    tcase_add_test(hand, several_masks_a_call_change_calls_and_not_scores);
    suite_add_tcase(suite, hand);
    TCase *again = tcase_create("again");
    tcase_add_test(again, a_run_cancelled_anywhere_goes_on_to_the_same_scores);
    tcase_add_test(again, a_callback_that_fails_anywhere_is_asked_again);
    tcase_add_test(again, a_paused_run_is_stale_once_values_change);
    tcase_add_test(again, values_changed_by_progress_are_noticed);
    tcase_add_loop_test(again, a_run_survives_each_lack_of_memory, LRK_ABLATION_EXACT,
                        LRK_ABLATION_TWO_POINT + 1);
    tcase_add_test(again, creation_survives_each_lack_of_memory);
    suite_add_tcase(suite, again);
    TCase *host = tcase_create("host");
    tcase_add_test(host, a_loss_that_is_not_finite_names_module_and_rank);
    tcase_add_test(host, losses_whose_sum_overflows_are_an_error);
    tcase_add_test(host, parts_that_nobody_fills_are_an_error);
    tcase_add_test(host, a_weight_must_be_positive_and_stay);
    tcase_add_test(host, callbacks_may_read_the_set_and_not_change_it);
    tcase_add_test(host, no_run_while_a_plan_is_prepared);
    tcase_add_test(host, the_evaluator_is_checked);
    tcase_add_test(host, the_options_are_checked);
    tcase_add_test(host, an_inference_only_set_can_be_scored_exactly_and_not_by_derivatives);
    tcase_add_test(host, a_set_without_ranks_has_two_baselines_and_no_scores);
    tcase_add_test(host, handles_may_be_given_up_in_any_order);
    suite_add_tcase(suite, host);
    TCase *model = tcase_create("toy");
    tcase_add_loop_test(model, exact_scores_are_those_of_naive_evaluation, 0, 4);
    tcase_add_test(model, noise_of_the_toy_is_that_of_its_parts);
    tcase_add_test(model, a_host_with_a_stage_cache_runs_only_what_follows);
    tcase_add_test(model, a_failing_gemm_ends_the_run_and_can_be_gone_on_from);
    suite_add_tcase(suite, model);
    return suite;
}
