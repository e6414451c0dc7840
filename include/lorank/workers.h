/* SPDX-License-Identifier: MIT */
/*
 * Several workers: n contexts, mostly in n processes, that train the same adapters together. With a gather function in the
 * context, evaluations are shared out over the workers, and every worker gets the same scores and the same plan bit for
 * bit. Without one, or with one worker, nothing is exchanged.
 *
 * Collective calls: lrk_estimator_run(), lrk_allocator_plan(), lrk_plan_prepare(); the starts' lrk_gradient_start_plan(),
 * lrk_gradient_init_plan(), lrk_gora_plan(), lrk_eva_plan(), lrk_gelora_plan(), lrk_weight_start_plan(), lrk_sketch_gather(), lrk_pca_gather();
 * and what makes them (lrk_round_run(), a bound schedule's steps, lrk_config_plan_...()). All workers make the same ones in the same order, one at a
 * time within a context, on handles made alike (specs, seed, options; n_parts and max_per_call of the evaluator) and
 * with the same parameters, nonce and step. Every other call is one worker's own.
 *
 * What is shared out. A baseline and a differentiation are asked of every worker, which keeps what its later evaluations
 * start from. The evaluations of ranks are asked in turns of up to max_per_call * n_workers; of a turn of k worker w
 * gets those from floor(w k / n_workers) to floor((w + 1) k / n_workers). So of R ranks under one baseline a worker
 * evaluates at most ceil(R / n_workers). Every evaluation is over the whole validation batch, with the index that it has
 * on a single worker; numbers of evaluations in scores and events count each once.
 *
 * Starts. Sketches and input components hold what their worker was fed: lrk_sketch_gather() and lrk_pca_gather() make them what all
 * were fed, the same bits on all; or every worker is fed all. Intrinsic dimensions are of points that the host has gathered.
 * Weights are the same on all.
 *
 * What is compared. At the beginning the set's ranks and what the estimator holds (a paused run, observed gradients),
 * then each answer that all workers gave, in the end the scores; then the plan, before anyone is asked to take part in
 * it; of a start also what it was made of, and the rows of A and B that it brings. A difference is LRK_ERR_WORKERS on every worker; the detail names a worker and what differs.
 *
 * Failures are exchanged: if a collective call fails on one worker, by its callback or for lack of memory, it fails on
 * all of them. The worker itself returns its own status; the others LRK_ERR_CANCELLED if progress() asked to stop, else
 * LRK_ERR_WORKERS, whose detail names the worker and its status. Handles are as before the call on all of them, a run
 * is paused on all at the same place: all call again to go on (a turn that failed is evaluated again), or all reset it.
 * A paused run that was saved can be gone on with by any number of workers, each of which has loaded it.
 * Nothing is exchanged for a call from within a callback of the same handle (LRK_ERR_BUSY) or for a NULL handle.
 *
 * The host sums gradients over the workers, in an order that gives all of them the same
 * bits, before lorank's optimizer or lrk_estimator_observe() sees them: sensitivity and Taylor score what lies in the set.
 */
#ifndef LRK_WORKERS_H
#define LRK_WORKERS_H

#include <stddef.h>
#include <stdint.h>

#include "export.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * gather   copies: all[w * n + i] becomes own[i] of worker w, on every worker, n >= 1 the same on all. All values are finite.
 *          Nothing is summed, so that no order of summation matters. (MPI_Allgather, ncclAllGather.) own and all do
 *          not overlap. Non-zero ends the call with LRK_ERR_HOST. An exchange that breaks must give it on all workers:
 *          those that got their copies go on. Workers out of step (they call differently, or did not all see a break)
 *          come to know it in their next exchange, by LRK_ERR_WORKERS, or where it is of unequal n, by a host that
 *          gives non-zero for that.
 *          Copies that are not in the order of the workers' numbers, two workers of one number, or copies that were not
 *          made, are LRK_ERR_HOST.
 *          Runs on the thread that made the collective call, and may not call lorank.
 */
typedef struct lrk_workers {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    void *user;
    int32_t (*gather)(void *user, const double *own, int64_t n, double *all);
    int32_t worker;    /* this one's number, 0 .. n_workers - 1 [0] */
    int32_t n_workers; /* 1 .. 65536 [1]                            */
} lrk_workers;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_workers_init(lrk_workers *workers, size_t struct_size);

#ifdef __cplusplus
}
#endif

#endif
