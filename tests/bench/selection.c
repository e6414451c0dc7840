/* SPDX-License-Identifier: MIT */
/* Rows of a kind (selection.h). */
#include "selection.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "rows.h"

static bool in_grid(double n_in, double n_out)
{
    static const double grid[][2] = {{576, 576}, {768, 768}, {1536, 1536}, {4096, 4096}, {4096, 11008}};
    for (size_t i = 0; i < sizeof grid / sizeof *grid; i++)
        if (grid[i][0] == n_in && grid[i][1] == n_out) return true;
    return false;
}

static bool within(double value, const double *range)
{
    return value >= range[0] && value <= range[1];
}

static bool passes(const selection *f, const json_t *row)
{
    double n_in = rows_number(row, "d_in"), n_out = rows_number(row, "d_out");
    if (f->op != NULL && strcmp(f->op, rows_text(row, "op")) != 0) return false;
    if (strcmp(f->dtype, rows_text(row, "dtype")) != 0 || rows_number(row, "threads") != f->threads)
        return false;
    if (!within(rows_number(row, "tokens"), f->tokens) || !within(rows_number(row, "rank"), f->ranks))
        return false;
    return f->d == 0.0 ? in_grid(n_in, n_out) : n_in == f->d && n_out == f->d;
}

static double ratio_of(const json_t *row, const char *over, const char *under)
{
    return under == NULL ? rows_number(row, over) : rows_number(row, over) / rows_number(row, under);
}

selected select_rows(const json_t *rows, const selection *f, const char *over, const char *under)
{
    selected r = {.geomean = NAN, .least = INFINITY, .most = -INFINITY};
    double logs = 0.0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        double ratio = passes(f, row) ? ratio_of(row, over, under) : NAN;
        if (isnan(ratio)) continue;
        if (ratio < r.least) r.least_row = row;
        r.least = fmin(r.least, ratio);
        r.most = fmax(r.most, ratio);
        logs += log(ratio);
        r.n++;
    }
    if (r.n > 0) r.geomean = exp(logs / r.n);
    return r;
}
