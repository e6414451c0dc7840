/* SPDX-License-Identifier: MIT */
/*
 * A round: what a policy is shown (gathered from set, scores and allocator) and the check of what it answers. The check
 * is the same for every policy, the library's own included: no plan gets past budget, floors, caps or fixed capacities.
 */
#include <math.h>

#include "allocation.h"

static int64_t ceiling_of(const lrk_allocator *allocator, int64_t module)
{
    const lrk_adapters *adapters = allocator->adapters;
    int64_t cap = allocator->bounds[module].cap;
    bool fixed = adapters->host_storage && (adapters->storage.flags & LRK_STORAGE_FIXED);
    int64_t capacity = fixed ? adapters->modules[module].bank.capacity : INT64_MAX;
    return cap < capacity ? cap : capacity;
}

static void gather_slots(const lrk_allocator *allocator, lrki_round *round)
{
    for (int32_t i = 0; i < round->n_modules; i++) {
        const lrki_module *m = &allocator->adapters->modules[i];
        round->slots[i] = (lrki_slot){.rank = m->bank.rank,
                                      .first = m->first_rank,
                                      .cost = lrki_allocator_cost(allocator, i),
                                      .floor = allocator->bounds[i].floor,
                                      .ceiling = ceiling_of(allocator, i),
                                      .stage = m->stage,
                                      .pruned_before = allocator->pruned[i]};
        round->held += m->bank.rank * round->slots[i].cost;
    }
}

lrk_status lrki_round_gather(const lrk_allocator *allocator, const lrk_scores *scores, lrki_round *round)
{
    const lrk_adapters *adapters = allocator->adapters;
    lrk_context *context = adapters->context;
    *round = (lrki_round){.number = allocator->round,
                          .n_modules = adapters->n_modules,
                          .n_ranks = adapters->n_ranks,
                          .scores = scores,
                          .ranks = scores != NULL ? scores->scores : NULL,
                          .budget = allocator->budget,
                          .newborn_first = lrki_allocator_newborn_first(allocator)};
    round->slots = lrki_array(context, round->n_modules, sizeof *round->slots);
    round->drop = lrki_array(context, round->n_ranks, sizeof *round->drop);
    round->add = lrki_array(context, round->n_modules, sizeof *round->add);
    round->silence = lrki_array(context, round->n_ranks, sizeof *round->silence);
    if (!round->slots || !round->drop || !round->add || !round->silence)
        return lrki_fail_nomem(context, "a round");
    gather_slots(allocator, round);
    return LRK_OK;
}

void lrki_round_free(const lrk_allocator *allocator, lrki_round *round)
{
    lrk_context *context = allocator->adapters->context;
    lrki_array_free(context, round->slots, round->n_modules, sizeof *round->slots);
    lrki_array_free(context, round->drop, round->n_ranks, sizeof *round->drop);
    lrki_array_free(context, round->add, round->n_modules, sizeof *round->add);
    lrki_array_free(context, round->silence, round->n_ranks, sizeof *round->silence);
}

/* ---- what policies ask of it --------------------------------------------------------------------------------------------- */

bool lrki_round_of_estimates(const lrki_round *round)
{
    bool all_exact = true;
    bool all_estimated = true;
    for (int64_t i = 0; i < round->n_ranks; i++) {
        all_exact = all_exact && (round->ranks[i].flags & LRK_SCORE_EXACT);
        all_estimated = all_estimated && !isnan(round->ranks[i].estimate);
    }
    return !all_exact && all_estimated;
}

double lrki_round_sum(const lrki_round *round, int64_t module, bool of_estimates)
{
    const lrki_slot *slot = &round->slots[module];
    double sum = 0;
    for (int64_t j = 0; j < slot->rank; j++) {
        const lrk_score *rank = &round->ranks[slot->first + j];
        sum += of_estimates ? rank->estimate : rank->score;
    }
    return sum;
}

static int64_t kept_in(const lrki_round *round, int64_t module)
{
    const lrki_slot *slot = &round->slots[module];
    int64_t kept = 0;
    for (int64_t j = 0; j < slot->rank; j++)
        kept += round->drop[slot->first + j] == 0;
    return kept;
}

int64_t lrki_round_headroom(const lrki_round *round, int64_t module)
{
    return round->slots[module].ceiling - kept_in(round, module) - round->add[module];
}

bool lrki_score_receives_before(double score, double other)
{
    return isnan(other) ? !isnan(score) : score > other;
}

/* ---- the check ------------------------------------------------------------------------------------------------------- */

static lrk_status refuse(const lrk_allocator *allocator, int32_t module, const char *what, int64_t rank,
                         int64_t limit)
{
    const lrk_adapters *adapters = allocator->adapters;
    return lrki_fail_at(adapters->context, LRK_ERR_BUDGET, (lrki_place){.module = module},
                        "module '%s': the plan's rank %lld %s %lld", adapters->modules[module].name,
                        (long long)rank, what, (long long)limit);
}

static lrk_status over_budget(const lrk_allocator *allocator, const lrki_round *round, int32_t module)
{
    const lrk_adapters *adapters = allocator->adapters;
    return lrki_fail_at(adapters->context, LRK_ERR_BUDGET, (lrki_place){.module = module},
                        "module '%s': its %lld new ranks take the total over the budget of %lld",
                        adapters->modules[module].name, (long long)round->add[module],
                        (long long)round->budget);
}

static lrk_status check_module(const lrk_allocator *allocator, const lrki_round *round, int32_t i,
                               int64_t *after)
{
    const lrki_slot *slot = &round->slots[i];
    if (round->add[i] < 0)
        return lrki_fail_at(allocator->adapters->context, LRK_ERR_BUDGET, (lrki_place){.module = i},
                            "module '%s': the plan adds %lld ranks", allocator->adapters->modules[i].name,
                            (long long)round->add[i]);
    if (!lrki_add(kept_in(round, i), round->add[i], after)) return over_budget(allocator, round, i);
    if (*after < slot->rank && *after < slot->floor)
        return refuse(allocator, i, "is below the floor", *after, slot->floor);
    if (*after > slot->rank && *after > slot->ceiling)
        return refuse(allocator, i, "is above the cap or fixed capacity", *after, slot->ceiling);
    return LRK_OK;
}

/* Additions are counted after everything kept, so that the module named is one that the plan grows. */
static lrk_status check_budget(const lrk_allocator *allocator, const lrki_round *round)
{
    int64_t held = 0,
            named = round->n_ranks; /* ranks that the plan lists: those dropped at most, and those added */
    for (int64_t i = 0; i < round->n_modules; i++)
        held += kept_in(round, i) * round->slots[i].cost;
    if (held > round->budget)
        return lrki_fail(allocator->adapters->context, LRK_ERR_BUDGET,
                         "what the plan keeps takes %lld of a budget of %lld", (long long)held,
                         (long long)round->budget);
    for (int32_t i = 0; i < round->n_modules; i++) {
        int64_t more;
        bool fits = lrki_mul(round->add[i], round->slots[i].cost, &more) && more <= round->budget - held &&
                    lrki_add(named, round->add[i], &named);
        if (!fits) return over_budget(allocator, round, i);
        held += more;
    }
    return LRK_OK;
}

lrk_status lrki_round_check(const lrk_allocator *allocator, const lrki_round *round)
{
    for (int32_t i = 0; i < round->n_modules; i++) {
        int64_t after;
        lrk_status status = check_module(allocator, round, i, &after);
        if (status != LRK_OK) return status;
    }
    return check_budget(allocator, round);
}
