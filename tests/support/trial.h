/* SPDX-License-Identifier: MIT */
/*
 * A trial: a set of up to three modules that read one input, a pass over it, one forward and some backward calls, and
 * the comparison of all that came out with the oracle.
 */
#ifndef TRIAL_H
#define TRIAL_H

#include "adapters/pass_state.h"
#include "half.h"
#include "oracle.h"

#define MAX_MODULES 3
#define MAX_RANK    700
#define EVERY       (LRK_GRAD_PARAMETERS | LRK_GRAD_GATES | LRK_GRAD_MASK)

typedef struct trial {
    lrk_context *context;
    int64_t rows;
    int32_t n; /* modules, all in one call */
    shape shapes[MAX_MODULES];
    double dropout;
    int32_t mask; /* LRKI_MASK_... */
    bool saved;
    int backwards;      /* calls of lrk_backward */
    uint32_t gradients; /* 0: EVERY */
    uint64_t nonce;
    int64_t first_row;
    int32_t x_type; /* LRK_DTYPE_... */
    int32_t dx_type;
    int32_t y_type;
    int32_t dy_type;
} trial;

typedef struct run {
    lrk_adapters *set;
    lrk_mask *mask;
    lrk_sink *sink;
    lrk_pass *pass;
    void *saved;
    size_t saved_bytes;
    int32_t modules[MAX_MODULES];
    padded x, dx, dx_before;
    padded y[MAX_MODULES], y_before[MAX_MODULES], dy[MAX_MODULES];
    coded coded_x, coded_dx, coded_y[MAX_MODULES], coded_dy[MAX_MODULES];
} run;

/* A training pass that derives `gradients` into a sink of its own (none for 0). */
run trial_begin(const trial *t, uint32_t gradients);
void trial_forward(const trial *t, run *r);
void trial_backward(const trial *t, run *r, bool wants_dx);
void trial_end(const trial *t, run *r);

/* What x is multiplied by, from the documented key: group, or 2^32 + module. NULL without dropout; free() it. */
double *keep_of(const trial *t, const run *r, int32_t module);
/* The pass's mask over the ranks of a module. */
void mask_of(const run *r, int32_t module, float *mask);
oracle_case case_of(const trial *t, const run *r, int32_t i, const float *mask, const double *keep);
double *zeros(int64_t n);

/* y of a run against the oracle; a whole trial, derivatives included. */
void check_forward(const trial *t, const run *r);
void check_trial(const trial *t);

/* Three modules of one group, the second without ranks. */
trial group_trial(lrk_context *context, int64_t rows);

#endif
