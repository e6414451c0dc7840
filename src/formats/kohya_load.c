/* SPDX-License-Identifier: MIT */
/*
 * Loading a kohya or diffusers file as a set: tensors are paired whatever the program that named them, pairs become
 * modules (of the host's list, or of their own), and only then is the set made and filled.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kohya_parts.h"
#include "loaded.h"
#include "lorank/safetensors.h"
#include "peft_parts.h"

#include "../adapters/filling.h"

#define NONE (-1)

/* Parts of a pair, by the ending of the tensor's name. */
enum { DOWN, UP, ALPHA, PARTS };

static const struct ending {
    const char *text;
    int32_t part;
    int32_t writer; /* the two halves of a pair are one program's */
} endings[] = {
    {LRKI_KOHYA_DOWN, DOWN, 0},      {LRKI_KOHYA_UP, UP, 0},         {".lora_A.weight", DOWN, 1},
    {".lora_B.weight", UP, 1},       {".lora.down.weight", DOWN, 2}, {".lora.up.weight", UP, 2},
    {LRKI_KOHYA_ALPHA, ALPHA, NONE},
};
enum { ENDINGS = sizeof endings / sizeof endings[0] };

typedef struct kohya_pair {
    const char *base; /* the tensors' names up to their endings, borrowed from the file */
    size_t n_base;
    int64_t tensors[PARTS];
    int32_t writer;
    int64_t n_in;
    int64_t n_out;
    int64_t rank;
    double scale;
    int64_t module; /* index in the set */
} kohya_pair;

typedef struct kohya_loader {
    lrk_context *context;
    lrk_kohya_options options;
    lrk_safetensors *file;
    int64_t n_tensors;
    kohya_pair *pairs; /* [n_tensors] room, sorted by base */
    int64_t n_pairs;
    lrk_module_spec *specs;
    int64_t n_specs;
} kohya_loader;

static lrk_safetensors_tensor tensor_of(const kohya_loader *loader, int64_t i)
{
    lrk_safetensors_tensor facts = {.struct_size = sizeof facts};
    (void)lrk_safetensors_get(loader->file, i, &facts);
    return facts;
}

static lrk_status fail_tensor(const kohya_loader *loader, lrk_status status, int64_t i, const char *what)
{
    return lrki_fail(loader->context, status, "tensor '%s': %s", tensor_of(loader, i).name, what);
}

/* ---- pairs ---------------------------------------------------------------------------------------------------------- */

static const struct ending *ending_of(const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < ENDINGS; i++) {
        size_t m = strlen(endings[i].text);
        if (n > m && strcmp(name + n - m, endings[i].text) == 0) return &endings[i];
    }
    return NULL;
}

/* One pair a tensor; those of one base are joined once they are sorted. */
static lrk_status take_tensor(kohya_loader *loader, int64_t i)
{
    const char *name = tensor_of(loader, i).name;
    const struct ending *ending = ending_of(name);
    if (ending == NULL) return fail_tensor(loader, LRK_ERR_UNSUPPORTED, i, "no part of a LoRA pair");
    kohya_pair pair = {.base = name,
                       .n_base = strlen(name) - strlen(ending->text),
                       .tensors = {NONE, NONE, NONE},
                       .writer = ending->writer,
                       .module = NONE};
    pair.tensors[ending->part] = i;
    loader->pairs[loader->n_pairs++] = pair;
    return LRK_OK;
}

static int by_base(const void *left, const void *right)
{
    const kohya_pair *a = left, *b = right;
    int order = memcmp(a->base, b->base, a->n_base < b->n_base ? a->n_base : b->n_base);
    return order != 0 ? order : (a->n_base > b->n_base) - (a->n_base < b->n_base);
}

/* Adds the parts of `more` to `pair`, which has the same base. */
static lrk_status join(const kohya_loader *loader, kohya_pair *pair, const kohya_pair *more)
{
    for (int part = 0; part < PARTS; part++) {
        if (more->tensors[part] == NONE) continue;
        if (pair->tensors[part] != NONE)
            return fail_tensor(loader, LRK_ERR_FORMAT, more->tensors[part],
                               "the file has this part of the pair under another name too");
        pair->tensors[part] = more->tensors[part];
    }
    if (pair->writer == NONE) pair->writer = more->writer;
    if (more->writer == NONE || more->writer == pair->writer) return LRK_OK;
    return fail_tensor(loader, LRK_ERR_FORMAT, more->tensors[more->tensors[DOWN] != NONE ? DOWN : UP],
                       "its other half is missing");
}

