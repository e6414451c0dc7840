/* SPDX-License-Identifier: MIT */
/*
 * A Llama forward in double precision, written from the formulas with plain
 * loops: the reference for the example trainer's model.  Shares only the
 * weights with it.  Adapters are applied as W + s B^T diag(w) A.
 */
#ifndef LLAMA_ORACLE_H
#define LLAMA_ORACLE_H

#include "examples/finetune/model.h"

/* One layer's adapter: a [rank x n_in], b [rank x n_out], w [rank] (mask times gate, scale included). */
typedef struct oracle_adapter {
    int64_t rank;
    const double *a, *b, *w;
} oracle_adapter;

typedef struct oracle {
    const llama_model *model;
    const oracle_adapter *adapters; /* n_layers * LLAMA_N_KINDS, or NULL                      */
    const double *input;            /* NULL: the embeddings of the tokens; else tokens x hidden */
    double *logits;                 /* NULL, or tokens x vocab to be filled                   */
} oracle;

/* The embeddings of the batch's tokens, tokens x hidden. */
void oracle_embed(const llama_model *model, const llama_batch *batch, double *input);

/* Sum of the cross-entropies of the batch's targets. */
double oracle_loss(const oracle *o, const llama_batch *batch);

#endif
