/* SPDX-License-Identifier: MIT */
/*
 * First-order Taylor: what leaving a rank out costs, -dL/dm at m = 1, averaged over the gradients observed since the last
 * scoring. A run only marks the window as read; the next gradient begins a new one, so that a round whose plan failed is
 * tried again on the same scores.
 */
#include <math.h>

#include "importance.h"

typedef struct taylor_state {
    lrk_taylor_options options;
    lrki_tracker tracker; /* sums and counts of the window */
    bool scored;          /* the window was read           */
} taylor_state;

lrk_status lrk_taylor_options_init(lrk_taylor_options *options, size_t struct_size)
{
    static const lrk_taylor_options defaults = {.form = LRK_TAYLOR_ABSOLUTE};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrk_status prepare_taylor(lrk_estimator *estimator)
{
    return lrki_tracker_follow(estimator->adapters, &((taylor_state *)estimator->state)->tracker);
}

static void observe_taylor(lrk_estimator *estimator)
{
    taylor_state *state = estimator->state;
    const lrk_adapters *adapters = estimator->adapters;
    if (state->scored) lrki_tracker_restart(adapters, &state->tracker);
    state->scored = false;
    for (int64_t m = 0; m < adapters->n_modules; m++) {
        const lrki_module *module = &adapters->modules[m];
        lrki_tracked *tracked = &state->tracker.modules[m];
        for (int64_t i = 0; i < tracked->rank && module->has_gradient; i++) {
            tracked->sums[i] -= lrki_mask_gradient(module, i);
            tracked->counts[i]++;
        }
    }
}

static lrk_status run_taylor(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    (void)nonce;
    taylor_state *state = estimator->state;
    bool absolute = state->options.form == LRK_TAYLOR_ABSOLUTE;
    lrk_status status = prepare_taylor(estimator);
    if (status == LRK_OK) status = lrki_tracker_check_seen(estimator->adapters, &state->tracker, "Taylor");
    if (status != LRK_OK) return status;
    lrk_scores *made = lrki_scores_new(estimator->adapters, absolute ? "taylor.absolute" : "taylor.signed");
    if (made == NULL) return LRK_ERR_NOMEM;
    for (int64_t k = 0; k < made->info.n; k++) {
        lrk_score *score = &made->scores[k];
        const lrki_tracked *tracked = &state->tracker.modules[score->module];
        int64_t count = tracked->counts[score->index];
        double mean = count > 0 ? tracked->sums[score->index] / (double)count : 0;
        score->score = absolute ? fabs(mean) : mean;
    }
    status = lrki_estimator_agree(estimator, lrki_scores_check_finite(made), made);
    if (status != LRK_OK) {
        lrk_scores_destroy(made);
        return status;
    }
    state->scored = true;
    *scores = made;
    return LRK_OK;
}

static void fini_taylor(lrk_estimator *estimator)
{
    lrki_tracker_free(estimator->adapters, &((taylor_state *)estimator->state)->tracker);
}

/* ---- in checkpoints ---------------------------------------------------------------------------------- */

typedef struct taylor_load {
    lrki_tracker *tracker;
    bool scored;
} taylor_load;

static void same_taylor(const lrk_estimator *estimator, lrki_state *state)
{
    lrki_state_same_i64(state, "form", ((const taylor_state *)estimator->state)->options.form);
}

static bool has_window(const lrk_estimator *estimator)
{
    return ((const taylor_state *)estimator->state)->tracker.modules != NULL;
}

static void save_window(const lrk_estimator *estimator, lrki_state *state)
{
    const taylor_state *own = estimator->state;
    bool scored = own->scored;
    lrki_state_flag(state, &scored);
    lrki_tracker_save(estimator->adapters, &own->tracker, state);
}

static lrk_status load_window(lrk_estimator *estimator, lrki_state *state, const lrki_adapters_load *set,
                              void **run)
{
    (void)set; /* records carry identities: they are fitted to the ranks when next used */
    lrk_context *context = estimator->adapters->context;
    taylor_load *load = lrki_alloc_zeroed(context, sizeof *load);
    *run = NULL;
    if (load == NULL) return lrki_state_fail_nomem(state);
    lrki_state_flag(state, &load->scored);
    lrk_status status = lrki_tracker_load(estimator->adapters, &((taylor_state *)estimator->state)->tracker,
                                          state, &load->tracker);
    if (status != LRK_OK) {
        lrki_free(context, load, sizeof *load);
        return status;
    }
    *run = load;
    return LRK_OK;
}

static void adopt_window(lrk_estimator *estimator, void *run)
{
    taylor_state *own = estimator->state;
    taylor_load *load = run;
    own->scored = load != NULL && load->scored;
    lrki_tracker_adopt(estimator->adapters, &own->tracker, load != NULL ? load->tracker : NULL);
    if (load != NULL) lrki_free(estimator->adapters->context, load, sizeof *load);
}

static void drop_window(lrk_estimator *estimator, void *run)
{
    taylor_load *load = run;
    lrki_tracker_drop(estimator->adapters, load->tracker);
    lrki_free(estimator->adapters->context, load, sizeof *load);
}

static const lrki_estimator_resume resume_taylor = {.same = same_taylor,
                                                    .has_run = has_window,
                                                    .save_run = save_window,
                                                    .load_run = load_window,
                                                    .adopt_run = adopt_window,
                                                    .drop_run = drop_window};

static const lrki_word form_words[] = {
    {"absolute", LRK_TAYLOR_ABSOLUTE}, {"signed", LRK_TAYLOR_SIGNED}, {NULL, 0}};

static void init_chosen(void *options)
{
    (void)lrk_taylor_options_init(options, sizeof(lrk_taylor_options));
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_estimator_terms *terms,
                                const void *options, lrk_estimator **estimator)
{
    (void)terms;
    return lrk_estimator_create_taylor(adapters, options, estimator);
}

#define KEY(...) LRKI_KEY(lrk_taylor_options, "importance", __VA_ARGS__)
static const lrki_key keys[] = {KEY("taylor", CHOICE, form, .words = form_words), {.name = NULL}};
#undef KEY

const lrki_estimator_type lrki_estimator_taylor = {
    .state_size = sizeof(taylor_state),
    .resume = &resume_taylor,
    .estimate = lrki_estimate_nothing,
    .run = run_taylor,
    .fini = fini_taylor,
    .prepare = prepare_taylor,
    .observe = observe_taylor,
    .method = {.summary = "first-order Taylor, from every step's gradients",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_taylor_options),
               .init = init_chosen},
    .create = create_chosen};

lrk_status lrk_estimator_create_taylor(lrk_adapters *adapters, const lrk_taylor_options *options,
                                       lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_estimator_create_taylor");
    if (status != LRK_OK) return status;
    taylor_state state = {0};
    lrk_taylor_options *known = &state.options;
    (void)lrk_taylor_options_init(known, sizeof *known);
    if (options != NULL)
        status = lrki_struct_read(adapters->context, known, sizeof *known, options, 8, "Taylor options");
    if (status == LRK_OK && known->flags != 0)
        status = lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "flags has unknown bits: 0x%x", known->flags);
    if (status == LRK_OK && known->reserved != 0)
        status = lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "reserved must be 0");
    if (status == LRK_OK && known->form != LRK_TAYLOR_ABSOLUTE && known->form != LRK_TAYLOR_SIGNED)
        status = lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "form %d is unknown", (int)known->form);
    if (status != LRK_OK) return status;
    return lrki_estimator_create(adapters, LRKI_KIND_taylor, "Taylor estimator", &state, estimator);
}
