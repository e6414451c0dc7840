/* SPDX-License-Identifier: MIT */
/*
 * Texts that are wrong: each is refused with the line and column of what is wrong and words that name it, and leaves
 * nothing behind.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
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

static void refuse_bytes(const char *text, size_t length, int64_t line, int64_t column, const char *words)
{
    lrk_config *config = (lrk_config *)&host; /* must become NULL */
    int64_t live = host.live;
    lrk_status status = lrk_config_parse(context, text, length, configs_keys, 4, &config);
    ck_assert_msg(status != LRK_OK, "accepted: %.200s", text);
    configs_expect_at(context, status, LRK_ERR_CONFIG, line, column, words);
    ck_assert_ptr_null(config);
    ck_assert_int_eq(host.live, live);
}

/* ---- texts ----------------------------------------------------------------------------------------------------------- */

typedef struct wrong {
    const char *text;
    int line;
    int column;
    const char *words;
} wrong;

static const wrong keys[] = {
    {"sed: 1\n", 1, 1, "configuration:1:1: unknown key 'sed'"},
    {"seed: 1\n\n\"adapter\": {}\n", 3, 1, "unknown key 'adapter'"},
    {"adapters:\n  drop: 0.1\n", 2, 3, "unknown key 'drop' in adapters"},
    {"optimizer: {beta1: 0.5, beta3: 1}", 1, 25, "unknown key 'beta3' in optimizer"},
    {"adapters.dropout: 0.1\n", 1, 1, "unknown key 'adapters.dropout'"},
    {"adapters:\n  seed: 1\n", 2, 3, "unknown key 'seed' in adapters"},
    {"host: {epoch: 1}", 1, 8, "unknown key 'epoch' in host"},
    {"adapters:\n  modules:\n    - pattern: '*'\n      rank: 2\n      size: 3\n", 5, 7,
     "unknown key 'size' in adapters.modules"},
    {"allocation:\n  limits:\n    - {pattern: '*', rank: 2}\n", 3, 22,
     "unknown key 'rank' in allocation.limits"},
    {"seed: 1\nadapters: {}\nseed: 2\n", 3, 1, "key 'seed' stands twice, first in line 1"},
    {"optimizer:\n  beta1: 0.5\n  beta2: 0.5\n  'beta1': 0.5\n", 4, 3,
     "key 'beta1' stands twice, first in line 2"},
    {"adapters: {}\nadapters: {}\n", 2, 1, "key 'adapters' stands twice"},
    {"? [a]\n: 1\n", 1, 3, "a key must be a word"},
    {"{{a: 1}: 1}\n", 1, 2, "a key must be a word"},
    {"<<: {seed: 1}\n", 1, 1, "unknown key '<<'"},
};

