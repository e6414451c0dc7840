/* SPDX-License-Identifier: MIT */
/*
 * Writing safetensors files in the strict form: compact header that begins with the metadata, tensors by descending
 * alignment of their dtype and then in byte order of their names, spaces up to a multiple of 8. The caller opens and
 * commits the target.
 */
#ifndef LRKI_SAFETENSORS_WRITE_H
#define LRKI_SAFETENSORS_WRITE_H

#include "dtype.h"
#include "lorank/safetensors.h"
#include "stream.h"

typedef struct lrki_out_tensor {
    const char *name; /* UTF-8, unique, not "__metadata__" */
    const lrki_dtype *dtype;
    int64_t tag; /* the caller's: which tensor this is */
    int32_t n_dims;
    int64_t shape[LRK_SAFETENSORS_MAX_DIMS];
    int64_t count; /* elements and bytes: made from the shape when the header is written */
    int64_t bytes;
} lrki_out_tensor;

/* A tensor of two dimensions. */
lrki_out_tensor lrki_out_matrix(const char *name, const lrki_dtype *dtype, int64_t rows, int64_t cols,
                                int64_t tag);

/*
 * Sorts `tensors` into the order of the file, checks them and writes the header. What follows is `bytes` of each. metadata:
 * an object of strings, taken over even on failure; empty: none is written; NULL is lack of memory.
 */
lrk_status lrki_safetensors_header(lrki_target *target, lrki_json *metadata, lrki_out_tensor *tensors,
                                   int64_t n);

/* Fills values[0 .. tensor->count) of one tensor. */
typedef lrk_status (*lrki_out_fill)(void *user, const lrki_out_tensor *tensor, float *values);

/*
 * Writes header and tensors of F32, F16 and BF16 from f32 values, rounded to nearest even. One tensor is in memory at a
 * time. LRK_ERR_NONFINITE, naming the tensor, if a value of a narrower dtype would not be finite.
 */
lrk_status lrki_safetensors_write(lrki_target *target, lrki_json *metadata, lrki_out_tensor *tensors,
                                  int64_t n, lrki_out_fill fill, void *user);

#endif
