/* SPDX-License-Identifier: MIT */
/*
 * The command's inspect, convert, merge, diff and resize: what they print is read back as JSON and compared with what
 * the library says, what they write is loaded again, and every wrong call has its status and its one line.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fault.h"
#include "lorank/lorank.h"
#include "scratch.h"
#include "sets.h"
#include "tool/command.h"
#include "tool_rig.h"

static fault host;
static lrk_context *context;
static scratch files;
static char in[SCRATCH_PATH];
static char out[SCRATCH_PATH];
static char other[SCRATCH_PATH];

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    scratch_init(&files);
    strcpy(in, scratch_path(&files, "in"));
    strcpy(out, scratch_path(&files, "out"));
    strcpy(other, scratch_path(&files, "other"));
}

static void teardown(void)
{
    lrk_context_destroy(context);
    scratch_fini(&files);
    ck_assert_int_eq(host.live, 0);
}

/* "model.layers.0.mlp.up_proj" 5x3 rank 2, "...down_proj" 4x6 rank 3, "...gate_proj" 7x2 rank 0. */
static lrk_adapters *make_set(double factor)
{
    lrk_module_spec specs[3];
    sets_three(specs);
    specs[0].name = "model.layers.0.mlp.up_proj";
    specs[1].name = "model.layers.0.mlp.down_proj";
    specs[2].name = "model.layers.0.mlp.gate_proj";
    specs[0].scale = 0.75;
    lrk_adapters *set = sets_create(context, specs, 3, NULL);
    sets_fill(set);
    lrk_tensor b = sets_tensor(set, 0, LRK_TENSOR_B);
    for (int64_t i = 0; i < b.rows * b.cols; i++)
        b.data[i] *= (float)factor;
    return set;
}

static void save(const char *path, double factor)
{
    lrk_peft_options options;
    lrk_adapters *set = make_set(factor);
    ck_assert_int_eq(lrk_peft_options_init(&options, sizeof options), LRK_OK);
    options.base_model = "a \"base\"";
    options.task_type = "CAUSAL_LM";
    ck_assert_int_eq(lrk_peft_save(set, path, &options), LRK_OK);
    lrk_adapters_destroy(set);
}

static json_t *run_json(int (*command)(int argc, char **argv), const char *const *arguments)
{
    tool_answer answer = tool_run(&files, command, arguments);
    ck_assert_msg(answer.status == 0, "%s", answer.err);
    ck_assert_str_eq(answer.err, "");
    json_t *root = json_loads(answer.out, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(root != NULL, "no JSON: %s", answer.out);
    tool_answer_free(&answer);
    return root;
}

static void run(int (*command)(int argc, char **argv), const char *const *arguments)
{
    tool_expect(&files, command, arguments, 0, "");
}

static const json_t *module_json(const json_t *root, int64_t i, const char *name)
{
    const json_t *module = json_array_get(json_object_get(root, "modules"), (size_t)i);
    ck_assert_str_eq(json_string_value(json_object_get(module, "name")), name);
    return module;
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    ck_assert_msg(json_is_number(value), "%s is no number", key);
    return json_number_value(value);
}

START_TEST(inspect_tells_modules_norms_and_totals)
{
    double sigma[3], norm = 0;
    save(in, 1);
    lrk_adapters *set = make_set(1);
    const char *const arguments[] = {in, "--json", "--norms", NULL};
    json_t *root = run_json(inspect_command, arguments);
    ck_assert_str_eq(json_string_value(json_object_get(root, "format")), "peft");
    ck_assert_str_eq(json_string_value(json_object_get(root, "base_model")), "a \"base\"");
    ck_assert_int_eq((int)number(root, "ranks"), 5);
    ck_assert_int_eq((int)number(root, "parameters"), 2 * 8 + 3 * 10);
    const json_t *down = module_json(root, 1, "model.layers.0.mlp.down_proj");
    ck_assert_int_eq((int)number(down, "rank"), 3);
    ck_assert_int_eq((int)number(down, "n_out"), 6);
    ck_assert_int_eq(lrk_module_spectrum(set, 1, sigma, 3), LRK_OK);
    for (int j = 0; j < 3; j++)
        norm = hypot(norm, sigma[j]);
    ck_assert_double_le(fabs(number(down, "norm") - norm), 1e-12 * norm);
    ck_assert(number(down, "effective_rank") > 1 && number(down, "effective_rank") < 3);
    ck_assert(number(module_json(root, 2, "model.layers.0.mlp.gate_proj"), "effective_rank") == 0);
    ck_assert(number(module_json(root, 0, "model.layers.0.mlp.up_proj"), "scale") == 0.75);
    json_decref(root);
    lrk_adapters_destroy(set);
}
END_TEST

/* All singular values equal: the effective rank is the rank. */
START_TEST(the_effective_rank_of_equal_values_is_their_number)
{
    lrk_module_spec spec = sets_spec("m", 4, 4, 3);
    lrk_adapters *set = sets_create(context, &spec, 1, NULL);
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_B; which++) {
        lrk_tensor t = sets_tensor(set, 0, which);
        for (int64_t i = 0; i < 12; i++)
            t.data[i] = i % 5 == 0 ? 2 : 0;
    }
    ck_assert_int_eq(lrk_peft_save(set, in, NULL), LRK_OK);
    lrk_adapters_destroy(set);
    const char *const arguments[] = {in, "--json", "--norms", NULL};
    json_t *root = run_json(inspect_command, arguments);
    ck_assert_double_le(fabs(number(module_json(root, 0, "m"), "effective_rank") - 3), 1e-12);
    json_decref(root);
}
END_TEST

