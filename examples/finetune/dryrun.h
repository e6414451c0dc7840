/* SPDX-License-Identifier: MIT */
/* Bytes that a run holds at its peak, by what holds them. */
#ifndef FT_DRYRUN_H
#define FT_DRYRUN_H

#include <stddef.h>

#include "bench.h"

typedef struct ft_memory {
    size_t weights, activations, cache, adapters, workspace, best, rows, runtime;
    size_t total;
} ft_memory;

void ft_estimate_memory(const ft_bench *bench, ft_memory *memory);

#endif
