/* SPDX-License-Identifier: MIT */
/*
 * The tree into the settings: sections, lists of patterns and limits, the host's own section; and overrides of single
 * keys. Every key must be known. Leaves the meaning of values to the layers that own them.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

static lrk_status unknown_key(const lrk_config *config, const char *section, const lrki_node *node)
{
    if (*section == '\0') return lrki_config_fail(config, node->key_mark, "unknown key '%.60s'", node->key);
    return lrki_config_fail(config, node->key_mark, "unknown key '%.60s' in %s", node->key, section);
}

static lrk_status apply_scalar(lrk_config *config, const char *section, const lrki_node *node)
{
    lrki_setting s;
    if (!lrki_setting_find(section, node->key, &s)) return unknown_key(config, section, node);
    lrk_status status = lrki_scalar_store(config, s.key, node, (char *)&config->settings + s.base);
    if (status == LRK_OK) config->settings.marks[s.index] = node->mark;
    return status;
}

/* ---- lists ----------------------------------------------------------------------------------------------------------- */

typedef struct list_kind {
    const char *section;
    const lrki_key *keys;
    size_t entry_size; /* of a struct that begins with lrki_entry */
    void (*begin)(lrki_entry *entry);
    lrk_status (*finish)(const lrk_config *config, const lrki_node *map, lrki_entry *entry);
} list_kind;

static const lrki_node *find_node(const lrki_node *map, const char *name)
{
    const lrki_node *n = map->first;
    while (n != NULL && strcmp(n->key, name) != 0)
        n = n->next;
    return n;
}

static lrk_status take_pattern(const lrk_config *config, const list_kind *kind, const lrki_node *map,
                               lrki_entry *entry)
{
    const lrki_node *node = find_node(map, "pattern");
    if (node == NULL)
        return lrki_config_fail(config, map->mark, "an entry of %s lacks its pattern", kind->section);
    if (node->kind != LRKI_NODE_SCALAR || *node->text == '\0')
        return lrki_config_fail(config, node->mark, "%s.pattern must be a text", kind->section);
    entry->mark = node->mark;
    entry->pattern = lrki_text_copy(config->context, node->text);
    return entry->pattern != NULL ? LRK_OK : lrki_fail_nomem(config->context, "a pattern");
}

static lrk_status fill_entry(const lrk_config *config, const list_kind *kind, const lrki_node *map,
                             lrki_entry *entry)
{
    if (map->kind != LRKI_NODE_MAP)
        return lrki_config_fail(config, map->mark, "an entry of %s must be a map", kind->section);
    kind->begin(entry);
    for (const lrki_node *n = map->first; n != NULL; n = n->next) {
        if (strcmp(n->key, "pattern") == 0) continue;
        const lrki_key *key = lrki_key_find(kind->keys, kind->section, n->key);
        if (key == NULL) return unknown_key(config, kind->section, n);
        lrk_status status = lrki_scalar_store(config, key, n, entry);
        if (status != LRK_OK) return status;
        entry->marks[key - kind->keys] = n->mark;
    }
    lrk_status status = take_pattern(config, kind, map, entry);
    return status == LRK_OK ? kind->finish(config, map, entry) : status;
}

/* A pattern that stands twice can never decide anything the second time. */
static lrk_status check_duplicate(const lrk_config *config, const list_kind *kind, const char *entries,
                                  int64_t n)
{
    const lrki_entry *last = (const lrki_entry *)(entries + (size_t)n * kind->entry_size);
    for (int64_t i = 0; i < n; i++) {
        const lrki_entry *entry = (const lrki_entry *)(entries + (size_t)i * kind->entry_size);
        if (strcmp(entry->pattern, last->pattern) == 0)
            return lrki_config_fail(config, last->mark, "pattern '%.60s' stands twice in %s", last->pattern,
                                    kind->section);
    }
    return LRK_OK;
}

