/* SPDX-License-Identifier: MIT */
/*
 * Rounds: score, plan, prepare, commit, observers in one call and by a bound schedule; each step failing, and the round
 * tried again.
 */
#include <check.h>
#include <string.h>

#include "importance/importance.h"
#include "table.h"

/* A table host with an estimator, an allocator that moves one rank, a participant and two observers that keep a log. */
typedef struct fixture {
    table *t;
    lrk_estimator *estimator;
    lrk_allocator *allocator;
    lrk_participant participant;
    lrk_round_observer observers[2];
    lrk_round_binding binding;
    lrk_schedule *schedule;
    int32_t refusals;      /* prepare() refuses so many times */
    int32_t observer_says; /* the first observer returns it, once */
    uint64_t dropped;      /* identity dropped by the last plan, 0: none */
    double first_score;    /* of the last scores seen */
    char log[512];
} fixture;

static void note(fixture *f, const char *what)
{
    ck_assert_uint_lt(strlen(f->log) + strlen(what) + 1, sizeof f->log);
    strcat(f->log, what);
}

static lrk_plan_info plan_info(const lrk_plan *plan)
{
    lrk_plan_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_plan_info_get(plan, &info), LRK_OK);
    return info;
}

static int32_t prepare(void *user, const lrk_plan *plan)
{
    fixture *f = user;
    (void)plan;
    note(f, "p");
    return f->refusals-- > 0;
}

static void commit(void *user, const lrk_plan *plan)
{
    fixture *f = user;
    f->dropped = 0;
    for (int32_t m = 0; m < TABLE_MODULES; m++) {
        lrk_plan_module part = {.struct_size = sizeof part};
        ck_assert_int_eq(lrk_plan_module_get(plan, m, &part), LRK_OK);
        if (part.n_dropped > 0) f->dropped = part.dropped_ids[0];
    }
    note(f, "c");
}

static void abandon(void *user, const lrk_plan *plan)
{
    (void)plan;
    note(user, "a");
}

static int32_t observe(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    fixture *f = user;
    ck_assert_int_eq(plan_info(plan).state, LRK_PLAN_COMMITTED);
    f->first_score = table_score(scores, 0).score;
    note(f, "o");
    int32_t answer = f->observer_says;
    f->observer_says = 0;
    return answer;
}

static int32_t observe_too(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    fixture *f = user;
    (void)scores;
    (void)plan;
    table_follow(f->t);
    note(f, "O");
    return 0;
}

static void setup_fixture(fixture *f)
{
    *f = (fixture){.t = table_create()};
    for (int i = 0; i < TABLE_RANKS; i++)
        table_terms(f->t, i, i == 3 ? -1 : i, i == 3 ? -1 : 2 * i); /* the fourth goes */
    f->estimator = table_estimator(f->t, NULL);
    f->allocator = sets_alora(f->t->adapters, 1);
    ck_assert_int_eq(lrk_participant_init(&f->participant, sizeof f->participant), LRK_OK);
    f->participant.user = f;
    f->participant.name = "logger";
    f->participant.prepare = prepare;
    f->participant.commit = commit;
    f->participant.abandon = abandon;
    f->observers[0] =
        (lrk_round_observer){.struct_size = sizeof f->observers[0], .user = f, .round = observe};
    f->observers[1] =
        (lrk_round_observer){.struct_size = sizeof f->observers[0], .user = f, .round = observe_too};
    ck_assert_int_eq(lrk_round_binding_init(&f->binding, sizeof f->binding), LRK_OK);
    f->binding.estimator = f->estimator;
    f->binding.allocator = f->allocator;
    f->binding.participants = &f->participant;
    f->binding.n_participants = 1;
    f->binding.observers = f->observers;
    f->binding.n_observers = 2;
}

static void teardown_fixture(fixture *f)
{
    lrk_schedule_destroy(f->schedule);
    lrk_estimator_destroy(f->estimator);
    lrk_allocator_destroy(f->allocator);
    table_destroy(f->t);
}

/* Rounds after steps 2, 4, 6 of 9. */
static void create_schedule(fixture *f)
{
    lrk_schedule_options options;
    ck_assert_int_eq(lrk_schedule_options_init(&options, sizeof options), LRK_OK);
    options.rounds = 3;
    options.warmup = options.recovery = 2;
    options.total_steps = 9;
    ck_assert_int_eq(lrk_schedule_create(f->t->context, &options, &f->schedule), LRK_OK);
}

