/* SPDX-License-Identifier: MIT */
/* Geometric means by rank, as tables of Markdown: against OpenBLAS (tokens 128 to 2048), over the floor (512 and more). */
#ifndef BENCH_MEANS_H
#define BENCH_MEANS_H

#include <jansson.h>

/* Prints nothing of a number of threads that the rows lack. */
void means_report(const json_t *rows);

#endif
