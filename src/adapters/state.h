/* SPDX-License-Identifier: MIT */
/*
 * Adapter sets and snapshots in checkpoints. Loading a set has two steps: begin checks everything and takes all memory
 * while the set stays as it is; commit cannot fail. What the layers above load is held against the ranks that the set
 * will have, not against those that it has.
 */
#ifndef LRKI_ADAPTERS_STATE_H
#define LRKI_ADAPTERS_STATE_H

#include "../core/state.h"
#include "set.h"

void lrki_adapters_save(const lrk_adapters *adapters, lrki_state *state);

typedef struct lrki_adapters_load {
    lrk_adapters *adapters; /* borrowed */
    struct lrk_snapshot *snapshot;
    struct lrki_bank_next *next;
    uint64_t generation;
    uint64_t values_version;
    uint64_t next_identity;
} lrki_adapters_load;

/* On failure nothing is held. */
lrk_status lrki_adapters_load_begin(lrk_adapters *adapters, lrki_state *state, lrki_adapters_load *load);
void lrki_adapters_load_commit(lrki_adapters_load *load);
void lrki_adapters_load_abandon(lrki_adapters_load *load); /* also of a zeroed one */

/* The rank that module will have, and the identities. */
int64_t lrki_adapters_load_rank(const lrki_adapters_load *load, int64_t module, const uint64_t **identities);

/* lrk_snapshot_destroy() gives it up; NULL after a failure. */
void lrki_snapshot_save(const lrk_snapshot *snapshot, lrki_state *state);
lrk_status lrki_snapshot_load(lrk_adapters *adapters, lrki_state *state, lrk_snapshot **snapshot);
const lrk_adapters *lrki_snapshot_adapters(const lrk_snapshot *snapshot);

#endif
