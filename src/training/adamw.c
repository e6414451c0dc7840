/* SPDX-License-Identifier: MIT */
/*
 * AdamW (optimizer.h has the formula): options, life, questions. A step either happens whole or not at all: adamw_step.c, and
 * adamw_gradients.c for what comes before the change. Moments across rank changes: moments.c.
 */
#include <math.h>

#include "adamw.h"

/* ---- options --------------------------------------------------------------------------------------------------------- */

lrk_status lrk_adamw_options_init(lrk_adamw_options *options, size_t struct_size)
{
    const lrk_adamw_options defaults = {.beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .epsilon = 1e-8,
                                        .b_ratio = 1,
                                        .max_norm = INFINITY,
                                        .gate_ratio = 1,
                                        .gate_stairs = 1};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static bool is_positive(double value)
{
    return value > 0 && isfinite(value);
}

lrk_status lrki_adamw_options_check(lrk_context *context, const lrk_adamw_options *options)
{
    const char *wrong = lrki_gates_check(options);
    if (options->steps != LRK_STEPS_PER_RANK && options->steps != LRK_STEPS_GLOBAL)
        wrong = "steps is unknown";
    if (!(options->max_norm > 0)) wrong = "max_norm must be > 0";
    if (!is_positive(options->b_ratio)) wrong = "b_ratio must be > 0";
    if (!(options->weight_decay >= 0 && isfinite(options->weight_decay))) wrong = "weight_decay must be >= 0";
    if (!is_positive(options->epsilon)) wrong = "epsilon must be > 0";
    if (!(options->beta2 >= 0 && options->beta2 < 1)) wrong = "beta2 must be in [0, 1)";
    if (!(options->beta1 >= 0 && options->beta1 < 1)) wrong = "beta1 must be in [0, 1)";
    if (!(options->orthogonality >= 0 && isfinite(options->orthogonality)))
        wrong = "orthogonality must be >= 0";
    if ((options->flags & ~(LRK_ADAMW_GATES | LRK_ADAMW_GATE_SCALED | LRK_ADAMW_ORTHOGONALITY_SQUARED)) != 0)
        wrong = "flags has an unknown bit";
    return wrong == NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

static lrk_status fill_optimizer(lrk_optimizer *optimizer)
{
    lrk_context *context = optimizer->adapters->context;
    int64_t n = optimizer->adapters->n_modules;
    optimizer->sums = lrki_array(context, LRKI_SUMS * n, sizeof *optimizer->sums);
    optimizer->done = lrki_array(context, n, sizeof *optimizer->done);
    bool term = optimizer->options.orthogonality > 0;
    if (term) optimizer->norms = lrki_array(context, 2 * n, sizeof *optimizer->norms);
    if (!optimizer->sums || !optimizer->done || (term && !optimizer->norms))
        return lrki_fail_nomem(context, "the optimizer");
    return lrki_moments_create(optimizer);
}

static lrk_status create(lrk_adapters *adapters, const lrk_adamw_options *options, lrk_optimizer **out)
{
    lrk_optimizer *optimizer = lrki_alloc_zeroed(adapters->context, sizeof *optimizer);
    if (optimizer == NULL) return lrki_fail_nomem(adapters->context, "the optimizer");
    optimizer->adapters = lrki_adapters_ref(adapters);
    optimizer->options = *options;
    optimizer->gradient_norm = NAN;
    lrk_status status = fill_optimizer(optimizer);
    if (status == LRK_OK)
        *out = optimizer;
    else
        lrk_optimizer_destroy(optimizer);
    return status;
}

lrk_status lrk_optimizer_create_adamw(lrk_adapters *adapters, const lrk_adamw_options *given,
                                      lrk_optimizer **optimizer)
{
    if (optimizer != NULL) *optimizer = NULL;
    lrk_status status = lrki_adapters_enter_gradients(adapters, "creating an optimizer");
    if (status != LRK_OK) return status;
    if (optimizer == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "optimizer must not be NULL");
    lrk_adamw_options options;
    lrk_adamw_options_init(&options, sizeof options);
    status = lrki_struct_read(adapters->context, &options, sizeof options, given, sizeof(uint32_t) * 2,
                              "lrk_adamw_options");
    if (status == LRK_OK) status = lrki_adamw_options_check(adapters->context, &options);
    return status == LRK_OK ? create(adapters, &options, optimizer) : status;
}

void lrk_optimizer_destroy(lrk_optimizer *optimizer)
{
    if (optimizer == NULL) return;
    lrk_adapters *adapters = optimizer->adapters;
    lrk_context *context = adapters->context;
    lrki_moments_free(optimizer, optimizer->moments);
    lrki_moments_free(optimizer, optimizer->prepared);
    lrki_array_free(context, optimizer->norms, 2 * adapters->n_modules, sizeof *optimizer->norms);
    lrki_array_free(context, optimizer->sums, LRKI_SUMS * adapters->n_modules, sizeof *optimizer->sums);
    lrki_array_free(context, optimizer->done, adapters->n_modules, sizeof *optimizer->done);
    lrki_free(context, optimizer, sizeof *optimizer);
    lrki_adapters_unref(adapters);
}

/* ---- questions ----------------------------------------------------------------------------------------------------------- */

lrk_status lrki_optimizer_check_fit(const lrk_optimizer *optimizer)
{
    if (optimizer->generation == optimizer->adapters->generation) return LRK_OK;
    return lrki_fail(
        optimizer->adapters->context, LRK_ERR_STALE,
        "ranks changed without the optimizer: lrk_optimizer_realign() it, or make it a participant of plans");
}

lrk_status lrk_optimizer_moment(const lrk_optimizer *optimizer, int32_t index, int32_t which,
                                lrk_tensor *tensor)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    const lrk_adapters *adapters = optimizer->adapters;
    lrk_status status = lrki_adapters_enter_module(adapters, index, "a moment");
    if (status == LRK_OK) status = lrki_optimizer_check_fit(optimizer);
    if (status != LRK_OK) return status;
    const lrki_moments *moments = &optimizer->moments[index];
    float *const data[] = {moments->first_a,  moments->first_b,     moments->second_a,
                           moments->second_b, moments->first_gates, moments->second_gates};
    bool gates = lrki_trains_gates(&optimizer->options);
    if (which < LRK_MOMENT_FIRST_A || which > (gates ? LRK_MOMENT_SECOND_GATES : LRK_MOMENT_SECOND_B))
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "no moment %d", (int)which);
    bool of_a = which == LRK_MOMENT_FIRST_A || which == LRK_MOMENT_SECOND_A;
    int64_t cols = which > LRK_MOMENT_SECOND_B ? 1
                   : of_a                      ? adapters->modules[index].n_in
                                               : adapters->modules[index].n_out;
    const lrk_tensor filled = {.data = data[which],
                               .rows = moments->rank,
                               .cols = cols,
                               .ld = cols,
                               .generation = optimizer->generation};
    return lrki_struct_write(adapters->context, tensor, &filled, sizeof filled, "lrk_tensor");
}

