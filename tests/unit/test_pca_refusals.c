/* SPDX-License-Identifier: MIT */
/*
 * Components of inputs: every refusal, objects that are being fed, faults.
 */
#include <check.h>
#include <math.h>

#include "pca_rig.h"
#include "sets.h"
#include "sketch_rig.h"

static void setup(void)
{
    pca_rig_open(1);
}

static void refuse_options(lrk_pca_options options, lrk_status want, const char *words)
{
    lrk_pca *pca = (lrk_pca *)&pca_rig.host;
    sets_expect(pca_rig.context, lrk_pca_create(pca_rig.set, &options, &pca), want, words);
    ck_assert_ptr_null(pca);
}

START_TEST(options_out_of_range_are_refused)
{
    const double bad[] = {0, -1, NAN, INFINITY};
    lrk_pca_options options;
    for (int i = 0; i < 4; i++) {
        options = pca_usual_options(), options.rho = bad[i];
        refuse_options(options, LRK_ERR_ARGUMENT, "rho must be > 0");
        options = pca_usual_options(), options.tau = bad[i];
        refuse_options(options, LRK_ERR_ARGUMENT, "tau must be in (0, 1]");
    }
    options = pca_usual_options(), options.tau = 1.5;
    refuse_options(options, LRK_ERR_ARGUMENT, "tau");
    options = pca_usual_options(), options.batch_rows = 0;
    refuse_options(options, LRK_ERR_ARGUMENT, "batch_rows must be >= 1");
    options.batch_rows = (int64_t)1 << 31;
    refuse_options(options, LRK_ERR_ARGUMENT, "batch_rows must be");
    options.batch_rows = (int64_t)1 << 30;
    refuse_options(options, LRK_ERR_SHAPE, "too large for LAPACK");
    options = pca_usual_options(), options.flags = 1;
    refuse_options(options, LRK_ERR_ARGUMENT, "flags");
    lrk_pca *pca;
    ck_assert_int_eq(lrk_pca_create(NULL, NULL, &pca), LRK_ERR_ARGUMENT);
    sets_expect(pca_rig.context, lrk_pca_create(pca_rig.set, NULL, NULL), LRK_ERR_ARGUMENT, "pca is NULL");
    ck_assert_int_eq(lrk_pca_options_init(NULL, 8), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_pca_create(pca_rig.set, NULL, &pca), LRK_OK);
    lrk_pca_destroy(pca);
    lrk_pca_destroy(NULL);
}
END_TEST

START_TEST(a_size_that_overflows_is_refused_by_name)
{
    const shape huge = {INT64_MAX / 8, 1, 1, LRK_NO_GROUP, 0, 1.0};
    const lrk_module_spec spec = {
        .struct_size = sizeof spec, .name = "m0", .n_in = huge.n_in, .n_out = 1, .scale = 1};
    lrk_adapters *wide = sets_create(pca_rig.context, &spec, 1, NULL);
    lrk_pca *pca;
    sets_expect(pca_rig.context, lrk_pca_create(wide, NULL, &pca), LRK_ERR_SHAPE, "module 'm0': the size");
    lrk_adapters_destroy(wide);
}
END_TEST

