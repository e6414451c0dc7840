/* SPDX-License-Identifier: MIT */
/* The counting allocator of mem.h: each block is preceded by one cache line that holds its size. */
#include "mem.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER = 64 };

static size_t bytes_now;
static size_t bytes_peak;

void *mem_alloc(size_t bytes)
{
    if (bytes == 0 || bytes > SIZE_MAX - 2 * HEADER) return NULL;
    size_t rounded = (bytes + HEADER - 1) / HEADER * HEADER;
    unsigned char *base = aligned_alloc(HEADER, HEADER + rounded);
    if (base == NULL) return NULL;
    memset(base, 0, HEADER + rounded);
    memcpy(base, &bytes, sizeof bytes);
    bytes_now += bytes;
    if (bytes_now > bytes_peak) bytes_peak = bytes_now;
    return base + HEADER;
}

void *mem_alloc_array(int64_t n, size_t item_bytes)
{
    if (n <= 0 || item_bytes == 0 || (uint64_t)n > SIZE_MAX / item_bytes) return NULL;
    return mem_alloc((size_t)n * item_bytes);
}

void mem_free(void *block)
{
    if (block == NULL) return;
    unsigned char *base = (unsigned char *)block - HEADER;
    size_t bytes;
    memcpy(&bytes, base, sizeof bytes);
    bytes_now -= bytes;
    free(base);
}

size_t mem_bytes_now(void)
{
    return bytes_now;
}

size_t mem_bytes_peak(void)
{
    return bytes_peak;
}
