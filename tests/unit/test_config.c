/* SPDX-License-Identifier: MIT */
/*
 * Configurations that are right: every key arrives where the C API has it, words and numbers in all their forms, lists, keys
 * of the host, overrides. What is refused, and where: test_config_errors.c.
 */
#include <check.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "configs.h"
#include "lorank/lorank.h"

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

/* ---- every key ------------------------------------------------------------------------------------------------------- */

typedef struct sample {
    const char *section;
    const char *name;
    const char *text;
    double value;
} sample;

/* A value other than the default for every key of the tables. */
static const sample samples[] = {
    {"", "seed", "18446744073709551615", 18446744073709551615.0},
    {"adapters", "dropout", "0.25", 0.25},
    {"adapters", "init", "gaussian", LRK_INIT_GAUSSIAN},
    {"adapters", "gates", "gaussian", LRK_GATES_GAUSSIAN},
    {"adapters", "nested", "frozen", LRK_NESTED_FROZEN},
    {"adapters", "uniform", "160", 160},
    {"adapters", "uniform_unit", "parameters", LRK_BUDGET_PARAMETERS},
    {"start", "kind", "gradient", LRKI_START_gradient},
    {"start", "batches", "5", 5},
    {"start", "warmup", "7", 7},
    {"start", "multiple", "1.5", 1.5},
    {"start", "cap", "12", 12},
    {"start", "length", "0.25", 0.25},
    {"start", "tolerate", "true", LRK_GRADIENT_START_TOLERATE},
    {"start", "ranks_only", "true", LRK_GRADIENT_START_RANKS_ONLY},
    {"start", "directions", "6", 6},
    {"start", "samples", "31", 31},
    {"start", "rho", "1.5", 1.5},
    {"start", "tau", "0.875", 0.875},
    {"start", "batch_rows", "64", 64},
    {"start", "whiten", "true", LRK_EVA_WHITEN},
    {"start", "estimate", "mle", LRK_TWONN_MLE},
    {"start", "discard", "0.25", 0.25},
    {"start", "gamma", "9", 9},
    {"start", "iterations", "3", 3},
    {"start", "descent", "0.1", 0.1},
    {"start", "least", "0.25", 0.25},
    {"start", "most", "8", 8},
    {"importance", "estimator", "random", LRKI_CHOSEN_random},
    {"importance", "mode", "two_point", LRK_ABLATION_TWO_POINT},
    {"importance", "noise_floor_repeats", "3", 3},
    {"importance", "pool", "24", 24},
    {"importance", "pool_step", "7", 7},
    {"importance", "pool_limit", "90", 90},
    {"importance", "reversed", "true", 1},
    {"importance", "beta1", "0.8", 0.8},
    {"importance", "beta2", "0.9", 0.9},
    {"importance", "sensitivity", "pair", LRK_SENSITIVITY_PAIR},
    {"importance", "corrected", "true", LRK_SENSITIVITY_CORRECTED},
    {"importance", "taylor", "signed", LRK_TAYLOR_SIGNED},
    {"importance", "output", "module", LRK_OUTPUT_MODULE},
    {"importance", "steps", "5", 5},
    {"importance", "rate", "0.25", 0.25},
    {"importance", "window", "12", 12},
    {"importance", "window_last", "300", 300},
    {"importance", "correlation", "0.75", 0.75},
    {"importance", "slope", "1.5", 1.5},
    {"allocation", "policy", "fixed", LRKI_POLICY_fixed},
    {"allocation", "n_move", "6", 6},
    {"allocation", "move_share", "0.03", 0.03},
    {"allocation", "budget", "128", 128},
    {"allocation", "budget_unit", "parameters", LRK_BUDGET_PARAMETERS},
    {"allocation", "unpruned", "ever", LRK_UNPRUNED_EVER},
    {"allocation", "scope", "per_stage", LRK_SCOPE_PER_STAGE},
    {"allocation", "no_receiver", "keep", LRK_NO_RECEIVER_KEEP},
    {"allocation", "new_rank_init", "gaussian", LRK_INIT_GAUSSIAN},
    {"allocation", "protect_rounds", "2", 2},
    {"allocation", "refill", "true", LRK_ALORA_REFILL},
    {"allocation", "nominees", "3", 3},
    {"allocation", "n_move_last", "1", 1},
    {"allocation", "n_rounds", "8", 8},
    {"allocation", "grow_modules", "2", 2},
    {"allocation", "grow_ranks", "3", 3},
    {"allocation", "module_score", "mean", LRK_MODULE_MEAN},
    {"allocation", "threshold", "1e-3", 1e-3},
    {"optimizer", "beta1", "0.8", 0.8},
    {"optimizer", "beta2", "0.99", 0.99},
    {"optimizer", "epsilon", "1e-6", 1e-6},
    {"optimizer", "weight_decay", "0.1", 0.1},
    {"optimizer", "b_ratio", "16", 16},
    {"optimizer", "max_norm", "1", 1},
    {"optimizer", "steps", "global", LRK_STEPS_GLOBAL},
    {"optimizer", "train_gates", "true", LRK_ADAMW_GATES},
    {"optimizer", "gate_rule", "twice", LRK_GATE_TWICE},
    {"optimizer", "gate_ratio", "2", 2},
    {"optimizer", "gate_l1", "0.1", 0.1},
    {"optimizer", "gate_threshold", "3e-4", 3e-4},
    {"optimizer", "gate_scaled", "true", LRK_ADAMW_GATE_SCALED},
    {"optimizer", "gate_dense_steps", "250", 250},
    {"optimizer", "gate_rise_steps", "240", 240},
    {"optimizer", "gate_stairs", "50", 50},
    {"optimizer", "orthogonality", "0.1", 0.1},
    {"optimizer", "orthogonality_squared", "true", LRK_ADAMW_ORTHOGONALITY_SQUARED},
    {"learning_rate", "kind", "cosine", LRK_LR_COSINE},
    {"learning_rate", "peak", "2e-3", 2e-3},
    {"learning_rate", "final_ratio", "0.1", 0.1},
    {"learning_rate", "warmup_steps", "11", 11},
    {"learning_rate", "warmup_share", "0.06", 0.06},
    {"schedule", "unit", "epochs", LRK_UNIT_EPOCHS},
    {"schedule", "rounds", "5", 5},
    {"schedule", "warmup", "1.5", 1.5},
    {"schedule", "recovery", "0.5", 0.5},
};

