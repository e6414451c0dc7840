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
#include "lorank/rank_list.h"

/* ---- checks of a text ------------------------------------------------------------------------------------------------ */

static lrk_status check_adapters(const lrk_config *config)
{
    if (config->settings.uniform < LRKI_NO_UNIFORM)
        return lrki_fail(config->context, LRK_ERR_CONFIG, "uniform must be >= 0");
    return lrki_adapters_options_check(config->context, &config->settings.adapters);
}

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

/* How much to move, and how far to grow, may be missing until an allocator is made: a later override can bring it. */
static lrk_status check_alora(const lrk_config *config)
{
    lrk_alora_options options = config->settings.alora;
    if (options.n_move == 0 && options.move_share == 0) options.n_move = 1;
    return lrki_alora_options_check(config->context, &options);
}

static lrk_status check_elalora(const lrk_config *config)
{
    lrk_elalora_options options = config->settings.elalora;
    options.n_move = 1;
    if (options.n_rounds != 0 && options.n_move_last == 0) options.n_move_last = 1;
    if (options.n_rounds == 0 && options.n_move_last != 0) options.n_rounds = 2;
    return lrki_elalora_options_check(config->context, &options);
}

static lrk_status check_threshold(const lrk_config *config)
{
    return lrki_threshold_options_check(config->context, &config->settings.threshold);
}

static lrk_status check_increlora(const lrk_config *config)
{
    lrk_increlora_options options = config->settings.increlora;
    options.budget = 0;
    if (options.grow_modules == 0) options.grow_modules = 1;
    return lrki_increlora_options_check(config->context, &options);
}

/* Whether gates are trained at all a later override may still say. */
static lrk_status check_adamw(const lrk_config *config)
{
    lrk_adamw_options options = config->settings.adamw;
    options.flags |= LRK_ADAMW_GATES;
    return lrki_adamw_options_check(config->context, &options);
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
    lrk_status status = check_in(config, "adapters", check_adapters(config));
    if (status == LRK_OK) status = check_in(config, "start", lrki_start_settings_check(config));
    if (status == LRK_OK) status = check_in(config, "importance", check_importance(config));
    if (status == LRK_OK) status = check_in(config, "allocation", check_alora(config));
    if (status == LRK_OK) status = check_in(config, "allocation", check_elalora(config));
    if (status == LRK_OK) status = check_in(config, "allocation", check_increlora(config));
    if (status == LRK_OK) status = check_in(config, "allocation", check_threshold(config));
    if (status == LRK_OK) status = check_in(config, "optimizer", check_adamw(config));
    if (status == LRK_OK) status = check_in(config, "learning_rate", check_lr(config));
    if (status == LRK_OK) status = check_in(config, "schedule", check_schedule(config));
    if (status == LRK_OK) status = check_entries(config);
    return status;
}

/* ---- handles --------------------------------------------------------------------------------------------------------- */

lrk_status lrki_config_made(const lrk_config *config, const char *section, lrk_status status)
{
    return lrki_config_locate(config, section, status, status);
}

lrk_status lrki_config_check_call(const lrk_config *config, const void *input, void *out)
{
    if (config == NULL) return LRK_ERR_ARGUMENT;
    if (input == NULL || out == NULL)
        return lrki_fail(config->context, LRK_ERR_ARGUMENT, "an argument of lrk_config_create_... is NULL");
    return LRK_OK;
}

/* ---- adapters: patterns give specs, which a rank list or a uniform budget may change ------------------------------------ */

static lrk_status match_specs(const lrk_config *config, const lrk_module_spec *modules, int64_t n_modules,
                              lrk_module_spec *specs, int64_t *n_specs)
{
    int64_t n = config->n_patterns;
    lrk_module_pattern *patterns = lrki_array(config->context, n, sizeof *patterns);
    if (patterns == NULL) return lrki_fail_nomem(config->context, "the patterns");
    for (int64_t i = 0; i < n; i++)
        patterns[i] = config->patterns[i].pattern;
    lrk_status status = lrki_specs_match(config->context, modules, n_modules, patterns, n, specs, n_specs);
    lrki_array_free(config->context, patterns, n, sizeof *patterns);
    return status;
}

static lrk_status apply_rank_list(const lrk_config *config, lrk_module_spec *specs, int64_t n_specs)
{
    lrk_rank_list *list = NULL;
    if (config->ranks_from == NULL) return LRK_OK;
    if (config->settings.uniform != LRKI_NO_UNIFORM)
        return lrki_config_fail(config, config->ranks_from_mark, "ranks_from and uniform exclude each other");
    lrk_status status = lrk_rank_list_load(config->context, config->ranks_from, &list);
    if (status == LRK_OK) status = lrk_rank_list_apply(list, specs, n_specs);
    lrk_rank_list_destroy(list);
    return lrki_config_locate_at(config, config->ranks_from_mark, status);
}

