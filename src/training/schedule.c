/* SPDX-License-Identifier: MIT */
/*
 * When rounds happen: a state machine over optimizer steps. Rounds come after nearest(warmup + i * recovery) steps, the
 * products taken from the start so that rounding never adds up. What a round is, is round_run.c's business. Invariant:
 * a schedule with a due round does not step.
 */
#include <math.h>

#include "../importance/importance.h"
#include "schedule.h"
#include "state.h"
#include "training.h"

#define MOST_STEPS 9007199254740992.0 /* 2^53: steps are exact in double below it */

struct lrk_schedule {
    lrk_context *context; /* counted */
    lrk_schedule_options options;
    int64_t step;
    int32_t rounds;     /* that may still come to pass, those carried out included */
    int32_t next_round; /* carried out or given up so far                          */
    bool due;
    bool bound;
    bool passed; /* the round being attempted is carried out, its observers are being told */
    bool busy;   /* inside a round or a run of this schedule                     */
    bool doomed; /* destroyed by its owner while busy: freed when the call ends */
    lrki_binding binding;
};

lrk_status lrk_schedule_options_init(lrk_schedule_options *options, size_t struct_size)
{
    static const lrk_schedule_options defaults = {.unit = LRK_UNIT_STEPS, .rounds = 8};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

/* ---- creation ---------------------------------------------------------------------------------------- */

/* Steps, not yet rounded, after which round `round` comes; round options->rounds is the end of the last recovery. */
static double steps_until(const lrk_schedule_options *options, int32_t round)
{
    double until = options->warmup + options->recovery * round;
    return options->unit == LRK_UNIT_EPOCHS ? until * (double)options->steps_per_epoch : until;
}

static int64_t round_step(const lrk_schedule_options *options, int32_t round)
{
    return llround(steps_until(options, round));
}

lrk_status lrki_schedule_options_check(lrk_context *context, const lrk_schedule_options *options)
{
    if (options->flags != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "flags has unknown bits: 0x%x", options->flags);
    if (options->unit != LRK_UNIT_STEPS && options->unit != LRK_UNIT_EPOCHS)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "unit %d is unknown", (int)options->unit);
    if (options->rounds < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "rounds must be >= 0, is %d", (int)options->rounds);
    if (!isfinite(options->warmup) || options->warmup < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "warmup must be >= 0, is %g", options->warmup);
    if (!isfinite(options->recovery) || options->recovery < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "recovery must be >= 0, is %g", options->recovery);
    if (options->unit == LRK_UNIT_EPOCHS && options->steps_per_epoch < 1)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "steps_per_epoch must be >= 1, is %lld",
                         (long long)options->steps_per_epoch);
    if (options->total_steps < 1)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "total_steps must be >= 1, is %lld",
                         (long long)options->total_steps);
    return LRK_OK;
}

/* Every round has a step of its own, and a recovery of at least one step. */
static lrk_status check_rounds(lrk_context *context, const lrk_schedule_options *options)
{
    double needed = steps_until(options, options->rounds);
    if (!(needed < MOST_STEPS) || llround(needed) > options->total_steps)
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "total_steps must be >= %.0f for %d rounds and the last recovery, is %lld",
                         round(needed), (int)options->rounds, (long long)options->total_steps);
    if (round_step(options, 0) < 1)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "warmup must come to at least 1 step, is %g steps",
                         steps_until(options, 0));
    for (int32_t i = 0; i < options->rounds; i++)
        if (round_step(options, i + 1) <= round_step(options, i))
            return lrki_fail(
                context, LRK_ERR_ARGUMENT,
                "recovery must come to at least 1 step: round %d and what follows both come at step %lld",
                (int)i, (long long)round_step(options, i));
    return LRK_OK;
}

lrk_status lrk_schedule_create(lrk_context *context, const lrk_schedule_options *options,
                               lrk_schedule **schedule)
{
    if (schedule != NULL) *schedule = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (schedule == NULL || options == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "schedule: options and schedule must not be NULL");
    lrk_schedule_options known;
    (void)lrk_schedule_options_init(&known, sizeof known);
    lrk_status status = lrki_struct_read(context, &known, sizeof known, options, 8, "schedule options");
    if (status == LRK_OK) status = lrki_schedule_options_check(context, &known);
    if (status == LRK_OK && known.rounds > 0) status = check_rounds(context, &known);
    if (status != LRK_OK) return status;
    lrk_schedule *made = lrki_alloc_zeroed(context, sizeof *made);
    if (made == NULL) return lrki_fail_nomem(context, "a schedule");
    made->context = lrki_context_ref(context);
    made->options = known;
    made->rounds = known.rounds;
    *schedule = made;
    return LRK_OK;
}

