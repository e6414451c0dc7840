/* SPDX-License-Identifier: MIT */
/*
 * Keys of rank_pattern and alpha_pattern. PEFT (0.15 and later) takes the first key for which Python's
 * re.match("(.*\.)?(KEY)$", name) finds something. Done here, exactly: keys of plain characters, '.' (any character but a
 * newline), escaped punctuation, '^' at the start and '$' at the end. Such a key matches a fixed number of characters, so
 * that it has one place in the name. Everything else that Python would read as an operator is refused by name.
 */
#include <string.h>

#include "peft_parts.h"

static bool is_ascii_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* The characters of a key between '^' and '$'. */
static size_t body_of(const char *key, const char **body)
{
    *body = key + (key[0] == '^');
    size_t n = strlen(*body);
    size_t escapes = 0;
    while (escapes + 1 < n && (*body)[n - 2 - escapes] == '\\')
        escapes++;
    return n > 0 && (*body)[n - 1] == '$' && escapes % 2 == 0 ? n - 1 : n;
}

bool lrki_peft_pattern_known(const char *key)
{
    const char *body;
    size_t n = body_of(key, &body);
    for (size_t i = 0; i < n; i++) {
        if (body[i] == '\\') {
            if (++i == n || is_ascii_alnum(body[i])) return false;
        } else if (strchr("^$*+?()[{|", body[i]) != NULL) {
            return false;
        }
    }
    return true;
}

static size_t character_bytes(const char *at)
{
    size_t n = 1;
    while (((unsigned char)at[n] & 0xC0u) == 0x80)
        n++;
    return n;
}

/* Characters of the text that the key describes; an escape is one with what follows it. */
static int64_t count_characters(const char *text, size_t n, bool escapes)
{
    int64_t count = 0;
    for (size_t i = 0; i < n; count++) {
        if (escapes && text[i] == '\\') i++;
        i += character_bytes(text + i);
    }
    return count;
}

static bool body_matches(const char *body, size_t n, const char *name)
{
    for (size_t i = 0; i < n;) {
        bool any = body[i] == '.';
        if (body[i] == '\\') i++;
        size_t wanted = character_bytes(body + i), given = character_bytes(name);
        if (any ? *name == '\n' : wanted != given || memcmp(body + i, name, given) != 0) return false;
        i += wanted;
        name += given;
    }
    return true;
}

/* Does the key match the last characters of name[0..n)? */
static bool matches_end(const char *key, const char *name, size_t n)
{
    const char *body;
    size_t n_body = body_of(key, &body);
    int64_t skip = count_characters(name, n, false) - count_characters(body, n_body, true);
    if (skip < 0) return false;
    size_t at = 0;
    for (int64_t i = 0; i < skip; i++)
        at += character_bytes(name + at);
    if (at > 0 && (key[0] == '^' || name[at - 1] != '.' || memchr(name, '\n', at) != NULL)) return false;
    return body_matches(body, n_body, name + at);
}

/* '$' of Python also matches before a newline at the very end. */
bool lrki_peft_pattern_matches(const char *key, const char *name)
{
    size_t n = strlen(name);
    return matches_end(key, name, n) || (n > 0 && name[n - 1] == '\n' && matches_end(key, name, n - 1));
}

const lrki_json *lrki_peft_pattern_get(const lrki_json *pattern, const char *name)
{
    for (lrki_json_cursor c = lrki_json_first(pattern); c.at != NULL; c = lrki_json_next(pattern, c))
        if (lrki_peft_pattern_matches(c.key, name)) return c.value;
    return lrki_json_get(pattern, name);
}
