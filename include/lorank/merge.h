/* SPDX-License-Identifier: MIT */
/*
 * Merging a set into a model's safetensors files: W' = W + s B^T diag(g) A for each adapted weight, everything else copied
 * byte for byte, a piece of a tensor at a time, so that a model far larger than memory merges.
 *
 * delta is that of lrk_adapters_delta(). A sum is formed in f32 from W (widened exactly) and delta, and rounded once to the
 * tensor's dtype; for F64 it is formed in double. Rounding error of an element: |W' as stored - (W + delta)|, in double.
 * delta is lost in a module if ||W' - W||_F, as stored, is less than half of ||delta||_F: the dtype cannot hold the change.
 * Elements of W that are not finite stay so and count in none of this.
 */
#ifndef LRK_MERGE_H
#define LRK_MERGE_H

#include <stdint.h>

#include "adapters.h"
#include "io.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LRK_MERGE_ALLOW_LOST 0x1u /* a delta that is lost to rounding is reported and no error */

typedef struct lrk_merge_options {
    uint32_t struct_size;
    uint32_t flags;          /* LRK_MERGE_... [0]                                                                  */
    const char *prefix;      /* the tensor of a module is prefix + name + ".weight" [NULL: ""]                      */
    const char *transposed;  /* glob (fnmatch) over module names whose weight is [n_in x n_out] (Conv1D) [NULL: none] */
    void *user;              /* of progress                                                                        */
    int32_t (*progress)(void *user, uint64_t done, uint64_t total); /* bytes of tensors written; non-zero: LRK_ERR_CANCELLED [NULL] */
} lrk_merge_options;

typedef struct lrk_merge_report {
    uint32_t struct_size;
    uint32_t flags;
    int64_t files;
    int64_t tensors;          /* in all                                                 */
    int64_t merged;           /* weights that an adapter was merged into                */
    int64_t lost;             /* of these, modules whose delta was lost to rounding     */
    double largest_error;     /* of an element, over all merged weights                 */
    double mean_error;
    double delta_norm;        /* sqrt of the sum of ||delta||_F^2                       */
    double largest_lost;      /* the largest share 1 - ||W' - W|| / ||delta|| of a module, 0 if none is positive */
    int32_t worst_module;     /* that of largest_error, -1 if none was merged           */
    int32_t reserved;
} lrk_merge_report;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_merge_options_init(lrk_merge_options *options, size_t struct_size);

/*
 * Merges a model into another place. `model` and `merged` are two safetensors files, or two directories with
 * model.safetensors or else with model.safetensors.index.json and its shards; of a directory, every other regular file
 * beside them is copied (tokenizer, config) unless its name ends as those of weights do (.safetensors, .index.json, .bin,
 * .pt, .pth, .ckpt, .gguf, .h5, .onnx, .msgpack), folders are not. Files are written in the strict form of safetensors.h:
 * metadata and the bytes of other tensors are kept, their order may change. Every module of rank > 0 must have its weight
 * in the model, [n_out x n_in] (further dimensions of 1 are allowed), which must be F32, F16, BF16 or F64. All is checked
 * before anything is written, but for lost deltas and overflow. Each file is written under a temporary name, synced and
 * renamed; model.safetensors, or the index, comes last, and an index that was in the new place is removed before the first
 * shard. A failure removes what was begun and leaves what was complete. options and report may be NULL;
 * report->struct_size must be set; after a failure it is empty.
 * Errors   LRK_ERR_NOT_FOUND    no such model or shard; a module without weight; `transposed` matches no module; the
 *                               detail names it
 *          LRK_ERR_SHAPE        a weight that is not the module's shape
 *          LRK_ERR_UNSUPPORTED  a weight of another dtype; a tensor of more than LRK_SAFETENSORS_MAX_DIMS dimensions; a
 *                               delta lost to rounding, named with its share
 *          LRK_ERR_NONFINITE    a parameter, or a sum in the weight's dtype, is not finite (W finite)
 *          LRK_ERR_FORMAT       a file breaks its format, or an index contradicts its shards
 *          LRK_ERR_ARGUMENT     `merged` is `model`, or a directory that holds a model of the other form (one file, shards);
 *                               unknown flags
 *          LRK_ERR_CANCELLED, LRK_ERR_IO, LRK_ERR_HOST (gemm), LRK_ERR_VERSION,
 *          LRK_ERR_NOMEM (beside the headers at most 32 MiB are taken, or four rows of a weight whose rows are longer)
 * Threads  shared-read.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_merge_model(const lrk_adapters *adapters, const char *model, const char *merged,
                                                   const lrk_merge_options *options, lrk_merge_report *report);

/*
 * The same for one safetensors file from a reader to a writer, which gets no byte before all is checked.
 * Threads: shared-read. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_merge_stream(const lrk_adapters *adapters, const lrk_reader *model,
                                                    const lrk_writer *merged, const lrk_merge_options *options,
                                                    lrk_merge_report *report);

#ifdef __cplusplus
}
#endif

#endif
