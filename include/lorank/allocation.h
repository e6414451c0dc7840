/* SPDX-License-Identifier: MIT */
/*
 * Allocation: from scores to a plan (per module: ranks kept, ranks dropped, ranks added), and the transaction that
 * carries it out:
 *     plan -> prepare (all memory is taken, every participant may refuse) -> commit (cannot fail)  or  abandon.
 * A policy's next plan is refused (LRK_ERR_STATE) while its last one was neither committed nor abandoned.
 *
 * Selection takes exact counts under the total order (score, module, identity). New ranks come after the kept ones in
 * their module, with gate 1, B = 0, A drawn from the stream keyed by (seed, identity): the function does not change.
 * (LRK_INIT_ORTHOGONAL looks at the module's other rows too; plans of a start bring rows of their own, docs/starts.md.)
 * Threads: handle-exclusive; a plan counts as part of its set.
 */
#ifndef LRK_ALLOCATION_H
#define LRK_ALLOCATION_H

#include <stdint.h>

#include "adapters.h"
#include "importance.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_allocator lrk_allocator;
typedef struct lrk_plan lrk_plan;

/* A budget is in LRK_BUDGET_RANKS or LRK_BUDGET_PARAMETERS (adapters.h). */
#define LRK_BUDGET_INITIAL (-1) /* the total of the set when the allocator was created */
#define LRK_NO_CAP         (-1)

/* Floor and cap of the modules whose names match (fnmatch); the first limit that matches a module holds. */
typedef struct lrk_limit {
    uint32_t struct_size;
    uint32_t flags;      /* 0                                         */
    const char *pattern; /* copied [NULL: must be set]                */
    int64_t floor;       /* pruning leaves at least this many [0]     */
    int64_t cap;         /* growing stops here [LRK_NO_CAP]           */
} lrk_limit;

/* Which modules may receive (Algorithm 1, line 6: "modules from which nothing was pruned"). */
#define LRK_UNPRUNED_THIS_ROUND 0 /* the literal reading                        */
#define LRK_UNPRUNED_EVER       1 /* never pruned in any round of this allocator */

/* Where the lowest ranks are looked for. */
#define LRK_SCOPE_GLOBAL    0 /* n_move over the whole set                                 */
#define LRK_SCOPE_PER_STAGE 1 /* n_move in every stage; the stage's own modules receive    */

/* What happens if no module may receive. */
#define LRK_NO_RECEIVER_SHRINK 0 /* the total shrinks (footnote 4)          */
#define LRK_NO_RECEIVER_KEEP   1 /* nothing is pruned in that scope          */

#define LRK_ALORA_REFILL 0x1u /* also give out budget that earlier rounds left unused, over all stages */

/*
 * ALoRA (Liu et al. 2024, Algorithm 1). Exactly one of n_move and move_share says how many ranks a round prunes (n_A).
 * The n_A lowest go; as many new ranks go to the un-pruned modules, as evenly as can be, the modules of higher mean
 * score (of one provenance) taking the extra ones; with more receivers than ranks the top ones get one each. A module
 * of rank 0 receives last, one at its cap hands its share on. With a budget in parameters it is what the pruned ranks
 * cost that is given out: in turns, in the same order, to whom a rank still fits.
 */
typedef struct lrk_alora_options {
    uint32_t struct_size;
    uint32_t flags;             /* LRK_ALORA_REFILL [0]                                                            */
    int64_t n_move;             /* ranks pruned a round; above 10 % of the ranks hurts [0: unset]                  */
    double move_share;          /* share of the live ranks, in (0, 1], rounded to nearest, at least 1 [0: unset]   */
    int64_t budget;             /* in budget_unit, or LRK_BUDGET_INITIAL; a plan never exceeds it [INITIAL]        */
    int32_t budget_unit;        /* [LRK_BUDGET_RANKS]                                                              */
    int32_t unpruned;           /* [LRK_UNPRUNED_THIS_ROUND]                                                       */
    int32_t scope;              /* [LRK_SCOPE_GLOBAL]                                                              */
    int32_t no_receiver;        /* [LRK_NO_RECEIVER_SHRINK]                                                        */
    int32_t new_rank_init;      /* LRK_INIT_KAIMING_UNIFORM, GAUSSIAN or ORTHOGONAL [KAIMING_UNIFORM]              */
    int32_t protect_rounds;     /* a rank is safe in that many plans after the one that added it, >= 0 [0]         */
    const lrk_limit *limits;    /* copied [NULL]                                                                   */
    int64_t n_limits;           /* [0]                                                                             */
} lrk_alora_options;