lrk_status lrk_optimizer_gradients(const lrk_optimizer *optimizer, uint32_t *gradients)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    if (gradients == NULL)
        return lrki_fail(optimizer->adapters->context, LRK_ERR_ARGUMENT, "gradients must not be NULL");
    *gradients = LRK_GRAD_PARAMETERS;
    if (lrki_trains_gates(&optimizer->options)) *gradients |= LRK_GRAD_GATES;
    return LRK_OK;
}

lrk_status lrk_optimizer_rank_steps(const lrk_optimizer *optimizer, int32_t module, const int64_t **steps,
                                    int64_t *n)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = optimizer->adapters->context;
    lrk_status status = lrki_adapters_enter_module(optimizer->adapters, module, "step counts");
    if (status == LRK_OK) status = lrki_optimizer_check_fit(optimizer);
    if (status != LRK_OK) return status;
    if (steps == NULL || n == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "steps and n must not be NULL");
    *steps = optimizer->moments[module].steps;
    *n = optimizer->moments[module].rank;
    return LRK_OK;
}

static size_t memory_of(const lrk_optimizer *optimizer)
{
    size_t n = (size_t)optimizer->adapters->n_modules;
    size_t bytes = sizeof *optimizer + (optimizer->norms != NULL ? 2 * n * sizeof *optimizer->norms : 0) +
                   n * (LRKI_SUMS * sizeof *optimizer->sums + sizeof *optimizer->done);
    for (size_t i = 0; i < n; i++)
        bytes += sizeof optimizer->moments[i] + optimizer->moments[i].block_bytes;
    return bytes;
}

lrk_status lrk_optimizer_info_get(const lrk_optimizer *optimizer, lrk_optimizer_info *info)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    const lrk_optimizer_info facts = {
        .steps = optimizer->steps, .gradient_norm = optimizer->gradient_norm, .memory = memory_of(optimizer)};
    return lrki_struct_write(optimizer->adapters->context, info, &facts, sizeof facts, "lrk_optimizer_info");
}
