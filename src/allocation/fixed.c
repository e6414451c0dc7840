/* SPDX-License-Identifier: MIT */
/*
 * The fixed policy: plain LoRA. Its plans keep every rank, so that a run with rounds and one without differ in nothing
 * but their policy. It has no budget, so a set that grew by other means is no error.
 */
#include "allocation.h"

static lrk_status keep_all(lrk_allocator *allocator, lrki_round *round)
{
    (void)allocator;
    for (int64_t i = 0; i < round->n_modules; i++)
        round->slots[i].floor = INT64_MAX; /* none of its ranks could go: no cut */
    return LRK_OK;
}

lrk_status lrk_allocator_create_fixed(lrk_adapters *adapters, lrk_allocator **allocator)
{
    if (allocator != NULL) *allocator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "creating an allocator");
    if (status != LRK_OK) return status;
    if (allocator == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "allocator must not be NULL");
    const lrki_rules rules = {.name = "fixed", .budget = LRKI_NO_BUDGET};
    return lrki_allocator_create(adapters, &lrki_policy_fixed, &rules, NULL, 0, allocator);
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_policy_terms *terms, const void *options,
                                lrk_allocator **allocator)
{
    (void)terms, (void)options;
    return lrk_allocator_create_fixed(adapters, allocator);
}

const lrki_policy lrki_policy_fixed = {.choose = keep_all,
                                       .method = {.summary = "plain LoRA: no rank moves, no rounds"},
                                       .is_idle = true,
                                       .create = create_chosen};
