/* SPDX-License-Identifier: MIT */
/*
 * The stage cache of the example trainer: results equal plain evaluation bit
 * for bit, and the number of blocks run is exactly what the cache's size and
 * the order of the evaluations allow.  Without adapters every pass is its own
 * baseline, so any first stage is legal.
 */
#include <check.h>
#include <string.h>

#include "llama_fixture.h"

Suite *llama_cache_suite(void);

enum { N_SEQ = 3, SEQ_LEN = 8, N_TOKENS = N_SEQ * SEQ_LEN, LAYERS = 4, SLOT_BYTES = N_TOKENS * 24 * 4 };

typedef struct scene {
    llama_model *model;
    llama_run *run;
    llama_batch batch;
    llama_cache *cache;
    llama_score plain[N_SEQ];
} scene;

static scene scene_with(size_t limit_bytes)
{
    scene s = {.model = fixture_load(&fixture_small)};
    char err[128] = "";
    s.run = fixture_run(s.model, N_TOKENS, SEQ_LEN, 0);
    s.batch = fixture_batch(N_SEQ, SEQ_LEN, 50);
    ck_assert_int_eq(llama_evaluate(s.run, &s.batch, s.plain), 0);
    ck_assert_msg(llama_cache_create(llama_model_config(s.model), N_TOKENS, limit_bytes, &s.cache, err,
                                     sizeof err) == 0,
                  "%s", err);
    return s;
}

static void scene_end(scene *s)
{
    llama_cache_free(s->cache);
    fixture_batch_free(&s->batch);
    llama_run_free(s->run);
    llama_free(s->model);
}

/* Blocks run by one cached evaluation, whose scores must be those of the plain one. */
static int64_t cost(scene *s, int32_t baseline, int64_t first_stage, uint64_t version)
{
    llama_score scores[N_SEQ];
    llama_start start = {baseline, first_stage, version};
    int64_t before = llama_run_layer_forwards(s->run);
    ck_assert_int_eq(llama_evaluate_from(s->run, s->cache, &s->batch, &start, scores), 0);
    ck_assert_mem_eq(scores, s->plain, sizeof scores);
    return llama_run_layer_forwards(s->run) - before;
}

START_TEST(a_full_cache_runs_only_what_follows_the_first_stage)
{
    scene s = scene_with((size_t)2 * (LAYERS - 1) * SLOT_BYTES);
    for (int32_t baseline = 0; baseline < LLAMA_N_BASELINES; baseline++) {
        ck_assert_int_eq(cost(&s, baseline, -1, 1), LAYERS);
        for (int repeat = 0; repeat < 2; repeat++)
            for (int64_t stage = 0; stage < LAYERS; stage++)
                ck_assert_int_eq(cost(&s, baseline, stage, 1), LAYERS - stage);
    }
    scene_end(&s);
}
END_TEST

START_TEST(without_a_baseline_evaluation_the_cache_fills_itself)
{
    scene s = scene_with((size_t)2 * (LAYERS - 1) * SLOT_BYTES);
    ck_assert_int_eq(cost(&s, 0, 2, 1), LAYERS);
    ck_assert_int_eq(cost(&s, 0, 2, 1), LAYERS - 2);
    ck_assert_int_eq(cost(&s, 0, 1, 1), LAYERS - 1);
    ck_assert_int_eq(cost(&s, 1, 1, 1), LAYERS);
    scene_end(&s);
}
END_TEST

START_TEST(one_slot_rolls_forward_in_ascending_order)
{
    scene s = scene_with((size_t)2 * SLOT_BYTES);
    ck_assert_int_eq(cost(&s, 0, -1, 1), LAYERS);
    int64_t spent = 0;
    for (int64_t stage = 0; stage < LAYERS; stage++)
        for (int repeat = 0; repeat < 4; repeat++)
            spent += cost(&s, 0, stage, 1);
    ck_assert_int_eq(spent, 4 * (4 + 3 + 2 + 1) + 2);
    ck_assert_int_eq(cost(&s, 0, 1, 1), LAYERS);
    ck_assert_int_eq(cost(&s, 0, 1, 1), LAYERS - 1);
    scene_end(&s);
}
END_TEST

