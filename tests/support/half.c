/* SPDX-License-Identifier: MIT */
/* bf16 and f16 by arithmetic (half.h). */
#include "half.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define CANARY 0x7FDB /* a NaN in both types */

typedef struct type {
    int fraction; /* bits */
    int least;    /* exponent of the least normal value */
    int bias;
} type;

static type type_of(int32_t dtype)
{
    return dtype == LRK_DTYPE_BF16 ? (type){7, -126, 127} : (type){10, -14, 15};
}

uint16_t half_encode(int32_t dtype, double value)
{
    type t = type_of(dtype);
    int infinity = dtype == LRK_DTYPE_BF16 ? 0x7F80 : 0x7C00, sign = signbit(value) ? 0x8000 : 0;
    double size = fabs(value);
    if (isnan(value)) return (uint16_t)(sign | infinity | 1 << (t.fraction - 1));
    if (size == 0.0) return (uint16_t)sign;
    int exponent = isinf(size) ? 200 : ilogb(size);
    if (exponent < t.least) exponent = t.least;
    if (exponent > 130) return (uint16_t)(sign | infinity);
    int whole =
        (int)nearbyint(ldexp(size, t.fraction - exponent)); /* to even: the rounding mode of C programs */
    int bits = ((exponent + t.bias) << t.fraction) + whole - (1 << t.fraction);
    return (uint16_t)(sign | (bits < infinity ? bits : infinity));
}

double half_decode(int32_t dtype, uint16_t bits)
{
    type t = type_of(dtype);
    int fraction = bits & ((1 << t.fraction) - 1), exponent = (bits & 0x7FFF) >> t.fraction;
    double sign = bits & 0x8000 ? -1.0 : 1.0;
    if (exponent == 2 * t.bias + 1) return fraction != 0 ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, t.least - t.fraction);
    return sign * ldexp(fraction + (1 << t.fraction), exponent - t.bias - t.fraction);
}

double half_unit(int32_t dtype)
{
    return dtype == LRK_DTYPE_F32 ? 0.0 : ldexp(1.0, -type_of(dtype).fraction - 1);
}

double half_tiny(int32_t dtype)
{
    type t = type_of(dtype);
    return dtype == LRK_DTYPE_F32 ? 0.0 : ldexp(1.0, t.least - t.fraction - 1);
}

coded coded_make(int32_t dtype, padded *matrix)
{
    coded c = {.dtype = dtype};
    if (dtype == LRK_DTYPE_F32) return c;
    c.bits = malloc((size_t)(matrix->rows * matrix->ld + 1) * sizeof *c.bits);
    ck_assert_ptr_nonnull(c.bits);
    for (int64_t i = 0; i < matrix->rows; i++)
        for (int64_t j = 0; j < matrix->ld; j++) {
            int64_t at = i * matrix->ld + j;
            c.bits[at] = j < matrix->cols ? half_encode(dtype, (double)matrix->data[at]) : CANARY;
            if (j < matrix->cols) matrix->data[at] = (float)half_decode(dtype, c.bits[at]);
        }
    return c;
}

void coded_free(coded *c)
{
    free(c->bits);
}

lrk_matrix coded_view(const coded *c, const padded *matrix)
{
    lrk_matrix view = padded_view(matrix);
    view.dtype = c->dtype;
    if (c->bits != NULL) view.data = c->bits;
    return view;
}

lrk_matrix_mut coded_mut(coded *c, padded *matrix)
{
    lrk_matrix_mut view = padded_mut(matrix);
    view.dtype = c->dtype;
    if (c->bits != NULL) view.data = c->bits;
    return view;
}

void coded_take(const coded *c, padded *matrix)
{
    if (c->bits == NULL) return;
    for (int64_t i = 0; i < matrix->rows; i++)
        for (int64_t j = 0; j < matrix->ld; j++) {
            int64_t at = i * matrix->ld + j;
            if (j < matrix->cols)
                matrix->data[at] = (float)half_decode(c->dtype, c->bits[at]);
            else if (c->bits[at] != CANARY)
                ck_abort_msg("padding was written in row %d", (int)i);
        }
}
