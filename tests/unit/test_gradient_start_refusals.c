/* SPDX-License-Identifier: MIT */
/*
 * What the gradient start refuses: gradients that are not there, not finite or of too few directions; options, budgets and
 * sketches.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "adapters/set.h"
#include "gradient_rig.h"
#include "sets.h"
#include "sketch_rig.h"

/* ---- gradients that are refused ------------------------------------------------------------------------------------ */

static void feed_all_but(int32_t without)
{
    ck_assert_int_eq(lrk_sketch_zero(gradient_rig.sketch), LRK_OK);
    for (int32_t i = 0; i < GRADIENT_MODULES; i++)
        if (i != without)
            gradient_feed(gradient_rig.set, gradient_rig.sketch, i, gradient_spectra[i], GRADIENT_VALUES);
}

/* Rows of which x or dy, or their sum, is 0 or not finite. */
static void feed_bad(int32_t module, float x_value, float dy_value, bool cancel)
{
    padded x = padded_make(16, gradient_shapes[module].n_in, 0, 1),
           dy = padded_make(16, gradient_shapes[module].n_out, 0, 2);
    for (int64_t i = 0; i < 16 * x.cols; i++)
        if (x_value != 1) x.data[i] *= x_value;
    for (int64_t i = 0; i < 16 * dy.cols; i++)
        if (dy_value != 1) dy.data[i] *= dy_value;
    for (int64_t t = 0; t < 8 && cancel; t++) {
        memcpy(x.data + (8 + t) * x.cols, x.data + t * x.cols, (size_t)x.cols * sizeof(float));
        for (int64_t i = 0; i < dy.cols; i++)
            dy.data[(8 + t) * dy.cols + i] = -dy.data[t * dy.cols + i];
    }
    ck_assert_int_eq(sketch_feed_one(gradient_rig.set, gradient_rig.sketch, module, &x, &dy), LRK_OK);
    padded_free(&x);
    padded_free(&dy);
}

START_TEST(a_module_without_a_gradient_is_refused_with_the_reason)
{
    gradient_rig.options.flags =
        _i ? LRK_GRADIENT_START_TOLERATE : 0; /* tolerates few directions, not none */
    feed_all_but(1);
    gradient_expect_refused(LRK_ERR_NO_GRADIENT,
                            "module 'm1' has no gradient: no backward of it fed the sketch");
    feed_bad(1, 1, 0, false);
    gradient_expect_refused(LRK_ERR_NO_GRADIENT,
                            "module 'm1' has no gradient: its dy is 0 in every row: masked tokens");
    feed_all_but(1);
    feed_bad(1, 0, 1, false);
    gradient_expect_refused(LRK_ERR_NO_GRADIENT, "module 'm1' has no gradient: its x is 0 in every row");
    feed_all_but(1);
    feed_bad(1, 1, 1, true);
    gradient_expect_refused(LRK_ERR_NO_GRADIENT, "module 'm1' has no gradient: its rows cancel");
    feed_all_but(1);
    feed_bad(1, NAN, 1, false);
    gradient_expect_refused(LRK_ERR_NONFINITE, "module 'm1': its gradient sketch is not finite");
    ck_assert_int_eq(lrk_sketch_zero(gradient_rig.sketch), LRK_OK);
    gradient_expect_refused(LRK_ERR_NO_GRADIENT,
                            "'m0' has no gradient: no backward of it fed the sketch (and 3 more modules)");
}
END_TEST

START_TEST(a_batch_of_too_few_rows_is_refused_or_tolerated)
{
    feed_all_but(2);
    gradient_feed(gradient_rig.set, gradient_rig.sketch, 2, gradient_spectra[2], 2);
    gradient_expect_refused(
        LRK_ERR_NO_GRADIENT,
        "module 'm2': its gradient has 2 directions of the 6 that it could get ranks for; 2 of 2 rows");
    gradient_rig.options.flags = LRK_GRADIENT_START_TOLERATE;
    gradient_expect_ranks((const int64_t[]){6, 6, 2, 6});
    gradient_rig.options.flags = 0;
    gradient_rig.options.cap = 2; /* it could get no more */
    gradient_expect_ranks((const int64_t[]){2, 2, 2, 2});
    const lrk_limit limit = {sizeof limit, 0, "m2", 0, 0};
    gradient_rig.options.cap = 20;
    gradient_rig.options.limits = &limit;
    gradient_rig.options.n_limits = 1;
    gradient_expect_ranks((const int64_t[]){6, 6, 0, 6});
}
END_TEST

START_TEST(a_module_that_may_lack_a_gradient_gets_what_it_has)
{
    gradient_rig.set->modules[1].flags |= LRK_MODULE_MAY_LACK_GRADIENT;
    feed_all_but(1);
    gradient_expect_ranks((const int64_t[]){6, 0, 6, 6});
    gradient_feed(gradient_rig.set, gradient_rig.sketch, 1, gradient_spectra[1], 2);
    gradient_expect_ranks((const int64_t[]){6, 2, 6, 6});
}
END_TEST

/* ---- other refusals ------------------------------------------------------------------------------------------------ */

