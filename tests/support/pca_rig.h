/* SPDX-License-Identifier: MIT */
/*
 * The oracle of input components: incremental principal component analysis as scikit-learn and the peft package write it (means,
 * variances by feature, one decomposition of the stacked rows a batch), by naive loops in double; calls that feed lorank's; and
 * the rig of their own tests: one set on the counting host, a group of two modules and three that stand alone, one of them of
 * rank 0, one with more ranks than inputs.
 */
#ifndef PCA_RIG_H
#define PCA_RIG_H

#include "fault.h"
#include "material.h"

#define PCA_MOST    64 /* columns */
#define PCA_MODULES 5

typedef struct pca_oracle {
    int64_t n_in;
    int64_t k;
    double rows;
    double mean[PCA_MOST];
    double variance[PCA_MOST]; /* of each feature */
    double values[PCA_MOST];
    double components[PCA_MOST * PCA_MOST]; /* [k x n_in] */
} pca_oracle;

/* One batch: rows first .. first + n - 1 of x, those that count (NULL: all). */
void pca_oracle_feed(pca_oracle *oracle, const padded *x, int64_t first, int64_t n, const uint8_t *counts);
double pca_oracle_share(const pca_oracle *oracle, int64_t i);

/* Rows whose feature c varies as decay^c around a mean of its own. */
padded pca_rows(int64_t rows, int64_t cols, double decay, uint64_t seed);

/* lrk_forward() of modules of one input in a pass that feeds pca, which may be NULL; mask none. */
lrk_status pca_forward(lrk_adapters *set, lrk_pca *pca, const int32_t *modules, int32_t n,
                       const lrk_matrix *x);
lrk_status pca_feed_one(lrk_adapters *set, lrk_pca *pca, int32_t module, const padded *x);

extern const shape pca_shapes[PCA_MODULES];

extern struct pca_rig {
    fault host;
    lrk_context *context;
    lrk_adapters *set;
} pca_rig;

/* threads > 1: a real parallel loop. */
void pca_rig_open(int32_t threads);
void pca_rig_close(void);

/* The defaults, but at most 40 rows at once. */
lrk_pca_options pca_usual_options(void);
/* Of the rig's set. */
lrk_pca *pca_make(const lrk_pca_options *options);
lrk_pca *pca_make_usual(void);

#endif
