/* SPDX-License-Identifier: MIT */
/*
 * Well-formed UTF-8 as Unicode defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#include "utf8.h"

#include <stdint.h>

/* Bytes of the character at u, or 0. The smallest code point of each length rules out overlong forms. */
static size_t character_bytes(const unsigned char *u, size_t left)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = u[0] < 0x80             ? 1
               : (u[0] & 0xE0) == 0xC0 ? 2
               : (u[0] & 0xF0) == 0xE0 ? 3
               : (u[0] & 0xF8) == 0xF0 ? 4
                                       : 0;
    if (n <= 1) return n;
    if (n > left) return 0;
    uint32_t code = u[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((u[i] & 0xC0) != 0x80) return 0;
        code = code << 6 | (u[i] & 0x3F);
    }
    if (code < smallest[n] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return 0;
    return n;
}

size_t ft_utf8_valid_prefix(const char *text, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        size_t n = character_bytes((const unsigned char *)text + at, bytes - at);
        if (n == 0) break;
        at += n;
    }
    return at;
}
