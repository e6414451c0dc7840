/* SPDX-License-Identifier: MIT */
/*
 * Material for tests: matrices with padding that must stay untouched, adapter sets with random values, and whether two
 * runs of floats agree bit for bit. Everything is a function of its seed. Failures are ck_assert's.
 */
#ifndef MATERIAL_H
#define MATERIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "lorank/lorank.h"

/* rows x cols with values in [-1, 1), and `pad` canaries (a NaN of known bits) behind each row. */
typedef struct padded {
    float *data;
    int64_t rows;
    int64_t cols;
    int64_t ld;
} padded;

padded padded_make(int64_t rows, int64_t cols, int64_t pad, uint64_t seed);
padded padded_copy(const padded *from);
void padded_free(padded *matrix);
bool padded_intact(const padded *matrix); /* every canary is as it was */
bool padded_same(const padded *a, const padded *b);
lrk_matrix padded_view(const padded *matrix);
lrk_matrix_mut padded_mut(padded *matrix);

double random_unit(uint64_t *state); /* in [-1, 1) */
void random_floats(float *values, int64_t n, uint64_t seed);

typedef struct shape {
    int64_t n_in;
    int64_t n_out;
    int64_t rank;
    int32_t group;
    int32_t stage;
    double scale;
} shape;

#define N_KERNELS (LRK_KERNELS_NEON + 1) /* choices, LRK_KERNELS_AUTO first */

/* A context on lorank's own services; NULL if the processor lacks the kernels. */
lrk_context *context_of_kernels(int32_t kernels);

/* A set of modules named m0, m1, ... */
lrk_adapters *set_make(lrk_context *context, const shape *shapes, int64_t n, double dropout, uint32_t flags);
/* A and B in [-1, 1), gates in [0.5, 1.5). */
void set_fill(lrk_adapters *adapters, uint64_t seed);
lrk_tensor set_tensor(const lrk_adapters *adapters, int32_t module, int32_t which);
/* Opens a pass; ck_asserts. */
lrk_pass *pass_open(lrk_adapters *adapters, lrk_pass_options options);
/* Options with the defaults and max_rows. */
lrk_pass_options pass_options(int64_t max_rows);

#endif
