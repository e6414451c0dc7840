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
#include "checkpoint.h"
#include "digest.h"
#include "glue.h"
#include "interrupt.h"
#include "judge.h"
#include "progress.h"
#include "start.h"
#include "workers.h"

/* What the loop must remember to go on, as it is saved. */
typedef struct memory {
    ft_outcome outcome; /* so far */
    int64_t step;
    int64_t looks_without_gain;
    double loss_sum; /* of the steps since the last look */
    int64_t loss_steps;
    int64_t round_blocks; /* run by the scoring that is under way */
    double round_seconds;
    int64_t look_due; /* Ctrl-C came before the look that follows a step */
    uint64_t trace_bytes;
} memory;

typedef struct loop {
    ft_trainer *trainer;
    const ft_job *job;
    ft_outcome *outcome;
    lrk_trace *trace;
    lrk_snapshot *best;
    memory memory; /* outcome and step are put in when it is saved */
    ft_checkpoint checkpoint;
    int64_t blocks_before; /* the scoring that is under way, and its time of begin */
    double scoring_begun;
    int failed; /* a save within scoring */
    int resumed;
    ft_judge judge;
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
    l->memory.looks_without_gain++;
    if (l->best && dev->loss >= l->outcome->dev.loss) return 0;
    lrk_snapshot_destroy(l->best);
    l->best = NULL;
    if (lrk_snapshot_create(l->trainer->adapters, &snapshot)) return fail_lorank(l);
    l->best = snapshot;
    l->memory.looks_without_gain = 0;
    l->outcome->dev = *dev;
    l->outcome->best_step = l->trainer->step;
    return 0;
}

static int look(loop *l)
{
    ft_loss dev;
    double begun = ft_now(),
           train = l->memory.loss_steps ? l->memory.loss_sum / (double)l->memory.loss_steps : NAN;
    if (ft_trainer_evaluate(l->trainer, &l->trainer->task->dev, &dev, l->error)) return -1;
    if (!isfinite(dev.loss))
        return ft_fail(l->error, "dev loss is not finite after step %lld", (long long)l->trainer->step);
    l->outcome->evaluation_seconds += ft_now() - begun;
    ft_progress_say(&l->progress, "%s: step %lld  train loss %.4f  dev loss %.4f%s", l->job->name,
                    (long long)l->trainer->step, train, dev.loss,
                    l->best && dev.loss >= l->outcome->dev.loss ? "" : "  best");
    if (keep_best(l, &dev)) return -1;
    if (l->memory.loss_steps && trace_value(l, "train_loss", train)) return -1;
    l->memory.loss_sum = 0;
    l->memory.loss_steps = 0;
    l->memory.look_due = 0;
    return trace_value(l, "dev_loss", dev.loss);
}

/* ---- the run on disk ---- */

static int64_t blocks_run(const loop *l)
{
    return llama_run_layer_forwards(l->trainer->run) + 2 * llama_run_layer_backwards(l->trainer->run);
}

static int64_t round_blocks(const loop *l)
{
    return l->memory.round_blocks + blocks_run(l) - l->blocks_before;
}

static double round_seconds(const loop *l)
{
    return l->memory.round_seconds + ft_now() - l->scoring_begun;
}

static int save(loop *l)
{
    memory held = l->memory;
    l->memory.outcome = *l->outcome;
    l->memory.step = l->trainer->step;
    int failed = l->trace && lrk_trace_sync(l->trace, &l->memory.trace_bytes) ? fail_lorank(l) : 0;
    if (!failed && ft_workers_first()) failed = ft_checkpoint_save(&l->checkpoint, l->best, l->error);
    l->memory = held;
    return failed;
}

static int save_if_due(loop *l, int64_t count)
{
    int64_t every = l->job->saved ? l->job->saved->checkpoint_every : 0;
    return every && count % every == 0 ? save(l) : 0;
}

/* Told between two questions of a scoring run. */
static int save_between(void *user, int64_t done)
{
    loop *l = user;
    int64_t every = l->job->saved->checkpoint_every;
    if (!every || done % every) return 0;
    memory held = l->memory;
    l->memory.round_blocks = round_blocks(l);
    l->memory.round_seconds = round_seconds(l);
    l->failed = save(l);
    l->memory = held;
    ft_scorer_forget(&l->trainer->scorer);
    return l->failed;
}

static int create_checkpoint(loop *l)
{
    if (!l->job->saved || (!l->job->saved->checkpoint_every && !l->job->saved->resume)) return 0;
    l->trainer->scorer.between = save_between;
    l->trainer->scorer.between_user = l;
    return ft_checkpoint_create(&l->checkpoint, l->trainer, l->job->saved, &l->memory, sizeof l->memory,
                                l->error);
}

