/* SPDX-License-Identifier: MIT */
/*
 * The ratios that the kernels are to reach, computed from rows and compared with the numbers set for them. The grid of
 * the numbers: tokens 128, 512, 2048; d 576, 768, 1536, 4096 square and 4096 x 11008; every rank.
 */
#ifndef BENCH_TARGETS_H
#define BENCH_TARGETS_H

#include <jansson.h>
#include <stdbool.h>

/* Prints the summary; false if a row's error exceeds its bound (the other numbers are reported, not enforced). */
bool targets_report(const json_t *rows);

#endif
