/* SPDX-License-Identifier: MIT */
/*
 * Loading the example trainer's model: what is refused and how it is said, and
 * stored vectors that an independent implementation computed from the same
 * files.
 */
#include <check.h>
#include <jansson.h>
#include <lorank/safetensors.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "examples/finetune/mem.h"
#include "examples/finetune/model.h"
#include "examples/finetune/ops.h"
#include "llama_fixture.h"

Suite *llama_load_suite(void);

START_TEST(layers_are_described_by_their_names_and_shapes)
{
    llama_model *model = fixture_load(&fixture_small);
    const llama_config *c = llama_model_config(model);
    llama_linear layer;
    llama_linear_describe(c, 2, LLAMA_DOWN, &layer);
    ck_assert_str_eq(layer.name, "model.layers.2.mlp.down_proj");
    ck_assert_int_eq(layer.n_in, 40);
    ck_assert_int_eq(layer.n_out, 24);
    ck_assert_int_eq(layer.stage, 2);
    int64_t down = layer.input_group;
    llama_linear_describe(c, 1, LLAMA_V, &layer);
    int64_t v = layer.input_group;
    llama_linear_describe(c, 1, LLAMA_Q, &layer);
    ck_assert_int_eq(layer.input_group, v);
    ck_assert_int_ne(down, v);
    ck_assert_int_eq(c->eos_token, 2);
    ck_assert_int_eq(c->bos_token, -1);
    ck_assert_int_eq(llama_n_parameters(c),
                     50 * 24 + 24 + 4 * (2 * 24 + 24 * (32 + 16 + 16) + 32 * 24 + 3 * 24 * 40));
    llama_free(model);
}
END_TEST

/* ------------------------------------------------------------ bad inputs */

static void refuse(const fixture_spec *spec, const char *must_name)
{
    char err[512] = "";
    llama_model *model = (llama_model *)err;
    const char *dir = fixture_write(spec);
    size_t before = mem_bytes_now();
    ck_assert_int_eq(llama_load(dir, &model, err, sizeof err), -1);
    ck_assert_msg(strstr(err, must_name) != NULL, "\"%s\" does not name \"%s\"", err, must_name);
    ck_assert_ptr_null(strchr(err, '\n'));
    ck_assert_ptr_null(model);
    ck_assert_uint_eq(mem_bytes_now(), before);
    fixture_remove(dir);
}

START_TEST(wrong_weights_are_refused_by_name)
{
    const char *q = "model.layers.1.self_attn.q_proj.weight";
    fixture_spec spec = fixture_small;
    spec.omit = q;
    refuse(&spec, q);
    spec = fixture_small;
    spec.reshape = q;
    refuse(&spec, "is 24 x 32, config.json wants 32 x 24");
    spec = fixture_small;
    spec.rename = q;
    refuse(&spec, "stray.weight");
    spec = fixture_small;
    spec.poison = q;
    refuse(&spec, "q_proj.weight holds a value that is not finite");
    spec = fixture_small;
    spec.as_int = q;
    refuse(&spec, "dtype I32");
    spec = fixture_small;
    spec.omit = q;
    spec.shards = 2;
    refuse(&spec, q);
}
END_TEST