enum { N_SAMPLES = sizeof samples / sizeof *samples };

static double stored(const lrki_setting *setting, const lrki_settings *settings)
{
    const char *slot = (const char *)settings + setting->base + setting->key->offset;
    switch (setting->key->type) {
    case LRKI_KEY_INTEGER:
        return (double)*(const int64_t *)slot;
    case LRKI_KEY_UNSIGNED:
        return (double)*(const uint64_t *)slot;
    case LRKI_KEY_REAL:
        return *(const double *)slot;
    case LRKI_KEY_FLAG:
        return *(const uint32_t *)slot;
    default:
        return *(const int32_t *)slot;
    }
}

static void write_key(const lrki_key *key, const char *value, char text[160])
{
    if (*key->section == '\0')
        snprintf(text, 160, "%s: %s\n", key->name, value);
    else
        snprintf(text, 160, "%s:\n  %s: %s\n", key->section, key->name, value);
}

START_TEST(every_key_of_the_table_has_a_sample)
{
    int n = 0;
    lrki_setting s;
    for (; lrki_setting_at(n, &s); n++) {
        lrki_setting first;
        bool found = false;
        for (int i = 0; i < N_SAMPLES; i++)
            found |=
                strcmp(samples[i].section, s.key->section) == 0 && strcmp(samples[i].name, s.key->name) == 0;
        ck_assert_msg(found, "%s.%s", s.key->section, s.key->name);
        ck_assert(lrki_setting_find(s.key->section, s.key->name, &first));
        ck_assert_msg(first.index == n, "%s.%s stands twice", s.key->section, s.key->name);
    }
    ck_assert_int_eq(n, N_SAMPLES);
    ck_assert_int_lt(n, LRKI_MAX_KEYS);
}
END_TEST

