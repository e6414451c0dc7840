/* SPDX-License-Identifier: MIT */
/*
 * Callbacks that turn on the call they run in: that destroy the handle whose call is running, end a pass that is only
 * lent to them, or call back where docs/callbacks.md says BUSY. Every one must end as if the host had waited; what is
 * freed too early or never shows in world_close().
 */
#include <check.h>

#include "sets.h"
#include "world.h"

static world w;
static int32_t calls;

static void setup(void)
{
    world_open(&w);
    calls = 0;
}

static void teardown(void)
{
    world_close(&w);
}

/* ---- plans ----------------------------------------------------------------------------------------------------------- */

enum { IN_PREPARE, IN_REFUSAL, IN_COMMIT, IN_ABANDON, N_PLACES };

static void destroy_plan(int32_t place, int32_t here)
{
    if (place != here) return;
    lrk_plan_destroy(w.plan);
    calls++;
}

static int32_t destroy_in_prepare(void *user, const lrk_plan *plan)
{
    (void)plan;
    int32_t place = *(int32_t *)user;
    destroy_plan(place, IN_PREPARE);
    destroy_plan(place, IN_REFUSAL);
    return place == IN_REFUSAL;
}

static void destroy_in_commit(void *user, const lrk_plan *plan)
{
    (void)plan;
    destroy_plan(*(int32_t *)user, IN_COMMIT);
}

static void destroy_in_abandon(void *user, const lrk_plan *plan)
{
    (void)plan;
    destroy_plan(*(int32_t *)user, IN_ABANDON);
}

START_TEST(a_participant_may_destroy_the_plan)
{
    int32_t place = _i;
    lrk_participant parts[2] = {world_participant(), world_participant()};
    parts[0].user = parts[1].user = &place;
    parts[0].prepare = destroy_in_prepare;
    parts[0].commit = destroy_in_commit;
    parts[0].abandon = destroy_in_abandon;
    lrk_status prepared = lrk_plan_prepare(w.plan, parts, 2);
    ck_assert_int_eq(prepared, place == IN_REFUSAL ? LRK_ERR_REFUSED : LRK_OK);
    if (place == IN_COMMIT) ck_assert_int_eq(lrk_plan_commit(w.plan), LRK_OK);
    if (place == IN_ABANDON) ck_assert_int_eq(lrk_plan_abandon(w.plan), LRK_OK);
    w.plan = NULL;
    ck_assert_int_eq(calls, 1);
    lrk_pass_options options;
    lrk_pass *pass;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.max_rows = 1;
    ck_assert_int_eq(lrk_pass_begin(w.adapters, &options, &pass), LRK_OK); /* nothing is left pending */
    lrk_pass_end(pass);
}
END_TEST

static void open_pass_in_commit(void *user, const lrk_plan *plan)
{
    (void)user, (void)plan;
    lrk_pass_options options;
    lrk_pass *pass;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.max_rows = 1;
    ck_assert_int_eq(lrk_pass_begin(w.adapters, &options, &pass), LRK_ERR_BUSY);
    calls++;
}

START_TEST(a_participant_opens_no_pass_in_commit)
{
    lrk_participant part = world_participant();
    part.commit = open_pass_in_commit;
    ck_assert_int_eq(lrk_plan_prepare(w.plan, &part, 1), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(w.plan), LRK_OK);
    ck_assert_int_eq(calls, 1);
}
END_TEST

/* ---- policies -------------------------------------------------------------------------------------------------------- */

static lrk_custom_policy custom_policy(int32_t (*plan)(void *user, const lrk_policy_request *request))
{
    lrk_custom_policy policy;
    ck_assert_int_eq(lrk_custom_policy_init(&policy, sizeof policy), LRK_OK);
    policy.name = "own";
    policy.plan = plan;
    policy.budget = INT64_MAX;
    return policy;
}

static int32_t destroy_allocator(void *user, const lrk_policy_request *request)
{
    (void)request;
    lrk_allocator_destroy(*(lrk_allocator **)user);
    return 0;
}

