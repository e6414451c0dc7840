/* SPDX-License-Identifier: MIT */
/*
 * A run as its trace tells it: modules in a grid of kind and layer, rounds with their scores, series of values, and the
 * lineage of every rank. Read once (run_read.c), then only looked at.
 */
#ifndef TOOL_RUN_H
#define TOOL_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUN_UNKNOWN INT64_MIN /* a birth that the trace does not tell */

typedef struct run_module {
    char *name;
    int64_t stage;
    int64_t n_in;
    int64_t n_out;
    int64_t rank;   /* at the start */
    int row;        /* in the grid  */
    int col;        /* 0 without a layer */
    bool has_layer; /* its name tells one */
} run_module;

typedef struct run_score {
    int64_t identity;
    int64_t module;
    double score; /* NaN stands for null throughout */
    double noise;
    double estimate;
    bool exact;
    bool below_floor;
    bool dropped;
} run_score;

typedef struct run_receiver {
    int64_t module;
    int64_t n;
    double mean;
} run_receiver;

typedef struct run_round {
    int64_t number;
    int64_t step;
    char *estimator;
    char *policy;
    double loss_all;
    double loss_none;
    double noise_floor;
    double split_correlation;
    double cut;
    double cut_next;
    int64_t evaluations;
    int64_t differentiations;
    int64_t n_exact;
    int64_t ranks_before;
    int64_t ranks_after;
    int64_t parameters_before;
    int64_t parameters_after;
    int64_t n_dropped;
    int64_t n_added;
    int64_t n_receivers;
    run_receiver *receivers;
    int64_t *module_ranks; /* [n_modules] after the round    */
    int64_t n_scores;
    run_score *scores; /* ascending                      */
} run_round;

/* One rank's life. */
typedef struct run_rank {
    int64_t identity;
    int64_t module;
    int64_t birth;      /* step, or RUN_UNKNOWN                        */
    int64_t born_round; /* index in rounds, -1: there from the start   */
    int64_t drop_round; /* index in rounds, -1: never                  */
    double last_score;  /* NaN: never scored                           */
    bool live;          /* at the end                                  */
} run_rank;

typedef struct run_series {
    char *name;
    int64_t n;
    int64_t capacity;
    int64_t *steps;
    double *values;
} run_series;

typedef struct run {
    char *label; /* NULL: none */
    char *version;
    int64_t ranks;
    int64_t parameters;
    int64_t n_modules;
    run_module *modules;
    int64_t n_rounds;
    run_round *rounds;
    int64_t n_series;
    run_series *series;
    int64_t n_lineage;
    int64_t lineage_capacity;
    run_rank *lineage; /* ascending identities */
    bool ended;
    int64_t *final_ranks; /* [n_modules] at the end, or as far as the trace goes */
    int64_t final_total;
    int64_t final_parameters;
    int n_rows;
    char **row_labels;
    int n_cols;
    int64_t *col_layers;
    bool has_layers;
} run;

/* Reads a trace. NULL with one line in error[0..size): file, line and what is wrong. */
run *run_read(const char *path, char *error, int size);
void run_free(run *r); /* NULL is ignored */

/* Fills row and col of the modules, and the labels, from their names. */
void run_make_grid(run *r);

/* Memory that is there: lack of it ends the program with one line and status 1. */
void *run_alloc(int64_t n, size_t size);
void *run_grow(void *old, int64_t n, size_t size);
char *run_copy(const char *text);

#endif