static lrk_status pair_tensors(kohya_loader *loader)
{
    lrk_status status = LRK_OK;
    loader->n_tensors = lrk_safetensors_count(loader->file);
    if (loader->n_tensors == 0) return lrki_fail(loader->context, LRK_ERR_FORMAT, "the file has no tensors");
    loader->pairs = lrki_array(loader->context, loader->n_tensors, sizeof *loader->pairs);
    if (loader->pairs == NULL) return lrki_fail_nomem(loader->context, "the pairs of an adapter");
    for (int64_t i = 0; i < loader->n_tensors && status == LRK_OK; i++)
        status = take_tensor(loader, i);
    if (status != LRK_OK) return status;
    qsort(loader->pairs, (size_t)loader->n_pairs, sizeof *loader->pairs, by_base);
    int64_t n = 1;
    for (int64_t i = 1; i < loader->n_pairs && status == LRK_OK; i++) {
        kohya_pair *last = &loader->pairs[n - 1];
        if (by_base(last, &loader->pairs[i]) == 0)
            status = join(loader, last, &loader->pairs[i]);
        else
            loader->pairs[n++] = loader->pairs[i];
    }
    loader->n_pairs = n;
    return status;
}

/* ---- what a pair says ------------------------------------------------------------------------------------------------ */

/* A matrix, or the kernel of a convolution of one point. */
static lrk_status check_matrix(const kohya_loader *loader, int64_t i, int64_t *rows, int64_t *cols)
{
    lrk_safetensors_tensor facts = tensor_of(loader, i);
    if (!facts.readable) return fail_tensor(loader, LRK_ERR_UNSUPPORTED, i, "a dtype that does not convert");
    if (facts.n_dims < 2) return fail_tensor(loader, LRK_ERR_FORMAT, i, "not a matrix");
    if (facts.n_dims > LRK_SAFETENSORS_MAX_DIMS)
        return fail_tensor(loader, LRK_ERR_UNSUPPORTED, i, "too many dimensions");
    for (int32_t d = 2; d < facts.n_dims; d++)
        if (facts.shape[d] != 1)
            return fail_tensor(loader, LRK_ERR_UNSUPPORTED, i, "a convolution of more than one point");
    if (facts.count == 0) return fail_tensor(loader, LRK_ERR_FORMAT, i, "a dimension of 0");
    *rows = facts.shape[0];
    *cols = facts.shape[1];
    return LRK_OK;
}

/* Programs write alpha as whatever number they had. */
static lrk_status read_alpha(const kohya_loader *loader, int64_t i, double *alpha)
{
    float value = 0;
    int64_t wide = 0;
    int32_t narrow = 0;
    lrk_safetensors_tensor facts = tensor_of(loader, i);
    if (facts.count != 1) return fail_tensor(loader, LRK_ERR_FORMAT, i, "alpha is not a scalar");
    lrk_status status;
    if (strcmp(facts.dtype, "I64") == 0)
        status = lrk_safetensors_read_bytes(loader->file, i, 0, &wide, sizeof wide);
    else if (strcmp(facts.dtype, "I32") == 0)
        status = lrk_safetensors_read_bytes(loader->file, i, 0, &narrow, sizeof narrow);
    else
        status = lrk_safetensors_read_f32(loader->file, i, &value, 1);
    *alpha = (double)value + (double)wide + (double)narrow; /* one of them was read */
    if (status == LRK_OK && !isfinite(*alpha))
        status = fail_tensor(loader, LRK_ERR_FORMAT, i, "alpha is not finite");
    return status;
}

static lrk_status check_pair(const kohya_loader *loader, kohya_pair *pair)
{
    int64_t rank = 0;
    double alpha = 0;
    const int64_t *t = pair->tensors;
    if (t[DOWN] == NONE || t[UP] == NONE)
        return fail_tensor(loader, LRK_ERR_FORMAT,
                           t[DOWN] != NONE ? t[DOWN]
                           : t[UP] != NONE ? t[UP]
                                           : t[ALPHA],
                           "the rest of its pair is missing");
    lrk_status status = check_matrix(loader, t[DOWN], &pair->rank, &pair->n_in);
    if (status == LRK_OK) status = check_matrix(loader, t[UP], &pair->n_out, &rank);
    if (status == LRK_OK && rank != pair->rank)
        status = fail_tensor(loader, LRK_ERR_FORMAT, t[UP], "its shape does not conform with its other half");
    if (status == LRK_OK && t[ALPHA] != NONE) status = read_alpha(loader, t[ALPHA], &alpha);
    pair->scale = alpha == 0 ? 1 : alpha / (double)pair->rank;
    return status;
}

