/* SPDX-License-Identifier: MIT */
/*
 * Data-parallel training: n workers under mpirun, each with a share of every batch (make finetune-mpi). Without FT_MPI there is
 * one worker and nothing is exchanged. All sums are over the workers in the order of their numbers, so that all get the
 * same bits; the same number of workers gives the same run again. Another number groups the sums of a batch otherwise.
 */
#ifndef FT_WORKERS_H
#define FT_WORKERS_H

#include "args.h"
#include "failure.h"

struct lrk_adapters;
struct lrk_workers;

/*
 * Joins the others; every worker but the first writes to OUT.workerN and tells the rest of what it says to OUT.workerN.log.
 * Refuses, with more than one, all modes but training.
 */
int ft_workers_begin(ft_args *args, ft_error *error);
/* A status other than 0 ends all workers: those that wait for this one would wait for ever. */
void ft_workers_end(int status);

int ft_workers_many(void);
int32_t ft_workers_number(void);
/* Whether this is the one that writes what there is one of: checkpoints, the trace. */
int ft_workers_first(void);
/* Where checkpoints lie: the folder that the first worker writes to. All must see it. */
const char *ft_workers_home(const ft_args *args);
/* The others go on once the first has been here. */
void ft_workers_after_first(void);
/* What to give to lorank; NULL: alone. */
const struct lrk_workers *ft_workers(void);

/* This worker's rows of a batch: from *first on, *n of them. */
int ft_workers_share(int64_t batch, int64_t *first, int64_t *n, ft_error *error);
/* Whether batch i of a start is this worker's. */
int ft_workers_owns(int64_t batch);
void ft_workers_sum(double *values, int n);
/* The same of floats, summed in double. */
int ft_workers_sum_floats(float *values, int64_t n, ft_error *error);
int ft_workers_sum_gradients(struct lrk_adapters *adapters, ft_error *error);

/* After a start, a resume or a round: an error unless all have the same ranks and parameters and are at the same step; the first says
   so, and how much work each has had: "workers N  WHAT AT  digest D  WORK n n ...". */
int ft_workers_check(const struct lrk_adapters *adapters, const char *what, int64_t at, const char *work,
                     int64_t amount, ft_error *error);

#endif
