/* SPDX-License-Identifier: MIT */
/* The summary (targets.h). */
#include "targets.h"

#include <math.h>
#include <stdio.h>

#include "rows.h"
#include "selection.h"

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

static selection filter_of(const char *op, double threads, const double *tokens, const double *ranks)
{
    return (selection){.op = op,
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
        selection f = filter_of(ops[i], threads, grid_tokens, skinny);
        selected r = select_rows(rows, &f, "blas_us", "lorank_us");
        char what[96];
        snprintf(what, sizeof what, "blas/lorank, %s, rank <= 16, geomean", ops[i]);
        line(what, threads, r.geomean, '>', targets[i], r.n);
    }
}

/* Below 1 is a loss only if the pairs' upper quartile is below 1 too. */
static void worst_against_blas(const json_t *rows, double threads)
{
    selection f = filter_of(NULL, threads, grid_tokens, any_rank);
    selected r = select_rows(rows, &f, "blas_ratio_median", NULL);
    selected high = select_rows(rows, &f, "blas_ratio_high", NULL);
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
        selection f = filter_of(ops[i / 4], threads, (double[]){tokens, tokens}, rank);
        f.d = d;
        selected r = select_rows(rows, &f, "torch_us", "lorank_us");
        char what[96];
        snprintf(what, sizeof what, "torch/lorank, %s, %.0f x %.0f, rank 8", ops[i / 4], tokens, d);
        line(what, threads, r.least, threads == 1 ? '>' : ' ', tokens == 2048 && d == 4096 ? 6.0 : 3.0, r.n);
    }
}

static void over_floor(const json_t *rows, double threads)
{
    static const double many[2] = {512, 2048}, middle[2] = {4, 16};
    selection forward = filter_of("forward", threads, many, middle), backward = forward;
    backward.op = "backward";
    selected f = select_rows(rows, &forward, "lorank_us", "floor_us"),
             b = select_rows(rows, &backward, "lorank_us", "floor_us");
    line("lorank/floor, forward, tokens >= 512, rank 4-16, geomean", threads, f.geomean, '<',
         threads == 1 ? 1.3 : 1.4, f.n);
    line("lorank/floor, backward, tokens >= 512, rank 4-16, geomean", threads, b.geomean, '<', 1.6, b.n);
}

static void few_tokens(const json_t *rows, double threads)
{
    static const double few[2] = {1, 16};
    selection f = filter_of(NULL, threads, few, any_rank);
    selected r = select_rows(rows, &f, "blas_us", "lorank_us");
    line("blas/lorank, 1 and 16 tokens, every op and rank, geomean", threads, r.geomean, '>',
         threads == 1 ? 1.5 : 1.2, r.n);
}

static void half_width(const json_t *rows, double threads)
{
    static const double tokens[2] = {2048, 2048};
    for (int op = 0; op < GRID_OPS; op++) {
        selection f = filter_of(grid_op_name(op), threads, tokens, any_rank);
        f.dtype = "bf16";
        f.d = 4096;
        selected r = select_rows(rows, &f, "lorank_us", "f32_us");
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
