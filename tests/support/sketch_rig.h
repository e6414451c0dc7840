/* SPDX-License-Identifier: MIT */
/*
 * The rig of the tests of sketches: one set on the counting host, a group of two modules and two that stand alone, one of
 * them of rank 0, activations for the group, and the calls that most tests make.
 */
#ifndef SKETCH_RIG_H
#define SKETCH_RIG_H

#include "adapters/sketch.h"
#include "fault.h"
#include "material.h"

#define SKETCH_ROWS    90
#define SKETCH_MODULES 4

extern const shape sketch_shapes[SKETCH_MODULES];
extern const int32_t sketch_group[2]; /* modules 0 and 1 */

extern struct sketch_rig {
    fault host;
    lrk_context *context;
    lrk_adapters *set;
    padded x;
    padded dy[2]; /* of the group */
} sketch_rig;

/* kernels: of the context; threads > 1: a real parallel loop. */
void sketch_rig_open(int32_t kernels, int32_t threads);
void sketch_rig_close(void);

lrk_sketch_options sketch_options(int64_t directions);
lrk_sketch *sketch_make(lrk_adapters *set, const lrk_sketch_options *options);
/* A pass that feeds the sketch and derives nothing. */
lrk_pass *sketch_pass(lrk_adapters *set, lrk_sketch *sketch, int64_t rows);
/* One pass with one backward of a module alone. */
lrk_status sketch_feed_one(lrk_adapters *set, lrk_sketch *sketch, int32_t module, const padded *x,
                           const padded *dy);
/* The same of the rig's group. */
lrk_status sketch_feed_group(lrk_sketch *sketch);
/* Status and words of the rig's context. */
void sketch_expect(lrk_status got, lrk_status want, const char *words);

#endif
