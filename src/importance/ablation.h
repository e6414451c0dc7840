/* SPDX-License-Identifier: MIT */
/*
 * Ablation, internal: the state of an estimator that ablates, shared by the sequence of questions (ablation.c), what
 * the answers mean (ablation_answers.c), the run's memory and result (ablation_run.c), the screen (pool.c) and the
 * options (ablation_options.c). Invariant: a run is changed only by a whole answer of the host, so that it can be gone
 * on with after any failure.
 */
#ifndef LRKI_ABLATION_H
#define LRKI_ABLATION_H

#include "importance.h"

/* ---- pool -------------------------------------------------------------------------------------------- */

/* Live ranks in the order in which they are ablated exactly: the first `size` are the pool. */
typedef struct lrki_pool {
    int64_t n;
    int64_t size;
    const lrk_score **order;   /* [n] into the scores, lowest estimate first */
    const lrk_score **scratch; /* [n] */
} lrki_pool;

/* Ranks that the first pool takes, and the most that any pool may take, of n live ones. */
int64_t lrki_pool_first(const lrk_ablation_options *options, int64_t n);
int64_t lrki_pool_most(const lrk_ablation_options *options, int64_t n);

lrk_status lrki_pool_create(lrk_context *context, const lrk_scores *scores, lrki_pool *pool);
void lrki_pool_free(lrk_context *context, lrki_pool *pool);

/* Orders the ranks by their estimates and takes the first pool. */
void lrki_pool_choose(lrki_pool *pool, const lrk_ablation_options *options);

/*
 * Takes the ranks that join once the pool is scored, none if no rank outside is estimated below the cut; *left_out gets
 * how many such ranks remain outside only because of pool_limit. Returns how many joined.
 */
int64_t lrki_pool_grow(lrki_pool *pool, const lrk_ablation_options *options, int64_t *left_out);

/* ---- run --------------------------------------------------------------------------------------------- */

/* What a run does next; a step without work is passed over. */
enum {
    LRKI_DIFFERENTIATE_ALL,
    LRKI_DIFFERENTIATE_NONE,
    LRKI_BASE_ALL,
    LRKI_WITHOUT_EACH,
    LRKI_BASE_NONE,
    LRKI_ONLY_EACH,
    LRKI_GROW,
    LRKI_FINISHED
};

/* What is known of one baseline. */
typedef struct lrki_baseline {
    double *losses; /* [n_parts] sums */
    double loss;    /* mean           */
    int64_t asked;  /* evaluations    */
    double change;  /* largest |mean - loss| of the repeats */
} lrki_baseline;

/* A rank to be ablated; a group is asked in this order. */
typedef struct lrki_ablated {
    int32_t stage;
    int64_t flat;
} lrki_ablated;

typedef struct lrki_ablation_run {
    int64_t n;          /* live ranks */
    lrk_scores *scores; /* being filled; says which state of the set is scored */
    lrki_pool pool;
    lrki_ablated *group; /* [n] the ranks now asked about: those that joined the pool last */
    int64_t n_group;
    int64_t cursor; /* in the group */
    int step;
    lrki_baseline baselines[2]; /* by LRK_BASELINE_... */
    double *weights;            /* [n_parts], 0 until known */
    double *differences;        /* [n x n_parts] terms of the score by part; NULL with one part */
    double *gradient;           /* [n] scratch */
    int64_t at_once;            /* most questions of one call: more than ranks there are none */
    lrk_loss_part *parts;       /* [at_once x n_parts] scratch */
    lrki_question *questions;   /* [at_once] scratch */
} lrki_ablation_run;

typedef struct lrki_ablation {
    lrk_evaluator host;
    lrk_ablation_options options;
    lrki_ablation_run *run; /* NULL: none begun */
} lrki_ablation;

/* A run over the ranks of `scores`, which it takes over (even on failure): LRK_ERR_NOMEM. Freed by _free(), NULL too. */
lrk_status lrki_ablation_run_create(lrk_estimator *estimator, lrk_scores *scores, lrki_ablation_run **run);
void lrki_ablation_run_free(lrk_estimator *estimator, lrki_ablation_run *run);

/* A run over the set's present ranks: LRK_ERR_NOMEM leaves none. */
lrk_status lrki_ablation_begin(lrk_estimator *estimator, lrki_ablation_run **run);
void lrki_ablation_forget(lrk_estimator *estimator);

/* Ranks that are ablated exactly, of n live ones, before a screen's pool grows. */
int64_t lrki_ablation_first_pool(const lrki_ablation *state, int64_t n);

/* Whether the losses of a differentiation serve as the baseline's. */
bool lrki_differentiate_is_baseline(const lrki_ablation *state);

/* Questions to the host, whose answers go into the run: a baseline's gradient, a baseline's loss, some of the group. */
lrk_status lrki_differentiate_baseline(lrk_estimator *estimator, int32_t which);
lrk_status lrki_evaluate_baseline(lrk_estimator *estimator, int32_t which);
lrk_status lrki_ablate_some(lrk_estimator *estimator, int32_t which);

/* Noise, floor, flags and facts of the finished run go into its scores. */
lrk_status lrki_ablation_finish(lrk_estimator *estimator);
/* Takes them out again, also after a failure half-way. */
void lrki_ablation_unfinish(lrki_ablation_run *run);

/* In checkpoints (ablation_state.c). */
extern const lrki_estimator_resume lrki_ablation_resume;

#endif
