/* SPDX-License-Identifier: MIT */
/*
 * Several workers: the scores of one worker bit for bit, evaluations shared out as workers.h says, and every failure (a
 * callback, memory, the exchange) and every difference brought to all of them, who can then go on.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapters/set.h"
#include "core/context.h"
#include "core/workers.h"
#include "ring.h"

static void drop(table *t, lrk_scores *scores)
{
    lrk_scores_destroy(scores);
    table_destroy(t);
}

/* ---- shares --------------------------------------------------------------------------------------------------------------- */

/* Entries of the log that ask about a rank. */
static int32_t about_ranks(const table *t)
{
    int32_t n = 0;
    for (int32_t i = 0; i < t->n_log; i++)
        n += t->log[i].identity != 0;
    return n;
}

START_TEST(workers_find_the_scores_of_one_bit_for_bit)
{
    int32_t mode = _i % RING_MODES, n = 1 + _i / RING_MODES % RING_MOST,
            per_call = 1 + 2 * (_i / (RING_MODES * RING_MOST));
    table *t;
    lrk_scores *wanted = ring_alone(mode, &t);
    ring *r = ring_create(n);
    r->per_call = per_call;
    lrk_ablation_options options = ring_options(mode);
    ring_ablation(r, &options);
    ring_run(r);
    ring_expect(r, wanted);
    int32_t all = 0, one = about_ranks(t);
    for (int32_t w = 0; w < n; w++)
        all += about_ranks(r->seats[w].table);
    ck_assert_int_eq(all, one);
    for (int32_t w = 0; w < n; w++) {
        const table *own = r->seats[w].table;
        ck_assert_int_eq(own->n_log - about_ranks(own), t->n_log - one); /* baselines: of every worker */
        ck_assert_int_eq(own->progressed > 0, 1);
        if (mode == LRK_ABLATION_EXACT) ck_assert_int_le(about_ranks(own), 2 * ((TABLE_RANKS + n - 1) / n));
    }
    ring_destroy(r);
    drop(t, wanted);
}
END_TEST

START_TEST(a_turn_goes_out_in_blocks_with_the_indices_of_a_single_worker)
{
    ring *r = ring_create(3);
    r->per_call = 2;
    ring_ablation(r, NULL);
    ring_run(r);
    /* turns of 6 and 2: of the first the workers get two each, of the second none, one, one */
    const int64_t first[3][3] = {{1, 2, 0}, {3, 4, 7}, {5, 6, 8}};
    for (int32_t w = 0; w < 3; w++) {
        const table *t = r->seats[w].table;
        int32_t n = 0;
        for (int32_t i = 0; i < t->n_log; i++) {
            if (t->log[i].identity == 0 || t->log[i].baseline != LRK_BASELINE_ALL) continue;
            ck_assert_int_eq(t->log[i].index, first[w][n++]);
        }
        ck_assert_int_eq(n, w == 0 ? 2 : 3);
    }
    ring_destroy(r);
}
END_TEST

/* ---- failures ------------------------------------------------------------------------------------------------------------- */

/* One worker failed with `own`, the others because of it; then all go on to the scores of one. */
static void expect_failure(ring *r, int32_t failed, lrk_status own, lrk_status others,
                           const lrk_scores *wanted)
{
    for (int32_t w = 0; w < r->n; w++) {
        ck_assert_ptr_null(r->seats[w].scores);
        ck_assert_msg(r->seats[w].statuses[0] == (w == failed ? own : others), "worker %d of %d: %d %s",
                      (int)w, (int)r->n, (int)r->seats[w].statuses[0], r->seats[w].words[0]);
        char words[64];
        snprintf(words, sizeof words, "worker %d of %d failed: %s", (int)failed, (int)r->n,
                 lrk_status_name(own));
        if (w != failed) ck_assert_ptr_nonnull(strstr(r->seats[w].words[0], words));
    }
    ring_run(r);
    ring_expect(r, wanted);
}

START_TEST(a_callback_that_fails_on_one_worker_fails_on_all_and_all_go_on)
{
    table *t;
    lrk_scores *wanted = ring_alone(_i, &t);
    int32_t n = 3, failures = 0;
    for (int32_t w = 0; w < n; w++)
        for (int32_t call = 0;; call++) {
            ring *r = ring_of(n, _i);
            r->seats[w].table->fail_call = call;
            ring_run(r);
            bool failed = r->seats[w].table->fail_call == -1;
            if (failed) expect_failure(r, w, LRK_ERR_HOST, LRK_ERR_WORKERS, wanted);
            ring_destroy(r);
            if (!failed) break;
            failures++;
        }
    ck_assert_int_ge(failures, 2 * n);
    drop(t, wanted);
}
END_TEST

