/* SPDX-License-Identifier: MIT */
/*
 * When rounds come, stepping without a binding, and the loop driven by callbacks. Rounds that are carried out are in
 * test_round.c and test_round_training.c.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "fault.h"
#include "lorank/lorank.h"
#include "sets.h"

static fault host;
static lrk_context *context;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
}

static void teardown(void)
{
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static lrk_schedule_options options_of(int32_t rounds, double warmup, double recovery, int64_t total)
{
    lrk_schedule_options options;
    ck_assert_int_eq(lrk_schedule_options_init(&options, sizeof options), LRK_OK);
    options.rounds = rounds;
    options.warmup = warmup;
    options.recovery = recovery;
    options.total_steps = total;
    return options;
}

static lrk_schedule *make(lrk_schedule_options options)
{
    lrk_schedule *schedule;
    char text[256];
    lrk_status status = lrk_schedule_create(context, &options, &schedule);
    lrk_context_error(context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s", text);
    return schedule;
}

static void refuse(lrk_schedule_options options, const char *words)
{
    lrk_schedule *schedule = (lrk_schedule *)&host;
    sets_expect(context, lrk_schedule_create(context, &options, &schedule), LRK_ERR_ARGUMENT, words);
    ck_assert_ptr_null(schedule);
}

static void check_steps(lrk_schedule *schedule, const int64_t *want, int32_t n)
{
    int64_t step;
    for (int32_t i = 0; i < n; i++) {
        ck_assert_int_eq(lrk_schedule_round_step(schedule, i, &step), LRK_OK);
        ck_assert_int_eq(step, want[i]);
    }
    lrk_schedule_destroy(schedule);
}

/* ---- when ------------------------------------------------------------------------------------------------------------------ */

START_TEST(rounds_come_after_the_warm_up_and_every_recovery)
{
    check_steps(make(options_of(4, 10, 5, 30)), (int64_t[]){10, 15, 20, 25}, 4);
    check_steps(make(options_of(3, 1, 1, 4)), (int64_t[]){1, 2, 3}, 3);
}
END_TEST

START_TEST(epochs_are_rounded_from_the_start_and_not_added_up)
{
    lrk_schedule_options o = options_of(5, 1, 0.25, 100);
    o.unit = LRK_UNIT_EPOCHS;
    o.steps_per_epoch = 10; /* 10 12.5 15 17.5 20 */
    check_steps(make(o), (int64_t[]){10, 13, 15, 18, 20}, 5);
    o.warmup = 0.5;
    o.recovery = 1.0 / 3;
    o.steps_per_epoch = 7; /* 3.5 5.83 8.17 10.5 12.83 */
    check_steps(make(o), (int64_t[]){4, 6, 8, 11, 13}, 5);
    check_steps(make(options_of(4, 0.6, 1.4, 10)), (int64_t[]){1, 2, 3, 5}, 4);
}
END_TEST

START_TEST(the_last_recovery_must_fit)
{
    lrk_schedule_destroy(make(options_of(4, 10, 5, 30)));
    refuse(options_of(4, 10, 5, 29), "total_steps must be >= 30 for 4 rounds");
    refuse(options_of(4, 10, 5, 9), "total_steps must be >= 30 for 4 rounds");
    refuse(options_of(1, 1e300, 1e300, 5), "total_steps must be >= ");
    refuse(options_of(INT32_MAX, 1, 1e300, INT64_MAX), "total_steps must be >= ");
    lrk_schedule_options o = options_of(8, 1, 0.25, 299);
    o.unit = LRK_UNIT_EPOCHS;
    o.steps_per_epoch = 100;
    refuse(o, "total_steps must be >= 300 for 8 rounds");
    o.total_steps = 300;
    lrk_schedule_destroy(make(o));
}
END_TEST

START_TEST(values_out_of_range_are_named)
{
    lrk_schedule_options good = options_of(4, 10, 5, 100), bad;
#define REFUSE(member, value, words)                                                                         \
    bad = good;                                                                                              \
    bad.member = value;                                                                                      \
    refuse(bad, words)
    REFUSE(flags, 1, "flags");
    REFUSE(unit, 2, "unit");
    REFUSE(unit, -1, "unit");
    REFUSE(unit, LRK_UNIT_EPOCHS, "steps_per_epoch");
    REFUSE(rounds, -1, "rounds");
    REFUSE(warmup, -1, "warmup");
    REFUSE(warmup, NAN, "warmup");
    REFUSE(warmup, INFINITY, "warmup");
    REFUSE(warmup, 0, "warmup must come to at least 1 step");
    REFUSE(warmup, 0.4, "warmup must come to at least 1 step");
    REFUSE(recovery, -1, "recovery");
    REFUSE(recovery, INFINITY, "recovery");
    REFUSE(recovery, 0, "recovery must come to at least 1 step");
    REFUSE(recovery, 0.4, "recovery must come to at least 1 step");
    REFUSE(recovery, 0.6, "round 1"); /* 10 10.6 11.2 */
    REFUSE(total_steps, 0, "total_steps");
#undef REFUSE
    good.rounds = 0; /* then neither matters */
    good.warmup = good.recovery = 0;
    lrk_schedule_destroy(make(good));
}
END_TEST

