/* SPDX-License-Identifier: MIT */
/*
 * GGUF adapters that cannot be written or read: every wrong option, value, place and file is refused by name, and an old
 * file stands until the new one is whole.
 */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "gguf_sets.h"
#include "scratch.h"
#include "sets.h"

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

static void refuses(const lrk_adapters *adapters, const lrk_gguf_options *options, lrk_status want,
                    const char *words)
{
    gguf_bytes bytes = gguf_bytes_new();
    lrk_writer writer = gguf_bytes_writer(&bytes);
    sets_expect(gguf_context, lrk_gguf_write(adapters, &writer, options), want, words);
    ck_assert_int_eq(bytes.calls, 0);
}

START_TEST(wrong_options_are_named)
{
    static const double alphas[] = {0, -1, NAN, INFINITY, 1e39, 1e-60};
    lrk_adapters *adapters = gguf_set("llama");
    const lrk_gguf_options right = gguf_options("llama");
    lrk_gguf_options options = right;
    for (int i = 0; i < 6; i++) {
        options.alpha = alphas[i];
        refuses(adapters, &options, LRK_ERR_ARGUMENT, "alpha");
    }
    options = right;
    options.flags = 4;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "flags");
    options = right;
    options.dtype = 3;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "dtype 3");
    static const char *const names[] = {NULL, "", "\xc3",
                                        "0123456789012345678901234567890123456789012345678901234567890123"};
    for (int i = 0; i < 4; i++) {
        options = right;
        options.architecture = names[i];
        refuses(adapters, &options, LRK_ERR_ARGUMENT, "architecture");
    }
    refuses(adapters, NULL, LRK_ERR_ARGUMENT, "architecture");
    options = right;
    options.name = "\xff";
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "name is not UTF-8");
    options = right;
    options.n_head = -1;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "n_head");
    options = right;
    options.n_rules = 1;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "rules is NULL");
    options.n_rules = -1;
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "n_rules");
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(rules_that_are_none_are_refused)
{
    static const struct {
        const char *module, *tensor;
        int32_t rows;
        uint32_t flags;
    } wrong[] = {{NULL, "t", 0, 0},  {"m", NULL, 0, 0},  {"", "t", 0, 0},     {"m", "", 0, 0},
                 {"m.#", "t", 0, 0}, {"m", "t.#", 0, 0}, {"m##", "t#", 0, 0}, {"m#", "t.#.#", 0, 0},
                 {"m", "t", -1, 0},  {"m", "t", 3, 0},   {"m", "t", 0, 1},    {"\xff", "t", 0, 0},
                 {"m", "\xc3", 0, 0}};
    lrk_adapters *adapters = gguf_set("llama");
    lrk_gguf_options options = gguf_options("llama");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        lrk_gguf_rule rules[2] = {
            {.struct_size = sizeof rules[0], .module = "right", .tensor = "right"},
            {sizeof rules[0], wrong[i].flags, wrong[i].module, wrong[i].tensor, wrong[i].rows, 0}};
        options.rules = rules;
        options.n_rules = 2;
        refuses(adapters, &options, LRK_ERR_ARGUMENT, "rule 1");
    }
    lrk_adapters_destroy(adapters);
}
END_TEST

static void refuses_module(lrk_module_spec spec, const lrk_gguf_options *options, lrk_status want,
                           const char *words)
{
    lrk_adapters *adapters = sets_create(gguf_context, &spec, 1, NULL);
    refuses(adapters, options, want, words);
    lrk_adapters_destroy(adapters);
}