static const struct {
    const char *from, *to, *must_name;
} config_edits[] = {
    {"\"llama\"", "\"mistral\"", "model_type \"mistral\""},
    {"\"model_type\": \"llama\",", "", "model_type is missing"},
    {"\"silu\"", "\"gelu\"", "hidden_act \"gelu\""},
    {"\"hidden_size\": 24", "\"hidden_size\": 0", "hidden_size must be"},
    {"\"hidden_size\": 24", "\"hidden_size\": \"24\"", "hidden_size must be"},
    {"\"hidden_size\": 24,", "", "hidden_size is missing"},
    {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "num_key_value_heads 3"},
    {"\"head_dim\": 8", "\"head_dim\": 7", "head_dim 7 is odd"},
    {"\"head_dim\": 8", "\"attention_bias\": true", "attention_bias"},
    {"\"head_dim\": 8", "\"mlp_bias\": true", "mlp_bias"},
    {"\"head_dim\": 8", "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}",
     "rope_scaling of type \"llama3\""},
    {"\"head_dim\": 8", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}",
     "rope_scaling of type \"linear\""},
    {"\"head_dim\": 8", "\"rope_scaling\": {\"factor\": 2}", "rope_scaling"},
    {"\"head_dim\": 8", "\"rope_parameters\": {\"rope_type\": \"yarn\"}", "rope_parameters of type \"yarn\""},
    {"\"head_dim\": 8", "\"rope_parameters\": {\"rope_theta\": 7}",
     "contradicts rope_parameters.rope_theta 7"},
    {"\"head_dim\": 8", "\"quantization_config\": {}", "quantization_config"},
    {"\"rms_norm_eps\": 1e-5", "\"rms_norm_eps\": -1", "rms_norm_eps"},
    {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", "tie_word_embeddings"},
    {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", "lm_head.weight"},
    {"[2, 3]", "50", "eos_token_id 50"},
    {"[2, 3]}", "[2, 3]", "config.json:1"},
    {"{", "[", "config.json:1"},
    {"\"hidden_size\": 24", "\"hidden_size\": 24, \"hidden_size\": 24", "duplicate"},
};

START_TEST(unsupported_configs_are_refused_by_key)
{
    const char *from = config_edits[_i].from, *at = strstr(fixture_small.config, from);
    char text[1024];
    ck_assert_ptr_nonnull(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - fixture_small.config), fixture_small.config,
             config_edits[_i].to, at + strlen(from));
    fixture_spec spec = fixture_small;
    spec.config = text;
    refuse(&spec, config_edits[_i].must_name);
}
END_TEST

START_TEST(missing_files_are_named)
{
    char err[256];
    llama_model *model;
    ck_assert_int_eq(llama_load("/nonexistent", &model, err, sizeof err), -1);
    ck_assert_ptr_nonnull(strstr(err, "/nonexistent/config.json"));
    fixture_spec spec = fixture_small;
    spec.shards = 2;
    const char *dir = fixture_write(&spec);
    char path[300];
    snprintf(path, sizeof path, "%s/model-1.safetensors", dir);
    ck_assert_int_eq(remove(path), 0);
    ck_assert_int_eq(llama_load(dir, &model, err, sizeof err), -1);
    ck_assert_ptr_nonnull(strstr(err, "model-1.safetensors"));
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    ck_assert_int_eq(remove(path), 0);
    ck_assert_int_eq(llama_load(dir, &model, err, sizeof err), -1);
    ck_assert_ptr_nonnull(strstr(err, "neither model.safetensors nor"));
    fixture_remove(dir);
}
END_TEST

START_TEST(bad_batches_and_options_are_refused)
{
    llama_model *model = fixture_load(&fixture_small);
    llama_run *run = fixture_run(model, 12, 6, 0), *none;
    int32_t tokens[14] = {0}, targets[14] = {0};
    llama_score scores[4];
    char err[256];
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){1, 7, tokens, targets}, scores), -1);
    ck_assert_ptr_nonnull(strstr(llama_run_error(run), "7 tokens"));
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){3, 6, tokens, targets}, scores), -1);
    ck_assert_ptr_nonnull(strstr(llama_run_error(run), "3 x 6"));
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){0, 6, tokens, targets}, scores), -1);
    tokens[4] = 50;
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){2, 3, tokens, targets}, scores), -1);
    ck_assert_ptr_nonnull(strstr(llama_run_error(run), "sequence 1, position 1: token 50"));
    tokens[4] = -3;
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){2, 3, tokens, targets}, scores), -1);
    tokens[4] = 0;
    targets[2] = 77;
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){2, 3, tokens, targets}, scores), -1);
    ck_assert_ptr_nonnull(strstr(llama_run_error(run), "token 77"));
    ck_assert_int_eq(llama_backward(run, 1, NULL), -1);
    ops_set_threads(3);
    int too_many = ops_threads() > 2; /* not where OpenMP is left out */
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){1, 2, tokens, targets}, scores), too_many ? -1 : 0);
    ops_set_threads(1);
    llama_run_options options = {12, 12, 161, 0, 1};
    ck_assert_int_eq(llama_run_create(model, &options, &none, err, sizeof err), -1);
    ck_assert_ptr_null(none);
    ck_assert_ptr_nonnull(strstr(err, "161"));
    llama_run_free(run);
    llama_free(model);
}
END_TEST

