/* SPDX-License-Identifier: MIT */
/*
 * What lrk_peft_options chooses: uniform ranks, 16-bit values, Conv1D, writers instead of a directory.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "peft_files.h"
#include "sets.h"

typedef struct written {
    gguf_bytes config;
    gguf_bytes model;
} written;

static lrk_peft_options choose(uint32_t flags, int32_t dtype)
{
    lrk_peft_options options = peft_alpha(12);
    options.flags = flags;
    options.dtype = dtype;
    return options;
}

static written writes(const lrk_adapters *adapters, uint32_t flags, int32_t dtype)
{
    written w = {gguf_bytes_new(), gguf_bytes_new()};
    lrk_peft_options options = choose(flags, dtype);
    lrk_writer config = gguf_bytes_writer(&w.config), model = gguf_bytes_writer(&w.model);
    ck_assert_int_eq(lrk_peft_write(adapters, &config, &model, &options), LRK_OK);
    gguf_put(&w.config, "", 1); /* for strstr() */
    w.config.n--;
    return w;
}

static lrk_adapters *reads(written *w)
{
    lrk_adapters *adapters;
    ck_assert_int_eq(peft_try(&w->config, &w->model, NULL, 0, &adapters), LRK_OK);
    return adapters;
}

static void written_free(written *w)
{
    gguf_bytes_free(&w->config);
    gguf_bytes_free(&w->model);
}

static bool says(const gguf_bytes *config, const char *words)
{
    return strstr((const char *)config->data, words) != NULL;
}

static bool model_says(const gguf_bytes *model, const char *words)
{
    for (size_t i = 0; i + strlen(words) <= model->n; i++)
        if (memcmp(model->data + i, words, strlen(words)) == 0) return true;
    return false;
}

/* s B^T diag(g) A at (o, i), and the sum of magnitudes of its terms. */
static double element(const lrk_adapters *adapters, int32_t m, int64_t o, int64_t i, double *magnitude)
{
    double sum = 0;
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(adapters, m, &info), LRK_OK);
    lrk_tensor a = sets_tensor(adapters, m, LRK_TENSOR_A), b = sets_tensor(adapters, m, LRK_TENSOR_B);
    lrk_tensor g = sets_tensor(adapters, m, LRK_TENSOR_GATES);
    *magnitude = 0;
    for (int64_t j = 0; j < info.rank; j++) {
        double term = info.scale * (double)g.data[j] * (double)b.data[j * info.n_out + o] *
                      (double)a.data[j * info.n_in + i];
        sum += term;
        *magnitude += fabs(term);
    }
    return sum;
}

/* Modules of `loaded` (found by name) give the deltas of `adapters`, each factor rounded by at most `unit`, absolutely `tiny`. */
static void same_deltas(const lrk_adapters *adapters, const lrk_adapters *loaded, double unit, double tiny)
{
    for (int32_t m = 0; m < sets_info(adapters).modules; m++) {
        int32_t other;
        double magnitude, ignored;
        lrk_module_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_adapters_module(adapters, m, &info), LRK_OK);
        if (info.rank == 0) continue;
        ck_assert_int_eq(lrk_adapters_find(loaded, info.name, &other), LRK_OK);
        for (int64_t o = 0; o < info.n_out; o++)
            for (int64_t i = 0; i < info.n_in; i++) {
                double want = element(adapters, m, o, i, &magnitude);
                double got = element(loaded, other, o, i, &ignored);
                ck_assert_double_le(fabs(got - want), magnitude * (2 * unit + unit * unit) + 64 * tiny);
            }
    }
}

