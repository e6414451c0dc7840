/* SPDX-License-Identifier: MIT */
/*
 * Allocation, internal: the seam between policies and the rest. A policy is one file, and one line in LRKI_POLICIES: it sees
 * a round (modules with their limits, live ranks with their scores) and answers with drop and add. It decides which ranks; the allocator
 * checks every answer against budget, floors and ceilings, the plan fixes it, the transaction carries it out.
 * Invariant: an allocator has at most one plan on its account, and its counters move only when a plan is committed.
 */
#ifndef LRKI_ALLOCATION_H
#define LRKI_ALLOCATION_H

#include "../adapters/set.h"
#include "../core/method.h"
#include "../importance/importance.h"
#include "lorank/allocation.h"
#include "lorank/eva.h"
#include "lorank/gelora.h"
#include "lorank/gora.h"
#include "lorank/gradient_init.h"
#include "lorank/gradient_start.h"
#include "lorank/weight_start.h"
#include "state.h"

#define LRKI_NO_BUDGET INT64_MAX

/* ---- what a policy is asked ---------------------------------------------------------------------------------------- */

typedef struct lrki_slot {
    int64_t rank;    /* live ranks                                                     */
    int64_t first;   /* position of its first rank in arrays over the live ranks       */
    int64_t cost;    /* of one rank in units of the budget                             */
    int64_t floor;   /* pruning stops here                                             */
    int64_t ceiling; /* growing stops here: the cap, or a fixed capacity below it      */
    int32_t stage;
    bool pruned_before; /* in a committed round of this allocator */
} lrki_slot;

typedef struct lrki_round {
    uint64_t number;
    int64_t n_modules;
    int64_t n_ranks;
    const lrk_scores *scores; /* NULL: there are none, and all of `ranks` goes */
    const lrk_score *ranks;   /* [n_ranks]: module after module, in index order; NULL without scores */
    lrki_slot *slots;         /* [n_modules]                                    */
    int64_t budget;           /* LRKI_NO_BUDGET: none                           */
    int64_t held;             /* units of the budget that live ranks take       */
    uint64_t newborn_first;   /* this identity and later ones are protected     */
    uint8_t *drop;            /* [n_ranks]   0 on entry: the answer             */
    int64_t *add;             /* [n_modules] 0 on entry: the answer             */
    uint8_t *silence;         /* [n_ranks]   0 on entry: kept, and its gate becomes 0 */
} lrki_round;

/* What a text says to a policy beside its own options, and what of other sections it goes by. */
typedef struct lrki_policy_terms {
    int64_t n_move; /* 0: not given */
    int64_t budget; /* as in the public options */
    int32_t budget_unit;
    int32_t new_rank_init;
    bool has_init; /* new_rank_init was given */
    bool trains_gates;
    int32_t protect_rounds;
    int32_t n_rounds;
    double multiple; /* of the budget, that the start fills; 1: the budget */
    const lrk_limit *limits;
    int64_t n_limits;
} lrki_policy_terms;

typedef struct lrki_policy {
    /* Fills drop and add; fails with a detail recorded. */
    lrk_status (*choose)(lrk_allocator *allocator, lrki_round *round);
    /* Ranks that the next plan would prune; NULL means 0. Must not allocate. */
    int64_t (*n_move)(const lrk_allocator *allocator);
    /* The policy's options that change results, for checkpoints; NULL: none. */
    void (*same)(const lrk_allocator *allocator, lrki_state *state);
    /* Of those that a text chooses, else empty. check: of a text, whose overrides may still bring what is 0; NULL: none. */
    lrki_method method;
    bool is_idle; /* moves nothing, so that there are no rounds */
    lrk_status (*check)(lrk_context *context, const lrki_policy_terms *terms, const void *options);
    lrk_status (*create)(lrk_adapters *adapters, const lrki_policy_terms *terms, const void *options,
                         lrk_allocator **allocator);
} lrki_policy;

