/* SPDX-License-Identifier: MIT */
/*
 * A counting allocator for Jansson (json_fault.h).
 */
#include "json_fault.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>

static int64_t calls;
static int64_t fail_at = -1;
static int64_t live;
static bool spare;  /* requests that may be token buffers */
static bool spared; /* the one that was to fail was       */

/* The token buffer grows to powers of two from 32 on. */
static bool may_be_token_buffer(size_t size)
{
    return size >= 32 && (size & (size - 1)) == 0;
}

static void *counting_malloc(size_t size)
{
    if (calls++ == fail_at) {
        spared = spare && may_be_token_buffer(size);
        if (!spared) return NULL;
    }
    void *memory = malloc(size);
    live += memory != NULL;
    return memory;
}

static void counting_free(void *memory)
{
    live -= memory != NULL;
    free(memory);
}

void json_each_fault(lrk_status (*act)(void *user), void (*undo)(void *user), void *user, bool parses)
{
    json_set_alloc_funcs(counting_malloc, counting_free);
    calls = live = 0;
    fail_at = -1;
    spare = parses;
    ck_assert_int_eq(act(user), LRK_OK);
    undo(user);
    int64_t total = calls;
    ck_assert_int_gt(total, 0);
    ck_assert_int_eq(live, 0);
    for (int64_t i = 0; i < total; i++) {
        calls = 0;
        fail_at = i;
        spared = false;
        lrk_status status = act(user);
        ck_assert_msg(status == LRK_ERR_NOMEM || (parses && (status == LRK_ERR_FORMAT || spared)),
                      "allocation %lld failed: %s", (long long)i, lrk_status_name(status));
        if (status == LRK_OK) undo(user);
        ck_assert_msg(live == 0, "allocation %lld failed: %lld blocks left", (long long)i, (long long)live);
    }
    fail_at = -1;
    ck_assert_int_eq(act(user), LRK_OK);
    undo(user);
    json_set_alloc_funcs(malloc, free);
}
