/* SPDX-License-Identifier: MIT */
/*
 * Rank lists (rank_list.h): ranks by name, and their way into specs.
 */
#include "rank_list.h"

#include <string.h>

#include "../adapters/spec.h"
#include "file.h"
#include "peft_parts.h"

#define TEXT_MOST ((int64_t)1 << 31)

/* ---- life ------------------------------------------------------------------------------------------------------------ */

static lrk_status parse(lrk_context *context, const char *name, const char *text, size_t n,
                        lrk_rank_list **out)
{
    lrk_rank_list *list = lrki_alloc_zeroed(context, sizeof *list);
    if (list == NULL) return lrki_fail_nomem(context, "a rank list");
    list->context = lrki_context_ref(context);
    list->source = lrki_text_copy(context, name);
    lrk_status status =
        list->source != NULL ? lrki_rank_list_read(list, text, n) : lrki_fail_nomem(context, "a rank list");
    if (status == LRK_OK)
        *out = list;
    else
        lrk_rank_list_destroy(list);
    return status;
}

lrk_status lrk_rank_list_parse(lrk_context *context, const char *name, const char *text, size_t length,
                               lrk_rank_list **list)
{
    if (list != NULL) *list = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (list == NULL || name == NULL || text == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "rank list: name, text and list must not be NULL");
    return parse(context, name, text, length, list);
}

lrk_status lrk_rank_list_load(lrk_context *context, const char *path, lrk_rank_list **list)
{
    if (list != NULL) *list = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (list == NULL || path == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "rank list: path and list must not be NULL");
    lrki_bytes text;
    lrk_status status = lrki_file_load(context, path, TEXT_MOST, &text);
    if (status != LRK_OK) return status;
    status = parse(context, path, text.data, text.n, list);
    lrki_bytes_free(context, &text);
    return status;
}

void lrk_rank_list_destroy(lrk_rank_list *list)
{
    if (list == NULL) return;
    lrk_context *context = list->context;
    for (int64_t i = 0; i < list->n_rules; i++)
        lrki_text_free(context, list->rules[i].name);
    for (int64_t i = 0; i < list->n_targets; i++)
        lrki_text_free(context, list->targets[i]);
    lrki_array_free(context, list->rules, list->n_rules, sizeof *list->rules);
    lrki_array_free(context, list->targets, list->n_targets, sizeof *list->targets);
    lrki_text_free(context, list->source);
    lrki_free(context, list, sizeof *list);
    lrki_context_unref(context);
}

/* ---- looking up ------------------------------------------------------------------------------------------------------ */

/* Whether `end` is the whole name, or what follows a '.' in it. */
static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + (n - m), end) == 0 && (n == m || name[n - m - 1] == '.');
}

static bool rule_matches(const lrk_rank_list *list, int64_t i, const char *name)
{
    const char *rule = list->rules[i].name;
    return list->keys ? lrki_peft_pattern_matches(rule, name) : strcmp(name, rule) == 0;
}

static bool is_target(const lrk_rank_list *list, const char *name)
{
    for (int64_t i = 0; i < list->n_targets; i++)
        if (ends_with(name, list->targets[i])) return true;
    return list->n_targets == 0;
}

/* LRKI_RANK_KEEP: the list does not say. */
static int64_t find_rank(const lrk_rank_list *list, const char *name)
{
    if (!is_target(list, name)) return 0;
    for (int64_t i = 0; i < list->n_rules; i++)
        if (rule_matches(list, i, name)) return list->rules[i].rank;
    return list->rest;
}

lrk_status lrk_rank_list_rank(const lrk_rank_list *list, const char *module, int64_t *rank)
{
    if (list == NULL) return LRK_ERR_ARGUMENT;
    if (module == NULL || rank == NULL)
        return lrki_fail(list->context, LRK_ERR_ARGUMENT, "rank list: module and rank must not be NULL");
    int64_t found = find_rank(list, module);
    if (found == LRKI_RANK_KEEP)
        return lrki_fail(list->context, LRK_ERR_NOT_FOUND, "%s: no rank for module '%s'", list->source,
                         module);
    *rank = found;
    return LRK_OK;
}

/* ---- specs ----------------------------------------------------------------------------------------------------------- */

static lrk_module_spec *spec_at(lrk_module_spec *specs, int64_t i)
{
    return (lrk_module_spec *)((char *)specs + (size_t)i * specs->struct_size);
}

static lrk_status find_ranks(const lrk_rank_list *list, const lrk_module_spec *specs, int64_t n,
                             int64_t *ranks)
{
    for (int64_t i = 0; i < n; i++) {
        lrk_module_spec spec;
        lrk_status status = lrki_spec_read(list->context, specs, i, &spec);
        if (status != LRK_OK) return status;
        ranks[i] = find_rank(list, spec.name);
        if (ranks[i] == LRKI_RANK_KEEP && list->complete)
            return lrki_fail(list->context, LRK_ERR_NOT_FOUND, "%s: no rank for module '%s'", list->source,
                             spec.name);
        if (ranks[i] == LRKI_RANK_KEEP) ranks[i] = spec.rank;
    }
    return LRK_OK;
}

/* Whether rule i (or, past the rules, a target) is of one of the modules. */
static bool is_used(const lrk_rank_list *list, int64_t i, const lrk_module_spec *specs, int64_t n)
{
    for (int64_t m = 0; m < n; m++) {
        const char *name = spec_at((lrk_module_spec *)specs, m)->name;
        bool used = i < list->n_rules ? rule_matches(list, i, name)
                                      : ends_with(name, list->targets[i - list->n_rules]);
        if (used) return true;
    }
    return false;
}

static lrk_status check_used(const lrk_rank_list *list, const lrk_module_spec *specs, int64_t n)
{
    for (int64_t i = 0; i < list->n_rules + list->n_targets; i++) {
        bool rule = i < list->n_rules;
        if (rule && !list->keys && list->rules[i].rank == 0)
            continue; /* a host may leave such a module out */
        if (is_used(list, i, specs, n)) continue;
        return lrki_fail(list->context, LRK_ERR_NOT_FOUND, "%s: '%s' is of no module", list->source,
                         rule ? list->rules[i].name : list->targets[i - list->n_rules]);
    }
    return LRK_OK;
}

lrk_status lrk_rank_list_apply(const lrk_rank_list *list, lrk_module_spec *specs, int64_t n_specs)
{
    if (list == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = list->context;
    if (specs == NULL || n_specs < 1 || specs->struct_size < sizeof *specs)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "rank list: no specs, or their struct_size is too small");
    int64_t *ranks = lrki_array(context, n_specs, sizeof *ranks);
    if (ranks == NULL) return lrki_fail_nomem(context, "a rank list");
    lrk_status status = find_ranks(list, specs, n_specs, ranks);
    if (status == LRK_OK) status = check_used(list, specs, n_specs);
    for (int64_t i = 0; i < n_specs && status == LRK_OK; i++)
        lrki_spec_set_rank(spec_at(specs, i), ranks[i]);
    lrki_array_free(context, ranks, n_specs, sizeof *ranks);
    return status;
}
