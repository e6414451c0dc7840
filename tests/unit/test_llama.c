/* SPDX-License-Identifier: MIT */
/*
 * The example trainer's model without adapters: against a double-precision
 * oracle, against stored vectors of an independent implementation, at
 * different thread counts, and against directories with one thing wrong.
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
#include "llama_oracle.h"

Suite *llama_suite(void);

static llama_model *load(const fixture_spec *spec)
{
    char err[256] = "";
    llama_model *model;
    const char *dir = fixture_write(spec);
    ck_assert_msg(llama_load(dir, &model, err, sizeof err) == 0, "%s", err);
    fixture_remove(dir);
    return model;
}

static llama_run *run_for(const llama_model *model, int64_t tokens, int64_t seq_len, int recompute)
{
    char err[256] = "";
    llama_run *run;
    llama_run_options options = {.train_tokens = tokens,
                                 .eval_tokens = tokens,
                                 .max_seq_len = seq_len,
                                 .recompute = recompute,
                                 .n_threads = 2};
    ops_set_threads(2);
    ck_assert_msg(llama_run_create(model, &options, &run, err, sizeof err) == 0, "%s", err);
    return run;
}

/* n_seq sequences of pseudo-random tokens; every third position is not counted. */
static llama_batch make_batch(int64_t n_seq, int64_t seq_len, int64_t vocab)
{
    int64_t n = n_seq * seq_len;
    int32_t *tokens = malloc((size_t)n * 2 * sizeof *tokens), *targets = tokens + n;
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)((i * i * 7 + i * 13 + 5) % vocab);
        targets[i] = i % 3 == 2 ? -1 : (int32_t)((i * 31 + 17) % vocab);
    }
    return (llama_batch){.n_seq = n_seq, .seq_len = seq_len, .tokens = tokens, .targets = targets};
}

static void free_batch(llama_batch *batch)
{
    free((void *)batch->tokens);
}

static double total(const llama_score *scores, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += scores[i].loss_sum;
    return sum;
}

/*
 * Forward error bound, relative to the largest logit.  A value passes n_layers * 4 + 1 products of inner length at most
 * k, each adding at most k * 2^-24 of its operands' size, and between them norms and exponentials of a few roundings
 * each (counted as one more k); backward passes the same chain twice.
 */
static double forward_bound(const llama_config *c)
{
    double k = (double)(c->intermediate > c->hidden ? c->intermediate : c->hidden);
    return 2 * k * (double)(4 * c->n_layers + 1) * ldexp(1, -24);
}

static void check_against_oracle(const fixture_spec *spec, int64_t n_seq, int64_t seq_len)
{
    llama_model *model = load(spec);
    const llama_config *c = llama_model_config(model);
    llama_run *run = run_for(model, n_seq * seq_len, seq_len, 0);
    llama_batch batch = make_batch(n_seq, seq_len, c->vocab);
    int64_t n = n_seq * seq_len * c->vocab;
    float *logits = malloc((size_t)n * sizeof *logits);
    double *wanted = malloc((size_t)n * sizeof *wanted), largest = 0, worst = 0;
    llama_score scores[8];
    ck_assert_int_eq(llama_logits(run, &batch, logits), 0);
    ck_assert_int_eq(llama_evaluate(run, &batch, scores), 0);
    double loss = oracle_loss(&(oracle){.model = model, .logits = wanted}, &batch);
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(wanted[i]));
        worst = fmax(worst, fabs(wanted[i] - (double)logits[i]));
    }
    ck_assert_double_gt(largest, 0.1);
    ck_assert_double_lt(worst, forward_bound(c) * largest);
    ck_assert_double_lt(fabs(total(scores, n_seq) - loss),
                        forward_bound(c) * largest * (double)(n_seq * seq_len));
    free(logits);
    free(wanted);
    free_batch(&batch);
    llama_run_free(run);
    llama_free(model);
}

START_TEST(logits_and_loss_match_the_double_oracle)
{
    fixture_spec untied = fixture_small;
    untied.untied = 1;
    untied.config =
        "{\"model_type\": \"llama\", \"hidden_size\": 24, \"intermediate_size\": 40, \"head_dim\": 8,"
        " \"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
        " \"vocab_size\": 50, \"max_position_embeddings\": 160,"
        " \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 700}}";
    check_against_oracle(&fixture_small, 3, 5);
    check_against_oracle(&fixture_small, 1, 1);
    check_against_oracle(&untied, 2, 7);
}
END_TEST

