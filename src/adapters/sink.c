/* SPDX-License-Identifier: MIT */
/*
 * Gradient sinks: derivatives apart from the set's, so that passes can run side by side. Made for one generation: the
 * layout (per module grad A, grad B, grad gates, as far as held) is that of the ranks at its creation.
 */
#include <math.h>
#include <string.h>

#include "pass_state.h"

#define ALL_KINDS (LRK_GRAD_PARAMETERS | LRK_GRAD_GATES | LRK_GRAD_MASK)

lrk_sink *lrki_sink_ref(lrk_sink *sink)
{
    __atomic_add_fetch(&sink->references, 1, __ATOMIC_RELAXED);
    return sink;
}

/* Accepts a half-built sink. */
void lrki_sink_unref(lrk_sink *sink)
{
    if (sink == NULL || __atomic_sub_fetch(&sink->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    lrk_adapters *set = sink->adapters;
    int64_t n = set->n_modules;
    if (sink->offsets != NULL)
        lrki_array_free(set->context, sink->values, sink->offsets[n], sizeof *sink->values);
    lrki_array_free(set->context, sink->mask_gradients, sink->n_mask, sizeof *sink->mask_gradients);
    lrki_array_free(set->context, sink->offsets, n + 1, sizeof *sink->offsets);
    lrki_array_free(set->context, sink->touched, n, sizeof *sink->touched);
    lrki_free(set->context, sink, sizeof *sink);
    lrki_adapters_unref(set);
}

void lrk_sink_destroy(lrk_sink *sink)
{
    lrki_sink_unref(sink);
}

/* Floats that a module takes in a sink. */
static int64_t floats_of(const lrki_module *module, uint32_t kinds)
{
    int64_t a_rank =
        (kinds & LRK_GRAD_PARAMETERS ? module->n_in + module->n_out : 0) + (kinds & LRK_GRAD_GATES ? 1 : 0);
    return module->bank.rank * a_rank; /* fits: the set holds as much */
}

static lrk_status fill(lrk_sink *sink)
{
    lrk_adapters *set = sink->adapters;
    int64_t n = set->n_modules;
    sink->offsets = lrki_array(set->context, n + 1, sizeof *sink->offsets);
    sink->touched = lrki_array(set->context, n, sizeof *sink->touched);
    if (sink->offsets == NULL || sink->touched == NULL) return lrki_fail_nomem(set->context, "a sink");
    for (int64_t i = 0; i < n; i++)
        if (!lrki_add(sink->offsets[i], floats_of(&set->modules[i], sink->kinds), &sink->offsets[i + 1]))
            return lrki_fail(set->context, LRK_ERR_NOMEM, "lrk_sink_create: the size overflows");
    sink->values = lrki_array(set->context, sink->offsets[n], sizeof *sink->values);
    if (sink->values == NULL) return lrki_fail_nomem(set->context, "the gradients of a sink");
    if (!(sink->kinds & LRK_GRAD_MASK)) return LRK_OK;
    sink->mask_gradients = lrki_array(set->context, sink->n_mask, sizeof *sink->mask_gradients);
    return sink->mask_gradients != NULL ? LRK_OK
                                        : lrki_fail_nomem(set->context, "the mask gradients of a sink");
}

lrk_status lrk_sink_create(lrk_adapters *adapters, uint32_t kinds, lrk_sink **out)
{
    if (out != NULL) *out = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_sink_create");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (out == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_sink_create: sink is NULL");
    if (kinds == 0 || (kinds & ~ALL_KINDS) != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "lrk_sink_create: kinds 0x%x is not a set of LRK_GRAD_...", (unsigned)kinds);
    if (adapters->flags & LRK_ADAPTERS_INFERENCE)
        return lrki_fail(context, LRK_ERR_UNSUPPORTED,
                         "lrk_sink_create: an inference-only set has no gradients");
    lrk_sink *sink = lrki_array(context, 1, sizeof *sink);
    if (sink == NULL) return lrki_fail_nomem(context, "a sink");
    sink->references = 1;
    sink->adapters = lrki_adapters_ref(adapters);
    sink->generation = adapters->generation;
    sink->kinds = kinds;
    sink->n_mask = adapters->n_ranks;
    status = fill(sink);
    if (status != LRK_OK) {
        lrki_sink_unref(sink);
        return status;
    }
    *out = sink;
    return LRK_OK;
}

lrki_target lrki_sink_target(const lrk_sink *sink, int32_t module)
{
    const lrki_module *m = &sink->adapters->modules[module];
    float *at = sink->values + sink->offsets[module];
    lrki_target target = {0};
    if (sink->kinds & LRK_GRAD_PARAMETERS) {
        target.grad_a = at;
        target.grad_b = at + m->bank.rank * m->n_in;
        at += m->bank.rank * (m->n_in + m->n_out);
    }
    if (sink->kinds & LRK_GRAD_GATES) target.grad_gates = at;
    if (sink->kinds & LRK_GRAD_MASK) target.grad_mask = sink->mask_gradients + m->first_rank;
    return target;
}

bool lrki_sink_reached(const lrk_sink *sink, int32_t module)
{
    return sink->touched[module];
}

lrk_status lrk_sink_zero(lrk_sink *sink)
{
    if (sink == NULL) return LRK_ERR_ARGUMENT;
    int64_t n = sink->adapters->n_modules;
    if (__atomic_load_n(&sink->in_use, __ATOMIC_ACQUIRE))
        return lrki_fail(sink->adapters->context, LRK_ERR_BUSY,
                         "lrk_sink_zero: an open pass writes to the sink");
    memset(sink->values, 0, (size_t)sink->offsets[n] * sizeof *sink->values);
    memset(sink->touched, 0, (size_t)n * sizeof *sink->touched);
    for (int64_t i = 0; i < sink->n_mask && sink->mask_gradients != NULL; i++)
        sink->mask_gradients[i] = 0.0;
    return LRK_OK;
}

static lrk_status check_fresh(const lrk_sink *sink, const char *name)
{
    if (sink->generation == sink->adapters->generation) return LRK_OK;
    return lrki_fail(sink->adapters->context, LRK_ERR_STALE, "%s: the sink was made before a rank change",
                     name);
}

lrk_status lrk_sink_tensor(const lrk_sink *sink, int32_t module, int32_t which, lrk_tensor *tensor)
{
    if (sink == NULL) return LRK_ERR_ARGUMENT;
    const lrk_adapters *set = sink->adapters;
    if (module < 0 || module >= set->n_modules)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_sink_tensor: there is no module %d",
                         (int)module);
    lrk_status status = check_fresh(sink, "lrk_sink_tensor");
    if (status != LRK_OK) return status;
    const lrki_module *m = &set->modules[module];
    lrki_target target = lrki_sink_target(sink, module);
    lrk_tensor filled = {.rows = m->bank.rank, .generation = sink->generation};
    if (which == LRK_TENSOR_GRAD_A) {
        filled.data = target.grad_a;
        filled.cols = m->n_in;
    } else if (which == LRK_TENSOR_GRAD_B) {
        filled.data = target.grad_b;
        filled.cols = m->n_out;
    } else if (which == LRK_TENSOR_GRAD_GATES) {
        filled.data = target.grad_gates;
        filled.cols = 1;
    }
    if (filled.data == NULL)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_sink_tensor: the sink does not hold tensor %d",
                         (int)which);
    filled.ld = filled.cols;
    return lrki_struct_write(set->context, tensor, &filled, sizeof filled, "lrk_tensor");
}

