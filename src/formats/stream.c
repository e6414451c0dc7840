/* SPDX-License-Identifier: MIT */
/* Sources and targets over files and over the host's callbacks. */
#include "stream.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define HEAD (2 * sizeof(uint32_t))

static int32_t read_memory(void *user, uint64_t offset, void *data, size_t n)
{
    memcpy(data, (const char *)user + offset, n);
    return 0;
}

lrk_status lrk_reader_memory(lrk_reader *reader, const void *data, size_t n)
{
    if (reader == NULL || (data == NULL && n > 0)) return LRK_ERR_ARGUMENT;
    const lrk_reader filled = {.user = (void *)data, .read_at = read_memory, .size = n, .name = "memory"};
    return lrki_struct_write(NULL, reader, &filled, sizeof filled, "lrk_reader");
}

lrk_status lrki_source_open(lrk_context *context, const char *path, lrki_source *source)
{
    int64_t size = 0;
    *source = (lrki_source){.context = context, .fd = -1};
    source->path = lrki_text_copy(context, path);
    if (source->path == NULL) return lrki_fail_nomem(context, "a path");
    lrk_status status = lrki_file_open(context, path, &source->fd, &size);
    source->size = (uint64_t)size;
    source->name = source->path;
    if (status != LRK_OK) lrki_source_close(source);
    return status;
}

lrk_status lrki_source_reader(lrk_context *context, const lrk_reader *given, lrki_source *source)
{
    lrk_reader reader = {0};
    *source = (lrki_source){.context = context, .fd = -1};
    lrk_status status = lrki_struct_read(context, &reader, sizeof reader, given, HEAD, "lrk_reader");
    if (status != LRK_OK) return status;
    if (reader.flags != 0 || reader.read_at == NULL || reader.size > INT64_MAX)
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "lrk_reader: no read_at(), unknown flags or a size that cannot be");
    source->reader = reader;
    source->size = reader.size;
    source->name = reader.name != NULL ? reader.name : "the reader";
    return LRK_OK;
}

lrk_status lrki_source_read(const lrki_source *source, uint64_t offset, void *data, size_t n)
{
    if (source->path != NULL)
        return lrki_file_read_at(source->context, source->fd, source->path, (int64_t)offset, data, n);
    uint64_t failures = lrki_failures(source->context);
    int32_t answer = source->reader.read_at(source->reader.user, offset, data, n);
    if (answer == 0) return LRK_OK;
    return lrki_fail_callback(source->context, LRK_ERR_IO, LRKI_NOWHERE, failures,
                              "cannot read %s: read_at() returned %" PRId32, source->name, answer);
}

lrk_status lrki_source_load(const lrki_source *source, uint64_t limit, lrki_bytes *bytes)
{
    *bytes = (lrki_bytes){0};
    if (source->size > limit)
        return lrki_fail(source->context, LRK_ERR_FORMAT, "%s: larger than %" PRIu64 " bytes", source->name,
                         limit);
    bytes->n = (size_t)source->size;
    bytes->allocated = bytes->n + 1;
    bytes->data = lrki_alloc_zeroed(source->context, bytes->allocated);
    if (bytes->data == NULL) return lrki_fail_nomem(source->context, source->name);
    lrk_status status = lrki_source_read(source, 0, bytes->data, bytes->n);
    if (status != LRK_OK) lrki_bytes_free(source->context, bytes);
    return status;
}

void lrki_source_close(lrki_source *source)
{
    if (source->path == NULL) return;
    if (source->fd >= 0) close(source->fd);
    lrki_text_free(source->context, source->path);
    *source = (lrki_source){0};
}

lrk_status lrki_target_open(lrk_context *context, const char *path, lrki_target *target)
{
    *target = (lrki_target){.context = context, .is_file = true};
    return lrki_replacement_begin(context, path, &target->file);
}

lrk_status lrki_target_writer(lrk_context *context, const lrk_writer *given, lrki_target *target)
{
    *target = (lrki_target){.context = context};
    lrk_status status =
        lrki_struct_read(context, &target->writer, sizeof target->writer, given, HEAD, "lrk_writer");
    if (status == LRK_OK && (target->writer.flags != 0 || target->writer.write == NULL))
        status = lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_writer: no write(), or unknown flags");
    return status;
}

lrk_status lrki_target_write(lrki_target *target, const void *data, size_t n)
{
    if (target->is_file) return lrki_replacement_write(&target->file, data, n);
    uint64_t failures = lrki_failures(target->context);
    int32_t answer = target->writer.write(target->writer.user, data, n);
    if (answer == 0) return LRK_OK;
    return lrki_fail_callback(target->context, LRK_ERR_IO, LRKI_NOWHERE, failures,
                              "cannot write to %s: write() returned %" PRId32,
                              target->writer.name != NULL ? target->writer.name : "the writer", answer);
}

lrk_status lrki_progress_tell(lrk_context *context, const lrki_progress *progress, const char *what,
                              uint64_t done, uint64_t total)
{
    if (progress->call == NULL) return LRK_OK;
    uint64_t failures = lrki_failures(context);
    if (progress->call(progress->user, done, total) == 0) return LRK_OK;
    return lrki_fail_callback(context, LRK_ERR_CANCELLED, LRKI_NOWHERE, failures,
                              "progress() stopped %s after %" PRIu64 " of %" PRIu64 " bytes", what, done,
                              total);
}

lrk_status lrki_target_tell(const lrki_target *target, uint64_t done, uint64_t total)
{
    return lrki_progress_tell(target->context, &target->progress, "writing", done, total);
}

lrk_status lrki_target_commit(lrki_target *target)
{
    if (!target->is_file) return LRK_OK;
    lrk_status status = lrki_replacement_sync(&target->file);
    return status == LRK_OK ? lrki_replacement_commit(&target->file) : status;
}

void lrki_target_abandon(lrki_target *target)
{
    if (target->is_file) lrki_replacement_abandon(&target->file);
    *target = (lrki_target){0};
}
