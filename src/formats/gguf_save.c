/* SPDX-License-Identifier: MIT */
/*
 * Saving a set as a GGUF adapter. Everything is checked and named before the first byte goes out; the header is made in
 * memory, tensors follow one by one. Each module gives two tensors, A then B, in module order.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_parts.h"
#include "lorank/version.h"
#include "peft_parts.h"

#include "../adapters/set.h"

typedef struct gguf_module {
    lrki_peft_module values;
    char base[LRKI_GGUF_NAME];
    int64_t head; /* rows of a permuted head, 0: rows as they are */
} gguf_module;

typedef struct gguf_saver {
    lrk_context *context;
    const lrk_adapters *adapters;
    lrki_gguf_rules rules;
    lrki_gguf_type type;
    double alpha;
    gguf_module *live;
    int64_t n_live;
    int64_t most; /* elements of the largest tensor */
    lrki_progress progress;
} gguf_saver;

lrk_status lrk_gguf_rule_init(lrk_gguf_rule *rule, size_t struct_size)
{
    static const lrk_gguf_rule defaults = {.rows = LRK_GGUF_ROWS_PLAIN};
    return lrki_struct_init(rule, struct_size, &defaults, sizeof defaults);
}

lrk_status lrk_gguf_options_init(lrk_gguf_options *options, size_t struct_size)
{
    static const lrk_gguf_options defaults = {.alpha = 16, .dtype = LRK_DTYPE_F32};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

/* ---- modules ---- */

static size_t element_bytes(const gguf_saver *saver)
{
    return saver->type.dtype->bits / 8;
}

/* Padded size of a tensor; -1 if it overflows. */
static int64_t tensor_bytes(const gguf_saver *saver, int64_t rows, int64_t cols)
{
    int64_t count, bytes, padded;
    if (!lrki_mul(rows, cols, &count) || !lrki_mul(count, (int64_t)element_bytes(saver), &bytes) ||
        !lrki_add(bytes, LRKI_GGUF_ALIGNMENT - 1, &padded))
        return -1;
    return padded / LRKI_GGUF_ALIGNMENT * LRKI_GGUF_ALIGNMENT;
}

static lrk_status collect(gguf_saver *saver, int32_t index)
{
    const lrki_module *m = &saver->adapters->modules[index];
    gguf_module *live = &saver->live[saver->n_live];
    int32_t rows;
    if (m->bank.rank == 0) return LRK_OK;
    live->values = lrki_peft_module_of(saver->adapters, index);
    lrk_status status = lrki_gguf_tensor_of(&saver->rules, m->name, live->base, &rows);
    if (status == LRK_OK) status = lrki_gguf_head_rows(&saver->rules, rows, m->name, m->n_out, &live->head);
    if (status == LRK_OK)
        status = lrki_fold_check(saver->context, &live->values, saver->alpha, lrki_dtype_find("F32"));
    saver->n_live++;
    int64_t wider = m->n_in > m->n_out ? m->n_in : m->n_out;
    if (m->bank.rank * wider > saver->most) saver->most = m->bank.rank * wider;
    return status;
}

static int by_base(const void *left, const void *right)
{
    return strcmp((*(const gguf_module *const *)left)->base, (*(const gguf_module *const *)right)->base);
}

static lrk_status check_unique(const gguf_saver *saver)
{
    lrk_status status = LRK_OK;
    const gguf_module **order = lrki_array(saver->context, saver->n_live, sizeof *order);
    if (order == NULL) return lrki_fail_nomem(saver->context, "names of tensors");
    for (int64_t i = 0; i < saver->n_live; i++)
        order[i] = &saver->live[i];
    qsort(order, (size_t)saver->n_live, sizeof *order, by_base);
    for (int64_t i = 1; i < saver->n_live && status == LRK_OK; i++)
        if (strcmp(order[i - 1]->base, order[i]->base) == 0)
            status = lrki_fail(saver->context, LRK_ERR_ARGUMENT, "modules '%s' and '%s' are both tensor '%s'",
                               order[i - 1]->values.name, order[i]->values.name, order[i]->base);
    lrki_array_free(saver->context, order, saver->n_live, sizeof *order);
    return status;
}

static lrk_status collect_all(gguf_saver *saver)
{
    int64_t n = saver->adapters->n_modules;
    lrk_status status = LRK_OK;
    saver->live = lrki_array(saver->context, n, sizeof *saver->live);
    if (saver->live == NULL) return lrki_fail_nomem(saver->context, "the modules to save");
    for (int64_t i = 0; i < n && status == LRK_OK; i++)
        status = collect(saver, (int32_t)i);
    if (status != LRK_OK) return status;
    if (saver->n_live == 0)
        return lrki_fail(saver->context, LRK_ERR_UNSUPPORTED,
                         "every module has rank 0, and llama.cpp has no rank 0");
    return check_unique(saver);
}

/* ---- header ---- */

/* Bytes put one after another; with `to` NULL they are only counted. */
typedef struct header {
    unsigned char *to;
    size_t n;
} header;

static void put(header *h, const void *data, size_t n)
{
    if (h->to != NULL) memcpy(h->to + h->n, data, n);
    h->n += n;
}

static void put_u32(header *h, uint32_t value)
{
    put(h, &value, sizeof value);
}

static void put_u64(header *h, uint64_t value)
{
    put(h, &value, sizeof value);
}

static void put_text(header *h, const char *text)
{
    put_u64(h, strlen(text));
    put(h, text, strlen(text));
}

static void put_key_text(header *h, const char *key, const char *text)
{
    put_text(h, key);
    put_u32(h, LRKI_GGUF_STRING);
    put_text(h, text);
}

static void put_key_u32(header *h, const char *key, uint32_t value)
{
    put_text(h, key);
    put_u32(h, LRKI_GGUF_U32);
    put_u32(h, value);
}

static void put_keys(header *h, const gguf_saver *saver)
{
    const lrk_gguf_options *options = &saver->rules.options;
    float alpha = (float)saver->alpha;
    put_u64(h, options->name == NULL ? 7 : 8);
    put_key_text(h, LRKI_GGUF_KEY_ARCHITECTURE, options->architecture);
    put_key_text(h, LRKI_GGUF_KEY_TYPE, "adapter");
    put_key_text(h, LRKI_GGUF_KEY_ADAPTER, "lora");
    put_text(h, LRKI_GGUF_KEY_ALPHA);
    put_u32(h, LRKI_GGUF_F32);
    put(h, &alpha, sizeof alpha);
    put_key_u32(h, LRKI_GGUF_KEY_FILE_TYPE, (uint32_t)saver->type.file_type);
    put_key_u32(h, LRKI_GGUF_KEY_QUANTIZATION, 2);
    put_key_text(h, LRKI_GGUF_KEY_VERSION, lrk_version_text());
    if (options->name != NULL) put_key_text(h, LRKI_GGUF_KEY_NAME, options->name);
}

/* *at is where the tensor's data begins; it moves on to the next one's, or to -1 if that overflows. */
static void put_tensor(header *h, const gguf_saver *saver, const char *base, const char *suffix, int64_t rows,
                       int64_t cols, int64_t *at)
{
    put_u64(h, strlen(base) + strlen(suffix));
    put(h, base, strlen(base));
    put(h, suffix, strlen(suffix));
    put_u32(h, 2);
    put_u64(h, (uint64_t)cols);
    put_u64(h, (uint64_t)rows);
    put_u32(h, (uint32_t)saver->type.number);
    put_u64(h, (uint64_t)*at);
    int64_t bytes = tensor_bytes(saver, rows, cols);
    if (*at < 0 || bytes < 0 || !lrki_add(*at, bytes, at)) *at = -1;
}

/* False if the sizes overflow. */
static bool put_header(header *h, const gguf_saver *saver)
{
    int64_t at = 0;
    put(h, LRKI_GGUF_MAGIC, strlen(LRKI_GGUF_MAGIC));
    put_u32(h, LRKI_GGUF_VERSION);
    put_u64(h, 2 * (uint64_t)saver->n_live);
    put_keys(h, saver);
    for (int64_t i = 0; i < saver->n_live; i++) {
        const gguf_module *live = &saver->live[i];
        put_tensor(h, saver, live->base, LRKI_GGUF_A, live->values.rank, live->values.n_in, &at);
        put_tensor(h, saver, live->base, LRKI_GGUF_B, live->values.n_out, live->values.rank, &at);
    }
    static const char zeros[LRKI_GGUF_ALIGNMENT];
    put(h, zeros, (LRKI_GGUF_ALIGNMENT - h->n % LRKI_GGUF_ALIGNMENT) % LRKI_GGUF_ALIGNMENT);
    return at >= 0;
}

static lrk_status write_header(const gguf_saver *saver, lrki_target *target)
{
    header h = {0};
    if (!put_header(&h, saver))
        return lrki_fail(saver->context, LRK_ERR_SHAPE, "the size of the file overflows");
    size_t n = h.n;
    h = (header){lrki_alloc(saver->context, n), 0};
    if (h.to == NULL) return lrki_fail_nomem(saver->context, "the header of a GGUF file");
    (void)put_header(&h, saver);
    lrk_status status = lrki_target_write(target, h.to, n);
    lrki_free(saver->context, h.to, n);
    return status;
}

/* ---- tensors ---- */

static void narrow(const gguf_saver *saver, const float *values, unsigned char *bytes, int64_t n)
{
    if (saver->type.dtype->from_f32 == NULL)
        memcpy(bytes, values, (size_t)n * sizeof *values);
    else
        saver->type.dtype->from_f32(values, bytes, (size_t)n);
}

/* What is finite in f32 may be too large for f16; `values` is overwritten with what the reader will see. */
static lrk_status check_narrowed(const gguf_saver *saver, const gguf_module *live, const unsigned char *bytes,
                                 float *values, int64_t n)
{
    if (saver->type.dtype->to_f32 == NULL) return LRK_OK;
    saver->type.dtype->to_f32(bytes, values, (size_t)n);
    if (lrki_all_finite(values, n)) return LRK_OK;
    lrki_place place = {live->values.index, 0, 0, 0};
    return lrki_fail_at(saver->context, LRK_ERR_NONFINITE, place, "module '%s': a value is too large for %s",
                        live->values.name, saver->type.name);
}

static lrk_status write_tensor(const gguf_saver *saver, lrki_target *target, const gguf_module *live,
                               int64_t n, float *values, unsigned char *bytes)
{
    size_t size = (size_t)n * element_bytes(saver);
    size_t padding = (LRKI_GGUF_ALIGNMENT - size % LRKI_GGUF_ALIGNMENT) % LRKI_GGUF_ALIGNMENT;
    memset(bytes + size, 0, padding);
    lrk_status status = check_narrowed(saver, live, bytes, values, n);
    return status == LRK_OK ? lrki_target_write(target, bytes, size + padding) : status;
}

static lrk_status write_a(const gguf_saver *saver, lrki_target *target, const gguf_module *live,
                          float *values, unsigned char *bytes)
{
    int64_t n = live->values.rank * live->values.n_in;
    narrow(saver, live->values.a, bytes, n);
    return write_tensor(saver, target, live, n, values, bytes);
}

static lrk_status write_b(const gguf_saver *saver, lrki_target *target, const gguf_module *live,
                          float *values, unsigned char *bytes)
{
    int64_t rank = live->values.rank;
    size_t row_bytes = (size_t)rank * element_bytes(saver);
    lrki_fold_store(&live->values, saver->alpha, values);
    for (int64_t row = 0; row < live->values.n_out; row++)
        narrow(saver, values + row * rank, bytes + (size_t)lrki_gguf_file_row(row, live->head) * row_bytes,
               rank);
    return write_tensor(saver, target, live, rank * live->values.n_out, values, bytes);
}

static uint64_t bytes_of(const gguf_saver *saver, const gguf_module *live)
{
    return (uint64_t)(live->values.rank * (live->values.n_in + live->values.n_out)) * element_bytes(saver);
}

static lrk_status write_all(const gguf_saver *saver, lrki_target *target)
{
    uint64_t done = 0, total = 0;
    lrk_status status = write_header(saver, target);
    if (status != LRK_OK) return status;
    for (int64_t i = 0; i < saver->n_live; i++)
        total += bytes_of(saver, &saver->live[i]);
    int64_t n_bytes = tensor_bytes(saver, saver->most, 1);
    float *values = lrki_array(saver->context, saver->most, sizeof *values);
    unsigned char *bytes = lrki_array(saver->context, n_bytes, 1);
    if (values == NULL || bytes == NULL) status = lrki_fail_nomem(saver->context, "a tensor to write");
    for (int64_t i = 0; i < saver->n_live && status == LRK_OK; i++) {
        status = write_a(saver, target, &saver->live[i], values, bytes);
        if (status == LRK_OK) status = write_b(saver, target, &saver->live[i], values, bytes);
        done += bytes_of(saver, &saver->live[i]);
        if (status == LRK_OK) status = lrki_target_tell(target, done, total);
    }
    lrki_array_free(saver->context, values, saver->most, sizeof *values);
    lrki_array_free(saver->context, bytes, n_bytes, 1);
    return status;
}

/* ---- the calls ---- */

static lrk_status check_options(gguf_saver *saver, const lrk_gguf_options *options)
{
    if (options->architecture == NULL || options->architecture[0] == '\0' ||
        strlen(options->architecture) >= LRKI_GGUF_NAME || !lrki_utf8_valid(options->architecture))
        return lrki_fail(saver->context, LRK_ERR_ARGUMENT,
                         "architecture must be set, UTF-8 and of at most 63 bytes");
    if (options->name != NULL && !lrki_utf8_valid(options->name))
        return lrki_fail(saver->context, LRK_ERR_ARGUMENT, "name is not UTF-8");
    if (!(options->alpha > 0) || !isfinite((float)options->alpha) || (float)options->alpha == 0)
        return lrki_fail(saver->context, LRK_ERR_ARGUMENT, "alpha must be a finite f32 above 0");
    if (!lrki_gguf_type_of(options->dtype, &saver->type))
        return lrki_fail(saver->context, LRK_ERR_ARGUMENT, "unknown dtype %d", (int)options->dtype);
    saver->alpha = (double)(float)options->alpha;
    saver->progress = (lrki_progress){options->user, options->progress};
    return lrki_gguf_rules_make(saver->context, options, &saver->rules);
}

static lrk_status prepare(gguf_saver *saver, const lrk_adapters *adapters, const lrk_gguf_options *options)
{
    lrk_gguf_options known;
    *saver = (gguf_saver){.context = adapters->context, .adapters = adapters};
    saver->rules.context = adapters->context;
    (void)lrk_gguf_options_init(&known, sizeof known);
    lrk_status status = lrki_struct_read(saver->context, &known, sizeof known, options, 2 * sizeof(uint32_t),
                                         "lrk_gguf_options");
    if (status == LRK_OK) status = check_options(saver, &known);
    return status == LRK_OK ? collect_all(saver) : status;
}

static void saver_free(gguf_saver *saver)
{
    lrki_array_free(saver->context, saver->live, saver->adapters->n_modules, sizeof *saver->live);
    lrki_gguf_rules_free(&saver->rules);
}

/* Where it goes: a path, or else a writer. */
static lrk_status save(const lrk_adapters *adapters, const char *path, const lrk_writer *writer,
                       const lrk_gguf_options *options)
{
    gguf_saver saver;
    lrki_target target = {0};
    lrk_status status = prepare(&saver, adapters, options);
    if (status == LRK_OK)
        status = path != NULL ? lrki_target_open(saver.context, path, &target)
                              : lrki_target_writer(saver.context, writer, &target);
    target.progress = saver.progress;
    if (status == LRK_OK) status = write_all(&saver, &target);
    if (status == LRK_OK) status = lrki_target_commit(&target);
    lrki_target_abandon(&target);
    saver_free(&saver);
    return status;
}

lrk_status lrk_gguf_save(const lrk_adapters *adapters, const char *path, const lrk_gguf_options *options)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_gguf_save");
    if (status != LRK_OK) return status;
    if (path == NULL || path[0] == '\0')
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "path is NULL or empty");
    return save(adapters, path, NULL, options);
}

lrk_status lrk_gguf_write(const lrk_adapters *adapters, const lrk_writer *writer,
                          const lrk_gguf_options *options)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_gguf_write");
    if (status != LRK_OK) return status;
    if (writer == NULL) return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "writer is NULL");
    return save(adapters, NULL, writer, options);
}
