/* SPDX-License-Identifier: MIT */
/*
 * The host's own estimator: lorank lists the ranks, the host fills in scores, lorank checks that they are finite. A run
 * is one callback, so there is nothing to resume.
 */
#include <math.h>

#include "importance.h"

typedef struct custom_state {
    lrk_custom_estimator host; /* name is not used after creation */
    char *name;
} custom_state;

static lrk_status estimate_custom(const lrk_estimator *estimator, lrk_estimate *estimate)
{
    (void)estimator;
    (void)estimate;
    return LRK_OK;
}

static lrk_status ask(lrk_estimator *estimator, lrk_scores *scores, uint64_t *identities, double *values)
{
    const custom_state *state = estimator->state;
    int64_t n = scores->info.n;
    for (int64_t i = 0; i < n; i++) {
        identities[i] = scores->scores[i].identity;
        values[i] = NAN;
    }
    lrk_context *context = estimator->adapters->context;
    uint64_t failures = lrki_failures(context);
    bool before = lrki_host_call_begin(estimator);
    int32_t answer = state->host.score(state->host.user, identities, values, n);
    lrki_host_call_end(estimator, before);
    if (answer != 0)
        return lrki_fail_callback(context, LRK_ERR_HOST, LRKI_NOWHERE, failures,
                                  "custom estimator '%s': score() returned %d", state->name, (int)answer);
    for (int64_t i = 0; i < n; i++)
        scores->scores[i].score = values[i];
    return lrki_scores_check_finite(scores);
}

static lrk_status run_custom(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    (void)nonce;
    const custom_state *state = estimator->state;
    lrk_context *context = estimator->adapters->context;
    lrk_scores *made = lrki_scores_new(estimator->adapters, state->name);
    if (made == NULL) return LRK_ERR_NOMEM;
    int64_t n = made->info.n;
    uint64_t *identities = lrki_array(context, n, sizeof *identities);
    double *values = lrki_array(context, n, sizeof *values);
    lrk_status status = identities != NULL && values != NULL ? ask(estimator, made, identities, values)
                                                             : lrki_fail_nomem(context, "custom scores");
    lrki_array_free(context, identities, n, sizeof *identities);
    lrki_array_free(context, values, n, sizeof *values);
    if (status != LRK_OK) {
        lrk_scores_destroy(made);
        return status;
    }
    *scores = made;
    return LRK_OK;
}

static void fini_custom(lrk_estimator *estimator)
{
    custom_state *state = estimator->state;
    lrki_text_free(estimator->adapters->context, state->name);
}

static void same_custom(const lrk_estimator *estimator, lrki_state *state)
{
    lrki_state_same_text(state, "name", ((const custom_state *)estimator->state)->name);
}

static const lrki_estimator_resume resume_custom = {.same = same_custom};

const lrki_estimator_type lrki_estimator_custom = {.state_size = sizeof(custom_state),
                                                   .resume = &resume_custom,
                                                   .estimate = estimate_custom,
                                                   .run = run_custom,
                                                   .fini = fini_custom};

static lrk_status check_custom(lrk_context *context, const lrk_custom_estimator *custom)
{
    if (custom->flags != 0) return lrki_fail(context, LRK_ERR_ARGUMENT, "custom estimator: unknown flags");
    if (custom->score == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "custom estimator: score must not be NULL");
    if (custom->name == NULL || custom->name[0] == '\0')
        return lrki_fail(context, LRK_ERR_ARGUMENT, "custom estimator: name must not be NULL or empty");
    return LRK_OK;
}

lrk_status lrk_estimator_create_custom(lrk_adapters *adapters, const lrk_custom_estimator *custom,
                                       lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_estimator_create_custom");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (estimator == NULL || custom == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "custom estimator: custom and estimator must not be NULL");
    lrk_custom_estimator known = {0};
    status = lrki_struct_read(context, &known, sizeof known, custom, 8, "custom estimator");
    if (status == LRK_OK) status = check_custom(context, &known);
    if (status != LRK_OK) return status;
    lrk_estimator *made = lrki_estimator_new(adapters, LRKI_KIND_custom);
    if (made == NULL) return LRK_ERR_NOMEM;
    custom_state *state = made->state;
    state->host = known;
    state->name = lrki_text_copy(context, known.name);
    if (state->name == NULL) {
        lrki_estimator_unref(made);
        return lrki_fail_nomem(context, "an estimator's name");
    }
    *estimator = made;
    return LRK_OK;
}