/* The fold rounds B' once to f32, then to the type: unit / 2 + 2^-24, A by unit / 2 alone. */
START_TEST(every_mode_gives_the_same_delta)
{
    int32_t dtype = _i % 3;
    uint32_t flags = _i < 3 ? 0 : LRK_PEFT_UNIFORM;
    lrk_adapters *adapters = peft_varied();
    sets_fill(adapters);
    written w = writes(adapters, flags, dtype);
    lrk_adapters *loaded = reads(&w);
    same_deltas(adapters, loaded, half_unit(dtype) + 0x1p-23, half_tiny(dtype));
    if (flags != 0)
        for (int32_t m = 0; m < 5; m++)
            ck_assert_int_eq(sets_rank(loaded, m), 6);
    if (_i == 0)
        peft_same(adapters, loaded);
    else
        ck_assert_int_eq(sets_info(loaded).modules, 5); /* the one of rank 0 is left out */
    ck_assert(model_says(&w.model, "lorank.") == (_i == 0));
    ck_assert(model_says(&w.model, "\"format\":\"pt\""));
    ck_assert(model_says(&w.model, dtype == LRK_DTYPE_F32    ? "\"dtype\":\"F32\""
                                   : dtype == LRK_DTYPE_BF16 ? "\"dtype\":\"BF16\""
                                                             : "\"dtype\":\"F16\""));
    ck_assert(says(&w.config, "\"rank_pattern\": {}") == (flags != 0));
    ck_assert(says(&w.config, "\"r\": 6"));
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
    written_free(&w);
}
END_TEST

START_TEST(uniform_files_end_in_zeros)
{
    lrk_module_spec specs[] = {sets_spec("wide", 3, 20, 1), sets_spec("deep", 2, 3, 4)};
    lrk_adapters *adapters = sets_create(peft_context, specs, 2, NULL);
    sets_fill(adapters);
    written w = writes(adapters, LRK_PEFT_UNIFORM, LRK_DTYPE_F32);
    lrk_adapters *loaded = reads(&w);
    lrk_tensor a = sets_tensor(loaded, 1, LRK_TENSOR_A), b = sets_tensor(loaded, 1, LRK_TENSOR_B);
    ck_assert_int_eq(a.rows, 4);
    ck_assert_mem_eq(a.data, sets_tensor(adapters, 0, LRK_TENSOR_A).data, 3 * sizeof *a.data);
    for (int64_t i = 3; i < 12; i++)
        ck_assert(a.data[i] == 0);
    for (int64_t i = 20; i < 80; i++)
        ck_assert(b.data[i] == 0);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
    written_free(&w);
}
END_TEST

START_TEST(conv1d_changes_one_word_of_the_configuration)
{
    lrk_adapters *adapters = peft_varied();
    sets_fill(adapters);
    written plain = writes(adapters, 0, LRK_DTYPE_F32),
            other = writes(adapters, LRK_PEFT_FAN_IN_FAN_OUT, LRK_DTYPE_F32);
    ck_assert(says(&plain.config, "\"fan_in_fan_out\": false"));
    ck_assert(says(&other.config, "\"fan_in_fan_out\": true"));
    ck_assert_uint_eq(plain.model.n, other.model.n);
    ck_assert_mem_eq(plain.model.data, other.model.data, plain.model.n);
    lrk_adapters *loaded = reads(&other);
    peft_same(adapters, loaded);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
    written_free(&plain);
    written_free(&other);
}
END_TEST