START_TEST(inspect_knows_every_format_by_its_content)
{
    save(in, 1);
    const char *const to_gguf[] = {in, out, "--to", "gguf", "--architecture", "llama", NULL},
                      *const to_kohya[] = {in, other, "--to=kohya", "--prefix", "x_", NULL},
                      *const gguf[] = {out, "--json", NULL}, *const kohya[] = {other, "--json", NULL};
    run(convert_command, to_gguf);
    run(convert_command, to_kohya);
    json_t *root = run_json(inspect_command, gguf);
    ck_assert_str_eq(json_string_value(json_object_get(root, "format")), "gguf");
    ck_assert_int_eq((int)json_array_size(json_object_get(root, "modules")), 2);
    json_decref(root);
    root = run_json(inspect_command, kohya);
    ck_assert_str_eq(json_string_value(json_object_get(root, "format")), "kohya");
    (void)module_json(root, 0, "x_model_layers_0_mlp_down_proj");
    json_decref(root);
    char model[2 * SCRATCH_PATH];
    snprintf(model, sizeof model, "%s/adapter_model.safetensors", in);
    const char *const plain[] = {model, "--json", NULL};
    root = run_json(inspect_command, plain);
    ck_assert_str_eq(json_string_value(json_object_get(root, "format")), "safetensors");
    ck_assert_int_eq((int)json_array_size(json_object_get(root, "tensors")), 4);
    ck_assert_int_eq((int)number(root, "bytes"), 4 * (2 * 8 + 3 * 10));
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(root, "metadata"), "format")), "pt");
    json_decref(root);
}
END_TEST

START_TEST(inspect_lists_a_checkpoint)
{
    lrk_checkpoint *checkpoint;
    lrk_adapters *set = make_set(1);
    ck_assert_int_eq(lrk_checkpoint_create(context, &checkpoint), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(checkpoint, "the set", set), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_save(checkpoint, in, NULL), LRK_OK);
    lrk_checkpoint_destroy(checkpoint);
    lrk_adapters_destroy(set);
    const char *const arguments[] = {in, "--json", NULL}, *const text[] = {in, NULL};
    json_t *root = run_json(inspect_command, arguments);
    ck_assert_str_eq(json_string_value(json_object_get(root, "format")), "checkpoint");
    const json_t *sections = json_object_get(root, "sections");
    const json_t *last = json_array_get(sections, json_array_size(sections) - 1);
    ck_assert_str_eq(json_string_value(json_object_get(last, "name")), "the set");
    ck_assert_str_eq(json_string_value(json_object_get(last, "kind")), "adapters");
    json_decref(root);
    run(inspect_command, text);
    const char *const convert[] = {in, out, NULL};
    tool_expect(&files, convert_command, convert, 1, "a checkpoint file, and no adapter");
}
END_TEST

/* A file of one tensor of one byte, called `name` in JSON. */
static void write_tensor(const char *path, const char *name)
{
    char bytes[256] = "";
    snprintf(bytes + 8, sizeof bytes - 8, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
             name);
    bytes[0] = (char)strlen(bytes + 8);
    scratch_write(path, bytes, 8 + (size_t)bytes[0] + 1);
}