static lrk_status apply_uniform(const lrk_config *config, lrk_module_spec *specs, int64_t n_specs)
{
    const lrki_settings *s = &config->settings;
    if (s->uniform == LRKI_NO_UNIFORM) return LRK_OK;
    return lrki_config_made(
        config, "adapters",
        lrk_specs_uniform(config->context, specs, n_specs, s->uniform, s->uniform_unit, s->seed));
}

static lrk_status create_adapters(const lrk_config *config, lrk_module_spec *specs, int64_t n_specs,
                                  lrk_adapters **adapters)
{
    lrk_adapters_options options = config->settings.adapters;
    options.seed = config->settings.seed;
    lrk_status status = apply_rank_list(config, specs, n_specs);
    if (status == LRK_OK) status = apply_uniform(config, specs, n_specs);
    if (status != LRK_OK) return status;
    status = lrk_adapters_create(config->context, specs, n_specs, &options, adapters);
    return lrki_config_made(config, "adapters", status);
}

/* A pattern that decides nothing is pointed to. */
static lrk_status locate_pattern(const lrk_config *config, lrk_status status)
{
    for (int64_t i = 0; i < config->n_patterns && status != LRK_OK; i++) {
        const lrki_entry *entry = &config->patterns[i].entry;
        if (lrki_entry_named(config, entry))
            return lrki_entry_locate(config, entry, lrki_pattern_keys, status, status);
    }
    return lrki_config_made(config, "adapters", status);
}

lrk_status lrk_config_create_adapters(const lrk_config *config, const lrk_module_spec *modules,
                                      int64_t n_modules, lrk_adapters **adapters)
{
    if (adapters != NULL) *adapters = NULL;
    lrk_status status = lrki_config_check_call(config, modules, adapters);
    if (status != LRK_OK) return status;
    if (n_modules < 1) return lrki_fail(config->context, LRK_ERR_ARGUMENT, "there are no modules to adapt");
    if (config->n_patterns == 0)
        return lrki_config_fail(config, config->settings.sections[lrki_section_find("adapters")],
                                "adapters.modules is missing");
    lrk_module_spec *specs = lrki_array(config->context, n_modules, sizeof *specs);
    if (specs == NULL) return lrki_fail_nomem(config->context, "the modules");
    int64_t n_specs = 0;
    status = locate_pattern(config, match_specs(config, modules, n_modules, specs, &n_specs));
    if (status == LRK_OK) status = create_adapters(config, specs, n_specs, adapters);
    lrki_array_free(config->context, specs, n_modules, sizeof *specs);
    return status;
}

/* ---- allocation  ------------------------------------------------------- */

static lrk_status create_alora(const lrk_config *config, lrk_adapters *adapters, const lrk_limit *limits,
                               lrk_allocator **allocator)
{
    const lrki_settings *s = &config->settings;
    lrk_alora_options options = s->alora;
    if (s->start == LRKI_START_GRADIENT && s->gradient_start.multiple > 1)
        return lrki_fail(config->context, LRK_ERR_CONFIG,
                         "multiple must be <= 1 under policy alora: prune alone comes back to the budget");
    options.limits = limits;
    options.n_limits = config->n_limits;
    return lrk_allocator_create_alora(adapters, &options, allocator);
}

static lrk_status create_elalora(const lrk_config *config, lrk_adapters *adapters, const lrk_limit *limits,
                                 lrk_allocator **allocator)
{
    const lrk_alora_options *shared = &config->settings.alora;
    lrk_elalora_options options = config->settings.elalora;
    options.n_move = shared->n_move;
    options.budget = shared->budget;
    options.budget_unit = shared->budget_unit;
    options.protect_rounds = shared->protect_rounds;
    if (lrki_key_given(&config->settings, "allocation", "new_rank_init"))
        options.new_rank_init = shared->new_rank_init;
    options.limits = limits;
    options.n_limits = config->n_limits;
    return lrk_allocator_create_elalora(adapters, &options, allocator);
}

static lrk_status create_increlora(const lrk_config *config, lrk_adapters *adapters, const lrk_limit *limits,
                                   lrk_allocator **allocator)
{
    const lrk_alora_options *shared = &config->settings.alora;
    lrk_increlora_options options = config->settings.increlora;
    options.budget = shared->budget;
    options.budget_unit = shared->budget_unit;
    options.new_rank_init = shared->new_rank_init;
    options.limits = limits;
    options.n_limits = config->n_limits;
    return lrk_allocator_create_increlora(adapters, &options, allocator);
}

static lrk_status create_threshold(const lrk_config *config, lrk_adapters *adapters, const lrk_limit *limits,
                                   lrk_allocator **allocator)
{
    lrk_threshold_options options = config->settings.threshold;
    options.protect_rounds = config->settings.alora.protect_rounds;
    options.limits = limits;
    options.n_limits = config->n_limits;
    return lrk_allocator_create_threshold(adapters, &options, allocator);
}

