/* SPDX-License-Identifier: MIT */
/*
 * The uniform allocation: as near to one rank for all as a budget comes, the control that every allocator is held against
 * at equal ranks or parameters. What is left over goes to modules in an order drawn from the seed.
 */
#include <string.h>

#include "spec.h"

typedef struct turn {
    int64_t module;
    double key;
} turn;

static int64_t cost_of(const lrk_module_spec *spec, int32_t unit)
{
    return unit == LRK_BUDGET_RANKS ? 1 : spec->n_in + spec->n_out;
}

static lrk_module_spec *spec_at(lrk_module_spec *specs, int64_t i)
{
    return (lrk_module_spec *)((char *)specs + (size_t)i * specs->struct_size);
}

/* Cost of a rank in every module; the specs are checked as far as that needs. */
static lrk_status sum_costs(lrk_context *context, const lrk_module_spec *specs, int64_t n, int32_t unit,
                            int64_t *sum)
{
    *sum = 0;
    for (int64_t i = 0; i < n; i++) {
        lrk_module_spec spec;
        int64_t width;
        lrk_status status = lrki_spec_read(context, specs, i, &spec);
        if (status != LRK_OK) return status;
        if (spec.n_in < 1 || spec.n_out < 1 || !lrki_add(spec.n_in, spec.n_out, &width) ||
            !lrki_add(*sum, cost_of(&spec, unit), sum))
            return lrki_fail_at(context, LRK_ERR_SHAPE, (lrki_place){.module = (int32_t)i},
                                "module '%s': n_in or n_out is less than 1, or their sum overflows",
                                spec.name);
    }
    return LRK_OK;
}

/* Modules by ascending draws: a shuffle that is a function of the seed. */
static void draw_order(uint64_t seed, int64_t n, turn *turns)
{
    for (int64_t i = 0; i < n; i++) {
        lrki_stream stream = lrki_stream_make(seed, LRKI_STREAM_UNIFORM, (uint64_t)i, 0);
        turn new = {i, lrki_stream_uniform(&stream, 0)};
        int64_t at = i;
        for (; at > 0 && turns[at - 1].key > new.key; at--)
            turns[at] = turns[at - 1];
        turns[at] = new;
    }
}

lrk_status lrk_specs_uniform(lrk_context *context, lrk_module_spec *specs, int64_t n_specs, int64_t budget,
                             int32_t unit, uint64_t seed)
{
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (specs == NULL || n_specs < 1 || specs->struct_size < sizeof *specs)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "uniform: no specs, or their struct_size is too small");
    if (budget < 0) return lrki_fail(context, LRK_ERR_ARGUMENT, "uniform must be >= 0");
    if (unit != LRK_BUDGET_RANKS && unit != LRK_BUDGET_PARAMETERS)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "uniform_unit is unknown");
    int64_t all;
    lrk_status status = sum_costs(context, specs, n_specs, unit, &all);
    if (status != LRK_OK) return status;
    turn *turns = lrki_array(context, n_specs, sizeof *turns);
    if (turns == NULL) return lrki_fail_nomem(context, "a uniform allocation");
    draw_order(seed, n_specs, turns);
    int64_t left = budget - budget / all * all;
    for (int64_t i = 0; i < n_specs; i++) {
        lrk_module_spec *spec = spec_at(specs, turns[i].module);
        bool more = cost_of(spec, unit) <= left;
        if (more) left -= cost_of(spec, unit);
        lrki_spec_set_rank(spec, budget / all + more);
    }
    lrki_array_free(context, turns, n_specs, sizeof *turns);
    return LRK_OK;
}