static const wrong types[] = {
    {"7\n", 1, 1, "the text must be a map of sections"},
    {"- seed: 1\n", 1, 1, "the text must be a map of sections"},
    {"---\n...\n", 2, 1, "the text must be a map of sections"},
    {"seed: '7'\n", 1, 7, "seed: '7' is not a non-negative 64-bit integer"},
    {"seed: \"7\"\n", 1, 7, "is not a non-negative 64-bit integer"},
    {"seed: |\n  7\n", 1, 7, "is not a non-negative 64-bit integer"},
    {"seed: -1\n", 1, 7, "'-1' is not"},
    {"seed: -0\n", 1, 7, "'-0' is not"},
    {"seed: 18446744073709551616\n", 1, 7, "is not a non-negative 64-bit integer"},
    {"seed:\n", 1, 6, "seed: '' is not"},
    {"seed: ~\n", 1, 7, "seed: '~' is not"},
    {"seed: null\n", 1, 7, "seed: 'null' is not"},
    {"seed: [1]\n", 1, 7, "seed must be a single value"},
    {"seed: {a: 1}\n", 1, 7, "seed must be a single value"},
    {"adapters: 3\n", 1, 11, "adapters must be a map of keys"},
    {"adapters:\n", 1, 10, "adapters must be a map of keys"},
    {"adapters: [1]\n", 1, 11, "adapters must be a map of keys"},
    {"allocation: {n_move: 1.5}", 1, 22, "allocation.n_move: '1.5' is not a 64-bit integer"},
    {"allocation: {n_move: 1e3}", 1, 22, "is not a 64-bit integer"},
    {"allocation: {n_move: 0x10}", 1, 22, "is not a 64-bit integer"},
    {"allocation: {n_move: 010}", 1, 22, "is not a 64-bit integer"},
    {"allocation: {n_move: 1_000}", 1, 22, "is not a 64-bit integer"},
    {"allocation: {n_move: +5}", 1, 22, "is not a 64-bit integer"},
    {"allocation: {n_move: 9223372036854775808}", 1, 22, "is not a 64-bit integer"},
    {"allocation: {n_move: true}", 1, 22, "is not a 64-bit integer"},
    {"schedule: {rounds: 2147483648}", 1, 20, "schedule.rounds: '2147483648' is not a 32-bit integer"},
    {"schedule: {rounds: -2147483649}", 1, 20, "is not a 32-bit integer"},
    {"schedule: {rounds: two}", 1, 20, "is not a 32-bit integer"},
    {"allocation: {budget: many}", 1, 22, "allocation.budget: 'many' is not a 64-bit integer or initial"},
    {"adapters: {uniform: -2}", 1, 21, "uniform must be >= 0"},
    {"adapters: {ranks_from: [a]}", 1, 24, "adapters.ranks_from must be a text"},
    {"adapters: {ranks_from: ''}", 1, 24, "adapters.ranks_from must be a text"},
    {"adapters: {dropout: '0.1'}", 1, 21, "adapters.dropout: '0.1' is not a finite number"},
    {"adapters: {dropout: inf}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: .inf}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: -.Inf}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: nan}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: .nan}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: 0x1p-2}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: 1e999}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: 0.1.2}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: 00.1}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: .}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: 1e}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: 1e+}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: 1e1.5}", 1, 21, "is not a finite number"},
    {"adapters: {dropout: 10%}", 1, 21, "is not a finite number"},
    {"optimizer: {max_norm: infinity}", 1, 23, "is not a finite number or none"},
    {"importance:\n  mode: quick\n", 2, 9,
     "importance.mode: 'quick' is not one of exact, screened, two_point"},
    {"importance: {mode: 0}", 1, 20, "is not one of"},
    {"importance: {mode: Exact}", 1, 20, "is not one of"},
    {"allocation: {refill: yes}", 1, 22, "allocation.refill: 'yes' is not true or false"},
    {"allocation: {refill: 'true'}", 1, 22, "is not true or false"},
    {"allocation: {refill: True}", 1, 22, "is not true or false"},
    {"allocation: {refill: 1}", 1, 22, "is not true or false"},
    {"host: {epochs: 1.0}", 1, 16, "host.epochs: '1.0' is not a 64-bit integer"},
    {"host: {epochs: '2'}", 1, 16, "host.epochs: '2' is not"},
    {"host: {share: half}", 1, 15, "host.share: 'half' is not a finite number"},
    {"host: {shuffle: 1}", 1, 17, "host.shuffle: '1' is not true or false"},
    {"host: {shuffle: 'true'}", 1, 17, "host.shuffle: 'true' is not true or false"},
    {"host: {data: [a]}", 1, 14, "host.data must be a single value"},
};

