/* SPDX-License-Identifier: MIT */
/* Magnitude: the Frobenius norm of what a rank adds to the weight, |s g| |a| |b|. Nothing is observed or asked. */
#include <math.h>

#include "importance.h"

static double norm(const float *row, int64_t n)
{
    double sum = 0; /* squares of floats neither overflow nor vanish in double */
    for (int64_t j = 0; j < n; j++)
        sum += (double)row[j] * (double)row[j];
    return sqrt(sum);
}

static lrk_status run_magnitude(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    (void)nonce;
    const lrk_adapters *adapters = estimator->adapters;
    lrk_scores *made = lrki_scores_new(estimator->adapters, "magnitude");
    if (made == NULL) return LRK_ERR_NOMEM;
    for (int64_t k = 0; k < made->info.n; k++) {
        lrk_score *score = &made->scores[k];
        const lrki_module *module = &adapters->modules[score->module];
        const lrki_bank *bank = &module->bank;
        int64_t i = score->index;
        score->score = fabs(module->scale * (double)bank->gates[i]) *
                       norm(bank->a + i * module->n_in, module->n_in) *
                       norm(bank->b + i * module->n_out, module->n_out);
    }
    lrk_status status = lrki_scores_check_finite(made);
    if (status == LRK_OK)
        *scores = made;
    else
        lrk_scores_destroy(made);
    return status;
}

static void same_magnitude(const lrk_estimator *estimator, lrki_state *state)
{
    (void)estimator; /* no options */
    (void)state;
}

static const lrki_estimator_resume resume_magnitude = {.same = same_magnitude};

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_estimator_terms *terms,
                                const void *options, lrk_estimator **estimator)
{
    (void)terms, (void)options;
    return lrk_estimator_create_magnitude(adapters, estimator);
}

const lrki_estimator_type lrki_estimator_magnitude = {
    .state_size = 1,
    .resume = &resume_magnitude,
    .estimate = lrki_estimate_nothing,
    .run = run_magnitude,
    .method = {.summary = "norm of what a rank adds to its weight"},
    .create = create_chosen};

lrk_status lrk_estimator_create_magnitude(lrk_adapters *adapters, lrk_estimator **estimator)
{
    return lrki_estimator_create(adapters, LRKI_KIND_magnitude, "magnitude estimator", NULL, estimator);
}
