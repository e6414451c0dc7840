/* SPDX-License-Identifier: MIT */
/*
 * Banks: the memory of modules, and its exchange in two steps. Preparing takes memory (or asks the host) and changes
 * nothing; between the steps the caller fills lrki_bank_target(); committing cannot fail.
 */
#ifndef LRKI_BANK_H
#define LRKI_BANK_H

#include "set.h"

/* Capacity of a host-owned bank before the host was asked for it. */
#define LRKI_NO_STORAGE (-1)

/* What a module gets: `bank` if fresh, else its present bank with another rank. */
typedef struct lrki_bank_next {
    int64_t rank; /* set by the caller before preparing */
    bool fresh;
    lrki_bank bank;
} lrki_bank_next;

/* Live floats of one rank: A, B and gate. */
int64_t lrki_module_row(const lrki_module *module);

/* A library-owned bank of exactly `rank` rows, values undefined. LRK_ERR_SHAPE, LRK_ERR_NOMEM. */
lrk_status lrki_bank_own(lrk_adapters *adapters, int32_t module, int64_t rank, bool gradients,
                         lrki_bank *bank);
/* Frees what the library owns of it; tolerates a zeroed bank. */
void lrki_bank_free(lrk_context *context, lrki_bank *bank);

/* One array of n_modules, zeroed; NULL on lack of memory. */
lrki_bank_next *lrki_banks_new(lrk_adapters *adapters);
void lrki_banks_free(lrk_adapters *adapters, lrki_bank_next *next);

/* Takes what next[].rank needs and sets change_pending; on failure nothing is taken. */
lrk_status lrki_banks_prepare(lrk_adapters *adapters, lrki_bank_next *next);
void lrki_banks_abandon(lrk_adapters *adapters, lrki_bank_next *next);
/* Puts the new ranks in use, frees old memory, tells the host, zeroes gradients, recounts. */
void lrki_banks_commit(lrk_adapters *adapters, lrki_bank_next *next);

/* Where the module's new rows go between prepare and commit. */
lrki_bank *lrki_bank_target(lrk_adapters *adapters, int32_t module, lrki_bank_next *next);

#endif
