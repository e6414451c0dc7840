/* SPDX-License-Identifier: MIT */
/*
 * The only file of the library that knows Jansson. Jansson tells lack of memory by an error without text, or with the
 * code for it; both become LRK_ERR_NOMEM. Two limits of its parser (2.14) cannot be mended from here: lack of memory for
 * a string's value is told as a syntax error (LRK_ERR_FORMAT), and growth of its token buffer is not checked at all.
 */
#include "json.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "json_lift.h"

static lrk_status load(lrk_context *context, const char *text, size_t n, const char *what, lrki_json **json)
{
    json_error_t error;
    memset(&error, 0, sizeof error);
    *json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (*json != NULL) return LRK_OK;
    if (error.text[0] == '\0' || json_error_code(&error) == json_error_out_of_memory)
        return lrki_fail_nomem(context, what);
    lrki_place place = {LRKI_NO_MODULE, 0, error.line > 0 ? error.line : 0,
                        error.column > 0 ? error.column : 0};
    return lrki_fail_at(context, LRK_ERR_FORMAT, place, "%s: not valid JSON: %s (line %d, column %d)", what,
                        error.text, error.line, error.column);
}

static lrk_status put_string_back(lrk_context *context, json_t *json, const char *text)
{
    lrki_bytes value;
    lrk_status status = lrki_json_lifted(context, json_string_value(json), text, &value);
    if (status == LRK_OK && value.data != NULL && json_string_setn_nocheck(json, value.data, value.n) != 0)
        status = lrki_fail_nomem(context, "JSON text");
    lrki_bytes_free(context, &value);
    return status;
}

/* Puts lifted strings back into their tree, which is as deep as Jansson lets it be. */
static lrk_status put_back(lrk_context *context, json_t *json, const char *text)
{
    lrk_status status = LRK_OK;
    if (json_is_string(json)) return put_string_back(context, json, text);
    for (size_t i = 0; i < json_array_size(json) && status == LRK_OK; i++)
        status = put_back(context, json_array_get(json, i), text);
    for (void *at = json_object_iter(json); at != NULL && status == LRK_OK;
         at = json_object_iter_next(json, at))
        status = put_back(context, json_object_iter_value(at), text);
    return status;
}

lrk_status lrki_json_parse(lrk_context *context, const char *text, size_t n, const char *what,
                           lrki_json **json)
{
    lrki_bytes lean;
    *json = NULL;
    lrk_status status = lrki_json_lift(context, text, n, &lean);
    if (status != LRK_OK) return status;
    bool lifted = lean.data != NULL;
    status = lifted ? load(context, lean.data, lean.n, what, json) : load(context, text, n, what, json);
    lrki_bytes_free(context, &lean);
    if (!lifted) return status;
    if (status == LRK_OK) status = put_back(context, *json, text);
    if (status == LRK_ERR_FORMAT) { /* for its line and column; what lacked memory alone is sound */
        status = load(context, text, n, what, json);
        if (status == LRK_OK) status = lrki_fail_nomem(context, what);
    }
    if (status == LRK_OK) return LRK_OK;
    lrki_json_free(*json);
    *json = NULL;
    return status;
}

void lrki_json_free(lrki_json *json)
{
    json_decref(json);
}

bool lrki_json_is_object(const lrki_json *json)
{
    return json_is_object(json);
}

bool lrki_json_is_array(const lrki_json *json)
{
    return json_is_array(json);
}

bool lrki_json_is_null(const lrki_json *json)
{
    return json_is_null(json);
}

bool lrki_json_integer(const lrki_json *json, int64_t *value)
{
    if (!json_is_integer(json)) return false;
    *value = json_integer_value(json);
    return true;
}

bool lrki_json_number(const lrki_json *json, double *value)
{
    if (!json_is_number(json)) return false;
    *value = json_number_value(json);
    return true;
}

bool lrki_json_boolean(const lrki_json *json, bool *value)
{
    if (!json_is_boolean(json)) return false;
    *value = json_is_true(json);
    return true;
}

const char *lrki_json_text(const lrki_json *json)
{
    return json_string_value(json);
}

const lrki_json *lrki_json_get(const lrki_json *object, const char *key)
{
    return json_object_get(object, key);
}

const lrki_json *lrki_json_at(const lrki_json *array, int64_t i)
{
    return i < 0 ? NULL : json_array_get(array, (size_t)i);
}

int64_t lrki_json_count(const lrki_json *json)
{
    return (int64_t)(json_is_array(json) ? json_array_size(json) : json_object_size(json));
}

