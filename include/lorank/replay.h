/* SPDX-License-Identifier: MIT */
/*
 * Replay: the scores of a recorded run (docs/trace.md), asked of another policy, or of the same with another n_A: what would
 * it have done? Nothing is trained and no loss is computed.
 *
 * A trace has scores only for the ranks that its run had. So every round is asked by itself: from the state in which the
 * recorded run was before it, with its scores, and with the account that an allocator would have of the recorded rounds
 * (their number, modules pruned, ages of ranks). The plan is shown and abandoned; then the set follows the recorded run
 * into the next round. Asked of the recorded policy with the recorded options, a replay gives the recorded plans, identities
 * included. What it cannot say is how the scores would have differed, had the ranks.
 * Threads: handle-exclusive.
 */
#ifndef LRK_REPLAY_H
#define LRK_REPLAY_H

#include <stddef.h>
#include <stdint.h>

#include "adapters.h"
#include "allocation.h"
#include "schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_replay lrk_replay;

/* What the trace says of one round. Pointers are borrowed until the replay is closed. */
typedef struct lrk_replay_round {
    uint32_t struct_size;
    uint32_t flags;
    const char *policy;
    const char *estimator;
    int64_t round;                /* its number                                             */
    int64_t step;
    int64_t n_ranks;              /* live before it                                         */
    int64_t n_dropped;
    int64_t n_added;
    const uint64_t *dropped_ids;  /* [n_dropped] module after module                        */
    const uint64_t *added_ids;    /* [n_added] module after module                          */
    const int64_t *module_ranks;  /* [modules] after it                                     */
    double cut;                   /* as in lrk_plan_info                                    */
    double cut_next;
} lrk_replay_round;

/*
 * Reads a trace, whole, from a file or from text[0..length) (`name` begins the details). One without its end is read as far
 * as it goes.
 * Errors   LRK_ERR_FORMAT     a line is not as docs/trace.md has it; the detail names path, line and field
 *          LRK_ERR_NOT_FOUND, LRK_ERR_IO, LRK_ERR_ARGUMENT, LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_replay_open(lrk_context *context, const char *path, lrk_replay **replay);
LRK_API LRK_WARN_UNUSED lrk_status lrk_replay_parse(lrk_context *context, const char *name, const char *text,
                                                    size_t length, lrk_replay **replay);

/* NULL is ignored. Since 0.1 */
LRK_API void lrk_replay_close(lrk_replay *replay);

/* Rounds of the trace, -1 for NULL. Since 0.1 */
LRK_API int64_t lrk_replay_rounds(const lrk_replay *replay);

/* Round i in the order of the trace. round->struct_size must be set. Errors: LRK_ERR_ARGUMENT (no such). Since 0.1 */
LRK_API lrk_status lrk_replay_round_get(const lrk_replay *replay, int64_t i, lrk_replay_round *round);

/*
 * A set as the recorded one was at the start of the trace: modules, scales, ranks with their identities and births. Its
 * parameters are 0 and it has no gradients. One for each lrk_replay_run(); allocators are made for it as for any set.
 * Errors   LRK_ERR_FORMAT  an identity stands twice;  those of lrk_adapters_create().   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_replay_create_adapters(lrk_replay *replay, lrk_adapters **adapters);

/*
 * Asks the allocator, whose set is fresh from lrk_replay_create_adapters(), for a plan of every recorded round. The observer
 * sees scores and plan, which is open and abandoned after it; it must not settle the plan itself. Non-zero from it ends the run.
 * Errors   LRK_ERR_STATE   the set is not in the state at the start of the trace
 *          LRK_ERR_FORMAT  a round's ranks are not those that the rounds before it left (a host that went back to an earlier
 *                          state), or its additions and drops do not fit them; the detail names path and line
 *          LRK_ERR_HOST    the observer returned non-zero
 *          LRK_ERR_ARGUMENT, those of lrk_allocator_plan(), LRK_ERR_BUDGET too: the recorded run grew beyond the
 *          allocator's budget. The set is then in the state before the round that failed, and of no further use here.
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_replay_run(lrk_replay *replay, lrk_allocator *allocator,
                                                  const lrk_round_observer *observer);

#ifdef __cplusplus
}
#endif

#endif
