/* SPDX-License-Identifier: MIT */
/*
 * One fine-tuning run: epochs of steps, rounds of the schedule, looks at dev, the best adapter kept and put
 * back at the end.
 */
#ifndef FT_LOOP_H
#define FT_LOOP_H

#include "args.h"
#include "failure.h"
#include "lorank/lorank.h"
#include "trainer.h"

typedef struct ft_job {
    const char *name;         /* on progress lines and in the trace            */
    const char *trace;        /* file to write, or NULL                        */
    lrk_estimator *judge;     /* scores every state too, to compare with; not counted; or NULL */
    uint64_t seed;            /* of the order of rows                          */
    const lrk_config *config; /* says how the adapters start; NULL: as they are */
    const ft_args *saved;     /* the run is kept in args->out, as they say; or NULL */
} ft_job;

/* What a run did. Times are the only members that differ between equal runs. */
typedef struct ft_outcome {
    ft_loss dev, test; /* of the best adapter; test only if there are test rows */
    int64_t steps, best_step;
    int64_t rounds, pruned, added;
    int64_t budget_ranks;               /* before a start filled a multiple of it */
    int64_t initial_ranks, final_ranks; /* final: of the best adapter */
    int64_t initial_parameters, final_parameters;
    int64_t evaluations, differentiations;
    int64_t layer_forwards;       /* blocks run by scoring, a backward counted as two */
    int64_t layer_forwards_naive; /* two forwards of the whole model a rank           */
    double agreement;        /* mean share of a round's lowest ranks that the judge finds too; NaN without */
    uint64_t initial_digest; /* of the adapters as the configuration makes them, before a start */
    uint64_t order_digest;   /* of the rows trained on, in order                  */
    uint64_t validation_digest; /* of the first batch that scores are measured on    */
    double train_seconds, scoring_seconds, evaluation_seconds, start_seconds;
    int interrupted;
} ft_outcome;

int ft_fine_tune(ft_trainer *trainer, const ft_job *job, ft_outcome *outcome, ft_error *error);

#endif