START_TEST(a_policy_may_destroy_its_allocator)
{
    lrk_allocator *allocator;
    lrk_plan *plan;
    lrk_custom_policy policy = custom_policy(destroy_allocator);
    policy.user = &allocator;
    ck_assert_int_eq(lrk_allocator_create_custom(w.adapters, &policy, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(allocator, w.scores, 0, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
}
END_TEST

static int32_t ask_for_too_much(void *user, const lrk_policy_request *request)
{
    (void)user;
    for (int64_t i = 0; i < request->n_ranks; i++)
        request->drop[i] = 1;
    request->add[0] = INT64_MAX;
    return 0;
}

/* All dropped and the most added: within the budget, but the plan would list more ranks than can be counted. */
START_TEST(an_answer_that_overflows_is_refused)
{
    lrk_allocator *allocator;
    lrk_plan *plan;
    lrk_custom_policy policy = custom_policy(ask_for_too_much);
    ck_assert_int_eq(lrk_allocator_create_custom(w.adapters, &policy, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(allocator, w.scores, 0, &plan), LRK_ERR_BUDGET);
    lrk_allocator_destroy(allocator);
}
END_TEST

/* ---- schedules ------------------------------------------------------------------------------------------------------- */

static lrk_schedule *schedule;

static int32_t destroy_in_round(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    (void)user, (void)scores, (void)plan;
    lrk_schedule_destroy(schedule);
    calls++;
    return 0;
}

static void bind(lrk_round_observer *observer)
{
    ck_assert_int_eq(lrk_plan_abandon(w.plan), LRK_OK);
    lrk_schedule_options options = world_schedule();
    ck_assert_int_eq(lrk_schedule_create(w.context, &options, &schedule), LRK_OK);
    lrk_participant optimizer = {.struct_size = sizeof optimizer};
    ck_assert_int_eq(lrk_optimizer_participant(w.optimizer, &optimizer), LRK_OK);
    lrk_round_binding binding = {.struct_size = sizeof binding,
                                 .estimator = w.estimator,
                                 .allocator = w.allocator,
                                 .participants = &optimizer,
                                 .n_participants = 1,
                                 .observers = observer,
                                 .n_observers = observer != NULL};
    ck_assert_int_eq(lrk_schedule_bind(schedule, &binding), LRK_OK);
}

START_TEST(an_observer_may_destroy_the_schedule)
{
    lrk_round_observer observer = {.struct_size = sizeof observer, .round = destroy_in_round};
    lrk_schedule_event event = {.struct_size = sizeof event};
    bind(&observer);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(lrk_schedule_step(schedule, &event), LRK_OK);
    ck_assert_int_eq(event.kind, LRK_EVENT_ROUND_DONE);
    ck_assert_int_eq(calls, 1);
}
END_TEST

static int32_t destroy_in_step(void *user, int64_t step)
{
    (void)user, (void)step;
    lrk_schedule_event event = {.struct_size = sizeof event};
    ck_assert_int_eq(lrk_schedule_complete_round(schedule), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_schedule_step(schedule, &event), LRK_ERR_BUSY);
    lrk_schedule_destroy(schedule);
    calls++;
    return 0;
}

START_TEST(a_run_ends_when_a_callback_destroys_the_schedule)
{
    lrk_run_callbacks host = {.struct_size = sizeof host, .train_step = destroy_in_step};
    bind(NULL);
    ck_assert_int_eq(lrk_schedule_run(schedule, &host), LRK_OK);
    ck_assert_int_eq(calls, 1);
}
END_TEST

/* ---- traces ---------------------------------------------------------------------------------------------------------- */

static int32_t write_again(void *user, const char *line, size_t length)
{
    (void)line, (void)length;
    lrk_trace *trace = *(lrk_trace **)user;
    if (trace == NULL) return 0; /* the start event */
    ck_assert_int_eq(lrk_trace_value(trace, "again", 1, 1.0), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_trace_round(trace, w.scores, w.plan), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_ERR_BUSY);
    calls++;
    return 0;
}

START_TEST(a_writer_does_not_write)
{
    lrk_trace *trace = NULL;
    ck_assert_int_eq(lrk_trace_create(w.adapters, write_again, &trace, NULL, &trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_value(trace, "once", 1, 1.0), LRK_OK);
    ck_assert_int_eq(calls, 1);
    lrk_trace *closing = trace;
    ck_assert_int_eq(lrk_trace_close(closing), LRK_OK);
    ck_assert_int_eq(calls, 2);
}
END_TEST

/* ---- passes ------------------------------------------------------------------------------------------------------------ */

static int32_t end_what_is_lent(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user;
    for (int32_t i = 0; i < n; i++) {
        lrk_pass_end(evaluations[i].pass);
        lrk_mask_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_pass_mask_info(evaluations[i].pass, &info), LRK_OK);
        ck_assert_int_eq(info.baseline, evaluations[i].baseline);
        evaluations[i].parts[0] = (lrk_loss_part){1.0, 1.0};
    }
    calls += n;
    return 0;
}

START_TEST(a_pass_that_is_lent_is_not_ended_by_the_host)
{
    lrk_estimator *estimator;
    lrk_scores *scores;
    lrk_evaluator evaluator = world_evaluator();
    evaluator.evaluate = end_what_is_lent;
    evaluator.max_per_call = 3;
    ck_assert_int_eq(lrk_estimator_create_ablation(w.adapters, &evaluator, NULL, &estimator), LRK_OK);
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_OK);
    ck_assert_int_eq(calls, 2 * sets_info(w.adapters).ranks + 2);
    ck_assert_int_eq(lrk_adapters_values_changed(w.adapters), LRK_OK); /* no pass is open */
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
}
END_TEST

Suite *reentry_suite(void);

Suite *reentry_suite(void)
{
    Suite *suite = suite_create("reentry");
    TCase *tests = tcase_create("reentry");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_participant_may_destroy_the_plan, 0, N_PLACES);
    tcase_add_test(tests, a_participant_opens_no_pass_in_commit);
    tcase_add_test(tests, a_policy_may_destroy_its_allocator);
    tcase_add_test(tests, an_answer_that_overflows_is_refused);
    tcase_add_test(tests, an_observer_may_destroy_the_schedule);
    tcase_add_test(tests, a_run_ends_when_a_callback_destroys_the_schedule);
    tcase_add_test(tests, a_writer_does_not_write);
    tcase_add_test(tests, a_pass_that_is_lent_is_not_ended_by_the_host);
    suite_add_tcase(suite, tests);
    return suite;
}