/*
 * ElaLoRA (Chang et al. 2025): prune and expand by nomination. Every module nominates its `nominees` lowest ranks, but never
 * its last one and none that floor or protection keep. Of all nominees together the b lowest go; from the highest
 * down, each that stays brings its module one new rank, until as many have come as went. A module at its cap is passed
 * over, with a budget in parameters also one that is too dear for what is left of it. Fewer than 2 b nominees: half of
 * them go. A module with a single rank nominates none, and so stays as it is.
 * Its phases without changes are the schedule's warm-up and the time after the last round.
 * b is n_move, or goes evenly from n_move in round 0 to n_move_last in round n_rounds - 1 (rounded to nearest), where it
 * stays.
 */
typedef struct lrk_elalora_options {
    uint32_t struct_size;
    uint32_t flags;          /* 0                                                                      */
    int64_t n_move;          /* b >= 1 [0: must be set]                                                */
    int64_t n_move_last;     /* >= 1, needs n_rounds [0: b stays n_move]                               */
    int64_t n_rounds;        /* >= 2 with n_move_last, else 0 [0]                                      */
    int64_t nominees;        /* k >= 1 [2]                                                             */
    int64_t budget;          /* as in lrk_alora_options [INITIAL]                                      */
    int32_t budget_unit;     /* [LRK_BUDGET_RANKS]                                                     */
    int32_t new_rank_init;   /* [LRK_INIT_ORTHOGONAL]                                                  */
    int32_t protect_rounds;  /* [0]                                                                    */
    int32_t reserved;        /* 0                                                                      */
    const lrk_limit *limits; /* copied [NULL]                                                          */
    int64_t n_limits;        /* [0]                                                                    */
} lrk_elalora_options;

/* Score of a module, from those of its ranks (of one provenance, as in ALoRA). A module of rank 0 has none. */
#define LRK_MODULE_SUM  0 /* how much its whole adapter does */
#define LRK_MODULE_MEAN 1 /* how much a rank of it does      */

/*
 * IncreLoRA (Zhang et al. 2023): grows only. In each round the grow_modules modules of highest score (ties by module index,
 * rank 0 last) get grow_ranks new ranks each, as far as cap and budget let them; modules that can get none are passed
 * over. The budget is the target: with a full one nothing happens any more.
 */
typedef struct lrk_increlora_options {
    uint32_t struct_size;
    uint32_t flags;          /* 0                                                      */
    int64_t grow_modules;    /* top_h >= 1 [0: must be set]                            */
    int64_t grow_ranks;      /* c >= 1 [1]                                             */
    int64_t budget;          /* >= 0: the total to grow to [INITIAL: must be set]      */
    int32_t budget_unit;     /* [LRK_BUDGET_RANKS]                                     */
    int32_t module_score;    /* LRK_MODULE_... [LRK_MODULE_SUM]                        */
    int32_t new_rank_init;   /* [LRK_INIT_KAIMING_UNIFORM]                             */
    int32_t reserved;        /* 0                                                      */
    const lrk_limit *limits; /* caps; floors do nothing here; copied [NULL]            */
    int64_t n_limits;        /* [0]                                                    */
} lrk_increlora_options;

/*
 * Threshold: every rank whose score is not above the threshold goes, the lowest first, as far as floors and protection let
 * it; none comes. With scores |g| it ends what a proximal step on gates began (SoRA, CoDyRA). It has no budget.
 */
typedef struct lrk_threshold_options {
    uint32_t struct_size;
    uint32_t flags;          /* 0                        */
    double threshold;        /* finite [0]               */
    int32_t protect_rounds;  /* as in lrk_alora_options [0] */
    int32_t reserved;        /* 0                        */
    const lrk_limit *limits; /* floors; copied [NULL]    */
    int64_t n_limits;        /* [0]                      */
} lrk_threshold_options;

