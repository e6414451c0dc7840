/* SPDX-License-Identifier: MIT */
/*
 * Sets of every sort, saved and loaded (peft_dir.h).
 */
#include "peft_dir.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "sets.h"

fault peft_host;
lrk_context *peft_context;
scratch peft_files;
char peft_dir[2 * SCRATCH_PATH];

void peft_setup(void)
{
    fault_reset(&peft_host);
    peft_context = fault_context(&peft_host);
    scratch_init(&peft_files);
    snprintf(peft_dir, sizeof peft_dir, "%s/adapter", peft_files.dir);
}

void peft_teardown(void)
{
    lrk_context_destroy(peft_context);
    scratch_fini(&peft_files);
    ck_assert_int_eq(peft_host.live, 0);
    ck_assert(!peft_host.bad_release);
}

const char *peft_path(const char *name)
{
    static char path[3 * SCRATCH_PATH];
    snprintf(path, sizeof path, "%s/%s", peft_dir, name);
    return path;
}

lrk_peft_options peft_alpha(double alpha)
{
    lrk_peft_options options;
    ck_assert_int_eq(lrk_peft_options_init(&options, sizeof options), LRK_OK);
    options.alpha = alpha;
    return options;
}

void peft_save(const lrk_adapters *adapters, double alpha)
{
    char text[256];
    lrk_peft_options options = peft_alpha(alpha);
    lrk_status status = lrk_peft_save(adapters, peft_dir, &options);
    lrk_context_error(peft_context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s: %s", lrk_status_name(status), text);
}

lrk_adapters *peft_load(const lrk_adapters_options *options)
{
    char text[256];
    lrk_adapters *adapters;
    lrk_status status = lrk_peft_load(peft_context, peft_dir, NULL, 0, options, &adapters);
    lrk_context_error(peft_context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s: %s", lrk_status_name(status), text);
    return adapters;
}

/* ---- equality of sets ---- */

static void same_tensor(const lrk_adapters *a, const lrk_adapters *b, int32_t module, int32_t which)
{
    lrk_tensor x = sets_tensor(a, module, which), y = sets_tensor(b, module, which);
    ck_assert_int_eq(x.rows, y.rows);
    ck_assert_int_eq(x.cols, y.cols);
    if (x.rows > 0) ck_assert_mem_eq(x.data, y.data, (size_t)(x.rows * x.cols) * sizeof *x.data);
}

static void same_module(const lrk_adapters *a, const lrk_adapters *b, int32_t module)
{
    lrk_module_info x = {.struct_size = sizeof x}, y = {.struct_size = sizeof y};
    const uint64_t *x_ids, *y_ids;
    const int64_t *x_births, *y_births;
    int64_t n, m;
    ck_assert_int_eq(lrk_adapters_module(a, module, &x), LRK_OK);
    ck_assert_int_eq(lrk_adapters_module(b, module, &y), LRK_OK);
    ck_assert_str_eq(x.name, y.name);
    ck_assert_uint_eq(x.flags, y.flags);
    ck_assert_int_eq(x.kind, y.kind);
    ck_assert_int_eq(x.stage, y.stage);
    ck_assert_int_eq(x.input_group, y.input_group);
    ck_assert_int_eq(x.n_in, y.n_in);
    ck_assert_int_eq(x.n_out, y.n_out);
    ck_assert_int_eq(x.initial_rank, y.initial_rank);
    ck_assert(x.scale == y.scale);
    ck_assert_int_eq(lrk_adapters_ranks(a, module, &x_ids, &x_births, &n), LRK_OK);
    ck_assert_int_eq(lrk_adapters_ranks(b, module, &y_ids, &y_births, &m), LRK_OK);
    ck_assert_int_eq(n, m);
    for (int64_t j = 0; j < n; j++) {
        ck_assert_uint_eq(x_ids[j], y_ids[j]);
        ck_assert_int_eq(x_births[j], y_births[j]);
    }
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++)
        same_tensor(a, b, module, which);
}

void peft_same(const lrk_adapters *a, const lrk_adapters *b)
{
    ck_assert_int_eq(sets_info(a).modules, sets_info(b).modules);
    ck_assert_uint_eq(sets_info(a).next_identity, sets_info(b).next_identity);
    for (int32_t m = 0; m < sets_info(a).modules; m++)
        same_module(a, b, m);
}

/* ---- sets to save ---- */

/* Floats of all magnitudes: random bits without the exponents that would overflow when folded, zeros and tiny ones too. */
static float any_float(uint64_t *state)
{
    uint32_t bits;
    float value;
    uint64_t random = sets_random(state);
    if (random % 16 == 0) return random % 32 == 0 ? 0.0f : -0.0f;
    bits = (uint32_t)(random >> 32);
    uint32_t exponent = random % 8 == 1 ? bits >> 23 & 3u : 64 + (bits >> 23 & 63u);
    bits = (bits & 0x807FFFFFu) | exponent << 23;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void peft_fill(lrk_adapters *adapters, uint64_t seed, bool gates)
{
    uint64_t state = seed;
    for (int32_t m = 0; m < sets_info(adapters).modules; m++)
        for (int32_t which = LRK_TENSOR_A; which <= (gates ? LRK_TENSOR_GATES : LRK_TENSOR_B); which++) {
            lrk_tensor t = sets_tensor(adapters, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                t.data[i] = which == LRK_TENSOR_GATES
                                ? (float)(int64_t)(sets_random(&state) % 9) * 0.3f - 0.9f
                                : any_float(&state);
        }
}

/* Names, stages, groups, flags and scales of every sort, and a module of rank 0. */
lrk_adapters *peft_varied(void)
{
    lrk_module_spec specs[6];
    static const char *const names[] = {"layers.0.q", "layers.0.v", "vision.layers.0.q",
                                        "empty",      "a_b",        "a.b"};
    static const double scales[] = {2, 1.0 / 3, -0.7, 5, 1e-3, 17.25};
    for (int i = 0; i < 6; i++) {
        specs[i] = sets_spec(names[i], 5 + (i > 1 ? i : 0), 7 - i, i == 3 ? 0 : 1 + i);
        specs[i].stage = 5 - i;
        specs[i].scale = scales[i];
    }
    specs[0].input_group = specs[1].input_group = 4;
    specs[4].flags = LRK_MODULE_MAY_LACK_GRADIENT;
    return sets_create(peft_context, specs, 6, NULL);
}

/* Drops the lowest ranks of given scores and adds others: identities, births and initial ranks part. */
void peft_move_ranks(lrk_adapters *adapters, int64_t n_move, int64_t step)
{
    uint64_t state = (uint64_t)step;
    double values[64];
    lrk_alora_options options;
    lrk_allocator *allocator;
    lrk_scores *scores;
    lrk_plan *plan;
    int64_t n = sets_info(adapters).ranks;
    for (int64_t i = 0; i < n; i++)
        values[i] = (double)(sets_random(&state) % 1000);
    lrk_alora_options_init(&options, sizeof options);
    options.n_move = n_move;
    ck_assert_int_eq(lrk_allocator_create_alora(adapters, &options, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_scores_create(adapters, values, n, &scores), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, step, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
}