START_TEST(with_too_few_slots_the_lowest_input_gives_way)
{
    scene s = scene_with((size_t)4 * SLOT_BYTES);
    ck_assert_int_eq(cost(&s, 0, -1, 1), LAYERS);
    ck_assert_int_eq(cost(&s, 0, 3, 1), LAYERS - 2);
    ck_assert_int_eq(cost(&s, 0, 3, 1), LAYERS - 3);
    ck_assert_int_eq(cost(&s, 0, 2, 1), LAYERS - 2);
    ck_assert_int_eq(cost(&s, 0, 1, 1), LAYERS);
    scene_end(&s);
}
END_TEST

START_TEST(no_slot_means_full_evaluations)
{
    scene s = scene_with(SLOT_BYTES);
    ck_assert_uint_eq(llama_cache_bytes(llama_model_config(s.model), N_TOKENS, SLOT_BYTES), 0);
    for (int64_t stage = 0; stage < LAYERS; stage++)
        ck_assert_int_eq(cost(&s, 0, stage, 1), LAYERS);
    scene_end(&s);
}
END_TEST

START_TEST(a_new_version_or_batch_forgets_its_baseline_alone)
{
    scene s = scene_with((size_t)64 * SLOT_BYTES);
    ck_assert_uint_eq(llama_cache_bytes(llama_model_config(s.model), N_TOKENS, (size_t)64 * SLOT_BYTES),
                      (size_t)2 * (LAYERS - 1) * SLOT_BYTES);
    cost(&s, 0, -1, 1);
    cost(&s, 1, -1, 1);
    ck_assert_int_eq(cost(&s, 0, 2, 2), LAYERS);
    ck_assert_int_eq(cost(&s, 1, 2, 1), LAYERS - 2);
    llama_batch other = fixture_batch(N_SEQ, SEQ_LEN, 49);
    ck_assert_int_eq(llama_evaluate(s.run, &other, s.plain), 0);
    fixture_batch_free(&s.batch);
    s.batch = other;
    ck_assert_int_eq(cost(&s, 1, 2, 1), LAYERS);
    scene_end(&s);
}
END_TEST

START_TEST(a_batch_that_does_not_fit_the_cache_is_refused)
{
    scene s = scene_with((size_t)4 * SLOT_BYTES);
    llama_score scores[N_SEQ];
    llama_start start = {0, 0, 1};
    llama_batch shorter = s.batch;
    shorter.n_seq = 2;
    ck_assert_int_eq(llama_evaluate_from(s.run, s.cache, &shorter, &start, scores), -1);
    ck_assert_ptr_nonnull(strstr(llama_run_error(s.run), "16 tokens"));
    start.baseline = 2;
    ck_assert_int_eq(llama_evaluate_from(s.run, s.cache, &s.batch, &start, scores), -1);
    scene_end(&s);
}
END_TEST

Suite *llama_cache_suite(void)
{
    Suite *suite = suite_create("llama_cache");
    TCase *all = tcase_create("all");
    tcase_add_test(all, a_full_cache_runs_only_what_follows_the_first_stage);
    tcase_add_test(all, without_a_baseline_evaluation_the_cache_fills_itself);
    tcase_add_test(all, one_slot_rolls_forward_in_ascending_order);
    tcase_add_test(all, with_too_few_slots_the_lowest_input_gives_way);
    tcase_add_test(all, no_slot_means_full_evaluations);
    tcase_add_test(all, a_new_version_or_batch_forgets_its_baseline_alone);
    tcase_add_test(all, a_batch_that_does_not_fit_the_cache_is_refused);
    suite_add_tcase(suite, all);
    return suite;
}
