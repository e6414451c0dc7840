/* SPDX-License-Identifier: MIT */
/*
 * The safetensors reader. The header's JSON tree is kept until the file is closed: names and metadata are borrowed from
 * it. Checks follow the reference implementation's order: length, JSON and types, offsets and sizes, total. Nothing is
 * allocated by a length that was not compared with the file's size.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dtype.h"
#include "lorank/safetensors.h"
#include "stream.h"

#define LENGTH_BYTES  8
#define HEADER_MOST   100000000
#define METADATA_KEY  "__metadata__"
#define CONVERT_BYTES 65536

typedef struct st_tensor {
    const char *name;
    const lrki_dtype *dtype;
    const lrki_json *shape;
    uint64_t begin; /* relative to the data */
    uint64_t end;
    uint64_t elements;
    int64_t place; /* in the header: makes the order total */
} st_tensor;

struct lrk_safetensors {
    lrk_context *context;
    lrki_source source;
    uint64_t data_start;
    uint64_t data_bytes;
    lrki_json *header;
    const lrki_json *metadata;
    int64_t n;
    st_tensor *tensors;        /* in order of data */
    const st_tensor **by_name; /* sorted by name   */
};

static lrk_status fail_tensor(const lrk_safetensors *file, const st_tensor *tensor, const char *what)
{
    return lrki_fail(file->context, LRK_ERR_FORMAT, "%s: tensor '%s': %s", file->source.name, tensor->name,
                     what);
}

static lrk_status fail_header(const lrk_safetensors *file, const char *what)
{
    return lrki_fail(file->context, LRK_ERR_FORMAT, "%s: %s", file->source.name, what);
}

/* ---- types ---- */

static bool unsigned_at(const lrki_json *array, int64_t i, uint64_t *value)
{
    int64_t number;
    if (!lrki_json_integer(lrki_json_at(array, i), &number) || number < 0) return false;
    *value = (uint64_t)number;
    return true;
}

/* Elements of a shape, multiplied from left to right without a shortcut: a 0 saves only what comes after it. */
static lrk_status count_elements(const lrk_safetensors *file, st_tensor *tensor)
{
    tensor->elements = 1;
    for (int64_t i = 0; i < lrki_json_count(tensor->shape); i++) {
        uint64_t dim;
        if (!unsigned_at(tensor->shape, i, &dim))
            return fail_tensor(file, tensor, "a dimension is not an unsigned integer");
        if (dim != 0 && tensor->elements > UINT64_MAX / dim)
            return fail_tensor(file, tensor, "the number of elements overflows");
        tensor->elements *= dim;
    }
    if (tensor->elements > UINT64_MAX / tensor->dtype->bits)
        return fail_tensor(file, tensor, "the number of bits overflows");
    return LRK_OK;
}

static lrk_status read_entry(const lrk_safetensors *file, const lrki_json *entry, st_tensor *tensor)
{
    if (!lrki_json_is_object(entry)) return fail_tensor(file, tensor, "its entry is not an object");
    const char *dtype = lrki_json_text(lrki_json_get(entry, "dtype"));
    const lrki_json *offsets = lrki_json_get(entry, "data_offsets");
    tensor->shape = lrki_json_get(entry, "shape");
    if (dtype == NULL) return fail_tensor(file, tensor, "dtype is missing or not a string");
    tensor->dtype = lrki_dtype_find(dtype);
    if (tensor->dtype == NULL) return fail_tensor(file, tensor, "unknown dtype");
    if (!lrki_json_is_array(tensor->shape))
        return fail_tensor(file, tensor, "shape is missing or not an array");
    if (!lrki_json_is_array(offsets) || lrki_json_count(offsets) != 2 ||
        !unsigned_at(offsets, 0, &tensor->begin) || !unsigned_at(offsets, 1, &tensor->end))
        return fail_tensor(file, tensor, "data_offsets is not an array of two unsigned integers");
    return count_elements(file, tensor);
}

static lrk_status read_metadata(lrk_safetensors *file, const lrki_json *metadata)
{
    if (lrki_json_is_null(metadata)) return LRK_OK;
    if (!lrki_json_is_object(metadata)) return fail_header(file, METADATA_KEY " is not an object");
    for (lrki_json_cursor c = lrki_json_first(metadata); c.at != NULL; c = lrki_json_next(metadata, c))
        if (lrki_json_text(c.value) == NULL)
            return lrki_fail(file->context, LRK_ERR_FORMAT, "%s: metadata '%s' is not a string",
                             file->source.name, c.key);
    file->metadata = metadata;
    return LRK_OK;
}

