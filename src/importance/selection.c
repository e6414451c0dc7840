/* SPDX-License-Identifier: MIT */
/*
 * Selection weights (AutoLoRA's, to first order): w_j = r softmax(alpha)_j in a module of r ranks, alpha moved by Adam along
 * the loss on the validation batch while A and B stay. The weights are a mask, so that the set is not touched; alpha begins at
 * equal weights in every run, so that nothing is kept.
 */
#include <math.h>

#include "importance.h"

#define STEPS 16
#define RATE  0.1
#define BETA1 0.5 /* of the published code's outer optimizer */
#define BETA2 0.999
#define TINY  1e-8

typedef struct selection_state {
    lrk_evaluator host;
    lrk_selection_options options;
} selection_state;

/* One run; arrays over the live ranks. */
typedef struct selection {
    lrk_scores *scores; /* their score is the weight */
    double *alpha, *first, *second, *gradient;
    float *mask;
    lrk_loss_part *parts;
} selection;

lrk_status lrk_selection_options_init(lrk_selection_options *options, size_t struct_size)
{
    static const lrk_selection_options defaults = {.steps = STEPS, .rate = RATE};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrk_status check_options(lrk_context *context, const void *given)
{
    const lrk_selection_options *options = given;
    if (options->flags != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "flags has unknown bits: 0x%x", options->flags);
    if (options->reserved != 0) return lrki_fail(context, LRK_ERR_ARGUMENT, "reserved must be 0");
    if (options->steps < 1)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "steps must be >= 1, is %d", (int)options->steps);
    if (!(options->rate > 0 && isfinite(options->rate)))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "rate must be > 0, is %g", options->rate);
    return LRK_OK;
}

/* ---- a module ---------------------------------------------------------------------------------------- */

/* n alphas to weights of mean 1. */
static void weigh(const double *alpha, int64_t n, lrk_score *ranks, float *mask)
{
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++)
        most = fmax(most, alpha[j]);
    for (int64_t j = 0; j < n; j++)
        sum += exp(alpha[j] - most);
    for (int64_t j = 0; j < n; j++) {
        ranks[j].score = (double)n * exp(alpha[j] - most) / sum;
        mask[j] = (float)ranks[j].score;
    }
}

/* dL/dalpha_j = w_j (G_j - mean_k w_k G_k), G = dL/dw; and Adam's step number t, from 1. */
static void descend(const selection *s, int64_t first, int64_t n, double rate, int32_t t)
{
    double mean = 0;
    for (int64_t j = first; j < first + n; j++)
        mean += s->scores->scores[j].score * s->gradient[j] / (double)n;
    for (int64_t j = first; j < first + n; j++) {
        double d = s->scores->scores[j].score * (s->gradient[j] - mean);
        s->first[j] = BETA1 * s->first[j] + (1 - BETA1) * d;
        s->second[j] = BETA2 * s->second[j] + (1 - BETA2) * d * d;
        double m = s->first[j] / (1 - pow(BETA1, t)), v = s->second[j] / (1 - pow(BETA2, t));
        s->alpha[j] -= rate * m / (sqrt(v) + TINY);
    }
}

/* ---- a run ------------------------------------------------------------------------------------------- */

static void weigh_all(const lrk_adapters *adapters, const selection *s)
{
    for (int32_t i = 0; i < adapters->n_modules; i++) {
        int64_t at = adapters->modules[i].first_rank;
        weigh(s->alpha + at, adapters->modules[i].bank.rank, s->scores->scores + at, s->mask + at);
    }
}

static void take_loss(const lrk_evaluator *host, const selection *s)
{
    double loss = 0, weight = 0;
    for (int32_t p = 0; p < host->n_parts; p++) {
        loss += s->parts[p].loss_sum;
        weight += s->parts[p].weight;
    }
    s->scores->info.loss_all = loss / weight; /* weights are 1 */
}

static lrk_status take_step(lrk_estimator *estimator, const selection *s, int32_t t)
{
    const selection_state *state = estimator->state;
    lrk_adapters *adapters = estimator->adapters;
    lrki_question question = {LRK_BASELINE_ALL, LRKI_BASELINE_SELF, NULL};
    lrk_status status = lrk_mask_create_values(adapters, s->mask, s->scores->info.n, &question.mask);
    if (status != LRK_OK) return status;
    status = lrki_differentiate(estimator, &state->host, s->scores, &question, t - 1, s->parts, s->gradient);
    lrk_mask_destroy(question.mask);
    if (status != LRK_OK) return status;
    if (t == 1) take_loss(&state->host, s);
    for (int32_t i = 0; i < adapters->n_modules; i++)
        descend(s, adapters->modules[i].first_rank, adapters->modules[i].bank.rank, state->options.rate, t);
    weigh_all(adapters, s);
    return LRK_OK;
}

