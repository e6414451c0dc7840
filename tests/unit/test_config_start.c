/* SPDX-License-Identifier: MIT */
/*
 * Starts made from configurations: sketches, components and plans as their sections say, refused under another start, and failures
 * with the line of the key or limit concerned.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "adapters/pca.h"
#include "adapters/sketch.h"
#include "configs.h"
#include "lorank/lorank.h"
#include "pca_rig.h"
#include "sets.h"
#include "sketch_rig.h"

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

static const char started[] = "seed: 11\n"
                              "adapters: {modules: [{pattern: '*', rank: 2}]}\n"
                              "start: {kind: gradient, batches: 3, multiple: 2, cap: 3, directions: 3}\n"
                              "allocation:\n"
                              "  policy: prune\n"
                              "  budget_unit: parameters\n"
                              "  limits:\n"
                              "    - {pattern: 'c', cap: 1}\n"
                              "schedule: {rounds: 2, warmup: 1, recovery: 1}\n";

static void feed_all(lrk_adapters *adapters, lrk_sketch *sketch)
{
    for (int32_t i = 0; i < 3; i++) {
        lrk_module_info info = {.struct_size = sizeof info};
        configs_ok(context, lrk_adapters_module(adapters, i, &info));
        padded x = padded_make(9, info.n_in, 0, 1), dy = padded_make(9, info.n_out, 0, 2);
        configs_ok(context, sketch_feed_one(adapters, sketch, i, &x, &dy));
        padded_free(&x);
        padded_free(&dy);
    }
}

/* Modules 5 x 3, 4 x 6 and 7 x 2 of rank 2: 54 parameters. */
START_TEST(a_gradient_start_and_pruning_come_from_their_sections)
{
    lrk_config *config = parse(started);
    lrk_adapters *adapters = configs_adapters(context, config);
    lrk_sketch *sketch = NULL;
    lrk_allocator *allocator = NULL;
    lrk_plan *plan = NULL;
    int64_t batches = 0, n = 0;
    configs_ok(context, lrk_config_create_allocator(config, adapters, &allocator));
    configs_ok(context, lrk_config_create_sketch(config, adapters, &sketch, &batches));
    ck_assert_int_eq(batches, 3);
    ck_assert_uint_eq(sketch->options.seed, 11);
    ck_assert_int_eq(sketch->options.directions, 3);
    ck_assert_int_eq(sketch->options.samples, 7);
    feed_all(adapters, sketch);
    configs_ok(context, lrk_config_plan_start(config, sketch, 0, &plan));
    configs_ok(context, lrk_plan_prepare(plan, NULL, 0));
    configs_ok(context, lrk_plan_commit(plan));
    ck_assert_int_eq(sets_rank(adapters, 0), 3);
    ck_assert_int_eq(sets_rank(adapters, 1), 3);
    ck_assert_int_eq(sets_rank(adapters, 2), 1);
    configs_ok(context, lrk_allocator_n_move(allocator, &n));
    ck_assert_int_eq(n,
                     (108 - (54 + 54 / 8) + 7) / 8); /* from 108 to 54 + 54 / 8, the cheapest rank costs 8 */
    lrk_plan_destroy(plan);
    lrk_allocator_destroy(allocator);
    lrk_sketch_destroy(sketch);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

static lrk_config *parse_kind(const char *kind, const char *more)
{
    char text[256];
    snprintf(text, sizeof text,
             "seed: 11\nadapters: {modules: [{pattern: '*', rank: 2}]}\nstart: {kind: %s, batches: 5%s}\n"
             "allocation:\n  policy: fixed\n  limits: [{pattern: 'c', cap: 1}]\n",
             kind, more);
    lrk_config *config = parse(text);
    ck_assert_str_eq(lrk_config_start(config), kind);
    return config;
}

static void expect_and_give_up(lrk_plan *plan, int64_t of_c)
{
    lrk_plan_module part = {.struct_size = sizeof part};
    configs_ok(context, lrk_plan_module_get(plan, 2, &part));
    ck_assert_int_eq(part.rank_after, of_c);
    configs_ok(context, lrk_plan_abandon(plan));
    lrk_plan_destroy(plan);
}

START_TEST(eva_comes_from_its_section)
{
    lrk_config *config = parse_kind("eva", ", rho: 1, tau: 0.5, batch_rows: 7, whiten: true");
    lrk_adapters *adapters = configs_adapters(context, config);
    lrk_pca *pca = NULL;
    lrk_sketch *sketch = NULL;
    lrk_plan *plan = NULL;
    int64_t batches = 0, open = -1;
    configs_ok(context, lrk_config_create_sketch(config, adapters, &sketch, &batches));
    ck_assert(sketch == NULL && batches == 0);
    configs_ok(context, lrk_config_create_pca(config, adapters, &pca, &batches));
    ck_assert_int_eq(batches, 5);
    ck_assert(pca->options.rho == 1 && pca->options.tau == 0.5 && pca->options.batch_rows == 7);
    for (int32_t i = 0; i < 3; i++) {
        lrk_module_info info = {.struct_size = sizeof info};
        configs_ok(context, lrk_adapters_module(adapters, i, &info));
        padded x = padded_make(9, info.n_in, 0, 1);
        configs_ok(context, pca_feed_one(adapters, pca, i, &x));
        padded_free(&x);
    }
    configs_ok(context, lrk_config_settle_eva(config, pca, &open));
    ck_assert_int_ge(open, 0);
    configs_ok(context, lrk_config_plan_eva(config, pca, 0, &plan));
    expect_and_give_up(plan, 1);
    ck_assert_int_eq(lrk_config_settle_eva(config, pca, NULL), LRK_ERR_ARGUMENT);
    lrk_pca_destroy(pca);
    ck_assert_int_eq(lrk_config_create_pca(config, adapters, &pca, NULL), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(pca);
    lrk_config_destroy(config);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(gelora_comes_from_its_section)
{
    lrk_config *config = parse_kind("gelora", ", estimate: unbiased, discard: 0.2");
    lrk_adapters *adapters = configs_adapters(context, config);
    lrk_twonn_options options = {.struct_size = sizeof options};
    lrk_plan *plan = NULL;
    int64_t batches = 0;
    const double dimensions[] = {1, 2, 1, 5};
    configs_ok(context, lrk_config_twonn(config, &options, &batches));
    ck_assert(batches == 5 && options.estimate == LRK_TWONN_UNBIASED && options.discard == 0.2);
    configs_ok(context, lrk_config_plan_gelora(config, adapters, dimensions, 4, 0, &plan));
    expect_and_give_up(plan, 1); /* 5, but for the limit */
    ck_assert_int_eq(lrk_config_twonn(config, NULL, &batches), LRK_ERR_ARGUMENT);
    lrk_config_destroy(config);
    lrk_adapters_destroy(adapters);
}
END_TEST

static int32_t give_ones(void *user, int32_t module, lrk_weight *weight)
{
    (void)module;
    weight->data = user;
    return 0;
}

START_TEST(starts_of_both_factors_come_from_their_words)
{
    static const struct {
        const char *kind;
        bool weights, subtracts;
    } kinds[] = {{"lora_ga", false, true}, {"lora_one", false, false}, {"gora", false, false},
                 {"pissa", true, true},    {"olora", true, true},      {"orthogonal", true, false},
                 {"uniform", false, false}};
    float weight[64];
    for (int i = 0; i < 64; i++)
        weight[i] = (float)(i * i % 17);
    lrk_config *config = parse_kind(kinds[_i].kind, ", gamma: 4, iterations: 3, directions: 5");
    lrk_adapters *adapters = configs_adapters(context, config);
    lrk_sketch *sketch = NULL;
    lrk_plan *plan = NULL;
    int64_t batches = 0;
    ck_assert_int_eq(lrk_config_start_subtracts(config), kinds[_i].subtracts);
    configs_ok(context, lrk_config_create_sketch(config, adapters, &sketch, &batches));
    ck_assert_int_eq(sketch != NULL, _i < 3);
    configs_ok(context, lrk_config_plan_weights(config, adapters, give_ones, weight, 0, &plan));
    ck_assert_int_eq(plan != NULL, kinds[_i].weights);
    if (plan != NULL) expect_and_give_up(plan, 2); /* ranks stay */
    if (_i == 1) {                                 /* LoRA-One takes no more directions than there are */
        feed_all(adapters, sketch);
        configs_ok(context, lrk_config_plan_start(config, sketch, 0, &plan));
        expect_and_give_up(plan, 2);
    }
    if (_i == 2) { /* GoRA sees the weights too */
        feed_all(adapters, sketch);
        sets_expect(context, lrk_config_plan_start(config, sketch, 0, &plan), LRK_ERR_ARGUMENT,
                    "weight must not");
        configs_ok(context, lrk_config_plan_gradients(config, sketch, give_ones, weight, 0, &plan));
        configs_ok(context, lrk_plan_abandon(plan));
        lrk_plan_destroy(plan);
    } else if (plan == NULL && sketch == NULL) {
        sets_expect(context,
                    lrk_config_plan_gradients(config, (lrk_sketch *)&host, give_ones, weight, 0, &plan),
                    LRK_ERR_ARGUMENT, "lrk_config_plan_gradients is not for");
    }
    ck_assert_int_eq(lrk_config_start_subtracts(NULL), 0);
    ck_assert_ptr_null(lrk_config_start(NULL));
    lrk_sketch_destroy(sketch);
    lrk_config_destroy(config);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_uniform_start_needs_no_sketch)
{
    lrk_config *config = parse("adapters: {modules: [{pattern: '*', rank: 2}]}\n");
    lrk_adapters *adapters = configs_adapters(context, config);
    lrk_sketch *sketch = (lrk_sketch *)&host;
    int64_t batches = 9;
    configs_ok(context, lrk_config_create_sketch(config, adapters, &sketch, &batches));
    ck_assert_ptr_null(sketch);
    ck_assert_int_eq(batches, 0);
    ck_assert_int_eq(lrk_config_create_sketch(config, adapters, &sketch, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_config_create_sketch(config, adapters, NULL, &batches), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_config_create_sketch(NULL, adapters, &sketch, &batches), LRK_ERR_ARGUMENT);
    lrk_plan *plan;
    ck_assert_int_eq(lrk_config_plan_start(config, NULL, 0, &plan), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_config_plan_start(NULL, NULL, 0, &plan), LRK_ERR_ARGUMENT);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

/* Each is made of what its start looks at, and refused to the others. */
START_TEST(a_plan_of_another_start_is_refused)
{
    lrk_config *config = parse_kind("gradient", ""), *of_inputs = parse_kind("eva", "");
    lrk_adapters *adapters = configs_adapters(context, config);
    lrk_sketch *sketch = NULL;
    lrk_pca *pca = NULL;
    lrk_plan *plan = (lrk_plan *)&host;
    int64_t batches, open;
    const double dimensions[] = {1, 2, 1, 5};
    configs_ok(context, lrk_config_create_sketch(config, adapters, &sketch, &batches));
    configs_ok(context, lrk_config_create_pca(of_inputs, adapters, &pca, &batches));
    sets_expect(context, lrk_config_plan_start(of_inputs, sketch, 0, &plan), LRK_ERR_ARGUMENT,
                "lrk_config_plan_start is not for start.kind eva");
    ck_assert_ptr_null(plan);
    sets_expect(context, lrk_config_settle_eva(config, pca, &open), LRK_ERR_ARGUMENT,
                "lrk_config_settle_eva is not for start.kind gradient");
    sets_expect(context, lrk_config_plan_eva(config, pca, 0, &plan), LRK_ERR_ARGUMENT,
                "lrk_config_plan_eva is not for start.kind gradient");
    sets_expect(context, lrk_config_plan_gelora(config, adapters, dimensions, 4, 0, &plan), LRK_ERR_ARGUMENT,
                "lrk_config_plan_gelora is not for start.kind gradient");
    lrk_pca_destroy(pca);
    lrk_sketch_destroy(sketch);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(of_inputs);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(failures_of_a_start_are_pointed_to)
{
    lrk_config *config = parse(started);
    lrk_adapters *adapters = configs_adapters(context, config);
    lrk_sketch *sketch = NULL;
    lrk_plan *plan = NULL;
    lrk_allocator *allocator = NULL;
    int64_t batches;
    configs_ok(context, lrk_config_create_sketch(config, adapters, &sketch, &batches));
    configs_expect_at(context, lrk_config_plan_start(config, sketch, 0, &plan), LRK_ERR_NO_GRADIENT, 3, 1,
                      "module 'a' has no gradient");
    configs_ok(context, lrk_config_override(config, "allocation.policy", "alora"));
    configs_ok(context, lrk_config_override(config, "allocation.n_move", "1"));
    configs_expect_at(context, lrk_config_create_allocator(config, adapters, &allocator), LRK_ERR_CONFIG, 3,
                      47, "multiple must be <= 1 under policy alora");
    configs_ok(context, lrk_config_override(config, "start.multiple", "1"));
    configs_ok(context, lrk_config_create_allocator(config, adapters, &allocator));
    lrk_allocator_destroy(allocator);
    configs_ok(context, lrk_config_override(config, "allocation.policy", "prune"));
    configs_ok(context, lrk_config_override(config, "schedule.rounds", "0"));
    sets_expect(context, lrk_config_create_allocator(config, adapters, &allocator), LRK_ERR_ARGUMENT,
                "n_rounds must be >= 1");
    lrk_sketch_destroy(sketch);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(a_limit_of_a_start_is_pointed_to)
{
    lrk_config *config = parse("adapters: {modules: [{pattern: '*', rank: 2}]}\n"
                               "start: {kind: gradient}\n"
                               "allocation: {policy: prune, limits: [{pattern: 'x', cap: 1}]}\n");
    lrk_adapters *adapters = configs_adapters(context, config);
    lrk_sketch *sketch = NULL;
    lrk_plan *plan = NULL;
    int64_t batches;
    configs_ok(context, lrk_config_create_sketch(config, adapters, &sketch, &batches));
    feed_all(adapters, sketch);
    configs_expect_at(context, lrk_config_plan_start(config, sketch, 0, &plan), LRK_ERR_NOT_FOUND, 3, 48,
                      "limit 'x' decides no module");
    lrk_sketch_destroy(sketch);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

Suite *config_start_suite(void);

Suite *config_start_suite(void)
{
    Suite *suite = suite_create("config_start");
    TCase *tests = tcase_create("start");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_gradient_start_and_pruning_come_from_their_sections);
    tcase_add_test(tests, eva_comes_from_its_section);
    tcase_add_test(tests, gelora_comes_from_its_section);
    tcase_add_loop_test(tests, starts_of_both_factors_come_from_their_words, 0, 7);
    tcase_add_test(tests, a_uniform_start_needs_no_sketch);
    tcase_add_test(tests, a_plan_of_another_start_is_refused);
    tcase_add_test(tests, failures_of_a_start_are_pointed_to);
    tcase_add_test(tests, a_limit_of_a_start_is_pointed_to);
    suite_add_tcase(suite, tests);
    return suite;
}