START_TEST(control_characters_of_names_are_escaped)
{
    const char *const text[] = {in, NULL}, *const json[] = {in, "--json", NULL};
    write_tensor(in, "a\\u001b[31m\\u0085\\u007fz");
    tool_answer answer = tool_run(&files, inspect_command, text);
    ck_assert_int_eq(answer.status, 0);
    ck_assert(strchr(answer.out, '\x1b') == NULL && strchr(answer.out, '\x7f') == NULL);
    ck_assert_msg(strstr(answer.out, "a\\x1b[31m\\xc2\\x85\\x7fz ") != NULL, "%s", answer.out);
    tool_answer_free(&answer);
    json_decref(run_json(inspect_command, json));
    write_tensor(in, "\\u001b.lora_down.weight");
    answer = tool_run(&files, inspect_command, text);
    ck_assert_int_eq(answer.status, 1);
    ck_assert(strchr(answer.err, '\x1b') == NULL && strstr(answer.err, "\\x1b.lora_down") != NULL);
    tool_answer_free(&answer);
}
END_TEST

START_TEST(a_fifo_is_no_file_and_nobody_waits_for_its_writer)
{
    const char *const text[] = {in, NULL};
    ck_assert_int_eq(mkfifo(in, 0666), 0);
    tool_expect(&files, inspect_command, text, 1, "not a regular file");
}
END_TEST

static const char *in_folder(const char *name)
{
    static char path[SCRATCH_PATH + 64];
    snprintf(path, sizeof path, "%s/%s", in, name);
    return path;
}

static void write_index(const char *text)
{
    scratch_write(in_folder("model.safetensors.index.json"), text, strlen(text));
}

START_TEST(inspect_lists_the_shards_of_a_model)
{
    const char *const json[] = {in, "--json", NULL}, *const text[] = {in, NULL};
    const char *const convert[] = {in, out, NULL};
    ck_assert_int_eq(mkdir(in, 0777), 0);
    tool_expect(&files, inspect_command, text, 1, "adapter_model.safetensors");
    write_tensor(in_folder("1.safetensors"), "x");
    write_tensor(in_folder("2.safetensors"), "y");
    write_index("{\"weight_map\":{\"y\":\"2.safetensors\",\"x\":\"1.safetensors\",\"z\":\"2.safetensors\"}}");
    json_t *root = run_json(inspect_command, json);
    const json_t *shards = json_object_get(root, "files");
    ck_assert_uint_eq(json_array_size(shards), 2);
    const json_t *first = json_array_get(json_object_get(json_array_get(shards, 0), "tensors"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(first, "name")), "y");
    json_decref(root);
    run(inspect_command, text);
    tool_expect(&files, convert_command, convert, 1, "a model file, and no adapter");
    write_index("{\"weight_map\":{\"y\":\"../other.safetensors\"}}");
    tool_expect(&files, inspect_command, text, 1, "tensor 'y' is in no file beside it");
    write_index("{\"weight_map\":{\"y\":7}}");
    tool_expect(&files, inspect_command, text, 1, "tensor 'y' is in no file beside it");
    write_index("{\"weight_map\":{}}");
    tool_expect(&files, inspect_command, text, 1, "weight_map is missing or empty");
    write_index("{");
    tool_expect(&files, inspect_command, text, 1, "index.json");
    write_tensor(in_folder("model.safetensors"), "whole");
    root = run_json(inspect_command, json);
    ck_assert_uint_eq(json_array_size(json_object_get(root, "files")), 1);
    json_decref(root);
}
END_TEST

/* What is printed as text, after the first line's path, against a file. */
static void expect_text(int (*command)(int argc, char **argv), const char *const *arguments, const char *name)
{
    char path[SCRATCH_PATH];
    size_t n;
    snprintf(path, sizeof path, "tests/golden/tool/%s.txt", name);
    char *golden = scratch_read(path, &n);
    tool_answer answer = tool_run(&files, command, arguments);
    const char *text = answer.out;
    ck_assert_msg(answer.status == 0, "%s", answer.err);
    if (strncmp(text, arguments[0], strlen(arguments[0])) == 0) text += strlen(arguments[0]);
    ck_assert_msg(strcmp(text, golden) == 0, "%s:\n%s", path, text);
    tool_answer_free(&answer);
    free(golden);
}

