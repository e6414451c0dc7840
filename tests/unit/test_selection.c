/* SPDX-License-Identifier: MIT */
/*
 * Selection weights against a naive transcription of their formulas in double, which asks the toy model for derivatives itself, through
 * masks of the public interface; their properties; refusals, lack of memory.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "toy.h"

enum { MOST = 64 };

static toy *model;

static void setup(void)
{
    toy_shape shape = toy_default();
    shape.rank = 3;
    model = toy_create(&shape);
}

static void teardown(void)
{
    toy_destroy(model);
}

static lrk_estimator *create(int32_t steps, double rate)
{
    lrk_evaluator host = toy_evaluator(model);
    lrk_selection_options options;
    lrk_estimator *estimator = NULL;
    ck_assert_int_eq(lrk_selection_options_init(&options, sizeof options), LRK_OK);
    options.steps = steps;
    options.rate = rate;
    ck_assert_int_eq(lrk_estimator_create_selection(model->adapters, &host, &options, &estimator), LRK_OK);
    return estimator;
}

/* The scores of a run, rank by rank. */
static void run(int32_t steps, double rate, double *weights)
{
    lrk_estimator *estimator = create(steps, rate);
    lrk_scores *scores = NULL;
    lrk_scores_info info = {.struct_size = sizeof info};
    lrk_estimate cost = {.struct_size = sizeof cost};
    model->calls = 0;
    ck_assert_int_eq(lrk_estimator_estimate(estimator, &cost), LRK_OK);
    ck_assert_int_eq(lrk_estimator_run(estimator, 1, &scores), LRK_OK);
    ck_assert_int_eq(lrk_scores_info_get(scores, &info), LRK_OK);
    ck_assert_str_eq(info.estimator, "selection");
    ck_assert(info.differentiations == steps && info.evaluations == 0);
    ck_assert(cost.differentiations == steps && cost.evaluations == 0);
    ck_assert_int_eq(model->calls, steps);
    for (int64_t i = 0; i < info.n; i++) {
        lrk_score score = {.struct_size = sizeof score};
        ck_assert_int_eq(lrk_scores_get(scores, i, &score), LRK_OK);
        weights[i] = score.score;
    }
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
}

/* ---- the oracle ------------------------------------------------------------------------------------------------------ */

/* dL/dm at m = w, by a pass of its own; the mean loss. */
static double differentiate(const double *w, double *gradient)
{
    float mask_values[MOST];
    lrk_mask *mask;
    lrk_sink *sink;
    lrk_pass_options options;
    lrk_loss_part parts[64];
    const double *values;
    int64_t n;
    lrk_evaluator host = toy_evaluator(model);
    lrk_evaluation e = {.struct_size = sizeof e, .n_parts = host.n_parts, .parts = parts};
    for (int64_t i = 0; i < model->n_ranks; i++)
        mask_values[i] = (float)w[i];
    ck_assert_int_eq(lrk_mask_create_values(model->adapters, mask_values, model->n_ranks, &mask), LRK_OK);
    ck_assert_int_eq(lrk_sink_create(model->adapters, LRK_GRAD_MASK, &sink), LRK_OK);
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.mode = LRK_PASS_EVALUATE;
    options.gradients = LRK_GRAD_MASK;
    options.mask = mask;
    options.sink = sink;
    options.max_rows = host.max_rows;
    ck_assert_int_eq(lrk_pass_begin(model->adapters, &options, &e.pass), LRK_OK);
    ck_assert_int_eq(host.differentiate(host.user, &e), 0);
    lrk_pass_end(e.pass);
    ck_assert_int_eq(lrk_sink_mask_gradients(sink, &values, &n), LRK_OK);
    memcpy(gradient, values, (size_t)n * sizeof *values);
    lrk_sink_destroy(sink);
    lrk_mask_destroy(mask);
    double loss = 0, weight = 0;
    for (int32_t p = 0; p < host.n_parts; p++) {
        loss += parts[p].loss_sum;
        weight += parts[p].weight;
    }
    return loss / weight;
}

static void oracle_weights(const double *alpha, double *w)
{
    int64_t r = model->shape.rank;
    for (int64_t i = 0; i < model->n_ranks; i++) {
        double sum = 0;
        for (int64_t k = i / r * r; k < i / r * r + r; k++)
            sum += exp(alpha[k]);
        w[i] = (double)r * exp(alpha[i]) / sum;
    }
}