void lrk_schedule_destroy(lrk_schedule *schedule)
{
    if (schedule == NULL) return;
    schedule->doomed = schedule->busy;
    if (schedule->busy) return;
    lrk_context *context = schedule->context;
    if (schedule->bound) lrki_binding_free(context, &schedule->binding);
    lrki_free(context, schedule, sizeof *schedule);
    lrki_context_unref(context);
}

lrk_status lrk_schedule_round_step(const lrk_schedule *schedule, int32_t round, int64_t *step)
{
    if (schedule == NULL) return LRK_ERR_ARGUMENT;
    if (step == NULL)
        return lrki_fail(schedule->context, LRK_ERR_ARGUMENT, "schedule: step must not be NULL");
    if (round < 0 || round >= schedule->options.rounds)
        return lrki_fail(schedule->context, LRK_ERR_ARGUMENT, "schedule: there is no round %d of %d",
                         (int)round, (int)schedule->options.rounds);
    *step = round_step(&schedule->options, round);
    return LRK_OK;
}

/* ---- binding ----------------------------------------------------------------------------------------- */

static lrk_status fail_due(const lrk_schedule *schedule, const char *what)
{
    return lrki_fail(schedule->context, LRK_ERR_STATE,
                     "schedule: %s while round %d, due since step %lld, is not done", what,
                     (int)schedule->next_round, (long long)schedule->step);
}

lrk_status lrk_schedule_bind(lrk_schedule *schedule, const lrk_round_binding *binding)
{
    if (schedule == NULL) return LRK_ERR_ARGUMENT;
    if (binding == NULL)
        return lrki_fail(schedule->context, LRK_ERR_ARGUMENT, "schedule: binding must not be NULL");
    if (schedule->busy)
        return lrki_fail(schedule->context, LRK_ERR_BUSY, "schedule: bound from within its own round");
    if (schedule->due && schedule->bound) return fail_due(schedule, "bound");
    lrki_binding made;
    lrk_status status = lrki_binding_copy(schedule->context, binding, &made);
    if (status != LRK_OK) return status;
    if (schedule->bound) lrki_binding_free(schedule->context, &schedule->binding);
    schedule->binding = made;
    schedule->bound = true;
    return LRK_OK;
}

/* ---- stepping ---------------------------------------------------------------------------------------- */

static bool finished(const lrk_schedule *schedule)
{
    return schedule->step >= schedule->options.total_steps;
}

static lrk_schedule_event event_of(const lrk_schedule *schedule)
{
    return (lrk_schedule_event){.kind = schedule->due ? LRK_EVENT_ROUND_DUE : LRK_EVENT_NONE,
                                .step = schedule->step,
                                .round = schedule->due ? schedule->next_round : -1,
                                .finished = finished(schedule)};
}

static void pass_round(lrk_schedule *schedule)
{
    schedule->due = false;
    schedule->next_round++;
}

/* Carries the due round out if bound; `event` tells what happened, also on failure. */
static lrk_status attempt(lrk_schedule *schedule, lrk_schedule_event *event)
{
    bool before = schedule->busy;
    schedule->busy = true;
    lrk_status status = lrki_round_carry_out(&schedule->binding.given, (uint64_t)schedule->next_round,
                                             schedule->step, event, &schedule->passed);
    schedule->busy = before;
    if (schedule->passed) pass_round(schedule);
    schedule->passed = false;
    return status;
}

static lrk_status check_call(const lrk_schedule *schedule, lrk_schedule_event *event)
{
    if (schedule->busy)
        return lrki_fail(schedule->context, LRK_ERR_BUSY, "schedule: called from within its own round");
    lrk_schedule_event now = event_of(schedule);
    return lrki_struct_write(schedule->context, event, &now, sizeof now, "event");
}

/* Advances by one step; `event` is of the full size. */
static lrk_status advance(lrk_schedule *schedule, lrk_schedule_event *event)
{
    *event = event_of(schedule);
    if (schedule->due) return fail_due(schedule, "stepped");
    if (finished(schedule))
        return lrki_fail(schedule->context, LRK_ERR_STATE, "schedule: all %lld steps are done",
                         (long long)schedule->options.total_steps);
    schedule->step++;
    schedule->due = schedule->next_round < schedule->rounds &&
                    schedule->step == round_step(&schedule->options, schedule->next_round);
    *event = event_of(schedule);
    return schedule->due && schedule->bound ? attempt(schedule, event) : LRK_OK;
}

