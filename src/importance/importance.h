/* SPDX-License-Identifier: MIT */
/*
 * Importance, internal: what an estimator is, what scores hold, and the few statistics that both need.
 * An estimator is one file that defines a lrki_estimator_type and its public create function, and one line in
 * LRKI_ESTIMATORS. Invariants: an estimator never changes its set; scores are immutable once handed out.
 */
#ifndef LRKI_IMPORTANCE_H
#define LRKI_IMPORTANCE_H

#include "../adapters/set.h"
#include "../core/core.h"
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

#define LRKI_ESTIMATORS(X)                                                                                   \
    X(ablation)                                                                                              \
    X(random)                                                                                                \
    X(custom)

/* What a kind keeps in a checkpoint. A kind whose runs cannot be paused has `same` alone. */
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
    void *state; /* [type->state_size], zeroed at creation */
    bool running;
};

/* An estimator of a LRKI_KIND_... with zeroed state; NULL on lack of memory (recorded). */
lrk_estimator *lrki_estimator_new(lrk_adapters *adapters, int32_t kind);
lrk_estimator *lrki_estimator_ref(lrk_estimator *estimator);
void lrki_estimator_unref(lrk_estimator *estimator);

/* Brackets a call to the host: the set may be read, and not changed, in between. Pass the result of begin to end. */
bool lrki_host_call_begin(lrk_estimator *estimator);
void lrki_host_call_end(lrk_estimator *estimator, bool before);

/* ---- asking the host (evaluation.c) ------------------------------------------------------------------ */

/* One question: the set under a baseline, or under it without (alone with) one rank. */
typedef struct lrki_question {
    int32_t baseline; /* LRK_BASELINE_...            */
    int64_t flat;     /* rank, or LRKI_BASELINE_SELF */
} lrki_question;

#define LRKI_BASELINE_SELF (-1)

/*
 * Puts n questions of one baseline to the host in one call; parts [n x n_parts] gets the checked losses. `index` is the
 * number of the first in the run. `set` supplies module and identity of a flat rank.
 */
lrk_status lrki_evaluate(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                         const lrki_question *questions, int32_t n, int64_t index, lrk_loss_part *parts);

/* Forward and backward under a baseline: losses, and gradient[flat] = dL/dm of every live rank. */
lrk_status lrki_differentiate(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                              int32_t baseline, int64_t index, lrk_loss_part *parts, double *gradient);

/* ---- ablation (the rest is in ablation.h) ------------------------------------------------------------ */

/* LRK_ERR_ARGUMENT with a detail that begins with the member's name if a value is out of range. */
lrk_status lrki_ablation_options_check(lrk_context *context, const lrk_ablation_options *options);

#endif
