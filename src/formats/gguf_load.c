/* SPDX-License-Identifier: MIT */
/*
 * Loading a GGUF adapter as a set: tensors are paired, pairs become modules (of the host's list, or of their own), and
 * only then is the set made and filled.
 */
#include <stdlib.h>
#include <string.h>

#include "gguf_parts.h"
#include "loaded.h"
#include "peft_parts.h"

#include "../adapters/filling.h"

#define NO_MODULE    (-1)
#define ROWS_AT_ONCE 16 /* of B^T: a cache line of B */

typedef struct gguf_pair {
    const lrki_gguf_tensor *a; /* ne [n_in, rank]  */
    const lrki_gguf_tensor *b; /* ne [rank, n_out] */
    char base[LRKI_GGUF_NAME];
    int64_t module; /* index in the set */
    int64_t head;   /* rows of a permuted head, 0: rows as they are */
} gguf_pair;

typedef struct gguf_loader {
    lrk_context *context;
    lrki_gguf_file file;
    lrki_gguf_rules rules;
    gguf_pair *pairs;
    int64_t n_pairs;
    lrk_module_spec *specs;
    int64_t n_specs;
    char **names; /* [n_pairs], of modules without a list */
} gguf_loader;

/* ---- pairs ---- */

static bool ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n > m && strcmp(text + n - m, suffix) == 0;
}

static int by_name(const void *key, const void *element)
{
    return strcmp(key, (*(const lrki_gguf_tensor *const *)element)->name);
}

/* The tensor of that base and suffix, or NULL; base and suffix fit into a name. */
static const lrki_gguf_tensor *find_tensor(const lrki_gguf_file *file, const char *base, const char *suffix)
{
    char name[LRKI_GGUF_NAME];
    strcat(strcpy(name, base), suffix);
    const lrki_gguf_tensor *const *found =
        bsearch(name, file->by_name, (size_t)file->n, sizeof *file->by_name, by_name);
    return found == NULL ? NULL : *found;
}

static lrk_status fail_pair(const gguf_loader *loader, lrk_status status, const gguf_pair *pair,
                            const char *what)
{
    return lrki_fail(loader->context, status, "%s: pair '%s" LRKI_GGUF_WEIGHT "': %s",
                     loader->file.source->name, pair->base, what);
}

static lrk_status check_pair(const gguf_loader *loader, const gguf_pair *pair)
{
    const lrki_gguf_tensor *a = pair->a, *b = pair->b;
    if (a == NULL || b == NULL) return fail_pair(loader, LRK_ERR_FORMAT, pair, "one half is missing");
    if (strcmp(pair->base, LRKI_GGUF_TOKENS) == 0)
        return fail_pair(loader, LRK_ERR_UNSUPPORTED, pair, "an adapter of the token embeddings");
    if (a->ne[2] != 1 || a->ne[3] != 1 || b->ne[2] != 1 || b->ne[3] != 1)
        return fail_pair(loader, LRK_ERR_UNSUPPORTED, pair, "more than two dimensions (experts)");
    if (a->ne[1] != b->ne[0])
        return fail_pair(loader, LRK_ERR_FORMAT, pair, "the shapes of lora_a and lora_b do not conform");
    return LRK_OK;
}

/* Takes lora_a with its other half; lora_b alone is checked to have one. */
static lrk_status take_tensor(gguf_loader *loader, const lrki_gguf_tensor *tensor)
{
    gguf_pair pair = {.module = NO_MODULE};
    bool is_a = ends_with(tensor->name, LRKI_GGUF_A);
    if (!is_a && !ends_with(tensor->name, LRKI_GGUF_B))
        return lrki_fail(loader->context, LRK_ERR_UNSUPPORTED,
                         "%s: tensor '%s' is no half of a LoRA pair: a norm, a bias or a whole module",
                         loader->file.source->name, tensor->name);
    strcpy(pair.base, tensor->name);
    pair.base[strlen(tensor->name) - strlen(LRKI_GGUF_A)] = '\0';
    pair.a = find_tensor(&loader->file, pair.base, LRKI_GGUF_A);
    pair.b = find_tensor(&loader->file, pair.base, LRKI_GGUF_B);
    lrk_status status = check_pair(loader, &pair);
    if (status == LRK_OK && is_a) loader->pairs[loader->n_pairs++] = pair;
    return status;
}

