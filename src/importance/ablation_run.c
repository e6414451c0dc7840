/* SPDX-License-Identifier: MIT */
/*
 * A run of ablation as a whole: the memory that it holds from its first question to its last answer, and what the
 * answers amount to in the end (noise, noise floor, split-half agreement).
 */
#include <math.h>

#include "ablation.h"

static const char *const mode_names[] = {"ablation.exact", "ablation.screened", "ablation.two_point"};

void lrki_ablation_run_free(lrk_estimator *estimator, lrki_ablation_run *run)
{
    if (run == NULL) return;
    const lrki_ablation *state = estimator->state;
    lrk_context *context = estimator->adapters->context;
    int64_t n_parts = state->host.n_parts, n = run->n, calls = run->at_once;
    lrki_pool_free(context, &run->pool);
    lrki_array_free(context, run->group, n, sizeof *run->group);
    lrki_array_free(context, run->baselines[LRK_BASELINE_ALL].losses, n_parts, sizeof(double));
    lrki_array_free(context, run->baselines[LRK_BASELINE_NONE].losses, n_parts, sizeof(double));
    lrki_array_free(context, run->weights, n_parts, sizeof(double));
    lrki_array_free(context, run->differences, n, (size_t)n_parts * sizeof(double));
    lrki_array_free(context, run->gradient, n, sizeof(double));
    lrki_array_free(context, run->parts, calls, (size_t)n_parts * sizeof *run->parts);
    lrki_array_free(context, run->questions, calls, sizeof *run->questions);
    lrk_scores_destroy(run->scores);
    lrki_free(context, run, sizeof *run);
}

static int64_t most_at_once(const lrk_estimator *estimator, int64_t n)
{
    const lrki_ablation *state = estimator->state;
    int64_t most = lrki_questions_most(estimator, &state->host);
    if (most > n) most = n;
    return most > 0 ? most : 1; /* a baseline */
}

/* Takes the arrays; false on lack of memory. */
static bool take_arrays(lrk_context *context, const lrki_ablation *state, lrki_ablation_run *run)
{
    int64_t n = run->n, n_parts = state->host.n_parts, calls = run->at_once;
    run->group = lrki_array(context, n, sizeof *run->group);
    run->baselines[LRK_BASELINE_ALL].losses = lrki_array(context, n_parts, sizeof(double));
    run->baselines[LRK_BASELINE_NONE].losses = lrki_array(context, n_parts, sizeof(double));
    run->weights = lrki_array(context, n_parts, sizeof(double));
    run->gradient = lrki_array(context, n, sizeof(double));
    run->parts = lrki_array(context, calls, (size_t)n_parts * sizeof *run->parts);
    run->questions = lrki_array(context, calls, sizeof *run->questions);
    if (n_parts > 1) run->differences = lrki_array(context, n, (size_t)n_parts * sizeof(double));
    return run->group != NULL && run->baselines[LRK_BASELINE_ALL].losses != NULL &&
           run->baselines[LRK_BASELINE_NONE].losses != NULL && run->weights != NULL &&
           run->gradient != NULL && run->parts != NULL && run->questions != NULL &&
           (n_parts == 1 || run->differences != NULL);
}

lrk_status lrki_ablation_run_create(lrk_estimator *estimator, lrk_scores *scores, lrki_ablation_run **out)
{
    lrk_context *context = estimator->adapters->context;
    lrki_ablation_run *run = lrki_alloc_zeroed(context, sizeof *run);
    *out = NULL;
    if (run == NULL) {
        lrk_scores_destroy(scores);
        return lrki_fail_nomem(context, "a scoring run");
    }
    run->scores = scores;
    run->n = scores->info.n;
    run->at_once = most_at_once(estimator, run->n);
    lrk_status status = lrki_pool_create(context, scores, &run->pool);
    if (status == LRK_OK && !take_arrays(context, estimator->state, run))
        status = lrki_fail_nomem(context, "a scoring run");
    if (status == LRK_OK)
        *out = run;
    else
        lrki_ablation_run_free(estimator, run);
    return status;
}

lrk_status lrki_ablation_begin(lrk_estimator *estimator, lrki_ablation_run **run)
{
    const lrki_ablation *state = estimator->state;
    lrk_scores *scores = lrki_scores_new(estimator->adapters, mode_names[state->options.mode]);
    if (scores == NULL) return LRK_ERR_NOMEM;
    return lrki_ablation_run_create(estimator, scores, run);
}

void lrki_ablation_forget(lrk_estimator *estimator)
{
    lrki_ablation *state = estimator->state;
    lrki_ablation_run_free(estimator, state->run);
    state->run = NULL;
}

static lrk_status split_correlation(lrk_context *context, const lrki_ablation *state, double *rho)
{
    const lrki_ablation_run *run = state->run;
    int64_t n_parts = state->host.n_parts, n = run->pool.size, found = 0;
    double *halves = lrki_array(context, n, 2 * sizeof *halves);
    if (halves == NULL) return lrki_fail_nomem(context, "split-half scores");
    for (int64_t i = 0; i < run->scores->info.n; i++) {
        if ((run->scores->scores[i].flags & LRK_SCORE_EXACT) == 0) continue;
        const double *row = run->differences + i * n_parts;
        halves[found] = lrki_ratio_mean(row, run->weights, n_parts, 0, 2);
        halves[n + found] = lrki_ratio_mean(row, run->weights, n_parts, 1, 2);
        found++;
    }
    lrk_status status = lrki_spearman(context, halves, halves + n, n, rho);
    lrki_array_free(context, halves, n, 2 * sizeof *halves);
    return status;
}

static void finish_score(const lrki_ablation *state, int64_t i)
{
    const lrki_ablation_run *run = state->run;
    lrk_score *score = &run->scores->scores[i];
    if (fabs(score->score) <= run->scores->info.noise_floor) score->flags |= LRK_SCORE_BELOW_FLOOR;
    if ((score->flags & LRK_SCORE_EXACT) == 0 || run->differences == NULL) return;
    int64_t n_parts = state->host.n_parts;
    score->noise = lrki_ratio_error(run->differences + i * n_parts, run->weights, n_parts);
}

lrk_status lrki_ablation_finish(lrk_estimator *estimator)
{
    lrki_ablation *state = estimator->state;
    lrki_ablation_run *run = state->run;
    lrk_scores_info *info = &run->scores->info;
    const lrki_baseline *base = run->baselines;
    info->n_exact = run->pool.size;
    info->loss_all = base[LRK_BASELINE_ALL].loss;
    info->loss_none = base[LRK_BASELINE_NONE].loss;
    if (state->options.noise_floor_repeats > 0)
        info->noise_floor = base[LRK_BASELINE_ALL].change + base[LRK_BASELINE_NONE].change;
    for (int64_t i = 0; i < info->n; i++)
        finish_score(state, i);
    lrk_status status = lrki_scores_check_finite(run->scores);
    if (status == LRK_OK && run->differences != NULL)
        status = split_correlation(estimator->adapters->context, state, &info->split_correlation);
    return status;
}

void lrki_ablation_unfinish(lrki_ablation_run *run)
{
    lrk_scores_info *info = &run->scores->info;
    info->n_exact = 0;
    info->loss_all = info->loss_none = info->noise_floor = info->split_correlation = NAN;
    for (int64_t i = 0; i < info->n; i++) {
        run->scores->scores[i].flags &= ~LRK_SCORE_BELOW_FLOOR;
        run->scores->scores[i].noise = NAN;
    }
}
