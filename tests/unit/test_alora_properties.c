/* SPDX-License-Identifier: MIT */
/*
 * ALoRA's policy against a naive transcription of Algorithm 1 over random sets, scores (with ties) and options, several
 * rounds each: one rank at a time, by scanning, without orders or turns. And what must hold whatever the scores: the
 * budget, the sum, kept order, independence of module order, equal digests. LRK_TEST_SEED sets the first seed.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "small_set.h"

enum { SEEDS = 400, ROUNDS = 5, MOST_MODULES = 6, MOST_RANKS = 256 };

/* What the naive version knows: its own account of the set. */
typedef struct naive {
    lrk_alora_options options;
    int64_t n_modules;
    int64_t rank[MOST_MODULES];
    int64_t cost[MOST_MODULES];
    int64_t floor[MOST_MODULES];
    int64_t cap[MOST_MODULES];
    int32_t stage[MOST_MODULES];
    bool pruned_ever[MOST_MODULES];
    int64_t born[MOST_MODULES][MOST_RANKS]; /* round that added it, -1: initial */
    double score[MOST_MODULES][MOST_RANKS];
    bool drop[MOST_MODULES][MOST_RANKS];
    int64_t add[MOST_MODULES];
    int64_t budget;
    int64_t round;
} naive;

static int64_t units_held(const naive *n)
{
    int64_t sum = 0;
    for (int m = 0; m < n->n_modules; m++)
        sum += n->rank[m] * n->cost[m];
    return sum;
}

static int64_t dropped_in(const naive *n, int m)
{
    int64_t count = 0;
    for (int64_t j = 0; j < n->rank[m]; j++)
        count += n->drop[m][j];
    return count;
}

/* ---- the transcription -------------------------------------------------------------------------------------------------- */

static bool may_go(const naive *n, int m, int64_t j)
{
    bool newborn = n->born[m][j] >= 0 && n->round - n->born[m][j] <= n->options.protect_rounds;
    return !n->drop[m][j] && !newborn && n->rank[m] - dropped_in(n, m) > n->floor[m];
}

/* Module and index of the lowest rank that may go; within a module identities grow with the index. */
static bool find_lowest(const naive *n, int32_t stage, int *module, int64_t *index)
{
    bool found = false;
    for (int m = 0; m < n->n_modules; m++)
        for (int64_t j = 0; j < n->rank[m]; j++) {
            if ((stage >= 0 && n->stage[m] != stage) || !may_go(n, m, j)) continue;
            if (found && n->score[m][j] >= n->score[*module][*index]) continue;
            found = true;
            *module = m;
            *index = j;
        }
    return found;
}

static bool is_receiver(const naive *n, int m, int32_t stage)
{
    if (stage >= 0 && n->stage[m] != stage) return false;
    if (n->options.unpruned == LRK_UNPRUNED_EVER && n->pruned_ever[m]) return false;
    return dropped_in(n, m) == 0 && (n->cap[m] == LRK_NO_CAP || n->rank[m] + n->add[m] < n->cap[m]);
}

static double mean_of(const naive *n, int m)
{
    double sum = 0;
    for (int64_t j = 0; j < n->rank[m]; j++)
        sum += n->score[m][j];
    return n->rank[m] == 0 ? -INFINITY : sum / (double)n->rank[m];
}

static void give_one_by_one(naive *n, int32_t stage, int64_t purse)
{
    int64_t given[MOST_MODULES] = {0};
    for (;;) {
        int best = -1;
        for (int m = 0; m < n->n_modules; m++) {
            if (!is_receiver(n, m, stage) || n->cost[m] > purse) continue;
            if (best < 0 || given[m] < given[best] ||
                (given[m] == given[best] && mean_of(n, m) > mean_of(n, best)))
                best = m;
        }
        if (best < 0) return;
        n->add[best]++;
        given[best]++;
        purse -= n->cost[best];
    }
}

static bool any_receiver(const naive *n, int32_t stage)
{
    for (int m = 0; m < n->n_modules; m++)
        if (is_receiver(n, m, stage)) return true;
    return false;
}

static int64_t wanted(const naive *n, int32_t stage)
{
    int64_t live = 0;
    for (int m = 0; m < n->n_modules; m++)
        if (stage < 0 || n->stage[m] == stage) live += n->rank[m];
    if (n->options.n_move > 0) return n->options.n_move;
    return (int64_t)fmax(1, floor(n->options.move_share * (double)live + 0.5));
}

