/* SPDX-License-Identifier: MIT */
/*
 * Carrying a plan out: prepare takes all memory and hears every participant, commit cannot fail, abandon undoes
 * prepare. The set itself comes first in prepare and in commit; participants follow in order and are undone in reverse.
 * Invariant: between prepare and its end the set has exactly this change pending.
 */
#include "allocation.h"

static lrk_context *context_of(const lrk_plan *plan)
{
    return plan->allocator->adapters->context;
}

static const char *name_of(const lrk_participant *participant)
{
    return participant->name != NULL ? participant->name : "(unnamed)";
}

/* ---- prepare ----------------------------------------------------------------------------------------------------------- */

static lrk_status check_open(const lrk_plan *plan)
{
    const lrk_adapters *adapters = plan->allocator->adapters;
    if (plan->state != LRK_PLAN_OPEN)
        return lrki_fail(adapters->context, LRK_ERR_STATE, "the plan of round %llu is not open",
                         (unsigned long long)plan->round);
    lrk_status status = lrki_adapters_check_idle(adapters, "preparing a plan");
    if (status != LRK_OK) return status;
    if (plan->generation != adapters->generation)
        return lrki_fail(adapters->context, LRK_ERR_STALE, "ranks changed since the plan was made");
    if (plan->values_version != adapters->values_version)
        return lrki_fail(adapters->context, LRK_ERR_STALE, "parameters changed since the plan was made");
    return LRK_OK;
}

lrk_status lrki_participant_read(lrk_context *context, const lrk_participant *given, int64_t i,
                                 lrk_participant *participant)
{
    lrk_status status = lrki_struct_read_at(context, participant, sizeof *participant, given, i,
                                            sizeof *participant, "lrk_participant");
    if (status != LRK_OK) return status;
    if (participant->flags == 0 && participant->prepare && participant->commit && participant->abandon)
        return LRK_OK;
    return lrki_fail(context, LRK_ERR_ARGUMENT, "participant %lld '%s' has flags or lacks a function",
                     (long long)i, name_of(participant));
}

static void forget_participants(lrk_plan *plan)
{
    lrki_array_free(context_of(plan), plan->participants, plan->n_participants, sizeof *plan->participants);
    plan->participants = NULL;
    plan->n_participants = 0;
}

static lrk_status copy_participants(lrk_plan *plan, const lrk_participant *given, int64_t n)
{
    lrk_context *context = context_of(plan);
    if (n < 0 || (n > 0 && given == NULL))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "participants is NULL, or n_participants is negative");
    plan->participants = lrki_array(context, n, sizeof *plan->participants);
    if (plan->participants == NULL) return lrki_fail_nomem(context, "the participants");
    plan->n_participants = n;
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < n && status == LRK_OK; i++)
        status = lrki_participant_read(context, given, i, &plan->participants[i]);
    if (status != LRK_OK) forget_participants(plan);
    return status;
}

static void abandon_participants(lrk_plan *plan, int64_t n_prepared)
{
    for (int64_t i = n_prepared - 1; i >= 0; i--)
        plan->participants[i].abandon(plan->participants[i].user, plan);
}

static lrk_status ask_participants(lrk_plan *plan)
{
    for (int64_t i = 0; i < plan->n_participants; i++) {
        const lrk_participant *participant = &plan->participants[i];
        uint64_t failures = lrki_failures(context_of(plan));
        int32_t answer = participant->prepare(participant->user, plan);
        if (answer == 0) continue;
        abandon_participants(plan, i);
        return lrki_fail_callback(context_of(plan), LRK_ERR_REFUSED, LRKI_NOWHERE, failures,
                                  "participant '%s' refused the plan of round %llu (%d)",
                                  name_of(participant), (unsigned long long)plan->round, (int)answer);
    }
    return LRK_OK;
}

static lrk_status prepare(lrk_plan *plan)
{
    lrk_allocator *allocator = plan->allocator;
    lrk_status status = lrki_change_prepare(allocator->adapters, plan->change_parts, plan->step,
                                            allocator->new_rank_init, &plan->change);
    if (status != LRK_OK) return status;
    status = ask_participants(plan);
    if (status == LRK_OK) return LRK_OK;
    lrki_change_abandon(plan->change);
    plan->change = NULL;
    return status;
}

static void undo_prepare(lrk_plan *plan)
{
    abandon_participants(plan, plan->n_participants);
    lrki_change_abandon(plan->change);
    plan->change = NULL;
    forget_participants(plan);
}

/* The end of a call that ran callbacks; one of them may have destroyed the plan. */
static void leave(lrk_plan *plan)
{
    plan->busy = false;
    if (plan->doomed) lrk_plan_destroy(plan);
}