START_TEST(writers_and_directory_get_the_same_bytes)
{
    size_t n;
    lrk_adapters *adapters = peft_varied();
    sets_fill(adapters);
    for (int32_t dtype = 0; dtype < 3; dtype++) {
        lrk_peft_options options = choose(LRK_PEFT_UNIFORM * (uint32_t)(dtype == 1), dtype);
        written w = writes(adapters, options.flags, dtype);
        ck_assert_int_eq(lrk_peft_save(adapters, peft_dir, &options), LRK_OK);
        char *text = scratch_read(peft_path("adapter_config.json"), &n);
        ck_assert_uint_eq(n, w.config.n);
        ck_assert_mem_eq(text, w.config.data, n);
        free(text);
        text = scratch_read(peft_path("adapter_model.safetensors"), &n);
        ck_assert_uint_eq(n, w.model.n);
        ck_assert_mem_eq(text, w.model.data, n);
        free(text);
        written_free(&w);
    }
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(what_16_bits_cannot_hold_is_refused_before_a_byte_is_written)
{
    static const struct {
        int32_t dtype;
        int32_t which;
        float value;
        bool fits;
    } rows[] = {{LRK_DTYPE_F16, LRK_TENSOR_A, 65520, false},
                {LRK_DTYPE_F16, LRK_TENSOR_A, 65519, true},
                {LRK_DTYPE_F16, LRK_TENSOR_B, -65520 * 8, false},
                {LRK_DTYPE_F16, LRK_TENSOR_B, 65519 * 8, true},
                {LRK_DTYPE_BF16, LRK_TENSOR_A, 0x1.ffp127f, false},
                {LRK_DTYPE_BF16, LRK_TENSOR_A, 0x1.fep127f, true},
                {LRK_DTYPE_F32, LRK_TENSOR_A, 0x1.fffffep127f, true}};
    lrk_module_spec specs[] = {sets_spec("small", 3, 300, 1), sets_spec("big", 600, 300, 1)};
    specs[1].scale = 1.5; /* s r / alpha = 1/8 */
    lrk_adapters *adapters = sets_create(peft_context, specs, 2, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        written w = {gguf_bytes_new(), gguf_bytes_new()};
        lrk_peft_options options = choose(0, rows[i].dtype);
        lrk_writer config = gguf_bytes_writer(&w.config), model = gguf_bytes_writer(&w.model);
        sets_fill(adapters);
        sets_tensor(adapters, 1, LRK_TENSOR_GATES).data[0] = 1;
        sets_tensor(adapters, 1, rows[i].which).data[299] = rows[i].value;
        lrk_status status = lrk_peft_write(adapters, &config, &model, &options);
        if (rows[i].fits) {
            ck_assert_int_eq(status, LRK_OK);
        } else {
            lrk_error_info info = {.struct_size = sizeof info};
            sets_expect(peft_context, status, LRK_ERR_NONFINITE, "'big'");
            ck_assert_int_eq(lrk_context_error_info(peft_context, &info), LRK_OK);
            ck_assert_int_eq(info.module, 1);
            ck_assert_int_eq(w.model.calls + w.config.calls, 0);
        }
        written_free(&w);
    }
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(wrong_writers_are_named)
{
    lrk_adapters *adapters = peft_varied();
    gguf_bytes bytes = gguf_bytes_new();
    lrk_writer writer = gguf_bytes_writer(&bytes), wrong = writer;
    wrong.flags = 1;
    sets_expect(peft_context, lrk_peft_write(adapters, NULL, &writer, NULL), LRK_ERR_ARGUMENT, "writer");
    sets_expect(peft_context, lrk_peft_write(adapters, &writer, NULL, NULL), LRK_ERR_ARGUMENT, "writer");
    sets_expect(peft_context, lrk_peft_write(adapters, &wrong, &writer, NULL), LRK_ERR_ARGUMENT,
                "lrk_writer");
    sets_expect(peft_context, lrk_peft_write(adapters, &writer, &wrong, NULL), LRK_ERR_ARGUMENT,
                "lrk_writer");
    ck_assert_int_eq(lrk_peft_write(NULL, &writer, &writer, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(bytes.calls, 0);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(modules_do_not_go_with_lorank_s_own_metadata)
{
    lrk_adapters *adapters = peft_varied(), *loaded = (lrk_adapters *)&peft_host;
    lrk_module_spec spec = sets_spec("layers.0.q", 5, 7, 0);
    written w = writes(adapters, 0, LRK_DTYPE_F32);
    sets_expect(peft_context, peft_try(&w.config, &w.model, &spec, 1, &loaded), LRK_ERR_ARGUMENT,
                "modules are given");
    ck_assert_ptr_null(loaded);
    written_free(&w);
    lrk_adapters_destroy(adapters);
}
END_TEST

Suite *peft_modes_suite(void);

Suite *peft_modes_suite(void)
{
    Suite *suite = suite_create("peft_modes");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, peft_setup, peft_teardown);
    tcase_add_loop_test(cases, every_mode_gives_the_same_delta, 0, 6);
    tcase_add_test(cases, uniform_files_end_in_zeros);
    tcase_add_test(cases, conv1d_changes_one_word_of_the_configuration);
    tcase_add_test(cases, writers_and_directory_get_the_same_bytes);
    tcase_add_test(cases, what_16_bits_cannot_hold_is_refused_before_a_byte_is_written);
    tcase_add_test(cases, wrong_writers_are_named);
    tcase_add_test(cases, modules_do_not_go_with_lorank_s_own_metadata);
    suite_add_tcase(suite, cases);
    return suite;
}
