/* SPDX-License-Identifier: MIT */
/*
 * Settings into handles, and the checks of settings: both are calls of the layers that own the values, so that a text
 * and the C API have one set of bounds. What only the host knows (modules, steps) is checked when a handle is made.
 */
#include "config.h"

#include <math.h>

#include "../adapters/spec.h"
#include "../allocation/allocation.h"
#include "../importance/importance.h"
#include "../training/training.h"

/* ---- checks of a text ------------------------------------------------------------------------------------------------ */

static lrk_status check_ablation(const lrk_config *config)
{
    lrk_ablation_options options = config->settings.ablation;
    options.n_cut = 1; /* comes from the allocator */
    return lrki_ablation_options_check(config->context, &options);
}

static lrk_status check_importance(const lrk_config *config)
{
    lrk_status status = check_ablation(config);
    if (status == LRK_OK)
        status = lrki_sensitivity_options_check(config->context, &config->settings.sensitivity);
    return status;
}

/* How much to move may be missing until an allocator is made: a later override can bring it. */
static lrk_status check_alora(const lrk_config *config)
{
    lrk_alora_options options = config->settings.alora;
    if (options.n_move == 0 && options.move_share == 0) options.n_move = 1;
    return lrki_alora_options_check(config->context, &options);
}

static lrk_status check_lr(const lrk_config *config)
{
    double share = config->settings.warmup_share;
    lrk_lr_options lr = config->settings.lr;
    if (!isnan(share) && !(share >= 0 && share < 1))
        return lrki_fail(config->context, LRK_ERR_CONFIG, "warmup_share must be in [0, 1)");
    if (!isnan(share) && lr.warmup_steps != 0)
        return lrki_fail(config->context, LRK_ERR_CONFIG, "warmup_share and warmup_steps exclude each other");
    /* The host says the total later; it must be above the warm-up. */
    lr.total_steps = lr.warmup_steps > 0 && lr.warmup_steps < INT64_MAX ? lr.warmup_steps + 1 : 1;
    return lrki_lr_options_check(config->context, &lr);
}

/* Totals come from the host. */
static lrk_status check_schedule(const lrk_config *config)
{
    lrk_schedule_options options = config->settings.schedule;
    options.steps_per_epoch = 1;
    options.total_steps = 1;
    return lrki_schedule_options_check(config->context, &options);
}

static lrk_status check_entries(const lrk_config *config)
{
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < config->n_patterns && status == LRK_OK; i++) {
        const lrki_pattern_entry *e = &config->patterns[i];
        status = lrki_entry_locate(config, &e->entry, lrki_pattern_keys,
                                   lrki_pattern_check(config->context, &e->pattern, i), LRK_ERR_CONFIG);
    }
    for (int64_t i = 0; i < config->n_limits && status == LRK_OK; i++) {
        const lrki_limit_entry *e = &config->limits[i];
        status = lrki_entry_locate(config, &e->entry, lrki_limit_keys,
                                   lrki_limit_check(config->context, &e->limit), LRK_ERR_CONFIG);
    }
    return status;
}

static lrk_status check_in(const lrk_config *config, const char *section, lrk_status status)
{
    return lrki_config_locate(config, section, status, LRK_ERR_CONFIG);
}

lrk_status lrki_config_check(const lrk_config *config)
{
    const lrki_settings *s = &config->settings;
    lrk_status status =
        check_in(config, "adapters", lrki_adapters_options_check(config->context, &s->adapters));
    if (status == LRK_OK) status = check_in(config, "importance", check_importance(config));
    if (status == LRK_OK) status = check_in(config, "allocation", check_alora(config));
    if (status == LRK_OK)
        status = check_in(config, "optimizer", lrki_adamw_options_check(config->context, &s->adamw));
    if (status == LRK_OK) status = check_in(config, "learning_rate", check_lr(config));
    if (status == LRK_OK) status = check_in(config, "schedule", check_schedule(config));
    if (status == LRK_OK) status = check_entries(config);
    return status;
}

/* ---- handles --------------------------------------------------------------------------------------------------------- */

/* A failed creation, located in a section. */
static lrk_status made(const lrk_config *config, const char *section, lrk_status status)
{
    return lrki_config_locate(config, section, status, status);
}

static lrk_status check_call(const lrk_config *config, const void *input, void *out)
{
    if (config == NULL) return LRK_ERR_ARGUMENT;
    if (input == NULL || out == NULL)
        return lrki_fail(config->context, LRK_ERR_ARGUMENT, "an argument of lrk_config_create_... is NULL");
    return LRK_OK;
}

lrk_status lrk_config_create_adapters(const lrk_config *config, const lrk_module_spec *modules,
                                      int64_t n_modules, lrk_adapters **adapters)
{
    if (adapters != NULL) *adapters = NULL;
    lrk_status status = check_call(config, modules, adapters);
    if (status != LRK_OK) return status;
    int64_t n = config->n_patterns;
    if (n == 0)
        return lrki_config_fail(config, config->settings.sections[lrki_section_find("adapters")],
                                "adapters.modules is missing");
    lrk_module_pattern *patterns = lrki_array(config->context, n, sizeof *patterns);
    if (patterns == NULL) return lrki_fail_nomem(config->context, "the patterns");
    for (int64_t i = 0; i < n; i++)
        patterns[i] = config->patterns[i].pattern;
    lrk_adapters_options options = config->settings.adapters;
    options.seed = config->settings.seed;
    status =
        lrk_adapters_create_matching(config->context, modules, n_modules, patterns, n, &options, adapters);
    lrki_array_free(config->context, patterns, n, sizeof *patterns);
    for (int64_t i = 0; i < n && status != LRK_OK; i++) {
        const lrki_entry *entry = &config->patterns[i].entry;
        if (lrki_entry_named(config, entry))
            return lrki_entry_locate(config, entry, lrki_pattern_keys, status, status);
    }
    return made(config, "adapters", status);
}

