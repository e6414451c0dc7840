/* SPDX-License-Identifier: MIT */
/*
 * From a failure of another layer to a position in the text. The layers name the member that is wrong, and keys are
 * called as members are: the key that a detail names first is the one to point to. Decides nothing about values.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "config.h"

static bool is_word_character(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Where `word` stands in `text` as a whole word, NULL if it does not. */
static const char *find_word_in(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = text; (p = strstr(p, word)) != NULL; p += n) {
        bool starts = p == text || !is_word_character(p[-1]);
        if (starts && !is_word_character(p[n])) return p;
    }
    return NULL;
}

/* The first place so far where a text names a key that was given, and the mark of that key. */
typedef struct naming {
    const char *text;
    const char *first; /* NULL: none */
    lrki_mark mark;    /* of what is pointed to otherwise */
} naming;

static void look_for(naming *n, const lrki_key *key, const char *section, lrki_mark mark)
{
    bool given = mark.line > 0 || mark.column > 0;
    const char *at = given && strcmp(key->section, section) == 0 ? find_word_in(n->text, key->name) : NULL;
    if (at == NULL || (n->first != NULL && n->first < at)) return;
    n->first = at;
    n->mark = mark;
}

/* Records the thread's last failure again, with the position in front and status `as`. */
static lrk_status repeat_at(const lrk_config *config, const char *text, lrki_mark mark, lrk_status as)
{
    lrk_error_info info = {.struct_size = sizeof info};
    (void)lrk_context_error_info(config->context, &info);
    lrki_place place = {.module = info.module, .identity = info.identity};
    const char *path = config->path != NULL ? config->path : "configuration";
    if (mark.line == 0) return lrki_fail_at(config->context, as, place, "%s: %s", path, text);
    place.line = mark.line;
    place.column = mark.column;
    return lrki_fail_at(config->context, as, place, "%s:%lld:%lld: %s", path, (long long)mark.line,
                        (long long)mark.column, text);
}

static bool needs_place(lrk_status status)
{
    return status != LRK_OK && status != LRK_ERR_NOMEM;
}

lrk_status lrki_config_locate(const lrk_config *config, const char *section, lrk_status status, lrk_status as)
{
    if (!needs_place(status)) return status;
    char text[LRKI_CONFIG_DETAIL];
    lrk_context_error(config->context, text, sizeof text);
    const lrki_settings *s = &config->settings;
    naming n = {.text = text, .mark = s->sections[lrki_section_find(section)]};
    lrki_setting setting;
    for (int i = 0; lrki_setting_at(i, &setting); i++)
        look_for(&n, setting.key, section, s->marks[i]);
    return repeat_at(config, text, n.mark, as);
}

lrk_status lrki_config_locate_at(const lrk_config *config, lrki_mark mark, lrk_status status)
{
    if (!needs_place(status)) return status;
    char text[LRKI_CONFIG_DETAIL];
    lrk_context_error(config->context, text, sizeof text);
    return repeat_at(config, text, mark, status);
}

bool lrki_entry_named(const lrk_config *config, const lrki_entry *entry)
{
    char text[LRKI_CONFIG_DETAIL];
    char quoted[LRKI_CONFIG_DETAIL];
    lrk_context_error(config->context, text, sizeof text);
    snprintf(quoted, sizeof quoted, "'%s'", entry->pattern);
    return strstr(text, quoted) != NULL;
}

lrk_status lrki_entry_locate(const lrk_config *config, const lrki_entry *entry, const lrki_key *keys,
                             lrk_status status, lrk_status as)
{
    if (!needs_place(status)) return status;
    char text[LRKI_CONFIG_DETAIL];
    lrk_context_error(config->context, text, sizeof text);
    naming n = {.text = text, .mark = entry->mark};
    for (int64_t i = 0; keys[i].name != NULL; i++)
        look_for(&n, &keys[i], keys->section, entry->marks[i]);
    return repeat_at(config, text, n.mark, as);
}
