/* SPDX-License-Identifier: MIT */
/*
 * What starts are made of, added up over workers: gathered piece by piece, so that no worker holds what all the others have,
 * and added in the order of workers by each of them. Numbers travel as the 32-bit words of their bits, since what was fed
 * need not be finite and gathers copy finite numbers.
 * Invariant: the object changes once every worker has all it needs, or, of components, goes back to what it was.
 */
#include <string.h>

#include "pca.h"
#include "sketch.h"

#define PIECE 4096 /* words of an exchange */

typedef struct gathering {
    lrki_talk talk;
    double *own; /* [PIECE]             */
    double *all; /* [n_workers x PIECE] */
} gathering;

static lrk_status open_gathering(lrk_context *context, const char *call, gathering *g)
{
    g->talk = lrki_talk_begin(context, call);
    g->own = lrki_array(context, PIECE, sizeof *g->own);
    g->all = lrki_array(context, lrki_workers(context), PIECE * sizeof *g->all);
    return g->own != NULL && g->all != NULL ? LRK_OK : lrki_fail_nomem(context, "a gather");
}

static void close_gathering(gathering *g)
{
    lrk_context *context = g->talk.context;
    lrki_array_free(context, g->own, PIECE, sizeof *g->own);
    lrki_array_free(context, g->all, lrki_workers(context), PIECE * sizeof *g->all);
}

/* The words of n floats or doubles: of every worker, worker w's from w n on, in g->all. */
static lrk_status gather_words(gathering *g, const void *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, (const char *)values + i * (int64_t)sizeof word, sizeof word);
        g->own[i] = word;
    }
    return lrki_talk_gather(&g->talk, g->own, n, g->all);
}

static void put_words(const double *words, int64_t n, void *values)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t word = lrki_talk_word(words[i]);
        memcpy((char *)values + i * (int64_t)sizeof word, &word, sizeof word);
    }
}

/* ---- sketches ------------------------------------------------------------------------------------------------------ */

lrki_claim lrki_sketch_claim(const lrk_sketch *sketch)
{
    lrki_claim claim = {"what the sketch was fed", 0};
    if (lrki_workers(sketch->adapters->context) == 1) return claim;
    claim.value = lrki_hash_floats(0, sketch->sums, sketch->n_sums);
    claim.value =
        lrki_hash_doubles(claim.value, sketch->measures, sketch->adapters->n_modules * LRKI_MEASURES);
    return claim;
}

static lrki_claim kind_of_sketch(const lrk_sketch *sketch)
{
    const lrk_adapters *set = sketch->adapters;
    uint64_t hash = lrki_hash_mix(sketch->options.seed, (uint64_t)sketch->options.directions);
    hash = lrki_hash_mix(hash, (uint64_t)sketch->options.samples);
    for (int64_t i = 0; i < set->n_modules; i++)
        hash = lrki_hash_mix(lrki_hash_mix(hash, (uint64_t)set->modules[i].n_in),
                             (uint64_t)set->modules[i].n_out);
    return (lrki_claim){"the sketch's seed, directions, samples or modules", hash};
}

static lrk_status sum_floats(gathering *g, const float *values, int64_t n, float *sums)
{
    int32_t workers = lrki_workers(g->talk.context);
    lrk_status status = LRK_OK;
    for (int64_t first = 0; first < n && status == LRK_OK; first += PIECE) {
        int64_t here = lrki_smaller(PIECE, n - first);
        status = gather_words(g, values + first, here);
        for (int64_t i = 0; i < here && status == LRK_OK; i++) {
            double sum = 0;
            for (int32_t w = 0; w < workers; w++) {
                float value;
                put_words(g->all + w * here + i, 1, &value);
                sum += (double)value;
            }
            sums[first + i] = (float)sum;
        }
    }
    return status;
}

