/* SPDX-License-Identifier: MIT */
/* Means by rank (means.h). */
#include "means.h"

#include <stdio.h>

#include "selection.h"

static const double ranks[] = {1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 32, 64};
#define N_RANKS (sizeof ranks / sizeof *ranks)

typedef struct line {
    const char *label;
    const char *op;
    double tokens;
    const char *over;
    const char *under;
} line;

static const line lines[] = {
    {"forward, against OpenBLAS", "forward", 128, "blas_us", "lorank_us"},
    {"forward + backward, against OpenBLAS", "forward_backward", 128, "blas_us", "lorank_us"},
    {"forward, over the floor", "forward", 512, "lorank_us", "floor_us"},
    {"backward, over the floor", "backward", 512, "lorank_us", "floor_us"},
    {"OpenBLAS forward, over the floor", "forward", 512, "blas_us", "floor_us"},
    {"OpenBLAS backward, over the floor", "backward", 512, "blas_us", "floor_us"},
};

static selected mean_of(const json_t *rows, const line *l, double threads, double rank)
{
    selection f = {
        .op = l->op, .dtype = "f32", .threads = threads, .tokens = {l->tokens, 2048}, .ranks = {rank, rank}};
    return select_rows(rows, &f, l->over, l->under);
}

static void print_line(const json_t *rows, const line *l, double threads)
{
    printf("| %s |", l->label);
    for (size_t i = 0; i < N_RANKS; i++) {
        selected mean = mean_of(rows, l, threads, ranks[i]);
        if (mean.n > 0)
            printf(" %.2f |", mean.geomean);
        else
            printf(" |");
    }
    printf("\n");
}

static void print_table(const json_t *rows, double threads)
{
    printf("| %.0fT, rank |", threads);
    for (size_t i = 0; i < N_RANKS; i++)
        printf(" %.0f |", ranks[i]);
    printf("\n|---|");
    for (size_t i = 0; i < N_RANKS; i++)
        printf("---|");
    printf("\n");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        print_line(rows, &lines[i], threads);
    printf("\n");
}

void means_report(const json_t *rows)
{
    for (double threads = 1; threads <= 2; threads++) {
        selection any = {.dtype = "f32", .threads = threads, .tokens = {128, 2048}, .ranks = {1, 1e9}};
        if (select_rows(rows, &any, "blas_us", "lorank_us").n > 0) print_table(rows, threads);
    }
}
