/* SPDX-License-Identifier: MIT */
/*
 * Plans before training (start.h): the greedy choice and the account that it is on.
 */
#include "start.h"

#include <math.h>
#include <stdlib.h>

#include "../adapters/direction.h"
#include "../kernels/lora.h"

#define MOST 9e18 /* below 2^63: the largest multiple of a budget */

/* None: the set as it is made. */
const lrki_start_kind lrki_start_uniform = {
    .method = {.summary = "ranks and first values as section adapters says"},
    .material = LRKI_START_OF_NOTHING};

/* Plans come from an allocator; this one lives as long as its only plan. */
static const lrki_policy start_policy = {.choose = NULL};

static lrk_context *context_of(const lrki_start *start)
{
    return start->allocator->adapters->context;
}

lrk_status lrki_start_open(lrk_adapters *adapters, const lrki_rules *rules, int64_t most, lrki_start *start)
{
    lrki_rules open = *rules;
    open.budget = LRKI_NO_BUDGET; /* known once the set is counted */
    lrk_status status = lrki_allocator_create(adapters, &start_policy, &open, NULL, 0, &start->allocator);
    if (status == LRK_OK) status = lrki_round_gather(start->allocator, NULL, &start->round);
    if (status != LRK_OK) return status;
    start->most = most;
    start->choices = lrki_array(adapters->context, most, sizeof *start->choices);
    return start->choices != NULL ? LRK_OK : lrki_fail_nomem(adapters->context, "a start");
}

void lrki_start_close(lrki_start *start)
{
    if (start->allocator == NULL) return;
    lrki_array_free(context_of(start), start->choices, start->most, sizeof *start->choices);
    lrki_round_free(start->allocator, &start->round);
    lrki_allocator_unref(start->allocator);
}

lrk_status lrki_start_budget(lrki_start *start, int64_t given, double multiple)
{
    int64_t base = given == LRK_BUDGET_INITIAL ? start->round.held : given;
    double budget = floor(multiple * (double)base);
    if (budget > MOST)
        return lrki_fail(context_of(start), LRK_ERR_ARGUMENT, "multiple %g of budget %lld is too large",
                         multiple, (long long)base);
    start->round.budget = start->allocator->budget = (int64_t)budget;
    return LRK_OK;
}

void lrki_start_offer(lrki_start *start, int32_t module, int64_t index, double worth)
{
    start->choices[start->n++] = (lrki_choice){worth, module, index};
}

static int by_worth(const void *one, const void *two)
{
    const lrki_choice *a = one, *b = two;
    if (a->worth != b->worth) return a->worth > b->worth ? -1 : 1;
    if (a->module != b->module) return a->module < b->module ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

/* Every live rank goes; floors are taken first. */
static lrk_status take_floors(lrki_start *start, int64_t *left)
{
    lrki_round *round = &start->round;
    *left = round->budget;
    for (int64_t i = 0; i < round->n_ranks; i++)
        round->drop[i] = 1;
    for (int64_t i = 0; i < round->n_modules; i++) {
        int64_t cost;
        round->add[i] = lrki_smaller(round->slots[i].floor, round->slots[i].ceiling);
        if (!lrki_mul(round->add[i], round->slots[i].cost, &cost) || cost > *left)
            return lrki_fail_at(
                context_of(start), LRK_ERR_BUDGET, (lrki_place){.module = (int32_t)i},
                "module '%s': its floor of %lld ranks exceeds what is left of the budget of %lld",
                start->allocator->adapters->modules[i].name, (long long)round->add[i],
                (long long)round->budget);
        *left -= cost;
    }
    return LRK_OK;
}

lrk_status lrki_start_take(lrki_start *start)
{
    lrki_round *round = &start->round;
    int64_t left, taken = 0;
    lrk_status status = take_floors(start, &left);
    if (status != LRK_OK) return status;
    qsort(start->choices, (size_t)start->n, sizeof *start->choices, by_worth);
    for (int64_t i = 0; i < start->n; i++) {
        int32_t module = start->choices[i].module;
        if (round->slots[module].cost > left) continue;
        round->add[module]++;
        left -= round->slots[module].cost;
    }
    for (int64_t i = 0; i < round->n_modules; i++)
        taken += round->add[i];
    if (taken > 0) return LRK_OK;
    return lrki_fail(context_of(start), LRK_ERR_BUDGET, "no rank fits into the budget of %lld",
                     (long long)round->budget);
}

void lrki_start_keep(lrki_start *start)
{
    for (int64_t i = 0; i < start->round.n_ranks; i++)
        start->round.drop[i] = 1;
    for (int64_t i = 0; i < start->round.n_modules; i++)
        start->round.add[i] = start->round.slots[i].rank;
}

lrk_status lrki_start_plan(lrki_start *start, int64_t step, lrk_plan **plan)
{
    lrk_status status = lrki_round_check(start->allocator, &start->round);
    return status == LRK_OK ? lrki_plan_create(start->allocator, &start->round, step, plan) : status;
}

void lrki_start_usual_row(const lrki_start *start, int32_t module, uint64_t identity, float *row)
{
    const lrk_adapters *adapters = start->allocator->adapters;
    lrki_directions usual = {.init = LRK_INIT_KAIMING_UNIFORM, .seed = adapters->seed};
    lrki_direction_begin(&usual, &adapters->modules[module], row, 0, identity);
}

lrk_status lrki_start_finish(lrki_start *start, lrk_status status, lrk_plan *plan, lrk_plan **out)
{
    if (status == LRK_OK) {
        start->allocator->plan_pending = true;
        *out = plan;
    } else if (plan != NULL) {
        lrki_plan_free(plan);
    }
    return status;
}
