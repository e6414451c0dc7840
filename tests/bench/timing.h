/* SPDX-License-Identifier: MIT */
/*
 * Interleaved measurement: each repetition times every contender once, in an order that turns with the repetitions, and
 * every call takes the next operand set. Repetitions: what the budget allows, 20 to 400. A contender whose call is
 * shorter than the clock can resolve well is called several times a repetition.
 */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H

#include "rivals.h"

#define TIMING_RIVALS 3
#define TIMING_LEAST  20
#define TIMING_MOST   400

typedef struct timing_stats {
    double minimum;
    double quartile; /* lower */
    double median;
    double upper; /* upper quartile */
} timing_stats;

typedef struct timing {
    int n; /* contenders */
    int repetitions;
    double us[TIMING_RIVALS][TIMING_MOST]; /* of one call */
} timing;

void timing_run(timing *t, const rival *rivals, int n, const operands *o, int op, double budget_ms);

timing_stats timing_stats_of(const timing *t, int contender);

/* Of the ratios contender/base of each repetition. */
timing_stats timing_ratio(const timing *t, int contender, int base);

/* Microseconds since some moment. */
double timing_now(void);

#endif
