/* SPDX-License-Identifier: MIT */
/*
 * GGUF adapters: the bytes are the format's and the values the formula's, rows of q and k move as llama.cpp wants them,
 * and what is read is what was written.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/dtype.h"
#include "gguf_sets.h"
#include "scratch.h"
#include "sets.h"

static const char *const architectures[] = {"llama", "qwen2", "gpt2"};

/* Where row `old` of a module is in the file: new row 2 i + h of a head is old row h d / 2 + i. */
static int64_t row_in_file(int64_t old, int64_t n_out, int64_t heads)
{
    int64_t d = heads > 0 ? n_out / heads : 0;
    for (int64_t head = 0; head < heads; head++)
        for (int64_t i = 0; i < d / 2; i++)
            for (int64_t h = 0; h < 2; h++)
                if (head * d + h * (d / 2) + i == old) return head * d + 2 * i + h;
    return old;
}

static const gguf_tensor *tensor_of(const gguf_file *file, const char *base, const char *suffix)
{
    char name[80];
    strcat(strcpy(name, base), suffix);
    return gguf_find_tensor(file, name);
}

/* ---- what is in the file ------------------------------------------------------------------------------------------------ */

START_TEST(keys_say_what_llama_cpp_asks_for)
{
    static const uint32_t file_types[] = {0, 32, 1}; /* by LRK_DTYPE_... */
    float alpha;
    lrk_adapters *adapters = gguf_set("llama");
    lrk_gguf_options options = gguf_options("llama");
    for (int32_t dtype = LRK_DTYPE_F32; dtype <= LRK_DTYPE_F16; dtype++) {
        gguf_file file;
        options.dtype = dtype;
        options.name = dtype == LRK_DTYPE_F16 ? "caf\xc3\xa9" : NULL;
        gguf_bytes bytes = gguf_save(adapters, &options);
        gguf_parse(&bytes, &file);
        gguf_expect_text(&file, "general.type", "adapter");
        gguf_expect_text(&file, "general.architecture", "llama");
        gguf_expect_text(&file, "adapter.type", "lora");
        gguf_expect_text(&file, "lorank.version", lrk_version_text());
        if (options.name != NULL) gguf_expect_text(&file, "general.name", options.name);
        ck_assert_uint_eq(file.n_keys, options.name != NULL ? 8 : 7);
        const gguf_key *key = gguf_find_key(&file, "adapter.lora.alpha");
        ck_assert_uint_eq(key->type, 6);
        memcpy(&alpha, key->value, sizeof alpha);
        ck_assert(alpha == (float)GGUF_ALPHA);
        ck_assert_uint_eq(gguf_find_key(&file, "general.file_type")->value[0], file_types[dtype]);
        ck_assert_uint_eq(gguf_find_key(&file, "general.quantization_version")->value[0], 2);
        gguf_bytes_free(&bytes);
    }
    lrk_adapters_destroy(adapters);
}
END_TEST

/* |stored - exact| is half a unit of f32 and half a unit of dtype, where subnormals are spaced evenly. */
static void expect_near(double stored, double exact, int32_t dtype)
{
    static const double units[] = {0x1p-24, 0x1p-8 + 0x1p-24, 0x1p-11 + 0x1p-24};
    static const double least[] = {0x1p-150, 0x1p-134, 0x1p-25};
    ck_assert_double_le(fabs(stored - exact), fmax(fabs(exact) * units[dtype] * 1.001, least[dtype]));
}

static void check_module(const lrk_adapters *adapters, int32_t m, const gguf_file *file,
                         const char *architecture, int32_t dtype)
{
    int64_t heads;
    const char *base = gguf_base(architecture, m, &heads);
    lrk_module_info info = gguf_module(adapters, m);
    lrk_tensor a = sets_tensor(adapters, m, LRK_TENSOR_A), b = sets_tensor(adapters, m, LRK_TENSOR_B);
    lrk_tensor gates = sets_tensor(adapters, m, LRK_TENSOR_GATES);
    const gguf_tensor *stored_a = tensor_of(file, base, ".weight.lora_a");
    const gguf_tensor *stored_b = tensor_of(file, base, ".weight.lora_b");
    ck_assert_uint_eq(stored_a->ne[0], info.n_in);
    ck_assert_uint_eq(stored_a->ne[1], info.rank);
    ck_assert_uint_eq(stored_b->ne[0], info.rank);
    ck_assert_uint_eq(stored_b->ne[1], info.n_out);
    for (int64_t i = 0; i < info.rank * info.n_in; i++)
        expect_near(gguf_value(stored_a, (uint64_t)i), (double)a.data[i], dtype);
    for (int64_t j = 0; j < info.rank; j++)
        for (int64_t row = 0; row < info.n_out; row++) {
            double exact = (double)b.data[j * info.n_out + row] * (double)gates.data[j] * info.scale *
                           (double)info.rank / GGUF_ALPHA;
            int64_t at = row_in_file(row, info.n_out, heads) * info.rank + j;
            expect_near(gguf_value(stored_b, (uint64_t)at), exact, dtype);
        }
}

