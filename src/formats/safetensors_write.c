/* SPDX-License-Identifier: MIT */
/*
 * The safetensors writer. It decides order, offsets and padding; what is in the tensors comes from a callback.
 */
#include "safetensors_write.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_MOST 100000000

static int by_name(const void *left, const void *right)
{
    return strcmp(((const lrki_out_tensor *)left)->name, ((const lrki_out_tensor *)right)->name);
}

static lrk_status check_names(lrk_context *context, const lrki_out_tensor *tensors, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const char *name = tensors[i].name;
        if (strcmp(name, "__metadata__") == 0 || !lrki_utf8_valid(name) ||
            (i > 0 && strcmp(name, tensors[i - 1].name) == 0))
            return lrki_fail(context, LRK_ERR_ARGUMENT,
                             "tensor name '%s' is reserved, not UTF-8 or not unique", name);
    }
    return LRK_OK;
}

static lrki_json *pair(int64_t first, int64_t second)
{
    lrki_json *array = lrki_json_new_array();
    lrki_json_append(&array, lrki_json_new_integer(first));
    lrki_json_append(&array, lrki_json_new_integer(second));
    return array;
}

/* The header's tree; *most gets the elements of the largest tensor. */
static lrk_status make_header(lrk_context *context, lrki_json *metadata, const lrki_out_tensor *tensors,
                              int64_t n, lrki_json **header, int64_t *most)
{
    int64_t at = 0;
    *most = 0;
    *header = lrki_json_new_object();
    lrki_json_put(header, "__metadata__", metadata);
    for (int64_t i = 0; i < n; i++) {
        int64_t count, bytes, end;
        if (!lrki_mul(tensors[i].rows, tensors[i].cols, &count) ||
            !lrki_mul(count, (int64_t)sizeof(float), &bytes) || !lrki_add(at, bytes, &end))
            return lrki_fail(context, LRK_ERR_SHAPE, "tensor '%s': the size overflows", tensors[i].name);
        lrki_json *entry = lrki_json_new_object();
        lrki_json_put(&entry, "dtype", lrki_json_new_text("F32"));
        lrki_json_put(&entry, "shape", pair(tensors[i].rows, tensors[i].cols));
        lrki_json_put(&entry, "data_offsets", pair(at, end));
        lrki_json_put(header, tensors[i].name, entry);
        if (count > *most) *most = count;
        at = end;
    }
    return LRK_OK;
}

static lrk_status write_header(lrki_replacement *file, const lrki_json *header)
{
    lrki_bytes text;
    unsigned char length[8];
    lrk_status status = lrki_json_print(file->context, header, 0, &text);
    if (status != LRK_OK) return status;
    size_t padded = (text.n + 7) / 8 * 8;
    memset(text.data + text.n, ' ', padded - text.n);
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    if (padded > HEADER_MOST)
        status = lrki_fail(file->context, LRK_ERR_UNSUPPORTED, "%s: the header would exceed %d bytes",
                           file->path, HEADER_MOST);
    if (status == LRK_OK) status = lrki_replacement_write(file, length, sizeof length);
    if (status == LRK_OK) status = lrki_replacement_write(file, text.data, padded);
    lrki_bytes_free(file->context, &text);
    return status;
}

static lrk_status write_tensors(lrki_replacement *file, const lrki_out_tensor *tensors, int64_t n,
                                int64_t most, lrki_out_fill fill, void *user)
{
    lrk_status status = LRK_OK;
    float *values = lrki_array(file->context, most, sizeof *values);
    if (values == NULL) return lrki_fail_nomem(file->context, "a tensor to write");
    for (int64_t i = 0; i < n && status == LRK_OK; i++) {
        status = fill(user, &tensors[i], values);
        if (status != LRK_OK) break;
        size_t bytes = (size_t)(tensors[i].rows * tensors[i].cols) * sizeof *values;
        status = lrki_replacement_write(file, values, bytes);
    }
    lrki_array_free(file->context, values, most, sizeof *values);
    return status;
}

lrk_status lrki_safetensors_write(lrki_replacement *file, lrki_json *metadata, lrki_out_tensor *tensors,
                                  int64_t n, lrki_out_fill fill, void *user)
{
    lrki_json *header = NULL;
    int64_t most;
    qsort(tensors, (size_t)n, sizeof *tensors, by_name);
    lrk_status status = check_names(file->context, tensors, n);
    if (status != LRK_OK) {
        lrki_json_free(metadata);
        return status;
    }
    status = make_header(file->context, metadata, tensors, n, &header, &most);
    if (status == LRK_OK) status = write_header(file, header);
    lrki_json_free(header);
    return status == LRK_OK ? write_tensors(file, tensors, n, most, fill, user) : status;
}
