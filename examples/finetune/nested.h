/* SPDX-License-Identifier: MIT */
/* Nested ranks (DyLoRA): what a step does beside, if the configuration says so, and what every depth comes to in the end. */
#ifndef FT_NESTED_H
#define FT_NESTED_H

#include <jansson.h>

#include "trainer.h"

/* Before a step's pass: draws the depth, whose mask training passes then have. Nothing without nested ranks. */
int ft_nested_begin(ft_trainer *trainer, ft_error *error);
/* Between the gradients and the optimizer: freezes what the variant does not train; passes are of the whole set again. */
int ft_nested_end(ft_trainer *trainer, ft_error *error);

/* Evaluates every depth on dev and, if there are such rows, test; prints them, and adds "depths" to a summary. */
int ft_nested_report(ft_trainer *trainer, json_t *summary, ft_error *error);

#endif
