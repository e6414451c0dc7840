/* SPDX-License-Identifier: MIT */
/*
 * EVA: which ranks it takes against a naive choice from naive shares, the rows it begins with, budgets, floors and caps, what it
 * waits for, every refusal, and that its plan is a plan like any other.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "adapters/pca.h"
#include "pca_rig.h"
#include "sets.h"

#define N 4
#define K 4 /* components of an input */

/* Modules 0 and 1 read the same; 3 is dear. */
static const shape shapes[N] = {{20, 12, 2, 0, 0, 1.0},
                                {20, 12, 2, 0, 0, 1.0},
                                {15, 15, 2, LRK_NO_GROUP, 1, 0.5},
                                {24, 30, 2, LRK_NO_GROUP, 1, 1.0}};
static const double decays[N] = {0.5, 0.5, 0.8, 0.7};

static fault host;
static lrk_context *context;
static lrk_adapters *set;
static lrk_pca *pca;
static lrk_eva_options options;
static double shares[N][K]; /* by the oracle */

static void feed(int32_t module, int64_t rows, uint64_t seed)
{
    pca_oracle o = {.n_in = shapes[module].n_in, .k = K};
    padded x = pca_rows(rows, shapes[module].n_in, decays[module], seed);
    ck_assert_int_eq(pca_feed_one(set, pca, module, &x), LRK_OK);
    pca_oracle_feed(&o, &x, 0, rows, NULL);
    for (int i = 0; i < K; i++)
        shares[module][i] = pca_oracle_share(&o, i);
    padded_free(&x);
}

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    set = set_make(context, shapes, N, 0, 0);
    set_fill(set, 1);
    ck_assert_int_eq(lrk_pca_create(set, NULL, &pca), LRK_OK);
    ck_assert_int_eq(lrk_eva_options_init(&options, sizeof options), LRK_OK);
    for (int32_t i = 0; i < N; i++)
        if (i != 1) feed(i, 60, 3 + (uint64_t)i);
    memcpy(shares[1], shares[0], sizeof shares[0]);
}

static void teardown(void)
{
    lrk_pca_destroy(pca);
    lrk_adapters_destroy(set);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static lrk_plan *plan_now(void)
{
    lrk_plan *plan = NULL;
    ck_assert_int_eq(lrk_eva_plan(pca, &options, 7, &plan), LRK_OK);
    return plan;
}

static void give_up(lrk_plan *plan)
{
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
}

static void carry_out(lrk_plan *plan)
{
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
}

static void expect_refused(lrk_status want, const char *words)
{
    lrk_plan *plan = (lrk_plan *)&host;
    int64_t live = host.live;
    sets_expect(context, lrk_eva_plan(pca, &options, 0, &plan), want, words);
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
        ck_assert_int_eq(rank_after(plan, i), ranks[i]);
    give_up(plan);
}

/* Again and again the best pair that fits; ties to the lower module. */
static void naive_ranks(int64_t budget, bool parameters, int64_t *ranks)
{
    memset(ranks, 0, N * sizeof *ranks);
    for (;;) {
        int best = -1;
        double most = 0;
        for (int i = 0; i < N; i++) {
            int64_t cost = parameters ? shapes[i].n_in + shapes[i].n_out : 1;
            if (ranks[i] >= K || cost > budget) continue;
            double worth = shares[i][ranks[i]] / (double)cost;
            if (worth > most) most = worth, best = i;
        }
        if (best < 0) return;
        ranks[best]++;
        budget -= parameters ? shapes[best].n_in + shapes[best].n_out : 1;
    }
}

START_TEST(ranks_are_those_that_explain_most)
{
    int64_t ranks[N], held = 0;
    naive_ranks(8, false, ranks);
    expect_ranks(ranks); /* what the set holds */
    ck_assert_int_ge(ranks[0], ranks[1]);
    for (int64_t budget = 1; budget < 18; budget++) {
        options.budget = budget;
        naive_ranks(budget, false, ranks);
        expect_ranks(ranks);
    }
    options.budget_unit = LRK_BUDGET_PARAMETERS;
    for (int64_t budget = 30; budget < 700; budget += 37) {
        options.budget = budget;
        naive_ranks(budget, true, ranks);
        expect_ranks(ranks);
        held += ranks[3];
    }
    ck_assert_int_gt(held, 0);
}
END_TEST

START_TEST(floors_come_first_and_caps_hold)
{
    const lrk_limit limits[] = {{sizeof(lrk_limit), 0, "m3", 3, LRK_NO_CAP},
                                {sizeof(lrk_limit), 0, "m0", 0, 1}};
    options.limits = limits;
    options.n_limits = 2;
    lrk_plan *plan = plan_now();
    ck_assert_int_ge(rank_after(plan, 3), 3);
    ck_assert_int_eq(rank_after(plan, 0), 1);
    ck_assert_int_eq(rank_after(plan, 0) + rank_after(plan, 1) + rank_after(plan, 2) + rank_after(plan, 3),
                     8);
    give_up(plan);
}
END_TEST

/* With whitening over the square root of the singular value. B is 0 and gates are 1. */
START_TEST(rows_are_components)
{
    if (_i == 1) options.flags = LRK_EVA_WHITEN;
    carry_out(plan_now());
    for (int32_t i = 0; i < N; i++) {
        double values[K], components[K * 24];
        int64_t n = sets_rank(set, i), n_in = shapes[i].n_in;
        ck_assert_int_eq(lrk_pca_components(pca, i, K, values, NULL, components), LRK_OK);
        lrk_tensor a = set_tensor(set, i, LRK_TENSOR_A), b = set_tensor(set, i, LRK_TENSOR_B),
                   gates = set_tensor(set, i, LRK_TENSOR_GATES);
        for (int64_t j = 0; j < n; j++) {
            double divisor = _i == 1 ? sqrt(values[j]) : 1;
            for (int64_t c = 0; c < n_in; c++)
                ck_assert_float_eq(a.data[j * n_in + c], (float)(components[j * n_in + c] / divisor));
            for (int64_t c = 0; c < shapes[i].n_out; c++)
                ck_assert_float_eq(b.data[j * shapes[i].n_out + c], 0);
            ck_assert_float_eq(gates.data[j], 1);
        }
    }
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(set, 2, &info), LRK_OK);
    ck_assert_double_eq(info.scale, 0.5); /* alpha over r */
}
END_TEST

