/* SPDX-License-Identifier: MIT */
/*
 * The loop. lorank's schedule, bound to estimator and allocator, carries the rounds out; the loop counts
 * and times them, looks at dev at the end of epochs and after rounds, and stops early or when interrupted.
 */
#ifdef LORANK
#include "loop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "adapt.h"
#include "glue.h"
#include "interrupt.h"
#include "progress.h"

typedef struct loop {
    ft_trainer *trainer;
    const ft_job *job;
    ft_outcome *outcome;
    lrk_trace *trace;
    lrk_snapshot *best;
    int64_t looks_without_gain;
    double loss_sum; /* of the steps since the last look */
    int64_t loss_steps;
    uint64_t *judged; /* identities that the judge would prune */
    int64_t n_judged;
    double agreement_sum;
    int64_t *order;
    ft_progress progress;
    ft_error *error;
} loop;

static int fail_lorank(loop *l)
{
    const ft_error *callback = &l->trainer->scorer.error;
    if (callback->text[0]) return ft_fail(l->error, "%s", callback->text);
    return ft_fail_lorank(l->error, l->trainer->context, NULL);
}

static void totals(const loop *l, int64_t *ranks, int64_t *parameters)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    lrk_adapters_info_get(l->trainer->adapters, &info);
    *ranks = info.ranks;
    *parameters = info.parameters;
}

/* ---- looks at dev ---- */

static int trace_value(loop *l, const char *name, double value)
{
    if (!l->trace) return 0;
    return lrk_trace_value(l->trace, name, l->trainer->step, value) ? fail_lorank(l) : 0;
}

static int keep_best(loop *l, const ft_loss *dev)
{
    lrk_snapshot *snapshot;
    l->looks_without_gain++;
    if (l->best && dev->loss >= l->outcome->dev.loss) return 0;
    lrk_snapshot_destroy(l->best);
    l->best = NULL;
    if (lrk_snapshot_create(l->trainer->adapters, &snapshot)) return fail_lorank(l);
    l->best = snapshot;
    l->looks_without_gain = 0;
    l->outcome->dev = *dev;
    l->outcome->best_step = l->trainer->step;
    return 0;
}

static int look(loop *l)
{
    ft_loss dev;
    double begun = ft_now(), train = l->loss_steps ? l->loss_sum / (double)l->loss_steps : NAN;
    if (ft_trainer_evaluate(l->trainer, &l->trainer->task->dev, &dev, l->error)) return -1;
    if (!isfinite(dev.loss))
        return ft_fail(l->error, "dev loss is not finite after step %lld", (long long)l->trainer->step);
    l->outcome->evaluation_seconds += ft_now() - begun;
    ft_progress_say(&l->progress, "%s: step %lld  train loss %.4f  dev loss %.4f%s", l->job->name,
                    (long long)l->trainer->step, train, dev.loss,
                    l->best && dev.loss >= l->outcome->dev.loss ? "" : "  best");
    if (keep_best(l, &dev)) return -1;
    if (l->loss_steps && trace_value(l, "train_loss", train)) return -1;
    l->loss_sum = 0;
    l->loss_steps = 0;
    return trace_value(l, "dev_loss", dev.loss);
}

/* ---- rounds ---- */

static int64_t blocks_run(const loop *l)
{
    return llama_run_layer_forwards(l->trainer->run) + 2 * llama_run_layer_backwards(l->trainer->run);
}

/* The identities of the n lowest scores, for the caller to free; NULL without memory. */
static uint64_t *lowest_identities(const lrk_scores *scores, int64_t n)
{
    int64_t *indices = malloc((size_t)n * sizeof *indices + 1);
    uint64_t *identities = malloc((size_t)n * sizeof *identities + 1);
    int failed = !indices || !identities || lrk_scores_lowest(scores, n, indices);
    for (int64_t i = 0; i < n && !failed; i++) {
        lrk_score score = {.struct_size = sizeof score};
        failed = lrk_scores_get(scores, indices[i], &score);
        identities[i] = score.identity;
    }
    free(indices);
    if (!failed) return identities;
    free(identities);
    return NULL;
}

