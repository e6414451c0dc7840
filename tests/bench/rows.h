/* SPDX-License-Identifier: MIT */
/*
 * A measurement as a row of JSON, and the file {"header": {...}, "rows": [...]} of them. Of a row:
 *   op tokens d_in d_out rank threads dtype   what was measured; together the row's key
 *   lorank_us blas_us torch_us floor_us       minima in microseconds; null where there is none
 *   lorank_median_us blas_median_us torch_median_us
 *   blas_ratio_low blas_ratio_median blas_ratio_high   quartiles of blas/lorank over the interleaved pairs
 *   floor_bytes_us floor_flops_us             floor_us is the larger
 *   f32_us f32_ratio_median                   of 16-bit rows: lorank in f32, and the median of lorank/f32; else null
 *   max_rel_error                             largest error / bound
 *   handover_ns                               from one thread to another (floor.h); null with one
 *   repetitions sets                          how often, over how many operand sets
 */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include <jansson.h>

#include "timing.h"

typedef struct bench_row {
    bench_shape shape;
    int op;
    int threads;
    int64_t sets;
    const timing *times; /* of lorank, the other, the floor's bytes: ROW_... */
    bool torch;
    double torch_us;
    double torch_median_us;
    double flops_us;
    double handover_ns;
    double max_rel_error;
} bench_row;

#define ROW_LORANK 0
#define ROW_OTHER  1 /* BLAS; for a 16-bit dtype, lorank in f32 */
#define ROW_FLOOR  2

json_t *rows_make(const bench_row *row);

/* Numbers and names of a row; NAN and "" where it has none. */
double rows_number(const json_t *row, const char *key);
const char *rows_text(const json_t *row, const char *key);

/* Takes the place of the row of the same key, or of none. Steals the reference. */
void rows_put(json_t *rows, json_t *row);

/* NULL, with a word on stderr, if the file cannot be read or is none of ours. */
json_t *rows_load(const char *path);

/* Writes {"header", "rows"}, making the file's folder; false, with a word on stderr, if it cannot. */
bool rows_save(const char *path, json_t *header, json_t *rows);

#endif
