/* SPDX-License-Identifier: MIT */
/*
 * bf16 and f16 for tests, by arithmetic in double and not by bits, so that nothing is shared with the library; and
 * matrices of them beside a padded matrix of the same values in f32.
 */
#ifndef HALF_H
#define HALF_H

#include "material.h"

/* To nearest even; a NaN gives a NaN. dtype is LRK_DTYPE_BF16 or LRK_DTYPE_F16. */
uint16_t half_encode(int32_t dtype, double value);
double half_decode(int32_t dtype, uint16_t bits);

/* Most that rounding to the type moves a value, relative to it, and absolutely where values are subnormal; f32: 0. */
double half_unit(int32_t dtype);
double half_tiny(int32_t dtype);

/* A matrix in another type; for LRK_DTYPE_F32 the padded matrix itself serves. */
typedef struct coded {
    int32_t dtype;
    uint16_t *bits; /* NULL for f32 */
} coded;

/* Rounds the values of `matrix` to the type and keeps them in both. */
coded coded_make(int32_t dtype, padded *matrix);
void coded_free(coded *c);
lrk_matrix coded_view(const coded *c, const padded *matrix);
lrk_matrix_mut coded_mut(coded *c, padded *matrix);
/* Puts what the library wrote into `matrix`; aborts if padding was written. */
void coded_take(const coded *c, padded *matrix);

#endif
