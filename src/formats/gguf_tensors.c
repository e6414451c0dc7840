/* SPDX-License-Identifier: MIT */
/*
 * The tensors of a GGUF file: names, shapes, types and places, and their values. Data must lie in the order of the list,
 * each tensor at the next multiple of the alignment, as llama.cpp demands; nothing may follow but padding.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_parts.h"
#include "json.h"

#define INFO_LEAST    33 /* bytes of an entry: length, one byte of name, n_dims, one dimension, type, offset */
#define CONVERT_BYTES 65536

static lrk_status fail_tensor(const lrki_gguf_file *file, const lrki_gguf_tensor *tensor, const char *what)
{
    return lrki_fail(file->context, LRK_ERR_FORMAT, "%s: tensor '%s': %s", file->source->name, tensor->name,
                     what);
}

/* ---- entries ---- */

static lrk_status take_name(const lrki_gguf_file *file, lrki_gguf_cursor *cursor, char name[LRKI_GGUF_NAME])
{
    uint64_t n = 0;
    lrk_status status = lrki_gguf_take_u64(cursor, &n);
    if (status != LRK_OK) return status;
    if (n == 0 || n >= LRKI_GGUF_NAME)
        return lrki_gguf_fail(file->source, "a tensor name that is empty or longer than 63 bytes");
    status = lrki_gguf_take(cursor, name, (size_t)n);
    if (status == LRK_OK && (strlen(name) != n || !lrki_utf8_valid(name)))
        return lrki_gguf_fail(file->source, "a tensor name that is not UTF-8, or has a NUL in it");
    return status;
}

static lrk_status take_shape(const lrki_gguf_file *file, lrki_gguf_cursor *cursor, lrki_gguf_tensor *tensor)
{
    uint32_t n_dims = 0;
    lrk_status status = lrki_gguf_take_u32(cursor, &n_dims);
    if (status != LRK_OK) return status;
    if (n_dims == 0 || n_dims > LRKI_GGUF_DIMS)
        return fail_tensor(file, tensor, "not of one to four dimensions");
    tensor->count = 1;
    for (uint32_t d = 0; d < LRKI_GGUF_DIMS; d++) {
        uint64_t dim = 1;
        if (d < n_dims) status = lrki_gguf_take_u64(cursor, &dim);
        if (status != LRK_OK) return status;
        if (dim == 0 || dim > INT64_MAX) return fail_tensor(file, tensor, "a dimension that is not positive");
        tensor->ne[d] = (int64_t)dim;
        if (!lrki_mul(tensor->count, tensor->ne[d], &tensor->count))
            return fail_tensor(file, tensor, "the number of elements overflows");
    }
    return LRK_OK;
}

static lrk_status take_type(const lrki_gguf_file *file, lrki_gguf_cursor *cursor, lrki_gguf_tensor *tensor)
{
    uint32_t number = 0;
    lrki_gguf_type type;
    lrk_status status = lrki_gguf_take_u32(cursor, &number);
    if (status != LRK_OK) return status;
    if (!lrki_gguf_type_find((int32_t)number, &type))
        return fail_tensor(file, tensor, "a type that ggml does not have");
    tensor->dtype = type.dtype;
    if (type.dtype != NULL) return LRK_OK;
    return lrki_fail(file->context, LRK_ERR_UNSUPPORTED,
                     "%s: tensor '%s': ggml type %s does not convert; F32, F16 and BF16 do",
                     file->source->name, tensor->name, type.name);
}

static lrk_status take_entry(const lrki_gguf_file *file, lrki_gguf_cursor *cursor, lrki_gguf_tensor *tensor)
{
    lrk_status status = take_name(file, cursor, tensor->name);
    if (status == LRK_OK) status = take_shape(file, cursor, tensor);
    if (status == LRK_OK) status = take_type(file, cursor, tensor);
    return status == LRK_OK ? lrki_gguf_take_u64(cursor, &tensor->offset) : status;
}

/* ---- the whole ---- */

static uint64_t aligned(uint64_t at, uint32_t alignment)
{
    return (at + alignment - 1) & ~((uint64_t)alignment - 1);
}