/* Let the judge score the state that the round is about to score. */
static int judge_round(loop *l, int64_t round)
{
    lrk_scores *scores = NULL;
    if (ft_scorer_begin_round(&l->trainer->scorer, round, l->error)) return -1;
    if (lrk_allocator_n_move(l->trainer->allocator, &l->n_judged) ||
        lrk_estimator_run(l->job->judge, (uint64_t)round, &scores))
        return ft_interrupted ? 0 : fail_lorank(l);
    free(l->judged);
    l->judged = lowest_identities(scores, l->n_judged);
    lrk_scores_destroy(scores);
    return l->judged ? 0 : ft_fail_memory(l->error, "the judge's scores");
}

static int64_t count_common(const uint64_t *a, const uint64_t *b, int64_t n)
{
    int64_t common = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            common += a[i] == b[j];
    return common;
}

/* Told by the schedule after each round: compares its scores with the judge's. */
static int32_t observe_round(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    loop *l = user;
    (void)plan;
    if (!l->judged || l->n_judged == 0) return 0;
    uint64_t *lowest = lowest_identities(scores, l->n_judged);
    if (!lowest) return 1;
    l->agreement_sum += (double)count_common(lowest, l->judged, l->n_judged) / (double)l->n_judged;
    free(lowest);
    return 0;
}

static int round_is_due(const loop *l)
{
    int64_t step = 0;
    if (lrk_schedule_round_step(l->trainer->schedule, (int32_t)l->outcome->rounds, &step)) return 0;
    return step == l->trainer->step;
}

/* Steps the schedule; a round that falls due is carried out in there. 1: there was one. */
static int step_schedule(loop *l)
{
    lrk_schedule_event event = {.struct_size = sizeof event};
    ft_outcome *o = l->outcome;
    int64_t ranks = 0, parameters = 0, due = round_is_due(l);
    if (due && l->job->judge && judge_round(l, o->rounds)) return -1;
    if (due && ft_scorer_begin_round(&l->trainer->scorer, o->rounds, l->error)) return -1;
    totals(l, &ranks, &parameters);
    int64_t blocks = blocks_run(l);
    double begun = ft_now();
    lrk_status status = lrk_schedule_step(l->trainer->schedule, &event);
    if (status == LRK_ERR_CANCELLED) return 0;
    if (status) return fail_lorank(l);
    if (event.kind != LRK_EVENT_ROUND_DONE) return 0;
    o->scoring_seconds += ft_now() - begun;
    o->layer_forwards += blocks_run(l) - blocks;
    o->layer_forwards_naive += 2 * ranks * l->trainer->task->config.n_layers;
    o->evaluations += event.evaluations;
    o->differentiations += event.differentiations;
    o->pruned += event.n_dropped;
    o->added += event.n_added;
    o->rounds++;
    ft_progress_say(&l->progress, "%s: round %lld  pruned %lld  added %lld  evaluations %lld", l->job->name,
                    (long long)o->rounds, (long long)event.n_dropped, (long long)event.n_added,
                    (long long)event.evaluations);
    return 1;
}

/* ---- steps ---- */

static int train_step(loop *l, int64_t in_epoch)
{
    int64_t batch = l->trainer->settings->batch;
    double loss = 0, begun = ft_now();
    char note[64];
    if (ft_trainer_step(l->trainer, l->order + in_epoch * batch, batch, &loss, l->error)) return -1;
    if (!isfinite(loss))
        return ft_fail(l->error, "the loss is not finite at step %lld", (long long)l->trainer->step);
    l->outcome->train_seconds += ft_now() - begun;
    l->loss_sum += loss;
    l->loss_steps++;
    snprintf(note, sizeof note, "loss %.4f", loss);
    ft_progress_update(&l->progress, l->trainer->step, note);
    return 0;
}

static int wants_look(const loop *l, int64_t epoch_steps, int64_t total, int after_round)
{
    int64_t every = l->trainer->settings->evaluate_every;
    int64_t interval = every ? every : epoch_steps;
    return after_round || l->trainer->step == total || l->trainer->step % interval == 0;
}