static lrk_status create_alora(const lrk_config *config, lrk_adapters *adapters, lrk_allocator **allocator)
{
    lrk_alora_options options = config->settings.alora;
    int64_t n = config->n_limits;
    lrk_limit *limits = lrki_array(config->context, n, sizeof *limits);
    if (limits == NULL) return lrki_fail_nomem(config->context, "the limits");
    for (int64_t i = 0; i < n; i++)
        limits[i] = config->limits[i].limit;
    options.limits = limits;
    options.n_limits = n;
    lrk_status status = lrk_allocator_create_alora(adapters, &options, allocator);
    lrki_array_free(config->context, limits, n, sizeof *limits);
    for (int64_t i = 0; i < n && status != LRK_OK; i++) {
        const lrki_entry *entry = &config->limits[i].entry;
        if (lrki_entry_named(config, entry))
            return lrki_entry_locate(config, entry, lrki_limit_keys, status, status);
    }
    return made(config, "allocation", status);
}

lrk_status lrk_config_create_allocator(const lrk_config *config, lrk_adapters *adapters,
                                       lrk_allocator **allocator)
{
    if (allocator != NULL) *allocator = NULL;
    lrk_status status = check_call(config, adapters, allocator);
    if (status != LRK_OK) return status;
    if (config->settings.policy == LRKI_POLICY_FIXED) return lrk_allocator_create_fixed(adapters, allocator);
    return create_alora(config, adapters, allocator);
}

static lrk_status create_ablation(const lrk_config *config, lrk_adapters *adapters,
                                  const lrk_evaluator *evaluator, const lrk_allocator *allocator,
                                  lrk_estimator **estimator)
{
    lrk_ablation_options options = config->settings.ablation;
    lrk_status status = LRK_OK;
    if (allocator != NULL) status = lrk_allocator_n_move(allocator, &options.n_cut);
    if (allocator != NULL && options.n_cut == 0)
        options.n_cut = 1; /* a policy that prunes none needs no cut */
    if (status == LRK_OK) status = lrk_estimator_create_ablation(adapters, evaluator, &options, estimator);
    return made(config, "importance", status);
}

/* As the text says, but for `reversed`. */
static lrk_status create_estimator(const lrk_config *config, lrk_adapters *adapters,
                                   const lrk_evaluator *evaluator, const lrk_allocator *allocator,
                                   lrk_estimator **estimator)
{
    const lrki_settings *s = &config->settings;
    switch (s->estimator) {
    case LRKI_ESTIMATOR_RANDOM:
        return lrk_estimator_create_random(adapters, s->seed, estimator);
    case LRKI_ESTIMATOR_SENSITIVITY:
        return made(config, "importance",
                    lrk_estimator_create_sensitivity(adapters, &s->sensitivity, estimator));
    case LRKI_ESTIMATOR_TAYLOR:
        return made(config, "importance", lrk_estimator_create_taylor(adapters, &s->taylor, estimator));
    case LRKI_ESTIMATOR_MAGNITUDE:
        return lrk_estimator_create_magnitude(adapters, estimator);
    case LRKI_ESTIMATOR_GATE:
        return lrk_estimator_create_gate(adapters, estimator);
    default:
        return create_ablation(config, adapters, evaluator, allocator, estimator);
    }
}

lrk_status lrk_config_create_estimator(const lrk_config *config, lrk_adapters *adapters,
                                       const lrk_evaluator *evaluator, const lrk_allocator *allocator,
                                       lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = check_call(config, adapters, estimator);
    if (status != LRK_OK) return status;
    status = create_estimator(config, adapters, evaluator, allocator, estimator);
    if (status != LRK_OK || config->settings.reversed == 0) return status;
    lrk_estimator *inner = *estimator;
    status = lrk_estimator_create_reversed(inner, estimator);
    lrk_estimator_destroy(inner);
    return status;
}

lrk_status lrk_config_create_optimizer(const lrk_config *config, lrk_adapters *adapters,
                                       lrk_optimizer **optimizer)
{
    if (optimizer != NULL) *optimizer = NULL;
    lrk_status status = check_call(config, adapters, optimizer);
    if (status != LRK_OK) return status;
    status = lrk_optimizer_create_adamw(adapters, &config->settings.adamw, optimizer);
    return made(config, "optimizer", status);
}

lrk_status lrk_config_create_schedule(const lrk_config *config, int64_t steps_per_epoch, int64_t total_steps,
                                      lrk_schedule **schedule)
{
    if (schedule != NULL) *schedule = NULL;
    lrk_status status = check_call(config, config, schedule);
    if (status != LRK_OK) return status;
    lrk_schedule_options options = config->settings.schedule;
    options.steps_per_epoch = steps_per_epoch;
    options.total_steps = total_steps;
    if (config->settings.policy == LRKI_POLICY_FIXED) options.rounds = 0;
    return made(config, "schedule", lrk_schedule_create(config->context, &options, schedule));
}

lrk_status lrk_config_learning_rate(const lrk_config *config, int64_t total_steps, lrk_lr_options *options)
{
    lrk_status status = check_call(config, config, options);
    if (status != LRK_OK) return status;
    lrk_lr_options lr = config->settings.lr;
    lr.total_steps = total_steps;
    if (!isnan(config->settings.warmup_share))
        lr.warmup_steps = llround(config->settings.warmup_share * (double)total_steps);
    status = made(config, "learning_rate", lrki_lr_options_check(config->context, &lr));
    return status == LRK_OK ? lrki_struct_write(config->context, options, &lr, sizeof lr, "lrk_lr_options")
                            : status;
}
