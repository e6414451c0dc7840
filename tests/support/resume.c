/* SPDX-License-Identifier: MIT */
/* The run of resume.h. */
#include "resume.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "formats/checksum.h"

enum { WARMUP = 2, RECOVERY = 2, ROUNDS = 3 };

resume_shape resume_default(void)
{
    resume_shape shape = {.mode = LRK_ABLATION_EXACT};
    shape.toy = (toy_shape){
        .stages = 2, .d = 3, .f = 4, .classes = 3, .rows = 8, .parts = 2, .rank = 2, .seed = 3, .size = 0.4f};
    return shape;
}

/* ---- the host -------------------------------------------------------------------------------------------------------- */

static void reach_point(resume_run *run)
{
    if (run->point != NULL) run->point(run, run->user);
}

static int32_t evaluate(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    resume_run *run = user;
    reach_point(run);
    return run->host.evaluate(run->host.user, evaluations, n);
}

static int32_t differentiate(void *user, const lrk_evaluation *evaluation)
{
    resume_run *run = user;
    reach_point(run);
    return run->host.differentiate(run->host.user, evaluation);
}

static int32_t progress(void *user, int64_t done, int64_t total)
{
    resume_run *run = user;
    reach_point(run);
    return run->host.progress(run->host.user, done, total);
}

/* ---- creation -------------------------------------------------------------------------------------------------------- */

static void create_estimator(resume_run *run)
{
    run->host = toy_evaluator(run->toy);
    if (run->shape.mode == RESUME_RANDOM) {
        ck_assert_int_eq(lrk_estimator_create_random(run->toy->adapters, 5, &run->estimator), LRK_OK);
        return;
    }
    lrk_evaluator evaluator = run->host;
    evaluator.user = run;
    evaluator.evaluate = evaluate;
    evaluator.differentiate = differentiate;
    evaluator.progress = progress;
    lrk_ablation_options options;
    ck_assert_int_eq(lrk_ablation_options_init(&options, sizeof options), LRK_OK);
    options.mode = run->shape.mode;
    options.noise_floor_repeats = run->shape.repeats;
    options.n_cut = 2;
    if (options.mode == LRK_ABLATION_SCREENED) options.pool = 2;
    options.pool_step = 1;
    ck_assert_int_eq(lrk_estimator_create_ablation(run->toy->adapters, &evaluator, &options, &run->estimator),
                     LRK_OK);
}

static void create_parts(resume_run *run)
{
    lrk_alora_options alora;
    lrk_alora_options_init(&alora, sizeof alora);
    alora.n_move = 2;
    alora.protect_rounds = run->shape.protect_rounds;
    alora.flags = run->shape.flags;
    ck_assert_int_eq(lrk_allocator_create_alora(run->toy->adapters, &alora, &run->allocator), LRK_OK);
    lrk_adamw_options adamw;
    lrk_adamw_options_init(&adamw, sizeof adamw);
    adamw.steps = run->shape.steps;
    adamw.max_norm = 0.5;
    ck_assert_int_eq(lrk_optimizer_create_adamw(run->toy->adapters, &adamw, &run->optimizer), LRK_OK);
    lrk_schedule_options schedule;
    lrk_schedule_options_init(&schedule, sizeof schedule);
    schedule.warmup = WARMUP;
    schedule.recovery = RECOVERY;
    schedule.rounds = ROUNDS;
    schedule.total_steps = RESUME_STEPS;
    ck_assert_int_eq(lrk_schedule_create(run->toy->context, &schedule, &run->schedule), LRK_OK);
}

static void bind(resume_run *run)
{
    lrk_participant optimizer = {.struct_size = sizeof optimizer};
    ck_assert_int_eq(lrk_optimizer_participant(run->optimizer, &optimizer), LRK_OK);
    lrk_round_binding binding;
    lrk_round_binding_init(&binding, sizeof binding);
    binding.estimator = run->estimator;
    binding.allocator = run->allocator;
    binding.participants = &optimizer;
    binding.n_participants = 1;
    ck_assert_int_eq(lrk_schedule_bind(run->schedule, &binding), LRK_OK);
}

static void list_parts(resume_run *run)
{
    lrk_checkpoint *c;
    ck_assert_int_eq(lrk_checkpoint_create(run->toy->context, &c), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(c, "main", run->toy->adapters), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_optimizer(c, "main", run->optimizer), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_estimator(c, "main", run->estimator), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_allocator(c, "main", run->allocator), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_schedule(c, "main", run->schedule), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_set_blob(c, "history", &run->history, sizeof run->history), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_set_config(c, "seed: 3\n", 8), LRK_OK);
    run->checkpoint = c;
}

resume_run *resume_create(const resume_shape *shape)
{
    resume_run *run = calloc(1, sizeof *run);
    ck_assert_ptr_nonnull(run);
    run->shape = *shape;
    run->toy = toy_create(&shape->toy);
    run->history.best = INFINITY;
    create_estimator(run);
    create_parts(run);
    bind(run);
    list_parts(run);
    return run;
}