static void naive_scope(naive *n, int32_t stage, int64_t extra)
{
    int64_t freed = 0;
    int module = 0;
    int64_t index = 0;
    for (int64_t i = wanted(n, stage); i > 0 && find_lowest(n, stage, &module, &index); i--) {
        n->drop[module][index] = true;
        freed += n->cost[module];
    }
    if (!any_receiver(n, stage) && n->options.no_receiver == LRK_NO_RECEIVER_KEEP) {
        freed = 0;
        for (int m = 0; m < n->n_modules; m++)
            if (stage < 0 || n->stage[m] == stage) memset(n->drop[m], 0, sizeof n->drop[m]);
    }
    give_one_by_one(n, stage, freed + extra);
}

static void naive_plan(naive *n)
{
    int64_t unused = (n->options.flags & LRK_ALORA_REFILL) ? n->budget - units_held(n) : 0;
    memset(n->drop, 0, sizeof n->drop);
    memset(n->add, 0, sizeof n->add);
    if (n->options.scope == LRK_SCOPE_GLOBAL) {
        naive_scope(n, -1, unused);
        return;
    }
    for (int32_t stage = 0; stage < 3; stage++)
        naive_scope(n, stage, 0);
    give_one_by_one(n, -1, unused);
}

static void naive_commit(naive *n)
{
    for (int m = 0; m < n->n_modules; m++) {
        int64_t kept = 0;
        if (dropped_in(n, m) > 0) n->pruned_ever[m] = true;
        for (int64_t j = 0; j < n->rank[m]; j++)
            if (!n->drop[m][j]) n->born[m][kept++] = n->born[m][j];
        for (int64_t j = 0; j < n->add[m]; j++)
            n->born[m][kept++] = n->round;
        n->rank[m] = kept;
    }
    n->round++;
}

/* ---- random worlds ------------------------------------------------------------------------------------------------------- */

typedef struct world {
    naive model;
    small_set set;
    small_module modules[MOST_MODULES];
    lrk_limit limits[MOST_MODULES];
    char patterns[MOST_MODULES][8];
    uint64_t random;
} world;

static void make_modules(world *w)
{
    naive *n = &w->model;
    n->n_modules = 1 + small_random_below(&w->random, MOST_MODULES);
    for (int m = 0; m < n->n_modules; m++) {
        w->modules[m] = (small_module){.n_in = 1 + small_random_below(&w->random, 4),
                                       .n_out = 1 + small_random_below(&w->random, 4),
                                       .rank = small_random_below(&w->random, 6),
                                       .stage = (int32_t)small_random_below(&w->random, 3)};
        n->rank[m] = w->modules[m].rank;
        n->stage[m] = w->modules[m].stage;
        for (int64_t j = 0; j < n->rank[m]; j++)
            n->born[m][j] = -1;
    }
}

static void make_limits(world *w)
{
    naive *n = &w->model;
    for (int m = 0; m < n->n_modules; m++) {
        bool limited = small_random_below(&w->random, 3) == 0;
        n->floor[m] = limited ? small_random_below(&w->random, 4) : 0;
        n->cap[m] = limited ? n->floor[m] + small_random_below(&w->random, 6) : LRK_NO_CAP;
        snprintf(w->patterns[m], sizeof w->patterns[m], "m%d", m);
        w->limits[m] = (lrk_limit){.struct_size = sizeof w->limits[m],
                                   .pattern = w->patterns[m],
                                   .floor = n->floor[m],
                                   .cap = n->cap[m]};
    }
    n->options.limits = w->limits;
    n->options.n_limits = n->n_modules;
}

static void make_options(world *w)
{
    naive *n = &w->model;
    n->options = small_set_alora(1 + small_random_below(&w->random, 6));
    if (small_random_below(&w->random, 3) == 0) {
        n->options.n_move = 0;
        n->options.move_share = (double)(1 + small_random_below(&w->random, 10)) / 10;
    }
    n->options.unpruned = (int32_t)small_random_below(&w->random, 2);
    n->options.scope = (int32_t)small_random_below(&w->random, 2);
    n->options.no_receiver = (int32_t)small_random_below(&w->random, 2);
    n->options.budget_unit = (int32_t)small_random_below(&w->random, 2);
    n->options.protect_rounds = (int32_t)small_random_below(&w->random, 3);
    n->options.flags = small_random_below(&w->random, 2) ? LRK_ALORA_REFILL : 0;
    for (int m = 0; m < n->n_modules; m++)
        n->cost[m] =
            n->options.budget_unit == LRK_BUDGET_RANKS ? 1 : w->modules[m].n_in + w->modules[m].n_out;
    n->budget = units_held(n);
    if (small_random_below(&w->random, 2)) {
        n->budget += small_random_below(&w->random, 8);
        n->options.budget = n->budget;
    }
}

