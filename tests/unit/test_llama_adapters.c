/* SPDX-License-Identifier: MIT */
/*
 * The example trainer's model with lorank adapters: loss and gradients through
 * the whole model against the double-precision oracle, the same bits from
 * recomputation, threads and the stage cache, and the exact cost of scoring
 * every rank.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "examples/finetune/ops.h"
#include "llama_fixture.h"
#include "llama_oracle.h"
#include "lorank/lorank.h"

Suite *llama_adapters_suite(void);

enum {
    N_SEQ = 2,
    SEQ_LEN = 9,
    ROWS = N_SEQ * SEQ_LEN,
    LAYERS = 4,
    SLOTS = LAYERS * LLAMA_N_KINDS,
    MOST_RANKS = 4
};

/* A model, its adapters with random values, and the same adapters in double. */
typedef struct scene {
    llama_model *model;
    llama_run *run;
    llama_batch batch;
    lrk_context *context;
    lrk_adapters *adapters;
    int32_t modules[SLOTS];
    oracle_adapter doubles[SLOTS];
} scene;

/* Ranks 0..3 in turn; one layer of each block has no module at all. */
static int64_t rank_of(int64_t slot, int64_t lowest_block)
{
    if (slot % LLAMA_N_KINDS == slot / LLAMA_N_KINDS || slot / LLAMA_N_KINDS < lowest_block) return -1;
    return slot % MOST_RANKS;
}

