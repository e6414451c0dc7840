/* SPDX-License-Identifier: MIT */
/*
 * Starts, internal: what allocations before training share. Every live rank goes, and new ones come: floors first, then the
 * pairs (module, index) that are offered, from the largest worth down, as far as budget and ceilings go. The result is a
 * plan on the account of an allocator that lives as long as the plan.
 */
#ifndef LRKI_START_H
#define LRKI_START_H

#include "allocation.h"

typedef struct lrki_choice {
    double worth;
    int32_t module;
    int64_t index; /* within the module: offered in ascending order */
} lrki_choice;

typedef struct lrki_start {
    lrk_allocator *allocator;
    lrki_round round;
    lrki_choice *choices; /* [most] */
    int64_t most;
    int64_t n;
} lrki_start;

/* Zero-initialise; lrki_start_close() is right at any time. `rules` without a budget. At most `most` pairs will be offered. */
lrk_status lrki_start_open(lrk_adapters *adapters, const lrki_rules *rules, int64_t most, lrki_start *start);
void lrki_start_close(lrki_start *start);

/* `multiple` of a budget, or of what the set holds (LRK_BUDGET_INITIAL). LRK_ERR_ARGUMENT if it is too large to count. */
lrk_status lrki_start_budget(lrki_start *start, int64_t budget, double multiple);
void lrki_start_offer(lrki_start *start, int32_t module, int64_t index, double worth);
/* Fills the round. Ties go to the lower module, then the lower index. LRK_ERR_BUDGET: floors exceed it, or no rank fits. */
lrk_status lrki_start_take(lrki_start *start);
/* The same with as many new ranks in every module as go. */
void lrki_start_keep(lrki_start *start);
/* An open plan of the round, checked against it. */
lrk_status lrki_start_plan(lrki_start *start, int64_t step, lrk_plan **plan);
/* A row of A as LRK_INIT_KAIMING_UNIFORM, for ranks that a start has no direction for. */
void lrki_start_usual_row(const lrki_start *start, int32_t module, uint64_t identity, float *row);
/* The end of making a plan: hands it out if all went well, else frees it (NULL: there is none). Returns `status`. */
lrk_status lrki_start_finish(lrki_start *start, lrk_status status, lrk_plan *plan, lrk_plan **out);

#endif
