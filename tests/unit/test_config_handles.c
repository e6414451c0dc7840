/* SPDX-License-Identifier: MIT */
/*
 * Handles made from configurations, and what happens when they cannot be: the status of the C call with the line of the
 * key or pattern concerned. And the reference page: its example is complete and right, it names every key.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "configs.h"
#include "lorank/lorank.h"
#include "scratch.h"
#include "sets.h"

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

START_TEST(adapters_come_from_the_patterns_and_the_seed)
{
    lrk_config *config = parse(complete);
    lrk_adapters *adapters = configs_adapters(context, config);
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
    lrk_adapters *adapters = configs_adapters(context, config);
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
    lrk_adapters *adapters = configs_adapters(context, config);
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
    lrk_adapters *adapters = configs_adapters(context, config);
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
    lrk_adapters *adapters = configs_adapters(context, config);
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
        {"estimator: salience, window: 3, window_last: 4, slope: 1.5", "salience"},
        {"estimator: magnitude", "magnitude"},
        {"estimator: gate, reversed: true", "reversed.gate"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char text[256];
        snprintf(text, sizeof text, "adapters: {modules: [{pattern: '*', rank: 2}]}\nimportance: {%s}\n",
                 kinds[i].text);
        lrk_config *config = parse(text);
        lrk_adapters *adapters = configs_adapters(context, config);
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

/* Two steps: round 0 of two reads the last, for which gates are 1; round 2 reads both, at the first of which one gate was 3. */
START_TEST(the_window_of_salience_grows_over_the_rounds_of_the_schedule)
{
    lrk_config *config = parse("adapters: {modules: [{pattern: '*', rank: 2}]}\n"
                               "schedule: {warmup: 1, recovery: 1, rounds: 2}\n"
                               "importance: {estimator: salience, window: 1, window_last: 2}\n");
    lrk_adapters *adapters = configs_adapters(context, config);
    lrk_estimator *estimator;
    configs_ok(context, lrk_config_create_estimator(config, adapters, NULL, NULL, &estimator));
    for (int step = 0; step < 2; step++) {
        sets_tensor(adapters, 0, LRK_TENSOR_GATES).data[0] = step == 0 ? 3 : 1;
        configs_ok(context, lrk_adapters_gradients_written(adapters));
        configs_ok(context, lrk_estimator_observe(estimator));
    }
    for (uint64_t round = 0; round < 3; round += 2) {
        lrk_scores *scores;
        lrk_score score = {.struct_size = sizeof score};
        configs_ok(context, lrk_estimator_run(estimator, round, &scores));
        configs_ok(context, lrk_scores_get(scores, 0, &score));
        ck_assert_double_eq_tol(score.t1, round == 0 ? 1 / 2.0 : 4 / 6.0, 1e-15);
        lrk_scores_destroy(scores);
    }
    lrk_estimator_destroy(estimator);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(shares_of_outputs_need_the_hosts_evaluations)
{
    lrk_config *config = parse("adapters: {modules: [{pattern: '*', rank: 2}]}\n"
                               "importance: {estimator: output, output: module}\n");
    lrk_adapters *adapters = configs_adapters(context, config);
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
    tcase_add_test(tests, the_window_of_salience_grows_over_the_rounds_of_the_schedule);
    tcase_add_test(tests, shares_of_outputs_need_the_hosts_evaluations);
    tcase_add_test(tests, a_file_is_read_like_a_text);
    tcase_add_test(tests, the_example_of_the_reference_page_is_complete_and_right);
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
