/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing traces: the first byte chooses a policy, the rest is a trace, or a rank list. A trace that is accepted is replayed
 * under a host that gives little memory; every plan that comes of it must add up and keep to the budget.
 */
#include <stdlib.h>
#include <string.h>

#include "lorank/lorank.h"

enum { MOST_BYTES = 1 << 16, POLICIES = 5 };

#define MOST_MEMORY ((size_t)1 << 24)

typedef struct observed {
    int64_t budget;
} observed;

static void must(int holds)
{
    if (!holds) abort();
}

static void *allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    size_t whole = (size + alignment - 1) / alignment * alignment;
    return size > MOST_MEMORY ? NULL : aligned_alloc(alignment, whole);
}

static void release(void *user, void *memory, size_t size)
{
    (void)user, (void)size;
    free(memory);
}

static int32_t look(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    const observed *o = user;
    lrk_plan_info info = {.struct_size = sizeof info};
    lrk_scores_info facts = {.struct_size = sizeof facts};
    must(lrk_plan_info_get(plan, &info) == LRK_OK && lrk_scores_info_get(scores, &facts) == LRK_OK);
    must(info.ranks_before == facts.n && info.state == LRK_PLAN_OPEN);
    must(info.ranks_after == info.ranks_before - info.n_dropped + info.n_added);
    must(o->budget < 0 || info.ranks_after <= o->budget);
    return 0;
}

static lrk_status make(lrk_adapters *adapters, int policy, int64_t ranks, observed *o,
                       lrk_allocator **allocator)
{
    lrk_alora_options alora;
    lrk_elalora_options elalora;
    lrk_increlora_options increlora;
    o->budget = ranks;
    if (policy == 0) {
        must(lrk_alora_options_init(&alora, sizeof alora) == LRK_OK);
        alora.n_move = 2;
        alora.flags = LRK_ALORA_REFILL;
        alora.protect_rounds = 1;
        return lrk_allocator_create_alora(adapters, &alora, allocator);
    }
    if (policy == 1) {
        must(lrk_elalora_options_init(&elalora, sizeof elalora) == LRK_OK);
        elalora.n_move = 3;
        return lrk_allocator_create_elalora(adapters, &elalora, allocator);
    }
    if (policy == 2) {
        must(lrk_increlora_options_init(&increlora, sizeof increlora) == LRK_OK);
        increlora.grow_modules = 2;
        increlora.budget = o->budget = ranks + 5;
        return lrk_allocator_create_increlora(adapters, &increlora, allocator);
    }
    o->budget = -1;
    return policy == 3 ? lrk_allocator_create_threshold(adapters, NULL, allocator)
                       : lrk_allocator_create_fixed(adapters, allocator);
}

static void replay(lrk_context *context, int policy, const char *text, size_t n)
{
    lrk_replay *replay = NULL;
    lrk_adapters *adapters = NULL;
    lrk_allocator *allocator = NULL;
    observed o = {-1};
    const lrk_round_observer observer = {.struct_size = sizeof observer, .user = &o, .round = look};
    lrk_adapters_info info = {.struct_size = sizeof info};
    lrk_status status = lrk_replay_parse(context, "fuzz", text, n, &replay);
    if (status == LRK_OK) status = lrk_replay_create_adapters(replay, &adapters);
    if (status == LRK_OK) status = lrk_adapters_info_get(adapters, &info);
    if (status == LRK_OK) status = make(adapters, policy, info.ranks, &o, &allocator);
    if (status == LRK_OK) status = lrk_replay_run(replay, allocator, &observer);
    must(status != LRK_ERR_HOST && status != LRK_ERR_STATE);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(adapters);
    lrk_replay_close(replay);
}

static void read_list(lrk_context *context, const char *text, size_t n)
{
    lrk_rank_list *list = NULL;
    int64_t rank = 0;
    if (lrk_rank_list_parse(context, "fuzz", text, n, &list) != LRK_OK) return;
    must(lrk_rank_list_rank(list, "model.layers.0.q", &rank) == LRK_ERR_NOT_FOUND || rank >= 0);
    lrk_rank_list_destroy(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lrk_host host;
    lrk_context *context = NULL;
    char words[64];
    if (size < 1 || size > MOST_BYTES) return 0;
    must(lrk_host_init(&host, sizeof host) == LRK_OK);
    host.allocate = allocate;
    host.release = release;
    must(lrk_context_create(&host, &context, words, sizeof words) == LRK_OK);
    replay(context, data[0] % POLICIES, (const char *)data + 1, size - 1);
    read_list(context, (const char *)data + 1, size - 1);
    lrk_context_destroy(context);
    return 0;
}