/* First that all workers have the same plan before them, then that nobody on any of them refuses. */
lrk_status lrk_plan_prepare(lrk_plan *plan, const lrk_participant *participants, int64_t n_participants)
{
    if (plan == NULL) return LRK_ERR_ARGUMENT;
    if (plan->busy)
        return lrki_fail(context_of(plan), LRK_ERR_BUSY,
                         "the plan is being prepared, committed or abandoned");
    lrki_talk talk = lrki_talk_begin(context_of(plan), "lrk_plan_prepare");
    const lrki_claim claim = {"the plan", plan->digest};
    lrk_status status = check_open(plan);
    if (status == LRK_OK) status = copy_participants(plan, participants, n_participants);
    bool copied = status == LRK_OK;
    plan->busy = true;
    status = lrki_talk_agree(&talk, "its beginning", status, &claim, 1);
    bool prepared = false;
    if (status == LRK_OK) {
        status = prepare(plan);
        prepared = status == LRK_OK;
        status = lrki_talk_end(&talk, "its end", status, NULL, 0);
    }
    if (status == LRK_OK)
        plan->state = LRK_PLAN_PREPARED;
    else if (prepared)
        undo_prepare(plan);
    else if (copied)
        forget_participants(plan);
    leave(plan);
    return status;
}

/* ---- commit and abandon -------------------------------------------------------------------------------------------------- */

static void count_round(const lrk_plan *plan)
{
    lrk_allocator *allocator = plan->allocator;
    allocator->plan_pending = false;
    allocator->round++;
    for (int64_t i = 0; i < plan->n_modules; i++)
        if (plan->parts[i].n_dropped > 0) allocator->pruned[i] = true;
}

/* A participant may read the set, and neither change it nor open a pass before the ones after it have followed. */
static void commit_participants(lrk_plan *plan)
{
    lrk_adapters *adapters = plan->allocator->adapters;
    bool before = adapters->in_host_callback;
    adapters->in_host_callback = adapters->change_pending = true;
    for (int64_t i = 0; i < plan->n_participants; i++)
        plan->participants[i].commit(plan->participants[i].user, plan);
    adapters->in_host_callback = before;
    adapters->change_pending = false;
}

/* Before ranks move: positions are those before the plan. */
static void silence(const lrk_plan *plan)
{
    const lrk_adapters *adapters = plan->allocator->adapters;
    int64_t at = 0;
    for (int64_t i = 0; i < plan->n_modules; i++)
        for (int64_t j = 0; j < adapters->modules[i].bank.rank; j++)
            if (plan->silenced[at++] != 0) adapters->modules[i].bank.gates[j] = 0;
}

lrk_status lrk_plan_commit(lrk_plan *plan)
{
    if (plan == NULL) return LRK_ERR_ARGUMENT;
    if (plan->state != LRK_PLAN_PREPARED || plan->busy)
        return lrki_fail(context_of(plan), LRK_ERR_STATE, "the plan of round %llu is not prepared",
                         (unsigned long long)plan->round);
    plan->busy = true;
    silence(plan);
    lrki_change_commit(plan->change);
    plan->change = NULL;
    plan->state = LRK_PLAN_COMMITTED;
    count_round(plan);
    commit_participants(plan);
    forget_participants(plan);
    leave(plan);
    return LRK_OK;
}

lrk_status lrk_plan_abandon(lrk_plan *plan)
{
    if (plan == NULL) return LRK_ERR_ARGUMENT;
    if (plan->busy || (plan->state != LRK_PLAN_OPEN && plan->state != LRK_PLAN_PREPARED))
        return lrki_fail(context_of(plan), LRK_ERR_STATE,
                         "the plan of round %llu is committed, abandoned or just being so",
                         (unsigned long long)plan->round);
    plan->busy = true;
    if (plan->state == LRK_PLAN_PREPARED) undo_prepare(plan);
    plan->state = LRK_PLAN_ABANDONED;
    plan->allocator->plan_pending = false;
    leave(plan);
    return LRK_OK;
}

void lrk_plan_destroy(lrk_plan *plan)
{
    if (plan == NULL) return;
    if (plan->busy) {
        plan->doomed = true;
        return;
    }
    plan->doomed = false;
    unsigned long long round = plan->round;
    if (plan->state == LRK_PLAN_PREPARED) {
        lrki_log(context_of(plan), LRK_LOG_WARNING,
                 "the plan of round %llu was destroyed while prepared: abandoned", round);
        lrk_plan_abandon(plan);
    } else if (plan->state == LRK_PLAN_OPEN) {
        lrki_log(context_of(plan), LRK_LOG_WARNING,
                 "the plan of round %llu was destroyed while open: its allocator still waits for it", round);
    }
    lrki_plan_free(plan);
}
