/* SPDX-License-Identifier: MIT */
/*
 * The rate of multiply-adds (floor.h): C[ROWS x COLS vectors] += a b over DEPTH steps, C in registers, a broadcast and
 * b loaded from the first-level cache, as the innermost loop of a matrix product. -ffp-contract=fast makes FMAs of it.
 */
#include <math.h>
#include <stdio.h>

#include "floor.h"
#include "timing.h"

#if defined(__AVX512F__)
#define VECTOR 64
#elif defined(__AVX__)
#define VECTOR 32
#else
#define VECTOR 16
#endif

/* 32 registers hold 8 x 3 sums and three of b, 16 hold 6 x 2 and two. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define ROWS 8
#define COLS 3
#else
#define ROWS 6
#define COLS 2
#endif

#define LANES  (VECTOR / 4)
#define DEPTH  64   /* a and b are 2 + 12 KiB at most */
#define SWEEPS 2000 /* about 2 ms */
#define TRIALS 25

typedef float vector __attribute__((vector_size(VECTOR)));

typedef struct blocks {
    vector b[DEPTH][COLS];
    float a[DEPTH][ROWS];
} blocks;

static volatile float sink;

static void multiply(const blocks *in, vector c[ROWS][COLS])
{
    vector sum[ROWS][COLS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int j = 0; j < COLS; j++)
            sum[i][j] = c[i][j];
    for (int k = 0; k < DEPTH; k++) {
        vector b[COLS];
#pragma GCC unroll 4
        for (int j = 0; j < COLS; j++)
            b[j] = in->b[k][j];
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
            for (int j = 0; j < COLS; j++)
                sum[i][j] += in->a[k][i] * b[j];
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int j = 0; j < COLS; j++)
            c[i][j] = sum[i][j];
}

/* One thread's rate, all threads at it at once. */
static double rate_of_thread(void)
{
    blocks in;
    vector c[ROWS][COLS] = {{{0}}};
    for (int k = 0; k < DEPTH; k++) {
        for (int i = 0; i < ROWS; i++)
            in.a[k][i] = 1e-3f * (float)(i - k);
        for (int j = 0; j < COLS; j++)
            in.b[k][j] = 1e-3f * (float)(k + j) - (vector){0};
    }
    double start = timing_now();
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        multiply(&in, c);
    double rate = 2e6 * ROWS * COLS * LANES * DEPTH * SWEEPS / (timing_now() - start);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++)
            sink = c[i][j][0];
    return rate;
}

static double rate_together(void)
{
    double rate = 0.0;
#pragma omp parallel reduction(+ : rate)
    rate += rate_of_thread();
    return rate;
}

double floor_flop_rate(int threads)
{
    double alone = 0.0, together = 0.0;
    for (int trial = 0; trial < TRIALS; trial++)
        alone = fmax(alone, rate_of_thread());
    for (int trial = 0; trial < TRIALS || (trial < 20 * TRIALS && together < 0.95 * threads * alone); trial++)
        together = fmax(together, rate_together());
    if (together < 0.85 * threads * alone)
        fprintf(
            stderr,
            "bench-kernels: %d threads make %.2f times the multiply-adds of one: the processors are busy\n",
            threads, together / alone);
    return together;
}

double floor_flops(const bench_shape *shape, int64_t rank, int op)
{
    static const double multiply_adds[GRID_OPS] = {1.0, 2.0, 3.0};
    return 2.0 * multiply_adds[op] * (double)shape->tokens * (double)rank *
           (double)(shape->n_in + shape->n_out);
}