/* By their words in a text. */
#define LRKI_POLICIES(X)                                                                                     \
    X(alora)                                                                                                 \
    X(elalora)                                                                                               \
    X(increlora)                                                                                             \
    X(prune)                                                                                                 \
    X(adalora)                                                                                               \
    X(threshold)                                                                                             \
    X(fixed)

#define LRKI_POLICY_EXTERN(name) extern const lrki_policy lrki_policy_##name;
LRKI_POLICIES(LRKI_POLICY_EXTERN)
#undef LRKI_POLICY_EXTERN

/* ---- allocator ----------------------------------------------------------------------------------------------------- */

typedef struct lrki_bounds {
    int64_t floor;
    int64_t cap; /* INT64_MAX: none */
} lrki_bounds;

struct lrk_allocator {
    int64_t references; /* atomic */
    lrk_adapters *adapters;
    const lrki_policy *policy;
    void *own; /* the policy's options, own_bytes long */
    size_t own_bytes;
    char *name;
    int64_t budget; /* LRKI_NO_BUDGET: none */
    int32_t budget_unit;
    int32_t new_rank_init;
    int32_t protect_rounds;
    lrki_bounds *bounds; /* [n_modules] */
    bool *pruned;        /* [n_modules]: lost a rank in a committed round */
    bool choosing;       /* inside the policy's callback                  */
    bool plan_pending;   /* a plan is neither committed nor abandoned     */
    uint64_t round;      /* committed plans so far                        */
    uint64_t *marks;     /* [marks_held]: the set's next identity when committed plan i was made */
    int64_t marks_held;
};

/* The part of the options that all policies share. */
typedef struct lrki_rules {
    const char *name;
    int64_t budget; /* as in the public options, or LRKI_NO_BUDGET */
    int32_t budget_unit;
    int32_t new_rank_init;
    int32_t protect_rounds;
    const lrk_limit *limits;
    int64_t n_limits;
} lrki_rules;

/* LRK_ERR_ARGUMENT beginning with the member's name if a value is out of range. */
lrk_status lrki_twonn_options_check(lrk_context *context, const lrk_twonn_options *options);
lrk_status lrki_rules_check(lrk_context *context, const lrki_rules *rules);
/* The same for one limit, whose pattern the detail quotes. */
lrk_status lrki_limit_check(lrk_context *context, const lrk_limit *limit);

/* Checks the rules and creates an allocator; `own` is copied. */
lrk_status lrki_allocator_create(lrk_adapters *adapters, const lrki_policy *policy, const lrki_rules *rules,
                                 const void *own, size_t own_bytes, lrk_allocator **allocator);
lrk_allocator *lrki_allocator_ref(lrk_allocator *allocator);
void lrki_allocator_unref(lrk_allocator *allocator);

/* First identity that protection holds for in the next plan, UINT64_MAX if none. */
uint64_t lrki_allocator_newborn_first(const lrk_allocator *allocator);
/* Ranks of a module that pruning may take: above the floor and not newborn. */
int64_t lrki_allocator_prunable(const lrk_allocator *allocator, int32_t module);
/* Cost of one rank of a module in units of the budget. */
int64_t lrki_allocator_cost(const lrk_allocator *allocator, int32_t module);

/* bounds[i] of every module from the host's limits; the first that matches holds. */
lrk_status lrki_limits_read(const lrk_adapters *adapters, const lrk_limit *limits, int64_t n_limits,
                            lrki_bounds *bounds);

/* ---- rounds and plans ------------------------------------------------------------------------------------------------ */

/* Gathers a round, scores may be NULL; lrki_round_free() also after failure. */
lrk_status lrki_round_gather(const lrk_allocator *allocator, const lrk_scores *scores, lrki_round *round);
void lrki_round_free(const lrk_allocator *allocator, lrki_round *round);
/*
 * For policies: whether scores of modules are made of estimates (as they are where every rank has one and not all scores are
 * exact, so that those of one provenance are compared), the sum over a module's ranks, and how many more fit it.
 */