static lrk_status create_prune(const lrk_config *config, lrk_adapters *adapters, const lrk_limit *limits,
                               lrk_allocator **allocator)
{
    const lrki_settings *s = &config->settings;
    lrk_prune_options options;
    if (s->policy == LRKI_POLICY_ADALORA && !(s->adamw.flags & LRK_ADAMW_GATES))
        return lrki_fail(config->context, LRK_ERR_ARGUMENT,
                         "policy adalora needs optimizer.train_gates: what it masks would not come back");
    (void)lrk_prune_options_init(&options, sizeof options);
    options.n_rounds = s->schedule.rounds;
    options.budget = s->alora.budget;
    options.budget_unit = s->alora.budget_unit;
    options.protect_rounds = s->alora.protect_rounds;
    if (s->start == LRKI_START_GRADIENT && s->gradient_start.multiple > 1)
        options.multiple = s->gradient_start.multiple;
    if (s->policy == LRKI_POLICY_ADALORA) options.flags |= LRK_PRUNE_COME_BACK;
    options.limits = limits;
    options.n_limits = config->n_limits;
    return lrk_allocator_create_prune(adapters, &options, allocator);
}

static lrk_status create_policy(const lrk_config *config, lrk_adapters *adapters, const lrk_limit *limits,
                                lrk_allocator **allocator)
{
    switch (config->settings.policy) {
    case LRKI_POLICY_FIXED:
        return lrk_allocator_create_fixed(adapters, allocator);
    case LRKI_POLICY_ELALORA:
        return create_elalora(config, adapters, limits, allocator);
    case LRKI_POLICY_INCRELORA:
        return create_increlora(config, adapters, limits, allocator);
    case LRKI_POLICY_PRUNE:
    case LRKI_POLICY_ADALORA:
        return create_prune(config, adapters, limits, allocator);
    case LRKI_POLICY_THRESHOLD:
        return create_threshold(config, adapters, limits, allocator);
    default:
        return create_alora(config, adapters, limits, allocator);
    }
}

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
    return lrki_config_made(config, "importance", status);
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
        return lrki_config_made(config, "importance",
                                lrk_estimator_create_sensitivity(adapters, &s->sensitivity, estimator));
    case LRKI_ESTIMATOR_TAYLOR:
        return lrki_config_made(config, "importance",
                                lrk_estimator_create_taylor(adapters, &s->taylor, estimator));
    case LRKI_ESTIMATOR_MAGNITUDE:
        return lrk_estimator_create_magnitude(adapters, estimator);
    case LRKI_ESTIMATOR_GATE:
        return lrk_estimator_create_gate(adapters, estimator);
    case LRKI_ESTIMATOR_OUTPUT:
        return lrki_config_made(config, "importance",
                                lrk_estimator_create_output(adapters, evaluator, &s->output, estimator));
    default:
        return create_ablation(config, adapters, evaluator, allocator, estimator);
    }
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

lrk_status lrk_config_create_optimizer(const lrk_config *config, lrk_adapters *adapters,
                                       lrk_optimizer **optimizer)
{
    if (optimizer != NULL) *optimizer = NULL;
    lrk_status status = lrki_config_check_call(config, adapters, optimizer);
    if (status != LRK_OK) return status;
    status = lrk_optimizer_create_adamw(adapters, &config->settings.adamw, optimizer);
    return lrki_config_made(config, "optimizer", status);
}

lrk_status lrk_config_create_schedule(const lrk_config *config, int64_t steps_per_epoch, int64_t total_steps,
                                      lrk_schedule **schedule)
{
    if (schedule != NULL) *schedule = NULL;
    lrk_status status = lrki_config_check_call(config, config, schedule);
    if (status != LRK_OK) return status;
    lrk_schedule_options options = config->settings.schedule;
    options.steps_per_epoch = steps_per_epoch;
    options.total_steps = total_steps;
    if (config->settings.policy == LRKI_POLICY_FIXED) options.rounds = 0;
    return lrki_config_made(config, "schedule", lrk_schedule_create(config->context, &options, schedule));
}

lrk_status lrk_config_learning_rate(const lrk_config *config, int64_t total_steps, lrk_lr_options *options)
{
    lrk_status status = lrki_config_check_call(config, config, options);
    if (status != LRK_OK) return status;
    lrk_lr_options lr = config->settings.lr;
    lr.total_steps = total_steps;
    if (!isnan(config->settings.warmup_share))
        lr.warmup_steps = llround(config->settings.warmup_share * (double)total_steps);
    status = lrki_config_made(config, "learning_rate", lrki_lr_options_check(config->context, &lr));
    return status == LRK_OK ? lrki_struct_write(config->context, options, &lr, sizeof lr, "lrk_lr_options")
                            : status;
}