START_TEST(the_words_of_a_key_can_be_listed)
{
    ck_assert_str_eq(lrk_config_word("importance.estimator", 0), "ablation");
    ck_assert_str_eq(lrk_config_word("importance.estimator", 5), "gate");
    ck_assert_str_eq(lrk_config_word("importance.estimator", 6), "output");
    ck_assert_str_eq(lrk_config_word("importance.estimator", 7), "selection");
    ck_assert_str_eq(lrk_config_word("importance.estimator", 8), "salience");
    ck_assert_ptr_null(lrk_config_word("importance.estimator", 9));
    ck_assert_str_eq(lrk_config_word("allocation.policy", 1), "elalora");
    ck_assert_ptr_null(lrk_config_word("allocation.policy", -1));
    ck_assert_ptr_null(lrk_config_word("allocation.n_move", 0));
    ck_assert_ptr_null(lrk_config_word("allocation.polic", 0));
    ck_assert_ptr_null(lrk_config_word("allocation.", 0));
    ck_assert_ptr_null(lrk_config_word("seed", 0));
    ck_assert_ptr_null(lrk_config_word("", 0));
    ck_assert_ptr_null(lrk_config_word(NULL, 0));
}
END_TEST

START_TEST(every_method_has_a_summary_of_its_own)
{
    static const char *const keys[] = {"importance.estimator", "allocation.policy", "start.kind"};
    int n = 0;
    for (int k = 0; k < 3; k++) {
        int64_t i = 0;
        for (; lrk_config_word(keys[k], i) != NULL; i++, n++) {
            ck_assert_ptr_nonnull(lrk_config_summary(keys[k], i));
            for (int64_t j = 0; j < i; j++)
                ck_assert_str_ne(lrk_config_summary(keys[k], i), lrk_config_summary(keys[k], j));
        }
        ck_assert_ptr_null(lrk_config_summary(keys[k], i));
        ck_assert_ptr_null(lrk_config_summary(keys[k], -1));
    }
    ck_assert_int_eq(n, LRKI_N_METHODS);
    ck_assert_str_eq(lrk_config_summary("allocation.policy", 6), "plain LoRA: no rank moves, no rounds");
    ck_assert_ptr_null(lrk_config_summary("adapters.init", 0));
    ck_assert_ptr_null(lrk_config_summary(NULL, 0));
}
END_TEST

