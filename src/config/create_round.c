/* SPDX-License-Identifier: MIT */
/* What a round needs: the allocator with its limits, and the estimator, both made by the method that was chosen. */
#include "config.h"

/* ---- limits ------------------------------------------------------------------------------------------------------------ */

lrk_limit *lrki_config_limits(const lrk_config *config)
{
    lrk_limit *limits = lrki_array(config->context, config->n_limits, sizeof *limits);
    if (limits == NULL) (void)lrki_fail_nomem(config->context, "the limits");
    for (int64_t i = 0; i < config->n_limits && limits != NULL; i++)
        limits[i] = config->limits[i].limit;
    return limits;
}

lrk_status lrki_config_made_with_limits(const lrk_config *config, const char *section, lrk_status status)
{
    for (int64_t i = 0; i < config->n_limits && status != LRK_OK; i++) {
        const lrki_entry *entry = &config->limits[i].entry;
        if (lrki_entry_named(config, entry))
            return lrki_entry_locate(config, entry, lrki_limit_keys, status, status);
    }
    return lrki_config_made(config, section, status);
}

/* ---- allocator --------------------------------------------------------------------------------------------------------- */

static lrk_status create_policy(const lrk_config *config, lrk_adapters *adapters, const lrk_limit *limits,
                                lrk_allocator **allocator)
{
    const lrki_settings *s = &config->settings;
    const lrki_policy *policy = lrki_policy_chosen(s);
    const lrki_policy_terms terms = lrki_config_policy_terms(s, limits, config->n_limits);
    return policy->create(adapters, &terms, lrki_method_options_of(s, &policy->method), allocator);
}

lrk_status lrk_config_create_allocator(const lrk_config *config, lrk_adapters *adapters,
                                       lrk_allocator **allocator)
{
    if (allocator != NULL) *allocator = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, allocator);
    if (status != LRK_OK) return status;
    lrk_limit *limits = lrki_config_limits(config);
    if (limits == NULL) return LRK_ERR_NOMEM;
    status = create_policy(config, adapters, limits, allocator);
    lrki_array_free(config->context, limits, config->n_limits, sizeof *limits);
    bool of_start = status == LRK_ERR_CONFIG; /* what the policy cannot follow */
    return lrki_config_made_with_limits(config, of_start ? "start" : "allocation", status);
}

/* ---- estimator --------------------------------------------------------------------------------------------------------- */

/* As the text says, but for `reversed`. */
static lrk_status create_estimator(const lrk_config *config, lrk_adapters *adapters,
                                   const lrk_evaluator *evaluator, const lrk_allocator *allocator,
                                   lrk_estimator **estimator)
{
    const lrki_settings *s = &config->settings;
    const lrki_estimator_type *type = lrki_estimator_chosen(s);
    lrki_estimator_terms terms = {.evaluator = evaluator, .seed = s->seed, .n_rounds = s->schedule.rounds};
    lrk_status status = LRK_OK;
    if (allocator != NULL) status = lrk_allocator_n_move(allocator, &terms.n_cut);
    if (allocator != NULL && terms.n_cut == 0) terms.n_cut = 1; /* a policy that prunes none needs no cut */
    if (status == LRK_OK)
        status = type->create(adapters, &terms, lrki_method_options_of(s, &type->method), estimator);
    return lrki_config_made(config, "importance", status);
}

lrk_status lrk_config_create_estimator(const lrk_config *config, lrk_adapters *adapters,
                                       const lrk_evaluator *evaluator, const lrk_allocator *allocator,
                                       lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, estimator);
    if (status != LRK_OK) return status;
    status = create_estimator(config, adapters, evaluator, allocator, estimator);
    if (status != LRK_OK || config->settings.reversed == 0) return status;
    lrk_estimator *inner = *estimator;
    status = lrk_estimator_create_reversed(inner, estimator);
    lrk_estimator_destroy(inner);
    return status;
}
