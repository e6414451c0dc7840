/* SPDX-License-Identifier: MIT */
/*
 * Activations: the host's rows of tokens, in f32, bf16 or f16, and tiles of them in f32, with dropout of an adapter's
 * input, x' = x * keep / (1 - p). Whether element (row, column) is kept is value number row * n_in + column of a random
 * stream, so that no mask is stored and any tile can be made again.
 */
#ifndef LRKI_ACTIVATIONS_H
#define LRKI_ACTIVATIONS_H

#include "../core/core.h"
#include "skinny.h"

typedef struct lrki_activations {
    void *data; /* written only where a function says so */
    int64_t ld;
    int32_t dtype; /* LRK_DTYPE_... */
} lrki_activations;

/* A part of a matrix: rows row..row+n_rows-1, columns col..col+n_cols-1. */
typedef struct lrki_tile {
    int64_t row;
    int64_t n_rows;
    int64_t col;
    int64_t n_cols;
} lrki_tile;

typedef struct lrki_dropout {
    lrki_stream stream;
    uint32_t threshold; /* an element is dropped if its 32 bits are below it: p * 2^32 */
    float scale;        /* 1 / (1 - p)                                                 */
    int64_t first_row;  /* global number of row 0 of x                                 */
    int64_t n_in;       /* columns of x                                                */
} lrki_dropout;

/* Bytes of an element. */
int64_t lrki_dtype_bytes(int32_t dtype);
void *lrki_activations_at(const lrki_activations *matrix, int64_t row, int64_t col);

lrki_dropout lrki_dropout_make(lrki_stream stream, double probability, int64_t first_row, int64_t n_in);
bool lrki_dropout_keeps(const lrki_dropout *dropout, int64_t row, int64_t col);

/* out = the tile of x in f32, of x' if dropout is not NULL, with row stride ld_out; tile.n_cols <= LRKI_TILE_COLS. */
void lrki_tile_read(const lrki_skinny *kernels, const lrki_activations *x, const lrki_dropout *dropout,
                    lrki_tile tile, float *out, int64_t ld_out);

/* Tile of matrix += values, or += values * keep / (1 - p) if dropout is not NULL. */
void lrki_tile_add(const lrki_skinny *kernels, const lrki_activations *matrix, const lrki_dropout *dropout,
                   lrki_tile tile, const float *values, int64_t ld_values);

#endif
