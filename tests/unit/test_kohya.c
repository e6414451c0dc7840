/* SPDX-License-Identifier: MIT */
/*
 * kohya files: what is in them is the formula's, what was written comes back, and what other programs write is read.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_sets.h"
#include "half.h"
#include "scratch.h"
#include "sets.h"
#include "st_bytes.h"

static const char *const dtypes[] = {"F32", "BF16", "F16"}; /* by LRK_DTYPE_... */

static lrk_kohya_options options_new(const char *prefix, uint32_t flags)
{
    lrk_kohya_options options;
    ck_assert_int_eq(lrk_kohya_options_init(&options, sizeof options), LRK_OK);
    if (prefix != NULL) options.prefix = prefix;
    options.flags = flags;
    return options;
}

static gguf_bytes save(const lrk_adapters *adapters, const lrk_kohya_options *options)
{
    gguf_bytes bytes = gguf_bytes_new();
    lrk_writer writer = gguf_bytes_writer(&bytes);
    ck_assert_int_eq(lrk_kohya_write(adapters, &writer, options), LRK_OK);
    return bytes;
}

static lrk_adapters *load(gguf_bytes *bytes, const lrk_kohya_options *options, const lrk_module_spec *modules,
                          int64_t n)
{
    lrk_adapters *adapters = NULL;
    lrk_reader reader = gguf_bytes_reader(bytes);
    lrk_status status = lrk_kohya_load_reader(gguf_context, &reader, options, modules, n, NULL, &adapters);
    if (status != LRK_OK) sets_expect(gguf_context, status, LRK_OK, "");
    return adapters;
}

/* Ranks 0 to 17, scales of every sort. */
static const struct {
    const char *name;
    int64_t n_in, n_out, rank;
    double scale;
} known[] = {{"down_blocks.0.attn.to_q", 5, 4, 2, 0.7}, {"down_blocks.0.attn.to_k", 5, 40, 17, -0.4},
             {"mid_block.ff.net.0.proj", 3, 6, 0, 2},   {"mid_block.ff.net.2", 6, 3, 1, 1.0 / 3},
             {"up_blocks.1.proj_in", 4, 4, 3, 0},       {"up_blocks.1.proj_out", 4, 4, 4, 1e-46}};
enum { KNOWN = sizeof known / sizeof known[0] };

static void specs_of(lrk_module_spec *specs)
{
    for (int i = 0; i < KNOWN; i++) {
        specs[i] = sets_spec(known[i].name, known[i].n_in, known[i].n_out, known[i].rank);
        specs[i].scale = known[i].scale;
    }
}

static lrk_adapters *make_set(bool gates)
{
    lrk_module_spec specs[KNOWN];
    specs_of(specs);
    lrk_adapters *adapters = sets_create(gguf_context, specs, KNOWN, NULL);
    sets_fill(adapters);
    for (int32_t m = 0; m < KNOWN && !gates; m++)
        for (int64_t j = 0; j < known[m].rank; j++)
            sets_tensor(adapters, m, LRK_TENSOR_GATES).data[j] = 1;
    return adapters;
}

/* "<prefix><name with _ for .><ending>" */
static const char *tensor_name(const char *prefix, const char *module, bool dotted, const char *ending)
{
    static char name[256];
    int n = snprintf(name, sizeof name, "%s%s", prefix, module);
    for (char *c = name + strlen(prefix); *c != '\0' && !dotted; c++)
        if (*c == '.') *c = '_';
    snprintf(name + n, sizeof name - (size_t)n, "%s", ending);
    return name;
}

/* ---- what is in the file ------------------------------------------------------------------------------------------------ */

/* Half a unit of f32 and half a unit of the dtype, where subnormals are spaced evenly. */
static bool near(double stored, double exact, int32_t dtype)
{
    return fabs(stored - exact) <=
           fabs(exact) * (half_unit(dtype) + 0x1p-24) * 1.001 + half_tiny(dtype) + 0x1p-150;
}

