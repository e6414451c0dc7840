/* SPDX-License-Identifier: MIT */
/*
 * The random control: scores uniform in [0, 1), keyed by (seed, identity, nonce) and so independent of the order of
 * ranks and of calls.
 */
#include "importance.h"

typedef struct random_state {
    uint64_t seed;
} random_state;

static lrk_status estimate_random(const lrk_estimator *estimator, lrk_estimate *estimate)
{
    (void)estimator;
    (void)estimate;
    return LRK_OK;
}

static lrk_status run_random(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    const random_state *state = estimator->state;
    lrk_scores *made = lrki_scores_new(estimator->adapters, "random");
    if (made == NULL) return LRK_ERR_NOMEM;
    for (int64_t i = 0; i < made->info.n; i++) {
        lrki_stream stream =
            lrki_stream_make(state->seed, LRKI_STREAM_SCORE, made->scores[i].identity, nonce);
        made->scores[i].score = lrki_stream_uniform(&stream, 0);
    }
    *scores = made;
    return LRK_OK;
}

static void same_random(const lrk_estimator *estimator, lrki_state *state)
{
    lrki_state_same_u64(state, "seed", ((const random_state *)estimator->state)->seed);
}

static const lrki_estimator_resume resume_random = {.same = same_random};

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_estimator_terms *terms,
                                const void *options, lrk_estimator **estimator)
{
    (void)options;
    return lrk_estimator_create_random(adapters, terms->seed, estimator);
}

const lrki_estimator_type lrki_estimator_random = {.state_size = sizeof(random_state),
                                                   .resume = &resume_random,
                                                   .estimate = estimate_random,
                                                   .run = run_random,
                                                   .method = {.summary = "control: drawn from the seed"},
                                                   .create = create_chosen};

lrk_status lrk_estimator_create_random(lrk_adapters *adapters, uint64_t seed, lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_estimator_create_random");
    if (status != LRK_OK) return status;
    if (estimator == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "random estimator: estimator must not be NULL");
    lrk_estimator *made = lrki_estimator_new(adapters, LRKI_KIND_random);
    if (made == NULL) return LRK_ERR_NOMEM;
    ((random_state *)made->state)->seed = seed;
    *estimator = made;
    return LRK_OK;
}
