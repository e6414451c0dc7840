/* SPDX-License-Identifier: MIT */
/*
 * The trace of a run: JSON lines (docs/trace.md has every field), one object a line:
 *     {"event":"start", ...}  modules with stage, sizes, rank, scale; totals; labels
 *     {"event":"round", ...}  scores with terms, noise and provenance, the cut, dropped and added identities, receivers,
 *                             totals in ranks and parameters, losses, evaluations
 *     {"event":"value", ...}  a named number at a step: training loss, dev loss
 *     {"event":"end", ...}    final ranks
 * No times are written: the same run gives the same bytes. `lorank report` draws it.
 * Threads: handle-exclusive.
 */
#ifndef LRK_TRACE_H
#define LRK_TRACE_H

#include <stdint.h>

#include "adapters.h"
#include "allocation.h"
#include "importance.h"
#include "schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_trace lrk_trace;

/*
 * Opens a trace of a set on a file (truncated), or on a callback that gets whole lines with their newline and returns
 * non-zero to fail, and writes the start event. `label` names the run (may be NULL). All calls with a trace from within
 * its own callback are refused: LRK_ERR_BUSY.
 * Errors   LRK_ERR_IO (the detail names path and reason), LRK_ERR_HOST, LRK_ERR_ARGUMENT, LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_trace_open(lrk_adapters *adapters, const char *path, const char *label,
                                                  lrk_trace **trace);
LRK_API LRK_WARN_UNUSED lrk_status lrk_trace_create(lrk_adapters *adapters,
                                                    int32_t (*write)(void *user, const char *line, size_t length),
                                                    void *user, const char *label, lrk_trace **trace);

/*
 * Writes out and syncs what a trace on a file has so far; *length (may be NULL) gets its bytes, for a checkpoint.
 * Errors   LRK_ERR_UNSUPPORTED  the trace is on a callback;  LRK_ERR_IO, LRK_ERR_ARGUMENT.   Since 0.1
 */
LRK_API lrk_status lrk_trace_sync(lrk_trace *trace, uint64_t *length);

/*
 * Opens a trace again to go on with it after a restore of its set: the file is cut back to the `length` bytes that it had
 * then, and no start event is written. (A host with a callback creates a new trace and drops its first line.)
 * Errors   LRK_ERR_FORMAT     the file has fewer bytes, or they do not end with a line
 *          LRK_ERR_NOT_FOUND, LRK_ERR_IO (the detail names path and reason), LRK_ERR_ARGUMENT, LRK_ERR_NOMEM.  Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_trace_resume(lrk_adapters *adapters, const char *path, uint64_t length,
                                                    lrk_trace **trace);

/* Writes a round (call before the plan's handle is freed). Errors: IO, HOST, ARGUMENT, NOMEM. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_trace_round(lrk_trace *trace, const lrk_scores *scores, const lrk_plan *plan);

/* Writes a number, e.g. ("train_loss", step, 3.7). Not finite becomes null. Errors: as above. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_trace_value(lrk_trace *trace, const char *name, int64_t step, double value);

/* Fills an observer that writes every round of a binding; its struct_size must be set. Errors: LRK_ERR_ARGUMENT. Since 0.1 */
LRK_API lrk_status lrk_trace_observer(lrk_trace *trace, lrk_round_observer *observer);

/* Writes the end event, syncs and closes. The handle is freed even on failure (but not BUSY). Errors: IO, HOST, NOMEM. Since 0.1 */
LRK_API lrk_status lrk_trace_close(lrk_trace *trace);

#ifdef __cplusplus
}
#endif

#endif
