/* SPDX-License-Identifier: MIT */
/*
 * A host that counts what lorank asks of it and can fail any one request: the n-th allocation, GEMM or parallel loop.
 * Use: count with a clean run, then loop over every request with fail_at = i (docs/contributing.md has the pattern).
 */
#ifndef FAULT_H
#define FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "lorank/lorank.h"

typedef struct fault_counter {
    int64_t calls;   /* so far               */
    int64_t fail_at; /* -1: never            */
    bool sticky;     /* fail from there on   */
} fault_counter;

typedef struct fault {
    fault_counter alloc;
    fault_counter gemm;
    fault_counter loop;
    int64_t multiply_adds; /* of all products */
    int64_t live;          /* blocks handed out and not released                    */
    size_t live_bytes;
    size_t peak_bytes;
    bool bad_release; /* a release with a wrong size or an unknown pointer     */
    int32_t threads;  /* > 1: parallel_for really runs on that many pthreads   */
    int32_t kernels;  /* of contexts made from here on; reset: the GEMM alone, which is counted */
    char log[512];    /* last log line                                         */
} fault;

/* Never fails. Sets fail_at of all counters to -1. */
void fault_reset(fault *f);
/* A context whose services are f's; GEMM is a plain triple loop. ck_asserts on failure; f must outlive it. */
lrk_context *fault_context(fault *f);
/* The host struct for tests that create contexts themselves. */
lrk_host fault_host(fault *f);

#endif
