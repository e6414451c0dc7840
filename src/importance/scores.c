/* SPDX-License-Identifier: MIT */
/*
 * Scores: one entry per live rank in a fixed order (module after module, index order), and the total order in which
 * ranks are pruned. What a score means is the estimator's business; scores outlive the ranks that they speak of, and
 * say by generation and values_version which state of the set was scored.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "importance.h"

static void fill_entries(lrk_scores *scores)
{
    const lrk_adapters *adapters = scores->adapters;
    int64_t flat = 0;
    for (int64_t m = 0; m < adapters->n_modules; m++) {
        const lrki_bank *bank = &adapters->modules[m].bank;
        for (int64_t i = 0; i < bank->rank; i++)
            scores->scores[flat++] = (lrk_score){.struct_size = sizeof(lrk_score),
                                                 .identity = bank->identities[i],
                                                 .module = (int32_t)m,
                                                 .index = i,
                                                 .t1 = NAN,
                                                 .t2 = NAN,
                                                 .noise = NAN,
                                                 .estimate = NAN};
    }
}

lrk_scores *lrki_scores_new(lrk_adapters *adapters, const char *estimator)
{
    lrk_context *context = adapters->context;
    lrk_scores *scores = lrki_alloc_zeroed(context, sizeof *scores);
    if (scores == NULL) {
        (void)lrki_fail_nomem(context, "scores");
        return NULL;
    }
    scores->adapters = lrki_adapters_ref(adapters);
    scores->info = (lrk_scores_info){.struct_size = sizeof scores->info,
                                     .n = adapters->n_ranks,
                                     .loss_all = NAN,
                                     .loss_none = NAN,
                                     .noise_floor = NAN,
                                     .split_correlation = NAN,
                                     .generation = adapters->generation,
                                     .values_version = adapters->values_version};
    scores->name = lrki_text_copy(context, estimator);
    scores->scores = lrki_array(context, adapters->n_ranks, sizeof *scores->scores);
    if (scores->name == NULL || scores->scores == NULL) {
        lrk_scores_destroy(scores);
        (void)lrki_fail_nomem(context, "scores");
        return NULL;
    }
    scores->info.estimator = scores->name;
    fill_entries(scores);
    return scores;
}

void lrk_scores_destroy(lrk_scores *scores)
{
    if (scores == NULL) return;
    lrk_adapters *adapters = scores->adapters;
    lrk_context *context = adapters->context;
    lrki_text_free(context, scores->name);
    lrki_array_free(context, scores->scores, scores->info.n, sizeof *scores->scores);
    lrki_free(context, scores, sizeof *scores);
    lrki_adapters_unref(adapters);
}

lrk_status lrki_scores_check_finite(const lrk_scores *scores)
{
    for (int64_t i = 0; i < scores->info.n; i++) {
        const lrk_score *s = &scores->scores[i];
        if (isfinite(s->score)) continue;
        return lrki_fail_at(scores->adapters->context, LRK_ERR_NONFINITE,
                            (lrki_place){.module = s->module, .identity = s->identity},
                            "the score of rank %llu of module '%s' is %g", (unsigned long long)s->identity,
                            scores->adapters->modules[s->module].name, s->score);
    }
    return LRK_OK;
}

lrk_status lrk_scores_create(lrk_adapters *adapters, const double *values, int64_t n, lrk_scores **scores)
{
    if (scores != NULL) *scores = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_scores_create");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (scores == NULL || (values == NULL && n != 0))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "scores: values and scores must not be NULL");
    if (n != adapters->n_ranks)
        return lrki_fail(context, LRK_ERR_SHAPE, "scores: %lld values for %lld live ranks", (long long)n,
                         (long long)adapters->n_ranks);
    lrk_scores *made = lrki_scores_new(adapters, "host");
    if (made == NULL) return LRK_ERR_NOMEM;
    for (int64_t i = 0; i < n; i++)
        made->scores[i].score = values[i];
    status = lrki_scores_check_finite(made);
    if (status != LRK_OK) {
        lrk_scores_destroy(made);
        return status;
    }
    *scores = made;
    return LRK_OK;
}

lrk_status lrk_scores_info_get(const lrk_scores *scores, lrk_scores_info *info)
{
    if (scores == NULL) return LRK_ERR_ARGUMENT;
    return lrki_struct_write(scores->adapters->context, info, &scores->info, sizeof scores->info, "info");
}

lrk_status lrk_scores_get(const lrk_scores *scores, int64_t i, lrk_score *score)
{
    if (scores == NULL) return LRK_ERR_ARGUMENT;
    if (i < 0 || i >= scores->info.n)
        return lrki_fail(scores->adapters->context, LRK_ERR_ARGUMENT, "there is no score %lld among %lld",
                         (long long)i, (long long)scores->info.n);
    return lrki_struct_write(scores->adapters->context, score, &scores->scores[i], sizeof *score, "score");
}

static uint64_t mix_number(uint64_t hash, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return lrki_hash_mix(hash, bits);
}

static uint64_t mix_score(uint64_t hash, const lrk_score *score)
{
    hash = lrki_hash_mix(lrki_hash_mix(hash, score->flags), score->identity);
    hash = mix_number(mix_number(hash, score->score), score->noise);
    return mix_number(mix_number(mix_number(hash, score->t1), score->t2), score->estimate);
}

uint64_t lrki_scores_digest(const lrk_scores *scores)
{
    const lrk_scores_info *info = &scores->info;
    uint64_t hash = lrki_hash_mix(lrki_hash_mix(0, (uint64_t)info->n), (uint64_t)info->n_exact);
    hash = lrki_hash_mix(hash, (uint64_t)info->evaluations);
    hash = lrki_hash_mix(hash, (uint64_t)info->differentiations);
    hash = mix_number(mix_number(hash, info->loss_all), info->loss_none);
    hash = mix_number(mix_number(hash, info->noise_floor), info->split_correlation);
    for (int64_t i = 0; i < info->n; i++)
        hash = mix_score(hash, &scores->scores[i]);
    return hash;
}

bool lrki_score_before(const lrk_score *a, const lrk_score *b)
{
    if (a->score != b->score) return a->score < b->score;
    if (a->module != b->module) return a->module < b->module;
    return a->identity < b->identity;
}

static int by_order(const void *left, const void *right)
{
    const lrk_score *a = *(const lrk_score *const *)left, *b = *(const lrk_score *const *)right;
    return lrki_score_before(a, b) ? -1 : lrki_score_before(b, a);
}

lrk_status lrk_scores_lowest(const lrk_scores *scores, int64_t n, int64_t *indices)
{
    if (scores == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = scores->adapters->context;
    if (n < 0 || (indices == NULL && n > 0))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "n must be >= 0 and indices not NULL");
    if (n > scores->info.n)
        return lrki_fail(context, LRK_ERR_SHAPE, "the %lld lowest of %lld scores", (long long)n,
                         (long long)scores->info.n);
    const lrk_score **sorted = lrki_array(context, scores->info.n, sizeof *sorted);
    if (sorted == NULL) return lrki_fail_nomem(context, "the order of scores");
    for (int64_t i = 0; i < scores->info.n; i++)
        sorted[i] = &scores->scores[i];
    qsort(sorted, (size_t)scores->info.n, sizeof *sorted, by_order);
    for (int64_t i = 0; i < n; i++)
        indices[i] = sorted[i] - scores->scores;
    lrki_array_free(context, sorted, scores->info.n, sizeof *sorted);
    return LRK_OK;
}