static void create_adapters(scene *s, int64_t lowest_block, double dropout)
{
    llama_linear layers[SLOTS];
    lrk_module_spec specs[SLOTS];
    lrk_adapters_options options;
    int32_t n = 0;
    for (int64_t slot = 0; slot < SLOTS; slot++) {
        int64_t rank = rank_of(slot, lowest_block);
        s->modules[slot] = rank < 0 ? -1 : n;
        if (rank < 0) continue;
        llama_linear *layer = &layers[n];
        llama_linear_describe(llama_model_config(s->model), slot / LLAMA_N_KINDS, (int)(slot % LLAMA_N_KINDS),
                              layer);
        ck_assert_int_eq(lrk_module_spec_init(&specs[n], sizeof specs[n]), LRK_OK);
        specs[n].name = layer->name;
        specs[n].stage = (int32_t)layer->stage;
        specs[n].n_in = layer->n_in;
        specs[n].n_out = layer->n_out;
        specs[n].input_group = (int32_t)layer->input_group;
        specs[n].rank = rank;
        specs[n++].scale = 1.5;
    }
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.seed = 11;
    options.dropout = dropout;
    ck_assert_int_eq(lrk_context_create(NULL, &s->context, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_adapters_create(s->context, specs, n, &options, &s->adapters), LRK_OK);
}

static lrk_tensor tensor_of(const scene *s, int64_t slot, int32_t which)
{
    lrk_tensor t = {.struct_size = sizeof t};
    ck_assert_int_eq(lrk_adapters_tensor(s->adapters, s->modules[slot], which, &t), LRK_OK);
    return t;
}

static double *copy_of(lrk_tensor t)
{
    double *values = calloc((size_t)(t.rows * t.cols) + 1, sizeof *values);
    for (int64_t i = 0; i < t.rows * t.cols; i++)
        values[i] = (double)t.data[i];
    return values;
}

/* B away from zero, so that every derivative is; then everything once more in double. */
static void fill_adapters(scene *s)
{
    uint32_t state = 3;
    for (int64_t slot = 0; slot < SLOTS; slot++) {
        if (s->modules[slot] < 0) continue;
        lrk_tensor a = tensor_of(s, slot, LRK_TENSOR_A), b = tensor_of(s, slot, LRK_TENSOR_B);
        for (int64_t i = 0; i < b.rows * b.cols; i++) {
            state = state * 1664525U + 1013904223U;
            b.data[i] = (float)(state >> 8) / 16777216.0F * 0.5F - 0.25F;
        }
        double *w = malloc(MOST_RANKS * sizeof *w);
        for (int j = 0; j < MOST_RANKS; j++)
            w[j] = 1.5;
        s->doubles[slot] = (oracle_adapter){a.rows, copy_of(a), copy_of(b), w};
    }
    ck_assert_int_eq(lrk_adapters_values_changed(s->adapters), LRK_OK);
}

static scene scene_with(int64_t lowest_block, double dropout, int recompute)
{
    scene s = {.model = fixture_load(&fixture_small)};
    s.run = fixture_run(s.model, ROWS, SEQ_LEN, recompute);
    s.batch = fixture_batch(N_SEQ, SEQ_LEN, 50);
    create_adapters(&s, lowest_block, dropout);
    fill_adapters(&s);
    llama_run_set_adapters(s.run, s.adapters, s.modules);
    return s;
}

static void scene_end(scene *s)
{
    for (int64_t slot = 0; slot < SLOTS; slot++) {
        free((void *)s->doubles[slot].a);
        free((void *)s->doubles[slot].b);
        free((void *)s->doubles[slot].w);
    }
    lrk_adapters_destroy(s->adapters);
    lrk_context_destroy(s->context);
    fixture_batch_free(&s->batch);
    llama_run_free(s->run);
    llama_free(s->model);
}

static lrk_pass *begin(scene *s, int32_t mode, const lrk_mask *mask, lrk_sink *sink)
{
    lrk_pass_options options;
    lrk_pass *pass;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.mode = mode;
    options.mask = mask;
    options.nonce = 5;
    options.max_rows = ROWS;
    options.sink = sink;
    if (sink != NULL) options.gradients = LRK_GRAD_MASK;
    ck_assert_int_eq(lrk_pass_begin(s->adapters, &options, &pass), LRK_OK);
    llama_run_set_pass(s->run, pass);
    return pass;
}

static void end(scene *s, lrk_pass *pass)
{
    llama_run_set_pass(s->run, NULL);
    lrk_pass_end(pass);
}

/* Forward and backward of the mean loss; returns the loss sum. */
static double train_once(scene *s, int32_t mode, lrk_sink *sink)
{
    llama_score scores[N_SEQ];
    lrk_pass *pass = begin(s, mode, NULL, sink);
    ck_assert_msg(llama_forward_loss(s->run, &s->batch, scores) == 0, "%s", llama_run_error(s->run));
    ck_assert_msg(llama_backward(s->run, 1.0 / ROWS, NULL) == 0, "%s", llama_run_error(s->run));
    end(s, pass);
    return fixture_total(scores, N_SEQ);
}

START_TEST(loss_with_adapters_matches_the_oracle)
{
    scene s = scene_with(0, 0, 0);
    llama_score with[N_SEQ], without[N_SEQ];
    lrk_pass *pass = begin(&s, LRK_PASS_EVALUATE, NULL, NULL);
    ck_assert_int_eq(llama_evaluate(s.run, &s.batch, with), 0);
    end(&s, pass);
    ck_assert_int_eq(llama_evaluate(s.run, &s.batch, without), 0);
    double wanted = oracle_loss(&(oracle){.model = s.model, .adapters = s.doubles}, &s.batch);
    double bound = 2 * fixture_bound(llama_model_config(s.model));
    ck_assert_double_lt(fabs(fixture_total(with, N_SEQ) - wanted), bound * wanted);
    ck_assert_double_gt(fabs(fixture_total(without, N_SEQ) - wanted), 100 * bound * wanted);
    scene_end(&s);
}
END_TEST

/* Derivative of the oracle's mean loss along `direction` in the values of one tensor. */
static double slope_along(const scene *s, double *values, const double *direction, int64_t n)
{
    const double h = 1e-5;
    oracle o = {.model = s->model, .adapters = s->doubles};
    for (int64_t i = 0; i < n; i++)
        values[i] += h * direction[i];
    double up = oracle_loss(&o, &s->batch);
    for (int64_t i = 0; i < n; i++)
        values[i] -= 2 * h * direction[i];
    double down = oracle_loss(&o, &s->batch);
    for (int64_t i = 0; i < n; i++)
        values[i] += h * direction[i];
    return (up - down) / (2 * h) / ROWS;
}

/* Along the gradient itself, the slope is its length; a random direction catches what lies across. */
static void check_tensor(const scene *s, double *values, lrk_tensor gradient, double bound)
{
    int64_t n = gradient.rows * gradient.cols;
    double *along = malloc((size_t)n * 2 * sizeof *along), *across = along + n, length = 0, dot = 0;
    for (int64_t i = 0; i < n; i++)
        length += (double)gradient.data[i] * (double)gradient.data[i];
    length = sqrt(length);
    ck_assert_double_gt(length, 1e-4);
    for (int64_t i = 0; i < n; i++) {
        along[i] = (double)gradient.data[i] / length;
        across[i] = ((double)(i * 37 % 17) / 8 - 1) / sqrt((double)n);
        dot += across[i] * (double)gradient.data[i];
    }
    ck_assert_double_eq_tol(slope_along(s, values, along, n), length, bound * length);
    ck_assert_double_eq_tol(slope_along(s, values, across, n), dot, bound * length);
    free(along);
}

static void check_gradients(int64_t lowest_block, int recompute)
{
    scene s = scene_with(lowest_block, 0, recompute);
    double bound = 4 * fixture_bound(llama_model_config(s.model));
    train_once(&s, LRK_PASS_TRAIN, NULL);
    for (int64_t slot = 0; slot < SLOTS; slot++) {
        if (s.modules[slot] < 0 || s.doubles[slot].rank == 0) continue;
        check_tensor(&s, (double *)s.doubles[slot].a, tensor_of(&s, slot, LRK_TENSOR_GRAD_A), bound);
        check_tensor(&s, (double *)s.doubles[slot].b, tensor_of(&s, slot, LRK_TENSOR_GRAD_B), bound);
    }
    ck_assert_int_eq(llama_run_layer_backwards(s.run), LAYERS - lowest_block);
    scene_end(&s);
}

START_TEST(adapter_gradients_match_central_differences)
{
    check_gradients(0, 0);
}
END_TEST

START_TEST(backward_stops_at_the_lowest_adapted_block)
{
    check_gradients(1, 0);
    check_gradients(2, 1);
}
END_TEST

START_TEST(mask_derivatives_match_central_differences)
{
    scene s = scene_with(0, 0, 0);
    double bound = 4 * fixture_bound(llama_model_config(s.model)), one = 1, largest = 0, worst = 0;
    lrk_sink *sink;
    const double *values;
    int64_t n, at = 0;
    ck_assert_int_eq(lrk_sink_create(s.adapters, LRK_GRAD_MASK, &sink), LRK_OK);
    train_once(&s, LRK_PASS_EVALUATE, sink);
    ck_assert_int_eq(lrk_sink_mask_gradients(sink, &values, &n), LRK_OK);
    for (int64_t slot = 0; slot < SLOTS; slot++)
        for (int64_t j = 0; s.modules[slot] >= 0 && j < s.doubles[slot].rank; j++, at++) {
            double slope = 1.5 * slope_along(&s, (double *)s.doubles[slot].w + j, &one, 1);
            largest = fmax(largest, fabs(slope));
            worst = fmax(worst, fabs(slope - values[at]));
        }
    ck_assert_int_eq(at, n);
    ck_assert_double_gt(largest, 1e-3);
    ck_assert_double_lt(worst, bound * largest);
    lrk_sink_destroy(sink);
    scene_end(&s);
}
END_TEST

static void assert_same_gradients(scene *a, scene *b)
{
    for (int64_t slot = 0; slot < SLOTS; slot++)
        for (int32_t which = LRK_TENSOR_GRAD_A; a->modules[slot] >= 0 && which <= LRK_TENSOR_GRAD_B;
             which++) {
            lrk_tensor one = tensor_of(a, slot, which), two = tensor_of(b, slot, which);
            if (one.rows > 0)
                ck_assert_mem_eq(one.data, two.data, (size_t)(one.rows * one.cols) * sizeof *one.data);
        }
}

START_TEST(bits_do_not_depend_on_threads_or_recomputation)
{
    scene kept = scene_with(0, 0.3, 0), recomputed = scene_with(0, 0.3, 1);
    ops_set_threads(2);
    double loss = train_once(&kept, LRK_PASS_TRAIN, NULL);
    ops_set_threads(1);
    ck_assert_double_eq(train_once(&recomputed, LRK_PASS_TRAIN, NULL), loss);
    ck_assert_int_eq(llama_run_layer_forwards(kept.run), LAYERS);
    ck_assert_int_eq(llama_run_layer_forwards(recomputed.run), 2 * LAYERS);
    assert_same_gradients(&kept, &recomputed);
    scene_end(&kept);
    scene_end(&recomputed);
}
END_TEST

/* Evaluates under the mask through the cache, holds it against a plain evaluation, returns the blocks run. */
static int64_t cached_cost(scene *s, llama_cache *cache, lrk_mask *mask)
{
    llama_score cached[N_SEQ], plain[N_SEQ];
    lrk_mask_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_mask_info_get(mask, &info), LRK_OK);
    lrk_pass *pass = begin(s, LRK_PASS_EVALUATE, mask, NULL);
    int64_t before = llama_run_layer_forwards(s->run);
    llama_start start = {info.baseline, info.first_stage, 1};
    ck_assert_int_eq(llama_evaluate_from(s->run, cache, &s->batch, &start, cached), 0);
    int64_t cost = llama_run_layer_forwards(s->run) - before;
    ck_assert_int_eq(llama_evaluate(s->run, &s->batch, plain), 0);
    end(s, pass);
    ck_assert_mem_eq(cached, plain, sizeof cached);
    lrk_mask_destroy(mask);
    return cost;
}

