/* SPDX-License-Identifier: MIT */
/*
 * Sensitivity (AdaLoRA, Zhang et al. 2023): smoothed |w dL/dw| times its smoothed deviation, element by element. The gate's
 * is the mask derivative, which the gradient of A's row holds, so that gates need no gradients of their own.
 */
#include <math.h>

#include "importance.h"

typedef struct sensitivity_state {
    lrk_sensitivity_options options;
    lrki_tracker tracker; /* a row: I and U of A, I and U of B, I and U of the gate */
} sensitivity_state;

lrk_status lrk_sensitivity_options_init(lrk_sensitivity_options *options, size_t struct_size)
{
    static const lrk_sensitivity_options defaults = {
        .form = LRK_SENSITIVITY_TRIPLET, .beta1 = 0.85, .beta2 = 0.85};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

/* ---- observing --------------------------------------------------------------------------------------- */

static void smooth(const lrk_sensitivity_options *options, double now, float *mean, float *deviation)
{
    double b1 = options->beta1, b2 = options->beta2;
    *mean = (float)(b1 * (double)*mean + (1 - b1) * now);
    *deviation = (float)(b2 * (double)*deviation + (1 - b2) * fabs(now - (double)*mean));
}

static void smooth_row(const lrk_sensitivity_options *options, const float *w, const float *d, int64_t n,
                       float *averages)
{
    for (int64_t j = 0; j < n; j++)
        smooth(options, fabs((double)w[j] * (double)d[j]), &averages[j], &averages[n + j]);
}

static lrk_status prepare_sensitivity(lrk_estimator *estimator)
{
    return lrki_tracker_follow(estimator->adapters, &((sensitivity_state *)estimator->state)->tracker);
}

static void observe_sensitivity(lrk_estimator *estimator)
{
    sensitivity_state *state = estimator->state;
    const lrk_adapters *adapters = estimator->adapters;
    for (int64_t m = 0; m < adapters->n_modules; m++) {
        const lrki_module *module = &adapters->modules[m];
        const lrki_bank *bank = &module->bank;
        lrki_tracked *tracked = &state->tracker.modules[m];
        int64_t n_in = module->n_in, n_out = module->n_out;
        for (int64_t i = 0; i < bank->rank && module->has_gradient; i++) {
            float *row = tracked->rows + i * lrki_tracker_width(&state->tracker, module);
            smooth_row(&state->options, bank->a + i * n_in, bank->grad_a + i * n_in, n_in, row);
            row += 2 * n_in;
            smooth_row(&state->options, bank->b + i * n_out, bank->grad_b + i * n_out, n_out, row);
            row += 2 * n_out;
            smooth(&state->options, fabs(lrki_mask_gradient(module, i)), &row[0], &row[1]);
            tracked->counts[i]++;
        }
    }
}

/* ---- scoring ----------------------------------------------------------------------------------------- */

static double mean_product(const float *averages, int64_t n)
{
    double sum = 0;
    for (int64_t j = 0; j < n; j++)
        sum += (double)averages[j] * (double)averages[n + j];
    return sum / (double)n;
}

static double score_of(const sensitivity_state *state, const lrki_module *module, int64_t count,
                       const float *row)
{
    const float *of_b = row + 2 * module->n_in, *of_gate = of_b + 2 * module->n_out;
    double score = mean_product(row, module->n_in) + mean_product(of_b, module->n_out);
    if (state->options.form == LRK_SENSITIVITY_TRIPLET) score += (double)of_gate[0] * (double)of_gate[1];
    if ((state->options.flags & LRK_SENSITIVITY_CORRECTED) != 0 && count > 0)
        score /=
            (1 - pow(state->options.beta1, (double)count)) * (1 - pow(state->options.beta2, (double)count));
    return score;
}

static lrk_status fill(lrk_estimator *estimator, lrk_scores *scores)
{
    const sensitivity_state *state = estimator->state;
    const lrk_adapters *adapters = estimator->adapters;
    for (int64_t k = 0; k < scores->info.n; k++) {
        lrk_score *score = &scores->scores[k];
        const lrki_module *module = &adapters->modules[score->module];
        const lrki_tracked *tracked = &state->tracker.modules[score->module];
        const float *row = tracked->rows + score->index * lrki_tracker_width(&state->tracker, module);
        score->score = score_of(state, module, tracked->counts[score->index], row);
    }
    return lrki_scores_check_finite(scores);
}

static lrk_status run_sensitivity(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    (void)nonce;
    sensitivity_state *state = estimator->state;
    bool triplet = state->options.form == LRK_SENSITIVITY_TRIPLET;
    lrk_status status = prepare_sensitivity(estimator);
    if (status == LRK_OK)
        status = lrki_tracker_check_seen(estimator->adapters, &state->tracker, "sensitivity");
    if (status != LRK_OK) return status;
    lrk_scores *made =
        lrki_scores_new(estimator->adapters, triplet ? "sensitivity.triplet" : "sensitivity.pair");
    if (made == NULL) return LRK_ERR_NOMEM;
    status = fill(estimator, made);
    if (status == LRK_OK)
        *scores = made;
    else
        lrk_scores_destroy(made);
    return status;
}

static void fini_sensitivity(lrk_estimator *estimator)
{
    lrki_tracker_free(estimator->adapters, &((sensitivity_state *)estimator->state)->tracker);
}

/* ---- in checkpoints ---------------------------------------------------------------------------------- */

static void same_sensitivity(const lrk_estimator *estimator, lrki_state *state)
{
    const lrk_sensitivity_options *options = &((const sensitivity_state *)estimator->state)->options;
    lrki_state_same_i64(state, "form", options->form);
    lrki_state_same_i64(state, "flags", options->flags);
    lrki_state_same_f64(state, "beta1", options->beta1);
    lrki_state_same_f64(state, "beta2", options->beta2);
}

static bool has_averages(const lrk_estimator *estimator)
{
    return ((const sensitivity_state *)estimator->state)->tracker.modules != NULL;
}

static void save_averages(const lrk_estimator *estimator, lrki_state *state)
{
    lrki_tracker_save(estimator->adapters, &((const sensitivity_state *)estimator->state)->tracker, state);
}

static lrk_status load_averages(lrk_estimator *estimator, lrki_state *state, const lrki_adapters_load *set,
                                void **run)
{
    (void)set; /* records carry identities: they are fitted to the ranks when next used */
    lrki_tracker *loaded;
    lrk_status status = lrki_tracker_load(estimator->adapters,
                                          &((sensitivity_state *)estimator->state)->tracker, state, &loaded);
    *run = loaded;
    return status;
}

static void adopt_averages(lrk_estimator *estimator, void *run)
{
    lrki_tracker_adopt(estimator->adapters, &((sensitivity_state *)estimator->state)->tracker, run);
}

static void drop_averages(lrk_estimator *estimator, void *run)
{
    lrki_tracker_drop(estimator->adapters, run);
}

static const lrki_estimator_resume resume_sensitivity = {.same = same_sensitivity,
                                                         .has_run = has_averages,
                                                         .save_run = save_averages,
                                                         .load_run = load_averages,
                                                         .adopt_run = adopt_averages,
                                                         .drop_run = drop_averages};

static lrk_status check_options(lrk_context *context, const lrk_sensitivity_options *options)
{
    if ((options->flags & ~LRK_SENSITIVITY_CORRECTED) != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "flags has unknown bits: 0x%x", options->flags);
    if (options->reserved != 0) return lrki_fail(context, LRK_ERR_ARGUMENT, "reserved must be 0");
    if (options->form != LRK_SENSITIVITY_TRIPLET && options->form != LRK_SENSITIVITY_PAIR)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "form %d is unknown", (int)options->form);
    if (!(options->beta1 >= 0 && options->beta1 < 1))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "beta1 must be in [0, 1), is %g", options->beta1);
    if (!(options->beta2 >= 0 && options->beta2 < 1))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "beta2 must be in [0, 1), is %g", options->beta2);
    return LRK_OK;
}

