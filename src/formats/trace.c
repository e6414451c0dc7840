/* SPDX-License-Identifier: MIT */
/*
 * Where the lines of a trace go: a file or the host's function. A line is complete in memory before any of it is
 * written, and a file on which a line fails is cut back to the line before.
 */
#include "lorank/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "../adapters/set.h"
#include "../allocation/allocation.h"
#include "file.h"
#include "trace.h"

struct lrk_trace {
    lrk_context *context;
    lrk_adapters *adapters; /* counted */
    char *path;             /* NULL: lines go to write() */
    int fd;
    off_t written;
    int32_t (*write)(void *user, const char *line, size_t length);
    void *user;
    bool writing; /* inside write() */
    lrki_births births;
};

/* Takes the tree. The text ends in a newline. */
static lrk_status print_line(lrk_context *context, lrki_json *event, lrki_bytes *line)
{
    lrk_status status = lrki_json_print(context, event, 0, line);
    lrki_json_free(event);
    if (status == LRK_OK) line->data[line->n++] = '\n';
    return status;
}

static lrk_status write_line(lrk_trace *trace, const lrki_bytes *line)
{
    if (trace->path == NULL) {
        trace->writing = true;
        int32_t answer = trace->write(trace->user, line->data, line->n);
        trace->writing = false;
        return answer == 0 ? LRK_OK
                           : lrki_fail(trace->context, LRK_ERR_HOST,
                                       "the trace's write callback returned %" PRId32, answer);
    }
    lrk_status status = lrki_fd_write(trace->context, trace->fd, trace->path, line->data, line->n);
    if (status == LRK_OK)
        trace->written += (off_t)line->n;
    else if (ftruncate(trace->fd, trace->written) == 0)
        (void)lseek(trace->fd, trace->written, SEEK_SET);
    return status;
}

/* Takes the tree. */
static lrk_status write_event(lrk_trace *trace, lrki_json *event)
{
    lrki_bytes line;
    lrk_status status = print_line(trace->context, event, &line);
    if (status != LRK_OK) return status;
    status = write_line(trace, &line);
    lrki_bytes_free(trace->context, &line);
    return status;
}

static void trace_free(lrk_trace *trace)
{
    lrk_context *context = trace->context;
    if (trace->fd >= 0) close(trace->fd);
    lrki_births_free(context, &trace->births);
    lrki_text_free(context, trace->path);
    if (trace->adapters != NULL) lrki_adapters_unref(trace->adapters);
    lrki_free(context, trace, sizeof *trace);
    lrki_context_unref(context);
}

/* A trace that knows the live ranks and has written nothing. NULL on lack of memory (recorded). */
static lrk_trace *trace_new(lrk_adapters *adapters)
{
    lrk_context *context = adapters->context;
    lrk_trace *trace = lrki_alloc_zeroed(context, sizeof *trace);
    if (trace == NULL) {
        (void)lrki_fail_nomem(context, "a trace");
        return NULL;
    }
    trace->context = lrki_context_ref(context);
    trace->adapters = lrki_adapters_ref(adapters);
    trace->fd = -1;
    if (lrki_births_reserve(context, &trace->births, adapters->n_ranks) == LRK_OK) {
        lrki_births_add_live(&trace->births, adapters);
        return trace;
    }
    trace_free(trace);
    return NULL;
}

