/* SPDX-License-Identifier: MIT */
/*
 * Fields of a trace's line, each checked as docs/trace.md has it.
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "recording_parts.h"

void lrki_line_fail(lrki_line *line, const char *format, ...)
{
    char text[256];
    va_list args;
    if (line->status != LRK_OK) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    lrki_place place = LRKI_NOWHERE;
    place.line = line->number;
    line->status = lrki_fail_at(line->recording->context, LRK_ERR_FORMAT, place, "%s:%" PRId64 ": %s",
                                line->recording->path, line->number, text);
}

static void fail_nomem(lrki_line *line)
{
    if (line->status == LRK_OK) line->status = lrki_fail_nomem(line->recording->context, "a trace");
}

void *lrki_line_take(lrki_line *line, int64_t n, size_t size)
{
    void *array = lrki_array(line->recording->context, n, size);
    if (array == NULL) fail_nomem(line);
    return array;
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

bool lrki_is_count(const lrki_json *json, int64_t *value)
{
    if (lrki_json_integer(json, value) && *value >= 0 && *value <= LRKI_RECORDED_MOST) return true;
    *value = 0;
    return false;
}

bool lrki_is_identity(const lrki_json *json, uint64_t *value)
{
    int64_t number = 0;
    bool good = lrki_json_integer(json, &number) && number >= 1;
    *value = good ? (uint64_t)number : 0;
    return good;
}

bool lrki_is_real(const lrki_json *json, double *value)
{
    *value = NAN;
    return lrki_json_number(json, value) || lrki_json_is_null(json);
}

/* ---- fields ---------------------------------------------------------------------------------------------------------- */

static void fail_field(lrki_line *line, const char *key, const char *wanted)
{
    lrki_line_fail(line, "field '%s' is missing or not %s", key, wanted);
}

int64_t lrki_line_count(lrki_line *line, const lrki_json *object, const char *key)
{
    int64_t value;
    if (!lrki_is_count(lrki_json_get(object, key), &value))
        fail_field(line, key, "an integer >= 0 (up to 10^12)");
    return value;
}

double lrki_line_real(lrki_line *line, const lrki_json *object, const char *key)
{
    double value;
    if (!lrki_is_real(lrki_json_get(object, key), &value)) fail_field(line, key, "a number or null");
    return value;
}

const lrki_json *lrki_line_array(lrki_line *line, const lrki_json *object, const char *key)
{
    const lrki_json *array = lrki_json_get(object, key);
    if (lrki_json_is_array(array)) return array;
    fail_field(line, key, "an array");
    return NULL;
}

char *lrki_line_text(lrki_line *line, const lrki_json *object, const char *key)
{
    const char *text = lrki_json_text(lrki_json_get(object, key));
    if (text == NULL) fail_field(line, key, "a text");
    if (line->status != LRK_OK) return NULL;
    char *copy = lrki_text_copy(line->recording->context, text);
    if (copy == NULL) fail_nomem(line);
    return copy;
}

int64_t lrki_line_module(lrki_line *line, const lrki_json *object)
{
    int64_t module = lrki_line_count(line, object, "module");
    if (module < line->recording->n_modules) return module;
    lrki_line_fail(line, "field 'module': there is no module %" PRId64, module);
    return 0;
}

uint64_t lrki_line_identity(lrki_line *line, const lrki_json *object)
{
    uint64_t identity;
    if (!lrki_is_identity(lrki_json_get(object, "identity"), &identity))
        fail_field(line, "identity", "an integer >= 1");
    return identity;
}