static const wrong entries[] = {
    {"adapters: {modules: 3}", 1, 21, "adapters.modules must be a list with at least one entry"},
    {"adapters: {modules: []}", 1, 21, "adapters.modules must be a list with at least one entry"},
    {"adapters: {modules: {pattern: a, rank: 1}}", 1, 21, "adapters.modules must be a list"},
    {"adapters: {modules: [a]}", 1, 22, "an entry of adapters.modules must be a map"},
    {"adapters: {modules: [{rank: 1}]}", 1, 22, "an entry of adapters.modules lacks its pattern"},
    {"adapters: {modules: [{pattern: '', rank: 1}]}", 1, 32, "adapters.modules.pattern must be a text"},
    {"adapters: {modules: [{pattern: [a], rank: 1}]}", 1, 32, "adapters.modules.pattern must be a text"},
    {"adapters: {modules: [{pattern: a}]}", 1, 22, "an entry of adapters.modules lacks its rank"},
    {"adapters: {modules: [{pattern: a, rank: x}]}", 1, 41,
     "adapters.modules.rank: 'x' is not a 64-bit integer"},
    {"adapters: {modules: [{pattern: a, rank: 1, scale: 1, alpha: 2}]}", 1, 44, "both scale and alpha"},
    {"adapters: {modules: [{pattern: a, rank: 1, alpha_rule: sqrt}]}", 1, 44, "has alpha_rule but no alpha"},
    {"adapters: {modules: [{pattern: a, rank: 1, scale: 1, scale_rank: 4}]}", 1, 54,
     "has scale_rank but no alpha"},
    {"adapters: {modules: [{pattern: a, rank: 1, alpha: 1, alpha_rule: cubic}]}", 1, 66,
     "is not one of linear, sqrt"},
    {"adapters: {modules: [{pattern: a, rank: -1}]}", 1, 41, "pattern 'a': rank -1 is negative"},
    {"adapters:\n  modules:\n    - {pattern: b, rank: 1}\n    - {pattern: a, rank: 0, alpha: 4}\n", 4, 36,
     "alpha rule"},
    {"adapters: {modules: [{pattern: a, rank: 1, alpha: 1, scale_rank: -1}]}", 1, 66,
     "scale_rank is negative"},
    {"adapters:\n  modules:\n    - {pattern: a, rank: 1}\n    - {pattern: a, rank: 2}\n", 4, 17,
     "pattern 'a' stands twice in adapters.modules"},
    {"allocation: {limits: []}", 1, 22, "allocation.limits must be a list with at least one entry"},
    {"allocation: {limits: [{floor: 1}]}", 1, 23, "an entry of allocation.limits lacks its pattern"},
    {"allocation: {limits: [{pattern: a, floor: -1}]}", 1, 43, "floor must be >= 0 in limit 'a'"},
    {"allocation: {limits: [{pattern: a, cap: -2}]}", 1, 41, "cap must be >= 0"},
    {"allocation: {limits: [{pattern: a, cap: some}]}", 1, 41, "is not a 64-bit integer or none"},
    {"allocation: {limits: [{pattern: b}, {pattern: a, floor: 3, cap: 2}]}", 1, 57,
     "floor is above cap in limit 'a'"},
};

static const wrong bounds[] = {
    {"adapters:\n  init: zero\n  dropout: 1\n", 3, 12, "dropout 1 is not in [0, 1)"},
    {"adapters: {dropout: -0.1}", 1, 21, "dropout"},
    {"importance: {noise_floor_repeats: -1}", 1, 35, "noise_floor_repeats must be >= 0"},
    {"importance: {mode: two_point, noise_floor_repeats: 2}", 1, 52, "noise_floor_repeats must be 0"},
    {"importance: {pool: 0}", 1, 20, "pool must be >= 1"},
    {"importance: {pool: 3, pool_step: 0}", 1, 34, "pool_step must be >= 1"},
    {"importance: {pool: 3, pool_step: 2, pool_limit: 0}", 1, 49, "pool_limit must be >= 1"},
    {"importance: {mode: screened, pool: 9, pool_limit: 8}", 1, 51, "pool_limit must be >= 9"},
    {"importance: {beta2: 0.5, beta1: 1}", 1, 33, "beta1 must be in [0, 1)"},
    {"importance: {beta2: -0.5}", 1, 21, "beta2 must be in [0, 1)"},
    {"start: {batches: 0}", 1, 18, "batches must be >= 1"},
    {"start: {warmup: -1}", 1, 17, "warmup must be >= 0"},
    {"start: {kind: gradient, multiple: 0}", 1, 35, "multiple must be > 0"},
    {"start: {cap: 0}", 1, 14, "cap must be >= 1"},
    {"start: {length: 0}", 1, 17, "length must be > 0"},
    {"start: {directions: 0}", 1, 21, "directions must be >= 1"},
    {"start: {directions: 8, samples: 8}", 1, 33, "samples must be above directions"},
    {"start: {kind: eva, rho: 0}", 1, 25, "rho must be > 0"},
    {"start: {kind: eva, tau: 2}", 1, 25, "tau must be in (0, 1]"},
    {"start: {batch_rows: 0}", 1, 21, "batch_rows must be >= 1"},
    {"start: {discard: 1}", 1, 18, "discard must be in [0, 1)"},
    {"start: {gamma: 0}", 1, 16, "gamma must be > 0"},
    {"start: {iterations: -1}", 1, 21, "iterations must be >= 0"},
    {"start: {descent: -1}", 1, 18, "descent must be >= 0"},
    {"start: {least: 5}", 1, 16, "least must be in [0, most]"},
    {"start: {most: -1}", 1, 15, "most must be in [0, 1e6]"},
    {"allocation: {n_move: -1}", 1, 22, "n_move must be >= 1"},
    {"allocation: {move_share: 1.5}", 1, 26, "move_share must be in (0, 1]"},
    {"allocation: {move_share: -0.1}", 1, 26, "move_share must be in (0, 1]"},
    {"allocation: {move_share: 0.5, n_move: 3}", 1, 39, "n_move or move_share must be set, and not both"},
    {"allocation: {budget_unit: ranks, budget: -2}", 1, 42, "budget must be >= 0"},
    {"allocation: {protect_rounds: -1}", 1, 30, "protect_rounds must be >= 0"},
    {"optimizer: {beta2: 0.5, beta1: 1}", 1, 32, "beta1 must be in [0, 1)"},
    {"optimizer: {beta2: -0.5}", 1, 20, "beta2 must be in [0, 1)"},
    {"optimizer: {epsilon: 0}", 1, 22, "epsilon must be > 0"},
    {"optimizer: {weight_decay: -1}", 1, 27, "weight_decay must be >= 0"},
    {"optimizer: {b_ratio: 0}", 1, 22, "b_ratio must be > 0"},
    {"optimizer: {max_norm: 0}", 1, 23, "max_norm must be > 0"},
    {"learning_rate: {peak: 0}", 1, 23, "peak must be > 0"},
    {"learning_rate: {final_ratio: 1.5}", 1, 30, "final_ratio must be in [0, 1]"},
    {"learning_rate: {warmup_steps: -1}", 1, 31, "warmup_steps must be >= 0"},
    {"learning_rate: {warmup_share: 1}", 1, 31, "warmup_share must be in [0, 1)"},
    {"learning_rate: {warmup_share: -0.5}", 1, 31, "warmup_share must be in [0, 1)"},
    {"learning_rate: {warmup_steps: 3, warmup_share: 0.1}", 1, 48,
     "warmup_share and warmup_steps exclude each other"},
    {"learning_rate: {warmup_steps: 9223372036854775807}", 1, 31, "warmup_steps"},
    {"schedule: {rounds: -1}", 1, 20, "rounds must be >= 0"},
    {"schedule: {warmup: -1}", 1, 20, "warmup must be >= 0"},
    {"schedule: {warmup: 1, recovery: -2}", 1, 33, "recovery must be >= 0"},
    {"host: {epochs: 0}", 1, 16, "host.epochs must be in [1, 9], not 0"},
    {"host: {epochs: 10}", 1, 16, "host.epochs must be in [1, 9], not 10"},
    {"host: {share: 1.5}", 1, 15, "host.share must be in [0, 1], not 1.5"},
};

