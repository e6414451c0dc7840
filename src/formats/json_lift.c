/* SPDX-License-Identifier: MIT */
#include "json_lift.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK        '\1'
#define MARK_ESCAPE "\\u0001"

enum { STAND_IN_MOST = 40 };

/* The quote that ends the string whose bytes begin at `at`, or NULL. */
static const char *closing_quote(const char *at, const char *end, bool *plain)
{
    for (*plain = true; at < end && *at != '"'; at++) {
        if (*at == '\\') {
            if (++at == end) return NULL;
            if (*at != '"' && *at != '\\') *plain = false;
        } else if (*at < ' ' || *at > '~')
            *plain = false;
    }
    return at < end ? at : NULL;
}

static bool is_key(const char *after, const char *end)
{
    while (after < end && strchr(" \t\r\n", *after) != NULL && *after != '\0')
        after++;
    return after < end && *after == ':';
}

static void append(lrki_bytes *lean, const char *from, size_t n)
{
    memcpy(lean->data + lean->n, from, n);
    lean->n += n;
}

/* The text up to the string at offset `at`, from where the last copy ended, and a string that stands in for it. */
static lrk_status stand_in(lrk_context *context, const char *text, size_t n, size_t copied, size_t at,
                           lrki_bytes *lean)
{
    char string[STAND_IN_MOST];
    if (lean->data == NULL) {
        *lean = (lrki_bytes){.data = lrki_alloc(context, n), .allocated = n};
        if (lean->data == NULL) return lrki_fail_nomem(context, "JSON text");
    }
    append(lean, text + copied, at - copied);
    append(lean, string, (size_t)snprintf(string, sizeof string, MARK_ESCAPE "%zu", at));
    return LRK_OK;
}

lrk_status lrki_json_lift(lrk_context *context, const char *text, size_t n, lrki_bytes *lean)
{
    const char *end = text + n, *at = text, *copied = text, *close;
    bool plain;
    *lean = (lrki_bytes){0};
    while (n > LRKI_LIFT_LEAST && (at = memchr(at, '"', (size_t)(end - at))) != NULL &&
           (close = closing_quote(++at, end, &plain)) != NULL) {
        lrk_status status = LRK_OK;
        if (strncmp(at, MARK_ESCAPE, strlen(MARK_ESCAPE)) == 0) {
            lrki_bytes_free(context, lean);
            return LRK_OK;
        }
        if (plain && close - at >= LRKI_LIFT_LEAST && !is_key(close + 1, end)) {
            status = stand_in(context, text, n, (size_t)(copied - text), (size_t)(at - text), lean);
            copied = close;
        }
        if (status != LRK_OK) return status;
        at = close + 1;
    }
    if (lean->data != NULL) append(lean, copied, (size_t)(end - copied));
    return LRK_OK;
}

lrk_status lrki_json_lifted(lrk_context *context, const char *string, const char *text, lrki_bytes *value)
{
    *value = (lrki_bytes){0};
    if (*string != MARK) return LRK_OK;
    const char *at = text + strtoull(string + 1, NULL, 10), *close = at;
    while (*close != '"')
        close += 1 + (*close == '\\');
    *value =
        (lrki_bytes){.data = lrki_alloc(context, (size_t)(close - at)), .allocated = (size_t)(close - at)};
    if (value->data == NULL) return lrki_fail_nomem(context, "JSON text");
    while (at < close) {
        const char *escape = memchr(at, '\\', (size_t)(close - at));
        size_t n = (size_t)((escape != NULL ? escape : close) - at);
        append(value, at, n);
        at += n;
        if (escape == NULL) break;
        append(value, escape + 1, 1);
        at += 2;
    }
    return LRK_OK;
}
