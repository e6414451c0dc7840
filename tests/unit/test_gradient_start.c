/* SPDX-License-Identifier: MIT */
/*
 * The gradient start: which ranks it takes against a naive greedy choice from dense spectra, the rows it begins with, budgets,
 * floors and caps, and that its plan is a plan like any other.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "adapters/sketch.h"
#include "core/core.h"
#include "gradient_rig.h"
#include "sets.h"
#include "sketch_rig.h"
#include "spectral.h"

/* ---- which ranks --------------------------------------------------------------------------------------------------- */

/* Again and again the best pair that fits; ties to the lower module. */
static void naive_ranks(int64_t budget, bool parameters, int64_t cap, int64_t *ranks)
{
    memset(ranks, 0, GRADIENT_MODULES * sizeof *ranks);
    for (;;) {
        int best = -1;
        double most = 0;
        for (int i = 0; i < GRADIENT_MODULES; i++) {
            int64_t cost = parameters ? gradient_shapes[i].n_in + gradient_shapes[i].n_out : 1;
            if (ranks[i] >= GRADIENT_VALUES || ranks[i] >= cap || cost > budget) continue;
            double worth = gradient_spectra[i][ranks[i]] * gradient_spectra[i][ranks[i]] / (double)cost;
            if (worth > most) most = worth, best = i;
        }
        if (best < 0) return;
        ranks[best]++;
        budget -= parameters ? gradient_shapes[best].n_in + gradient_shapes[best].n_out : 1;
    }
}

START_TEST(ranks_are_those_of_the_largest_squares_that_fit)
{
    int64_t ranks[GRADIENT_MODULES];
    for (int64_t budget = 1; budget <= 25; budget += 3)
        for (int64_t cap = 1; cap <= 7; cap += 3) {
            gradient_rig.options.multiple = 1;
            gradient_rig.options.budget = budget;
            gradient_rig.options.cap = cap;
            naive_ranks(budget, false, cap, ranks);
            gradient_expect_ranks(ranks);
        }
}
END_TEST

START_TEST(with_a_budget_in_parameters_squares_count_by_cost)
{
    int64_t ranks[GRADIENT_MODULES];
    gradient_rig.options.budget_unit = LRK_BUDGET_PARAMETERS;
    for (int64_t budget = 30; budget <= 900; budget += 43)
        for (int64_t cap = 2; cap <= 11; cap += 9) {
            gradient_rig.options.multiple = 1;
            gradient_rig.options.budget = budget;
            gradient_rig.options.cap = cap;
            naive_ranks(budget, true, cap, ranks);
            gradient_expect_ranks(ranks);
        }
}
END_TEST

START_TEST(the_budget_is_a_multiple_of_what_the_set_holds)
{
    lrk_plan *plan = gradient_plan(); /* 3 x 8 ranks, all of 4 x 6 */
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    ck_assert_str_eq(info.policy, "gradient_start");
    ck_assert_int_eq(info.ranks_before, 8);
    ck_assert_int_eq(info.ranks_after, 24);
    ck_assert_int_eq(info.n_dropped, 8);
    ck_assert_int_eq(info.n_added, 24);
    ck_assert_int_eq(info.parameters_before, 2 * (32 + 32 + 30 + 54));
    ck_assert_int_eq(info.parameters_after, 6 * (32 + 32 + 30 + 54));
    ck_assert_int_eq(info.step, 7);
    ck_assert(isnan(info.cut) && isnan(info.cut_next));
    gradient_carry_out(plan);
    ck_assert_int_eq(sets_info(gradient_rig.set).ranks, 24);
    gradient_rig.options.multiple = 0.5; /* fewer than it holds now */
    int64_t ranks[GRADIENT_MODULES];
    naive_ranks(12, false, 20, ranks);
    gradient_expect_ranks(ranks);
}
END_TEST

