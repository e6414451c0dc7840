/* SPDX-License-Identifier: MIT */
/*
 * Stacking: a set whose deltas are the sum of two sets' deltas, as their ranks side by side.
 */
#include <string.h>

#include "lorank/spectrum.h"
#include "set.h"

static lrk_status check_module(const lrk_adapters *a, const lrk_adapters *b, int32_t i)
{
    const lrki_module *one = &a->modules[i], *other = &b->modules[i];
    lrki_place place = {.module = i};
    if (strcmp(one->name, other->name) != 0)
        return lrki_fail_at(a->context, LRK_ERR_ARGUMENT, place,
                            "module '%s' stands where the other set has '%s'", one->name, other->name);
    if (one->n_in != other->n_in || one->n_out != other->n_out)
        return lrki_fail_at(a->context, LRK_ERR_SHAPE, place,
                            "module '%s' has another shape in the other set", one->name);
    if (one->scale == 0 && other->bank.rank > 0)
        return lrki_fail_at(a->context, LRK_ERR_ARGUMENT, place, "module '%s': its scale is 0", one->name);
    return LRK_OK;
}

static lrk_status check(const lrk_adapters *a, const lrk_adapters *b, int32_t sign, lrk_adapters **stacked)
{
    lrk_status status = lrki_adapters_enter(a, "lrk_adapters_stack");
    if (status == LRK_OK) status = lrki_adapters_enter(b, "lrk_adapters_stack");
    if (status != LRK_OK) return status;
    if (stacked == NULL || (sign != 1 && sign != -1))
        return lrki_fail(a->context, LRK_ERR_ARGUMENT,
                         "lrk_adapters_stack: stacked is NULL or sign not +1 or -1");
    if (a->n_modules != b->n_modules)
        return lrki_fail(a->context, LRK_ERR_ARGUMENT,
                         "lrk_adapters_stack: the sets have %lld and %lld modules", (long long)a->n_modules,
                         (long long)b->n_modules);
    for (int32_t i = 0; i < a->n_modules && status == LRK_OK; i++)
        status = check_module(a, b, i);
    return status;
}

static lrk_status create(const lrk_adapters *a, const lrk_adapters *b, const lrk_adapters_options *options,
                         lrk_adapters **stacked)
{
    lrk_module_spec *specs = lrki_array(a->context, a->n_modules, sizeof *specs);
    if (specs == NULL) return lrki_fail_nomem(a->context, "the modules of a stacked set");
    for (int64_t i = 0; i < a->n_modules; i++)
        specs[i] = lrki_spec_of(&a->modules[i], a->modules[i].bank.rank + b->modules[i].bank.rank);
    lrk_status status = lrki_adapters_create_zero(a->context, specs, a->n_modules, options, stacked);
    lrki_array_free(a->context, specs, a->n_modules, sizeof *specs);
    return status;
}

/* Ranks of `from` to rows first and on, their rows of B times factor. */
static void copy_ranks(const lrki_module *from, double factor, int64_t first, lrki_module *to)
{
    for (int64_t j = 0; j < from->bank.rank; j++) {
        const float *b = from->bank.b + j * from->n_out;
        float *to_b = to->bank.b + (first + j) * to->n_out;
        memcpy(to->bank.a + (first + j) * to->n_in, from->bank.a + j * from->n_in,
               (size_t)from->n_in * sizeof(float));
        for (int64_t o = 0; o < from->n_out; o++)
            to_b[o] = (float)(factor * (double)b[o]);
        to->bank.gates[first + j] = from->bank.gates[j];
    }
}

lrk_status lrk_adapters_stack(const lrk_adapters *a, const lrk_adapters *b, int32_t sign,
                              const lrk_adapters_options *options, lrk_adapters **stacked)
{
    if (stacked != NULL) *stacked = NULL;
    lrk_status status = check(a, b, sign, stacked);
    if (status == LRK_OK) status = create(a, b, options, stacked);
    for (int64_t i = 0; status == LRK_OK && i < a->n_modules; i++) {
        const lrki_module *one = &a->modules[i], *other = &b->modules[i];
        copy_ranks(one, 1, 0, &(*stacked)->modules[i]);
        if (other->bank.rank > 0)
            copy_ranks(other, sign * other->scale / one->scale, one->bank.rank, &(*stacked)->modules[i]);
    }
    return status;
}