START_TEST(modules_that_have_no_tensor_are_named)
{
    static const char *const names[] = {"model.layers.0.self_attn.qkv_proj",
                                        "model.layers.00.self_attn.q_proj",
                                        "model.layers.01.self_attn.q_proj",
                                        "model.layers.-1.self_attn.q_proj",
                                        "model.layers..self_attn.q_proj",
                                        "model.layers.1234567890.self_attn.q_proj",
                                        "model.layers.0.self_attn.q_proj.base",
                                        "model.layers.0xself_attn.q_proj",
                                        "base_model.model.model.layers.0.self_attn.q_proj",
                                        "model.embed_tokens",
                                        "transformer.h.0.attn.c_attn"};
    lrk_gguf_options options = gguf_options("llama");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        refuses_module(sets_spec(names[i], 2, 16, 1), &options, LRK_ERR_NOT_FOUND, names[i]);
    options.architecture = "mamba";
    refuses_module(sets_spec("lm_head", 2, 2, 1), &options, LRK_ERR_NOT_FOUND, "architecture 'mamba'");
    options.flags = LRK_GGUF_FILE_NAMES;
    refuses_module(sets_spec("token_embd", 2, 2, 1), &options, LRK_ERR_UNSUPPORTED, "token embeddings");
    /* 49 bytes and ".weight.lora_a" are 63 */
    const char *longest = "0123456789012345678901234567890123456789012345678";
    refuses_module(sets_spec("01234567890123456789012345678901234567890123456789", 2, 2, 1), &options,
                   LRK_ERR_UNSUPPORTED, "63 bytes");
    lrk_module_spec spec = sets_spec(longest, 2, 2, 1);
    lrk_adapters *adapters = sets_create(gguf_context, &spec, 1, NULL);
    gguf_bytes bytes = gguf_save(adapters, &options);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(sets_that_gguf_cannot_hold_are_refused)
{
    lrk_gguf_options options = gguf_options("llama");
    refuses_module(sets_spec("lm_head", 2, 2, 0), &options, LRK_ERR_UNSUPPORTED, "every module has rank 0");
    lrk_module_spec twice[2] = {sets_spec("lm_head", 2, 2, 1), sets_spec("model.lm_head", 2, 2, 1)};
    lrk_gguf_rule rule = {.struct_size = sizeof rule, .module = "model.lm_head", .tensor = "output"};
    options.rules = &rule;
    options.n_rules = 1;
    lrk_adapters *adapters = sets_create(gguf_context, twice, 2, NULL);
    refuses(adapters, &options, LRK_ERR_ARGUMENT, "both tensor 'output'");
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(heads_must_divide_the_rows)
{
    lrk_gguf_options options = gguf_options("llama");
    lrk_module_spec q = sets_spec("model.layers.0.self_attn.q_proj", 2, 12, 1);
    options.n_head = 0;
    options.n_kv_head = 2; /* k's number is not q's */
    refuses_module(q, &options, LRK_ERR_ARGUMENT, "n_head must be set");
    options.n_head = 5;
    refuses_module(q, &options, LRK_ERR_SHAPE, "12 rows are not 5 heads");
    options.n_head = 4; /* of 3 rows */
    refuses_module(q, &options, LRK_ERR_SHAPE, "even");
    options.n_head = 2;
    options.n_kv_head = 5;
    lrk_module_spec k = sets_spec("model.layers.0.self_attn.k_proj", 2, 12, 1);
    refuses_module(k, &options, LRK_ERR_SHAPE, "'model.layers.0.self_attn.k_proj'");
}
END_TEST

START_TEST(values_that_are_not_finite_are_refused)
{
    static const char *const words[] = {"'lm_head': A", "'lm_head': B", "'lm_head': gates"};
    lrk_module_spec specs[2] = {sets_spec("layers.0.mlp.up_proj", 2, 2, 1), sets_spec("lm_head", 2, 3, 2)};
    lrk_adapters *adapters = sets_create(gguf_context, specs, 2, NULL);
    lrk_gguf_options options = gguf_options("llama");
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
        sets_fill(adapters);
        sets_tensor(adapters, 1, which).data[1] = which == LRK_TENSOR_B ? INFINITY : NAN;
        refuses(adapters, &options, LRK_ERR_NONFINITE, words[which]);
        lrk_error_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_context_error_info(gguf_context, &info), LRK_OK);
        ck_assert_int_eq(info.module, 1);
    }
    sets_fill(adapters);
    sets_tensor(adapters, 1, LRK_TENSOR_B).data[0] = 1e20f;
    options.alpha = 1e-30;
    refuses(adapters, &options, LRK_ERR_NONFINITE, "'lm_head': B times scale and gates");
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(what_is_too_large_for_a_half_is_refused)
{
    lrk_module_spec spec = sets_spec("lm_head", 2, 2, 1);
    lrk_adapters *adapters = sets_create(gguf_context, &spec, 1, NULL);
    lrk_gguf_options options = gguf_options("llama");
    gguf_bytes bytes = gguf_bytes_new();
    lrk_writer writer = gguf_bytes_writer(&bytes);
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_B; which++) {
        sets_fill(adapters);
        sets_tensor(adapters, 0, LRK_TENSOR_GATES).data[0] = 1;
        sets_tensor(adapters, 0, which).data[1] = 1e6f;
        options.dtype = LRK_DTYPE_F16;
        sets_expect(gguf_context, lrk_gguf_write(adapters, &writer, &options), LRK_ERR_NONFINITE,
                    "'lm_head': a value is too large for F16");
        options.dtype = LRK_DTYPE_BF16;
        ck_assert_int_eq(lrk_gguf_write(adapters, &writer, &options), LRK_OK);
    }
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_write_that_fails_leaves_the_old_file)
{
    struct rlimit limit, least;
    scratch files;
    scratch_init(&files);
    lrk_adapters *adapters = gguf_set("llama"), *loaded;
    lrk_gguf_options options = gguf_options("llama");
    const char *path = scratch_path(&files, "adapter.gguf");
    ck_assert_int_eq(lrk_gguf_save(adapters, path, &options), LRK_OK);
    gguf_bytes bytes = gguf_save(adapters, &options);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    for (rlim_t most = 0; most < bytes.n; most += 256) {
        least = limit;
        least.rlim_cur = most;
        sets_fill(adapters);
        sets_tensor(adapters, 0, LRK_TENSOR_A).data[0] = 7;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &least), 0);
        lrk_status status = lrk_gguf_save(adapters, path, &options);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        sets_expect(gguf_context, status, LRK_ERR_IO, "adapter.gguf");
        ck_assert_int_eq(scratch_count(files.dir), 1);
    }
    signal(SIGXFSZ, SIG_DFL);
    ck_assert_int_eq(lrk_gguf_load(gguf_context, path, &options, NULL, 0, NULL, &loaded), LRK_OK);
    lrk_adapters *old = gguf_load(&bytes, &options);
    ck_assert(gguf_equal(loaded, old));
    lrk_adapters_destroy(old);
    lrk_adapters_destroy(loaded);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
    scratch_fini(&files);
}
END_TEST

