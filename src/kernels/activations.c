/* SPDX-License-Identifier: MIT */
/* Tiles (activations.h): random bits row by row, then a select, so that a dropped NaN stays dropped. */
#include "activations.h"

#include "lorank/pass.h"

int64_t lrki_dtype_bytes(int32_t dtype)
{
    return dtype == LRK_DTYPE_F32 ? 4 : 2;
}

void *lrki_activations_at(const lrki_activations *matrix, int64_t row, int64_t col)
{
    return (unsigned char *)matrix->data + (row * matrix->ld + col) * lrki_dtype_bytes(matrix->dtype);
}

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

/* to = from * keep / (1 - p) for a run of a row; from and to may be the same. */
static void drop(const lrki_dropout *dropout, int64_t row, int64_t col, int64_t n, const float *from,
                 float *to)
{
    uint32_t bits[LRKI_TILE_COLS];
    lrki_stream_fill_bits(&dropout->stream, index_of(dropout, row, col), bits, n);
    for (int64_t j = 0; j < n; j++)
        to[j] = bits[j] >= dropout->threshold ? from[j] * dropout->scale : 0.0f;
}

void lrki_tile_read(const lrki_skinny *kernels, const lrki_activations *x, const lrki_dropout *dropout,
                    lrki_tile tile, float *out, int64_t ld_out)
{
    for (int64_t i = 0; i < tile.n_rows; i++, out += ld_out) {
        kernels->widen(lrki_activations_at(x, tile.row + i, tile.col), x->dtype, tile.n_cols, out);
        if (dropout != NULL) drop(dropout, tile.row + i, tile.col, tile.n_cols, out, out);
    }
}

void lrki_tile_add(const lrki_skinny *kernels, const lrki_activations *matrix, const lrki_dropout *dropout,
                   lrki_tile tile, const float *values, int64_t ld_values)
{
    float sum[LRKI_TILE_COLS], kept[LRKI_TILE_COLS];
    for (int64_t i = 0; i < tile.n_rows; i++, values += ld_values) {
        void *to = lrki_activations_at(matrix, tile.row + i, tile.col);
        const float *add = values;
        if (dropout != NULL) {
            drop(dropout, tile.row + i, tile.col, tile.n_cols, values, kept);
            add = kept;
        }
        kernels->widen(to, matrix->dtype, tile.n_cols, sum);
        for (int64_t j = 0; j < tile.n_cols; j++)
            sum[j] += add[j];
        kernels->narrow(sum, matrix->dtype, tile.n_cols, to);
    }
}