static lrk_status sum_doubles(gathering *g, const double *values, int64_t n, double *sums)
{
    int32_t workers = lrki_workers(g->talk.context);
    lrk_status status = LRK_OK;
    for (int64_t first = 0; first < n && status == LRK_OK; first += PIECE / 2) {
        int64_t here = lrki_smaller(PIECE / 2, n - first);
        status = gather_words(g, values + first, 2 * here);
        for (int64_t i = 0; i < here && status == LRK_OK; i++) {
            sums[first + i] = 0;
            for (int32_t w = 0; w < workers; w++) {
                double value;
                put_words(g->all + 2 * (w * here + i), 2, &value);
                sums[first + i] += value;
            }
        }
    }
    return status;
}

static lrk_status check_sketch(const lrk_sketch *sketch)
{
    lrk_status status = lrki_sketch_check_idle(sketch, "lrk_sketch_gather");
    if (status != LRK_OK || !sketch->gathered) return status;
    return lrki_fail(sketch->adapters->context, LRK_ERR_STATE,
                     "lrk_sketch_gather: the sketch already holds what all workers were fed");
}

static lrk_status sum_sketches(gathering *g, lrk_sketch *sketch, float *sums, double *measures)
{
    int64_t n = sketch->adapters->n_modules * LRKI_MEASURES;
    lrk_status status = sum_floats(g, sketch->sums, sketch->n_sums, sums);
    if (status == LRK_OK) status = sum_doubles(g, sketch->measures, n, measures);
    status = lrki_talk_end(&g->talk, "its end", status, NULL, 0);
    if (status != LRK_OK) return status;
    memcpy(sketch->sums, sums, (size_t)sketch->n_sums * sizeof *sums);
    memcpy(sketch->measures, measures, (size_t)n * sizeof *measures);
    return LRK_OK;
}

static lrk_status gather_sketches(lrk_sketch *sketch)
{
    lrk_context *context = sketch->adapters->context;
    int64_t n = sketch->adapters->n_modules * LRKI_MEASURES;
    gathering g;
    const lrki_claim kind = kind_of_sketch(sketch);
    lrk_status status = open_gathering(context, "lrk_sketch_gather", &g);
    float *sums = lrki_array(context, sketch->n_sums, sizeof *sums);
    double *measures = lrki_array(context, n, sizeof *measures);
    if (sums == NULL || measures == NULL) status = lrki_fail_nomem(context, "the sums of sketches");
    if (status == LRK_OK) status = check_sketch(sketch);
    status = lrki_talk_agree(&g.talk, "its beginning", status, &kind, 1);
    if (status == LRK_OK) status = sum_sketches(&g, sketch, sums, measures);
    lrki_array_free(context, measures, n, sizeof *measures);
    lrki_array_free(context, sums, sketch->n_sums, sizeof *sums);
    close_gathering(&g);
    return status;
}

lrk_status lrk_sketch_gather(lrk_sketch *sketch)
{
    if (sketch == NULL) return LRK_ERR_ARGUMENT;
    bool alone = lrki_workers(sketch->adapters->context) == 1;
    lrk_status status = alone ? check_sketch(sketch) : gather_sketches(sketch);
    if (status == LRK_OK) sketch->gathered = true;
    return status;
}

/* ---- components ---------------------------------------------------------------------------------------------------- */

lrki_claim lrki_pca_claim(const lrk_pca *pca)
{
    lrki_claim claim = {"what the components were fed", 0};
    if (lrki_workers(pca->adapters->context) == 1) return claim;
    claim.value = lrki_hash_doubles(0, pca->state, pca->n_state);
    return claim;
}

static lrki_claim kind_of_pca(const lrk_pca *pca)
{
    uint64_t hash = (uint64_t)pca->n_groups;
    for (int64_t i = 0; i < pca->n_groups; i++) {
        const lrki_pca_group *group = &pca->groups[i];
        hash = lrki_hash_mix(lrki_hash_mix(hash, (uint64_t)group->n_in), (uint64_t)group->k);
    }
    return (lrki_claim){"the modules or their numbers of components", hash};
}

