/* SPDX-License-Identifier: MIT */
/*
 * What the host's answers mean: losses and gradients become terms of scores. Every function puts one call to the host
 * (with more workers: one to each) and takes its answer whole or, on failure, not at all.
 */
#include <math.h>

#include "ablation.h"

bool lrki_differentiate_is_baseline(const lrki_ablation *state)
{
    return state->options.mode == LRK_ABLATION_TWO_POINT ||
           (state->options.mode == LRK_ABLATION_SCREENED &&
            (state->host.flags & LRK_EVALUATOR_DIFFERENTIATE_IS_BASELINE) != 0);
}

/* A whole batch summed has rounding of its own where weights are fractions; another batch differs by far more. */
#define SAME_WEIGHT 1e-9

/* Mean loss of an answer; the first answer of a run says what each part weighs. */
static lrk_status mean_loss(lrk_estimator *estimator, const lrk_loss_part *parts, double *mean)
{
    lrki_ablation *state = estimator->state;
    double *weights = state->run->weights, sum = 0, weight = 0;
    for (int32_t p = 0; p < state->host.n_parts; p++) {
        if (weights[p] == 0) weights[p] = parts[p].weight;
        if (fabs(parts[p].weight - weights[p]) > SAME_WEIGHT * weights[p])
            return lrki_fail(estimator->adapters->context, LRK_ERR_HOST,
                             "part %d of the validation batch weighs %g now and weighed %g before", (int)p,
                             parts[p].weight, weights[p]);
        sum += parts[p].loss_sum;
        weight += parts[p].weight;
    }
    *mean = sum / weight;
    return LRK_OK;
}

static void know_baseline(const lrki_ablation *state, int32_t which, const lrk_loss_part *parts, double mean)
{
    lrki_baseline *base = &state->run->baselines[which];
    for (int32_t p = 0; p < state->host.n_parts; p++)
        base->losses[p] = parts[p].loss_sum;
    base->loss = mean;
}

lrk_status lrki_differentiate_baseline(lrk_estimator *estimator, int32_t which)
{
    lrki_ablation *state = estimator->state;
    lrki_ablation_run *run = state->run;
    lrk_scores_info *info = &run->scores->info;
    double mean;
    const lrki_question question = {which, LRKI_BASELINE_SELF, NULL};
    lrk_status status =
        lrki_differentiate(estimator, &state->host, run->scores, &question,
                           info->evaluations + info->differentiations, run->parts, run->gradient);
    if (status == LRK_OK) status = mean_loss(estimator, run->parts, &mean);
    if (status != LRK_OK) return status;
    know_baseline(state, which, run->parts, mean);
    for (int64_t i = 0; i < info->n; i++) {
        lrk_score *score = &run->scores->scores[i];
        *(which == LRK_BASELINE_ALL ? &score->t1 : &score->t2) = -run->gradient[i];
        score->estimate = score->t1 + score->t2;
        score->score = score->estimate;
    }
    info->differentiations++;
    return LRK_OK;
}

lrk_status lrki_evaluate_baseline(lrk_estimator *estimator, int32_t which)
{
    lrki_ablation *state = estimator->state;
    lrki_ablation_run *run = state->run;
    lrk_scores_info *info = &run->scores->info;
    lrki_baseline *base = &run->baselines[which];
    run->questions[0] = (lrki_question){which, LRKI_BASELINE_SELF, NULL};
    double mean;
    lrk_status status = lrki_evaluate(estimator, &state->host, run->scores, run->questions, 1,
                                      info->evaluations + info->differentiations, run->parts);
    if (status == LRK_OK) status = mean_loss(estimator, run->parts, &mean);
    if (status != LRK_OK) return status;
    if (base->asked == 0 && !lrki_differentiate_is_baseline(state))
        know_baseline(state, which, run->parts, mean);
    else if (fabs(mean - base->loss) > base->change)
        base->change = fabs(mean - base->loss);
    base->asked++;
    info->evaluations++;
    return LRK_OK;
}

/* Takes the answer about one rank: t1 under all, t2 under none, and the same by part. */
static void know_rank(const lrki_ablation *state, int32_t which, int64_t flat, const lrk_loss_part *parts,
                      double mean)
{
    lrki_ablation_run *run = state->run;
    lrk_score *score = &run->scores->scores[flat];
    const lrki_baseline *base = &run->baselines[which];
    double sign = which == LRK_BASELINE_ALL ? 1 : -1;
    *(which == LRK_BASELINE_ALL ? &score->t1 : &score->t2) = sign * (mean - base->loss);
    score->score = score->t1 + score->t2;
    if (which == LRK_BASELINE_NONE) score->flags |= LRK_SCORE_EXACT;
    if (run->differences == NULL) return;
    double *row = run->differences + flat * state->host.n_parts;
    for (int32_t p = 0; p < state->host.n_parts; p++)
        row[p] += sign * (parts[p].loss_sum - base->losses[p]);
}

lrk_status lrki_ablate_some(lrk_estimator *estimator, int32_t which)
{
    lrki_ablation *state = estimator->state;
    lrki_ablation_run *run = state->run;
    lrk_scores_info *info = &run->scores->info;
    int64_t left = run->n_group - run->cursor;
    int32_t most = lrki_questions_most(estimator, &state->host), n = left < most ? (int32_t)left : most;
    for (int32_t i = 0; i < n; i++)
        run->questions[i] = (lrki_question){which, run->group[run->cursor + i].flat, NULL};
    lrk_status status = lrki_evaluate(estimator, &state->host, run->scores, run->questions, n,
                                      info->evaluations + info->differentiations, run->parts);
    double mean;
    for (int32_t i = 0; i < n && status == LRK_OK; i++)
        status = mean_loss(estimator, run->parts + (int64_t)i * state->host.n_parts, &mean);
    if (status != LRK_OK) return status;
    for (int32_t i = 0; i < n; i++) {
        const lrk_loss_part *parts = run->parts + (int64_t)i * state->host.n_parts;
        (void)mean_loss(estimator, parts, &mean);
        know_rank(state, which, run->questions[i].flat, parts, mean);
    }
    run->cursor += n;
    info->evaluations += n;
    return LRK_OK;
}
