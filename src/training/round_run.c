/* SPDX-License-Identifier: MIT */
/*
 * One round: score -> plan -> prepare -> commit -> observers. Every step is the public one; this file decides only their
 * order and what is given up when one fails. Invariant: after a failure before the commit no plan is on the allocator's
 * account, so that the round can be tried again.
 */
#include "../allocation/allocation.h"
#include "../importance/importance.h"
#include "schedule.h"

lrk_status lrk_round_binding_init(lrk_round_binding *binding, size_t struct_size)
{
    static const lrk_round_binding defaults = {0};
    return lrki_struct_init(binding, struct_size, &defaults, sizeof defaults);
}

/* ---- the binding ------------------------------------------------------------------------------------- */

static lrk_status read_observer(lrk_context *context, const lrk_round_binding *binding, int64_t i,
                                lrk_round_observer *known)
{
    *known = (lrk_round_observer){0};
    lrk_status status =
        lrki_struct_read_at(context, known, sizeof *known, binding->observers, i, 8, "round observer");
    if (status == LRK_OK && (known->flags != 0 || known->round == NULL))
        status = lrki_fail(context, LRK_ERR_ARGUMENT, "round observer %lld: no round() or unknown flags",
                           (long long)i);
    return status;
}

static lrk_status check_entries(lrk_context *context, const lrk_round_binding *binding)
{
    lrk_status status = LRK_OK;
    lrk_participant participant;
    for (int64_t i = 0; i < binding->n_participants && status == LRK_OK; i++)
        status = lrki_participant_read(context, binding->participants, i, &participant);
    lrk_round_observer observer;
    for (int64_t i = 0; i < binding->n_observers && status == LRK_OK; i++)
        status = read_observer(context, binding, i, &observer);
    return status;
}

static lrk_status read_binding(lrk_context *context, const lrk_round_binding *given, lrk_round_binding *known)
{
    *known = (lrk_round_binding){0};
    lrk_status status = lrki_struct_read(context, known, sizeof *known, given, 8, "round binding");
    if (status != LRK_OK) return status;
    if (known->flags != 0) return lrki_fail(context, LRK_ERR_ARGUMENT, "round binding: unknown flags");
    if (known->estimator == NULL || known->allocator == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "round binding: estimator and allocator must not be NULL");
    if (known->estimator->adapters != known->allocator->adapters)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "round binding: estimator and allocator are of two sets");
    if (known->n_participants < 0 || (known->participants == NULL && known->n_participants > 0))
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "round binding: participants do not match n_participants");
    if (known->n_observers < 0 || (known->observers == NULL && known->n_observers > 0))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "round binding: observers do not match n_observers");
    return check_entries(context, known);
}

/* The entries were checked already. */
static void copy_entries(lrk_context *context, lrki_binding *binding)
{
    const lrk_round_binding *given = &binding->given;
    for (int64_t i = 0; i < given->n_participants; i++)
        (void)lrki_participant_read(context, given->participants, i, &binding->participants[i]);
    for (int64_t i = 0; i < given->n_observers; i++)
        (void)read_observer(context, given, i, &binding->observers[i]);
}

lrk_status lrki_binding_copy(lrk_context *context, const lrk_round_binding *given, lrki_binding *binding)
{
    lrki_binding made = {0};
    lrk_status status = read_binding(context, given, &made.given);
    if (status != LRK_OK) return status;
    (void)lrki_estimator_ref(made.given.estimator);
    (void)lrki_allocator_ref(made.given.allocator);
    made.participants = lrki_array(context, made.given.n_participants, sizeof *made.participants);
    made.observers = lrki_array(context, made.given.n_observers, sizeof *made.observers);
    if (made.participants == NULL || made.observers == NULL) {
        lrki_binding_free(context, &made);
        return lrki_fail_nomem(context, "a round binding");
    }
    copy_entries(context, &made);
    made.given.participants = made.participants;
    made.given.observers = made.observers;
    *binding = made;
    return LRK_OK;
}

