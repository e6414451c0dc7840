/* SPDX-License-Identifier: MIT */
/*
 * Long strings in JSON: Jansson takes about 20 ns a byte of them. Those whose bytes need no look - printable ASCII, no escapes but
 * of quotes and backslashes - are lifted out of what it reads: values, not keys, of LRKI_LIFT_LEAST bytes or more. In their
 * place stands a string of a character that only an escape can write and of the place in the text; a text that has strings
 * beginning with that escape is left alone.
 */
#ifndef LRKI_JSON_LIFT_H
#define LRKI_JSON_LIFT_H

#include "json.h"

#define LRKI_LIFT_LEAST 1024

/* The text without long strings; lean->data is NULL if there are none. Not a check: what is no JSON stays none. LRK_ERR_NOMEM. */
lrk_status lrki_json_lift(lrk_context *context, const char *text, size_t n, lrki_bytes *lean);

/* What a string of the lean text's tree stands for; value->data is NULL if for itself. LRK_ERR_NOMEM. */
lrk_status lrki_json_lifted(lrk_context *context, const char *string, const char *text, lrki_bytes *value);

#endif
