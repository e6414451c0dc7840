/* SPDX-License-Identifier: MIT */
/* Sets, models and expectations of tests of merging (merge_rig.h). */
#include "merge_rig.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "sets.h"

#define U (FLT_EPSILON / 2.0)

fault merge_host;
lrk_context *merge_context;

static const struct {
    const char *module, *tensor;
    int64_t n_in, n_out, rank;
} known[] = {{"h.0", "m.h.0.weight", 5, 3, 2},
             {"h.1", "m.h.1.weight", 130, 70, 3},
             {"h.2", NULL, 4, 4, 0},
             {"h.3", "m.h.3.weight", 6, 4, 1}};
enum { KNOWN = sizeof known / sizeof known[0] };

void merge_setup(void)
{
    fault_reset(&merge_host);
    merge_context = fault_context(&merge_host);
}

void merge_teardown(void)
{
    lrk_context_destroy(merge_context);
    ck_assert_int_eq(merge_host.live, 0);
    ck_assert(!merge_host.bad_release);
}

lrk_adapters *merge_set(void)
{
    lrk_module_spec specs[KNOWN];
    static const double scales[] = {0.5, -1.25, 1, 2};
    for (int i = 0; i < KNOWN; i++) {
        specs[i] = sets_spec(known[i].module, known[i].n_in, known[i].n_out, known[i].rank);
        specs[i].scale = scales[i];
    }
    lrk_adapters *adapters = sets_create(merge_context, specs, KNOWN, NULL);
    sets_fill(adapters);
    return adapters;
}

/* ---- models -------------------------------------------------------------------------------------------------------- */

static size_t width(const char *dtype)
{
    return strcmp(dtype, "F64") == 0 ? 8 : strcmp(dtype, "F32") == 0 ? 4 : 2;
}

static void put_value(const char *dtype, unsigned char *at, double value)
{
    float single = (float)value;
    uint16_t half = half_encode(strcmp(dtype, "F16") == 0 ? LRK_DTYPE_F16 : LRK_DTYPE_BF16, value);
    if (width(dtype) == 8) memcpy(at, &value, 8);
    if (width(dtype) == 4) memcpy(at, &single, 4);
    if (width(dtype) == 2) memcpy(at, &half, 2);
}

static void add_weight(merge_model *model, int at, int module)
{
    int64_t n_in = known[module].n_in, n_out = known[module].n_out;
    size_t element = width(model->dtype);
    unsigned char *data = malloc((size_t)(n_in * n_out) * element);
    ck_assert_ptr_nonnull(data);
    for (int64_t i = 0; i < n_in * n_out; i++) /* in double more digits than any delta has */
        put_value(model->dtype, data + (size_t)i * element,
                  (double)sets_value(77, module, i) + (double)i * 0x1p-40);
    model->data[at] = data;
    model->entries[at] = (st_entry){known[module].tensor, model->dtype, module == 3 ? 4 : 2,
                                    {n_out, n_in, 1, 1},  data,         (size_t)(n_in * n_out) * element};
    if (model->transposed) {
        model->entries[at].shape[0] = n_in;
        model->entries[at].shape[1] = n_out;
    }
}

merge_model merge_model_make(const char *dtype, bool transposed)
{
    merge_model model = {.dtype = dtype, .transposed = transposed};
    model.entries[0] = (st_entry){"zz", "U8", 1, {7}, NULL, 7}; /* what follows is not aligned */
    add_weight(&model, 1, 1);
    add_weight(&model, 2, 0);
    model.entries[3] = (st_entry){"embed", "I64", 2, {3, 1}, NULL, 24};
    add_weight(&model, 4, 3);
    model.entries[5] = (st_entry){"aa", "BF16", 0, {0}, NULL, 2};
    return model;
}

void merge_model_free(merge_model *model)
{
    for (int i = 0; i < MERGE_TENSORS; i++)
        free(model->data[i]);
}

gguf_bytes merge_model_file(const merge_model *model, int first, int n)
{
    return st_build(model->entries + first, n, "{\"format\":\"pt\",\"of\":\"tests\"}");
}

gguf_bytes merge_model_whole(const merge_model *model)
{
    return merge_model_file(model, 0, MERGE_TENSORS);
}

lrk_merge_options merge_options(const merge_model *model)
{
    lrk_merge_options options;
    ck_assert_int_eq(lrk_merge_options_init(&options, sizeof options), LRK_OK);
    options.prefix = "m.";
    options.transposed = model->transposed ? "h.*" : NULL;
    return options;
}