START_TEST(tensors_hold_a_and_the_folded_b)
{
    const char *architecture = architectures[_i % 3];
    int32_t dtype = _i / 3;
    gguf_file file;
    lrk_adapters *adapters = gguf_set(architecture);
    lrk_gguf_options options = gguf_options(architecture);
    options.dtype = dtype;
    gguf_bytes bytes = gguf_save(adapters, &options);
    gguf_parse(&bytes, &file);
    uint64_t live = 0;
    for (int32_t m = 0; m < sets_info(adapters).modules; m++) {
        if (gguf_module(adapters, m).rank == 0) continue;
        check_module(adapters, m, &file, architecture, dtype);
        live++;
    }
    ck_assert_uint_eq(file.n_tensors, 2 * live);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* alpha / r B' A', row by row in the file's order, is lorank's delta with its rows moved. */
START_TEST(permuting_b_permutes_the_delta)
{
    float delta[16 * 5];
    gguf_file file;
    lrk_adapters *adapters = gguf_set("llama");
    lrk_gguf_options options = gguf_options("llama");
    gguf_bytes bytes = gguf_save(adapters, &options);
    gguf_parse(&bytes, &file);
    int moved = 0;
    for (int32_t m = 0; m < 2; m++) {
        int64_t heads;
        const char *base = gguf_base("llama", m, &heads);
        lrk_module_info info = gguf_module(adapters, m);
        const gguf_tensor *a = tensor_of(&file, base, ".weight.lora_a");
        const gguf_tensor *b = tensor_of(&file, base, ".weight.lora_b");
        ck_assert_int_eq(lrk_adapters_delta(adapters, m, LRK_WEIGHT_OUT_IN, delta, info.n_in), LRK_OK);
        for (int64_t row = 0; row < info.n_out; row++) {
            int64_t at = row_in_file(row, info.n_out, heads);
            moved += at != row;
            for (int64_t i = 0; i < info.n_in; i++) {
                double sum = 0, size = 0;
                for (int64_t j = 0; j < info.rank; j++) {
                    double term = GGUF_ALPHA / (double)info.rank *
                                  gguf_value(b, (uint64_t)(at * info.rank + j)) *
                                  gguf_value(a, (uint64_t)(j * info.n_in + i));
                    sum += term;
                    size += fabs(term);
                }
                /* rank + 3 roundings of the delta in f32, one of the fold */
                ck_assert_double_le(fabs(sum - (double)delta[row * info.n_in + i]),
                                    (double)(info.rank + 4) * 0x1p-24 * size * 1.01);
            }
        }
    }
    ck_assert_int_gt(moved, 8);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- round trips -------------------------------------------------------------------------------------------------------- */

START_TEST(every_bit_comes_back_where_the_fold_is_one)
{
    const char *architecture = architectures[_i];
    lrk_module_spec specs[8];
    lrk_adapters *adapters = gguf_plain_set(architecture), *loaded;
    lrk_gguf_options options = gguf_options(architecture);
    gguf_bytes bytes = gguf_save(adapters, &options);
    int32_t n = gguf_specs(architecture, specs);
    ck_assert_int_eq(gguf_try(&bytes, &options, specs, n, &loaded), LRK_OK);
    ck_assert(gguf_equal(adapters, loaded));
    lrk_adapters_destroy(loaded);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* What was loaded has scales alpha / r and gates 1, so that it is written as it was, in every dtype. */
START_TEST(a_second_round_changes_no_byte)
{
    lrk_adapters *adapters = gguf_set("llama");
    lrk_gguf_options options = gguf_options("llama");
    options.dtype = _i;
    gguf_bytes first = gguf_save(adapters, &options);
    lrk_adapters *loaded = gguf_load(&first, &options);
    gguf_bytes second = gguf_save(loaded, &options);
    ck_assert_uint_eq(first.n, second.n);
    ck_assert_mem_eq(first.data, second.data, first.n);
    lrk_adapters_destroy(loaded);
    gguf_bytes_free(&first);
    gguf_bytes_free(&second);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_path_holds_the_same_bytes)
{
    scratch files;
    size_t n;
    scratch_init(&files);
    lrk_adapters *adapters = gguf_set("llama"), *loaded, *again;
    lrk_gguf_options options = gguf_options("llama");
    lrk_adapters_options inference;
    lrk_adapters_options_init(&inference, sizeof inference);
    inference.flags = LRK_ADAPTERS_INFERENCE;
    const char *path = scratch_path(&files, "adapter.gguf");
    gguf_bytes bytes = gguf_save(adapters, &options);
    scratch_write(path, "old", 3);
    ck_assert_int_eq(lrk_gguf_save(adapters, path, &options), LRK_OK);
    char *read = scratch_read(path, &n);
    ck_assert_uint_eq(n, bytes.n);
    ck_assert_mem_eq(read, bytes.data, n);
    ck_assert_int_eq(scratch_count(files.dir), 1);
    ck_assert_int_eq(lrk_gguf_load(gguf_context, path, &options, NULL, 0, &inference, &loaded), LRK_OK);
    ck_assert_uint_eq(sets_info(loaded).flags, LRK_ADAPTERS_INFERENCE);
    again = gguf_load(&bytes, &options);
    ck_assert(gguf_equal(loaded, again));
    lrk_adapters_destroy(again);
    lrk_adapters_destroy(loaded);
    free(read);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
    scratch_fini(&files);
}
END_TEST

/* ---- modules of the host ------------------------------------------------------------------------------------------------ */

START_TEST(without_a_list_modules_are_those_of_the_file)
{
    lrk_adapters *adapters = gguf_set("gpt2");
    lrk_gguf_options options = gguf_options("gpt2");
    gguf_bytes bytes = gguf_save(adapters, &options);
    lrk_adapters *loaded = gguf_load(&bytes, NULL); /* nothing is permuted: no options are needed */
    int32_t m = 0;
    for (int32_t i = 0; i < sets_info(adapters).modules; i++) {
        lrk_module_info own = gguf_module(adapters, i);
        if (own.rank == 0) continue;
        lrk_module_info info = gguf_module(loaded, m++);
        ck_assert_str_eq(info.name, own.name);
        ck_assert_int_eq(info.rank, own.rank);
        ck_assert(info.scale == GGUF_ALPHA / (double)own.rank);
        ck_assert_int_eq(info.stage, 0);
        ck_assert_int_eq(info.input_group, LRK_NO_GROUP);
    }
    ck_assert_int_eq(sets_info(loaded).modules, m);
    lrk_adapters_destroy(loaded);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* Another order, prefixes left out, modules that the file or the rules do not have. */
START_TEST(with_a_list_modules_are_the_hosts)
{
    lrk_module_spec specs[9];
    lrk_adapters *adapters = gguf_set("llama"), *loaded;
    lrk_gguf_options options = gguf_options("llama");
    gguf_bytes bytes = gguf_save(adapters, &options);
    int32_t n = gguf_specs("llama", specs);
    for (int32_t i = 0; i < n / 2; i++) {
        lrk_module_spec other = specs[i];
        specs[i] = specs[n - 1 - i];
        specs[n - 1 - i] = other;
    }
    for (int32_t i = 0; i < n; i++) {
        if (strncmp(specs[i].name, "model.", 6) == 0) specs[i].name += 6;
        specs[i].stage = i;
        specs[i].rank = 77;
        specs[i].scale = 0.125;
    }
    specs[n] = sets_spec("vision.tower", 3, 3, 5);
    specs[n].flags = LRK_MODULE_MAY_LACK_GRADIENT;
    ck_assert_int_eq(gguf_try(&bytes, &options, specs, n + 1, &loaded), LRK_OK);
    for (int32_t i = 0; i < n; i++) {
        lrk_module_info own = gguf_module(adapters, n - 1 - i), info = gguf_module(loaded, i);
        ck_assert_str_eq(info.name, specs[i].name);
        ck_assert_int_eq(info.stage, i);
        ck_assert_int_eq(info.rank, own.rank);
        ck_assert(info.scale == (own.rank == 0 ? 0.125 : GGUF_ALPHA / (double)own.rank));
        if (own.rank > 0)
            ck_assert_mem_eq(sets_tensor(loaded, i, LRK_TENSOR_A).data,
                             sets_tensor(adapters, n - 1 - i, LRK_TENSOR_A).data,
                             (size_t)(own.rank * own.n_in) * sizeof(float));
    }
    ck_assert_int_eq(gguf_module(loaded, n).rank, 0);
    ck_assert_uint_eq(gguf_module(loaded, n).flags, LRK_MODULE_MAY_LACK_GRADIENT);
    lrk_adapters_destroy(loaded);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* The caller's rules come first; numbers are carried over; another architecture has no others. */
START_TEST(rules_of_the_caller_hold)
{
    gguf_file file;
    lrk_gguf_rule rules[3];
    lrk_module_spec specs[3] = {sets_spec("enc.#x.7.gate", 2, 8, 1), sets_spec("h.10.attn.c_attn", 2, 8, 1),
                                sets_spec("top", 2, 3, 1)};
    specs[0].name = "enc.7.gate";
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(lrk_gguf_rule_init(&rules[i], sizeof rules[i]), LRK_OK);
    rules[0].module = "enc.#.gate";
    rules[0].tensor = "enc.#.ffn_gate";
    rules[0].rows = LRK_GGUF_ROWS_K;
    rules[1].module = "h.#.attn.c_attn";
    rules[1].tensor = "blk.#.fused";
    rules[2].module = rules[2].tensor = "top";
    lrk_gguf_options options = gguf_options("gpt2");
    options.rules = rules;
    options.n_rules = 3;
    lrk_adapters *adapters = sets_create(gguf_context, specs, 3, NULL), *loaded;
    sets_fill(adapters);
    gguf_bytes bytes = gguf_save(adapters, &options);
    gguf_parse(&bytes, &file);
    tensor_of(&file, "blk.10.fused", ".weight.lora_a");
    tensor_of(&file, "top", ".weight.lora_b");
    const gguf_tensor *b = tensor_of(&file, "enc.7.ffn_gate", ".weight.lora_b");
    lrk_tensor own = sets_tensor(adapters, 0, LRK_TENSOR_B),
               gate = sets_tensor(adapters, 0, LRK_TENSOR_GATES);
    for (int64_t row = 0; row < 8; row++)
        expect_near(gguf_value(b, (uint64_t)row_in_file(row, 8, GGUF_KV_HEADS)),
                    (double)own.data[row] * (double)gate.data[0] / GGUF_ALPHA, LRK_DTYPE_F32);
    loaded = gguf_load(&bytes, &options);
    ck_assert_str_eq(gguf_module(loaded, 0).name, "enc.7.gate");
    ck_assert_str_eq(gguf_module(loaded, 1).name, "h.10.attn.c_attn");
    lrk_adapters_destroy(loaded);
    gguf_bytes_free(&bytes);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(names_and_rows_can_be_the_files)
{
    gguf_file file;
    lrk_module_spec specs[2] = {sets_spec("blk.0.attn_q", 2, 8, 1), sets_spec("blk.9.ssm", 2, 8, 1)};
    lrk_adapters *adapters = sets_create(gguf_context, specs, 2, NULL), *loaded;
    sets_fill(adapters);
    const lrk_tensor own = sets_tensor(adapters, 0, LRK_TENSOR_A);
    lrk_gguf_options options = gguf_options("llama");
    for (uint32_t order = 0; order <= LRK_GGUF_FILE_ORDER; order += LRK_GGUF_FILE_ORDER) {
        options.flags = LRK_GGUF_FILE_NAMES | order;
        options.n_head = order == 0 ? 2 : 0; /* not needed for rows as they are */
        gguf_bytes bytes = gguf_save(adapters, &options);
        gguf_parse(&bytes, &file);
        const gguf_tensor *b = tensor_of(&file, "blk.0.attn_q", ".weight.lora_b");
        lrk_tensor b_own = sets_tensor(adapters, 0, LRK_TENSOR_B),
                   gate = sets_tensor(adapters, 0, LRK_TENSOR_GATES);
        for (int64_t row = 0; row < 8; row++)
            expect_near(gguf_value(b, (uint64_t)row_in_file(row, 8, order == 0 ? 2 : 0)),
                        (double)b_own.data[row] * (double)gate.data[0] / GGUF_ALPHA, LRK_DTYPE_F32);
        loaded = gguf_load(&bytes, &options);
        ck_assert_str_eq(gguf_module(loaded, 0).name, "blk.0.attn_q");
        ck_assert_str_eq(gguf_module(loaded, 1).name, "blk.9.ssm");
        ck_assert_mem_eq(sets_tensor(loaded, 0, LRK_TENSOR_A).data, own.data, 2 * sizeof(float));
        lrk_adapters_destroy(loaded);
        gguf_bytes_free(&bytes);
    }
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- files of others ---------------------------------------------------------------------------------------------------- */

static lrk_adapters *load_sketch(const gguf_sketch *sketch)
{
    gguf_bytes bytes = gguf_build(sketch);
    lrk_adapters *adapters = gguf_load(&bytes, NULL);
    gguf_bytes_free(&bytes);
    return adapters;
}

static void expect_right(const lrk_adapters *adapters, double scale)
{
    static const float b[] = {1, 3, 5, 7, 2, 4, 6, 8}; /* of rows 1 2, 3 4, 5 6, 7 8 */
    ck_assert_int_eq(sets_info(adapters).modules, 1);
    ck_assert_str_eq(gguf_module(adapters, 0).name, "model.layers.0.self_attn.v_proj");
    ck_assert(gguf_module(adapters, 0).scale == scale);
    lrk_tensor own = sets_tensor(adapters, 0, LRK_TENSOR_A);
    for (int i = 0; i < 6; i++)
        ck_assert(own.data[i] == (float)(i + 1));
    own = sets_tensor(adapters, 0, LRK_TENSOR_B);
    ck_assert_mem_eq(own.data, b, sizeof b);
    own = sets_tensor(adapters, 0, LRK_TENSOR_GATES);
    ck_assert(own.data[0] == 1 && own.data[1] == 1);
}

START_TEST(an_alpha_of_zero_or_none_is_a_scale_of_one)
{
    static const float alphas[] = {8, 0, -0.0f, -3};
    static const double scales[] = {4, 1, 1, -1.5, 1};
    gguf_sketch sketch = gguf_right();
    sketch.alpha = _i < 4 ? &alphas[_i] : NULL;
    lrk_adapters *adapters = load_sketch(&sketch);
    expect_right(adapters, scales[_i]);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(what_the_format_leaves_open_is_read)
{
    static const uint32_t alignments[] = {1, 8, 32, 64, 4096};
    for (int i = 0; i < 5; i++)
        for (uint32_t version = 2; version <= 3; version++) {
            gguf_sketch sketch = gguf_right();
            sketch.version = version;
            sketch.alignment = alignments[i];
            lrk_adapters *adapters = load_sketch(&sketch);
            expect_right(adapters, 4);
            lrk_adapters_destroy(adapters);
        }
    gguf_sketch sketch = gguf_right();
    sketch.n_dims[0] = sketch.n_dims[1] = 4;
    sketch.names[0] = "blk.0.attn_v.weight.lora_b"; /* B first */
    sketch.names[1] = "blk.0.attn_v.weight.lora_a";
    memcpy(sketch.ne, (uint64_t[2][4]){{2, 4, 1, 1}, {3, 2, 1, 1}}, sizeof sketch.ne);
    lrk_adapters *adapters = load_sketch(&sketch);
    expect_right(adapters, 4);
    lrk_adapters_destroy(adapters);
    sketch = gguf_right();
    sketch.n_dims[0] = 1; /* rank 1: a writer may drop the dimension */
    sketch.ne[1][0] = 1;
    sketch.less_data = 16; /* and the padding at the end */
    adapters = load_sketch(&sketch);
    ck_assert_int_eq(gguf_module(adapters, 0).rank, 1);
    ck_assert(sets_tensor(adapters, 0, LRK_TENSOR_B).data[3] == 4);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* Every type of value, arrays of every type, names that only begin like ours. */
START_TEST(unknown_keys_are_skipped)
{
    static const size_t widths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    gguf_bytes extra = gguf_bytes_new();
    gguf_sketch sketch = gguf_right();
    for (uint32_t type = 0; type < 13; type++)
        for (uint32_t array = 0; array < 2; array++) {
            char key[32];
            if (type == 9) continue;
            snprintf(key, sizeof key, "adapter.lora.alpha%u.%u", type, array);
            gguf_put_text(&extra, key);
            gguf_put_u32(&extra, array ? 9 : type);
            if (array) gguf_put_u32(&extra, type);
            if (array) gguf_put_u64(&extra, 3);
            for (uint32_t k = 0; k < (array ? 3 : 1); k++) {
                if (type == 8)
                    gguf_put_text(&extra, "some text");
                else
                    gguf_put(&extra, "\xff\xff\xff\xff\xff\xff\xff\xff", widths[type]);
            }
            sketch.n_extra++;
        }
    gguf_put_text(&extra, "empty");
    gguf_put_u32(&extra, 9);
    gguf_put_u32(&extra, 8);
    gguf_put_u64(&extra, 0);
    sketch.n_extra++;
    sketch.extra = extra.data;
    sketch.extra_bytes = extra.n;
    lrk_adapters *adapters = load_sketch(&sketch);
    expect_right(adapters, 4);
    lrk_adapters_destroy(adapters);
    gguf_bytes_free(&extra);
}
END_TEST

/* ---- halves ------------------------------------------------------------------------------------------------------------- */

static uint16_t narrowed(const lrki_dtype *dtype, float value)
{
    uint16_t half;
    dtype->from_f32(&value, (unsigned char *)&half, 1);
    return half;
}

static float widened(const lrki_dtype *dtype, uint16_t half)
{
    float value;
    dtype->to_f32((const unsigned char *)&half, &value, 1);
    return value;
}

/* From `half` to its neighbour: the nearer one is taken, and the even one from the middle. */
static bool rounds_right(const lrki_dtype *dtype, uint16_t half, double low, double high)
{
    float middle = (float)((low + high) / 2);
    uint16_t even = (uint16_t)(half + (half & 1u));
    return narrowed(dtype, (float)low) == half && narrowed(dtype, -(float)low) == (half | 0x8000u) &&
           narrowed(dtype, middle) == even && narrowed(dtype, -middle) == (even | 0x8000u) &&
           narrowed(dtype, nextafterf(middle, 0)) == half &&
           narrowed(dtype, nextafterf(middle, INFINITY)) == half + 1;
}

/* Every half comes back and every interval is right; beyond the largest, the next value would be a power of two. */
START_TEST(halves_are_rounded_to_nearest_even)
{
    const lrki_dtype *dtype = lrki_dtype_find(_i == 0 ? "F16" : "BF16");
    uint16_t infinite = _i == 0 ? 0x7C00 : 0x7F80, n_wrong = 0;
    for (uint16_t half = 0; half < infinite; half++) {
        double high =
            half + 1 < infinite ? (double)widened(dtype, (uint16_t)(half + 1)) : ldexp(1, _i == 0 ? 16 : 128);
        n_wrong += !rounds_right(dtype, half, (double)widened(dtype, half), high);
    }
    for (uint32_t payload = 1; payload < 0x800000; payload += 4097) {
        uint32_t bits = 0x7F800000u | payload;
        float nan;
        memcpy(&nan, &bits, sizeof nan);
        n_wrong += !isnan(widened(dtype, narrowed(dtype, nan)));
    }
    ck_assert_uint_eq(n_wrong, 0);
    ck_assert_uint_eq(narrowed(dtype, INFINITY), infinite);
    ck_assert_uint_eq(narrowed(dtype, -INFINITY), infinite | 0x8000u);
    ck_assert_uint_eq(narrowed(dtype, 0x1p-149f), 0);
}
END_TEST

Suite *gguf_suite(void)
{
    Suite *suite = suite_create("gguf");
    TCase *tests = tcase_create("gguf");
    tcase_add_checked_fixture(tests, gguf_setup, gguf_teardown);
    tcase_add_test(tests, keys_say_what_llama_cpp_asks_for);
    tcase_add_loop_test(tests, tensors_hold_a_and_the_folded_b, 0, 9);
    tcase_add_test(tests, permuting_b_permutes_the_delta);
    tcase_add_loop_test(tests, every_bit_comes_back_where_the_fold_is_one, 0, 3);
    tcase_add_loop_test(tests, a_second_round_changes_no_byte, 0, 3);
    tcase_add_test(tests, a_path_holds_the_same_bytes);
    tcase_add_test(tests, without_a_list_modules_are_those_of_the_file);
    tcase_add_test(tests, with_a_list_modules_are_the_hosts);
    tcase_add_test(tests, rules_of_the_caller_hold);
    tcase_add_test(tests, names_and_rows_can_be_the_files);
    tcase_add_loop_test(tests, an_alpha_of_zero_or_none_is_a_scale_of_one, 0, 5);
    tcase_add_test(tests, what_the_format_leaves_open_is_read);
    tcase_add_test(tests, unknown_keys_are_skipped);
    tcase_add_loop_test(tests, halves_are_rounded_to_nearest_even, 0, 2);
    suite_add_tcase(suite, tests);
    return suite;
}
