/* SPDX-License-Identifier: MIT */
/*
 * A scoring run that n workers paused and one of them saved, gone on with by m workers, whatever n and m: the scores of one worker
 * bit for bit, nothing asked twice but the turn that was under way; and workers of which not all have loaded it.
 */
#include <check.h>
#include <string.h>

#include "ring.h"
#include "scratch.h"

#define NUMBERS 3 /* of workers: 1 .. */

static scratch files;

static void setup(void)
{
    scratch_init(&files);
}

static void teardown(void)
{
    scratch_fini(&files);
}

static lrk_checkpoint *list_of(ring_seat *seat)
{
    lrk_checkpoint *list;
    ck_assert_int_eq(lrk_checkpoint_create(seat->table->context, &list), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(list, "a", seat->table->adapters), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_estimator(list, "a", seat->estimator), LRK_OK);
    return list;
}

static void save(ring_seat *seat)
{
    lrk_checkpoint *list = list_of(seat);
    ck_assert_int_eq(lrk_checkpoint_save(list, scratch_path(&files, "run"), NULL), LRK_OK);
    lrk_checkpoint_destroy(list);
}

static void load(ring_seat *seat)
{
    lrk_checkpoint *list = list_of(seat);
    lrk_checkpoint_file *file;
    ck_assert_int_eq(lrk_checkpoint_open(seat->table->context, scratch_path(&files, "run"), NULL, &file),
                     LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_restore(file, list, NULL), LRK_OK);
    lrk_checkpoint_close(file);
    lrk_checkpoint_destroy(list);
    table_follow(seat->table);
}

/* A file of a run that n workers paused at the given call of progress; how many ranks they had asked about, -1: it was over before. */
static int32_t paused(int32_t n, int32_t mode, int32_t at)
{
    ring *r = ring_of(n, mode);
    r->seats[n - 1].table->cancel_at = at;
    ring_run(r);
    bool stopped = r->seats[n - 1].table->cancel_at == -1;
    int32_t asked = 0;
    for (int32_t w = 0; w < n && stopped; w++) {
        ck_assert_int_eq(r->seats[w].statuses[0], LRK_ERR_CANCELLED);
        asked += r->seats[w].asked;
    }
    if (stopped) save(&r->seats[0]);
    ring_destroy(r);
    return stopped ? asked : -1;
}

START_TEST(any_number_of_workers_goes_on_with_a_paused_run)
{
    int32_t mode = _i % RING_MODES, n = 1 + _i / RING_MODES % NUMBERS, m = 1 + _i / (RING_MODES * NUMBERS);
    table *t;
    lrk_scores *wanted = ring_alone(mode, &t);
    int32_t least = t->n_log, pauses = 0;
    for (int32_t at = 0;; at++) {
        int32_t before = paused(n, mode, at), after = 0;
        if (before < 0) break;
        pauses++;
        ring *r = ring_of(m, mode);
        for (int32_t w = 0; w < m; w++)
            load(&r->seats[w]);
        ring_run(r);
        ring_expect(r, wanted);
        for (int32_t w = 0; w < m; w++)
            after += r->seats[w].asked;
        if (least > after / m) least = after / m;
        ring_destroy(r);
    }
    ck_assert_int_gt(pauses, 0);
    ck_assert_int_lt(least, t->n_log); /* it went on, and did not begin anew */
    lrk_scores_destroy(wanted);
    table_destroy(t);
}
END_TEST

START_TEST(a_worker_that_did_not_load_it_is_named)
{
    ck_assert_int_gt(paused(2, LRK_ABLATION_EXACT, 3), 0);
    ring *r = ring_of(3, LRK_ABLATION_EXACT);
    load(&r->seats[0]);
    load(&r->seats[2]);
    ring_run(r);
    for (int32_t w = 0; w < 3; w++) {
        ck_assert_int_eq(r->seats[w].statuses[0], LRK_ERR_WORKERS);
        ck_assert_msg(strstr(r->seats[w].words[0], "worker 1 differs from worker 0 in") != NULL, "%s",
                      r->seats[w].words[0]);
    }
    load(&r->seats[1]);
    ring_run(r);
    table *t;
    lrk_scores *wanted = ring_alone(LRK_ABLATION_EXACT, &t);
    ring_expect(r, wanted);
    lrk_scores_destroy(wanted);
    table_destroy(t);
    ring_destroy(r);
}
END_TEST

Suite *worker_resume_suite(void)
{
    Suite *suite = suite_create("worker_resume");
    TCase *numbers = tcase_create("numbers");
    tcase_add_checked_fixture(numbers, setup, teardown);
    tcase_add_loop_test(numbers, any_number_of_workers_goes_on_with_a_paused_run, 0,
                        RING_MODES * NUMBERS * NUMBERS);
    tcase_add_test(numbers, a_worker_that_did_not_load_it_is_named);
    suite_add_tcase(suite, numbers);
    return suite;
}
