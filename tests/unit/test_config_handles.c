/* SPDX-License-Identifier: MIT */
/*
 * Handles made from configurations, and what happens when they cannot be: the status of the C call with the line of the
 * key or pattern concerned. And the reference page: its example is complete and right, it names every key.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/pca.h"
#include "config/config.h"
#include "configs.h"
#include "lorank/lorank.h"
#include "pca_rig.h"
#include "scratch.h"
#include "sets.h"
#include "sketch_rig.h"

#define HOST_KEY(type_, name_, ...)                                                                          \
    {                                                                                                        \
        .struct_size = sizeof(lrk_config_key), .type = type_, .name = name_, __VA_ARGS__                     \
    }

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

/* ---- from a right text --------------------------------------------------------------------------------------------------------- */

static const char complete[] = "seed: 11\n"
                               "adapters:\n"
                               "  dropout: 0.1\n"
                               "  modules:\n"
                               "    - {pattern: 'b', rank: 4, alpha: 8}\n"
                               "    - {pattern: '*', rank: 2, scale: 0.5}\n"
                               "importance: {mode: screened, pool: 3}\n"
                               "allocation:\n"
                               "  move_share: 0.25\n"
                               "  limits: [{pattern: 'b', floor: 1, cap: 5}]\n"
                               "optimizer: {beta1: 0.5}\n"
                               "learning_rate: {kind: cosine, peak: 0.01, warmup_share: 0.1}\n"
                               "schedule: {unit: epochs, rounds: 2, warmup: 1, recovery: 0.5}\n";

static lrk_adapters *make_adapters(const lrk_config *config)
{
    lrk_module_spec specs[3];
    lrk_adapters *adapters = NULL;
    sets_three(specs);
    configs_ok(context, lrk_config_create_adapters(config, specs, 3, &adapters));
    return adapters;
}