static int64_t cost_of_module(scene *s, llama_cache *cache, int32_t module)
{
    const uint64_t *identities;
    lrk_mask *mask;
    int64_t n, cost = 0;
    ck_assert_int_eq(lrk_adapters_ranks(s->adapters, module, &identities, NULL, &n), LRK_OK);
    for (int64_t j = 0; j < n; j++) {
        ck_assert_int_eq(lrk_mask_create_without(s->adapters, identities[j], &mask), LRK_OK);
        cost += cached_cost(s, cache, mask);
        ck_assert_int_eq(lrk_mask_create_only(s->adapters, identities[j], &mask), LRK_OK);
        cost += cached_cost(s, cache, mask);
    }
    return cost;
}

START_TEST(scoring_every_rank_costs_the_blocks_that_follow_it)
{
    scene s = scene_with(0, 0, 0);
    llama_cache *cache;
    lrk_mask *all, *none;
    ck_assert_int_eq(llama_cache_create(llama_model_config(s.model), ROWS, 1 << 20, &cache, NULL, 0), 0);
    ck_assert_int_eq(lrk_mask_create_all(s.adapters, &all), LRK_OK);
    ck_assert_int_eq(lrk_mask_create_none(s.adapters, &none), LRK_OK);
    int64_t cost = cached_cost(&s, cache, all) + cached_cost(&s, cache, none), wanted = 2 * LAYERS;
    ck_assert_int_eq(cost, wanted);
    for (int64_t slot = 0; slot < SLOTS; slot++) {
        if (s.modules[slot] < 0) continue;
        cost += cost_of_module(&s, cache, s.modules[slot]);
        wanted += s.doubles[slot].rank * 2 * (LAYERS - slot / LLAMA_N_KINDS);
    }
    ck_assert_int_eq(cost, wanted);
    llama_cache_free(cache);
    scene_end(&s);
}
END_TEST

