/* SPDX-License-Identifier: MIT */
/*
 * The gradient start: which ranks it takes against a naive greedy choice from dense spectra, the rows it begins with, budgets,
 * floors and caps, every gradient that it refuses, and that its plan is a plan like any other.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "adapters/sketch.h"
#include "core/core.h"
#include "fault.h"
#include "material.h"
#include "sets.h"
#include "sketch_rig.h"
#include "spectral.h"

#define N 4
#define K 6 /* singular values of a module */

/* Module 3 is dear; 0 and 1 have the same shape. */
static const shape shapes[N] = {{20, 12, 2, LRK_NO_GROUP, 0, 1.0},
                                {20, 12, 2, LRK_NO_GROUP, 0, 1.0},
                                {15, 15, 2, LRK_NO_GROUP, 1, 0.5},
                                {24, 30, 2, LRK_NO_GROUP, 1, 1.0}};
static const double spectra[N][K] = {
    {8, 7, 2, 1, .3, .2}, {9, 3, 2.5, .7, .6, .1}, {4, .5, .4, .3, .2, .1}, {10, 6, 5, 1.5, .9, .8}};

static fault host;
static lrk_context *context;
static lrk_adapters *set;
static lrk_sketch *sketch;
static lrk_gradient_start_options options;

static lrk_sketch_options sketched(void)
{
    lrk_sketch_options o;
    ck_assert_int_eq(lrk_sketch_options_init(&o, sizeof o), LRK_OK);
    o.directions = K;
    o.samples = 61; /* factored whole */
    return o;
}

static void feed(const lrk_adapters *of, lrk_sketch *to, int32_t module, const double *spectrum, int64_t n)
{
    padded x, dy;
    spectral_rows(spectrum, n, shapes[module].n_in, shapes[module].n_out, 3 + (uint64_t)module, &x, &dy);
    ck_assert_int_eq(sketch_feed_one((lrk_adapters *)of, to, module, &x, &dy), LRK_OK);
    padded_free(&x);
    padded_free(&dy);
}

static void open_with(const lrk_sketch_options *o)
{
    fault_reset(&host);
    context = fault_context(&host);
    set = set_make(context, shapes, N, 0, 0);
    set_fill(set, 1);
    sketch = sketch_make(set, o);
    ck_assert_int_eq(lrk_gradient_start_options_init(&options, sizeof options), LRK_OK);
}

static void setup(void)
{
    lrk_sketch_options o = sketched();
    open_with(&o);
    for (int32_t i = 0; i < N; i++)
        feed(set, sketch, i, spectra[i], K);
}