START_TEST(one_worker_cancels_for_all)
{
    table *t;
    lrk_scores *wanted = ring_alone(_i, &t);
    for (int32_t at = 0;; at++) {
        ring *r = ring_of(2, _i);
        r->seats[1].table->cancel_at = at;
        ring_run(r);
        bool cancelled = r->seats[1].table->cancel_at == -1;
        if (cancelled) expect_failure(r, 1, LRK_ERR_CANCELLED, LRK_ERR_CANCELLED, wanted);
        ring_destroy(r);
        if (!cancelled) break;
    }
    drop(t, wanted);
}
END_TEST

START_TEST(memory_that_one_worker_lacks_fails_on_all_and_all_go_on)
{
    table *t;
    lrk_scores *wanted = ring_alone(_i, &t);
    for (int64_t k = 0;; k++) {
        ring *r = ring_of(2, _i);
        fault_counter *alloc = &r->seats[1].table->fault.alloc;
        int64_t before = alloc->calls;
        alloc->fail_at = before + k;
        ring_run(r);
        bool failed = alloc->calls > alloc->fail_at;
        alloc->fail_at = -1;
        if (failed) expect_failure(r, 1, LRK_ERR_NOMEM, LRK_ERR_WORKERS, wanted);
        ring_destroy(r);
        if (!failed) break;
    }
    drop(t, wanted);
}
END_TEST

START_TEST(an_exchange_that_breaks_for_all_can_be_gone_on_from)
{
    table *t;
    lrk_scores *wanted = ring_alone(_i, &t);
    for (int32_t k = 0;; k++) {
        ring *r = ring_of(2, _i);
        r->seats[0].fail_gather = r->seats[1].fail_gather = k;
        ring_run(r);
        bool failed = r->seats[0].fail_gather == -1;
        for (int32_t w = 0; w < 2 && failed; w++) {
            ck_assert_int_eq(r->seats[w].statuses[0], LRK_ERR_HOST);
            ck_assert_ptr_nonnull(strstr(r->seats[w].words[0], "gather() returned 5"));
        }
        if (failed) ring_run(r);
        ring_expect(r, wanted);
        ring_destroy(r);
        if (!failed) break;
    }
    drop(t, wanted);
}
END_TEST

/* Goes on until it succeeds, and begins anew once it was told that the workers are out of step. */
static void insist(ring_seat *seat)
{
    int32_t i = 0;
    for (; i < 8; i++) {
        seat->statuses[i] = lrk_estimator_run(seat->estimator, 0, &seat->scores);
        if (seat->statuses[i] == LRK_OK) break;
        if (i > 1) lrk_estimator_reset(seat->estimator);
    }
    ck_assert_int_lt(i, 8);
    seat->statuses[0] = LRK_OK;
}

START_TEST(an_exchange_that_breaks_for_one_is_noticed_by_all)
{
    table *t;
    lrk_scores *wanted = ring_alone(_i, &t);
    ring *clean = ring_of(2, _i);
    ring_run(clean);
    int32_t last = clean->seats[0].gathers - 1; /* after that one the others are done and gone */
    ring_destroy(clean);
    for (int32_t k = 0; k < last; k++) {
        ring *r = ring_of(2, _i);
        r->seats[1].fail_gather = k;
        ring_each(r, insist);
        ring_expect(r, wanted);
        ring_destroy(r);
    }
    drop(t, wanted);
}
END_TEST

static int32_t forget(void *user, const double *own, int64_t n, double *all)
{
    (void)user, (void)own, (void)n, (void)all;
    return 0;
}

static int32_t give_no_numbers(void *user, const double *own, int64_t n, double *all)
{
    const lrk_context *context = user;
    (void)own;
    for (int64_t i = 0; i < n * context->workers.n_workers; i++)
        all[i] = NAN;
    return 0;
}

static void expect_refused(ring *r, lrk_status status, const char *words)
{
    ring_run(r);
    for (int32_t w = 0; w < r->n; w++) {
        ck_assert_ptr_null(r->seats[w].scores);
        ck_assert_int_eq(r->seats[w].statuses[0], status);
        ck_assert_msg(strstr(r->seats[w].words[0], words) != NULL, "%s", r->seats[w].words[0]);
    }
}

