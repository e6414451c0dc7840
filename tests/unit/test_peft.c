/* SPDX-License-Identifier: MIT */
/*
 * Saving and loading PEFT directories: bits come back whatever scale and gates are, PEFT's own arithmetic gives the
 * adapter's, the configuration says what PEFT reads, and everything that is wrong is refused without a trace.
 */
#include <check.h>
#include <math.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "fault.h"
#include "formats/file.h"
#include "json_fault.h"
#include "lorank/lorank.h"
#include "scratch.h"
#include "sets.h"

static fault host;
static lrk_context *context;
static scratch files;
static char dir[2 * SCRATCH_PATH];

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    scratch_init(&files);
    snprintf(dir, sizeof dir, "%s/adapter", files.dir);
}

static void teardown(void)
{
    lrk_context_destroy(context);
    scratch_fini(&files);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static const char *in_dir(const char *name)
{
    static char path[3 * SCRATCH_PATH];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static lrk_peft_options with_alpha(double alpha)
{
    lrk_peft_options options;
    ck_assert_int_eq(lrk_peft_options_init(&options, sizeof options), LRK_OK);
    options.alpha = alpha;
    return options;
}

static void save(const lrk_adapters *adapters, double alpha)
{
    char text[256];
    lrk_peft_options options = with_alpha(alpha);
    lrk_status status = lrk_peft_save(adapters, dir, &options);
    lrk_context_error(context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s: %s", lrk_status_name(status), text);
}

static lrk_adapters *load(const lrk_adapters_options *options)
{
    char text[256];
    lrk_adapters *adapters;
    lrk_status status = lrk_peft_load(context, dir, options, &adapters);
    lrk_context_error(context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s: %s", lrk_status_name(status), text);
    return adapters;
}

/* ---- equality of sets ---- */

static void same_tensor(const lrk_adapters *a, const lrk_adapters *b, int32_t module, int32_t which)
{
    lrk_tensor x = sets_tensor(a, module, which), y = sets_tensor(b, module, which);
    ck_assert_int_eq(x.rows, y.rows);
    ck_assert_int_eq(x.cols, y.cols);
    if (x.rows > 0) ck_assert_mem_eq(x.data, y.data, (size_t)(x.rows * x.cols) * sizeof *x.data);
}

static void same_module(const lrk_adapters *a, const lrk_adapters *b, int32_t module)
{
    lrk_module_info x = {.struct_size = sizeof x}, y = {.struct_size = sizeof y};
    const uint64_t *x_ids, *y_ids;
    const int64_t *x_births, *y_births;
    int64_t n, m;
    ck_assert_int_eq(lrk_adapters_module(a, module, &x), LRK_OK);
    ck_assert_int_eq(lrk_adapters_module(b, module, &y), LRK_OK);
    ck_assert_str_eq(x.name, y.name);
    ck_assert_uint_eq(x.flags, y.flags);
    ck_assert_int_eq(x.kind, y.kind);
    ck_assert_int_eq(x.stage, y.stage);
    ck_assert_int_eq(x.input_group, y.input_group);
    ck_assert_int_eq(x.n_in, y.n_in);
    ck_assert_int_eq(x.n_out, y.n_out);
    ck_assert_int_eq(x.initial_rank, y.initial_rank);
    ck_assert(x.scale == y.scale);
    ck_assert_int_eq(lrk_adapters_ranks(a, module, &x_ids, &x_births, &n), LRK_OK);
    ck_assert_int_eq(lrk_adapters_ranks(b, module, &y_ids, &y_births, &m), LRK_OK);
    ck_assert_int_eq(n, m);
    for (int64_t j = 0; j < n; j++) {
        ck_assert_uint_eq(x_ids[j], y_ids[j]);
        ck_assert_int_eq(x_births[j], y_births[j]);
    }
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++)
        same_tensor(a, b, module, which);
}

static void same_set(const lrk_adapters *a, const lrk_adapters *b)
{
    ck_assert_int_eq(sets_info(a).modules, sets_info(b).modules);
    ck_assert_uint_eq(sets_info(a).next_identity, sets_info(b).next_identity);
    for (int32_t m = 0; m < sets_info(a).modules; m++)
        same_module(a, b, m);
}

/* ---- sets to save ---- */

/* Floats of all magnitudes: random bits without the exponents that would overflow when folded, zeros and tiny ones too. */
static float any_float(uint64_t *state)
{
    uint32_t bits;
    float value;
    uint64_t random = sets_random(state);
    if (random % 16 == 0) return random % 32 == 0 ? 0.0f : -0.0f;
    bits = (uint32_t)(random >> 32);
    uint32_t exponent = random % 8 == 1 ? bits >> 23 & 3u : 64 + (bits >> 23 & 63u);
    bits = (bits & 0x807FFFFFu) | exponent << 23;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void fill_any(lrk_adapters *adapters, uint64_t seed, bool gates)
{
    uint64_t state = seed;
    for (int32_t m = 0; m < sets_info(adapters).modules; m++)
        for (int32_t which = LRK_TENSOR_A; which <= (gates ? LRK_TENSOR_GATES : LRK_TENSOR_B); which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                t.data[i] = which == LRK_TENSOR_GATES
                                ? (float)(int64_t)(sets_random(&state) % 9) * 0.3f - 0.9f
                                : any_float(&state);
        }
}

/* Names, stages, groups, flags and scales of every sort, and a module of rank 0. */
static lrk_adapters *varied(void)
{
    lrk_module_spec specs[6];
    static const char *const names[] = {"layers.0.q", "layers.0.v", "vision.layers.0.q",
                                        "empty",      "a_b",        "a.b"};
    static const double scales[] = {2, 1.0 / 3, -0.7, 5, 1e-3, 17.25};
    for (int i = 0; i < 6; i++) {
        specs[i] = sets_spec(names[i], 5 + (i > 1 ? i : 0), 7 - i, i == 3 ? 0 : 1 + i);
        specs[i].stage = 5 - i;
        specs[i].scale = scales[i];
    }
    specs[0].input_group = specs[1].input_group = 4;
    specs[4].flags = LRK_MODULE_MAY_LACK_GRADIENT;
    return sets_create(context, specs, 6, NULL);
}

/* Drops the lowest ranks of given scores and adds others: identities, births and initial ranks part. */
static void move_ranks(lrk_adapters *adapters, int64_t n_move, int64_t step)
{
    uint64_t state = (uint64_t)step;
    double values[64];
    lrk_alora_options options;
    lrk_allocator *allocator;
    lrk_scores *scores;
    lrk_plan *plan;
    int64_t n = sets_info(adapters).ranks;
    for (int64_t i = 0; i < n; i++)
        values[i] = (double)(sets_random(&state) % 1000);
    lrk_alora_options_init(&options, sizeof options);
    options.n_move = n_move;
    ck_assert_int_eq(lrk_allocator_create_alora(adapters, &options, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_scores_create(adapters, values, n, &scores), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, step, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
}

/* ---- round trips ---- */

START_TEST(every_bit_comes_back)
{
    static const double alphas[] = {16, 1, 3, 0.1, 7e5, 1e-4};
    lrk_adapters *adapters = varied();
    for (int i = 0; i < 6; i++) {
        if (i > 0) move_ranks(adapters, 2, 10 * i);
        fill_any(adapters, (uint64_t)(100 * _i + i), _i % 2 == 1);
        save(adapters, alphas[(_i + i) % 6]);
        lrk_adapters *loaded = load(NULL);
        same_set(adapters, loaded);
        lrk_adapters_destroy(loaded);
    }
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(gates_of_zero_and_tiny_values_come_back)
{
    lrk_module_spec spec = sets_spec("w", 3, 4, 3);
    spec.scale = 1.0 / 3;
    lrk_adapters *adapters = sets_create(context, &spec, 1, NULL);
    sets_fill(adapters);
    lrk_tensor gates = sets_tensor(adapters, 0, LRK_TENSOR_GATES), b = sets_tensor(adapters, 0, LRK_TENSOR_B);
    const float extremes[] = {0, -0.0f, 0x1p-149f, -0x1p-126f, 1e30f, -1e-30f, 0x1.fffffep-127f, 3.14159f};
    memcpy(b.data, extremes, sizeof extremes);
    gates.data[0] = 0;
    gates.data[1] = -0.0f;
    gates.data[2] = -1e-20f;
    save(adapters, 16);
    lrk_adapters *loaded = load(NULL);
    same_set(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_scale_of_zero_comes_back)
{
    lrk_module_spec spec = sets_spec("w", 3, 4, 2);
    spec.scale = 0;
    lrk_adapters *adapters = sets_create(context, &spec, 1, NULL);
    sets_fill(adapters);
    save(adapters, 16);
    lrk_adapters *loaded = load(NULL);
    same_set(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(options_of_the_loaded_set_hold)
{
    lrk_adapters_options options;
    lrk_adapters *adapters = varied();
    sets_fill(adapters);
    save(adapters, 16);
    lrk_adapters_options_init(&options, sizeof options);
    options.flags = LRK_ADAPTERS_INFERENCE;
    lrk_adapters *loaded = load(&options);
    ck_assert_uint_eq(sets_info(loaded).flags, LRK_ADAPTERS_INFERENCE);
    same_set(adapters, loaded);
    lrk_adapters_destroy(loaded);
    options.dropout = 2;
    loaded = (lrk_adapters *)&host;
    sets_expect(context, lrk_peft_load(context, dir, &options, &loaded), LRK_ERR_ARGUMENT, "dropout");
    ck_assert_ptr_null(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_loaded_set_goes_on_as_the_saved_one)
{
    lrk_adapters *adapters = varied();
    sets_fill(adapters);
    save(adapters, 16);
    lrk_adapters *loaded = load(NULL);
    move_ranks(adapters, 3, 50);
    move_ranks(loaded, 3, 50);
    same_set(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- what PEFT sees ---- */

static lrki_json *parse_config(void)
{
    lrki_bytes text;
    lrki_json *json;
    ck_assert_int_eq(lrki_file_load(context, in_dir("adapter_config.json"), 1 << 20, &text), LRK_OK);
    ck_assert_int_eq(lrki_json_parse(context, text.data, text.n, "config", &json), LRK_OK);
    lrki_bytes_free(context, &text);
    return json;
}

static float *read_tensor(const lrk_safetensors *file, const char *module, const char *suffix, int64_t rows,
                          int64_t cols)
{
    char name[128];
    int64_t index;
    lrk_safetensors_tensor facts = {.struct_size = sizeof facts};
    snprintf(name, sizeof name, "base_model.model.%s.%s.weight", module, suffix);
    ck_assert_int_eq(lrk_safetensors_find(file, name, &index), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_get(file, index, &facts), LRK_OK);
    ck_assert_int_eq(facts.n_dims, 2);
    ck_assert_int_eq(facts.shape[0], rows);
    ck_assert_int_eq(facts.shape[1], cols);
    float *values = malloc((size_t)(rows * cols) * sizeof *values);
    ck_assert_int_eq(lrk_safetensors_read_f32(file, index, values, rows * cols), LRK_OK);
    return values;
}

/* One element of PEFT's delta against s B^T diag(g) A; every stored B' is within half a unit of its value. */
static void check_delta(const lrk_adapters *adapters, int32_t m, const float *a, const float *b, double alpha,
                        int64_t o, int64_t i)
{
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(adapters, m, &info), LRK_OK);
    lrk_tensor ta = sets_tensor(adapters, m, LRK_TENSOR_A), tb = sets_tensor(adapters, m, LRK_TENSOR_B);
    lrk_tensor tg = sets_tensor(adapters, m, LRK_TENSOR_GATES);
    double peft = 0, own = 0, magnitude = 0;
    for (int64_t j = 0; j < info.rank; j++) {
        peft += alpha / (double)info.rank * (double)b[o * info.rank + j] * (double)a[j * info.n_in + i];
        double term = info.scale * (double)tb.data[j * info.n_out + o] * (double)tg.data[j] *
                      (double)ta.data[j * info.n_in + i];
        own += term;
        magnitude += fabs(term);
    }
    ck_assert_double_le(fabs(peft - own), magnitude * 0x1p-24 * 1.0001);
}

START_TEST(peft_computes_the_same_adapter)
{
    const double alpha = 11;
    lrk_safetensors *file;
    lrk_adapters *adapters = varied();
    sets_fill(adapters);
    save(adapters, alpha);
    ck_assert_int_eq(lrk_safetensors_open(context, in_dir("adapter_model.safetensors"), &file), LRK_OK);
    ck_assert_str_eq(lrk_safetensors_metadata(file, "format"), "pt");
    int64_t tensors = 0;
    for (int32_t m = 0; m < sets_info(adapters).modules; m++) {
        lrk_module_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_adapters_module(adapters, m, &info), LRK_OK);
        if (info.rank == 0) continue;
        float *a = read_tensor(file, info.name, "lora_A", info.rank, info.n_in);
        float *b = read_tensor(file, info.name, "lora_B", info.n_out, info.rank);
        ck_assert_mem_eq(a, sets_tensor(adapters, m, LRK_TENSOR_A).data,
                         (size_t)(info.rank * info.n_in) * sizeof *a);
        for (int64_t o = 0; o < info.n_out; o++)
            for (int64_t i = 0; i < info.n_in; i++)
                check_delta(adapters, m, a, b, alpha, o, i);
        free(a);
        free(b);
        tensors += 2;
    }
    ck_assert_int_eq(lrk_safetensors_count(file), tensors);
    lrk_safetensors_close(file);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_factor_of_one_stores_b_itself)
{
    lrk_safetensors *file;
    lrk_module_spec spec = sets_spec("w", 3, 4, 2);
    spec.scale = 8; /* s r / alpha = 8 * 2 / 16 */
    lrk_adapters *adapters = sets_create(context, &spec, 1, NULL);
    fill_any(adapters, 5, false);
    save(adapters, 16);
    ck_assert_int_eq(lrk_safetensors_open(context, in_dir("adapter_model.safetensors"), &file), LRK_OK);
    float *b = read_tensor(file, "w", "lora_B", 4, 2);
    lrk_tensor own = sets_tensor(adapters, 0, LRK_TENSOR_B);
    for (int64_t o = 0; o < 4; o++)
        for (int64_t j = 0; j < 2; j++)
            ck_assert_mem_eq(&b[o * 2 + j], &own.data[j * 4 + o], sizeof *b);
    ck_assert_str_eq(lrk_safetensors_metadata(file, "lorank.fold"), "{}");
    free(b);
    lrk_safetensors_close(file);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(the_configuration_holds_only_what_peft_has_had_since_0_6)
{
    static const char *const known[] = {"alpha_pattern",
                                        "auto_mapping",
                                        "base_model_name_or_path",
                                        "bias",
                                        "fan_in_fan_out",
                                        "inference_mode",
                                        "init_lora_weights",
                                        "layers_pattern",
                                        "layers_to_transform",
                                        "lora_alpha",
                                        "lora_dropout",
                                        "modules_to_save",
                                        "peft_type",
                                        "r",
                                        "rank_pattern",
                                        "revision",
                                        "target_modules",
                                        "task_type"};
    bool yes = false;
    int64_t value;
    lrk_peft_options options = with_alpha(8);
    options.base_model = "models/\"tiny\"";
    options.task_type = "CAUSAL_LM";
    lrk_adapters *adapters = varied();
    ck_assert_int_eq(lrk_peft_save(adapters, dir, &options), LRK_OK);
    lrki_json *config = parse_config();
    ck_assert_int_eq(lrki_json_count(config), 18);
    for (int i = 0; i < 18; i++)
        ck_assert_ptr_nonnull(lrki_json_get(config, known[i]));
    ck_assert_str_eq(lrki_json_text(lrki_json_get(config, "peft_type")), "LORA");
    ck_assert_str_eq(lrki_json_text(lrki_json_get(config, "base_model_name_or_path")), "models/\"tiny\"");
    ck_assert_str_eq(lrki_json_text(lrki_json_get(config, "task_type")), "CAUSAL_LM");
    ck_assert(lrki_json_integer(lrki_json_get(config, "lora_alpha"), &value) && value == 8);
    ck_assert(lrki_json_integer(lrki_json_get(config, "r"), &value) && value == 6);
    ck_assert(lrki_json_boolean(lrki_json_get(config, "init_lora_weights"), &yes) && yes);
    ck_assert(lrki_json_is_object(lrki_json_get(config, "alpha_pattern")));
    ck_assert_int_eq(lrki_json_count(lrki_json_get(config, "target_modules")), 5);
    lrki_json_free(config);
    options.alpha = 8.5;
    options.task_type = options.base_model = NULL;
    ck_assert_int_eq(lrk_peft_save(adapters, dir, &options), LRK_OK);
    config = parse_config();
    double alpha;
    ck_assert(lrki_json_number(lrki_json_get(config, "lora_alpha"), &alpha) && alpha == 8.5);
    ck_assert(lrki_json_is_null(lrki_json_get(config, "task_type")));
    lrki_json_free(config);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* PEFT's rule since 0.15: the first key that matches at the end of the name, from its start or after a dot. */
static int64_t rank_by_pattern(const lrki_json *pattern, const char *name)
{
    for (lrki_json_cursor c = lrki_json_first(pattern); c.at != NULL; c = lrki_json_next(pattern, c)) {
        char text[256];
        regex_t expression;
        int64_t rank;
        snprintf(text, sizeof text, "^(.*\\.)?(%s)$", c.key);
        ck_assert_int_eq(regcomp(&expression, text, REG_EXTENDED | REG_NOSUB), 0);
        bool matches = regexec(&expression, name, 0, NULL, 0) == 0;
        regfree(&expression);
        if (matches && lrki_json_integer(c.value, &rank)) return rank;
    }
    return -1;
}

START_TEST(patterns_give_every_module_its_own_rank)
{
    static const char *const names[] = {"q",   "l.1.q", "v.l.1.q", "v.l_1.q", "l_1.q",
                                        "a.b", "a_b",   "axb",     "x.a_b",   "x.a.b"};
    lrk_module_spec specs[10];
    for (int i = 0; i < 10; i++)
        specs[i] = sets_spec(names[i], 2, 2, i + 1);
    lrk_adapters *adapters = sets_create(context, specs, 10, NULL);
    save(adapters, 16);
    lrki_json *config = parse_config();
    const lrki_json *pattern = lrki_json_get(config, "rank_pattern");
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(rank_by_pattern(pattern, names[i]), i + 1);
    lrki_json_free(config);
    lrk_adapters *loaded = load(NULL);
    same_set(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(saving_twice_writes_the_same_bytes)
{
    size_t n, m;
    lrk_adapters *adapters = varied();
    fill_any(adapters, 3, true);
    save(adapters, 16);
    char *first = scratch_read(in_dir("adapter_model.safetensors"), &n);
    save(adapters, 16);
    char *second = scratch_read(in_dir("adapter_model.safetensors"), &m);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(first, second, n);
    ck_assert_int_eq(scratch_count(dir), 2);
    free(first);
    free(second);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- refusals of save ---- */

static void refuses(const lrk_adapters *adapters, const lrk_peft_options *options, lrk_status status,
                    const char *words)
{
    sets_expect(context, lrk_peft_save(adapters, dir, options), status, words);
    ck_assert(!scratch_exists(dir));
}

START_TEST(what_peft_cannot_hold_is_refused)
{
    lrk_module_spec spec = sets_spec("w", 2, 2, 0);
    lrk_adapters *adapters = sets_create(context, &spec, 1, NULL);
    refuses(adapters, NULL, LRK_ERR_UNSUPPORTED, "every module has rank 0");
    lrk_adapters_destroy(adapters);
    static const char *const names[] = {"a*b", "a(b", "a[0]", "a+", "^a", "a$", "a|b", "a\\b", "a?", "a{2}"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        spec = sets_spec(names[i], 2, 2, 1);
        adapters = sets_create(context, &spec, 1, NULL);
        refuses(adapters, NULL, LRK_ERR_UNSUPPORTED, names[i]);
        lrk_adapters_destroy(adapters);
    }
}
END_TEST

START_TEST(values_that_are_not_finite_are_refused)
{
    static const char *const words[] = {"'b': A", "'b': B", "'b': gates"};
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(context, specs, 3, NULL);
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
        sets_fill(adapters);
        sets_tensor(adapters, 1, which).data[2] = which == LRK_TENSOR_B ? INFINITY : NAN;
        refuses(adapters, NULL, LRK_ERR_NONFINITE, words[which]);
        lrk_error_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
        ck_assert_int_eq(info.module, 1);
    }
    lrk_peft_options options = with_alpha(1e-30);
    sets_fill(adapters);
    sets_tensor(adapters, 1, LRK_TENSOR_B).data[0] = 1e20f;
    refuses(adapters, &options, LRK_ERR_NONFINITE, "'b': B times scale and gates");
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(wrong_options_are_named)
{
    static const double alphas[] = {0, -1, NAN, INFINITY};
    lrk_adapters *adapters = varied();
    lrk_peft_options options;
    for (int i = 0; i < 4; i++) {
        options = with_alpha(alphas[i]);
        refuses(adapters, &options, LRK_ERR_ARGUMENT, "alpha");
    }
    options = with_alpha(16);
    options.flags = 1;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "flags");
    options = with_alpha(16);
    options.task_type = "CAUSAL";
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "CAUSAL");
    options = with_alpha(16);
    options.base_model = "\xc3";
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "base_model");
    options = with_alpha(16);
    options.struct_size = 4;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "struct_size");
    struct {
        lrk_peft_options known;
        int64_t more;
    } longer = {with_alpha(16), 1};
    longer.known.struct_size = sizeof longer;
    refuses(adapters, &longer.known, LRK_ERR_VERSION, "lrk_peft_options");
    ck_assert_int_eq(lrk_peft_save(NULL, dir, NULL), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_peft_save(adapters, NULL, NULL), LRK_ERR_ARGUMENT, "directory");
    sets_expect(context, lrk_peft_save(adapters, "", NULL), LRK_ERR_ARGUMENT, "directory");
    ck_assert_int_eq(lrk_peft_options_init(NULL, sizeof options), LRK_ERR_ARGUMENT);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- atomicity ---- */

START_TEST(a_write_that_fails_leaves_the_old_adapter)
{
    struct rlimit limit, least;
    lrk_adapters *adapters = varied();
    sets_fill(adapters);
    save(adapters, 16);
    fill_any(adapters, 9, true);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    for (rlim_t bytes = 0; bytes < 2048; bytes += 512) {
        least = limit;
        least.rlim_cur = bytes;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &least), 0);
        lrk_status status = lrk_peft_save(adapters, dir, NULL);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        sets_expect(context, status, LRK_ERR_IO, "cannot write");
        ck_assert_int_eq(scratch_count(dir), 2);
    }
    signal(SIGXFSZ, SIG_DFL);
    lrk_adapters *loaded = load(NULL);
    sets_fill(adapters);
    same_set(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(places_that_cannot_be_written_are_named)
{
    lrk_adapters *adapters = varied();
    sets_expect(context, lrk_peft_save(adapters, in_dir("deeper/still"), NULL), LRK_ERR_IO, "deeper/still");
    scratch_write(dir, "x", 1);
    sets_expect(context, lrk_peft_save(adapters, dir, NULL), LRK_ERR_IO, "Not a directory");
    ck_assert_int_eq(remove(dir), 0);
    save(adapters, 16);
    /* a folder where the configuration should go: the model's temporary file is gone as well */
    ck_assert_int_eq(remove(in_dir("adapter_config.json")), 0);
    bool made;
    ck_assert_int_eq(lrki_folder_make(context, in_dir("adapter_config.json"), &made), LRK_OK);
    ck_assert(made);
    sets_expect(context, lrk_peft_save(adapters, dir, NULL), LRK_ERR_IO, "adapter_config.json");
    ck_assert_int_eq(scratch_count(dir), 2);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- refusals of load ---- */

/* Replaces the first `from` in a file by `to` of the same length. */
static void replace(const char *name, const char *from, const char *to)
{
    size_t n;
    char *path = strdup(in_dir(name));
    char *text = scratch_read(path, &n);
    size_t length = strlen(from);
    ck_assert_uint_eq(length, strlen(to));
    char *at = NULL;
    for (size_t i = 0; at == NULL && i + length <= n; i++)
        if (memcmp(text + i, from, length) == 0) at = text + i;
    ck_assert_msg(at != NULL, "'%s' is not in %s", from, name);
    memcpy(at, to, length);
    scratch_write(path, text, n);
    free(text);
    free(path);
}

typedef struct edit {
    const char *file;
    const char *from;
    const char *to;
    lrk_status status;
    const char *words;
} edit;

#define MODEL  "adapter_model.safetensors"
#define CONFIG "adapter_config.json"

static const edit edits[] = {
    {MODEL, "\"lorank.format\":\"1\"", "\"lorank.format\":\"2\"", LRK_ERR_UNSUPPORTED, "is of format 2"},
    {MODEL, "\"lorank.format\":\"1\"", "\"other_.format\":\"1\"", LRK_ERR_UNSUPPORTED,
     "not written by lorank"},
    {MODEL, "\"lorank.set\"", "\"lorank.sat\"", LRK_ERR_FORMAT, "lorank.set is missing"},
    {MODEL, "\"lorank.modules\"", "\"lorank.modulas\"", LRK_ERR_FORMAT, "lorank.modules is missing"},
    {MODEL, "\"lorank.fold\"", "\"lorank.fald\"", LRK_ERR_FORMAT, "lorank.fold is missing"},
    {MODEL, "{\\\"alpha\\\":", "{\\\"alpha\\\"=", LRK_ERR_FORMAT, "lorank.set: not valid JSON"},
    {MODEL, "{\\\"alpha\\\":16", "{\\\"alpha\\\":-6", LRK_ERR_FORMAT, "alpha or next_identity"},
    {MODEL, "\\\"next_identity\\\":18", "\\\"next_identity\\\":17", LRK_ERR_FORMAT,
     "identities, births or gates"},
    {MODEL, "[{\\\"name\\\":\\\"layers.0.q\\\"", "[{\\\"nama\\\":\\\"layers.0.q\\\"", LRK_ERR_FORMAT,
     "field is missing"},
    {MODEL, "\\\"rank\\\":1,", "\\\"rank\\\":2,", LRK_ERR_FORMAT, "do not fit its rank"},
    {MODEL, "\\\"rank\\\":1,", "\\\"rank\\\":x,", LRK_ERR_FORMAT, "not valid JSON"},
    {MODEL, "\\\"n_in\\\":5,", "\\\"n_in\\\":6,", LRK_ERR_FORMAT, "is not F32 of 1 x 6"},
    {MODEL, "\\\"n_out\\\":7,", "\\\"n_out\\\":0,", LRK_ERR_FORMAT, "field is missing or out of range"},
    {MODEL, "\\\"kind\\\":0", "\\\"kind\\\":9", LRK_ERR_ARGUMENT, "kind"},
    {MODEL, "\\\"identities\\\":[1]", "\\\"identities\\\":[2]", LRK_ERR_FORMAT, "identity 2 twice"},
    {MODEL, "\\\"births\\\":[0]", "\\\"births\\\":[ ]", LRK_ERR_FORMAT, "do not fit its rank"},
    {MODEL, "model.a_b.lora_A", "model.a_b.lora_C", LRK_ERR_FORMAT, "a_b.lora_A.weight' is missing"},
    {MODEL, "\\\"name\\\":\\\"a_b\\\"", "\\\"name\\\":\\\"a.b\\\"", LRK_ERR_FORMAT, "a.b"},
    {MODEL, "\\\"codes\\\":", "\\\"cades\\\":", LRK_ERR_FORMAT, "codes and escapes do not fit"},
    {CONFIG, "\"LORA\"", "\"LOHA\"", LRK_ERR_UNSUPPORTED, "peft_type is not LORA"},
    {CONFIG, "\"lora_alpha\": 16", "\"lora_alpha\": 17", LRK_ERR_FORMAT, "lora_alpha contradicts"},
    {CONFIG, "\"layers.0.q\": 1", "\"layers.0.q\": 2", LRK_ERR_FORMAT, "rank_pattern contradicts"},
    {CONFIG, "\"layers.0.q\": 1", "\"layers.0.k\": 1", LRK_ERR_FORMAT, "rank_pattern contradicts"},
    {CONFIG, "\"target_modules\"", "\"target_madules\"", LRK_ERR_FORMAT, "target_modules contradicts"},
    {CONFIG, "\"a.b\"\n  ]", "\"b.a\"\n  ]", LRK_ERR_FORMAT, "target_modules contradicts"},
    {CONFIG, "\"alpha_pattern\": {}", "\"alpha_pattern\":[0]", LRK_ERR_FORMAT, "alpha_pattern contradicts"},
    {CONFIG, "\"layers_pattern\": null", "\"use_rslora\"    : true", LRK_ERR_FORMAT,
     "use_rslora contradicts"},
    {CONFIG, "{", "[", LRK_ERR_FORMAT, "adapter_config.json: not valid JSON"},
};

static void save_varied(void)
{
    lrk_adapters *adapters = varied();
    sets_fill(adapters);
    save(adapters, 16);
    lrk_adapters_destroy(adapters);
}

START_TEST(files_that_contradict_are_refused)
{
    const edit *e = &edits[_i];
    lrk_adapters *loaded = (lrk_adapters *)&host;
    save_varied();
    replace(e->file, e->from, e->to);
    sets_expect(context, lrk_peft_load(context, dir, NULL, &loaded), e->status, e->words);
    ck_assert_ptr_null(loaded);
}
END_TEST

START_TEST(absent_files_and_wrong_arguments_are_named)
{
    lrk_adapters *loaded;
    sets_expect(context, lrk_peft_load(context, dir, NULL, &loaded), LRK_ERR_NOT_FOUND, MODEL);
    save_varied();
    ck_assert_int_eq(remove(in_dir(CONFIG)), 0);
    sets_expect(context, lrk_peft_load(context, dir, NULL, &loaded), LRK_ERR_NOT_FOUND, CONFIG);
    ck_assert_int_eq(lrk_peft_load(context, dir, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_peft_load(NULL, dir, NULL, &loaded), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_peft_load(context, NULL, NULL, &loaded), LRK_ERR_ARGUMENT, "directory");
    sets_expect(context, lrk_peft_load(context, "", NULL, &loaded), LRK_ERR_ARGUMENT, "directory");
}
END_TEST

START_TEST(a_value_that_is_not_finite_is_refused)
{
    size_t n;
    lrk_adapters *loaded;
    save_varied();
    char *path = strdup(in_dir(MODEL));
    char *bytes = scratch_read(path, &n);
    memcpy(bytes + n - 4, "\0\0\x80\x7f", 4); /* the last element: B of vision.layers.0.q */
    scratch_write(path, bytes, n);
    sets_expect(context, lrk_peft_load(context, dir, NULL, &loaded), LRK_ERR_FORMAT, "vision.layers.0.q");
    free(bytes);
    free(path);
}
END_TEST

START_TEST(a_model_file_damaged_anywhere_is_refused_or_loads)
{
    size_t n;
    save_varied();
    char *path = strdup(in_dir(MODEL));
    char *bytes = scratch_read(path, &n);
    size_t header = 8 + (unsigned char)bytes[0] + 256 * (size_t)(unsigned char)bytes[1];
    for (size_t i = 0; i < header; i++) {
        lrk_adapters *loaded;
        char kept = bytes[i];
        bytes[i] = (char)(kept ^ 1 << i % 7);
        scratch_write(path, bytes, n);
        lrk_status status = lrk_peft_load(context, dir, NULL, &loaded);
        ck_assert((status == LRK_OK) == (loaded != NULL));
        lrk_adapters_destroy(loaded);
        bytes[i] = kept;
    }
    free(bytes);
    free(path);
}
END_TEST

/* ---- memory ---- */

static lrk_adapters *subject;

static lrk_status act_save(void *user)
{
    (void)user;
    lrk_status status = lrk_peft_save(subject, dir, NULL);
    ck_assert_int_eq(scratch_exists(dir) ? scratch_count(dir) : 2, 2);
    return status;
}

static void undo_nothing(void *user)
{
    (void)user;
}

static lrk_status act_load(void *user)
{
    return lrk_peft_load(context, dir, NULL, user);
}

static void undo_load(void *user)
{
    lrk_adapters_destroy(*(lrk_adapters **)user);
}

START_TEST(each_lack_of_memory_in_saving_is_reported)
{
    subject = varied();
    fill_any(subject, 1, true);
    save(subject, 16); /* from here on the folder is there, and every run asks for the same memory */
    sets_each_fault(&host, act_save, undo_nothing, NULL);
    json_each_fault(act_save, undo_nothing, NULL, false);
    lrk_adapters_destroy(subject);
}
END_TEST

START_TEST(each_lack_of_memory_in_loading_is_reported)
{
    lrk_adapters *loaded = NULL;
    subject = varied();
    fill_any(subject, 1, true);
    save(subject, 16);
    sets_each_fault(&host, act_load, undo_load, &loaded);
    json_each_fault(act_load, undo_load, &loaded, true);
    lrk_adapters_destroy(subject);
}
END_TEST

Suite *peft_suite(void);

Suite *peft_suite(void)
{
    Suite *suite = suite_create("peft");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, every_bit_comes_back, 0, 8);
    tcase_add_test(cases, gates_of_zero_and_tiny_values_come_back);
    tcase_add_test(cases, a_scale_of_zero_comes_back);
    tcase_add_test(cases, options_of_the_loaded_set_hold);
    tcase_add_test(cases, a_loaded_set_goes_on_as_the_saved_one);
    tcase_add_test(cases, peft_computes_the_same_adapter);
    tcase_add_test(cases, a_factor_of_one_stores_b_itself);
    tcase_add_test(cases, the_configuration_holds_only_what_peft_has_had_since_0_6);
    tcase_add_test(cases, patterns_give_every_module_its_own_rank);
    tcase_add_test(cases, saving_twice_writes_the_same_bytes);
    tcase_add_test(cases, what_peft_cannot_hold_is_refused);
    tcase_add_test(cases, values_that_are_not_finite_are_refused);
    tcase_add_test(cases, wrong_options_are_named);
    tcase_add_test(cases, a_write_that_fails_leaves_the_old_adapter);
    tcase_add_test(cases, places_that_cannot_be_written_are_named);
    tcase_add_loop_test(cases, files_that_contradict_are_refused, 0, (int)(sizeof edits / sizeof edits[0]));
    tcase_add_test(cases, absent_files_and_wrong_arguments_are_named);
    tcase_add_test(cases, a_value_that_is_not_finite_is_refused);
    tcase_add_test(cases, a_model_file_damaged_anywhere_is_refused_or_loads);
    tcase_add_test(cases, each_lack_of_memory_in_saving_is_reported);
    tcase_add_test(cases, each_lack_of_memory_in_loading_is_reported);
    suite_add_tcase(suite, cases);
    return suite;
}