static void make_world(world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->random = seed;
    make_modules(w);
    make_options(w);
    make_limits(w);
    small_set_open(&w->set, w->modules, w->model.n_modules, NULL);
}

/* Few distinct values, so that ties are common; sums of quarters are exact, so that equal means are equal. */
static lrk_scores *draw_scores(world *w)
{
    double values[MOST_MODULES * MOST_RANKS];
    int64_t flat = 0;
    for (int m = 0; m < w->model.n_modules; m++)
        for (int64_t j = 0; j < w->model.rank[m]; j++) {
            double value = (double)(small_random_below(&w->random, 24) - 12) / 4;
            w->model.score[m][j] = value;
            values[flat++] = value;
        }
    return small_set_scores(&w->set, values);
}

/* ---- properties ---------------------------------------------------------------------------------------------------------- */

static void assert_same_plan(const naive *n, const lrk_plan *plan, uint64_t seed)
{
    for (int32_t m = 0; m < n->n_modules; m++) {
        lrk_plan_module part = {.struct_size = sizeof part};
        ck_assert_int_eq(lrk_plan_module_get(plan, m, &part), LRK_OK);
        ck_assert_msg(part.n_added == n->add[m] && part.n_dropped == dropped_in(n, m),
                      "seed %llu round %d module %d: -%d +%d, expected -%d +%d", (unsigned long long)seed,
                      (int)n->round, (int)m, (int)part.n_dropped, (int)part.n_added, (int)dropped_in(n, m),
                      (int)n->add[m]);
        for (int64_t i = 0; i < part.n_dropped; i++)
            ck_assert_msg(n->drop[m][part.dropped[i]], "seed %llu", (unsigned long long)seed);
        for (int64_t i = 1; i < part.n_kept; i++)
            ck_assert_int_lt(part.kept[i - 1], part.kept[i]);
        ck_assert_int_eq(part.rank_before, n->rank[m]);
        ck_assert_int_eq(part.n_kept + part.n_dropped, part.rank_before);
        ck_assert_int_eq(part.n_kept + part.n_added, part.rank_after);
    }
}

static bool plainly_conserves(const naive *n)
{
    bool plain = n->options.budget_unit == LRK_BUDGET_RANKS && !(n->options.flags & LRK_ALORA_REFILL);
    for (int m = 0; m < n->n_modules; m++)
        plain = plain && n->cap[m] == LRK_NO_CAP;
    return plain && n->options.scope == LRK_SCOPE_GLOBAL;
}

static void assert_sums(const naive *n, const lrk_plan *plan)
{
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    bool in_ranks = n->options.budget_unit == LRK_BUDGET_RANKS;
    ck_assert_int_le(in_ranks ? info.ranks_after : info.parameters_after, n->budget);
    ck_assert_int_eq(info.ranks_after, info.ranks_before - info.n_dropped + info.n_added);
    if (!isnan(info.cut) && !isnan(info.cut_next) && n->options.scope == LRK_SCOPE_GLOBAL)
        ck_assert_double_le(info.cut, info.cut_next);
    if (!plainly_conserves(n)) return;
    ck_assert_int_eq(info.n_added, info.n_added > 0 ? info.n_dropped : 0);
}

static void assert_committed(const world *w)
{
    for (int32_t m = 0; m < w->model.n_modules; m++) {
        const uint64_t *identities;
        int64_t n;
        ck_assert_int_eq(lrk_adapters_ranks(w->set.adapters, m, &identities, NULL, &n), LRK_OK);
        ck_assert_int_eq(n, w->model.rank[m]);
        for (int64_t j = 1; j < n; j++)
            ck_assert_uint_lt(identities[j - 1], identities[j]);
    }
}

