/* SPDX-License-Identifier: MIT */
/*
 * AdamW, internal: the optimizer's memory, which adamw_step.c steps through and moments.c moves along with rank changes.
 * Invariant: while `generation` is the set's, moments of every module fit its live ranks, row by row.
 */
#ifndef LRKI_ADAMW_H
#define LRKI_ADAMW_H

#include "../adapters/set.h"
#include "training.h"

#define LRKI_SUMS 3

/* Moments of one module, all in one block. */
typedef struct lrki_moments {
    int64_t rank;
    int64_t *steps;       /* [rank] taken by each rank                          */
    uint64_t *identities; /* [rank] so that moments are found after a restore   */
    float *first_a;       /* [rank x n_in]                                      */
    float *first_b;       /* [rank x n_out]                                     */
    float *second_a;
    float *second_b;
    float *first_gates; /* [rank]; NULL if gates are not trained                */
    float *second_gates;
    void *block;
    size_t block_bytes;
} lrki_moments;

struct lrk_optimizer {
    lrk_adapters *adapters; /* counted reference */
    lrk_adamw_options options;
    uint64_t generation; /* of the set that the moments fit */
    int64_t steps;
    double gradient_norm;
    lrki_moments *moments;  /* [n_modules]                                                   */
    lrki_moments *prepared; /* [n_modules] between prepare and its end; block NULL: unchanged */
    double *norms; /* [2 n_modules] |A A^T - I|, |B B^T - I|; NULL without that term                */
    double *sums;  /* [LRKI_SUMS n_modules] squared gradients of A, B and gates     */
    uint8_t *done; /* [n_modules] tasks of the running loop that were carried out   */
};

/* LRK_ERR_STALE unless the moments fit the set's ranks. */
lrk_status lrki_optimizer_check_fit(const lrk_optimizer *optimizer);

/* One array of n_modules, zeroed; NULL on lack of memory (recorded). */
lrki_moments *lrki_moments_new(lrk_adapters *adapters);
/* Zeroed moments of `rank` rows for one element of it; rank 0 takes no memory. LRK_ERR_NOMEM. */
lrk_status lrki_moments_make(lrk_adapters *adapters, const lrki_module *module, int64_t rank, bool gates,
                             lrki_moments *moments);
/* Moments of every module for the set's present ranks, all zero. LRK_ERR_NOMEM. */
lrk_status lrki_moments_create(lrk_optimizer *optimizer);
/* Frees an array of moments; NULL is ignored, half-built is tolerated. */
void lrki_moments_free(const lrk_optimizer *optimizer, lrki_moments *moments);

/* ---- a step (adamw_gradients.c, adamw_step.c) --------------------------------------------------------------------------- */

typedef struct lrki_step_loop {
    lrk_optimizer *optimizer;
    void (*task)(const struct lrki_step_loop *loop, int64_t module);
    double lr;
    double clip;      /* factor on every gradient                  */
    double penalty;   /* gate_l1 over the number of live ranks     */
    double threshold; /* c, times the gates' learning rate if scaled */
} lrki_step_loop;

/* The task for every module that is trained. A loop of the host that fails half-way, or leaves tasks out, is done here. */
void lrki_step_run(lrki_step_loop *loop);
/* Norm of all gradients. LRK_ERR_NONFINITE. */
lrk_status lrki_step_measure(const lrki_step_loop *step, double *norm);
/* The orthogonality term's part of the step that can fail: LRK_ERR_NONFINITE. Nothing is changed yet. */
lrk_status lrki_step_prepare_term(const lrki_step_loop *step);
/* Adds its derivative to the gradients, and measures them again. */
lrk_status lrki_step_add_term(const lrki_step_loop *step, double *norm);

/* ---- orthogonality (orthogonality.c): w is [rank x n] ------------------------------------------------------------- */

/* What sum_j P_ij w_j is multiplied with in the derivative by row i. */
double lrki_orthogonality_factor(const lrk_optimizer *optimizer, double norm);
/* Whether all elements of the derivative are finite floats. */
bool lrki_orthogonality_fits(double factor, double norm, int64_t rank);
void lrki_orthogonality_add(const float *w, int64_t rank, int64_t n, double factor, float *gradient);

/* ---- gates (gates.c) ------------------------------------------------------------------------------------------------- */

static inline bool lrki_trains_gates(const lrk_adamw_options *options)
{
    return (options->flags & LRK_ADAMW_GATES) != 0;
}

/* What is wrong with the members that concern gates, beginning with the member's name; NULL: nothing. */
const char *lrki_gates_check(const lrk_adamw_options *options);
/* c after `step` steps. */
double lrki_gate_threshold(const lrk_adamw_options *options, int64_t step);
/* Derivative by gate j of loss and penalty, `penalty` being gate_l1 over the number of live ranks. */
float lrki_gate_gradient(const lrki_bank *bank, int64_t j, double penalty);
/* The proximal step. */
float lrki_gate_shrink(int32_t rule, double gate, double c);

#endif
