/* SPDX-License-Identifier: MIT */
/* The rig of the tests of the gradient start (gradient_rig.h). */
#include "gradient_rig.h"

#include <check.h>

#include "sets.h"
#include "sketch_rig.h"
#include "spectral.h"

const shape gradient_shapes[GRADIENT_MODULES] = {{20, 12, 2, LRK_NO_GROUP, 0, 1.0},
                                                 {20, 12, 2, LRK_NO_GROUP, 0, 1.0},
                                                 {15, 15, 2, LRK_NO_GROUP, 1, 0.5},
                                                 {24, 30, 2, LRK_NO_GROUP, 1, 1.0}};
const double gradient_spectra[GRADIENT_MODULES][GRADIENT_VALUES] = {
    {8, 7, 2, 1, .3, .2}, {9, 3, 2.5, .7, .6, .1}, {4, .5, .4, .3, .2, .1}, {10, 6, 5, 1.5, .9, .8}};

struct gradient_rig gradient_rig;

lrk_sketch_options gradient_sketched(void)
{
    lrk_sketch_options o;
    ck_assert_int_eq(lrk_sketch_options_init(&o, sizeof o), LRK_OK);
    o.directions = GRADIENT_VALUES;
    o.samples = 61; /* factored whole */
    return o;
}

void gradient_feed(lrk_adapters *set, lrk_sketch *sketch, int32_t module, const double *spectrum, int64_t n)
{
    padded x, dy;
    spectral_rows(spectrum, n, gradient_shapes[module].n_in, gradient_shapes[module].n_out,
                  3 + (uint64_t)module, &x, &dy);
    ck_assert_int_eq(sketch_feed_one(set, sketch, module, &x, &dy), LRK_OK);
    padded_free(&x);
    padded_free(&dy);
}

void gradient_rig_open(void)
{
    lrk_sketch_options o = gradient_sketched();
    fault_reset(&gradient_rig.host);
    gradient_rig.context = fault_context(&gradient_rig.host);
    gradient_rig.set = set_make(gradient_rig.context, gradient_shapes, GRADIENT_MODULES, 0, 0);
    set_fill(gradient_rig.set, 1);
    gradient_rig.sketch = sketch_make(gradient_rig.set, &o);
    ck_assert_int_eq(lrk_gradient_start_options_init(&gradient_rig.options, sizeof gradient_rig.options),
                     LRK_OK);
    for (int32_t i = 0; i < GRADIENT_MODULES; i++)
        gradient_feed(gradient_rig.set, gradient_rig.sketch, i, gradient_spectra[i], GRADIENT_VALUES);
}

void gradient_rig_close(void)
{
    lrk_sketch_destroy(gradient_rig.sketch);
    lrk_adapters_destroy(gradient_rig.set);
    lrk_context_destroy(gradient_rig.context);
    ck_assert_int_eq(gradient_rig.host.live, 0);
    ck_assert(!gradient_rig.host.bad_release);
}

lrk_plan *gradient_plan(void)
{
    lrk_plan *plan = NULL;
    ck_assert_int_eq(lrk_gradient_start_plan(gradient_rig.sketch, &gradient_rig.options, 7, &plan), LRK_OK);
    return plan;
}

void gradient_expect_refused(lrk_status want, const char *words)
{
    lrk_plan *plan = (lrk_plan *)&gradient_rig.host;
    int64_t live = gradient_rig.host.live;
    sets_expect(gradient_rig.context,
                lrk_gradient_start_plan(gradient_rig.sketch, &gradient_rig.options, 0, &plan), want, words);
    ck_assert_ptr_null(plan);
    ck_assert_int_eq(gradient_rig.host.live, live);
}

int64_t gradient_rank_after(const lrk_plan *plan, int32_t module)
{
    lrk_plan_module part = {.struct_size = sizeof part};
    ck_assert_int_eq(lrk_plan_module_get(plan, module, &part), LRK_OK);
    ck_assert_int_eq(part.n_kept, 0);
    return part.rank_after;
}

void gradient_expect_ranks(const int64_t *ranks)
{
    lrk_plan *plan = gradient_plan();
    for (int32_t i = 0; i < GRADIENT_MODULES; i++)
        ck_assert_msg(gradient_rank_after(plan, i) == ranks[i], "module %d: %lld ranks instead of %lld",
                      (int)i, (long long)gradient_rank_after(plan, i), (long long)ranks[i]);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
}

void gradient_carry_out(lrk_plan *plan)
{
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
}
