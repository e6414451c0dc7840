/* SPDX-License-Identifier: MIT */
/*
 * What merging a model's files shares: the sum of a piece with its error, one file from beginning to end, and the state of
 * the whole merge. Every file is looked at before any is written.
 */
#ifndef LRKI_MERGE_PARTS_H
#define LRKI_MERGE_PARTS_H

#include "dtype.h"
#include "lorank/merge.h"
#include "lorank/safetensors.h"

#include "../adapters/set.h"

/* ---- sums (merge_sum.c) ---- */

/* Over the elements of a weight that were finite before. */
typedef struct lrki_merge_sums {
    int64_t elements;
    double largest_error; /* |stored - (W + delta)| */
    double error;         /* sum of it              */
    double delta2;        /* sum of delta^2         */
    double change2;       /* sum of (stored - W)^2  */
} lrki_merge_sums;

/*
 * W + delta for n elements of a readable dtype, in place: in f32 (in double for F64), rounded once to the dtype. False if
 * an element that was finite is not any more.
 */
bool lrki_merge_add(const lrki_dtype *dtype, unsigned char *weight, const float *delta, int64_t n,
                    lrki_merge_sums *sums);

/* ---- the whole (merge_look.c, merge_write.c) ---- */

typedef struct lrki_merge {
    lrk_context *context;
    const lrk_adapters *adapters;
    lrk_merge_options options;
    bool *found;   /* [n_modules] the weight is in a file that was looked at */
    uint64_t done; /* bytes of tensors written */
    uint64_t total;
    lrki_merge_sums all; /* over all merged weights */
    lrk_merge_report report;
} lrki_merge;

/* Reads the options; context, adapters and the empty report are set. lrki_merge_end() is right at any time. */
lrk_status lrki_merge_begin(lrki_merge *merge, const lrk_merge_options *options);
/* Whether a module's weight is [n_in x n_out]. */
bool lrki_merge_transposed(const lrki_merge *merge, int64_t module);
/* A tensor whose shape is known: LRK_ERR_UNSUPPORTED if it has too many dimensions. */
lrk_status lrki_merge_tensor(const lrki_merge *merge, const lrk_safetensors *file, int64_t i,
                             lrk_safetensors_tensor *facts);
/* Finds and checks the weight of a module; *tensor is -1 if the file does not have it, or none is needed. */
lrk_status lrki_merge_find(const lrki_merge *merge, const lrk_safetensors *file, int64_t module,
                           int64_t *tensor);
/* Finds the modules whose weights are in the file, and checks those. */
lrk_status lrki_merge_look(lrki_merge *merge, const lrk_safetensors *file);
/* After the last file was looked at: every module has its weight, and parameters that are finite. */
lrk_status lrki_merge_check(const lrki_merge *merge);
/* Writes the file with its weights merged, to a path or else to a writer. */
lrk_status lrki_merge_write(lrki_merge *merge, const lrk_safetensors *file, const char *path,
                            const lrk_writer *writer);
/* Fills the caller's report, if there is one. */
lrk_status lrki_merge_report(const lrki_merge *merge, lrk_merge_report *report);
void lrki_merge_end(lrki_merge *merge);

#endif
