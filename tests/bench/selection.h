/* SPDX-License-Identifier: MIT */
/*
 * Rows of a kind and the geometric mean of a ratio over them. The grid of the numbers: d 576, 768, 1536, 4096 square and
 * 4096 x 11008.
 */
#ifndef BENCH_SELECTION_H
#define BENCH_SELECTION_H

#include <jansson.h>

/* Which rows: bounds are inclusive; op NULL is every op. */
typedef struct selection {
    const char *op;
    const char *dtype;
    double threads;
    double tokens[2];
    double ranks[2];
    double d; /* n_in == n_out == d; 0: the grid of the numbers */
} selection;

/* A ratio over the rows of a filter. */
typedef struct selected {
    double geomean;
    double least;
    double most;
    int n;
    const json_t *least_row;
} selected;

/* over/under (or `over` alone, if `under` is NULL) of the rows that pass and have both; geomean NAN if none does. */
selected select_rows(const json_t *rows, const selection *f, const char *over, const char *under);

#endif