/* The paper's initialisation without redistribution. */
START_TEST(with_rho_one_every_module_keeps_its_ranks)
{
    lrk_pca_options of_pca;
    lrk_pca_options_init(&of_pca, sizeof of_pca);
    of_pca.rho = 1;
    lrk_pca_destroy(pca);
    ck_assert_int_eq(lrk_pca_create(set, &of_pca, &pca), LRK_OK);
    for (int32_t i = 0; i < N; i++) {
        padded x = pca_rows(60, shapes[i].n_in, decays[i], 5);
        ck_assert_int_eq(pca_feed_one(set, pca, i, &x), LRK_OK);
        padded_free(&x);
    }
    expect_ranks((const int64_t[]){2, 2, 2, 2});
}
END_TEST

/* Rows that do not vary in more than two directions: a floor above is filled up as usual ones are. */
START_TEST(a_floor_above_the_components_is_filled_up_as_usual)
{
    const lrk_limit limit = {sizeof limit, 0, "m2", 4, LRK_NO_CAP};
    lrk_pca_destroy(pca);
    ck_assert_int_eq(lrk_pca_create(set, NULL, &pca), LRK_OK);
    for (int32_t i = 0; i < N; i++)
        feed(i, i == 2 ? 3 : 60, 9);
    options.limits = &limit;
    options.n_limits = 1;
    carry_out(plan_now());
    ck_assert_int_eq(sets_rank(set, 2), 4);
    lrk_tensor a = set_tensor(set, 2, LRK_TENSOR_A);
    double norms[4] = {0}, bound = 1 / sqrt(15);
    for (int64_t j = 0; j < 4; j++)
        for (int64_t c = 0; c < 15; c++) {
            double value = (double)a.data[j * 15 + c];
            norms[j] += value * value;
            if (j >= 2) ck_assert_double_le(fabs(value), bound);
        }
    ck_assert_double_eq_tol(norms[1], 1, 1e-6);
    ck_assert(norms[2] > 0 && fabs(norms[2] - 1) > 1e-3 && norms[3] > 0);
}
END_TEST

/* ---- settling ------------------------------------------------------------------------------------------------------ */

