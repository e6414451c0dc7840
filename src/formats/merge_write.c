/* SPDX-License-Identifier: MIT */
/*
 * Writing one file with its weights merged. A weight is taken in the blocks of rows in which its delta is made; one block
 * is in memory, and of what is copied one piece.
 */
#include <math.h>
#include <string.h>

#include "merge_parts.h"
#include "safetensors_write.h"

#include "../adapters/delta.h"

#define PIECE_BYTES ((size_t)1 << 20)

typedef struct rewrite {
    lrki_merge *merge;
    const lrk_safetensors *file;
    lrki_target target;
    int64_t n;
    lrki_out_tensor *tensors; /* tag: index in the file that is read */
    int32_t *modules;         /* [n] by tag: whose weight it is, or LRKI_NO_MODULE */
} rewrite;

/* A weight that is being merged: a block of its rows. */
typedef struct weight {
    int32_t module;
    const lrki_dtype *dtype;
    lrki_delta delta;
    float *values; /* of delta */
    unsigned char *bytes;
    lrki_merge_sums sums;
} weight;

/* Tells how far it is, and asks whether to go on. */
static lrk_status tell(lrki_merge *merge)
{
    if (merge->options.progress == NULL) return LRK_OK;
    uint64_t failures = lrki_failures(merge->context);
    if (merge->options.progress(merge->options.user, merge->done, merge->total) == 0) return LRK_OK;
    return lrki_fail_callback(merge->context, LRK_ERR_CANCELLED, LRKI_NOWHERE, failures,
                              "progress() stopped the merge after %llu of %llu bytes",
                              (unsigned long long)merge->done, (unsigned long long)merge->total);
}

static lrk_status write_bytes(rewrite *r, const void *bytes, size_t n)
{
    lrk_status status = lrki_target_write(&r->target, bytes, n);
    if (status != LRK_OK) return status;
    r->merge->done += n;
    return tell(r->merge);
}

/* ---- weights ----------------------------------------------------------------------------------------------------------- */

static int64_t block_floats(const weight *w)
{
    return w->delta.block_rows * w->delta.cols;
}

static lrk_status weight_open(const rewrite *r, const lrki_out_tensor *tensor, weight *w)
{
    lrk_context *context = r->merge->context;
    w->module = r->modules[tensor->tag];
    w->dtype = tensor->dtype;
    int32_t orientation = lrki_merge_transposed(r->merge, w->module) ? LRK_WEIGHT_IN_OUT : LRK_WEIGHT_OUT_IN;
    lrk_status status = lrki_delta_open(r->merge->adapters, w->module, orientation, &w->delta);
    if (status != LRK_OK) return status;
    w->values = lrki_array(context, block_floats(w), sizeof *w->values);
    w->bytes = lrki_array(context, block_floats(w), w->dtype->bits / 8);
    return w->values != NULL && w->bytes != NULL ? LRK_OK : lrki_fail_nomem(context, tensor->name);
}

static void weight_close(const rewrite *r, weight *w)
{
    lrk_context *context = r->merge->context;
    lrki_array_free(context, w->values, block_floats(w), sizeof *w->values);
    lrki_array_free(context, w->bytes, block_floats(w), w->dtype->bits / 8);
    lrki_delta_close(&w->delta);
}

static lrk_status merge_block(rewrite *r, const lrki_out_tensor *tensor, weight *w, int64_t first)
{
    int64_t left = w->delta.rows - first, rows = left < w->delta.block_rows ? left : w->delta.block_rows;
    int64_t n = rows * w->delta.cols;
    size_t element = w->dtype->bits / 8;
    uint64_t offset = (uint64_t)(first * w->delta.cols) * element;
    lrk_status status =
        lrk_safetensors_read_bytes(r->file, tensor->tag, offset, w->bytes, (size_t)n * element);
    if (status == LRK_OK) status = lrki_delta_rows(&w->delta, first, rows, w->values, w->delta.cols);
    if (status != LRK_OK) return status;
    if (!lrki_merge_add(w->dtype, w->bytes, w->values, n, &w->sums))
        return lrki_fail_at(r->merge->context, LRK_ERR_NONFINITE, (lrki_place){.module = w->module},
                            "module '%s': a merged weight is not finite in %s",
                            r->merge->adapters->modules[w->module].name, w->dtype->name);
    return write_bytes(r, w->bytes, (size_t)n * element);
}

static void add_sums(lrki_merge *merge, const weight *w)
{
    const lrki_merge_sums *sums = &w->sums;
    if (merge->report.worst_module == LRKI_NO_MODULE || sums->largest_error > merge->all.largest_error) {
        merge->report.worst_module = w->module;
        merge->all.largest_error = sums->largest_error;
    }
    merge->all.elements += sums->elements;
    merge->all.error += sums->error;
    merge->all.delta2 += sums->delta2;
    merge->report.merged++;
}

static lrk_status weight_done(lrki_merge *merge, const weight *w)
{
    const char *name = merge->adapters->modules[w->module].name;
    double share = w->sums.delta2 > 0 ? 1 - sqrt(w->sums.change2 / w->sums.delta2) : 0;
    add_sums(merge, w);
    if (share > merge->report.largest_lost) merge->report.largest_lost = share;
    if (!(share > 0.5)) return LRK_OK;
    merge->report.lost++;
    if ((merge->options.flags & LRK_MERGE_ALLOW_LOST) != 0) return LRK_OK;
    return lrki_fail_at(merge->context, LRK_ERR_UNSUPPORTED, (lrki_place){.module = w->module},
                        "module '%s': %.1f %% of its delta is lost to rounding to %s", name, 100 * share,
                        w->dtype->name);
}