START_TEST(options_out_of_range_are_refused)
{
    const lrk_gradient_start_options good = gradient_rig.options;
    const double bad[] = {0, -1, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        gradient_rig.options = good;
        gradient_rig.options.multiple = bad[i];
        gradient_expect_refused(LRK_ERR_ARGUMENT, "multiple must be > 0");
        gradient_rig.options = good;
        gradient_rig.options.length = bad[i];
        gradient_expect_refused(LRK_ERR_ARGUMENT, "length must be > 0");
    }
    gradient_rig.options = good;
    gradient_rig.options.multiple = 1e300;
    gradient_expect_refused(LRK_ERR_ARGUMENT, "multiple 1e+300 of budget 8 is too large");
    gradient_rig.options = good;
    gradient_rig.options.cap = 0;
    gradient_expect_refused(LRK_ERR_ARGUMENT, "cap must be >= 1");
    gradient_rig.options = good;
    gradient_rig.options.reserved = 1;
    gradient_expect_refused(LRK_ERR_ARGUMENT, "reserved");
    gradient_rig.options = good;
    gradient_rig.options.flags = 4;
    gradient_expect_refused(LRK_ERR_ARGUMENT, "flags has an unknown bit");
    gradient_rig.options = good;
    gradient_rig.options.budget = -2;
    gradient_expect_refused(LRK_ERR_ARGUMENT, "budget must be >= 0");
    gradient_rig.options = good;
    gradient_rig.options.budget_unit = 2;
    gradient_expect_refused(LRK_ERR_ARGUMENT, "budget_unit");
    gradient_rig.options = good;
    gradient_rig.options.n_limits = 1;
    gradient_expect_refused(LRK_ERR_ARGUMENT, "limits must not be NULL");
    const lrk_limit limit = {sizeof limit, 0, "nothing", 0, 1};
    gradient_rig.options.limits = &limit;
    gradient_expect_refused(LRK_ERR_NOT_FOUND, "limit 'nothing' decides no module");
    gradient_rig.options = good;
    lrk_plan *plan;
    sets_expect(gradient_rig.context,
                lrk_gradient_start_plan(gradient_rig.sketch, &gradient_rig.options, -1, &plan),
                LRK_ERR_ARGUMENT, "step >= 0");
    sets_expect(gradient_rig.context,
                lrk_gradient_start_plan(gradient_rig.sketch, &gradient_rig.options, 0, NULL),
                LRK_ERR_ARGUMENT, "plan must not");
    ck_assert_int_eq(lrk_gradient_start_plan(NULL, &gradient_rig.options, 0, &plan), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_gradient_start_options_init(NULL, 8), LRK_ERR_ARGUMENT);
    struct {
        lrk_gradient_start_options known;
        uint64_t tail;
    } longer = {good, 1};
    longer.known.struct_size = sizeof longer;
    ck_assert_int_eq(lrk_gradient_start_plan(gradient_rig.sketch, &longer.known, 0, &plan), LRK_ERR_VERSION);
    ck_assert_int_eq(lrk_gradient_start_plan(gradient_rig.sketch, NULL, 0, &plan), LRK_OK); /* the defaults */
    gradient_carry_out(plan);
}
END_TEST

START_TEST(a_budget_without_room_is_refused)
{
    const lrk_limit limit = {sizeof limit, 0, "m?", 3, LRK_NO_CAP};
    gradient_rig.options.multiple = 1;
    gradient_rig.options.budget = 0;
    gradient_expect_refused(LRK_ERR_BUDGET, "no rank fits into the budget of 0");
    gradient_rig.options.budget = 11;
    gradient_rig.options.limits = &limit;
    gradient_rig.options.n_limits = 1;
    gradient_expect_refused(LRK_ERR_BUDGET,
                            "module 'm3': its floor of 3 ranks exceeds what is left of the budget of 11");
    gradient_rig.options.budget = 12;
    gradient_expect_ranks((const int64_t[]){3, 3, 3, 3});
}
END_TEST

START_TEST(a_sketch_that_is_being_fed_is_busy)
{
    lrk_pass *pass = sketch_pass(gradient_rig.set, gradient_rig.sketch, 8);
    gradient_expect_refused(LRK_ERR_BUSY, "an open pass feeds the sketch");
    lrk_pass_end(pass);
    gradient_expect_ranks((const int64_t[]){6, 6, 6, 6});
}
END_TEST

Suite *gradient_start_refusals_suite(void);

Suite *gradient_start_refusals_suite(void)
{
    Suite *suite = suite_create("gradient_start_refusals");
    TCase *tcase = tcase_create("refusals");
    tcase_add_checked_fixture(tcase, gradient_rig_open, gradient_rig_close);
    tcase_add_loop_test(tcase, a_module_without_a_gradient_is_refused_with_the_reason, 0, 2);
    tcase_add_test(tcase, a_batch_of_too_few_rows_is_refused_or_tolerated);
    tcase_add_test(tcase, a_module_that_may_lack_a_gradient_gets_what_it_has);
    tcase_add_test(tcase, options_out_of_range_are_refused);
    tcase_add_test(tcase, a_budget_without_room_is_refused);
    tcase_add_test(tcase, a_sketch_that_is_being_fed_is_busy);
    suite_add_tcase(suite, tcase);
    return suite;
}
