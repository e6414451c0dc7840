/* SPDX-License-Identifier: MIT */
/*
 * Measuring (worker.h). Operands are made once for a dtype, d and number of tokens, and serve every rank. The floor's
 * way of touching is chosen for each row before it is measured with the others.
 */
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>

#include "accuracy.h"
#include "floor.h"
#include "machine.h"
#include "rows.h"

#define FLOOR_TRIALS 5 /* calls of each way of touching */

typedef struct worker {
    const bench_options *options;
    lrk_context *context;
    torch_rival *torch;
    double flop_rate;
    timing times;
} worker;

/* Everything measured on one shape. `f32`: the operands in f32, of a 16-bit shape. */
typedef struct bout {
    const operands *o;
    const operands *f32;
    int64_t rank;
    lorank_rival lorank;
    lorank_rival lorank_f32;
    blas_rival blas;
    floor_rival floor;
    accuracy accuracy;
} bout;

static void say(json_t *line)
{
    json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    printf("\n");
    fflush(stdout);
    json_decref(line);
}

/* ---- one shape --------------------------------------------------------------------------------------------------- */

static bool bout_open(bout *b, const worker *w)
{
    if (!lorank_open(&b->lorank, w->context, b->o, b->rank)) return false;
    if (b->f32 != NULL && !lorank_open(&b->lorank_f32, w->context, b->f32, b->rank)) exit(2);
    const rival lorank = lorank_rival_of(&b->lorank), f32 = lorank_rival_of(&b->lorank_f32);
    rival_prepare(&lorank, b->o);
    if (b->f32 != NULL) {
        rival_prepare(&f32, b->f32);
    } else {
        blas_open(&b->blas, b->o, b->rank, lorank_tensor(&b->lorank, LRK_TENSOR_A).data,
                  lorank_tensor(&b->lorank, LRK_TENSOR_B).data);
        const rival blas = blas_rival_of(&b->blas);
        rival_prepare(&blas, b->o);
    }
    floor_open(&b->floor, b->o, b->rank);
    b->accuracy = accuracy_of(&b->lorank);
    return true;
}

static void bout_close(bout *b)
{
    if (b->f32 != NULL)
        lorank_close(&b->lorank_f32);
    else
        blas_close(&b->blas);
    floor_close(&b->floor);
    lorank_close(&b->lorank);
}

static void choose_way(floor_rival *floor, int op)
{
    const rival r = floor_rival_of(floor);
    double best = 0.0;
    int64_t set = 0;
    int best_way = 0;
    for (int way = 0; way < FLOOR_WAYS; way++)
        for (int trial = 0; trial < FLOOR_TRIALS; trial++) {
            floor->way = way;
            double start = timing_now();
            rival_run(&r, op, set);
            double us = timing_now() - start;
            set = (set + 1) % floor->o->n_sets;
            if ((way > 0 || trial > 0) && us >= best) continue;
            best = us;
            best_way = way;
        }
    floor->way = best_way;
}

static double error_of(const accuracy *a, int op)
{
    if (op == GRID_FORWARD) return a->forward;
    if (op == GRID_BACKWARD) return a->backward;
    return a->forward > a->backward ? a->forward : a->backward;
}

/* Backward alone reads what forward saved, so parameters must not have changed since. */
static void make_fresh(lorank_rival *r, bool fresh, int op)
{
    const rival lorank = lorank_rival_of(r);
    r->fresh = fresh && op != GRID_BACKWARD;
    if (fresh && op == GRID_BACKWARD) rival_prepare(&lorank, r->o);
}

