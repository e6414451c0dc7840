/* SPDX-License-Identifier: MIT */
/*
 * Importance, internal: what an estimator is, what scores hold, and the few statistics that both need.
 * An estimator is one file that defines a lrki_estimator_type and its public create function, and one line in
 * LRKI_CHOSEN_ESTIMATORS. Invariants: an estimator never changes its set; scores are immutable once handed out.
 */
#ifndef LRKI_IMPORTANCE_H
#define LRKI_IMPORTANCE_H

#include "../adapters/set.h"
#include "../core/core.h"
#include "../core/method.h"
#include "../core/workers.h"
#include "lorank/importance.h"
#include "state.h"

/* ---- scores ------------------------------------------------------------------------------------------ */

struct lrk_scores {
    lrk_adapters *adapters; /* counted */
    lrk_scores_info info;
    lrk_score *scores; /* [info.n] module after module in index order */
    char *name;
};

/*
 * Scores of every live rank, with identity, module and index filled in, values 0, flags 0, the rest NaN, and facts of
 * the set's present state. NULL on lack of memory (recorded).
 */
lrk_scores *lrki_scores_new(lrk_adapters *adapters, const char *estimator);

/* Whether a comes before b in the order that prunes first: (score, module, identity). */
bool lrki_score_before(const lrk_score *a, const lrk_score *b);

/* A number that tells apart scores that differ in any bit of what a reader may see. */
uint64_t lrki_scores_digest(const lrk_scores *scores);

/* LRK_ERR_NONFINITE naming the rank if a score is not finite. */
lrk_status lrki_scores_check_finite(const lrk_scores *scores);

/* ---- statistics (statistics.c) ----------------------------------------------------------------------- */

/* Spearman correlation with mean ranks for ties; *rho is NaN for n < 2 or a constant side. LRK_ERR_NOMEM. */
lrk_status lrki_spearman(lrk_context *context, const double *x, const double *y, int64_t n, double *rho);

/*
 * Standard error of sum(part) / sum(weight) over n parts as a ratio estimator:
 *     sqrt(n / (n - 1) * sum (part_p - mean * weight_p)^2) / sum(weight),  NaN for n < 2.
 */
double lrki_ratio_error(const double *parts, const double *weights, int64_t n);

/* sum(part) / sum(weight) over parts first, first + step, ... */
double lrki_ratio_mean(const double *parts, const double *weights, int64_t n, int64_t first, int64_t step);

/* ---- estimators -------------------------------------------------------------------------------------- */

/* By their words in a text. */
#define LRKI_CHOSEN_ESTIMATORS(X)                                                                            \
    X(ablation)                                                                                              \
    X(random)                                                                                                \
    X(sensitivity)                                                                                           \
    X(taylor)                                                                                                \
    X(magnitude)                                                                                             \
    X(gate)                                                                                                  \
    X(output)                                                                                                \
    X(selection)                                                                                             \
    X(salience)

#define LRKI_ESTIMATORS(X)                                                                                   \
    LRKI_CHOSEN_ESTIMATORS(X)                                                                                \
    X(custom)                                                                                                \
    X(reversed)

/* What a text says to an estimator beside its own options, and what the host has for it. */
typedef struct lrki_estimator_terms {
    const lrk_evaluator *evaluator; /* NULL: none                                      */
    uint64_t seed;
    int64_t n_cut;    /* ranks that the next round prunes; 0: not known, or none */
    int32_t n_rounds; /* of the schedule                                         */
} lrki_estimator_terms;

/* What a kind keeps in a checkpoint: a paused run, or what it observed. A kind that keeps nothing has `same` alone. */
typedef struct lrki_estimator_resume {
    void (*same)(const lrk_estimator *estimator, lrki_state *state); /* options that change results */
    bool (*has_run)(const lrk_estimator *estimator);
    void (*save_run)(const lrk_estimator *estimator, lrki_state *state);
    /* Takes all memory beside the estimator, for the ranks that the set is being loaded with. */
    lrk_status (*load_run)(lrk_estimator *estimator, lrki_state *state, const lrki_adapters_load *set,
                           void **run);
    void (*adopt_run)(lrk_estimator *estimator, void *run); /* instead of its present one; NULL: none */
    void (*drop_run)(lrk_estimator *estimator, void *run);
} lrki_estimator_resume;