/* Norms and shares come from decompositions of exact small numbers: six digits are the same with every BLAS. */
START_TEST(texts_are_the_golden_ones)
{
    char model[2 * SCRATCH_PATH];
    lrk_module_spec spec = sets_spec("own", 3, 3, 2);
    lrk_adapters *set = sets_create(context, &spec, 1, NULL);
    sets_fill(set);
    ck_assert_int_eq(lrk_peft_save(set, other, NULL), LRK_OK);
    lrk_adapters_destroy(set);
    save(in, 1);
    snprintf(model, sizeof model, "%s/adapter_model.safetensors", in);
    const char *const look[] = {in, NULL}, *const norms[] = {in, "--norms", NULL},
                      *const plain[] = {model, NULL}, *const strangers[] = {in, other, NULL},
                      *const resize[] = {in, out, "--rank", "1", NULL};
    expect_text(inspect_command, look, "inspect");
    expect_text(inspect_command, norms, "inspect-norms");
    tool_answer answer = tool_run(&files, inspect_command, plain);
    ck_assert_ptr_nonnull(strstr(answer.out, "\ntotal of tensors: 184 bytes\nmetadata format: pt\n"));
    tool_answer_free(&answer);
    expect_text(diff_command, strangers, "diff");
    expect_text(resize_command, resize, "resize");
}
END_TEST

/* A file cut off anywhere, of every format: one line, status 1, nothing written. */
START_TEST(files_that_are_cut_off_have_one_line)
{
    char cut[SCRATCH_PATH], weights[2 * SCRATCH_PATH];
    size_t n;
    save(in, 1);
    strcpy(cut, scratch_path(&files, "cut"));
    snprintf(weights, sizeof weights, "%s/adapter_model.safetensors", in);
    const char *const to_gguf[] = {in, out, "--to", "gguf", "--architecture", "qwen2", NULL},
                      *const to_kohya[] = {in, other, "--to", "kohya", NULL}, *const look[] = {cut, NULL};
    run(convert_command, to_gguf);
    run(convert_command, to_kohya);
    const char *const sources[] = {out, other, weights};
    for (int i = 0; i < 3; i++) {
        void *bytes = scratch_read(sources[i], &n);
        for (size_t keep = 0; keep < n; keep += 1 + n / 16) {
            scratch_write(cut, bytes, keep);
            tool_expect(&files, inspect_command, look, 1, "cut");
        }
        if (sources[i] == weights) {
            const char *const convert[] = {in, cut, "--to", "kohya", NULL};
            remove(cut);
            scratch_write(weights, bytes, n - 1);
            tool_expect(&files, convert_command, convert, 1, "adapter_model.safetensors");
            ck_assert(!scratch_exists(cut));
        }
        free(bytes);
    }
}
END_TEST

static double distance_of(const char *a, const char *b)
{
    const char *const arguments[] = {a, b, "--json", NULL};
    json_t *root = run_json(diff_command, arguments);
    double difference = number(json_object_get(root, "total"), "relative");
    json_decref(root);
    return difference;
}

/* There and back through GGUF, and through 16 bits and one rank for all: the update stays, to rounding. */
START_TEST(conversions_keep_the_update)
{
    save(in, 1);
    const char *const there[] = {in, out, "--to", "gguf", "--architecture", "qwen2", "--alpha", "3", NULL},
                      *const back[] = {out, other, "--to", "peft", NULL};
    run(convert_command, there);
    run(convert_command, back);
    ck_assert_double_le(distance_of(in, other), 0x1p-22);
    char narrow[SCRATCH_PATH];
    strcpy(narrow, scratch_path(&files, "narrow"));
    const char *const half[] = {in, narrow, "--uniform", "--dtype", "bf16", NULL};
    run(convert_command, half);
    double lost = distance_of(in, narrow);
    ck_assert(lost > 0 && lost <= 0x1p-7);
    const char *const look[] = {narrow, "--json", NULL};
    json_t *root = run_json(inspect_command, look);
    ck_assert_str_eq(json_string_value(json_object_get(root, "base_model")), "a \"base\"");
    json_decref(root);
}
END_TEST

