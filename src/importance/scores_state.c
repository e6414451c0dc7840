/* SPDX-License-Identifier: MIT */
/*
 * Scores in a checkpoint, of a finished run or of one that is paused. An entry's identity, module and index are the set's;
 * they are recorded so that scores and set that do not belong together are found out.
 */
#include <math.h>
#include <string.h>

#include "importance.h"
#include "state.h"

#define NAME_MOST 256

const lrk_adapters *lrki_scores_adapters(const lrk_scores *scores)
{
    return scores->adapters;
}

static void move_entry(lrki_state *state, lrk_score *score)
{
    int64_t flags = score->flags;
    lrki_state_within(state, "flags of a score", &flags, 0, LRK_SCORE_EXACT | LRK_SCORE_BELOW_FLOOR);
    score->flags = (uint32_t)flags;
    lrki_state_f64(state, &score->score);
    lrki_state_f64(state, &score->t1);
    lrki_state_f64(state, &score->t2);
    lrki_state_f64(state, &score->noise);
    lrki_state_f64(state, &score->estimate);
}

static void move_facts(lrki_state *state, lrk_scores_info *info)
{
    lrki_state_within(state, "n_exact", &info->n_exact, 0, info->n);
    lrki_state_within(state, "evaluations", &info->evaluations, 0, INT64_MAX / 2);
    lrki_state_within(state, "differentiations", &info->differentiations, 0, INT64_MAX / 2);
    lrki_state_f64(state, &info->loss_all);
    lrki_state_f64(state, &info->loss_none);
    lrki_state_f64(state, &info->noise_floor);
    lrki_state_f64(state, &info->split_correlation);
}

void lrki_scores_save(const lrk_scores *scores, lrki_state *state)
{
    lrk_scores_info info = scores->info;
    int64_t length = (int64_t)strlen(scores->name);
    if (info.values_version != scores->adapters->values_version)
        (void)lrki_state_fail(state, LRK_ERR_STALE, "the set changed since it was scored");
    if (length > NAME_MOST)
        (void)lrki_state_fail(state, LRK_ERR_ARGUMENT, "the estimator's name has more than %d bytes",
                              NAME_MOST);
    lrki_state_i64(state, &length);
    lrki_state_put(state, scores->name, (size_t)length);
    lrki_state_i64(state, &info.n);
    move_facts(state, &info);
    for (int64_t i = 0; i < info.n && state->status == LRK_OK; i++) {
        lrk_score score = scores->scores[i];
        lrki_state_u64(state, &score.identity);
        move_entry(state, &score);
    }
}

/* ---- loading --------------------------------------------------------------------------------------------------------- */

static int64_t ranks_of(const lrki_adapters_load *set)
{
    int64_t n = 0;
    for (int64_t i = 0; i < set->adapters->n_modules; i++)
        n += lrki_adapters_load_rank(set, i, NULL);
    return n;
}

static lrk_scores *new_scores(const lrki_adapters_load *set, int64_t n, const char *name)
{
    lrk_context *context = set->adapters->context;
    lrk_scores *scores = lrki_alloc_zeroed(context, sizeof *scores);
    if (scores == NULL) return NULL;
    scores->adapters = lrki_adapters_ref(set->adapters);
    scores->info = (lrk_scores_info){.struct_size = sizeof scores->info, .n = n};
    scores->name = lrki_text_copy(context, name);
    scores->scores = lrki_array(context, n, sizeof *scores->scores);
    scores->info.estimator = scores->name;
    if (scores->name != NULL && scores->scores != NULL) return scores;
    lrk_scores_destroy(scores);
    return NULL;
}

static void load_module(lrki_state *state, const lrki_adapters_load *set, int32_t module, lrk_score *scores)
{
    const uint64_t *identities;
    int64_t rank = lrki_adapters_load_rank(set, module, &identities);
    for (int64_t i = 0; i < rank && state->status == LRK_OK; i++) {
        lrk_score *score = &scores[i];
        *score = (lrk_score){.struct_size = sizeof *score, .module = module, .index = i};
        lrki_state_u64(state, &score->identity);
        if (state->status == LRK_OK && score->identity != identities[i])
            (void)lrki_state_fail(state, LRK_ERR_FORMAT, "it scores rank %llu where the set has rank %llu",
                                  (unsigned long long)score->identity, (unsigned long long)identities[i]);
        move_entry(state, score);
    }
}

lrk_status lrki_scores_load(lrki_state *state, const lrki_adapters_load *set, lrk_scores **out)
{
    char name[NAME_MOST + 1] = "";
    int64_t length = 0, n = ranks_of(set), recorded = 0;
    *out = NULL;
    lrki_state_within(state, "the length of a name", &length, 0, NAME_MOST);
    lrki_state_bytes(state, name, (size_t)length);
    lrki_state_within(state, "the number of scores", &recorded, n, n);
    if (state->status != LRK_OK) return state->status;
    lrk_scores *scores = new_scores(set, n, name);
    if (scores == NULL) return lrki_state_fail_nomem(state);
    move_facts(state, &scores->info);
    for (int64_t i = 0, first = 0; i < set->adapters->n_modules; i++) {
        load_module(state, set, (int32_t)i, scores->scores + first);
        first += lrki_adapters_load_rank(set, i, NULL);
    }
    if (state->status == LRK_OK)
        *out = scores;
    else
        lrk_scores_destroy(scores);
    return state->status;
}

void lrki_scores_load_commit(lrk_scores *scores)
{
    scores->info.generation = scores->adapters->generation;
    scores->info.values_version = scores->adapters->values_version;
}