START_TEST(a_key_arrives_and_changes_nothing_else)
{
    const sample *s = &samples[_i];
    lrki_setting at;
    char text[160];
    ck_assert(lrki_setting_find(s->section, s->name, &at));
    write_key(at.key, s->text, text);
    lrk_config *config = parse(text);
    lrki_settings defaults;
    lrki_settings_default(&defaults);
    ck_assert(stored(&at, &config->settings) == s->value);
    ck_assert(!(stored(&at, &defaults) == s->value));
    lrki_settings rest = config->settings;
    lrki_scalar_copy(at.key, (char *)&defaults + at.base, (char *)&rest + at.base);
    memset(rest.marks, 0, sizeof rest.marks);
    memset(rest.sections, 0, sizeof rest.sections);
    ck_assert_mem_eq(&rest, &defaults, sizeof rest);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(a_key_arrives_by_override_too)
{
    const sample *s = &samples[_i];
    lrki_setting at;
    char name[80];
    ck_assert(lrki_setting_find(s->section, s->name, &at));
    snprintf(name, sizeof name, "%s%s%s", s->section, *s->section != '\0' ? "." : "", s->name);
    lrk_config *config = parse("");
    configs_ok(context, lrk_config_override(config, name, s->text));
    ck_assert(stored(&at, &config->settings) == s->value);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(every_word_stands_for_its_constant)
{
    lrki_setting at;
    for (int i = 0; lrki_setting_at(i, &at); i++) {
        for (const lrki_word *word = at.key->words; word != NULL && word->word != NULL; word++) {
            char text[160];
            char quoted[64];
            write_key(at.key, word->word, text);
            lrk_config *config = parse(text);
            ck_assert(stored(&at, &config->settings) == word->value);
            lrk_config_destroy(config);
            snprintf(quoted, sizeof quoted, "\"%s\"", word->word);
            write_key(at.key, quoted, text);
            config = parse(text);
            ck_assert(stored(&at, &config->settings) == word->value);
            lrk_config_destroy(config);
        }
    }
}
END_TEST

START_TEST(an_empty_text_gives_the_defaults_of_the_c_api)
{
    static const char *const texts[] = {"", "\n\n", "# only a comment\n", "{}",
                                        "\xef\xbb\xbf# with a mark\n"};
    lrki_settings defaults;
    lrki_settings_default(&defaults);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        lrk_config *config = parse(texts[i]);
        ck_assert_mem_eq(&config->settings, &defaults, sizeof defaults);
        ck_assert_uint_eq(lrk_config_seed(config), 0);
        lrk_config_destroy(config);
    }
    lrk_adamw_options adamw;
    ck_assert_int_eq(lrk_adamw_options_init(&adamw, sizeof adamw), LRK_OK);
    ck_assert_mem_eq(&defaults.adamw, &adamw, sizeof adamw);
}
END_TEST

static const lrk_ablation_options *ablation_of(const lrk_config *config)
{
    return lrki_method_options_of(&config->settings, &lrki_estimator_ablation.method);
}

static const lrk_alora_options *alora_of(const lrk_config *config)
{
    return lrki_method_options_of(&config->settings, &lrki_policy_alora.method);
}

START_TEST(numbers_may_be_written_in_the_usual_ways)
{
    static const sample forms[] = {{"", "", "5", 5},          {"", "", "0.5", 0.5},  {"", "", ".5", 0.5},
                                   {"", "", "5.", 5},         {"", "", "5e-1", 0.5}, {"", "", "5E+1", 50},
                                   {"", "", "0.125e2", 12.5}, {"", "", "0", 0},      {"", "", "-0", 0},
                                   {"", "", "1e-400", 0},     {"", "", "17e00", 17}, {"", "", "0.1", 0.1}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char text[80];
        snprintf(text, sizeof text, "optimizer: {weight_decay: %s}", forms[i].text);
        lrk_config *config = parse(text);
        ck_assert_msg(config->settings.adamw.weight_decay == forms[i].value, "%s", forms[i].text);
        lrk_config_destroy(config);
    }
    lrk_config *config = parse("schedule: {rounds: 2147483647}\nimportance: {pool: 9223372036854775807}\n"
                               "allocation: {budget: -1}\n");
    ck_assert_int_eq(config->settings.schedule.rounds, INT32_MAX);
    ck_assert_int_eq(ablation_of(config)->pool, INT64_MAX);
    ck_assert_int_eq(config->settings.budget, LRK_BUDGET_INITIAL);
    lrk_config_destroy(config);
}
END_TEST

/* Debian's minimal installations have no such locale; there the test says nothing. */
START_TEST(a_decimal_comma_in_the_locale_changes_nothing)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "nl_NL.UTF-8", "pl_PL.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (setlocale(LC_ALL, names[i]) == NULL) continue;
        ck_assert_str_eq(localeconv()->decimal_point, ",");
        lrk_config *config = parse("optimizer: {weight_decay: 0.5}");
        ck_assert(config->settings.adamw.weight_decay == 0.5);
        ck_assert_str_eq(localeconv()->decimal_point, ",");
        lrk_config_destroy(config);
        setlocale(LC_ALL, "C");
        return;
    }
}
END_TEST

/* ---- lists ----------------------------------------------------------------------------------------------------------- */