typedef struct lrki_estimator_type {
    size_t state_size;
    const lrki_estimator_resume *resume;
    lrk_status (*estimate)(const lrk_estimator *estimator, lrk_estimate *estimate); /* ranks are filled in */
    lrk_status (*run)(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores);
    void (*reset)(lrk_estimator *estimator); /* forgets a paused run; NULL: has none             */
    void (*fini)(lrk_estimator *estimator);  /* frees what the state holds; NULL: holds nothing */
    /* Looking at the gradients of a step; both NULL: does not. prepare takes all memory, observe cannot fail. */
    lrk_status (*prepare)(lrk_estimator *estimator);
    void (*observe)(lrk_estimator *estimator);
    lrk_estimator *(*inner)(const lrk_estimator *estimator); /* whose scores it alters; NULL: its own */
    /* Of those that a text chooses, else empty. check: of a text, which may leave out what the terms bring; NULL: none. */
    lrki_method method;
    lrk_status (*check)(lrk_context *context, const void *options);
    lrk_status (*create)(lrk_adapters *adapters, const lrki_estimator_terms *terms, const void *options,
                         lrk_estimator **estimator);
} lrki_estimator_type;

#define LRKI_ESTIMATOR_KIND(name) LRKI_KIND_##name,
enum { LRKI_ESTIMATORS(LRKI_ESTIMATOR_KIND) LRKI_N_KINDS };
#undef LRKI_ESTIMATOR_KIND

#define LRKI_ESTIMATOR_EXTERN(name) extern const lrki_estimator_type lrki_estimator_##name;
LRKI_ESTIMATORS(LRKI_ESTIMATOR_EXTERN)
#undef LRKI_ESTIMATOR_EXTERN

struct lrk_estimator {
    int64_t references; /* atomic */
    lrk_adapters *adapters;
    int32_t kind; /* LRKI_KIND_... */
    const lrki_estimator_type *type;
    void *state;            /* [type->state_size]                     */
    lrki_listener listener; /* of a kind that observes                */
    bool running;
    lrki_talk talk; /* with other workers, while running */
};

/* An estimator of a LRKI_KIND_... with zeroed state; NULL on lack of memory (recorded). */
lrk_estimator *lrki_estimator_new(lrk_adapters *adapters, int32_t kind);
lrk_estimator *lrki_estimator_ref(lrk_estimator *estimator);
void lrki_estimator_unref(lrk_estimator *estimator);

/*
 * What every create function does that has checked its other arguments: checks, and a new estimator with a copy of
 * `state` (NULL: zeroed). `what` begins details ("magnitude estimator"). Kinds that observe: LRK_ERR_UNSUPPORTED for an
 * inference-only set.
 */
lrk_status lrki_estimator_create(lrk_adapters *adapters, int32_t kind, const char *what, const void *state,
                                 lrk_estimator **estimator);

/* "ablation", ... */
const char *lrki_estimator_kind_name(const lrk_estimator *estimator);

/* For kinds whose runs ask the host nothing. */
lrk_status lrki_estimate_nothing(const lrk_estimator *estimator, lrk_estimate *estimate);

/* The beginning of a run for other workers: all may begin, on the same ranks and with the same held. */
lrk_status lrki_estimator_meet(lrk_estimator *estimator, lrk_status own);

/*
 * The end of a run for other workers: all of them succeeded, with the same scores, else a failure. A kind whose state a
 * success changes calls it before it changes it; for the others, and for failures, lrk_estimator_run() does.
 */
lrk_status lrki_estimator_agree(lrk_estimator *estimator, lrk_status own, const lrk_scores *scores);

/* Brackets a call to the host: the set may be read, and not changed, in between. Pass the result of begin to end. */
bool lrki_host_call_begin(lrk_estimator *estimator);
void lrki_host_call_end(lrk_estimator *estimator, bool before);

/* ---- asking the host (evaluation.c) ------------------------------------------------------------------ */

/* One question: the set under a baseline, or under it without (alone with) one rank; or under a mask. */
typedef struct lrki_question {
    int32_t baseline; /* LRK_BASELINE_...; the mask's        */
    int64_t flat;     /* rank, or LRKI_BASELINE_SELF         */
    lrk_mask *mask;   /* borrowed; NULL: what the others say */
} lrki_question;

#define LRKI_BASELINE_SELF (-1)

/*
 * Puts n questions of one baseline to the host in one call; parts [n x n_parts] gets the checked losses. `index` is the
 * number of the first in the run. `set` supplies module and identity of a flat rank.
 */
lrk_status lrki_ask(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                    const lrki_question *questions, int32_t n, int64_t index, lrk_loss_part *parts);

