/* SPDX-License-Identifier: MIT */
/*
 * For tests of merging: a context that counts, a set of four modules, a model that has their weights in every dtype, and
 * what must come out. Everything ck_asserts on failure.
 */
#ifndef MERGE_RIG_H
#define MERGE_RIG_H

#include "fault.h"
#include "lorank/lorank.h"
#include "st_bytes.h"

#define MERGE_TENSORS 6

extern fault merge_host;
extern lrk_context *merge_context;

void merge_setup(void);
void merge_teardown(void);

/* h.0 (5 -> 3, rank 2), h.1 (130 -> 70, rank 3: more than a block), h.2 (4 -> 4, rank 0), h.3 (6 -> 4, rank 1). */
lrk_adapters *merge_set(void);

typedef struct merge_model {
    const char *dtype;
    bool transposed;
    st_entry entries[MERGE_TENSORS];
    void *data[MERGE_TENSORS];
} merge_model;

/* Weights "m.<module>.weight" in dtype, that of h.3 a convolution of one point; two other tensors, of odd sizes. */
merge_model merge_model_make(const char *dtype, bool transposed);
void merge_model_free(merge_model *model);
/* Entries first .. first + n - 1 as a file. */
gguf_bytes merge_model_file(const merge_model *model, int first, int n);
gguf_bytes merge_model_whole(const merge_model *model);
lrk_merge_options merge_options(const merge_model *model);

lrk_status merge_try(const lrk_adapters *adapters, gguf_bytes *file, const lrk_merge_options *options,
                     gguf_bytes *merged, lrk_merge_report *report);

/*
 * The tensors of `merged` are those of the model, entries first .. first + n - 1, with the weights merged: each element has
 * the bits of its sum, and is as near the sum in double as the bounds of delta and of the roundings allow.
 */
void merge_expect(const lrk_adapters *adapters, const merge_model *model, int first, int n,
                  const gguf_bytes *merged);

#endif
