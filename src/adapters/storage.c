/* SPDX-License-Identifier: MIT */
/*
 * Banks: where a module's rows lie. The library's own memory is one exact block a module, so that dropped ranks give
 * their bytes back; memory of the host has a capacity, rows within it are reused and rows past the rank never touched.
 * What goes into rows is decided by change.c and snapshot.c.
 * Invariant: between prepare and commit or abandon the set's present banks are as they were.
 */
#include <string.h>

#include "bank.h"

int64_t lrki_module_row(const lrki_module *module)
{
    return module->n_in + module->n_out + 1;
}

static bool has_gradients(const lrk_adapters *adapters)
{
    return (adapters->flags & LRK_ADAPTERS_INFERENCE) == 0;
}

/* ---- the library's own memory ---------------------------------------------------------------------------------------- */

static lrk_status take_ranks(lrk_adapters *adapters, int32_t module, lrki_bank *bank)
{
    if (bank->capacity == 0) return LRK_OK;
    bank->identities = lrki_array(adapters->context, bank->capacity, sizeof *bank->identities);
    bank->births = lrki_array(adapters->context, bank->capacity, sizeof *bank->births);
    if (bank->identities != NULL && bank->births != NULL) return LRK_OK;
    return lrki_fail_at(adapters->context, LRK_ERR_NOMEM, (lrki_place){.module = module},
                        "out of memory for the ranks of module '%s'", adapters->modules[module].name);
}

static void lay_out(const lrki_module *module, bool gradients, lrki_bank *bank)
{
    float *next = bank->block;
    int64_t rank = bank->rank;
    if (next == NULL) return;
    bank->a = next;
    bank->b = next += rank * module->n_in;
    next += rank * module->n_out;
    if (gradients) {
        bank->grad_a = next;
        bank->grad_b = next += rank * module->n_in;
        next += rank * module->n_out;
    }
    bank->gates = next;
    if (gradients) bank->grad_gates = next + rank;
}

lrk_status lrki_bank_own(lrk_adapters *adapters, int32_t module, int64_t rank, bool gradients,
                         lrki_bank *bank)
{
    const lrki_module *m = &adapters->modules[module];
    int64_t floats, bytes;
    *bank = (lrki_bank){.rank = rank, .capacity = rank};
    if (!lrki_mul(lrki_module_row(m), gradients ? 2 : 1, &floats) || !lrki_mul(floats, rank, &floats) ||
        !lrki_mul(floats, (int64_t)sizeof(float), &bytes))
        return lrki_fail_at(adapters->context, LRK_ERR_SHAPE, (lrki_place){.module = module},
                            "module '%s': the size of rank %lld overflows", m->name, (long long)rank);
    bank->block_bytes = (size_t)bytes;
    bank->block = lrki_alloc(adapters->context, bank->block_bytes);
    lrk_status status = LRK_OK;
    if (bank->block == NULL && rank > 0)
        status = lrki_fail_at(adapters->context, LRK_ERR_NOMEM, (lrki_place){.module = module},
                              "out of memory for rank %lld of module '%s'", (long long)rank, m->name);
    if (status == LRK_OK) status = take_ranks(adapters, module, bank);
    if (status == LRK_OK)
        lay_out(m, gradients, bank);
    else
        lrki_bank_free(adapters->context, bank);
    return status;
}

void lrki_bank_free(lrk_context *context, lrki_bank *bank)
{
    lrki_array_free(context, bank->identities, bank->capacity, sizeof *bank->identities);
    lrki_array_free(context, bank->births, bank->capacity, sizeof *bank->births);
    lrki_free(context, bank->block, bank->block_bytes);
    *bank = (lrki_bank){0};
}

/* ---- the host's memory ----------------------------------------------------------------------------------------------- */

static bool enter_host(lrk_adapters *adapters)
{
    bool before = adapters->in_host_callback;
    adapters->in_host_callback = adapters->in_storage_callback = true;
    return before;
}

static void leave_host(lrk_adapters *adapters, bool before)
{
    adapters->in_storage_callback = false;
    adapters->in_host_callback = before;
}

static void tell_host(lrk_adapters *adapters, int32_t module, void (*what)(void *user, int32_t module))
{
    bool before = enter_host(adapters);
    what(adapters->storage.user, module);
    leave_host(adapters, before);
}

static bool buffers_are_whole(const lrk_module_buffers *given, int64_t rank, bool gradients)
{
    if (given->capacity < rank) return false;
    if (given->capacity == 0) return true;
    if (given->a == NULL || given->b == NULL || given->gates == NULL) return false;
    return !gradients || (given->grad_a != NULL && given->grad_b != NULL && given->grad_gates != NULL);
}

static lrki_bank bank_of_buffers(const lrk_module_buffers *given, int64_t rank, bool gradients)
{
    lrki_bank bank = {.rank = rank, .capacity = given->capacity};
    bank.a = given->a;
    bank.b = given->b;
    bank.gates = given->gates;
    if (gradients) {
        bank.grad_a = given->grad_a;
        bank.grad_b = given->grad_b;
        bank.grad_gates = given->grad_gates;
    }
    return bank;
}

