/* SPDX-License-Identifier: MIT */
/*
 * Makes small Llama model directories with random f32 weights in a temporary
 * folder, whole or with one thing wrong, for the tests of the example trainer.
 */
#ifndef LLAMA_FIXTURE_H
#define LLAMA_FIXTURE_H

#include <stdint.h>

#include "examples/finetune/model.h"

/* What to write. A zeroed spec with `config` set is a correct model. */
typedef struct fixture_spec {
    const char *config; /* text of config.json                                        */
    int64_t hidden, intermediate, n_layers, q, kv, vocab;
    int untied;          /* 1: lm_head.weight too                                      */
    const char *omit;    /* name of a tensor to leave out                              */
    const char *reshape; /* name of a tensor to write with its two sides exchanged     */
    const char *rename;  /* name of a tensor to write again as "stray.weight"          */
    const char *poison;  /* name of a tensor whose first value becomes NaN             */
    const char *as_int;  /* name of a tensor to declare as I32                         */
    int shards;          /* > 1: that many files with an index                         */
} fixture_spec;

extern const fixture_spec fixture_small; /* 4 layers, hidden 24, 4 heads over 2, head_dim 8, vocab 50, tied */

/* Writes the directory and returns its path, good until the next call. */
const char *fixture_write(const fixture_spec *spec);

/* Removes a directory written by fixture_write(). */
void fixture_remove(const char *dir);

/* Writes the model, loads it and removes the directory. */
llama_model *fixture_load(const fixture_spec *spec);

/* A run for batches of up to `tokens` tokens, for training and evaluation, with one thread in use and room for two. */
llama_run *fixture_run(const llama_model *model, int64_t tokens, int64_t seq_len, int recompute);

/* Pseudo-random tokens and targets; every third position is not counted. */
llama_batch fixture_batch(int64_t n_seq, int64_t seq_len, int64_t vocab);
void fixture_batch_free(llama_batch *batch);

/* Sum of the losses of n sequences. */
double fixture_total(const llama_score *scores, int64_t n);

/*
 * Forward error bound, relative to the largest logit.  A value passes n_layers * 4 + 1 products of inner length at most
 * k, each adding at most k * 2^-24 of its operands' size, and between them norms and exponentials of a few roundings
 * each (counted as one more k); backward passes the same chain twice.
 */
double fixture_bound(const llama_config *config);

#endif