/* The end of a call that ran callbacks; one of them may have destroyed the schedule. */
static void leave(lrk_schedule *schedule)
{
    if (schedule->doomed && !schedule->busy) lrk_schedule_destroy(schedule);
}

lrk_status lrk_schedule_step(lrk_schedule *schedule, lrk_schedule_event *event)
{
    if (schedule == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = check_call(schedule, event);
    if (status != LRK_OK) return status;
    lrk_schedule_event told;
    status = advance(schedule, &told);
    (void)lrki_struct_write(schedule->context, event, &told, sizeof told, "event");
    leave(schedule);
    return status;
}

lrk_status lrk_schedule_retry(lrk_schedule *schedule, lrk_schedule_event *event)
{
    if (schedule == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = check_call(schedule, event);
    if (status != LRK_OK) return status;
    if (!schedule->due || !schedule->bound)
        return lrki_fail(schedule->context, LRK_ERR_STATE, "schedule: %s",
                         schedule->due ? "not bound, so there is nothing to try again" : "no round is due");
    lrk_schedule_event told = event_of(schedule);
    status = attempt(schedule, &told);
    (void)lrki_struct_write(schedule->context, event, &told, sizeof told, "event");
    leave(schedule);
    return status;
}

lrk_status lrk_schedule_now(const lrk_schedule *schedule, lrk_schedule_event *event)
{
    if (schedule == NULL) return LRK_ERR_ARGUMENT;
    lrk_schedule_event now = event_of(schedule);
    return lrki_struct_write(schedule->context, event, &now, sizeof now, "event");
}

lrk_status lrk_schedule_complete_round(lrk_schedule *schedule)
{
    if (schedule == NULL) return LRK_ERR_ARGUMENT;
    if (schedule->busy)
        return lrki_fail(schedule->context, LRK_ERR_BUSY,
                         "schedule: called from within its own round or run");
    if (!schedule->due) return lrki_fail(schedule->context, LRK_ERR_STATE, "schedule: no round is due");
    if (schedule->bound) lrk_estimator_reset(schedule->binding.given.estimator);
    pass_round(schedule);
    return LRK_OK;
}

lrk_status lrk_schedule_end_rounds(lrk_schedule *schedule)
{
    if (schedule == NULL) return LRK_ERR_ARGUMENT;
    if (schedule->due && schedule->bound && !schedule->busy)
        lrk_estimator_reset(schedule->binding.given.estimator);
    schedule->rounds = schedule->next_round;
    schedule->due = false;
    return LRK_OK;
}

/* ---- the loop driven from here ----------------------------------------------------------------------- */

/* Tells the host of an event. *stop is set when it asks to end cleanly. */
static lrk_status tell(const lrk_schedule *schedule, const lrk_run_callbacks *host,
                       const lrk_schedule_event *event, bool *stop)
{
    if (event->kind == LRK_EVENT_NONE || host->event == NULL) return LRK_OK;
    uint64_t failures = lrki_failures(schedule->context);
    int32_t answer = host->event(host->user, event);
    *stop = answer == LRK_RUN_STOP;
    if (answer == 0 || *stop) return LRK_OK;
    return lrki_fail_callback(schedule->context, LRK_ERR_HOST, LRKI_NOWHERE, failures,
                              "schedule: event() returned %d at step %lld", (int)answer,
                              (long long)schedule->step);
}

/* One training step, or another try of the due round; what comes of it is told. */
static lrk_status run_step(lrk_schedule *schedule, const lrk_run_callbacks *host, bool *stop)
{
    lrk_schedule_event event = event_of(schedule);
    lrk_status status;
    if (schedule->due) {
        status = attempt(schedule, &event);
    } else {
        uint64_t failures = lrki_failures(schedule->context);
        int32_t answer = host->train_step(host->user, schedule->step);
        *stop = answer == LRK_RUN_STOP;
        if (*stop) return LRK_OK;
        if (answer != 0)
            return lrki_fail_callback(schedule->context, LRK_ERR_HOST, LRKI_NOWHERE, failures,
                                      "schedule: train_step() returned %d at step %lld", (int)answer,
                                      (long long)schedule->step);
        status = advance(schedule, &event);
    }
    event.struct_size = sizeof event;
    if (status != LRK_OK && event.kind != LRK_EVENT_ROUND_DONE) return status;
    lrk_status told = tell(schedule, host, &event, stop);
    return status != LRK_OK ? status : told;
}

static lrk_status check_run(const lrk_schedule *schedule, const lrk_run_callbacks *host)
{
    if (schedule->busy) return lrki_fail(schedule->context, LRK_ERR_BUSY, "schedule: run from within itself");
    if (host->flags != 0 || host->train_step == NULL)
        return lrki_fail(schedule->context, LRK_ERR_ARGUMENT,
                         "run callbacks: no train_step() or unknown flags");
    if (!schedule->bound && schedule->next_round < schedule->rounds)
        return lrki_fail(schedule->context, LRK_ERR_STATE, "schedule: %d rounds to come and not bound",
                         (int)(schedule->rounds - schedule->next_round));
    return LRK_OK;
}

lrk_status lrk_schedule_run(lrk_schedule *schedule, const lrk_run_callbacks *callbacks)
{
    if (schedule == NULL) return LRK_ERR_ARGUMENT;
    if (callbacks == NULL)
        return lrki_fail(schedule->context, LRK_ERR_ARGUMENT, "schedule: callbacks must not be NULL");
    lrk_run_callbacks known = {0};
    lrk_status status =
        lrki_struct_read(schedule->context, &known, sizeof known, callbacks, 8, "run callbacks");
    if (status == LRK_OK) status = check_run(schedule, &known);
    if (status != LRK_OK) return status;
    schedule->busy = true;
    for (bool stop = false; status == LRK_OK && !stop && (schedule->due || !finished(schedule));) {
        status = run_step(schedule, &known, &stop);
        stop = stop || schedule->doomed;
    }
    schedule->busy = false;
    leave(schedule);
    return status;
}

/* ---- in a checkpoint --------------------------------------------------------------------------------- */

static void move_position(const lrk_schedule_options *options, lrki_state *state, lrki_schedule_load *at)
{
    lrki_state_same_i64(state, "unit", options->unit);
    lrki_state_same_i64(state, "rounds", options->rounds);
    lrki_state_same_f64(state, "warmup", options->warmup);
    lrki_state_same_f64(state, "recovery", options->recovery);
    lrki_state_same_i64(state, "steps_per_epoch", options->steps_per_epoch);
    lrki_state_same_i64(state, "total_steps", options->total_steps);
    lrki_state_within(state, "the step", &at->step, 0, options->total_steps);
    lrki_state_within(state, "the number of rounds", &at->rounds, 0, options->rounds);
    lrki_state_within(state, "the round", &at->next_round, 0, at->rounds);
    lrki_state_flag(state, &at->due);
}

lrk_context *lrki_schedule_context(const lrk_schedule *schedule)
{
    return schedule->context;
}

void lrki_schedule_save(const lrk_schedule *schedule, lrki_state *state)
{
    lrki_schedule_load at = {.step = schedule->step,
                             .rounds = schedule->rounds,
                             .next_round = schedule->next_round,
                             .due = schedule->due};
    if (schedule->passed)
        (void)lrki_state_fail(state, LRK_ERR_BUSY, "the observers of round %d are being told",
                              (int)schedule->next_round);
    move_position(&schedule->options, state, &at);
}

lrk_status lrki_schedule_load_begin(lrk_schedule *schedule, lrki_state *state, lrki_schedule_load *load)
{
    *load = (lrki_schedule_load){.schedule = schedule};
    if (schedule->busy)
        return lrki_state_fail(state, LRK_ERR_BUSY, "loaded from within its own round or run");
    move_position(&schedule->options, state, load);
    if (load->due && (load->next_round >= load->rounds ||
                      load->step != round_step(&schedule->options, (int32_t)load->next_round)))
        (void)lrki_state_fail(state, LRK_ERR_FORMAT, "round %lld cannot be due after step %lld",
                              (long long)load->next_round, (long long)load->step);
    return state->status;
}

void lrki_schedule_load_commit(const lrki_schedule_load *load)
{
    lrk_schedule *schedule = load->schedule;
    schedule->step = load->step;
    schedule->rounds = (int32_t)load->rounds;
    schedule->next_round = (int32_t)load->next_round;
    schedule->due = load->due;
}