static void bind(fixture *f)
{
    create_schedule(f);
    ck_assert_int_eq(lrk_schedule_bind(f->schedule, &f->binding), LRK_OK);
}

static lrk_schedule_event fresh(void)
{
    return (lrk_schedule_event){.struct_size = sizeof(lrk_schedule_event), .kind = -5};
}

static void check_done(const lrk_schedule_event *event, int64_t step, int32_t round)
{
    ck_assert_int_eq(event->kind, LRK_EVENT_ROUND_DONE);
    ck_assert_int_eq(event->step, step);
    ck_assert_int_eq(event->round, round);
    ck_assert_int_eq(event->n_dropped, 1);
    ck_assert_int_eq(event->n_added, 1);
    ck_assert_int_eq(event->evaluations, 2 * TABLE_RANKS + 2);
    ck_assert_int_eq(event->differentiations, 0);
    ck_assert_int_eq(event->finished, 0);
}

/* ---- one round ---------------------------------------------------------------------------------------------------------------- */

START_TEST(a_round_scores_plans_prepares_commits_and_tells)
{
    fixture f;
    setup_fixture(&f);
    lrk_schedule_event event = fresh();
    uint64_t worst = f.t->identities[3];
    ck_assert_int_eq(lrk_round_run(&f.binding, 4, 17, &event), LRK_OK);
    check_done(&event, 17, 4);
    ck_assert_str_eq(f.log, "pcoO");
    ck_assert_uint_eq(f.dropped, worst);
    int32_t module;
    int64_t index;
    ck_assert_int_eq(lrk_adapters_find_rank(f.t->adapters, worst, &module, &index), LRK_ERR_NOT_FOUND);
    ck_assert_int_eq(sets_info(f.t->adapters).ranks, TABLE_RANKS);
    const int64_t *births;
    ck_assert_int_eq(lrk_adapters_find_rank(f.t->adapters, TABLE_RANKS + 1, &module, &index), LRK_OK);
    int64_t n;
    ck_assert_int_eq(lrk_adapters_ranks(f.t->adapters, module, NULL, &births, &n), LRK_OK);
    ck_assert_int_eq(births[index], 17);
    teardown_fixture(&f);
}
END_TEST

START_TEST(a_refused_round_leaves_everything_and_can_be_tried_again)
{
    fixture f;
    setup_fixture(&f);
    lrk_schedule_event event = fresh();
    uint64_t before = sets_digest(f.t->adapters);
    f.refusals = 2;
    for (int i = 0; i < 2; i++) {
        sets_expect(f.t->context, lrk_round_run(&f.binding, 0, 1, &event), LRK_ERR_REFUSED, "logger");
        ck_assert_int_eq(event.kind, LRK_EVENT_NONE);
        ck_assert_uint_eq(sets_digest(f.t->adapters), before);
    }
    ck_assert_int_eq(lrk_round_run(&f.binding, 0, 1, &event), LRK_OK);
    check_done(&event, 1, 0);
    ck_assert_str_eq(f.log, "pppcoO");
    teardown_fixture(&f);
}
END_TEST

START_TEST(a_cancelled_scoring_goes_on_when_the_round_is_tried_again)
{
    fixture f;
    setup_fixture(&f);
    lrk_schedule_event event = fresh();
    for (int32_t at = 3; at <= 12; at += 3) {
        f.t->cancel_at = at;
        ck_assert_int_eq(lrk_round_run(&f.binding, 0, 1, &event), LRK_ERR_CANCELLED);
        ck_assert_int_eq(event.kind, LRK_EVENT_NONE);
        ck_assert_int_eq(f.t->calls, at + 1);
    }
    ck_assert_int_eq(lrk_round_run(&f.binding, 0, 1, &event), LRK_OK);
    check_done(&event, 1, 0);
    ck_assert_int_eq(f.t->calls, 2 * TABLE_RANKS + 2);
    teardown_fixture(&f);
}
END_TEST

START_TEST(an_observer_that_fails_does_not_undo_the_round)
{
    fixture f;
    setup_fixture(&f);
    lrk_schedule_event event = fresh();
    f.observer_says = 9;
    sets_expect(f.t->context, lrk_round_run(&f.binding, 0, 1, &event), LRK_ERR_HOST, "observer 0 returned 9");
    check_done(&event, 1, 0);
    ck_assert_str_eq(f.log, "pcoO"); /* the second was told all the same */
    ck_assert_int_eq(lrk_round_run(&f.binding, 1, 2, &event), LRK_OK);
    teardown_fixture(&f);
}
END_TEST