static lrk_status write_merged(rewrite *r, const lrki_out_tensor *tensor)
{
    weight w = {0};
    lrk_status status = weight_open(r, tensor, &w);
    for (int64_t first = 0; status == LRK_OK && first < w.delta.rows; first += w.delta.block_rows)
        status = merge_block(r, tensor, &w, first);
    if (status == LRK_OK) status = weight_done(r->merge, &w);
    weight_close(r, &w);
    return status;
}

/* ---- the file ---------------------------------------------------------------------------------------------------------- */

static lrk_status write_copied(rewrite *r, const lrki_out_tensor *tensor)
{
    void *piece = lrki_alloc(r->merge->context, PIECE_BYTES);
    if (piece == NULL) return lrki_fail_nomem(r->merge->context, tensor->name);
    lrk_status status = LRK_OK;
    for (int64_t at = 0; status == LRK_OK && at < tensor->bytes; at += (int64_t)PIECE_BYTES) {
        int64_t left = tensor->bytes - at;
        size_t n = left < (int64_t)PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        status = lrk_safetensors_read_bytes(r->file, tensor->tag, (uint64_t)at, piece, n);
        if (status == LRK_OK) status = write_bytes(r, piece, n);
    }
    lrki_free(r->merge->context, piece, PIECE_BYTES);
    return status;
}

static lrk_status describe(rewrite *r)
{
    lrk_safetensors_tensor facts;
    int64_t tensor;
    for (int64_t i = 0; i < r->n; i++) {
        lrk_status status = lrki_merge_tensor(r->merge, r->file, i, &facts);
        if (status != LRK_OK) return status;
        r->tensors[i] = (lrki_out_tensor){
            .name = facts.name, .dtype = lrki_dtype_find(facts.dtype), .tag = i, .n_dims = facts.n_dims};
        memcpy(r->tensors[i].shape, facts.shape, sizeof facts.shape);
        r->modules[i] = LRKI_NO_MODULE;
    }
    for (int32_t m = 0; m < r->merge->adapters->n_modules; m++) {
        lrk_status status = lrki_merge_find(r->merge, r->file, m, &tensor);
        if (status != LRK_OK) return status;
        if (tensor >= 0) r->modules[tensor] = m;
    }
    return LRK_OK;
}

static lrk_status write_header(rewrite *r)
{
    lrki_json *metadata = lrki_json_new_object();
    for (int64_t i = 0; i < lrk_safetensors_metadata_count(r->file); i++) {
        const char *key, *value;
        lrk_status status = lrk_safetensors_metadata_get(r->file, i, &key, &value);
        if (status != LRK_OK) {
            lrki_json_free(metadata);
            return status;
        }
        lrki_json_put(&metadata, key, lrki_json_new_text(value));
    }
    return lrki_safetensors_header(&r->target, metadata, r->tensors, r->n);
}

static lrk_status write_all(rewrite *r)
{
    lrk_status status = describe(r);
    if (status == LRK_OK) status = write_header(r);
    if (status == LRK_OK) status = tell(r->merge);
    for (int64_t i = 0; status == LRK_OK && i < r->n; i++) {
        const lrki_out_tensor *tensor = &r->tensors[i];
        status =
            r->modules[tensor->tag] != LRKI_NO_MODULE ? write_merged(r, tensor) : write_copied(r, tensor);
    }
    return status;
}

lrk_status lrki_merge_write(lrki_merge *merge, const lrk_safetensors *file, const char *path,
                            const lrk_writer *writer)
{
    lrk_context *context = merge->context;
    rewrite r = {.merge = merge, .file = file, .n = lrk_safetensors_count(file)};
    lrk_status status = path != NULL ? lrki_target_open(context, path, &r.target)
                                     : lrki_target_writer(context, writer, &r.target);
    r.tensors = lrki_array(context, r.n, sizeof *r.tensors);
    r.modules = lrki_array(context, r.n, sizeof *r.modules);
    if (status == LRK_OK && (r.tensors == NULL || r.modules == NULL))
        status = lrki_fail_nomem(context, "a file to merge into");
    if (status == LRK_OK) status = write_all(&r);
    if (status == LRK_OK) status = lrki_target_commit(&r.target);
    lrki_target_abandon(&r.target);
    lrki_array_free(context, r.tensors, r.n, sizeof *r.tensors);
    lrki_array_free(context, r.modules, r.n, sizeof *r.modules);
    if (status != LRK_OK) return status;
    merge->report.files++;
    merge->report.tensors += r.n;
    return LRK_OK;
}

lrk_status lrki_merge_report(const lrki_merge *merge, lrk_merge_report *report)
{
    lrk_merge_report filled = merge->report;
    filled.largest_error = merge->all.largest_error;
    if (merge->all.elements > 0) filled.mean_error = merge->all.error / (double)merge->all.elements;
    filled.delta_norm = sqrt(merge->all.delta2);
    return report == NULL
               ? LRK_OK
               : lrki_struct_write(merge->context, report, &filled, sizeof filled, "lrk_merge_report");
}