lrk_status lrk_sink_mask_gradients(const lrk_sink *sink, const double **values, int64_t *n)
{
    if (sink == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = sink->adapters->context;
    if (values == NULL || n == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_sink_mask_gradients: values or n is NULL");
    if (sink->mask_gradients == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_sink_mask_gradients: the sink does not hold them");
    lrk_status status = check_fresh(sink, "lrk_sink_mask_gradients");
    if (status != LRK_OK) return status;
    *values = sink->mask_gradients;
    *n = sink->n_mask;
    return LRK_OK;
}

static void add_scaled(float *to, const float *from, int64_t n, double factor)
{
    for (int64_t i = 0; i < n && to != NULL && from != NULL; i++)
        to[i] = (float)((double)to[i] + factor * (double)from[i]);
}

lrk_status lrk_sink_accumulate(const lrk_sink *sink, double factor)
{
    if (sink == NULL) return LRK_ERR_ARGUMENT;
    lrk_adapters *set = sink->adapters;
    if (!isfinite(factor))
        return lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_sink_accumulate: factor is not finite");
    lrk_status status = check_fresh(sink, "lrk_sink_accumulate");
    if (status != LRK_OK) return status;
    if (__atomic_load_n(&sink->in_use, __ATOMIC_ACQUIRE) ||
        __atomic_load_n(&set->gradients_in_use, __ATOMIC_ACQUIRE))
        return lrki_fail(set->context, LRK_ERR_BUSY,
                         "lrk_sink_accumulate: an open pass writes these gradients");
    for (int32_t i = 0; i < set->n_modules; i++) {
        lrki_module *m = &set->modules[i];
        lrki_target from = lrki_sink_target(sink, i);
        add_scaled(m->bank.grad_a, from.grad_a, m->bank.rank * m->n_in, factor);
        add_scaled(m->bank.grad_b, from.grad_b, m->bank.rank * m->n_out, factor);
        add_scaled(m->bank.grad_gates, from.grad_gates, m->bank.rank, factor);
        m->has_gradient =
            m->has_gradient || (sink->touched[i] && (from.grad_a != NULL || from.grad_gates != NULL));
    }
    return LRK_OK;
}
