/* SPDX-License-Identifier: MIT */
/*
 * The safetensors writer. It decides order, offsets and padding; what is in the tensors comes from a callback: values to
 * be rounded (formats of adapters), or bytes in pieces (the public calls).
 */
#include "safetensors_write.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MOST  100000000
#define METADATA_KEY "__metadata__"
#define PIECE_BYTES  ((size_t)1 << 20)
#define NARROW_MOST  16384 /* values that are rounded at a time */

lrki_out_tensor lrki_out_matrix(const char *name, const lrki_dtype *dtype, int64_t rows, int64_t cols,
                                int64_t tag)
{
    return (lrki_out_tensor){.name = name, .dtype = dtype, .tag = tag, .n_dims = 2, .shape = {rows, cols}};
}

/* ---- order and sizes ---- */

static int by_name(const void *left, const void *right)
{
    return strcmp(((const lrki_out_tensor *)left)->name, ((const lrki_out_tensor *)right)->name);
}

static int by_file_order(const void *left, const void *right)
{
    int32_t a = lrki_dtype_place(((const lrki_out_tensor *)left)->dtype),
            b = lrki_dtype_place(((const lrki_out_tensor *)right)->dtype);
    return a != b ? (a > b ? -1 : 1) : by_name(left, right);
}

static lrk_status check_names(lrk_context *context, const lrki_out_tensor *tensors, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const char *name = tensors[i].name;
        if (strcmp(name, METADATA_KEY) == 0 || !lrki_utf8_valid(name) ||
            (i > 0 && strcmp(name, tensors[i - 1].name) == 0))
            return lrki_fail(context, LRK_ERR_ARGUMENT,
                             "tensor name '%s' is reserved, not UTF-8 or not unique", name);
    }
    return LRK_OK;
}

/* The format counts bits, from left to right and without a shortcut for 0, and so does this. */
static lrk_status measure(lrk_context *context, lrki_out_tensor *tensor)
{
    int64_t bits;
    tensor->count = 1;
    for (int32_t d = 0; d < tensor->n_dims; d++) {
        if (tensor->shape[d] < 0)
            return lrki_fail(context, LRK_ERR_ARGUMENT, "tensor '%s': a dimension is negative", tensor->name);
        if (!lrki_mul(tensor->count, tensor->shape[d], &tensor->count))
            return lrki_fail(context, LRK_ERR_SHAPE, "tensor '%s': the size overflows", tensor->name);
    }
    if (!lrki_mul(tensor->count, (int64_t)tensor->dtype->bits, &bits))
        return lrki_fail(context, LRK_ERR_SHAPE, "tensor '%s': the size overflows", tensor->name);
    if (bits % 8 != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "tensor '%s': its elements do not fill whole bytes",
                         tensor->name);
    tensor->bytes = bits / 8;
    return LRK_OK;
}

static lrk_status arrange(lrk_context *context, lrki_out_tensor *tensors, int64_t n)
{
    qsort(tensors, (size_t)n, sizeof *tensors, by_name);
    lrk_status status = check_names(context, tensors, n);
    for (int64_t i = 0; i < n && status == LRK_OK; i++)
        status = measure(context, &tensors[i]);
    if (status == LRK_OK) qsort(tensors, (size_t)n, sizeof *tensors, by_file_order);
    return status;
}

/* ---- header ---- */

static lrki_json *integers(const int64_t *values, int32_t n)
{
    lrki_json *array = lrki_json_new_array();
    for (int32_t i = 0; i < n; i++)
        lrki_json_append(&array, lrki_json_new_integer(values[i]));
    return array;
}

static lrk_status make_header(lrk_context *context, lrki_json *metadata, const lrki_out_tensor *tensors,
                              int64_t n, lrki_json **header)
{
    int64_t range[2] = {0, 0};
    *header = lrki_json_new_object();
    if (metadata != NULL && lrki_json_count(metadata) == 0)
        lrki_json_free(metadata);
    else
        lrki_json_put(header, METADATA_KEY, metadata);
    for (int64_t i = 0; i < n; i++) {
        range[0] = range[1];
        if (!lrki_add(range[0], tensors[i].bytes, &range[1]))
            return lrki_fail(context, LRK_ERR_SHAPE, "tensor '%s': the size of the file overflows",
                             tensors[i].name);
        lrki_json *entry = lrki_json_new_object();
        lrki_json_put(&entry, "dtype", lrki_json_new_text(tensors[i].dtype->name));
        lrki_json_put(&entry, "shape", integers(tensors[i].shape, tensors[i].n_dims));
        lrki_json_put(&entry, "data_offsets", integers(range, 2));
        lrki_json_put(header, tensors[i].name, entry);
    }
    return LRK_OK;
}