START_TEST(a_cache_of_any_size_gives_the_same_bits)
{
    const size_t slot_bytes = (size_t)ROWS * 24 * sizeof(float);
    scene s = scene_with(0, 0, 0);
    llama_cache *cache;
    ck_assert_int_eq(
        llama_cache_create(llama_model_config(s.model), ROWS, (size_t)_i * 2 * slot_bytes, &cache, NULL, 0),
        0);
    for (int64_t slot = 0; slot < SLOTS; slot++)
        if (s.modules[slot] >= 0) ck_assert_int_ge(cost_of_module(&s, cache, s.modules[slot]), 0);
    for (int64_t slot = SLOTS - 1; slot >= 0; slot--)
        if (s.modules[slot] >= 0) ck_assert_int_ge(cost_of_module(&s, cache, s.modules[slot]), 0);
    llama_cache_free(cache);
    scene_end(&s);
}
END_TEST

START_TEST(a_refusal_of_the_adapters_is_passed_on)
{
    scene s = scene_with(0, 0, 0);
    lrk_pass_options options;
    lrk_pass *pass;
    llama_score scores[N_SEQ];
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.max_rows = ROWS - 1;
    ck_assert_int_eq(lrk_pass_begin(s.adapters, &options, &pass), LRK_OK);
    llama_run_set_pass(s.run, pass);
    ck_assert_int_eq(llama_evaluate(s.run, &s.batch, scores), -1);
    ck_assert_ptr_nonnull(strstr(llama_run_error(s.run), "adapters of block 0"));
    ck_assert_int_eq(llama_forward_loss(s.run, &s.batch, scores), -1);
    ck_assert_int_eq(llama_backward(s.run, 1, NULL), -1);
    end(&s, pass);
    ck_assert_int_eq(llama_evaluate(s.run, &s.batch, scores), 0);
    scene_end(&s);
}
END_TEST

Suite *llama_adapters_suite(void)
{
    Suite *suite = suite_create("llama_adapters");
    TCase *all = tcase_create("all");
    tcase_add_test(all, loss_with_adapters_matches_the_oracle);
    tcase_add_test(all, adapter_gradients_match_central_differences);
    tcase_add_test(all, backward_stops_at_the_lowest_adapted_block);
    tcase_add_test(all, mask_derivatives_match_central_differences);
    tcase_add_test(all, bits_do_not_depend_on_threads_or_recomputation);
    tcase_add_test(all, scoring_every_rank_costs_the_blocks_that_follow_it);
    tcase_add_loop_test(all, a_cache_of_any_size_gives_the_same_bits, 0, LAYERS);
    tcase_add_test(all, a_refusal_of_the_adapters_is_passed_on);
    suite_add_tcase(suite, all);
    return suite;
}
