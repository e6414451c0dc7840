/* SPDX-License-Identifier: MIT */
/*
 * Moments of AdamW across rank changes: as a participant of plans (by kept indices) and afterwards by identity. Kept
 * ranks keep moments and counts bit for bit, new ones start at zero, and the memory of dropped ones is freed. Modules
 * that do not change are not touched. All memory is taken before anything is moved.
 */
#include <string.h>

#include "../allocation/allocation.h"
#include "adamw.h"

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

static bool block_size(const lrki_module *module, int64_t rank, bool gates, int64_t *bytes)
{
    int64_t floats;
    int64_t row;
    return lrki_add(module->n_in + module->n_out, gates, &floats) &&
           lrki_mul(floats, 2 * sizeof(float), &floats) &&
           lrki_add(floats, sizeof(int64_t) + sizeof(uint64_t), &row) && lrki_mul(row, rank, bytes);
}

lrk_status lrki_moments_make(lrk_adapters *adapters, const lrki_module *module, int64_t rank, bool gates,
                             lrki_moments *moments)
{
    int64_t bytes = 0;
    *moments = (lrki_moments){.rank = rank};
    if (rank == 0) return LRK_OK;
    if (block_size(module, rank, gates, &bytes))
        moments->block = lrki_alloc_zeroed(adapters->context, (size_t)bytes);
    if (moments->block == NULL)
        return lrki_fail(adapters->context, LRK_ERR_NOMEM, "out of memory for the moments of module '%s'",
                         module->name);
    moments->block_bytes = (size_t)bytes;
    moments->steps = moments->block;
    moments->identities = (uint64_t *)(moments->steps + rank);
    moments->first_a = (float *)(moments->identities + rank);
    moments->first_b = moments->first_a + rank * module->n_in;
    moments->second_a = moments->first_b + rank * module->n_out;
    moments->second_b = moments->second_a + rank * module->n_in;
    if (!gates) return LRK_OK;
    moments->first_gates = moments->second_b + rank * module->n_out;
    moments->second_gates = moments->first_gates + rank;
    return LRK_OK;
}

void lrki_moments_free(const lrk_optimizer *optimizer, lrki_moments *moments)
{
    const lrk_adapters *adapters = optimizer->adapters;
    for (int64_t i = 0; moments != NULL && i < adapters->n_modules; i++)
        lrki_free(adapters->context, moments[i].block, moments[i].block_bytes);
    lrki_array_free(adapters->context, moments, adapters->n_modules, sizeof *moments);
}

lrki_moments *lrki_moments_new(lrk_adapters *adapters)
{
    lrki_moments *moments = lrki_array(adapters->context, adapters->n_modules, sizeof *moments);
    if (moments == NULL) (void)lrki_fail_nomem(adapters->context, "the moments");
    return moments;
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static void copy_row(float *to, int64_t i, const float *from, int64_t j, int64_t cols)
{
    memcpy(to + i * cols, from + j * cols, (size_t)cols * sizeof *to);
}

static void keep_rank(const lrki_module *module, lrki_moments *to, int64_t i, const lrki_moments *from,
                      int64_t j)
{
    to->steps[i] = from->steps[j];
    to->identities[i] = from->identities[j];
    copy_row(to->first_a, i, from->first_a, j, module->n_in);
    copy_row(to->second_a, i, from->second_a, j, module->n_in);
    copy_row(to->first_b, i, from->first_b, j, module->n_out);
    copy_row(to->second_b, i, from->second_b, j, module->n_out);
    if (to->first_gates == NULL) return;
    to->first_gates[i] = from->first_gates[j];
    to->second_gates[i] = from->second_gates[j];
}

static void begin_rank(const lrk_optimizer *optimizer, lrki_moments *to, int64_t i, uint64_t identity)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): i < rank, which 0 is not */
    to->steps[i] = optimizer->options.steps == LRK_STEPS_GLOBAL ? optimizer->steps : 0;
    to->identities[i] = identity;
}

static int64_t find_identity(const lrki_moments *moments, uint64_t identity)
{
    for (int64_t j = 0; j < moments->rank; j++)
        if (moments->identities[j] == identity) return j;
    return -1;
}

/* Moments by the set's present identities; those that `old` knows keep theirs. */
static lrk_status fit_to_set(lrk_optimizer *optimizer, const lrki_moments *old, lrki_moments *fitted)
{
    lrk_adapters *adapters = optimizer->adapters;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *module = &adapters->modules[i];
        lrk_status status = lrki_moments_make(adapters, module, module->bank.rank,
                                              lrki_trains_gates(&optimizer->options), &fitted[i]);
        if (status != LRK_OK) return status;
        for (int64_t j = 0; j < module->bank.rank; j++) {
            uint64_t identity = module->bank.identities[j];
            int64_t at = old == NULL ? -1 : find_identity(&old[i], identity);
            if (at >= 0)
                keep_rank(module, &fitted[i], j, &old[i], at);
            else
                begin_rank(optimizer, &fitted[i], j, identity);
        }
    }
    return LRK_OK;
}

