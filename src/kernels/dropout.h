/* SPDX-License-Identifier: MIT */
/*
 * Dropout of an adapter's input, x' = x * keep / (1 - p), on tiles of x. Whether element (row, column) is kept is value
 * number row * n_in + column of a random stream, so that no mask is stored and any tile can be made again.
 */
#ifndef LRKI_DROPOUT_H
#define LRKI_DROPOUT_H

#include "../core/core.h"

#define LRKI_TILE_COLS 256 /* widest tile */

typedef struct lrki_dropout {
    lrki_stream stream;
    uint32_t threshold; /* an element is dropped if its 32 bits are below it: p * 2^32 */
    float scale;        /* 1 / (1 - p)                                                 */
    int64_t first_row;  /* global number of row 0 of x                                 */
    int64_t n_in;       /* columns of x                                                */
} lrki_dropout;

/* A part of x: rows row..row+n_rows-1, columns col..col+n_cols-1, n_cols <= LRKI_TILE_COLS. */
typedef struct lrki_tile {
    int64_t row;
    int64_t n_rows;
    int64_t col;
    int64_t n_cols;
} lrki_tile;

lrki_dropout lrki_dropout_make(lrki_stream stream, double probability, int64_t first_row, int64_t n_in);

bool lrki_dropout_keeps(const lrki_dropout *dropout, int64_t row, int64_t col);

/* out = the tile of x', with row stride ld_out; x is the whole matrix. */
void lrki_dropout_read(const lrki_dropout *dropout, lrki_tile tile, const float *x, int64_t ld_x, float *out,
                       int64_t ld_out);

/* dx += tile of values * keep / (1 - p); dx is the whole matrix. */
void lrki_dropout_add(const lrki_dropout *dropout, lrki_tile tile, const float *values, int64_t ld_values,
                      float *dx, int64_t ld_dx);

#endif
