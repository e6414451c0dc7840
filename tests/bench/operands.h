/* SPDX-License-Identifier: MIT */
/*
 * The operands of a shape: x [tokens x n_in], y [tokens x n_out], dy as y, dx as x, in several sets. Calls take one set
 * after another, so that a call meets its operands as training would: sets that fit half of the second-level cache are
 * used over and over (the layer's own product has just read x and written y), larger ones rotate through more than
 * twice the last-level cache. Weights and gradients are not here: they stay.
 */
#ifndef BENCH_OPERANDS_H
#define BENCH_OPERANDS_H

#include <stddef.h>

#include "grid.h"

typedef struct operand_set {
    void *x;
    void *y;
    void *dy;
    void *dx;
} operand_set;

typedef struct operands {
    bench_shape shape; /* its rank does not matter */
    size_t element;    /* bytes */
    size_t x_bytes;    /* of x, and of dx */
    size_t y_bytes;    /* of y, and of dy */
    operand_set *sets;
    int64_t n_sets;
} operands;

/*
 * Values uniform in (-1, 1), not 0. n_sets 0: as many as said above; contenders that take turns need the same number. Ends
 * the process if memory is short.
 */
operands operands_make(const bench_shape *shape, int64_t n_sets);
void operands_free(operands *o);

/* Memory or the end of the process; aligned to 64 bytes. */
void *bench_memory(size_t bytes);
void bench_random(float *values, int64_t n, uint64_t seed);

/* Elements of a dtype as floats and back (rounded to nearest even). */
float operand_read(const void *data, int64_t index, int32_t dtype);

#endif
