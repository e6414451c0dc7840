/* SPDX-License-Identifier: MIT */
/*
 * AB-LoRA: the run of an ablation as a sequence of questions to the host (exact, screened, two-point), its cost, and
 * the creation of the estimator. It can stop after any answer and go on later with the same result.
 */
#include <stdlib.h>

#include "ablation.h"

/* ---- cost -------------------------------------------------------------------------------------------- */

static int64_t evaluations_of_baseline(const lrki_ablation *state)
{
    return state->options.noise_floor_repeats + (lrki_differentiate_is_baseline(state) ? 0 : 1);
}

static int64_t differentiations(const lrki_ablation *state)
{
    return state->options.mode == LRK_ABLATION_EXACT ? 0 : 2;
}

int64_t lrki_ablation_first_pool(const lrki_ablation *state, int64_t n)
{
    if (state->options.mode == LRK_ABLATION_EXACT) return n;
    return state->options.mode == LRK_ABLATION_TWO_POINT ? 0 : lrki_pool_first(&state->options, n);
}

static lrk_status estimate_ablation(const lrk_estimator *estimator, lrk_estimate *estimate)
{
    const lrki_ablation *state = estimator->state;
    int64_t n = estimate->ranks, baselines = 2 * evaluations_of_baseline(state);
    int64_t first = lrki_ablation_first_pool(state, n);
    int64_t most = state->options.mode == LRK_ABLATION_SCREENED ? lrki_pool_most(&state->options, n) : first;
    estimate->evaluations = 2 * first + baselines;
    estimate->evaluations_most = 2 * most + baselines;
    estimate->differentiations = differentiations(state);
    return LRK_OK;
}

/* ---- the sequence ------------------------------------------------------------------------------------ */

static int by_stage(const void *left, const void *right)
{
    const lrki_ablated *a = left, *b = right;
    if (a->stage != b->stage) return a->stage < b->stage ? -1 : 1;
    return (a->flat > b->flat) - (a->flat < b->flat);
}

/* Makes the last n ranks of the pool the group. */
static void set_group(lrk_estimator *estimator, int64_t n)
{
    lrki_ablation_run *run = ((lrki_ablation *)estimator->state)->run;
    for (int64_t i = 0; i < n; i++) {
        const lrk_score *rank = run->pool.order[run->pool.size - n + i];
        run->group[i] =
            (lrki_ablated){estimator->adapters->modules[rank->module].stage, rank - run->scores->scores};
    }
    qsort(run->group, (size_t)n, sizeof *run->group, by_stage);
    run->n_group = n;
    run->cursor = 0;
}

static void choose_pool(lrk_estimator *estimator)
{
    lrki_ablation *state = estimator->state;
    lrki_pool *pool = &state->run->pool;
    if (state->options.mode == LRK_ABLATION_SCREENED)
        lrki_pool_choose(pool, &state->options);
    else
        pool->size = lrki_ablation_first_pool(state, pool->n);
    set_group(estimator, pool->size);
}

static bool grow_pool(lrk_estimator *estimator)
{
    lrki_ablation *state = estimator->state;
    if (state->options.mode != LRK_ABLATION_SCREENED) return false;
    int64_t left_out, joined = lrki_pool_grow(&state->run->pool, &state->options, &left_out);
    if (left_out > 0)
        lrki_log(
            estimator->adapters->context, LRK_LOG_WARNING,
            "screened scoring stops at pool_limit = %lld with %lld ranks outside estimated below the cut",
            (long long)state->options.pool_limit, (long long)left_out);
    set_group(estimator, joined);
    return joined > 0;
}

static bool has_work(const lrki_ablation *state)
{
    const lrki_ablation_run *run = state->run;
    switch (run->step) {
    case LRKI_DIFFERENTIATE_ALL:
    case LRKI_DIFFERENTIATE_NONE:
        return differentiations(state) > 0 && run->scores->info.differentiations == run->step;
    case LRKI_BASE_ALL:
        return run->baselines[LRK_BASELINE_ALL].asked < evaluations_of_baseline(state);
    case LRKI_BASE_NONE:
        return run->baselines[LRK_BASELINE_NONE].asked < evaluations_of_baseline(state);
    case LRKI_WITHOUT_EACH:
    case LRKI_ONLY_EACH:
        return run->cursor < run->n_group;
    default:
        return false;
    }
}