START_TEST(workers_whose_numbers_are_mixed_up_are_told)
{
    table *t;
    lrk_scores *wanted = ring_alone(_i, &t);
    ring *r = ring_of(2, _i);
    lrk_workers *first = &r->seats[0].table->context->workers, *second = &r->seats[1].table->context->workers;
    first->worker = 1, second->worker = 0; /* in another order than their seats */
    expect_refused(r, LRK_ERR_HOST, "gather() gave what worker 1 sent where that of worker 0 belongs");
    first->worker = 0; /* both */
    expect_refused(r, LRK_ERR_HOST, "gather() gave what worker 0 sent where that of worker 1 belongs");
    second->worker = 1;
    ring_run(r);
    ring_expect(r, wanted);
    ring_destroy(r);
    drop(t, wanted);
}
END_TEST

START_TEST(copies_that_were_not_made_are_noticed)
{
    table *t;
    lrk_scores *wanted = ring_alone(_i, &t);
    ring *r = ring_of(2, _i);
    lrk_workers right[2];
    for (int32_t w = 0; w < 2; w++) {
        lrk_context *context = r->seats[w].table->context;
        right[w] = context->workers;
        context->workers.gather = forget;
        context->workers.user = context;
    }
    expect_refused(r, LRK_ERR_HOST, "gather() gave what worker 0 sent where that of worker 1 belongs");
    for (int32_t w = 0; w < 2; w++)
        r->seats[w].table->context->workers.gather = give_no_numbers;
    expect_refused(r, LRK_ERR_WORKERS, "worker 0 of 2 failed");
    for (int32_t w = 0; w < 2; w++)
        r->seats[w].table->context->workers = right[w];
    ring_run(r);
    ring_expect(r, wanted);
    ring_destroy(r);
    drop(t, wanted);
}
END_TEST

/* ---- differences ---------------------------------------------------------------------------------------------------------- */

static void expect_difference(ring *r, const char *words)
{
    ring_run(r);
    for (int32_t w = 0; w < r->n; w++) {
        ck_assert_ptr_null(r->seats[w].scores);
        ck_assert_int_eq(r->seats[w].statuses[0], LRK_ERR_WORKERS);
        ck_assert_msg(strstr(r->seats[w].words[0], "worker 2 differs from worker 0") != NULL &&
                          strstr(r->seats[w].words[0], words) != NULL,
                      "%s", r->seats[w].words[0]);
    }
    ring_destroy(r);
}

START_TEST(what_workers_differ_in_is_named)
{
    ring *r = ring_of(3, LRK_ABLATION_EXACT);
    r->seats[2].table->losses[0][1] += 1e-15;
    expect_difference(r, "the losses with all ranks");
    r = ring_of(3, LRK_ABLATION_SCREENED);
    r->seats[2].table->weights[0] *= 2;
    expect_difference(r, "the losses with all ranks");
    r = ring_of(3, LRK_ABLATION_EXACT);
    r->seats[2].table->losses[1][1] += 1e-15;
    expect_difference(r, "the losses with no rank");
    r = ring_of(3, LRK_ABLATION_TWO_POINT);
    r->seats[2].table->gradient[0][3] += 1.0 / 1024;
    expect_difference(r, "the mask derivatives at 1");
    r = ring_of(3, LRK_ABLATION_TWO_POINT);
    r->seats[2].table->gradient[1][3] += 1.0 / 1024;
    expect_difference(r, "the mask derivatives at 0");
}
END_TEST

static void random_estimator(ring *r, int32_t w, uint64_t seed)
{
    ck_assert_int_eq(lrk_estimator_create_random(r->seats[w].table->adapters, seed, &r->seats[w].estimator),
                     LRK_OK);
}