static int resume(loop *l)
{
    if (!l->job->saved || !l->job->saved->resume) return 0;
    if (!ft_workers_first()) ft_workers_after_first(); /* it may put a damaged one aside */
    if (ft_checkpoint_restore(&l->checkpoint, &l->best, &l->resumed, l->error)) return -1;
    if (ft_workers_first()) ft_workers_after_first();
    if (l->resumed) {
        *l->outcome = l->memory.outcome;
        l->trainer->step = l->memory.step;
    }
    if (ft_workers_check(l->trainer->adapters, "resume", l->trainer->step, "found", l->resumed, l->error))
        return -1;
    fprintf(stderr,
            l->resumed ? "finetune: going on after step %lld\n"
                       : "finetune: no checkpoint yet: from the start\n",
            (long long)l->trainer->step);
    return 0;
}

/* A run that is not resumed begins with what the configuration says of its start. */
static int start(loop *l)
{
    ft_outcome *o = l->outcome;
    int begun = 0;
    double since = ft_now();
    if (!l->job->config) return 0;
    if (lrk_config_start_subtracts(l->job->config) && l->checkpoint.list)
        return ft_fail(l->error, "start.kind %s changes the model's weights, which checkpoints do not hold",
                       lrk_config_start(l->job->config));
    if (lrk_config_start_warmup(l->job->config) > 0)
        return ft_fail(l->error, "start.warmup is for a head that starts at zero: this model's is trained");
    if (l->resumed) return 0;
    if (ft_start(l->trainer, l->job->config, &begun, l->error)) return -1;
    if (!begun) return 0;
    totals(l, &o->initial_ranks, &o->initial_parameters);
    o->start_seconds = ft_now() - since;
    ft_progress_say(&l->progress, "%s: %s start  ranks %lld  parameters %lld  %.1f s", l->job->name,
                    lrk_config_start(l->job->config), (long long)o->initial_ranks,
                    (long long)o->initial_parameters, o->start_seconds);
    return 0;
}

/* ---- rounds ---- */

/* Let the judge score the state that the round is about to score. */
static int judge_round(loop *l, int64_t round)
{
    int64_t n;
    if (ft_scorer_begin_round(&l->trainer->scorer, round, l->error)) return -1;
    if (lrk_allocator_n_move(l->trainer->allocator, &n)) return fail_lorank(l);
    lrk_status status = ft_judge_round(&l->judge, l->job->judge, (uint64_t)round, n);
    return status && !ft_interrupted ? fail_lorank(l) : 0;
}

/* Told by the schedule after each round. */
static int32_t observe_round(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    (void)plan;
    return ft_judge_compare(&((loop *)user)->judge, scores);
}

static int round_is_due(const loop *l)
{
    int64_t step = 0;
    if (lrk_schedule_round_step(l->trainer->schedule, (int32_t)l->outcome->rounds, &step)) return 0;
    return step == l->trainer->step;
}

/* Scoring stopped before its end: by Ctrl-C, or because the run could not be saved. */
static int pause_round(loop *l)
{
    l->memory.round_blocks = round_blocks(l);
    l->memory.round_seconds = round_seconds(l);
    return l->failed ? -1 : 0;
}

/* Steps the schedule (again: tries a due round again); a round that is due is carried out in there. 1: there was one. */
static int step_schedule(loop *l, int again)
{
    lrk_schedule_event event = {.struct_size = sizeof event};
    lrk_schedule *schedule = l->trainer->schedule;
    ft_outcome *o = l->outcome;
    int64_t ranks = 0, parameters = 0, due = round_is_due(l);
    if (due && l->job->judge && judge_round(l, o->rounds)) return -1;
    if (due && ft_scorer_begin_round(&l->trainer->scorer, o->rounds, l->error)) return -1;
    totals(l, &ranks, &parameters);
    l->blocks_before = blocks_run(l);
    l->scoring_begun = ft_now();
    lrk_status status = again ? lrk_schedule_retry(schedule, &event) : lrk_schedule_step(schedule, &event);
    if (status == LRK_ERR_CANCELLED) return pause_round(l);
    if (status) return fail_lorank(l);
    if (event.kind != LRK_EVENT_ROUND_DONE) return 0;
    o->scoring_seconds += round_seconds(l);
    o->layer_forwards += round_blocks(l);
    l->memory.round_blocks = 0;
    l->memory.round_seconds = 0;
    o->layer_forwards_naive += 2 * ranks * l->trainer->task->config.n_layers;
    o->evaluations += event.evaluations;
    o->differentiations += event.differentiations;
    o->pruned += event.n_dropped;
    o->added += event.n_added;
    o->rounds++;
    ft_progress_say(&l->progress, "%s: round %lld  pruned %lld  added %lld  evaluations %lld", l->job->name,
                    (long long)o->rounds, (long long)event.n_dropped, (long long)event.n_added,
                    (long long)event.evaluations);
    if (ft_workers_check(l->trainer->adapters, "round", o->rounds, "evaluations",
                         l->trainer->scorer.evaluations, l->error))
        return -1;
    return 1;
}

/* ---- steps ---- */

