/* SPDX-License-Identifier: MIT */
/* What the figures were measured on: processor, cores, caches, compiler, BLAS. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <jansson.h>
#include <stddef.h>

/* Bytes of a data cache, level 1 to 3; a usual size where the system does not say. */
size_t machine_cache(int level);

/* {"cpu", "cpus", "l1d_bytes", ..., "compiler", "openblas"}; the caller's reference. */
json_t *machine_describe(void);

/* {"lorank", "blas", "floor"}: whose threads each of them runs on in this process; the caller's reference. */
json_t *machine_pools(void);

/* Threads of a parallel region; 1 without OpenMP. */
int machine_threads(void);

/* The default number of threads of the BLAS and of OpenMP are both n; a sentence on stderr if not. */
int machine_has_threads(int n);

/* Binds the process to the last n of the processors that it may use, as far as the system lets it. */
void machine_pin(int n);

#endif
