/* SPDX-License-Identifier: MIT */
/*
 * The process that measures, with a fixed number of threads: what it found goes to standard output, a line of JSON
 * each: first {"header": {...}}, then rows (rows.h).
 */
#ifndef BENCH_WORKER_H
#define BENCH_WORKER_H

#include "grid.h"

int worker_run(const bench_options *options);

#endif