START_TEST(floors_come_first_and_caps_hold)
{
    const lrk_limit limits[] = {{sizeof(lrk_limit), 0, "m2", 3, LRK_NO_CAP},
                                {sizeof(lrk_limit), 0, "m3", 0, 1}};
    gradient_rig.options.multiple = 1;
    gradient_rig.options.budget = 6;
    gradient_rig.options.limits = limits;
    gradient_rig.options.n_limits = 2;
    gradient_expect_ranks((const int64_t[]){1, 1, 3, 1}); /* 10, 9, 8 past the floor */
    gradient_rig.options.budget = 9;
    gradient_expect_ranks(
        (const int64_t[]){2, 3, 3, 1}); /* then 7, 3, 2.5: m2's 4 is in its floor, m3's 6 is above its cap */
}
END_TEST

START_TEST(equal_worth_goes_to_the_lower_module)
{
    ck_assert_int_eq(lrk_sketch_zero(gradient_rig.sketch), LRK_OK);
    padded x, dy;
    spectral_rows(gradient_spectra[0], GRADIENT_VALUES, 20, 12, 3, &x, &dy);
    for (int32_t i = 0; i < 2; i++) /* the same rows, the same random matrices: the same bits */
        ck_assert_int_eq(sketch_feed_one(gradient_rig.set, gradient_rig.sketch, i, &x, &dy), LRK_OK);
    padded_free(&x);
    padded_free(&dy);
    for (int32_t i = 2; i < GRADIENT_MODULES; i++)
        gradient_feed(gradient_rig.set, gradient_rig.sketch, i,
                      (const double[GRADIENT_VALUES]){.1, .09, .08, .07, .06, .05}, GRADIENT_VALUES);
    gradient_rig.options.multiple = 1;
    gradient_rig.options.budget = 3;
    gradient_expect_ranks((const int64_t[]){2, 1, 0, 0});
}
END_TEST

START_TEST(what_the_host_can_store_is_a_cap)
{
    lrk_module_spec specs[2] = {sets_spec("a", 20, 12, 1), sets_spec("b", 20, 12, 1)};
    sets_host storage;
    lrk_storage callbacks = sets_host_storage(&storage, specs, LRK_STORAGE_FIXED);
    storage.slack = 1;
    lrk_adapters_options with = {.struct_size = sizeof with, .storage = &callbacks};
    lrk_adapters *fixed = sets_create(gradient_rig.context, specs, 2, &with);
    lrk_sketch_options o = gradient_sketched();
    lrk_sketch *own = sketch_make(fixed, &o);
    gradient_feed(fixed, own, 0, gradient_spectra[0], GRADIENT_VALUES);
    gradient_feed(fixed, own, 1, gradient_spectra[1], GRADIENT_VALUES);
    lrk_plan *plan;
    gradient_rig.options.multiple = 4;
    ck_assert_int_eq(lrk_gradient_start_plan(own, &gradient_rig.options, 0, &plan), LRK_OK);
    ck_assert_int_eq(gradient_rank_after(plan, 0), 2);
    ck_assert_int_eq(gradient_rank_after(plan, 1), 2);
    gradient_carry_out(plan);
    lrk_sketch_destroy(own);
    lrk_adapters_destroy(fixed);
    sets_host_free(&storage);
}
END_TEST

/* ---- how they begin ------------------------------------------------------------------------------------------------ */

/* Rows of A against the right singular vectors of the dense gradient; the values of a module are well apart. */
static void check_rows(int32_t module, double length)
{
    int64_t n_in = gradient_shapes[module].n_in, n_out = gradient_shapes[module].n_out;
    double gradient[30 * 24] = {0}, values[24], right[24 * 24];
    padded x, dy;
    spectral_rows(gradient_spectra[module], GRADIENT_VALUES, n_in, n_out, 3 + (uint64_t)module, &x, &dy);
    spectral_gradient(&x, &dy, gradient, NULL);
    spectral_svd(n_out, n_in, gradient, values, right);
    lrk_tensor a = set_tensor(gradient_rig.set, module, LRK_TENSOR_A);
    for (int64_t j = 0; j < a.rows; j++) {
        double along = 0, norm = 0;
        for (int64_t i = 0; i < n_in; i++) {
            along += right[j * n_in + i] * (double)a.data[j * n_in + i];
            norm += pow((double)a.data[j * n_in + i], 2);
        }
        ck_assert_double_eq_tol(sqrt(norm), length, 1e-6 * length);
        ck_assert_double_eq_tol(fabs(along), length, 1e-6 * length);
    }
    padded_free(&x);
    padded_free(&dy);
}

