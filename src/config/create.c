/* SPDX-License-Identifier: MIT */
/* Settings into handles: what all creations share, and optimizer, schedule and learning rate. */
#include "config.h"

#include <math.h>

#include "../training/training.h"

lrk_status lrki_config_made(const lrk_config *config, const char *section, lrk_status status)
{
    return lrki_config_locate(config, section, status, status);
}

/* ---- training ---------------------------------------------------------------------------------------------------------- */

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
    if (lrki_policy_chosen(&config->settings)->is_idle) options.rounds = 0;
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
