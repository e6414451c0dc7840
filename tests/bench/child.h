/* SPDX-License-Identifier: MIT */
/* A child process whose standard input and output are ours to write and read. */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

typedef struct child {
    pid_t pid;
    FILE *to;
    FILE *from;
} child;

/* Starts argv[0] (searched for as a shell would) with OMP_NUM_THREADS and OPENBLAS_NUM_THREADS set to `threads`. */
bool child_start(child *c, char *const *argv, int threads);

/* Closes both ends and waits; the exit status, 127 if it ended otherwise. */
int child_wait(child *c);

#endif
