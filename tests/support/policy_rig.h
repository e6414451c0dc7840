/* SPDX-License-Identifier: MIT */
/*
 * Policies against naive transcriptions of their rules: random sets, limits, budgets and scores (with ties), several
 * rounds each, with an account of the set of the tests' own. And what every policy must do whatever its rules: go on
 * exactly after a restore, and fail without a trace where memory does. Everything ck_asserts that it succeeds.
 */
#ifndef POLICY_RIG_H
#define POLICY_RIG_H

#include "small_set.h"

enum { RIG_MODULES = 6, RIG_RANKS = 256 };

typedef struct policy_rig {
    small_set set;
    uint64_t random;
    int64_t n_modules;
    small_module modules[RIG_MODULES];
    lrk_limit limits[RIG_MODULES]; /* of every module, by name: for the options */
    char patterns[RIG_MODULES][8];
    int32_t budget_unit;
    int32_t protect_rounds;
    bool n_move_unknown; /* the policy's scores decide it: its n_move is 0 */
    int64_t budget;      /* what is held at first, and a little more in half of the rigs */
    int64_t round;
    int64_t rank[RIG_MODULES];
    int64_t cost[RIG_MODULES];
    int64_t born[RIG_MODULES][RIG_RANKS]; /* round that added it, -1: initial */
    double score[RIG_MODULES][RIG_RANKS];
    bool drop[RIG_MODULES][RIG_RANKS]; /* the transcription's answer */
    int64_t add[RIG_MODULES];
} policy_rig;

/* LRK_TEST_SEED, else 1. */
uint64_t policy_rig_first_seed(void);
void policy_rig_open(policy_rig *rig, uint64_t seed);
void policy_rig_close(policy_rig *rig);

int64_t policy_rig_held(const policy_rig *rig); /* in units of the budget */
int64_t policy_rig_dropped(const policy_rig *rig, int module);
bool policy_rig_newborn(const policy_rig *rig, int module, int64_t rank);
bool policy_rig_has_room(const policy_rig *rig, int module); /* for one rank more, drops counted */

/* Scores for the ranks as they are; few distinct values, and sums of quarters are exact. */
lrk_scores *policy_rig_draw(policy_rig *rig);
/* Draws scores, asks both, holds the plan against the answer, n_move and the budget, and carries it out. */
void policy_rig_round(policy_rig *rig, lrk_allocator *allocator, void (*naive)(policy_rig *rig, void *user),
                      void *user, uint64_t seed);

/* Two rigs of one seed, the first with rounds behind it: restored from its checkpoint, the second plans the same. */
void policy_rig_resume(policy_rig *old, lrk_allocator *old_allocator, policy_rig *fresh,
                       lrk_allocator *fresh_allocator);
/* The status of a restore from a checkpoint of one set and allocator into another. */
lrk_status policy_rig_restore(const small_set *from, lrk_allocator *saved, const small_set *to,
                              lrk_allocator *restored);
/* Every request for memory fails once while a plan is made, prepared and abandoned. */
void policy_rig_each_fault(small_set *set, lrk_allocator *allocator, const lrk_scores *scores);

#endif
