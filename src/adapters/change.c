/* SPDX-License-Identifier: MIT */
/*
 * Changes of ranks: which rows stay, move and begin. Memory is storage.c's; which ranks go and come is decided above.
 * Values are copied at commit, not before: what the host wrote meanwhile counts.
 * Invariant: commit allocates nothing and cannot fail.
 */
#include <string.h>

#include "bank.h"
#include "direction.h"

struct lrki_change {
    lrk_adapters *adapters;
    const lrki_module_change *parts;
    int64_t step;
    lrki_directions directions;
    lrki_bank_next *next;
};

static bool is_unchanged(const lrki_module *module, const lrki_module_change *part)
{
    return part->n_added == 0 && part->n_kept == module->bank.rank;
}

static lrk_status prepare(lrki_change *change)
{
    lrk_adapters *adapters = change->adapters;
    change->next = lrki_banks_new(adapters);
    if (change->next == NULL) return LRK_ERR_NOMEM;
    for (int64_t i = 0; i < adapters->n_modules; i++)
        change->next[i].rank = change->parts[i].n_kept + change->parts[i].n_added;
    lrk_status status = lrki_directions_prepare(adapters, change->parts, &change->directions);
    if (status == LRK_OK) status = lrki_banks_prepare(adapters, change->next);
    if (status == LRK_OK) return LRK_OK;
    lrki_directions_free(adapters, &change->directions);
    lrki_banks_free(adapters, change->next);
    return status;
}

lrk_status lrki_change_prepare(lrk_adapters *adapters, const lrki_module_change *parts, int64_t step,
                               int32_t init, lrki_change **change)
{
    *change = NULL;
    lrk_status status = lrki_adapters_check_idle(adapters, "a change of ranks");
    if (status != LRK_OK) return status;
    lrki_change *made = lrki_alloc(adapters->context, sizeof *made);
    if (made == NULL) return lrki_fail_nomem(adapters->context, "a change of ranks");
    *made = (lrki_change){.adapters = adapters, .parts = parts, .step = step, .directions = {.init = init}};
    status = prepare(made);
    if (status == LRK_OK)
        *change = made;
    else
        lrki_free(adapters->context, made, sizeof *made);
    return status;
}

/* Floats of n rows of width `cols` from row `from` of one buffer to row `to` of another, which may be the same. */
static void move_floats(float *to_base, int64_t to, const float *from_base, int64_t from, int64_t cols)
{
    memmove(to_base + to * cols, from_base + from * cols, (size_t)cols * sizeof(float));
}

/* Kept rows move up in ascending order, so that a bank can be compacted into itself. */
static void move_row(const lrki_module *module, lrki_bank *to, int64_t i, const lrki_bank *from, int64_t j)
{
    move_floats(to->a, i, from->a, j, module->n_in);
    move_floats(to->b, i, from->b, j, module->n_out);
    to->gates[i] = from->gates[j];
    to->identities[i] = from->identities[j];
    to->births[i] = from->births[j];
}

/* Rank number `added` of those that a module gets. */
static void begin_row(lrki_change *change, const lrki_module *module, const lrki_module_change *part,
                      lrki_bank *to, int64_t added)
{
    int64_t i = part->n_kept + added;
    uint64_t identity = part->added_ids[added];
    if (part->added_a != NULL)
        memcpy(to->a + i * module->n_in, part->added_a + added * module->n_in,
               (size_t)module->n_in * sizeof(float));
    else
        lrki_direction_begin(&change->directions, module, to->a, i, identity);
    if (part->added_b != NULL)
        memcpy(to->b + i * module->n_out, part->added_b + added * module->n_out,
               (size_t)module->n_out * sizeof(float));
    else if (change->directions.init != LRKI_INIT_UNSET)
        memset(to->b + i * module->n_out, 0, (size_t)module->n_out * sizeof(float));
    to->gates[i] = 1.0f;
    to->identities[i] = identity;
    to->births[i] = change->step;
}

static void change_rows(lrki_change *change, int32_t index)
{
    lrk_adapters *adapters = change->adapters;
    lrki_module *module = &adapters->modules[index];
    const lrki_module_change *part = &change->parts[index];
    if (is_unchanged(module, part)) return;
    const lrki_bank *from = &module->bank;
    lrki_bank *to = lrki_bank_target(adapters, index, &change->next[index]);
    for (int64_t i = 0; i < part->n_kept; i++)
        if (to != from || part->kept[i] != i) move_row(module, to, i, from, part->kept[i]);
    lrki_directions_enter(&change->directions, module, to->a, part);
    for (int64_t i = 0; i < part->n_added; i++) {
        begin_row(change, module, part, to, i);
        if (part->added_ids[i] >= adapters->next_identity) adapters->next_identity = part->added_ids[i] + 1;
    }
}

static void free_change(lrki_change *change)
{
    lrki_directions_free(change->adapters, &change->directions);
    lrki_banks_free(change->adapters, change->next);
    lrki_free(change->adapters->context, change, sizeof *change);
}

void lrki_change_commit(lrki_change *change)
{
    lrk_adapters *adapters = change->adapters;
    for (int64_t i = 0; i < adapters->n_modules; i++)
        change_rows(change, (int32_t)i);
    adapters->generation++;
    adapters->values_version++;
    lrki_pass_cache_free(adapters);
    lrki_banks_commit(adapters, change->next);
    free_change(change);
}

void lrki_change_abandon(lrki_change *change)
{
    lrki_banks_abandon(change->adapters, change->next);
    free_change(change);
}

static int64_t rows_moved(const lrki_module *module, const lrki_module_change *part, bool fresh)
{
    if (is_unchanged(module, part)) return 0;
    if (fresh) return part->n_kept;
    int64_t moved = 0;
    for (int64_t i = 0; i < part->n_kept; i++)
        moved += part->kept[i] != i;
    return moved;
}

int64_t lrki_change_bytes(const lrki_change *change)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < change->adapters->n_modules; i++) {
        const lrki_module *module = &change->adapters->modules[i];
        bytes += rows_moved(module, &change->parts[i], change->next[i].fresh) * lrki_module_row(module) *
                 (int64_t)sizeof(float);
    }
    return bytes;
}
