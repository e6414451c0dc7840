/* SPDX-License-Identifier: MIT */
/*
 * Base64. Decoding is strict: the exact length, the standard alphabet, padding where it belongs, and no set bits in it.
 */
#include "base64.h"

#include <limits.h>
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

/* Value of a digit and 1, or 0 if it is none. */
static const unsigned char digits_and_1[UCHAR_MAX + 1] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64};

static uint32_t digit(char c)
{
    return digits_and_1[(unsigned char)c] - 1u;
}

size_t lrki_base64_bytes(const char *text)
{
    size_t n = text == NULL ? 0 : strlen(text);
    size_t padding = n >= 4 ? (size_t)(text[n - 1] == '=') + (size_t)(text[n - 2] == '=') : 0;
    return n / 4 * 3 - padding;
}

static bool decode_word(const char *text, size_t left, unsigned char *bytes)
{
    uint32_t word = 0;
    size_t digits = left >= 3 ? 4 : left + 1;
    for (size_t i = 0; i < 4; i++) {
        uint32_t value = i < digits ? digit(text[i]) : text[i] == '=' ? 0 : UINT32_MAX;
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
