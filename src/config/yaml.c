/* SPDX-License-Identifier: MIT */
/*
 * YAML text to a tree of nodes through libyaml's events. Refused here, with position: syntax errors, text that is not
 * UTF-8, aliases, anchors, tags, several documents, duplicate keys, keys that are not scalars, too much depth or size. What the keys mean is
 * decided elsewhere. libyaml allocates through libc.
 */
#include "config.h"

#include <string.h>
#include <yaml.h>

typedef struct reader {
    const lrk_config *config;
    const char *text;
    size_t length;
    yaml_parser_t parser;
} reader;

static lrki_mark mark_of(yaml_mark_t mark)
{
    return (lrki_mark){.line = (int64_t)mark.line + 1, .column = (int64_t)mark.column + 1};
}

static bool starts_character(char byte)
{
    return ((unsigned char)byte & 0xC0) != 0x80;
}

/* Position of a byte: libyaml tells only the offset of bytes that are no UTF-8. */
static lrki_mark mark_of_byte(const reader *r, size_t offset)
{
    lrki_mark mark = {1, 1};
    for (size_t i = 0; i < offset && i < r->length; i++) {
        mark.column += starts_character(r->text[i]);
        if (r->text[i] != '\n') continue;
        mark.line++;
        mark.column = 1;
    }
    return mark;
}

static lrk_status next_event(reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event)) return LRK_OK;
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return lrki_fail_nomem(r->config->context, "the YAML parser");
    lrki_mark mark =
        p->error == YAML_READER_ERROR ? mark_of_byte(r, p->problem_offset) : mark_of(p->problem_mark);
    return lrki_config_fail(r->config, mark, "%s", p->problem != NULL ? p->problem : "not YAML");
}

void lrki_node_free(const lrk_config *config, lrki_node *node)
{
    while (node != NULL) {
        lrki_node *next = node->next;
        lrki_node_free(config, node->first);
        lrki_text_free(config->context, node->key);
        lrki_text_free(config->context, node->text);
        lrki_free(config->context, node, sizeof *node);
        node = next;
    }
}

static lrk_status new_node(reader *r, int32_t kind, yaml_mark_t mark, lrki_node **out)
{
    lrki_node *node = lrki_alloc_zeroed(r->config->context, sizeof *node);
    if (node == NULL) return lrki_fail_nomem(r->config->context, "a configuration value");
    node->kind = kind;
    node->mark = mark_of(mark);
    *out = node;
    return LRK_OK;
}

/* Copies an event's scalar; text with a NUL inside is refused. */
static lrk_status scalar_text(reader *r, const yaml_event_t *event, char **out)
{
    const char *value = (const char *)event->data.scalar.value;
    if (strlen(value) != event->data.scalar.length)
        return lrki_config_fail(r->config, mark_of(event->start_mark), "a value holds a NUL character");
    *out = lrki_text_copy(r->config->context, value);
    return *out != NULL ? LRK_OK : lrki_fail_nomem(r->config->context, "a configuration value");
}

/* "! word": libyaml drops this tag, but counts its characters as the scalar's. */
static bool has_bare_tag(const yaml_event_t *event)
{
    if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return event->data.scalar.plain_implicit;
    if (event->start_mark.line != event->end_mark.line) return false;
    size_t characters = 0;
    for (size_t i = 0; i < event->data.scalar.length; i++)
        characters += starts_character((char)event->data.scalar.value[i]);
    return event->end_mark.index - event->start_mark.index != characters;
}

static lrk_status check_bare(const reader *r, const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL;
    bool tag = false;
    const char *what = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag != NULL || (anchor == NULL && has_bare_tag(event));
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag != NULL;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag != NULL;
    }
    if (tag) what = "tags";
    if (anchor != NULL) what = "anchors";
    if (event->type == YAML_ALIAS_EVENT) what = "aliases";
    if (what == NULL) return LRK_OK;
    return lrki_config_fail(r->config, mark_of(event->start_mark), "%s are not accepted", what);
}

static lrk_status check_count(const reader *r, const yaml_event_t *event, int64_t n)
{
    if (n < LRKI_CONFIG_MAX_ENTRIES) return LRK_OK;
    return lrki_config_fail(r->config, mark_of(event->start_mark), "more than %d entries in one map or list",
                            LRKI_CONFIG_MAX_ENTRIES);
}

static lrk_status read_node(reader *r, const yaml_event_t *event, int depth, lrki_node **out);

static lrk_status read_list(reader *r, int depth, lrki_node *list)
{
    lrki_node **tail = &list->first;
    for (int64_t n = 0;; n++) {
        yaml_event_t event;
        lrk_status status = next_event(r, &event);
        if (status != LRK_OK) return status;
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        if (!end) status = check_count(r, &event, n);
        if (!end && status == LRK_OK) status = read_node(r, &event, depth + 1, tail);
        yaml_event_delete(&event);
        if (end || status != LRK_OK) return status;
        tail = &(*tail)->next;
    }
}