static lrk_status write_header(lrki_target *target, const lrki_json *header)
{
    lrki_bytes text;
    unsigned char length[8];
    lrk_status status = lrki_json_print(target->context, header, 0, &text);
    if (status != LRK_OK) return status;
    size_t padded = (text.n + 7) / 8 * 8;
    memset(text.data + text.n, ' ', padded - text.n);
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    if (padded > HEADER_MOST)
        status =
            lrki_fail(target->context, LRK_ERR_UNSUPPORTED, "the header would exceed %d bytes", HEADER_MOST);
    if (status == LRK_OK) status = lrki_target_write(target, length, sizeof length);
    if (status == LRK_OK) status = lrki_target_write(target, text.data, padded);
    lrki_bytes_free(target->context, &text);
    return status;
}

lrk_status lrki_safetensors_header(lrki_target *target, lrki_json *metadata, lrki_out_tensor *tensors,
                                   int64_t n)
{
    lrki_json *header = NULL;
    lrk_status status = arrange(target->context, tensors, n);
    if (status != LRK_OK) {
        lrki_json_free(metadata);
        return status;
    }
    status = make_header(target->context, metadata, tensors, n, &header);
    if (status == LRK_OK) status = write_header(target, header);
    lrki_json_free(header);
    return status;
}

/* ---- values ---- */

static lrk_status write_narrowed(lrki_target *target, const lrki_out_tensor *tensor, float *values,
                                 unsigned char *bytes)
{
    size_t element = tensor->dtype->bits / 8;
    for (int64_t at = 0; at < tensor->count;) {
        int64_t n = tensor->count - at < NARROW_MOST ? tensor->count - at : NARROW_MOST;
        tensor->dtype->from_f32(values + at, bytes, (size_t)n);
        tensor->dtype->to_f32(bytes, values + at, (size_t)n);
        if (!lrki_all_finite(values + at, n))
            return lrki_fail(target->context, LRK_ERR_NONFINITE, "tensor '%s': a value is not finite in %s",
                             tensor->name, tensor->dtype->name);
        lrk_status status = lrki_target_write(target, bytes, (size_t)n * element);
        if (status != LRK_OK) return status;
        at += n;
    }
    return LRK_OK;
}

static lrk_status write_values(lrki_target *target, const lrki_out_tensor *tensors, int64_t n,
                               lrki_out_fill fill, void *user)
{
    lrk_status status = LRK_OK;
    int64_t most = 0;
    uint64_t done = 0, total = 0;
    for (int64_t i = 0; i < n; i++) {
        if (tensors[i].count > most) most = tensors[i].count;
        total += (uint64_t)tensors[i].bytes;
    }
    float *values = lrki_array(target->context, most, sizeof *values);
    unsigned char *bytes = lrki_array(target->context, NARROW_MOST, sizeof(float));
    if (values == NULL || bytes == NULL) status = lrki_fail_nomem(target->context, "a tensor to write");
    for (int64_t i = 0; i < n && status == LRK_OK; i++) {
        const lrki_out_tensor *tensor = &tensors[i];
        status = fill(user, tensor, values);
        if (status != LRK_OK) break;
        status = tensor->dtype->from_f32 == NULL ? lrki_target_write(target, values, (size_t)tensor->bytes)
                                                 : write_narrowed(target, tensor, values, bytes);
        done += (uint64_t)tensor->bytes;
        if (status == LRK_OK) status = lrki_target_tell(target, done, total);
    }
    lrki_array_free(target->context, values, most, sizeof *values);
    lrki_array_free(target->context, bytes, NARROW_MOST, sizeof(float));
    return status;
}

lrk_status lrki_safetensors_write(lrki_target *target, lrki_json *metadata, lrki_out_tensor *tensors,
                                  int64_t n, lrki_out_fill fill, void *user)
{
    lrk_status status = lrki_safetensors_header(target, metadata, tensors, n);
    return status == LRK_OK ? write_values(target, tensors, n, fill, user) : status;
}

/* ---- the public calls ---- */

lrk_status lrk_safetensors_content_init(lrk_safetensors_content *content, size_t struct_size)
{
    static const lrk_safetensors_content defaults = {0};
    return lrki_struct_init(content, struct_size, &defaults, sizeof defaults);
}

static lrk_status take_item(lrk_context *context, const lrk_safetensors_item *items, int64_t i,
                            lrki_out_tensor *tensor)
{
    lrk_safetensors_item item = {0};
    lrk_status status = lrki_struct_read_at(context, &item, sizeof item, items, i, 2 * sizeof(uint32_t),
                                            "lrk_safetensors_item");
    if (status != LRK_OK) return status;
    if (item.name == NULL || item.dtype == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "tensor %" PRId64 ": name or dtype is NULL", i);
    if (item.n_dims < 0 || item.n_dims > LRK_SAFETENSORS_MAX_DIMS)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "tensor '%s': %" PRId32 " dimensions, not 0 to %d",
                         item.name, item.n_dims, LRK_SAFETENSORS_MAX_DIMS);
    *tensor = (lrki_out_tensor){
        .name = item.name, .dtype = lrki_dtype_find(item.dtype), .tag = i, .n_dims = item.n_dims};
    memcpy(tensor->shape, item.shape, sizeof tensor->shape);
    if (tensor->dtype != NULL) return LRK_OK;
    return lrki_fail(context, LRK_ERR_ARGUMENT, "tensor '%s': unknown dtype '%s'", item.name, item.dtype);
}

