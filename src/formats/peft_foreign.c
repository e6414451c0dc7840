/* SPDX-License-Identifier: MIT */
/*
 * Loading a PEFT adapter that carries nothing of lorank's: tensors are paired, pairs become modules (of the host's list,
 * or of their own, in byte order of their names), and only then is the set made and filled.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "loaded.h"
#include "lorank/safetensors.h"
#include "peft_parts.h"

#include "../adapters/filling.h"

#define NO_MODULE (-1)

typedef struct foreign_pair {
    char *dotted; /* "." and the name of the module */
    int64_t a;    /* tensors of the file; e is AdaLoRA's */
    int64_t b;
    int64_t e;
    int64_t n_in;
    int64_t n_out;
    int64_t rank;
    int64_t module; /* index in the set */
} foreign_pair;

typedef struct foreign_loader {
    lrk_context *context;
    const lrk_safetensors *file;
    const char *name; /* of the model file, for details */
    lrki_peft_terms terms;
    int64_t n_tensors;
    foreign_pair *pairs; /* room for n_tensors */
    int64_t n_pairs;
    lrk_module_spec *specs;
    int64_t n_specs;
} foreign_loader;

static lrk_status fail_tensor(const foreign_loader *loader, lrk_status status, const char *tensor,
                              const char *what)
{
    return lrki_fail(loader->context, status, "%s: tensor '%s': %s", loader->name, tensor, what);
}

/* ---- names ---- */

static bool ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

static const char *suffix_a(const foreign_loader *loader)
{
    return loader->terms.is_adalora ? ".lora_A" : LRKI_PEFT_A;
}

static const char *suffix_b(const foreign_loader *loader)
{
    return loader->terms.is_adalora ? ".lora_B" : LRKI_PEFT_B;
}

