/* SPDX-License-Identifier: MIT */
/*
 * A host whose losses are a table: every answer to a scoring run is written down beforehand, so that scores can be
 * worked out by hand, and every request is written to a log. The set has five modules whose stages do not ascend with
 * their indices; A and B hold unit rows, so that lrk_backward() with x = 1 and dy = g derives exactly g by the mask.
 */
#ifndef TABLE_H
#define TABLE_H

#include "fault.h"
#include "sets.h"

#define TABLE_RANKS   8
#define TABLE_MODULES 5
#define TABLE_PARTS   4
#define TABLE_LOG     4096

/* Questions: 0 all, 1 none, 2 + 2 i without rank i, 3 + 2 i only rank i. */
#define TABLE_QUESTIONS (2 + 2 * TABLE_RANKS)

typedef struct table_entry {
    char kind; /* 'E' or 'D' */
    int32_t baseline;
    int32_t first_stage;
    int64_t index;
    uint64_t identity;
    int32_t call; /* number of the callback */
} table_entry;

typedef struct table {
    fault fault;
    lrk_context *context;
    lrk_adapters *adapters;
    int32_t n_parts; /* of the evaluator, <= TABLE_PARTS */
    double weights[TABLE_PARTS];
    double losses[TABLE_QUESTIONS][TABLE_PARTS]; /* sums */
    double drift;                    /* added to a part's loss sum each time a baseline is asked again */
    double gradient[2][TABLE_RANKS]; /* dL/dm by baseline; multiples of 2^-10 stay exact */
    uint64_t identities[TABLE_RANKS];
    int32_t stages[TABLE_RANKS];

    table_entry log[TABLE_LOG];
    int32_t n_log;
    int32_t calls;       /* evaluate and differentiate                            */
    int32_t asked[2];    /* evaluations of each baseline                          */
    int32_t fail_call;   /* this call (by number) fails, -1: none; then it is -1  */
    int32_t progressed;  /* calls of progress                                     */
    int32_t cancel_at;   /* this call of progress cancels, -1; then it is -1      */
    int64_t done, total; /* last reported                                         */
    int32_t skip_module; /* differentiate runs no backward of it, -1              */
    void (*during)(struct table *table,
                   const lrk_evaluation *evaluations); /* inside evaluate and differentiate */
    void (*during_progress)(struct table *table);
    void *during_user;
} table;

/* Modules "m0" stage 2 rank 2, "m1" stage 0 rank 3, "m2" stage 1 rank 1, "m3" stage 0 rank 2, "m4" stage 1 rank 0. */
table *table_create(void);
void table_destroy(table *t); /* checks that all memory came back */

/* Takes up the identities of the live ranks, after a change of ranks that left TABLE_RANKS or fewer. */
void table_follow(table *t);

/* Every part of the question gets loss `mean` per weight. */
void table_set(table *t, int32_t question, double mean);
/* Terms of rank i by means: t1 = without - all, t2 = none - only. */
void table_terms(table *t, int32_t rank, double t1, double t2);

lrk_evaluator table_evaluator(table *t);
/* ck_asserts success; options may be NULL. */
lrk_estimator *table_estimator(table *t, const lrk_ablation_options *options);
lrk_ablation_options table_options(int32_t mode);
/* Runs it to its end, nonce 0; ck_asserts success. */
lrk_scores *table_run(lrk_estimator *estimator);
/* Runs it to the `at`-th call of progress, which cancels it. */
void table_pause_at(table *t, lrk_estimator *estimator, int32_t at);
void table_forget_log(table *t);

/* Both runs have the same facts and the same bits in every score. */
void table_same_scores(const lrk_scores *a, const lrk_scores *b);
lrk_score table_score(const lrk_scores *scores, int64_t i);
lrk_scores_info table_info(const lrk_scores *scores);

#endif
