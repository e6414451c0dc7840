/* SPDX-License-Identifier: MIT */
/*
 * What a set tells: totals, modules, ranks, and borrowed views of its tensors. Nothing here changes a set, except that
 * lrk_adapters_values_changed() records that the host did.
 */
#include <string.h>

#include "bank.h"
#include "spec.h"

#define HEAD (2 * sizeof(uint32_t))

static size_t module_bytes(const lrki_module *module)
{
    const lrki_bank *bank = &module->bank;
    return strlen(module->name) + 1 + bank->block_bytes +
           (size_t)bank->capacity * (sizeof *bank->identities + sizeof *bank->births);
}

static size_t set_bytes(const lrk_adapters *adapters)
{
    size_t bytes = sizeof *adapters + (size_t)adapters->n_modules * sizeof *adapters->modules +
                   (size_t)adapters->names.n_slots * sizeof *adapters->names.slots;
    for (int64_t i = 0; i < adapters->n_modules; i++)
        bytes += module_bytes(&adapters->modules[i]);
    return bytes;
}

lrk_status lrk_adapters_info_get(const lrk_adapters *adapters, lrk_adapters_info *info)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_adapters_info_get");
    if (status != LRK_OK) return status;
    lrk_adapters_info filled = {.flags = adapters->flags,
                                .modules = adapters->n_modules,
                                .ranks = adapters->n_ranks,
                                .generation = adapters->generation,
                                .values_version = adapters->values_version,
                                .next_identity = adapters->next_identity,
                                .memory = set_bytes(adapters)};
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *module = &adapters->modules[i];
        filled.parameters += module->bank.rank * (module->n_in + module->n_out);
    }
    return lrki_struct_write(adapters->context, info, &filled, sizeof filled, "lrk_adapters_info");
}

lrk_status lrk_adapters_module(const lrk_adapters *adapters, int32_t module, lrk_module_info *info)
{
    lrk_status status = lrki_adapters_enter_module(adapters, module, "lrk_adapters_module");
    if (status != LRK_OK) return status;
    const lrki_module *m = &adapters->modules[module];
    const lrk_module_info filled = {.flags = m->flags,
                                    .name = m->name,
                                    .kind = m->kind,
                                    .stage = m->stage,
                                    .n_in = m->n_in,
                                    .n_out = m->n_out,
                                    .rank = m->bank.rank,
                                    .initial_rank = m->initial_rank,
                                    .capacity = m->bank.capacity,
                                    .input_group = m->input_group,
                                    .scale = m->scale};
    return lrki_struct_write(adapters->context, info, &filled, sizeof filled, "lrk_module_info");
}

lrk_status lrk_adapters_find(const lrk_adapters *adapters, const char *name, int32_t *index)
{
    if (index != NULL) *index = -1;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_adapters_find");
    if (status != LRK_OK) return status;
    if (name == NULL || index == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_adapters_find: name or index is NULL");
    *index = lrki_table_find_name(&adapters->names, adapters->modules, name);
    if (*index >= 0) return LRK_OK;
    return lrki_fail(adapters->context, LRK_ERR_NOT_FOUND, "no module is named '%s'", name);
}

/* ---- tensors ------------------------------------------------------------------------------------------------------- */

static float *tensor_data(const lrki_module *module, int32_t which, int64_t *cols)
{
    const lrki_bank *bank = &module->bank;
    float *const data[] = {bank->a, bank->b, bank->gates, bank->grad_a, bank->grad_b, bank->grad_gates};
    const int64_t widths[] = {module->n_in, module->n_out, 1};
    *cols = widths[which % 3];
    return data[which];
}

lrk_status lrk_adapters_tensor(const lrk_adapters *adapters, int32_t module, int32_t which,
                               lrk_tensor *tensor)
{
    lrk_status status = lrki_adapters_enter_module(adapters, module, "lrk_adapters_tensor");
    if (status != LRK_OK) return status;
    if (which < LRK_TENSOR_A || which > LRK_TENSOR_GRAD_GATES)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_adapters_tensor: unknown tensor %d",
                         (int)which);
    if (which >= LRK_TENSOR_GRAD_A) status = lrki_adapters_enter_gradients(adapters, "lrk_adapters_tensor");
    if (status != LRK_OK) return status;
    const lrki_module *m = &adapters->modules[module];
    lrk_tensor filled = {.rows = m->bank.rank, .generation = adapters->generation};
    filled.data = tensor_data(m, which, &filled.cols);
    filled.ld = filled.cols;
    return lrki_struct_write(adapters->context, tensor, &filled, sizeof filled, "lrk_tensor");
}

typedef struct writer {
    lrk_segment *segments;
    int64_t capacity;
    uint32_t step;
    int64_t n;
} writer;

