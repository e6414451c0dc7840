/* SPDX-License-Identifier: MIT */
/*
 * The trace, internal: the events as JSON trees (trace_events.c), apart from where the lines go (trace.c).
 */
#ifndef LRKI_TRACE_H
#define LRKI_TRACE_H

#include "json.h"
#include "lorank/allocation.h"
#include "lorank/importance.h"

#define LRKI_TRACE_FORMAT 1

/* Birth steps of all ranks that the trace has seen, by ascending identity. */
typedef struct lrki_birth {
    uint64_t identity;
    int64_t step;
} lrki_birth;

typedef struct lrki_births {
    lrki_birth *list;
    int64_t n;
    int64_t capacity;
} lrki_births;

/* Room for n more. */
lrk_status lrki_births_reserve(lrk_context *context, lrki_births *births, int64_t n);
/* Adds ranks that are new to the list; needs reserved room. */
void lrki_births_add_live(lrki_births *births, const lrk_adapters *adapters);
void lrki_births_add_plan(lrki_births *births, const lrk_plan *plan, int64_t n_modules);
void lrki_births_free(lrk_context *context, lrki_births *births);

/* Events. NULL is lack of memory. */
lrki_json *lrki_trace_start(const lrk_adapters *adapters, const char *label);
lrki_json *lrki_trace_round(const lrk_adapters *adapters, const lrki_births *births, const lrk_scores *scores,
                            const lrk_plan *plan);
lrki_json *lrki_trace_value(const char *name, int64_t step, double value);
lrki_json *lrki_trace_end(const lrk_adapters *adapters);

#endif
