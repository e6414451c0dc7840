/* SPDX-License-Identifier: MIT */
/*
 * Allocators in checkpoints: begin checks everything and takes all memory, commit cannot fail.
 */
#ifndef LRKI_ALLOCATION_STATE_H
#define LRKI_ALLOCATION_STATE_H

#include "../core/state.h"
#include "lorank/allocation.h"

typedef struct lrki_allocator_load {
    lrk_allocator *allocator; /* borrowed */
    int64_t round;
    bool *pruned;    /* [n_modules] */
    uint64_t *marks; /* [n_marks]   */
    int64_t n_marks;
} lrki_allocator_load;

const lrk_adapters *lrki_allocator_adapters(const lrk_allocator *allocator);
/* LRK_ERR_STATE if a plan is neither committed nor abandoned. */
void lrki_allocator_save(const lrk_allocator *allocator, lrki_state *state);
/* On failure nothing is held. */
lrk_status lrki_allocator_load_begin(lrk_allocator *allocator, lrki_state *state, lrki_allocator_load *load);
void lrki_allocator_load_commit(lrki_allocator_load *load);
void lrki_allocator_load_abandon(lrki_allocator_load *load); /* also of a zeroed one */

#endif
