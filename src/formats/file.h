/* SPDX-License-Identifier: MIT */
/*
 * Files: reading a whole small file, reading at a position, and replacing a file in one step (temporary file in the same
 * folder, fsync, rename, fsync of the folder). After a failed replacement the temporary is gone, and the old file stands
 * unless it was the disk that failed, when the folder was synced.
 * Failures are LRK_ERR_IO (opening an absent file: LRK_ERR_NOT_FOUND) with a detail that names path and reason.
 */
#ifndef LRKI_FILE_H
#define LRKI_FILE_H

#include "json.h"

/* "<what> <path>: <reason of errno>" */
lrk_status lrki_fail_io(lrk_context *context, const char *what, const char *path, int error);

/* Opens a regular file for reading; *fd is -1 on failure. */
lrk_status lrki_file_open(lrk_context *context, const char *path, int *fd, int64_t *size);
lrk_status lrki_file_read_at(lrk_context *context, int fd, const char *path, int64_t offset, void *data,
                             size_t n);

/* The whole file with a NUL after it. A larger one than `limit` is LRK_ERR_FORMAT. Free with lrki_bytes_free(). */
lrk_status lrki_file_load(lrk_context *context, const char *path, int64_t limit, lrki_bytes *bytes);

lrk_status lrki_fd_write(lrk_context *context, int fd, const char *path, const void *data, size_t n);

/* "<directory>/<name>", freed by lrki_text_free(); NULL with an error recorded on lack of memory. */
char *lrki_path_join(lrk_context *context, const char *directory, const char *name);

/* Makes a folder unless it is there (*made says which) and syncs its parent. */
lrk_status lrki_folder_make(lrk_context *context, const char *path, bool *made);

/* A file being replaced. Zero-initialise; lrki_replacement_abandon() is right at any time and after a commit. */
typedef struct lrki_replacement {
    lrk_context *context;
    char *path;
    char *folder; /* part of the path, in a block of strlen(path) + 2 */
    char *temporary;
    int fd;
    bool is_open;
    bool is_pending; /* the temporary file exists */
} lrki_replacement;

lrk_status lrki_replacement_begin(lrk_context *context, const char *path, lrki_replacement *file);
lrk_status lrki_replacement_write(lrki_replacement *file, const void *data, size_t n);
lrk_status lrki_replacement_sync(lrki_replacement *file);   /* nothing is written after it             */
lrk_status lrki_replacement_commit(lrki_replacement *file); /* needs sync; the new file is in its place */
void lrki_replacement_abandon(lrki_replacement *file);

#endif
