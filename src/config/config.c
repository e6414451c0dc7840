/* SPDX-License-Identifier: MIT */
/*
 * The configuration handle: parsing from memory or a file, error positions, and the values of section host.
 */
#include "config.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../formats/file.h"

#define START_BATCHES 8

lrk_status lrki_config_fail(const lrk_config *config, lrki_mark mark, const char *format, ...)
{
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *path = config->path != NULL ? config->path : "configuration";
    if (mark.line == 0) return lrki_fail(config->context, LRK_ERR_CONFIG, "%s: %s", path, text);
    lrki_place place = {.module = LRKI_NO_MODULE, .line = mark.line, .column = mark.column};
    return lrki_fail_at(config->context, LRK_ERR_CONFIG, place, "%s:%lld:%lld: %s", path,
                        (long long)mark.line, (long long)mark.column, text);
}

void lrki_settings_default(lrki_settings *s)
{
    memset(s, 0, sizeof *s);
    (void)lrk_adapters_options_init(&s->adapters, sizeof s->adapters);
    (void)lrk_sketch_options_init(&s->sketch, sizeof s->sketch);
    (void)lrk_pca_options_init(&s->pca, sizeof s->pca);
    s->batches = START_BATCHES;
    s->budget = LRK_BUDGET_INITIAL;
    lrki_methods_default(s);
    (void)lrk_adamw_options_init(&s->adamw, sizeof s->adamw);
    (void)lrk_lr_options_init(&s->lr, sizeof s->lr);
    (void)lrk_schedule_options_init(&s->schedule, sizeof s->schedule);
    s->uniform = LRKI_NO_UNIFORM;
    s->warmup_share = NAN;
}

/* ---- keys of the host ------------------------------------------------------------------------------------------------ */

static bool is_number(int32_t type)
{
    return type == LRK_VALUE_INTEGER || type == LRK_VALUE_REAL;
}

/* The default may lie outside of the bounds: it can stand for "not given". */
static bool default_fits(const lrk_config_key *key)
{
    double value = key->default_number;
    if (key->type == LRK_VALUE_INTEGER) return value == trunc(value) && fabs(value) <= 0x1p53;
    if (key->type == LRK_VALUE_BOOLEAN) return value == 0 || value == 1;
    return true;
}

static lrk_status check_key(const lrk_config *config, const lrk_config_key *key)
{
    if (key->name == NULL || *key->name == '\0')
        return lrki_fail(config->context, LRK_ERR_ARGUMENT, "a host key has no name");
    const char *wrong = NULL;
    if (key->type < LRK_VALUE_INTEGER || key->type > LRK_VALUE_BOOLEAN)
        wrong = "has an unknown type";
    else if (is_number(key->type) && !(key->least <= key->greatest))
        wrong = "has least above greatest";
    else if (!default_fits(key))
        wrong = "has a default_number that is no value of its type";
    for (int64_t i = 0; i < config->n_host && config->host[i].name != NULL; i++) {
        if (strcmp(config->host[i].name, key->name) == 0) wrong = "stands twice";
    }
    if (wrong == NULL) return LRK_OK;
    return lrki_fail(config->context, LRK_ERR_ARGUMENT, "host key '%.60s' %s", key->name, wrong);
}

static lrk_status declare_key(const lrk_config *config, const lrk_config_key *keys, int64_t i,
                              lrki_host_value *value)
{
    lrk_config_key key = {.least = -INFINITY, .greatest = INFINITY};
    lrk_status status = lrki_struct_read_at(config->context, &key, sizeof key, keys, i,
                                            offsetof(lrk_config_key, least), "lrk_config_key");
    if (status == LRK_OK) status = check_key(config, &key);
    if (status != LRK_OK) return status;
    value->type = key.type;
    value->least = key.least;
    value->greatest = key.greatest;
    value->real = key.default_number;
    if (key.type == LRK_VALUE_INTEGER || key.type == LRK_VALUE_BOOLEAN)
        value->integer = (int64_t)key.default_number;
    value->name = lrki_text_copy(config->context, key.name);
    bool text = key.type == LRK_VALUE_TEXT && key.default_text != NULL;
    if (text) value->text = lrki_text_copy(config->context, key.default_text);
    if (value->name == NULL || (text && value->text == NULL))
        return lrki_fail_nomem(config->context, "a host key");
    return LRK_OK;
}

