/* SPDX-License-Identifier: MIT */
/*
 * Reading safetensors files: a 64-bit header length, a JSON header, raw little-endian tensors without gaps. The reader
 * is strict (all that the reference implementation refuses, and duplicate names besides), checks every length against
 * the file before it allocates, accepts unaligned data, skips dtypes that it cannot convert, and reads tensors one by
 * one from the file.
 * Threads: shared-read after opening (reads use their own file position).
 */
#ifndef LRK_SAFETENSORS_H
#define LRK_SAFETENSORS_H

#include <stdint.h>

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_safetensors lrk_safetensors;

#define LRK_SAFETENSORS_MAX_DIMS 8 /* tensors of more dimensions are listed without their shape */

typedef struct lrk_safetensors_tensor {
    uint32_t struct_size;
    int32_t n_dims;
    const char *name;  /* borrowed until the file is closed                                     */
    const char *dtype; /* as in the file: "F32", "BF16", ...                                    */
    int64_t shape[LRK_SAFETENSORS_MAX_DIMS];
    int64_t count;     /* elements                                                              */
    size_t bytes;
    int32_t readable;  /* 1 if lrk_safetensors_read_f32() can convert it: F64, F32, F16, BF16   */
    int32_t reserved;
} lrk_safetensors_tensor;

/*
 * Opens a file and reads its header.
 * Errors   LRK_ERR_IO      the system refused (the detail names path and reason); LRK_ERR_NOT_FOUND: no such file
 *          LRK_ERR_FORMAT  the file breaks the format; the detail says how and names the tensor
 *          LRK_ERR_ARGUMENT, LRK_ERR_NOMEM
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_safetensors_open(lrk_context *context, const char *path,
                                                        lrk_safetensors **file);

/* NULL is ignored. Since 0.1 */
LRK_API void lrk_safetensors_close(lrk_safetensors *file);

/* Number of tensors; 0 for NULL. Since 0.1 */
LRK_API int64_t lrk_safetensors_count(const lrk_safetensors *file);

/* Tensor i in order of its data. tensor->struct_size must be set. Errors: LRK_ERR_ARGUMENT. Since 0.1 */
LRK_API lrk_status lrk_safetensors_get(const lrk_safetensors *file, int64_t i, lrk_safetensors_tensor *tensor);

/* Index of the tensor of that name. Errors: LRK_ERR_ARGUMENT, LRK_ERR_NOT_FOUND (index is -1). Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_safetensors_find(const lrk_safetensors *file, const char *name, int64_t *index);

/* Value of a key of __metadata__, borrowed; NULL if there is none. Since 0.1 */
LRK_API const char *lrk_safetensors_metadata(const lrk_safetensors *file, const char *key);

/*
 * Reads tensor i as f32 into values[0..count). F16 and BF16 convert exactly, F64 rounds to nearest.
 * Errors   LRK_ERR_SHAPE        count is not the tensor's
 *          LRK_ERR_UNSUPPORTED  a dtype that does not convert
 *          LRK_ERR_IO, LRK_ERR_ARGUMENT, LRK_ERR_NOMEM (a buffer of at most 64 KiB)
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_safetensors_read_f32(const lrk_safetensors *file, int64_t i, float *values,
                                                            int64_t count);

#ifdef __cplusplus
}
#endif

#endif