/* ---- modules --------------------------------------------------------------------------------------------------------- */

static void set_spec(const kohya_pair *pair, lrk_module_spec *spec)
{
    spec->n_in = pair->n_in;
    spec->n_out = pair->n_out;
    spec->rank = pair->rank;
    spec->scale_rule = LRK_SCALE_EXPLICIT;
    spec->scale = pair->scale;
}

static lrk_status fail_stray(const kohya_loader *loader, const kohya_pair *pair)
{
    return fail_tensor(loader, LRK_ERR_NOT_FOUND, pair->tensors[DOWN], "a pair for no module");
}

/* The module of pair i, named as in the file without the prefix. */
static lrk_status name_pair(kohya_loader *loader, int64_t i)
{
    kohya_pair *pair = &loader->pairs[i];
    lrk_module_spec *spec = &loader->specs[i];
    size_t before = strlen(loader->options.prefix);
    (void)lrk_module_spec_init(spec, sizeof *spec);
    if (pair->n_base <= before || memcmp(pair->base, loader->options.prefix, before) != 0)
        return fail_stray(loader, pair);
    char *name = lrki_alloc_zeroed(loader->context, pair->n_base - before + 1);
    if (name == NULL) return lrki_fail_nomem(loader->context, pair->base);
    memcpy(name, pair->base + before, pair->n_base - before);
    spec->name = name;
    set_spec(pair, spec);
    pair->module = i;
    return LRK_OK;
}

static lrk_status give_pair(kohya_loader *loader, int64_t i, kohya_pair *pair)
{
    lrk_module_spec *spec = &loader->specs[i];
    if (pair->module != NONE)
        return lrki_fail(loader->context, LRK_ERR_ARGUMENT,
                         "modules '%s' and '%s' are both '%.*s' in the file",
                         loader->specs[pair->module].name, spec->name, (int)pair->n_base, pair->base);
    if (spec->n_in != pair->n_in || spec->n_out != pair->n_out)
        return lrki_fail(loader->context, LRK_ERR_SHAPE,
                         "module '%s' is %lld x %lld, its pair '%.*s' is %lld x %lld", spec->name,
                         (long long)spec->n_out, (long long)spec->n_in, (int)pair->n_base, pair->base,
                         (long long)pair->n_out, (long long)pair->n_in);
    set_spec(pair, spec);
    pair->module = i;
    return LRK_OK;
}

static lrk_status match_module(kohya_loader *loader, const lrk_module_spec *modules, int64_t i)
{
    lrk_module_spec *spec = &loader->specs[i];
    lrk_status status = lrki_loaded_spec(loader->context, modules, i, spec);
    if (status != LRK_OK) return status;
    char *name = lrki_kohya_name(loader->context, &loader->options, spec->name, "");
    if (name == NULL) return LRK_ERR_NOMEM;
    const kohya_pair key = {.base = name, .n_base = strlen(name)};
    kohya_pair *pair = bsearch(&key, loader->pairs, (size_t)loader->n_pairs, sizeof *loader->pairs, by_base);
    if (pair != NULL) status = give_pair(loader, i, pair);
    lrki_text_free(loader->context, name);
    return status;
}