static lrk_status apply_list(const lrk_config *config, const list_kind *kind, const lrki_node *list,
                             void **entries, int64_t *n_entries)
{
    if (list->kind != LRKI_NODE_LIST || list->first == NULL)
        return lrki_config_fail(config, list->mark, "%s must be a list with at least one entry",
                                kind->section);
    int64_t n = 0;
    for (const lrki_node *map = list->first; map != NULL; map = map->next)
        n++;
    *entries = lrki_array(config->context, n, kind->entry_size);
    if (*entries == NULL) return lrki_fail_nomem(config->context, kind->section);
    *n_entries = n;
    const lrki_node *map = list->first;
    for (int64_t i = 0; i < n; i++, map = map->next) {
        lrki_entry *entry = (lrki_entry *)((char *)*entries + (size_t)i * kind->entry_size);
        lrk_status status = fill_entry(config, kind, map, entry);
        if (status == LRK_OK) status = check_duplicate(config, kind, *entries, i);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

static void begin_module(lrki_entry *entry)
{
    lrk_module_pattern *pattern = &((lrki_pattern_entry *)entry)->pattern;
    (void)lrk_module_pattern_init(pattern, sizeof *pattern);
}

/* scale, or alpha with its rule; not both. */
static lrk_status finish_module(const lrk_config *config, const lrki_node *map, lrki_entry *entry)
{
    lrk_module_pattern *pattern = &((lrki_pattern_entry *)entry)->pattern;
    const lrki_node *scale = find_node(map, "scale");
    const lrki_node *rule = find_node(map, "alpha_rule");
    const lrki_node *rank = find_node(map, "scale_rank");
    bool alpha = find_node(map, "alpha") != NULL;
    if (find_node(map, "rank") == NULL)
        return lrki_config_fail(config, map->mark, "an entry of adapters.modules lacks its rank");
    if (scale != NULL && alpha)
        return lrki_config_fail(config, scale->key_mark,
                                "an entry of adapters.modules has both scale and alpha");
    if (!alpha && (rule != NULL || rank != NULL))
        return lrki_config_fail(config, rule != NULL ? rule->key_mark : rank->key_mark,
                                "an entry of adapters.modules has %s but no alpha",
                                rule != NULL ? "alpha_rule" : "scale_rank");
    if (alpha && rule == NULL) pattern->scale_rule = LRK_SCALE_ALPHA;
    pattern->pattern = entry->pattern;
    return LRK_OK;
}

static void begin_limit(lrki_entry *entry)
{
    lrk_limit *limit = &((lrki_limit_entry *)entry)->limit;
    (void)lrk_limit_init(limit, sizeof *limit);
}

static lrk_status finish_limit(const lrk_config *config, const lrki_node *map, lrki_entry *entry)
{
    (void)config, (void)map;
    ((lrki_limit_entry *)entry)->limit.pattern = entry->pattern;
    return LRK_OK;
}

static lrk_status apply_modules(lrk_config *config, const lrki_node *list)
{
    const list_kind kind = {"adapters.modules", lrki_pattern_keys, sizeof(lrki_pattern_entry), begin_module,
                            finish_module};
    void *entries = NULL;
    lrk_status status = apply_list(config, &kind, list, &entries, &config->n_patterns);
    config->patterns = entries;
    return status;
}

static lrk_status apply_limits(lrk_config *config, const lrki_node *list)
{
    const list_kind kind = {"allocation.limits", lrki_limit_keys, sizeof(lrki_limit_entry), begin_limit,
                            finish_limit};
    void *entries = NULL;
    lrk_status status = apply_list(config, &kind, list, &entries, &config->n_limits);
    config->limits = entries;
    return status;
}

/* A path: text that an override can replace. "none" is none. */
static lrk_status apply_ranks_from(lrk_config *config, const lrki_node *node)
{
    char *path = NULL;
    if (node->kind != LRKI_NODE_SCALAR || *node->text == '\0')
        return lrki_config_fail(config, node->mark, "adapters.ranks_from must be a text");
    if (strcmp(node->text, "none") != 0) {
        path = lrki_text_copy(config->context, node->text);
        if (path == NULL) return lrki_fail_nomem(config->context, "a configuration value");
    }
    lrki_text_free(config->context, config->ranks_from);
    config->ranks_from = path;
    config->ranks_from_mark = node->mark;
    return LRK_OK;
}

/* ---- sections -------------------------------------------------------------------------------------------------------- */

static lrk_status apply_host(const lrk_config *config, const lrki_node *node)
{
    for (int64_t i = 0; i < config->n_host; i++) {
        if (strcmp(config->host[i].name, node->key) == 0)
            return lrki_scalar_host(config, node, &config->host[i]);
    }
    return unknown_key(config, "host", node);
}

static lrk_status apply_in_section(lrk_config *config, const char *section, const lrki_node *node)
{
    if (strcmp(section, "host") == 0) return apply_host(config, node);
    if (strcmp(section, "adapters") == 0 && strcmp(node->key, "modules") == 0)
        return apply_modules(config, node);
    if (strcmp(section, "adapters") == 0 && strcmp(node->key, "ranks_from") == 0)
        return apply_ranks_from(config, node);
    if (strcmp(section, "allocation") == 0 && strcmp(node->key, "limits") == 0)
        return apply_limits(config, node);
    return apply_scalar(config, section, node);
}

static lrk_status apply_section(lrk_config *config, int index, const lrki_node *section)
{
    if (section->kind != LRKI_NODE_MAP)
        return lrki_config_fail(config, section->mark, "%s must be a map of keys", section->key);
    config->settings.sections[index] = section->key_mark;
    for (const lrki_node *n = section->first; n != NULL; n = n->next) {
        lrk_status status = apply_in_section(config, section->key, n);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

lrk_status lrki_config_apply(lrk_config *config, const lrki_node *root)
{
    if (root == NULL) return LRK_OK;
    if (root->kind != LRKI_NODE_MAP)
        return lrki_config_fail(config, root->mark, "the text must be a map of sections");
    for (const lrki_node *n = root->first; n != NULL; n = n->next) {
        int section = lrki_section_find(n->key);
        lrk_status status = section >= 0 ? apply_section(config, section, n) : apply_scalar(config, "", n);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

/* ---- overrides ------------------------------------------------------------------------------------------------------- */

/* n_move replaces a move_share that the text gave, and the like: without that an override could not choose. */
static void unset_rival(lrki_settings *settings, const char *section, const char *name)
{
    lrki_setting s, rival;
    if (!lrki_setting_find(section, name, &s) || s.key->rival == NULL) return;
    if (!lrki_setting_find(section, s.key->rival, &rival)) return;
    lrki_settings defaults;
    lrki_settings_default(&defaults);
    lrki_scalar_copy(rival.key, (char *)&defaults + rival.base, (char *)settings + rival.base);
    settings->marks[rival.index] = (lrki_mark){0, 0};
}

static lrk_status override_scalar(lrk_config *config, const char *section, const lrki_node *node)
{
    lrki_settings before = config->settings;
    lrk_status status = apply_scalar(config, section, node);
    if (status == LRK_OK) {
        unset_rival(&config->settings, section, node->key);
        status = lrki_config_check(config);
    }
    if (status != LRK_OK) config->settings = before;
    return status;
}

lrk_status lrk_config_override(lrk_config *config, const char *key, const char *value)
{
    if (config == NULL) return LRK_ERR_ARGUMENT;
    if (key == NULL || value == NULL)
        return lrki_fail(config->context, LRK_ERR_ARGUMENT,
                         "lrk_config_override: key and value must not be NULL");
    const char *dot = strchr(key, '.');
    char section[32] = "";
    if (dot != NULL) snprintf(section, sizeof section, "%.*s", (int)(dot - key), key);
    lrki_mark mark = {0, 1};
    if (dot != NULL && lrki_section_find(section) < 0)
        return lrki_config_fail(config, mark, "unknown key '%.60s'", key);
    /* A scalar node is only read. */
    lrki_node node = {.kind = LRKI_NODE_SCALAR, .plain = true, .mark = mark, .key_mark = mark};
    node.key = (char *)(dot != NULL ? dot + 1 : key);
    node.text = (char *)value;
    if (strcmp(key, "adapters.modules") == 0 || strcmp(key, "allocation.limits") == 0)
        return lrki_config_fail(config, mark, "%s is a list: only a text can give it", key);
    if (strcmp(section, "host") == 0) return apply_host(config, &node);
    if (strcmp(key, "adapters.ranks_from") == 0) return apply_ranks_from(config, &node);
    return override_scalar(config, section, &node);
}
