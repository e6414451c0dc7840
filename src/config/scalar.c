/* SPDX-License-Identifier: MIT */
/*
 * Scalars to values: strict decimal integers and reals, true and false, words from a list. Numbers are read in the C
 * locale whatever the host's is, and only from text without quotes. Bounds are not checked here but by the layer that
 * owns the value (lrki_config_check).
 */
#include "config.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS "0123456789"

/* What a conversion came to. */
#define READ      0
#define REFUSED   1
#define NO_MEMORY 2

/* Decimal digits; no leading zero, which YAML 1.1 would read as octal. */
static bool is_whole(const char *text)
{
    bool padded = text[0] == '0' && text[1] != '\0';
    return *text != '\0' && !padded && strspn(text, DIGITS) == strlen(text);
}

static int read_integer(const char *text, int64_t *value)
{
    if (!is_whole(text + (*text == '-'))) return REFUSED;
    errno = 0;
    int64_t wide = strtoll(text, NULL, 10);
    if (errno != 0) return REFUSED;
    *value = wide;
    return READ;
}

static int read_unsigned(const char *text, uint64_t *value)
{
    if (!is_whole(text)) return REFUSED;
    errno = 0;
    uint64_t wide = strtoull(text, NULL, 10);
    if (errno != 0) return REFUSED;
    *value = wide;
    return READ;
}

/* [-] digits [. digits] [e [+-] digits]; strtod alone would take hexadecimal, "inf" and "nan". */
static bool is_decimal(const char *text)
{
    const char *p = text + (*text == '-');
    size_t whole = strspn(p, DIGITS);
    bool padded = whole > 1 && *p == '0';
    p += whole;
    size_t part = *p == '.' ? strspn(p + 1, DIGITS) : 0;
    if (*p == '.') p += 1 + part;
    if (whole + part == 0 || padded) return false;
    if (*p != 'e' && *p != 'E') return *p == '\0';
    p++;
    p += *p == '-' || *p == '+';
    return *p != '\0' && strspn(p, DIGITS) == strlen(p);
}

static int read_real(const char *text, double *value)
{
    if (!is_decimal(text)) return REFUSED;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0) return NO_MEMORY;
    locale_t before = uselocale(c);
    double real = strtod(text, NULL);
    uselocale(before);
    freelocale(c);
    if (!isfinite(real)) return REFUSED;
    *value = real;
    return READ;
}

static int read_boolean(const char *text, bool *value)
{
    *value = strcmp(text, "true") == 0;
    return *value || strcmp(text, "false") == 0 ? READ : REFUSED;
}

static const lrki_word *find_word(const lrki_word *words, const char *text)
{
    for (; words != NULL && words->word != NULL; words++) {
        if (strcmp(words->word, text) == 0) return words;
    }
    return NULL;
}

static void store_word(const lrki_key *key, double value, void *slot)
{
    if (key->type == LRKI_KEY_INTEGER)
        *(int64_t *)slot = (int64_t)value;
    else if (key->type == LRKI_KEY_REAL)
        *(double *)slot = value;
    else
        *(int32_t *)slot = (int32_t)value;
}

static int store_integer4(const char *text, int32_t *slot)
{
    int64_t wide;
    if (read_integer(text, &wide) != READ || wide < INT32_MIN || wide > INT32_MAX) return REFUSED;
    *slot = (int32_t)wide;
    return READ;
}

static int store_flag(const char *text, uint32_t bit, uint32_t *slot)
{
    bool set;
    if (read_boolean(text, &set) != READ) return REFUSED;
    *slot = set ? *slot | bit : *slot & ~bit;
    return READ;
}

static int store_plain(const lrki_key *key, const char *text, void *slot)
{
    switch (key->type) {
    case LRKI_KEY_INTEGER:
        return read_integer(text, slot);
    case LRKI_KEY_INTEGER4:
        return store_integer4(text, slot);
    case LRKI_KEY_UNSIGNED:
        return read_unsigned(text, slot);
    case LRKI_KEY_REAL:
        return read_real(text, slot);
    case LRKI_KEY_FLAG:
        return store_flag(text, key->bit, slot);
    default:
        return REFUSED;
    }
}

static const char *type_text(int32_t type)
{
    static const char *const texts[] = {[LRKI_KEY_INTEGER] = "a 64-bit integer",
                                        [LRKI_KEY_INTEGER4] = "a 32-bit integer",
                                        [LRKI_KEY_UNSIGNED] = "a non-negative 64-bit integer",
                                        [LRKI_KEY_REAL] = "a finite number",
                                        [LRKI_KEY_CHOICE] = "one of",
                                        [LRKI_KEY_FLAG] = "true or false"};
    return texts[type];
}

