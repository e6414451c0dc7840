/* SPDX-License-Identifier: MIT */
/* The rig of the tests of sketches (sketch_rig.h). */
#include "sketch_rig.h"

#include <check.h>
#include <string.h>

#include "sets.h"

const shape sketch_shapes[] = {{24, 30, 2, 0, 0, 1.0},
                               {24, 17, 1, 0, 0, 0.5},
                               {40, 24, 2, LRK_NO_GROUP, 1, 1.0},
                               {6, 9, 0, LRK_NO_GROUP, 2, 1.0}};
const int32_t sketch_group[2] = {0, 1};
struct sketch_rig sketch_rig;

void sketch_rig_open(int32_t kernels, int32_t threads)
{
    fault_reset(&sketch_rig.host);
    sketch_rig.host.kernels = kernels;
    sketch_rig.host.threads = threads;
    sketch_rig.context = fault_context(&sketch_rig.host);
    sketch_rig.set = set_make(sketch_rig.context, sketch_shapes, SKETCH_MODULES, 0.25, 0);
    set_fill(sketch_rig.set, 1);
    sketch_rig.x = padded_make(SKETCH_ROWS, 24, 2, 1);
    sketch_rig.dy[0] = padded_make(SKETCH_ROWS, 30, 3, 3);
    sketch_rig.dy[1] = padded_make(SKETCH_ROWS, 17, 0, 4);
}

void sketch_rig_close(void)
{
    padded_free(&sketch_rig.x);
    padded_free(&sketch_rig.dy[0]);
    padded_free(&sketch_rig.dy[1]);
    lrk_adapters_destroy(sketch_rig.set);
    lrk_context_destroy(sketch_rig.context);
    ck_assert_int_eq(sketch_rig.host.live, 0);
    ck_assert(!sketch_rig.host.bad_release);
}

lrk_sketch_options sketch_options(int64_t directions)
{
    lrk_sketch_options options;
    ck_assert_int_eq(lrk_sketch_options_init(&options, sizeof options), LRK_OK);
    options.directions = directions;
    options.seed = 5;
    return options;
}

lrk_sketch *sketch_make(lrk_adapters *set, const lrk_sketch_options *options)
{
    lrk_sketch *sketch = NULL;
    ck_assert_int_eq(lrk_sketch_create(set, options, &sketch), LRK_OK);
    return sketch;
}

lrk_pass *sketch_pass(lrk_adapters *set, lrk_sketch *sketch, int64_t rows)
{
    lrk_pass_options options = pass_options(rows);
    options.gradients = 0;
    options.sketch = sketch;
    return pass_open(set, options);
}

lrk_status sketch_feed_one(lrk_adapters *set, lrk_sketch *sketch, int32_t module, const padded *x,
                           const padded *dy)
{
    lrk_pass *pass = sketch_pass(set, sketch, x->rows);
    lrk_matrix vx = padded_view(x), vdy = padded_view(dy);
    lrk_status status = lrk_backward(pass, &module, 1, &vx, NULL, 0, &vdy, NULL);
    lrk_pass_end(pass);
    return status;
}

lrk_status sketch_feed_group(lrk_sketch *sketch)
{
    lrk_pass *pass = sketch_pass(sketch_rig.set, sketch, SKETCH_ROWS);
    lrk_matrix x = padded_view(&sketch_rig.x);
    lrk_matrix dy[2] = {padded_view(&sketch_rig.dy[0]), padded_view(&sketch_rig.dy[1])};
    lrk_status status = lrk_backward(pass, sketch_group, 2, &x, NULL, 0, dy, NULL);
    lrk_pass_end(pass);
    return status;
}

void sketch_expect(lrk_status got, lrk_status want, const char *words)
{
    sets_expect(sketch_rig.context, got, want, words);
}
