/* SPDX-License-Identifier: MIT */
/*
 * safetensors files: a 64-bit header length, a JSON header, raw little-endian tensors without gaps. The reader is strict
 * (all that the reference implementation refuses, and duplicate names and metadata keys besides), checks every length
 * against the file before it allocates, accepts unaligned data, skips dtypes that it cannot convert, and reads tensors
 * one by one, or in pieces. The writer writes the strict form: tensors by alignment of their dtype, then name.
 * Threads: shared-read after opening (reads use their own file position).
 */
#ifndef LRK_SAFETENSORS_H
#define LRK_SAFETENSORS_H

#include <stdint.h>

#include "context.h"
#include "io.h"

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

/* The same from a reader, which is used until the file is closed. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_safetensors_open_reader(lrk_context *context, const lrk_reader *reader,
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

/* Pairs in __metadata__, and pair i, both borrowed. 0 for NULL. Errors: LRK_ERR_ARGUMENT. Since 0.1 */
LRK_API int64_t lrk_safetensors_metadata_count(const lrk_safetensors *file);
LRK_API lrk_status lrk_safetensors_metadata_get(const lrk_safetensors *file, int64_t i, const char **key,
                                                const char **value);

/*
 * Bytes offset..offset+n of tensor i as they are in the file, whatever the dtype.
 * Errors   LRK_ERR_ARGUMENT, LRK_ERR_SHAPE (a range that leaves the tensor), LRK_ERR_IO.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_safetensors_read_bytes(const lrk_safetensors *file, int64_t i, uint64_t offset,
                                                              void *data, size_t n);

/*
 * Reads tensor i as f32 into values[0..count). F16 and BF16 convert exactly, F64 rounds to nearest.
 * Errors   LRK_ERR_SHAPE        count is not the tensor's
 *          LRK_ERR_UNSUPPORTED  a dtype that does not convert
 *          LRK_ERR_IO, LRK_ERR_ARGUMENT, LRK_ERR_NOMEM (a buffer of at most 64 KiB)
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_safetensors_read_f32(const lrk_safetensors *file, int64_t i, float *values,
                                                            int64_t count);

/* One tensor to write. */
typedef struct lrk_safetensors_item {
    uint32_t struct_size;
    int32_t n_dims;    /* 0..LRK_SAFETENSORS_MAX_DIMS                            */
    const char *name;  /* UTF-8, unique, not "__metadata__"                      */
    const char *dtype; /* one of the format's names; whole bytes                 */
    int64_t shape[LRK_SAFETENSORS_MAX_DIMS];
} lrk_safetensors_item;

/*
 * What to write. fill() is asked for the bytes of one tensor after the other, in the file's order, each from its first
 * byte to its last in pieces of at most 1 MiB; non-zero ends the writing with LRK_ERR_HOST. All is borrowed for the call.
 */
typedef struct lrk_safetensors_content {
    uint32_t struct_size;
    uint32_t flags;                      /* 0                                                     */
    const lrk_safetensors_item *tensors; /* stepped by tensors[0].struct_size [NULL]              */
    int64_t n_tensors;                   /* [0]                                                   */
    const char *const *metadata;         /* key, value, key, value, ...: UTF-8, unique keys [NULL] */
    int64_t n_metadata;                  /* pairs [0]                                             */
    void *user;
    int32_t (*fill)(void *user, int64_t tensor, uint64_t offset, void *data, size_t n); /* [NULL: must be set] */
} lrk_safetensors_content;

/* Setting the defaults. Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_safetensors_content_init(lrk_safetensors_content *content, size_t struct_size);

/*
 * Writes a file (under a temporary name, synced and renamed: a crash leaves the old file or the new one), or to a writer.
 * Errors   LRK_ERR_ARGUMENT     names, keys or dtypes that the format does not have, a name twice, a negative dimension
 *          LRK_ERR_SHAPE        a size overflows
 *          LRK_ERR_UNSUPPORTED  a header of more than 100,000,000 bytes
 *          LRK_ERR_HOST         fill() refused; LRK_ERR_IO, LRK_ERR_VERSION, LRK_ERR_NOMEM (1 MiB and the header)
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_safetensors_save(lrk_context *context, const char *path,
                                                        const lrk_safetensors_content *content);
LRK_API LRK_WARN_UNUSED lrk_status lrk_safetensors_write(lrk_context *context, const lrk_writer *writer,
                                                         const lrk_safetensors_content *content);

#ifdef __cplusplus
}
#endif

#endif