START_TEST(sequences_longer_than_an_attention_tile_match_the_oracle)
{
    check_against_oracle(&fixture_small, 2, 150);
}
END_TEST

/* Central difference of the oracle's loss by one element of the block-0 input; its own error is of order h^2. */
static double oracle_slope(const oracle *o, double *input, int64_t i, const llama_batch *batch)
{
    const double h = 1e-5;
    double kept = input[i];
    input[i] = kept + h;
    double up = oracle_loss(o, batch);
    input[i] = kept - h;
    double down = oracle_loss(o, batch);
    input[i] = kept;
    return (up - down) / (2 * h);
}

static void check_input_gradient(int64_t n_seq, int64_t seq_len, int64_t step, int recompute)
{
    llama_model *model = load(&fixture_small);
    const llama_config *c = llama_model_config(model);
    llama_run *run = run_for(model, n_seq * seq_len, seq_len, recompute);
    llama_batch batch = make_batch(n_seq, seq_len, c->vocab);
    int64_t n = n_seq * seq_len * c->hidden;
    float *gradient = malloc((size_t)n * sizeof *gradient);
    double *input = malloc((size_t)n * sizeof *input), largest = 0, worst = 0, scale = 0.25;
    llama_score scores[8];
    ck_assert_int_eq(llama_forward_loss(run, &batch, scores), 0);
    ck_assert_int_eq(llama_backward(run, scale, gradient), 0);
    oracle o = {.model = model};
    oracle_embed(model, &batch, input);
    o.input = input;
    for (int64_t i = 0; i < n; i += step) {
        double slope = scale * oracle_slope(&o, input, i, &batch);
        largest = fmax(largest, fabs(slope));
        worst = fmax(worst, fabs(slope - (double)gradient[i]));
    }
    ck_assert_double_gt(largest, 1e-3);
    ck_assert_double_lt(worst, 2 * forward_bound(c) * largest);
    free(gradient);
    free(input);
    free_batch(&batch);
    llama_run_free(run);
    llama_free(model);
}

START_TEST(input_gradient_matches_central_differences)
{
    check_input_gradient(2, 6, 1, 0);
    check_input_gradient(2, 6, 5, 1);
}
END_TEST

START_TEST(input_gradient_across_attention_tiles_matches_central_differences)
{
    check_input_gradient(1, 100, 97, 0);
}
END_TEST

/* Loss, gradient and logits of one batch, for bitwise comparison. */
typedef struct outcome {
    llama_score scores[4];
    float *gradient;
    size_t bytes;
} outcome;

static outcome outcome_of(const llama_model *model, int threads, int recompute)
{
    const llama_config *c = llama_model_config(model);
    llama_run *run = run_for(model, 4 * 70, 70, recompute);
    llama_batch batch = make_batch(4, 70, c->vocab);
    outcome o = {.bytes = (size_t)(4 * 70 * c->hidden) * sizeof(float)};
    o.gradient = malloc(o.bytes);
    ops_set_threads(threads);
    ck_assert_int_eq(llama_forward_loss(run, &batch, o.scores), 0);
    ck_assert_int_eq(llama_backward(run, 1.0 / 7, o.gradient), 0);
    ops_set_threads(2);
    free_batch(&batch);
    llama_run_free(run);
    return o;
}

static void assert_same(outcome *a, outcome *b)
{
    ck_assert_mem_eq(a->scores, b->scores, sizeof a->scores);
    ck_assert_mem_eq(a->gradient, b->gradient, a->bytes);
    free(b->gradient);
}

START_TEST(bits_do_not_depend_on_threads_or_recomputation)
{
    llama_model *model = load(&fixture_small);
    outcome first = outcome_of(model, 1, 0), threads = outcome_of(model, 2, 0),
            again = outcome_of(model, 2, 1);
    assert_same(&first, &threads);
    assert_same(&first, &again);
    free(first.gradient);
    llama_free(model);
}
END_TEST