static int is_over(const loop *l, int64_t total)
{
    int64_t patience = l->trainer->settings->patience;
    return ft_interrupted || l->trainer->step >= total || (patience && l->looks_without_gain >= patience);
}

static int run_steps(loop *l)
{
    ft_trainer *t = l->trainer;
    int64_t epoch_steps = ft_steps_per_epoch(t->task, t->settings),
            total = ft_total_steps(t->task, t->settings);
    ft_progress_begin(&l->progress, l->job->name, total);
    while (!is_over(l, total)) {
        int64_t in_epoch = t->step % epoch_steps;
        if (in_epoch == 0)
            ft_shuffle(l->order, t->task->train.n_rows, l->job->seed, (uint64_t)(t->step / epoch_steps));
        if (train_step(l, in_epoch)) return -1;
        int after_round = step_schedule(l);
        if (after_round < 0) return -1;
        if (!ft_interrupted && wants_look(l, epoch_steps, total, after_round) && look(l)) return -1;
    }
    ft_progress_end(&l->progress);
    return 0;
}

/* ---- the run ---- */

static int bind_rounds(loop *l)
{
    ft_trainer *t = l->trainer;
    lrk_participant optimizer;
    lrk_round_observer observers[2] = {{sizeof *observers, 0, l, observe_round}};
    lrk_round_binding binding;
    lrk_participant_init(&optimizer, sizeof optimizer);
    lrk_round_binding_init(&binding, sizeof binding);
    if (lrk_optimizer_participant(t->optimizer, &optimizer)) return fail_lorank(l);
    observers[1].struct_size = sizeof *observers;
    if (l->trace && lrk_trace_observer(l->trace, &observers[1])) return fail_lorank(l);
    binding.estimator = t->estimator;
    binding.allocator = t->allocator;
    binding.participants = &optimizer;
    binding.n_participants = 1;
    binding.observers = observers;
    binding.n_observers = l->trace ? 2 : 1;
    return lrk_schedule_bind(t->schedule, &binding) ? fail_lorank(l) : 0;
}

static int open_trace(loop *l)
{
    if (!l->job->trace) return 0;
    return lrk_trace_open(l->trainer->adapters, l->job->trace, l->job->name, &l->trace) ? fail_lorank(l) : 0;
}

static int close_trace(loop *l)
{
    lrk_trace *trace = l->trace;
    l->trace = NULL;
    return trace && lrk_trace_close(trace) ? fail_lorank(l) : 0;
}

/* The best adapter goes back into the set, and the test rows see it alone. */
static int finish(loop *l)
{
    ft_outcome *o = l->outcome;
    o->steps = l->trainer->step;
    o->interrupted = ft_interrupted != 0;
    o->agreement = l->job->judge && o->rounds ? l->agreement_sum / (double)o->rounds : NAN;
    if (close_trace(l)) return -1;
    if (l->best && lrk_snapshot_restore(l->best, l->trainer->adapters)) return fail_lorank(l);
    totals(l, &o->final_ranks, &o->final_parameters);
    if (o->interrupted || l->trainer->task->test.n_rows == 0) return 0;
    return ft_trainer_evaluate(l->trainer, &l->trainer->task->test, &o->test, l->error);
}

int ft_fine_tune(ft_trainer *trainer, const ft_job *job, ft_outcome *outcome, ft_error *error)
{
    loop l = {.trainer = trainer, .job = job, .outcome = outcome, .error = error};
    *outcome = (ft_outcome){.dev = {NAN, NAN}, .test = {NAN, NAN}, .agreement = NAN};
    totals(&l, &outcome->initial_ranks, &outcome->initial_parameters);
    l.order = malloc((size_t)trainer->task->train.n_rows * sizeof *l.order);
    int failed = !l.order ? ft_fail_memory(error, "the order of rows") : 0;
    if (!failed) failed = open_trace(&l) || bind_rounds(&l) || run_steps(&l) || finish(&l);
    ft_progress_end(&l.progress);
    if (l.trace) close_trace(&l);
    lrk_snapshot_destroy(l.best);
    free(l.judged);
    free(l.order);
    return failed ? -1 : 0;
}
#endif