START_TEST(adapters_come_from_the_patterns_and_the_seed)
{
    lrk_config *config = parse(complete);
    lrk_adapters *adapters = make_adapters(config);
    static const int64_t ranks[3] = {2, 4, 2};
    static const double scales[3] = {0.5, 2, 0.5};
    for (int32_t i = 0; i < 3; i++) {
        lrk_module_info info = {.struct_size = sizeof info};
        configs_ok(context, lrk_adapters_module(adapters, i, &info));
        ck_assert_int_eq(info.rank, ranks[i]);
        ck_assert(info.scale == scales[i]);
    }
    lrk_module_spec specs[3];
    sets_three(specs);
    for (int i = 0; i < 3; i++) {
        specs[i].rank = ranks[i];
        specs[i].scale = scales[i];
    }
    lrk_adapters_options options;
    lrk_adapters_options_init(&options, sizeof options);
    options.seed = 11;
    lrk_adapters *same = sets_create(context, specs, 3, &options);
    ck_assert_uint_eq(sets_digest(adapters), sets_digest(same));
    lrk_adapters_destroy(same);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

static int32_t no_evaluation(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user, (void)evaluations, (void)n;
    return 1;
}

static int32_t no_differentiation(void *user, const lrk_evaluation *evaluation)
{
    (void)user, (void)evaluation;
    return 1;
}

static lrk_evaluator evaluator(void)
{
    lrk_evaluator e;
    lrk_evaluator_init(&e, sizeof e);
    e.evaluate = no_evaluation;
    e.differentiate = no_differentiation;
    e.max_rows = 4;
    return e;
}

START_TEST(the_other_handles_come_from_their_sections)
{
    lrk_config *config = parse(complete);
    lrk_adapters *adapters = make_adapters(config);
    lrk_allocator *allocator = NULL;
    lrk_estimator *estimator = NULL;
    lrk_optimizer *optimizer = NULL;
    lrk_schedule *schedule = NULL;
    lrk_evaluator e = evaluator();
    int64_t n_move, step;
    lrk_estimate estimate = {.struct_size = sizeof estimate};
    configs_ok(context, lrk_config_create_allocator(config, adapters, &allocator));
    configs_ok(context, lrk_allocator_n_move(allocator, &n_move));
    ck_assert_int_eq(n_move, 2); /* a quarter of 8 */
    configs_ok(context, lrk_config_create_estimator(config, adapters, &e, allocator, &estimator));
    configs_ok(context, lrk_estimator_estimate(estimator, &estimate));
    ck_assert_int_eq(estimate.ranks, 8);
    ck_assert_int_eq(estimate.evaluations, 2 + 2 * 3); /* baselines and the pool */
    configs_ok(context, lrk_config_create_optimizer(config, adapters, &optimizer));
    configs_ok(context, lrk_config_create_schedule(config, 10, 40, &schedule));
    configs_ok(context, lrk_schedule_round_step(schedule, 1, &step));
    ck_assert_int_eq(step, 15);
    lrk_schedule_destroy(schedule);
    lrk_optimizer_destroy(optimizer);
    lrk_estimator_destroy(estimator);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(the_learning_rate_gets_its_warm_up_from_the_total)
{
    lrk_config *config = parse(complete);
    lrk_lr_options lr = {.struct_size = sizeof lr};
    configs_ok(context, lrk_config_learning_rate(config, 204, &lr));
    ck_assert_int_eq(lr.kind, LRK_LR_COSINE);
    ck_assert_int_eq(lr.warmup_steps, 20);
    ck_assert_int_eq(lr.total_steps, 204);
    ck_assert(lr.peak == 0.01);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(the_fixed_policy_has_no_rounds_and_moves_nothing)
{
    lrk_config *config =
        parse("adapters: {modules: [{pattern: '*', rank: 1}]}\nallocation: {policy: fixed}\n");
    lrk_adapters *adapters = make_adapters(config);
    lrk_allocator *allocator = NULL;
    lrk_schedule *schedule = NULL;
    int64_t n_move = -1, step;
    configs_ok(context, lrk_config_create_allocator(config, adapters, &allocator));
    configs_ok(context, lrk_allocator_n_move(allocator, &n_move));
    ck_assert_int_eq(n_move, 0);
    configs_ok(context, lrk_config_create_schedule(config, 0, 10, &schedule));
    ck_assert_int_eq(lrk_schedule_round_step(schedule, 0, &step), LRK_ERR_ARGUMENT);
    lrk_schedule_destroy(schedule);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

static int32_t never_asked(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user, (void)evaluations, (void)n;
    return 1;
}

static int32_t never_differentiated(void *user, const lrk_evaluation *evaluation)
{
    (void)user, (void)evaluation;
    return 1;
}

START_TEST(a_policy_that_prunes_nothing_goes_with_a_screened_estimator)
{
    lrk_config *config = parse("adapters: {modules: [{pattern: '*', rank: 2}]}\n"
                               "importance: {mode: screened}\nallocation: {policy: fixed}\n");
    lrk_adapters *adapters = make_adapters(config);
    lrk_allocator *allocator = NULL;
    lrk_estimator *estimator = NULL;
    lrk_evaluator evaluator;
    lrk_evaluator_init(&evaluator, sizeof evaluator);
    evaluator.evaluate = never_asked;
    evaluator.differentiate = never_differentiated;
    evaluator.max_rows = 1;
    configs_ok(context, lrk_config_create_allocator(config, adapters, &allocator));
    configs_ok(context, lrk_config_create_estimator(config, adapters, &evaluator, allocator, &estimator));
    lrk_estimator_destroy(estimator);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(the_random_estimator_needs_no_evaluator)
{
    lrk_config *config =
        parse("adapters: {modules: [{pattern: '*', rank: 2}]}\nimportance: {estimator: random}\nseed: 5\n");
    lrk_adapters *adapters = make_adapters(config);
    lrk_estimator *estimator = NULL, *same = NULL;
    lrk_scores *scores[2] = {NULL};
    configs_ok(context, lrk_config_create_estimator(config, adapters, NULL, NULL, &estimator));
    configs_ok(context, lrk_estimator_create_random(adapters, 5, &same));
    configs_ok(context, lrk_estimator_run(estimator, 1, &scores[0]));
    configs_ok(context, lrk_estimator_run(same, 1, &scores[1]));
    for (int64_t i = 0; i < 6; i++) {
        lrk_score a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        configs_ok(context, lrk_scores_get(scores[0], i, &a));
        configs_ok(context, lrk_scores_get(scores[1], i, &b));
        ck_assert(a.score == b.score);
    }
    lrk_scores_destroy(scores[0]);
    lrk_scores_destroy(scores[1]);
    lrk_estimator_destroy(same);
    lrk_estimator_destroy(estimator);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(every_estimator_comes_by_its_name)
{
    static const struct {
        const char *text, *name;
    } kinds[] = {
        {"estimator: sensitivity", "sensitivity.triplet"},
        {"estimator: sensitivity, sensitivity: pair, corrected: true, beta1: 0.5", "sensitivity.pair"},
        {"estimator: taylor, taylor: signed", "taylor.signed"},
        {"estimator: magnitude", "magnitude"},
        {"estimator: gate, reversed: true", "reversed.gate"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char text[256];
        snprintf(text, sizeof text, "adapters: {modules: [{pattern: '*', rank: 2}]}\nimportance: {%s}\n",
                 kinds[i].text);
        lrk_config *config = parse(text);
        lrk_adapters *adapters = make_adapters(config);
        lrk_estimator *estimator;
        lrk_scores *scores;
        lrk_scores_info info = {.struct_size = sizeof info};
        configs_ok(context, lrk_config_create_estimator(config, adapters, NULL, NULL, &estimator));
        configs_ok(context, lrk_adapters_gradients_written(adapters));
        configs_ok(context, lrk_estimator_observe(estimator));
        configs_ok(context, lrk_estimator_run(estimator, 0, &scores));
        configs_ok(context, lrk_scores_info_get(scores, &info));
        ck_assert_str_eq(info.estimator, kinds[i].name);
        lrk_scores_destroy(scores);
        lrk_estimator_destroy(estimator);
        lrk_adapters_destroy(adapters);
        lrk_config_destroy(config);
    }
}
END_TEST

START_TEST(shares_of_outputs_need_the_hosts_evaluations)
{
    lrk_config *config = parse("adapters: {modules: [{pattern: '*', rank: 2}]}\n"
                               "importance: {estimator: output, output: module}\n");
    lrk_adapters *adapters = make_adapters(config);
    lrk_evaluator evaluator;
    lrk_estimator *estimator;
    lrk_estimate cost = {.struct_size = sizeof cost};
    ck_assert_int_eq(lrk_config_create_estimator(config, adapters, NULL, NULL, &estimator), LRK_ERR_ARGUMENT);
    configs_ok(context, lrk_evaluator_init(&evaluator, sizeof evaluator));
    evaluator.max_rows = 1;
    evaluator.evaluate = never_asked;
    configs_ok(context, lrk_config_create_estimator(config, adapters, &evaluator, NULL, &estimator));
    configs_ok(context, lrk_estimator_estimate(estimator, &cost));
    ck_assert_int_eq(cost.evaluations, 1);
    lrk_estimator_destroy(estimator);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

/* ---- files ----------------------------------------------------------------------------------------------------------- */

START_TEST(a_file_is_read_like_a_text)
{
    scratch s;
    scratch_init(&s);
    const char *path = scratch_path(&s, "config.yaml");
    scratch_write(path, complete, sizeof complete - 1);
    lrk_config *config = NULL;
    configs_ok(context, lrk_config_load(context, path, NULL, 0, &config));
    ck_assert_uint_eq(lrk_config_seed(config), 11);
    ck_assert_int_eq(config->n_patterns, 2);
    lrk_config_destroy(config);
    scratch_write(path, "", 0);
    configs_ok(context, lrk_config_load(context, path, NULL, 0, &config));
    lrk_config_destroy(config);
    scratch_fini(&s);
}
END_TEST

/* The first block of the reference page marked as yaml. */
static char *page_example(void)
{
    size_t n;
    char *page = scratch_read("docs/configuration.md", &n);
    char *begin = strstr(page, "```yaml\n");
    ck_assert_ptr_nonnull(begin);
    begin += strlen("```yaml\n");
    char *end = strstr(begin, "```");
    ck_assert_ptr_nonnull(end);
    *end = '\0';
    memmove(page, begin, strlen(begin) + 1);
    return page;
}

START_TEST(the_example_of_the_reference_page_is_complete_and_right)
{
    static const lrk_config_key allowed[] = {
        HOST_KEY(LRK_VALUE_REAL, "epochs", .least = 0.001, .greatest = 10000, .default_number = 3),
        HOST_KEY(LRK_VALUE_INTEGER, "batch", .least = 1, .greatest = 65536, .default_number = 16)};
    char *text = page_example();
    lrk_config *config = configs_parse(context, text, allowed, 2);
    lrki_setting s;
    for (int i = 0; lrki_setting_at(i, &s); i++) {
        bool given = config->settings.marks[i].line > 0;
        ck_assert_msg(given || s.key->rival != NULL, "%s.%s", s.key->section, s.key->name);
    }
    for (int i = 0; i < LRKI_N_SECTIONS; i++)
        ck_assert_int_gt(config->settings.sections[i].line, 0);
    ck_assert_int_gt(config->n_patterns, 0);
    ck_assert_int_gt(config->n_limits, 0);
    lrk_config_destroy(config);
    free(text);
}
END_TEST

static void expect_in_page(const char *page, const lrki_key *key)
{
    char row[80];
    snprintf(row, sizeof row, "| `%s` |", key->name);
    ck_assert_msg(strstr(page, row) != NULL, "%s", row);
    for (const lrki_word *word = key->words; word != NULL && word->word != NULL; word++) {
        snprintf(row, sizeof row, "`%s`", word->word);
        ck_assert_msg(strstr(page, row) != NULL, "%s", row);
    }
}

START_TEST(the_reference_page_names_every_key)
{
    size_t n;
    char *page = scratch_read("docs/configuration.md", &n);
    const lrki_key *tables[] = {lrki_pattern_keys, lrki_limit_keys};
    lrki_setting s;
    for (int i = 0; lrki_setting_at(i, &s); i++)
        expect_in_page(page, s.key);
    for (int t = 0; t < 2; t++)
        for (const lrki_key *key = tables[t]; key->name != NULL; key++)
            expect_in_page(page, key);
    free(page);
}
END_TEST

/* ---- start -------------------------------------------------------------------------------------------------------------------- */

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
    lrk_adapters *adapters = make_adapters(config);
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
    lrk_adapters *adapters = make_adapters(config);
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
    lrk_adapters *adapters = make_adapters(config);
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
    lrk_adapters *adapters = make_adapters(config);
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
    lrk_config *config = parse(complete);
    lrk_adapters *adapters = make_adapters(config);
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
    lrk_adapters *adapters = make_adapters(config);
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
    lrk_adapters *adapters = make_adapters(config);
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
    lrk_adapters *adapters = make_adapters(config);
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

/* ---- from a text that does not fit --------------------------------------------------------------------------------------------------------- */

static lrk_status try_adapters(const lrk_config *config, lrk_adapters **adapters)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    return lrk_config_create_adapters(config, specs, 3, adapters);
}

START_TEST(a_pattern_that_decides_nothing_is_pointed_to)
{
    lrk_adapters *adapters = (lrk_adapters *)&host;
    lrk_config *config = parse("adapters:\n"
                               "  modules:\n"
                               "    - {pattern: 'a', rank: 1}\n"
                               "    - rank: 1\n"
                               "      pattern: 'nowhere*'\n");
    configs_expect_at(context, try_adapters(config, &adapters), LRK_ERR_NOT_FOUND, 5, 16,
                      "pattern 'nowhere*' matches no module");
    ck_assert_ptr_null(adapters);
    lrk_config_destroy(config);
    config = parse("adapters:\n  modules:\n    - {pattern: '*', rank: 1}\n    - {pattern: a, rank: 1}\n");
    configs_expect_at(context, try_adapters(config, &adapters), LRK_ERR_NOT_FOUND, 4, 17,
                      "pattern 'a' decides no module");
    lrk_config_destroy(config);
}
END_TEST

START_TEST(a_limit_that_decides_nothing_is_pointed_to)
{
    lrk_config *config = parse("adapters: {modules: [{pattern: '*', rank: 1}]}\n"
                               "allocation:\n"
                               "  n_move: 1\n"
                               "  limits:\n"
                               "    - pattern: 'a'\n"
                               "    - pattern: 'z'\n");
    lrk_adapters *adapters = NULL;
    lrk_allocator *allocator = (lrk_allocator *)&host;
    ck_assert_int_eq(try_adapters(config, &adapters), LRK_OK);
    configs_expect_at(context, lrk_config_create_allocator(config, adapters, &allocator), LRK_ERR_NOT_FOUND,
                      6, 16, "limit 'z'");
    ck_assert_ptr_null(allocator);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(what_is_missing_points_to_its_section)
{
    lrk_config *config = parse("seed: 1\nadapters: {dropout: 0.5}\n");
    lrk_adapters *adapters = NULL;
    lrk_allocator *allocator = NULL;
    configs_expect_at(context, try_adapters(config, &adapters), LRK_ERR_CONFIG, 2, 1,
                      "adapters.modules is missing");
    lrk_config_destroy(config);
    config = parse("");
    configs_expect_at(context, try_adapters(config, &adapters), LRK_ERR_CONFIG, 0, 0,
                      "configuration: adapters.modules is missing");
    lrk_config_destroy(config);
    config = parse("adapters: {modules: [{pattern: '*', rank: 1}]}\n\nallocation: {budget: 3}\n");
    ck_assert_int_eq(try_adapters(config, &adapters), LRK_OK);
    configs_expect_at(context, lrk_config_create_allocator(config, adapters, &allocator), LRK_ERR_ARGUMENT, 3,
                      1, "n_move");
    lrk_config_destroy(config);
    config = parse("allocation: {budget: 2, n_move: 1}\n");
    configs_expect_at(context, lrk_config_create_allocator(config, adapters, &allocator), LRK_ERR_BUDGET, 1,
                      22, "the budget is 2");
    lrk_config_destroy(config);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(the_hosts_module_stays_named_beside_the_line)
{
    lrk_module_spec specs[3];
    lrk_adapters *adapters = NULL;
    lrk_error_info info = {.struct_size = sizeof info};
    lrk_config *config = parse("\nadapters: {modules: [{pattern: '*', rank: 1}]}\n");
    sets_three(specs);
    specs[1].n_in = 0;
    configs_expect_at(context, lrk_config_create_adapters(config, specs, 3, &adapters), LRK_ERR_SHAPE, 2, 1,
                      "module 'b': n_in");
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
    ck_assert_int_eq(info.module, 1);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(totals_of_the_host_are_checked_against_the_lines)
{
    lrk_config *config =
        parse("learning_rate:\n  warmup_steps: 10\nschedule:\n  rounds: 2\n  warmup: 5\n  recovery: 5\n");
    lrk_schedule *schedule = (lrk_schedule *)&host;
    lrk_lr_options lr = {.struct_size = sizeof lr, .peak = 77};
    configs_expect_at(context, lrk_config_create_schedule(config, 0, 14, &schedule), LRK_ERR_ARGUMENT, 4, 11,
                      "total_steps must be >= 15");
    ck_assert_ptr_null(schedule);
    configs_expect_at(context, lrk_config_learning_rate(config, 10, &lr), LRK_ERR_ARGUMENT, 2, 17,
                      "above warmup_steps");
    ck_assert(lr.peak == 77);
    lr.struct_size = 4;
    sets_expect(context, lrk_config_learning_rate(config, 11, &lr), LRK_ERR_ARGUMENT, "struct_size");
    lrk_config_destroy(config);
}
END_TEST

START_TEST(creating_needs_its_arguments)
{
    lrk_config *config =
        parse("adapters: {modules: [{pattern: '*', rank: 1}]}\nimportance: {mode: screened}\n");
    lrk_module_spec specs[3];
    lrk_adapters *adapters = NULL;
    lrk_estimator *estimator = NULL;
    sets_three(specs);
    ck_assert_int_eq(lrk_config_create_adapters(NULL, specs, 3, &adapters), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_config_learning_rate(NULL, 1, NULL), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_config_create_adapters(config, NULL, 3, &adapters), LRK_ERR_ARGUMENT, "is NULL");
    sets_expect(context, lrk_config_create_adapters(config, specs, 3, NULL), LRK_ERR_ARGUMENT, "is NULL");
    sets_expect(context, lrk_config_create_allocator(config, NULL, NULL), LRK_ERR_ARGUMENT, "is NULL");
    sets_expect(context, lrk_config_create_estimator(config, NULL, NULL, NULL, &estimator), LRK_ERR_ARGUMENT,
                "NULL");
    sets_expect(context, lrk_config_create_optimizer(config, NULL, NULL), LRK_ERR_ARGUMENT, "is NULL");
    sets_expect(context, lrk_config_create_schedule(config, 1, 1, NULL), LRK_ERR_ARGUMENT, "is NULL");
    lrk_config_destroy(config);
}
END_TEST

Suite *config_handles_suite(void)
{
    Suite *suite = suite_create("config_handles");
    TCase *tests = tcase_create("config_handles");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, adapters_come_from_the_patterns_and_the_seed);
    tcase_add_test(tests, the_other_handles_come_from_their_sections);
    tcase_add_test(tests, the_learning_rate_gets_its_warm_up_from_the_total);
    tcase_add_test(tests, the_fixed_policy_has_no_rounds_and_moves_nothing);
    tcase_add_test(tests, a_policy_that_prunes_nothing_goes_with_a_screened_estimator);
    tcase_add_test(tests, the_random_estimator_needs_no_evaluator);
    tcase_add_test(tests, every_estimator_comes_by_its_name);
    tcase_add_test(tests, shares_of_outputs_need_the_hosts_evaluations);
    tcase_add_test(tests, a_file_is_read_like_a_text);
    tcase_add_test(tests, the_example_of_the_reference_page_is_complete_and_right);
    tcase_add_test(tests, a_gradient_start_and_pruning_come_from_their_sections);
    tcase_add_test(tests, eva_comes_from_its_section);
    tcase_add_test(tests, gelora_comes_from_its_section);
    tcase_add_loop_test(tests, starts_of_both_factors_come_from_their_words, 0, 7);
    tcase_add_test(tests, a_uniform_start_needs_no_sketch);
    tcase_add_test(tests, a_plan_of_another_start_is_refused);
    tcase_add_test(tests, failures_of_a_start_are_pointed_to);
    tcase_add_test(tests, a_limit_of_a_start_is_pointed_to);
    tcase_add_test(tests, the_reference_page_names_every_key);
    tcase_add_test(tests, a_pattern_that_decides_nothing_is_pointed_to);
    tcase_add_test(tests, a_limit_that_decides_nothing_is_pointed_to);
    tcase_add_test(tests, what_is_missing_points_to_its_section);
    tcase_add_test(tests, the_hosts_module_stays_named_beside_the_line);
    tcase_add_test(tests, totals_of_the_host_are_checked_against_the_lines);
    tcase_add_test(tests, creating_needs_its_arguments);
    suite_add_tcase(suite, tests);
    return suite;
}