static lrk_status ask_host(lrk_adapters *adapters, int32_t module, int64_t rank, lrki_bank *bank)
{
    lrk_module_buffers given = {.struct_size = sizeof given};
    const char *name = adapters->modules[module].name;
    lrki_place place = {.module = module};
    bool before = enter_host(adapters);
    int32_t refused = adapters->storage.prepare(adapters->storage.user, module, rank, &given);
    leave_host(adapters, before);
    if (refused != 0)
        return lrki_fail_at(adapters->context, LRK_ERR_HOST, place,
                            "the host's storage refused rank %lld of module '%s' (%d)", (long long)rank, name,
                            (int)refused);
    lrk_status status = LRK_OK;
    if (!buffers_are_whole(&given, rank, has_gradients(adapters)))
        status = lrki_fail_at(adapters->context, LRK_ERR_HOST, place,
                              "the host's storage gave buffers without room for rank %lld of module '%s'",
                              (long long)rank, name);
    if (status == LRK_OK) {
        *bank = bank_of_buffers(&given, rank, has_gradients(adapters));
        status = take_ranks(adapters, module, bank);
    }
    if (status == LRK_OK) return LRK_OK;
    lrki_bank_free(adapters->context, bank);
    tell_host(adapters, module, adapters->storage.abandon);
    return status;
}

/* ---- exchange ---------------------------------------------------------------------------------------------------------- */

lrki_bank_next *lrki_banks_new(lrk_adapters *adapters)
{
    lrki_bank_next *next = lrki_array(adapters->context, adapters->n_modules, sizeof *next);
    if (next == NULL) lrki_fail_nomem(adapters->context, "a change of ranks");
    return next;
}

void lrki_banks_free(lrk_adapters *adapters, lrki_bank_next *next)
{
    lrki_array_free(adapters->context, next, adapters->n_modules, sizeof *next);
}

static bool fits_present(const lrk_adapters *adapters, const lrki_bank *bank, int64_t rank)
{
    return adapters->host_storage ? rank <= bank->capacity : rank == bank->capacity;
}

static lrk_status prepare_one(lrk_adapters *adapters, int32_t module, lrki_bank_next *next)
{
    const lrki_bank *present = &adapters->modules[module].bank;
    next->fresh = !fits_present(adapters, present, next->rank);
    if (!next->fresh) return LRK_OK;
    if (!adapters->host_storage)
        return lrki_bank_own(adapters, module, next->rank, has_gradients(adapters), &next->bank);
    if ((adapters->storage.flags & LRK_STORAGE_FIXED) != 0 && present->capacity != LRKI_NO_STORAGE)
        return lrki_fail_at(adapters->context, LRK_ERR_BUDGET, (lrki_place){.module = module},
                            "module '%s': rank %lld exceeds the fixed capacity %lld",
                            adapters->modules[module].name, (long long)next->rank,
                            (long long)present->capacity);
    return ask_host(adapters, module, next->rank, &next->bank);
}

static void abandon_one(lrk_adapters *adapters, int32_t module, lrki_bank_next *next)
{
    if (!next->fresh) return;
    lrki_bank_free(adapters->context, &next->bank);
    if (adapters->host_storage) tell_host(adapters, module, adapters->storage.abandon);
}

static void abandon_first(lrk_adapters *adapters, lrki_bank_next *next, int64_t n)
{
    while (n-- > 0)
        abandon_one(adapters, (int32_t)n, &next[n]);
}

lrk_status lrki_banks_prepare(lrk_adapters *adapters, lrki_bank_next *next)
{
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        lrk_status status = prepare_one(adapters, (int32_t)i, &next[i]);
        if (status == LRK_OK) continue;
        abandon_first(adapters, next, i);
        return status;
    }
    adapters->change_pending = true;
    return LRK_OK;
}

void lrki_banks_abandon(lrk_adapters *adapters, lrki_bank_next *next)
{
    abandon_first(adapters, next, adapters->n_modules);
    adapters->change_pending = false;
}

lrki_bank *lrki_bank_target(lrk_adapters *adapters, int32_t module, lrki_bank_next *next)
{
    return next->fresh ? &next->bank : &adapters->modules[module].bank;
}

static void recount(lrk_adapters *adapters)
{
    adapters->n_ranks = 0;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        adapters->modules[i].first_rank = adapters->n_ranks;
        adapters->n_ranks += adapters->modules[i].bank.rank;
    }
}

void lrki_banks_commit(lrk_adapters *adapters, lrki_bank_next *next)
{
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        lrki_bank *present = &adapters->modules[i].bank;
        if (next[i].fresh) {
            lrki_bank_free(adapters->context, present);
            *present = next[i].bank;
        }
        present->rank = next[i].rank;
    }
    recount(adapters);
    lrki_gradients_clear(adapters);
    for (int64_t i = 0; i < adapters->n_modules && adapters->host_storage; i++)
        if (next[i].fresh) tell_host(adapters, (int32_t)i, adapters->storage.commit);
    adapters->change_pending = false;
}
