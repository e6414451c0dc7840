/* SPDX-License-Identifier: MIT */
/*
 * Sets from patterns: which module gets what, and that a pattern which decides nothing is refused by name.
 */
#include <check.h>
#include <math.h>
#include <string.h>

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

enum { N = 5 };

static void list_modules(lrk_module_spec modules[N])
{
    const char *names[N] = {"model.0.q", "model.0.v", "model.1.q", "model.1.v", "lm/head"};
    for (int i = 0; i < N; i++) {
        modules[i] = sets_spec(names[i], 4, 3, -99);
        modules[i].scale = NAN;
        modules[i].stage = i;
    }
}

static lrk_module_pattern pattern_of(const char *text, int64_t rank)
{
    lrk_module_pattern pattern;
    ck_assert_int_eq(lrk_module_pattern_init(&pattern, sizeof pattern), LRK_OK);
    pattern.pattern = text;
    pattern.rank = rank;
    return pattern;
}

static lrk_adapters *create(const lrk_module_pattern *patterns, int64_t n)
{
    lrk_module_spec modules[N];
    list_modules(modules);
    lrk_adapters *adapters = NULL;
    char text[256];
    lrk_status status = lrk_adapters_create_matching(context, modules, N, patterns, n, NULL, &adapters);
    lrk_context_error(context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s", text);
    return adapters;
}

static void expect_refused(const lrk_module_pattern *patterns, int64_t n, lrk_status want, const char *words)
{
    lrk_module_spec modules[N];
    list_modules(modules);
    lrk_adapters *adapters = (lrk_adapters *)&host;
    int64_t live = host.live;
    sets_expect(context, lrk_adapters_create_matching(context, modules, N, patterns, n, NULL, &adapters),
                want, words);
    ck_assert_ptr_null(adapters);
    ck_assert_int_eq(host.live, live);
}

static lrk_module_info module_of(const lrk_adapters *adapters, const char *name)
{
    int32_t index;
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_find(adapters, name, &index), LRK_OK);
    ck_assert_int_eq(lrk_adapters_module(adapters, index, &info), LRK_OK);
    return info;
}

START_TEST(the_first_pattern_that_matches_decides)
{
    lrk_module_pattern patterns[] = {pattern_of("model.1.*", 5), pattern_of("*q", 2)};
    patterns[0].flags = LRK_MODULE_MAY_LACK_GRADIENT;
    patterns[1].scale_rule = LRK_SCALE_ALPHA;
    patterns[1].scale = 16;
    lrk_adapters *adapters = create(patterns, 2);
    ck_assert_int_eq(sets_info(adapters).modules, 3);
    lrk_module_info q0 = module_of(adapters, "model.0.q"), q1 = module_of(adapters, "model.1.q");
    ck_assert(q0.rank == 2 && q0.scale == 8 && q0.stage == 0 && q0.flags == 0);
    ck_assert(q1.rank == 5 && q1.scale == 1 && q1.stage == 2 && q1.flags == LRK_MODULE_MAY_LACK_GRADIENT);
    ck_assert_int_eq(module_of(adapters, "model.1.v").rank, 5);
    int32_t index;
    ck_assert_int_eq(lrk_adapters_find(adapters, "model.0.v", &index), LRK_ERR_NOT_FOUND);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_star_matches_dots_and_slashes)
{
    lrk_module_pattern pattern = pattern_of("*", 1);
    lrk_adapters *adapters = create(&pattern, 1);
    ck_assert_int_eq(sets_info(adapters).modules, N);
    lrk_adapters_destroy(adapters);
    pattern = pattern_of("lm?h[a-e]*", 1);
    pattern.pattern = "lm?h[a-f]ad";
    adapters = create(&pattern, 1);
    ck_assert_int_eq(sets_info(adapters).modules, 1);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_pattern_that_decides_no_module_is_refused_by_name)
{
    lrk_module_pattern nothing[] = {pattern_of("*q", 1), pattern_of("*.k", 1)};
    expect_refused(nothing, 2, LRK_ERR_NOT_FOUND, "pattern '*.k' matches no module");
    lrk_module_pattern shadowed[] = {pattern_of("model.*", 1), pattern_of("*.q", 1)};
    expect_refused(shadowed, 2, LRK_ERR_NOT_FOUND,
                   "pattern '*.q' decides no module: earlier patterns took all 2 that it matches");
}
END_TEST

START_TEST(a_pattern_that_breaks_its_contract_is_refused_by_name)
{
    lrk_module_pattern p = pattern_of("*", -1);
    expect_refused(&p, 1, LRK_ERR_SHAPE, "pattern '*': rank -1");
    p = pattern_of("*", 1);
    p.scale = INFINITY;
    expect_refused(&p, 1, LRK_ERR_ARGUMENT, "pattern '*': scale is not finite");
    p = pattern_of("*", 1);
    p.scale_rule = 9;
    expect_refused(&p, 1, LRK_ERR_ARGUMENT, "pattern '*': unknown scale rule");
    p = pattern_of("*", 0);
    p.scale_rule = LRK_SCALE_ALPHA_SQRT;
    expect_refused(&p, 1, LRK_ERR_ARGUMENT, "pattern '*': the alpha rule needs");
    p = pattern_of("*", 1);
    p.scale_rank = -3;
    expect_refused(&p, 1, LRK_ERR_ARGUMENT, "pattern '*': scale_rank");
    p = pattern_of("*", 1);
    p.flags = 8;
    expect_refused(&p, 1, LRK_ERR_ARGUMENT, "pattern '*': unknown flag");
    p = pattern_of("*", 1);
    p.reserved = 1;
    expect_refused(&p, 1, LRK_ERR_ARGUMENT, "reserved");
    p = pattern_of("", 1);
    expect_refused(&p, 1, LRK_ERR_ARGUMENT, "pattern 0 is NULL or empty");
    p = pattern_of(NULL, 1);
    expect_refused(&p, 1, LRK_ERR_ARGUMENT, "pattern 0 is NULL or empty");
    p = pattern_of("*", 1);
    expect_refused(&p, 0, LRK_ERR_ARGUMENT, "no patterns");
    expect_refused(NULL, 1, LRK_ERR_ARGUMENT, "no patterns");
}
END_TEST