static lrk_status select_ranks(lrk_estimator *estimator, const selection *s)
{
    const selection_state *state = estimator->state;
    lrk_status status = LRK_OK;
    weigh_all(estimator->adapters, s);
    for (int32_t t = 1; t <= state->options.steps && status == LRK_OK; t++)
        status = take_step(estimator, s, t);
    s->scores->info.differentiations = state->options.steps;
    return status == LRK_OK ? lrki_scores_check_finite(s->scores) : status;
}

static lrk_status run_selection(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    (void)nonce;
    const selection_state *state = estimator->state;
    lrk_context *context = estimator->adapters->context;
    selection s = {.scores = lrki_scores_new(estimator->adapters, "selection")};
    if (s.scores == NULL) return LRK_ERR_NOMEM;
    int64_t n = s.scores->info.n;
    double *values = lrki_array(context, 4 * n, sizeof *values);
    s.mask = lrki_array(context, n, sizeof *s.mask);
    s.parts = lrki_array(context, state->host.n_parts, sizeof *s.parts);
    lrk_status status = LRK_OK;
    if (values == NULL || s.mask == NULL || s.parts == NULL)
        status = lrki_fail_nomem(context, "selection weights");
    if (status == LRK_OK) {
        s.alpha = values;
        s.first = values + n;
        s.second = values + 2 * n;
        s.gradient = values + 3 * n;
        status = select_ranks(estimator, &s);
    }
    lrki_array_free(context, values, 4 * n, sizeof *values);
    lrki_array_free(context, s.mask, n, sizeof *s.mask);
    lrki_array_free(context, s.parts, state->host.n_parts, sizeof *s.parts);
    if (status == LRK_OK)
        *scores = s.scores;
    else
        lrk_scores_destroy(s.scores);
    return status;
}

static lrk_status estimate_selection(const lrk_estimator *estimator, lrk_estimate *estimate)
{
    estimate->differentiations = ((const selection_state *)estimator->state)->options.steps;
    return LRK_OK;
}

/* ---- creation ---------------------------------------------------------------------------------------- */

lrk_status lrk_estimator_create_selection(lrk_adapters *adapters, const lrk_evaluator *evaluator,
                                          const lrk_selection_options *options, lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = lrki_adapters_enter_gradients(adapters, "lrk_estimator_create_selection");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    selection_state state = {0};
    if (evaluator == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "selection estimator: evaluator must not be NULL");
    (void)lrk_evaluator_init(&state.host, sizeof state.host);
    (void)lrk_selection_options_init(&state.options, sizeof state.options);
    status = lrki_struct_read(context, &state.host, sizeof state.host, evaluator, 8, "evaluator");
    if (status == LRK_OK && options != NULL)
        status =
            lrki_struct_read(context, &state.options, sizeof state.options, options, 8, "selection options");
    if (status == LRK_OK) status = check_options(context, &state.options);
    if (status == LRK_OK) status = lrki_evaluator_check(context, &state.host, LRK_ABLATION_TWO_POINT);
    if (status != LRK_OK) return status;
    return lrki_estimator_create(adapters, LRKI_KIND_selection, "selection estimator", &state, estimator);
}

/* ---- what it is -------------------------------------------------------------------------------------- */

static void same_selection(const lrk_estimator *estimator, lrki_state *state)
{
    const lrk_selection_options *options = &((const selection_state *)estimator->state)->options;
    lrki_state_same_i64(state, "steps", options->steps);
    lrki_state_same_f64(state, "rate", options->rate);
}

static const lrki_estimator_resume resume_selection = {.same = same_selection};

#define KEY(...) LRKI_KEY(lrk_selection_options, "importance", __VA_ARGS__)
static const lrki_key keys[] = {KEY("steps", INTEGER4, steps, ), KEY("rate", REAL, rate, ), {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_selection_options_init(options, sizeof(lrk_selection_options));
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_estimator_terms *terms,
                                const void *options, lrk_estimator **estimator)
{
    return lrk_estimator_create_selection(adapters, terms->evaluator, options, estimator);
}

const lrki_estimator_type lrki_estimator_selection = {
    .state_size = sizeof(selection_state),
    .resume = &resume_selection,
    .estimate = estimate_selection,
    .run = run_selection,
    .method = {.summary = "AutoLoRA's selection weights to first order; asks for derivatives",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_selection_options),
               .init = init_chosen},
    .check = check_options,
    .create = create_chosen};
