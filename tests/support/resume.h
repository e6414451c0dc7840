/* SPDX-License-Identifier: MIT */
/*
 * A whole run on the toy host that can be stopped and gone on with: training, rounds with scoring, a host that keeps a
 * history of losses and the best state so far. `point` is called wherever the run may be saved: before every step, and in
 * a scoring run while each question is asked and after it is answered.
 */
#ifndef RESUME_H
#define RESUME_H

#include "toy.h"

#define RESUME_STEPS 9

typedef struct resume_shape {
    toy_shape toy;
    int32_t mode; /* LRK_ABLATION_..., or RESUME_RANDOM */
    int32_t repeats;
    int32_t protect_rounds;
    uint32_t flags; /* of the allocator */
    int32_t steps;  /* LRK_STEPS_...    */
} resume_shape;

#define RESUME_RANDOM 99

/* What the host itself must remember: saved as a blob. */
typedef struct resume_history {
    int64_t step;
    double losses[RESUME_STEPS];
    int64_t events[RESUME_STEPS]; /* dropped and evaluations of the step's round */
    double best;
} resume_history;

typedef struct resume_run {
    resume_shape shape;
    toy *toy;
    lrk_evaluator host; /* the toy's own */
    lrk_estimator *estimator;
    lrk_allocator *allocator;
    lrk_optimizer *optimizer;
    lrk_schedule *schedule;
    lrk_checkpoint *checkpoint;
    lrk_snapshot *best;
    resume_history history;
    void (*point)(struct resume_run *run, void *user); /* may be NULL */
    void *user;
} resume_run;

resume_shape resume_default(void);
/* Handles, listed in a checkpoint; everything ck_asserts. */
resume_run *resume_create(const resume_shape *shape);
void resume_destroy(resume_run *run);
/* Takes the run to its end, from wherever it is. */
void resume_go(resume_run *run);
/* The same by lrk_schedule_run(). */
void resume_go_driven(resume_run *run);

/* Bytes of a checkpoint in memory; free() the data. */
typedef struct resume_bytes {
    unsigned char *data;
    size_t n;
} resume_bytes;

resume_bytes resume_save(lrk_checkpoint *checkpoint);
/* Opens and restores; takes over blob and snapshot. The status of the first that failed. */
lrk_status resume_load(resume_run *run, const unsigned char *data, size_t n);
bool resume_same(const resume_bytes *a, const resume_bytes *b);
/* Puts right the checksum that stands behind n bytes of a checkpoint. */
void resume_checksum(unsigned char *data, uint64_t begin, uint64_t n);

#endif