static lrk_status check_pca(const lrk_pca *pca)
{
    lrk_status status = lrki_pca_check_idle(pca, "lrk_pca_gather");
    if (status != LRK_OK || !pca->gathered) return status;
    return lrki_fail(pca->adapters->context, LRK_ERR_STATE,
                     "lrk_pca_gather: the object already holds what all workers were fed");
}

static int64_t size_of_group(const lrki_pca_group *group)
{
    return LRKI_PCA_SCALARS + group->n_in + group->k * (group->n_in + 1);
}

static int64_t largest_group(const lrk_pca *pca)
{
    int64_t most = 0;
    for (int64_t i = 0; i < pca->n_groups; i++)
        if (most < size_of_group(&pca->groups[i])) most = size_of_group(&pca->groups[i]);
    return most;
}

/* One group of all workers into theirs [n_workers x n]. */
static lrk_status gather_group(gathering *g, const double *values, int64_t n, double *theirs)
{
    int32_t workers = lrki_workers(g->talk.context);
    lrk_status status = LRK_OK;
    for (int64_t first = 0; first < n && status == LRK_OK; first += PIECE / 2) {
        int64_t here = lrki_smaller(PIECE / 2, n - first);
        status = gather_words(g, values + first, 2 * here);
        for (int32_t w = 0; w < workers && status == LRK_OK; w++)
            put_words(g->all + 2 * (w * here), 2 * here, theirs + w * n + first);
    }
    return status;
}

/* A group from nothing, by what every worker was fed, in their order. */
static lrk_status add_workers(lrk_pca *pca, const lrki_pca_group *group, const double *theirs)
{
    int64_t n = size_of_group(group);
    lrk_status status = LRK_OK;
    memset(group->scalars, 0, (size_t)n * sizeof *theirs);
    for (int32_t w = 0; w < lrki_workers(pca->adapters->context) && status == LRK_OK; w++)
        status = lrki_pca_add_group(pca, group, theirs + w * n);
    return status;
}

static lrk_status sum_components(gathering *g, lrk_pca *pca, double *theirs)
{
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < pca->n_groups; i++) {
        const lrki_pca_group *group = &pca->groups[i];
        if (!g->talk.over) {
            lrk_status gathered = gather_group(g, group->scalars, size_of_group(group), theirs);
            if (status == LRK_OK) status = gathered;
        }
        if (status == LRK_OK) status = add_workers(pca, group, theirs);
    }
    const lrki_claim fed = lrki_pca_claim(pca);
    return lrki_talk_end(&g->talk, "its end", status, &fed, 1);
}

static lrk_status gather_components(lrk_pca *pca)
{
    lrk_context *context = pca->adapters->context;
    int64_t most = largest_group(pca);
    gathering g;
    const lrki_claim kind = kind_of_pca(pca);
    lrk_status status = open_gathering(context, "lrk_pca_gather", &g);
    double *before = lrki_array(context, pca->n_state, sizeof *before);
    double *theirs = lrki_array(context, lrki_workers(context), (size_t)most * sizeof *theirs);
    if (before == NULL || theirs == NULL) status = lrki_fail_nomem(context, "the components of all workers");
    if (status == LRK_OK) status = check_pca(pca);
    status = lrki_talk_agree(&g.talk, "its beginning", status, &kind, 1);
    if (status == LRK_OK) {
        memcpy(before, pca->state, (size_t)pca->n_state * sizeof *before);
        status = sum_components(&g, pca, theirs);
        if (status != LRK_OK) memcpy(pca->state, before, (size_t)pca->n_state * sizeof *before);
    }
    lrki_array_free(context, theirs, lrki_workers(context), (size_t)most * sizeof *theirs);
    lrki_array_free(context, before, pca->n_state, sizeof *before);
    close_gathering(&g);
    return status;
}

lrk_status lrk_pca_gather(lrk_pca *pca)
{
    if (pca == NULL) return LRK_ERR_ARGUMENT;
    bool alone = lrki_workers(pca->adapters->context) == 1;
    lrk_status status = alone ? check_pca(pca) : gather_components(pca);
    if (status == LRK_OK) pca->gathered = true;
    return status;
}
