/* SPDX-License-Identifier: MIT */
/*
 * Error details: the last failure of each thread, kept within the context in a fixed number of slots, so that failing
 * never allocates and distinct contexts share nothing. A thread's slot is its own until LRKI_ERROR_SLOTS other threads
 * have failed since. A thread that got the id of a finished one finds that one's last words: there is no portable way
 * to tell them apart without global state.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "context.h"

size_t lrki_text_give(const char *text, char *out, size_t size)
{
    size_t need = strlen(text) + 1;
    if (out != NULL && size > 0) {
        size_t n = need <= size ? need - 1 : size - 1;
        memcpy(out, text, n);
        out[n] = '\0';
    }
    return need;
}

/* The calling thread's slot, or NULL. The lock is held. */
static lrki_error_slot *find_slot(lrk_context *context)
{
    pthread_t self = pthread_self();
    for (int i = 0; i < LRKI_ERROR_SLOTS; i++) {
        lrki_error_slot *slot = &context->errors[i];
        if (slot->used != 0 && pthread_equal(slot->thread, self)) return slot;
    }
    return NULL;
}

/* A free slot (used == 0), else the one that failed longest ago. The lock is held. */
static lrki_error_slot *oldest_slot(lrk_context *context)
{
    lrki_error_slot *oldest = &context->errors[0];
    for (int i = 1; i < LRKI_ERROR_SLOTS; i++)
        if (context->errors[i].used < oldest->used) oldest = &context->errors[i];
    return oldest;
}

static void record(lrk_context *context, lrk_status status, lrki_place place, const char *format,
                   va_list args)
{
    char text[LRKI_ERROR_TEXT];
    vsnprintf(text, sizeof text, format, args);
    pthread_mutex_lock(&context->errors_lock);
    lrki_error_slot *slot = find_slot(context);
    if (slot == NULL) slot = oldest_slot(context);
    slot->thread = pthread_self();
    slot->used = ++context->errors_clock;
    slot->status = status;
    slot->place = place;
    memcpy(slot->text, text, sizeof text);
    pthread_mutex_unlock(&context->errors_lock);
}

lrk_status lrki_fail(lrk_context *context, lrk_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (context != NULL) record(context, status, LRKI_NOWHERE, format, args);
    va_end(args);
    return status;
}

lrk_status lrki_fail_at(lrk_context *context, lrk_status status, lrki_place place, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (context != NULL) record(context, status, place, format, args);
    va_end(args);
    return status;
}

lrk_status lrki_fail_nomem(lrk_context *context, const char *what)
{
    return lrki_fail(context, LRK_ERR_NOMEM, "out of memory for %s", what);
}

void lrki_log(lrk_context *context, int32_t level, const char *format, ...)
{
    if (context->host.log == NULL) return;
    char text[LRKI_ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    context->host.log(context->host.log_user, level, text);
}

/* Copies the calling thread's slot; one that is empty if it has not failed. */
static lrki_error_slot read_slot(const lrk_context *shared)
{
    lrk_context *context = (lrk_context *)shared; /* the lock is the only thing that changes */
    lrki_error_slot empty = {.place = LRKI_NOWHERE};
    pthread_mutex_lock(&context->errors_lock);
    const lrki_error_slot *slot = find_slot(context);
    lrki_error_slot copy = slot != NULL ? *slot : empty;
    pthread_mutex_unlock(&context->errors_lock);
    return copy;
}

uint64_t lrki_failures(const lrk_context *context)
{
    return read_slot(context).used;
}

lrk_status lrki_fail_callback(lrk_context *context, lrk_status status, lrki_place place,
                              uint64_t failures_before, const char *format, ...)
{
    lrki_error_slot inner = read_slot(context);
    char text[LRKI_ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (inner.used <= failures_before) return lrki_fail_at(context, status, place, "%s", text);
    return lrki_fail_at(context, status, place, "%s; last failure in it: %s", text, inner.text);
}

size_t lrk_context_error(const lrk_context *context, char *text, size_t size)
{
    if (context == NULL) return lrki_text_give("", text, size);
    lrki_error_slot slot = read_slot(context);
    return lrki_text_give(slot.text, text, size);
}

lrk_status lrk_context_error_info(const lrk_context *context, lrk_error_info *info)
{
    if (context == NULL) return LRK_ERR_ARGUMENT;
    lrki_error_slot slot = read_slot(context);
    lrk_error_info filled = {.struct_size = sizeof filled,
                             .status = slot.status,
                             .module = slot.place.module,
                             .identity = slot.place.identity,
                             .line = slot.place.line,
                             .column = slot.place.column};
    return lrki_struct_write(NULL, info, &filled, sizeof filled, "lrk_error_info");
}
