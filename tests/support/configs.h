/* SPDX-License-Identifier: MIT */
/*
 * Configurations for tests: parsing that must succeed, and where a failure must be.
 */
#ifndef CONFIGS_H
#define CONFIGS_H

#include "fault.h"
#include "lorank/lorank.h"

/* Keys of a host, one of each type: epochs 1 to 9, share 0 to 1, data, shuffle. */
extern const lrk_config_key configs_keys[4];

/* ck_asserts LRK_OK, else shows the context's words. */
void configs_ok(const lrk_context *context, lrk_status status);
/* keys may be NULL with 0. */
lrk_config *configs_parse(lrk_context *context, const char *text, const lrk_config_key *keys, int64_t n);
/* Of sets_three()'s modules. */
lrk_adapters *configs_adapters(lrk_context *context, const lrk_config *config);
/* status is `want`, the words contain `words`, and the place is line and column (0, 0: none). */
void configs_expect_at(const lrk_context *context, lrk_status status, lrk_status want, int64_t line,
                       int64_t column, const char *words);

#endif