START_TEST(estimators_that_ask_nothing_are_compared_too)
{
    ring *r = ring_create(3);
    for (int32_t w = 0; w < 3; w++)
        random_estimator(r, w, 1);
    ring_run(r);
    ring_expect(r, r->seats[0].scores);
    for (int32_t w = 0; w < 3; w++)
        lrk_scores_destroy(r->seats[w].scores), r->seats[w].scores = NULL;
    r->seats[2].step = 1; /* another nonce */
    expect_difference(r, "the scores");
    r = ring_create(3);
    for (int32_t w = 0; w < 3; w++)
        random_estimator(r, w, w == 2 ? 2 : 1);
    expect_difference(r, "the estimator");
    r = ring_of(3, LRK_ABLATION_EXACT);
    lrk_estimator_destroy(r->seats[2].estimator);
    random_estimator(r, 2, 1);
    expect_difference(r, "the estimator");
    r = ring_of(3, LRK_ABLATION_EXACT);
    lrk_evaluator two = table_evaluator(r->seats[2].table);
    two.max_per_call = 2;
    lrk_ablation_options options = ring_options(LRK_ABLATION_EXACT);
    lrk_estimator_destroy(r->seats[2].estimator);
    ck_assert_int_eq(
        lrk_estimator_create_ablation(r->seats[2].table->adapters, &two, &options, &r->seats[2].estimator),
        LRK_OK);
    expect_difference(r, "max_per_call");
}
END_TEST

/* Selection weights of n workers; of one with one step more by worker 2 if `differs`. */
static ring *selection_of(int32_t n, bool differs)
{
    ring *r = ring_create(n);
    for (int32_t w = 0; w < n; w++) {
        lrk_evaluator evaluator = table_evaluator(r->seats[w].table);
        lrk_selection_options options;
        (void)lrk_selection_options_init(&options, sizeof options);
        options.steps = w == 2 && differs ? 5 : 4;
        ck_assert_int_eq(lrk_estimator_create_selection(r->seats[w].table->adapters, &evaluator, &options,
                                                        &r->seats[w].estimator),
                         LRK_OK);
    }
    return r;
}

START_TEST(selection_weights_are_those_of_one_on_all_workers)
{
    ring *alone = selection_of(1, false);
    ring_run(alone);
    ck_assert_int_eq(alone->seats[0].statuses[0], LRK_OK);
    for (int32_t n = 2; n <= RING_MOST; n++) {
        ring *r = selection_of(n, false);
        ring_run(r);
        ring_expect(r, alone->seats[0].scores);
        ring_destroy(r);
    }
    for (int32_t w = 0; w < 3; w++)
        for (int32_t call = 0; call < 4; call++) {
            ring *r = selection_of(3, false);
            r->seats[w].table->fail_call = call;
            ring_run(r);
            ck_assert_int_eq(r->seats[w].table->fail_call, -1);
            expect_failure(r, w, LRK_ERR_HOST, LRK_ERR_WORKERS, alone->seats[0].scores);
            ring_destroy(r);
        }
    ring_destroy(alone);
    ring *r = selection_of(3, false);
    r->seats[2].table->gradient[0][3] += 1.0 / 1024;
    expect_difference(r, "the mask derivatives at 1");
    expect_difference(selection_of(3, true), "the estimator");
}
END_TEST

static void observe(ring_seat *seat)
{
    lrk_adapters *set = seat->table->adapters;
    for (int32_t m = 0; m < set->n_modules; m++) {
        lrki_module *module = &set->modules[m];
        for (int64_t i = 0; i < module->bank.rank * module->n_in; i++)
            module->bank.grad_a[i] = (float)(i % 5) - 1.5f + (seat->worker == 2 ? (float)seat->step : 0.0f);
        for (int64_t i = 0; i < module->bank.rank && seat->worker == 2; i++)
            module->bank.gates[i] += (float)seat->step;
        module->has_gradient = module->bank.rank > 0;
    }
    ck_assert_int_eq(lrk_estimator_observe(seat->estimator), LRK_OK);
}

START_TEST(what_was_observed_is_compared)
{
    for (int32_t kind = 0; kind < 6; kind++) {
        ring *r = ring_create(3);
        for (int32_t w = 0; w < 3; w++) {
            ring_seat *seat = &r->seats[w];
            lrk_adapters *of = seat->table->adapters;
            lrk_status status = kind % 3 == 0   ? lrk_estimator_create_sensitivity(of, NULL, &seat->estimator)
                                : kind % 3 == 1 ? lrk_estimator_create_taylor(of, NULL, &seat->estimator)
                                                : lrk_estimator_create_salience(of, NULL, &seat->estimator);
            ck_assert_int_eq(status, LRK_OK);
            seat->step = kind / 3;
            observe(seat);
        }
        if (kind / 3 == 1) {
            expect_difference(r, "what it observed");
            continue;
        }
        ring_run(r);
        ring_expect(r, r->seats[0].scores);
        ring_destroy(r);
    }
}
END_TEST

/* ---- the context ---------------------------------------------------------------------------------------------------------- */