static const wrong yaml[] = {
    {"seed: *a\n", 1, 7, "aliases are not accepted"},
    {"host: {data: x}\nadapters: *a\n", 2, 11, "aliases are not accepted"},
    {"*a : 1\n", 1, 1, "aliases are not accepted"},
    {"seed: &a 1\n", 1, 7, "anchors are not accepted"},
    {"adapters: &a {}\n", 1, 11, "anchors are not accepted"},
    {"adapters: {modules: &a []}\n", 1, 21, "anchors are not accepted"},
    {"&a seed: 1\n", 1, 1, "anchors are not accepted"},
    {"seed: !!int 1\n", 1, 7, "tags are not accepted"},
    {"seed: !x 1\n", 1, 7, "tags are not accepted"},
    {"seed: ! 1\n", 1, 7, "tags are not accepted"},
    {"host: {data: ! 'a'}\n", 1, 14, "tags are not accepted"},
    {"adapters: !!map {}\n", 1, 11, "tags are not accepted"},
    {"adapters: {modules: ! [a]}\n", 1, 21, "tags are not accepted"},
    {"!!str seed: 1\n", 1, 1, "tags are not accepted"},
    {"seed: 1\n---\nseed: 2\n", 2, 1, "a second document is not accepted"},
    {"seed: 1\n...\n---\n{}\n", 3, 1, "a second document is not accepted"},
    {"adapters:\n\tdropout: 0\n", 2, 1, "found character that cannot start any token"},
    {"adapters: {dropout: 0\n", 2, 1, "did not find expected"},
    {"adapters: {modules: [}\n", 1, 22, "did not find expected node content"},
    {"adapters:\n  init: zero\n dropout: 0\n", 3, 2, "did not find expected"},
    {"seed: 'x\n", 2, 1, "found unexpected end of stream"},
    {"seed: @\n", 1, 7, "found character that cannot start any token"},
    {"host: {data: \"\\q\"}\n", 1, 15, "found unknown escape character"},
    {"host:\n  data: \"a\\0b\"\n", 2, 9, "a value holds a NUL character"},
    {"%YAML 2.0\n---\nseed: 1\n", 1, 1, "found incompatible YAML document"},
    {"seed: 1\nho\xff: 2\n", 2, 3, "invalid leading UTF-8 octet"},
    {"# \xc3\xa4\xe2\x82\xac\n\xc3\xa4\xf0\x9f\x98\x80 \xc3(: 2\n", 2, 5, "invalid trailing UTF-8 octet"},
    {"seed: 1\nse\xc3", 2, 3, "incomplete UTF-8 octet sequence"},
    {"seed: \x01\n", 1, 7, "control characters are not allowed"},
    {"\xff\xfes\n", 1, 1, "invalid leading UTF-8 octet"},
    {"\xc3\xa4\xc3\xa4: \xc3\xa4 # wide\n\xe2\x82\xac: {\xf0\x9f\x98\x80: *x}\n", 2, 8,
     "aliases are not accepted"},
    {"{a: {a: {a: {a: {a: {a: {a: {a: {}}}}}}}}}\n", 1, 33, "nested deeper than 8 levels"},
    {"[[[[[[[[[1]]]]]]]]]\n", 1, 9, "nested deeper than 8 levels"},
};

