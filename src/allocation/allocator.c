/* SPDX-License-Identifier: MIT */
/*
 * The allocator: what all policies share - budget, bounds, the account of rounds - and the way from scores to a plan:
 * refuse what is stale or out of order, gather the round, ask the policy, check its answer, fix it as a plan.
 * Which ranks go and where new ones come is the policy's; carrying a plan out is the transaction's.
 */
#include <string.h>

#include "allocation.h"

lrk_status lrk_limit_init(lrk_limit *limit, size_t struct_size)
{
    const lrk_limit defaults = {.cap = LRK_NO_CAP};
    return lrki_struct_init(limit, struct_size, &defaults, sizeof defaults);
}

lrk_status lrk_participant_init(lrk_participant *participant, size_t struct_size)
{
    const lrk_participant defaults = {0};
    return lrki_struct_init(participant, struct_size, &defaults, sizeof defaults);
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

lrk_status lrki_rules_check(lrk_context *context, const lrki_rules *rules)
{
    const char *wrong = NULL;
    if (rules->budget < LRK_BUDGET_INITIAL) wrong = "budget must be >= 0 or LRK_BUDGET_INITIAL";
    if (rules->budget_unit != LRK_BUDGET_RANKS && rules->budget_unit != LRK_BUDGET_PARAMETERS)
        wrong = "budget_unit is unknown";
    if (rules->new_rank_init != LRK_INIT_KAIMING_UNIFORM && rules->new_rank_init != LRK_INIT_GAUSSIAN &&
        rules->new_rank_init != LRK_INIT_ORTHOGONAL)
        wrong = "new_rank_init must be KAIMING_UNIFORM, GAUSSIAN or ORTHOGONAL";
    if (rules->protect_rounds < 0) wrong = "protect_rounds must be >= 0";
    if (rules->n_limits < 0 || (rules->n_limits > 0 && rules->limits == NULL))
        wrong = "limits must not be NULL where n_limits is not 0";
    return wrong == NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
}

int64_t lrki_allocator_cost(const lrk_allocator *allocator, int32_t module)
{
    const lrki_module *m = &allocator->adapters->modules[module];
    return allocator->budget_unit == LRK_BUDGET_RANKS ? 1 : m->n_in + m->n_out;
}

static int64_t held_units(const lrk_allocator *allocator)
{
    int64_t held = 0;
    for (int32_t i = 0; i < allocator->adapters->n_modules; i++)
        held += allocator->adapters->modules[i].bank.rank * lrki_allocator_cost(allocator, i);
    return held;
}

static const char *unit_name(const lrk_allocator *allocator)
{
    return allocator->budget_unit == LRK_BUDGET_RANKS ? "ranks" : "parameters";
}

static lrk_status fit_budget(lrk_allocator *allocator)
{
    int64_t held = held_units(allocator);
    if (allocator->budget == LRK_BUDGET_INITIAL) allocator->budget = held;
    if (held <= allocator->budget) return LRK_OK;
    return lrki_fail(allocator->adapters->context, LRK_ERR_BUDGET,
                     "the set holds %lld %s, the budget is %lld", (long long)held, unit_name(allocator),
                     (long long)allocator->budget);
}

static lrk_status fill_allocator(lrk_allocator *allocator, const lrki_rules *rules, const void *own,
                                 size_t own_bytes)
{
    lrk_adapters *adapters = allocator->adapters;
    lrk_context *context = adapters->context;
    allocator->name = lrki_text_copy(context, rules->name);
    allocator->bounds = lrki_array(context, adapters->n_modules, sizeof *allocator->bounds);
    allocator->pruned = lrki_array(context, adapters->n_modules, sizeof *allocator->pruned);
    allocator->own = lrki_array(context, (int64_t)own_bytes, 1);
    allocator->own_bytes = own_bytes;
    if (!allocator->name || !allocator->bounds || !allocator->pruned || !allocator->own)
        return lrki_fail_nomem(context, "the allocator");
    if (own_bytes > 0) memcpy(allocator->own, own, own_bytes);
    allocator->budget = rules->budget;
    allocator->budget_unit = rules->budget_unit;
    allocator->new_rank_init = rules->new_rank_init;
    allocator->protect_rounds = rules->protect_rounds;
    lrk_status status = fit_budget(allocator);
    if (status != LRK_OK) return status;
    return lrki_limits_read(adapters, rules->limits, rules->n_limits, allocator->bounds);
}

lrk_status lrki_allocator_create(lrk_adapters *adapters, const lrki_policy *policy, const lrki_rules *rules,
                                 const void *own, size_t own_bytes, lrk_allocator **out)
{
    lrk_context *context = adapters->context;
    lrk_status status = lrki_rules_check(context, rules);
    if (status != LRK_OK) return status;
    lrk_allocator *allocator = lrki_alloc_zeroed(context, sizeof *allocator);
    if (allocator == NULL) return lrki_fail_nomem(context, "the allocator");
    allocator->references = 1;
    allocator->adapters = lrki_adapters_ref(adapters);
    allocator->policy = policy;
    status = fill_allocator(allocator, rules, own, own_bytes);
    if (status != LRK_OK)
        lrki_allocator_unref(allocator);
    else
        *out = allocator;
    return status;
}

lrk_allocator *lrki_allocator_ref(lrk_allocator *allocator)
{
    __atomic_add_fetch(&allocator->references, 1, __ATOMIC_RELAXED);
    return allocator;
}

void lrki_allocator_unref(lrk_allocator *allocator)
{
    if (allocator == NULL || __atomic_sub_fetch(&allocator->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    lrk_adapters *adapters = allocator->adapters;
    lrk_context *context = adapters->context;
    lrki_text_free(context, allocator->name);
    lrki_array_free(context, allocator->bounds, adapters->n_modules, sizeof *allocator->bounds);
    lrki_array_free(context, allocator->pruned, adapters->n_modules, sizeof *allocator->pruned);
    lrki_array_free(context, allocator->own, (int64_t)allocator->own_bytes, 1);
    lrki_array_free(context, allocator->marks, allocator->marks_held, sizeof *allocator->marks);
    lrki_free(context, allocator, sizeof *allocator);
    lrki_adapters_unref(adapters);
}

void lrk_allocator_destroy(lrk_allocator *allocator)
{
    lrki_allocator_unref(allocator);
}

/* ---- what pruning may take ------------------------------------------------------------------------------------------- */

uint64_t lrki_allocator_newborn_first(const lrk_allocator *allocator)
{
    uint64_t protect = (uint64_t)allocator->protect_rounds;
    if (protect == 0 || allocator->round == 0) return UINT64_MAX;
    return allocator->marks[allocator->round > protect ? allocator->round - protect : 0];
}

int64_t lrki_allocator_prunable(const lrk_allocator *allocator, int32_t module)
{
    const lrki_bank *bank = &allocator->adapters->modules[module].bank;
    uint64_t newborn_first = lrki_allocator_newborn_first(allocator);
    int64_t old = 0;
    for (int64_t j = 0; j < bank->rank; j++)
        old += bank->identities[j] < newborn_first;
    int64_t above_floor = bank->rank - allocator->bounds[module].floor;
    if (above_floor < 0) above_floor = 0;
    return old < above_floor ? old : above_floor;
}

lrk_status lrk_allocator_n_move(const lrk_allocator *allocator, int64_t *n_move)
{
    if (allocator == NULL) return LRK_ERR_ARGUMENT;
    if (n_move == NULL)
        return lrki_fail(allocator->adapters->context, LRK_ERR_ARGUMENT, "n_move must not be NULL");
    *n_move = allocator->policy->n_move == NULL ? 0 : allocator->policy->n_move(allocator);
    return LRK_OK;
}

/* ---- a plan ---------------------------------------------------------------------------------------------------------- */

static lrk_status check_scores(const lrk_allocator *allocator, const lrk_scores *scores)
{
    const lrk_adapters *adapters = allocator->adapters;
    if (scores->adapters != adapters)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "the scores belong to another set");
    if (scores->info.generation != adapters->generation)
        return lrki_fail(adapters->context, LRK_ERR_STALE, "ranks changed since the scores were made");
    if (scores->info.values_version != adapters->values_version)
        return lrki_fail(adapters->context, LRK_ERR_STALE, "parameters changed since the scores were made");
    return LRK_OK;
}

static lrk_status check_call(const lrk_allocator *allocator, const lrk_scores *scores, int64_t step,
                             lrk_plan *const *plan)
{
    lrk_context *context = allocator->adapters->context;
    if (scores == NULL || plan == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "scores and plan must not be NULL");
    if (step < 0) return lrki_fail(context, LRK_ERR_ARGUMENT, "step must be >= 0");
    if (allocator->plan_pending)
        return lrki_fail(context, LRK_ERR_STATE, "the plan of round %llu is neither committed nor abandoned",
                         (unsigned long long)allocator->round);
    return check_scores(allocator, scores);
}

static lrk_status choose(lrk_allocator *allocator, lrki_round *round, int64_t step, lrk_plan **plan)
{
    allocator->choosing = true;
    lrk_status status = allocator->policy->choose(allocator, round);
    allocator->choosing = false;
    if (status == LRK_OK) status = lrki_round_check(allocator, round);
    if (status == LRK_OK) status = lrki_plan_create(allocator, round, step, plan);
    return status;
}

static lrk_status make_plan(lrk_allocator *allocator, const lrk_scores *scores, int64_t step, lrk_plan **plan)
{
    lrki_round round = {0};
    lrk_status status = lrki_round_gather(allocator, scores, &round);
    if (status == LRK_OK) status = choose(allocator, &round, step, plan);
    lrki_round_free(allocator, &round);
    return status;
}

lrk_status lrk_allocator_plan(lrk_allocator *allocator, const lrk_scores *scores, int64_t step,
                              lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    if (allocator == NULL) return LRK_ERR_ARGUMENT;
    if (allocator->choosing || allocator->adapters->in_host_callback)
        return lrki_fail(allocator->adapters->context, LRK_ERR_BUSY,
                         "a plan was asked for inside a host callback");
    (void)lrki_allocator_ref(allocator); /* a callback may give up the caller's reference */
    lrk_status status = check_call(allocator, scores, step, plan);
    bool free_to_plan = status == LRK_OK;
    if (free_to_plan) status = make_plan(allocator, scores, step, plan);
    status = lrki_plan_agree(allocator->adapters->context, "lrk_allocator_plan", status, NULL, plan);
    if (free_to_plan) allocator->plan_pending = status == LRK_OK;
    lrki_allocator_unref(allocator);
    return status;
}

lrk_status lrki_allocator_follow(lrk_allocator *allocator, const lrki_round *round, int64_t step,
                                 lrk_plan **plan)
{
    lrk_status status = lrki_plan_create(allocator, round, step, plan);
    allocator->plan_pending = status == LRK_OK;
    return status;
}
