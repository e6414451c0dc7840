/* SPDX-License-Identifier: MIT */
/*
 * Streams: where files come from and go to when they have no path. Formats take a path or one of these.
 * Threads: a callback runs on the thread that called lorank and must not use the handle that it serves.
 */
#ifndef LRK_IO_H
#define LRK_IO_H

#include <stddef.h>
#include <stdint.h>

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a file's bytes come from: memory, an archive, a socket's spool. Copied at the call. */
typedef struct lrk_reader {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    void *user;
    /* Fills data[0..n) with bytes offset..offset+n; only asked for ranges within `size`. Non-zero: LRK_ERR_IO. */
    int32_t (*read_at)(void *user, uint64_t offset, void *data, size_t n);
    uint64_t size;    /* bytes in all */
    const char *name; /* for details [NULL: "the reader"]; borrowed for the life of what reads */
} lrk_reader;

/* Where a file's bytes go, in order. Non-zero: LRK_ERR_IO. The host makes the whole atomic (or not). */
typedef struct lrk_writer {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    void *user;
    int32_t (*write)(void *user, const void *data, size_t n);
    const char *name; /* for details [NULL: "the writer"] */
} lrk_writer;

/* A reader over n bytes of memory, borrowed. reader->struct_size must be set. Errors: LRK_ERR_ARGUMENT. Since 0.1 */
LRK_API lrk_status lrk_reader_memory(lrk_reader *reader, const void *data, size_t n);

#ifdef __cplusplus
}
#endif

#endif
