/* SPDX-License-Identifier: MIT */
/* The summary (targets.h). */
#include "targets.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "rows.h"

/* Which rows: bounds are inclusive; op NULL is every op. */
typedef struct filter {
    const char *op;
    const char *dtype;
    double threads;
    double tokens[2];
    double ranks[2];
    double d; /* n_in == n_out == d; 0: the grid of the numbers */
} filter;

/* A ratio over the rows of a filter. */
typedef struct result {
    double geomean;
    double least;
    double most;
    int n;
    const json_t *least_row;
} result;

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

static bool passes(const filter *f, const json_t *row)
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

/* over/under (or `over` alone) of the rows that pass and have both. */
static result collect(const json_t *rows, const filter *f, const char *over, const char *under)
{
    result r = {.geomean = NAN, .least = INFINITY, .most = -INFINITY};
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

/* One line: the value, what it should be ('>' at least, '<' at most, ' ' only reported), over n rows. */
static void line(const char *what, double threads, double value, char sense, double target, int n)
{
    printf("%.0fT  %-66s", threads, what);
    if (n == 0) {
        printf("     -  not measured\n");
        return;
    }
    printf("%6.2f", value);
    if (sense == ' ')
        printf("  reported");
    else
        printf("  %s %.1f  %s", sense == '>' ? ">=" : "<=", target,
               (sense == '>' ? value >= target : value <= target) ? "pass" : "MISS");
    printf("  (%d rows)\n", n);
}

static const double any_rank[2] = {1, 1e9}, grid_tokens[2] = {128, 2048};

static filter filter_of(const char *op, double threads, const double *tokens, const double *ranks)
{
    return (filter){.op = op,
                    .dtype = "f32",
                    .threads = threads,
                    .tokens = {tokens[0], tokens[1]},
                    .ranks = {ranks[0], ranks[1]}};
}

static void against_blas(const json_t *rows, double threads)
{
    static const double skinny[2] = {1, 16};
    const double targets[2] = {threads == 1 ? 1.8 : 2.5, threads == 1 ? 1.8 : 3.0};
    static const char *const ops[] = {"forward", "forward_backward"};
    for (int i = 0; i < 2; i++) {
        filter f = filter_of(ops[i], threads, grid_tokens, skinny);
        result r = collect(rows, &f, "blas_us", "lorank_us");
        char what[96];
        snprintf(what, sizeof what, "blas/lorank, %s, rank <= 16, geomean", ops[i]);
        line(what, threads, r.geomean, '>', targets[i], r.n);
    }
}

/* Below 1 is a loss only if the pairs' upper quartile is below 1 too. */
static void worst_against_blas(const json_t *rows, double threads)
{
    filter f = filter_of(NULL, threads, grid_tokens, any_rank);
    result r = collect(rows, &f, "blas_ratio_median", NULL);
    result high = collect(rows, &f, "blas_ratio_high", NULL);
    char what[96] = "blas/lorank, worst shape, median of pairs";
    if (r.n > 0)
        snprintf(what, sizeof what, "blas/lorank, worst shape (%s %.0fx%.0fx%.0f r %.0f)",
                 rows_text(r.least_row, "op"), rows_number(r.least_row, "tokens"),
                 rows_number(r.least_row, "d_in"), rows_number(r.least_row, "d_out"),
                 rows_number(r.least_row, "rank"));
    line(what, threads, r.least, '>', 0.9, r.n);
    line("blas/lorank, worst upper quartile of pairs", threads, high.least, ' ', 0.0, high.n);
}

static void against_torch(const json_t *rows, double threads)
{
    static const double rank[2] = {8, 8};
    static const char *const ops[] = {"forward", "forward_backward"};
    for (int i = 0; i < 8; i++) {
        double tokens = i & 1 ? 2048 : 512, d = i & 2 ? 4096 : 768;
        filter f = filter_of(ops[i / 4], threads, (double[]){tokens, tokens}, rank);
        f.d = d;
        result r = collect(rows, &f, "torch_us", "lorank_us");
        char what[96];
        snprintf(what, sizeof what, "torch/lorank, %s, %.0f x %.0f, rank 8", ops[i / 4], tokens, d);
        line(what, threads, r.least, threads == 1 ? '>' : ' ', tokens == 2048 && d == 4096 ? 6.0 : 3.0, r.n);
    }
}

static void over_floor(const json_t *rows, double threads)
{
    static const double many[2] = {512, 2048}, middle[2] = {4, 16};
    filter forward = filter_of("forward", threads, many, middle), backward = forward;
    backward.op = "backward";
    result f = collect(rows, &forward, "lorank_us", "floor_us"),
           b = collect(rows, &backward, "lorank_us", "floor_us");
    line("lorank/floor, forward, tokens >= 512, rank 4-16, geomean", threads, f.geomean, '<',
         threads == 1 ? 1.3 : 1.4, f.n);
    line("lorank/floor, backward, tokens >= 512, rank 4-16, geomean", threads, b.geomean, '<', 1.6, b.n);
}

static void few_tokens(const json_t *rows, double threads)
{
    static const double few[2] = {1, 16};
    filter f = filter_of(NULL, threads, few, any_rank);
    result r = collect(rows, &f, "blas_us", "lorank_us");
    line("blas/lorank, 1 and 16 tokens, every op and rank, geomean", threads, r.geomean, '>',
         threads == 1 ? 1.5 : 1.2, r.n);
}

static void half_width(const json_t *rows, double threads)
{
    static const double tokens[2] = {2048, 2048};
    for (int op = 0; op < GRID_OPS; op++) {
        filter f = filter_of(grid_op_name(op), threads, tokens, any_rank);
        f.dtype = "bf16";
        f.d = 4096;
        result r = collect(rows, &f, "lorank_us", "f32_us");
        char what[96];
        snprintf(what, sizeof what, "bf16/f32, %s, 2048 x 4096, worst rank", f.op);
        line(what, threads, r.most, '<', threads == 1 ? 1.0 : 0.8, r.n);
    }
}

static bool accuracy_line(const json_t *rows)
{
    double worst = 0.0;
    for (size_t i = 0; i < json_array_size(rows); i++)
        worst = fmax(worst, rows_number(json_array_get(rows, i), "max_rel_error"));
    printf("    largest error / bound, every row %35.5f  <= 1.0  %s  (%zu rows)\n", worst,
           worst <= 1.0 ? "pass" : "MISS", json_array_size(rows));
    return worst <= 1.0;
}

bool targets_report(const json_t *rows)
{
    for (double threads = 1; threads <= 2; threads++) {
        against_blas(rows, threads);
        worst_against_blas(rows, threads);
        against_torch(rows, threads);
        over_floor(rows, threads);
        few_tokens(rows, threads);
        half_width(rows, threads);
    }
    return accuracy_line(rows);
}