START_TEST(entries_of_modules_arrive_in_order)
{
    lrk_config *config = parse("adapters:\n"
                               "  modules:\n"
                               "    - {pattern: '*.q', rank: 4, scale: 2.5}\n"
                               "    - pattern: \"*.k\"\n"
                               "      rank: 3\n"
                               "      alpha: 16\n"
                               "      may_lack_gradient: true\n"
                               "    - {pattern: '*.v', rank: 0, alpha: 8, alpha_rule: sqrt, scale_rank: 4}\n"
                               "    - {pattern: '*', rank: 1, alpha: 2, alpha_rule: linear}\n");
    ck_assert_int_eq(config->n_patterns, 4);
    const lrk_module_pattern *p[4];
    for (int i = 0; i < 4; i++)
        p[i] = &config->patterns[i].pattern;
    ck_assert_str_eq(p[0]->pattern, "*.q");
    ck_assert_int_eq(p[0]->rank, 4);
    ck_assert_int_eq(p[0]->scale_rule, LRK_SCALE_EXPLICIT);
    ck_assert(p[0]->scale == 2.5);
    ck_assert_uint_eq(p[0]->flags, 0);
    ck_assert_str_eq(p[1]->pattern, "*.k");
    ck_assert_int_eq(p[1]->scale_rule, LRK_SCALE_ALPHA);
    ck_assert(p[1]->scale == 16);
    ck_assert_uint_eq(p[1]->flags, LRK_MODULE_MAY_LACK_GRADIENT);
    ck_assert_int_eq(p[2]->scale_rule, LRK_SCALE_ALPHA_SQRT);
    ck_assert_int_eq(p[2]->scale_rank, 4);
    ck_assert_int_eq(p[3]->scale_rule, LRK_SCALE_ALPHA);
    ck_assert(p[3]->scale == 2);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(entries_of_limits_arrive_in_order)
{
    lrk_config *config = parse("allocation:\n"
                               "  limits:\n"
                               "    - {pattern: 'a', floor: 1, cap: 9}\n"
                               "    - {pattern: 'b', cap: none}\n"
                               "    - {pattern: 'c', floor: 2}\n");
    ck_assert_int_eq(config->n_limits, 3);
    ck_assert_str_eq(config->limits[0].limit.pattern, "a");
    ck_assert_int_eq(config->limits[0].limit.floor, 1);
    ck_assert_int_eq(config->limits[0].limit.cap, 9);
    ck_assert_int_eq(config->limits[1].limit.floor, 0);
    ck_assert_int_eq(config->limits[1].limit.cap, LRK_NO_CAP);
    ck_assert_int_eq(config->limits[2].limit.floor, 2);
    ck_assert_int_eq(config->limits[2].limit.cap, LRK_NO_CAP);
    lrk_config_destroy(config);
}
END_TEST

/* ---- keys of the host ------------------------------------------------------------------------------------------------ */

#define HOST_KEY(type_, name_, ...)                                                                          \
    {                                                                                                        \
        .struct_size = sizeof(lrk_config_key), .type = type_, .name = name_, __VA_ARGS__                     \
    }

static const lrk_config_key host_keys[] = {
    HOST_KEY(LRK_VALUE_INTEGER, "epochs", .least = 1, .greatest = 100, .default_number = 3),
    HOST_KEY(LRK_VALUE_REAL, "share", .least = 0, .greatest = 1, .default_number = -1),
    HOST_KEY(LRK_VALUE_TEXT, "data", .default_text = "none"),
    HOST_KEY(LRK_VALUE_TEXT, "model", .default_text = NULL),
    HOST_KEY(LRK_VALUE_BOOLEAN, "shuffle", .default_number = 1)};

static void expect_host(const lrk_config *config, int64_t epochs, double share, const char *data,
                        const char *model, int32_t shuffle)
{
    int64_t integer;
    double real;
    int32_t flag;
    const char *text;
    configs_ok(context, lrk_config_integer(config, "epochs", &integer));
    ck_assert_int_eq(integer, epochs);
    configs_ok(context, lrk_config_real(config, "share", &real));
    ck_assert(real == share);
    configs_ok(context, lrk_config_text(config, "data", &text));
    ck_assert_str_eq(text, data);
    configs_ok(context, lrk_config_text(config, "model", &text));
    ck_assert_pstr_eq(text, model);
    configs_ok(context, lrk_config_boolean(config, "shuffle", &flag));
    ck_assert_int_eq(flag, shuffle);
}

START_TEST(host_keys_have_their_defaults)
{
    lrk_config *config = configs_parse(context, "seed: 4\n", host_keys, 5);
    expect_host(config, 3, -1, "none", NULL, 1);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(host_keys_are_read_and_overridden)
{
    lrk_config *config = configs_parse(
        context, "host: {epochs: 7, share: 0.5, data: a b, model: '12', shuffle: false}\n", host_keys, 5);
    expect_host(config, 7, 0.5, "a b", "12", 0);
    configs_ok(context, lrk_config_override(config, "host.epochs", "100"));
    configs_ok(context, lrk_config_override(config, "host.share", "1"));
    configs_ok(context, lrk_config_override(config, "host.data", "x: [y"));
    configs_ok(context, lrk_config_override(config, "host.model", ""));
    configs_ok(context, lrk_config_override(config, "host.shuffle", "true"));
    expect_host(config, 100, 1, "x: [y", "", 1);
    lrk_config_destroy(config);
}
END_TEST

typedef struct wide_key {
    lrk_config_key key;
    uint64_t later;
} wide_key;

START_TEST(host_keys_step_by_the_first_ones_size)
{
    wide_key keys[2] = {{.key = host_keys[0]}, {.key = host_keys[4]}};
    keys[0].key.struct_size = keys[1].key.struct_size = sizeof keys[0];
    lrk_config *config = configs_parse(context, "host: {epochs: 9}", &keys[0].key, 2);
    int64_t epochs;
    int32_t shuffle;
    configs_ok(context, lrk_config_integer(config, "epochs", &epochs));
    configs_ok(context, lrk_config_boolean(config, "shuffle", &shuffle));
    ck_assert_int_eq(epochs, 9);
    ck_assert_int_eq(shuffle, 1);
    lrk_config_destroy(config);
}
END_TEST

/* ---- overrides ------------------------------------------------------------------------------------------------------- */

START_TEST(an_override_of_one_of_two_rivals_unsets_the_other)
{
    lrk_config *config = parse("allocation: {move_share: 0.03}\nlearning_rate: {warmup_steps: 5}\n");
    configs_ok(context, lrk_config_override(config, "allocation.n_move", "4"));
    ck_assert_int_eq(config->settings.n_move, 4);
    ck_assert(alora_of(config)->move_share == 0);
    configs_ok(context, lrk_config_override(config, "allocation.move_share", "0.5"));
    ck_assert_int_eq(config->settings.n_move, 0);
    ck_assert(alora_of(config)->move_share == 0.5);
    configs_ok(context, lrk_config_override(config, "learning_rate.warmup_share", "0.1"));
    ck_assert_int_eq(config->settings.lr.warmup_steps, 0);
    configs_ok(context, lrk_config_override(config, "learning_rate.warmup_steps", "8"));
    ck_assert(isnan(config->settings.warmup_share));
    lrk_config_destroy(config);
}
END_TEST

Suite *config_suite(void)
{
    Suite *suite = suite_create("config");
    TCase *tests = tcase_create("config");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, every_key_of_the_table_has_a_sample);
    tcase_add_test(tests, the_words_of_a_key_can_be_listed);
    tcase_add_test(tests, every_method_has_a_summary_of_its_own);
    tcase_add_loop_test(tests, a_key_arrives_and_changes_nothing_else, 0, N_SAMPLES);
    tcase_add_loop_test(tests, a_key_arrives_by_override_too, 0, N_SAMPLES);
    tcase_add_test(tests, every_word_stands_for_its_constant);
    tcase_add_test(tests, an_empty_text_gives_the_defaults_of_the_c_api);
    tcase_add_test(tests, numbers_may_be_written_in_the_usual_ways);
    tcase_add_test(tests, a_decimal_comma_in_the_locale_changes_nothing);
    tcase_add_test(tests, entries_of_modules_arrive_in_order);
    tcase_add_test(tests, entries_of_limits_arrive_in_order);
    tcase_add_test(tests, host_keys_have_their_defaults);
    tcase_add_test(tests, host_keys_are_read_and_overridden);
    tcase_add_test(tests, host_keys_step_by_the_first_ones_size);
    tcase_add_test(tests, an_override_of_one_of_two_rivals_unsets_the_other);
    suite_add_tcase(suite, tests);
    return suite;
}
