/* SPDX-License-Identifier: MIT */
/*
 * Policies from configurations: every one gets its own keys and those that all share, and what it lacks is said when it is
 * made.
 */
#include <check.h>
#include <stdio.h>

#include "allocation/allocation.h"
#include "configs.h"
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

static lrk_config *parse(const char *text)
{
    return configs_parse(context, text, NULL, 0);
}

static lrk_adapters *make_adapters(const lrk_config *config)
{
    lrk_module_spec specs[3];
    lrk_adapters *adapters = NULL;
    sets_three(specs);
    configs_ok(context, lrk_config_create_adapters(config, specs, 3, &adapters));
    return adapters;
}

static const char shared_keys[] =
    "budget_unit: parameters, budget: 500, protect_rounds: 2, limits: [{pattern: "
    "'b', floor: 1, cap: 5}]";

/* The allocator of a policy with its own keys and the shared ones. */
static lrk_allocator *make_policy(const char *keys, lrk_config **config, lrk_adapters **adapters)
{
    char text[512];
    lrk_allocator *allocator = NULL;
    snprintf(text, sizeof text, "adapters: {modules: [{pattern: '*', rank: 2}]}\nallocation: {%s, %s}\n",
             keys, shared_keys);
    *config = parse(text);
    *adapters = make_adapters(*config);
    configs_ok(context, lrk_config_create_allocator(*config, *adapters, &allocator));
    ck_assert_int_eq(allocator->budget, 500);
    ck_assert_int_eq(allocator->budget_unit, LRK_BUDGET_PARAMETERS);
    ck_assert(allocator->bounds[1].floor == 1 && allocator->bounds[1].cap == 5);
    ck_assert(allocator->bounds[0].floor == 0 && allocator->bounds[0].cap == INT64_MAX);
    return allocator;
}

static void give_up_policy(lrk_allocator *allocator, lrk_config *config, lrk_adapters *adapters)
{
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}

START_TEST(elalora_takes_its_own_keys_and_the_shared_ones)
{
    lrk_config *config;
    lrk_adapters *adapters;
    lrk_allocator *allocator =
        make_policy("policy: elalora, n_move: 3, n_move_last: 2, n_rounds: 6, nominees: 4, grow_ranks: 9",
                    &config, &adapters);
    const lrk_elalora_options *own = allocator->own;
    ck_assert_str_eq(allocator->name, "elalora");
    ck_assert(own->n_move == 3 && own->n_move_last == 2 && own->n_rounds == 6 && own->nominees == 4);
    ck_assert_int_eq(allocator->protect_rounds, 2);
    ck_assert_int_eq(allocator->new_rank_init, LRK_INIT_ORTHOGONAL);
    give_up_policy(allocator, config, adapters);
    allocator = make_policy("policy: elalora, n_move: 3, new_rank_init: kaiming_uniform", &config, &adapters);
    ck_assert_int_eq(allocator->new_rank_init, LRK_INIT_KAIMING_UNIFORM);
    give_up_policy(allocator, config, adapters);
}
END_TEST

START_TEST(increlora_takes_its_own_keys_and_the_shared_ones)
{
    lrk_config *config;
    lrk_adapters *adapters;
    lrk_allocator *allocator =
        make_policy("policy: increlora, grow_modules: 3, grow_ranks: 2, module_score: mean, "
                    "new_rank_init: gaussian",
                    &config, &adapters);
    const lrk_increlora_options *own = allocator->own;
    ck_assert_str_eq(allocator->name, "increlora");
    ck_assert(own->grow_modules == 3 && own->grow_ranks == 2 && own->module_score == LRK_MODULE_MEAN);
    ck_assert_int_eq(allocator->new_rank_init, LRK_INIT_GAUSSIAN);
    give_up_policy(allocator, config, adapters);
}
END_TEST