START_TEST(modules_are_held_to_the_contract_of_create)
{
    lrk_module_spec modules[N];
    lrk_module_pattern all = pattern_of("*", 1);
    lrk_adapters *adapters = (lrk_adapters *)&host;
    list_modules(modules);
    modules[3].n_in = 0;
    sets_expect(context, lrk_adapters_create_matching(context, modules, N, &all, 1, NULL, &adapters),
                LRK_ERR_SHAPE, "module 'model.1.v': n_in 0");
    ck_assert_ptr_null(adapters);
    list_modules(modules);
    modules[1].name = NULL;
    sets_expect(context, lrk_adapters_create_matching(context, modules, N, &all, 1, NULL, &adapters),
                LRK_ERR_ARGUMENT, "module 1 has no name");
    sets_expect(context, lrk_adapters_create_matching(context, NULL, N, &all, 1, NULL, &adapters),
                LRK_ERR_ARGUMENT, "NULL");
    sets_expect(context, lrk_adapters_create_matching(context, modules, 0, &all, 1, NULL, &adapters),
                LRK_ERR_ARGUMENT, "no modules");
    sets_expect(context, lrk_adapters_create_matching(context, modules, N, &all, 1, NULL, NULL),
                LRK_ERR_ARGUMENT, "NULL");
    ck_assert_int_eq(lrk_adapters_create_matching(NULL, modules, N, &all, 1, NULL, &adapters),
                     LRK_ERR_ARGUMENT);
}
END_TEST

START_TEST(patterns_follow_struct_size)
{
    struct {
        lrk_module_pattern known;
        uint64_t tail;
    } longer[2] = {{.known = pattern_of("*q", 2)}, {.known = pattern_of("*v", 3)}};
    longer[0].known.struct_size = longer[1].known.struct_size = sizeof longer[0];
    lrk_adapters *adapters = create(&longer[0].known, 2);
    ck_assert_int_eq(module_of(adapters, "model.1.v").rank, 3);
    lrk_adapters_destroy(adapters);
    longer[1].tail = 1;
    expect_refused(&longer[0].known, 2, LRK_ERR_VERSION, "lrk_module_pattern");
    lrk_module_pattern shorter = pattern_of("*q", 2);
    shorter.struct_size = offsetof(lrk_module_pattern, scale);
    shorter.scale = 5;
    adapters = create(&shorter, 1);
    ck_assert(module_of(adapters, "model.1.q").scale == 1);
    lrk_adapters_destroy(adapters);
    shorter.struct_size = 4;
    expect_refused(&shorter, 1, LRK_ERR_ARGUMENT, "struct_size 4");
    lrk_module_pattern p;
    memset(&p, 0xff, sizeof p);
    ck_assert_int_eq(lrk_module_pattern_init(&p, sizeof p), LRK_OK);
    ck_assert(p.struct_size == sizeof p && p.flags == 0 && p.pattern == NULL && p.rank == 0);
    ck_assert(p.scale_rule == LRK_SCALE_EXPLICIT && p.reserved == 0 && p.scale == 1 && p.scale_rank == 0);
    ck_assert_int_eq(lrk_module_pattern_init(NULL, sizeof p), LRK_ERR_ARGUMENT);
}
END_TEST

static lrk_adapters *made;

static lrk_status make_set(void *user)
{
    lrk_module_spec modules[N];
    lrk_module_pattern patterns[] = {pattern_of("*q", 2), pattern_of("*v", 3)};
    (void)user;
    list_modules(modules);
    return lrk_adapters_create_matching(context, modules, N, patterns, 2, NULL, &made);
}

static void drop_set(void *user)
{
    (void)user;
    lrk_adapters_destroy(made);
}

START_TEST(matching_unwinds_when_any_request_fails)
{
    sets_each_fault(&host, make_set, drop_set, NULL);
}
END_TEST

Suite *match_suite(void);

Suite *match_suite(void)
{
    Suite *suite = suite_create("match");
    TCase *tcase = tcase_create("patterns");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_first_pattern_that_matches_decides);
    tcase_add_test(tcase, a_star_matches_dots_and_slashes);
    tcase_add_test(tcase, a_pattern_that_decides_no_module_is_refused_by_name);
    tcase_add_test(tcase, a_pattern_that_breaks_its_contract_is_refused_by_name);
    tcase_add_test(tcase, modules_are_held_to_the_contract_of_create);
    tcase_add_test(tcase, patterns_follow_struct_size);
    tcase_add_test(tcase, matching_unwinds_when_any_request_fails);
    suite_add_tcase(suite, tcase);
    return suite;
}
