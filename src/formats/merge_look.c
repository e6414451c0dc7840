/* SPDX-License-Identifier: MIT */
/*
 * Which modules have their weights in which file, and whether those can take a delta.
 */
#include <fnmatch.h>
#include <string.h>

#include "merge_parts.h"

#include "../adapters/delta.h"

#define WEIGHT ".weight"

bool lrki_merge_transposed(const lrki_merge *merge, int64_t module)
{
    const char *glob = merge->options.transposed;
    return glob != NULL && fnmatch(glob, merge->adapters->modules[module].name, 0) == 0;
}

static lrk_status check_transposed(const lrki_merge *merge)
{
    const lrk_adapters *adapters = merge->adapters;
    if (merge->options.transposed == NULL) return LRK_OK;
    for (int64_t m = 0; m < adapters->n_modules; m++)
        if (lrki_merge_transposed(merge, m)) return LRK_OK;
    return lrki_fail(merge->context, LRK_ERR_NOT_FOUND, "transposed '%s' matches no module",
                     merge->options.transposed);
}

lrk_status lrki_merge_begin(lrki_merge *merge, const lrk_merge_options *options)
{
    lrk_context *context = merge->context;
    (void)lrk_merge_options_init(&merge->options, sizeof merge->options);
    lrk_status status = lrki_struct_read(context, &merge->options, sizeof merge->options, options,
                                         2 * sizeof(uint32_t), "lrk_merge_options");
    if (status != LRK_OK) return status;
    if ((merge->options.flags & ~LRK_MERGE_ALLOW_LOST) != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_merge_options: unknown flags 0x%x",
                         (unsigned)merge->options.flags);
    if (merge->options.prefix == NULL) merge->options.prefix = "";
    merge->found = lrki_array(context, merge->adapters->n_modules, sizeof *merge->found);
    return merge->found != NULL ? check_transposed(merge) : lrki_fail_nomem(context, "a merge");
}

void lrki_merge_end(lrki_merge *merge)
{
    if (merge->found != NULL)
        lrki_array_free(merge->context, merge->found, merge->adapters->n_modules, sizeof *merge->found);
    merge->found = NULL;
}

/* Index of a module's weight in the file, or LRK_ERR_NOT_FOUND. */
static lrk_status find_weight(const lrki_merge *merge, const lrk_safetensors *file, int64_t module,
                              int64_t *tensor)
{
    const char *parts[] = {merge->options.prefix, merge->adapters->modules[module].name, WEIGHT};
    size_t n = strlen(parts[0]) + strlen(parts[1]) + sizeof WEIGHT;
    char *name = lrki_alloc_zeroed(merge->context, n);
    if (name == NULL) return lrki_fail_nomem(merge->context, parts[1]);
    strcat(strcat(strcpy(name, parts[0]), parts[1]), parts[2]);
    lrk_status status = lrk_safetensors_find(file, name, tensor);
    lrki_free(merge->context, name, n);
    return status;
}

lrk_status lrki_merge_tensor(const lrki_merge *merge, const lrk_safetensors *file, int64_t i,
                             lrk_safetensors_tensor *facts)
{
    *facts = (lrk_safetensors_tensor){.struct_size = sizeof *facts};
    lrk_status status = lrk_safetensors_get(file, i, facts);
    if (status != LRK_OK || facts->n_dims <= LRK_SAFETENSORS_MAX_DIMS) return status;
    return lrki_fail(merge->context, LRK_ERR_UNSUPPORTED, "tensor '%s' has more than %d dimensions",
                     facts->name, LRK_SAFETENSORS_MAX_DIMS);
}

/* A matrix, or a convolution of one point. */
static bool is_matrix(const lrk_safetensors_tensor *facts)
{
    for (int32_t d = 2; d < facts->n_dims; d++)
        if (facts->shape[d] != 1) return false;
    return facts->n_dims >= 2;
}

static lrk_status check_weight(const lrki_merge *merge, int64_t module, const lrk_safetensors_tensor *facts)
{
    const lrki_module *m = &merge->adapters->modules[module];
    lrki_place place = {.module = (int32_t)module};
    bool turned = lrki_merge_transposed(merge, module);
    int64_t rows = turned ? m->n_in : m->n_out, cols = turned ? m->n_out : m->n_in;
    if (!facts->readable)
        return lrki_fail_at(merge->context, LRK_ERR_UNSUPPORTED, place,
                            "tensor '%s' is %s: nothing can be merged into it", facts->name, facts->dtype);
    if (is_matrix(facts) && facts->shape[0] == rows && facts->shape[1] == cols) return LRK_OK;
    bool other_way = is_matrix(facts) && facts->shape[0] == cols && facts->shape[1] == rows;
    return lrki_fail_at(merge->context, LRK_ERR_SHAPE, place,
                        "tensor '%s' is not %lld x %lld as module '%s' is%s", facts->name, (long long)rows,
                        (long long)cols, m->name,
                        !other_way ? ""
                        : turned   ? ": it is not transposed"
                                   : ": it is transposed");
}

lrk_status lrki_merge_find(const lrki_merge *merge, const lrk_safetensors *file, int64_t module,
                           int64_t *tensor)
{
    lrk_safetensors_tensor facts;
    *tensor = -1;
    if (merge->adapters->modules[module].bank.rank == 0) return LRK_OK;
    lrk_status status = find_weight(merge, file, module, tensor);
    if (status == LRK_ERR_NOT_FOUND) return LRK_OK;
    if (status == LRK_OK) status = lrki_merge_tensor(merge, file, *tensor, &facts);
    return status == LRK_OK ? check_weight(merge, module, &facts) : status;
}

lrk_status lrki_merge_look(lrki_merge *merge, const lrk_safetensors *file)
{
    lrk_safetensors_tensor facts;
    int64_t tensor, n = lrk_safetensors_count(file);
    for (int64_t i = 0; i < n; i++) {
        lrk_status status = lrki_merge_tensor(merge, file, i, &facts);
        if (status != LRK_OK) return status;
        merge->total += facts.bytes;
    }
    for (int64_t m = 0; m < merge->adapters->n_modules; m++) {
        lrk_status status = lrki_merge_find(merge, file, m, &tensor);
        if (status != LRK_OK) return status;
        merge->found[m] = merge->found[m] || tensor >= 0;
    }
    return LRK_OK;
}

lrk_status lrki_merge_check(const lrki_merge *merge)
{
    for (int32_t m = 0; m < merge->adapters->n_modules; m++) {
        const lrki_module *module = &merge->adapters->modules[m];
        if (module->bank.rank > 0 && !merge->found[m])
            return lrki_fail_at(merge->context, LRK_ERR_NOT_FOUND, (lrki_place){.module = m},
                                "module '%s': the model has no tensor '%s%s" WEIGHT "'", module->name,
                                merge->options.prefix, module->name);
        lrk_status status = lrki_parameters_check(merge->adapters, m);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}