START_TEST(the_threshold_takes_its_own_key_and_those_of_pruning)
{
    lrk_allocator *allocator = NULL;
    lrk_config *config = parse("adapters: {modules: [{pattern: '*', rank: 2}]}\n"
                               "allocation: {policy: threshold, threshold: 0.5, protect_rounds: 2,\n"
                               "  limits: [{pattern: 'b', floor: 1}]}\n");
    lrk_adapters *adapters = make_adapters(config);
    configs_ok(context, lrk_config_create_allocator(config, adapters, &allocator));
    ck_assert_str_eq(allocator->name, "threshold");
    ck_assert(((const lrk_threshold_options *)allocator->own)->threshold == 0.5);
    ck_assert(allocator->protect_rounds == 2 && allocator->bounds[1].floor == 1);
    give_up_policy(allocator, config, adapters);
}
END_TEST

START_TEST(gates_are_trained_as_the_keys_say)
{
    lrk_optimizer *optimizer = NULL;
    lrk_config *config = parse("seed: 4\n"
                               "adapters: {gates: gaussian, modules: [{pattern: '*', rank: 2}]}\n"
                               "optimizer: {train_gates: true, gate_threshold: 0.5}\n");
    lrk_adapters *adapters = make_adapters(config);
    double c = 0;
    lrk_tensor gates = {.struct_size = sizeof gates};
    configs_ok(context, lrk_config_create_optimizer(config, adapters, &optimizer));
    configs_ok(context, lrk_optimizer_gate_threshold(optimizer, &c));
    ck_assert(c == 0.5);
    configs_ok(context, lrk_adapters_tensor(adapters, 0, LRK_TENSOR_GATES, &gates));
    ck_assert(gates.data[0] != 1 && gates.data[0] != gates.data[1]);
    lrk_optimizer_destroy(optimizer);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
    config = parse("adapters: {modules: [{pattern: '*', rank: 2}]}\noptimizer: {gate_threshold: 0.5}\n");
    adapters = make_adapters(config);
    configs_expect_at(context, lrk_config_create_optimizer(config, adapters, &optimizer), LRK_ERR_ARGUMENT, 2,
                      29, "gate_threshold needs LRK_ADAMW_GATES");
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

static const struct {
    const char *keys;
    int64_t line, column;
    const char *words;
} incomplete[] = {
    {"{policy: elalora}", 2, 1, "n_move must be >= 1"},
    {"{policy: elalora, n_move: 2, n_rounds: 3}", 2, 52, "n_rounds needs n_move_last"},
    {"{policy: elalora, n_move: 2, n_move_last: 3}", 2, 55, "n_rounds must be >= 2 with n_move_last"},
    {"{policy: adalora}", 2, 22, "policy adalora needs optimizer.train_gates"},
    {"{policy: increlora, grow_modules: 1}", 2, 1, "budget must be set"},
    {"{policy: increlora, budget: 90}", 2, 1, "grow_modules must be >= 1"},
};

START_TEST(what_a_policy_lacks_is_said_when_it_is_made)
{
    char text[256];
    lrk_allocator *allocator = NULL;
    snprintf(text, sizeof text, "adapters: {modules: [{pattern: '*', rank: 2}]}\nallocation: %s\n",
             incomplete[_i].keys);
    lrk_config *config = parse(text);
    lrk_adapters *adapters = make_adapters(config);
    configs_expect_at(context, lrk_config_create_allocator(config, adapters, &allocator), LRK_ERR_ARGUMENT,
                      incomplete[_i].line, incomplete[_i].column, incomplete[_i].words);
    ck_assert_ptr_null(allocator);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

Suite *config_policies_suite(void);
Suite *config_policies_suite(void)
{
    Suite *suite = suite_create("config_policies");
    TCase *tests = tcase_create("config_policies");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, elalora_takes_its_own_keys_and_the_shared_ones);
    tcase_add_test(tests, increlora_takes_its_own_keys_and_the_shared_ones);
    tcase_add_test(tests, the_threshold_takes_its_own_key_and_those_of_pruning);
    tcase_add_test(tests, gates_are_trained_as_the_keys_say);
    tcase_add_loop_test(tests, what_a_policy_lacks_is_said_when_it_is_made, 0,
                        sizeof incomplete / sizeof *incomplete);
    suite_add_tcase(suite, tests);
    return suite;
}