static lrk_status pair_tensors(gguf_loader *loader)
{
    const lrki_gguf_file *file = &loader->file;
    lrk_status status = LRK_OK;
    if (file->n == 0) return lrki_gguf_fail(file->source, "no tensors");
    loader->pairs = lrki_array(loader->context, file->n, sizeof *loader->pairs);
    if (loader->pairs == NULL) return lrki_fail_nomem(loader->context, file->source->name);
    for (int64_t i = 0; i < file->n && status == LRK_OK; i++)
        status = take_tensor(loader, &file->tensors[i]);
    return status;
}

/* ---- modules ---- */

static void set_spec(const gguf_loader *loader, const gguf_pair *pair, lrk_module_spec *spec)
{
    double alpha = (double)loader->file.alpha;
    spec->n_in = pair->a->ne[0];
    spec->n_out = pair->b->ne[1];
    spec->rank = pair->a->ne[1];
    spec->scale_rule = LRK_SCALE_EXPLICIT;
    spec->scale = alpha == 0 ? 1 : alpha / (double)spec->rank;
}

static lrk_status name_pair(gguf_loader *loader, int64_t i)
{
    int32_t rows;
    gguf_pair *pair = &loader->pairs[i];
    lrk_module_spec *spec = &loader->specs[i];
    lrk_status status = lrki_gguf_module_of(&loader->rules, pair->base, &loader->names[i], &rows);
    if (status != LRK_OK) return status;
    (void)lrk_module_spec_init(spec, sizeof *spec);
    spec->name = loader->names[i];
    set_spec(loader, pair, spec);
    pair->module = i;
    return lrki_gguf_head_rows(&loader->rules, rows, spec->name, spec->n_out, &pair->head);
}

static int by_base(const void *left, const void *right)
{
    return strcmp(((const gguf_pair *)left)->base, ((const gguf_pair *)right)->base);
}

static lrk_status give_pair(gguf_loader *loader, int64_t i, gguf_pair *pair, int32_t rows)
{
    lrk_module_spec *spec = &loader->specs[i];
    int64_t n_in = spec->n_in, n_out = spec->n_out;
    if (pair->module != NO_MODULE)
        return lrki_fail(loader->context, LRK_ERR_ARGUMENT, "modules '%s' and '%s' are both tensor '%s'",
                         loader->specs[pair->module].name, spec->name, pair->base);
    set_spec(loader, pair, spec);
    if (spec->n_in != n_in || spec->n_out != n_out)
        return lrki_fail(loader->context, LRK_ERR_SHAPE,
                         "module '%s' is %lld x %lld, pair '%s" LRKI_GGUF_WEIGHT "' of %s is %lld x %lld",
                         spec->name, (long long)n_out, (long long)n_in, pair->base, loader->file.source->name,
                         (long long)spec->n_out, (long long)spec->n_in);
    pair->module = i;
    return lrki_gguf_head_rows(&loader->rules, rows, spec->name, n_out, &pair->head);
}

/* A module that no rule names is none of the file's. */
static lrk_status match_module(gguf_loader *loader, const lrk_module_spec *modules, int64_t i)
{
    int32_t rows;
    gguf_pair key;
    lrk_module_spec *spec = &loader->specs[i];
    lrk_status status = lrki_loaded_spec(loader->context, modules, i, spec);
    if (status != LRK_OK) return status;
    status = lrki_gguf_tensor_of(&loader->rules, spec->name, key.base, &rows);
    if (status == LRK_ERR_NOT_FOUND || status == LRK_ERR_UNSUPPORTED) return LRK_OK;
    if (status != LRK_OK) return status;
    gguf_pair *pair = bsearch(&key, loader->pairs, (size_t)loader->n_pairs, sizeof *loader->pairs, by_base);
    return pair == NULL ? LRK_OK : give_pair(loader, i, pair, rows);
}