static lrk_status declare_keys(lrk_config *config, const lrk_config_key *keys, int64_t n)
{
    if (n == 0) return LRK_OK;
    config->host = lrki_array(config->context, n, sizeof *config->host);
    if (config->host == NULL) return lrki_fail_nomem(config->context, "the host keys");
    config->n_host = n;
    for (int64_t i = 0; i < n; i++) {
        lrk_status status = declare_key(config, keys, i, &config->host[i]);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

/* ---- parsing --------------------------------------------------------------------------------------------------------- */

static lrk_status config_new(lrk_context *context, const char *path, lrk_config **out)
{
    lrk_config *config = lrki_alloc_zeroed(context, sizeof *config);
    if (config == NULL) return lrki_fail_nomem(context, "a configuration");
    config->context = lrki_context_ref(context);
    lrki_settings_default(&config->settings);
    *out = config;
    if (path == NULL) return LRK_OK;
    config->path = lrki_text_copy(context, path);
    return config->path != NULL ? LRK_OK : lrki_fail_nomem(context, "a configuration");
}

static lrk_status fill(lrk_config *config, const char *text, size_t length, const lrk_config_key *keys,
                       int64_t n_keys)
{
    lrk_status status = declare_keys(config, keys, n_keys);
    if (status != LRK_OK) return status;
    lrki_node *root = NULL;
    status = lrki_yaml_parse(config, text, length, &root);
    if (status == LRK_OK) status = lrki_config_apply(config, root);
    if (status == LRK_OK) status = lrki_config_check(config);
    lrki_node_free(config, root);
    return status;
}

static lrk_status parse(lrk_context *context, const char *path, const char *text, size_t length,
                        const lrk_config_key *keys, int64_t n_keys, lrk_config **out)
{
    lrk_status status = config_new(context, path, out);
    if (status == LRK_OK) status = fill(*out, text, length, keys, n_keys);
    if (status == LRK_OK) return LRK_OK;
    lrk_config_destroy(*out);
    *out = NULL;
    return status;
}

static lrk_status check_arguments(lrk_context *context, const void *input, const lrk_config_key *keys,
                                  int64_t n_keys, lrk_config **config)
{
    if (config != NULL) *config = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (config == NULL || input == NULL || n_keys < 0 || (n_keys > 0 && keys == NULL))
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "the text, path, keys or result of a configuration is missing");
    return LRK_OK;
}

lrk_status lrk_config_parse(lrk_context *context, const char *text, size_t length, const lrk_config_key *keys,
                            int64_t n_keys, lrk_config **config)
{
    lrk_status status = check_arguments(context, text, keys, n_keys, config);
    return status == LRK_OK ? parse(context, NULL, text, length, keys, n_keys, config) : status;
}

/* The text of a file, held with room for at least one byte; one that is too long is left to the parser's own check. */
static lrk_status load_text(lrk_context *context, const char *path, char **text, int64_t *size)
{
    int fd;
    lrk_status status = lrki_file_open(context, path, &fd, size);
    if (status != LRK_OK) return status;
    if (*size > (int64_t)LRKI_CONFIG_MAX_BYTES) *size = (int64_t)LRKI_CONFIG_MAX_BYTES + 1;
    *text = lrki_array(context, *size, 1);
    status = *text != NULL ? lrki_file_read_at(context, fd, path, 0, *text, (size_t)*size)
                           : lrki_fail_nomem(context, "a configuration text");
    close(fd);
    return status;
}

lrk_status lrk_config_load(lrk_context *context, const char *path, const lrk_config_key *keys, int64_t n_keys,
                           lrk_config **config)
{
    lrk_status status = check_arguments(context, path, keys, n_keys, config);
    if (status != LRK_OK) return status;
    char *text = NULL;
    int64_t size = 0;
    status = load_text(context, path, &text, &size);
    if (status == LRK_OK) status = parse(context, path, text, (size_t)size, keys, n_keys, config);
    lrki_array_free(context, text, size, 1);
    return status;
}

void lrk_config_destroy(lrk_config *config)
{
    if (config == NULL) return;
    lrk_context *context = config->context;
    for (int64_t i = 0; i < config->n_patterns; i++)
        lrki_text_free(context, config->patterns[i].entry.pattern);
    for (int64_t i = 0; i < config->n_limits; i++)
        lrki_text_free(context, config->limits[i].entry.pattern);
    for (int64_t i = 0; i < config->n_host; i++) {
        lrki_text_free(context, config->host[i].name);
        lrki_text_free(context, config->host[i].text);
    }
    lrki_array_free(context, config->patterns, config->n_patterns, sizeof *config->patterns);
    lrki_array_free(context, config->limits, config->n_limits, sizeof *config->limits);
    lrki_array_free(context, config->host, config->n_host, sizeof *config->host);
    lrki_text_free(context, config->ranks_from);
    lrki_text_free(context, config->path);
    lrki_free(context, config, sizeof *config);
    lrki_context_unref(context);
}

uint64_t lrk_config_seed(const lrk_config *config)
{
    return config != NULL ? config->settings.seed : 0;
}

int32_t lrk_config_nested(const lrk_config *config)
{
    return config != NULL ? config->settings.nested : LRK_NESTED_NONE;
}

/* ---- values of the host ---------------------------------------------------------------------------------------------- */

static lrk_status find_host(const lrk_config *config, const char *name, int32_t type, const void *out,
                            const lrki_host_value **value)
{
    if (config == NULL) return LRK_ERR_ARGUMENT;
    if (name == NULL || out == NULL)
        return lrki_fail(config->context, LRK_ERR_ARGUMENT, "the name or result of a host key is NULL");
    for (int64_t i = 0; i < config->n_host; i++) {
        if (config->host[i].type == type && strcmp(config->host[i].name, name) == 0) {
            *value = &config->host[i];
            return LRK_OK;
        }
    }
    return lrki_fail(config->context, LRK_ERR_ARGUMENT, "'%s' is no host key of that type", name);
}

lrk_status lrk_config_integer(const lrk_config *config, const char *name, int64_t *value)
{
    const lrki_host_value *found = NULL;
    lrk_status status = find_host(config, name, LRK_VALUE_INTEGER, value, &found);
    if (status == LRK_OK) *value = found->integer;
    return status;
}

lrk_status lrk_config_real(const lrk_config *config, const char *name, double *value)
{
    const lrki_host_value *found = NULL;
    lrk_status status = find_host(config, name, LRK_VALUE_REAL, value, &found);
    if (status == LRK_OK) *value = found->real;
    return status;
}

lrk_status lrk_config_boolean(const lrk_config *config, const char *name, int32_t *value)
{
    const lrki_host_value *found = NULL;
    lrk_status status = find_host(config, name, LRK_VALUE_BOOLEAN, value, &found);
    if (status == LRK_OK) *value = (int32_t)found->integer;
    return status;
}

lrk_status lrk_config_text(const lrk_config *config, const char *name, const char **value)
{
    const lrki_host_value *found = NULL;
    lrk_status status = find_host(config, name, LRK_VALUE_TEXT, value, &found);
    if (status == LRK_OK) *value = found->text;
    return status;
}
