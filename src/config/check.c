/* SPDX-License-Identifier: MIT */
/*
 * Checks of a text: calls of the layers that own the values, so that a text and the C API have one set of bounds. What only
 * the host knows (modules, steps) is checked when a handle is made.
 */
#include <math.h>

#include "../adapters/pca.h"
#include "../adapters/sketch.h"
#include "../adapters/spec.h"
#include "../training/training.h"
#include "config.h"

static lrk_status check_adapters(const lrk_config *config)
{
    if (config->settings.uniform < LRKI_NO_UNIFORM)
        return lrki_fail(config->context, LRK_ERR_CONFIG, "uniform must be >= 0");
    return lrki_adapters_options_check(config->context, &config->settings.adapters);
}

/* What starts look at. */
static lrk_status check_materials(const lrk_config *config)
{
    const lrki_settings *s = &config->settings;
    if (s->batches < 1) return lrki_fail(config->context, LRK_ERR_CONFIG, "batches must be >= 1");
    if (s->warmup < 0) return lrki_fail(config->context, LRK_ERR_CONFIG, "warmup must be >= 0");
    lrk_status status = lrki_sketch_options_check(config->context, &s->sketch);
    return status == LRK_OK ? lrki_pca_options_check(config->context, &s->pca) : status;
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
    if (status == LRK_OK) status = check_in(config, "start", check_materials(config));
    if (status == LRK_OK) status = lrki_methods_check(config);
    if (status == LRK_OK) status = check_in(config, "optimizer", check_adamw(config));
    if (status == LRK_OK) status = check_in(config, "learning_rate", check_lr(config));
    if (status == LRK_OK) status = check_in(config, "schedule", check_schedule(config));
    if (status == LRK_OK) status = check_entries(config);
    return status;
}