static void expect_module(const gguf_bytes *bytes, const lrk_adapters *adapters, int32_t m,
                          const lrk_kohya_options *options)
{
    bool dotted = options->flags & LRK_KOHYA_DOTTED;
    int64_t r = known[m].rank, n_wrong = 0;
    st_found down = st_find(bytes, tensor_name(options->prefix, known[m].name, dotted, ".lora_down.weight"));
    st_found up = st_find(bytes, tensor_name(options->prefix, known[m].name, dotted, ".lora_up.weight"));
    st_found alpha = st_find(bytes, tensor_name(options->prefix, known[m].name, dotted, ".alpha"));
    char dims[64];
    snprintf(dims, sizeof dims, "%d,%d", (int)r, (int)known[m].n_in);
    ck_assert_str_eq(down.shape, dims);
    snprintf(dims, sizeof dims, "%d,%d", (int)known[m].n_out, (int)r);
    ck_assert_str_eq(up.shape, dims);
    ck_assert_str_eq(alpha.shape, "");
    ck_assert_str_eq(alpha.dtype, "F32");
    ck_assert_str_eq(down.dtype, dtypes[options->dtype]);
    ck_assert_str_eq(up.dtype, dtypes[options->dtype]);
    const float *a = sets_tensor(adapters, m, LRK_TENSOR_A).data,
                *b = sets_tensor(adapters, m, LRK_TENSOR_B).data,
                *g = sets_tensor(adapters, m, LRK_TENSOR_GATES).data;
    bool one = options->flags & LRK_KOHYA_ONE_ALPHA, folded = fabs(known[m].scale) < 1e-40;
    double whole = known[m].scale * (double)r, factor = one ? whole : folded ? known[m].scale : 1;
    ck_assert(near(st_value(&alpha, 0), one ? 1 : folded ? (double)r : whole, LRK_DTYPE_F32));
    for (int64_t i = 0; i < r * known[m].n_in; i++)
        n_wrong += !near(st_value(&down, i), (double)a[i], options->dtype);
    for (int64_t j = 0; j < r; j++)
        for (int64_t o = 0; o < known[m].n_out; o++)
            n_wrong += !near(st_value(&up, o * r + j),
                             (double)b[j * known[m].n_out + o] * (double)g[j] * factor, options->dtype);
    ck_assert_int_eq(n_wrong, 0);
}