static lrk_status read_entries(lrk_safetensors *file)
{
    int64_t members = lrki_json_count(file->header);
    file->tensors = lrki_array(file->context, members, sizeof *file->tensors);
    file->by_name = lrki_array(file->context, members, sizeof *file->by_name);
    if (file->tensors == NULL || file->by_name == NULL)
        return lrki_fail_nomem(file->context, file->source.name);
    for (lrki_json_cursor c = lrki_json_first(file->header); c.at != NULL;
         c = lrki_json_next(file->header, c)) {
        lrk_status status;
        if (strcmp(c.key, METADATA_KEY) == 0) {
            status = read_metadata(file, c.value);
        } else {
            st_tensor *tensor = &file->tensors[file->n];
            tensor->name = c.key;
            tensor->place = file->n++;
            status = read_entry(file, c.value, tensor);
        }
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

/* ---- layout ---- */

static int three_way(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int by_data(const void *left, const void *right)
{
    const st_tensor *a = left, *b = right;
    int order = three_way(a->begin, b->begin);
    if (order == 0) order = three_way(a->end, b->end);
    return order != 0 ? order : three_way((uint64_t)a->place, (uint64_t)b->place);
}

static int by_name(const void *left, const void *right)
{
    return strcmp((*(const st_tensor *const *)left)->name, (*(const st_tensor *const *)right)->name);
}

/* Tensors must tile the data: each begins where the one before ends, and the last one ends with the file. */
static lrk_status check_layout(const lrk_safetensors *file)
{
    uint64_t at = 0;
    for (int64_t i = 0; i < file->n; i++) {
        const st_tensor *tensor = &file->tensors[i];
        uint64_t bits = tensor->elements * tensor->dtype->bits;
        if (tensor->begin != at || tensor->end < tensor->begin)
            return fail_tensor(file, tensor, "data_offsets leave a hole, overlap or run backwards");
        if (bits % 8 != 0) return fail_tensor(file, tensor, "its elements do not fill whole bytes");
        if (tensor->end - tensor->begin != bits / 8)
            return fail_tensor(file, tensor, "data_offsets contradict dtype and shape");
        at = tensor->end;
    }
    if (at == file->data_bytes) return LRK_OK;
    return lrki_fail(file->context, LRK_ERR_FORMAT,
                     "%s: the tensors take %" PRIu64 " bytes and the file has %" PRIu64, file->source.name,
                     at, file->data_bytes);
}

static lrk_status read_tree(lrk_safetensors *file)
{
    if (!lrki_json_is_object(file->header)) return fail_header(file, "the header is not a JSON object");
    lrk_status status = read_entries(file);
    if (status != LRK_OK) return status;
    qsort(file->tensors, (size_t)file->n, sizeof *file->tensors, by_data);
    for (int64_t i = 0; i < file->n; i++)
        file->by_name[i] = &file->tensors[i];
    qsort(file->by_name, (size_t)file->n, sizeof *file->by_name, by_name);
    return check_layout(file);
}

/* ---- bytes ---- */

static lrk_status check_length(const lrk_safetensors *file, uint64_t *header_bytes)
{
    unsigned char length[LENGTH_BYTES];
    if (file->source.size < LENGTH_BYTES) return fail_header(file, "too short for a safetensors file");
    lrk_status status = lrki_source_read(&file->source, 0, length, sizeof length);
    if (status != LRK_OK) return status;
    *header_bytes = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        *header_bytes = *header_bytes << 8 | length[i];
    if (*header_bytes > HEADER_MOST) return fail_header(file, "the header length is above 100000000");
    if (*header_bytes > file->source.size - LENGTH_BYTES)
        return fail_header(file, "the header is longer than the file");
    return LRK_OK;
}

static lrk_status read_header(lrk_safetensors *file)
{
    uint64_t n = 0;
    lrk_status status = check_length(file, &n);
    if (status != LRK_OK) return status;
    if (n == 0) return fail_header(file, "the header is empty");
    char *text = lrki_alloc(file->context, (size_t)n);
    if (text == NULL) return lrki_fail_nomem(file->context, file->source.name);
    status = lrki_source_read(&file->source, LENGTH_BYTES, text, (size_t)n);
    if (status == LRK_OK)
        status = lrki_json_parse(file->context, text, (size_t)n, file->source.name, &file->header);
    lrki_free(file->context, text, (size_t)n);
    if (status != LRK_OK) return status;
    file->data_start = LENGTH_BYTES + n;
    file->data_bytes = file->source.size - file->data_start;
    return read_tree(file);
}

/* ---- the public calls ---- */

/* From a path, or else a reader. */
static lrk_status open_from(lrk_context *context, const char *path, const lrk_reader *reader,
                            lrk_safetensors **file)
{
    lrk_safetensors *opened = lrki_alloc_zeroed(context, sizeof *opened);
    if (opened == NULL) return lrki_fail_nomem(context, "a safetensors file");
    opened->context = lrki_context_ref(context);
    lrk_status status = path != NULL ? lrki_source_open(context, path, &opened->source)
                                     : lrki_source_reader(context, reader, &opened->source);
    if (status == LRK_OK) status = read_header(opened);
    if (status != LRK_OK) {
        lrk_safetensors_close(opened);
        return status;
    }
    *file = opened;
    return LRK_OK;
}

static lrk_status check_open(lrk_context *context, const void *from, lrk_safetensors **file)
{
    if (file == NULL) return LRK_ERR_ARGUMENT;
    *file = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    return from != NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "path or reader is NULL");
}

lrk_status lrk_safetensors_open(lrk_context *context, const char *path, lrk_safetensors **file)
{
    lrk_status status = check_open(context, path, file);
    return status == LRK_OK ? open_from(context, path, NULL, file) : status;
}

lrk_status lrk_safetensors_open_reader(lrk_context *context, const lrk_reader *reader, lrk_safetensors **file)
{
    lrk_status status = check_open(context, reader, file);
    return status == LRK_OK ? open_from(context, NULL, reader, file) : status;
}

void lrk_safetensors_close(lrk_safetensors *file)
{
    if (file == NULL) return;
    lrk_context *context = file->context;
    lrki_source_close(&file->source);
    lrki_array_free(context, file->tensors, lrki_json_count(file->header), sizeof *file->tensors);
    lrki_array_free(context, file->by_name, lrki_json_count(file->header), sizeof *file->by_name);
    lrki_json_free(file->header);
    lrki_free(context, file, sizeof *file);
    lrki_context_unref(context);
}

int64_t lrk_safetensors_count(const lrk_safetensors *file)
{
    return file == NULL ? 0 : file->n;
}

lrk_status lrk_safetensors_get(const lrk_safetensors *file, int64_t i, lrk_safetensors_tensor *tensor)
{
    if (file == NULL) return LRK_ERR_ARGUMENT;
    if (tensor == NULL || i < 0 || i >= file->n)
        return lrki_fail(file->context, LRK_ERR_ARGUMENT, "%s: no tensor %" PRId64, file->source.name, i);
    const st_tensor *found = &file->tensors[i];
    int64_t n_dims = lrki_json_count(found->shape);
    lrk_safetensors_tensor filled = {.struct_size = sizeof filled,
                                     .n_dims = n_dims > INT32_MAX ? INT32_MAX : (int32_t)n_dims,
                                     .name = found->name,
                                     .dtype = found->dtype->name,
                                     .count = (int64_t)found->elements,
                                     .bytes = (size_t)(found->end - found->begin),
                                     .readable = found->dtype->readable};
    if (n_dims <= LRK_SAFETENSORS_MAX_DIMS)
        for (int64_t d = 0; d < n_dims; d++)
            (void)lrki_json_integer(lrki_json_at(found->shape, d), &filled.shape[d]);
    return lrki_struct_write(file->context, tensor, &filled, sizeof filled, "lrk_safetensors_tensor");
}

lrk_status lrk_safetensors_find(const lrk_safetensors *file, const char *name, int64_t *index)
{
    if (index != NULL) *index = -1;
    if (file == NULL) return LRK_ERR_ARGUMENT;
    if (name == NULL || index == NULL)
        return lrki_fail(file->context, LRK_ERR_ARGUMENT, "name or index is NULL");
    st_tensor wanted = {.name = name};
    const st_tensor *key = &wanted;
    const st_tensor *const *found =
        bsearch(&key, file->by_name, (size_t)file->n, sizeof *file->by_name, by_name);
    if (found == NULL)
        return lrki_fail(file->context, LRK_ERR_NOT_FOUND, "%s: no tensor '%s'", file->source.name, name);
    *index = *found - file->tensors;
    return LRK_OK;
}

const char *lrk_safetensors_metadata(const lrk_safetensors *file, const char *key)
{
    return file == NULL || key == NULL ? NULL : lrki_json_text(lrki_json_get(file->metadata, key));
}

int64_t lrk_safetensors_metadata_count(const lrk_safetensors *file)
{
    return file == NULL ? 0 : lrki_json_count(file->metadata);
}

lrk_status lrk_safetensors_metadata_get(const lrk_safetensors *file, int64_t i, const char **key,
                                        const char **value)
{
    if (file == NULL) return LRK_ERR_ARGUMENT;
    if (key == NULL || value == NULL || i < 0 || i >= lrki_json_count(file->metadata))
        return lrki_fail(file->context, LRK_ERR_ARGUMENT,
                         "%s: no pair %" PRId64 " of metadata, or nowhere to put it", file->source.name, i);
    lrki_json_cursor c = lrki_json_first(file->metadata);
    while (i-- > 0)
        c = lrki_json_next(file->metadata, c);
    *key = c.key;
    *value = lrki_json_text(c.value);
    return LRK_OK;
}

/* Tensor i, or NULL with an error recorded. */
static const st_tensor *tensor_at(const lrk_safetensors *file, int64_t i)
{
    if (i >= 0 && i < file->n) return &file->tensors[i];
    (void)lrki_fail(file->context, LRK_ERR_ARGUMENT, "%s: no tensor %" PRId64, file->source.name, i);
    return NULL;
}

lrk_status lrk_safetensors_read_bytes(const lrk_safetensors *file, int64_t i, uint64_t offset, void *data,
                                      size_t n)
{
    if (file == NULL) return LRK_ERR_ARGUMENT;
    const st_tensor *tensor = tensor_at(file, i);
    if (tensor == NULL) return LRK_ERR_ARGUMENT;
    if (data == NULL && n != 0) return lrki_fail(file->context, LRK_ERR_ARGUMENT, "data is NULL");
    uint64_t bytes = tensor->end - tensor->begin;
    if (offset > bytes || n > bytes - offset)
        return lrki_fail(file->context, LRK_ERR_SHAPE,
                         "%s: tensor '%s' has %" PRIu64 " bytes: none at %" PRIu64 " to %" PRIu64,
                         file->source.name, tensor->name, bytes, offset, offset + n);
    if (n == 0) return LRK_OK;
    return lrki_source_read(&file->source, file->data_start + tensor->begin + offset, data, n);
}

static lrk_status read_converted(const lrk_safetensors *file, const st_tensor *tensor, float *values,
                                 unsigned char *buffer)
{
    size_t element = tensor->dtype->bits / 8;
    size_t most = CONVERT_BYTES / element;
    uint64_t offset = file->data_start + tensor->begin;
    for (size_t left = (size_t)tensor->elements; left > 0;) {
        size_t n = left < most ? left : most;
        lrk_status status = lrki_source_read(&file->source, offset, buffer, n * element);
        if (status != LRK_OK) return status;
        tensor->dtype->to_f32(buffer, values, n);
        values += n;
        offset += n * element;
        left -= n;
    }
    return LRK_OK;
}

lrk_status lrk_safetensors_read_f32(const lrk_safetensors *file, int64_t i, float *values, int64_t count)
{
    if (file == NULL) return LRK_ERR_ARGUMENT;
    const st_tensor *tensor = tensor_at(file, i);
    if (tensor == NULL) return LRK_ERR_ARGUMENT;
    if (values == NULL && count != 0) return lrki_fail(file->context, LRK_ERR_ARGUMENT, "values is NULL");
    if (!tensor->dtype->readable)
        return lrki_fail(file->context, LRK_ERR_UNSUPPORTED,
                         "%s: tensor '%s': dtype %s does not convert to f32", file->source.name, tensor->name,
                         tensor->dtype->name);
    if (count < 0 || (uint64_t)count != tensor->elements)
        return lrki_fail(file->context, LRK_ERR_SHAPE,
                         "%s: tensor '%s' has %" PRIu64 " elements, not %" PRId64, file->source.name,
                         tensor->name, tensor->elements, count);
    if (count == 0) return LRK_OK;
    if (tensor->dtype->to_f32 == NULL)
        return lrki_source_read(&file->source, file->data_start + tensor->begin, values,
                                (size_t)count * sizeof *values);
    unsigned char *buffer = lrki_alloc(file->context, CONVERT_BYTES);
    if (buffer == NULL) return lrki_fail_nomem(file->context, tensor->name);
    lrk_status status = read_converted(file, tensor, values, buffer);
    lrki_free(file->context, buffer, CONVERT_BYTES);
    return status;
}
