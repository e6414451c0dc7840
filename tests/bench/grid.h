/* SPDX-License-Identifier: MIT */
/* What the benchmark measures: the options of its command line and the shapes that they select. */
#ifndef BENCH_GRID_H
#define BENCH_GRID_H

#include <stdbool.h>
#include <stdint.h>

#define GRID_VALUES 32 /* most values of one list */

/* dtype of x, y, dy, dx as in lrk_matrix; a number here, so that the benchmark builds against a pass.h without it */
#define GRID_F32    0
#define GRID_BF16   1
#define GRID_F16    2
#define GRID_DTYPES 3

#define GRID_FORWARD  0
#define GRID_BACKWARD 1
#define GRID_BOTH     2 /* forward, then backward with the H that it saved */
#define GRID_OPS      3

#define COUNT_LORANK 1
#define COUNT_BLAS   2

typedef struct bench_shape {
    int64_t tokens;
    int64_t n_in;
    int64_t n_out;
    int64_t rank;
    int32_t dtype; /* GRID_F32 ... */
} bench_shape;

typedef struct grid_list {
    int64_t value[GRID_VALUES];
    int n;
} grid_list;

typedef struct bench_options {
    grid_list tokens;
    grid_list n_in; /* n_in.value[i] x n_out.value[i] */
    grid_list n_out;
    grid_list rank;
    grid_list threads;
    grid_list op;
    grid_list dtype;   /* empty: f32 everywhere, bf16 where the grid has it */
    grid_list kernels; /* one: LRK_KERNELS_... of lorank's context */
    double budget_ms;  /* time for one row, if 20 repetitions do not take more */
    int worker;        /* threads of this process, which measures; 0: it starts the ones that do */
    int count;         /* COUNT_...: call that contender `calls` times and measure nothing; 0: measure */
    int64_t calls;
    bool fresh;          /* parameters count as changed before every forward of lorank */
    bool merge;          /* keep the rows of the file that are not measured again */
    const char *python;  /* interpreter with PyTorch; NULL: no PyTorch */
    const char *script;  /* torch_lora.py */
    const char *out;     /* the JSON file */
    const char *summary; /* only summarise this file */
} bench_options;

/* Reads the command line; false, with the reason and the usage on stderr, if it is wrong. */
bool grid_options_read(bench_options *options, int argc, char **argv);

/* Whether the shape (of a list's product) is to be measured: bf16 has rows at 2048 tokens, 4096 x 4096 alone. */
bool grid_wants(const bench_options *options, const bench_shape *shape);

const char *grid_op_name(int op);
const char *grid_dtype_name(int32_t dtype);

#endif
