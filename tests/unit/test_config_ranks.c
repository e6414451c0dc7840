/* SPDX-License-Identifier: MIT */
/*
 * Initial ranks from a configuration: from the trace of an earlier run, or uniform under a budget; scales stay those of the
 * patterns, and what does not fit is pointed to.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "configs.h"
#include "scratch.h"
#include "sets.h"

static fault host;
static lrk_context *context;
static scratch files;
static char path[SCRATCH_PATH];

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    scratch_init(&files);
    strcpy(path, scratch_path(&files, "ranks.json"));
}

static void teardown(void)
{
    lrk_context_destroy(context);
    scratch_fini(&files);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

/* The modules "a" 5x3, "b" 4x6 and "c" 7x2 by a text of which the first %s is the path. */
static lrk_status create(const char *format, lrk_config **config, lrk_adapters **adapters)
{
    char text[1024];
    lrk_module_spec specs[3];
    sets_three(specs);
    snprintf(text, sizeof text, format, path);
    *config = configs_parse(context, text, NULL, 0);
    return lrk_config_create_adapters(*config, specs, 3, adapters);
}

static void expect(const lrk_adapters *adapters, int32_t module, int64_t rank, double scale)
{
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(adapters, module, &info), LRK_OK);
    ck_assert_int_eq(info.rank, rank);
    ck_assert(info.scale == scale);
}

static const char modules[] = "adapters:\n"
                              "  ranks_from: '%s'\n"
                              "  modules:\n"
                              "    - {pattern: 'b', rank: 4, alpha: 8}\n"
                              "    - {pattern: '*', rank: 2, scale: 0.5}\n";

