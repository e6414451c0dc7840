/* SPDX-License-Identifier: MIT */
/*
 * Output share (LoRA-drop): what ranks, or whole modules, add to the activations of the validation batch, of all that is
 * added. One evaluation with all ranks; nothing is kept between runs, so that there is nothing to pause.
 */
#include <math.h>
#include <stdlib.h>

#include "importance.h"

typedef struct output_state {
    lrk_evaluator host;
    lrk_output_options options;
} output_state;

lrk_status lrk_output_options_init(lrk_output_options *options, size_t struct_size)
{
    static const lrk_output_options defaults = {.level = LRK_OUTPUT_RANK};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

/* ---- shares ------------------------------------------------------------------------------------------ */

static lrk_status fail_silent(const lrk_estimator *estimator)
{
    return lrki_fail(estimator->adapters->context, LRK_ERR_STATE,
                     "output estimator: no rank adds anything to the validation batch, so that there is "
                     "nothing to share");
}

static lrk_status share_by_rank(const lrk_estimator *estimator, const lrk_rank_output *outputs,
                                lrk_scores *scores)
{
    double total = 0;
    for (int64_t i = 0; i < scores->info.n; i++)
        total += outputs[i].own;
    if (total == 0) return fail_silent(estimator);
    for (int64_t i = 0; i < scores->info.n; i++)
        scores->scores[i].score = outputs[i].own / total;
    return LRK_OK;
}

typedef struct module_output {
    double sum;
    int32_t module;
} module_output;

static int by_output(const void *left, const void *right)
{
    const module_output *a = left, *b = right;
    if (a->sum != b->sum) return a->sum < b->sum ? -1 : 1;
    return (a->module > b->module) - (a->module < b->module);
}

/* The order that shares are summed in needs real numbers; rounding may leave a sum of squares below 0. */
static lrk_status order_modules(const lrk_estimator *estimator, const lrk_rank_output *outputs,
                                const lrk_scores *scores, module_output *order)
{
    const lrk_adapters *adapters = estimator->adapters;
    for (int32_t m = 0; m < adapters->n_modules; m++)
        order[m] = (module_output){0, m};
    for (int64_t i = 0; i < scores->info.n; i++)
        order[scores->scores[i].module].sum += outputs[i].joint;
    for (int32_t m = 0; m < adapters->n_modules; m++) {
        if (!isfinite(order[m].sum))
            return lrki_fail_at(adapters->context, LRK_ERR_NONFINITE, (lrki_place){.module = m},
                                "output estimator: the output of module '%s' is %g",
                                adapters->modules[m].name, order[m].sum);
        order[m].sum = fmax(order[m].sum, 0);
    }
    qsort(order, (size_t)adapters->n_modules, sizeof *order, by_output);
    return LRK_OK;
}

/* Every rank gets what its module and all below it add, of what all add. */
static lrk_status share_by_module(const lrk_estimator *estimator, const lrk_rank_output *outputs,
                                  lrk_scores *scores)
{
    const lrk_adapters *adapters = estimator->adapters;
    lrk_context *context = adapters->context;
    int64_t n = adapters->n_modules;
    double total = 0, below = 0;
    module_output *order = lrki_array(context, n, sizeof *order);
    if (order == NULL) return lrki_fail_nomem(context, "outputs of modules");
    lrk_status status = order_modules(estimator, outputs, scores, order);
    for (int64_t i = 0; i < n && status == LRK_OK; i++)
        total += order[i].sum;
    if (status == LRK_OK && total == 0) status = fail_silent(estimator);
    for (int64_t i = 0; i < n && status == LRK_OK; i++) {
        const lrki_module *module = &adapters->modules[order[i].module];
        below += order[i].sum;
        for (int64_t j = 0; j < module->bank.rank; j++)
            scores->scores[module->first_rank + j].score = below / total;
    }
    lrki_array_free(context, order, n, sizeof *order);
    return status;
}

/* ---- a run ------------------------------------------------------------------------------------------- */

static lrk_status ask_and_share(lrk_estimator *estimator, lrk_scores *scores, lrk_loss_part *parts,
                                lrk_rank_output *outputs)
{
    const output_state *state = estimator->state;
    double loss = 0, weight = 0;
    lrk_status status = lrki_measure_outputs(estimator, &state->host, scores, parts, outputs);
    if (status != LRK_OK) return status;
    for (int32_t p = 0; p < state->host.n_parts; p++) {
        loss += parts[p].loss_sum;
        weight += parts[p].weight;
    }
    scores->info.evaluations = 1;
    scores->info.loss_all = loss / weight;
    status = state->options.level == LRK_OUTPUT_RANK ? share_by_rank(estimator, outputs, scores)
                                                     : share_by_module(estimator, outputs, scores);
    return status == LRK_OK ? lrki_scores_check_finite(scores) : status;
}

static lrk_status run_output(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    (void)nonce;
    const output_state *state = estimator->state;
    lrk_context *context = estimator->adapters->context;
    lrk_scores *made = lrki_scores_new(
        estimator->adapters, state->options.level == LRK_OUTPUT_RANK ? "output.rank" : "output.module");
    if (made == NULL) return LRK_ERR_NOMEM;
    lrk_rank_output *outputs = lrki_array(context, made->info.n, sizeof *outputs);
    lrk_loss_part *parts = lrki_array(context, state->host.n_parts, sizeof *parts);
    lrk_status status = outputs != NULL && parts != NULL ? ask_and_share(estimator, made, parts, outputs)
                                                         : lrki_fail_nomem(context, "outputs of ranks");
    lrki_array_free(context, outputs, made->info.n, sizeof *outputs);
    lrki_array_free(context, parts, state->host.n_parts, sizeof *parts);
    if (status == LRK_OK)
        *scores = made;
    else
        lrk_scores_destroy(made);
    return status;
}

static lrk_status estimate_output(const lrk_estimator *estimator, lrk_estimate *estimate)
{
    (void)estimator;
    estimate->evaluations = 1;
    estimate->evaluations_most = 1;
    return LRK_OK;
}

static void same_output(const lrk_estimator *estimator, lrki_state *state)
{
    lrki_state_same_i64(state, "level", ((const output_state *)estimator->state)->options.level);
}

static const lrki_estimator_resume resume_output = {.same = same_output};

static const lrki_word level_words[] = {{"rank", LRK_OUTPUT_RANK}, {"module", LRK_OUTPUT_MODULE}, {NULL, 0}};

static void init_chosen(void *options)
{
    (void)lrk_output_options_init(options, sizeof(lrk_output_options));
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_estimator_terms *terms,
                                const void *options, lrk_estimator **estimator)
{
    return lrk_estimator_create_output(adapters, terms->evaluator, options, estimator);
}

#define KEY(...) LRKI_KEY(lrk_output_options, "importance", __VA_ARGS__)
static const lrki_key keys[] = {KEY("output", CHOICE, level, .words = level_words), {.name = NULL}};
#undef KEY

const lrki_estimator_type lrki_estimator_output = {
    .state_size = sizeof(output_state),
    .resume = &resume_output,
    .estimate = estimate_output,
    .run = run_output,
    .method = {.summary = "LoRA-drop's share of what adapters put out; one evaluation with all ranks",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_output_options),
               .init = init_chosen},
    .create = create_chosen};

