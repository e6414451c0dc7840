/* SPDX-License-Identifier: MIT */
/* The table (rows_table.h). */
#include "rows_table.h"

#include <math.h>
#include <stdio.h>

#include "rows.h"

static void print_object(const char *title, const json_t *object)
{
    const char *key;
    json_t *value;
    printf("%s", title);
    json_object_foreach((json_t *)object, key, value)
    {
        if (json_is_string(value)) printf("  %s: %s\n", key, json_string_value(value));
        if (json_is_integer(value))
            printf("  %s: %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
        if (json_is_real(value)) printf("  %s: %.1f\n", key, json_real_value(value));
    }
}

void table_header(const json_t *header)
{
    size_t i;
    json_t *worker;
    print_object("machine\n", json_object_get(header, "machine"));
    json_array_foreach(json_object_get(header, "processes"), i, worker)
    {
        print_object("process\n", worker);
        print_object("  threads are those of\n", json_object_get(worker, "pools"));
    }
}

void table_columns(void)
{
    printf("%3s %-4s %-16s %6s %11s %4s %10s %10s %10s %10s %9s %7s %7s %8s %7s\n", "thr", "type", "op",
           "tokens", "d", "rank", "lorank us", "blas us", "torch us", "floor us", "blas/", "torch/", "/floor",
           "error", "hand ns");
}

static void print_cell(int width, int digits, double value)
{
    if (isnan(value))
        printf(" %*s", width, "-");
    else
        printf(" %*.*f", width, digits, value);
}

void table_row(const json_t *row)
{
    double lorank = rows_number(row, "lorank_us");
    char d[32];
    snprintf(d, sizeof d, "%.0fx%.0f", rows_number(row, "d_in"), rows_number(row, "d_out"));
    printf("%3.0f %-4s %-16s %6.0f %11s %4.0f", rows_number(row, "threads"), rows_text(row, "dtype"),
           rows_text(row, "op"), rows_number(row, "tokens"), d, rows_number(row, "rank"));
    print_cell(10, 2, lorank);
    print_cell(10, 2, rows_number(row, "blas_us"));
    print_cell(10, 2, rows_number(row, "torch_us"));
    print_cell(10, 2, rows_number(row, "floor_us"));
    print_cell(9, 2, rows_number(row, "blas_ratio_median"));
    print_cell(7, 2, rows_number(row, "torch_us") / lorank);
    print_cell(7, 2, lorank / rows_number(row, "floor_us"));
    print_cell(8, 5, rows_number(row, "max_rel_error"));
    print_cell(7, 0, rows_number(row, "handover_ns"));
    printf("\n");
    fflush(stdout);
}