static lrk_status make_specs(kohya_loader *loader, const lrk_module_spec *modules, int64_t n_modules)
{
    lrk_status status = LRK_OK;
    loader->n_specs = modules == NULL ? loader->n_pairs : n_modules;
    loader->specs = lrki_array(loader->context, loader->n_specs, sizeof *loader->specs);
    if (loader->specs == NULL) return lrki_fail_nomem(loader->context, "the modules of an adapter");
    for (int64_t i = 0; i < loader->n_pairs && status == LRK_OK; i++)
        status = check_pair(loader, &loader->pairs[i]);
    for (int64_t i = 0; i < loader->n_specs && status == LRK_OK; i++)
        status = modules == NULL ? name_pair(loader, i) : match_module(loader, modules, i);
    for (int64_t i = 0; i < loader->n_pairs && status == LRK_OK; i++)
        if (loader->pairs[i].module == NONE) status = fail_stray(loader, &loader->pairs[i]);
    return status;
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

static lrk_status read_part(const kohya_loader *loader, int64_t i, float *values, int64_t count)
{
    lrk_status status = lrk_safetensors_read_f32(loader->file, i, values, count);
    if (status == LRK_OK && !lrki_all_finite(values, count))
        status = fail_tensor(loader, LRK_ERR_FORMAT, i, "a value is not finite");
    return status;
}

static lrk_status fill_pair(const kohya_loader *loader, const kohya_pair *pair, lrki_bank *bank)
{
    int64_t count = pair->n_out * pair->rank;
    lrk_status status = read_part(loader, pair->tensors[DOWN], bank->a, pair->rank * pair->n_in);
    if (status != LRK_OK) return status;
    float *up = lrki_array(loader->context, count, sizeof *up);
    if (up == NULL) return lrki_fail_nomem(loader->context, pair->base);
    status = read_part(loader, pair->tensors[UP], up, count);
    if (status == LRK_OK) lrki_fold_transpose(up, pair->rank, pair->n_out, bank->b, pair->n_out);
    lrki_array_free(loader->context, up, count, sizeof *up);
    return status;
}

static lrk_status create_set(const kohya_loader *loader, const lrk_adapters_options *options,
                             lrk_adapters **adapters)
{
    lrk_status status =
        lrki_adapters_create_unset(loader->context, loader->specs, loader->n_specs, options, adapters);
    if (status != LRK_OK || !lrki_loaded_wants_values(*adapters)) return status;
    lrki_filling filling = lrki_filling_begin(*adapters, options, "loading");
    for (int64_t i = 0; i < loader->n_pairs && status == LRK_OK; i++) {
        const kohya_pair *pair = &loader->pairs[i];
        status = fill_pair(loader, pair, &(*adapters)->modules[pair->module].bank);
        if (status == LRK_OK) status = lrki_filling_tell(&filling, pair->module);
    }
    return lrki_loaded_end(status, adapters);
}

/* ---- the calls ------------------------------------------------------------------------------------------------------- */

static void loader_free(kohya_loader *loader, bool own_names)
{
    for (int64_t i = 0; own_names && loader->specs != NULL && i < loader->n_specs; i++)
        lrki_text_free(loader->context, (char *)loader->specs[i].name);
    lrki_array_free(loader->context, loader->specs, loader->n_specs, sizeof *loader->specs);
    lrki_array_free(loader->context, loader->pairs, loader->n_tensors, sizeof *loader->pairs);
    lrk_safetensors_close(loader->file);
}

/* From a path, or else from a reader. */
static lrk_status load(lrk_context *context, const char *path, const lrk_reader *reader,
                       const lrk_kohya_options *options, const lrk_module_spec *modules, int64_t n_modules,
                       const lrk_adapters_options *adapters_options, lrk_adapters **adapters)
{
    const void *from = path != NULL ? (const void *)path : reader;
    lrk_status status = lrki_loaded_arguments(context, from, "path or reader", modules, n_modules, adapters);
    if (status != LRK_OK) return status;
    kohya_loader loader = {.context = context};
    status = lrki_kohya_options(context, options, &loader.options);
    if (status == LRK_OK)
        status = path != NULL ? lrk_safetensors_open(context, path, &loader.file)
                              : lrk_safetensors_open_reader(context, reader, &loader.file);
    if (status == LRK_OK) status = pair_tensors(&loader);
    if (status == LRK_OK) status = make_specs(&loader, modules, n_modules);
    if (status == LRK_OK) status = create_set(&loader, adapters_options, adapters);
    loader_free(&loader, modules == NULL);
    return status;
}

lrk_status lrk_kohya_load(lrk_context *context, const char *path, const lrk_kohya_options *options,
                          const lrk_module_spec *modules, int64_t n_modules,
                          const lrk_adapters_options *adapters_options, lrk_adapters **adapters)
{
    return load(context, path, NULL, options, modules, n_modules, adapters_options, adapters);
}

lrk_status lrk_kohya_load_reader(lrk_context *context, const lrk_reader *reader,
                                 const lrk_kohya_options *options, const lrk_module_spec *modules,
                                 int64_t n_modules, const lrk_adapters_options *adapters_options,
                                 lrk_adapters **adapters)
{
    return load(context, NULL, reader, options, modules, n_modules, adapters_options, adapters);
}