/* ---- creation ---------------------------------------------------------------------------------------- */

static lrk_status read_arguments(lrk_context *context, const lrk_evaluator *evaluator,
                                 const lrk_output_options *options, output_state *state)
{
    (void)lrk_evaluator_init(&state->host, sizeof state->host);
    (void)lrk_output_options_init(&state->options, sizeof state->options);
    lrk_status status =
        lrki_struct_read(context, &state->host, sizeof state->host, evaluator, 8, "evaluator");
    if (status == LRK_OK)
        status =
            lrki_struct_read(context, &state->options, sizeof state->options, options, 8, "output options");
    if (status != LRK_OK) return status;
    if (state->options.flags != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "flags has unknown bits: 0x%x", state->options.flags);
    if (state->options.reserved != 0) return lrki_fail(context, LRK_ERR_ARGUMENT, "reserved must be 0");
    if (state->options.level != LRK_OUTPUT_RANK && state->options.level != LRK_OUTPUT_MODULE)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "level %d is unknown", (int)state->options.level);
    return lrki_evaluator_check(context, &state->host, LRK_ABLATION_EXACT);
}

lrk_status lrk_estimator_create_output(lrk_adapters *adapters, const lrk_evaluator *evaluator,
                                       const lrk_output_options *options, lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_estimator_create_output");
    if (status != LRK_OK) return status;
    if (evaluator == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "output estimator: evaluator must not be NULL");
    output_state state = {0};
    status = read_arguments(adapters->context, evaluator, options, &state);
    if (status != LRK_OK) return status;
    return lrki_estimator_create(adapters, LRKI_KIND_output, "output estimator", &state, estimator);
}
