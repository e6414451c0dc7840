/* SPDX-License-Identifier: MIT */
/*
 * The floor of a LoRA call: it can be no faster than touching its operands once, nor than its multiply-adds at the
 * processor's rate. Touching, by the bench's own threads, rows split evenly:
 *     forward    reads x, A, B; reads and writes y
 *     backward   reads x, dy, A, B; reads and writes dx, dA, dB
 * written as fast as the best of a few ways (floor_touch.c) found for the shape. Multiply-adds, per row, rank and
 * column of n_in + n_out: 1 forward, 2 backward (H is given).
 */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include "rivals.h"

typedef struct floor_rival {
    const operands *o;
    size_t a_bytes; /* of A, and of dA */
    size_t b_bytes; /* of B, and of dB */
    char *a;
    char *b;
    char *grad_a;
    char *grad_b;
    int way; /* the one in use, FLOOR_... together */
} floor_rival;

#define FLOOR_PREFETCH 1 /* software prefetch */
#define FLOOR_BY_ROW   2 /* a row of every matrix, then the next; else matrix after matrix */
#define FLOOR_ALONE    4 /* on the calling thread */
#define FLOOR_WAYS     8

void floor_open(floor_rival *f, const operands *o, int64_t rank);
void floor_close(floor_rival *f);
rival floor_rival_of(floor_rival *f);

/* Multiply-adds of a call, doubled. */
double floor_flops(const bench_shape *shape, int64_t rank, int op);

/*
 * Flops a second of all threads together, in a register-blocked loop of FMAs out of the first-level cache. A word on
 * stderr if the threads stay far from `threads` times the rate of one: something else uses the processors.
 */
double floor_flop_rate(int threads);

/*
 * Nanoseconds that a word takes from one thread to another; NAN with one thread. It tells whether the processors of a
 * virtual machine share a last-level cache at the moment, which moves BLAS's own threading and the bandwidth of two
 * threads by up to 2 in opposite directions.
 */
double floor_handover_ns(void);

#endif