START_TEST(the_round_number_keys_random_scores)
{
    fixture f;
    setup_fixture(&f);
    lrk_estimator *random;
    ck_assert_int_eq(lrk_estimator_create_random(f.t->adapters, 11, &random), LRK_OK);
    f.binding.estimator = random;
    lrk_schedule_event event = fresh();
    for (uint64_t round = 0; round < 3; round++) {
        lrki_stream stream = lrki_stream_make(11, LRKI_STREAM_SCORE, f.t->identities[0], round);
        ck_assert_int_eq(lrk_round_run(&f.binding, round, 1, &event), LRK_OK);
        ck_assert_double_eq(f.first_score, lrki_stream_uniform(&stream, 0));
    }
    lrk_estimator_destroy(random);
    teardown_fixture(&f);
}
END_TEST

START_TEST(a_round_survives_each_lack_of_memory)
{
    int64_t total = 0;
    uint64_t want = 0;
    for (int64_t i = -1; i < 2 * total; i++) {
        fixture f;
        setup_fixture(&f);
        lrk_schedule_event event = fresh();
        uint64_t before = sets_digest(f.t->adapters);
        int64_t calls = f.t->fault.alloc.calls;
        f.t->fault.alloc.sticky = i % 2;
        if (i >= 0) f.t->fault.alloc.fail_at = calls + i / 2;
        lrk_status status = lrk_round_run(&f.binding, 0, 1, &event);
        f.t->fault.alloc.fail_at = -1;
        if (i < 0) {
            ck_assert_int_eq(status, LRK_OK);
            total = f.t->fault.alloc.calls - calls;
            want = sets_digest(f.t->adapters);
        } else {
            ck_assert_int_eq(status, LRK_ERR_NOMEM);
            ck_assert_uint_eq(sets_digest(f.t->adapters), before);
            ck_assert_int_eq(event.kind, LRK_EVENT_NONE);
            ck_assert_int_eq(lrk_round_run(&f.binding, 0, 1, &event), LRK_OK);
            check_done(&event, 1, 0);
            ck_assert_uint_eq(sets_digest(f.t->adapters), want);
        }
        teardown_fixture(&f);
    }
    ck_assert_int_gt(total, 20);
}
END_TEST

static void refuse(fixture *f, const lrk_round_binding *binding, const char *words)
{
    lrk_schedule_event event = fresh();
    lrk_schedule_options options;
    lrk_schedule *schedule;
    sets_expect(f->t->context, lrk_round_run(binding, 0, 1, &event), LRK_ERR_ARGUMENT, words);
    ck_assert_int_eq(lrk_schedule_options_init(&options, sizeof options), LRK_OK);
    options.rounds = 0;
    options.total_steps = 1;
    ck_assert_int_eq(lrk_schedule_create(f->t->context, &options, &schedule), LRK_OK);
    sets_expect(f->t->context, lrk_schedule_bind(schedule, binding), LRK_ERR_ARGUMENT, words);
    lrk_schedule_destroy(schedule);
    ck_assert_str_eq(f->log, "");
}