START_TEST(arguments_are_checked)
{
    lrk_schedule_options o = options_of(1, 1, 1, 5);
    lrk_schedule *schedule;
    int64_t step;
    lrk_schedule_event event = {.struct_size = sizeof event};
    lrk_run_callbacks run = {.struct_size = sizeof run};
    ck_assert_int_eq(lrk_schedule_options_init(NULL, sizeof o), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_create(NULL, &o, &schedule), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_create(context, NULL, &schedule), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_create(context, &o, NULL), LRK_ERR_ARGUMENT);
    struct {
        lrk_schedule_options known;
        uint64_t tail;
    } longer = {.known = o, .tail = 1};
    longer.known.struct_size = sizeof longer;
    ck_assert_int_eq(lrk_schedule_create(context, &longer.known, &schedule), LRK_ERR_VERSION);
    schedule = make(o);
    ck_assert_int_eq(lrk_schedule_round_step(NULL, 0, &step), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_round_step(schedule, 0, NULL), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_schedule_round_step(schedule, -1, &step), LRK_ERR_ARGUMENT, "no round -1 of 1");
    sets_expect(context, lrk_schedule_round_step(schedule, 1, &step), LRK_ERR_ARGUMENT, "no round 1 of 1");
    ck_assert_int_eq(lrk_schedule_step(NULL, &event), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_step(schedule, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_retry(NULL, &event), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_complete_round(NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_end_rounds(NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_bind(NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_bind(schedule, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_run(NULL, &run), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_run(schedule, NULL), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_schedule_run(schedule, &run), LRK_ERR_ARGUMENT, "train_step");
    ck_assert_int_eq(lrk_schedule_step(schedule, &event), LRK_OK);
    ck_assert_int_eq(event.step, 1); /* a refused call is no step */
    lrk_schedule_destroy(schedule);
    lrk_schedule_destroy(NULL);
}
END_TEST

/* ---- unbound ------------------------------------------------------------------------------------------------------------------ */

static lrk_schedule_event step_once(lrk_schedule *schedule)
{
    lrk_schedule_event event = {.struct_size = sizeof event};
    ck_assert_int_eq(lrk_schedule_step(schedule, &event), LRK_OK);
    return event;
}

START_TEST(an_unbound_schedule_says_when_a_round_is_due_and_waits_for_it)
{
    lrk_schedule *schedule = make(options_of(2, 3, 2, 8));
    for (int64_t step = 1; step <= 8; step++) {
        lrk_schedule_event event = step_once(schedule);
        bool due = step == 3 || step == 5;
        ck_assert_int_eq(event.kind, due ? LRK_EVENT_ROUND_DUE : LRK_EVENT_NONE);
        ck_assert_int_eq(event.step, step);
        ck_assert_int_eq(event.round, due ? (step - 3) / 2 : -1);
        ck_assert_int_eq(event.finished, step == 8);
        if (!due) {
            sets_expect(context, lrk_schedule_complete_round(schedule), LRK_ERR_STATE, "no round is due");
            continue;
        }
        sets_expect(context, lrk_schedule_step(schedule, &event), LRK_ERR_STATE,
                    step == 3 ? "round 0, due since step 3" : "round 1, due since step 5");
        ck_assert_int_eq(event.kind, LRK_EVENT_ROUND_DUE);
        ck_assert_int_eq(event.step, step);
        sets_expect(context, lrk_schedule_retry(schedule, &event), LRK_ERR_STATE, "not bound");
        ck_assert_int_eq(lrk_schedule_complete_round(schedule), LRK_OK);
        sets_expect(context, lrk_schedule_retry(schedule, &event), LRK_ERR_STATE, "no round is due");
    }
    lrk_schedule_event event = {.struct_size = sizeof event};
    sets_expect(context, lrk_schedule_step(schedule, &event), LRK_ERR_STATE, "all 8 steps are done");
    ck_assert_int_eq(event.finished, 1);
    lrk_schedule_destroy(schedule);
}
END_TEST

START_TEST(rounds_can_be_ended_before_between_and_when_due)
{
    for (int64_t end_at = 0; end_at <= 6; end_at++) {
        lrk_schedule *schedule = make(options_of(3, 2, 2, 9));
        int32_t due = 0;
        for (int64_t step = 0; step < 9; step++) {
            if (step == end_at) ck_assert_int_eq(lrk_schedule_end_rounds(schedule), LRK_OK);
            lrk_schedule_event event = step_once(schedule);
            due += event.kind == LRK_EVENT_ROUND_DUE;
            if (event.kind == LRK_EVENT_ROUND_DUE && step + 1 != end_at)
                ck_assert_int_eq(lrk_schedule_complete_round(schedule), LRK_OK);
        }
        ck_assert_int_eq(due, end_at / 2);
        lrk_schedule_destroy(schedule);
    }
}
END_TEST

START_TEST(a_shorter_event_gets_its_part)
{
    lrk_schedule *schedule = make(options_of(1, 1, 1, 5));
    lrk_schedule_event event = {.struct_size = offsetof(lrk_schedule_event, n_dropped), .n_dropped = 77};
    ck_assert_int_eq(lrk_schedule_step(schedule, &event), LRK_OK);
    ck_assert_int_eq(event.kind, LRK_EVENT_ROUND_DUE);
    ck_assert_int_eq(event.n_dropped, 77);
    lrk_schedule_destroy(schedule);
}
END_TEST

/* ---- the loop ------------------------------------------------------------------------------------------------------------------ */

typedef struct loop {
    lrk_schedule *schedule;
    int64_t trained;
    int64_t answer_at; /* this step is answered with `answer`, -1 */
    int32_t answer;
    int32_t events;
} loop;

static int32_t train(void *user, int64_t step)
{
    loop *l = user;
    lrk_schedule_event event = {.struct_size = sizeof event};
    ck_assert_int_eq(step, l->trained);
    ck_assert_int_eq(lrk_schedule_step(l->schedule, &event), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_schedule_retry(l->schedule, &event), LRK_ERR_BUSY);
    lrk_run_callbacks again = {.struct_size = sizeof again, .user = l, .train_step = train};
    ck_assert_int_eq(lrk_schedule_run(l->schedule, &again), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_schedule_complete_round(l->schedule), LRK_ERR_BUSY);
    if (step == l->answer_at) {
        l->answer_at = -1;
        return l->answer;
    }
    l->trained++;
    return 0;
}

static int32_t count_event(void *user, const lrk_schedule_event *event)
{
    (void)event;
    ((loop *)user)->events++;
    return 0;
}

START_TEST(a_run_trains_to_the_end_and_goes_on_after_a_stop)
{
    for (int64_t at = -1; at < 7; at++) {
        loop l = {.answer_at = at, .answer = at % 2 == 0 ? LRK_RUN_STOP : 5};
        l.schedule = make(options_of(0, 0, 0, 7));
        lrk_run_callbacks run = {
            .struct_size = sizeof run, .user = &l, .train_step = train, .event = count_event};
        lrk_status status = lrk_schedule_run(l.schedule, &run);
        ck_assert_int_eq(status, at >= 0 && at % 2 != 0 ? LRK_ERR_HOST : LRK_OK);
        ck_assert_int_eq(l.trained, at < 0 ? 7 : at);
        ck_assert_int_eq(lrk_schedule_run(l.schedule, &run), LRK_OK);
        ck_assert_int_eq(l.trained, 7);
        ck_assert_int_eq(lrk_schedule_run(l.schedule, &run), LRK_OK); /* nothing is left */
        ck_assert_int_eq(l.trained, 7);
        ck_assert_int_eq(l.events, 0);
        lrk_schedule_destroy(l.schedule);
    }
}
END_TEST

START_TEST(a_run_of_rounds_needs_a_binding)
{
    loop l = {.answer_at = -1};
    l.schedule = make(options_of(2, 1, 1, 7));
    lrk_run_callbacks run = {.struct_size = sizeof run, .user = &l, .train_step = train};
    sets_expect(context, lrk_schedule_run(l.schedule, &run), LRK_ERR_STATE, "2 rounds to come and not bound");
    run.flags = 1;
    sets_expect(context, lrk_schedule_run(l.schedule, &run), LRK_ERR_ARGUMENT, "flags");
    run.flags = 0;
    ck_assert_int_eq(lrk_schedule_end_rounds(l.schedule), LRK_OK);
    ck_assert_int_eq(lrk_schedule_run(l.schedule, &run), LRK_OK);
    ck_assert_int_eq(l.trained, 7);
    lrk_schedule_destroy(l.schedule);
}
END_TEST

static lrk_status create(void *user)
{
    lrk_schedule_options options = options_of(2, 1, 1, 7);
    return lrk_schedule_create(context, &options, user);
}

static void destroy(void *user)
{
    lrk_schedule_destroy(*(lrk_schedule **)user);
}

START_TEST(creation_survives_a_lack_of_memory)
{
    lrk_schedule *schedule;
    sets_each_fault(&host, create, destroy, &schedule);
}
END_TEST

Suite *schedule_suite(void);

Suite *schedule_suite(void)
{
    Suite *suite = suite_create("schedule");
    TCase *tests = tcase_create("schedule");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, rounds_come_after_the_warm_up_and_every_recovery);
    tcase_add_test(tests, epochs_are_rounded_from_the_start_and_not_added_up);
    tcase_add_test(tests, the_last_recovery_must_fit);
    tcase_add_test(tests, values_out_of_range_are_named);
    tcase_add_test(tests, arguments_are_checked);
    tcase_add_test(tests, an_unbound_schedule_says_when_a_round_is_due_and_waits_for_it);
    tcase_add_test(tests, rounds_can_be_ended_before_between_and_when_due);
    tcase_add_test(tests, a_shorter_event_gets_its_part);
    tcase_add_test(tests, a_run_trains_to_the_end_and_goes_on_after_a_stop);
    tcase_add_test(tests, a_run_of_rounds_needs_a_binding);
    tcase_add_test(tests, creation_survives_a_lack_of_memory);
    suite_add_tcase(suite, tests);
    return suite;
}