static lrk_status open_file(lrk_trace *trace)
{
    trace->fd = open(trace->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return trace->fd >= 0 ? LRK_OK : lrki_fail_io(trace->context, "cannot create", trace->path, errno);
}

lrk_status lrk_trace_open(lrk_adapters *adapters, const char *path, const char *label, lrk_trace **trace)
{
    lrki_bytes line;
    if (trace == NULL) return LRK_ERR_ARGUMENT;
    *trace = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_trace_open");
    if (status != LRK_OK) return status;
    if (path == NULL) return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "path is NULL");
    if (label != NULL && !lrki_utf8_valid(label))
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "label is not UTF-8");
    lrk_trace *opened = trace_new(adapters);
    if (opened == NULL) return LRK_ERR_NOMEM;
    opened->path = lrki_text_copy(opened->context, path);
    status = opened->path == NULL ? lrki_fail_nomem(opened->context, "a path")
                                  : print_line(opened->context, lrki_trace_start(adapters, label), &line);
    if (status == LRK_OK) {
        status = open_file(opened);
        if (status == LRK_OK) status = write_line(opened, &line);
        lrki_bytes_free(opened->context, &line);
    }
    if (status != LRK_OK) {
        trace_free(opened);
        return status;
    }
    *trace = opened;
    return LRK_OK;
}

/* Checks what the file holds up to `length`, and cuts off the rest. */
static lrk_status cut_back(lrk_trace *trace, uint64_t length)
{
    char last = '\n';
    off_t size = lseek(trace->fd, 0, SEEK_END);
    if (size < 0) return lrki_fail_io(trace->context, "cannot examine", trace->path, errno);
    if (length > (uint64_t)size)
        return lrki_fail(trace->context, LRK_ERR_FORMAT, "%s has %lld bytes and had %llu", trace->path,
                         (long long)size, (unsigned long long)length);
    if (length > 0) {
        lrk_status status =
            lrki_file_read_at(trace->context, trace->fd, trace->path, (int64_t)length - 1, &last, 1);
        if (status != LRK_OK) return status;
    }
    if (last != '\n')
        return lrki_fail(trace->context, LRK_ERR_FORMAT, "%s: byte %llu is no end of a line", trace->path,
                         (unsigned long long)length);
    if (ftruncate(trace->fd, (off_t)length) != 0 || lseek(trace->fd, (off_t)length, SEEK_SET) < 0)
        return lrki_fail_io(trace->context, "cannot cut", trace->path, errno);
    trace->written = (off_t)length;
    return LRK_OK;
}

static lrk_status reopen(lrk_trace *trace, const char *path, uint64_t length)
{
    trace->path = lrki_text_copy(trace->context, path);
    if (trace->path == NULL) return lrki_fail_nomem(trace->context, "a path");
    trace->fd = open(trace->path, O_RDWR | O_CLOEXEC);
    if (trace->fd >= 0) return cut_back(trace, length);
    if (errno != ENOENT) return lrki_fail_io(trace->context, "cannot open", trace->path, errno);
    return lrki_fail(trace->context, LRK_ERR_NOT_FOUND, "cannot open %s: there is no such file", trace->path);
}

lrk_status lrk_trace_resume(lrk_adapters *adapters, const char *path, uint64_t length, lrk_trace **trace)
{
    if (trace == NULL) return LRK_ERR_ARGUMENT;
    *trace = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_trace_resume");
    if (status != LRK_OK) return status;
    if (path == NULL) return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "path is NULL");
    lrk_trace *opened = trace_new(adapters);
    if (opened == NULL) return LRK_ERR_NOMEM;
    status = reopen(opened, path, length);
    if (status == LRK_OK)
        *trace = opened;
    else
        trace_free(opened);
    return status;
}

lrk_status lrk_trace_create(lrk_adapters *adapters,
                            int32_t (*write)(void *user, const char *line, size_t length), void *user,
                            const char *label, lrk_trace **trace)
{
    if (trace == NULL) return LRK_ERR_ARGUMENT;
    *trace = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_trace_create");
    if (status != LRK_OK) return status;
    if (write == NULL) return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "write is NULL");
    if (label != NULL && !lrki_utf8_valid(label))
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "label is not UTF-8");
    lrk_trace *created = trace_new(adapters);
    if (created == NULL) return LRK_ERR_NOMEM;
    created->write = write;
    created->user = user;
    status = write_event(created, lrki_trace_start(adapters, label));
    if (status != LRK_OK) {
        trace_free(created);
        return status;
    }
    *trace = created;
    return LRK_OK;
}

