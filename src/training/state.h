/* SPDX-License-Identifier: MIT */
/*
 * Optimizers and schedules in checkpoints: begin checks everything and takes all memory, commit cannot fail.
 */
#ifndef LRKI_TRAINING_STATE_H
#define LRKI_TRAINING_STATE_H

#include "../adapters/state.h"
#include "lorank/optimizer.h"
#include "lorank/schedule.h"

/* ---- optimizer ------------------------------------------------------------------------------------------------------- */

typedef struct lrki_optimizer_load {
    lrk_optimizer *optimizer;     /* borrowed */
    struct lrki_moments *moments; /* [n_modules] */
    int64_t steps;
    double gradient_norm;
} lrki_optimizer_load;

const lrk_adapters *lrki_optimizer_adapters(const lrk_optimizer *optimizer);
/* LRK_ERR_STALE if the optimizer missed a rank change. */
void lrki_optimizer_save(const lrk_optimizer *optimizer, lrki_state *state);
/* `set` is being loaded beside it. On failure nothing is held. */
lrk_status lrki_optimizer_load_begin(lrk_optimizer *optimizer, lrki_state *state,
                                     const lrki_adapters_load *set, lrki_optimizer_load *load);
/* After the set's own. */
void lrki_optimizer_load_commit(lrki_optimizer_load *load);
void lrki_optimizer_load_abandon(lrki_optimizer_load *load); /* also of a zeroed one */

/* ---- schedule -------------------------------------------------------------------------------------------------------- */

typedef struct lrki_schedule_load {
    lrk_schedule *schedule; /* borrowed */
    int64_t step;
    int64_t rounds;
    int64_t next_round;
    bool due;
} lrki_schedule_load;

lrk_context *lrki_schedule_context(const lrk_schedule *schedule);
/* LRK_ERR_BUSY inside the observers of a round: it is carried out, and not yet counted. */
void lrki_schedule_save(const lrk_schedule *schedule, lrki_state *state);
lrk_status lrki_schedule_load_begin(lrk_schedule *schedule, lrki_state *state, lrki_schedule_load *load);
void lrki_schedule_load_commit(const lrki_schedule_load *load);

#endif