static void teardown(void)
{
    lrk_sketch_destroy(sketch);
    lrk_adapters_destroy(set);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static lrk_plan *plan_now(void)
{
    lrk_plan *plan = NULL;
    ck_assert_int_eq(lrk_gradient_start_plan(sketch, &options, 7, &plan), LRK_OK);
    return plan;
}

static void expect_refused(lrk_status want, const char *words)
{
    lrk_plan *plan = (lrk_plan *)&host;
    int64_t live = host.live;
    sets_expect(context, lrk_gradient_start_plan(sketch, &options, 0, &plan), want, words);
    ck_assert_ptr_null(plan);
    ck_assert_int_eq(host.live, live);
}

static int64_t rank_after(const lrk_plan *plan, int32_t module)
{
    lrk_plan_module part = {.struct_size = sizeof part};
    ck_assert_int_eq(lrk_plan_module_get(plan, module, &part), LRK_OK);
    ck_assert_int_eq(part.n_kept, 0);
    return part.rank_after;
}

static void expect_ranks(const int64_t *ranks)
{
    lrk_plan *plan = plan_now();
    for (int32_t i = 0; i < N; i++)
        ck_assert_msg(rank_after(plan, i) == ranks[i], "module %d: %lld ranks instead of %lld", (int)i,
                      (long long)rank_after(plan, i), (long long)ranks[i]);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
}

static void carry_out(lrk_plan *plan)
{
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
}

/* ---- which ranks --------------------------------------------------------------------------------------------------- */

/* Again and again the best pair that fits; ties to the lower module. */
static void naive_ranks(int64_t budget, bool parameters, int64_t cap, int64_t *ranks)
{
    memset(ranks, 0, N * sizeof *ranks);
    for (;;) {
        int best = -1;
        double most = 0;
        for (int i = 0; i < N; i++) {
            int64_t cost = parameters ? shapes[i].n_in + shapes[i].n_out : 1;
            if (ranks[i] >= K || ranks[i] >= cap || cost > budget) continue;
            double worth = spectra[i][ranks[i]] * spectra[i][ranks[i]] / (double)cost;
            if (worth > most) most = worth, best = i;
        }
        if (best < 0) return;
        ranks[best]++;
        budget -= parameters ? shapes[best].n_in + shapes[best].n_out : 1;
    }
}

START_TEST(ranks_are_those_of_the_largest_squares_that_fit)
{
    int64_t ranks[N];
    for (int64_t budget = 1; budget <= 25; budget += 3)
        for (int64_t cap = 1; cap <= 7; cap += 3) {
            options.multiple = 1;
            options.budget = budget;
            options.cap = cap;
            naive_ranks(budget, false, cap, ranks);
            expect_ranks(ranks);
        }
}
END_TEST

START_TEST(with_a_budget_in_parameters_squares_count_by_cost)
{
    int64_t ranks[N];
    options.budget_unit = LRK_BUDGET_PARAMETERS;
    for (int64_t budget = 30; budget <= 900; budget += 43)
        for (int64_t cap = 2; cap <= 11; cap += 9) {
            options.multiple = 1;
            options.budget = budget;
            options.cap = cap;
            naive_ranks(budget, true, cap, ranks);
            expect_ranks(ranks);
        }
}
END_TEST

START_TEST(the_budget_is_a_multiple_of_what_the_set_holds)
{
    lrk_plan *plan = plan_now(); /* 3 x 8 ranks, all of K x N */
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
    carry_out(plan);
    ck_assert_int_eq(sets_info(set).ranks, 24);
    options.multiple = 0.5; /* fewer than it holds now */
    int64_t ranks[N];
    naive_ranks(12, false, 20, ranks);
    expect_ranks(ranks);
}
END_TEST

START_TEST(floors_come_first_and_caps_hold)
{
    const lrk_limit limits[] = {{sizeof(lrk_limit), 0, "m2", 3, LRK_NO_CAP},
                                {sizeof(lrk_limit), 0, "m3", 0, 1}};
    options.multiple = 1;
    options.budget = 6;
    options.limits = limits;
    options.n_limits = 2;
    expect_ranks((const int64_t[]){1, 1, 3, 1}); /* 10, 9, 8 past the floor */
    options.budget = 9;
    expect_ranks(
        (const int64_t[]){2, 3, 3, 1}); /* then 7, 3, 2.5: m2's 4 is in its floor, m3's 6 is above its cap */
}
END_TEST

START_TEST(equal_worth_goes_to_the_lower_module)
{
    ck_assert_int_eq(lrk_sketch_zero(sketch), LRK_OK);
    padded x, dy;
    spectral_rows(spectra[0], K, 20, 12, 3, &x, &dy);
    for (int32_t i = 0; i < 2; i++) /* the same rows, the same random matrices: the same bits */
        ck_assert_int_eq(sketch_feed_one(set, sketch, i, &x, &dy), LRK_OK);
    padded_free(&x);
    padded_free(&dy);
    for (int32_t i = 2; i < N; i++)
        feed(set, sketch, i, (const double[K]){.1, .09, .08, .07, .06, .05}, K);
    options.multiple = 1;
    options.budget = 3;
    expect_ranks((const int64_t[]){2, 1, 0, 0});
}
END_TEST

START_TEST(what_the_host_can_store_is_a_cap)
{
    lrk_module_spec specs[2] = {sets_spec("a", 20, 12, 1), sets_spec("b", 20, 12, 1)};
    sets_host storage;
    lrk_storage callbacks = sets_host_storage(&storage, specs, LRK_STORAGE_FIXED);
    storage.slack = 1;
    lrk_adapters_options with = {.struct_size = sizeof with, .storage = &callbacks};
    lrk_adapters *fixed = sets_create(context, specs, 2, &with);
    lrk_sketch_options o = sketched();
    lrk_sketch *own = sketch_make(fixed, &o);
    feed(fixed, own, 0, spectra[0], K);
    feed(fixed, own, 1, spectra[1], K);
    lrk_plan *plan;
    options.multiple = 4;
    ck_assert_int_eq(lrk_gradient_start_plan(own, &options, 0, &plan), LRK_OK);
    ck_assert_int_eq(rank_after(plan, 0), 2);
    ck_assert_int_eq(rank_after(plan, 1), 2);
    carry_out(plan);
    lrk_sketch_destroy(own);
    lrk_adapters_destroy(fixed);
    sets_host_free(&storage);
}
END_TEST

/* ---- how they begin ------------------------------------------------------------------------------------------------ */

/* Rows of A against the right singular vectors of the dense gradient; the values of a module are well apart. */
static void check_rows(int32_t module, double length)
{
    int64_t n_in = shapes[module].n_in, n_out = shapes[module].n_out;
    double gradient[30 * 24] = {0}, values[24], right[24 * 24];
    padded x, dy;
    spectral_rows(spectra[module], K, n_in, n_out, 3 + (uint64_t)module, &x, &dy);
    spectral_gradient(&x, &dy, gradient, NULL);
    spectral_svd(n_out, n_in, gradient, values, right);
    lrk_tensor a = set_tensor(set, module, LRK_TENSOR_A);
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
    if (_i == 1) options.length = 2.5;
    carry_out(plan_now());
    for (int32_t m = 0; m < N; m++) {
        check_rows(m, _i == 1 ? 2.5 : sqrt(1.0 / 3));
        lrk_tensor b = set_tensor(set, m, LRK_TENSOR_B), gates = set_tensor(set, m, LRK_TENSOR_GATES);
        const uint64_t *ids;
        const int64_t *births;
        int64_t n;
        for (int64_t i = 0; i < b.rows * b.cols; i++)
            ck_assert_float_eq(b.data[i], 0);
        ck_assert_int_eq(lrk_adapters_ranks(set, m, &ids, &births, &n), LRK_OK);
        ck_assert_int_eq(n, K);
        for (int64_t i = 0; i < n; i++) {
            ck_assert_float_eq(gates.data[i], 1);
            ck_assert_int_eq(births[i], 7);
            ck_assert_uint_eq(ids[i], 9 + (uint64_t)(K * m + i));
        }
    }
    ck_assert_uint_eq(sets_info(set).next_identity, 9 + N * K);
}
END_TEST

static void expect_kaiming(int32_t module, int64_t index, uint64_t identity)
{
    float want[64];
    lrk_tensor a = set_tensor(set, module, LRK_TENSOR_A);
    lrki_stream stream = lrki_stream_make(set->seed, LRKI_STREAM_INIT_A, identity, 0);
    lrki_stream_fill_uniform(&stream, (float)(1 / sqrt((double)a.cols)), want, a.cols);
    ck_assert_mem_eq(a.data + index * a.cols, want, (size_t)a.cols * sizeof *want);
}

START_TEST(ranks_alone_leave_the_rows_as_usual)
{
    options.flags = LRK_GRADIENT_START_RANKS_ONLY;
    carry_out(plan_now());
    for (int32_t m = 0; m < N; m++)
        for (int64_t i = 0; i < K; i++)
            expect_kaiming(m, i, 9 + (uint64_t)(K * m + i));
}
END_TEST

START_TEST(a_floor_above_the_directions_is_filled_up_as_usual)
{
    const lrk_limit limit = {sizeof limit, 0, "m2", 5, LRK_NO_CAP};
    ck_assert_int_eq(lrk_sketch_zero(sketch), LRK_OK);
    for (int32_t i = 0; i < N; i++)
        feed(set, sketch, i, spectra[i], i == 2 ? 3 : K);
    options.flags = LRK_GRADIENT_START_TOLERATE;
    options.limits = &limit;
    options.n_limits = 1;
    carry_out(plan_now());
    ck_assert_int_eq(sets_rank(set, 2), 5);
    for (int64_t i = 3; i < 5; i++)
        expect_kaiming(2, i, 9 + 12 + (uint64_t)i);
    lrk_tensor a = set_tensor(set, 2, LRK_TENSOR_A);
    double norm = 0;
    for (int64_t i = 0; i < 15; i++)
        norm += pow((double)a.data[2 * 15 + i], 2);
    ck_assert_double_eq_tol(norm, 1.0 / 3, 1e-6);
}
END_TEST

/* ---- gradients that are refused ------------------------------------------------------------------------------------ */

static void feed_all_but(int32_t without)
{
    ck_assert_int_eq(lrk_sketch_zero(sketch), LRK_OK);
    for (int32_t i = 0; i < N; i++)
        if (i != without) feed(set, sketch, i, spectra[i], K);
}

/* Rows of which x or dy, or their sum, is 0 or not finite. */
static void feed_bad(int32_t module, float x_value, float dy_value, bool cancel)
{
    padded x = padded_make(16, shapes[module].n_in, 0, 1), dy = padded_make(16, shapes[module].n_out, 0, 2);
    for (int64_t i = 0; i < 16 * x.cols; i++)
        if (x_value != 1) x.data[i] *= x_value;
    for (int64_t i = 0; i < 16 * dy.cols; i++)
        if (dy_value != 1) dy.data[i] *= dy_value;
    for (int64_t t = 0; t < 8 && cancel; t++) {
        memcpy(x.data + (8 + t) * x.cols, x.data + t * x.cols, (size_t)x.cols * sizeof(float));
        for (int64_t i = 0; i < dy.cols; i++)
            dy.data[(8 + t) * dy.cols + i] = -dy.data[t * dy.cols + i];
    }
    ck_assert_int_eq(sketch_feed_one(set, sketch, module, &x, &dy), LRK_OK);
    padded_free(&x);
    padded_free(&dy);
}

START_TEST(a_module_without_a_gradient_is_refused_with_the_reason)
{
    options.flags = _i ? LRK_GRADIENT_START_TOLERATE : 0; /* tolerates few directions, not none */
    feed_all_but(1);
    expect_refused(LRK_ERR_NO_GRADIENT, "module 'm1' has no gradient: no backward of it fed the sketch");
    feed_bad(1, 1, 0, false);
    expect_refused(LRK_ERR_NO_GRADIENT,
                   "module 'm1' has no gradient: its dy is 0 in every row: masked tokens");
    feed_all_but(1);
    feed_bad(1, 0, 1, false);
    expect_refused(LRK_ERR_NO_GRADIENT, "module 'm1' has no gradient: its x is 0 in every row");
    feed_all_but(1);
    feed_bad(1, 1, 1, true);
    expect_refused(LRK_ERR_NO_GRADIENT, "module 'm1' has no gradient: its rows cancel");
    feed_all_but(1);
    feed_bad(1, NAN, 1, false);
    expect_refused(LRK_ERR_NONFINITE, "module 'm1': its gradient sketch is not finite");
    ck_assert_int_eq(lrk_sketch_zero(sketch), LRK_OK);
    expect_refused(LRK_ERR_NO_GRADIENT,
                   "'m0' has no gradient: no backward of it fed the sketch (and 3 more modules)");
}
END_TEST

START_TEST(a_batch_of_too_few_rows_is_refused_or_tolerated)
{
    feed_all_but(2);
    feed(set, sketch, 2, spectra[2], 2);
    expect_refused(
        LRK_ERR_NO_GRADIENT,
        "module 'm2': its gradient has 2 directions of the 6 that it could get ranks for; 2 of 2 rows");
    options.flags = LRK_GRADIENT_START_TOLERATE;
    expect_ranks((const int64_t[]){6, 6, 2, 6});
    options.flags = 0;
    options.cap = 2; /* it could get no more */
    expect_ranks((const int64_t[]){2, 2, 2, 2});
    const lrk_limit limit = {sizeof limit, 0, "m2", 0, 0};
    options.cap = 20;
    options.limits = &limit;
    options.n_limits = 1;
    expect_ranks((const int64_t[]){6, 6, 0, 6});
}
END_TEST

START_TEST(a_module_that_may_lack_a_gradient_gets_what_it_has)
{
    set->modules[1].flags |= LRK_MODULE_MAY_LACK_GRADIENT;
    feed_all_but(1);
    expect_ranks((const int64_t[]){6, 0, 6, 6});
    feed(set, sketch, 1, spectra[1], 2);
    expect_ranks((const int64_t[]){6, 2, 6, 6});
}
END_TEST

/* ---- other refusals ------------------------------------------------------------------------------------------------ */

START_TEST(options_out_of_range_are_refused)
{
    const lrk_gradient_start_options good = options;
    const double bad[] = {0, -1, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        options = good;
        options.multiple = bad[i];
        expect_refused(LRK_ERR_ARGUMENT, "multiple must be > 0");
        options = good;
        options.length = bad[i];
        expect_refused(LRK_ERR_ARGUMENT, "length must be > 0");
    }
    options = good;
    options.multiple = 1e300;
    expect_refused(LRK_ERR_ARGUMENT, "multiple 1e+300 of budget 8 is too large");
    options = good;
    options.cap = 0;
    expect_refused(LRK_ERR_ARGUMENT, "cap must be >= 1");
    options = good;
    options.reserved = 1;
    expect_refused(LRK_ERR_ARGUMENT, "reserved");
    options = good;
    options.flags = 4;
    expect_refused(LRK_ERR_ARGUMENT, "flags has an unknown bit");
    options = good;
    options.budget = -2;
    expect_refused(LRK_ERR_ARGUMENT, "budget must be >= 0");
    options = good;
    options.budget_unit = 2;
    expect_refused(LRK_ERR_ARGUMENT, "budget_unit");
    options = good;
    options.n_limits = 1;
    expect_refused(LRK_ERR_ARGUMENT, "limits must not be NULL");
    const lrk_limit limit = {sizeof limit, 0, "nothing", 0, 1};
    options.limits = &limit;
    expect_refused(LRK_ERR_NOT_FOUND, "limit 'nothing' decides no module");
    options = good;
    lrk_plan *plan;
    sets_expect(context, lrk_gradient_start_plan(sketch, &options, -1, &plan), LRK_ERR_ARGUMENT, "step >= 0");
    sets_expect(context, lrk_gradient_start_plan(sketch, &options, 0, NULL), LRK_ERR_ARGUMENT,
                "plan must not");
    ck_assert_int_eq(lrk_gradient_start_plan(NULL, &options, 0, &plan), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_gradient_start_options_init(NULL, 8), LRK_ERR_ARGUMENT);
    struct {
        lrk_gradient_start_options known;
        uint64_t tail;
    } longer = {good, 1};
    longer.known.struct_size = sizeof longer;
    ck_assert_int_eq(lrk_gradient_start_plan(sketch, &longer.known, 0, &plan), LRK_ERR_VERSION);
    ck_assert_int_eq(lrk_gradient_start_plan(sketch, NULL, 0, &plan), LRK_OK); /* the defaults */
    carry_out(plan);
}
END_TEST

START_TEST(a_budget_without_room_is_refused)
{
    const lrk_limit limit = {sizeof limit, 0, "m?", 3, LRK_NO_CAP};
    options.multiple = 1;
    options.budget = 0;
    expect_refused(LRK_ERR_BUDGET, "no rank fits into the budget of 0");
    options.budget = 11;
    options.limits = &limit;
    options.n_limits = 1;
    expect_refused(LRK_ERR_BUDGET,
                   "module 'm3': its floor of 3 ranks exceeds what is left of the budget of 11");
    options.budget = 12;
    expect_ranks((const int64_t[]){3, 3, 3, 3});
}
END_TEST

START_TEST(a_sketch_that_is_being_fed_is_busy)
{
    lrk_pass *pass = sketch_pass(set, sketch, 8);
    expect_refused(LRK_ERR_BUSY, "an open pass feeds the sketch");
    lrk_pass_end(pass);
    expect_ranks((const int64_t[]){6, 6, 6, 6});
}
END_TEST

/* ---- a plan like any other ----------------------------------------------------------------------------------------- */

START_TEST(a_plan_made_before_a_change_is_stale)
{
    lrk_plan *plan = plan_now(), *second = plan_now();
    ck_assert_int_eq(lrk_adapters_values_changed(set), LRK_OK);
    sets_expect(context, lrk_plan_prepare(plan, NULL, 0), LRK_ERR_STALE, "parameters changed");
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    carry_out(plan_now()); /* the sketch is as good as before */
    sets_expect(context, lrk_plan_prepare(second, NULL, 0), LRK_ERR_STALE, "ranks changed");
    ck_assert_int_eq(lrk_plan_abandon(second), LRK_OK);
    lrk_plan_destroy(second);
    carry_out(plan_now());
    ck_assert_int_eq(sets_info(set).ranks, 24);
}
END_TEST

START_TEST(digests_tell_plans_apart_by_their_rows_too)
{
    uint64_t digests[4];
    for (int i = 0; i < 4; i++) {
        if (i == 2) options.length = 1;
        if (i == 3) options.flags = LRK_GRADIENT_START_RANKS_ONLY;
        lrk_plan *plan = plan_now();
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
    ck_assert_int_eq(lrk_optimizer_create_adamw(set, NULL, &optimizer), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_participant(optimizer, &participant), LRK_OK);
    lrk_tensor grad = set_tensor(set, 0, LRK_TENSOR_GRAD_A);
    grad.data[0] = 1;
    ck_assert_int_eq(lrk_adapters_gradients_written(set), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    lrk_plan *plan = plan_now();
    ck_assert_int_eq(lrk_plan_prepare(plan, &participant, 1), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
    float before[20];
    lrk_tensor a = set_tensor(set, 0, LRK_TENSOR_A);
    memcpy(before, a.data, sizeof before);
    ck_assert_int_eq(lrk_adapters_gradients_written(set), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK); /* gradients and moments are 0 */
    ck_assert_mem_eq(before, a.data, sizeof before);
    lrk_optimizer_destroy(optimizer);
}
END_TEST

START_TEST(a_plan_outlives_sketch_and_set)
{
    lrk_plan *plan = plan_now();
    lrk_sketch_destroy(sketch);
    lrk_adapters_destroy(set);
    sketch = NULL;
    set = NULL;
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    ck_assert_int_eq(rank_after(plan, 3), 6);
    lrk_plan_destroy(plan);
}
END_TEST

static lrk_plan *made;

static lrk_status act_plan(void *user)
{
    (void)user;
    return lrk_gradient_start_plan(sketch, &options, 0, &made);
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
    lrk_adapters *large = set;
    lrk_sketch *of_large = sketch;
    lrk_sketch_options o = sketched();
    o.directions = 2, o.samples = 0;
    set = set_make(context, small, 2, 0, 0);
    sketch = sketch_make(set, &o);
    for (int32_t i = 0; i < 2; i++) {
        padded x = padded_make(9, small[i].n_in, 0, 1), dy = padded_make(9, small[i].n_out, 0, 2);
        ck_assert_int_eq(sketch_feed_one(set, sketch, i, &x, &dy), LRK_OK);
        padded_free(&x);
        padded_free(&dy);
    }
    uint64_t digest = sets_digest(set);
    sets_each_fault(&host, act_plan, undo_plan, NULL);
    ck_assert_uint_eq(sets_digest(set), digest);
    lrk_sketch_destroy(sketch);
    lrk_adapters_destroy(set);
    set = large;
    sketch = of_large;
}
END_TEST

static lrk_status act_prepare(void *user)
{
    return lrk_plan_prepare(user, NULL, 0);
}

START_TEST(preparing_unwinds_when_any_request_fails)
{
    lrk_plan *plan = plan_now();
    uint64_t digest = sets_digest(set);
    int64_t n = 0;
    for (;; n++) {
        host.alloc.fail_at = host.alloc.calls + n;
        lrk_status status = act_prepare(plan);
        host.alloc.fail_at = -1;
        if (status == LRK_OK) break;
        ck_assert_int_eq(status, LRK_ERR_NOMEM);
        ck_assert_uint_eq(sets_digest(set), digest);
    }
    ck_assert_int_gt(n, N);
    host.alloc.fail_at = host.alloc.calls; /* commit takes none */
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    host.alloc.fail_at = -1;
    lrk_plan_destroy(plan);
    ck_assert_int_eq(sets_info(set).ranks, 24);
}
END_TEST

Suite *gradient_start_suite(void);

Suite *gradient_start_suite(void)
{
    Suite *suite = suite_create("gradient_start");
    TCase *tcase = tcase_create("start");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, ranks_are_those_of_the_largest_squares_that_fit);
    tcase_add_test(tcase, with_a_budget_in_parameters_squares_count_by_cost);
    tcase_add_test(tcase, the_budget_is_a_multiple_of_what_the_set_holds);
    tcase_add_test(tcase, floors_come_first_and_caps_hold);
    tcase_add_test(tcase, equal_worth_goes_to_the_lower_module);
    tcase_add_test(tcase, what_the_host_can_store_is_a_cap);
    tcase_add_loop_test(tcase, rows_are_right_singular_vectors_of_the_length_of_usual_ones, 0, 2);
    tcase_add_test(tcase, ranks_alone_leave_the_rows_as_usual);
    tcase_add_test(tcase, a_floor_above_the_directions_is_filled_up_as_usual);
    tcase_add_loop_test(tcase, a_module_without_a_gradient_is_refused_with_the_reason, 0, 2);
    tcase_add_test(tcase, a_batch_of_too_few_rows_is_refused_or_tolerated);
    tcase_add_test(tcase, a_module_that_may_lack_a_gradient_gets_what_it_has);
    tcase_add_test(tcase, options_out_of_range_are_refused);
    tcase_add_test(tcase, a_budget_without_room_is_refused);
    tcase_add_test(tcase, a_sketch_that_is_being_fed_is_busy);
    tcase_add_test(tcase, a_plan_made_before_a_change_is_stale);
    tcase_add_test(tcase, digests_tell_plans_apart_by_their_rows_too);
    tcase_add_test(tcase, participants_follow);
    tcase_add_test(tcase, a_plan_outlives_sketch_and_set);
    tcase_add_test(tcase, planning_unwinds_when_any_request_fails);
    tcase_add_test(tcase, preparing_unwinds_when_any_request_fails);
    suite_add_tcase(suite, tcase);
    return suite;
}
