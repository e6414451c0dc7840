/* SPDX-License-Identifier: MIT */
/* Estimators in checkpoints, whatever their kind: which kind it is, its options, and whether a run is paused. */
#include "importance.h"
#include "state.h"

const lrk_adapters *lrki_estimator_adapters(const lrk_estimator *estimator)
{
    return estimator->adapters;
}

#define LRKI_KIND_TEXT(name) [LRKI_KIND_##name] = #name,
static const char *const kind_names[LRKI_N_KINDS] = {LRKI_ESTIMATORS(LRKI_KIND_TEXT)};
#undef LRKI_KIND_TEXT

const char *lrki_estimator_kind_name(const lrk_estimator *estimator)
{
    return kind_names[estimator->kind];
}

static void same_estimator(const lrk_estimator *estimator, lrki_state *state)
{
    lrki_state_same_text(state, "the estimator", kind_names[estimator->kind]);
    estimator->type->resume->same(estimator, state);
}

void lrki_estimator_save(const lrk_estimator *estimator, lrki_state *state)
{
    const lrki_estimator_resume *kind = estimator->type->resume;
    bool paused = kind->has_run != NULL && kind->has_run(estimator);
    same_estimator(estimator, state);
    lrki_state_flag(state, &paused);
    if (paused) kind->save_run(estimator, state);
}

lrk_status lrki_estimator_load_begin(lrk_estimator *estimator, lrki_state *state,
                                     const lrki_adapters_load *set, lrki_estimator_load *load)
{
    const lrki_estimator_resume *kind = estimator->type->resume;
    bool paused = false;
    *load = (lrki_estimator_load){.estimator = estimator};
    if (estimator->running) return lrki_state_fail(state, LRK_ERR_BUSY, "loaded from within its own run");
    same_estimator(estimator, state);
    lrki_state_flag(state, &paused);
    if (paused && kind->load_run == NULL)
        return lrki_state_fail(state, LRK_ERR_FORMAT, "a run of this estimator cannot be paused");
    return paused ? kind->load_run(estimator, state, set, &load->run) : state->status;
}

void lrki_estimator_load_commit(lrki_estimator_load *load)
{
    const lrki_estimator_resume *kind = load->estimator->type->resume;
    if (kind->adopt_run != NULL) kind->adopt_run(load->estimator, load->run);
    *load = (lrki_estimator_load){0};
}

void lrki_estimator_load_abandon(lrki_estimator_load *load)
{
    if (load->run != NULL) load->estimator->type->resume->drop_run(load->estimator, load->run);
    *load = (lrki_estimator_load){0};
}