START_TEST(diff_compares_by_name)
{
    save(in, 1);
    save(out, 2);
    const char *const arguments[] = {in, out, "--json", NULL};
    json_t *root = run_json(diff_command, arguments);
    const json_t *up = module_json(root, 0, "model.layers.0.mlp.up_proj");
    ck_assert_double_le(fabs(number(up, "norm_b") - 2 * number(up, "norm_a")), 1e-6 * number(up, "norm_a"));
    ck_assert_double_le(fabs(number(up, "difference") - number(up, "norm_a")), 1e-6 * number(up, "norm_a"));
    ck_assert(number(module_json(root, 1, "model.layers.0.mlp.down_proj"), "difference") < 1e-9);
    json_decref(root);
    ck_assert(distance_of(in, in) < 1e-12);
    lrk_module_spec spec = sets_spec("own", 3, 3, 2);
    lrk_adapters *set = sets_create(context, &spec, 1, NULL);
    sets_fill(set);
    ck_assert_int_eq(lrk_peft_save(set, other, NULL), LRK_OK);
    lrk_adapters_destroy(set);
    const char *const strangers[] = {in, other, "--json", NULL}, *const text[] = {in, other, NULL};
    root = run_json(diff_command, strangers);
    const json_t *own = module_json(root, 3, "own");
    ck_assert(json_is_null(json_object_get(own, "norm_a")) && number(own, "relative") == 1);
    ck_assert(json_is_null(json_object_get(module_json(root, 0, "model.layers.0.mlp.up_proj"), "norm_b")));
    json_decref(root);
    run(diff_command, text);
}
END_TEST

static int64_t rank_in(const json_t *root, int64_t i, const char *name)
{
    return (int64_t)number(module_json(root, i, name), "rank");
}

/* The file holds rows as they were, B times what its scale makes of it: 3 ranks at s are 2 at 1.5 s. */
static void check_first_rows(const char *path)
{
    lrk_adapters *was = NULL, *is = NULL;
    lrk_module_info before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after};
    int32_t from, to;
    ck_assert_int_eq(lrk_peft_load(context, in, NULL, 0, NULL, &was), LRK_OK);
    ck_assert_int_eq(lrk_peft_load(context, path, NULL, 0, NULL, &is), LRK_OK);
    ck_assert_int_eq(lrk_adapters_find(was, "model.layers.0.mlp.down_proj", &from), LRK_OK);
    ck_assert_int_eq(lrk_adapters_find(is, "model.layers.0.mlp.down_proj", &to), LRK_OK);
    ck_assert_int_eq(lrk_adapters_module(was, from, &before), LRK_OK);
    ck_assert_int_eq(lrk_adapters_module(is, to, &after), LRK_OK);
    ck_assert_int_eq(before.rank, 3);
    lrk_tensor a = sets_tensor(was, from, LRK_TENSOR_A), cut_a = sets_tensor(is, to, LRK_TENSOR_A);
    lrk_tensor b = sets_tensor(was, from, LRK_TENSOR_B), cut_b = sets_tensor(is, to, LRK_TENSOR_B);
    for (int64_t o = 0; o < b.cols; o++)
        for (int64_t i = 0; i < a.cols; i++)
            for (int64_t j = 0; j < 2; j++) {
                double want =
                    1.5 * before.scale * (double)a.data[j * a.cols + i] * (double)b.data[j * b.cols + o];
                double got =
                    after.scale * (double)cut_a.data[j * a.cols + i] * (double)cut_b.data[j * b.cols + o];
                ck_assert(fabs(got - want) <= 0x1p-21 * fabs(want));
            }
    lrk_adapters_destroy(was);
    lrk_adapters_destroy(is);
}

START_TEST(resize_takes_ranks_from_a_number_a_file_or_a_share)
{
    static const char ranks[] = "{\"rank_pattern\": {\"model.layers.0.mlp.down_proj\": 1}}";
    char list[SCRATCH_PATH];
    strcpy(list, scratch_path(&files, "ranks.json"));
    scratch_write(list, ranks, strlen(ranks));
    save(in, 1);
    const char *const
        from_file[] = {in, out, "--ranks", list, "--json", NULL},
        *const by_number[] = {in, out, "--rank", "1", "--json", NULL}, *const whole[] = {in,         other,
                                                                                         "--energy", "1",
                                                                                         "--json",   NULL},
        *const first[] = {in, out, "--first", "2", "--json", NULL}, *const look[] = {out, "--json", NULL};
    json_t *root = run_json(resize_command, from_file);
    ck_assert(number(module_json(root, 1, "model.layers.0.mlp.down_proj"), "lost") > 0);
    ck_assert(number(module_json(root, 0, "model.layers.0.mlp.up_proj"), "lost") == 0);
    json_decref(root);
    root = run_json(inspect_command, look);
    ck_assert_int_eq(rank_in(root, 0, "model.layers.0.mlp.up_proj"), 2);
    ck_assert_int_eq(rank_in(root, 1, "model.layers.0.mlp.down_proj"), 1);
    json_decref(root);
    root = run_json(resize_command, by_number);
    ck_assert_int_eq(rank_in(root, 2, "model.layers.0.mlp.gate_proj"), 1);
    json_decref(root);
    root = run_json(resize_command, first);
    ck_assert_int_eq(rank_in(root, 1, "model.layers.0.mlp.down_proj"), 2);
    ck_assert(number(module_json(root, 1, "model.layers.0.mlp.down_proj"), "lost") > 0);
    ck_assert(number(module_json(root, 0, "model.layers.0.mlp.up_proj"), "lost") < 1e-12);
    json_decref(root);
    check_first_rows(out);
    root = run_json(resize_command, whole);
    ck_assert_int_eq(rank_in(root, 1, "model.layers.0.mlp.down_proj"), 3);
    json_decref(root);
    ck_assert(distance_of(in, other) < 1e-12);
}
END_TEST