static lrk_status match_modules(gguf_loader *loader, const lrk_module_spec *modules)
{
    lrk_status status = LRK_OK;
    qsort(loader->pairs, (size_t)loader->n_pairs, sizeof *loader->pairs, by_base);
    for (int64_t i = 0; i < loader->n_specs && status == LRK_OK; i++)
        status = match_module(loader, modules, i);
    for (int64_t i = 0; i < loader->n_pairs && status == LRK_OK; i++)
        if (loader->pairs[i].module == NO_MODULE)
            status =
                fail_pair(loader, LRK_ERR_NOT_FOUND, &loader->pairs[i], "none of the modules is this tensor");
    return status;
}

static lrk_status make_specs(gguf_loader *loader, const lrk_module_spec *modules, int64_t n_modules)
{
    lrk_status status = LRK_OK;
    loader->n_specs = modules == NULL ? loader->n_pairs : n_modules;
    loader->specs = lrki_array(loader->context, loader->n_specs, sizeof *loader->specs);
    loader->names = lrki_array(loader->context, loader->n_pairs, sizeof *loader->names);
    if (loader->specs == NULL || loader->names == NULL)
        return lrki_fail_nomem(loader->context, "the modules of an adapter");
    if (modules != NULL) return match_modules(loader, modules);
    for (int64_t i = 0; i < loader->n_pairs && status == LRK_OK; i++)
        status = name_pair(loader, i);
    return status;
}

/* ---- values ---- */

static lrk_status check_finite(const gguf_loader *loader, const lrki_gguf_tensor *tensor, const float *values)
{
    if (lrki_all_finite(values, tensor->count)) return LRK_OK;
    return lrki_fail(loader->context, LRK_ERR_FORMAT, "%s: tensor '%s': a value is not finite",
                     loader->file.source->name, tensor->name);
}

static lrk_status fill_a(const gguf_loader *loader, const gguf_pair *pair, lrki_bank *bank)
{
    lrk_status status = lrki_gguf_values(&loader->file, pair->a, bank->a);
    return status == LRK_OK ? check_finite(loader, pair->a, bank->a) : status;
}

/* B of the file is [n_out x rank], rows in the file's order; the set's is [rank x n_out]. */
static void place_rows(const gguf_pair *pair, const float *stored, int64_t begin, int64_t end, float *b)
{
    int64_t rank = pair->b->ne[0], n_out = pair->b->ne[1], file_rows[ROWS_AT_ONCE];
    for (int64_t row = begin; row < end; row++)
        file_rows[row - begin] = lrki_gguf_file_row(row, pair->head) * rank;
    for (int64_t j = 0; j < rank; j++)
        for (int64_t row = begin; row < end; row++)
            b[j * n_out + row] = stored[file_rows[row - begin] + j];
}

static lrk_status fill_b(const gguf_loader *loader, const gguf_pair *pair, lrki_bank *bank)
{
    int64_t count = pair->b->count, n_out = pair->b->ne[1];
    float *stored = lrki_array(loader->context, count, sizeof *stored);
    if (stored == NULL) return lrki_fail_nomem(loader->context, pair->b->name);
    lrk_status status = lrki_gguf_values(&loader->file, pair->b, stored);
    if (status == LRK_OK) status = check_finite(loader, pair->b, stored);
    for (int64_t begin = 0; status == LRK_OK && begin < n_out; begin += ROWS_AT_ONCE) {
        int64_t end = begin + ROWS_AT_ONCE;
        place_rows(pair, stored, begin, end < n_out ? end : n_out, bank->b);
    }
    lrki_array_free(loader->context, stored, count, sizeof *stored);
    return status;
}

