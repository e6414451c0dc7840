/* SPDX-License-Identifier: MIT */
/*
 * Small adapter sets for tests of plans and optimizers: a set from a list of ranks, scores by hand, plans read back as
 * text. Every helper ck_asserts that it succeeds.
 */
#ifndef SMALL_SET_H
#define SMALL_SET_H

#include "fault.h"

#define SMALL_SET_MOST 16

typedef struct small_module {
    int64_t n_in;
    int64_t n_out;
    int64_t rank;
    int32_t stage;
    uint32_t flags;
} small_module;

typedef struct small_set {
    fault host;
    lrk_context *context;
    lrk_adapters *adapters;
} small_set;

/* Modules m0, m1, ... in a set of its own context on a counting host; seed 1. options may be NULL. */
void small_set_open(small_set *s, const small_module *modules, int64_t n,
                    const lrk_adapters_options *options);
/* The same with every module 4 x 3, in stage 0. */
void small_set_open_ranks(small_set *s, int64_t n, const int64_t *ranks);
/* Destroys set and context; asserts that nothing is left and every release was right. */
void small_set_close(small_set *s);

int64_t small_set_rank(const small_set *s, int32_t module);
/* One value per live rank, module after module. The caller destroys. */
lrk_scores *small_set_scores(const small_set *s, const double *values);
lrk_alora_options small_set_alora(int64_t n_move);
lrk_allocator *small_set_allocator(const small_set *s, const lrk_alora_options *options);
lrk_plan *small_set_plan(lrk_allocator *allocator, const lrk_scores *scores);
/* prepare (with participants) and commit. */
void small_set_carry_out(lrk_plan *plan, const lrk_participant *participants, int64_t n);

/*
 * The plan as text, a word per module: dropped old indices, then + and the number added: "1,2 . 0 .+3" is module 0
 * losing ranks 1 and 2, module 1 as it is, module 2 losing rank 0, module 3 gaining three.
 */
const char *small_set_text(const lrk_plan *plan, int32_t n_modules, char *text, size_t size);
#define small_set_assert_plan(plan, n_modules, expected)                                                     \
    do {                                                                                                     \
        char text_[512];                                                                                     \
        ck_assert_str_eq(small_set_text(plan, n_modules, text_, sizeof text_), expected);                    \
    } while (0)

/* The plan that fresh scores give, as text; it is abandoned again. */
void small_set_assert_plan_of(const small_set *s, lrk_allocator *allocator, int32_t n_modules,
                              const double *values, const char *expected);
/* The same, carried out. */
void small_set_move(const small_set *s, lrk_allocator *allocator, int32_t n_modules, const double *values,
                    const char *expected);

lrk_tensor small_set_tensor(const small_set *s, int32_t module, int32_t which);
lrk_tensor small_set_moment(const lrk_optimizer *optimizer, int32_t module, int32_t which);
lrk_optimizer_info small_set_info(const lrk_optimizer *optimizer);
/* The same gradients for any set of three modules of this shape and random state. */
void small_set_write_gradients(const small_set *s, uint64_t *random);

/* Asserts the status, and that the context's detail contains `words`. */
void small_set_assert_failed(const lrk_context *context, lrk_status status, lrk_status expected,
                             const char *words);

/* Small reproducible numbers for property tests (splitmix64). */
uint64_t small_random(uint64_t *state);
int64_t small_random_below(uint64_t *state, int64_t n);
double small_random_real(uint64_t *state); /* in [-1, 1) */

#endif
