/* SPDX-License-Identifier: MIT */
/*
 * Calls for a counter of instructions instead of a clock: of one contender, on one operand set, in this process, each
 * shape of the options after one call that warms up. count_calls() is where the counter is switched on (counts.sh).
 */
#ifndef BENCH_COUNT_H
#define BENCH_COUNT_H

#include "rivals.h"

void count_calls(const rival *r, int op, int64_t n);
int count_run(const bench_options *options);

#endif