/* ---------------------------------------------------------------- golden */

static json_t *golden(const char *path)
{
    json_error_t problem;
    json_t *root = json_load_file(path, 0, &problem);
    ck_assert_msg(root != NULL, "%s: %s", path, problem.text);
    return root;
}

static llama_model *load_dir(const char *dir)
{
    char err[256] = "";
    llama_model *model;
    ck_assert_msg(llama_load(dir, &model, err, sizeof err) == 0, "%s", err);
    return model;
}

static int64_t read_ids(const json_t *list, int32_t *ids)
{
    int64_t n = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return n;
}

/* Both sides carry f32 rounding: twice the bound of one. */
static void compare_row(const llama_config *c, const float *logits, const json_t *wanted)
{
    double largest = 0, worst = 0;
    ck_assert_int_eq((int64_t)json_array_size(wanted), c->vocab);
    for (int64_t v = 0; v < c->vocab; v++) {
        double w = json_number_value(json_array_get(wanted, (size_t)v));
        largest = fmax(largest, fabs(w));
        worst = fmax(worst, fabs(w - (double)logits[v]));
    }
    ck_assert_double_gt(largest, 0.1);
    ck_assert_double_lt(worst, 2 * fixture_bound(c) * largest);
}

static void check_case_loss(llama_run *run, const int32_t *ids, int64_t n, double wanted)
{
    int32_t targets[128];
    llama_score score;
    for (int64_t t = 0; t < n; t++)
        targets[t] = t + 1 < n ? ids[t + 1] : -1;
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){1, n, ids, targets}, &score), 0);
    ck_assert_double_eq_tol(score.loss_sum / score.weight, wanted, 1e-5 * wanted);
}

static void check_case_greedy(llama_run *run, const int32_t *prompt, int64_t n, const json_t *wanted)
{
    int32_t out[32], ids[32];
    int64_t n_wanted = read_ids(wanted, ids), n_out;
    ck_assert_int_eq(llama_generate(run, prompt, n, n_wanted, -1, out, &n_out), 0);
    ck_assert_int_eq(n_out, n_wanted);
    ck_assert_mem_eq(out, ids, (size_t)n_wanted * sizeof *out);
}

START_TEST(stored_vectors_of_transformers_are_reproduced)
{
    static const char *const dirs[] = {"tests/golden/llama-tiny", "tests/golden/llama-tiny-sharded"};
    json_t *root = golden("tests/golden/llama_tiny.json"), *one;
    llama_model *model = load_dir(dirs[_i]);
    const llama_config *c = llama_model_config(model);
    llama_run *run = fixture_run(model, c->max_positions, c->max_positions, 0);
    float *logits = malloc((size_t)(c->max_positions * c->vocab) * sizeof *logits);
    size_t index;
    json_array_foreach(json_object_get(root, "cases"), index, one)
    {
        int32_t ids[128];
        int64_t n = read_ids(json_object_get(one, "ids"), ids);
        ck_assert_int_eq(llama_logits(run, &(llama_batch){1, n, ids, NULL}, logits), 0);
        for (int64_t t = 0; t < n; t++)
            compare_row(c, logits + t * c->vocab, json_array_get(json_object_get(one, "logits"), (size_t)t));
        check_case_loss(run, ids, n, json_number_value(json_object_get(one, "loss")));
        n = read_ids(json_object_get(one, "greedy_prompt"), ids);
        check_case_greedy(run, ids, n, json_object_get(one, "greedy"));
    }
    free(logits);
    llama_run_free(run);
    llama_free(model);
    json_decref(root);
}
END_TEST

