/* SPDX-License-Identifier: MIT */
/*
 * An allocator's part of a checkpoint: policy, options and bounds, the rounds committed, the modules ever pruned, and the
 * marks that say which ranks are still protected.
 */
#include <stdio.h>

#include "allocation.h"

static void same_bounds(const lrk_allocator *allocator, lrki_state *state)
{
    const lrk_adapters *adapters = allocator->adapters;
    char what[96];
    lrki_state_same_i64(state, "the number of modules", adapters->n_modules);
    for (int64_t i = 0; i < adapters->n_modules && state->status == LRK_OK; i++) {
        snprintf(what, sizeof what, "floor of module '%.64s'", adapters->modules[i].name);
        lrki_state_same_i64(state, what, allocator->bounds[i].floor);
        snprintf(what, sizeof what, "cap of module '%.64s'", adapters->modules[i].name);
        lrki_state_same_i64(state, what, allocator->bounds[i].cap);
    }
}

static void same_rules(const lrk_allocator *allocator, lrki_state *state)
{
    lrki_state_same_text(state, "the policy", allocator->name);
    lrki_state_same_i64(state, "budget", allocator->budget);
    lrki_state_same_i64(state, "budget_unit", allocator->budget_unit);
    lrki_state_same_i64(state, "new_rank_init", allocator->new_rank_init);
    lrki_state_same_i64(state, "protect_rounds", allocator->protect_rounds);
    same_bounds(allocator, state);
    if (allocator->policy->same != NULL) allocator->policy->same(allocator, state);
}

/* A plan that is not settled cannot be saved, and would be left behind by a load. */
static void check_settled(const lrk_allocator *allocator, lrki_state *state)
{
    if (allocator->choosing) (void)lrki_state_fail(state, LRK_ERR_BUSY, "its policy is choosing");
    if (allocator->plan_pending)
        (void)lrki_state_fail(state, LRK_ERR_STATE,
                              "the plan of round %llu is neither committed nor abandoned",
                              (unsigned long long)allocator->round);
}

const lrk_adapters *lrki_allocator_adapters(const lrk_allocator *allocator)
{
    return allocator->adapters;
}

/* There are marks only where ranks are protected. */
static int64_t marks_of(const lrk_allocator *allocator, int64_t round)
{
    return allocator->protect_rounds > 0 ? round : 0;
}

void lrki_allocator_save(const lrk_allocator *allocator, lrki_state *state)
{
    int64_t round = (int64_t)allocator->round;
    check_settled(allocator, state);
    same_rules(allocator, state);
    for (int64_t i = 0; i < allocator->adapters->n_modules; i++) {
        bool pruned = allocator->pruned[i];
        lrki_state_flag(state, &pruned);
    }
    lrki_state_i64(state, &round);
    int64_t marks = marks_of(allocator, round);
    lrki_state_i64(state, &marks);
    lrki_state_put(state, allocator->marks, (size_t)marks * sizeof *allocator->marks);
}

/* ---- loading --------------------------------------------------------------------------------------------------------- */

static void load_marks(lrki_state *state, lrki_allocator_load *load)
{
    lrk_context *context = load->allocator->adapters->context;
    lrki_state_count(state, "the number of marks", &load->n_marks, sizeof *load->marks);
    if (load->n_marks != marks_of(load->allocator, load->round))
        (void)lrki_state_fail(state, LRK_ERR_FORMAT, "%lld marks for %lld rounds", (long long)load->n_marks,
                              (long long)load->round);
    load->marks = lrki_array(context, load->n_marks, sizeof *load->marks);
    if (load->marks == NULL)
        (void)lrki_state_fail_nomem(state);
    else
        lrki_state_bytes(state, load->marks, (size_t)load->n_marks * sizeof *load->marks);
}

lrk_status lrki_allocator_load_begin(lrk_allocator *allocator, lrki_state *state, lrki_allocator_load *load)
{
    const lrk_adapters *adapters = allocator->adapters;
    *load = (lrki_allocator_load){.allocator = allocator};
    check_settled(allocator, state);
    same_rules(allocator, state);
    load->pruned = lrki_array(adapters->context, adapters->n_modules, sizeof *load->pruned);
    if (load->pruned == NULL) (void)lrki_state_fail_nomem(state);
    for (int64_t i = 0; i < adapters->n_modules && state->status == LRK_OK; i++)
        lrki_state_flag(state, &load->pruned[i]);
    lrki_state_within(state, "the number of rounds", &load->round, 0, INT64_MAX / 2);
    if (state->status == LRK_OK) load_marks(state, load);
    if (state->status != LRK_OK) lrki_allocator_load_abandon(load);
    return state->status;
}

void lrki_allocator_load_commit(lrki_allocator_load *load)
{
    lrk_allocator *allocator = load->allocator;
    lrk_context *context = allocator->adapters->context;
    lrki_array_free(context, allocator->pruned, allocator->adapters->n_modules, sizeof *allocator->pruned);
    lrki_array_free(context, allocator->marks, allocator->marks_held, sizeof *allocator->marks);
    allocator->pruned = load->pruned;
    allocator->marks = load->marks;
    allocator->marks_held = load->n_marks;
    allocator->round = (uint64_t)load->round;
    *load = (lrki_allocator_load){0};
}

void lrki_allocator_load_abandon(lrki_allocator_load *load)
{
    if (load->allocator == NULL) return;
    const lrk_adapters *adapters = load->allocator->adapters;
    lrki_array_free(adapters->context, load->pruned, adapters->n_modules, sizeof *load->pruned);
    lrki_array_free(adapters->context, load->marks, load->n_marks, sizeof *load->marks);
    *load = (lrki_allocator_load){0};
}
