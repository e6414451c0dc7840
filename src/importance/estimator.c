/* SPDX-License-Identifier: MIT */
/*
 * Estimators in general: the table of kinds, lifetime, and the guards around a run. How ranks are scored is decided by
 * the kind's own file. Invariant: while an estimator runs it cannot run again, and while it is inside a callback of the
 * host its set cannot change.
 */
#include "importance.h"

#define LRKI_ESTIMATOR_ENTRY(name) [LRKI_KIND_##name] = &lrki_estimator_##name,
static const lrki_estimator_type *const types[LRKI_N_KINDS] = {LRKI_ESTIMATORS(LRKI_ESTIMATOR_ENTRY)};
#undef LRKI_ESTIMATOR_ENTRY

lrk_estimator *lrki_estimator_new(lrk_adapters *adapters, int32_t kind)
{
    lrk_context *context = adapters->context;
    lrk_estimator *estimator = lrki_alloc_zeroed(context, sizeof *estimator);
    void *state = lrki_alloc_zeroed(context, types[kind]->state_size);
    if (estimator == NULL || state == NULL) {
        lrki_free(context, estimator, sizeof *estimator);
        lrki_free(context, state, types[kind]->state_size);
        (void)lrki_fail_nomem(context, "an estimator");
        return NULL;
    }
    estimator->references = 1;
    estimator->adapters = lrki_adapters_ref(adapters);
    estimator->kind = kind;
    estimator->type = types[kind];
    estimator->state = state;
    return estimator;
}

lrk_estimator *lrki_estimator_ref(lrk_estimator *estimator)
{
    (void)__atomic_add_fetch(&estimator->references, 1, __ATOMIC_RELAXED);
    return estimator;
}

void lrki_estimator_unref(lrk_estimator *estimator)
{
    if (estimator == NULL || __atomic_sub_fetch(&estimator->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    lrk_adapters *adapters = estimator->adapters;
    if (estimator->type->fini != NULL) estimator->type->fini(estimator);
    lrki_free(adapters->context, estimator->state, estimator->type->state_size);
    lrki_free(adapters->context, estimator, sizeof *estimator);
    lrki_adapters_unref(adapters);
}

void lrk_estimator_destroy(lrk_estimator *estimator)
{
    lrki_estimator_unref(estimator);
}

bool lrki_host_call_begin(lrk_estimator *estimator)
{
    bool before = estimator->adapters->in_host_callback;
    estimator->adapters->in_host_callback = true;
    return before;
}

void lrki_host_call_end(lrk_estimator *estimator, bool before)
{
    estimator->adapters->in_host_callback = before;
}

lrk_status lrk_estimator_estimate(const lrk_estimator *estimator, lrk_estimate *estimate)
{
    if (estimator == NULL) return LRK_ERR_ARGUMENT;
    lrk_estimate filled = {.struct_size = sizeof filled, .ranks = estimator->adapters->n_ranks};
    lrk_status status = estimator->type->estimate(estimator, &filled);
    if (status != LRK_OK) return status;
    return lrki_struct_write(estimator->adapters->context, estimate, &filled, sizeof filled, "estimate");
}

static lrk_status check_run(const lrk_estimator *estimator)
{
    const lrk_adapters *adapters = estimator->adapters;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_estimator_run");
    if (status != LRK_OK) return status;
    if (estimator->running)
        return lrki_fail(adapters->context, LRK_ERR_BUSY, "estimator: run from one of its own callbacks");
    if (adapters->change_pending)
        return lrki_fail(adapters->context, LRK_ERR_BUSY,
                         "estimator: a plan or restore of the set is prepared");
    return LRK_OK;
}

lrk_status lrk_estimator_run(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    if (scores != NULL) *scores = NULL;
    if (estimator == NULL) return LRK_ERR_ARGUMENT;
    if (scores == NULL)
        return lrki_fail(estimator->adapters->context, LRK_ERR_ARGUMENT,
                         "estimator: scores must not be NULL");
    lrk_status status = check_run(estimator);
    if (status != LRK_OK) return status;
    (void)lrki_estimator_ref(estimator); /* a callback may give up the caller's reference */
    estimator->running = true;
    status = estimator->type->run(estimator, nonce, scores);
    estimator->running = false;
    lrki_estimator_unref(estimator);
    return status;
}

void lrk_estimator_reset(lrk_estimator *estimator)
{
    if (estimator == NULL || estimator->running || estimator->type->reset == NULL) return;
    estimator->type->reset(estimator);
}