/* Zeros up to the alignment, or to the end of the file. A wrong type or shape of a small tensor shows here alone. */
static lrk_status check_padding(const lrki_gguf_file *file, lrki_gguf_cursor *cursor, uint64_t from)
{
    uint64_t to = aligned(from, file->alignment);
    if (to > file->source->size) to = file->source->size;
    cursor->at = from;
    while (cursor->at < to) {
        unsigned char bytes[256];
        size_t n = to - cursor->at < sizeof bytes ? (size_t)(to - cursor->at) : sizeof bytes;
        lrk_status status = lrki_gguf_take(cursor, bytes, n);
        if (status != LRK_OK) return status;
        for (size_t i = 0; i < n; i++)
            if (bytes[i] != 0) return lrki_gguf_fail(file->source, "padding that is not zero");
    }
    return LRK_OK;
}

static lrk_status check_place(lrki_gguf_file *file, lrki_gguf_tensor *tensor, uint64_t start, uint64_t at,
                              uint64_t *end)
{
    uint64_t element = tensor->dtype->bits / 8, size = file->source->size;
    if (tensor->offset != at - start) return fail_tensor(file, tensor, "not where its data must be");
    if (at > size || (uint64_t)tensor->count > (size - at) / element)
        return fail_tensor(file, tensor, "the file ends within its data");
    tensor->offset = at;
    *end = at + (uint64_t)tensor->count * element;
    return LRK_OK;
}

/* Offsets, relative until here, become places in the file. */
static lrk_status check_layout(lrki_gguf_file *file, lrki_gguf_cursor *cursor)
{
    uint64_t end = cursor->at, start = aligned(end, file->alignment);
    lrk_status status = check_padding(file, cursor, end);
    for (int64_t i = 0; i < file->n && status == LRK_OK; i++) {
        status = check_place(file, &file->tensors[i], start, aligned(end, file->alignment), &end);
        if (status == LRK_OK) status = check_padding(file, cursor, end);
    }
    if (status != LRK_OK || file->source->size <= aligned(end, file->alignment)) return status;
    return lrki_gguf_fail(file->source, "bytes after the last tensor");
}

static int by_name(const void *left, const void *right)
{
    return strcmp((*(const lrki_gguf_tensor *const *)left)->name,
                  (*(const lrki_gguf_tensor *const *)right)->name);
}

static lrk_status sort_names(lrki_gguf_file *file)
{
    for (int64_t i = 0; i < file->n; i++)
        file->by_name[i] = &file->tensors[i];
    qsort(file->by_name, (size_t)file->n, sizeof *file->by_name, by_name);
    for (int64_t i = 1; i < file->n; i++)
        if (strcmp(file->by_name[i - 1]->name, file->by_name[i]->name) == 0)
            return fail_tensor(file, file->by_name[i], "comes twice");
    return LRK_OK;
}

lrk_status lrki_gguf_tensors_read(lrki_gguf_file *file, lrki_gguf_cursor *cursor, uint64_t n)
{
    lrk_status status = LRK_OK;
    if (n > lrki_gguf_left(cursor) / INFO_LEAST)
        return lrki_gguf_fail(file->source, "more tensors than the file can hold");
    file->n_slots = (int64_t)n;
    file->tensors = lrki_array(file->context, file->n_slots, sizeof *file->tensors);
    file->by_name = lrki_array(file->context, file->n_slots, sizeof *file->by_name);
    if (file->tensors == NULL || file->by_name == NULL)
        return lrki_fail_nomem(file->context, file->source->name);
    for (; file->n < file->n_slots && status == LRK_OK; file->n++)
        status = take_entry(file, cursor, &file->tensors[file->n]);
    if (status == LRK_OK) status = sort_names(file);
    return status == LRK_OK ? check_layout(file, cursor) : status;
}

