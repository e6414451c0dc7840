/* SPDX-License-Identifier: MIT */
/* Calls for a counter of instructions (count.h). */
#include "count.h"

#include <stdio.h>

void __attribute__((noinline)) count_calls(const rival *r, int op, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        rival_run(r, op, 0);
}

static void count_ops(const bench_options *options, const rival *r, const operands *o)
{
    for (int i = 0; i < options->op.n; i++) {
        int op = (int)options->op.value[i];
        rival_prepare(r, o);
        if (op != GRID_FORWARD) rival_run(r, op, 0);
        count_calls(r, op, options->calls);
    }
}

static void count_shape(const bench_options *options, lrk_context *context, const bench_shape *shape)
{
    operands o = operands_make(shape, 1);
    lorank_rival lorank;
    blas_rival blas;
    if (lorank_open(&lorank, context, &o, shape->rank)) {
        blas_open(&blas, &o, shape->rank, lorank_tensor(&lorank, LRK_TENSOR_A).data,
                  lorank_tensor(&lorank, LRK_TENSOR_B).data);
        const rival r = options->count == COUNT_BLAS ? blas_rival_of(&blas) : lorank_rival_of(&lorank);
        count_ops(options, &r, &o);
        blas_close(&blas);
        lorank_close(&lorank);
    }
    operands_free(&o);
}

int count_run(const bench_options *options)
{
    char error[256];
    lrk_host host;
    lrk_context *context;
    (void)lrk_host_init(&host, sizeof host);
    host.kernels = (int32_t)options->kernels.value[0];
    if (lrk_context_create(&host, &context, error, sizeof error) != LRK_OK) {
        fprintf(stderr, "bench-kernels: %s\n", error);
        return 2;
    }
    for (int d = 0; d < options->n_in.n; d++)
        for (int t = 0; t < options->tokens.n; t++)
            for (int r = 0; r < options->rank.n; r++) {
                bench_shape shape = {.tokens = options->tokens.value[t],
                                     .n_in = options->n_in.value[d],
                                     .n_out = options->n_out.value[d],
                                     .rank = options->rank.value[r],
                                     .dtype =
                                         options->dtype.n > 0 ? (int32_t)options->dtype.value[0] : GRID_F32};
                count_shape(options, context, &shape);
            }
    lrk_context_destroy(context);
    return 0;
}
