/* SPDX-License-Identifier: MIT */
/*
 * The loop of a schedule that trains a model and carries out rounds: runs repeat bit for bit, interrupted anywhere or not,
 * and an event may end one.
 */
#include <check.h>

#include "toy.h"

typedef struct training {
    toy *t;
    lrk_estimator *estimator;
    lrk_allocator *allocator;
    lrk_optimizer *optimizer;
    lrk_schedule *schedule;
    int64_t steps;
    int32_t rounds;
    int32_t stop_round; /* event() ends the run after it, -1 */
    int32_t stop_with;
    double loss;
} training;

static int32_t train(void *user, int64_t step)
{
    training *r = user;
    lrk_schedule_event event = {.struct_size = sizeof event};
    ck_assert_int_eq(lrk_schedule_step(r->schedule, &event), LRK_ERR_BUSY);
    r->loss = toy_train(r->t, (uint64_t)step);
    r->steps++;
    return lrk_optimizer_step(r->optimizer, 0.01) == LRK_OK ? 0 : 4;
}

static int32_t on_event(void *user, const lrk_schedule_event *event)
{
    training *r = user;
    ck_assert_int_eq(event->kind, LRK_EVENT_ROUND_DONE);
    ck_assert_int_eq(event->round, r->rounds);
    ck_assert_int_eq(event->step, 3 + 2 * r->rounds);
    ck_assert_int_eq(event->n_dropped, 2);
    ck_assert_uint_eq(event->struct_size, sizeof *event);
    return r->rounds++ == r->stop_round ? r->stop_with : 0;
}

static void begin_training(training *r)
{
    toy_shape shape = toy_default();
    shape.stages = 2;
    shape.size = 0.1f;
    *r = (training){.t = toy_create(&shape), .stop_round = -1, .stop_with = LRK_RUN_STOP};
    lrk_ablation_options ablation;
    ck_assert_int_eq(lrk_ablation_options_init(&ablation, sizeof ablation), LRK_OK);
    ablation.mode = LRK_ABLATION_SCREENED;
    ablation.n_cut = 2;
    ablation.pool = 3;
    r->estimator = toy_estimator(r->t, &ablation);
    r->allocator = sets_alora(r->t->adapters, 2);
    ck_assert_int_eq(lrk_optimizer_create_adamw(r->t->adapters, NULL, &r->optimizer), LRK_OK);
    lrk_schedule_options options;
    ck_assert_int_eq(lrk_schedule_options_init(&options, sizeof options), LRK_OK);
    options.rounds = 3;
    options.warmup = 3;
    options.recovery = 2;
    options.total_steps = 12;
    ck_assert_int_eq(lrk_schedule_create(r->t->context, &options, &r->schedule), LRK_OK);
    lrk_participant participant;
    ck_assert_int_eq(lrk_participant_init(&participant, sizeof participant), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_participant(r->optimizer, &participant), LRK_OK);
    lrk_round_binding binding;
    ck_assert_int_eq(lrk_round_binding_init(&binding, sizeof binding), LRK_OK);
    binding.estimator = r->estimator;
    binding.allocator = r->allocator;
    binding.participants = &participant;
    binding.n_participants = 1;
    ck_assert_int_eq(lrk_schedule_bind(r->schedule, &binding), LRK_OK);
}

static void end_training(training *r)
{
    lrk_schedule_destroy(r->schedule);
    lrk_optimizer_destroy(r->optimizer);
    lrk_allocator_destroy(r->allocator);
    lrk_estimator_destroy(r->estimator);
    toy_destroy(r->t);
}

static lrk_status go(training *r)
{
    lrk_run_callbacks run = {.struct_size = sizeof run, .user = r, .train_step = train, .event = on_event};
    return lrk_schedule_run(r->schedule, &run);
}

static uint64_t whole_run(training *r, int32_t *calls, int32_t *points)
{
    begin_training(r);
    double before = toy_train(r->t, 0);
    ck_assert_int_eq(lrk_adapters_zero_gradients(r->t->adapters), LRK_OK);
    ck_assert_int_eq(go(r), LRK_OK);
    ck_assert_int_eq(r->steps, 12);
    ck_assert_int_eq(r->rounds, 3);
    ck_assert_double_lt(r->loss, before);
    *calls = r->t->calls;
    *points = r->t->progressed;
    return sets_digest(r->t->adapters);
}

START_TEST(a_run_of_training_and_rounds_repeats_bit_for_bit)
{
    training r;
    int32_t calls, points;
    uint64_t first = whole_run(&r, &calls, &points);
    end_training(&r);
    ck_assert_uint_eq(whole_run(&r, &calls, &points), first);
    end_training(&r);
}
END_TEST

START_TEST(a_run_interrupted_anywhere_ends_with_the_same_adapters)
{
    training r;
    int32_t calls, points;
    uint64_t want = whole_run(&r, &calls, &points);
    end_training(&r);
    for (int32_t at = 0; at < calls + points + 3; at++) {
        begin_training(&r);
        if (at < calls)
            r.t->fail_call = at;
        else if (at < calls + points)
            r.t->cancel_at = at - calls;
        else
            r.stop_round = at - calls - points;
        lrk_status status = go(&r);
        ck_assert_int_eq(status, at < calls            ? LRK_ERR_HOST
                                 : at < calls + points ? LRK_ERR_CANCELLED
                                                       : LRK_OK);
        ck_assert_int_lt(r.steps, 12);
        ck_assert_int_eq(go(&r), LRK_OK);
        ck_assert_int_eq(r.steps, 12);
        ck_assert_int_eq(r.rounds, 3);
        ck_assert_uint_eq(sets_digest(r.t->adapters), want);
        end_training(&r);
    }
}
END_TEST

START_TEST(an_event_callback_ends_the_run_after_the_round)
{
    training r;
    begin_training(&r);
    lrk_run_callbacks run = {.struct_size = sizeof run, .user = &r, .train_step = train, .event = on_event};
    r.stop_round = 0;
    r.stop_with = 6;
    sets_expect(r.t->context, lrk_schedule_run(r.schedule, &run), LRK_ERR_HOST,
                "event() returned 6 at step 3");
    ck_assert_int_eq(r.rounds, 1);
    r.stop_round = 1;
    r.stop_with = LRK_RUN_STOP;
    ck_assert_int_eq(lrk_schedule_run(r.schedule, &run), LRK_OK);
    ck_assert_int_eq(r.steps, 5);
    ck_assert_int_eq(r.rounds, 2);
    run.event = NULL; /* may be left out */
    ck_assert_int_eq(lrk_schedule_run(r.schedule, &run), LRK_OK);
    ck_assert_int_eq(r.steps, 12);
    ck_assert_int_eq(r.rounds, 2);
    end_training(&r);
}
END_TEST

Suite *round_training_suite(void);

Suite *round_training_suite(void)
{
    Suite *suite = suite_create("round_training");
    TCase *loop = tcase_create("loop");
    tcase_add_test(loop, a_run_of_training_and_rounds_repeats_bit_for_bit);
    tcase_add_test(loop, a_run_interrupted_anywhere_ends_with_the_same_adapters);
    tcase_add_test(loop, an_event_callback_ends_the_run_after_the_round);
    suite_add_tcase(suite, loop);
    return suite;
}