static lrk_status create_set(const gguf_loader *loader, const lrk_adapters_options *options,
                             lrk_adapters **adapters)
{
    lrk_status status =
        lrki_adapters_create_unset(loader->context, loader->specs, loader->n_specs, options, adapters);
    if (status != LRK_OK || !lrki_loaded_wants_values(*adapters)) return status;
    lrki_filling filling = lrki_filling_begin(*adapters, options, "loading");
    for (int64_t i = 0; i < loader->n_pairs && status == LRK_OK; i++) {
        const gguf_pair *pair = &loader->pairs[i];
        lrki_bank *bank = &(*adapters)->modules[pair->module].bank;
        status = fill_a(loader, pair, bank);
        if (status == LRK_OK) status = fill_b(loader, pair, bank);
        if (status == LRK_OK) status = lrki_filling_tell(&filling, pair->module);
    }
    return lrki_loaded_end(status, adapters);
}

/* ---- the calls ---- */

static lrk_status make_rules(gguf_loader *loader, const lrk_gguf_options *options)
{
    lrk_gguf_options known;
    const char *architecture = loader->file.architecture;
    (void)lrk_gguf_options_init(&known, sizeof known);
    lrk_status status = lrki_struct_read(loader->context, &known, sizeof known, options, 2 * sizeof(uint32_t),
                                         "lrk_gguf_options");
    if (status != LRK_OK) return status;
    if (known.architecture != NULL && strcmp(known.architecture, architecture) != 0)
        return lrki_fail(loader->context, LRK_ERR_UNSUPPORTED,
                         "%s: an adapter of architecture '%s', not '%s'", loader->file.source->name,
                         architecture, known.architecture);
    known.architecture = architecture;
    return lrki_gguf_rules_make(loader->context, &known, &loader->rules);
}

static void loader_free(gguf_loader *loader)
{
    for (int64_t i = 0; loader->names != NULL && i < loader->n_pairs; i++)
        lrki_text_free(loader->context, loader->names[i]);
    lrki_array_free(loader->context, loader->names, loader->n_pairs, sizeof *loader->names);
    lrki_array_free(loader->context, loader->specs, loader->n_specs, sizeof *loader->specs);
    lrki_array_free(loader->context, loader->pairs, loader->file.n, sizeof *loader->pairs);
    lrki_gguf_rules_free(&loader->rules);
    lrki_gguf_file_free(&loader->file);
}

static lrk_status load(lrk_context *context, const lrki_source *source, const lrk_gguf_options *options,
                       const lrk_module_spec *modules, int64_t n_modules,
                       const lrk_adapters_options *adapters_options, lrk_adapters **adapters)
{
    gguf_loader loader = {.context = context, .rules = {.context = context}};
    lrk_status status = lrki_gguf_file_read(context, source, &loader.file);
    if (status == LRK_OK) status = make_rules(&loader, options);
    if (status == LRK_OK) status = pair_tensors(&loader);
    if (status == LRK_OK) status = make_specs(&loader, modules, n_modules);
    if (status == LRK_OK) status = create_set(&loader, adapters_options, adapters);
    loader_free(&loader);
    return status;
}

lrk_status lrk_gguf_load(lrk_context *context, const char *path, const lrk_gguf_options *options,
                         const lrk_module_spec *modules, int64_t n_modules,
                         const lrk_adapters_options *adapters_options, lrk_adapters **adapters)
{
    lrki_source source;
    lrk_status status = lrki_loaded_arguments(context, path, "path", modules, n_modules, adapters);
    if (status == LRK_OK) status = lrki_source_open(context, path, &source);
    if (status != LRK_OK) return status;
    status = load(context, &source, options, modules, n_modules, adapters_options, adapters);
    lrki_source_close(&source);
    return status;
}

lrk_status lrk_gguf_load_reader(lrk_context *context, const lrk_reader *reader,
                                const lrk_gguf_options *options, const lrk_module_spec *modules,
                                int64_t n_modules, const lrk_adapters_options *adapters_options,
                                lrk_adapters **adapters)
{
    lrki_source source;
    lrk_status status = lrki_loaded_arguments(context, reader, "reader", modules, n_modules, adapters);
    if (status == LRK_OK) status = lrki_source_reader(context, reader, &source);
    if (status != LRK_OK) return status;
    status = load(context, &source, options, modules, n_modules, adapters_options, adapters);
    lrki_source_close(&source);
    return status;
}
