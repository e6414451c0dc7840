/* SPDX-License-Identifier: MIT */
/*
 * Estimators in general: the table of kinds, lifetime, and the guards around a run. How ranks are scored is decided by
 * the kind's own file. Invariant: while an estimator runs it cannot run again, and while it is inside a callback of the
 * host its set cannot change.
 */
#include <math.h>
#include <string.h>

#include "importance.h"

#define LRKI_ESTIMATOR_ENTRY(name) [LRKI_KIND_##name] = &lrki_estimator_##name,
static const lrki_estimator_type *const types[LRKI_N_KINDS] = {LRKI_ESTIMATORS(LRKI_ESTIMATOR_ENTRY)};
#undef LRKI_ESTIMATOR_ENTRY

/* ---- observing --------------------------------------------------------------------------------------- */

static lrk_status prepare_to_observe(void *user)
{
    lrk_estimator *estimator = user;
    return estimator->type->prepare(estimator);
}

static void observe_now(void *user)
{
    lrk_estimator *estimator = user;
    estimator->type->observe(estimator);
}

static void listen(lrk_estimator *estimator)
{
    estimator->listener =
        (lrki_listener){.user = estimator, .prepare = prepare_to_observe, .observe = observe_now};
    lrki_gradients_listen(estimator->adapters, &estimator->listener);
}

static bool all_finite(const float *values, int64_t n)
{
    bool finite = true;
    for (int64_t i = 0; i < n; i++)
        finite &= isfinite(values[i]) != 0;
    return finite;
}

static lrk_status check_gradients(const lrk_adapters *adapters)
{
    for (int32_t m = 0; m < adapters->n_modules; m++) {
        const lrki_module *module = &adapters->modules[m];
        const lrki_bank *bank = &module->bank;
        if (bank->rank == 0) continue;
        if (!module->has_gradient && (module->flags & LRK_MODULE_MAY_LACK_GRADIENT) == 0)
            return lrki_fail_at(adapters->context, LRK_ERR_NO_GRADIENT, (lrki_place){.module = m},
                                "estimator: module '%s' has no gradient to observe", module->name);
        bool of_a = all_finite(bank->grad_a, bank->rank * module->n_in);
        if (!of_a || !all_finite(bank->grad_b, bank->rank * module->n_out))
            return lrki_fail_at(adapters->context, LRK_ERR_NONFINITE, (lrki_place){.module = m},
                                "estimator: a gradient of %s of module '%s' is not finite", of_a ? "B" : "A",
                                module->name);
    }
    return LRK_OK;
}

lrk_status lrk_estimator_observe(lrk_estimator *estimator)
{
    if (estimator == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = lrki_adapters_enter(estimator->adapters, "lrk_estimator_observe");
    if (status == LRK_OK) status = lrki_adapters_check_idle(estimator->adapters, "estimator: observe");
    while (estimator->type->inner != NULL)
        estimator = estimator->type->inner(estimator);
    if (status != LRK_OK || estimator->type->observe == NULL) return status;
    status = check_gradients(estimator->adapters);
    if (status == LRK_OK) status = estimator->type->prepare(estimator);
    if (status == LRK_OK) estimator->type->observe(estimator);
    return status;
}

/* ---- lifetime ---------------------------------------------------------------------------------------- */

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
    if (estimator->type->observe != NULL) listen(estimator);
    return estimator;
}

lrk_status lrki_estimator_create(lrk_adapters *adapters, int32_t kind, const char *what, const void *state,
                                 lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, what);
    if (status != LRK_OK) return status;
    if (estimator == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "%s: estimator must not be NULL", what);
    if (types[kind]->observe != NULL && (adapters->flags & LRK_ADAPTERS_INFERENCE) != 0)
        return lrki_fail(adapters->context, LRK_ERR_UNSUPPORTED,
                         "%s: an inference-only set has no gradients to observe", what);
    lrk_estimator *made = lrki_estimator_new(adapters, kind);
    if (made == NULL) return LRK_ERR_NOMEM;
    if (state != NULL) memcpy(made->state, state, types[kind]->state_size);
    *estimator = made;
    return LRK_OK;
}

lrk_status lrki_estimate_nothing(const lrk_estimator *estimator, lrk_estimate *estimate)
{
    (void)estimator;
    (void)estimate;
    return LRK_OK;
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
    if (estimator->type->observe != NULL) lrki_gradients_leave(adapters, &estimator->listener);
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
    if (adapters->change_pending)
        return lrki_fail(adapters->context, LRK_ERR_BUSY,
                         "estimator: a plan or restore of the set is prepared");
    return LRK_OK;
}

lrk_status lrk_estimator_run(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    if (scores != NULL) *scores = NULL;
    if (estimator == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = estimator->adapters->context;
    if (estimator->running)
        return lrki_fail(context, LRK_ERR_BUSY, "estimator: run from one of its own callbacks, or of a save");
    if (scores == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "estimator: scores must not be NULL");
    (void)lrki_estimator_ref(estimator); /* a callback may give up the caller's reference */
    estimator->running = true;
    lrk_status status = lrki_estimator_meet(estimator, check_run(estimator));
    if (status == LRK_OK) status = estimator->type->run(estimator, nonce, scores);
    status = lrki_estimator_agree(estimator, status, *scores);
    if (status != LRK_OK) {
        lrk_scores_destroy(*scores);
        *scores = NULL;
    }
    estimator->running = false;
    lrki_estimator_unref(estimator);
    return status;
}

void lrk_estimator_reset(lrk_estimator *estimator)
{
    if (estimator == NULL || estimator->running || estimator->type->reset == NULL) return;
    estimator->type->reset(estimator);
}
