/* SPDX-License-Identifier: MIT */
/*
 * The host's own policy: its callback sees scores and answers with drop and add. While it runs the set may be read and
 * not changed; its answer meets the same check as every other policy's.
 */
#include "allocation.h"

typedef struct host_policy {
    void *user;
    int32_t (*plan)(void *user, const lrk_policy_request *request);
} host_policy;

static int32_t ask_host(const lrk_allocator *allocator, const lrki_round *round)
{
    const host_policy *host = allocator->own;
    lrk_adapters *adapters = allocator->adapters;
    const lrk_policy_request request = {.struct_size = sizeof request,
                                        .n_modules = (int32_t)round->n_modules,
                                        .n_ranks = round->n_ranks,
                                        .scores = round->scores,
                                        .drop = round->drop,
                                        .add = round->add,
                                        .round = round->number};
    bool before = adapters->in_host_callback;
    adapters->in_host_callback = true;
    int32_t answer = host->plan(host->user, &request);
    adapters->in_host_callback = before;
    return answer;
}

static lrk_status choose_by_host(lrk_allocator *allocator, lrki_round *round)
{
    lrk_context *context = allocator->adapters->context;
    uint64_t failures = lrki_failures(context);
    int32_t answer = ask_host(allocator, round);
    if (answer == 0) return LRK_OK;
    return lrki_fail_callback(context, LRK_ERR_HOST, LRKI_NOWHERE, failures,
                              "policy '%s': plan() returned %d", allocator->name, (int)answer);
}

static const lrki_policy custom_policy = {.choose = choose_by_host};

lrk_status lrk_custom_policy_init(lrk_custom_policy *policy, size_t struct_size)
{
    const lrk_custom_policy defaults = {.budget = LRK_BUDGET_INITIAL};
    return lrki_struct_init(policy, struct_size, &defaults, sizeof defaults);
}

static lrk_status create(lrk_adapters *adapters, const lrk_custom_policy *policy, lrk_allocator **allocator)
{
    const host_policy own = {policy->user, policy->plan};
    const lrki_rules rules = {.name = policy->name,
                              .budget = policy->budget,
                              .budget_unit = policy->budget_unit,
                              .new_rank_init = policy->new_rank_init,
                              .limits = policy->limits,
                              .n_limits = policy->n_limits};
    return lrki_allocator_create(adapters, &custom_policy, &rules, &own, sizeof own, allocator);
}

lrk_status lrk_allocator_create_custom(lrk_adapters *adapters, const lrk_custom_policy *given,
                                       lrk_allocator **allocator)
{
    if (allocator != NULL) *allocator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "creating an allocator");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (given == NULL || allocator == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "policy and allocator must not be NULL");
    lrk_custom_policy policy;
    lrk_custom_policy_init(&policy, sizeof policy);
    status =
        lrki_struct_read(context, &policy, sizeof policy, given, sizeof(uint32_t) * 2, "lrk_custom_policy");
    if (status != LRK_OK) return status;
    if (policy.flags != 0) return lrki_fail(context, LRK_ERR_ARGUMENT, "flags of a custom policy must be 0");
    if (policy.plan == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "plan of a custom policy is NULL");
    if (policy.name == NULL || policy.name[0] == '\0')
        return lrki_fail(context, LRK_ERR_ARGUMENT, "name of a custom policy is NULL or empty");
    return create(adapters, &policy, allocator);
}