/*
 * AdaLoRA's masking (as its code has it): until the last round no rank goes. Those that would go stay with a gate that commit
 * sets to 0; trained gates (LRK_ADAMW_GATES) move on from there and every round judges all ranks anew, so that one comes
 * back with its score. Round T drops what it would mask. The policy is called "adalora" then.
 */
#define LRK_PRUNE_COME_BACK 0x1u

/*
 * Start large and prune, along AdaLoRA's cubic budget (Zhang et al. 2023, eq. 10): after round t of T the set holds at most
 *     b(t) = b_T + (b_0 - b_T) (1 - t / T)^3,   rounded down,
 * in units of the budget; the ranks of lowest score go until that is met, under any estimator. Nothing grows. b_T is the budget;
 * b_0 is the larger of multiple * b_T (rounded down) and what the set holds when the allocator is created, so that the allocator
 * can be made before a gradient start fills the set. Floors and protection may leave a round short; a later one makes up
 * for it. AdaLoRA's phases without pruning are the schedule's warm-up and the time after the last round.
 */
typedef struct lrk_prune_options {
    uint32_t struct_size;
    uint32_t flags;          /* LRK_PRUNE_COME_BACK [0]                                                             */
    int64_t n_rounds;        /* T >= 1 [0: must be set]                                                             */
    int64_t budget;          /* b_T, in budget_unit, or LRK_BUDGET_INITIAL: what the set holds at creation [INITIAL] */
    double multiple;         /* >= 1 [1]                                                                            */
    int32_t budget_unit;     /* [LRK_BUDGET_RANKS]                                                                  */
    int32_t protect_rounds;  /* [0]                                                                                 */
    const lrk_limit *limits; /* floors; caps do nothing here; copied [NULL]                                         */
    int64_t n_limits;        /* [0]                                                                                 */
} lrk_prune_options;

/* What a policy is asked, and where it answers; arrays over the live ranks are module after module in index order. */
typedef struct lrk_policy_request {
    uint32_t struct_size;
    int32_t n_modules;
    int64_t n_ranks;
    const lrk_scores *scores;
    uint8_t *drop; /* [n_ranks] 0 on entry: set 1 to drop   */
    int64_t *add;  /* [n_modules] 0 on entry: new ranks     */
    uint64_t round;
} lrk_policy_request;

/*
 * The host's own policy. plan() fills drop and add; non-zero ends with LRK_ERR_HOST. The answer is checked against
 * budget, floors, caps and capacities (LRK_ERR_BUDGET names the module).
 */
typedef struct lrk_custom_policy {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    void *user;
    const char *name; /* copied */
    int32_t (*plan)(void *user, const lrk_policy_request *request);
    int64_t budget;      /* [LRK_BUDGET_INITIAL]               */
    int32_t budget_unit; /* [LRK_BUDGET_RANKS]                 */
    int32_t new_rank_init;
    const lrk_limit *limits;
    int64_t n_limits;
} lrk_custom_policy;

typedef struct lrk_plan_info {
    uint32_t struct_size;
    uint32_t flags;
    const char *policy;        /* borrowed from the plan                                       */
    uint64_t round;            /* plans of the allocator committed before it                   */
    int64_t step;              /* birth step of the added ranks                                */
    int64_t n_dropped;
    int64_t n_added;
    int64_t modules_changed;
    int64_t ranks_before;
    int64_t ranks_after;
    int64_t parameters_before;
    int64_t parameters_after;
    double cut;                /* highest score dropped, NaN if none                           */
    double cut_next;           /* lowest score kept among those that could go, NaN if none     */
    int64_t bytes_moved;       /* parameter bytes that commit copies (library storage)         */
    int32_t state;             /* LRK_PLAN_...                                                 */
    int32_t reserved;
    int64_t n_silenced;        /* ranks that stay and whose gate becomes 0                     */
} lrk_plan_info;

#define LRK_PLAN_OPEN      0
#define LRK_PLAN_PREPARED  1
#define LRK_PLAN_COMMITTED 2
#define LRK_PLAN_ABANDONED 3

