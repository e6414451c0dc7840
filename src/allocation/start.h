/* SPDX-License-Identifier: MIT */
/*
 * Starts, internal: what allocations before training share; one is one file, and one line in LRKI_STARTS. Every live rank
 * goes, and new ones come: floors first, then the pairs (module, index) that are offered, from the largest worth down, as far
 * as budget and ceilings go. The result is a plan on the account of an allocator that lives as long as the plan.
 */
#ifndef LRKI_START_H
#define LRKI_START_H

#include "allocation.h"

/* What the host shows a start. */
#define LRKI_START_OF_NOTHING   0
#define LRKI_START_OF_GRADIENTS 1 /* a sketch of forward and backward */
#define LRKI_START_OF_INPUTS    2 /* components of what forward sees  */
#define LRKI_START_OF_HIDDEN    3 /* dimensions of hidden states      */
#define LRKI_START_OF_WEIGHTS   4 /* frozen weights, if it wants them */

/* What a text says to a start beside its own options, and what the host shows it: one of the last. */
typedef struct lrki_start_terms {
    int64_t budget;
    int32_t budget_unit;
    const lrk_limit *limits;
    int64_t n_limits;
    uint64_t seed;
    int64_t step; /* of the plan */
    int64_t batches;
    const lrk_sketch *sketch;
    const lrk_pca *inputs; /* for a plan; to settle: pca         */
    lrk_pca *pca;
    lrk_adapters *adapters;   /* OF_HIDDEN and OF_WEIGHTS           */
    const double *dimensions; /* [n_dimensions]                     */
    int64_t n_dimensions;
    int32_t (*weight)(void *user, int32_t module, lrk_weight *weight);
    void *user;
} lrki_start_terms;

typedef struct lrki_start_kind {
    lrki_method method;
    int32_t material;
    bool subtracts;                          /* the host takes its product from the frozen weights */
    double (*multiple)(const void *options); /* of the budget that it fills; NULL: 1               */
    lrk_status (*check)(lrk_context *context, const lrki_start_terms *terms,
                        const void *options);                                                /* NULL: none */
    lrk_status (*settle)(const lrki_start_terms *terms, const void *options, int64_t *open); /* OF_INPUTS  */
    lrk_status (*plan)(const lrki_start_terms *terms, const void *options, lrk_plan **plan);
} lrki_start_kind;

/* By their words in a text. */
#define LRKI_STARTS(X)                                                                                       \
    X(uniform)                                                                                               \
    X(gradient)                                                                                              \
    X(eva)                                                                                                   \
    X(gelora)                                                                                                \
    X(lora_ga)                                                                                               \
    X(lora_one)                                                                                              \
    X(pissa)                                                                                                 \
    X(olora)                                                                                                 \
    X(orthogonal)                                                                                            \
    X(gora)

#define LRKI_START_EXTERN(name) extern const lrki_start_kind lrki_start_##name;
LRKI_STARTS(LRKI_START_EXTERN)
#undef LRKI_START_EXTERN

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
/* A module's frozen weight from the host, checked: finite, with its stride. The detail of a failure names the module. */
lrk_status lrki_start_weight(const lrk_adapters *adapters, int32_t module,
                             int32_t (*give)(void *user, int32_t module, lrk_weight *weight), void *user,
                             lrk_weight *weight);
/* A row of A as LRK_INIT_KAIMING_UNIFORM, for ranks that a start has no direction for. */
void lrki_start_usual_row(const lrki_start *start, int32_t module, uint64_t identity, float *row);
/* The end of making a plan: hands it out if all went well, else frees it (NULL: there is none). Returns `status`. */
lrk_status lrki_start_finish(lrki_start *start, lrk_status status, lrk_plan *plan, lrk_plan **out);

#endif
