/* SPDX-License-Identifier: MIT */
/*
 * One of every handle (world.h).
 */
#include "world.h"

#include <check.h>

#include "sets.h"

static int32_t keep_line(void *user, const char *line, size_t length)
{
    (void)user, (void)line;
    return length == 0;
}

static int32_t no_evaluation(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user, (void)evaluations, (void)n;
    return 1;
}

static int32_t no_differentiation(void *user, const lrk_evaluation *evaluation)
{
    (void)user, (void)evaluation;
    return 1;
}

lrk_evaluator world_evaluator(void)
{
    lrk_evaluator evaluator;
    ck_assert_int_eq(lrk_evaluator_init(&evaluator, sizeof evaluator), LRK_OK);
    evaluator.evaluate = no_evaluation;
    evaluator.differentiate = no_differentiation;
    evaluator.max_rows = 4;
    return evaluator;
}

lrk_schedule_options world_schedule(void)
{
    lrk_schedule_options options;
    ck_assert_int_eq(lrk_schedule_options_init(&options, sizeof options), LRK_OK);
    options.rounds = 2;
    options.warmup = 3;
    options.recovery = 2;
    options.total_steps = 8;
    return options;
}

static int32_t accept(void *user, const lrk_plan *plan)
{
    (void)user, (void)plan;
    return 0;
}

static void ignore(void *user, const lrk_plan *plan)
{
    (void)user, (void)plan;
}

lrk_participant world_participant(void)
{
    lrk_participant participant;
    ck_assert_int_eq(lrk_participant_init(&participant, sizeof participant), LRK_OK);
    participant.name = "test";
    participant.prepare = accept;
    participant.commit = ignore;
    participant.abandon = ignore;
    return participant;
}

void world_open(world *w)
{
    fault_reset(&w->host);
    w->context = fault_context(&w->host);
    sets_three(w->specs);
    w->adapters = sets_create(w->context, w->specs, 3, NULL);
    ck_assert_int_eq(lrk_mask_create_without(w->adapters, 3, &w->mask), LRK_OK);
    ck_assert_int_eq(lrk_sink_create(w->adapters, LRK_GRAD_PARAMETERS, &w->sink), LRK_OK);
    ck_assert_int_eq(lrk_estimator_create_random(w->adapters, 5, &w->estimator), LRK_OK);
    ck_assert_int_eq(lrk_estimator_run(w->estimator, 0, &w->scores), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_fixed(w->adapters, &w->allocator), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(w->allocator, w->scores, 0, &w->plan), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_create_adamw(w->adapters, NULL, &w->optimizer), LRK_OK);
    ck_assert_int_eq(lrk_trace_create(w->adapters, keep_line, NULL, "test", &w->trace), LRK_OK);
    scratch_init(&w->files);
}

void world_close(world *w)
{
    scratch_fini(&w->files);
    ck_assert_int_eq(lrk_trace_close(w->trace), LRK_OK);
    lrk_optimizer_destroy(w->optimizer);
    lrk_plan_destroy(w->plan);
    lrk_allocator_destroy(w->allocator);
    lrk_scores_destroy(w->scores);
    lrk_estimator_destroy(w->estimator);
    lrk_sink_destroy(w->sink);
    lrk_mask_destroy(w->mask);
    lrk_adapters_destroy(w->adapters);
    lrk_context_destroy(w->context);
    ck_assert_int_eq(w->host.live, 0);
    ck_assert(!w->host.bad_release);
}