/* What a plan does to one module. Pointers are borrowed from the plan. */
typedef struct lrk_plan_module {
    uint32_t struct_size;
    uint32_t flags;
    int64_t rank_before;
    int64_t rank_after;
    int64_t n_kept;
    int64_t n_dropped;
    int64_t n_added;
    const int64_t *kept;         /* [n_kept] old indices, ascending: new index i holds old index kept[i] */
    const int64_t *dropped;      /* [n_dropped] old indices, ascending                                   */
    const uint64_t *dropped_ids; /* [n_dropped]                                                          */
    const uint64_t *added_ids;   /* [n_added] at new indices n_kept + i                                  */
} lrk_plan_module;

/*
 * One who must follow a rank change: an optimizer with moments, host storage, another worker. prepare() takes all it
 * needs and may refuse with non-zero; then those prepared before are abandoned, in reverse order, and the plan stays
 * open. commit() cannot fail; it runs after the set itself has changed. abandon() undoes prepare.
 */
typedef struct lrk_participant {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    void *user;
    const char *name; /* for error details; must outlive the participant's use */
    int32_t (*prepare)(void *user, const lrk_plan *plan);
    void (*commit)(void *user, const lrk_plan *plan);
    void (*abandon)(void *user, const lrk_plan *plan);
} lrk_participant;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_limit_init(lrk_limit *limit, size_t struct_size);
LRK_API lrk_status lrk_alora_options_init(lrk_alora_options *options, size_t struct_size);
LRK_API lrk_status lrk_elalora_options_init(lrk_elalora_options *options, size_t struct_size);
LRK_API lrk_status lrk_increlora_options_init(lrk_increlora_options *options, size_t struct_size);
LRK_API lrk_status lrk_threshold_options_init(lrk_threshold_options *options, size_t struct_size);
LRK_API lrk_status lrk_prune_options_init(lrk_prune_options *options, size_t struct_size);
LRK_API lrk_status lrk_custom_policy_init(lrk_custom_policy *policy, size_t struct_size);
LRK_API lrk_status lrk_participant_init(lrk_participant *participant, size_t struct_size);

/*
 * ALoRA.
 * Errors   LRK_ERR_ARGUMENT   neither or both of n_move and move_share, a value out of range, floor > cap
 *          LRK_ERR_NOT_FOUND  a limit's pattern decides no module
 *          LRK_ERR_BUDGET     the set exceeds the budget already;  LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_allocator_create_alora(lrk_adapters *adapters, const lrk_alora_options *options,
                                                              lrk_allocator **allocator);

/*
 * ElaLoRA, IncreLoRA, and the threshold (options may be NULL). Errors: as lrk_allocator_create_alora(), LRK_ERR_ARGUMENT for their own members. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_allocator_create_elalora(lrk_adapters *adapters,
                                                                const lrk_elalora_options *options,
                                                                lrk_allocator **allocator);
LRK_API LRK_WARN_UNUSED lrk_status lrk_allocator_create_increlora(lrk_adapters *adapters,
                                                                  const lrk_increlora_options *options,
                                                                  lrk_allocator **allocator);
LRK_API LRK_WARN_UNUSED lrk_status lrk_allocator_create_threshold(lrk_adapters *adapters,
                                                                  const lrk_threshold_options *options,
                                                                  lrk_allocator **allocator);

/*
 * Start large and prune.
 * Errors   LRK_ERR_ARGUMENT   a value out of range;  LRK_ERR_NOT_FOUND  a limit's pattern decides no module
 *          LRK_ERR_BUDGET     the floors exceed the budget; the detail names the module;  LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_allocator_create_prune(lrk_adapters *adapters, const lrk_prune_options *options,
                                                              lrk_allocator **allocator);

/* Keeps every rank (plain LoRA): its plans change nothing. Errors: LRK_ERR_ARGUMENT, LRK_ERR_NOMEM. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_allocator_create_fixed(lrk_adapters *adapters, lrk_allocator **allocator);

/* The host's policy. Errors: as lrk_allocator_create_alora(). Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_allocator_create_custom(lrk_adapters *adapters, const lrk_custom_policy *policy,
                                                               lrk_allocator **allocator);

/* Gives up the caller's reference. NULL is ignored. Since 0.1 */
LRK_API void lrk_allocator_destroy(lrk_allocator *allocator);

