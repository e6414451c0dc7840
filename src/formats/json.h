/* SPDX-License-Identifier: MIT */
/*
 * JSON for the formats: Jansson behind thin helpers, and UTF-8. The library includes jansson.h in json.c alone.
 * Trees are allocated by libc (Jansson has one allocator per process), everything else by the context.
 * Building is sticky: NULL stands for lack of memory, and putting NULL into a tree frees the tree and leaves NULL, so
 * that one look at the root tells whether all went well.
 */
#ifndef LRKI_JSON_H
#define LRKI_JSON_H

#include "../core/core.h"

typedef struct json_t lrki_json;

/*
 * Parses n bytes, strictly: UTF-8, one value that is an object or array, no duplicate keys, nothing after it.
 * LRK_ERR_FORMAT (the detail begins with `what` and gives line and column) or LRK_ERR_NOMEM.
 */
lrk_status lrki_json_parse(lrk_context *context, const char *text, size_t n, const char *what,
                           lrki_json **json);
void lrki_json_free(lrki_json *json); /* NULL is ignored */

/* Reading. Each function accepts NULL, and says false, NULL or 0 for a value of another type. */
bool lrki_json_is_object(const lrki_json *json);
bool lrki_json_is_array(const lrki_json *json);
bool lrki_json_is_null(const lrki_json *json);
bool lrki_json_integer(const lrki_json *json, int64_t *value);
bool lrki_json_number(const lrki_json *json, double *value); /* integers too */
bool lrki_json_boolean(const lrki_json *json, bool *value);
const char *lrki_json_text(const lrki_json *json);
const lrki_json *lrki_json_get(const lrki_json *object, const char *key);
const lrki_json *lrki_json_at(const lrki_json *array, int64_t i);
int64_t lrki_json_count(const lrki_json *json); /* elements of an array, members of an object */

/* Members in the order of the text. A cursor NULL means the end. */
typedef struct lrki_json_cursor {
    void *at;
    const char *key;
    const lrki_json *value;
} lrki_json_cursor;

lrki_json_cursor lrki_json_first(const lrki_json *object);
lrki_json_cursor lrki_json_next(const lrki_json *object, lrki_json_cursor cursor);

/* Building: values, and containers that take them over. Texts must be UTF-8 (lrki_utf8_valid). */
lrki_json *lrki_json_new_object(void);
lrki_json *lrki_json_new_array(void);
lrki_json *lrki_json_new_integer(int64_t value);
lrki_json *lrki_json_new_real(double value); /* null if not finite */
lrki_json *lrki_json_new_boolean(bool value);
lrki_json *lrki_json_new_text(const char *text); /* null if NULL */
void lrki_json_put(lrki_json **object, const char *key, lrki_json *value);
void lrki_json_append(lrki_json **array, lrki_json *value);

/* Text of a tree: reals with 17 digits, members in the order they were put. Room for LRKI_JSON_SPARE bytes follows. */
#define LRKI_JSON_SPARE 8

typedef struct lrki_bytes {
    char *data;
    size_t n;
    size_t allocated;
} lrki_bytes;

/* indent 0: compact, on one line. json NULL is LRK_ERR_NOMEM. The text also ends in a NUL that n does not count. */
lrk_status lrki_json_print(lrk_context *context, const lrki_json *json, int32_t indent, lrki_bytes *text);
void lrki_bytes_free(lrk_context *context, lrki_bytes *bytes);

bool lrki_utf8_valid(const char *text);

#endif
