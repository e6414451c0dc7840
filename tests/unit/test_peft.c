/* SPDX-License-Identifier: MIT */
/*
 * Saving and loading PEFT directories: bits come back whatever scale and gates are, PEFT's own arithmetic gives the
 * adapter's, and the configuration says what PEFT reads.
 */
#include <check.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/file.h"
#include "peft_dir.h"
#include "sets.h"

/* ---- round trips ---- */

START_TEST(every_bit_comes_back)
{
    static const double alphas[] = {16, 1, 3, 0.1, 7e5, 1e-4};
    lrk_adapters *adapters = peft_varied();
    for (int i = 0; i < 6; i++) {
        if (i > 0) peft_move_ranks(adapters, 2, 10 * i);
        peft_fill(adapters, (uint64_t)(100 * _i + i), _i % 2 == 1);
        peft_save(adapters, alphas[(_i + i) % 6]);
        lrk_adapters *loaded = peft_load(NULL);
        peft_same(adapters, loaded);
        lrk_adapters_destroy(loaded);
    }
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(gates_of_zero_and_tiny_values_come_back)
{
    lrk_module_spec spec = sets_spec("w", 3, 4, 3);
    spec.scale = 1.0 / 3;
    lrk_adapters *adapters = sets_create(peft_context, &spec, 1, NULL);
    sets_fill(adapters);
    lrk_tensor gates = sets_tensor(adapters, 0, LRK_TENSOR_GATES), b = sets_tensor(adapters, 0, LRK_TENSOR_B);
    const float extremes[] = {0, -0.0f, 0x1p-149f, -0x1p-126f, 1e30f, -1e-30f, 0x1.fffffep-127f, 3.14159f};
    memcpy(b.data, extremes, sizeof extremes);
    gates.data[0] = 0;
    gates.data[1] = -0.0f;
    gates.data[2] = -1e-20f;
    peft_save(adapters, 16);
    lrk_adapters *loaded = peft_load(NULL);
    peft_same(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

static size_t header_bytes(void)
{
    size_t n;
    uint64_t length;
    char *bytes = scratch_read(peft_path("adapter_model.safetensors"), &n);
    memcpy(&length, bytes, sizeof length); /* little-endian, as in the file */
    free(bytes);
    return (size_t)length;
}

/*
 * Of values whose significands are spread evenly, 2 - x are doubled in the fold's last place, x = 2/m_f, and 2 (x - 1) / x of
 * these share what they fold to with a neighbour: 0.343 bits an element at most. 0.36 leaves three deviations for 16,384.
 */
START_TEST(what_a_fold_loses_takes_a_third_of_a_bit_at_most)
{
    lrk_module_spec spec = sets_spec("w", 1, 4096, 4);
    size_t least = 0;
    for (int i = 0; i <= 16; i++) {
        spec.scale = 4 * (1 + i / 16.0);
        lrk_adapters *adapters = sets_create(peft_context, &spec, 1, NULL);
        sets_fill(adapters);
        for (int j = 0; j < 4; j++)
            sets_tensor(adapters, 0, LRK_TENSOR_GATES).data[j] = 1;
        peft_save(adapters, 16);
        if (i == 0) least = header_bytes();
        size_t more = header_bytes() - least, most = (size_t)(0.36 * 16384 / 8 * 4 / 3) + 64;
        ck_assert_msg(more <= (i % 16 == 0 ? 16 : most), "factor %g: %zu bytes", 1 + i / 16.0, more);
        lrk_adapters *loaded = peft_load(NULL);
        peft_same(adapters, loaded);
        lrk_adapters_destroy(loaded);
        lrk_adapters_destroy(adapters);
    }
}
END_TEST

START_TEST(a_scale_of_zero_comes_back)
{
    lrk_module_spec spec = sets_spec("w", 3, 4, 2);
    spec.scale = 0;
    lrk_adapters *adapters = sets_create(peft_context, &spec, 1, NULL);
    sets_fill(adapters);
    peft_save(adapters, 16);
    lrk_adapters *loaded = peft_load(NULL);
    peft_same(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(options_of_the_loaded_set_hold)
{
    lrk_adapters_options options;
    lrk_adapters *adapters = peft_varied();
    sets_fill(adapters);
    peft_save(adapters, 16);
    lrk_adapters_options_init(&options, sizeof options);
    options.flags = LRK_ADAPTERS_INFERENCE;
    lrk_adapters *loaded = peft_load(&options);
    ck_assert_uint_eq(sets_info(loaded).flags, LRK_ADAPTERS_INFERENCE);
    peft_same(adapters, loaded);
    lrk_adapters_destroy(loaded);
    options.dropout = 2;
    loaded = (lrk_adapters *)&peft_host;
    sets_expect(peft_context, lrk_peft_load(peft_context, peft_dir, NULL, 0, &options, &loaded),
                LRK_ERR_ARGUMENT, "dropout");
    ck_assert_ptr_null(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_loaded_set_goes_on_as_the_saved_one)
{
    lrk_adapters *adapters = peft_varied();
    sets_fill(adapters);
    peft_save(adapters, 16);
    lrk_adapters *loaded = peft_load(NULL);
    peft_move_ranks(adapters, 3, 50);
    peft_move_ranks(loaded, 3, 50);
    peft_same(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- what PEFT sees ---- */

static lrki_json *parse_config(void)
{
    lrki_bytes text;
    lrki_json *json;
    ck_assert_int_eq(lrki_file_load(peft_context, peft_path("adapter_config.json"), 1 << 20, &text), LRK_OK);
    ck_assert_int_eq(lrki_json_parse(peft_context, text.data, text.n, "config", &json), LRK_OK);
    lrki_bytes_free(peft_context, &text);
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
    lrk_adapters *adapters = peft_varied();
    sets_fill(adapters);
    peft_save(adapters, alpha);
    ck_assert_int_eq(lrk_safetensors_open(peft_context, peft_path("adapter_model.safetensors"), &file),
                     LRK_OK);
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
    lrk_adapters *adapters = sets_create(peft_context, &spec, 1, NULL);
    peft_fill(adapters, 5, false);
    peft_save(adapters, 16);
    ck_assert_int_eq(lrk_safetensors_open(peft_context, peft_path("adapter_model.safetensors"), &file),
                     LRK_OK);
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
    lrk_peft_options options = peft_alpha(8);
    options.base_model = "models/\"tiny\"";
    options.task_type = "CAUSAL_LM";
    lrk_adapters *adapters = peft_varied();
    ck_assert_int_eq(lrk_peft_save(adapters, peft_dir, &options), LRK_OK);
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
    ck_assert_int_eq(lrk_peft_save(adapters, peft_dir, &options), LRK_OK);
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
    lrk_adapters *adapters = sets_create(peft_context, specs, 10, NULL);
    peft_save(adapters, 16);
    lrki_json *config = parse_config();
    const lrki_json *pattern = lrki_json_get(config, "rank_pattern");
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(rank_by_pattern(pattern, names[i]), i + 1);
    lrki_json_free(config);
    lrk_adapters *loaded = peft_load(NULL);
    peft_same(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(saving_twice_writes_the_same_bytes)
{
    size_t n, m;
    lrk_adapters *adapters = peft_varied();
    peft_fill(adapters, 3, true);
    peft_save(adapters, 16);
    char *first = scratch_read(peft_path("adapter_model.safetensors"), &n);
    peft_save(adapters, 16);
    char *second = scratch_read(peft_path("adapter_model.safetensors"), &m);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(first, second, n);
    ck_assert_int_eq(scratch_count(peft_dir), 2);
    free(first);
    free(second);
    lrk_adapters_destroy(adapters);
}
END_TEST

Suite *peft_suite(void);

Suite *peft_suite(void)
{
    Suite *suite = suite_create("peft");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, peft_setup, peft_teardown);
    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, every_bit_comes_back, 0, 8);
    tcase_add_test(cases, gates_of_zero_and_tiny_values_come_back);
    tcase_add_test(cases, what_a_fold_loses_takes_a_third_of_a_bit_at_most);
    tcase_add_test(cases, a_scale_of_zero_comes_back);
    tcase_add_test(cases, options_of_the_loaded_set_hold);
    tcase_add_test(cases, a_loaded_set_goes_on_as_the_saved_one);
    tcase_add_test(cases, peft_computes_the_same_adapter);
    tcase_add_test(cases, a_factor_of_one_stores_b_itself);
    tcase_add_test(cases, the_configuration_holds_only_what_peft_has_had_since_0_6);
    tcase_add_test(cases, patterns_give_every_module_its_own_rank);
    tcase_add_test(cases, saving_twice_writes_the_same_bytes);
    suite_add_tcase(suite, cases);
    return suite;
}
