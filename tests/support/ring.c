/* SPDX-License-Identifier: MIT */
/*
 * The ring (ring.h). A gather has two barriers: after the first all numbers are there to be copied, after the second their
 * owners may go on. Contexts get their workers after they were made, as lrk_context_create() would have done.
 */
#include "ring.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/set.h"
#include "core/context.h"

#define PATIENCE 60 /* seconds: a machine under load is not a hang */

static bool meet(ring *r)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    int64_t turn = r->turns;
    if (++r->waiting == r->n) {
        r->waiting = 0;
        r->turns++;
        pthread_cond_broadcast(&r->turned);
    }
    while (r->turns == turn && !r->hung)
        if (pthread_cond_timedwait(&r->turned, &r->lock, &until) != 0) r->hung = true;
    if (r->hung) pthread_cond_broadcast(&r->turned);
    return !r->hung;
}

static int32_t gather(void *user, const double *own, int64_t n, double *all)
{
    ring_seat *seat = user;
    ring *r = seat->ring;
    bool fails = seat->gathers++ == seat->fail_gather;
    if (fails) seat->fail_gather = -1;
    pthread_mutex_lock(&r->lock);
    r->own[seat->worker] = own;
    r->sizes[seat->worker] = n;
    bool met = meet(r);
    bool same = true;
    for (int32_t w = 0; w < r->n && met; w++)
        same = same && r->sizes[w] == n;
    for (int32_t w = 0; w < r->n && met && same; w++)
        memcpy(all + w * n, r->own[w], (size_t)n * sizeof *all);
    met = met && meet(r);
    pthread_mutex_unlock(&r->lock);
    return met && same && !fails ? 0 : 5;
}

void ring_fill(table *t)
{
    table_set(t, 0, 2.125);
    table_set(t, 1, 5.375);
    for (int32_t i = 0; i < TABLE_RANKS; i++) {
        double exact = 1 / (double)(3 + (5 * i) % 8);
        table_terms(t, i, exact / 3, exact * 2 / 3);
        t->losses[2 + 2 * i][i % TABLE_PARTS] += 1.0 / 64; /* halves of the batch disagree */
        for (int b = 0; b < 2; b++)
            t->gradient[b][i] = -((5 * i) % 8 + 3) / 1024.0;
    }
}

ring *ring_create(int32_t n)
{
    ring *r = calloc(1, sizeof *r);
    r->n = n;
    r->per_call = 1;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->turned, NULL);
    for (int32_t w = 0; w < n; w++) {
        ring_seat *seat = &r->seats[w];
        *seat = (ring_seat){.ring = r, .worker = w, .table = table_create(), .fail_gather = -1};
        ring_fill(seat->table);
        lrk_context *context = seat->table->context;
        context->workers.user = seat;
        context->workers.gather = gather;
        context->workers.worker = w;
        context->workers.n_workers = n;
        ck_assert(lrki_workers_open(context));
    }
    return r;
}

void ring_destroy(ring *r)
{
    ck_assert_msg(!r->hung, "a worker waited for others that did not come");
    for (int32_t w = 0; w < r->n; w++) {
        ring_seat *seat = &r->seats[w];
        lrk_scores_destroy(seat->scores);
        lrk_estimator_destroy(seat->estimator);
        lrk_allocator_destroy(seat->allocator);
        table_destroy(seat->table);
    }
    pthread_cond_destroy(&r->turned);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void ring_ablation(ring *r, const lrk_ablation_options *options)
{
    for (int32_t w = 0; w < r->n; w++) {
        lrk_evaluator evaluator = table_evaluator(r->seats[w].table);
        evaluator.max_per_call = (int32_t)r->per_call;
        ck_assert_int_eq(lrk_estimator_create_ablation(r->seats[w].table->adapters, &evaluator, options,
                                                       &r->seats[w].estimator),
                         LRK_OK);
    }
}

lrk_ablation_options ring_options(int32_t mode)
{
    lrk_ablation_options options = table_options(mode);
    if (mode == LRK_ABLATION_SCREENED) {
        options.n_cut = 2;
        options.pool = 3;
        options.pool_step = 2;
    }
    if (mode != LRK_ABLATION_TWO_POINT) options.noise_floor_repeats = 1;
    return options;
}

ring *ring_of(int32_t n, int32_t mode)
{
    ring *r = ring_create(n);
    lrk_ablation_options options = ring_options(mode);
    ring_ablation(r, &options);
    return r;
}

lrk_scores *ring_alone(int32_t mode, table **t)
{
    *t = table_create();
    ring_fill(*t);
    lrk_ablation_options options = ring_options(mode);
    lrk_estimator *estimator = table_estimator(*t, &options);
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_OK);
    lrk_estimator_destroy(estimator);
    return scores;
}

typedef struct task {
    ring_seat *seat;
    void (*act)(ring_seat *seat);
} task;

static void *work(void *user)
{
    task *t = user;
    t->act(t->seat);
    return NULL;
}

void ring_each(ring *r, void (*act)(ring_seat *seat))
{
    pthread_t threads[RING_MOST];
    task tasks[RING_MOST];
    for (int32_t w = 0; w < r->n; w++) {
        tasks[w] = (task){&r->seats[w], act};
        ck_assert_int_eq(pthread_create(&threads[w], NULL, work, &tasks[w]), 0);
    }
    for (int32_t w = 0; w < r->n; w++)
        pthread_join(threads[w], NULL);
}

static void run_once(ring_seat *seat)
{
    lrk_scores_destroy(seat->scores);
    int32_t before = seat->table->n_log;
    seat->statuses[0] = lrk_estimator_run(seat->estimator, (uint64_t)seat->step, &seat->scores);
    seat->asked = seat->table->n_log - before;
    lrk_context_error(seat->table->context, seat->words[0], sizeof seat->words[0]);
}

void ring_run(ring *r)
{
    ring_each(r, run_once);
}

void ring_expect(const ring *r, const lrk_scores *wanted)
{
    for (int32_t w = 0; w < r->n; w++) {
        ck_assert_msg(r->seats[w].statuses[0] == LRK_OK, "worker %d: %s", (int)w, r->seats[w].words[0]);
        table_same_scores(r->seats[w].scores, wanted);
    }
}
