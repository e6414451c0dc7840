/* SPDX-License-Identifier: MIT */
/*
 * Base64. Decoding is strict: the exact length, the standard alphabet, padding where it belongs, and no set bits in it.
 */
#include "base64.h"

#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static size_t text_length(size_t n)
{
    return (n + 2) / 3 * 4;
}

static void encode(const unsigned char *bytes, size_t n, char *text)
{
    for (size_t i = 0; i < n; i += 3, text += 4) {
        size_t left = n - i;
        uint32_t word = (uint32_t)bytes[i] << 16;
        if (left > 1) word |= (uint32_t)bytes[i + 1] << 8;
        if (left > 2) word |= bytes[i + 2];
        text[0] = alphabet[word >> 18];
        text[1] = alphabet[word >> 12 & 63];
        text[2] = (char)(left > 1 ? alphabet[word >> 6 & 63] : '=');
        text[3] = (char)(left > 2 ? alphabet[word & 63] : '=');
    }
    *text = '\0';
}

lrki_json *lrki_base64_json(lrk_context *context, const void *bytes, size_t n)
{
    size_t length = text_length(n) + 1;
    char *text = lrki_alloc(context, length);
    if (text == NULL) return NULL;
    encode(bytes, n, text);
    lrki_json *json = lrki_json_new_text(text);
    lrki_free(context, text, length);
    return json;
}

/* Value of a digit, 64 if it is none. */
static uint32_t digit(char c)
{
    if (c >= 'A' && c <= 'Z') return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z') return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9') return (uint32_t)(c - '0') + 52;
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

static bool decode_word(const char *text, size_t left, unsigned char *bytes)
{
    uint32_t word = 0;
    size_t digits = left >= 3 ? 4 : left + 1;
    for (size_t i = 0; i < 4; i++) {
        uint32_t value = i < digits ? digit(text[i]) : text[i] == '=' ? 0 : 64;
        if (value > 63) return false;
        word = word << 6 | value;
    }
    for (size_t i = 0; i < 3; i++) {
        unsigned char byte = (unsigned char)(word >> (16 - 8 * i));
        if (i < left)
            bytes[i] = byte;
        else if (byte != 0)
            return false;
    }
    return true;
}

bool lrki_base64_decode(const char *text, void *bytes, size_t n)
{
    unsigned char *to = bytes;
    if (text == NULL || strlen(text) != text_length(n)) return false;
    for (size_t i = 0; i < n; i += 3)
        if (!decode_word(text + i / 3 * 4, n - i, to + i)) return false;
    return true;
}