START_TEST(wrong_arguments_are_refused)
{
    lrk_pca *pca = pca_make_usual();
    lrk_pca_info info = {.struct_size = sizeof info};
    double value;
    uint8_t count = 1;
    sets_expect(pca_rig.context, lrk_pca_info_get(pca, 5, &info), LRK_ERR_ARGUMENT, "there is no module 5");
    ck_assert_int_eq(lrk_pca_info_get(NULL, 0, &info), LRK_ERR_ARGUMENT);
    sets_expect(pca_rig.context, lrk_pca_components(pca, -1, 1, &value, NULL, NULL), LRK_ERR_ARGUMENT,
                "no module -1");
    sets_expect(pca_rig.context, lrk_pca_components(pca, 2, 1, NULL, NULL, NULL), LRK_ERR_ARGUMENT,
                "values is NULL");
    sets_expect(pca_rig.context, lrk_pca_components(pca, 2, 0, &value, NULL, NULL), LRK_ERR_ARGUMENT,
                "not in 1..6");
    sets_expect(pca_rig.context, lrk_pca_components(pca, 2, 7, &value, NULL, NULL), LRK_ERR_ARGUMENT,
                "not in 1..6");
    sets_expect(pca_rig.context, lrk_pca_select(pca, &count, 0), LRK_ERR_ARGUMENT, "counts is NULL");
    sets_expect(pca_rig.context, lrk_pca_select(pca, NULL, 1), LRK_ERR_ARGUMENT, "counts is NULL");
    ck_assert_int_eq(lrk_pca_select(NULL, &count, 1), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_pca_components(NULL, 0, 1, &value, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_pca_components(pca, 2, 1, &value, NULL, NULL), LRK_OK); /* nothing fed */
    ck_assert_double_eq(value, 0);
    lrk_pca_destroy(pca);
}
END_TEST

START_TEST(an_object_that_is_being_fed_is_busy)
{
    lrk_pca *pca = pca_make_usual(), *other = pca_make_usual();
    lrk_adapters *second = set_make(pca_rig.context, pca_shapes, PCA_MODULES, 0, 0);
    lrk_pass_options options = pass_options(4);
    lrk_pass *pass, *none = NULL;
    const double *state, *of_other;
    int64_t n;
    double value;
    options.pca = pca;
    sets_expect(pca_rig.context, lrk_pass_begin(second, &options, &none), LRK_ERR_ARGUMENT,
                "components are of another set");
    pass = pass_open(pca_rig.set, options);
    options.sketch = sketch_make(pca_rig.set, NULL);
    sets_expect(pca_rig.context, lrk_pass_begin(pca_rig.set, &options, &none), LRK_ERR_BUSY,
                "another open pass feeds the comp");
    options.pca = NULL;
    lrk_pass_end(pass_open(pca_rig.set, options)); /* the sketch was given back */
    lrk_sketch_destroy(options.sketch);
    ck_assert_int_eq(lrk_pca_state(other, &of_other, &n), LRK_OK);
    sets_expect(pca_rig.context, lrk_pca_state(pca, &state, &n), LRK_ERR_BUSY, "an open pass feeds");
    sets_expect(pca_rig.context, lrk_pca_add(pca, of_other, n), LRK_ERR_BUSY, "an open pass feeds");
    sets_expect(pca_rig.context, lrk_pca_select(pca, NULL, 0), LRK_ERR_BUSY, "an open pass feeds");
    sets_expect(pca_rig.context, lrk_pca_components(pca, 2, 1, &value, NULL, NULL), LRK_ERR_BUSY,
                "an open pass feeds");
    lrk_pca_destroy(pca); /* the pass keeps it */
    lrk_pass_end(pass);
    lrk_pca_destroy(other);
    lrk_adapters_destroy(second);
}
END_TEST

static lrk_pca *made;

static lrk_status act_create(void *user)
{
    (void)user;
    return lrk_pca_create(pca_rig.set, NULL, &made);
}

static void undo_create(void *user)
{
    (void)user;
    lrk_pca_destroy(made);
}

static lrk_status act_select(void *user)
{
    const uint8_t counts[3] = {1, 0, 1};
    return lrk_pca_select(user, counts, 3);
}

static void undo_select(void *user)
{
    ck_assert_int_eq(lrk_pca_select(user, NULL, 0), LRK_OK);
}

START_TEST(creating_and_selecting_unwind_when_any_request_fails)
{
    sets_each_fault(&pca_rig.host, act_create, undo_create, NULL);
    lrk_pca *pca = pca_make_usual();
    sets_each_fault(&pca_rig.host, act_select, undo_select, pca);
    lrk_pca_destroy(pca);
}
END_TEST

/* Feeding takes no memory, and says so when any of its loops fails. */
START_TEST(feeding_allocates_nothing_and_reports_a_loop_that_fails)
{
    lrk_pca *pca = pca_make_usual();
    padded x = pca_rows(70, 37, 0.7, 3), y = padded_make(70, 24, 0, 3);
    lrk_matrix vx = padded_view(&x);
    lrk_matrix_mut vy = padded_mut(&y);
    int32_t module = 2;
    lrk_mask *none;
    lrk_pass_options options = pass_options(70);
    ck_assert_int_eq(lrk_mask_create_none(pca_rig.set, &none), LRK_OK);
    options.mask = none;
    options.pca = pca;
    lrk_pass *pass = pass_open(pca_rig.set, options);
    pca_rig.host.alloc.fail_at = pca_rig.host.alloc.calls;
    pca_rig.host.alloc.sticky = true;
    int64_t loops = pca_rig.host.loop.calls;
    ck_assert_int_eq(lrk_forward(pass, &module, 1, &vx, &vy, NULL, 0), LRK_OK);
    loops = pca_rig.host.loop.calls - loops;
    pca_rig.host.alloc.fail_at = -1;
    ck_assert_int_eq(loops, 2 * 4);
    for (int64_t i = 0; i < loops; i++) {
        pca_rig.host.loop.fail_at = pca_rig.host.loop.calls + i;
        sets_expect(pca_rig.context, lrk_forward(pass, &module, 1, &vx, &vy, NULL, 0), LRK_ERR_HOST,
                    "parallel_for");
        pca_rig.host.loop.fail_at = -1;
    }
    lrk_pass_end(pass);
    const double *state;
    int64_t n;
    lrk_pca *sum = pca_make_usual();
    ck_assert_int_eq(lrk_pca_state(pca, &state, &n), LRK_OK);
    pca_rig.host.loop.fail_at = pca_rig.host.loop.calls + 2;
    ck_assert_int_eq(lrk_pca_add(sum, state, n), LRK_ERR_HOST);
    pca_rig.host.loop.fail_at = -1;
    lrk_mask_destroy(none);
    padded_free(&x);
    padded_free(&y);
    lrk_pca_destroy(sum);
    lrk_pca_destroy(pca);
}
END_TEST

Suite *pca_refusals_suite(void);

Suite *pca_refusals_suite(void)
{
    Suite *suite = suite_create("pca_refusals");
    TCase *tests = tcase_create("refusals");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, pca_rig_close);
    tcase_add_test(tests, options_out_of_range_are_refused);
    tcase_add_test(tests, a_size_that_overflows_is_refused_by_name);
    tcase_add_test(tests, wrong_arguments_are_refused);
    tcase_add_test(tests, an_object_that_is_being_fed_is_busy);
    tcase_add_test(tests, creating_and_selecting_unwind_when_any_request_fails);
    tcase_add_test(tests, feeding_allocates_nothing_and_reports_a_loop_that_fails);
    suite_add_tcase(suite, tests);
    return suite;
}