START_TEST(rows_are_right_singular_vectors_of_the_length_of_usual_ones)
{
    if (_i == 1) gradient_rig.options.length = 2.5;
    gradient_carry_out(gradient_plan());
    for (int32_t m = 0; m < GRADIENT_MODULES; m++) {
        check_rows(m, _i == 1 ? 2.5 : sqrt(1.0 / 3));
        lrk_tensor b = set_tensor(gradient_rig.set, m, LRK_TENSOR_B),
                   gates = set_tensor(gradient_rig.set, m, LRK_TENSOR_GATES);
        const uint64_t *ids;
        const int64_t *births;
        int64_t n;
        for (int64_t i = 0; i < b.rows * b.cols; i++)
            ck_assert_float_eq(b.data[i], 0);
        ck_assert_int_eq(lrk_adapters_ranks(gradient_rig.set, m, &ids, &births, &n), LRK_OK);
        ck_assert_int_eq(n, GRADIENT_VALUES);
        for (int64_t i = 0; i < n; i++) {
            ck_assert_float_eq(gates.data[i], 1);
            ck_assert_int_eq(births[i], 7);
            ck_assert_uint_eq(ids[i], 9 + (uint64_t)(GRADIENT_VALUES * m + i));
        }
    }
    ck_assert_uint_eq(sets_info(gradient_rig.set).next_identity, 9 + GRADIENT_MODULES * GRADIENT_VALUES);
}
END_TEST

static void expect_kaiming(int32_t module, int64_t index, uint64_t identity)
{
    float want[64];
    lrk_tensor a = set_tensor(gradient_rig.set, module, LRK_TENSOR_A);
    lrki_stream stream = lrki_stream_make(gradient_rig.set->seed, LRKI_STREAM_INIT_A, identity, 0);
    lrki_stream_fill_uniform(&stream, (float)(1 / sqrt((double)a.cols)), want, a.cols);
    ck_assert_mem_eq(a.data + index * a.cols, want, (size_t)a.cols * sizeof *want);
}

START_TEST(ranks_alone_leave_the_rows_as_usual)
{
    gradient_rig.options.flags = LRK_GRADIENT_START_RANKS_ONLY;
    gradient_carry_out(gradient_plan());
    for (int32_t m = 0; m < GRADIENT_MODULES; m++)
        for (int64_t i = 0; i < GRADIENT_VALUES; i++)
            expect_kaiming(m, i, 9 + (uint64_t)(GRADIENT_VALUES * m + i));
}
END_TEST

START_TEST(a_floor_above_the_directions_is_filled_up_as_usual)
{
    const lrk_limit limit = {sizeof limit, 0, "m2", 5, LRK_NO_CAP};
    ck_assert_int_eq(lrk_sketch_zero(gradient_rig.sketch), LRK_OK);
    for (int32_t i = 0; i < GRADIENT_MODULES; i++)
        gradient_feed(gradient_rig.set, gradient_rig.sketch, i, gradient_spectra[i],
                      i == 2 ? 3 : GRADIENT_VALUES);
    gradient_rig.options.flags = LRK_GRADIENT_START_TOLERATE;
    gradient_rig.options.limits = &limit;
    gradient_rig.options.n_limits = 1;
    gradient_carry_out(gradient_plan());
    ck_assert_int_eq(sets_rank(gradient_rig.set, 2), 5);
    for (int64_t i = 3; i < 5; i++)
        expect_kaiming(2, i, 9 + 12 + (uint64_t)i);
    lrk_tensor a = set_tensor(gradient_rig.set, 2, LRK_TENSOR_A);
    double norm = 0;
    for (int64_t i = 0; i < 15; i++)
        norm += pow((double)a.data[2 * 15 + i], 2);
    ck_assert_double_eq_tol(norm, 1.0 / 3, 1e-6);
}
END_TEST

