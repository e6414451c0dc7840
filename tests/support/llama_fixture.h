/* SPDX-License-Identifier: MIT */
/*
 * Makes small Llama model directories with random f32 weights in a temporary
 * folder, whole or with one thing wrong, for the tests of the example trainer.
 */
#ifndef LLAMA_FIXTURE_H
#define LLAMA_FIXTURE_H

#include <stdint.h>

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

extern const fixture_spec fixture_small; /* 3 layers, hidden 24, 4 heads over 2, head_dim 8, vocab 50, tied */

/* Writes the directory and returns its path, good until the next call. */
const char *fixture_write(const fixture_spec *spec);

/* Removes a directory written by fixture_write(). */
void fixture_remove(const char *dir);

#endif
