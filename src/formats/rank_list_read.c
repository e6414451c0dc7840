/* SPDX-License-Identifier: MIT */
/*
 * Reading rank lists: which of the three kinds a text is, and its rules.
 */
#include <string.h>

#include "peft_parts.h"
#include "rank_list.h"
#include "recording.h"

static lrk_status fail(const lrk_rank_list *list, lrk_status status, const char *what, const char *which)
{
    return lrki_fail(list->context, status, "%s: %s%s%s%s", list->source, what, which != NULL ? " '" : "",
                     which != NULL ? which : "", which != NULL ? "'" : "");
}

static lrk_status fail_nomem(const lrk_rank_list *list)
{
    return lrki_fail_nomem(list->context, "a rank list");
}

/* ---- traces ---------------------------------------------------------------------------------------------------------- */

static lrk_status take_ranks(lrk_rank_list *list, const lrki_recording *recording)
{
    lrk_context *context = list->context;
    if (recording->n_modules == 0) return fail(list, LRK_ERR_FORMAT, "no start event", NULL);
    list->complete = true;
    list->rest = LRKI_RANK_KEEP;
    list->rules = lrki_array(context, recording->n_modules, sizeof *list->rules);
    if (list->rules == NULL) return fail_nomem(list);
    list->n_rules = recording->n_modules;
    for (int64_t i = 0; i < list->n_rules; i++) {
        list->rules[i].rank = recording->final_ranks[i];
        list->rules[i].name = lrki_text_copy(context, recording->modules[i].name);
        if (list->rules[i].name == NULL) return fail_nomem(list);
    }
    return LRK_OK;
}

static lrk_status read_trace(lrk_rank_list *list, const char *text, size_t n)
{
    lrki_recording recording;
    lrk_status status = lrki_recording_parse(list->context, list->source, text, n, &recording);
    if (status != LRK_OK) return status;
    status = take_ranks(list, &recording);
    lrki_recording_free(&recording);
    return status;
}

/* A trace's lines begin with their event. */
static bool is_trace(const char *text, size_t n)
{
    static const char blank[] = " \t\r\n";
    static const char member[] = "\"event\"";
    const char *end = text + n;
    while (text < end && strchr(blank, *text) != NULL && *text != '\0')
        text++;
    if (text == end || *text++ != '{') return false;
    while (text < end && strchr(blank, *text) != NULL && *text != '\0')
        text++;
    return (size_t)(end - text) >= sizeof member - 1 && memcmp(text, member, sizeof member - 1) == 0;
}

/* ---- PEFT ------------------------------------------------------------------------------------------------------------ */

static lrk_status read_key(lrk_rank_list *list, const char *key, const lrki_json *value, lrki_rank_rule *rule)
{
    if (*key == '\0' || !lrki_peft_pattern_known(key))
        return fail(list, LRK_ERR_UNSUPPORTED, "rank_pattern: a key is empty or a regular expression:", key);
    if (!lrki_json_integer(value, &rule->rank) || rule->rank < 0)
        return fail(list, LRK_ERR_FORMAT, "rank_pattern: no rank >= 0 for key", key);
    rule->name = lrki_text_copy(list->context, key);
    return rule->name != NULL ? LRK_OK : fail_nomem(list);
}

static lrk_status read_pattern(lrk_rank_list *list, const lrki_json *pattern)
{
    list->keys = true;
    if (pattern == NULL || lrki_json_is_null(pattern)) return LRK_OK;
    if (!lrki_json_is_object(pattern))
        return fail(list, LRK_ERR_FORMAT, "rank_pattern is not an object", NULL);
    list->rules = lrki_array(list->context, lrki_json_count(pattern), sizeof *list->rules);
    if (list->rules == NULL) return fail_nomem(list);
    list->n_rules = lrki_json_count(pattern);
    lrk_status status = LRK_OK;
    lrki_json_cursor cursor = lrki_json_first(pattern);
    for (int64_t i = 0; cursor.at != NULL && status == LRK_OK; i++, cursor = lrki_json_next(pattern, cursor))
        status = read_key(list, cursor.key, cursor.value, &list->rules[i]);
    return status;
}

static lrk_status read_targets(lrk_rank_list *list, const lrki_json *targets)
{
    const char *word = lrki_json_text(targets);
    if (targets == NULL || lrki_json_is_null(targets)) return LRK_OK;
    if (word != NULL && strcmp(word, "all-linear") == 0) return LRK_OK;
    if (word != NULL) return fail(list, LRK_ERR_UNSUPPORTED, "target_modules is a regular expression:", word);
    if (!lrki_json_is_array(targets) || lrki_json_count(targets) == 0)
        return fail(list, LRK_ERR_FORMAT, "target_modules is not a list of names", NULL);
    list->targets = lrki_array(list->context, lrki_json_count(targets), sizeof *list->targets);
    if (list->targets == NULL) return fail_nomem(list);
    list->n_targets = lrki_json_count(targets);
    for (int64_t i = 0; i < list->n_targets; i++) {
        const char *name = lrki_json_text(lrki_json_at(targets, i));
        if (name == NULL || *name == '\0')
            return fail(list, LRK_ERR_FORMAT, "target_modules is not a list of names", NULL);
        list->targets[i] = lrki_text_copy(list->context, name);
        if (list->targets[i] == NULL) return fail_nomem(list);
    }
    return LRK_OK;
}

static lrk_status check_absent(const lrk_rank_list *list, const lrki_json *config, const char *field)
{
    const lrki_json *value = lrki_json_get(config, field);
    bool empty = value == NULL || lrki_json_is_null(value) ||
                 (lrki_json_is_array(value) && lrki_json_count(value) == 0);
    return empty ? LRK_OK : fail(list, LRK_ERR_UNSUPPORTED, "field is not understood here:", field);
}

static lrk_status read_config(lrk_rank_list *list, const lrki_json *config)
{
    const char *type = lrki_json_text(lrki_json_get(config, "peft_type"));
    if (type == NULL || strcmp(type, "LORA") != 0)
        return fail(list, LRK_ERR_UNSUPPORTED, "peft_type is not LORA", NULL);
    lrk_status status = check_absent(list, config, "layers_to_transform");
    if (status == LRK_OK) status = check_absent(list, config, "exclude_modules");
    if (status != LRK_OK) return status;
    if (!lrki_json_integer(lrki_json_get(config, "r"), &list->rest) || list->rest < 0)
        return fail(list, LRK_ERR_FORMAT, "r is missing or not an integer >= 0", NULL);
    status = read_pattern(list, lrki_json_get(config, "rank_pattern"));
    return status == LRK_OK ? read_targets(list, lrki_json_get(config, "target_modules")) : status;
}

static lrk_status read_object(lrk_rank_list *list, const char *text, size_t n)
{
    lrki_json *json = NULL;
    lrk_status status = lrki_json_parse(list->context, text, n, list->source, &json);
    if (status != LRK_OK) return status;
    list->rest = LRKI_RANK_KEEP;
    if (!lrki_json_is_object(json))
        status = fail(list, LRK_ERR_FORMAT, "neither a trace nor a JSON object", NULL);
    else if (lrki_json_get(json, "peft_type") != NULL || lrki_json_get(json, "rank_pattern") != NULL)
        status = read_config(list, json);
    else
        status = read_pattern(list, json);
    lrki_json_free(json);
    return status;
}

lrk_status lrki_rank_list_read(lrk_rank_list *list, const char *text, size_t n)
{
    return is_trace(text, n) ? read_trace(list, text, n) : read_object(list, text, n);
}