void resume_destroy(resume_run *run)
{
    lrk_checkpoint_destroy(run->checkpoint);
    lrk_snapshot_destroy(run->best);
    lrk_schedule_destroy(run->schedule);
    lrk_optimizer_destroy(run->optimizer);
    lrk_allocator_destroy(run->allocator);
    lrk_estimator_destroy(run->estimator);
    toy_destroy(run->toy);
    free(run);
}

/* ---- the run --------------------------------------------------------------------------------------------------------- */

static void keep_best(resume_run *run, double loss)
{
    if (!(loss < run->history.best)) return;
    run->history.best = loss;
    ck_assert_int_eq(lrk_checkpoint_set_snapshot(run->checkpoint, "best", NULL), LRK_OK);
    lrk_snapshot_destroy(run->best);
    ck_assert_int_eq(lrk_snapshot_create(run->toy->adapters, &run->best), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_set_snapshot(run->checkpoint, "best", run->best), LRK_OK);
}

static void train(resume_run *run)
{
    resume_history *h = &run->history;
    double loss = toy_train(run->toy, (uint64_t)h->step);
    keep_best(run, loss);
    ck_assert_int_eq(lrk_optimizer_step(run->optimizer, 0.05 / (double)(h->step + 1)), LRK_OK);
    h->losses[h->step++] = loss;
}

static void keep_event(resume_run *run, const lrk_schedule_event *event)
{
    run->history.events[run->history.step - 1] =
        1000 * event->n_dropped + event->evaluations + event->differentiations;
}

/* After a step the schedule moves on; after a resume within a round the round is tried again. */
static void move_on(resume_run *run, bool again)
{
    lrk_schedule_event event = {.struct_size = sizeof event};
    lrk_status status =
        again ? lrk_schedule_retry(run->schedule, &event) : lrk_schedule_step(run->schedule, &event);
    ck_assert_int_eq(status, LRK_OK);
    if (event.kind == LRK_EVENT_ROUND_DONE) keep_event(run, &event);
}

void resume_go(resume_run *run)
{
    lrk_schedule_event now = {.struct_size = sizeof now};
    ck_assert_int_eq(lrk_schedule_now(run->schedule, &now), LRK_OK);
    ck_assert_int_eq(now.step, run->history.step);
    if (now.kind == LRK_EVENT_ROUND_DUE) move_on(run, true);
    while (run->history.step < RESUME_STEPS) {
        reach_point(run);
        train(run);
        move_on(run, false);
    }
}

static int32_t train_step(void *user, int64_t step)
{
    resume_run *run = user;
    ck_assert_int_eq(step, run->history.step);
    reach_point(run);
    train(run);
    return 0;
}

static int32_t on_event(void *user, const lrk_schedule_event *event)
{
    keep_event(user, event);
    reach_point(user);
    return 0;
}

void resume_go_driven(resume_run *run)
{
    lrk_run_callbacks callbacks = {
        .struct_size = sizeof callbacks, .user = run, .train_step = train_step, .event = on_event};
    ck_assert_int_eq(lrk_schedule_run(run->schedule, &callbacks), LRK_OK);
}

/* ---- bytes ----------------------------------------------------------------------------------------------------------- */

static int32_t append(void *user, const void *data, size_t n)
{
    resume_bytes *bytes = user;
    bytes->data = realloc(bytes->data, bytes->n + n);
    ck_assert_ptr_nonnull(bytes->data);
    memcpy(bytes->data + bytes->n, data, n);
    bytes->n += n;
    return 0;
}

resume_bytes resume_save(lrk_checkpoint *checkpoint)
{
    resume_bytes bytes = {0};
    lrk_writer writer = {.struct_size = sizeof writer, .user = &bytes, .write = append};
    ck_assert_int_eq(lrk_checkpoint_write(checkpoint, &writer, NULL), LRK_OK);
    return bytes;
}

static lrk_status restore(resume_run *run, lrk_checkpoint_file *file)
{
    size_t n;
    lrk_status status = lrk_checkpoint_restore(file, run->checkpoint, NULL);
    if (status != LRK_OK) return status;
    ck_assert_int_eq(lrk_checkpoint_read_blob(file, "history", &run->history, sizeof run->history, &n),
                     LRK_OK);
    ck_assert_uint_eq(n, sizeof run->history);
    if (lrk_checkpoint_take_snapshot(run->checkpoint, "best", &run->best) == LRK_OK)
        ck_assert_int_eq(lrk_checkpoint_set_snapshot(run->checkpoint, "best", run->best), LRK_OK);
    return LRK_OK;
}

lrk_status resume_load(resume_run *run, const unsigned char *data, size_t n)
{
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file;
    ck_assert_int_eq(lrk_reader_memory(&reader, data, n), LRK_OK);
    lrk_status status = lrk_checkpoint_open_reader(run->toy->context, &reader, NULL, &file);
    if (status != LRK_OK) return status;
    status = restore(run, file);
    lrk_checkpoint_close(file);
    return status;
}

bool resume_same(const resume_bytes *a, const resume_bytes *b)
{
    return a->n == b->n && memcmp(a->data, b->data, a->n) == 0;
}

void resume_checksum(unsigned char *data, uint64_t begin, uint64_t n)
{
    uint32_t checksum = lrki_checksum(0, data + begin, n);
    memcpy(data + begin + n, &checksum, sizeof checksum);
}