static uint64_t first_seed(void)
{
    const char *text = getenv("LRK_TEST_SEED");
    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

static void run_rounds(uint64_t seed)
{
    world w;
    make_world(&w, seed);
    lrk_allocator *allocator = small_set_allocator(&w.set, &w.model.options);
    for (int round = 0; round < ROUNDS; round++) {
        int64_t n_move = -1;
        ck_assert_int_eq(lrk_allocator_n_move(allocator, &n_move), LRK_OK);
        lrk_scores *scores = draw_scores(&w);
        lrk_plan *plan = small_set_plan(allocator, scores);
        naive_plan(&w.model);
        assert_same_plan(&w.model, plan, seed);
        assert_sums(&w.model, plan);
        int64_t dropped = 0;
        for (int m = 0; m < w.model.n_modules; m++)
            dropped += dropped_in(&w.model, m);
        if (w.model.options.no_receiver == LRK_NO_RECEIVER_SHRINK) ck_assert_int_eq(dropped, n_move);
        small_set_carry_out(plan, NULL, 0);
        naive_commit(&w.model);
        assert_committed(&w);
        lrk_plan_destroy(plan);
        lrk_scores_destroy(scores);
    }
    lrk_allocator_destroy(allocator);
    small_set_close(&w.set);
}

START_TEST(plans_agree_with_the_naive_transcription)
{
    for (uint64_t seed = first_seed(); seed < first_seed() + SEEDS; seed++)
        run_rounds(seed);
}
END_TEST

/* A set with its modules in another order, and the plan of one round, read back in the original order. */
static void plan_permuted(uint64_t seed, bool turn_around, int64_t *dropped, int64_t *added, uint64_t *digest)
{
    enum { N = 5 };
    uint64_t random = seed;
    small_module modules[N];
    double values[N][6];
    double flat[N * 6];
    int64_t n_flat = 0;
    for (int m = 0; m < N; m++) {
        modules[m] = (small_module){.n_in = 2, .n_out = 2, .rank = 1 + small_random_below(&random, 6)};
        for (int64_t j = 0; j < modules[m].rank; j++)
            values[m][j] = small_random_real(&random);
    }
    small_module placed[N];
    for (int m = 0; m < N; m++) {
        int from = turn_around ? N - 1 - m : m;
        placed[m] = modules[from];
        for (int64_t j = 0; j < modules[from].rank; j++)
            flat[n_flat++] = values[from][j];
    }
    small_set s;
    small_set_open(&s, placed, N, NULL);
    lrk_alora_options options = small_set_alora(4);
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    lrk_scores *scores = small_set_scores(&s, flat);
    lrk_plan *plan = small_set_plan(allocator, scores);
    ck_assert_int_eq(lrk_plan_digest(plan, digest), LRK_OK);
    for (int m = 0; m < N; m++) {
        lrk_plan_module part = {.struct_size = sizeof part};
        int to = turn_around ? N - 1 - m : m;
        ck_assert_int_eq(lrk_plan_module_get(plan, m, &part), LRK_OK);
        added[to] = part.n_added;
        dropped[to] = 0;
        for (int64_t i = 0; i < part.n_dropped; i++)
            dropped[to] |= (int64_t)1 << part.dropped[i];
    }
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    small_set_close(&s);
}

START_TEST(module_order_decides_nothing_but_ties)
{
    for (uint64_t seed = first_seed(); seed < first_seed() + 50; seed++) {
        int64_t dropped[2][5];
        int64_t added[2][5];
        uint64_t digest[2];
        plan_permuted(seed, false, dropped[0], added[0], &digest[0]);
        plan_permuted(seed, true, dropped[1], added[1], &digest[1]);
        ck_assert_mem_eq(dropped[0], dropped[1], sizeof dropped[0]);
        ck_assert_mem_eq(added[0], added[1], sizeof added[0]);
    }
}
END_TEST

START_TEST(the_same_scores_give_the_same_digest)
{
    int64_t dropped[5];
    int64_t added[5];
    for (uint64_t seed = first_seed(); seed < first_seed() + 20; seed++) {
        uint64_t digest[3];
        plan_permuted(seed, false, dropped, added, &digest[0]);
        plan_permuted(seed, false, dropped, added, &digest[1]);
        plan_permuted(seed + 1, false, dropped, added, &digest[2]);
        ck_assert_uint_eq(digest[0], digest[1]);
        ck_assert_uint_ne(digest[0], digest[2]);
    }
}
END_TEST

Suite *alora_properties_suite(void);

Suite *alora_properties_suite(void)
{
    Suite *suite = suite_create("alora_properties");
    TCase *tests = tcase_create("alora_properties");
    tcase_add_test(tests, plans_agree_with_the_naive_transcription);
    tcase_add_test(tests, module_order_decides_nothing_but_ties);
    tcase_add_test(tests, the_same_scores_give_the_same_digest);
    suite_add_tcase(suite, tests);
    return suite;
}