lrk_status merge_try(const lrk_adapters *adapters, gguf_bytes *file, const lrk_merge_options *options,
                     gguf_bytes *merged, lrk_merge_report *report)
{
    lrk_reader reader = gguf_bytes_reader(file);
    lrk_writer writer = gguf_bytes_writer(merged);
    return lrk_merge_stream(adapters, &reader, &writer, options, report);
}

/* ---- what must come out -------------------------------------------------------------------------------------------- */

typedef struct element {
    double w, stored;
    float delta;
    double exact, size; /* of delta: by the formula, and with absolute terms */
} element;

static double rounded(const char *dtype, double w, float delta)
{
    unsigned char bytes[8];
    st_found one = {.data = bytes};
    strcpy(one.dtype, dtype);
    put_value(dtype, bytes, width(dtype) == 8 ? w + (double)delta : (double)((float)w + delta));
    return st_value(&one, 0);
}

static bool right(const char *dtype, const element *e, int64_t rank)
{
    int32_t half = strcmp(dtype, "F16") == 0 ? LRK_DTYPE_F16 : LRK_DTYPE_BF16;
    double gamma = (double)(rank + 3) * U / (1 - (double)(rank + 3) * U);
    double reach = fabs(e->w) + e->size * (1 + gamma), bound = gamma * e->size;
    bound += width(dtype) == 8 ? DBL_EPSILON * reach : U * reach;
    if (width(dtype) == 2) bound += half_unit(half) * reach * (1 + U) + half_tiny(half);
    return e->stored == rounded(dtype, e->w, e->delta) && fabs(e->stored - (e->w + e->exact)) <= bound;
}

static void formula(const lrk_adapters *adapters, int32_t m, int64_t out, int64_t in, element *e)
{
    lrk_module_info info = {.struct_size = sizeof info};
    const float *a = sets_tensor(adapters, m, LRK_TENSOR_A).data,
                *b = sets_tensor(adapters, m, LRK_TENSOR_B).data,
                *g = sets_tensor(adapters, m, LRK_TENSOR_GATES).data;
    ck_assert_int_eq(lrk_adapters_module(adapters, m, &info), LRK_OK);
    e->exact = e->size = 0;
    for (int64_t j = 0; j < info.rank; j++) {
        double term =
            info.scale * (double)g[j] * (double)b[j * info.n_out + out] * (double)a[j * info.n_in + in];
        e->exact += term;
        e->size += fabs(term);
    }
}

static void expect_weight(const lrk_adapters *adapters, const merge_model *model, const st_entry *entry,
                          int32_t m, const st_found *found)
{
    int64_t rows = entry->shape[0], cols = entry->shape[1], n_wrong = 0;
    float *delta = malloc((size_t)(rows * cols) * sizeof *delta);
    st_found before = {.data = entry->data};
    strcpy(before.dtype, entry->dtype);
    ck_assert_int_eq(lrk_adapters_delta(
                         adapters, m, model->transposed ? LRK_WEIGHT_IN_OUT : LRK_WEIGHT_OUT_IN, delta, cols),
                     LRK_OK);
    for (int64_t i = 0; i < rows * cols; i++) {
        element e = {.w = st_value(&before, i), .stored = st_value(found, i), .delta = delta[i]};
        formula(adapters, m, model->transposed ? i % cols : i / cols, model->transposed ? i / cols : i % cols,
                &e);
        n_wrong += !right(entry->dtype, &e, known[m].rank);
    }
    ck_assert_int_eq(n_wrong, 0);
    free(delta);
}

static int32_t module_of(const st_entry *entry)
{
    for (int32_t m = 0; m < KNOWN; m++)
        if (known[m].tensor != NULL && strcmp(known[m].tensor, entry->name) == 0) return m;
    return -1;
}

void merge_expect(const lrk_adapters *adapters, const merge_model *model, int first, int n,
                  const gguf_bytes *merged)
{
    size_t bytes = 0;
    for (int i = first; i < first + n; i++) {
        const st_entry *entry = &model->entries[i];
        gguf_bytes alone = st_build(entry, 1, NULL);
        st_found before = st_find(&alone, entry->name), after = st_find(merged, entry->name);
        int32_t m = module_of(entry);
        ck_assert_str_eq(after.dtype, before.dtype);
        ck_assert_str_eq(after.shape, before.shape);
        ck_assert_uint_eq(after.bytes, before.bytes);
        if (m < 0)
            ck_assert_mem_eq(after.data, before.data, before.bytes);
        else
            expect_weight(adapters, model, entry, m, &after);
        bytes += after.bytes;
        gguf_bytes_free(&alone);
    }
    ck_assert_uint_eq(st_header(merged) + bytes, merged->n);
    ck_assert(st_has(merged, "\"__metadata__\":{\"format\":\"pt\",\"of\":\"tests\"}"));
}
