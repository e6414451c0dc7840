/* SPDX-License-Identifier: MIT */
/* Gate magnitude |g|: what methods that train gates towards zero (SoRA, CoDyRA) prune by. */
#include <math.h>

#include "importance.h"

static lrk_status run_gate(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    (void)nonce;
    const lrk_adapters *adapters = estimator->adapters;
    lrk_scores *made = lrki_scores_new(estimator->adapters, "gate");
    if (made == NULL) return LRK_ERR_NOMEM;
    for (int64_t k = 0; k < made->info.n; k++) {
        lrk_score *score = &made->scores[k];
        score->score = fabs((double)adapters->modules[score->module].bank.gates[score->index]);
    }
    lrk_status status = lrki_scores_check_finite(made);
    if (status == LRK_OK)
        *scores = made;
    else
        lrk_scores_destroy(made);
    return status;
}

static void same_gate(const lrk_estimator *estimator, lrki_state *state)
{
    (void)estimator; /* no options */
    (void)state;
}

static const lrki_estimator_resume resume_gate = {.same = same_gate};

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_estimator_terms *terms,
                                const void *options, lrk_estimator **estimator)
{
    (void)terms, (void)options;
    return lrk_estimator_create_gate(adapters, estimator);
}

const lrki_estimator_type lrki_estimator_gate = {
    .state_size = 1,
    .resume = &resume_gate,
    .estimate = lrki_estimate_nothing,
    .run = run_gate,
    .method = {.summary = "size of a rank's gate, for gates that are trained"},
    .create = create_chosen};

lrk_status lrk_estimator_create_gate(lrk_adapters *adapters, lrk_estimator **estimator)
{
    return lrki_estimator_create(adapters, LRKI_KIND_gate, "gate estimator", NULL, estimator);
}