START_TEST(tensors_hold_a_the_gated_b_and_alpha)
{
    st_found none;
    lrk_adapters *adapters = make_set(true);
    lrk_kohya_options options = options_new(_i / 3 == 1 ? "unet." : NULL, _i / 3 == 1 ? LRK_KOHYA_DOTTED : 0);
    options.dtype = _i % 3;
    if (_i / 3 == 2) options.flags = LRK_KOHYA_ONE_ALPHA;
    gguf_bytes bytes = save(adapters, &options);
    for (int32_t m = 0; m < KNOWN; m++)
        if (known[m].rank > 0) expect_module(&bytes, adapters, m, &options);
    ck_assert(!st_look(&bytes, tensor_name(options.prefix, known[2].name, _i / 3 == 1, ".alpha"), &none));
    char metadata[128];
    snprintf(metadata, sizeof metadata, "{\"__metadata__\":{\"format\":\"pt\",\"lorank.version\":\"%s\"}",
             lrk_version_text());
    ck_assert(st_has(&bytes, metadata));
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* kohya's formula, alpha / r up down, is lorank's delta. */
START_TEST(the_formula_gives_the_delta)
{
    lrk_adapters *adapters = make_set(true);
    gguf_bytes bytes = save(adapters, NULL);
    for (int32_t m = 0; m < KNOWN; m++) {
        if (known[m].rank == 0) continue;
        float delta[200];
        int64_t r = known[m].rank, n_in = known[m].n_in;
        st_found down = st_find(&bytes, tensor_name("lora_unet_", known[m].name, false, ".lora_down.weight"));
        st_found up = st_find(&bytes, tensor_name("lora_unet_", known[m].name, false, ".lora_up.weight"));
        st_found alpha = st_find(&bytes, tensor_name("lora_unet_", known[m].name, false, ".alpha"));
        ck_assert_int_eq(lrk_adapters_delta(adapters, m, LRK_WEIGHT_OUT_IN, delta, n_in), LRK_OK);
        for (int64_t i = 0; i < known[m].n_out * n_in; i++) {
            double sum = 0, size = 0;
            for (int64_t j = 0; j < r; j++) {
                double term = st_value(&alpha, 0) / (double)r * st_value(&up, i / n_in * r + j) *
                              st_value(&down, j * n_in + i % n_in);
                sum += term;
                size += fabs(term);
            }
            /* r + 3 roundings of the delta, one of alpha and one of up; f32 has no smaller steps than 2^-149 */
            ck_assert_double_le(fabs(sum - (double)delta[i]),
                                (double)(r + 5) * 0x1p-24 * size * 1.01 + 0x1p-149);
        }
    }
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- round trips -------------------------------------------------------------------------------------------------------- */

/* Without gates every bit of A and B; the scale to the f32 that alpha is. */
START_TEST(what_was_written_comes_back)
{
    lrk_module_spec specs[KNOWN];
    lrk_adapters *adapters = make_set(false);
    lrk_kohya_options options = options_new("lora_te_", _i);
    gguf_bytes bytes = save(adapters, &options);
    specs_of(specs);
    lrk_adapters *loaded = load(&bytes, &options, specs, KNOWN);
    for (int32_t m = 0; m < KNOWN; m++) {
        lrk_module_info info = gguf_module(loaded, m);
        ck_assert_str_eq(info.name, known[m].name);
        ck_assert_int_eq(info.rank, known[m].rank);
        size_t n_a = (size_t)(info.rank * info.n_in), n_b = (size_t)(info.rank * info.n_out);
        bool folded = fabs(known[m].scale) < 1e-40;
        double scale = info.rank == 0 ? known[m].scale
                       : folded       ? 1
                                : (double)(float)(known[m].scale * (double)info.rank) / (double)info.rank;
        ck_assert(info.scale == scale);
        if (info.rank == 0) continue;
        ck_assert_mem_eq(sets_tensor(loaded, m, LRK_TENSOR_A).data,
                         sets_tensor(adapters, m, LRK_TENSOR_A).data, n_a * sizeof(float));
        for (size_t i = 0; i < n_b; i++) {
            float b = sets_tensor(adapters, m, LRK_TENSOR_B).data[i];
            ck_assert(sets_tensor(loaded, m, LRK_TENSOR_B).data[i] ==
                      (folded ? b * (float)known[m].scale : b));
        }
    }
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_second_round_changes_no_byte)
{
    lrk_adapters *adapters = make_set(true);
    lrk_kohya_options options = options_new(NULL, 0);
    options.dtype = _i;
    gguf_bytes first = save(adapters, &options);
    lrk_adapters *loaded = load(&first, &options, NULL, 0);
    gguf_bytes second = save(loaded, &options);
    ck_assert_uint_eq(first.n, second.n);
    ck_assert_mem_eq(first.data, second.data, first.n);
    gguf_bytes_free(&first);
    gguf_bytes_free(&second);
    lrk_adapters_destroy(loaded);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_path_holds_the_same_bytes)
{
    scratch files;
    size_t n;
    scratch_init(&files);
    lrk_adapters *adapters = make_set(true), *loaded;
    gguf_bytes bytes = save(adapters, NULL);
    const char *path = scratch_path(&files, "lora.safetensors");
    scratch_write(path, "old", 3);
    ck_assert_int_eq(lrk_kohya_save(adapters, path, NULL), LRK_OK);
    char *read = scratch_read(path, &n);
    ck_assert_uint_eq(n, bytes.n);
    ck_assert_mem_eq(read, bytes.data, n);
    ck_assert_int_eq(scratch_count(files.dir), 1);
    lrk_adapters_options inference;
    ck_assert_int_eq(lrk_adapters_options_init(&inference, sizeof inference), LRK_OK);
    inference.flags = LRK_ADAPTERS_INFERENCE;
    ck_assert_int_eq(lrk_kohya_load(gguf_context, path, NULL, NULL, 0, &inference, &loaded), LRK_OK);
    ck_assert_uint_eq(sets_info(loaded).flags, LRK_ADAPTERS_INFERENCE);
    lrk_adapters *again = load(&bytes, NULL, NULL, 0);
    ck_assert(gguf_equal(loaded, again));
    ck_assert_int_eq(sets_info(loaded).modules, KNOWN - 1);
    ck_assert_str_eq(gguf_module(loaded, 0).name,
                     "down_blocks_0_attn_to_k"); /* byte order, without the prefix */
    lrk_adapters_destroy(again);
    lrk_adapters_destroy(loaded);
    free(read);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
    scratch_fini(&files);
}
END_TEST

/* ---- files of other programs -------------------------------------------------------------------------------------------- */

static const float down_values[] = {1, 2, 3, 4, 5, 6}, up_values[] = {1, 2, 3, 4, 5, 6, 7, 8};

/* A pair "x.y", r 2, n_in 3, n_out 4, under these endings. */
static void put_pair(st_entry *entries, const char *down, const char *up)
{
    entries[0] = (st_entry){down, "F32", 2, {2, 3}, down_values, sizeof down_values};
    entries[1] = (st_entry){up, "F32", 2, {4, 2}, up_values, sizeof up_values};
}

static void expect_pair(const lrk_adapters *adapters, int32_t m, const char *name, double scale)
{
    lrk_module_info info = gguf_module(adapters, m);
    ck_assert_str_eq(info.name, name);
    ck_assert(info.n_in == 3 && info.n_out == 4 && info.rank == 2 && info.scale == scale);
    ck_assert_mem_eq(sets_tensor(adapters, m, LRK_TENSOR_A).data, down_values, sizeof down_values);
    for (int i = 0; i < 8; i++)
        ck_assert(sets_tensor(adapters, m, LRK_TENSOR_B).data[i % 2 * 4 + i / 2] == up_values[i]);
    ck_assert(sets_tensor(adapters, m, LRK_TENSOR_GATES).data[1] == 1);
}

START_TEST(names_of_three_programs_are_read)
{
    static const char *const names[][2] = {{"unet.x.y.lora_down.weight", "unet.x.y.lora_up.weight"},
                                           {"unet.x.y.lora_A.weight", "unet.x.y.lora_B.weight"},
                                           {"unet.x.y.lora.down.weight", "unet.x.y.lora.up.weight"}};
    static const float alpha = 3;
    st_entry entries[3];
    put_pair(entries, names[_i / 2][0], names[_i / 2][1]);
    entries[2] = (st_entry){"unet.x.y.alpha", "F32", 0, {0}, &alpha, 4};
    gguf_bytes file = st_build(entries, 2 + _i % 2, NULL);
    lrk_kohya_options options = options_new("unet.", LRK_KOHYA_DOTTED);
    lrk_module_spec spec = sets_spec("x.y", 3, 4, 9);
    lrk_adapters *adapters = load(&file, &options, &spec, 1);
    expect_pair(adapters, 0, "x.y", _i % 2 ? 1.5 : 1);
    lrk_adapters_destroy(adapters);
    adapters = load(&file, &options, NULL, 0);
    expect_pair(adapters, 0, "x.y", _i % 2 ? 1.5 : 1);
    lrk_adapters_destroy(adapters);
    options.prefix = "";
    adapters = load(&file, &options, NULL, 0);
    expect_pair(adapters, 0, "unet.x.y", _i % 2 ? 1.5 : 1);
    lrk_adapters_destroy(adapters);
    gguf_bytes_free(&file);
}
END_TEST

START_TEST(an_alpha_may_be_any_number)
{
    static const int64_t wide = -6;
    static const int32_t narrow = 6;
    static const double real = 0.5;
    static const uint16_t half = 0x4000; /* 2 in both */
    static const float zero = 0, one = 1;
    const struct {
        st_entry alpha;
        double scale;
    } cases[] = {{{"lora_unet_x.alpha", "I64", 0, {0}, &wide, 8}, -3},
                 {{"lora_unet_x.alpha", "I32", 1, {1}, &narrow, 4}, 3},
                 {{"lora_unet_x.alpha", "F64", 0, {0}, &real, 8}, 0.25},
                 {{"lora_unet_x.alpha", "F16", 0, {0}, &half, 2}, 1},
                 {{"lora_unet_x.alpha", "BF16", 0, {0}, &half, 2}, 1},
                 {{"lora_unet_x.alpha", "F32", 2, {1, 1}, &one, 4}, 0.5},
                 {{"lora_unet_x.alpha", "F32", 0, {0}, &zero, 4}, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        st_entry entries[3];
        put_pair(entries, "lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight");
        entries[2] = cases[i].alpha;
        gguf_bytes file = st_build(entries, 3, NULL);
        lrk_adapters *adapters = load(&file, NULL, NULL, 0);
        expect_pair(adapters, 0, "x", cases[i].scale);
        lrk_adapters_destroy(adapters);
        gguf_bytes_free(&file);
    }
}
END_TEST

START_TEST(a_convolution_of_one_point_is_a_linear_layer)
{
    st_entry entries[2];
    put_pair(entries, "lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight");
    for (int i = 0; i < 2; i++) {
        entries[i].n_dims = 4;
        entries[i].shape[2] = entries[i].shape[3] = 1;
    }
    gguf_bytes file = st_build(entries, 2, NULL);
    lrk_adapters *adapters = load(&file, NULL, NULL, 0);
    expect_pair(adapters, 0, "x", 1);
    lrk_adapters_destroy(adapters);
    gguf_bytes_free(&file);
}
END_TEST

START_TEST(halves_and_doubles_become_f32)
{
    static const double wide[] = {1, 2, 3, 4, 5, 6};
    uint16_t halves[8];
    st_entry entries[2];
    for (int i = 0; i < 8; i++)
        halves[i] = half_encode(_i == 0 ? LRK_DTYPE_F16 : LRK_DTYPE_BF16, (double)up_values[i]);
    put_pair(entries, "lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight");
    entries[0].dtype = "F64";
    entries[0].data = wide;
    entries[0].bytes = sizeof wide;
    entries[1].dtype = _i == 0 ? "F16" : "BF16";
    entries[1].data = halves;
    entries[1].bytes = sizeof halves;
    gguf_bytes file = st_build(entries, 2, NULL);
    lrk_adapters *adapters = load(&file, NULL, NULL, 0);
    expect_pair(adapters, 0, "x", 1);
    lrk_adapters_destroy(adapters);
    gguf_bytes_free(&file);
}
END_TEST

/* Another order, modules that the file does not have; rank, scale and rule of the specs count for nothing. */
START_TEST(with_a_list_modules_are_the_hosts)
{
    lrk_module_spec specs[3] = {sets_spec("none", 7, 7, 5), sets_spec("x.b", 3, 4, 1),
                                sets_spec("x.a", 3, 4, 0)};
    st_entry entries[4];
    specs[1].stage = 6;
    specs[1].scale_rule = LRK_SCALE_ALPHA;
    specs[1].scale = 77;
    put_pair(entries, "lora_unet_x_a.lora_down.weight", "lora_unet_x_a.lora_up.weight");
    put_pair(entries + 2, "lora_unet_x_b.lora_A.weight", "lora_unet_x_b.lora_B.weight");
    gguf_bytes file = st_build(entries, 4, NULL);
    lrk_adapters *adapters = load(&file, NULL, specs, 3);
    ck_assert_int_eq(sets_info(adapters).modules, 3);
    ck_assert_int_eq(gguf_module(adapters, 0).rank, 0);
    ck_assert_int_eq(gguf_module(adapters, 1).stage, 6);
    expect_pair(adapters, 1, "x.b", 1);
    expect_pair(adapters, 2, "x.a", 1);
    lrk_adapters_destroy(adapters);
    gguf_bytes_free(&file);
}
END_TEST

Suite *kohya_suite(void);

Suite *kohya_suite(void)
{
    Suite *suite = suite_create("kohya");
    TCase *tcase = tcase_create("kohya");
    tcase_add_checked_fixture(tcase, gguf_setup, gguf_teardown);
    tcase_add_loop_test(tcase, tensors_hold_a_the_gated_b_and_alpha, 0, 9);
    tcase_add_test(tcase, the_formula_gives_the_delta);
    tcase_add_loop_test(tcase, what_was_written_comes_back, 0, 2);
    tcase_add_loop_test(tcase, a_second_round_changes_no_byte, 0, 3);
    tcase_add_test(tcase, a_path_holds_the_same_bytes);
    tcase_add_loop_test(tcase, names_of_three_programs_are_read, 0, 6);
    tcase_add_test(tcase, an_alpha_may_be_any_number);
    tcase_add_test(tcase, a_convolution_of_one_point_is_a_linear_layer);
    tcase_add_loop_test(tcase, halves_and_doubles_become_f32, 0, 2);
    tcase_add_test(tcase, with_a_list_modules_are_the_hosts);
    suite_add_tcase(suite, tcase);
    return suite;
}