/* What a tensor that is no half of a pair belongs to. */
static const char *what_is(const char *tensor)
{
    static const char *const known[][2] = {
        {"lora_magnitude_vector", "a magnitude of DoRA (use_dora)"},
        {".lora_embedding_", "an adapter of an embedding"},
        {".base_layer.", "an embedding or a head of the base model (save_embedding_layers)"},
        {".lora_B.bias", "a bias of LoRA (lora_bias)"},
        {".token_adapter.", "trained tokens (trainable_token_indices)"},
        {".trainable_tokens", "trained tokens (trainable_token_indices)"},
        {".modules_to_save", "a whole module (modules_to_save)"},
        {".lora_", "a tensor of another kind of LoRA"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strstr(tensor, known[i][0]) != NULL) return known[i][1];
    return ends_with(tensor, ".bias") ? "a bias (bias)" : "a whole module (modules_to_save)";
}

/* The tensor of the same module with another suffix, or LRK_ERR_FORMAT. */
static lrk_status find_half(const foreign_loader *loader, const char *tensor, size_t n_base,
                            const char *suffix, int64_t *index)
{
    size_t n = n_base + strlen(suffix) + 1;
    char *name = lrki_alloc(loader->context, n);
    if (name == NULL) return lrki_fail_nomem(loader->context, tensor);
    memcpy(name, tensor, n_base);
    strcpy(name + n_base, suffix);
    lrk_status status = lrk_safetensors_find(loader->file, name, index);
    if (status == LRK_ERR_NOT_FOUND)
        status = fail_tensor(loader, LRK_ERR_FORMAT, name, "is missing, other tensors of its module are not");
    lrki_free(loader->context, name, n);
    return status;
}

/* ---- pairs ---- */

static lrk_safetensors_tensor facts_of(const foreign_loader *loader, int64_t index)
{
    lrk_safetensors_tensor facts = {.struct_size = sizeof facts};
    (void)lrk_safetensors_get(loader->file, index, &facts);
    return facts;
}

static lrk_status check_matrix(const foreign_loader *loader, const lrk_safetensors_tensor *tensor)
{
    if (!tensor->readable)
        return fail_tensor(loader, LRK_ERR_UNSUPPORTED, tensor->name, "its dtype does not convert to f32");
    if (tensor->n_dims > 2)
        return fail_tensor(loader, LRK_ERR_UNSUPPORTED, tensor->name,
                           "more than 2 dimensions (a convolution)");
    if (tensor->n_dims == 2) return LRK_OK;
    return fail_tensor(loader, LRK_ERR_FORMAT, tensor->name, "is not of 2 dimensions");
}

static lrk_status check_pair(const foreign_loader *loader, foreign_pair *pair)
{
    lrk_safetensors_tensor a = facts_of(loader, pair->a), b = facts_of(loader, pair->b);
    lrk_status status = check_matrix(loader, &a);
    if (status == LRK_OK) status = check_matrix(loader, &b);
    if (status != LRK_OK) return status;
    pair->rank = a.shape[0];
    pair->n_in = a.shape[1];
    pair->n_out = b.shape[0];
    if (b.shape[1] != pair->rank)
        return fail_tensor(loader, LRK_ERR_FORMAT, b.name, "its shape does not conform with lora_A");
    if (pair->n_in == 0 || pair->n_out == 0 || (pair->rank == 0 && !loader->terms.is_adalora))
        return fail_tensor(loader, LRK_ERR_FORMAT, pair->n_out == 0 ? b.name : a.name, "a dimension is 0");
    if (!loader->terms.is_adalora) return LRK_OK;
    lrk_safetensors_tensor e = facts_of(loader, pair->e);
    status = check_matrix(loader, &e);
    if (status != LRK_OK || (e.shape[0] == pair->rank && e.shape[1] == 1)) return status;
    return fail_tensor(loader, LRK_ERR_FORMAT, e.name, "its shape does not conform with lora_A");
}

static lrk_status take_pair(foreign_loader *loader, int64_t index, const char *tensor, size_t n_base)
{
    foreign_pair *pair = &loader->pairs[loader->n_pairs];
    size_t n_prefix = strlen(LRKI_PEFT_PREFIX);
    *pair = (foreign_pair){.a = index, .module = NO_MODULE};
    lrk_status status = find_half(loader, tensor, n_base, suffix_b(loader), &pair->b);
    if (status == LRK_OK && loader->terms.is_adalora)
        status = find_half(loader, tensor, n_base, LRKI_PEFT_E, &pair->e);
    if (status == LRK_OK) status = check_pair(loader, pair);
    if (status != LRK_OK) return status;
    size_t n = n_base - n_prefix + 1;
    pair->dotted = lrki_alloc_zeroed(loader->context, n + 1);
    if (pair->dotted == NULL) return lrki_fail_nomem(loader->context, tensor);
    memcpy(pair->dotted, tensor + n_prefix - 1, n);
    loader->n_pairs++;
    return LRK_OK;
}

/* Takes lora_A with what belongs to it; the other tensors are checked to have a lora_A. */
static lrk_status take_tensor(foreign_loader *loader, int64_t index)
{
    int64_t other;
    const char *tensor = facts_of(loader, index).name;
    const char *suffix = ends_with(tensor, suffix_a(loader))                          ? suffix_a(loader)
                         : ends_with(tensor, suffix_b(loader))                        ? suffix_b(loader)
                         : loader->terms.is_adalora && ends_with(tensor, LRKI_PEFT_E) ? LRKI_PEFT_E
                                                                                      : NULL;
    if (suffix == NULL) return fail_tensor(loader, LRK_ERR_UNSUPPORTED, tensor, what_is(tensor));
    size_t n_base = strlen(tensor) - strlen(suffix);
    if (strncmp(tensor, LRKI_PEFT_PREFIX, strlen(LRKI_PEFT_PREFIX)) != 0 ||
        n_base <= strlen(LRKI_PEFT_PREFIX))
        return fail_tensor(loader, LRK_ERR_UNSUPPORTED, tensor,
                           "its name does not begin with " LRKI_PEFT_PREFIX);
    if (suffix == suffix_a(loader)) return take_pair(loader, index, tensor, n_base);
    return find_half(loader, tensor, n_base, suffix_a(loader), &other);
}

static int by_name(const void *left, const void *right)
{
    return strcmp(((const foreign_pair *)left)->dotted, ((const foreign_pair *)right)->dotted);
}

static lrk_status gather_pairs(foreign_loader *loader)
{
    lrk_status status = LRK_OK;
    loader->n_tensors = lrk_safetensors_count(loader->file);
    if (loader->n_tensors == 0)
        return lrki_fail(loader->context, LRK_ERR_FORMAT, "%s: no tensors", loader->name);
    loader->pairs = lrki_array(loader->context, loader->n_tensors, sizeof *loader->pairs);
    if (loader->pairs == NULL) return lrki_fail_nomem(loader->context, loader->name);
    for (int64_t i = 0; i < loader->n_tensors && status == LRK_OK; i++)
        status = take_tensor(loader, i);
    qsort(loader->pairs, (size_t)loader->n_pairs, sizeof *loader->pairs, by_name);
    return status;
}

/* ---- modules ---- */

/* Rank and scale of a pair, put into the spec of its module. */
static lrk_status set_spec(const foreign_loader *loader, const foreign_pair *pair, lrk_module_spec *spec)
{
    spec->rank = pair->rank;
    spec->scale_rule = LRK_SCALE_EXPLICIT;
    return lrki_peft_terms_scale(loader->context, &loader->terms, pair->dotted + 1, pair->rank, &spec->scale);
}

static lrk_status own_modules(foreign_loader *loader)
{
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < loader->n_pairs && status == LRK_OK; i++) {
        foreign_pair *pair = &loader->pairs[i];
        lrk_module_spec *spec = &loader->specs[i];
        (void)lrk_module_spec_init(spec, sizeof *spec);
        spec->name = pair->dotted + 1;
        spec->n_in = pair->n_in;
        spec->n_out = pair->n_out;
        pair->module = i;
        status = set_spec(loader, pair, spec);
    }
    return status;
}

