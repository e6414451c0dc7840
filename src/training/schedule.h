/* SPDX-License-Identifier: MIT */
/*
 * Schedules, internal: the binding that a schedule keeps, and one round of it. schedule.c decides when, round_run.c
 * carries out.
 */
#ifndef LRKI_SCHEDULE_H
#define LRKI_SCHEDULE_H

#include "../core/core.h"
#include "lorank/schedule.h"

/* A binding of the schedule's own: counted handles and copied arrays. */
typedef struct lrki_binding {
    lrk_round_binding given; /* points to the arrays below */
    lrk_participant *participants;
    lrk_round_observer *observers;
} lrki_binding;

/* Copies what the host gave; on failure nothing is held. */
lrk_status lrki_binding_copy(lrk_context *context, const lrk_round_binding *given, lrki_binding *binding);
/* Tolerates a zeroed binding. */
void lrki_binding_free(lrk_context *context, lrki_binding *binding);

/* As lrk_round_run(), and *done says whether the plan was committed (an observer may have failed after it). */
lrk_status lrki_round_carry_out(const lrk_round_binding *binding, uint64_t round, int64_t step,
                                lrk_schedule_event *event, bool *done);

#endif
