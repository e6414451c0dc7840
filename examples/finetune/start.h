/* SPDX-License-Identifier: MIT */
/* Starts: the base model on a few batches, and the plan that lorank makes of what it saw. */
#ifndef FT_START_H
#define FT_START_H

#include "failure.h"
#include "lorank/lorank.h"
#include "trainer.h"

/* What the configuration says of it (nothing under start.kind uniform); begun tells whether there was one. */
int ft_start(ft_trainer *trainer, const lrk_config *config, int *begun, ft_error *error);

#endif