#define TABLE(name)                                                                                          \
    {                                                                                                        \
#name, name, sizeof name / sizeof *name                                                              \
    }

static const struct {
    const char *name;
    const wrong *rows;
    size_t n;
} tables[] = {TABLE(keys), TABLE(types), TABLE(entries), TABLE(bounds), TABLE(yaml)};

START_TEST(a_wrong_text_is_refused_where_it_is_wrong)
{
    for (size_t i = 0; i < tables[_i].n; i++) {
        const wrong *w = &tables[_i].rows[i];
        refuse_bytes(w->text, strlen(w->text), w->line, w->column, w->words);
    }
}
END_TEST

START_TEST(eight_levels_are_accepted_by_the_reader)
{
    refuse_bytes("{a: {a: {a: {a: {a: {a: {a: {}}}}}}}}\n", 37, 1, 2, "unknown key 'a'");
}
END_TEST

START_TEST(a_nul_byte_in_the_text_is_refused)
{
    refuse_bytes("seed: 1\0\n", 9, 1, 8, "control characters are not allowed");
}
END_TEST

START_TEST(the_size_is_limited)
{
    size_t n = LRKI_CONFIG_MAX_BYTES;
    char *text = malloc(n + 1);
    ck_assert_ptr_nonnull(text);
    memset(text, '#', n + 1);
    refuse_bytes(text, n + 1, 1, 1, "longer than 1048576 bytes");
    lrk_config *config = NULL;
    ck_assert_int_eq(lrk_config_parse(context, text, n, NULL, 0, &config), LRK_OK);
    lrk_config_destroy(config);
    free(text);
}
END_TEST

START_TEST(the_number_of_entries_is_limited)
{
    char *text = malloc(1 << 16);
    ck_assert_ptr_nonnull(text);
    size_t used = 0;
    for (int i = 0; i < LRKI_CONFIG_MAX_ENTRIES; i++)
        used += (size_t)sprintf(text + used, "k%d: 1\n", i);
    refuse_bytes(text, used, 1, 1, "unknown key 'k0'");
    used += (size_t)sprintf(text + used, "more: 1\n");
    refuse_bytes(text, used, LRKI_CONFIG_MAX_ENTRIES + 1, 1, "more than 1024 entries in one map or list");
    used = (size_t)sprintf(text, "seed: [");
    for (int i = 0; i < LRKI_CONFIG_MAX_ENTRIES; i++)
        used += (size_t)sprintf(text + used, "1,");
    refuse_bytes(text, used + (size_t)sprintf(text + used, "]"), 1, 7, "seed must be a single value");
    refuse_bytes(text, used + (size_t)sprintf(text + used, "1]"), 1, 8 + 2 * LRKI_CONFIG_MAX_ENTRIES,
                 "more than 1024");
    free(text);
}
END_TEST

Suite *config_errors_suite(void)
{
    Suite *suite = suite_create("config_errors");
    TCase *tests = tcase_create("config_errors");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_wrong_text_is_refused_where_it_is_wrong, 0, sizeof tables / sizeof *tables);
    tcase_add_test(tests, eight_levels_are_accepted_by_the_reader);
    tcase_add_test(tests, a_nul_byte_in_the_text_is_refused);
    tcase_add_test(tests, the_size_is_limited);
    tcase_add_test(tests, the_number_of_entries_is_limited);
    suite_add_tcase(suite, tests);
    return suite;
}
