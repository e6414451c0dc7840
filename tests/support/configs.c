/* SPDX-License-Identifier: MIT */
/*
 * Configurations for tests (configs.h).
 */
#include "configs.h"
#include "sets.h"

#include <check.h>
#include <string.h>

const lrk_config_key configs_keys[4] = {
    {.struct_size = sizeof(lrk_config_key),
     .type = LRK_VALUE_INTEGER,
     .name = "epochs",
     .least = 1,
     .greatest = 9},
    {.struct_size = sizeof(lrk_config_key),
     .type = LRK_VALUE_REAL,
     .name = "share",
     .least = 0,
     .greatest = 1},
    {.struct_size = sizeof(lrk_config_key), .type = LRK_VALUE_TEXT, .name = "data"},
    {.struct_size = sizeof(lrk_config_key), .type = LRK_VALUE_BOOLEAN, .name = "shuffle"}};

void configs_ok(const lrk_context *context, lrk_status status)
{
    char text[512];
    lrk_context_error(context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s: %s", lrk_status_name(status), text);
}

lrk_config *configs_parse(lrk_context *context, const char *text, const lrk_config_key *keys, int64_t n)
{
    lrk_config *config = NULL;
    configs_ok(context, lrk_config_parse(context, text, strlen(text), keys, n, &config));
    ck_assert_ptr_nonnull(config);
    return config;
}

void configs_expect_at(const lrk_context *context, lrk_status status, lrk_status want, int64_t line,
                       int64_t column, const char *words)
{
    char text[512];
    lrk_error_info info = {.struct_size = sizeof info};
    lrk_context_error(context, text, sizeof text);
    ck_assert_msg(status == want, "%s instead of %s: %s", lrk_status_name(status), lrk_status_name(want),
                  text);
    ck_assert_msg(strstr(text, words) != NULL, "'%s' does not say '%s'", text, words);
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
    ck_assert_int_eq(info.status, want);
    ck_assert_msg(info.line == line && info.column == column, "not at %lld:%lld: %s", (long long)line,
                  (long long)column, text);
}

lrk_adapters *configs_adapters(lrk_context *context, const lrk_config *config)
{
    lrk_module_spec specs[3];
    lrk_adapters *adapters = NULL;
    sets_three(specs);
    configs_ok(context, lrk_config_create_adapters(config, specs, 3, &adapters));
    return adapters;
}
