/* SPDX-License-Identifier: MIT */
/*
 * Streams, internal: one way to read (a file, or a host's reader) and one to write (a file being replaced, or a host's
 * writer). Formats are written against these two alone; a path variant is open + the common routine + commit.
 */
#ifndef LRKI_STREAM_H
#define LRKI_STREAM_H

#include "file.h"
#include "lorank/io.h"

typedef struct lrki_source {
    lrk_context *context;
    char *path; /* NULL: the reader's */
    int fd;
    lrk_reader reader;
    uint64_t size;
    const char *name; /* for details */
} lrki_source;

/* On failure nothing is open. lrki_source_close() accepts a zeroed source. */
lrk_status lrki_source_open(lrk_context *context, const char *path, lrki_source *source);
lrk_status lrki_source_reader(lrk_context *context, const lrk_reader *reader, lrki_source *source);
lrk_status lrki_source_read(const lrki_source *source, uint64_t offset, void *data, size_t n);
/* All of it with a NUL after it. A larger one than `limit` is LRK_ERR_FORMAT. Free with lrki_bytes_free(). */
lrk_status lrki_source_load(const lrki_source *source, uint64_t limit, lrki_bytes *bytes);
void lrki_source_close(lrki_source *source);

typedef struct lrki_progress {
    void *user;
    int32_t (*call)(void *user, uint64_t done, uint64_t total); /* NULL: nobody asks */
} lrki_progress;

/* Tells how far it is; LRK_ERR_CANCELLED, "progress() stopped <what> after ...", if the host wants no more. */
lrk_status lrki_progress_tell(lrk_context *context, const lrki_progress *progress, const char *what,
                              uint64_t done, uint64_t total);

typedef struct lrki_target {
    lrk_context *context;
    bool is_file;
    lrki_replacement file;
    lrk_writer writer;
    lrki_progress progress; /* of whoever writes; none once opened */
} lrki_target;

lrk_status lrki_target_open(lrk_context *context, const char *path, lrki_target *target);
lrk_status lrki_target_writer(lrk_context *context, const lrk_writer *writer, lrki_target *target);
lrk_status lrki_target_write(lrki_target *target, const void *data, size_t n);
/* Tells bytes written, in the format's own account; LRK_ERR_CANCELLED if the host wants no more. */
lrk_status lrki_target_tell(const lrki_target *target, uint64_t done, uint64_t total);
/* Syncs and puts a file in its place. */
lrk_status lrki_target_commit(lrki_target *target);
void lrki_target_abandon(lrki_target *target); /* right at any time */

#endif
