/* SPDX-License-Identifier: MIT */
/*
 * Principal components of inputs, internal: their layout, and how a forward call feeds them.
 * Invariants: the state is one block; `in_use` is set exactly while an open pass feeds the object; the scratch fits any batch of
 * any group, so that feeding allocates nothing. A group whose variance is not finite stays as it is.
 */
#ifndef LRKI_PCA_H
#define LRKI_PCA_H

#include "../core/workers.h"
#include "lorank/pca.h"
#include "pass_state.h"

#define LRKI_PCA_SCALARS 3 /* of a group: rows, variance, converged */

/* Of modules that read one input; the arrays lie in the state. */
typedef struct lrki_pca_group {
    int64_t n_in;
    int64_t k;      /* 0: not looked at          */
    int32_t feeder; /* the lowest module         */
    int64_t wanted; /* components that must converge */
    double *scalars;
    double *mean;       /* [n_in]     */
    double *values;     /* [k]        */
    double *components; /* [k x n_in] */
} lrki_pca_group;

typedef struct lrki_pca_module {
    int32_t group;
    int64_t asked; /* components that it may take: the group's, none at rank 0 */
} lrki_pca_module;

/* Scratch of a batch, of the largest group: n rows at most. */
typedef struct lrki_pca_scratch {
    int64_t n;
    int64_t doubles;
    double *stack;   /* [n x padded n_in] M           */
    double *gram;    /* [n x n]                       */
    double *vectors; /* [k x n]                       */
    double *squares; /* [k] eigenvalues               */
    double *before;  /* [k x n_in] components, as they were before the call */
    double *lapack;
    int64_t *rows; /* [batch_rows] of x that a batch takes */
} lrki_pca_scratch;

struct lrk_pca {
    int64_t references; /* atomic */
    lrk_adapters *adapters;
    lrk_pca_options options;
    bool in_use;              /* atomic */
    bool gathered;            /* it holds what all workers were fed */
    lrki_pca_group *groups;   /* [n_modules], n_groups of them used */
    lrki_pca_module *modules; /* [n_modules] */
    int64_t n_groups;
    double *state;
    int64_t n_state;
    uint8_t *counts; /* [n_counts] rows that count; NULL: all */
    int64_t n_counts;
    lrki_pca_scratch scratch;
};

/* LRK_ERR_ARGUMENT naming the member if a value is out of range. */
lrk_status lrki_pca_options_check(lrk_context *context, const lrk_pca_options *options);

lrk_pca *lrki_pca_ref(lrk_pca *pca);
void lrki_pca_unref(lrk_pca *pca);
/* LRK_ERR_BUSY if an open pass feeds it. */
lrk_status lrki_pca_check_idle(const lrk_pca *pca, const char *what);
/* What all workers that make a plan of it must have in common: its bits. */
lrki_claim lrki_pca_claim(const lrk_pca *pca);
/* Adds what another object's group was fed: its block of the state. LRK_ERR_HOST: the group is then unspecified. */
lrk_status lrki_pca_add_group(lrk_pca *pca, const lrki_pca_group *group, const double *other);

/* Columns of a row of M: padded, so that rows begin aligned and sums run over whole vectors. */
static inline int64_t lrki_pca_padded(int64_t n_in)
{
    return (n_in + 3) / 4 * 4;
}

/* Adds a forward call's rows, if its modules hold a group's feeder whose components have not converged yet. */
lrk_status lrki_pca_feed(lrk_pca *pca, const lrki_call *call);

#endif