bool lrki_round_of_estimates(const lrki_round *round);
double lrki_round_sum(const lrki_round *round, int64_t module, bool of_estimates);
int64_t lrki_round_headroom(const lrki_round *round, int64_t module);
/* Whether a module of mean (or sum) `score` comes before one of `other`: higher first, NaN (rank 0) last. */
bool lrki_score_receives_before(double score, double other);

/* LRK_ERR_BUDGET, naming the module, unless the answer keeps to budget, floors and ceilings. */
lrk_status lrki_round_check(const lrk_allocator *allocator, const lrki_round *round);

typedef struct lrki_part {
    int64_t n_kept;
    int64_t n_dropped;
    int64_t n_added;
    int64_t *kept;
    int64_t *dropped;
    uint64_t *dropped_ids;
    uint64_t *added_ids;
} lrki_part;

struct lrk_plan {
    lrk_allocator *allocator; /* counted reference; it keeps the set alive */
    int32_t state;            /* LRK_PLAN_... */
    bool busy;                /* inside prepare, commit or abandon, and so inside their callbacks */
    bool doomed;              /* destroyed by its owner while busy: freed when the call ends      */
    uint64_t round;
    int64_t step;
    uint64_t generation; /* of the set that was scored */
    uint64_t values_version;
    int64_t n_modules;
    lrki_part *parts;        /* [n_modules], into the pools below    */
    int64_t *index_pool;     /* [ranks_before] kept and dropped      */
    uint64_t *identity_pool; /* [n_dropped + n_added]                */
    uint8_t *silenced;       /* [ranks_before], by position before the plan      */
    float *rows;             /* [n_rows] floats of A of added ranks; NULL: drawn */
    int64_t n_rows;
    float *rows_b; /* [n_rows_b] the same of B; NULL: 0 */
    int64_t n_rows_b;
    lrki_module_change *change_parts; /* [n_modules]: the same for the set */
    int64_t n_dropped;
    int64_t n_added;
    int64_t n_silenced;
    int64_t modules_changed;
    int64_t ranks_before;
    int64_t parameters_before;
    int64_t parameters_after;
    int64_t bytes_moved;
    double cut;
    double cut_next;
    uint64_t digest;
    lrki_change *change; /* while prepared */
    lrk_participant *participants;
    int64_t n_participants;
};

/* An open plan of a checked answer. */
lrk_status lrki_plan_create(lrk_allocator *allocator, const lrki_round *round, int64_t step, lrk_plan **plan);
/*
 * The plan gets rows of A for the ranks that it adds: module after module, tight; NULL on lack of memory (recorded). Once they
 * are written, lrki_plan_seal() takes them into the digest.
 */
float *lrki_plan_rows(lrk_plan *plan);
/* The same of B, after those of A. */
float *lrki_plan_rows_b(lrk_plan *plan);
void lrki_plan_seal(lrk_plan *plan);
/*
 * The end of a collective call that makes a plan: the other workers made the same, and of the same, else it is freed and
 * *plan NULL. `made_of` may be NULL: nothing that could differ; `plan` where `own` is a failure.
 */
lrk_status lrki_plan_agree(lrk_context *context, const char *call, lrk_status own, const lrki_claim *made_of,
                           lrk_plan **plan);
/* Tolerates half-built plans; does not touch the allocator's account. */
void lrki_plan_free(lrk_plan *plan);
const lrk_adapters *lrki_plan_adapters(const lrk_plan *plan);

/*
 * A plan on the allocator's account that its policy did not choose: what a recorded run did in this round. Neither asked nor
 * held against budget and bounds, which may have been others then. None may be pending.
 */
lrk_status lrki_allocator_follow(lrk_allocator *allocator, const lrki_round *round, int64_t step,
                                 lrk_plan **plan);

/* Element i of a host's array of participants, checked. */
lrk_status lrki_participant_read(lrk_context *context, const lrk_participant *given, int64_t i,
                                 lrk_participant *participant);

#endif
