/* SPDX-License-Identifier: MIT */
/* What GoRA's ranks lose by a sketch of few directions. */
#ifndef BENCH_SKETCH_GORA_H
#define BENCH_SKETCH_GORA_H

#include <stdint.h>

/*
 * For either bundled task and each seed: the ranks of the trainer's start `gora` with 24 directions against those with
 * all that a module can have. Prints the sum of absolute differences over modules beside all ranks. Exits on failure.
 */
void gora_compare(const char *batches, int64_t seeds, int64_t threads);

#endif
