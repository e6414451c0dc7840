/* SPDX-License-Identifier: MIT */
/*
 * Adapter sets for tests: short specs, values that are a function of (identity, tensor, column) so that a row is
 * recognised wherever it went, a digest of everything a set holds, and a host with storage of its own that keeps a log.
 */
#ifndef SETS_H
#define SETS_H

#include <stdbool.h>
#include <stdint.h>

#include "fault.h"
#include "lorank/lorank.h"

#define SETS_MODULES 16

lrk_module_spec sets_spec(const char *name, int64_t n_in, int64_t n_out, int64_t rank);

/* Three modules "a" 5x3 rank 2 stage 0, "b" 4x6 rank 3 stage 1, "c" 7x2 rank 0 stage 2. */
void sets_three(lrk_module_spec specs[3]);

/* ck_asserts success; options may be NULL. */
lrk_adapters *sets_create(lrk_context *context, const lrk_module_spec *specs, int64_t n,
                          const lrk_adapters_options *options);

/* status is `want` and the context's words about it contain `words`. */
void sets_expect(lrk_context *context, lrk_status status, lrk_status want, const char *words);

/* In [-1, 1). */
float sets_value(uint64_t identity, int32_t tensor, int64_t column);
/* Every A, B and gate gets its sets_value(). */
void sets_fill(lrk_adapters *adapters);
/* Ranks with identity < first_new hold their sets_value(). */
void sets_check_filled(const lrk_adapters *adapters, uint64_t first_new);

/* Of identities, births, A, B, gates, generation, values_version and next_identity. */
uint64_t sets_digest(const lrk_adapters *adapters);

lrk_adapters_info sets_info(const lrk_adapters *adapters);
lrk_tensor sets_tensor(const lrk_adapters *adapters, int32_t module, int32_t which);
int64_t sets_rank(const lrk_adapters *adapters, int32_t module);

/* ALoRA's allocator with its defaults, but that many ranks a round. */
lrk_allocator *sets_alora(lrk_adapters *adapters, int64_t n_move);

/* A random number generator for test data. */
uint64_t sets_random(uint64_t *state);

/*
 * Fails each request for memory that `act` makes, one alone and all from there on: each time it must give LRK_ERR_NOMEM
 * and leave the live memory as it was; healthy again it must succeed. `undo` releases what a success made.
 */
void sets_each_fault(fault *f, lrk_status (*act)(void *user), void (*undo)(void *user), void *user);

/* ---- a host that owns the storage -------------------------------------------------------------------------------- */

typedef struct sets_host {
    const lrk_module_spec *specs;
    int64_t slack;              /* ranks of room more than asked for                     */
    int32_t refuse;             /* module that prepare() refuses, -1                     */
    bool too_small;             /* give one rank too few                                 */
    bool half;                  /* leave grad_b out                                      */
    bool inference;             /* give no gradients                                     */
    void (*during)(void *user); /* runs inside every callback */
    void *during_user;
    lrk_module_buffers now[SETS_MODULES];
    lrk_module_buffers next[SETS_MODULES];
    char log[1024]; /* "p0:3 " prepare(0, 3), "c0 " commit, "a0 " abandon */
} sets_host;

lrk_storage sets_host_storage(sets_host *host, const lrk_module_spec *specs, uint32_t flags);
void sets_host_free(sets_host *host);

#endif
