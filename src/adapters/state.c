/* SPDX-License-Identifier: MIT */
/*
 * A set's part of a checkpoint: what its modules must be, counters, and ranks with their values; gradients of the modules
 * that have some, so that a run may stop between the micro-batches of a step. Loaded ranks lie in a snapshot until they
 * are put back.
 */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot.h"

#define MOST_COUNTED (INT64_MAX / 2) /* counters that go on from here do not overflow */

/* ---- what must be the same ------------------------------------------------------------------------------------------- */

static void same_shape(const lrki_module *module, lrki_state *state)
{
    char what[96];
    snprintf(what, sizeof what, "a module");
    lrki_state_same_text(state, what, module->name);
    snprintf(what, sizeof what, "n_in of module '%.64s'", module->name);
    lrki_state_same_i64(state, what, module->n_in);
    snprintf(what, sizeof what, "n_out of module '%.64s'", module->name);
    lrki_state_same_i64(state, what, module->n_out);
}

static void same_shapes(const lrk_adapters *adapters, lrki_state *state)
{
    lrki_state_same_i64(state, "the number of modules", adapters->n_modules);
    for (int64_t i = 0; i < adapters->n_modules && state->status == LRK_OK; i++)
        same_shape(&adapters->modules[i], state);
}

static void same_spec(const lrki_module *module, lrki_state *state)
{
    static const char *const names[] = {"flags", "kind", "stage", "input_group", "the initial rank"};
    const int64_t values[] = {module->flags, module->kind, module->stage, module->input_group,
                              module->initial_rank};
    char what[96];
    for (int i = 0; i < 5; i++) {
        snprintf(what, sizeof what, "%s of module '%.64s'", names[i], module->name);
        lrki_state_same_i64(state, what, values[i]);
    }
    snprintf(what, sizeof what, "the scale of module '%.64s'", module->name);
    lrki_state_same_f64(state, what, module->scale);
}

static void same_set(const lrk_adapters *adapters, lrki_state *state)
{
    lrki_state_same_u64(state, "seed", adapters->seed);
    lrki_state_same_f64(state, "dropout", adapters->dropout);
    same_shapes(adapters, state);
    for (int64_t i = 0; i < adapters->n_modules && state->status == LRK_OK; i++)
        same_spec(&adapters->modules[i], state);
}

/* ---- rows -------------------------------------------------------------------------------------------------------------- */

static void move_floats(lrki_state *state, float *values, int64_t n)
{
    lrki_state_bytes(state, values, (size_t)n * sizeof *values);
}

/* Everything of a bank but its rank, which both sides know by now. */
static void move_rows(lrki_state *state, const lrki_module *module, lrki_bank *bank)
{
    size_t n = (size_t)bank->rank;
    lrki_state_bytes(state, bank->identities, n * sizeof *bank->identities);
    lrki_state_bytes(state, bank->births, n * sizeof *bank->births);
    move_floats(state, bank->gates, bank->rank);
    move_floats(state, bank->a, bank->rank * module->n_in);
    move_floats(state, bank->b, bank->rank * module->n_out);
}

static void move_gradients(lrki_state *state, const lrki_module *module, lrki_bank *bank)
{
    move_floats(state, bank->grad_gates, bank->rank);
    move_floats(state, bank->grad_a, bank->rank * module->n_in);
    move_floats(state, bank->grad_b, bank->rank * module->n_out);
}

static void save_bank(lrki_state *state, const lrki_module *module, const lrki_bank *bank, bool gradients)
{
    lrki_bank seen = *bank; /* saving only reads */
    lrki_state_i64(state, &seen.rank);
    lrki_state_flag(state, &gradients);
    move_rows(state, module, &seen);
    if (gradients) move_gradients(state, module, &seen);
}

static void load_bank(lrki_state *state, lrk_adapters *adapters, int32_t index, lrki_bank *bank)
{
    const lrki_module *module = &adapters->modules[index];
    int64_t rank = 0, each;
    bool gradients = false;
    if (!lrki_mul(lrki_module_row(module), sizeof(float), &each)) each = INT64_MAX;
    lrki_state_count(state, "a rank", &rank, (size_t)each);
    lrki_state_flag(state, &gradients);
    if (state->status != LRK_OK) return;
    state->status = lrki_bank_own(adapters, index, rank, gradients, bank);
    if (state->status != LRK_OK) return;
    move_rows(state, module, bank);
    if (gradients && rank > 0) move_gradients(state, module, bank);
}