START_TEST(a_binding_is_checked)
{
    fixture f, other;
    setup_fixture(&f);
    setup_fixture(&other);
    lrk_schedule_event event = fresh();
    lrk_round_binding bad;
    ck_assert_int_eq(lrk_round_binding_init(NULL, sizeof bad), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_round_run(NULL, 0, 1, &event), LRK_ERR_ARGUMENT);
    bad = f.binding;
    bad.allocator = NULL;
    refuse(&f, &bad, "allocator");
    bad.allocator = other.allocator;
    refuse(&f, &bad, "two sets");
    bad = f.binding;
    bad.flags = 1;
    refuse(&f, &bad, "flags");
    bad = f.binding;
    bad.n_participants = -1;
    refuse(&f, &bad, "n_participants");
    bad = f.binding;
    bad.participants = NULL;
    refuse(&f, &bad, "n_participants");
    bad = f.binding;
    bad.n_observers = -1;
    refuse(&f, &bad, "n_observers");
    bad = f.binding;
    bad.observers = NULL;
    refuse(&f, &bad, "n_observers");
    bad = f.binding;
    bad.estimator = NULL;
    ck_assert_int_eq(lrk_round_run(&bad, 0, 1, &event), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_round_run(&f.binding, 0, 1, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_round_run(&f.binding, 0, -1, &event), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_round_run(&f.binding, (uint64_t)INT32_MAX + 1, 1, &event), LRK_ERR_ARGUMENT);
    f.observers[1].round = NULL;
    refuse(&f, &f.binding, "observer 1");
    f.participant.abandon = NULL;
    refuse(&f, &f.binding, "participant 0 'logger'");
    ck_assert_int_eq(f.t->calls, 0);
    teardown_fixture(&f);
    teardown_fixture(&other);
}
END_TEST

/* ---- bound schedules ------------------------------------------------------------------------------------------------------------ */

START_TEST(a_bound_schedule_carries_rounds_out)
{
    fixture f;
    setup_fixture(&f);
    bind(&f);
    for (int64_t step = 1; step <= 9; step++) {
        lrk_schedule_event event = fresh();
        ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
        if (step == 2 || step == 4 || step == 6)
            check_done(&event, step, (int32_t)step / 2 - 1);
        else
            ck_assert_int_eq(event.kind, LRK_EVENT_NONE);
        ck_assert_int_eq(event.finished, step == 9);
    }
    ck_assert_str_eq(f.log, "pcoOpcoOpcoO");
    teardown_fixture(&f);
}
END_TEST

/* As after a restore within a scoring run: the schedule is bound when its round is due already. */
START_TEST(a_due_round_can_be_bound_and_then_carried_out)
{
    fixture f;
    setup_fixture(&f);
    lrk_schedule_event event = fresh(), now = fresh();
    create_schedule(&f);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
    ck_assert_int_eq(event.kind, LRK_EVENT_ROUND_DUE);
    ck_assert_int_eq(lrk_schedule_now(f.schedule, &now), LRK_OK);
    ck_assert_mem_eq(&now, &event, sizeof now);
    ck_assert_int_eq(lrk_schedule_bind(f.schedule, &f.binding), LRK_OK);
    ck_assert_int_eq(lrk_schedule_retry(f.schedule, &event), LRK_OK);
    check_done(&event, 2, 0);
    ck_assert_int_eq(lrk_schedule_now(f.schedule, &now), LRK_OK);
    ck_assert_int_eq(now.kind, LRK_EVENT_NONE);
    ck_assert_int_eq(now.step, 2);
    ck_assert_int_eq(lrk_schedule_now(NULL, &now), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_schedule_now(f.schedule, NULL), LRK_ERR_ARGUMENT);
    teardown_fixture(&f);
}
END_TEST

START_TEST(a_round_that_fails_stays_due_and_can_be_retried)
{
    fixture f;
    setup_fixture(&f);
    bind(&f);
    lrk_schedule_event event = fresh();
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
    f.t->cancel_at = 4;
    f.refusals = 1;
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_ERR_CANCELLED);
    ck_assert_int_eq(event.kind, LRK_EVENT_ROUND_DUE);
    ck_assert_int_eq(event.step, 2);
    ck_assert_int_eq(event.round, 0);
    sets_expect(f.t->context, lrk_schedule_step(f.schedule, &event), LRK_ERR_STATE, "round 0");
    sets_expect(f.t->context, lrk_schedule_bind(f.schedule, &f.binding), LRK_ERR_STATE, "round 0");
    ck_assert_int_eq(lrk_schedule_retry(f.schedule, &event), LRK_ERR_REFUSED);
    ck_assert_int_eq(event.kind, LRK_EVENT_ROUND_DUE);
    ck_assert_int_eq(lrk_schedule_retry(f.schedule, &event), LRK_OK);
    check_done(&event, 2, 0);
    ck_assert_int_eq(lrk_schedule_retry(f.schedule, &event), LRK_ERR_STATE);
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
    ck_assert_int_eq(event.step, 3);
    f.observer_says = 2; /* the round is done all the same */
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_ERR_HOST);
    check_done(&event, 4, 1);
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
    ck_assert_int_eq(event.step, 5);
    teardown_fixture(&f);
}
END_TEST