START_TEST(places_and_arguments_are_checked)
{
    scratch files;
    scratch_init(&files);
    lrk_adapters *adapters = gguf_set("llama"), *out = adapters;
    lrk_gguf_options options = gguf_options("llama");
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_writer writer = {.struct_size = sizeof writer};
    lrk_module_spec specs[8];
    int32_t n = gguf_specs("llama", specs);
    ck_assert_int_eq(lrk_gguf_save(NULL, "x", &options), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_gguf_write(NULL, &writer, &options), LRK_ERR_ARGUMENT);
    sets_expect(gguf_context, lrk_gguf_save(adapters, NULL, &options), LRK_ERR_ARGUMENT, "path");
    sets_expect(gguf_context, lrk_gguf_save(adapters, "", &options), LRK_ERR_ARGUMENT, "path");
    sets_expect(gguf_context, lrk_gguf_write(adapters, NULL, &options), LRK_ERR_ARGUMENT, "writer");
    sets_expect(gguf_context, lrk_gguf_write(adapters, &writer, &options), LRK_ERR_ARGUMENT, "write");
    sets_expect(gguf_context, lrk_gguf_save(adapters, scratch_path(&files, "no/such"), &options), LRK_ERR_IO,
                "no/such");
    sets_expect(gguf_context,
                lrk_gguf_load(gguf_context, scratch_path(&files, "absent"), NULL, NULL, 0, NULL, &out),
                LRK_ERR_NOT_FOUND, "absent");
    ck_assert_ptr_null(out);
    sets_expect(gguf_context, lrk_gguf_load(gguf_context, files.dir, NULL, NULL, 0, NULL, &out), LRK_ERR_IO,
                "regular");
    ck_assert_int_eq(lrk_gguf_load(NULL, "x", NULL, NULL, 0, NULL, &out), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_gguf_load(gguf_context, "x", NULL, NULL, 0, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_gguf_load(gguf_context, NULL, NULL, NULL, 0, NULL, &out), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_gguf_load_reader(gguf_context, NULL, NULL, NULL, 0, NULL, &out), LRK_ERR_ARGUMENT);
    sets_expect(gguf_context, lrk_gguf_load_reader(gguf_context, &reader, NULL, NULL, 0, NULL, &out),
                LRK_ERR_ARGUMENT, "read_at");
    sets_expect(gguf_context, lrk_gguf_load(gguf_context, "x", NULL, specs, 0, NULL, &out), LRK_ERR_ARGUMENT,
                "n_modules");
    sets_expect(gguf_context, lrk_gguf_load(gguf_context, "x", NULL, NULL, n, NULL, &out), LRK_ERR_ARGUMENT,
                "n_modules");
    sets_expect(gguf_context, lrk_gguf_load(gguf_context, "x", NULL, specs, -1, NULL, &out), LRK_ERR_ARGUMENT,
                "n_modules");
    lrk_adapters_destroy(adapters);
    scratch_fini(&files);
}
END_TEST

/* ---- reading: the host's side ------------------------------------------------------------------------------------------- */

static void load_refuses(gguf_bytes *bytes, const lrk_gguf_options *options, const lrk_module_spec *modules,
                         int64_t n, lrk_status want, const char *words)
{
    lrk_adapters *adapters = (lrk_adapters *)&gguf_host;
    int64_t live = gguf_host.live;
    sets_expect(gguf_context, gguf_try(bytes, options, modules, n, &adapters), want, words);
    ck_assert_ptr_null(adapters);
    ck_assert_int_eq(gguf_host.live, live);
}

START_TEST(a_list_or_options_that_do_not_fit_are_refused)
{
    lrk_module_spec specs[9];
    lrk_adapters *adapters = gguf_set("llama");
    lrk_gguf_options options = gguf_options("llama");
    gguf_bytes bytes = gguf_save(adapters, &options);
    int32_t n = gguf_specs("llama", specs);
    load_refuses(&bytes, &options, specs, n - 1, LRK_ERR_NOT_FOUND, "'output.weight': none of the modules");
    specs[n] = sets_spec("layers.0.self_attn.q_proj", 5, 16, 0);
    load_refuses(&bytes, &options, specs, n + 1, LRK_ERR_ARGUMENT, "both tensor 'blk.0.attn_q'");
    specs[1].n_out = 10;
    load_refuses(&bytes, &options, specs, n, LRK_ERR_SHAPE, "is 10 x 5, pair 'blk.0.attn_k.weight'");
    specs[1].n_out = 8;
    specs[1].n_in = 4;
    load_refuses(&bytes, &options, specs, n, LRK_ERR_SHAPE, specs[1].name);
    specs[1].name = NULL;
    load_refuses(&bytes, &options, specs, n, LRK_ERR_ARGUMENT, "module 1: name is NULL");
    load_refuses(&bytes, NULL, NULL, 0, LRK_ERR_ARGUMENT, "n_head must be set");
    options.n_head = 3;
    load_refuses(&bytes, &options, NULL, 0, LRK_ERR_SHAPE, "16 rows are not 3 heads");
    options = gguf_options("qwen2");
    load_refuses(&bytes, &options, NULL, 0, LRK_ERR_UNSUPPORTED, "architecture 'llama', not 'qwen2'");
    options = gguf_options("llama");
    options.flags = 8;
    load_refuses(&bytes, &options, NULL, 0, LRK_ERR_ARGUMENT, "flags");
    options.struct_size = 4;
    load_refuses(&bytes, &options, NULL, 0, LRK_ERR_ARGUMENT, "lrk_gguf_options");
    lrk_adapters_options wrong;
    lrk_adapters_options_init(&wrong, sizeof wrong);
    wrong.dropout = 2;
    options = gguf_options("llama");
    lrk_reader reader = gguf_bytes_reader(&bytes);
    lrk_adapters *out = adapters;
    sets_expect(gguf_context, lrk_gguf_load_reader(gguf_context, &reader, &options, NULL, 0, &wrong, &out),
                LRK_ERR_ARGUMENT, "dropout");
    ck_assert_ptr_null(out);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- reading: the file's side ------------------------------------------------------------------------------------------- */

static void sketch_refused(const gguf_sketch *sketch, lrk_status want, const char *words)
{
    gguf_bytes bytes = gguf_build(sketch);
    load_refuses(&bytes, NULL, NULL, 0, want, words);
    gguf_bytes_free(&bytes);
}

START_TEST(headers_that_are_none_are_refused)
{
    static const uint32_t versions[] = {0, 1, 4, 0x03000000};
    gguf_sketch sketch = gguf_right();
    sketch.magic = "GGUG";
    sketch_refused(&sketch, LRK_ERR_FORMAT, "not a GGUF file");
    for (int i = 0; i < 4; i++) {
        sketch = gguf_right();
        sketch.version = versions[i];
        sketch_refused(&sketch, LRK_ERR_UNSUPPORTED, i == 3 ? "big-endian" : "version");
    }
    static const int64_t counts[] = {INT64_MAX - 10, INT64_MIN, -9, 1000, 1LL << 60};
    for (int i = 0; i < 5; i++) {
        sketch = gguf_right();
        sketch.more_tensors = counts[i];
        sketch_refused(&sketch, LRK_ERR_FORMAT, "more tensors than");
        sketch = gguf_right();
        sketch.more_keys = counts[i];
        sketch_refused(&sketch, LRK_ERR_FORMAT, "more metadata than");
    }
    size_t peak = gguf_host.peak_bytes; /* counts beyond the file were never allocated */
    ck_assert_uint_lt(peak, 1 << 20);
}
END_TEST

START_TEST(files_that_are_no_adapter_are_refused)
{
    static const float wrong[] = {NAN, INFINITY};
    gguf_sketch sketch = gguf_right();
    sketch.type = "model";
    sketch_refused(&sketch, LRK_ERR_UNSUPPORTED, "general.type is 'model'");
    sketch.type = NULL;
    sketch_refused(&sketch, LRK_ERR_UNSUPPORTED, "general.type is ''");
    sketch = gguf_right();
    sketch.adapter = "vector";
    sketch_refused(&sketch, LRK_ERR_UNSUPPORTED, "adapter.type is 'vector'");
    sketch = gguf_right();
    sketch.architecture = NULL;
    sketch_refused(&sketch, LRK_ERR_FORMAT, "general.architecture");
    sketch.architecture = "falcon";
    sketch_refused(&sketch, LRK_ERR_NOT_FOUND, "no rule of architecture 'falcon'");
    sketch.architecture = "0123456789012345678901234567890123456789012345678901234567890123";
    sketch_refused(&sketch, LRK_ERR_FORMAT, "general.architecture");
    sketch.architecture = "lla\xff";
    sketch_refused(&sketch, LRK_ERR_FORMAT, "general.architecture");
    for (int i = 0; i < 2; i++) {
        sketch = gguf_right();
        sketch.alpha = &wrong[i];
        sketch_refused(&sketch, LRK_ERR_FORMAT, "adapter.lora.alpha");
    }
}
END_TEST

/* One key more: `type` and bytes of a value. */
static void key_refused(const char *key, size_t n_key, uint32_t type, const void *value, size_t n,
                        lrk_status want, const char *words)
{
    gguf_bytes extra = gguf_bytes_new();
    gguf_sketch sketch = gguf_right();
    if (strncmp(key, "adapter.lora.alpha", n_key + 1) == 0) sketch.alpha = NULL;
    gguf_put_u64(&extra, n_key);
    gguf_put(&extra, key, n_key);
    gguf_put_u32(&extra, type);
    gguf_put(&extra, value, n);
    sketch.extra = extra.data;
    sketch.extra_bytes = extra.n;
    sketch.n_extra = 1;
    sketch_refused(&sketch, want, words);
    gguf_bytes_free(&extra);
}

START_TEST(keys_that_are_wrong_are_named)
{
    static const unsigned char eight[8] = {3, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char many[12] = {4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f};
    static const unsigned char strings[12] = {8, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0};
    static const unsigned char nested[12] = {9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char unknown[12] = {13, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char long_text[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    key_refused("adapter.lora.alpha", 18, 12, eight, 8, LRK_ERR_FORMAT, "adapter.lora.alpha': not an f32");
    key_refused("general.alignment", 17, 10, eight, 8, LRK_ERR_FORMAT, "general.alignment': not a u32");
    key_refused("general.alignment", 17, 4, eight, 4, LRK_ERR_FORMAT, "not a power of two");
    key_refused("general.alignment", 17, 4, eight + 4, 4, LRK_ERR_FORMAT, "not a power of two");
    key_refused("general.type", 12, 4, eight, 4, LRK_ERR_FORMAT, "'general.type'");
    key_refused("general.type", 12, 8, "\7\0\0\0\0\0\0\0adapter", 15, LRK_ERR_FORMAT,
                "general.type': comes twice");
    key_refused("general.type", 12, 8, "\7\0\0\0\0\0\0\0adap\0er", 15, LRK_ERR_FORMAT, "a NUL in it");
    key_refused("x", 1, 13, eight, 8, LRK_ERR_FORMAT, "'x': a value of an unknown type");
    key_refused("x", 1, 0xffffffffu, eight, 8, LRK_ERR_FORMAT, "'x': a value of an unknown type");
    key_refused("x", 1, 9, many, 12, LRK_ERR_FORMAT, "'x': more elements");
    key_refused("x", 1, 9, strings, 12, LRK_ERR_FORMAT, "'x': more elements");
    key_refused("x", 1, 9, nested, 12, LRK_ERR_FORMAT, "'x': elements of an unknown type, or arrays");
    key_refused("x", 1, 9, unknown, 12, LRK_ERR_FORMAT, "'x': elements of an unknown type, or arrays");
    key_refused("x", 1, 8, long_text, 8, LRK_ERR_FORMAT, "ends within its header");
    key_refused("", 0, 4, eight, 4, LRK_ERR_FORMAT, "a key that is empty");
    key_refused("a\0b", 3, 4, eight, 4, LRK_ERR_FORMAT, "a NUL in it");
    key_refused("\xe9", 1, 4, eight, 4, LRK_ERR_FORMAT, "not UTF-8");
    key_refused("adapter.alora.invocation_tokens", 31, 9, strings, 12, LRK_ERR_UNSUPPORTED,
                "invocation tokens");
    char *longest = malloc(65536);
    memset(longest, 'k', 65536);
    key_refused(longest, 65536, 4, eight, 4, LRK_ERR_FORMAT, "too long");
    free(longest);
}
END_TEST

START_TEST(tensors_that_are_wrong_are_named)
{
    static const uint64_t dims[] = {0, 1ull << 63, UINT64_MAX, 1ull << 61};
    const char *a = "blk.0.attn_v.weight.lora_a", *b = "blk.0.attn_v.weight.lora_b";
    gguf_sketch sketch;
    for (int i = 0; i < 4; i++) {
        sketch = gguf_right();
        sketch.ne[1][0] = dims[i];
        sketch_refused(&sketch, LRK_ERR_FORMAT, b);
    }
    for (uint32_t n = 0; n < 6; n += 5) {
        sketch = gguf_right();
        sketch.n_dims[0] = n;
        sketch_refused(&sketch, LRK_ERR_FORMAT, "not of one to four dimensions");
    }
    static const struct {
        uint32_t type;
        lrk_status status;
        const char *words;
    } types[] = {{8, LRK_ERR_UNSUPPORTED, "ggml type Q8_0"}, {28, LRK_ERR_UNSUPPORTED, "F64"},
                 {39, LRK_ERR_UNSUPPORTED, "MXFP4"},         {4, LRK_ERR_FORMAT, "does not have"},
                 {43, LRK_ERR_FORMAT, "does not have"},      {0xffffffffu, LRK_ERR_FORMAT, "does not have"}};
    for (int i = 0; i < 6; i++) {
        sketch = gguf_right();
        sketch.types[0] = types[i].type;
        sketch_refused(&sketch, types[i].status, types[i].words);
        sketch_refused(&sketch, types[i].status, a);
    }
    static const int64_t shifts[] = {-32, 1, 32, INT64_MAX - 64};
    for (int i = 0; i < 4; i++) {
        sketch = gguf_right();
        sketch.shift[1] = shifts[i];
        sketch_refused(&sketch, LRK_ERR_FORMAT, "lora_b': not where its data must be");
    }
    sketch = gguf_right();
    sketch.less_data = 1; /* B fills its 32 bytes */
    sketch_refused(&sketch, LRK_ERR_FORMAT, "lora_b': the file ends within its data");
    sketch.less_data = 0;
    gguf_bytes bytes = gguf_build(&sketch);
    gguf_put(&bytes, "", 1);
    load_refuses(&bytes, NULL, NULL, 0, LRK_ERR_FORMAT, "bytes after the last tensor");
    bytes.data[bytes.n - 34] = 1; /* between A's 24 bytes and B */
    load_refuses(&bytes, NULL, NULL, 0, LRK_ERR_FORMAT, "padding that is not zero");
    gguf_bytes_free(&bytes);
}
END_TEST

START_TEST(pairs_that_are_none_are_named)
{
    static const struct {
        const char *a, *b;
        lrk_status status;
        const char *words;
    } names[] = {
        {"blk.0.attn_v.weight.lora_a", NULL, LRK_ERR_FORMAT, "'blk.0.attn_v.weight': one half is missing"},
        {"blk.0.attn_v.weight.lora_b", NULL, LRK_ERR_FORMAT, "one half is missing"},
        {"blk.0.attn_v.weight.lora_a", "blk.1.attn_v.weight.lora_b", LRK_ERR_FORMAT, "one half is missing"},
        {"blk.0.attn_v.weight.lora_a", "blk.0.attn_v.weight.lora_a", LRK_ERR_FORMAT, "comes twice"},
        {"blk.0.attn_norm.weight", "x", LRK_ERR_UNSUPPORTED, "'blk.0.attn_norm.weight' is no half"},
        {"blk.0.attn_v.lora_a", "blk.0.attn_v.lora_b", LRK_ERR_UNSUPPORTED, "is no half"},
        {".weight.lora_a", ".weight.lora_b", LRK_ERR_UNSUPPORTED, "is no half"},
        {"blk.0.odd.weight.lora_a", "blk.0.odd.weight.lora_b", LRK_ERR_NOT_FOUND, "tensor 'blk.0.odd'"},
        {"token_embd.weight.lora_a", "token_embd.weight.lora_b", LRK_ERR_UNSUPPORTED, "token embeddings"},
        {"", "x", LRK_ERR_FORMAT, "empty or longer"},
        {"0123456789012345678901234567890123456789012345678901234567890123", "x", LRK_ERR_FORMAT, "longer"},
        {"\xff", "x", LRK_ERR_FORMAT, "not UTF-8"},
    };
    gguf_sketch sketch;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        sketch = gguf_right();
        sketch.names[0] = names[i].a;
        sketch.names[1] = names[i].b;
        sketch_refused(&sketch, names[i].status, names[i].words);
    }
    sketch = gguf_right();
    sketch.ne[1][0] = 3;
    sketch_refused(&sketch, LRK_ERR_FORMAT, "do not conform");
    sketch = gguf_right();
    sketch.n_dims[0] = 3;
    sketch.ne[0][2] = 2;
    sketch_refused(&sketch, LRK_ERR_UNSUPPORTED, "more than two dimensions");
    sketch = gguf_right();
    sketch.names[0] = sketch.names[1] = NULL;
    sketch_refused(&sketch, LRK_ERR_FORMAT, "no tensors");
    for (int i = 0; i < 2; i++) {
        float values[8] = {1, 2, 3, 4, 5, NAN, 7, 8};
        sketch = gguf_right();
        sketch.values[i] = values;
        sketch_refused(&sketch, LRK_ERR_FORMAT,
                       i == 0 ? "lora_a': a value is not" : "lora_b': a value is not");
    }
}
END_TEST

Suite *gguf_refusals_suite(void)
{
    Suite *suite = suite_create("gguf_refusals");
    TCase *tests = tcase_create("gguf_refusals");
    tcase_add_checked_fixture(tests, gguf_setup, gguf_teardown);
    tcase_add_test(tests, wrong_options_are_named);
    tcase_add_test(tests, rules_that_are_none_are_refused);
    tcase_add_test(tests, modules_that_have_no_tensor_are_named);
    tcase_add_test(tests, sets_that_gguf_cannot_hold_are_refused);
    tcase_add_test(tests, heads_must_divide_the_rows);
    tcase_add_test(tests, values_that_are_not_finite_are_refused);
    tcase_add_test(tests, what_is_too_large_for_a_half_is_refused);
    tcase_add_test(tests, a_write_that_fails_leaves_the_old_file);
    tcase_add_test(tests, places_and_arguments_are_checked);
    tcase_add_test(tests, a_list_or_options_that_do_not_fit_are_refused);
    tcase_add_test(tests, headers_that_are_none_are_refused);
    tcase_add_test(tests, files_that_are_no_adapter_are_refused);
    tcase_add_test(tests, keys_that_are_wrong_are_named);
    tcase_add_test(tests, tensors_that_are_wrong_are_named);
    tcase_add_test(tests, pairs_that_are_none_are_named);
    suite_add_tcase(suite, tests);
    return suite;
}
