/* SPDX-License-Identifier: MIT */
/* Dropout (dropout.h): random bits row by row, then a select, so that a dropped NaN stays dropped. */
#include "dropout.h"

lrki_dropout lrki_dropout_make(lrki_stream stream, double probability, int64_t first_row, int64_t n_in)
{
    return (lrki_dropout){.stream = stream,
                          .threshold = (uint32_t)(probability * 0x1p32),
                          .scale = (float)(1.0 / (1.0 - probability)),
                          .first_row = first_row,
                          .n_in = n_in};
}

static uint64_t index_of(const lrki_dropout *dropout, int64_t row, int64_t col)
{
    return ((uint64_t)dropout->first_row + (uint64_t)row) * (uint64_t)dropout->n_in + (uint64_t)col;
}

bool lrki_dropout_keeps(const lrki_dropout *dropout, int64_t row, int64_t col)
{
    return lrki_stream_bits(&dropout->stream, index_of(dropout, row, col)) >= dropout->threshold;
}

void lrki_dropout_read(const lrki_dropout *dropout, lrki_tile tile, const float *x, int64_t ld_x, float *out,
                       int64_t ld_out)
{
    uint32_t bits[LRKI_TILE_COLS];
    for (int64_t i = 0; i < tile.n_rows; i++) {
        const float *from = x + (tile.row + i) * ld_x + tile.col;
        float *to = out + i * ld_out;
        lrki_stream_fill_bits(&dropout->stream, index_of(dropout, tile.row + i, tile.col), bits, tile.n_cols);
        for (int64_t j = 0; j < tile.n_cols; j++)
            to[j] = bits[j] >= dropout->threshold ? from[j] * dropout->scale : 0.0f;
    }
}

void lrki_dropout_add(const lrki_dropout *dropout, lrki_tile tile, const float *values, int64_t ld_values,
                      float *dx, int64_t ld_dx)
{
    uint32_t bits[LRKI_TILE_COLS];
    for (int64_t i = 0; i < tile.n_rows; i++) {
        const float *from = values + i * ld_values;
        float *to = dx + (tile.row + i) * ld_dx + tile.col;
        lrki_stream_fill_bits(&dropout->stream, index_of(dropout, tile.row + i, tile.col), bits, tile.n_cols);
        for (int64_t j = 0; j < tile.n_cols; j++)
            to[j] += bits[j] >= dropout->threshold ? from[j] * dropout->scale : 0.0f;
    }
}
