/* SPDX-License-Identifier: MIT */
/*
 * Policies against transcriptions (policy_rig.h).
 */
#include "policy_rig.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "resume.h"
#include "sets.h"

uint64_t policy_rig_first_seed(void)
{
    const char *text = getenv("LRK_TEST_SEED");
    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

/* ---- the account ----------------------------------------------------------------------------------------------------- */

int64_t policy_rig_held(const policy_rig *rig)
{
    int64_t sum = 0;
    for (int m = 0; m < rig->n_modules; m++)
        sum += rig->rank[m] * rig->cost[m];
    return sum;
}

int64_t policy_rig_dropped(const policy_rig *rig, int module)
{
    int64_t n = 0;
    for (int64_t j = 0; j < rig->rank[module]; j++)
        n += rig->drop[module][j];
    return n;
}

bool policy_rig_newborn(const policy_rig *rig, int module, int64_t rank)
{
    int64_t born = rig->born[module][rank];
    return born >= 0 && rig->round - born <= rig->protect_rounds;
}

bool policy_rig_has_room(const policy_rig *rig, int module)
{
    int64_t cap = rig->limits[module].cap;
    int64_t after = rig->rank[module] - policy_rig_dropped(rig, module) + rig->add[module];
    return cap == LRK_NO_CAP || after < cap;
}

static void commit(policy_rig *rig)
{
    for (int m = 0; m < rig->n_modules; m++) {
        int64_t kept = 0;
        for (int64_t j = 0; j < rig->rank[m]; j++)
            if (!rig->drop[m][j]) rig->born[m][kept++] = rig->born[m][j];
        for (int64_t j = 0; j < rig->add[m]; j++)
            rig->born[m][kept++] = rig->round;
        rig->rank[m] = kept;
    }
    rig->round++;
}

/* ---- random sets ----------------------------------------------------------------------------------------------------- */

static void draw_module(policy_rig *rig, int m)
{
    bool limited = small_random_below(&rig->random, 3) == 0;
    int64_t floor = limited ? small_random_below(&rig->random, 4) : 0;
    int64_t cap = limited ? floor + small_random_below(&rig->random, 6) : LRK_NO_CAP;
    rig->modules[m] = (small_module){.n_in = 1 + small_random_below(&rig->random, 4),
                                     .n_out = 1 + small_random_below(&rig->random, 4),
                                     .rank = small_random_below(&rig->random, 6)};
    snprintf(rig->patterns[m], sizeof rig->patterns[m], "m%d", m);
    rig->limits[m] = (lrk_limit){
        .struct_size = sizeof rig->limits[m], .pattern = rig->patterns[m], .floor = floor, .cap = cap};
    rig->rank[m] = rig->modules[m].rank;
    for (int64_t j = 0; j < rig->rank[m]; j++)
        rig->born[m][j] = -1;
    rig->cost[m] = rig->budget_unit == LRK_BUDGET_RANKS ? 1 : rig->modules[m].n_in + rig->modules[m].n_out;
}

void policy_rig_open(policy_rig *rig, uint64_t seed)
{
    memset(rig, 0, sizeof *rig);
    rig->random = seed;
    rig->n_modules = 1 + small_random_below(&rig->random, RIG_MODULES);
    rig->budget_unit = (int32_t)small_random_below(&rig->random, 2);
    rig->protect_rounds = (int32_t)small_random_below(&rig->random, 3);
    for (int m = 0; m < rig->n_modules; m++)
        draw_module(rig, m);
    rig->budget = policy_rig_held(rig);
    if (small_random_below(&rig->random, 2)) rig->budget += small_random_below(&rig->random, 8);
    small_set_open(&rig->set, rig->modules, rig->n_modules, NULL);
}

void policy_rig_close(policy_rig *rig)
{
    small_set_close(&rig->set);
}

lrk_scores *policy_rig_draw(policy_rig *rig)
{
    double values[RIG_MODULES * RIG_RANKS];
    int64_t flat = 0;
    for (int m = 0; m < rig->n_modules; m++)
        for (int64_t j = 0; j < rig->rank[m]; j++)
            values[flat++] = rig->score[m][j] = (double)(small_random_below(&rig->random, 24) - 12) / 4;
    return small_set_scores(&rig->set, values);
}

/* ---- rounds ---------------------------------------------------------------------------------------------------------- */

static void assert_module(const policy_rig *rig, const lrk_plan *plan, int32_t m, uint64_t seed)
{
    lrk_plan_module part = {.struct_size = sizeof part};
    int64_t dropped = policy_rig_dropped(rig, m);
    ck_assert_int_eq(lrk_plan_module_get(plan, m, &part), LRK_OK);
    ck_assert_msg(part.n_added == rig->add[m] && part.n_dropped == dropped,
                  "seed %llu round %d module %d: -%d +%d, expected -%d +%d", (unsigned long long)seed,
                  (int)rig->round, (int)m, (int)part.n_dropped, (int)part.n_added, (int)dropped,
                  (int)rig->add[m]);
    for (int64_t i = 0; i < part.n_dropped; i++)
        ck_assert_msg(rig->drop[m][part.dropped[i]], "seed %llu", (unsigned long long)seed);
}

static void assert_plan(const policy_rig *rig, const lrk_plan *plan, int64_t n_move, uint64_t seed)
{
    lrk_plan_info info = {.struct_size = sizeof info};
    for (int32_t m = 0; m < rig->n_modules; m++)
        assert_module(rig, plan, m, seed);
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    ck_assert_int_le(rig->budget_unit == LRK_BUDGET_RANKS ? info.ranks_after : info.parameters_after,
                     rig->budget);
    ck_assert_int_eq(n_move, rig->n_move_unknown ? 0 : info.n_dropped);
    if (!isnan(info.cut) && !isnan(info.cut_next)) ck_assert_double_le(info.cut, info.cut_next);
}

void policy_rig_round(policy_rig *rig, lrk_allocator *allocator, void (*naive)(policy_rig *rig, void *user),
                      void *user, uint64_t seed)
{
    int64_t n_move = -1;
    lrk_scores *scores = policy_rig_draw(rig);
    ck_assert_int_eq(lrk_allocator_n_move(allocator, &n_move), LRK_OK);
    lrk_plan *plan = small_set_plan(allocator, scores);
    memset(rig->drop, 0, sizeof rig->drop);
    memset(rig->add, 0, sizeof rig->add);
    naive(rig, user);
    assert_plan(rig, plan, n_move, seed);
    small_set_carry_out(plan, NULL, 0);
    commit(rig);
    for (int32_t m = 0; m < rig->n_modules; m++)
        ck_assert_int_eq(small_set_rank(&rig->set, m), rig->rank[m]);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
}

/* ---- restores -------------------------------------------------------------------------------------------------------- */

static lrk_checkpoint *list(const small_set *set, lrk_allocator *allocator)
{
    lrk_checkpoint *checkpoint = NULL;
    ck_assert_int_eq(lrk_checkpoint_create(set->context, &checkpoint), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(checkpoint, "set", set->adapters), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_allocator(checkpoint, "main", allocator), LRK_OK);
    return checkpoint;
}

lrk_status policy_rig_restore(const small_set *from, lrk_allocator *saved, const small_set *to,
                              lrk_allocator *restored)
{
    lrk_checkpoint *out = list(from, saved);
    lrk_checkpoint *in = list(to, restored);
    resume_bytes bytes = resume_save(out);
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file = NULL;
    ck_assert_int_eq(lrk_reader_memory(&reader, bytes.data, bytes.n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(to->context, &reader, NULL, &file), LRK_OK);
    lrk_status status = lrk_checkpoint_restore(file, in, NULL);
    lrk_checkpoint_close(file);
    free(bytes.data);
    lrk_checkpoint_destroy(in);
    lrk_checkpoint_destroy(out);
    return status;
}

void policy_rig_resume(policy_rig *old, lrk_allocator *old_allocator, policy_rig *fresh,
                       lrk_allocator *fresh_allocator)
{
    uint64_t digest[2];
    ck_assert_int_eq(policy_rig_restore(&old->set, old_allocator, &fresh->set, fresh_allocator), LRK_OK);
    memcpy(fresh->rank, old->rank, sizeof fresh->rank);
    fresh->random = old->random;
    lrk_scores *scores[2] = {policy_rig_draw(old), policy_rig_draw(fresh)};
    lrk_plan *plans[2] = {small_set_plan(old_allocator, scores[0]),
                          small_set_plan(fresh_allocator, scores[1])};
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(lrk_plan_digest(plans[i], &digest[i]), LRK_OK);
    ck_assert_uint_eq(digest[0], digest[1]);
    for (int i = 0; i < 2; i++)
        small_set_carry_out(plans[i], NULL, 0);
    ck_assert_uint_eq(sets_digest(old->set.adapters), sets_digest(fresh->set.adapters));
    for (int i = 0; i < 2; i++) {
        lrk_plan_destroy(plans[i]);
        lrk_scores_destroy(scores[i]);
    }
}

/* ---- faults ---------------------------------------------------------------------------------------------------------- */

typedef struct attempt {
    lrk_allocator *allocator;
    const lrk_scores *scores;
    lrk_plan *plan;
} attempt;

static lrk_status plan_and_prepare(void *user)
{
    attempt *a = user;
    lrk_status status = lrk_allocator_plan(a->allocator, a->scores, 0, &a->plan);
    if (status != LRK_OK) return status;
    status = lrk_plan_prepare(a->plan, NULL, 0);
    if (status == LRK_OK) return LRK_OK;
    ck_assert_int_eq(lrk_plan_abandon(a->plan), LRK_OK);
    lrk_plan_destroy(a->plan);
    return status;
}

static void abandon(void *user)
{
    attempt *a = user;
    ck_assert_int_eq(lrk_plan_abandon(a->plan), LRK_OK);
    lrk_plan_destroy(a->plan);
}

void policy_rig_each_fault(small_set *set, lrk_allocator *allocator, const lrk_scores *scores)
{
    attempt a = {allocator, scores, NULL};
    sets_each_fault(&set->host, plan_and_prepare, abandon, &a);
}
