/* SPDX-License-Identifier: MIT */
/*
 * Several workers in one process: a thread each, with a table of its own and the same answers in it, and a gather over a
 * barrier. A worker that waits for others that never come is a failure, not a hang.
 */
#ifndef RING_H
#define RING_H

#include <pthread.h>

#include "table.h"

#define RING_MOST  4
#define RING_MODES 3 /* LRK_ABLATION_... */

typedef struct ring ring;

typedef struct ring_seat {
    ring *ring;
    int32_t worker;
    table *table;
    lrk_estimator *estimator;
    lrk_allocator *allocator;
    lrk_scores *scores;     /* of the last run, NULL after a failure      */
    lrk_status statuses[8]; /* of the calls made by ring_run()         */
    char words[8][256];
    int32_t asked;       /* evaluations and differentiations           */
    int32_t gathers;     /* so far                                     */
    int32_t fail_gather; /* this one (by number) fails, -1; then -1    */
    int64_t step;
} ring_seat;

struct ring {
    int32_t n;
    ring_seat seats[RING_MOST];
    pthread_mutex_t lock;
    pthread_cond_t turned;
    int64_t turns;
    int32_t waiting;
    const double *own[RING_MOST];
    int64_t sizes[RING_MOST];
    bool hung;
    int64_t per_call;
};

/* n workers; estimators are made by ring_ablation() or by the test. */
ring *ring_create(int32_t n);
void ring_destroy(ring *r); /* also what the seats hold; checks that all memory came back and nobody hung */
/* Two-point estimates, exact scores and losses that tell all ranks apart, the same for whoever asks. */
void ring_fill(table *t);
void ring_ablation(ring *r, const lrk_ablation_options *options);

/* Options for each mode under which pools, screens and repeats are small and all there. */
lrk_ablation_options ring_options(int32_t mode);
/* A ring of these, and what one worker without others finds. */
ring *ring_of(int32_t n, int32_t mode);
lrk_scores *ring_alone(int32_t mode, table **t);

/* act(seat) on a thread for each worker. */
void ring_each(ring *r, void (*act)(ring_seat *seat));
/* lrk_estimator_run() by every worker, once: the statuses go to statuses[0]. */
void ring_run(ring *r);
/* All succeeded, with the scores of `wanted`. */
void ring_expect(const ring *r, const lrk_scores *wanted);

#endif
