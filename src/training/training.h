/* SPDX-License-Identifier: MIT */
/*
 * Training, internal: the checks of options that configuration shares with the public calls, so that a text and the C
 * API have one set of bounds. Each is LRK_ERR_ARGUMENT with a detail that names the member.
 */
#ifndef LRKI_TRAINING_H
#define LRKI_TRAINING_H

#include "../core/core.h"
#include "lorank/optimizer.h"
#include "lorank/schedule.h"

lrk_status lrki_adamw_options_check(lrk_context *context, const lrk_adamw_options *options);
/* Whether the rounds fit into total_steps is checked at creation. */
lrk_status lrki_schedule_options_check(lrk_context *context, const lrk_schedule_options *options);
/* context may be NULL. */
lrk_status lrki_lr_options_check(lrk_context *context, const lrk_lr_options *options);

#endif
