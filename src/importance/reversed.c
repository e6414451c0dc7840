/* SPDX-License-Identifier: MIT */
/*
 * The reversed control: another estimator's scores negated, so that a policy prunes what that one would keep. Everything
 * else, paused runs and checkpoints included, is the other's.
 */
#include <stdio.h>
#include <string.h>

#include "importance.h"

typedef struct reversed_state {
    lrk_estimator *inner; /* counted */
} reversed_state;

static lrk_estimator *inner_of(const lrk_estimator *estimator)
{
    return ((const reversed_state *)estimator->state)->inner;
}

static lrk_status estimate_reversed(const lrk_estimator *estimator, lrk_estimate *estimate)
{
    const lrk_estimator *inner = inner_of(estimator);
    return inner->type->estimate(inner, estimate);
}

static lrk_status negate(lrk_scores *scores)
{
    static const char prefix[] = "reversed.";
    lrk_context *context = scores->adapters->context;
    size_t length = strlen(scores->name) + sizeof prefix;
    char *name = lrki_alloc(context, length);
    if (name == NULL) return lrki_fail_nomem(context, "the name of reversed scores");
    (void)snprintf(name, length, "%s%s", prefix, scores->name);
    lrki_text_free(context, scores->name);
    scores->name = name;
    scores->info.estimator = name;
    for (int64_t i = 0; i < scores->info.n; i++) {
        lrk_score *score = &scores->scores[i];
        score->score = -score->score;
        score->t1 = -score->t1;
        score->t2 = -score->t2;
        score->estimate = -score->estimate;
    }
    return LRK_OK;
}

static lrk_status run_reversed(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    lrk_scores *made;
    lrk_status status = lrk_estimator_run(inner_of(estimator), nonce, &made);
    if (status != LRK_OK) return status;
    status = negate(made);
    if (status == LRK_OK)
        *scores = made;
    else
        lrk_scores_destroy(made);
    return status;
}

static void reset_reversed(lrk_estimator *estimator)
{
    lrk_estimator_reset(inner_of(estimator));
}

static void fini_reversed(lrk_estimator *estimator)
{
    lrki_estimator_unref(inner_of(estimator));
}

/* ---- in checkpoints ---------------------------------------------------------------------------------- */

static void same_reversed(const lrk_estimator *estimator, lrki_state *state)
{
    const lrk_estimator *inner = inner_of(estimator);
    lrki_state_same_text(state, "the reversed estimator", lrki_estimator_kind_name(inner));
    inner->type->resume->same(inner, state);
}

static bool has_run(const lrk_estimator *estimator)
{
    const lrk_estimator *inner = inner_of(estimator);
    return inner->type->resume->has_run != NULL && inner->type->resume->has_run(inner);
}

static void save_run(const lrk_estimator *estimator, lrki_state *state)
{
    const lrk_estimator *inner = inner_of(estimator);
    inner->type->resume->save_run(inner, state);
}

static lrk_status load_run(lrk_estimator *estimator, lrki_state *state, const lrki_adapters_load *set,
                           void **run)
{
    lrk_estimator *inner = inner_of(estimator);
    if (inner->type->resume->load_run == NULL)
        return lrki_state_fail(state, LRK_ERR_FORMAT, "a run of the reversed estimator cannot be paused");
    return inner->type->resume->load_run(inner, state, set, run);
}

static void adopt_run(lrk_estimator *estimator, void *run)
{
    lrk_estimator *inner = inner_of(estimator);
    if (inner->type->resume->adopt_run != NULL) inner->type->resume->adopt_run(inner, run);
}

static void drop_run(lrk_estimator *estimator, void *run)
{
    lrk_estimator *inner = inner_of(estimator);
    inner->type->resume->drop_run(inner, run);
}

static const lrki_estimator_resume resume_reversed = {.same = same_reversed,
                                                      .has_run = has_run,
                                                      .save_run = save_run,
                                                      .load_run = load_run,
                                                      .adopt_run = adopt_run,
                                                      .drop_run = drop_run};

const lrki_estimator_type lrki_estimator_reversed = {.state_size = sizeof(reversed_state),
                                                     .resume = &resume_reversed,
                                                     .estimate = estimate_reversed,
                                                     .run = run_reversed,
                                                     .reset = reset_reversed,
                                                     .inner = inner_of,
                                                     .fini = fini_reversed};

lrk_status lrk_estimator_create_reversed(lrk_estimator *inner, lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    if (inner == NULL) return LRK_ERR_ARGUMENT;
    const reversed_state state = {inner};
    lrk_status status =
        lrki_estimator_create(inner->adapters, LRKI_KIND_reversed, "reversed estimator", &state, estimator);
    if (status == LRK_OK) (void)lrki_estimator_ref(inner);
    return status;
}