/* *metadata is NULL only with a failure. */
static lrk_status take_metadata(lrk_context *context, const lrk_safetensors_content *content,
                                lrki_json **metadata)
{
    *metadata = lrki_json_new_object();
    for (int64_t i = 0; i < content->n_metadata && *metadata != NULL; i++) {
        const char *key = content->metadata[2 * i], *value = content->metadata[2 * i + 1];
        if (key != NULL && value != NULL && lrki_utf8_valid(key) && lrki_utf8_valid(value) &&
            lrki_json_get(*metadata, key) == NULL) {
            lrki_json_put(metadata, key, lrki_json_new_text(value));
            continue;
        }
        lrki_json_free(*metadata);
        *metadata = NULL;
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "metadata %" PRId64 ": key or value is NULL or not UTF-8, or the key comes twice",
                         i);
    }
    return *metadata != NULL ? LRK_OK : lrki_fail_nomem(context, "the metadata of a safetensors file");
}

static lrk_status write_pieces(lrki_target *target, const lrk_safetensors_content *content,
                               const lrki_out_tensor *tensor, void *piece)
{
    for (uint64_t at = 0; at < (uint64_t)tensor->bytes;) {
        uint64_t left = (uint64_t)tensor->bytes - at;
        size_t n = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        uint64_t failures = lrki_failures(target->context);
        int32_t answer = content->fill(content->user, tensor->tag, at, piece, n);
        if (answer != 0)
            return lrki_fail_callback(target->context, LRK_ERR_HOST, LRKI_NOWHERE, failures,
                                      "tensor '%s': fill() returned %" PRId32, tensor->name, answer);
        lrk_status status = lrki_target_write(target, piece, n);
        if (status != LRK_OK) return status;
        at += n;
    }
    return LRK_OK;
}

static lrk_status write_content(lrki_target *target, const lrk_safetensors_content *content,
                                lrki_json *metadata, lrki_out_tensor *tensors)
{
    lrk_status status = lrki_safetensors_header(target, metadata, tensors, content->n_tensors);
    if (status != LRK_OK) return status;
    void *piece = lrki_alloc(target->context, PIECE_BYTES);
    if (piece == NULL) return lrki_fail_nomem(target->context, "a piece of a tensor");
    for (int64_t i = 0; i < content->n_tensors && status == LRK_OK; i++)
        status = write_pieces(target, content, &tensors[i], piece);
    lrki_free(target->context, piece, PIECE_BYTES);
    return status;
}

static lrk_status check_content(lrk_context *context, const lrk_safetensors_content *given,
                                lrk_safetensors_content *content)
{
    (void)lrk_safetensors_content_init(content, sizeof *content);
    if (given == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "content is NULL");
    lrk_status status = lrki_struct_read(context, content, sizeof *content, given, 2 * sizeof(uint32_t),
                                         "lrk_safetensors_content");
    if (status != LRK_OK) return status;
    if (content->flags != 0 || content->fill == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_safetensors_content: no fill(), or unknown flags");
    if (content->n_tensors < 0 || content->n_metadata < 0 ||
        (content->n_tensors > 0 && content->tensors == NULL) ||
        (content->n_metadata > 0 && content->metadata == NULL))
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "lrk_safetensors_content: a number without what it counts");
    return LRK_OK;
}

/* Where it goes: a path, or else a writer. */
static lrk_status save(lrk_context *context, const char *path, const lrk_writer *writer,
                       const lrk_safetensors_content *given)
{
    lrk_safetensors_content content;
    lrki_target target = {0};
    lrki_json *metadata = NULL;
    lrk_status status = check_content(context, given, &content);
    if (status != LRK_OK) return status;
    lrki_out_tensor *tensors = lrki_array(context, content.n_tensors, sizeof *tensors);
    if (tensors == NULL) status = lrki_fail_nomem(context, "the tensors of a safetensors file");
    for (int64_t i = 0; i < content.n_tensors && status == LRK_OK; i++)
        status = take_item(context, content.tensors, i, &tensors[i]);
    if (status == LRK_OK)
        status = path != NULL ? lrki_target_open(context, path, &target)
                              : lrki_target_writer(context, writer, &target);
    if (status == LRK_OK) status = take_metadata(context, &content, &metadata);
    if (status == LRK_OK) status = write_content(&target, &content, metadata, tensors);
    if (status == LRK_OK) status = lrki_target_commit(&target);
    lrki_target_abandon(&target);
    lrki_array_free(context, tensors, content.n_tensors, sizeof *tensors);
    return status;
}

lrk_status lrk_safetensors_save(lrk_context *context, const char *path,
                                const lrk_safetensors_content *content)
{
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (path == NULL || path[0] == '\0') return lrki_fail(context, LRK_ERR_ARGUMENT, "path is NULL or empty");
    return save(context, path, NULL, content);
}

lrk_status lrk_safetensors_write(lrk_context *context, const lrk_writer *writer,
                                 const lrk_safetensors_content *content)
{
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (writer == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "writer is NULL");
    return save(context, NULL, writer, content);
}