/* The merged weight is W + delta in f32. */
START_TEST(merge_adds_the_update)
{
    enum { COUNT = 6 * 4 };
    float weight[COUNT], delta[COUNT];
    lrk_safetensors *file;
    int64_t i;
    char model[2 * SCRATCH_PATH], path[2 * SCRATCH_PATH];
    lrk_module_spec spec = sets_spec("layer", 4, 6, 2);
    lrk_adapters *set = sets_create(context, &spec, 1, NULL);
    sets_fill(set);
    ck_assert_int_eq(lrk_peft_save(set, in, NULL), LRK_OK);
    ck_assert_int_eq(lrk_adapters_delta(set, 0, LRK_WEIGHT_OUT_IN, delta, 4), LRK_OK);
    lrk_adapters_destroy(set);
    snprintf(model, sizeof model, "%s", other);
    static const char header[] =
        "{\"m.layer.weight\":{\"dtype\":\"F32\",\"shape\":[6,4],\"data_offsets\":[0,96]}} ";
    unsigned char bytes[8 + sizeof header - 1 + sizeof weight] = {sizeof header - 1};
    memcpy(bytes + 8, header, sizeof header - 1);
    for (int k = 0; k < COUNT; k++)
        weight[k] = (float)k;
    memcpy(bytes + 8 + sizeof header - 1, weight, sizeof weight);
    scratch_write(model, bytes, sizeof bytes);
    snprintf(path, sizeof path, "%s", out);
    const char *const arguments[] = {in, model, path, "--prefix", "m.", "--json", NULL},
                      *const wrong[] = {in, model, path, NULL},
                      *const text[] = {in, model, path, "--prefix=m.", NULL};
    json_t *root = run_json(merge_command, arguments);
    ck_assert_int_eq((int)number(root, "merged"), 1);
    ck_assert_str_eq(json_string_value(json_object_get(root, "worst_module")), "layer");
    json_decref(root);
    ck_assert_int_eq(lrk_safetensors_open(context, path, &file), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_find(file, "m.layer.weight", &i), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_read_f32(file, i, weight, COUNT), LRK_OK);
    for (int k = 0; k < COUNT; k++)
        ck_assert(weight[k] == (float)k + delta[k]);
    lrk_safetensors_close(file);
    run(merge_command, text);
    tool_expect(&files, merge_command, wrong, 1, "'layer'");
}
END_TEST