static lrk_status put_segment(lrk_context *context, writer *w, int32_t module, float *data, int64_t count)
{
    const lrk_segment filled = {.module = module, .data = data, .count = count};
    int64_t i = w->n++;
    if (i >= w->capacity) return LRK_OK;
    unsigned char *at = (unsigned char *)w->segments + (size_t)i * w->step;
    memcpy(at, &w->step, sizeof w->step);
    return lrki_struct_write(context, at, &filled, sizeof filled, "lrk_segment");
}

static lrk_status put_module(const lrk_adapters *adapters, int32_t module, int32_t which, writer *w)
{
    const lrki_module *m = &adapters->modules[module];
    const lrki_bank *bank = &m->bank;
    float *a = which == LRK_FLAT_PARAMETERS ? bank->a : bank->grad_a;
    float *b = which == LRK_FLAT_PARAMETERS ? bank->b : bank->grad_b;
    int64_t in = bank->rank * m->n_in, out = bank->rank * m->n_out;
    if (!adapters->host_storage) return put_segment(adapters->context, w, module, a, in + out);
    lrk_status status = put_segment(adapters->context, w, module, a, in);
    return status == LRK_OK ? put_segment(adapters->context, w, module, b, out) : status;
}

static lrk_status check_flat(const lrk_adapters *adapters, int32_t which, const lrk_segment *segments,
                             int64_t capacity, const int64_t *n)
{
    if (which != LRK_FLAT_PARAMETERS && which != LRK_FLAT_GRADIENTS)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_adapters_flat: unknown flat view %d",
                         (int)which);
    if (n == NULL || capacity < 0 || (segments == NULL && capacity > 0))
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT,
                         "lrk_adapters_flat: n is NULL or there are no segments");
    if (capacity > 0 && segments[0].struct_size < HEAD)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_segment: struct_size %u is too small",
                         (unsigned)segments[0].struct_size);
    return LRK_OK;
}

lrk_status lrk_adapters_flat(const lrk_adapters *adapters, int32_t which, lrk_segment *segments,
                             int64_t capacity, int64_t *n)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_adapters_flat");
    if (status == LRK_OK) status = check_flat(adapters, which, segments, capacity, n);
    if (status == LRK_OK && which == LRK_FLAT_GRADIENTS)
        status = lrki_adapters_enter_gradients(adapters, "lrk_adapters_flat");
    if (status != LRK_OK) return status;
    writer w = {
        .segments = segments, .capacity = capacity, .step = capacity > 0 ? segments[0].struct_size : 0};
    for (int64_t i = 0; i < adapters->n_modules && status == LRK_OK; i++)
        status = put_module(adapters, (int32_t)i, which, &w);
    *n = w.n;
    return status;
}

/* ---- ranks --------------------------------------------------------------------------------------------------------- */

lrk_status lrk_adapters_ranks(const lrk_adapters *adapters, int32_t module, const uint64_t **identities,
                              const int64_t **births, int64_t *n)
{
    lrk_status status = lrki_adapters_enter_module(adapters, module, "lrk_adapters_ranks");
    if (status != LRK_OK) return status;
    if (n == NULL) return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_adapters_ranks: n is NULL");
    const lrki_bank *bank = &adapters->modules[module].bank;
    if (identities != NULL) *identities = bank->identities;
    if (births != NULL) *births = bank->births;
    *n = bank->rank;
    return LRK_OK;
}

static int64_t index_of(const lrki_bank *bank, uint64_t identity)
{
    for (int64_t j = 0; j < bank->rank; j++)
        if (bank->identities[j] == identity) return j;
    return -1;
}

lrk_status lrk_adapters_find_rank(const lrk_adapters *adapters, uint64_t identity, int32_t *module,
                                  int64_t *index)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_adapters_find_rank");
    if (status != LRK_OK) return status;
    if (module == NULL || index == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT,
                         "lrk_adapters_find_rank: module or index is NULL");
    *module = -1;
    *index = -1;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        int64_t j = index_of(&adapters->modules[i].bank, identity);
        if (j < 0) continue;
        *module = (int32_t)i;
        *index = j;
        return LRK_OK;
    }
    lrki_place place = {.module = LRKI_NO_MODULE, .identity = identity};
    return lrki_fail_at(adapters->context, LRK_ERR_NOT_FOUND, place, "no live rank has identity %llu",
                        (unsigned long long)identity);
}

lrk_status lrk_adapters_values_changed(lrk_adapters *adapters)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_adapters_values_changed");
    if (status != LRK_OK) return status;
    if (__atomic_load_n(&adapters->open_passes, __ATOMIC_ACQUIRE) > 0)
        return lrki_fail(adapters->context, LRK_ERR_BUSY,
                         "lrk_adapters_values_changed: a pass is open; lrk_pass_end() it first");
    adapters->values_version++;
    return LRK_OK;
}
