/* SPDX-License-Identifier: MIT */
/*
 * Element types of safetensors files: all names and widths of the format, and conversion to f32 for four of them; bf16
 * and f16 are written too.
 * Files are little-endian; so is every host that lorank supports.
 */
#ifndef LRKI_DTYPE_H
#define LRKI_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "lorank reads and writes tensors on little-endian hosts only"
#endif

typedef struct lrki_dtype {
    const char *name;
    uint32_t bits;
    bool readable; /* as f32 */
    /* n elements at `bytes`, of any alignment, to f32; NULL for F32 itself */
    void (*to_f32)(const unsigned char *bytes, float *values, size_t n);
    /* the way back, rounded to nearest even, NaN stays NaN; NULL for F32 and for what is not written */
    void (*from_f32)(const float *values, unsigned char *bytes, size_t n);
} lrki_dtype;

/* The dtype of exactly that name, or NULL. Lives as long as the program. */
const lrki_dtype *lrki_dtype_find(const char *name);

/* Where it stands in the format's ascending order by alignment. */
int32_t lrki_dtype_place(const lrki_dtype *dtype);

bool lrki_all_finite(const float *values, int64_t n);

#endif