void lrki_binding_free(lrk_context *context, lrki_binding *binding)
{
    lrki_array_free(context, binding->participants, binding->given.n_participants,
                    sizeof *binding->participants);
    lrki_array_free(context, binding->observers, binding->given.n_observers, sizeof *binding->observers);
    lrki_estimator_unref(binding->given.estimator);
    lrki_allocator_unref(binding->given.allocator);
    *binding = (lrki_binding){0};
}

/* ---- the round --------------------------------------------------------------------------------------- */

static lrk_status tell_observers(lrk_context *context, const lrk_round_binding *binding,
                                 const lrk_scores *scores, const lrk_plan *plan)
{
    lrk_status first = LRK_OK;
    for (int64_t i = 0; i < binding->n_observers; i++) {
        lrk_round_observer observer;
        lrk_status status = read_observer(context, binding, i, &observer);
        uint64_t failures = lrki_failures(context);
        int32_t answer = status == LRK_OK ? observer.round(observer.user, scores, plan) : 0;
        if (answer != 0)
            status = lrki_fail_callback(context, LRK_ERR_HOST, LRKI_NOWHERE, failures,
                                        "round observer %lld returned %d; the round is carried out",
                                        (long long)i, (int)answer);
        if (first == LRK_OK) first = status;
    }
    return first;
}

/* Plan and prepare; *plan is NULL and off the allocator's account after a failure. */
static lrk_status plan_and_prepare(const lrk_round_binding *binding, const lrk_scores *scores, int64_t step,
                                   lrk_plan **plan)
{
    lrk_status status = lrk_allocator_plan(binding->allocator, scores, step, plan);
    if (status != LRK_OK) return status;
    status = lrk_plan_prepare(*plan, binding->participants, binding->n_participants);
    if (status == LRK_OK) return LRK_OK;
    (void)lrk_plan_abandon(*plan);
    lrk_plan_destroy(*plan);
    *plan = NULL;
    return status;
}

static void describe(const lrk_scores *scores, const lrk_plan *plan, uint64_t round, int64_t step,
                     lrk_schedule_event *event)
{
    lrk_plan_info info = {.struct_size = sizeof info};
    (void)lrk_plan_info_get(plan, &info);
    *event = (lrk_schedule_event){.kind = LRK_EVENT_ROUND_DONE,
                                  .step = step,
                                  .round = (int32_t)round,
                                  .n_dropped = info.n_dropped,
                                  .n_added = info.n_added,
                                  .evaluations = scores->info.evaluations,
                                  .differentiations = scores->info.differentiations};
}

lrk_status lrki_round_carry_out(const lrk_round_binding *binding, uint64_t round, int64_t step,
                                lrk_schedule_event *event, bool *done)
{
    *done = false;
    lrk_scores *scores;
    lrk_status status = lrk_estimator_run(binding->estimator, round, &scores);
    if (status != LRK_OK) return status;
    lrk_plan *plan;
    status = plan_and_prepare(binding, scores, step, &plan);
    if (status == LRK_OK) {
        (void)lrk_plan_commit(plan);
        *done = true;
        describe(scores, plan, round, step, event);
        status = tell_observers(binding->estimator->adapters->context, binding, scores, plan);
        lrk_plan_destroy(plan);
    }
    lrk_scores_destroy(scores);
    return status;
}

lrk_status lrk_round_run(const lrk_round_binding *binding, uint64_t round, int64_t step,
                         lrk_schedule_event *event)
{
    if (binding == NULL || binding->estimator == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = binding->estimator->adapters->context;
    lrk_round_binding known;
    lrk_status status = read_binding(context, binding, &known);
    if (status != LRK_OK) return status;
    if (step < 0 || round > INT32_MAX)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "round run: step must be >= 0 and round fit in 31 bits");
    lrk_schedule_event told = {.kind = LRK_EVENT_NONE, .step = step, .round = (int32_t)round};
    status = lrki_struct_write(context, event, &told, sizeof told, "event");
    if (status != LRK_OK) return status;
    bool done;
    status = lrki_round_carry_out(&known, round, step, &told, &done);
    (void)lrki_struct_write(context, event, &told, sizeof told, "event");
    return status;
}