START_TEST(products_have_the_same_bits_at_any_thread_count)
{
    enum { M = 300, N = 70, K = 65 };
    float *a = calloc(M * K + N * K + 2 * M * N, sizeof *a), *b = a + M * K, *one = b + N * K,
          *two = one + M * N;
    for (int i = 0; i < M * K + N * K; i++)
        a[i] = (float)((i * 7919) % 1013) / 1013.0F - 0.5F;
    ops_set_threads(1);
    ops_linear(M, K, N, a, b, one);
    ops_set_threads(2);
    ops_linear(M, K, N, a, b, two);
    ck_assert_mem_eq(one, two, M * N * sizeof *one);
    ops_linear(1, K, M, b, a, two);
    ops_set_threads(1);
    ops_linear(1, K, M, b, a, one);
    ck_assert_mem_eq(one, two, M * sizeof *one);
    ops_set_threads(2);
    free(a);
}
END_TEST

START_TEST(padding_and_other_sequences_do_not_change_a_score)
{
    llama_model *model = load(&fixture_small);
    llama_run *run = run_for(model, 64, 16, 0);
    int32_t tokens[2][10] = {{4, 8, 15, 16, 23, 42, 0, 0, 0, 0}, {9, 9, 9, 1, 2, 3, 4, 5, 6, 7}};
    int32_t targets[2][10] = {{8, 15, 16, 23, 42, 3, -1, -1, -1, -1}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}};
    llama_score both[2], alone[1];
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){2, 10, tokens[0], targets[0]}, both), 0);
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){1, 6, tokens[0], targets[0]}, alone), 0);
    ck_assert_double_eq(both[0].weight, 6);
    ck_assert_double_eq(both[1].weight, 10);
    ck_assert_double_lt(fabs(both[0].loss_sum - alone[0].loss_sum),
                        forward_bound(llama_model_config(model)) * alone[0].loss_sum);
    llama_run_free(run);
    llama_free(model);
}
END_TEST

START_TEST(a_batch_without_targets_scores_nothing_and_has_no_gradient)
{
    llama_model *model = load(&fixture_small);
    llama_run *run = run_for(model, 4, 4, 0);
    int32_t tokens[4] = {1, 2, 3, 4}, targets[4] = {-1, -1, -1, -1};
    float gradient[4 * 24];
    llama_score score;
    ck_assert_int_eq(llama_forward_loss(run, &(llama_batch){1, 4, tokens, targets}, &score), 0);
    ck_assert_int_eq(llama_backward(run, 1, gradient), 0);
    ck_assert_double_eq(score.weight, 0);
    ck_assert_double_eq(score.loss_sum, 0);
    for (int i = 0; i < 4 * 24; i++)
        ck_assert_float_eq(gradient[i], 0);
    llama_run_free(run);
    llama_free(model);
}
END_TEST

START_TEST(correct_counts_agree_with_the_largest_logits)
{
    llama_model *model = load(&fixture_small);
    const llama_config *c = llama_model_config(model);
    llama_run *run = run_for(model, 30, 30, 0);
    llama_batch batch = make_batch(1, 30, c->vocab);
    float *logits = malloc((size_t)(30 * c->vocab) * sizeof *logits);
    int32_t best[30];
    llama_score score;
    ck_assert_int_eq(llama_logits(run, &batch, logits), 0);
    for (int t = 0; t < 30; t++)
        best[t] = (int32_t)ops_argmax(c->vocab, logits + t * c->vocab);
    best[7] = (best[7] + 1) % (int32_t)c->vocab;
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){1, 30, batch.tokens, best}, &score), 0);
    ck_assert_int_eq(score.n_correct, 29);
    free(logits);
    free_batch(&batch);
    llama_run_free(run);
    llama_free(model);
}
END_TEST

START_TEST(generation_equals_repeated_full_forwards)
{
    llama_model *model = load(&fixture_small);
    const llama_config *c = llama_model_config(model);
    llama_run *run = run_for(model, 120, 120, 0);
    int32_t text[120] = {7, 3, 11, 40}, out[120];
    float *logits = malloc((size_t)(120 * c->vocab) * sizeof *logits);
    int64_t n;
    ck_assert_int_eq(llama_generate(run, text, 4, 90, -1, out, &n), 0);
    ck_assert_int_eq(n, 90);
    for (int64_t t = 4; t < 94; t++) {
        ck_assert_int_eq(llama_logits(run, &(llama_batch){1, t, text, NULL}, logits), 0);
        text[t] = (int32_t)ops_argmax(c->vocab, logits + (t - 1) * c->vocab);
        ck_assert_int_eq(out[t - 4], text[t]);
    }
    ck_assert_int_eq(llama_generate(run, text, 4, 90, out[2], out, &n), 0);
    ck_assert_int_le(n, 3);
    ck_assert_int_eq(llama_generate(run, text, 118, 90, -1, out, &n), 0);
    ck_assert_int_eq(n, 2);
    free(logits);
    llama_run_free(run);
    llama_free(model);
}
END_TEST