static void measure_op(worker *w, bout *b, int op)
{
    make_fresh(&b->lorank, w->options->fresh, op);
    if (b->f32 != NULL) make_fresh(&b->lorank_f32, w->options->fresh, op);
    const rival rivals[TIMING_RIVALS] = {[ROW_LORANK] = lorank_rival_of(&b->lorank),
                                         [ROW_OTHER] = b->f32 != NULL ? lorank_rival_of(&b->lorank_f32)
                                                                      : blas_rival_of(&b->blas),
                                         [ROW_FLOOR] = floor_rival_of(&b->floor)};
    bench_row row = {.shape = b->o->shape,
                     .op = op,
                     .threads = w->options->worker,
                     .sets = b->o->n_sets,
                     .times = &w->times,
                     .flops_us = 1e6 * floor_flops(&b->o->shape, b->rank, op) / w->flop_rate,
                     .handover_ns = floor_handover_ns(),
                     .max_rel_error = error_of(&b->accuracy, op)};
    row.shape.rank = b->rank;
    choose_way(&b->floor, op);
    timing_run(&w->times, rivals, TIMING_RIVALS, b->o, op, w->options->budget_ms);
    row.torch = torch_measure(w->torch, b->o, b->rank, op, w->options->budget_ms / 3, &row.torch_us,
                              &row.torch_median_us);
    say(rows_make(&row));
}

/* False if lorank does not support the dtype. */
static bool measure_rank(worker *w, const operands *o, const operands *f32, int64_t rank)
{
    bout b = {.o = o, .f32 = f32, .rank = rank};
    if (!bout_open(&b, w)) return false;
    for (int i = 0; i < w->options->op.n; i++)
        measure_op(w, &b, (int)w->options->op.value[i]);
    bout_close(&b);
    return true;
}

/* ---- the grid ---------------------------------------------------------------------------------------------------- */

static bool measure_shape(worker *w, bench_shape shape)
{
    operands o = {0}, f32 = {0};
    bench_shape same = shape;
    bool supported = true;
    same.dtype = GRID_F32;
    for (int i = 0; i < w->options->rank.n && supported; i++) {
        shape.rank = w->options->rank.value[i];
        if (!grid_wants(w->options, &shape)) continue;
        if (o.n_sets == 0) o = operands_make(&shape, 0);
        if (shape.dtype != GRID_F32 && f32.n_sets == 0) f32 = operands_make(&same, o.n_sets);
        supported = measure_rank(w, &o, shape.dtype != GRID_F32 ? &f32 : NULL, shape.rank);
    }
    operands_free(&o);
    operands_free(&f32);
    return supported;
}

static void measure_dtype(worker *w, int32_t dtype)
{
    const bench_options *o = w->options;
    for (int d = 0; d < o->n_in.n; d++)
        for (int t = 0; t < o->tokens.n; t++) {
            bench_shape shape = {.tokens = o->tokens.value[t],
                                 .n_in = o->n_in.value[d],
                                 .n_out = o->n_out.value[d],
                                 .dtype = dtype};
            if (measure_shape(w, shape)) continue;
            fprintf(stderr, "bench-kernels: lorank does not support %s: its rows are left out\n",
                    grid_dtype_name(dtype));
            return;
        }
}

static void say_header(const worker *w)
{
    char text[512];
    lrk_context_describe(w->context, text, sizeof text);
    const char *torch = torch_version(w->torch);
    say(json_pack("{s:{s:i, s:s, s:s?, s:f, s:b, s:o}}", "header", "threads", w->options->worker, "lorank",
                  text, "torch", torch, "fma_gflops", w->flop_rate * 1e-9, "fresh", w->options->fresh,
                  "pools", machine_pools()));
}

int worker_run(const bench_options *options)
{
    static worker w;
    char error[256];
    lrk_host host;
    (void)lrk_host_init(&host, sizeof host);
    host.kernels = (int32_t)options->kernels.value[0];
    w.options = options;
    machine_pin(options->worker);
    if (!machine_has_threads(options->worker)) return 2;
    if (lrk_context_create(&host, &w.context, error, sizeof error) != LRK_OK) {
        fprintf(stderr, "bench-kernels: %s\n", error);
        return 2;
    }
    if (options->python != NULL) w.torch = torch_start(options->python, options->script, options->worker);
    w.flop_rate = floor_flop_rate(options->worker);
    say_header(&w);
    for (int32_t dtype = 0; dtype < GRID_DTYPES; dtype++)
        measure_dtype(&w, dtype);
    torch_stop(w.torch);
    lrk_context_destroy(w.context);
    return 0;
}
