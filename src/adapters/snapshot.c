/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: a set's parameters and ranks, kept in the library's memory, and put back across rank changes. Restoring
 * takes its memory as a plan does (bank.h), so that it fails with the set untouched. Checkpoints load through them.
 * Invariant: next_identity never goes back; generation grows only if some module's identities change.
 */
#include <string.h>

#include "snapshot.h"

static void copy_floats(float *to, const float *from, int64_t n)
{
    memcpy(to, from, (size_t)n * sizeof *to);
}

/* Rows 0..rank-1, from->rank of them, with their identities. */
static void copy_rows(const lrki_module *module, lrki_bank *to, const lrki_bank *from)
{
    size_t n = (size_t)from->rank;
    if (n == 0) return;
    copy_floats(to->a, from->a, from->rank * module->n_in);
    copy_floats(to->b, from->b, from->rank * module->n_out);
    copy_floats(to->gates, from->gates, from->rank);
    memcpy(to->identities, from->identities, n * sizeof *to->identities);
    memcpy(to->births, from->births, n * sizeof *to->births);
}

lrk_snapshot *lrki_snapshot_new(lrk_adapters *adapters)
{
    lrk_snapshot *snapshot = lrki_alloc_zeroed(adapters->context, sizeof *snapshot);
    if (snapshot == NULL) return NULL;
    snapshot->adapters = lrki_adapters_ref(adapters);
    snapshot->banks = lrki_array(adapters->context, adapters->n_modules, sizeof *snapshot->banks);
    if (snapshot->banks != NULL) return snapshot;
    lrk_snapshot_destroy(snapshot);
    return NULL;
}

static void free_snapshot(lrk_snapshot *snapshot)
{
    lrk_adapters *adapters = snapshot->adapters;
    for (int64_t i = 0; snapshot->banks != NULL && i < adapters->n_modules; i++)
        lrki_bank_free(adapters->context, &snapshot->banks[i]);
    lrki_array_free(adapters->context, snapshot->banks, adapters->n_modules, sizeof *snapshot->banks);
    lrki_free(adapters->context, snapshot, sizeof *snapshot);
    lrki_adapters_unref(adapters);
}

static lrk_status copy_set(lrk_snapshot *snapshot)
{
    lrk_adapters *adapters = snapshot->adapters;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *module = &adapters->modules[i];
        lrk_status status =
            lrki_bank_own(adapters, (int32_t)i, module->bank.rank, false, &snapshot->banks[i]);
        if (status != LRK_OK) return status;
        copy_rows(module, &snapshot->banks[i], &module->bank);
    }
    return LRK_OK;
}

lrk_status lrk_snapshot_create(lrk_adapters *adapters, lrk_snapshot **snapshot)
{
    if (snapshot != NULL) *snapshot = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_snapshot_create");
    if (status != LRK_OK) return status;
    if (snapshot == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_snapshot_create: snapshot is NULL");
    lrk_snapshot *made = lrki_snapshot_new(adapters);
    if (made == NULL) return lrki_fail_nomem(adapters->context, "a snapshot");
    status = copy_set(made);
    if (status == LRK_OK)
        *snapshot = made;
    else
        free_snapshot(made);
    return status;
}

void lrk_snapshot_destroy(lrk_snapshot *snapshot)
{
    if (snapshot != NULL) free_snapshot(snapshot);
}

/* ---- restore ------------------------------------------------------------------------------------------------------- */

static bool same_identities(const lrki_bank *then, const lrki_bank *now)
{
    if (then->rank != now->rank) return false;
    size_t bytes = (size_t)now->rank * sizeof *now->identities;
    return bytes == 0 || memcmp(then->identities, now->identities, bytes) == 0;
}

bool lrki_snapshot_same_ranks(const lrk_snapshot *snapshot)
{
    const lrk_adapters *adapters = snapshot->adapters;
    for (int64_t i = 0; i < adapters->n_modules; i++)
        if (!same_identities(&snapshot->banks[i], &adapters->modules[i].bank)) return false;
    return true;
}

lrk_status lrki_snapshot_prepare(const lrk_snapshot *snapshot, lrki_bank_next **out)
{
    lrk_adapters *adapters = snapshot->adapters;
    lrki_bank_next *next = lrki_banks_new(adapters);
    *out = NULL;
    if (next == NULL) return LRK_ERR_NOMEM;
    for (int64_t i = 0; i < adapters->n_modules; i++)
        next[i].rank = snapshot->banks[i].rank;
    lrk_status status = lrki_banks_prepare(adapters, next);
    if (status == LRK_OK)
        *out = next;
    else
        lrki_banks_free(adapters, next);
    return status;
}

void lrki_snapshot_put_back(const lrk_snapshot *snapshot, lrki_bank_next *next)
{
    lrk_adapters *adapters = snapshot->adapters;
    bool same = lrki_snapshot_same_ranks(snapshot);
    for (int64_t i = 0; i < adapters->n_modules; i++)
        copy_rows(&adapters->modules[i], lrki_bank_target(adapters, (int32_t)i, &next[i]),
                  &snapshot->banks[i]);
    adapters->values_version++;
    if (!same) {
        adapters->generation++;
        lrki_pass_cache_free(adapters);
    }
    lrki_banks_commit(adapters, next);
    lrki_banks_free(adapters, next);
}

lrk_status lrk_snapshot_restore(const lrk_snapshot *snapshot, lrk_adapters *adapters)
{
    if (snapshot == NULL || adapters == NULL) return LRK_ERR_ARGUMENT;
    if (snapshot->adapters != adapters)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT,
                         "lrk_snapshot_restore: the snapshot is of another set");
    lrk_status status = lrki_adapters_check_idle(adapters, "lrk_snapshot_restore");
    if (status != LRK_OK) return status;
    lrki_bank_next *next;
    status = lrki_snapshot_prepare(snapshot, &next);
    if (status == LRK_OK) lrki_snapshot_put_back(snapshot, next);
    return status;
}