START_TEST(ranks_come_from_the_file_and_scales_from_the_patterns)
{
    lrk_config *config;
    lrk_adapters *adapters = NULL;
    scratch_write(path, "{\"a\": 7, \"b\": 1, \"c\": 0}", 24);
    configs_ok(context, create(modules, &config, &adapters));
    expect(adapters, 0, 7, 0.5);
    expect(adapters, 1, 1, 2);
    expect(adapters, 2, 0, 0.5);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(a_run_is_trained_again_with_the_ranks_that_its_trace_ended_with)
{
    lrk_module_spec specs[3];
    lrk_trace *trace = NULL;
    lrk_config *config;
    lrk_adapters *adapters = NULL;
    sets_three(specs);
    specs[0].rank = 5;
    lrk_adapters *earlier = sets_create(context, specs, 3, NULL);
    ck_assert_int_eq(lrk_trace_open(earlier, path, NULL, &trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    lrk_adapters_destroy(earlier);
    configs_ok(context, create(modules, &config, &adapters));
    expect(adapters, 0, 5, 0.5);
    expect(adapters, 1, 3, 2);
    expect(adapters, 2, 0, 0.5);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(an_override_names_another_file_or_none)
{
    char other[SCRATCH_PATH];
    lrk_module_spec specs[3];
    lrk_adapters *adapters = NULL;
    strcpy(other, scratch_path(&files, "other.json"));
    scratch_write(other, "{\"a\": 3}", 8);
    lrk_config *config = configs_parse(context, "adapters: {modules: [{pattern: '*', rank: 2}]}\n", NULL, 0);
    configs_ok(context, lrk_config_override(config, "adapters.ranks_from", other));
    sets_three(specs);
    configs_ok(context, lrk_config_create_adapters(config, specs, 3, &adapters));
    expect(adapters, 0, 3, 1);
    expect(adapters, 1, 2, 1);
    lrk_adapters_destroy(adapters);
    configs_ok(context, lrk_config_override(config, "adapters.ranks_from", "none"));
    configs_ok(context, lrk_config_create_adapters(config, specs, 3, &adapters));
    expect(adapters, 0, 2, 1);
    lrk_adapters_destroy(adapters);
    configs_expect_at(context, lrk_config_override(config, "adapters.ranks_from", ""), LRK_ERR_CONFIG, 0, 0,
                      "must be a text");
    lrk_config_destroy(config);
}
END_TEST

START_TEST(uniform_shares_a_budget_out)
{
    lrk_config *config;
    lrk_adapters *adapters = NULL;
    /* ranks cost 8, 10 and 9: two of each are 54, and 8 more fit one of "a" alone */
    configs_ok(context,
               create("seed: 3\nadapters: {uniform: 62, uniform_unit: parameters, modules: [{pattern: '*', "
                      "rank: 4, alpha: 8}]}\n",
                      &config, &adapters));
    expect(adapters, 0, 3, 2);
    expect(adapters, 1, 2, 2);
    expect(adapters, 2, 2, 2);
    lrk_adapters_destroy(adapters);
    lrk_config_destroy(config);
}
END_TEST

static const struct {
    const char *file;
    const char *format;
    lrk_status status;
    int64_t line, column;
    const char *words;
} misfits[] = {
    {"{\"x\": 1}", modules, LRK_ERR_NOT_FOUND, 2, 15, "'x' is of no module"},
    {"{", modules, LRK_ERR_FORMAT, 2, 15, "not valid JSON"},
    {NULL, modules, LRK_ERR_NOT_FOUND, 2, 15, "cannot open"},
    {"{}", "adapters: {ranks_from: '%s', uniform: 5, modules: [{pattern: '*', rank: 1}]}\n", LRK_ERR_CONFIG,
     1, 24, "ranks_from and uniform exclude each other"},
    {"{\"c\": 2}", "adapters: {ranks_from: '%s', modules: [{pattern: 'a', rank: 1}]}\n", LRK_ERR_NOT_FOUND, 1,
     24, "'c' is of no module"},
};

START_TEST(what_does_not_fit_is_pointed_to)
{
    lrk_config *config;
    lrk_adapters *adapters = (lrk_adapters *)&host;
    if (misfits[_i].file != NULL) scratch_write(path, misfits[_i].file, strlen(misfits[_i].file));
    configs_expect_at(context, create(misfits[_i].format, &config, &adapters), misfits[_i].status,
                      misfits[_i].line, misfits[_i].column, misfits[_i].words);
    ck_assert_ptr_null(adapters);
    lrk_config_destroy(config);
}
END_TEST

typedef struct attempt {
    lrk_config *config;
    lrk_adapters *adapters;
} attempt;

static lrk_status try_create(void *user)
{
    attempt *a = user;
    lrk_module_spec specs[3];
    sets_three(specs);
    return lrk_config_create_adapters(a->config, specs, 3, &a->adapters);
}

static void undo_create(void *user)
{
    lrk_adapters_destroy(((attempt *)user)->adapters);
}

static lrk_status try_override(void *user)
{
    return lrk_config_override(((attempt *)user)->config, "adapters.ranks_from", path);
}

static void undo_override(void *user)
{
    ck_assert_int_eq(lrk_config_override(((attempt *)user)->config, "adapters.ranks_from", "none"), LRK_OK);
}

START_TEST(every_failed_request_for_memory_leaves_nothing_behind)
{
    attempt a = {0};
    scratch_write(path, "{\"a\": 7}", 8);
    a.config = configs_parse(context, "adapters: {modules: [{pattern: '*', rank: 2}]}\n", NULL, 0);
    sets_each_fault(&host, try_override, undo_override, &a);
    configs_ok(context, try_override(&a));
    sets_each_fault(&host, try_create, undo_create, &a);
    lrk_config_destroy(a.config);
}
END_TEST

Suite *config_ranks_suite(void);
Suite *config_ranks_suite(void)
{
    Suite *suite = suite_create("config_ranks");
    TCase *tests = tcase_create("config_ranks");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, ranks_come_from_the_file_and_scales_from_the_patterns);
    tcase_add_test(tests, a_run_is_trained_again_with_the_ranks_that_its_trace_ended_with);
    tcase_add_test(tests, an_override_names_another_file_or_none);
    tcase_add_test(tests, uniform_shares_a_budget_out);
    tcase_add_loop_test(tests, what_does_not_fit_is_pointed_to, 0, sizeof misfits / sizeof *misfits);
    tcase_add_test(tests, every_failed_request_for_memory_leaves_nothing_behind);
    suite_add_tcase(suite, tests);
    return suite;
}
