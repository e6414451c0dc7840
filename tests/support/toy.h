/* SPDX-License-Identifier: MIT */
/*
 * A toy host model that runs lorank for real: stages h' = h + V tanh(U h), U and V frozen and adapted (modules 2 k and
 * 2 k + 1 of stage k), and a linear head with cross-entropy over classes. It keeps the stage inputs of both baselines,
 * and so re-runs only the stages that a mask changes; it counts the stages that it runs. Beside it, the same model
 * naively in double with a running bound of the error that f32 arithmetic may make.
 */
#ifndef TOY_H
#define TOY_H

#include "fault.h"
#include "lorank/lorank.h"
#include "sets.h"

typedef struct toy_shape {
    int32_t stages;
    int64_t d; /* width of h       */
    int64_t f; /* width of tanh    */
    int64_t classes;
    int64_t rows;
    int32_t parts; /* row r belongs to part r % parts */
    int64_t rank;  /* of every module  */
    uint64_t seed;
    float size; /* elements of B are uniform in [-size, size] */
    double dropout;
} toy_shape;

typedef struct toy {
    toy_shape shape;
    fault fault;
    lrk_context *context;
    lrk_adapters *adapters;
    int64_t n_ranks;
    float *u, *v, *head, *x; /* [stages x f x d], [stages x d x f], [classes x d], [rows x d] */
    int32_t *targets;        /* [rows] */
    float *activations;      /* scratch of one run */
    float *cache[2];         /* [(stages + 1) x rows x d] stage inputs by baseline */
    bool cached[2];
    bool use_cache;
    bool differentiate_fills; /* differentiate leaves the cache of its baseline behind */

    int64_t stage_forwards;
    int64_t stage_backwards;
    int32_t calls;     /* evaluate and differentiate */
    int32_t fail_call; /* this one fails, -1; then it is -1 */
    int32_t progressed;
    int32_t cancel_at; /* likewise */
} toy;

toy_shape toy_default(void);
toy *toy_create(const toy_shape *shape);
void toy_destroy(toy *t); /* checks that all memory came back */

/* evaluate, differentiate and progress over the toy's rows; max_per_call 1. */
lrk_evaluator toy_evaluator(toy *t);
lrk_estimator *toy_estimator(toy *t, const lrk_ablation_options *options);

/* Forward and backward of the mean loss in a training pass: gradients go to the set. Returns the loss. */
double toy_train(toy *t, uint64_t nonce);
/* The same in a pass of these options, whatever it feeds; max_rows is set here. */
double toy_run(toy *t, lrk_pass_options options);
/* After it: a step of the head down its gradient; the model's own part, lorank has none in it. */
void toy_step_head(toy *t, double rate);

/*
 * The model in double, every rank weighed by mask[flat]: summed losses of each part, and bounds of how far the f32 model
 * may be from them (bound may be NULL).
 */
void toy_oracle(const toy *t, const double *mask, double *losses, double *bounds);
/* Mean over all rows of the same. */
double toy_oracle_mean(const toy *t, const double *mask, double *bound);

#endif