static lrk_status refit(lrk_optimizer *optimizer)
{
    lrki_moments *fitted = lrki_moments_new(optimizer->adapters);
    if (fitted == NULL) return LRK_ERR_NOMEM;
    lrk_status status = fit_to_set(optimizer, optimizer->moments, fitted);
    if (status != LRK_OK) {
        lrki_moments_free(optimizer, fitted);
        return status;
    }
    lrki_moments_free(optimizer, optimizer->moments);
    optimizer->moments = fitted;
    optimizer->generation = optimizer->adapters->generation;
    return LRK_OK;
}

lrk_status lrki_moments_create(lrk_optimizer *optimizer)
{
    return refit(optimizer);
}

lrk_status lrk_optimizer_realign(lrk_optimizer *optimizer)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = lrki_adapters_check_idle(optimizer->adapters, "realigning an optimizer");
    if (status != LRK_OK || optimizer->generation == optimizer->adapters->generation) return status;
    return refit(optimizer);
}

/* ---- participant ------------------------------------------------------------------------------------------------------- */

static lrk_status prepare_module(lrk_optimizer *optimizer, const lrk_plan *plan, int32_t index)
{
    const lrki_module *module = &optimizer->adapters->modules[index];
    lrki_moments *to = &optimizer->prepared[index];
    lrk_plan_module part = {.struct_size = sizeof part};
    lrk_status status = lrk_plan_module_get(plan, index, &part);
    if (status != LRK_OK || (part.n_dropped == 0 && part.n_added == 0)) return status;
    status = lrki_moments_make(optimizer->adapters, module, part.rank_after,
                               lrki_trains_gates(&optimizer->options), to);
    if (status != LRK_OK) return status;
    for (int64_t i = 0; i < part.n_added; i++)
        begin_rank(optimizer, to, part.n_kept + i, part.added_ids[i]);
    return LRK_OK;
}

static int32_t check_plan(const lrk_optimizer *optimizer, const lrk_plan *plan)
{
    lrk_adapters *adapters = optimizer->adapters;
    if (lrki_plan_adapters(plan) != adapters)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT,
                         "the plan is of another set than the optimizer");
    if (optimizer->generation != adapters->generation)
        return lrki_fail(adapters->context, LRK_ERR_STALE, "the optimizer missed a rank change: realign it");
    if (optimizer->prepared != NULL)
        return lrki_fail(adapters->context, LRK_ERR_BUSY, "the optimizer takes part twice");
    return LRK_OK;
}

static void abandon(void *user, const lrk_plan *plan)
{
    lrk_optimizer *optimizer = user;
    (void)plan;
    lrki_moments_free(optimizer, optimizer->prepared);
    optimizer->prepared = NULL;
}

static int32_t prepare(void *user, const lrk_plan *plan)
{
    lrk_optimizer *optimizer = user;
    lrk_status status = check_plan(optimizer, plan);
    if (status != LRK_OK) return status;
    optimizer->prepared = lrki_moments_new(optimizer->adapters);
    if (optimizer->prepared == NULL) return LRK_ERR_NOMEM;
    for (int32_t i = 0; i < optimizer->adapters->n_modules && status == LRK_OK; i++)
        status = prepare_module(optimizer, plan, i);
    if (status != LRK_OK) abandon(optimizer, plan);
    return status;
}

static void commit_module(lrk_optimizer *optimizer, const lrk_plan *plan, int32_t index)
{
    lrk_adapters *adapters = optimizer->adapters;
    const lrki_module *module = &adapters->modules[index];
    lrki_moments *from = &optimizer->moments[index];
    lrki_moments *to = &optimizer->prepared[index];
    lrk_plan_module part = {.struct_size = sizeof part};
    lrk_plan_module_get(plan, index, &part);
    if (part.n_dropped == 0 && part.n_added == 0) return;
    for (int64_t i = 0; i < part.n_kept; i++)
        keep_rank(module, to, i, from, part.kept[i]);
    lrki_moments old = *from;
    *from = *to;
    *to = old;
}

static void commit(void *user, const lrk_plan *plan)
{
    lrk_optimizer *optimizer = user;
    for (int32_t i = 0; i < optimizer->adapters->n_modules; i++)
        commit_module(optimizer, plan, i);
    abandon(optimizer, plan); /* what it holds now are the old blocks */
    optimizer->generation = optimizer->adapters->generation;
}

lrk_status lrk_optimizer_participant(lrk_optimizer *optimizer, lrk_participant *participant)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    const lrk_participant filled = {
        .user = optimizer, .name = "adamw", .prepare = prepare, .commit = commit, .abandon = abandon};
    return lrki_struct_write(optimizer->adapters->context, participant, &filled, sizeof filled,
                             "lrk_participant");
}
