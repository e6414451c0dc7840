/* SPDX-License-Identifier: MIT */
/* summary.json: what was measured, as JSON. Two equal runs differ in members that end in _seconds only. */
#ifndef FT_SUMMARY_H
#define FT_SUMMARY_H

#include <jansson.h>

#include "loop.h"

/* {"seed", "budget_ranks", "base": {...}}; NULL without memory, as all of these. */
json_t *ft_summary_create(uint64_t seed, int64_t budget_ranks, const ft_loss *dev, const ft_loss *test);

/* {"dev_loss", "test_loss", "test_accuracy"}, and that of a run. */
json_t *ft_summary_of(const ft_loss *dev, const ft_loss *test);
json_t *ft_summary_losses(const ft_outcome *outcome);

/* The same, with rounds, ranks, evaluations and times. */
json_t *ft_summary_run(const ft_outcome *outcome);

#endif