/* ---- a plan like any other ----------------------------------------------------------------------------------------- */

START_TEST(a_plan_made_before_a_change_is_stale)
{
    lrk_plan *plan = gradient_plan(), *second = gradient_plan();
    ck_assert_int_eq(lrk_adapters_values_changed(gradient_rig.set), LRK_OK);
    sets_expect(gradient_rig.context, lrk_plan_prepare(plan, NULL, 0), LRK_ERR_STALE, "parameters changed");
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    gradient_carry_out(gradient_plan()); /* the sketch is as good as before */
    sets_expect(gradient_rig.context, lrk_plan_prepare(second, NULL, 0), LRK_ERR_STALE, "ranks changed");
    ck_assert_int_eq(lrk_plan_abandon(second), LRK_OK);
    lrk_plan_destroy(second);
    gradient_carry_out(gradient_plan());
    ck_assert_int_eq(sets_info(gradient_rig.set).ranks, 24);
}
END_TEST

START_TEST(digests_tell_plans_apart_by_their_rows_too)
{
    uint64_t digests[4];
    for (int i = 0; i < 4; i++) {
        if (i == 2) gradient_rig.options.length = 1;
        if (i == 3) gradient_rig.options.flags = LRK_GRADIENT_START_RANKS_ONLY;
        lrk_plan *plan = gradient_plan();
        ck_assert_int_eq(lrk_plan_digest(plan, &digests[i]), LRK_OK);
        ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
        lrk_plan_destroy(plan);
    }
    ck_assert_uint_eq(digests[0], digests[1]);
    ck_assert_uint_ne(digests[0], digests[2]);
    ck_assert_uint_ne(digests[0], digests[3]);
}
END_TEST

