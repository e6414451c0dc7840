/* SPDX-License-Identifier: MIT */
/*
 * Handles keep alive what they need: one of every kind, given up in many orders, leaves nothing behind and touches
 * nothing that is gone (which the sanitizers see).
 */
#include <check.h>
#include <stdio.h>

#include "material.h"
#include "world.h"

#define ORDERS 64

enum {
    CONTEXT,
    ADAPTERS,
    MASK,
    SINK,
    PASS,
    SNAPSHOT,
    ESTIMATOR,
    SCORES,
    ALLOCATOR,
    PLAN,
    OPTIMIZER,
    SCHEDULE,
    TRACE,
    TENSORS,
    CONFIG,
    KINDS
};

typedef struct all {
    world w;
    lrk_pass *pass;
    lrk_snapshot *snapshot;
    lrk_schedule *schedule;
    lrk_safetensors *tensors;
    lrk_config *config;
} all;

/* A schedule that carries rounds out itself holds the estimator and the allocator; its participants only while it runs. */
static void open_schedule(all *a)
{
    lrk_participant participant = world_participant();
    lrk_round_binding binding;
    lrk_schedule_options options = world_schedule();
    ck_assert_int_eq(lrk_schedule_create(a->w.context, &options, &a->schedule), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_participant(a->w.optimizer, &participant), LRK_OK);
    ck_assert_int_eq(lrk_round_binding_init(&binding, sizeof binding), LRK_OK);
    binding.estimator = a->w.estimator;
    binding.allocator = a->w.allocator;
    binding.participants = &participant;
    binding.n_participants = 1;
    ck_assert_int_eq(lrk_schedule_bind(a->schedule, &binding), LRK_OK);
}

static void open_all(all *a)
{
    static const char text[] = "seed: 7\n";
    char path[SCRATCH_PATH + 32];
    world_open(&a->w);
    lrk_pass_options options = pass_options(4);
    options.mask = a->w.mask;
    options.sink = a->w.sink;
    ck_assert_int_eq(lrk_pass_begin(a->w.adapters, &options, &a->pass), LRK_OK);
    ck_assert_int_eq(lrk_snapshot_create(a->w.adapters, &a->snapshot), LRK_OK);
    open_schedule(a);
    ck_assert_int_eq(lrk_peft_save(a->w.adapters, scratch_path(&a->w.files, "adapter"), NULL), LRK_OK);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", a->w.files.path);
    ck_assert_int_eq(lrk_safetensors_open(a->w.context, path, &a->tensors), LRK_OK);
    ck_assert_int_eq(lrk_config_parse(a->w.context, text, sizeof text - 1, NULL, 0, &a->config), LRK_OK);
}

static void give_up(all *a, int kind)
{
    if (kind == CONTEXT) lrk_context_destroy(a->w.context);
    if (kind == ADAPTERS) lrk_adapters_destroy(a->w.adapters);
    if (kind == MASK) lrk_mask_destroy(a->w.mask);
    if (kind == SINK) lrk_sink_destroy(a->w.sink);
    if (kind == PASS) lrk_pass_end(a->pass);
    if (kind == SNAPSHOT) lrk_snapshot_destroy(a->snapshot);
    if (kind == ESTIMATOR) lrk_estimator_destroy(a->w.estimator);
    if (kind == SCORES) lrk_scores_destroy(a->w.scores);
    if (kind == ALLOCATOR) lrk_allocator_destroy(a->w.allocator);
    if (kind == PLAN) lrk_plan_destroy(a->w.plan);
    if (kind == OPTIMIZER) lrk_optimizer_destroy(a->w.optimizer);
    if (kind == SCHEDULE) lrk_schedule_destroy(a->schedule);
    if (kind == TRACE) ck_assert_int_eq(lrk_trace_close(a->w.trace), LRK_OK);
    if (kind == TENSORS) lrk_safetensors_close(a->tensors);
    if (kind == CONFIG) lrk_config_destroy(a->config);
}

/* Order number 0 is that of the list, 1 its reverse; the others are shuffled (Fisher-Yates). */
static void make_order(int number, int order[KINDS])
{
    uint64_t state = (uint64_t)number;
    for (int i = 0; i < KINDS; i++)
        order[i] = number == 1 ? KINDS - 1 - i : i;
    for (int i = KINDS - 1; i > 0 && number > 1; i--) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        int j = (int)((state >> 33) % (uint64_t)(i + 1)), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

START_TEST(handles_may_be_given_up_in_any_order)
{
    all a;
    int order[KINDS];
    make_order(_i, order);
    open_all(&a);
    for (int i = 0; i < KINDS; i++) {
        ck_assert_int_gt(a.w.host.live, 0);
        give_up(&a, order[i]);
    }
    scratch_fini(&a.w.files);
    ck_assert_int_eq(a.w.host.live, 0);
    ck_assert(!a.w.host.bad_release);
}
END_TEST

Suite *lifetimes_suite(void)
{
    Suite *suite = suite_create("lifetimes");
    TCase *tests = tcase_create("lifetimes");
    tcase_add_loop_test(tests, handles_may_be_given_up_in_any_order, 0, ORDERS);
    suite_add_tcase(suite, tests);
    return suite;
}