static int32_t no_gather(void *user, const double *own, int64_t n, double *all)
{
    (void)user;
    (void)own;
    (void)n;
    (void)all;
    return 1;
}

START_TEST(a_context_says_what_is_wrong_with_its_workers)
{
    const struct {
        lrk_workers workers;
        lrk_status status;
        const char *words;
    } cases[] = {
        {{sizeof(lrk_workers), 1, NULL, no_gather, 0, 2}, LRK_ERR_ARGUMENT, "flags"},
        {{sizeof(lrk_workers), 0, NULL, NULL, 0, 2}, LRK_ERR_ARGUMENT, "gather"},
        {{sizeof(lrk_workers), 0, NULL, no_gather, 2, 2}, LRK_ERR_ARGUMENT, "worker must"},
        {{sizeof(lrk_workers), 0, NULL, no_gather, -1, 2}, LRK_ERR_ARGUMENT, "worker must"},
        {{sizeof(lrk_workers), 0, NULL, no_gather, 0, 0}, LRK_ERR_ARGUMENT, "n_workers"},
        {{sizeof(lrk_workers), 0, NULL, no_gather, 0, 65537}, LRK_ERR_ARGUMENT, "n_workers"},
        {{4, 0, NULL, no_gather, 0, 2}, LRK_ERR_ARGUMENT, "struct_size"},
        {{sizeof(lrk_workers), 0, NULL, NULL, 0, 1}, LRK_OK, ""},
        {{sizeof(lrk_workers), 0, NULL, no_gather, 1, 2}, LRK_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fault f;
        fault_reset(&f);
        lrk_host host = fault_host(&f);
        host.workers = &cases[i].workers;
        lrk_context *context;
        char text[128];
        ck_assert_int_eq(lrk_context_create(&host, &context, text, sizeof text), cases[i].status);
        ck_assert_msg(strstr(text, cases[i].words) != NULL, "%s", text);
        lrk_context_destroy(context);
        ck_assert_int_eq(f.live, 0);
        for (int64_t k = 0; cases[i].status == LRK_OK && k < (i == 8 ? 2 : 1); k++) {
            f.alloc.fail_at = f.alloc.calls + k;
            ck_assert_int_eq(lrk_context_create(&host, &context, NULL, 0), LRK_ERR_NOMEM);
            ck_assert_int_eq(f.live, 0);
        }
    }
}
END_TEST

Suite *workers_suite(void)
{
    Suite *suite = suite_create("workers");
    TCase *shares = tcase_create("shares");
    tcase_add_loop_test(shares, workers_find_the_scores_of_one_bit_for_bit, 0, 2 * RING_MODES * RING_MOST);
    tcase_add_test(shares, a_turn_goes_out_in_blocks_with_the_indices_of_a_single_worker);
    suite_add_tcase(suite, shares);
    TCase *failures = tcase_create("failures");
    tcase_set_timeout(failures, 120);
    tcase_add_loop_test(failures, a_callback_that_fails_on_one_worker_fails_on_all_and_all_go_on, 0,
                        RING_MODES);
    tcase_add_loop_test(failures, one_worker_cancels_for_all, 0, RING_MODES);
    tcase_add_loop_test(failures, memory_that_one_worker_lacks_fails_on_all_and_all_go_on, 0, RING_MODES);
    tcase_add_loop_test(failures, an_exchange_that_breaks_for_all_can_be_gone_on_from, 0, RING_MODES);
    tcase_add_loop_test(failures, an_exchange_that_breaks_for_one_is_noticed_by_all, 0, RING_MODES);
    tcase_add_loop_test(failures, workers_whose_numbers_are_mixed_up_are_told, 0, RING_MODES);
    tcase_add_loop_test(failures, copies_that_were_not_made_are_noticed, 0, RING_MODES);
    suite_add_tcase(suite, failures);
    TCase *differences = tcase_create("differences");
    tcase_add_test(differences, what_workers_differ_in_is_named);
    tcase_add_test(differences, estimators_that_ask_nothing_are_compared_too);
    tcase_add_test(differences, selection_weights_are_those_of_one_on_all_workers);
    tcase_add_test(differences, what_was_observed_is_compared);
    suite_add_tcase(suite, differences);
    TCase *context = tcase_create("context");
    tcase_add_test(context, a_context_says_what_is_wrong_with_its_workers);
    suite_add_tcase(suite, context);
    return suite;
}
