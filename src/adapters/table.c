/* SPDX-License-Identifier: MIT */
/*
 * Tables: modules by name and by input group, so that creating a set stays linear in its modules (experts make tens of
 * thousands). Open addressing, at most half full.
 */
#include <string.h>

#include "spec.h"

bool lrki_table_init(lrk_context *context, lrki_table *table, int64_t n_modules)
{
    int64_t n = 2;
    while (n < 2 * n_modules)
        n *= 2;
    table->slots = lrki_array(context, n, sizeof *table->slots);
    table->n_slots = n;
    return table->slots != NULL;
}

void lrki_table_free(lrk_context *context, lrki_table *table)
{
    lrki_array_free(context, table->slots, table->n_slots, sizeof *table->slots);
    *table = (lrki_table){0};
}

/* FNV-1a */
static uint64_t hash_bytes(const void *bytes, size_t n)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return hash;
}

static int64_t first_slot(const lrki_table *table, uint64_t hash)
{
    return (int64_t)((hash ^ hash >> 32) & (uint64_t)(table->n_slots - 1));
}

static int64_t next_slot(const lrki_table *table, int64_t slot)
{
    return (slot + 1) & (table->n_slots - 1);
}

/* Slot of the name, else the free one where it would go. */
static int64_t name_slot(const lrki_table *table, const lrki_module *modules, const char *name)
{
    int64_t slot = first_slot(table, hash_bytes(name, strlen(name)));
    while (table->slots[slot] != 0 && strcmp(modules[table->slots[slot] - 1].name, name) != 0)
        slot = next_slot(table, slot);
    return slot;
}

static int64_t group_slot(const lrki_table *table, const lrki_module *modules, int32_t group)
{
    int64_t slot = first_slot(table, hash_bytes(&group, sizeof group));
    while (table->slots[slot] != 0 && modules[table->slots[slot] - 1].input_group != group)
        slot = next_slot(table, slot);
    return slot;
}

int32_t lrki_table_find_name(const lrki_table *table, const lrki_module *modules, const char *name)
{
    return table->slots[name_slot(table, modules, name)] - 1;
}

int32_t lrki_table_find_group(const lrki_table *table, const lrki_module *modules, int32_t group)
{
    return table->slots[group_slot(table, modules, group)] - 1;
}

void lrki_table_add_name(lrki_table *table, const lrki_module *modules, int32_t module)
{
    table->slots[name_slot(table, modules, modules[module].name)] = module + 1;
}

void lrki_table_add_group(lrki_table *table, const lrki_module *modules, int32_t module)
{
    table->slots[group_slot(table, modules, modules[module].input_group)] = module + 1;
}