static lrk_status refuse(const lrk_config *config, const lrki_key *key, const lrki_node *node)
{
    char words[160] = "";
    size_t used = 0;
    for (const lrki_word *w = key->words; w != NULL && w->word != NULL; w++) {
        int n = snprintf(words + used, sizeof words - used, "%s%s", used == 0 ? " " : ", ", w->word);
        if (n < 0 || (size_t)n >= sizeof words - used) break;
        used += (size_t)n;
    }
    const char *join = key->words != NULL && key->type != LRKI_KEY_CHOICE ? " or" : "";
    return lrki_config_fail(config, node->mark, "%s%s%s: '%.60s' is not %s%s%s", key->section,
                            *key->section != '\0' ? "." : "", key->name, node->text, type_text(key->type),
                            join, words);
}

lrk_status lrki_scalar_store(const lrk_config *config, const lrki_key *key, const lrki_node *node, void *base)
{
    if (node->kind != LRKI_NODE_SCALAR)
        return lrki_config_fail(config, node->mark, "%s%s%s must be a single value", key->section,
                                *key->section != '\0' ? "." : "", key->name);
    void *slot = (char *)base + key->offset;
    const lrki_word *word = find_word(key->words, node->text);
    if (word != NULL) {
        store_word(key, word->value, slot);
        return LRK_OK;
    }
    int result = node->plain ? store_plain(key, node->text, slot) : REFUSED;
    if (result == NO_MEMORY) return lrki_fail_nomem(config->context, "reading a number");
    return result == READ ? LRK_OK : refuse(config, key, node);
}

void lrki_scalar_copy(const lrki_key *key, const void *from, void *to)
{
    bool wide = key->type == LRKI_KEY_INTEGER || key->type == LRKI_KEY_UNSIGNED || key->type == LRKI_KEY_REAL;
    memcpy((char *)to + key->offset, (const char *)from + key->offset, wide ? 8 : 4);
}

/* ---- section host ---------------------------------------------------------------------------------------------------- */

static lrk_status host_number(const lrk_config *config, const lrki_node *node, lrki_host_value *value)
{
    bool whole = value->type == LRK_VALUE_INTEGER;
    int64_t integer = 0;
    double real = 0;
    int result = !node->plain ? REFUSED
                 : whole      ? read_integer(node->text, &integer)
                              : read_real(node->text, &real);
    if (result == NO_MEMORY) return lrki_fail_nomem(config->context, "reading a number");
    if (result == REFUSED)
        return lrki_config_fail(config, node->mark, "host.%s: '%.60s' is not %s", value->name, node->text,
                                type_text(whole ? LRKI_KEY_INTEGER : LRKI_KEY_REAL));
    if (whole) real = (double)integer;
    if (real < value->least || real > value->greatest)
        return lrki_config_fail(config, node->mark, "host.%s must be in [%.17g, %.17g], not %s", value->name,
                                value->least, value->greatest, node->text);
    value->integer = integer;
    value->real = real;
    return LRK_OK;
}

static lrk_status host_boolean(const lrk_config *config, const lrki_node *node, lrki_host_value *value)
{
    bool flag;
    if (!node->plain || read_boolean(node->text, &flag) != READ)
        return lrki_config_fail(config, node->mark, "host.%s: '%.60s' is not true or false", value->name,
                                node->text);
    value->integer = flag;
    return LRK_OK;
}

static lrk_status host_text(const lrk_config *config, const lrki_node *node, lrki_host_value *value)
{
    char *text = lrki_text_copy(config->context, node->text);
    if (text == NULL) return lrki_fail_nomem(config->context, "a configuration value");
    lrki_text_free(config->context, value->text);
    value->text = text;
    return LRK_OK;
}

lrk_status lrki_scalar_host(const lrk_config *config, const lrki_node *node, lrki_host_value *value)
{
    if (node->kind != LRKI_NODE_SCALAR)
        return lrki_config_fail(config, node->mark, "host.%s must be a single value", value->name);
    switch (value->type) {
    case LRK_VALUE_BOOLEAN:
        return host_boolean(config, node, value);
    case LRK_VALUE_TEXT:
        return host_text(config, node, value);
    default:
        return host_number(config, node, value);
    }
}
