/* SPDX-License-Identifier: MIT */
/*
 * Estimators and scores in checkpoints: begin checks everything and takes all memory, commit cannot fail. What is loaded
 * speaks of the ranks that the set is being loaded with.
 */
#ifndef LRKI_IMPORTANCE_STATE_H
#define LRKI_IMPORTANCE_STATE_H

#include "../adapters/state.h"
#include "lorank/importance.h"

/* ---- scores ---------------------------------------------------------------------------------------------------------- */

const lrk_adapters *lrki_scores_adapters(const lrk_scores *scores);
/* LRK_ERR_STALE unless they are of the set as it is. */
void lrki_scores_save(const lrk_scores *scores, lrki_state *state);
/* Scores that the caller gives up by lrk_scores_destroy(); NULL after a failure. */
lrk_status lrki_scores_load(lrki_state *state, const lrki_adapters_load *set, lrk_scores **scores);
/* After the set's commit: they are of the set as it is now. */
void lrki_scores_load_commit(lrk_scores *scores);

/* ---- estimators -------------------------------------------------------------------------------------------------------- */

typedef struct lrki_estimator_load {
    lrk_estimator *estimator; /* borrowed */
    void *run;                /* a paused run as the estimator's kind keeps it; NULL: none */
} lrki_estimator_load;

const lrk_adapters *lrki_estimator_adapters(const lrk_estimator *estimator);
/* LRK_ERR_STALE if a run is paused and the set has changed since. */
void lrki_estimator_save(const lrk_estimator *estimator, lrki_state *state);
/* `set` is being loaded beside it. On failure nothing is held. */
lrk_status lrki_estimator_load_begin(lrk_estimator *estimator, lrki_state *state,
                                     const lrki_adapters_load *set, lrki_estimator_load *load);
/* After the set's own. */
void lrki_estimator_load_commit(lrki_estimator_load *load);
void lrki_estimator_load_abandon(lrki_estimator_load *load); /* also of a zeroed one */

#endif
