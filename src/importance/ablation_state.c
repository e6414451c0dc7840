/* SPDX-License-Identifier: MIT */
/*
 * Ablation in a checkpoint: its options, and a run that is under way with all answers so far. Saved and loaded run go on
 * with the same question. Scratch memory is not recorded.
 */
#include <string.h>

#include "ablation.h"
#include "state.h"

static void same_ablation(const lrk_estimator *estimator, lrki_state *state)
{
    const lrki_ablation *own = estimator->state;
    lrki_state_same_i64(state, "mode", own->options.mode);
    lrki_state_same_i64(state, "noise_floor_repeats", own->options.noise_floor_repeats);
    lrki_state_same_i64(state, "n_cut", own->options.n_cut);
    lrki_state_same_i64(state, "pool", own->options.pool);
    lrki_state_same_i64(state, "pool_step", own->options.pool_step);
    lrki_state_same_i64(state, "pool_limit", own->options.pool_limit);
    lrki_state_same_i64(state, "flags of the evaluator", own->host.flags);
    lrki_state_same_i64(state, "n_parts", own->host.n_parts);
}

static bool has_run(const lrk_estimator *estimator)
{
    return ((const lrki_ablation *)estimator->state)->run != NULL;
}

static void move_doubles(lrki_state *state, double *values, int64_t n)
{
    lrki_state_bytes(state, values, (size_t)n * sizeof *values);
}

static void move_baseline(lrki_state *state, lrki_baseline *base, int64_t n_parts)
{
    move_doubles(state, base->losses, n_parts);
    lrki_state_f64(state, &base->loss);
    lrki_state_within(state, "evaluations of a baseline", &base->asked, 0, INT64_MAX / 2);
    lrki_state_f64(state, &base->change);
}

/* The pool is chosen when the baselines are, and only a screen's grows. */
static void move_pool_size(lrki_state *state, const lrki_ablation *own, lrki_ablation_run *run)
{
    bool chosen = run->step >= LRKI_BASE_ALL, grows = own->options.mode == LRK_ABLATION_SCREENED;
    int64_t least = chosen ? lrki_ablation_first_pool(own, run->n) : 0;
    int64_t most = chosen && grows ? lrki_pool_most(&own->options, run->n) : least;
    lrki_state_within(state, "the size of the pool", &run->pool.size, least, most);
}

/* Where the run is, and the answers that are not in its scores. */
static void move_run(lrki_state *state, const lrki_ablation *own, lrki_ablation_run *run)
{
    int64_t step = run->step, n_parts = own->host.n_parts;
    lrki_state_within(state, "the step of scoring", &step, LRKI_DIFFERENTIATE_ALL, LRKI_FINISHED);
    run->step = (int)step;
    move_pool_size(state, own, run);
    lrki_state_within(state, "the size of the group", &run->n_group, 0, run->pool.size);
    lrki_state_within(state, "the place in the group", &run->cursor, 0, run->n_group);
    move_baseline(state, &run->baselines[LRK_BASELINE_ALL], n_parts);
    move_baseline(state, &run->baselines[LRK_BASELINE_NONE], n_parts);
    move_doubles(state, run->weights, n_parts);
    if (run->differences != NULL) move_doubles(state, run->differences, run->n * n_parts);
}

static void save_run(const lrk_estimator *estimator, lrki_state *state)
{
    const lrki_ablation *own = estimator->state;
    lrki_ablation_run run = *own->run; /* saving only reads */
    lrki_scores_save(run.scores, state);
    move_run(state, own, &run);
    for (int64_t i = 0; i < run.n; i++) {
        int64_t flat = run.pool.order[i] - run.scores->scores;
        lrki_state_i64(state, &flat);
    }
    for (int64_t i = 0; i < run.n_group; i++)
        lrki_state_i64(state, &run.group[i].flat);
}

/* ---- loading --------------------------------------------------------------------------------------------------------- */

#define OUTSIDE 1
#define INSIDE  2

/* A permutation of the ranks; place [n] is zeroed and gets where each rank stands. */
static void load_order(lrki_state *state, lrki_ablation_run *run, uint8_t *place)
{
    for (int64_t i = 0; i < run->n && state->status == LRK_OK; i++) {
        int64_t flat = 0;
        lrki_state_within(state, "a rank of the pool", &flat, 0, run->n - 1);
        if (place[flat] != 0) (void)lrki_state_fail(state, LRK_ERR_FORMAT, "a rank stands twice in the pool");
        place[flat] = i < run->pool.size ? INSIDE : OUTSIDE;
        run->pool.order[i] = &run->scores->scores[flat];
    }
}

static void load_group(const lrk_estimator *estimator, lrki_state *state, lrki_ablation_run *run,
                       const uint8_t *place)
{
    bool inside = true;
    for (int64_t i = 0; i < run->n_group && state->status == LRK_OK; i++) {
        int64_t flat = 0;
        lrki_state_within(state, "a rank of the group", &flat, 0, run->n - 1);
        int32_t module = run->scores->scores[flat].module;
        run->group[i] = (lrki_ablated){estimator->adapters->modules[module].stage, flat};
        inside = inside && place[flat] == INSIDE;
    }
    for (int64_t i = 0; i < run->n; i++)
        if (run->scores->scores[i].flags & LRK_SCORE_EXACT) inside = inside && place[i] == INSIDE;
    if (!inside) (void)lrki_state_fail(state, LRK_ERR_FORMAT, "a rank outside the pool is ablated");
}

static void load_parts(lrk_estimator *estimator, lrki_state *state, lrki_ablation_run *run)
{
    lrk_context *context = estimator->adapters->context;
    uint8_t *place = lrki_array(context, run->n, sizeof *place);
    if (place == NULL) {
        (void)lrki_state_fail_nomem(state);
        return;
    }
    move_run(state, estimator->state, run);
    load_order(state, run, place);
    if (state->status == LRK_OK) load_group(estimator, state, run, place);
    lrki_array_free(context, place, run->n, sizeof *place);
}

static lrk_status load_run(lrk_estimator *estimator, lrki_state *state, const lrki_adapters_load *set,
                           void **out)
{
    lrki_ablation_run *run = NULL;
    lrk_scores *scores;
    lrk_status status = lrki_scores_load(state, set, &scores);
    if (status != LRK_OK) return status;
    state->status = lrki_ablation_run_create(estimator, scores, &run);
    if (state->status == LRK_OK) load_parts(estimator, state, run);
    if (state->status == LRK_OK)
        *out = run;
    else
        lrki_ablation_run_free(estimator, run);
    return state->status;
}

static void adopt_run(lrk_estimator *estimator, void *run)
{
    lrki_ablation *own = estimator->state;
    lrki_ablation_forget(estimator);
    own->run = run;
    if (run != NULL) lrki_scores_load_commit(own->run->scores);
}

static void drop_run(lrk_estimator *estimator, void *run)
{
    lrki_ablation_run_free(estimator, run);
}

const lrki_estimator_resume lrki_ablation_resume = {.same = same_ablation,
                                                    .has_run = has_run,
                                                    .save_run = save_run,
                                                    .load_run = load_run,
                                                    .adopt_run = adopt_run,
                                                    .drop_run = drop_run};