/* A writer that asks for another line would never end. */
static lrk_status check_idle(const lrk_trace *trace)
{
    if (!trace->writing) return LRK_OK;
    return lrki_fail(trace->context, LRK_ERR_BUSY, "trace: called from its own write callback");
}

static lrk_status check_round(const lrk_trace *trace, const lrk_scores *scores, const lrk_plan *plan)
{
    if (scores == NULL || plan == NULL)
        return lrki_fail(trace->context, LRK_ERR_ARGUMENT, "scores or plan is NULL");
    if (scores->adapters != trace->adapters || lrki_plan_adapters(plan) != trace->adapters)
        return lrki_fail(trace->context, LRK_ERR_ARGUMENT, "scores or plan is of another set than the trace");
    if (scores->info.generation != plan->generation)
        return lrki_fail(trace->context, LRK_ERR_ARGUMENT, "the plan was not made from these scores");
    return LRK_OK;
}

lrk_status lrk_trace_round(lrk_trace *trace, const lrk_scores *scores, const lrk_plan *plan)
{
    if (trace == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = check_idle(trace);
    if (status == LRK_OK) status = check_round(trace, scores, plan);
    if (status == LRK_OK)
        status =
            lrki_births_reserve(trace->context, &trace->births, trace->adapters->n_ranks + plan->n_added);
    if (status != LRK_OK) return status;
    lrki_births_add_live(&trace->births, trace->adapters);
    lrki_births_add_plan(&trace->births, plan, trace->adapters->n_modules);
    return write_event(trace, lrki_trace_round(trace->adapters, &trace->births, scores, plan));
}

lrk_status lrk_trace_value(lrk_trace *trace, const char *name, int64_t step, double value)
{
    if (trace == NULL) return LRK_ERR_ARGUMENT;
    if (name == NULL || !lrki_utf8_valid(name))
        return lrki_fail(trace->context, LRK_ERR_ARGUMENT, "name is NULL or not UTF-8");
    lrk_status status = check_idle(trace);
    if (status != LRK_OK) return status;
    return write_event(trace, lrki_trace_value(name, step, value));
}

static int32_t observe(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    return lrk_trace_round(user, scores, plan);
}

lrk_status lrk_trace_observer(lrk_trace *trace, lrk_round_observer *observer)
{
    if (trace == NULL) return LRK_ERR_ARGUMENT;
    lrk_round_observer filled = {.struct_size = sizeof filled, .user = trace, .round = observe};
    return lrki_struct_write(trace->context, observer, &filled, sizeof filled, "lrk_round_observer");
}

/* What cannot be synced (a pipe, a terminal) says EINVAL or ENOTSUP. */
static lrk_status sync_file(const lrk_trace *trace)
{
    if (trace->path == NULL || fsync(trace->fd) == 0 || errno == EINVAL || errno == ENOTSUP) return LRK_OK;
    return lrki_fail_io(trace->context, "cannot write", trace->path, errno);
}

lrk_status lrk_trace_sync(lrk_trace *trace, uint64_t *length)
{
    if (trace == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = check_idle(trace);
    if (status == LRK_OK && trace->path == NULL)
        status = lrki_fail(trace->context, LRK_ERR_UNSUPPORTED, "trace: it is on a callback");
    if (status == LRK_OK) status = sync_file(trace);
    if (status == LRK_OK && length != NULL) *length = (uint64_t)trace->written;
    return status;
}

lrk_status lrk_trace_close(lrk_trace *trace)
{
    if (trace == NULL) return LRK_OK;
    lrk_status status = check_idle(trace);
    if (status != LRK_OK) return status;
    status = write_event(trace, lrki_trace_end(trace->adapters));
    if (status == LRK_OK) status = sync_file(trace);
    trace_free(trace);
    return status;
}