START_TEST(the_estimate_equals_what_is_allocated)
{
    llama_memory_use use;
    for (int recompute = 0; recompute < 2; recompute++) {
        size_t before = mem_bytes_now();
        llama_model *model = load(&fixture_small);
        const llama_config *c = llama_model_config(model);
        llama_run_options options = {64, 200, 100, recompute, 2};
        llama_run *run;
        ck_assert_int_eq(llama_run_create(model, &options, &run, NULL, 0), 0);
        llama_memory(c, &options, &use);
        size_t held = mem_bytes_now() - before, told = use.weights + use.activations + use.scratch;
        ck_assert_uint_ge(held, told);
        ck_assert_uint_lt(held - told, 4096);
        llama_run_free(run);
        llama_free(model);
        ck_assert_uint_eq(mem_bytes_now(), before);
    }
}
END_TEST

START_TEST(layers_are_described_by_their_names_and_shapes)
{
    llama_model *model = load(&fixture_small);
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
                     50 * 24 + 24 + 3 * (2 * 24 + 24 * (32 + 16 + 16) + 32 * 24 + 3 * 24 * 40));
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
    llama_model *model = load(&fixture_small);
    llama_run *run = run_for(model, 12, 6, 0), *none;
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
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){1, 2, tokens, targets}, scores), -1);
    ops_set_threads(2);
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
    ck_assert_double_lt(worst, 2 * forward_bound(c) * largest);
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
    llama_run *run = run_for(model, c->max_positions, c->max_positions, 0);
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
    llama_run *run = run_for(model, 128, 128, 0);
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
    llama_run *run = run_for(model, c->max_positions, c->max_positions, 0);
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
    ck_assert_double_lt(worst, 4 * forward_bound(c) * largest);
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

Suite *llama_suite(void)
{
    Suite *suite = suite_create("llama");
    TCase *math = tcase_create("arithmetic"), *bad = tcase_create("refusals"),
          *stored = tcase_create("golden");
    tcase_add_test(math, logits_and_loss_match_the_double_oracle);
    tcase_add_test(math, sequences_longer_than_an_attention_tile_match_the_oracle);
    tcase_add_test(math, input_gradient_matches_central_differences);
    tcase_add_test(math, input_gradient_across_attention_tiles_matches_central_differences);
    tcase_add_test(math, bits_do_not_depend_on_threads_or_recomputation);
    tcase_add_test(math, products_have_the_same_bits_at_any_thread_count);
    tcase_add_test(math, padding_and_other_sequences_do_not_change_a_score);
    tcase_add_test(math, a_batch_without_targets_scores_nothing_and_has_no_gradient);
    tcase_add_test(math, correct_counts_agree_with_the_largest_logits);
    tcase_add_test(math, generation_equals_repeated_full_forwards);
    tcase_add_test(math, the_estimate_equals_what_is_allocated);
    tcase_add_test(math, layers_are_described_by_their_names_and_shapes);
    tcase_add_test(bad, wrong_weights_are_refused_by_name);
    tcase_add_loop_test(bad, unsupported_configs_are_refused_by_key, 0,
                        (int)(sizeof config_edits / sizeof *config_edits));
    tcase_add_test(bad, missing_files_are_named);
    tcase_add_test(bad, bad_batches_and_options_are_refused);
    tcase_add_loop_test(stored, stored_vectors_of_transformers_are_reproduced, 0, 2);
    tcase_add_test(stored, the_bundled_model_agrees_with_transformers);
    tcase_add_test(stored, input_gradient_agrees_with_autograd);
    suite_add_tcase(suite, math);
    suite_add_tcase(suite, bad);
    suite_add_tcase(suite, stored);
    return suite;
}