static lrk_status take_counts(lrki_gguf_file *file, lrki_gguf_cursor *cursor, uint64_t *n_tensors,
                              uint64_t *n_keys)
{
    char magic[4];
    uint32_t version = 0;
    lrk_status status = lrki_gguf_take(cursor, magic, sizeof magic);
    if (status == LRK_OK && memcmp(magic, LRKI_GGUF_MAGIC, sizeof magic) != 0)
        status = lrki_gguf_fail(file->source, "not a GGUF file");
    if (status == LRK_OK) status = lrki_gguf_take_u32(cursor, &version);
    if (status == LRK_OK && (version < 2 || version > LRKI_GGUF_VERSION))
        status = lrki_fail(file->context, LRK_ERR_UNSUPPORTED,
                           "%s: GGUF version %" PRIu32 "%s; versions 2 and 3 are read", file->source->name,
                           version, version > 0 && (version & 0xFFFFu) == 0 ? " (a big-endian file)" : "");
    if (status == LRK_OK) status = lrki_gguf_take_u64(cursor, n_tensors);
    return status == LRK_OK ? lrki_gguf_take_u64(cursor, n_keys) : status;
}

/* Before the tensors, so that a model is not refused for the types of its own. */
static lrk_status check_kind(const lrki_gguf_file *file)
{
    if (strcmp(file->type, "adapter") != 0 || strcmp(file->adapter, "lora") != 0)
        return lrki_fail(file->context, LRK_ERR_UNSUPPORTED,
                         "%s: no LoRA adapter: " LRKI_GGUF_KEY_TYPE " is '%s', " LRKI_GGUF_KEY_ADAPTER
                         " is '%s'",
                         file->source->name, file->type, file->adapter);
    if (file->architecture[0] != '\0') return LRK_OK;
    return lrki_gguf_fail(file->source, LRKI_GGUF_KEY_ARCHITECTURE " is missing or empty");
}

lrk_status lrki_gguf_file_read(lrk_context *context, const lrki_source *source, lrki_gguf_file *file)
{
    uint64_t n_tensors = 0, n_keys = 0;
    lrki_gguf_cursor cursor = {.source = source};
    *file = (lrki_gguf_file){.context = context, .source = source, .alignment = LRKI_GGUF_ALIGNMENT};
    lrk_status status = take_counts(file, &cursor, &n_tensors, &n_keys);
    if (status == LRK_OK) status = lrki_gguf_keys_read(file, &cursor, n_keys);
    if (status == LRK_OK) status = check_kind(file);
    return status == LRK_OK ? lrki_gguf_tensors_read(file, &cursor, n_tensors) : status;
}

void lrki_gguf_file_free(lrki_gguf_file *file)
{
    for (int64_t i = 0; i < file->n_keys; i++)
        lrki_text_free(file->context, file->keys[i]);
    lrki_array_free(file->context, file->keys, file->n_key_slots, sizeof *file->keys);
    lrki_array_free(file->context, file->tensors, file->n_slots, sizeof *file->tensors);
    lrki_array_free(file->context, file->by_name, file->n_slots, sizeof *file->by_name);
    *file = (lrki_gguf_file){0};
}

/* ---- values ---- */

static lrk_status read_converted(const lrki_gguf_file *file, const lrki_gguf_tensor *tensor, float *values,
                                 unsigned char *buffer)
{
    uint64_t offset = tensor->offset;
    size_t element = tensor->dtype->bits / 8, most = CONVERT_BYTES / element;
    for (size_t left = (size_t)tensor->count; left > 0;) {
        size_t n = left < most ? left : most;
        lrk_status status = lrki_source_read(file->source, offset, buffer, n * element);
        if (status != LRK_OK) return status;
        tensor->dtype->to_f32(buffer, values, n);
        values += n;
        offset += n * element;
        left -= n;
    }
    return LRK_OK;
}

lrk_status lrki_gguf_values(const lrki_gguf_file *file, const lrki_gguf_tensor *tensor, float *values)
{
    if (tensor->dtype->to_f32 == NULL)
        return lrki_source_read(file->source, tensor->offset, values, (size_t)tensor->count * sizeof *values);
    unsigned char *buffer = lrki_alloc(file->context, CONVERT_BYTES);
    if (buffer == NULL) return lrki_fail_nomem(file->context, tensor->name);
    lrk_status status = read_converted(file, tensor, values, buffer);
    lrki_free(file->context, buffer, CONVERT_BYTES);
    return status;
}
