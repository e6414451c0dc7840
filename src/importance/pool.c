/* SPDX-License-Identifier: MIT */
/*
 * The screen of ablation: which ranks are ablated exactly. Ranks are ordered by (estimate, module, identity) once; the
 * pool is a prefix of that order, so that it can only be too small, never wrong. It grows until no rank outside comes
 * before the cut, which makes the n_cut lowest of all reported scores exact ones.
 */
#include <stdlib.h>

#include "ablation.h"

#define POOL_LEAST                                                                                           \
    16 /* measured: 2 to 3 times n_cut, and at least this many, recover the exact lowest ranks */
#define POOL_FACTOR 2

static int64_t least_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t lrki_pool_most(const lrk_ablation_options *options, int64_t n)
{
    return options->pool_limit == LRK_POOL_UNLIMITED ? n : least_of(options->pool_limit, n);
}

int64_t lrki_pool_first(const lrk_ablation_options *options, int64_t n)
{
    int64_t pool = options->pool;
    if (pool == LRK_POOL_DEFAULT) {
        if (!lrki_mul(options->n_cut, POOL_FACTOR, &pool)) pool = INT64_MAX;
        if (pool < POOL_LEAST) pool = POOL_LEAST;
    }
    return least_of(pool, lrki_pool_most(options, n));
}

lrk_status lrki_pool_create(lrk_context *context, const lrk_scores *scores, lrki_pool *pool)
{
    *pool = (lrki_pool){.n = scores->info.n};
    pool->order = lrki_array(context, pool->n, sizeof *pool->order);
    pool->scratch = lrki_array(context, pool->n, sizeof *pool->scratch);
    if (pool->order == NULL || pool->scratch == NULL) {
        lrki_pool_free(context, pool);
        return lrki_fail_nomem(context, "the pool of ranks");
    }
    for (int64_t i = 0; i < pool->n; i++)
        pool->order[i] = &scores->scores[i];
    return LRK_OK;
}

void lrki_pool_free(lrk_context *context, lrki_pool *pool)
{
    lrki_array_free(context, pool->order, pool->n, sizeof *pool->order);
    lrki_array_free(context, pool->scratch, pool->n, sizeof *pool->scratch);
    *pool = (lrki_pool){0};
}

/* Whether an estimated rank comes before a value of rank `at` in the order (value, module, identity). */
static bool estimated_before(const lrk_score *a, double value, const lrk_score *at)
{
    if (a->estimate != value) return a->estimate < value;
    if (a->module != at->module) return a->module < at->module;
    return a->identity < at->identity;
}

static int by_estimate(const void *left, const void *right)
{
    const lrk_score *a = *(const lrk_score *const *)left, *b = *(const lrk_score *const *)right;
    return estimated_before(a, b->estimate, b) ? -1 : estimated_before(b, a->estimate, a);
}

static int by_score(const void *left, const void *right)
{
    const lrk_score *a = *(const lrk_score *const *)left, *b = *(const lrk_score *const *)right;
    return lrki_score_before(a, b) ? -1 : lrki_score_before(b, a);
}

void lrki_pool_choose(lrki_pool *pool, const lrk_ablation_options *options)
{
    qsort(pool->order, (size_t)pool->n, sizeof *pool->order, by_estimate);
    pool->size = lrki_pool_first(options, pool->n);
}

/* The n_cut-th lowest of the pool's exact scores. */
static const lrk_score *cut_of(const lrki_pool *pool, int64_t n_cut)
{
    for (int64_t i = 0; i < pool->size; i++)
        pool->scratch[i] = pool->order[i];
    qsort(pool->scratch, (size_t)pool->size, sizeof *pool->scratch, by_score);
    return pool->scratch[least_of(n_cut, pool->size) - 1];
}

int64_t lrki_pool_grow(lrki_pool *pool, const lrk_ablation_options *options, int64_t *left_out)
{
    *left_out = 0;
    if (pool->size == pool->n) return 0;
    const lrk_score *cut = cut_of(pool, options->n_cut);
    int64_t below = 0;
    while (pool->size + below < pool->n && estimated_before(pool->order[pool->size + below], cut->score, cut))
        below++;
    int64_t room = lrki_pool_most(options, pool->n) - pool->size;
    int64_t joining = least_of(least_of(below, room), options->pool_step);
    if (room == 0) *left_out = below;
    pool->size += joining;
    return joining;
}
