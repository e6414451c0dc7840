/* SPDX-License-Identifier: MIT */
/*
 * lorank's results against a naive computation in double, on rows of y and dx and columns of dA and dB spread evenly
 * over the matrix, relative to the bound that docs/numerics.md derives. A 16-bit y or dx may be off by its own rounding
 * besides: u (|result| + bound) with u = 2^-8 (bf16) or 2^-11 (f16).
 */
#ifndef BENCH_ACCURACY_H
#define BENCH_ACCURACY_H

#include "rivals.h"

/* Largest error / bound of one call on operand set 0; NaN counts as infinite. forward has run on the set before. */
typedef struct accuracy {
    double forward;
    double backward;
} accuracy;

accuracy accuracy_of(lorank_rival *r);

#endif