START_TEST(a_round_given_up_takes_its_paused_scoring_along)
{
    for (int end = 0; end < 2; end++) {
        fixture f;
        setup_fixture(&f);
        bind(&f);
        lrk_schedule_event event = fresh();
        ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
        f.t->cancel_at = 4;
        ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_ERR_CANCELLED);
        ck_assert_int_eq(end ? lrk_schedule_end_rounds(f.schedule) : lrk_schedule_complete_round(f.schedule),
                         LRK_OK);
        ck_assert_int_eq(lrk_adapters_values_changed(f.t->adapters), LRK_OK); /* training goes on */
        ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
        table_forget_log(f.t);
        ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
        if (end)
            ck_assert_int_eq(event.kind, LRK_EVENT_NONE);
        else
            check_done(&event, 4, 1);
        ck_assert_int_eq(f.t->calls, end ? 0 : 2 * TABLE_RANKS + 2);
        teardown_fixture(&f);
    }
}
END_TEST

START_TEST(a_binding_keeps_its_handles_and_copies_its_arrays)
{
    fixture f;
    setup_fixture(&f);
    bind(&f);
    ck_assert_int_eq(lrk_schedule_bind(f.schedule, &f.binding), LRK_OK); /* in place of the first */
    lrk_estimator_destroy(f.estimator);
    lrk_allocator_destroy(f.allocator);
    f.estimator = NULL;
    f.allocator = NULL;
    memset(&f.participant, 0, sizeof f.participant);
    memset(f.observers, 0, sizeof f.observers);
    lrk_schedule_event event = fresh();
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
    check_done(&event, 2, 0);
    ck_assert_str_eq(f.log, "pcoO");
    teardown_fixture(&f);
}
END_TEST

static void call_the_schedule(table *t, const lrk_evaluation *evaluations)
{
    fixture *f = t->during_user;
    (void)evaluations;
    lrk_schedule_event event = fresh();
    ck_assert_int_eq(lrk_schedule_step(f->schedule, &event), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_schedule_retry(f->schedule, &event), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_schedule_bind(f->schedule, &f->binding), LRK_ERR_BUSY);
    ck_assert_int_eq(lrk_schedule_complete_round(f->schedule), LRK_ERR_BUSY);
}

START_TEST(a_schedule_is_busy_inside_its_own_round)
{
    fixture f;
    setup_fixture(&f);
    bind(&f);
    f.t->during = call_the_schedule;
    f.t->during_user = &f;
    lrk_schedule_event event = fresh();
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
    check_done(&event, 2, 0);
    ck_assert_int_gt(f.t->calls, 0);
    teardown_fixture(&f);
}
END_TEST

static lrk_status bind_again(void *user)
{
    fixture *f = user;
    return lrk_schedule_bind(f->schedule, &f->binding);
}

static void undo_nothing(void *user)
{
    (void)user;
}

START_TEST(binding_survives_each_lack_of_memory)
{
    fixture f;
    setup_fixture(&f);
    bind(&f); /* a binding that fails leaves the one before */
    sets_each_fault(&f.t->fault, bind_again, undo_nothing, &f);
    lrk_schedule_event event = fresh();
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
    ck_assert_int_eq(lrk_schedule_step(f.schedule, &event), LRK_OK);
    check_done(&event, 2, 0);
    teardown_fixture(&f);
}
END_TEST

Suite *round_suite(void);

Suite *round_suite(void)
{
    Suite *suite = suite_create("round");
    TCase *one = tcase_create("one");
    tcase_add_test(one, a_round_scores_plans_prepares_commits_and_tells);
    tcase_add_test(one, a_refused_round_leaves_everything_and_can_be_tried_again);
    tcase_add_test(one, a_cancelled_scoring_goes_on_when_the_round_is_tried_again);
    tcase_add_test(one, an_observer_that_fails_does_not_undo_the_round);
    tcase_add_test(one, the_round_number_keys_random_scores);
    tcase_add_test(one, a_round_survives_each_lack_of_memory);
    tcase_add_test(one, a_binding_is_checked);
    suite_add_tcase(suite, one);
    TCase *bound = tcase_create("bound");
    tcase_add_test(bound, a_bound_schedule_carries_rounds_out);
    tcase_add_test(bound, a_round_that_fails_stays_due_and_can_be_retried);
    tcase_add_test(bound, a_due_round_can_be_bound_and_then_carried_out);
    tcase_add_test(bound, a_round_given_up_takes_its_paused_scoring_along);
    tcase_add_test(bound, a_binding_keeps_its_handles_and_copies_its_arrays);
    tcase_add_test(bound, a_schedule_is_busy_inside_its_own_round);
    tcase_add_test(bound, binding_survives_each_lack_of_memory);
    suite_add_tcase(suite, bound);
    return suite;
}