static lrk_status check_duplicate(const reader *r, const yaml_event_t *event, const lrki_node *map,
                                  const char *key)
{
    for (const lrki_node *n = map->first; n != NULL; n = n->next) {
        if (strcmp(n->key, key) == 0)
            return lrki_config_fail(r->config, mark_of(event->start_mark),
                                    "key '%.60s' stands twice, first in line %lld", key,
                                    (long long)n->key_mark.line);
    }
    return LRK_OK;
}

static lrk_status read_key(reader *r, const yaml_event_t *event, const lrki_node *map, char **key)
{
    lrk_status status = check_bare(r, event);
    if (status != LRK_OK) return status;
    if (event->type != YAML_SCALAR_EVENT)
        return lrki_config_fail(r->config, mark_of(event->start_mark), "a key must be a word");
    status = scalar_text(r, event, key);
    return status == LRK_OK ? check_duplicate(r, event, map, *key) : status;
}

static lrk_status read_value(reader *r, int depth, lrki_node **out)
{
    yaml_event_t event;
    lrk_status status = next_event(r, &event);
    if (status != LRK_OK) return status;
    status = read_node(r, &event, depth + 1, out);
    yaml_event_delete(&event);
    return status;
}

/* The entries up to the map's end. A value that failed midway stays in the tree, without its key, and is freed with it. */
static lrk_status read_map(reader *r, int depth, lrki_node *map)
{
    lrki_node **tail = &map->first;
    for (int64_t n = 0;; n++) {
        yaml_event_t event;
        char *key = NULL;
        lrk_status status = next_event(r, &event);
        if (status != LRK_OK) return status;
        bool end = event.type == YAML_MAPPING_END_EVENT;
        lrki_mark key_mark = mark_of(event.start_mark);
        if (!end) status = check_count(r, &event, n);
        if (!end && status == LRK_OK) status = read_key(r, &event, map, &key);
        yaml_event_delete(&event);
        if (!end && status == LRK_OK) status = read_value(r, depth, tail);
        if (end || status != LRK_OK) {
            lrki_text_free(r->config->context, key);
            return status;
        }
        (*tail)->key = key;
        (*tail)->key_mark = key_mark;
        tail = &(*tail)->next;
    }
}

static lrk_status read_collection(reader *r, const yaml_event_t *event, int depth, lrki_node **out)
{
    bool list = event->type == YAML_SEQUENCE_START_EVENT;
    if (depth >= LRKI_CONFIG_MAX_DEPTH)
        return lrki_config_fail(r->config, mark_of(event->start_mark), "nested deeper than %d levels",
                                LRKI_CONFIG_MAX_DEPTH);
    lrk_status status = new_node(r, list ? LRKI_NODE_LIST : LRKI_NODE_MAP, event->start_mark, out);
    if (status != LRK_OK) return status;
    return list ? read_list(r, depth, *out) : read_map(r, depth, *out);
}

static lrk_status read_node(reader *r, const yaml_event_t *event, int depth, lrki_node **out)
{
    lrk_status status = check_bare(r, event);
    if (status != LRK_OK) return status;
    if (event->type != YAML_SCALAR_EVENT) return read_collection(r, event, depth, out);
    status = new_node(r, LRKI_NODE_SCALAR, event->start_mark, out);
    if (status != LRK_OK) return status;
    (*out)->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return scalar_text(r, event, &(*out)->text);
}

/* STREAM-START [DOCUMENT-START node DOCUMENT-END] STREAM-END */
static lrk_status read_stream(reader *r, lrki_node **root)
{
    for (;;) {
        yaml_event_t event;
        lrk_status status = next_event(r, &event);
        if (status != LRK_OK) return status;
        yaml_event_type_t type = event.type;
        if (type == YAML_DOCUMENT_START_EVENT) {
            if (*root != NULL)
                status = lrki_config_fail(r->config, mark_of(event.start_mark),
                                          "a second document is not accepted");
        } else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
                   type != YAML_DOCUMENT_END_EVENT) {
            status = read_node(r, &event, 0, root);
        }
        yaml_event_delete(&event);
        if (status != LRK_OK || type == YAML_STREAM_END_EVENT) return status;
    }
}

lrk_status lrki_yaml_parse(const lrk_config *config, const char *text, size_t length, lrki_node **root)
{
    *root = NULL;
    if (length > LRKI_CONFIG_MAX_BYTES)
        return lrki_config_fail(config, (lrki_mark){1, 1}, "longer than %zu bytes", LRKI_CONFIG_MAX_BYTES);
    reader r = {.config = config, .text = text, .length = length};
    if (!yaml_parser_initialize(&r.parser)) return lrki_fail_nomem(config->context, "the YAML parser");
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, length);
    lrk_status status = read_stream(&r, root);
    yaml_parser_delete(&r.parser);
    if (status != LRK_OK) {
        lrki_node_free(config, *root);
        *root = NULL;
    }
    return status;
}
