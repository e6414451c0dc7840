/* SPDX-License-Identifier: MIT */
/*
 * Nested ranks (lorank/nested.h): which depth a step trains, its mask, what of it is frozen, and the set cut at it. The factor
 * of a depth is computed here alone, so that mask and cut agree in every bit.
 */
#include "lorank/nested.h"

#include <inttypes.h>
#include <string.h>

#include "../kernels/lora.h"
#include "delta.h"
#include "spec.h"

static int64_t depth_in(const lrki_module *module, int64_t depth)
{
    return lrki_smaller(depth, module->bank.rank);
}

/* f of a module that has ranks. */
static float factor_of(const lrki_module *module, int64_t depth)
{
    return (float)((double)module->bank.rank / (double)depth_in(module, depth));
}

static lrk_status check_depth(const lrk_adapters *adapters, int64_t depth)
{
    if (depth >= 1) return LRK_OK;
    return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "a depth must be >= 1, is %" PRId64, depth);
}

/* ---- a step ------------------------------------------------------------------------------------------------------------ */

lrk_status lrk_nested_draw(const lrk_adapters *adapters, uint64_t nonce, int64_t *depth)
{
    int64_t most = 1;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_nested_draw");
    if (status != LRK_OK) return status;
    if (depth == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_nested_draw: depth is NULL");
    for (int64_t i = 0; i < adapters->n_modules; i++)
        if (adapters->modules[i].bank.rank > most) most = adapters->modules[i].bank.rank;
    lrki_stream stream = lrki_stream_make(adapters->seed, LRKI_STREAM_NESTED, 0, nonce);
    *depth = 1 + (int64_t)(lrki_stream_uniform(&stream, 0) * (double)most);
    return LRK_OK;
}

static void fill_values(const lrk_adapters *adapters, int64_t depth, float *values)
{
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *module = &adapters->modules[i];
        for (int64_t j = 0; j < depth_in(module, depth); j++)
            values[module->first_rank + j] = factor_of(module, depth);
    }
}

lrk_status lrk_mask_create_nested(lrk_adapters *adapters, int64_t depth, lrk_mask **mask)
{
    if (mask != NULL) *mask = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_mask_create");
    if (status == LRK_OK) status = check_depth(adapters, depth);
    if (status != LRK_OK) return status;
    int64_t n = adapters->n_ranks;
    float *values = lrki_array(adapters->context, n, sizeof *values);
    if (values == NULL) return lrki_fail_nomem(adapters->context, "a mask's values");
    fill_values(adapters, depth, values);
    status = lrk_mask_create_values(adapters, values, n, mask);
    lrki_array_free(adapters->context, values, n, sizeof *values);
    return status;
}

lrk_status lrk_nested_freeze(lrk_adapters *adapters, int64_t depth)
{
    lrk_status status = lrki_adapters_enter_gradients(adapters, "lrk_nested_freeze");
    if (status == LRK_OK) status = lrki_adapters_check_idle(adapters, "lrk_nested_freeze");
    if (status == LRK_OK) status = check_depth(adapters, depth);
    for (int64_t i = 0; status == LRK_OK && i < adapters->n_modules; i++) {
        lrki_module *module = &adapters->modules[i];
        size_t n = (size_t)(depth_in(module, depth) - 1) * sizeof(float);
        if (depth_in(module, depth) < 2) continue;
        memset(module->bank.grad_a, 0, n * (size_t)module->n_in);
        memset(module->bank.grad_b, 0, n * (size_t)module->n_out);
        memset(module->bank.grad_gates, 0, n);
    }
    return status;
}

/* ---- the cut ----------------------------------------------------------------------------------------------------------- */

static lrk_status create(const lrk_adapters *adapters, int64_t depth, const lrk_adapters_options *options,
                         lrk_adapters **truncated)
{
    lrk_module_spec *specs = lrki_array(adapters->context, adapters->n_modules, sizeof *specs);
    if (specs == NULL) return lrki_fail_nomem(adapters->context, "the modules of a truncated set");
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *module = &adapters->modules[i];
        specs[i] = lrki_spec_of(module, depth_in(module, depth));
        if (specs[i].rank > 0) specs[i].scale = module->scale * (double)factor_of(module, depth);
    }
    lrk_status status =
        lrki_adapters_create_zero(adapters->context, specs, adapters->n_modules, options, truncated);
    lrki_array_free(adapters->context, specs, adapters->n_modules, sizeof *specs);
    return status;
}

static lrk_status copy_first(const lrk_adapters *from, lrk_adapters *to)
{
    for (int64_t i = 0; i < from->n_modules; i++) {
        const lrki_module *source = &from->modules[i];
        lrki_bank *bank = &to->modules[i].bank;
        size_t n = (size_t)bank->rank * sizeof(float);
        lrk_status status = lrki_parameters_check(from, (int32_t)i);
        if (status != LRK_OK) return status;
        if (n == 0) continue;
        memcpy(bank->a, source->bank.a, n * (size_t)source->n_in);
        memcpy(bank->b, source->bank.b, n * (size_t)source->n_out);
        memcpy(bank->gates, source->bank.gates, n);
    }
    return LRK_OK;
}

lrk_status lrk_adapters_truncate(const lrk_adapters *adapters, int64_t depth,
                                 const lrk_adapters_options *options, lrk_adapters **truncated)
{
    if (truncated != NULL) *truncated = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_adapters_truncate");
    if (status != LRK_OK) return status;
    if (truncated == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_adapters_truncate: truncated is NULL");
    status = check_depth(adapters, depth);
    if (status == LRK_OK) status = create(adapters, depth, options, truncated);
    if (status != LRK_OK) return status;
    status = copy_first(adapters, *truncated);
    if (status == LRK_OK) return LRK_OK;
    lrk_adapters_destroy(*truncated);
    *truncated = NULL;
    return status;
}
