/* SPDX-License-Identifier: MIT */
/*
 * POSIX files behind the context's error details. Reads carry their own position, so that threads share a descriptor.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES        ((size_t)1 << 30) /* read and write move at most 0x7ffff000 bytes a call on Linux */
#define TEMPORARY_ATTEMPTS 100

static lrk_status fail_system(lrk_context *context, lrk_status status, const char *what, const char *path,
                              int error)
{
    char reason[128] = "unknown reason";
    if (strerror_r(error, reason, sizeof reason) != 0) snprintf(reason, sizeof reason, "error %d", error);
    return lrki_fail(context, status, "%s %s: %s", what, path, reason);
}

lrk_status lrki_fail_io(lrk_context *context, const char *what, const char *path, int error)
{
    return fail_system(context, LRK_ERR_IO, what, path, error);
}

lrk_status lrki_file_open(lrk_context *context, const char *path, int *fd, int64_t *size)
{
    struct stat facts;
    /* O_NONBLOCK: opening a FIFO must not wait for its writer. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return fail_system(context, errno == ENOENT ? LRK_ERR_NOT_FOUND : LRK_ERR_IO, "cannot open", path,
                           errno);
    lrk_status status = LRK_OK;
    if (fstat(*fd, &facts) != 0)
        status = lrki_fail_io(context, "cannot examine", path, errno);
    else if (!S_ISREG(facts.st_mode))
        status = lrki_fail(context, LRK_ERR_IO, "cannot read %s: not a regular file", path);
    if (status != LRK_OK) {
        close(*fd);
        *fd = -1;
        return status;
    }
    *size = facts.st_size;
    return LRK_OK;
}

lrk_status lrki_file_read_at(lrk_context *context, int fd, const char *path, int64_t offset, void *data,
                             size_t n)
{
    char *to = data;
    while (n > 0) {
        ssize_t got = pread(fd, to, n < CHUNK_BYTES ? n : CHUNK_BYTES, offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return lrki_fail_io(context, "cannot read", path, errno);
        if (got == 0) return lrki_fail(context, LRK_ERR_IO, "cannot read %s: the file ends early", path);
        to += got;
        offset += got;
        n -= (size_t)got;
    }
    return LRK_OK;
}

lrk_status lrki_file_load(lrk_context *context, const char *path, int64_t limit, lrki_bytes *bytes)
{
    int fd;
    int64_t size;
    memset(bytes, 0, sizeof *bytes);
    lrk_status status = lrki_file_open(context, path, &fd, &size);
    if (status != LRK_OK) return status;
    if (size > limit) {
        status = lrki_fail(context, LRK_ERR_FORMAT, "%s: larger than %lld bytes", path, (long long)limit);
        goto done;
    }
    bytes->allocated = (size_t)size + 1;
    bytes->data = lrki_alloc_zeroed(context, bytes->allocated);
    bytes->n = (size_t)size;
    status = bytes->data == NULL ? lrki_fail_nomem(context, path)
                                 : lrki_file_read_at(context, fd, path, 0, bytes->data, bytes->n);
    if (status != LRK_OK) lrki_bytes_free(context, bytes);
done:
    close(fd);
    return status;
}

lrk_status lrki_fd_write(lrk_context *context, int fd, const char *path, const void *data, size_t n)
{
    const char *from = data;
    while (n > 0) {
        ssize_t put = write(fd, from, n < CHUNK_BYTES ? n : CHUNK_BYTES);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return lrki_fail_io(context, "cannot write", path, errno);
        from += put;
        n -= (size_t)put;
    }
    return LRK_OK;
}

static char *text_join(lrk_context *context, const char *a, const char *between, const char *b)
{
    size_t n = strlen(a) + strlen(between) + strlen(b) + 1;
    char *filled = NULL;
    if (n <= INT_MAX) filled = lrki_alloc_zeroed(context, n);
    if (filled == NULL) {
        (void)lrki_fail_nomem(context, "a path");
        return NULL;
    }
    snprintf(filled, n, "%s%s%s", a, between, b);
    return filled;
}

char *lrki_path_join(lrk_context *context, const char *directory, const char *name)
{
    return text_join(context, directory, "/", name);
}

/* Folder part of a path in its own block of strlen(path) + 2 bytes. */
static char *folder_of(lrk_context *context, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t kept = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    char *folder = lrki_alloc_zeroed(context, strlen(path) + 2);
    if (folder == NULL) return NULL;
    if (slash == NULL)
        folder[0] = '.';
    else
        memcpy(folder, path, kept);
    return folder;
}

static lrk_status open_temporary(lrki_replacement *file)
{
    for (int attempt = 0; attempt < TEMPORARY_ATTEMPTS; attempt++) {
        char suffix[48];
        snprintf(suffix, sizeof suffix, "%ld-%d", (long)getpid(), attempt);
        file->temporary = text_join(file->context, file->path, ".tmp-", suffix);
        if (file->temporary == NULL) return LRK_ERR_NOMEM;
        file->fd = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file->fd >= 0) {
            file->is_open = file->is_pending = true;
            return LRK_OK;
        }
        if (errno != EEXIST) return lrki_fail_io(file->context, "cannot create", file->temporary, errno);
        lrki_text_free(file->context, file->temporary);
        file->temporary = NULL;
    }
    return lrki_fail(file->context, LRK_ERR_IO,
                     "cannot create a temporary file beside %s: all names are taken", file->path);
}