/* Moments of an optimizer that trained the old ranks do not reach the new ones. */
START_TEST(participants_follow)
{
    lrk_optimizer *optimizer;
    lrk_participant participant;
    lrk_participant_init(&participant, sizeof participant);
    ck_assert_int_eq(lrk_optimizer_create_adamw(gradient_rig.set, NULL, &optimizer), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_participant(optimizer, &participant), LRK_OK);
    lrk_tensor grad = set_tensor(gradient_rig.set, 0, LRK_TENSOR_GRAD_A);
    grad.data[0] = 1;
    ck_assert_int_eq(lrk_adapters_gradients_written(gradient_rig.set), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    lrk_plan *plan = gradient_plan();
    ck_assert_int_eq(lrk_plan_prepare(plan, &participant, 1), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
    float before[20];
    lrk_tensor a = set_tensor(gradient_rig.set, 0, LRK_TENSOR_A);
    memcpy(before, a.data, sizeof before);
    ck_assert_int_eq(lrk_adapters_gradients_written(gradient_rig.set), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK); /* gradients and moments are 0 */
    ck_assert_mem_eq(before, a.data, sizeof before);
    lrk_optimizer_destroy(optimizer);
}
END_TEST

START_TEST(a_plan_outlives_sketch_and_set)
{
    lrk_plan *plan = gradient_plan();
    lrk_sketch_destroy(gradient_rig.sketch);
    lrk_adapters_destroy(gradient_rig.set);
    gradient_rig.sketch = NULL;
    gradient_rig.set = NULL;
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    ck_assert_int_eq(gradient_rank_after(plan, 3), 6);
    lrk_plan_destroy(plan);
}
END_TEST

static lrk_plan *made;

static lrk_status act_plan(void *user)
{
    (void)user;
    return lrk_gradient_start_plan(gradient_rig.sketch, &gradient_rig.options, 0, &made);
}

static void undo_plan(void *user)
{
    (void)user;
    ck_assert_int_eq(lrk_plan_abandon(made), LRK_OK);
    lrk_plan_destroy(made);
}

/* Two small modules: each request for memory is failed in a plan of its own. */
START_TEST(planning_unwinds_when_any_request_fails)
{
    const shape small[2] = {{4, 3, 1, LRK_NO_GROUP, 0, 1.0}, {3, 5, 1, LRK_NO_GROUP, 0, 1.0}};
    lrk_adapters *large = gradient_rig.set;
    lrk_sketch *of_large = gradient_rig.sketch;
    lrk_sketch_options o = gradient_sketched();
    o.directions = 2, o.samples = 0;
    gradient_rig.set = set_make(gradient_rig.context, small, 2, 0, 0);
    gradient_rig.sketch = sketch_make(gradient_rig.set, &o);
    for (int32_t i = 0; i < 2; i++) {
        padded x = padded_make(9, small[i].n_in, 0, 1), dy = padded_make(9, small[i].n_out, 0, 2);
        ck_assert_int_eq(sketch_feed_one(gradient_rig.set, gradient_rig.sketch, i, &x, &dy), LRK_OK);
        padded_free(&x);
        padded_free(&dy);
    }
    uint64_t digest = sets_digest(gradient_rig.set);
    sets_each_fault(&gradient_rig.host, act_plan, undo_plan, NULL);
    ck_assert_uint_eq(sets_digest(gradient_rig.set), digest);
    lrk_sketch_destroy(gradient_rig.sketch);
    lrk_adapters_destroy(gradient_rig.set);
    gradient_rig.set = large;
    gradient_rig.sketch = of_large;
}
END_TEST

static lrk_status act_prepare(void *user)
{
    return lrk_plan_prepare(user, NULL, 0);
}

START_TEST(preparing_unwinds_when_any_request_fails)
{
    lrk_plan *plan = gradient_plan();
    uint64_t digest = sets_digest(gradient_rig.set);
    int64_t n = 0;
    for (;; n++) {
        gradient_rig.host.alloc.fail_at = gradient_rig.host.alloc.calls + n;
        lrk_status status = act_prepare(plan);
        gradient_rig.host.alloc.fail_at = -1;
        if (status == LRK_OK) break;
        ck_assert_int_eq(status, LRK_ERR_NOMEM);
        ck_assert_uint_eq(sets_digest(gradient_rig.set), digest);
    }
    ck_assert_int_gt(n, GRADIENT_MODULES);
    gradient_rig.host.alloc.fail_at = gradient_rig.host.alloc.calls; /* commit takes none */
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    gradient_rig.host.alloc.fail_at = -1;
    lrk_plan_destroy(plan);
    ck_assert_int_eq(sets_info(gradient_rig.set).ranks, 24);
}
END_TEST

Suite *gradient_start_suite(void);

Suite *gradient_start_suite(void)
{
    Suite *suite = suite_create("gradient_start");
    TCase *tcase = tcase_create("start");
    tcase_add_checked_fixture(tcase, gradient_rig_open, gradient_rig_close);
    tcase_add_test(tcase, ranks_are_those_of_the_largest_squares_that_fit);
    tcase_add_test(tcase, with_a_budget_in_parameters_squares_count_by_cost);
    tcase_add_test(tcase, the_budget_is_a_multiple_of_what_the_set_holds);
    tcase_add_test(tcase, floors_come_first_and_caps_hold);
    tcase_add_test(tcase, equal_worth_goes_to_the_lower_module);
    tcase_add_test(tcase, what_the_host_can_store_is_a_cap);
    tcase_add_loop_test(tcase, rows_are_right_singular_vectors_of_the_length_of_usual_ones, 0, 2);
    tcase_add_test(tcase, ranks_alone_leave_the_rows_as_usual);
    tcase_add_test(tcase, a_floor_above_the_directions_is_filled_up_as_usual);
    tcase_add_test(tcase, a_plan_made_before_a_change_is_stale);
    tcase_add_test(tcase, digests_tell_plans_apart_by_their_rows_too);
    tcase_add_test(tcase, participants_follow);
    tcase_add_test(tcase, a_plan_outlives_sketch_and_set);
    tcase_add_test(tcase, planning_unwinds_when_any_request_fails);
    tcase_add_test(tcase, preparing_unwinds_when_any_request_fails);
    suite_add_tcase(suite, tcase);
    return suite;
}