START_TEST(wrong_calls_have_status_2)
{
    save(in, 1);
    const char *const none[] = {NULL}, *const format[] = {in, out, "--to", "zip", NULL},
                      *const dtype[] = {in, out, "--dtype", "f8", NULL},
                      *const alpha[] = {in, out, "--alpha", "-1", NULL}, *const itself[] = {in, in, NULL},
                      *const no_rank[] = {in, out, NULL}, *const two[] = {in,         out, "--rank", "1",
                                                                          "--energy", "1", NULL},
                      *const flag[] = {in, "--json=1", NULL}, *const unknown[] = {in, out, "--frob", NULL};
    tool_expect(&files, inspect_command, none, 2, "missing");
    tool_expect(&files, convert_command, format, 2, "not: zip");
    tool_expect(&files, convert_command, dtype, 2, "not: f8");
    tool_expect(&files, convert_command, alpha, 2, "--alpha must be a number above 0, not '-1'");
    tool_expect(&files, convert_command, itself, 2, "OUT would replace IN");
    tool_expect(&files, resize_command, no_rank, 2, "one of --rank");
    tool_expect(&files, resize_command, two, 2, "one of --rank");
    tool_expect(&files, inspect_command, flag, 2, "takes no value");
    tool_expect(&files, merge_command, unknown, 2, "unknown option: --frob");
    const char *const rank[] = {in, out, "--rank", "x", NULL},
                      *const share[] = {in, out, "--energy", "2", NULL},
                      *const depth[] = {in, out, "--first", "0", NULL},
                      *const heads[] = {in, out, "--heads", "0", NULL};
    tool_expect(&files, resize_command, rank, 2, "--rank must be a whole number");
    tool_expect(&files, resize_command, depth, 2, "--first must be a whole number");
    tool_expect(&files, resize_command, share, 2, "at most 1, not: 2");
    tool_expect(&files, convert_command, heads, 2, "--heads must be a whole number");
    tool_expect(&files, diff_command, heads, 2, "--heads must be a whole number");
    int (*const all[])(int argc, char **argv) = {inspect_command, convert_command, merge_command,
                                                 diff_command, resize_command};
    for (int i = 0; i < 5; i++) {
        const char *const help[] = {"--help", NULL};
        tool_answer answer = tool_run(&files, all[i], help);
        ck_assert_int_eq(answer.status, 0);
        ck_assert_ptr_eq(strstr(answer.out, "usage: lorank "), answer.out);
        tool_answer_free(&answer);
    }
    ck_assert(!scratch_exists(out));
}
END_TEST

START_TEST(failures_have_status_1_and_one_line)
{
    save(in, 1);
    scratch_write(other, "not a file of any format", 24);
    const char *const nowhere[] = {"/nonexistent", NULL}, *const damaged[] = {other, NULL},
                      *const no_architecture[] = {in, out, "--to", "gguf", NULL},
                      *const damaged_in[] = {other, out, "--to", "peft", NULL},
                      *const list[] = {in, out, "--ranks", other, NULL},
                      *const empty[] = {in, out, "--rank", "0", NULL};
    tool_expect(&files, inspect_command, nowhere, 1, "/nonexistent");
    tool_expect(&files, inspect_command, damaged, 1, "other");
    tool_expect(&files, convert_command, no_architecture, 1, "architecture");
    tool_expect(&files, convert_command, damaged_in, 1, "other");
    tool_expect(&files, resize_command, list, 1, "other");
    tool_expect(&files, resize_command, empty, 1, "rank 0");
    ck_assert(!scratch_exists(out));
    static const char stranger[] = "{\"stranger\": 1}", wrong[] = "{\"model.layers.0.mlp.up_proj\": 1.5}";
    scratch_write(other, stranger, strlen(stranger));
    tool_expect(&files, resize_command, list, 1, "no module 'stranger'");
    scratch_write(other, wrong, strlen(wrong));
    tool_expect(&files, resize_command, list, 1, "not a whole number");
    scratch_write(other, "[1]", 3);
    tool_expect(&files, resize_command, list, 1, "not an object");
    ck_assert(!scratch_exists(out));
}
END_TEST

Suite *tool_suite(void);

Suite *tool_suite(void)
{
    Suite *suite = suite_create("tool");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, inspect_tells_modules_norms_and_totals);
    tcase_add_test(cases, the_effective_rank_of_equal_values_is_their_number);
    tcase_add_test(cases, inspect_knows_every_format_by_its_content);
    tcase_add_test(cases, inspect_lists_a_checkpoint);
    tcase_add_test(cases, control_characters_of_names_are_escaped);
    tcase_add_test(cases, a_fifo_is_no_file_and_nobody_waits_for_its_writer);
    tcase_add_test(cases, inspect_lists_the_shards_of_a_model);
    tcase_add_test(cases, texts_are_the_golden_ones);
    tcase_add_test(cases, files_that_are_cut_off_have_one_line);
    tcase_add_test(cases, conversions_keep_the_update);
    tcase_add_test(cases, diff_compares_by_name);
    tcase_add_test(cases, resize_takes_ranks_from_a_number_a_file_or_a_share);
    tcase_add_test(cases, merge_adds_the_update);
    tcase_add_test(cases, wrong_calls_have_status_2);
    tcase_add_test(cases, failures_have_status_1_and_one_line);
    suite_add_tcase(suite, cases);
    return suite;
}
