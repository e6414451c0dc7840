/* SPDX-License-Identifier: MIT */
/*
 * One of every handle, for tests that go through the whole interface: the set of sets_three() with a pass, a sink, a mask,
 * scores, an open plan, an optimizer, a schedule and a trace. Everything ck_asserts that it succeeds.
 */
#ifndef WORLD_H
#define WORLD_H

#include "fault.h"
#include "lorank/lorank.h"
#include "scratch.h"

typedef struct world {
    fault host;
    lrk_context *context;
    lrk_module_spec specs[3];
    lrk_adapters *adapters;
    lrk_mask *mask;
    lrk_sink *sink;
    lrk_estimator *estimator;
    lrk_scores *scores;
    lrk_allocator *allocator; /* fixed */
    lrk_plan *plan;
    lrk_optimizer *optimizer;
    lrk_trace *trace;
    scratch files;
} world;

void world_open(world *w);
/* Asserts that nothing is left. */
void world_close(world *w);

/* Evaluates nothing and fails if it is called. */
lrk_evaluator world_evaluator(void);
/* 2 rounds in 8 steps, none due before the third. */
lrk_schedule_options world_schedule(void);
/* Accepts every plan. */
lrk_participant world_participant(void);

#endif
