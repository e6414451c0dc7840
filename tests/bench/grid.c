/* SPDX-License-Identifier: MIT */
/* The command line (grid.h). Lists are comma-separated: --tokens 512,2048 --d 768,4096x11008 --op forward. */
#include "grid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const op_names[GRID_OPS] = {"forward", "backward", "forward_backward"};
static const char *const dtype_names[GRID_DTYPES] = {"f32", "bf16", "f16"};

const char *grid_op_name(int op)
{
    return op_names[op];
}

const char *grid_dtype_name(int32_t dtype)
{
    return dtype_names[dtype];
}

/* LRK_KERNELS_... in their order. */
static const char *const kernel_names[] = {"auto", "blas", "generic", "avx2", "avx512", "neon"};

static const char usage[] =
    "usage: bench-kernels [option...]\n"
    "  --quick              tokens 512 and 2048, d 768 and 4096, rank 8 (else the full grid)\n"
    "  --tokens --d --rank --threads --op --dtype LIST   comma-separated, in place of the grid's;\n"
    "                       d is N (square) or INxOUT\n"
    "  --kernels NAME       lorank's: auto, blas, generic, avx2, avx512 or neon [auto]\n"
    "  --budget MS          time for one row [150]; 20 repetitions are made whatever they take\n"
    "  --fresh              parameters change before every forward: what lorank keeps of them is made again\n"
    "  --torch SCRIPT --python INTERPRETER   measure PyTorch too;  --no-torch  do not\n"
    "  --count NAME --calls N   call lorank or blas N times [1] on each shape and measure nothing "
    "(counts.sh)\n"
    "  --out FILE           the JSON file [build/bench/kernels.json]\n"
    "  --merge              keep the rows of FILE that are not measured again\n"
    "  --summary FILE       print the table and the summary of a JSON file, measure nothing\n";

static void set(grid_list *list, int n, const int64_t *values)
{
    list->n = n;
    memcpy(list->value, values, (size_t)n * sizeof *values);
}

#define SET(list, ...)                                                                                       \
    set((list), (int)(sizeof(int64_t[]){__VA_ARGS__} / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})

static void set_full(bench_options *o)
{
    SET(&o->tokens, 1, 16, 128, 512, 2048);
    SET(&o->n_in, 64, 576, 768, 1536, 4096, 4096);
    SET(&o->n_out, 64, 576, 768, 1536, 4096, 11008);
    SET(&o->rank, 1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 32, 64);
    SET(&o->threads, 1, 2);
    SET(&o->op, GRID_FORWARD, GRID_BACKWARD, GRID_BOTH);
}

static void set_quick(bench_options *o)
{
    SET(&o->tokens, 512, 2048);
    SET(&o->n_in, 768, 4096);
    SET(&o->n_out, 768, 4096);
    SET(&o->rank, 8);
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

static bool read_number(const char **text, int64_t *value)
{
    char *end;
    *value = strtoll(*text, &end, 10);
    if (end == *text || *value < 1 || *value > 1 << 20) return false;
    *text = end;
    return true;
}

static bool read_numbers(const char *text, grid_list *list)
{
    for (list->n = 0; list->n < GRID_VALUES; text++) {
        if (!read_number(&text, &list->value[list->n++])) return false;
        if (*text == '\0') return true;
        if (*text != ',') return false;
    }
    return false;
}

static bool read_widths(const char *text, bench_options *o)
{
    int n = 0;
    for (; n < GRID_VALUES; text++) {
        if (!read_number(&text, &o->n_in.value[n])) return false;
        o->n_out.value[n] = o->n_in.value[n];
        if (*text == 'x') {
            text++;
            if (!read_number(&text, &o->n_out.value[n])) return false;
        }
        o->n_in.n = o->n_out.n = ++n;
        if (*text == '\0') return true;
        if (*text != ',') return false;
    }
    return false;
}

static bool read_names(const char *text, const char *const *names, int n_names, grid_list *list)
{
    list->n = 0;
    for (const char *end = text;; text = end + 1) {
        end = text + strcspn(text, ",");
        int i = 0;
        while (i < n_names && (strlen(names[i]) != (size_t)(end - text) ||
                               strncmp(names[i], text, (size_t)(end - text)) != 0))
            i++;
        if (i == n_names || list->n == GRID_VALUES) return false;
        list->value[list->n++] = i;
        if (*end == '\0') return true;
    }
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

static bool read_flag(bench_options *o, const char *name)
{
    if (strcmp(name, "--quick") == 0) return set_quick(o), true;
    if (strcmp(name, "--fresh") == 0) return o->fresh = true;
    if (strcmp(name, "--merge") == 0) return o->merge = true;
    if (strcmp(name, "--no-torch") == 0) return o->python = NULL, true;
    return false;
}

static bool read_list(bench_options *o, const char *name, const char *value)
{
    if (strcmp(name, "--tokens") == 0) return read_numbers(value, &o->tokens);
    if (strcmp(name, "--d") == 0) return read_widths(value, o);
    if (strcmp(name, "--rank") == 0) return read_numbers(value, &o->rank);
    if (strcmp(name, "--threads") == 0) return read_numbers(value, &o->threads);
    if (strcmp(name, "--kernels") == 0)
        return read_names(value, kernel_names, sizeof kernel_names / sizeof *kernel_names, &o->kernels);
    if (strcmp(name, "--op") == 0) return read_names(value, op_names, GRID_OPS, &o->op);
    if (strcmp(name, "--dtype") == 0) return read_names(value, dtype_names, GRID_DTYPES, &o->dtype);
    return false;
}

static bool read_count(bench_options *o, const char *value)
{
    o->count = strcmp(value, "lorank") == 0 ? COUNT_LORANK : strcmp(value, "blas") == 0 ? COUNT_BLAS : 0;
    return o->count != 0;
}

static bool read_value(bench_options *o, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **text;
    } texts[] = {
        {"--torch", &o->script}, {"--python", &o->python}, {"--out", &o->out}, {"--summary", &o->summary}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(name, texts[i].name) == 0) return *texts[i].text = value, true;
    if (strcmp(name, "--worker") == 0) return (o->worker = atoi(value)) > 0;
    if (strcmp(name, "--count") == 0) return read_count(o, value);
    if (strcmp(name, "--calls") == 0) return (o->calls = atoll(value)) > 0;
    if (strcmp(name, "--budget") == 0) return (o->budget_ms = atof(value)) > 0.0;
    return read_list(o, name, value);
}

bool grid_options_read(bench_options *o, int argc, char **argv)
{
    *o = (bench_options){
        .budget_ms = 150.0, .calls = 1, .kernels = {.n = 1}, .out = "build/bench/kernels.json"};
    set_full(o);
    for (int i = 1; i < argc; i++) {
        if (read_flag(o, argv[i])) continue;
        if (i + 1 == argc || !read_value(o, argv[i], argv[i + 1])) {
            fprintf(stderr, "bench-kernels: '%s %s' is not understood\n%s", argv[i],
                    i + 1 < argc ? argv[i + 1] : "", usage);
            return false;
        }
        i++;
    }
    if (o->script == NULL) o->python = NULL;
    return true;
}

bool grid_wants(const bench_options *o, const bench_shape *shape)
{
    for (int i = 0; i < o->dtype.n; i++)
        if (o->dtype.value[i] == shape->dtype) return true;
    if (o->dtype.n > 0) return false;
    if (shape->dtype == GRID_F32) return true;
    return shape->dtype == GRID_BF16 && shape->tokens == 2048 && shape->n_in == 4096 &&
           shape->n_out == 4096 && (shape->rank == 8 || shape->rank == 16);
}