START_TEST(the_bundled_model_agrees_with_transformers)
{
    json_t *root = golden("tests/golden/gloss_llama.json"), *one;
    llama_model *model = load_dir("examples/models/gloss-llama");
    const llama_config *c = llama_model_config(model);
    llama_run *run = fixture_run(model, 128, 128, 0);
    float *logits = malloc((size_t)(128 * c->vocab) * sizeof *logits);
    size_t index;
    json_array_foreach(json_object_get(root, "cases"), index, one)
    {
        int32_t ids[128];
        int64_t n = read_ids(json_object_get(one, "ids"), ids);
        ck_assert_int_eq(llama_logits(run, &(llama_batch){1, n, ids, NULL}, logits), 0);
        compare_row(c, logits + (n - 1) * c->vocab, json_object_get(one, "last_logits"));
        check_case_loss(run, ids, n, json_number_value(json_object_get(one, "loss")));
        check_case_greedy(run, ids, n, json_object_get(one, "greedy"));
    }
    free(logits);
    llama_run_free(run);
    llama_free(model);
    json_decref(root);
}
END_TEST

/* The untied embedding's gradient is the input gradient summed over the positions of each token. */
START_TEST(input_gradient_agrees_with_autograd)
{
    json_t *root = golden("tests/golden/llama_tiny.json");
    json_t *first = json_array_get(json_object_get(root, "cases"), 0);
    llama_model *model = load_dir("tests/golden/llama-tiny");
    const llama_config *c = llama_model_config(model);
    llama_run *run = fixture_run(model, c->max_positions, c->max_positions, 0);
    int32_t ids[128], targets[128];
    int64_t n = read_ids(json_object_get(first, "ids"), ids) - 1, n_floats = c->vocab * c->hidden;
    memcpy(targets, ids + 1, (size_t)n * sizeof *targets);
    float *wanted = malloc((size_t)n_floats * sizeof *wanted),
          *gradient = malloc((size_t)n_floats * sizeof *gradient);
    double *sums = calloc((size_t)n_floats, sizeof *sums), largest = 0, worst = 0;
    llama_score score;
    ck_assert_int_eq(llama_forward_loss(run, &(llama_batch){1, n, ids, targets}, &score), 0);
    ck_assert_int_eq(llama_backward(run, 1.0 / (double)n, gradient), 0);
    for (int64_t i = 0; i < n * c->hidden; i++)
        sums[ids[i / c->hidden] * c->hidden + i % c->hidden] += (double)gradient[i];
    lrk_context *context;
    lrk_safetensors *file;
    int64_t index;
    ck_assert_int_eq(lrk_context_create(NULL, &context, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_open(context, "tests/golden/llama_tiny_gradients.safetensors", &file),
                     LRK_OK);
    ck_assert_int_eq(lrk_safetensors_find(file, "model.embed_tokens.weight", &index), LRK_OK);
    ck_assert_int_eq(lrk_safetensors_read_f32(file, index, wanted, n_floats), LRK_OK);
    for (int64_t i = 0; i < n_floats; i++) {
        largest = fmax(largest, fabs((double)wanted[i]));
        worst = fmax(worst, fabs((double)wanted[i] - sums[i]));
    }
    ck_assert_double_gt(largest, 1e-3);
    ck_assert_double_lt(worst, 4 * fixture_bound(c) * largest);
    lrk_safetensors_close(file);
    lrk_context_destroy(context);
    free(wanted);
    free(gradient);
    free(sums);
    llama_run_free(run);
    llama_free(model);
    json_decref(root);
}
END_TEST

Suite *llama_load_suite(void)
{
    Suite *suite = suite_create("llama_load");
    TCase *bad = tcase_create("refusals"), *stored = tcase_create("golden");
    tcase_add_test(bad, layers_are_described_by_their_names_and_shapes);
    tcase_add_test(bad, wrong_weights_are_refused_by_name);
    tcase_add_loop_test(bad, unsupported_configs_are_refused_by_key, 0,
                        (int)(sizeof config_edits / sizeof *config_edits));
    tcase_add_test(bad, missing_files_are_named);
    tcase_add_test(bad, bad_batches_and_options_are_refused);
    tcase_add_loop_test(stored, stored_vectors_of_transformers_are_reproduced, 0, 2);
    tcase_add_test(stored, the_bundled_model_agrees_with_transformers);
    tcase_add_test(stored, input_gradient_agrees_with_autograd);
    suite_add_tcase(suite, bad);
    suite_add_tcase(suite, stored);
    return suite;
}