/* Forward and backward under a baseline, or a mask: losses, and gradient[flat] = dL/dm of every live rank. */
lrk_status lrki_ask_gradient(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                             const lrki_question *question, int64_t index, lrk_loss_part *parts,
                             double *gradient);

/* ---- asking the hosts of all workers (shares.c) ------------------------------------------------------ */

/* Most questions that one lrki_evaluate() takes: max_per_call of every worker. */
int32_t lrki_questions_most(const lrk_estimator *estimator, const lrk_evaluator *host);

/*
 * As lrki_ask(), for n in 1..lrki_questions_most(): a baseline's question (alone) is asked of every worker, whose answers
 * must be the same, those about ranks are shared out, in blocks. Every worker gets all answers, or a failure.
 * As lrki_ask_gradient(), of every worker.
 * Both are exchanges of the estimator's talk: within lrk_estimator_run() all workers make the same ones, whatever their
 * host answers, until one fails.
 */
lrk_status lrki_evaluate(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                         const lrki_question *questions, int32_t n, int64_t index, lrk_loss_part *parts);
lrk_status lrki_differentiate(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                              const lrki_question *question, int64_t index, lrk_loss_part *parts,
                              double *gradient);

/* Evaluates with all ranks; outputs[flat], zeroed, gets what every live rank puts out. */
lrk_status lrki_measure_outputs(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                                lrk_loss_part *parts, lrk_rank_output *outputs);

/* LRK_ERR_ARGUMENT with a detail that names the member if a value is out of range, or does not suit the mode. */
lrk_status lrki_evaluator_check(lrk_context *context, const lrk_evaluator *evaluator, int32_t mode);

/* ---- what is observed (tracker.c) -------------------------------------------------------------------- */

/* Of one module, rank by rank as they were when last followed. */
typedef struct lrki_tracked {
    int64_t rank;
    uint64_t *identities; /* [rank]                                                   */
    int64_t *counts;      /* [rank] gradients observed                                */
    double *sums;         /* [rank]                                                   */
    float *rows;          /* [rank x width], NULL if the tracker keeps none           */
} lrki_tracked;

/*
 * Per-rank records that follow their ranks by identity, whatever changed the set (plan, snapshot, checkpoint): known
 * ranks keep theirs, new ones start at zero, those of ranks gone are given up.
 */
typedef struct lrki_tracker {
    int64_t per_element; /* floats for every element of A, B and gate: a row is that times n_in + n_out + 1 */
    int64_t per_rank;    /* floats more in every row                                                        */
    lrki_tracked *modules; /* [n_modules]; NULL: nothing followed yet                                      */
} lrki_tracker;

int64_t lrki_tracker_width(const lrki_tracker *tracker, const lrki_module *module);
/* Fits the records to the set's ranks: LRK_ERR_NOMEM leaves them as they were. */
lrk_status lrki_tracker_follow(lrk_adapters *adapters, lrki_tracker *tracker);
void lrki_tracker_free(lrk_adapters *adapters, lrki_tracker *tracker);

/* Counts and sums become 0; rows stay. */
void lrki_tracker_restart(const lrk_adapters *adapters, lrki_tracker *tracker);

/* LRK_ERR_STATE naming the estimator if no live rank was ever observed; call after following. */
lrk_status lrki_tracker_check_seen(const lrk_adapters *adapters, const lrki_tracker *tracker,
                                   const char *what);

/* dL/dm = g dL/dg of rank i at m = 1, taken from the gradient of its row of A: sum_j a_ij dL/da_ij, in double. */
double lrki_mask_gradient(const lrki_module *module, int64_t i);

/* In checkpoints: records of the ranks last followed, with their identities. */
void lrki_tracker_save(lrk_adapters *adapters, const lrki_tracker *tracker, lrki_state *state);
/* A tracker of rows as wide as those of `like` beside the present one, NULL after a failure; adopting frees what was there. */
lrk_status lrki_tracker_load(lrk_adapters *adapters, const lrki_tracker *like, lrki_state *state,
                             lrki_tracker **loaded);
void lrki_tracker_adopt(lrk_adapters *adapters, lrki_tracker *tracker, lrki_tracker *loaded);
void lrki_tracker_drop(lrk_adapters *adapters, lrki_tracker *loaded);

/* ---- options (the rest of ablation is in ablation.h) ------------------------------------------------- */

/* LRK_ERR_ARGUMENT with a detail that begins with the member's name if a value is out of range. */
lrk_status lrki_ablation_options_check(lrk_context *context, const lrk_ablation_options *options);

#endif
