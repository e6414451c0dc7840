/* SPDX-License-Identifier: MIT */
/*
 * The metadata of a GGUF file: the keys that say what an adapter is, the types of all values, and that no key comes
 * twice. Values of other keys are skipped unread; a bool in them may be any byte.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/core.h"
#include "gguf_parts.h"
#include "json.h"

#define KEY_MOST   65535 /* of the format */
#define PAIR_LEAST 14    /* bytes of a pair: length, one byte of key, type, one byte of value */

/* Bytes of a value of each type; 0: a length tells. */
static const unsigned char widths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
#define N_TYPES (sizeof widths / sizeof widths[0])

static lrk_status fail_key(const lrki_gguf_file *file, const char *key, const char *what)
{
    return lrki_fail(file->context, LRK_ERR_FORMAT, "%s: key '%s': %s", file->source->name, key, what);
}

/* ---- values ---- */

static lrk_status skip_strings(lrki_gguf_cursor *cursor, uint64_t n)
{
    lrk_status status = LRK_OK;
    for (uint64_t i = 0; i < n && status == LRK_OK; i++) {
        uint64_t length = 0;
        status = lrki_gguf_take_u64(cursor, &length);
        if (status == LRK_OK) status = lrki_gguf_skip(cursor, length);
    }
    return status;
}

static lrk_status skip_array(const lrki_gguf_file *file, lrki_gguf_cursor *cursor, const char *key)
{
    uint32_t type = 0;
    uint64_t n = 0;
    lrk_status status = lrki_gguf_take_u32(cursor, &type);
    if (status == LRK_OK) status = lrki_gguf_take_u64(cursor, &n);
    if (status != LRK_OK) return status;
    if (type >= N_TYPES || type == LRKI_GGUF_ARRAY)
        return fail_key(file, key, "elements of an unknown type, or arrays");
    uint64_t least = type == LRKI_GGUF_STRING ? sizeof(uint64_t) : widths[type];
    if (n > lrki_gguf_left(cursor) / least)
        return fail_key(file, key, "more elements than the file can hold");
    return type == LRKI_GGUF_STRING ? skip_strings(cursor, n) : lrki_gguf_skip(cursor, n * least);
}

static lrk_status skip_value(const lrki_gguf_file *file, lrki_gguf_cursor *cursor, const char *key,
                             uint32_t type)
{
    if (type >= N_TYPES) return fail_key(file, key, "a value of an unknown type");
    if (type == LRKI_GGUF_STRING) return skip_strings(cursor, 1);
    if (type == LRKI_GGUF_ARRAY) return skip_array(file, cursor, key);
    return lrki_gguf_skip(cursor, widths[type]);
}

static lrk_status take_name(const lrki_gguf_file *file, lrki_gguf_cursor *cursor, const char *key,
                            uint32_t type, char name[LRKI_GGUF_NAME])
{
    uint64_t n = 0;
    if (type != LRKI_GGUF_STRING) return fail_key(file, key, "not a string");
    lrk_status status = lrki_gguf_take_u64(cursor, &n);
    if (status != LRK_OK) return status;
    if (n >= LRKI_GGUF_NAME) return fail_key(file, key, "a longer text than makes sense");
    status = lrki_gguf_take(cursor, name, (size_t)n);
    name[n] = '\0';
    if (status == LRK_OK && (strlen(name) != n || !lrki_utf8_valid(name))) {
        name[0] = '\0';
        return fail_key(file, key, "not UTF-8, or a NUL in it");
    }
    return status;
}

static lrk_status take_alpha(lrki_gguf_file *file, lrki_gguf_cursor *cursor, uint32_t type)
{
    if (type != LRKI_GGUF_F32) return fail_key(file, LRKI_GGUF_KEY_ALPHA, "not an f32");
    lrk_status status = lrki_gguf_take(cursor, &file->alpha, sizeof file->alpha);
    if (status != LRK_OK) return status;
    return isfinite(file->alpha) ? LRK_OK : fail_key(file, LRKI_GGUF_KEY_ALPHA, "not finite");
}

