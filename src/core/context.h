/* SPDX-License-Identifier: MIT */
/*
 * The context's layout, for core and for the kernels that call the host's GEMM and parallel loop. Layers above use
 * core.h and kernels.h only.
 * Invariant: `host` never changes after creation; the error slots are touched only under `errors_lock`, and no callback
 * runs while it is held.
 */
#ifndef LRKI_CONTEXT_H
#define LRKI_CONTEXT_H

#include <pthread.h>

#include "core.h"

#define LRKI_ERROR_TEXT 512
#define LRKI_ERROR_SLOTS                                                                                     \
    32 /* threads whose last failure is remembered; the one that failed longest ago makes room */

typedef struct lrki_error_slot {
    pthread_t thread;
    uint64_t used; /* clock of the failure, 0: the slot is free */
    lrk_status status;
    lrki_place place;
    char text[LRKI_ERROR_TEXT];
} lrki_error_slot;

struct lrk_context {
    int64_t references; /* atomic */
    lrk_host host;
    int32_t instructions; /* LRK_KERNELS_GENERIC and up */
    lrk_workers workers;  /* one worker unless there are others                          */
    double *heads;        /* of an exchange (workers.c); NULL: one worker           */
    pthread_mutex_t errors_lock;
    uint64_t errors_clock;
    lrki_error_slot errors[LRKI_ERROR_SLOTS];
};

/* The host's workers, or the default of one. A sentence about what is wrong goes to *why. */
lrk_status lrki_workers_read(const lrk_workers *given, lrk_workers *workers, const char **why);
/* Takes and gives up the room of exchanges; false on lack of memory. */
bool lrki_workers_open(lrk_context *context);
void lrki_workers_close(lrk_context *context);

/* Whether this build has LRK_KERNELS_... `kernels` and this processor runs them; false for unknown ones. */
bool lrki_processor_runs(int32_t kernels);
/* The instruction set (LRK_KERNELS_GENERIC and up) that a choice which runs means. */
int32_t lrki_processor_choose(int32_t kernels);

/* True if the context allocates through libc by default. */
bool lrki_memory_is_libc(const lrk_context *context);

/* Copies text to out[0..size), NUL-terminated and truncated to fit; returns the bytes that all of it needs. */
size_t lrki_text_give(const char *text, char *out, size_t size);

#endif
