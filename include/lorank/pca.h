/* SPDX-License-Identifier: MIT */
/*
 * Principal components of layer inputs, kept up to date batch by batch: what EVA (Paischer et al. 2024, arXiv:2410.07170)
 * begins with. Of the rows x of an input it holds, in double, their number n, their mean mu [n_in], the sum V of their squared
 * distances from the mean, and the k leading singular values sigma and right singular vectors C [k x n_in] of the centred rows. A
 * batch X [T x n_in] with mean m makes the matrix
 *     M = [diag(sigma) C;  X - m;  sqrt(n T / (n + T)) (mu - m)]
 * whose k leading singular values and right singular vectors are the new ones: incremental principal component analysis
 * (Ross, Lim, Lin and Yang 2008), exact if k directions hold all, else with what lay beyond k left out batch by batch. M is
 * decomposed through M M^T, so that nothing of size n_in x n_in is formed; rows of X are held for the batch alone.
 * The share of variance that component i explains is sigma_i^2 / V.
 *
 * A pass feeds an object that its options name (pass.h), by lrk_forward(): nothing else changes in the host's model. Modules of
 * one input group share one decomposition; it is fed by calls with the group's lowest module. Whose inputs they are depends on the
 * pass: the base model's with adapters silent (mask none) or B = 0; x before dropout. A host that runs blocks again in its
 * backward would feed them twice: it runs forward alone.
 * Rank changes do not touch it. Threads: handle-exclusive; one open pass at a time feeds it.
 */
#ifndef LRK_PCA_H
#define LRK_PCA_H

#include <stdint.h>

#include "adapters.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_pca lrk_pca;

typedef struct lrk_pca_options {
    uint32_t struct_size;
    uint32_t flags;     /* 0                                                                                        */
    double rho;         /* > 0: components over the live ranks of a module, rounded to nearest, halves to even; a group
                           has as many as its member of most ranks asks for [2]                                     */
    double tau;         /* in (0, 1]: cosine to its last direction at which a component has converged [0.99]        */
    int64_t batch_rows; /* >= 1: a call with more rows is several batches of about equal size [256]                 */
} lrk_pca_options;

typedef struct lrk_pca_info {
    uint32_t struct_size;
    uint32_t flags;
    int64_t components; /* k: the most that a module of the group asks for, no more than n_in                       */
    int64_t converged;  /* leading components that the last call that fed it, or the last state that was added to what
                           it had, turned by no more than tau allows                                                */
    int64_t wanted;     /* components that must converge: k, or what lrk_eva_settle() found                          */
    double rows;        /* rows fed; 0: no forward reached it                                                       */
    double variance;    /* V / rows: sum over features                                                              */
} lrk_pca_info;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_pca_options_init(lrk_pca_options *options, size_t struct_size);

/*
 * Components of every module's input, nothing fed. options may be NULL. A module of rank 0 asks for none; an input of which none
 * is asked is not looked at.
 * Errors   LRK_ERR_ARGUMENT (a value out of range), LRK_ERR_SHAPE (a size overflows, or is too large for LAPACK), LRK_ERR_VERSION,
 *          LRK_ERR_NOMEM
 * Memory   a group: k n_in + n_in doubles; once, of the largest: k n_in + (k + batch_rows + 1) (n_in + 2 k + batch_rows + 30).
 * Owner    the caller; keeps the set alive. Inference-only sets too.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_pca_create(lrk_adapters *adapters, const lrk_pca_options *options, lrk_pca **pca);

/* Gives up the caller's reference. NULL is ignored. Since 0.1 */
LRK_API void lrk_pca_destroy(lrk_pca *pca);

/*
 * Which rows of every x of the following calls count (those with counts[i] != 0, of exactly n rows): padding and masked tokens
 * are left out. Copied. NULL with 0: all of them.
 * Errors   LRK_ERR_ARGUMENT, LRK_ERR_BUSY (an open pass feeds it), LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_pca_select(lrk_pca *pca, const uint8_t *counts, int64_t n);

/* Facts of a module's input. Errors: LRK_ERR_ARGUMENT (no such module). Threads: shared-read. Since 0.1 */
LRK_API lrk_status lrk_pca_info_get(const lrk_pca *pca, int32_t module, lrk_pca_info *info);

/*
 * The n leading singular values, descending, into values[0..n), their shares of the variance into shares (may be NULL), and the
 * components as rows of components [n x n_in] (may be NULL). Of a component the entry of largest magnitude is positive.
 * Errors   LRK_ERR_ARGUMENT (no such module, values NULL, n < 1 or above the module's components), LRK_ERR_BUSY
 *          LRK_ERR_NONFINITE  a row fed was not finite, or its square is not
 * Special  fewer rows than components, or an input that does not vary: values and rows of 0.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_pca_components(const lrk_pca *pca, int32_t module, int64_t n, double *values,
                                                      double *shares, double *components);

/*
 * All that was fed, as n consecutive doubles (per group rows, V, converged, mu, sigma, C), borrowed until destruction: what a
 * worker sends to the others.
 * Errors   LRK_ERR_ARGUMENT, LRK_ERR_BUSY (an open pass feeds it).   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_pca_state(const lrk_pca *pca, const double **state, int64_t *n);

/*
 * Adds what another object of the same modules, ranks and options was fed, from its state: M above with diag(sigma) C of the other in
 * place of X - m. This is no sum: every worker gathers all states and adds them, in the workers' order, to an object of
 * its own to which nothing was fed; then all hold the same bits. Workers between whose batches this is done see what one
 * worker sees, but for what lies beyond k: each turn feeds a new object, gathers it (lrk_pca_gather()) and adds it to one that all
 * hold, which lrk_eva_settle() then looks at.
 * Errors   LRK_ERR_ARGUMENT (NULL, another n, a state that is its own), LRK_ERR_BUSY, LRK_ERR_HOST (parallel_for failed; the
 *          object is then unspecified).   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_pca_add(lrk_pca *pca, const double *state, int64_t n);

/*
 * The object becomes what all workers' objects (workers.h) make together: from nothing, every worker's state is added in their
 * order, by lrk_pca_add(). All workers hold the same bits. Collective; once, when each of them was fed its share, and before the plan. One worker: nothing changes.
 * Errors   LRK_ERR_STATE     it was gathered already: rows would count again
 *          LRK_ERR_WORKERS   another worker failed, or has other modules, ranks or options, or came to other bits
 *          LRK_ERR_HOST      gather() or parallel_for failed
 *          LRK_ERR_ARGUMENT (NULL), LRK_ERR_BUSY (an open pass feeds it), LRK_ERR_NOMEM.  The object is then as before.
 * Memory   its state once more, that of the largest input for each worker, and 32 KiB for each worker and one, during the call.
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_pca_gather(lrk_pca *pca);

#ifdef __cplusplus
}
#endif

#endif
