/* SPDX-License-Identifier: MIT */
/*
 * When rounds happen: after a warm-up of K1, a round every K2, N_A rounds at most (Liu et al. 2024, Algorithm 1), as a
 * state machine that the host steps once per optimizer step; the same bound to an estimator and an allocator, so that
 * it carries rounds out; and a run of it driven by callbacks.
 * Threads: handle-exclusive.
 */
#ifndef LRK_SCHEDULE_H
#define LRK_SCHEDULE_H

#include <stdint.h>

#include "allocation.h"
#include "importance.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_schedule lrk_schedule;

#define LRK_UNIT_STEPS  0
#define LRK_UNIT_EPOCHS 1 /* one epoch = steps_per_epoch steps; products are rounded to the nearest step */

typedef struct lrk_schedule_options {
    uint32_t struct_size;
    uint32_t flags;          /* 0                                                             */
    int32_t unit;            /* of warmup and recovery [LRK_UNIT_STEPS]                       */
    int32_t rounds;          /* N_A >= 0 [8]                                                  */
    double warmup;           /* K1 >= 0: the first round comes after this much training [0: a round before any step is
                                an error: must come to >= 1 step if rounds > 0]               */
    double recovery;         /* K2: training after each round; must come to >= 1 step if rounds > 0 [0: must be set] */
    int64_t steps_per_epoch; /* >= 1 if unit is epochs [0]                                    */
    int64_t total_steps;     /* >= 1; the last recovery must fit in [0: must be set]          */
} lrk_schedule_options;

#define LRK_EVENT_NONE       0
#define LRK_EVENT_ROUND_DUE  1 /* unbound: the host must now carry out the round and call complete_round();
                                  bound, with an error: the round failed and is still due                 */
#define LRK_EVENT_ROUND_DONE 2 /* bound: the round was carried out                                         */

typedef struct lrk_schedule_event {
    uint32_t struct_size;
    int32_t kind;        /* LRK_EVENT_...                                                            */
    int64_t step;        /* optimizer steps so far                                                   */
    int32_t round;       /* of the event, from 0; -1 for none                                        */
    int32_t finished;    /* 1 once total_steps are done                                              */
    int64_t n_dropped;   /* of a round carried out                                                   */
    int64_t n_added;
    int64_t evaluations;
    int64_t differentiations;
} lrk_schedule_event;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_schedule_options_init(lrk_schedule_options *options, size_t struct_size);

/*
 * A schedule at step 0, unbound.
 * Errors   LRK_ERR_ARGUMENT  a value out of range; the last round or its recovery does not fit into total_steps (the
 *                            detail says how many steps are needed);  LRK_ERR_VERSION, LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_schedule_create(lrk_context *context, const lrk_schedule_options *options,
                                                       lrk_schedule **schedule);

/* Frees it, once a call of its own that is running returns, and gives up its binding. NULL is ignored. Since 0.1 */
LRK_API void lrk_schedule_destroy(lrk_schedule *schedule);

/*
 * Steps after which round `round` (from 0) comes. Errors: LRK_ERR_ARGUMENT (no such round). Since 0.1
 */
LRK_API lrk_status lrk_schedule_round_step(const lrk_schedule *schedule, int32_t round, int64_t *step);

/* Told of every round carried out, before the plan's memory is given back; see lrk_trace_observer(). */
typedef struct lrk_round_observer {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    void *user;
    int32_t (*round)(void *user, const lrk_scores *scores, const lrk_plan *plan); /* non-zero: LRK_ERR_HOST, after commit */
} lrk_round_observer;

/* Who takes part in the rounds. Participants and observers are copied; their handles must outlive the binding. */
typedef struct lrk_round_binding {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    lrk_estimator *estimator; /* kept alive */
    lrk_allocator *allocator; /* kept alive */
    const lrk_participant *participants;
    int64_t n_participants;
    const lrk_round_observer *observers;
    int64_t n_observers;
} lrk_round_binding;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_round_binding_init(lrk_round_binding *binding, size_t struct_size);

/*
 * One round in one call: score -> plan -> prepare -> commit -> observers. `event` gets the counts.
 * Errors   those of the four steps; the round can be tried again after any of them (a cancelled scoring goes on); if
 *          an observer fails (LRK_ERR_HOST) the plan is committed nevertheless and the event says ROUND_DONE.
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_round_run(const lrk_round_binding *binding, uint64_t round, int64_t step,
                                                 lrk_schedule_event *event);

/*
 * From now on the schedule carries rounds out itself; one that is due already when lrk_schedule_retry() asks for it.
 * Errors: ARGUMENT, NOMEM, STATE (bound already, and a round is due), BUSY (from within its own round). Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_schedule_bind(lrk_schedule *schedule, const lrk_round_binding *binding);

/*
 * Call after every optimizer step. event->struct_size must be set.
 * Errors   LRK_ERR_STATE  a round is due and not completed (the detail names it), or total_steps are done
 *          LRK_ERR_BUSY   called from a callback of the schedule's own round or run
 *          bound: those of lrk_round_run(); the round is then still due: lrk_schedule_retry()
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_schedule_step(lrk_schedule *schedule, lrk_schedule_event *event);

/* Bound: tries the due round again. Errors: LRK_ERR_STATE (none due or not bound), lrk_round_run()'s. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_schedule_retry(lrk_schedule *schedule, lrk_schedule_event *event);

/*
 * Unbound: the due round has been carried out, or is given up. Bound: it is given up, and a paused scoring with it.
 * Errors: LRK_ERR_STATE (none due), LRK_ERR_BUSY (from a callback of its own round or run). Since 0.1
 */
LRK_API lrk_status lrk_schedule_complete_round(lrk_schedule *schedule);

/*
 * Where the schedule is, without moving it: after a restore, whether a round is due (kind LRK_EVENT_ROUND_DUE: retry it if
 * bound, else carry it out) and how many steps are done. Errors: LRK_ERR_ARGUMENT. Since 0.1
 */
LRK_API lrk_status lrk_schedule_now(const lrk_schedule *schedule, lrk_schedule_event *event);

/* No further rounds (the paper's "at most N_A"), a due one included. Errors: LRK_ERR_ARGUMENT. Since 0.1 */
LRK_API lrk_status lrk_schedule_end_rounds(lrk_schedule *schedule);

/*
 * The loop driven by lorank. train_step() trains on one batch and takes its optimizer step; event() is told of every
 * event but NONE (may be NULL). Non-zero from either ends the run: LRK_RUN_STOP cleanly (LRK_OK), anything else with
 * LRK_ERR_HOST. A step for which train_step() returns non-zero does not count.
 */
#define LRK_RUN_STOP 1

typedef struct lrk_run_callbacks {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    void *user;
    int32_t (*train_step)(void *user, int64_t step);
    int32_t (*event)(void *user, const lrk_schedule_event *event);
} lrk_run_callbacks;

/*
 * Trains until total_steps are done or a callback stops it; can be called again to go on (a round that is due is then
 * tried first). The schedule must be bound if it has rounds to come.
 * Errors: LRK_ERR_ARGUMENT, LRK_ERR_STATE (not bound), LRK_ERR_BUSY, LRK_ERR_HOST, lrk_schedule_step()'s. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_schedule_run(lrk_schedule *schedule, const lrk_run_callbacks *callbacks);

#ifdef __cplusplus
}
#endif

#endif