/* Moves on to the next step that asks the host something, or to LRKI_FINISHED. */
static void advance(lrk_estimator *estimator)
{
    const lrki_ablation *state = estimator->state;
    lrki_ablation_run *run = state->run;
    while (run->step != LRKI_FINISHED && !has_work(state)) {
        run->step++;
        if (run->step == LRKI_BASE_ALL) choose_pool(estimator);
        if (run->step == LRKI_ONLY_EACH) run->cursor = 0;
        if (run->step == LRKI_GROW) run->step = grow_pool(estimator) ? LRKI_WITHOUT_EACH : LRKI_FINISHED;
    }
}

static lrk_status ask(lrk_estimator *estimator)
{
    switch (((const lrki_ablation *)estimator->state)->run->step) {
    case LRKI_DIFFERENTIATE_ALL:
        return lrki_differentiate_baseline(estimator, LRK_BASELINE_ALL);
    case LRKI_DIFFERENTIATE_NONE:
        return lrki_differentiate_baseline(estimator, LRK_BASELINE_NONE);
    case LRKI_BASE_ALL:
        return lrki_evaluate_baseline(estimator, LRK_BASELINE_ALL);
    case LRKI_BASE_NONE:
        return lrki_evaluate_baseline(estimator, LRK_BASELINE_NONE);
    case LRKI_WITHOUT_EACH:
        return lrki_ablate_some(estimator, LRK_BASELINE_ALL);
    default:
        return lrki_ablate_some(estimator, LRK_BASELINE_NONE);
    }
}

static lrk_status report_progress(lrk_estimator *estimator)
{
    const lrki_ablation *state = estimator->state;
    if (state->host.progress == NULL) return LRK_OK;
    const lrki_ablation_run *run = state->run;
    int64_t done = run->scores->info.evaluations + run->scores->info.differentiations;
    int64_t pool = run->step < LRKI_BASE_ALL ? lrki_ablation_first_pool(state, run->pool.n) : run->pool.size;
    int64_t total = 2 * pool + 2 * evaluations_of_baseline(state) + differentiations(state);
    bool before = lrki_host_call_begin(estimator);
    int32_t answer = state->host.progress(state->host.user, done, total);
    lrki_host_call_end(estimator, before);
    if (answer == 0) return LRK_OK;
    return lrki_fail(estimator->adapters->context, LRK_ERR_CANCELLED,
                     "scoring stopped after %lld of %lld evaluations", (long long)done, (long long)total);
}

/* A change of ranks is a change of values too. */
static lrk_status check_current(const lrk_estimator *estimator)
{
    const lrk_adapters *adapters = estimator->adapters;
    const lrk_scores_info *info = &((const lrki_ablation *)estimator->state)->run->scores->info;
    if (info->values_version == adapters->values_version) return LRK_OK;
    return lrki_fail(adapters->context, LRK_ERR_STALE,
                     "the set changed since scoring was paused after %lld evaluations: reset the estimator",
                     (long long)(info->evaluations + info->differentiations));
}

/* Asks until all is known. */
static lrk_status find_out(lrk_estimator *estimator)
{
    const lrki_ablation *state = estimator->state;
    lrk_status status = LRK_OK;
    for (advance(estimator); status == LRK_OK && state->run->step != LRKI_FINISHED;) {
        status = ask(estimator);
        if (status != LRK_OK) return status;
        advance(estimator);
        status = report_progress(estimator);
        if (status == LRK_OK) status = check_current(estimator); /* progress may have written parameters */
    }
    return status;
}

static bool knows_nothing(const lrki_ablation_run *run)
{
    return run->scores->info.evaluations + run->scores->info.differentiations == 0;
}

/* Workers must be left alike: a run without an answer is none, and one is finished on all of them or on none. */
static lrk_status run_ablation(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    (void)nonce;
    lrki_ablation *state = estimator->state;
    lrk_status status =
        state->run == NULL ? lrki_ablation_begin(estimator, &state->run) : check_current(estimator);
    if (status != LRK_OK) return status;
    status = find_out(estimator);
    if (status == LRK_OK) status = lrki_ablation_finish(estimator);
    status = lrki_estimator_agree(estimator, status, state->run->scores);
    if (status != LRK_OK) {
        lrki_ablation_unfinish(state->run);
        if (knows_nothing(state->run)) lrki_ablation_forget(estimator);
        return status;
    }
    *scores = state->run->scores;
    state->run->scores = NULL;
    lrki_ablation_forget(estimator);
    return LRK_OK;
}

