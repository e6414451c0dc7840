/* SPDX-License-Identifier: MIT */
/*
 * The rig of the tests of the gradient start: one set on the counting host, a sketch that was fed gradients of known singular
 * values, options; and plans of them that are made, expected, refused or carried out.
 */
#ifndef GRADIENT_RIG_H
#define GRADIENT_RIG_H

#include "fault.h"
#include "material.h"

#define GRADIENT_MODULES 4
#define GRADIENT_VALUES  6 /* singular values of a module */

/* Module 3 is dear; 0 and 1 have the same shape. */
extern const shape gradient_shapes[GRADIENT_MODULES];
extern const double gradient_spectra[GRADIENT_MODULES][GRADIENT_VALUES];

extern struct gradient_rig {
    fault host;
    lrk_context *context;
    lrk_adapters *set;
    lrk_sketch *sketch;
    lrk_gradient_start_options options; /* the defaults */
} gradient_rig;

void gradient_rig_open(void);
void gradient_rig_close(void);

/* As the rig's: as many directions as there are values, and factored whole. */
lrk_sketch_options gradient_sketched(void);
/* Rows for a module whose gradient has these n singular values. */
void gradient_feed(lrk_adapters *set, lrk_sketch *sketch, int32_t module, const double *spectrum, int64_t n);

/* Of the rig's sketch and options, at step 7. */
lrk_plan *gradient_plan(void);
/* The same at step 0 is refused: the status is `want`, the detail has these words in it, and nothing is left. */
void gradient_expect_refused(lrk_status want, const char *words);
/* The plan gives the modules these ranks; it is abandoned again. */
void gradient_expect_ranks(const int64_t *ranks);
/* None of them was there before. */
int64_t gradient_rank_after(const lrk_plan *plan, int32_t module);
void gradient_carry_out(lrk_plan *plan);

#endif