static lrk_pca_info info_of(int32_t module)
{
    lrk_pca_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_pca_info_get(pca, module, &info), LRK_OK);
    return info;
}

START_TEST(what_would_be_taken_is_what_must_converge)
{
    int64_t ranks[N], open = -1;
    naive_ranks(8, false, ranks);
    ck_assert_int_eq(info_of(2).wanted, K);
    ck_assert_int_eq(lrk_eva_settle(pca, &options, &open), LRK_OK);
    ck_assert_int_eq(info_of(0).wanted, ranks[0] > ranks[1] ? ranks[0] : ranks[1]);
    ck_assert_int_eq(info_of(2).wanted, ranks[2]);
    ck_assert_int_eq(info_of(3).wanted, ranks[3]);
    ck_assert_int_eq(open, 3);
    for (int i = 0; i < 20 && open > 0; i++) { /* the same rows again: their directions stay */
        for (int32_t m = 0; m < N; m++)
            if (m != 1) {
                padded x = pca_rows(60, shapes[m].n_in, decays[m], 3 + (uint64_t)m);
                ck_assert_int_eq(pca_feed_one(set, pca, m, &x), LRK_OK);
                padded_free(&x);
            }
        ck_assert_int_eq(lrk_eva_settle(pca, &options, &open), LRK_OK);
    }
    ck_assert_int_eq(open, 0);
    ck_assert_int_ge(info_of(2).converged, info_of(2).wanted);
    const lrk_limit limit = {sizeof limit, 0, "m1", 0, 0}; /* its group still waits for what m0 takes */
    options.limits = &limit;
    options.n_limits = 1;
    ck_assert_int_eq(lrk_eva_settle(pca, &options, NULL), LRK_OK);
    ck_assert_int_gt(info_of(1).wanted, 0);
}
END_TEST

