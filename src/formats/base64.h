/* SPDX-License-Identifier: MIT */
/*
 * Base64 (RFC 4648, with padding) for binary data inside JSON.
 */
#ifndef LRKI_BASE64_H
#define LRKI_BASE64_H

#include "json.h"

/* The bytes as a JSON text; NULL on lack of memory. */
lrki_json *lrki_base64_json(lrk_context *context, const void *bytes, size_t n);

/* The number of bytes that a text of this length and padding stands for; NULL: 0. */
size_t lrki_base64_bytes(const char *text);

/* True if `text` (may be NULL) is the base64 of exactly n bytes, which then are in bytes[0..n). */
bool lrki_base64_decode(const char *text, void *bytes, size_t n);

#endif