static lrk_status check_fit(const foreign_loader *loader, const foreign_pair *pair, int64_t found,
                            const foreign_pair *earlier)
{
    const char *pair_name = pair->dotted + 1;
    if (found == LRKI_NAMES_NONE)
        return lrki_fail(loader->context, LRK_ERR_NOT_FOUND, "%s: pair '%s' is for none of the modules",
                         loader->name, pair_name);
    if (found == LRKI_NAMES_SEVERAL)
        return lrki_fail(loader->context, LRK_ERR_ARGUMENT, "%s: pair '%s' fits several modules",
                         loader->name, pair_name);
    const lrk_module_spec *spec = &loader->specs[found];
    if (earlier != NULL)
        return lrki_fail(loader->context, LRK_ERR_ARGUMENT, "%s: pairs '%s' and '%s' both fit module '%s'",
                         loader->name, earlier->dotted + 1, pair_name, spec->name);
    if (spec->n_in == pair->n_in && spec->n_out == pair->n_out) return LRK_OK;
    return lrki_fail(loader->context, LRK_ERR_SHAPE,
                     "%s: pair '%s' is %" PRId64 " x %" PRId64 ", module '%s' is %" PRId64 " x %" PRId64,
                     loader->name, pair_name, pair->n_out, pair->n_in, spec->name, spec->n_out, spec->n_in);
}

/* taken[i]: the pair of module i, or NULL. */
static lrk_status give_pairs(foreign_loader *loader, const lrki_peft_names *names, const foreign_pair **taken)
{
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < loader->n_pairs && status == LRK_OK; i++) {
        foreign_pair *pair = &loader->pairs[i];
        int64_t found = lrki_peft_names_find(names, pair->dotted);
        status = check_fit(loader, pair, found, found < 0 ? NULL : taken[found]);
        if (status != LRK_OK) break;
        taken[found] = pair;
        pair->module = found;
        status = set_spec(loader, pair, &loader->specs[found]);
    }
    return status;
}

static lrk_status match_modules(foreign_loader *loader, const lrk_module_spec *modules)
{
    lrki_peft_names names = {0};
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < loader->n_specs && status == LRK_OK; i++)
        status = lrki_loaded_spec(loader->context, modules, i, &loader->specs[i]);
    if (status != LRK_OK) return status;
    const foreign_pair **taken = lrki_array(loader->context, loader->n_specs, sizeof *taken);
    status = taken == NULL ? lrki_fail_nomem(loader->context, "modules")
                           : lrki_peft_names_make(loader->context, loader->specs, loader->n_specs, &names);
    if (status == LRK_OK) status = give_pairs(loader, &names, taken);
    lrki_peft_names_free(&names);
    lrki_array_free(loader->context, taken, loader->n_specs, sizeof *taken);
    return status;
}