static int by_value(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Identities are from 1, below `next`, and none stands twice. */
static void check_identities(lrki_state *state, const lrk_snapshot *snapshot, uint64_t next)
{
    lrk_adapters *adapters = snapshot->adapters;
    int64_t n = 0, used = 0;
    for (int64_t i = 0; i < adapters->n_modules; i++)
        n += snapshot->banks[i].rank;
    uint64_t *all = lrki_array(adapters->context, n, sizeof *all);
    if (all == NULL) {
        (void)lrki_state_fail_nomem(state);
        return;
    }
    for (int64_t i = 0; i < adapters->n_modules; i++)
        for (int64_t j = 0; j < snapshot->banks[i].rank; j++)
            all[used++] = snapshot->banks[i].identities[j];
    qsort(all, (size_t)n, sizeof *all, by_value);
    for (int64_t i = 0; i < n && state->status == LRK_OK; i++)
        if (all[i] == 0 || all[i] >= next || (i > 0 && all[i] == all[i - 1]))
            (void)lrki_state_fail(state, LRK_ERR_FORMAT, "identity %llu stands twice or was never given out",
                                  (unsigned long long)all[i]);
    lrki_array_free(adapters->context, all, n, sizeof *all);
}

static lrk_snapshot *load_rows(lrk_adapters *adapters, lrki_state *state, uint64_t next_identity)
{
    if (state->status != LRK_OK) return NULL;
    lrk_snapshot *snapshot = lrki_snapshot_new(adapters);
    if (snapshot == NULL) {
        (void)lrki_state_fail_nomem(state);
        return NULL;
    }
    for (int64_t i = 0; i < adapters->n_modules && state->status == LRK_OK; i++)
        load_bank(state, adapters, (int32_t)i, &snapshot->banks[i]);
    if (state->status == LRK_OK) check_identities(state, snapshot, next_identity);
    if (state->status == LRK_OK) return snapshot;
    lrk_snapshot_destroy(snapshot);
    return NULL;
}

/* ---- snapshots ----------------------------------------------------------------------------------------------------------- */

void lrki_snapshot_save(const lrk_snapshot *snapshot, lrki_state *state)
{
    const lrk_adapters *adapters = snapshot->adapters;
    same_shapes(adapters, state);
    for (int64_t i = 0; i < adapters->n_modules; i++)
        save_bank(state, &adapters->modules[i], &snapshot->banks[i], false);
}

lrk_status lrki_snapshot_load(lrk_adapters *adapters, lrki_state *state, lrk_snapshot **snapshot)
{
    same_shapes(adapters, state);
    *snapshot = load_rows(adapters, state, UINT64_MAX);
    return state->status;
}

const lrk_adapters *lrki_snapshot_adapters(const lrk_snapshot *snapshot)
{
    return snapshot->adapters;
}

static void move_counter(lrki_state *state, const char *what, uint64_t *counter, int64_t least)
{
    int64_t value = (int64_t)*counter;
    lrki_state_within(state, what, &value, least, MOST_COUNTED);
    *counter = (uint64_t)value;
}

static void move_counters(lrki_state *state, lrki_adapters_load *counters)
{
    move_counter(state, "generation", &counters->generation, 0);
    move_counter(state, "values_version", &counters->values_version, 0);
    move_counter(state, "next_identity", &counters->next_identity, 1);
}

/* ---- sets ------------------------------------------------------------------------------------------------------------------ */

void lrki_adapters_save(const lrk_adapters *adapters, lrki_state *state)
{
    lrki_adapters_load counters = {.generation = adapters->generation,
                                   .values_version = adapters->values_version,
                                   .next_identity = adapters->next_identity};
    if (adapters->change_pending) {
        (void)lrki_state_fail(state, LRK_ERR_BUSY, "a plan or restore is prepared");
        return;
    }
    same_set(adapters, state);
    move_counters(state, &counters);
    for (int64_t i = 0; i < adapters->n_modules; i++)
        save_bank(state, &adapters->modules[i], &adapters->modules[i].bank,
                  adapters->modules[i].has_gradient && adapters->modules[i].bank.rank > 0);
}

lrk_status lrki_adapters_load_begin(lrk_adapters *adapters, lrki_state *state, lrki_adapters_load *load)
{
    *load = (lrki_adapters_load){.adapters = adapters};
    lrk_status status = lrki_adapters_check_idle(adapters, state->name);
    if (status != LRK_OK) return status;
    same_set(adapters, state);
    move_counters(state, load);
    load->snapshot = load_rows(adapters, state, load->next_identity);
    /* Asked again: the host's reader or progress ran meanwhile, and what is prepared refuses passes and plans by itself. */
    if (state->status == LRK_OK) state->status = lrki_adapters_check_idle(adapters, state->name);
    if (state->status == LRK_OK) state->status = lrki_snapshot_prepare(load->snapshot, &load->next);
    if (state->status != LRK_OK) lrki_adapters_load_abandon(load);
    return state->status;
}

void lrki_adapters_load_abandon(lrki_adapters_load *load)
{
    if (load->next != NULL) {
        lrki_banks_abandon(load->adapters, load->next);
        lrki_banks_free(load->adapters, load->next);
    }
    lrk_snapshot_destroy(load->snapshot);
    *load = (lrki_adapters_load){0};
}

static bool same_floats(const float *a, const float *b, int64_t n)
{
    return n == 0 || memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

static bool same_values(const lrk_snapshot *snapshot)
{
    for (int64_t i = 0; i < snapshot->adapters->n_modules; i++) {
        const lrki_module *module = &snapshot->adapters->modules[i];
        const lrki_bank *then = &snapshot->banks[i], *now = &module->bank;
        if (!same_floats(then->a, now->a, now->rank * module->n_in) ||
            !same_floats(then->b, now->b, now->rank * module->n_out) ||
            !same_floats(then->gates, now->gates, now->rank))
            return false;
    }
    return true;
}

static void put_gradients(const lrki_module *module, const lrki_bank *from, const lrki_bank *to)
{
    memcpy(to->grad_a, from->grad_a, (size_t)(from->rank * module->n_in) * sizeof(float));
    memcpy(to->grad_b, from->grad_b, (size_t)(from->rank * module->n_out) * sizeof(float));
    memcpy(to->grad_gates, from->grad_gates, (size_t)from->rank * sizeof(float));
}

static uint64_t later(uint64_t recorded, uint64_t present, bool changed)
{
    uint64_t least = present + changed;
    return recorded > least ? recorded : least;
}

/* Counters never go back: what was made from the set before is stale, and identities used since stay used. */
void lrki_adapters_load_commit(lrki_adapters_load *load)
{
    lrk_adapters *adapters = load->adapters;
    bool same_ranks = lrki_snapshot_same_ranks(load->snapshot);
    bool same = same_ranks && same_values(load->snapshot);
    uint64_t generation = later(load->generation, adapters->generation, !same_ranks);
    uint64_t values_version = later(load->values_version, adapters->values_version, !same);
    lrki_snapshot_put_back(load->snapshot, load->next);
    lrki_pass_cache_free(adapters);
    adapters->generation = generation;
    adapters->values_version = values_version;
    adapters->next_identity = later(load->next_identity, adapters->next_identity, false);
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        lrki_module *module = &adapters->modules[i];
        const lrki_bank *from = &load->snapshot->banks[i];
        if (from->grad_a == NULL || module->bank.grad_a == NULL) continue;
        put_gradients(module, from, &module->bank);
        module->has_gradient = true;
    }
    load->next = NULL;
    lrki_adapters_load_abandon(load);
}

int64_t lrki_adapters_load_rank(const lrki_adapters_load *load, int64_t module, const uint64_t **identities)
{
    const lrki_bank *bank = &load->snapshot->banks[module];
    if (identities != NULL) *identities = bank->identities;
    return bank->rank;
}
