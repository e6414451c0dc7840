/* SPDX-License-Identifier: MIT */
/*
 * Memory: the only calls of the host's allocator, and the checked sizes that lead to them. Every block is
 * LRKI_ALIGN-aligned and released with the size it was asked for. Callers report a NULL in their own words.
 */
#include <string.h>

#include "context.h"

void *lrki_alloc(lrk_context *context, size_t size)
{
    if (size == 0) return NULL;
    return context->host.allocate(context->host.memory_user, size, LRKI_ALIGN);
}

void *lrki_alloc_zeroed(lrk_context *context, size_t size)
{
    void *memory = lrki_alloc(context, size);
    if (memory != NULL) memset(memory, 0, size);
    return memory;
}

void lrki_free(lrk_context *context, void *memory, size_t size)
{
    if (memory != NULL) context->host.release(context->host.memory_user, memory, size);
}

/* Bytes of an array; 0 if the product does not fit. */
static size_t array_bytes(int64_t n, size_t size)
{
    if (n < 0 || (n > 0 && size > SIZE_MAX / (uint64_t)n)) return 0;
    size_t bytes = (size_t)n * size;
    return bytes > 0 ? bytes : 1;
}

void *lrki_array(lrk_context *context, int64_t n, size_t size)
{
    return lrki_alloc_zeroed(context, array_bytes(n, size));
}

void lrki_array_free(lrk_context *context, void *memory, int64_t n, size_t size)
{
    lrki_free(context, memory, array_bytes(n, size));
}

char *lrki_text_copy(lrk_context *context, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = lrki_alloc(context, size);
    if (copy != NULL) memcpy(copy, text, size);
    return copy;
}

void lrki_text_free(lrk_context *context, char *text)
{
    if (text != NULL) lrki_free(context, text, strlen(text) + 1);
}
