/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing safetensors files. What is accepted must be readable throughout, and written again it must hold the same
 * tensors and metadata.
 */
#include <stdlib.h>
#include <string.h>

#include "lorank/lorank.h"

enum { MOST_BYTES = 1 << 16 };

typedef struct fuzz_file {
    unsigned char *bytes;
    size_t n;
} fuzz_file;

static void must(int holds)
{
    if (!holds) abort();
}

static int32_t append(void *user, const void *data, size_t n)
{
    fuzz_file *file = user;
    file->bytes = realloc(file->bytes, file->n + n + 1);
    must(file->bytes != NULL);
    memcpy(file->bytes + file->n, data, n);
    file->n += n;
    return 0;
}

static lrk_status open_bytes(lrk_context *context, const uint8_t *data, size_t n, lrk_safetensors **file)
{
    lrk_reader reader = {.struct_size = sizeof reader};
    must(lrk_reader_memory(&reader, data, n) == LRK_OK);
    return lrk_safetensors_open_reader(context, &reader, file);
}

static lrk_safetensors_tensor tensor_at(const lrk_safetensors *file, int64_t i)
{
    lrk_safetensors_tensor tensor = {.struct_size = sizeof tensor};
    must(lrk_safetensors_get(file, i, &tensor) == LRK_OK);
    return tensor;
}

static unsigned char *bytes_of(const lrk_safetensors *file, int64_t i, size_t n)
{
    unsigned char *bytes = malloc(n + 1);
    must(bytes != NULL && lrk_safetensors_read_bytes(file, i, 0, bytes, n) == LRK_OK);
    must(lrk_safetensors_read_bytes(file, i, 1, bytes, n) == LRK_ERR_SHAPE);
    return bytes;
}

static void read_values(const lrk_safetensors *file, int64_t i, const lrk_safetensors_tensor *tensor)
{
    if (tensor->count > MOST_BYTES)
        return; /* a 0 among the dimensions stands after larger ones: nothing to read */
    float *values = malloc(((size_t)tensor->count + 1) * sizeof *values);
    lrk_status status = lrk_safetensors_read_f32(file, i, values, tensor->count);
    must(status == (tensor->readable ? LRK_OK : LRK_ERR_UNSUPPORTED));
    free(values);
}

static int32_t fill(void *user, int64_t tensor, uint64_t offset, void *data, size_t n)
{
    return lrk_safetensors_read_bytes(user, tensor, offset, data, n) == LRK_OK ? 0 : 1;
}

static void must_hold_the_same(const lrk_safetensors *a, const lrk_safetensors *b)
{
    must(lrk_safetensors_count(a) == lrk_safetensors_count(b));
    must(lrk_safetensors_metadata_count(a) == lrk_safetensors_metadata_count(b));
    for (int64_t i = 0; i < lrk_safetensors_count(a); i++) {
        int64_t j;
        lrk_safetensors_tensor x = tensor_at(a, i);
        must(lrk_safetensors_find(b, x.name, &j) == LRK_OK);
        lrk_safetensors_tensor y = tensor_at(b, j);
        must(strcmp(x.dtype, y.dtype) == 0 && x.count == y.count && x.bytes == y.bytes &&
             x.n_dims == y.n_dims);
        unsigned char *one = bytes_of(a, i, x.bytes), *other = bytes_of(b, j, y.bytes);
        must(memcmp(one, other, x.bytes) == 0);
        free(one);
        free(other);
    }
    for (int64_t i = 0; i < lrk_safetensors_metadata_count(a); i++) {
        const char *key, *value;
        must(lrk_safetensors_metadata_get(a, i, &key, &value) == LRK_OK);
        must(strcmp(lrk_safetensors_metadata(b, key), value) == 0);
    }
}

/* Tensors of more dimensions than the writer takes are left alone. */
static void write_again(lrk_context *context, lrk_safetensors *file)
{
    int64_t n = lrk_safetensors_count(file), n_pairs = lrk_safetensors_metadata_count(file);
    lrk_safetensors_item *items = calloc((size_t)n + 1, sizeof *items);
    const char **metadata = calloc(2 * (size_t)n_pairs + 1, sizeof *metadata);
    lrk_safetensors_content content;
    must(items != NULL && metadata != NULL &&
         lrk_safetensors_content_init(&content, sizeof content) == LRK_OK);
    int fits = 1;
    for (int64_t i = 0; i < n; i++) {
        lrk_safetensors_tensor tensor = tensor_at(file, i);
        items[i] = (lrk_safetensors_item){sizeof *items, tensor.n_dims, tensor.name, tensor.dtype, {0}};
        memcpy(items[i].shape, tensor.shape, sizeof tensor.shape);
        fits &= tensor.n_dims <= LRK_SAFETENSORS_MAX_DIMS;
    }
    for (int64_t i = 0; i < n_pairs; i++)
        must(lrk_safetensors_metadata_get(file, i, &metadata[2 * i], &metadata[2 * i + 1]) == LRK_OK);
    content.tensors = items;
    content.n_tensors = n;
    content.metadata = metadata;
    content.n_metadata = n_pairs;
    content.user = file;
    content.fill = fill;
    fuzz_file copy = {0};
    lrk_writer writer = {.struct_size = sizeof writer, .user = &copy, .write = append};
    lrk_safetensors *again;
    if (fits) {
        lrk_status status = lrk_safetensors_write(context, &writer, &content);
        must(status == LRK_OK ||
             status == LRK_ERR_SHAPE); /* dimensions above 2^63 that a later 0 makes nothing */
        if (status == LRK_OK) {
            must(open_bytes(context, copy.bytes, copy.n, &again) == LRK_OK);
            must_hold_the_same(file, again);
            lrk_safetensors_close(again);
        }
    }
    free(copy.bytes);
    free(items);
    free(metadata);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lrk_context *context;
    lrk_safetensors *file;
    if (size > MOST_BYTES) return 0;
    must(lrk_context_create(NULL, &context, NULL, 0) == LRK_OK);
    if (open_bytes(context, data, size, &file) == LRK_OK) {
        for (int64_t i = 0; i < lrk_safetensors_count(file); i++) {
            lrk_safetensors_tensor tensor = tensor_at(file, i);
            read_values(file, i, &tensor);
        }
        write_again(context, file);
        lrk_safetensors_close(file);
    } else {
        must(file == NULL);
    }
    lrk_context_destroy(context);
    return 0;
}