static lrk_status check_chosen(lrk_context *context, const void *options)
{
    return check_options(context, options);
}

static const lrki_word form_words[] = {
    {"triplet", LRK_SENSITIVITY_TRIPLET}, {"pair", LRK_SENSITIVITY_PAIR}, {NULL, 0}};

static void init_chosen(void *options)
{
    (void)lrk_sensitivity_options_init(options, sizeof(lrk_sensitivity_options));
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_estimator_terms *terms,
                                const void *options, lrk_estimator **estimator)
{
    (void)terms;
    return lrk_estimator_create_sensitivity(adapters, options, estimator);
}

#define KEY(...) LRKI_KEY(lrk_sensitivity_options, "importance", __VA_ARGS__)
static const lrki_key keys[] = {KEY("beta1", REAL, beta1, ),
                                KEY("beta2", REAL, beta2, ),
                                KEY("sensitivity", CHOICE, form, .words = form_words),
                                KEY("corrected", FLAG, flags, .bit = LRK_SENSITIVITY_CORRECTED),
                                {.name = NULL}};
#undef KEY

const lrki_estimator_type lrki_estimator_sensitivity = {
    .state_size = sizeof(sensitivity_state),
    .resume = &resume_sensitivity,
    .estimate = lrki_estimate_nothing,
    .run = run_sensitivity,
    .fini = fini_sensitivity,
    .prepare = prepare_sensitivity,
    .observe = observe_sensitivity,
    .method = {.summary = "AdaLoRA's smoothed sensitivity times its deviation, from every step's gradients",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_sensitivity_options),
               .init = init_chosen},
    .check = check_chosen,
    .create = create_chosen};

/* ---- creation ---------------------------------------------------------------------------------------- */

lrk_status lrk_estimator_create_sensitivity(lrk_adapters *adapters, const lrk_sensitivity_options *options,
                                            lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_estimator_create_sensitivity");
    if (status != LRK_OK) return status;
    sensitivity_state state = {.tracker.per_element = 2};
    lrk_sensitivity_options *known = &state.options;
    (void)lrk_sensitivity_options_init(known, sizeof *known);
    if (options != NULL)
        status = lrki_struct_read(adapters->context, known, sizeof *known, options, 8, "sensitivity options");
    if (status == LRK_OK) status = check_options(adapters->context, known);
    if (status != LRK_OK) return status;
    return lrki_estimator_create(adapters, LRKI_KIND_sensitivity, "sensitivity estimator", &state, estimator);
}