static int train_step(loop *l, int64_t in_epoch)
{
    int64_t batch = l->trainer->settings->batch, first = 0, n = 0;
    double loss = 0, begun = ft_now();
    char note[64];
    if (ft_workers_share(batch, &first, &n, l->error) ||
        ft_trainer_step(l->trainer, l->order + in_epoch * batch + first, n, &loss, l->error))
        return -1;
    if (!isfinite(loss))
        return ft_fail(l->error, "the loss is not finite at step %lld", (long long)l->trainer->step);
    l->outcome->train_seconds += ft_now() - begun;
    l->outcome->order_digest =
        ft_digest(l->outcome->order_digest, l->order + in_epoch * batch, (size_t)batch * sizeof *l->order);
    l->memory.loss_sum += loss;
    l->memory.loss_steps++;
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
    return ft_interrupted || l->trainer->step >= total ||
           (patience && l->memory.looks_without_gain >= patience);
}

/* What follows a step: its round, a look at dev, a checkpoint. */
static int after_step(loop *l, int64_t epoch_steps, int64_t total, int again)
{
    int after_round = step_schedule(l, again);
    if (after_round < 0) return -1;
    l->memory.look_due = wants_look(l, epoch_steps, total, after_round);
    if (!ft_interrupted && l->memory.look_due && look(l)) return -1;
    return ft_interrupted ? 0 : save_if_due(l, l->trainer->step);
}

/* What the run had still to do when it was saved: within a step, nothing but the order of the epoch's rows. */
static int catch_up(loop *l, int64_t epoch_steps, int64_t total)
{
    ft_trainer *t = l->trainer;
    lrk_schedule_event now = {.struct_size = sizeof now};
    if (!l->resumed) return 0;
    ft_shuffle(l->order, t->task->train.n_rows, l->job->seed, (uint64_t)(t->step / epoch_steps));
    if (lrk_schedule_now(t->schedule, &now)) return fail_lorank(l);
    if (now.kind == LRK_EVENT_ROUND_DUE) return after_step(l, epoch_steps, total, 1);
    return l->memory.look_due ? look(l) : 0;
}

static int run_steps(loop *l)
{
    ft_trainer *t = l->trainer;
    int64_t epoch_steps = ft_steps_per_epoch(t->task, t->settings),
            total = ft_total_steps(t->task, t->settings);
    ft_progress_begin(&l->progress, l->job->name, total);
    if (catch_up(l, epoch_steps, total)) return -1;
    while (!is_over(l, total)) {
        int64_t in_epoch = t->step % epoch_steps;
        if (in_epoch == 0)
            ft_shuffle(l->order, t->task->train.n_rows, l->job->seed, (uint64_t)(t->step / epoch_steps));
        if (train_step(l, in_epoch) || after_step(l, epoch_steps, total, 0)) return -1;
    }
    ft_progress_end(&l->progress);
    return ft_interrupted && l->checkpoint.list ? save(l) : 0;
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
    lrk_adapters *adapters = l->trainer->adapters;
    if (!l->job->trace) return 0;
    lrk_status status = l->resumed
                            ? lrk_trace_resume(adapters, l->job->trace, l->memory.trace_bytes, &l->trace)
                            : lrk_trace_open(adapters, l->job->trace, l->job->name, &l->trace);
    return status ? fail_lorank(l) : 0;
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
    o->agreement = l->job->judge && o->rounds ? l->judge.agreement_sum / (double)o->rounds : NAN;
    if (close_trace(l)) return -1;
    if (l->best && lrk_snapshot_restore(l->best, l->trainer->adapters)) return fail_lorank(l);
    totals(l, &o->final_ranks, &o->final_parameters);
    if (o->interrupted || l->trainer->task->test.n_rows == 0) return 0;
    return ft_trainer_evaluate(l->trainer, &l->trainer->task->test, &o->test, l->error);
}

int ft_fine_tune(ft_trainer *trainer, const ft_job *job, ft_outcome *outcome, ft_error *error)
{
    loop l = {.trainer = trainer, .job = job, .outcome = outcome, .error = error};
    *outcome = (ft_outcome){
        .dev = {NAN, NAN}, .test = {NAN, NAN}, .agreement = NAN, .order_digest = FT_DIGEST_EMPTY};
    outcome->initial_digest = ft_digest_adapters(trainer->adapters);
    outcome->validation_digest = ft_scorer_digest(&trainer->scorer);
    totals(&l, &outcome->initial_ranks, &outcome->initial_parameters);
    outcome->budget_ranks = outcome->initial_ranks;
    l.order = malloc((size_t)trainer->task->train.n_rows * sizeof *l.order);
    int failed = !l.order ? ft_fail_memory(error, "the order of rows") : 0;
    if (!failed)
        failed = create_checkpoint(&l) || resume(&l) || start(&l) || open_trace(&l) || bind_rounds(&l) ||
                 run_steps(&l) || finish(&l);
    ft_progress_end(&l.progress);
    if (l.trace) close_trace(&l);
    trainer->scorer.between = NULL;
    ft_checkpoint_free(&l.checkpoint);
    lrk_snapshot_destroy(l.best);
    ft_judge_free(&l.judge);
    free(l.order);
    return failed ? -1 : 0;
}
#endif
