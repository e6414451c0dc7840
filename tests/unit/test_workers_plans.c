/* SPDX-License-Identifier: MIT */
/*
 * Rounds of several workers: the plan of one worker, carried out by all or by none, as when plans differ, a participant
 * refuses or memory is lacking on one of them.
 */
#include <check.h>
#include <string.h>

#include "ring.h"

typedef struct member {
    ring_seat *seat;
    int32_t prepared, committed, abandoned;
    bool refuses;
} member;

static member members[RING_MOST];

static int32_t join(void *user, const lrk_plan *plan)
{
    (void)plan;
    member *m = user;
    if (m->refuses) return 3;
    m->prepared++;
    return 0;
}

static void carry_on(void *user, const lrk_plan *plan)
{
    (void)plan;
    ((member *)user)->committed++;
}

static void give_up(void *user, const lrk_plan *plan)
{
    (void)plan;
    ((member *)user)->abandoned++;
}

static void allocators(ring *r, int64_t other)
{
    for (int32_t w = 0; w < r->n; w++) {
        r->seats[w].allocator = sets_alora(r->seats[w].table->adapters, w == 1 ? other : 2);
        members[w] = (member){.seat = &r->seats[w]};
    }
}

static void carry_out_round(ring_seat *seat)
{
    lrk_participant participant = {sizeof participant, 0,      &members[seat->worker], "m", join,
                                   carry_on,           give_up};
    lrk_round_binding binding = {.struct_size = sizeof binding,
                                 .estimator = seat->estimator,
                                 .allocator = seat->allocator,
                                 .participants = &participant,
                                 .n_participants = 1};
    lrk_schedule_event event = {.struct_size = sizeof event};
    seat->statuses[0] = lrk_round_run(&binding, 0, seat->step, &event);
    lrk_context_error(seat->table->context, seat->words[0], sizeof seat->words[0]);
}

START_TEST(workers_carry_out_the_round_of_one)
{
    uint64_t wanted = 0;
    for (int32_t n = 1; n <= RING_MOST; n++) {
        ring *r = ring_of(n, LRK_ABLATION_SCREENED);
        allocators(r, 2);
        ring_each(r, carry_out_round);
        for (int32_t w = 0; w < n; w++) {
            ck_assert_msg(r->seats[w].statuses[0] == LRK_OK, "%s", r->seats[w].words[0]);
            ck_assert_int_eq(members[w].committed, 1);
            uint64_t digest = sets_digest(r->seats[w].table->adapters);
            if (n == 1) wanted = digest;
            ck_assert_uint_eq(digest, wanted);
        }
        ring_destroy(r);
    }
}
END_TEST

/* Worker 1 fails with `own`, the others with LRK_ERR_WORKERS; no set has changed, and the next round is carried out. */
static void expect_no_round(ring *r, lrk_status own, const char *words)
{
    uint64_t before = sets_digest(r->seats[0].table->adapters);
    ring_each(r, carry_out_round);
    for (int32_t w = 0; w < r->n; w++) {
        ck_assert_int_eq(r->seats[w].statuses[0], w == 1 ? own : LRK_ERR_WORKERS);
        ck_assert_msg(w == 1 || strstr(r->seats[w].words[0], words) != NULL, "%s", r->seats[w].words[0]);
        ck_assert_uint_eq(sets_digest(r->seats[w].table->adapters), before);
        ck_assert_int_eq(members[w].committed, 0);
        ck_assert_int_eq(members[w].prepared, members[w].abandoned);
        members[w].refuses = false;
        r->seats[w].step = 5;
    }
}

static void expect_round(ring *r)
{
    ring_each(r, carry_out_round);
    for (int32_t w = 0; w < r->n; w++) {
        ck_assert_msg(r->seats[w].statuses[0] == LRK_OK, "%s", r->seats[w].words[0]);
        ck_assert_int_eq(members[w].committed, 1);
        ck_assert_uint_eq(sets_digest(r->seats[w].table->adapters), sets_digest(r->seats[0].table->adapters));
    }
    ring_destroy(r);
}

START_TEST(plans_that_differ_are_refused_before_anyone_is_asked)
{
    ring *r = ring_of(3, LRK_ABLATION_EXACT);
    allocators(r, 3);
    expect_no_round(r, LRK_ERR_WORKERS, "worker 1 differs from worker 0 in the plan");
    for (int32_t w = 0; w < 3; w++)
        ck_assert_int_eq(members[w].prepared, 0);
    ring_destroy(r);
    r = ring_of(3, LRK_ABLATION_EXACT);
    allocators(r, 2);
    r->seats[1].step = 9;
    expect_no_round(r, LRK_ERR_WORKERS, "worker 1 differs from worker 0 in the step");
    expect_round(r);
}
END_TEST

START_TEST(a_participant_that_refuses_on_one_worker_refuses_for_all)
{
    ring *r = ring_of(3, LRK_ABLATION_EXACT);
    allocators(r, 2);
    members[1].refuses = true;
    expect_no_round(r, LRK_ERR_REFUSED, "worker 1 of 3 failed: LRK_ERR_REFUSED");
    ck_assert_int_eq(members[0].abandoned, 1);
    ck_assert_int_eq(members[2].abandoned, 1);
    expect_round(r);
}
END_TEST

START_TEST(memory_that_one_worker_lacks_in_a_round_leaves_all_sets_as_they_are)
{
    for (int64_t k = 0;; k++) {
        ring *r = ring_of(2, LRK_ABLATION_TWO_POINT);
        allocators(r, 2);
        fault_counter *alloc = &r->seats[1].table->fault.alloc;
        alloc->fail_at = alloc->calls + k;
        uint64_t before = sets_digest(r->seats[0].table->adapters);
        ring_each(r, carry_out_round);
        bool failed = alloc->calls > alloc->fail_at;
        alloc->fail_at = -1;
        if (!failed) {
            ring_destroy(r);
            break;
        }
        ck_assert_int_eq(r->seats[1].statuses[0], LRK_ERR_NOMEM);
        ck_assert_int_eq(r->seats[0].statuses[0], LRK_ERR_WORKERS);
        for (int32_t w = 0; w < 2; w++)
            ck_assert_uint_eq(sets_digest(r->seats[w].table->adapters), before);
        expect_round(r);
    }
}
END_TEST

Suite *workers_plans_suite(void);

Suite *workers_plans_suite(void)
{
    Suite *suite = suite_create("workers_plans");
    TCase *plans = tcase_create("plans");
    tcase_set_timeout(plans, 120);
    tcase_add_test(plans, workers_carry_out_the_round_of_one);
    tcase_add_test(plans, plans_that_differ_are_refused_before_anyone_is_asked);
    tcase_add_test(plans, a_participant_that_refuses_on_one_worker_refuses_for_all);
    tcase_add_test(plans, memory_that_one_worker_lacks_in_a_round_leaves_all_sets_as_they_are);
    suite_add_tcase(suite, plans);
    return suite;
}
