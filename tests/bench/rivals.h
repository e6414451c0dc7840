/* SPDX-License-Identifier: MIT */
/*
 * The contenders of a measurement: lorank, whole-matrix BLAS, PyTorch, and the floor (floor.h), all on the operands of
 * operands.h, with one A [rank x n_in], B [rank x n_out] and scale. Three run in this process and are measured in turn;
 * PyTorch runs in a process of its own on the same processors.
 */
#ifndef BENCH_RIVALS_H
#define BENCH_RIVALS_H

#include <lorank/lorank.h>

#include "operands.h"

#define RIVAL_SCALE 0.75 /* no power of two: multiplying by it costs and rounds */

/* One forward or backward on operand set `set`. */
typedef struct rival {
    void *self;
    void (*forward)(void *self, int64_t set);
    void (*backward)(void *self, int64_t set); /* of a set that had its forward */
} rival;

void rival_run(const rival *r, int op, int64_t set);

/* Forward on every set: warms up, and leaves the saved H that backward reads. */
void rival_prepare(const rival *r, const operands *o);

/* ---- lorank ------------------------------------------------------------------------------------------------------ */

typedef struct lorank_rival {
    lrk_context *context;
    lrk_adapters *adapters;
    lrk_pass *pass;
    const operands *o;
    bool fresh;  /* parameters count as changed before every forward; what other sets saved is then stale */
    void *saved; /* one buffer a set, saved_bytes apart */
    size_t saved_bytes;
    size_t saved_step;
} lorank_rival;

/* False if the shape's dtype is not supported. Whatever else fails ends the process. */
bool lorank_open(lorank_rival *r, lrk_context *context, const operands *o, int64_t rank);
void lorank_close(lorank_rival *r);
rival lorank_rival_of(lorank_rival *r);
lrk_tensor lorank_tensor(const lorank_rival *r, int32_t which); /* LRK_TENSOR_... */

/* ---- BLAS -------------------------------------------------------------------------------------------------------- */

/* Six cblas_sgemm calls, scale and accumulation in alpha and beta; B [rank x n_out] as lorank keeps it. */
typedef struct blas_rival {
    const operands *o;
    int64_t rank;
    const float *a;
    const float *b;
    float *grad_a;
    float *grad_b;
    float *h; /* one [tokens x rank] a set */
    float *d; /* [tokens x rank] */
} blas_rival;

void blas_open(blas_rival *r, const operands *o, int64_t rank, const float *a, const float *b);
void blas_close(blas_rival *r);
rival blas_rival_of(blas_rival *r);

/* ---- PyTorch ----------------------------------------------------------------------------------------------------- */

typedef struct torch_rival torch_rival;

/* Starts `python script`, which inherits this process's processors. NULL, with a word on stderr, if it has no torch. */
torch_rival *torch_start(const char *python, const char *script, int threads);
void torch_stop(torch_rival *r);
const char *torch_version(const torch_rival *r);

/* Minimum and median in microseconds; false if it failed. */
bool torch_measure(torch_rival *r, const operands *o, int64_t rank, int op, double budget_ms, double *minimum,
                   double *median);

#endif
