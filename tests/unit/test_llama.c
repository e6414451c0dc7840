/* SPDX-License-Identifier: MIT */
/*
 * The example trainer's model without adapters: against a double-precision
 * oracle, at different thread counts, and its own paths against each other.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "examples/finetune/mem.h"
#include "examples/finetune/model.h"
#include "examples/finetune/ops.h"
#include "llama_fixture.h"
#include "llama_oracle.h"

Suite *llama_suite(void);

static void check_against_oracle(const fixture_spec *spec, int64_t n_seq, int64_t seq_len)
{
    llama_model *model = fixture_load(spec);
    const llama_config *c = llama_model_config(model);
    llama_run *run = fixture_run(model, n_seq * seq_len, seq_len, 0);
    llama_batch batch = fixture_batch(n_seq, seq_len, c->vocab);
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
    ck_assert_double_lt(worst, fixture_bound(c) * largest);
    ck_assert_double_lt(fabs(fixture_total(scores, n_seq) - loss),
                        fixture_bound(c) * largest * (double)(n_seq * seq_len));
    free(logits);
    free(wanted);
    fixture_batch_free(&batch);
    llama_run_free(run);
    llama_free(model);
}

START_TEST(logits_and_loss_match_the_double_oracle)
{
    fixture_spec untied = fixture_small;
    untied.untied = 1;
    untied.config =
        "{\"model_type\": \"llama\", \"hidden_size\": 24, \"intermediate_size\": 40, \"head_dim\": 8,"
        " \"num_hidden_layers\": 4, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
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
    llama_model *model = fixture_load(&fixture_small);
    const llama_config *c = llama_model_config(model);
    llama_run *run = fixture_run(model, n_seq * seq_len, seq_len, recompute);
    llama_batch batch = fixture_batch(n_seq, seq_len, c->vocab);
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
    ck_assert_double_lt(worst, 2 * fixture_bound(c) * largest);
    free(gradient);
    free(input);
    fixture_batch_free(&batch);
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
    llama_run *run = fixture_run(model, 4 * 70, 70, recompute);
    llama_batch batch = fixture_batch(4, 70, c->vocab);
    outcome o = {.bytes = (size_t)(4 * 70 * c->hidden) * sizeof(float)};
    o.gradient = malloc(o.bytes);
    ops_set_threads(threads);
    ck_assert_int_eq(llama_forward_loss(run, &batch, o.scores), 0);
    ck_assert_int_eq(llama_backward(run, 1.0 / 7, o.gradient), 0);
    ops_set_threads(1);
    fixture_batch_free(&batch);
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
    llama_model *model = fixture_load(&fixture_small);
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
    free(a);
}
END_TEST

START_TEST(padding_and_other_sequences_do_not_change_a_score)
{
    llama_model *model = fixture_load(&fixture_small);
    llama_run *run = fixture_run(model, 64, 16, 0);
    int32_t tokens[2][10] = {{4, 8, 15, 16, 23, 42, 0, 0, 0, 0}, {9, 9, 9, 1, 2, 3, 4, 5, 6, 7}};
    int32_t targets[2][10] = {{8, 15, 16, 23, 42, 3, -1, -1, -1, -1}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}};
    llama_score both[2], alone[1];
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){2, 10, tokens[0], targets[0]}, both), 0);
    ck_assert_int_eq(llama_evaluate(run, &(llama_batch){1, 6, tokens[0], targets[0]}, alone), 0);
    ck_assert_double_eq(both[0].weight, 6);
    ck_assert_double_eq(both[1].weight, 10);
    ck_assert_double_lt(fabs(both[0].loss_sum - alone[0].loss_sum),
                        fixture_bound(llama_model_config(model)) * alone[0].loss_sum);
    llama_run_free(run);
    llama_free(model);
}
END_TEST

START_TEST(a_batch_without_targets_scores_nothing_and_has_no_gradient)
{
    llama_model *model = fixture_load(&fixture_small);
    llama_run *run = fixture_run(model, 4, 4, 0);
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
    llama_model *model = fixture_load(&fixture_small);
    const llama_config *c = llama_model_config(model);
    llama_run *run = fixture_run(model, 30, 30, 0);
    llama_batch batch = fixture_batch(1, 30, c->vocab);
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
    fixture_batch_free(&batch);
    llama_run_free(run);
    llama_free(model);
}
END_TEST

START_TEST(generation_equals_repeated_full_forwards)
{
    llama_model *model = fixture_load(&fixture_small);
    const llama_config *c = llama_model_config(model);
    llama_run *run = fixture_run(model, 120, 120, 0);
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
        llama_model *model = fixture_load(&fixture_small);
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

Suite *llama_suite(void)
{
    Suite *suite = suite_create("llama");
    TCase *math = tcase_create("arithmetic");
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
    suite_add_tcase(suite, math);
    return suite;
}
