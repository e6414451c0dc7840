/* SPDX-License-Identifier: MIT */
/*
 * Exact AB-LoRA: what is asked and in which order, what the answers mean, resuming; on a host whose
 * losses are a table (scores worked out by hand) and on the toy model (against its naive evaluation in double).
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "importance/importance.h"
#include "table.h"
#include "toy.h"

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
    lrk_scores *scores = table_run(estimator);
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
    lrk_scores *scores = table_run(estimator);
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
    lrk_scores *scores = table_run(estimator);
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
    lrk_scores *scores = table_run(estimator);
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
        lrk_scores_destroy(table_run(estimator));
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
    lrk_scores *want = table_run(single);
    for (int32_t batch = 2; batch <= 9; batch++) {
        table_forget_log(t);
        lrk_evaluator evaluator = table_evaluator(t);
        evaluator.max_per_call = batch;
        lrk_estimator *estimator;
        ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, NULL, &estimator), LRK_OK);
        lrk_scores *scores = table_run(estimator);
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
    lrk_scores *want = table_run(estimator);
    int32_t points = t->progressed, entries = t->n_log;
    for (int32_t at = 0; at < points; at++) {
        table_forget_log(t);
        t->cancel_at = at;
        lrk_scores *scores = (lrk_scores *)t;
        sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_CANCELLED, "stopped after");
        ck_assert_ptr_null(scores);
        ck_assert_int_eq(t->done, at + 1);
        scores = table_run(estimator);
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
    lrk_scores *want = table_run(estimator);
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
        scores = table_run(estimator);
        table_same_scores(want, scores);
        ck_assert_int_eq(t->calls, calls + 1); /* what was evaluated is kept */
        lrk_scores_destroy(scores);
    }
    lrk_scores_destroy(want);
    lrk_estimator_destroy(estimator);
    table_destroy(t);
}
END_TEST

START_TEST(a_paused_run_is_stale_once_values_change)
{
    table *t = table_create();
    lrk_estimator *estimator = table_estimator(t, NULL);
    lrk_scores *scores;
    table_pause_at(t, estimator, 4);
    ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_OK);
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_STALE, "after 5 evaluations");
    sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_STALE, "reset");
    lrk_estimator_reset(estimator);
    table_forget_log(t);
    scores = table_run(estimator);
    check_order(t, 0);
    ck_assert_uint_eq(table_info(scores).values_version, sets_info(t->adapters).values_version);
    lrk_scores_destroy(scores);
    table_pause_at(t, estimator, 9); /* destroyed while paused */
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
    lrk_scores *want = table_run(estimator);
    int64_t before = t->fault.alloc.calls;
    lrk_scores_destroy(table_run(estimator));
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
        scores = table_run(estimator);
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
    lrk_scores *scores = table_run(estimator);
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
    lrk_scores *scores = table_run(estimator);
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
    lrk_scores *cached = table_run(estimator);
    int64_t ranks_a_stage = 2 * shape.rank, want = 2 * shape.stages;
    for (int32_t k = 0; k < shape.stages; k++)
        want += ranks_a_stage * 2 * (shape.stages - k);
    ck_assert_int_eq(t->stage_forwards, want);
    t->stage_forwards = 0;
    t->use_cache = false;
    lrk_scores *naive = table_run(estimator);
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
    lrk_scores *want = table_run(estimator);
    int64_t before = t->fault.gemm.calls;
    lrk_scores_destroy(table_run(estimator));
    int64_t total = t->fault.gemm.calls - before;
    ck_assert_int_gt(total, 0);
    for (int64_t i = 0; i < total; i++) {
        t->fault.gemm.fail_at = t->fault.gemm.calls + i;
        lrk_scores *scores;
        sets_expect(t->context, lrk_estimator_run(estimator, 0, &scores), LRK_ERR_HOST,
                    "last failure in it: the host's gemm reported failure");
        t->fault.gemm.fail_at = -1;
        scores = table_run(estimator);
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
    TCase *model = tcase_create("toy");
    tcase_add_loop_test(model, exact_scores_are_those_of_naive_evaluation, 0, 4);
    tcase_add_test(model, noise_of_the_toy_is_that_of_its_parts);
    tcase_add_test(model, a_host_with_a_stage_cache_runs_only_what_follows);
    tcase_add_test(model, a_failing_gemm_ends_the_run_and_can_be_gone_on_from);
    suite_add_tcase(suite, model);
    return suite;
}