lrk_status lrki_replacement_begin(lrk_context *context, const char *path, lrki_replacement *file)
{
    memset(file, 0, sizeof *file);
    file->context = context;
    file->path = lrki_text_copy(context, path);
    file->folder = file->path != NULL ? folder_of(context, path) : NULL;
    lrk_status status = file->folder == NULL ? lrki_fail_nomem(context, "a path") : open_temporary(file);
    if (status != LRK_OK) lrki_replacement_abandon(file);
    return status;
}

lrk_status lrki_replacement_write(lrki_replacement *file, const void *data, size_t n)
{
    return lrki_fd_write(file->context, file->fd, file->temporary, data, n);
}

lrk_status lrki_replacement_sync(lrki_replacement *file)
{
    int failed = fsync(file->fd) != 0 ? errno : 0;
    file->is_open = false;
    if (close(file->fd) != 0 && failed == 0) failed = errno;
    return failed == 0 ? LRK_OK : lrki_fail_io(file->context, "cannot write", file->temporary, failed);
}

/* -1: "cannot sync" is recorded. */
static int open_folder(lrk_context *context, const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) (void)lrki_fail_io(context, "cannot sync", folder, errno);
    return fd;
}

/* Some file systems cannot sync a folder and say EINVAL. Closes it. */
static lrk_status sync_folder(lrk_context *context, const char *folder, int fd)
{
    lrk_status status = LRK_OK;
    if (fsync(fd) != 0 && errno != EINVAL) status = lrki_fail_io(context, "cannot sync", folder, errno);
    close(fd);
    return status;
}

static lrk_status sync_parent(lrk_context *context, const char *path)
{
    char *folder = folder_of(context, path);
    if (folder == NULL) return lrki_fail_nomem(context, "a path");
    int fd = open_folder(context, folder);
    lrk_status status = fd < 0 ? LRK_ERR_IO : sync_folder(context, folder, fd);
    lrki_free(context, folder, strlen(path) + 2);
    return status;
}

lrk_status lrki_folder_make(lrk_context *context, const char *path, bool *made)
{
    struct stat facts;
    *made = mkdir(path, 0777) == 0;
    if (*made) return sync_parent(context, path);
    if (errno != EEXIST) return lrki_fail_io(context, "cannot create", path, errno);
    if (stat(path, &facts) != 0) return lrki_fail_io(context, "cannot examine", path, errno);
    if (S_ISDIR(facts.st_mode)) return LRK_OK;
    return lrki_fail_io(context, "cannot write to", path, ENOTDIR);
}

/* A rename is durable once its folder is. All that it takes is there before, so that only a disk can fail after it. */
lrk_status lrki_replacement_commit(lrki_replacement *file)
{
    int fd = open_folder(file->context, file->folder);
    if (fd < 0) return LRK_ERR_IO;
    if (rename(file->temporary, file->path) == 0) {
        file->is_pending = false;
        return sync_folder(file->context, file->folder, fd);
    }
    lrk_status status = lrki_fail_io(file->context, "cannot replace", file->path, errno);
    close(fd);
    return status;
}

void lrki_replacement_abandon(lrki_replacement *file)
{
    if (file->is_open) close(file->fd);
    if (file->is_pending) unlink(file->temporary);
    if (file->folder != NULL) lrki_free(file->context, file->folder, strlen(file->path) + 2);
    if (file->path != NULL) lrki_text_free(file->context, file->path);
    if (file->temporary != NULL) lrki_text_free(file->context, file->temporary);
    memset(file, 0, sizeof *file);
}