static lrk_status take_alignment(lrki_gguf_file *file, lrki_gguf_cursor *cursor, uint32_t type)
{
    if (type != LRKI_GGUF_U32) return fail_key(file, LRKI_GGUF_KEY_ALIGNMENT, "not a u32");
    lrk_status status = lrki_gguf_take_u32(cursor, &file->alignment);
    if (status != LRK_OK) return status;
    uint32_t alignment = file->alignment;
    if (alignment != 0 && (alignment & (alignment - 1)) == 0) return LRK_OK;
    return fail_key(file, LRKI_GGUF_KEY_ALIGNMENT, "not a power of two");
}

static lrk_status take_value(lrki_gguf_file *file, lrki_gguf_cursor *cursor, const char *key)
{
    uint32_t type = 0;
    lrk_status status = lrki_gguf_take_u32(cursor, &type);
    if (status != LRK_OK) return status;
    if (strcmp(key, LRKI_GGUF_KEY_TYPE) == 0) return take_name(file, cursor, key, type, file->type);
    if (strcmp(key, LRKI_GGUF_KEY_ADAPTER) == 0) return take_name(file, cursor, key, type, file->adapter);
    if (strcmp(key, LRKI_GGUF_KEY_ARCHITECTURE) == 0)
        return take_name(file, cursor, key, type, file->architecture);
    if (strcmp(key, LRKI_GGUF_KEY_ALPHA) == 0) return take_alpha(file, cursor, type);
    if (strcmp(key, LRKI_GGUF_KEY_ALIGNMENT) == 0) return take_alignment(file, cursor, type);
    if (strcmp(key, LRKI_GGUF_KEY_INVOCATION) == 0)
        return lrki_fail(file->context, LRK_ERR_UNSUPPORTED,
                         "%s: an adapter that acts only after invocation tokens (%s)", file->source->name,
                         key);
    return skip_value(file, cursor, key, type);
}

/* ---- keys ---- */

/* The next key into the file's list, where it is freed from. */
static lrk_status take_key(lrki_gguf_file *file, lrki_gguf_cursor *cursor, const char **key)
{
    uint64_t n = 0;
    lrk_status status = lrki_gguf_take_u64(cursor, &n);
    if (status != LRK_OK) return status;
    if (n == 0 || n > KEY_MOST || n > lrki_gguf_left(cursor))
        return lrki_gguf_fail(file->source, "a key that is empty or too long");
    char *text = lrki_alloc_zeroed(file->context, (size_t)n + 1);
    if (text == NULL) return lrki_fail_nomem(file->context, file->source->name);
    status = lrki_gguf_take(cursor, text, (size_t)n);
    if (status == LRK_OK && (strlen(text) != n || !lrki_utf8_valid(text)))
        status = lrki_gguf_fail(file->source, "a key that is not UTF-8, or has a NUL in it");
    if (status != LRK_OK) {
        lrki_free(file->context, text, (size_t)n + 1);
        return status;
    }
    file->keys[file->n_keys++] = text;
    *key = text;
    return LRK_OK;
}

static int by_text(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static lrk_status check_unique(const lrki_gguf_file *file)
{
    qsort(file->keys, (size_t)file->n_keys, sizeof *file->keys, by_text);
    for (int64_t i = 1; i < file->n_keys; i++)
        if (strcmp(file->keys[i - 1], file->keys[i]) == 0)
            return fail_key(file, file->keys[i], "comes twice");
    return LRK_OK;
}

lrk_status lrki_gguf_keys_read(lrki_gguf_file *file, lrki_gguf_cursor *cursor, uint64_t n)
{
    lrk_status status = LRK_OK;
    if (n > lrki_gguf_left(cursor) / PAIR_LEAST)
        return lrki_gguf_fail(file->source, "more metadata than the file can hold");
    file->n_key_slots = (int64_t)n;
    file->keys = lrki_array(file->context, file->n_key_slots, sizeof *file->keys);
    if (file->keys == NULL) return lrki_fail_nomem(file->context, file->source->name);
    for (uint64_t i = 0; i < n && status == LRK_OK; i++) {
        const char *key = NULL;
        status = take_key(file, cursor, &key);
        if (status == LRK_OK) status = take_value(file, cursor, key);
    }
    return status == LRK_OK ? check_unique(file) : status;
}