static lrki_json_cursor cursor_at(void *at)
{
    lrki_json_cursor cursor = {at, json_object_iter_key(at), json_object_iter_value(at)};
    return cursor;
}

/* Jansson's iterators take a mutable object but change nothing. */
lrki_json_cursor lrki_json_first(const lrki_json *object)
{
    return cursor_at(json_object_iter((json_t *)object));
}

lrki_json_cursor lrki_json_next(const lrki_json *object, lrki_json_cursor cursor)
{
    return cursor_at(json_object_iter_next((json_t *)object, cursor.at));
}

lrki_json *lrki_json_new_object(void)
{
    return json_object();
}

lrki_json *lrki_json_new_array(void)
{
    return json_array();
}

lrki_json *lrki_json_new_integer(int64_t value)
{
    return json_integer(value);
}

lrki_json *lrki_json_new_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

lrki_json *lrki_json_new_boolean(bool value)
{
    return json_boolean(value);
}

lrki_json *lrki_json_new_text(const char *text)
{
    return text == NULL ? json_null() : json_string(text);
}

static void spoil(lrki_json **json)
{
    json_decref(*json);
    *json = NULL;
}

void lrki_json_put(lrki_json **object, const char *key, lrki_json *value)
{
    if (*object == NULL) {
        json_decref(value);
        return;
    }
    if (json_object_set_new(*object, key, value) != 0) spoil(object);
}

void lrki_json_append(lrki_json **array, lrki_json *value)
{
    if (*array == NULL) {
        json_decref(value);
        return;
    }
    if (json_array_append_new(*array, value) != 0) spoil(array);
}

typedef struct printing {
    lrk_context *context;
    lrki_bytes *text;
    bool failed; /* Jansson goes on after some failures */
} printing;

enum { LEAST_ROOM = 512 };

/* Room for n more, for a NUL and what callers add. */
static bool make_room(const printing *p, size_t n)
{
    lrki_bytes *text = p->text, more = {.n = text->n, .allocated = text->n + n + 1 + LRKI_JSON_SPARE};
    if (more.allocated <= text->allocated) return true;
    size_t usual = text->allocated > 0 ? 2 * text->allocated : LEAST_ROOM;
    if (more.allocated < usual) more.allocated = usual;
    more.data = lrki_alloc(p->context, more.allocated);
    if (more.data == NULL) return false;
    if (text->n > 0) memcpy(more.data, text->data, text->n);
    lrki_bytes_free(p->context, text);
    *text = more;
    return true;
}

static int add_text(const char *text, size_t n, void *user)
{
    printing *p = user;
    p->failed = p->failed || !make_room(p, n);
    if (p->failed) return -1;
    memcpy(p->text->data + p->text->n, text, n);
    p->text->n += n;
    return 0;
}

/* One walk, though the length is not known before it: long texts are slow to walk. */
lrk_status lrki_json_print(lrk_context *context, const lrki_json *json, int32_t indent, lrki_bytes *text)
{
    size_t flags = JSON_REAL_PRECISION(17) | (indent > 0 ? JSON_INDENT(indent) : (size_t)JSON_COMPACT);
    printing p = {context, text, false};
    memset(text, 0, sizeof *text);
    if (json != NULL && json_dump_callback(json, add_text, &p, flags) == 0 && !p.failed) {
        memset(text->data + text->n, 0, 1 + LRKI_JSON_SPARE);
        return LRK_OK;
    }
    lrki_bytes_free(context, text);
    return lrki_fail_nomem(context, "JSON text");
}

void lrki_bytes_free(lrk_context *context, lrki_bytes *bytes)
{
    lrki_free(context, bytes->data, bytes->allocated);
    memset(bytes, 0, sizeof *bytes);
}

/* Length of the UTF-8 sequence at s, 0 if there is none (overlong, surrogate, above U+10FFFF). */
static size_t utf8_sequence(const unsigned char *s)
{
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 0;
    size_t n = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if (s[0] == 0xE0 && s[1] < 0xA0) return 0;
    if (s[0] == 0xED && s[1] > 0x9F) return 0;
    if (s[0] == 0xF0 && s[1] < 0x90) return 0;
    if (s[0] == 0xF4 && s[1] > 0x8F) return 0;
    return n;
}

bool lrki_utf8_valid(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s != 0) {
        size_t n = utf8_sequence(s);
        if (n == 0) return false;
        s += n;
    }
    return true;
}