/*
 * Ranks that the next plan would prune with the live ranks as they are (n_A), for the estimator's n_cut and for dry
 * runs. Prune: from its budgets alone, an upper bound if they are in parameters. 0 for those that prune none, for
 * threshold, whose number its scores decide, and for custom. Errors: LRK_ERR_ARGUMENT. Since 0.1
 */
LRK_API lrk_status lrk_allocator_n_move(const lrk_allocator *allocator, int64_t *n_move);

/*
 * Makes a plan from scores; nothing changes yet. `step` becomes the birth step of new ranks. Fewer ranks are pruned
 * than asked if floors or protection leave fewer.
 * Errors   LRK_ERR_STALE      scores made before a rank change or a change of values
 *          LRK_ERR_STATE      the allocator's last plan is neither committed nor abandoned; the detail names its round
 *          LRK_ERR_BUDGET     a custom policy's answer breaks budget, floor, cap or capacity; or the set outgrew the
 *                             budget by other means, and n_move does not bring it back
 *          LRK_ERR_BUSY       called from a host callback
 *          LRK_ERR_HOST, LRK_ERR_ARGUMENT (scores of another set, step < 0), LRK_ERR_NOMEM
 * Owner    the caller.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_allocator_plan(lrk_allocator *allocator, const lrk_scores *scores, int64_t step,
                                                      lrk_plan **plan);

/* Facts. Errors: LRK_ERR_ARGUMENT. Threads: shared-read. Since 0.1 */
LRK_API lrk_status lrk_plan_info_get(const lrk_plan *plan, lrk_plan_info *info);

/* One module's part. Errors: LRK_ERR_ARGUMENT. Threads: shared-read. Since 0.1 */
LRK_API lrk_status lrk_plan_module_get(const lrk_plan *plan, int32_t module, lrk_plan_module *part);

/*
 * 64-bit digest of what the plan does (modules, kept indices, identities), equal on workers that plan the same.
 * Errors: LRK_ERR_ARGUMENT. Since 0.1
 */
LRK_API lrk_status lrk_plan_digest(const lrk_plan *plan, uint64_t *digest);

/*
 * Takes all memory that commit needs and asks the participants (array stepped by participants[0].struct_size, copied;
 * may be NULL with 0). Afterwards passes and steps are refused (LRK_ERR_BUSY) until commit or abandon.
 * Errors   LRK_ERR_REFUSED  a participant refused; the detail names it
 *          LRK_ERR_HOST     the host's storage refused
 *          LRK_ERR_STALE    ranks or parameters changed since the plan was made
 *          LRK_ERR_BUSY     a pass is open or another plan is prepared;  LRK_ERR_STATE  the plan is not open
 *          LRK_ERR_NOMEM    After a failure the plan is still open and nothing has changed.
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_plan_prepare(lrk_plan *plan, const lrk_participant *participants,
                                                    int64_t n_participants);

/*
 * Carries out a prepared plan: ranks, identities, births, values; gradients become 0; then the participants' commit.
 * Memory of dropped ranks is freed (library-owned storage). Errors: LRK_ERR_ARGUMENT, LRK_ERR_STATE (not prepared).
 * Since 0.1
 */
LRK_API lrk_status lrk_plan_commit(lrk_plan *plan);

/*
 * Gives up an open or prepared plan. Errors: LRK_ERR_ARGUMENT, LRK_ERR_STATE (committed or abandoned, or just being
 * prepared or committed). Since 0.1
 */
LRK_API lrk_status lrk_plan_abandon(lrk_plan *plan);

/*
 * Frees the handle. An uncommitted plan is abandoned if it was prepared, and logged as a warning; an open one stays on
 * the allocator's account until lrk_plan_abandon(): destroying it is not abandoning it. NULL is ignored. Since 0.1
 */
LRK_API void lrk_plan_destroy(lrk_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
