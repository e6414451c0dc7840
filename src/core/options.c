/* SPDX-License-Identifier: MIT */
/*
 * Structs that callers fill: one place for the rules of struct_size, so that every struct follows them. A struct is
 * bytes here; its first 4 hold struct_size. What the members mean is the caller's business.
 */
#include <string.h>

#include "core.h"

#define HEAD (2 * sizeof(uint32_t)) /* struct_size and the member after it */
#define MOST 4096                   /* a larger struct_size is one that was never set */

static uint32_t size_of(const void *structure)
{
    uint32_t size;
    memcpy(&size, structure, sizeof size);
    return size;
}

static bool is_zero(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0) return false;
    return true;
}

static lrk_status never_set(lrk_context *context, const char *name, size_t size)
{
    return lrki_fail(context, LRK_ERR_ARGUMENT,
                     "%s: struct_size %zu cannot be: set it to sizeof the struct, as its init function does",
                     name, size);
}

lrk_status lrki_struct_read(lrk_context *context, void *known, size_t known_size, const void *given,
                            size_t least, const char *name)
{
    uint32_t own = (uint32_t)known_size;
    if (given == NULL) {
        memcpy(known, &own, sizeof own);
        return LRK_OK;
    }
    size_t size = size_of(given);
    if (size < HEAD || size > MOST) return never_set(context, name, size);
    if (size < least)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "%s: struct_size %zu is smaller than %zu", name, size,
                         least);
    if (size > known_size && !is_zero((const unsigned char *)given + known_size, size - known_size))
        return lrki_fail(context, LRK_ERR_VERSION,
                         "%s: struct_size %zu is larger than the %zu known here and the tail is not zero",
                         name, size, known_size);
    memcpy(known, given, size < known_size ? size : known_size);
    memcpy(known, &own, sizeof own);
    return LRK_OK;
}

/* Writes `filled` over out[sizeof(uint32_t)..size) and zeroes what it does not reach. */
static void spread(void *out, size_t size, const void *filled, size_t filled_size)
{
    unsigned char *bytes = out;
    size_t n = size < filled_size ? size : filled_size;
    memcpy(bytes + sizeof(uint32_t), (const unsigned char *)filled + sizeof(uint32_t), n - sizeof(uint32_t));
    memset(bytes + n, 0, size - n);
}

lrk_status lrki_struct_write(lrk_context *context, void *out, const void *filled, size_t filled_size,
                             const char *name)
{
    if (out == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "%s must not be NULL", name);
    size_t size = size_of(out);
    if (size < HEAD || size > MOST) return never_set(context, name, size);
    spread(out, size, filled, filled_size);
    return LRK_OK;
}

lrk_status lrki_struct_init(void *out, size_t struct_size, const void *defaults, size_t defaults_size)
{
    if (out == NULL || struct_size < HEAD || struct_size > MOST) return LRK_ERR_ARGUMENT;
    uint32_t size = (uint32_t)struct_size;
    memcpy(out, &size, sizeof size);
    spread(out, struct_size, defaults, defaults_size);
    return LRK_OK;
}

lrk_status lrki_struct_read_at(lrk_context *context, void *known, size_t known_size, const void *array,
                               int64_t i, size_t least, const char *name)
{
    const void *given = (const unsigned char *)array + (size_t)i * size_of(array);
    if (size_of(given) != size_of(array))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "%s %lld: struct_size differs from the first one's", name,
                         (long long)i);
    return lrki_struct_read(context, known, known_size, given, least, name);
}
