/* SPDX-License-Identifier: MIT */
/* Interleaved measurement (timing.h). */
#include "timing.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SAMPLE_US  30.0 /* shortest time to take: a thousand times what reading the clock costs */
#define MOST_CALLS 1000

typedef struct contest {
    const rival *rivals;
    const operands *o;
    int op;
    int64_t next; /* operand set */
    int64_t calls[TIMING_RIVALS];
} contest;

double timing_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

/* Time of one call, over `calls` of them. */
static double sample(contest *c, int contender, int64_t calls)
{
    double start = timing_now();
    for (int64_t i = 0; i < calls; i++) {
        rival_run(&c->rivals[contender], c->op, c->next);
        c->next = c->next + 1 == c->o->n_sets ? 0 : c->next + 1;
    }
    return (timing_now() - start) / (double)calls;
}

/* Calls a sample of a contender, which warms up on the way; returns the time that they will take. */
static double calibrate(contest *c, int contender)
{
    int64_t calls = 1;
    double us = sample(c, contender, 1);
    us = sample(c, contender, 1);
    while (us * (double)calls < SAMPLE_US && calls < MOST_CALLS) {
        calls *= 2;
        us = sample(c, contender, calls);
    }
    c->calls[contender] = calls;
    return us * (double)calls;
}

void timing_run(timing *t, const rival *rivals, int n, const operands *o, int op, double budget_ms)
{
    contest c = {.rivals = rivals, .o = o, .op = op};
    double round = 0.0;
    for (int i = 0; i < n; i++)
        round += calibrate(&c, i);
    double wanted = budget_ms * 1e3 / round;
    t->n = n;
    t->repetitions = wanted < TIMING_LEAST ? TIMING_LEAST : wanted > TIMING_MOST ? TIMING_MOST : (int)wanted;
    for (int rep = 0; rep < t->repetitions; rep++)
        for (int i = 0; i < n; i++) {
            int contender = (rep + i) % n;
            t->us[contender][rep] = sample(&c, contender, c.calls[contender]);
        }
}

static int compare(const void *left, const void *right)
{
    double l = *(const double *)left, r = *(const double *)right;
    return (l > r) - (l < r);
}

/* Of n sorted values, between the two nearest. */
static double quantile(const double *sorted, int n, double part)
{
    double at = part * (double)(n - 1);
    int low = (int)at;
    return low + 1 < n ? sorted[low] + (at - low) * (sorted[low + 1] - sorted[low]) : sorted[low];
}

static timing_stats stats_of(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    return (timing_stats){values[0], quantile(values, n, 0.25), quantile(values, n, 0.5),
                          quantile(values, n, 0.75)};
}

timing_stats timing_stats_of(const timing *t, int contender)
{
    double values[TIMING_MOST];
    memcpy(values, t->us[contender], sizeof values);
    return stats_of(values, t->repetitions);
}

timing_stats timing_ratio(const timing *t, int contender, int base)
{
    double values[TIMING_MOST];
    for (int i = 0; i < t->repetitions; i++)
        values[i] = t->us[contender][i] / t->us[base][i];
    return stats_of(values, t->repetitions);
}
