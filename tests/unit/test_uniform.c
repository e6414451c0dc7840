/* SPDX-License-Identifier: MIT */
/*
 * Uniform ranks under a budget: as even as can be, nothing left that fits, who gets one more drawn from the seed.
 */
#include <check.h>

#include "sets.h"

static fault host;
static lrk_context *context;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
}

static void teardown(void)
{
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

enum { N = 9 };

static void list_modules(lrk_module_spec specs[N])
{
    static const char *const names[N] = {"0", "1", "2", "3", "4", "5", "6", "7", "8"};
    for (int i = 0; i < N; i++)
        specs[i] = sets_spec(names[i], 1 + i % 3, 2, 4); /* a rank costs 3, 4 or 5 */
}

static int64_t total(const lrk_module_spec specs[N], int32_t unit)
{
    int64_t sum = 0;
    for (int i = 0; i < N; i++)
        sum += specs[i].rank * (unit == LRK_BUDGET_RANKS ? 1 : specs[i].n_in + specs[i].n_out);
    return sum;
}

START_TEST(uniform_ranks_differ_by_one_and_use_the_budget_up)
{
    for (int64_t budget = 0; budget < 80; budget++) {
        lrk_module_spec specs[N];
        list_modules(specs);
        ck_assert_int_eq(lrk_specs_uniform(context, specs, N, budget, _i, 3), LRK_OK);
        int64_t least = specs[0].rank, most = specs[0].rank, room = budget - total(specs, _i);
        for (int i = 1; i < N; i++) {
            if (specs[i].rank < least) least = specs[i].rank;
            if (specs[i].rank > most) most = specs[i].rank;
        }
        ck_assert_int_le(most - least, 1);
        ck_assert_int_eq(least, budget / (_i == LRK_BUDGET_RANKS ? N : 36));
        ck_assert_int_ge(room, 0);
        for (int i = 0; i < N; i++)
            if (specs[i].rank == least)
                ck_assert_int_lt(room, _i == LRK_BUDGET_RANKS ? 1 : specs[i].n_in + specs[i].n_out);
    }
}
END_TEST

START_TEST(the_seed_draws_who_gets_one_more_and_every_module_can)
{
    int64_t got[N] = {0};
    for (uint64_t seed = 0; seed < 300; seed++) {
        lrk_module_spec specs[2][N];
        for (int k = 0; k < 2; k++) {
            list_modules(specs[k]);
            ck_assert_int_eq(lrk_specs_uniform(context, specs[k], N, 3, LRK_BUDGET_RANKS, seed), LRK_OK);
        }
        for (int i = 0; i < N; i++) {
            ck_assert_int_eq(specs[0][i].rank, specs[1][i].rank);
            got[i] += specs[0][i].rank;
        }
    }
    /* binomial, 300 draws of 1/3: mean 100, standard deviation 8.2; five of them */
    for (int i = 0; i < N; i++)
        ck_assert(got[i] > 59 && got[i] < 141);
}
END_TEST

START_TEST(uniform_keeps_the_scale)
{
    lrk_module_spec specs[N];
    list_modules(specs);
    specs[0].scale_rule = LRK_SCALE_ALPHA;
    specs[0].scale = 16;
    ck_assert_int_eq(lrk_specs_uniform(context, specs, N, 2 * N, LRK_BUDGET_RANKS, 0), LRK_OK);
    ck_assert(specs[0].rank == 2 && specs[0].scale_rank == 4 && specs[1].scale_rank == 0);
}
END_TEST

START_TEST(uniform_refuses_what_is_out_of_range)
{
    lrk_module_spec specs[N];
    list_modules(specs);
    ck_assert_int_eq(lrk_specs_uniform(NULL, specs, N, 1, 0, 0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_specs_uniform(context, NULL, N, 1, 0, 0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_specs_uniform(context, specs, 0, 1, 0, 0), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_specs_uniform(context, specs, N, -1, 0, 0), LRK_ERR_ARGUMENT,
                "uniform must be >= 0");
    sets_expect(context, lrk_specs_uniform(context, specs, N, 1, 2, 0), LRK_ERR_ARGUMENT, "uniform_unit");
    specs[2].n_in = 0;
    sets_expect(context, lrk_specs_uniform(context, specs, N, 1, 0, 0), LRK_ERR_SHAPE, "module '2'");
    specs[2].n_in = INT64_MAX;
    sets_expect(context, lrk_specs_uniform(context, specs, N, 1, 0, 0), LRK_ERR_SHAPE, "module '2'");
    specs[2].n_in = INT64_MAX - 4;
    sets_expect(context, lrk_specs_uniform(context, specs, N, 1, 1, 0), LRK_ERR_SHAPE, "module '2'");
    specs[2].name = "";
    ck_assert_int_eq(lrk_specs_uniform(context, specs, N, 1, 0, 0), LRK_ERR_ARGUMENT);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(specs[i].rank, 4);
    specs[0].struct_size = 40;
    sets_expect(context, lrk_specs_uniform(context, specs, N, 1, 0, 0), LRK_ERR_ARGUMENT, "struct_size");
}
END_TEST

static lrk_status share_out(void *user)
{
    lrk_module_spec specs[N];
    (void)user;
    list_modules(specs);
    return lrk_specs_uniform(context, specs, N, 20, LRK_BUDGET_RANKS, 0);
}

static void nothing(void *user)
{
    (void)user;
}

START_TEST(a_failed_request_of_uniform_leaves_nothing_behind)
{
    sets_each_fault(&host, share_out, nothing, NULL);
}
END_TEST

Suite *uniform_suite(void);
Suite *uniform_suite(void)
{
    Suite *suite = suite_create("uniform");
    TCase *tests = tcase_create("uniform");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, uniform_ranks_differ_by_one_and_use_the_budget_up, 0, 2);
    tcase_add_test(tests, the_seed_draws_who_gets_one_more_and_every_module_can);
    tcase_add_test(tests, uniform_keeps_the_scale);
    tcase_add_test(tests, uniform_refuses_what_is_out_of_range);
    tcase_add_test(tests, a_failed_request_of_uniform_leaves_nothing_behind);
    suite_add_tcase(suite, tests);
    return suite;
}