static void oracle(int32_t steps, double rate, double *w)
{
    double alpha[MOST] = {0}, m[MOST] = {0}, v[MOST] = {0}, g[MOST];
    int64_t r = model->shape.rank;
    ck_assert_int_le(model->n_ranks, MOST);
    oracle_weights(alpha, w);
    for (int32_t t = 1; t <= steps; t++) {
        differentiate(w, g);
        for (int64_t i = 0; i < model->n_ranks; i++) {
            double d = 0; /* sum over k of dL/dw_k dw_k/dalpha_i */
            for (int64_t k = i / r * r; k < i / r * r + r; k++)
                d += g[k] * w[k] * ((k == i) - w[i] / (double)r);
            m[i] = 0.5 * m[i] + 0.5 * d;
            v[i] = 0.999 * v[i] + 0.001 * d * d;
            alpha[i] -= rate * (m[i] / (1 - pow(0.5, t))) / (sqrt(v[i] / (1 - pow(0.999, t))) + 1e-8);
        }
        oracle_weights(alpha, w);
    }
}

/*
 * Both do the same in double, in another order; masks are rounded to f32, and where the roundings fall to different sides a
 * derivative moves by 2^-24 of itself. Adam's steps are quotients of such: 2^-20 a step leaves room for cancellation in d.
 */
START_TEST(weights_follow_their_formulas)
{
    const int32_t steps[] = {1, 2, 7, 16};
    double got[MOST], want[MOST], least = 1;
    run(steps[_i], 0.1, got);
    oracle(steps[_i], 0.1, want);
    for (int64_t i = 0; i < model->n_ranks; i++) {
        ck_assert_double_eq_tol(got[i], want[i], steps[_i] * 0x1p-20);
        least = fmin(least, got[i]);
    }
    ck_assert_double_lt(least, 0.95);
}
END_TEST

START_TEST(weights_of_a_module_have_mean_one_and_the_first_step_one_length)
{
    const double rate = 0.25;
    double w[MOST];
    int64_t r = model->shape.rank;
    run(1, rate, w);
    for (int64_t i = 0; i < model->n_ranks; i += r) {
        double sum = 0;
        for (int64_t j = i; j < i + r; j++) {
            double apart = log(w[j] / w[i]); /* alphas went by the rate, up or down */
            ck_assert(fabs(apart) < 1e-3 || fabs(fabs(apart) - 2 * rate) < 1e-3);
            sum += w[j];
        }
        ck_assert_double_eq_tol(sum, (double)r, 1e-12);
    }
}
END_TEST

START_TEST(weights_lower_the_loss)
{
    double w[MOST], one[MOST], g[MOST];
    for (int64_t i = 0; i < model->n_ranks; i++)
        one[i] = 1;
    run(16, 0.05, w);
    ck_assert_double_lt(differentiate(w, g), differentiate(one, g));
}
END_TEST

START_TEST(ranks_that_do_nothing_have_weight_one)
{
    double w[MOST];
    for (int32_t m = 0; m < 2 * model->shape.stages; m++) {
        lrk_tensor b = sets_tensor(model->adapters, m, LRK_TENSOR_B);
        memset(b.data, 0, (size_t)(b.rows * b.ld) * sizeof *b.data);
    }
    ck_assert_int_eq(lrk_adapters_values_changed(model->adapters), LRK_OK);
    run(4, 0.1, w);
    for (int64_t i = 0; i < model->n_ranks; i++)
        ck_assert_double_eq_tol(w[i], 1, 1e-15);
}
END_TEST

/* The rule of the published code at training again: as many ranks as have softmax >= 1 / r. */
START_TEST(the_threshold_keeps_the_ranks_that_autolora_counts)
{
    double w[MOST];
    int64_t r = model->shape.rank;
    run(16, 0.1, w);
    lrk_estimator *estimator = create(16, 0.1);
    lrk_scores *scores;
    lrk_threshold_options options;
    lrk_allocator *allocator;
    lrk_plan *plan;
    ck_assert_int_eq(lrk_estimator_run(estimator, 1, &scores), LRK_OK);
    ck_assert_int_eq(lrk_threshold_options_init(&options, sizeof options), LRK_OK);
    options.threshold = 0.999999;
    ck_assert_int_eq(lrk_allocator_create_threshold(model->adapters, &options, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, 1, &plan), LRK_OK);
    for (int32_t m = 0; m < 2 * model->shape.stages; m++) {
        lrk_plan_module part = {.struct_size = sizeof part};
        int64_t count = 0;
        for (int64_t j = m * r; j < m * r + r; j++)
            count += w[j] / (double)r >= 1 / (double)r - 1e-9;
        ck_assert_int_eq(lrk_plan_module_get(plan, m, &part), LRK_OK);
        ck_assert_int_eq(part.rank_after, count);
        ck_assert_int_ge(count, 1);
    }
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_allocator_destroy(allocator);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
}
END_TEST