static lrk_status check_chosen(lrk_context *context, const void *options)
{
    lrk_ablation_options own = *(const lrk_ablation_options *)options;
    own.n_cut = 1; /* comes with the terms */
    return lrki_ablation_options_check(context, &own);
}

static const lrki_word mode_words[] = {{"exact", LRK_ABLATION_EXACT},
                                       {"screened", LRK_ABLATION_SCREENED},
                                       {"two_point", LRK_ABLATION_TWO_POINT},
                                       {NULL, 0}};
static const lrki_word pool_words[] = {{"auto", LRK_POOL_DEFAULT}, {NULL, 0}};
static const lrki_word limit_words[] = {{"unlimited", LRK_POOL_UNLIMITED}, {NULL, 0}};

static void init_chosen(void *options)
{
    (void)lrk_ablation_options_init(options, sizeof(lrk_ablation_options));
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_estimator_terms *terms,
                                const void *options, lrk_estimator **estimator)
{
    lrk_ablation_options own = *(const lrk_ablation_options *)options;
    own.n_cut = terms->n_cut;
    return lrk_estimator_create_ablation(adapters, terms->evaluator, &own, estimator);
}

#define KEY(...) LRKI_KEY(lrk_ablation_options, "importance", __VA_ARGS__)
static const lrki_key keys[] = {KEY("mode", CHOICE, mode, .words = mode_words),
                                KEY("noise_floor_repeats", INTEGER4, noise_floor_repeats, ),
                                KEY("pool", INTEGER, pool, .words = pool_words),
                                KEY("pool_step", INTEGER, pool_step, ),
                                KEY("pool_limit", INTEGER, pool_limit, .words = limit_words),
                                {.name = NULL}};
#undef KEY

const lrki_estimator_type lrki_estimator_ablation = {
    .state_size = sizeof(lrki_ablation),
    .resume = &lrki_ablation_resume,
    .estimate = estimate_ablation,
    .run = run_ablation,
    .reset = lrki_ablation_forget,
    .fini = lrki_ablation_forget,
    .method = {.summary = "AB-LoRA: the loss without a rank and with it alone; asks for evaluations, and "
                          "unless exact for derivatives",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_ablation_options),
               .init = init_chosen},
    .check = check_chosen,
    .create = create_chosen};

/* ---- creation ---------------------------------------------------------------------------------------- */

static lrk_status read_arguments(lrk_adapters *adapters, const lrk_evaluator *evaluator,
                                 const lrk_ablation_options *options, lrki_ablation *state)
{
    lrk_context *context = adapters->context;
    (void)lrk_evaluator_init(&state->host, sizeof state->host);
    (void)lrk_ablation_options_init(&state->options, sizeof state->options);
    lrk_status status =
        lrki_struct_read(context, &state->host, sizeof state->host, evaluator, 8, "evaluator");
    if (status == LRK_OK)
        status =
            lrki_struct_read(context, &state->options, sizeof state->options, options, 8, "ablation options");
    if (status == LRK_OK) status = lrki_ablation_options_check(context, &state->options);
    if (status == LRK_OK) status = lrki_evaluator_check(context, &state->host, state->options.mode);
    if (status != LRK_OK) return status;
    if (state->options.mode != LRK_ABLATION_EXACT && (adapters->flags & LRK_ADAPTERS_INFERENCE) != 0)
        return lrki_fail(context, LRK_ERR_UNSUPPORTED,
                         "an inference-only set has no derivatives: mode must be exact");
    return LRK_OK;
}

lrk_status lrk_estimator_create_ablation(lrk_adapters *adapters, const lrk_evaluator *evaluator,
                                         const lrk_ablation_options *options, lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_estimator_create_ablation");
    if (status != LRK_OK) return status;
    if (estimator == NULL || evaluator == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT,
                         "ablation: evaluator and estimator must not be NULL");
    lrki_ablation state = {0};
    status = read_arguments(adapters, evaluator, options, &state);
    if (status != LRK_OK) return status;
    lrk_estimator *made = lrki_estimator_new(adapters, LRKI_KIND_ablation);
    if (made == NULL) return LRK_ERR_NOMEM;
    *(lrki_ablation *)made->state = state;
    *estimator = made;
    return LRK_OK;
}
