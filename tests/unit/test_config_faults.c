/* SPDX-License-Identifier: MIT */
/*
 * Calls that fail: missing arguments, wrong declarations, files, overrides that must change nothing, and lack of memory,
 * libyaml's included.
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
    return configs_parse(context, text, configs_keys, 4);
}

/* ---- arguments and files --------------------------------------------------------------------------------------------- */

START_TEST(missing_arguments_are_named)
{
    lrk_config *config = (lrk_config *)&host;
    ck_assert_int_eq(lrk_config_parse(NULL, "", 0, NULL, 0, &config), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(config);
    sets_expect(context, lrk_config_parse(context, NULL, 0, NULL, 0, &config), LRK_ERR_ARGUMENT,
                "is missing");
    sets_expect(context, lrk_config_parse(context, "", 0, NULL, 1, &config), LRK_ERR_ARGUMENT, "is missing");
    sets_expect(context, lrk_config_parse(context, "", 0, configs_keys, -1, &config), LRK_ERR_ARGUMENT,
                "is missing");
    sets_expect(context, lrk_config_parse(context, "", 0, NULL, 0, NULL), LRK_ERR_ARGUMENT, "is missing");
    sets_expect(context, lrk_config_load(context, NULL, NULL, 0, &config), LRK_ERR_ARGUMENT, "is missing");
    lrk_config_destroy(NULL);
    ck_assert_uint_eq(lrk_config_seed(NULL), 0);
}
END_TEST

START_TEST(a_wrong_declaration_of_a_host_key_is_refused)
{
    static const struct {
        lrk_config_key key;
        const char *words;
    } rows[] = {
        {{.struct_size = 8, .name = "a"}, "struct_size"},
        {{.struct_size = sizeof(lrk_config_key)}, "has no name"},
        {{.struct_size = sizeof(lrk_config_key), .name = ""}, "has no name"},
        {{.struct_size = sizeof(lrk_config_key), .name = "a", .type = 4}, "'a' has an unknown type"},
        {{.struct_size = sizeof(lrk_config_key), .name = "a", .type = -1}, "'a' has an unknown type"},
        {{.struct_size = sizeof(lrk_config_key), .name = "a", .least = 1}, "'a' has least above greatest"},
        {{.struct_size = sizeof(lrk_config_key), .name = "a", .default_number = 0.5},
         "is no value of its type"},
        {{.struct_size = sizeof(lrk_config_key), .name = "a", .default_number = 1e300}, "is no value of its"},
        {{.struct_size = sizeof(lrk_config_key), .name = "a", .type = LRK_VALUE_BOOLEAN, .default_number = 2},
         "is no value of its type"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lrk_config *config = NULL;
        sets_expect(context, lrk_config_parse(context, "", 0, &rows[i].key, 1, &config), LRK_ERR_ARGUMENT,
                    rows[i].words);
        ck_assert_ptr_null(config);
    }
    lrk_config_key twice[2] = {configs_keys[2], configs_keys[2]};
    lrk_config *config = NULL;
    sets_expect(context, lrk_config_parse(context, "", 0, twice, 2, &config), LRK_ERR_ARGUMENT,
                "'data' stands twice");
}
END_TEST

START_TEST(values_of_the_host_are_asked_for_by_name_and_type)
{
    lrk_config *config = parse("");
    int64_t integer = 77;
    double real;
    int32_t flag;
    const char *text;
    sets_expect(context, lrk_config_integer(config, "share", &integer), LRK_ERR_ARGUMENT,
                "'share' is no host key");
    sets_expect(context, lrk_config_integer(config, "none", &integer), LRK_ERR_ARGUMENT,
                "'none' is no host key");
    sets_expect(context, lrk_config_integer(config, NULL, &integer), LRK_ERR_ARGUMENT, "NULL");
    sets_expect(context, lrk_config_integer(config, "epochs", NULL), LRK_ERR_ARGUMENT, "NULL");
    sets_expect(context, lrk_config_real(config, "epochs", &real), LRK_ERR_ARGUMENT, "'epochs'");
    sets_expect(context, lrk_config_boolean(config, "data", &flag), LRK_ERR_ARGUMENT, "'data'");
    sets_expect(context, lrk_config_text(config, "shuffle", &text), LRK_ERR_ARGUMENT, "'shuffle'");
    ck_assert_int_eq(lrk_config_integer(NULL, "epochs", &integer), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(integer, 77);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(details_of_a_file_begin_with_its_path)
{
    scratch s;
    char words[600];
    lrk_config *config = (lrk_config *)&host;
    scratch_init(&s);
    const char *path = scratch_path(&s, "wrong.yaml");
    snprintf(words, sizeof words, "%s:2:10: beta1 must be in [0, 1)", path);
    scratch_write(path, "optimizer:\n  beta1: 2\n", 22);
    configs_expect_at(context, lrk_config_load(context, path, NULL, 0, &config), LRK_ERR_CONFIG, 2, 10,
                      words);
    ck_assert_ptr_null(config);
    snprintf(words, sizeof words, "%s:1:1: unknown key 'x'", path);
    scratch_write(path, "x: 1\n", 5);
    configs_expect_at(context, lrk_config_load(context, path, NULL, 0, &config), LRK_ERR_CONFIG, 1, 1, words);
    path = scratch_path(&s, "absent.yaml");
    configs_expect_at(context, lrk_config_load(context, path, NULL, 0, &config), LRK_ERR_NOT_FOUND, 0, 0,
                      path);
    configs_expect_at(context, lrk_config_load(context, s.dir, NULL, 0, &config), LRK_ERR_IO, 0, 0, s.dir);
    ck_assert_ptr_null(config);
    scratch_fini(&s);
}
END_TEST

START_TEST(a_file_that_is_too_long_is_refused)
{
    scratch s;
    size_t n = LRKI_CONFIG_MAX_BYTES + 10;
    char *text = malloc(n);
    lrk_config *config = NULL;
    ck_assert_ptr_nonnull(text);
    memset(text, '#', n);
    scratch_init(&s);
    const char *path = scratch_path(&s, "long.yaml");
    scratch_write(path, text, n);
    configs_expect_at(context, lrk_config_load(context, path, NULL, 0, &config), LRK_ERR_CONFIG, 1, 1,
                      "longer than 1048576 bytes");
    scratch_fini(&s);
    free(text);
}
END_TEST

/* ---- overrides ------------------------------------------------------------------------------------------------------- */

START_TEST(a_failing_override_changes_nothing)
{
    static const struct {
        const char *key;
        const char *value;
        const char *words;
    } rows[] = {{"sed", "1", "unknown key 'sed'"},
                {"adapter.dropout", "0", "unknown key 'adapter.dropout'"},
                {"adapters.drop", "0", "unknown key 'drop' in adapters"},
                {"adapters", "0", "unknown key 'adapters'"},
                {"adapters.", "0", "unknown key '' in adapters"},
                {".seed", "0", "unknown key"},
                {"", "0", "unknown key ''"},
                {"adapters.modules", "x", "adapters.modules is a list: only a text can give it"},
                {"allocation.limits", "x", "allocation.limits is a list: only a text can give it"},
                {"seed", "x", "seed: 'x' is not a non-negative 64-bit integer"},
                {"seed", "", "seed: '' is not"},
                {"seed", " 1", "seed: ' 1' is not"},
                {"optimizer.beta1", "1", "configuration: beta1 must be in [0, 1)"},
                {"allocation.n_move", "-4", "n_move must be >= 1"},
                {"allocation.move_share", "7", "move_share must be in"},
                {"learning_rate.warmup_share", "2", "warmup_share must be in [0, 1)"},
                {"schedule.rounds", "-1", "rounds must be >= 0"},
                {"importance.pool_limit", "2", "pool_limit must be >= 3"},
                {"host.epochs", "10", "host.epochs must be in [1, 9], not 10"},
                {"host.epoch", "1", "unknown key 'epoch' in host"},
                {"host.shuffle", "maybe", "host.shuffle: 'maybe' is not true or false"}};
    lrk_config *config = parse("seed: 3\nallocation: {n_move: 2}\nimportance: {mode: screened, pool: 3}\n"
                               "learning_rate: {warmup_steps: 4}\nhost: {epochs: 5}\n");
    lrki_settings before = config->settings;
    int64_t epochs;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        configs_expect_at(context, lrk_config_override(config, rows[i].key, rows[i].value), LRK_ERR_CONFIG, 0,
                          0, rows[i].words);
        ck_assert_mem_eq(&config->settings, &before, sizeof before);
    }
    ck_assert_int_eq(lrk_config_integer(config, "epochs", &epochs), LRK_OK);
    ck_assert_int_eq(epochs, 5);
    ck_assert_ptr_null(config->patterns);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(an_override_needs_its_arguments)
{
    lrk_config *config = parse("");
    ck_assert_int_eq(lrk_config_override(NULL, "seed", "1"), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_config_override(config, NULL, "1"), LRK_ERR_ARGUMENT, "must not be NULL");
    sets_expect(context, lrk_config_override(config, "seed", NULL), LRK_ERR_ARGUMENT, "must not be NULL");
    lrk_config_destroy(config);
}
END_TEST

START_TEST(a_value_by_override_is_not_looked_for_in_the_text)
{
    lrk_config *config = parse("schedule:\n  rounds: 1\n  warmup: 1\n  recovery: 1\n");
    lrk_schedule *schedule = NULL;
    ck_assert_int_eq(lrk_config_override(config, "schedule.warmup", "0"), LRK_OK);
    configs_expect_at(context, lrk_config_create_schedule(config, 0, 10, &schedule), LRK_ERR_ARGUMENT, 0, 0,
                      "warmup must come to");
    ck_assert_int_eq(lrk_config_override(config, "schedule.warmup", "1"), LRK_OK);
    ck_assert_int_eq(lrk_config_override(config, "schedule.recovery", "0"), LRK_OK);
    configs_expect_at(context, lrk_config_create_schedule(config, 0, 10, &schedule), LRK_ERR_ARGUMENT, 0, 0,
                      "recovery must come to");
    lrk_config_destroy(config);
}
END_TEST

static lrk_status make_adapters(const lrk_config *config, lrk_adapters **adapters)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    return lrk_config_create_adapters(config, specs, 3, adapters);
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

static const char whole[] = "seed: 1\n"
                            "adapters:\n"
                            "  modules: [{pattern: '*', rank: 2, alpha: 4}]\n"
                            "allocation: {n_move: 1, limits: [{pattern: '*', cap: 3}]}\n"
                            "host: {epochs: 2, data: \"x\", share: 0.5}\n";

typedef struct made {
    lrk_config *config;
    lrk_adapters *adapters;
    lrk_allocator *allocator;
    const char *path;
} made;

static lrk_status act_parse(void *user)
{
    made *m = user;
    return lrk_config_parse(context, whole, sizeof whole - 1, configs_keys, 4, &m->config);
}

static lrk_status act_load(void *user)
{
    made *m = user;
    return lrk_config_load(context, m->path, configs_keys, 4, &m->config);
}

static void undo_config(void *user)
{
    lrk_config_destroy(((made *)user)->config);
}

static lrk_status act_override(void *user)
{
    return lrk_config_override(((made *)user)->config, "host.data", "another text");
}

static void undo_nothing(void *user)
{
    lrk_config *config = ((made *)user)->config;
    ck_assert_int_eq(lrk_config_override(config, "host.data", "x"), LRK_OK);
}

static lrk_status act_adapters(void *user)
{
    made *m = user;
    return make_adapters(m->config, &m->adapters);
}

static void undo_adapters(void *user)
{
    lrk_adapters_destroy(((made *)user)->adapters);
}

static lrk_status act_allocator(void *user)
{
    made *m = user;
    return lrk_config_create_allocator(m->config, m->adapters, &m->allocator);
}

static void undo_allocator(void *user)
{
    lrk_allocator_destroy(((made *)user)->allocator);
}

START_TEST(lack_of_memory_leaves_nothing_behind)
{
    made m = {0};
    scratch s;
    scratch_init(&s);
    m.path = scratch_path(&s, "config.yaml");
    scratch_write(m.path, whole, sizeof whole - 1);
    sets_each_fault(&host, act_parse, undo_config, &m);
    sets_each_fault(&host, act_load, undo_config, &m);
    ck_assert_int_eq(act_parse(&m), LRK_OK);
    sets_each_fault(&host, act_override, undo_nothing, &m);
    sets_each_fault(&host, act_adapters, undo_adapters, &m);
    ck_assert_int_eq(act_adapters(&m), LRK_OK);
    sets_each_fault(&host, act_allocator, undo_allocator, &m);
    undo_adapters(&m);
    undo_config(&m);
    scratch_fini(&s);
}
END_TEST

/*
 * libyaml takes its memory from libc through functions of its own that a program can take over: these stand before the
 * shared library's, and fail one request.
 */
void *yaml_malloc(size_t size);
void *yaml_realloc(void *memory, size_t size);
char *yaml_strdup(const char *text);

static int64_t yaml_requests;
static int64_t yaml_fail_at = -1;

static bool yaml_refused(void)
{
    return yaml_requests++ == yaml_fail_at;
}

void *yaml_malloc(size_t size)
{
    return yaml_refused() ? NULL : malloc(size ? size : 1);
}

void *yaml_realloc(void *memory, size_t size)
{
    if (yaml_refused()) return NULL;
    return memory != NULL ? realloc(memory, size ? size : 1) : malloc(size ? size : 1);
}

char *yaml_strdup(const char *text)
{
    return text == NULL || yaml_refused() ? NULL : strdup(text);
}

START_TEST(lack_of_memory_in_libyaml_leaves_nothing_behind)
{
    made m = {0};
    yaml_requests = 0;
    ck_assert_int_eq(act_parse(&m), LRK_OK);
    undo_config(&m);
    int64_t total = yaml_requests;
    ck_assert_int_gt(total, 20);
    int64_t live = host.live;
    for (int64_t i = 0; i < total; i++) {
        yaml_requests = 0;
        yaml_fail_at = i;
        lrk_status status = act_parse(&m);
        yaml_fail_at = -1;
        sets_expect(context, status, LRK_ERR_NOMEM, "the YAML parser");
        ck_assert_ptr_null(m.config);
        ck_assert_int_eq(host.live, live);
    }
    ck_assert_int_eq(act_parse(&m), LRK_OK);
    undo_config(&m);
}
END_TEST

Suite *config_faults_suite(void)
{
    Suite *suite = suite_create("config_faults");
    TCase *tests = tcase_create("config_faults");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, missing_arguments_are_named);
    tcase_add_test(tests, a_wrong_declaration_of_a_host_key_is_refused);
    tcase_add_test(tests, values_of_the_host_are_asked_for_by_name_and_type);
    tcase_add_test(tests, details_of_a_file_begin_with_its_path);
    tcase_add_test(tests, a_file_that_is_too_long_is_refused);
    tcase_add_test(tests, a_failing_override_changes_nothing);
    tcase_add_test(tests, an_override_needs_its_arguments);
    tcase_add_test(tests, a_value_by_override_is_not_looked_for_in_the_text);
    tcase_add_test(tests, lack_of_memory_leaves_nothing_behind);
    tcase_add_test(tests, lack_of_memory_in_libyaml_leaves_nothing_behind);
    suite_add_tcase(suite, tests);
    return suite;
}
