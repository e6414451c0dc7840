/* SPDX-License-Identifier: MIT */
/*
 * Snapshots, internal: what one holds, and restoring in two steps for those who restore more than a set at once.
 */
#ifndef LRKI_SNAPSHOT_H
#define LRKI_SNAPSHOT_H

#include "bank.h"

struct lrk_snapshot {
    lrk_adapters *adapters; /* counted                                                                */
    lrki_bank *banks; /* [n_modules], without gradients (but for modules that a checkpoint had some of) */
};

/* Without ranks; NULL on lack of memory. Given up by lrk_snapshot_destroy(). */
lrk_snapshot *lrki_snapshot_new(lrk_adapters *adapters);

/* Whether the set has the snapshot's ranks now, in their order. */
bool lrki_snapshot_same_ranks(const lrk_snapshot *snapshot);

/* Takes the memory that putting back needs; ended by lrki_snapshot_put_back(), or by abandoning and freeing `next`. */
lrk_status lrki_snapshot_prepare(const lrk_snapshot *snapshot, lrki_bank_next **next);
void lrki_snapshot_put_back(const lrk_snapshot *snapshot, lrki_bank_next *next);

#endif
