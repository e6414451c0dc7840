/* SPDX-License-Identifier: MIT */
/* Puts adapters, optimizer, estimator, allocator and schedule on a trainer, as the configuration says. */
#ifndef FT_ADAPT_H
#define FT_ADAPT_H

#include "failure.h"
#include "lorank/lorank.h"
#include "trainer.h"

int64_t ft_steps_per_epoch(const ft_task *task, const ft_settings *settings);
int64_t ft_total_steps(const ft_task *task, const ft_settings *settings);

/* All that training needs. What was made stays on the trainer for ft_trainer_free(), whatever is returned. */
int ft_adapt_train(ft_trainer *trainer, lrk_context *context, const lrk_config *config, ft_error *error);

/* A saved adapter, for evaluation and generation. */
int ft_adapt_load(ft_trainer *trainer, lrk_context *context, const char *directory, ft_error *error);

void ft_adapt_free(ft_trainer *trainer);

#endif
