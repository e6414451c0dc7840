/* SPDX-License-Identifier: MIT */
/*
 * Writing safetensors files in the strict form: compact header that begins with the metadata, tensors in byte order of
 * their names (all are f32, so that the format's order by dtype says nothing more), spaces up to a multiple of 8.
 */
#ifndef LRKI_SAFETENSORS_WRITE_H
#define LRKI_SAFETENSORS_WRITE_H

#include "file.h"

typedef struct lrki_out_tensor {
    const char *name; /* UTF-8, unique, not "__metadata__" */
    int64_t rows;
    int64_t cols;
    int64_t tag; /* the caller's: which tensor this is */
} lrki_out_tensor;

/* Fills values[0 .. rows * cols) of one tensor. */
typedef lrk_status (*lrki_out_fill)(void *user, const lrki_out_tensor *tensor, float *values);

/*
 * Sorts `tensors` by name and writes everything to `file`, which the caller began and commits. metadata: an object of
 * strings, taken over even on failure; NULL is lack of memory. One tensor is in memory at a time.
 */
lrk_status lrki_safetensors_write(lrki_replacement *file, lrki_json *metadata, lrki_out_tensor *tensors,
                                  int64_t n, lrki_out_fill fill, void *user);

#endif