static void refused(lrk_selection_options options, const char *words)
{
    lrk_evaluator host = toy_evaluator(model);
    lrk_estimator *estimator = (lrk_estimator *)model;
    sets_expect(model->context, lrk_estimator_create_selection(model->adapters, &host, &options, &estimator),
                LRK_ERR_ARGUMENT, words);
    ck_assert_ptr_null(estimator);
}

START_TEST(what_is_wrong_is_refused)
{
    lrk_selection_options options;
    lrk_estimator *estimator = NULL;
    lrk_scores *scores = NULL;
    lrk_evaluator host = toy_evaluator(model);
    ck_assert_int_eq(lrk_selection_options_init(&options, sizeof options), LRK_OK);
    ck_assert(options.steps == 16 && options.rate == 0.1);
    options.steps = 0;
    refused(options, "steps must be >= 1, is 0");
    options.steps = 1;
    options.rate = 0;
    refused(options, "rate must be > 0, is 0");
    options.rate = NAN;
    refused(options, "rate must be > 0");
    options.rate = INFINITY;
    refused(options, "rate must be > 0");
    options.rate = 1;
    options.flags = 4;
    refused(options, "flags has unknown bits: 0x4");
    sets_expect(model->context, lrk_estimator_create_selection(model->adapters, NULL, NULL, &estimator),
                LRK_ERR_ARGUMENT, "evaluator must not be NULL");
    ck_assert_int_eq(lrk_estimator_create_selection(NULL, &host, NULL, &estimator), LRK_ERR_ARGUMENT);
    sets_expect(model->context, lrk_estimator_create_selection(model->adapters, &host, NULL, NULL),
                LRK_ERR_ARGUMENT, "selection estimator");
    host.differentiate = NULL;
    sets_expect(model->context, lrk_estimator_create_selection(model->adapters, &host, NULL, &estimator),
                LRK_ERR_ARGUMENT, "differentiate must not be NULL");
    estimator = create(3, 0.1);
    model->calls = 0;
    model->fail_call = 1; /* a failure in the middle leaves nothing: the next run begins anew */
    ck_assert_int_eq(lrk_estimator_run(estimator, 1, &scores), LRK_ERR_HOST);
    ck_assert_ptr_null(scores);
    model->calls = 0;
    ck_assert_int_eq(lrk_estimator_run(estimator, 1, &scores), LRK_OK);
    ck_assert_int_eq(model->calls, 3);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
}
END_TEST

static lrk_estimator *made;
static lrk_scores *scored;

static lrk_status make_and_run(void *user)
{
    lrk_evaluator host = toy_evaluator(user);
    lrk_selection_options options;
    lrk_status status = lrk_selection_options_init(&options, sizeof options);
    options.steps = 2;
    if (status == LRK_OK) status = lrk_estimator_create_selection(model->adapters, &host, &options, &made);
    if (status != LRK_OK) return status;
    status = lrk_estimator_run(made, 1, &scored);
    if (status != LRK_OK) lrk_estimator_destroy(made);
    return status == LRK_ERR_HOST ? LRK_ERR_NOMEM : status; /* within the toy's own calls of lorank */
}

static void drop(void *user)
{
    (void)user;
    lrk_scores_destroy(scored);
    lrk_estimator_destroy(made);
}

START_TEST(a_run_unwinds_when_any_request_fails)
{
    double w[MOST];
    run(1, 0.1, w); /* passes keep their workspace for the next */
    sets_each_fault(&model->fault, make_and_run, drop, model);
}
END_TEST

Suite *selection_suite(void);

Suite *selection_suite(void)
{
    Suite *suite = suite_create("selection");
    TCase *cases = tcase_create("selection weights");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_loop_test(cases, weights_follow_their_formulas, 0, 4);
    tcase_add_test(cases, weights_of_a_module_have_mean_one_and_the_first_step_one_length);
    tcase_add_test(cases, weights_lower_the_loss);
    tcase_add_test(cases, ranks_that_do_nothing_have_weight_one);
    tcase_add_test(cases, the_threshold_keeps_the_ranks_that_autolora_counts);
    tcase_add_test(cases, what_is_wrong_is_refused);
    tcase_add_test(cases, a_run_unwinds_when_any_request_fails);
    suite_add_tcase(suite, cases);
    return suite;
}