START_TEST(while_an_input_was_not_fed_all_are_waited_for)
{
    int64_t open = -1;
    lrk_pca_destroy(pca);
    ck_assert_int_eq(lrk_pca_create(set, NULL, &pca), LRK_OK);
    feed(0, 60, 3);
    ck_assert_int_eq(lrk_eva_settle(pca, NULL, &open), LRK_OK);
    ck_assert_int_eq(open, 3);
    ck_assert_int_eq(info_of(0).wanted, K);
    ck_assert_int_eq(lrk_eva_settle(NULL, NULL, &open), LRK_ERR_ARGUMENT);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------------------------------ */

START_TEST(an_input_that_was_not_fed_is_refused_by_name)
{
    lrk_pca_destroy(pca);
    ck_assert_int_eq(lrk_pca_create(set, NULL, &pca), LRK_OK);
    for (int32_t i = 0; i < N - 1; i++)
        feed(i, 60, 3);
    expect_refused(LRK_ERR_STATE, "module 'm3': no forward fed the components of its input");
    set->modules[3].flags = LRK_MODULE_MAY_LACK_GRADIENT;
    lrk_plan *plan = plan_now();
    ck_assert_int_eq(rank_after(plan, 3), 0);
    give_up(plan);
}
END_TEST

START_TEST(inputs_that_are_not_finite_are_refused_by_name)
{
    int64_t open = -1;
    padded x = padded_make(5, 15, 0, 1);
    x.data[7] = NAN;
    ck_assert_int_eq(pca_feed_one(set, pca, 2, &x), LRK_OK);
    expect_refused(LRK_ERR_NONFINITE, "module 'm2': its input is not finite");
    sets_expect(context, lrk_eva_settle(pca, &options, &open), LRK_ERR_NONFINITE, "module 'm2'");
    padded_free(&x);
}
END_TEST

START_TEST(options_out_of_range_are_refused)
{
    const lrk_eva_options good = options;
    const lrk_limit limit = {sizeof limit, 0, "nothing", 0, 1},
                    floor = {sizeof floor, 0, "m?", 3, LRK_NO_CAP};
    lrk_plan *plan;
    options.flags = 2;
    expect_refused(LRK_ERR_ARGUMENT, "flags has an unknown bit");
    options = good, options.reserved = 1;
    expect_refused(LRK_ERR_ARGUMENT, "reserved");
    options = good, options.budget = -2;
    expect_refused(LRK_ERR_ARGUMENT, "budget must be >= 0");
    options = good, options.budget_unit = 2;
    expect_refused(LRK_ERR_ARGUMENT, "budget_unit");
    options = good, options.n_limits = 1;
    expect_refused(LRK_ERR_ARGUMENT, "limits must not be NULL");
    options.limits = &limit;
    expect_refused(LRK_ERR_NOT_FOUND, "limit 'nothing' decides no module");
    options.limits = &floor, options.budget = 11;
    expect_refused(LRK_ERR_BUDGET, "module 'm3': its floor of 3 ranks exceeds what is left");
    options = good, options.budget = 0;
    expect_refused(LRK_ERR_BUDGET, "no rank fits into the budget of 0");
    options = good;
    sets_expect(context, lrk_eva_plan(pca, &options, -1, &plan), LRK_ERR_ARGUMENT, "step >= 0");
    sets_expect(context, lrk_eva_plan(pca, &options, 0, NULL), LRK_ERR_ARGUMENT, "plan must not");
    ck_assert_int_eq(lrk_eva_plan(NULL, &options, 0, &plan), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_eva_options_init(NULL, 8), LRK_ERR_ARGUMENT);
    lrk_pass_options of_pass = pass_options(4);
    of_pass.pca = pca;
    lrk_pass *pass = pass_open(set, of_pass);
    expect_refused(LRK_ERR_BUSY, "an open pass feeds the components");
    lrk_pass_end(pass);
    ck_assert_int_eq(lrk_eva_plan(pca, NULL, 0, &plan), LRK_OK);
    carry_out(plan);
    ck_assert_int_eq(sets_info(set).ranks, 8);
}
END_TEST

/* ---- a plan like any other ----------------------------------------------------------------------------------------- */

START_TEST(digests_tell_plans_apart_by_their_rows_too)
{
    uint64_t digests[3];
    for (int i = 0; i < 3; i++) {
        if (i == 2) options.flags = LRK_EVA_WHITEN;
        lrk_plan *plan = plan_now();
        lrk_plan_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
        ck_assert_str_eq(info.policy, "eva");
        ck_assert_int_eq(info.step, 7);
        ck_assert_int_eq(lrk_plan_digest(plan, &digests[i]), LRK_OK);
        give_up(plan);
    }
    ck_assert_uint_eq(digests[0], digests[1]);
    ck_assert_uint_ne(digests[0], digests[2]);
}
END_TEST

static lrk_plan *made;

static lrk_status act_plan(void *user)
{
    (void)user;
    return lrk_eva_plan(pca, &options, 0, &made);
}

static void undo_plan(void *user)
{
    (void)user;
    give_up(made);
}

static lrk_status act_settle(void *user)
{
    return lrk_eva_settle(pca, &options, user);
}

static void undo_settle(void *user)
{
    (void)user;
}

START_TEST(planning_and_settling_unwind_when_any_request_fails)
{
    int64_t open;
    uint64_t digest = sets_digest(set);
    sets_each_fault(&host, act_plan, undo_plan, NULL);
    sets_each_fault(&host, act_settle, undo_settle, &open);
    ck_assert_uint_eq(sets_digest(set), digest);
}
END_TEST

Suite *eva_suite(void);

Suite *eva_suite(void)
{
    Suite *suite = suite_create("eva");
    TCase *tests = tcase_create("eva");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, ranks_are_those_that_explain_most);
    tcase_add_test(tests, floors_come_first_and_caps_hold);
    tcase_add_loop_test(tests, rows_are_components, 0, 2);
    tcase_add_test(tests, with_rho_one_every_module_keeps_its_ranks);
    tcase_add_test(tests, a_floor_above_the_components_is_filled_up_as_usual);
    tcase_add_test(tests, what_would_be_taken_is_what_must_converge);
    tcase_add_test(tests, while_an_input_was_not_fed_all_are_waited_for);
    tcase_add_test(tests, an_input_that_was_not_fed_is_refused_by_name);
    tcase_add_test(tests, inputs_that_are_not_finite_are_refused_by_name);
    tcase_add_test(tests, options_out_of_range_are_refused);
    tcase_add_test(tests, digests_tell_plans_apart_by_their_rows_too);
    tcase_add_test(tests, planning_and_settling_unwind_when_any_request_fails);
    suite_add_tcase(suite, tests);
    return suite;
}