static lrk_status make_specs(foreign_loader *loader, const lrk_module_spec *modules, int64_t n_modules)
{
    loader->n_specs = modules == NULL ? loader->n_pairs : n_modules;
    loader->specs = lrki_array(loader->context, loader->n_specs, sizeof *loader->specs);
    if (loader->specs == NULL) return lrki_fail_nomem(loader->context, "the modules of an adapter");
    return modules == NULL ? own_modules(loader) : match_modules(loader, modules);
}

/* ---- values ---- */

static lrk_status read_values(const foreign_loader *loader, int64_t index, float *values, int64_t n)
{
    lrk_status status = lrk_safetensors_read_f32(loader->file, index, values, n);
    if (status != LRK_OK || lrki_all_finite(values, n)) return status;
    return fail_tensor(loader, LRK_ERR_FORMAT, facts_of(loader, index).name, "a value is not finite");
}

/* B of the file is [n_out x rank], the set's [rank x n_out]. */
static lrk_status fill_b(const foreign_loader *loader, const foreign_pair *pair, float *b)
{
    int64_t count = pair->rank * pair->n_out;
    float *stored = lrki_array(loader->context, count, sizeof *stored);
    if (stored == NULL) return lrki_fail_nomem(loader->context, pair->dotted + 1);
    lrk_status status = read_values(loader, pair->b, stored, count);
    if (status == LRK_OK) lrki_fold_transpose(stored, pair->rank, pair->n_out, b, pair->n_out);
    lrki_array_free(loader->context, stored, count, sizeof *stored);
    return status;
}

static lrk_status fill_pair(const foreign_loader *loader, const foreign_pair *pair, lrki_bank *bank)
{
    if (pair->rank == 0) return LRK_OK;
    lrk_status status = read_values(loader, pair->a, bank->a, pair->rank * pair->n_in);
    if (status == LRK_OK) status = fill_b(loader, pair, bank->b);
    if (status == LRK_OK && loader->terms.is_adalora)
        status = read_values(loader, pair->e, bank->gates, pair->rank);
    return status;
}

static lrk_status create_set(const foreign_loader *loader, const lrk_adapters_options *options,
                             lrk_adapters **adapters)
{
    lrk_status status =
        lrki_adapters_create_unset(loader->context, loader->specs, loader->n_specs, options, adapters);
    if (status != LRK_OK || !lrki_loaded_wants_values(*adapters)) return status;
    lrki_filling filling = lrki_filling_begin(*adapters, options, "loading");
    for (int64_t i = 0; i < loader->n_pairs && status == LRK_OK; i++) {
        const foreign_pair *pair = &loader->pairs[i];
        status = fill_pair(loader, pair, &(*adapters)->modules[pair->module].bank);
        if (status == LRK_OK) status = lrki_filling_tell(&filling, pair->module);
    }
    return lrki_loaded_end(status, adapters);
}

/* ---- the call ---- */

static void loader_free(foreign_loader *loader)
{
    for (int64_t i = 0; i < loader->n_pairs; i++)
        lrki_text_free(loader->context, loader->pairs[i].dotted);
    lrki_array_free(loader->context, loader->pairs, loader->n_tensors, sizeof *loader->pairs);
    lrki_array_free(loader->context, loader->specs, loader->n_specs, sizeof *loader->specs);
}

lrk_status lrki_peft_foreign_load(const lrki_peft_files *files, const lrk_module_spec *modules,
                                  int64_t n_modules, const lrk_adapters_options *options,
                                  lrk_adapters **adapters)
{
    foreign_loader loader = {.context = files->context, .file = files->model, .name = files->model_name};
    lrk_status status =
        lrki_peft_terms_read(files->context, files->config_name, files->config, &loader.terms);
    if (status == LRK_OK) status = gather_pairs(&loader);
    if (status == LRK_OK) status = make_specs(&loader, modules, n_modules);
    if (status == LRK_OK) status = create_set(&loader, options, adapters);
    loader_free(&loader);
    return status;
}
