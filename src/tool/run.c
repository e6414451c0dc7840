/* SPDX-License-Identifier: MIT */
/*
 * Memory of a run. The command is a program: it ends when there is none.
 */
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory)
{
    if (memory != NULL) return memory;
    fputs("lorank: out of memory\n", stderr);
    exit(1);
}

void *run_alloc(int64_t n, size_t size)
{
    return must(calloc(n > 0 ? (size_t)n : 1, size));
}

void *run_grow(void *old, int64_t n, size_t size)
{
    return must(reallocarray(old, n > 0 ? (size_t)n : 1, size));
}

char *run_copy(const char *text)
{
    return must(strdup(text));
}

static void free_round(run_round *round)
{
    free(round->estimator);
    free(round->policy);
    free(round->receivers);
    free(round->module_ranks);
    free(round->scores);
}

void run_free(run *r)
{
    if (r == NULL) return;
    for (int64_t i = 0; r->modules != NULL && i < r->n_modules; i++)
        free(r->modules[i].name);
    for (int64_t i = 0; i < r->n_rounds; i++)
        free_round(&r->rounds[i]);
    for (int64_t i = 0; i < r->n_series; i++) {
        free(r->series[i].name);
        free(r->series[i].steps);
        free(r->series[i].values);
    }
    for (int i = 0; i < r->n_rows; i++)
        free(r->row_labels[i]);
    free(r->row_labels);
    free(r->col_layers);
    free(r->label);
    free(r->version);
    free(r->modules);
    free(r->rounds);
    free(r->series);
    free(r->lineage);
    free(r->final_ranks);
    free(r);
}
