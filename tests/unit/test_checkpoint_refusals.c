/* SPDX-License-Identifier: MIT */
/*
 * What saving and restoring refuse: handles that do not fit, one option at a time; calls at the wrong moment; names;
 * memory, reads and writes that fail, each one alone. Refusals leave handles and files as they were.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "resume.h"
#include "scratch.h"

/* ---- handles by options ------------------------------------------------------------------------------------------------ */

typedef struct options {
    lrk_module_spec specs[2];
    int64_t n_modules;
    lrk_adapters_options set;
    lrk_adamw_options adamw;
    lrk_ablation_options ablation;
    lrk_evaluator evaluator;
    lrk_alora_options alora;
    lrk_limit limit;
    lrk_schedule_options schedule;
    bool fixed, random;
    uint64_t random_seed;
} options;

typedef struct handles {
    fault host;
    lrk_context *context;
    lrk_adapters *adapters;
    lrk_optimizer *optimizer;
    lrk_estimator *estimator;
    lrk_allocator *allocator;
    lrk_schedule *schedule;
    lrk_checkpoint *checkpoint;
} handles;

static int32_t no_evaluate(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user;
    (void)evaluations;
    (void)n;
    return 1;
}

static int32_t no_differentiate(void *user, const lrk_evaluation *evaluation)
{
    (void)user;
    (void)evaluation;
    return 1;
}

static options usual(void)
{
    options o = {.n_modules = 2};
    o.specs[0] = sets_spec("a", 3, 2, 2);
    o.specs[1] = sets_spec("b", 3, 4, 3);
    lrk_adapters_options_init(&o.set, sizeof o.set);
    lrk_adamw_options_init(&o.adamw, sizeof o.adamw);
    lrk_ablation_options_init(&o.ablation, sizeof o.ablation);
    o.ablation.mode = LRK_ABLATION_SCREENED;
    o.ablation.n_cut = 1;
    lrk_evaluator_init(&o.evaluator, sizeof o.evaluator);
    o.evaluator.evaluate = no_evaluate;
    o.evaluator.differentiate = no_differentiate;
    o.evaluator.max_rows = 1;
    lrk_alora_options_init(&o.alora, sizeof o.alora);
    o.alora.n_move = 1;
    lrk_limit_init(&o.limit, sizeof o.limit);
    o.limit.pattern = "a";
    lrk_schedule_options_init(&o.schedule, sizeof o.schedule);
    o.schedule.warmup = o.schedule.recovery = 2;
    o.schedule.rounds = 2;
    o.schedule.total_steps = 10;
    return o;
}

static void make(handles *h, const options *o)
{
    fault_reset(&h->host);
    h->context = fault_context(&h->host);
    h->adapters = sets_create(h->context, o->specs, o->n_modules, &o->set);
    ck_assert_int_eq(lrk_optimizer_create_adamw(h->adapters, &o->adamw, &h->optimizer), LRK_OK);
    lrk_alora_options alora = o->alora;
    alora.limits = &o->limit;
    alora.n_limits = 1;
    lrk_status status = o->fixed ? lrk_allocator_create_fixed(h->adapters, &h->allocator)
                                 : lrk_allocator_create_alora(h->adapters, &alora, &h->allocator);
    ck_assert_int_eq(status, LRK_OK);
    status = o->random
                 ? lrk_estimator_create_random(h->adapters, o->random_seed, &h->estimator)
                 : lrk_estimator_create_ablation(h->adapters, &o->evaluator, &o->ablation, &h->estimator);
    ck_assert_int_eq(status, LRK_OK);
    ck_assert_int_eq(lrk_schedule_create(h->context, &o->schedule, &h->schedule), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_create(h->context, &h->checkpoint), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(h->checkpoint, "set", h->adapters), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_optimizer(h->checkpoint, "main", h->optimizer), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_estimator(h->checkpoint, "main", h->estimator), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_allocator(h->checkpoint, "main", h->allocator), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_schedule(h->checkpoint, "main", h->schedule), LRK_OK);
}

static void give_up(handles *h)
{
    lrk_checkpoint_destroy(h->checkpoint);
    lrk_schedule_destroy(h->schedule);
    lrk_estimator_destroy(h->estimator);
    lrk_allocator_destroy(h->allocator);
    lrk_optimizer_destroy(h->optimizer);
    lrk_adapters_destroy(h->adapters);
    lrk_context_destroy(h->context);
    ck_assert_int_eq(h->host.live, 0);
    ck_assert(!h->host.bad_release);
}

static lrk_status load(const handles *h, const resume_bytes *bytes, uint32_t flags)
{
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file;
    ck_assert_int_eq(lrk_reader_memory(&reader, bytes->data, bytes->n), LRK_OK);
    lrk_status status = lrk_checkpoint_open_reader(h->context, &reader, &file);
    if (status != LRK_OK) return status;
    status = lrk_checkpoint_restore(file, h->checkpoint, flags);
    lrk_checkpoint_close(file);
    return status;
}

/* ---- options that differ ----------------------------------------------------------------------------------------------- */

#define CHANGES(X)                                                                                           \
    X(o->set.seed = 1, "adapters 'set': seed is 0 in the checkpoint and 1 here")                             \
    X(o->set.dropout = 0.5, "adapters 'set': dropout is 0 in the checkpoint and 0.5 here")                   \
    X(o->n_modules = 1, "the number of modules is 2 in the checkpoint and 1 here")                           \
    X(o->specs[1].name = "c", "a module is 'b' in the checkpoint and 'c' here")                              \
    X(o->specs[1].name = "bb", "a module is 'b' in the checkpoint and 'bb' here")                            \
    X(o->specs[1].n_in = 4, "n_in of module 'b' is 3 in the checkpoint and 4 here")                          \
    X(o->specs[1].n_out = 5, "n_out of module 'b' is 4 in the checkpoint and 5 here")                        \
    X(o->specs[1].stage = 2, "stage of module 'b'")                                                          \
    X(o->specs[1].flags = LRK_MODULE_MAY_LACK_GRADIENT, "flags of module 'b'")                               \
    X(o->specs[1].input_group = 3, "input_group of module 'b'")                                              \
    X(o->specs[1].rank = 2, "the initial rank of module 'b'")                                                \
    X(o->specs[1].scale = 2, "the scale of module 'b' is 1 in the checkpoint and 2 here")                    \
    X(o->adamw.beta1 = 0.8, "optimizer 'main': beta1")                                                       \
    X(o->adamw.beta2 = 0.9, "beta2")                                                                         \
    X(o->adamw.epsilon = 1e-6, "epsilon")                                                                    \
    X(o->adamw.weight_decay = 0.1, "weight_decay")                                                           \
    X(o->adamw.b_ratio = 4, "b_ratio")                                                                       \
    X(o->adamw.max_norm = 1, "max_norm is inf in the checkpoint and 1 here")                                 \
    X(o->adamw.steps = LRK_STEPS_GLOBAL, "steps")                                                            \
    X(o->ablation.mode = LRK_ABLATION_EXACT, "estimator 'main': mode is 1 in the checkpoint and 0 here")     \
    X(o->ablation.noise_floor_repeats = 1, "noise_floor_repeats")                                            \
    X(o->ablation.n_cut = 2, "n_cut")                                                                        \
    X(o->ablation.pool = 3, "pool")                                                                          \
    X(o->ablation.pool_step = 3, "pool_step")                                                                \
    X(o->ablation.pool_limit = 4, "pool_limit")                                                              \
    X(o->evaluator.n_parts = 2, "n_parts")                                                                   \
    X(o->evaluator.flags = LRK_EVALUATOR_DIFFERENTIATE_IS_BASELINE, "flags of the evaluator")                \
    X(o->random = true, "the estimator is 'ablation' in the checkpoint and 'random' here")                   \
    X(o->fixed = true, "allocator 'main': the policy is 'alora' in the checkpoint and 'fixed' here")         \
    X(o->alora.n_move = 2, "n_move is 1 in the checkpoint and 2 here")                                       \
    X((o->alora.n_move = 0, o->alora.move_share = 0.3), "n_move")                                            \
    X(o->alora.budget = 9, "budget is 5 in the checkpoint and 9 here")                                       \
    X((o->alora.budget_unit = LRK_BUDGET_PARAMETERS, o->alora.budget = 31), "budget")                        \
    X(o->alora.unpruned = LRK_UNPRUNED_EVER, "unpruned")                                                     \
    X(o->alora.scope = LRK_SCOPE_PER_STAGE, "scope")                                                         \
    X(o->alora.no_receiver = LRK_NO_RECEIVER_KEEP, "no_receiver")                                            \
    X(o->alora.new_rank_init = LRK_INIT_GAUSSIAN, "new_rank_init")                                           \
    X(o->alora.protect_rounds = 1, "protect_rounds")                                                         \
    X(o->alora.flags = LRK_ALORA_REFILL, "flags")                                                            \
    X(o->limit.floor = 1, "floor of module 'a' is 0 in the checkpoint and 1 here")                           \
    X(o->limit.cap = 7, "cap of module 'a'")                                                                 \
    X(o->schedule.unit = LRK_UNIT_EPOCHS; o->schedule.steps_per_epoch = 1, "schedule 'main': unit")          \
    X(o->schedule.rounds = 1, "rounds is 2 in the checkpoint and 1 here")                                    \
    X(o->schedule.warmup = 1, "warmup")                                                                      \
    X(o->schedule.recovery = 1, "recovery")                                                                  \
    X(o->schedule.steps_per_epoch = 5, "steps_per_epoch")                                                    \
    X(o->schedule.total_steps = 11, "total_steps is 10 in the checkpoint and 11 here")

#define COUNTED(change, words) +1
enum { N_CHANGES = 0 CHANGES(COUNTED) };

static const char *change(options *o, int which)
{
    int i = 0;
#define APPLIED(what, words)                                                                                 \
    if (which == i++) {                                                                                      \
        what;                                                                                                \
        return words;                                                                                        \
    }
    CHANGES(APPLIED)
    return NULL;
}

START_TEST(an_option_that_changes_results_must_be_the_same)
{
    handles saved, other;
    options o = usual();
    make(&saved, &o);
    resume_bytes bytes = resume_save(saved.checkpoint);
    const char *words = change(&o, _i);
    make(&other, &o);
    resume_bytes before = resume_save(other.checkpoint);
    sets_expect(other.context, load(&other, &bytes, 0), LRK_ERR_ARGUMENT, words);
    resume_bytes after = resume_save(other.checkpoint);
    ck_assert(resume_same(&before, &after));
    free(before.data);
    free(after.data);
    free(bytes.data);
    give_up(&other);
    give_up(&saved);
}
END_TEST

START_TEST(a_random_estimator_keeps_its_seed)
{
    handles saved, other;
    options o = usual();
    o.random = true;
    make(&saved, &o);
    resume_bytes bytes = resume_save(saved.checkpoint);
    o.random_seed = 4;
    make(&other, &o);
    sets_expect(other.context, load(&other, &bytes, 0), LRK_ERR_ARGUMENT,
                "seed is 0 in the checkpoint and 4 here");
    free(bytes.data);
    give_up(&other);
    give_up(&saved);
}
END_TEST

/* ---- who is listed ----------------------------------------------------------------------------------------------------- */

START_TEST(names_and_order_are_checked)
{
    handles h, other;
    options o = usual();
    char name[300];
    lrk_checkpoint *empty;
    memset(name, 'n', sizeof name);
    name[256] = '\0';
    make(&h, &o);
    make(&other, &o);
    lrk_checkpoint *c = h.checkpoint;
    sets_expect(h.context, lrk_checkpoint_add_adapters(c, "x", NULL), LRK_ERR_ARGUMENT, "handle is NULL");
    sets_expect(h.context, lrk_checkpoint_add_adapters(c, "x", other.adapters), LRK_ERR_ARGUMENT,
                "another context");
    sets_expect(h.context, lrk_checkpoint_add_schedule(c, "x", other.schedule), LRK_ERR_ARGUMENT,
                "another context");
    sets_expect(h.context, lrk_checkpoint_add_adapters(c, "x", h.adapters), LRK_ERR_ARGUMENT,
                "listed already");
    sets_expect(h.context, lrk_checkpoint_add_optimizer(c, NULL, h.optimizer), LRK_ERR_ARGUMENT,
                "1 to 255 bytes");
    sets_expect(h.context, lrk_checkpoint_add_optimizer(c, "", h.optimizer), LRK_ERR_ARGUMENT,
                "1 to 255 bytes");
    sets_expect(h.context, lrk_checkpoint_add_optimizer(c, name, h.optimizer), LRK_ERR_ARGUMENT,
                "1 to 255 bytes");
    sets_expect(h.context, lrk_checkpoint_add_optimizer(c, "main", h.optimizer), LRK_ERR_ARGUMENT,
                "optimizer 'main' is listed already");
    name[255] = '\0';
    ck_assert_int_eq(lrk_checkpoint_set_blob(c, name, "1", 1), LRK_OK);
    sets_expect(h.context, lrk_checkpoint_set_blob(c, NULL, "1", 1), LRK_ERR_ARGUMENT, "1 to 255 bytes");
    ck_assert_int_eq(lrk_checkpoint_create(h.context, &empty), LRK_OK);
    sets_expect(h.context, lrk_checkpoint_add_optimizer(empty, "o", h.optimizer), LRK_ERR_NOT_FOUND,
                "the set of optimizer 'o' is not listed");
    sets_expect(h.context, lrk_checkpoint_add_estimator(empty, "e", h.estimator), LRK_ERR_NOT_FOUND,
                "estimator 'e'");
    sets_expect(h.context, lrk_checkpoint_add_allocator(empty, "p", h.allocator), LRK_ERR_NOT_FOUND,
                "allocator 'p'");
    lrk_checkpoint_destroy(empty);
    ck_assert_int_eq(lrk_checkpoint_create(NULL, &empty), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(empty);
    ck_assert_int_eq(lrk_checkpoint_create(h.context, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(NULL, "x", h.adapters), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_set_config(NULL, "x", 1), LRK_ERR_ARGUMENT);
    lrk_checkpoint_destroy(NULL);
    lrk_checkpoint_close(NULL);
    give_up(&other);
    give_up(&h);
}
END_TEST

START_TEST(a_restore_wants_everyone_unless_it_is_partial)
{
    handles saved, other;
    options o = usual();
    make(&saved, &o);
    make(&other, &o);
    resume_bytes all = resume_save(saved.checkpoint);
    lrk_checkpoint_destroy(saved.checkpoint);
    ck_assert_int_eq(lrk_checkpoint_create(saved.context, &saved.checkpoint), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(saved.checkpoint, "set", saved.adapters), LRK_OK);
    resume_bytes set = resume_save(saved.checkpoint);
    sets_expect(other.context, load(&other, &set, 0), LRK_ERR_NOT_FOUND, "optimizer 'main'");
    sets_expect(other.context, load(&other, &set, LRK_RESTORE_PARTIAL), LRK_ERR_NOT_FOUND,
                "optimizer 'main'");
    sets_expect(saved.context, load(&saved, &all, 0), LRK_ERR_ARGUMENT,
                "optimizer 'main': is in the checkpoint and not listed here");
    ck_assert_int_eq(load(&saved, &all, LRK_RESTORE_PARTIAL), LRK_OK);
    sets_expect(saved.context, load(&saved, &all, 4), LRK_ERR_ARGUMENT, "unknown flags");
    free(all.data);
    free(set.data);
    give_up(&other);
    give_up(&saved);
}
END_TEST

START_TEST(a_snapshot_without_its_set_is_refused_unless_partial)
{
    options o = usual();
    handles saved, other;
    lrk_snapshot *snapshot, *taken;
    make(&saved, &o);
    make(&other, &o);
    ck_assert_int_eq(lrk_snapshot_create(saved.adapters, &snapshot), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_set_snapshot(saved.checkpoint, "best", snapshot), LRK_OK);
    resume_bytes bytes = resume_save(saved.checkpoint);
    lrk_checkpoint *empty;
    ck_assert_int_eq(lrk_checkpoint_create(other.context, &empty), LRK_OK);
    lrk_checkpoint *full = other.checkpoint;
    other.checkpoint = empty;
    ck_assert_int_eq(load(&other, &bytes, 0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(load(&other, &bytes, LRK_RESTORE_PARTIAL), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_take_snapshot(empty, "best", &taken), LRK_ERR_NOT_FOUND);
    lrk_checkpoint_destroy(empty);
    other.checkpoint = full;
    ck_assert_int_eq(load(&other, &bytes, 0), LRK_OK); /* what is not taken is freed */
    ck_assert_int_eq(lrk_checkpoint_take_snapshot(full, NULL, &taken), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_take_snapshot(full, "best", NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_take_snapshot(full, "best", &taken), LRK_OK);
    ck_assert_int_eq(lrk_snapshot_restore(taken, other.adapters), LRK_OK);
    lrk_snapshot_destroy(taken);
    lrk_snapshot_destroy(snapshot);
    free(bytes.data);
    give_up(&other);
    give_up(&saved);
}
END_TEST

/* ---- the wrong moment -------------------------------------------------------------------------------------------------- */

static int32_t accept(void *user, const lrk_plan *plan)
{
    (void)plan;
    handles *h = user;
    sets_expect(h->context, lrk_checkpoint_save(h->checkpoint, "/nonexistent/x"), LRK_ERR_BUSY, "prepared");
    return 0;
}

static void follow(void *user, const lrk_plan *plan)
{
    (void)user;
    (void)plan;
}

static lrk_plan *plan_of(handles *h)
{
    double values[] = {1, 2, 3, 4, 5};
    lrk_scores *scores;
    lrk_plan *plan;
    ck_assert_int_eq(lrk_scores_create(h->adapters, values, 5, &scores), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(h->allocator, scores, 1, &plan), LRK_OK);
    lrk_scores_destroy(scores);
    return plan;
}

START_TEST(a_plan_under_way_can_be_neither_saved_nor_loaded_over)
{
    handles h;
    options o = usual();
    make(&h, &o);
    resume_bytes bytes = resume_save(h.checkpoint);
    lrk_plan *plan = plan_of(&h);
    sets_expect(h.context, lrk_checkpoint_save(h.checkpoint, "/nonexistent/x"), LRK_ERR_STATE,
                "allocator 'main': the plan of round 0 is neither committed nor abandoned");
    sets_expect(h.context, load(&h, &bytes, 0), LRK_ERR_STATE, "neither committed nor abandoned");
    lrk_participant participant = {.struct_size = sizeof participant,
                                   .user = &h,
                                   .prepare = accept,
                                   .commit = follow,
                                   .abandon = follow};
    ck_assert_int_eq(lrk_plan_prepare(plan, &participant, 1), LRK_OK);
    sets_expect(h.context, load(&h, &bytes, 0), LRK_ERR_BUSY, "prepared");
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
    sets_expect(h.context, lrk_checkpoint_save(h.checkpoint, "/nonexistent/x"), LRK_ERR_STALE,
                "optimizer 'main': it missed a rank change");
    ck_assert_int_eq(load(&h, &bytes, 0), LRK_OK); /* moments and ranks of one state again */
    ck_assert_int_eq(lrk_optimizer_step(h.optimizer, 0), LRK_ERR_NO_GRADIENT);
    free(bytes.data);
    give_up(&h);
}
END_TEST

START_TEST(an_open_pass_refuses_a_restore)
{
    handles h;
    options o = usual();
    lrk_pass_options pass_options;
    lrk_pass *pass;
    make(&h, &o);
    resume_bytes bytes = resume_save(h.checkpoint);
    lrk_pass_options_init(&pass_options, sizeof pass_options);
    pass_options.max_rows = 1;
    ck_assert_int_eq(lrk_pass_begin(h.adapters, &pass_options, &pass), LRK_OK);
    resume_bytes same = resume_save(h.checkpoint); /* saving reads only */
    ck_assert(resume_same(&bytes, &same));
    sets_expect(h.context, load(&h, &bytes, 0), LRK_ERR_BUSY, "a pass is open");
    lrk_pass_end(pass);
    ck_assert_int_eq(load(&h, &bytes, 0), LRK_OK);
    free(same.data);
    free(bytes.data);
    give_up(&h);
}
END_TEST

START_TEST(scores_of_another_state_cannot_be_saved)
{
    handles h;
    options o = usual();
    double values[] = {1, 2, 3, 4, 5};
    lrk_scores *scores;
    make(&h, &o);
    ck_assert_int_eq(lrk_scores_create(h.adapters, values, 5, &scores), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_set_scores(h.checkpoint, "now", scores), LRK_OK);
    ck_assert_int_eq(lrk_adapters_values_changed(h.adapters), LRK_OK);
    sets_expect(h.context, lrk_checkpoint_save(h.checkpoint, "/nonexistent/x"), LRK_ERR_STALE,
                "scores 'now'");
    ck_assert_int_eq(lrk_checkpoint_set_scores(h.checkpoint, "now", NULL), LRK_OK);
    sets_expect(h.context, lrk_checkpoint_save(h.checkpoint, "/nonexistent/x"), LRK_ERR_IO, "/nonexistent/x");
    lrk_scores_destroy(scores);
    give_up(&h);
}
END_TEST

/* A paused run whose set has changed since would be refused when it goes on: it cannot be saved either. */
START_TEST(a_stale_paused_run_cannot_be_saved)
{
    resume_shape shape = resume_default();
    resume_run *run = resume_create(&shape);
    lrk_scores *scores;
    run->toy->cancel_at = 3;
    ck_assert_int_eq(lrk_estimator_run(run->estimator, 0, &scores), LRK_ERR_CANCELLED);
    resume_bytes bytes = resume_save(run->checkpoint);
    ck_assert_int_eq(lrk_adapters_values_changed(run->toy->adapters), LRK_OK);
    sets_expect(run->toy->context, lrk_checkpoint_save(run->checkpoint, "/nonexistent/x"), LRK_ERR_STALE,
                "estimator 'main'");
    lrk_estimator_reset(run->estimator);
    sets_expect(run->toy->context, lrk_checkpoint_save(run->checkpoint, "/nonexistent/x"), LRK_ERR_IO, "x");
    ck_assert_int_eq(resume_load(run, bytes.data, bytes.n), LRK_OK);
    ck_assert_int_eq(lrk_estimator_run(run->estimator, 0, &scores), LRK_OK);
    lrk_scores_destroy(scores);
    free(bytes.data);
    resume_destroy(run);
}
END_TEST

static void load_within(resume_run *run, void *user)
{
    const resume_bytes *bytes = user;
    sets_expect(run->toy->context, resume_load(run, bytes->data, bytes->n),
                run->toy->progressed > 0 ? LRK_ERR_BUSY : LRK_OK, "");
}

START_TEST(a_restore_from_within_a_scoring_run_is_refused)
{
    resume_shape shape = resume_default();
    resume_run *run = resume_create(&shape);
    resume_bytes bytes = resume_save(run->checkpoint);
    lrk_scores *scores;
    run->toy->progressed = 1;
    run->point = load_within;
    run->user = &bytes;
    ck_assert_int_eq(lrk_estimator_run(run->estimator, 0, &scores), LRK_OK);
    lrk_scores_destroy(scores);
    free(bytes.data);
    resume_destroy(run);
}
END_TEST

typedef struct watcher {
    resume_run *run;
    int seen;
} watcher;

static int32_t save_in_observer(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    watcher *w = user;
    (void)scores;
    (void)plan;
    w->seen++;
    sets_expect(w->run->toy->context, lrk_checkpoint_save(w->run->checkpoint, "/nonexistent/x"), LRK_ERR_BUSY,
                "schedule 'main': the observers of round 0");
    return 0;
}

/* The round is carried out there, and not counted yet: a run restored from it would do it twice. */
START_TEST(a_save_from_an_observer_is_refused)
{
    resume_shape shape = resume_default();
    watcher w = {resume_create(&shape), 0};
    lrk_participant optimizer = {.struct_size = sizeof optimizer};
    ck_assert_int_eq(lrk_optimizer_participant(w.run->optimizer, &optimizer), LRK_OK);
    lrk_round_observer observer = {.struct_size = sizeof observer, .user = &w, .round = save_in_observer};
    lrk_round_binding binding;
    lrk_round_binding_init(&binding, sizeof binding);
    binding.estimator = w.run->estimator;
    binding.allocator = w.run->allocator;
    binding.participants = &optimizer;
    binding.n_participants = 1;
    binding.observers = &observer;
    binding.n_observers = 1;
    ck_assert_int_eq(lrk_schedule_bind(w.run->schedule, &binding), LRK_OK);
    lrk_schedule_event event = {.struct_size = sizeof event};
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(lrk_schedule_step(w.run->schedule, &event), LRK_OK);
    ck_assert_int_eq(w.seen, 1);
    resume_bytes after = resume_save(w.run->checkpoint);
    free(after.data);
    resume_destroy(w.run);
}
END_TEST

/* ---- streams that fail ------------------------------------------------------------------------------------------------- */

typedef struct stream {
    resume_bytes bytes;
    int64_t calls, fail_at;
    lrk_checkpoint *checkpoint; /* not NULL: used from within */
} stream;

static int32_t write_some(void *user, const void *data, size_t n)
{
    stream *s = user;
    if (s->calls++ == s->fail_at) return 5;
    if (s->checkpoint != NULL) {
        ck_assert_int_eq(lrk_checkpoint_set_blob(s->checkpoint, "x", "1", 1), LRK_ERR_BUSY);
        ck_assert_int_eq(lrk_checkpoint_save(s->checkpoint, "/nonexistent/x"), LRK_ERR_BUSY);
    }
    s->bytes.data = realloc(s->bytes.data, s->bytes.n + n);
    memcpy(s->bytes.data + s->bytes.n, data, n);
    s->bytes.n += n;
    return 0;
}

static int32_t read_some(void *user, uint64_t offset, void *data, size_t n)
{
    stream *s = user;
    if (s->calls++ == s->fail_at) return 5;
    memcpy(data, s->bytes.data + offset, n);
    return 0;
}

/* A run whose checkpoint takes several buffers. */
static resume_run *large_run(void)
{
    resume_shape shape = resume_default();
    shape.toy.d = 300;
    shape.toy.f = 200;
    shape.toy.rank = 8;
    resume_run *run = resume_create(&shape);
    toy_train(run->toy, 1);
    return run;
}

START_TEST(each_write_that_fails_is_reported)
{
    resume_run *run = large_run();
    stream s = {.fail_at = -1, .checkpoint = run->checkpoint};
    lrk_writer writer = {.struct_size = sizeof writer, .user = &s, .write = write_some, .name = "a pipe"};
    ck_assert_int_eq(lrk_checkpoint_write(run->checkpoint, &writer), LRK_OK);
    int64_t calls = s.calls;
    ck_assert_int_gt(calls, 2);
    for (int64_t i = 0; i < calls; i++) {
        stream failing = {.fail_at = i};
        writer.user = &failing;
        sets_expect(run->toy->context, lrk_checkpoint_write(run->checkpoint, &writer), LRK_ERR_IO,
                    "cannot write to a pipe");
        free(failing.bytes.data);
    }
    writer.write = NULL;
    ck_assert_int_eq(lrk_checkpoint_write(run->checkpoint, &writer), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_write(run->checkpoint, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_save(run->checkpoint, NULL), LRK_ERR_ARGUMENT);
    free(s.bytes.data);
    resume_destroy(run);
}
END_TEST

static lrk_status open_and_restore(resume_run *run, const lrk_reader *reader)
{
    lrk_checkpoint_file *file;
    lrk_status status = lrk_checkpoint_open_reader(run->toy->context, reader, &file);
    if (status != LRK_OK) return status;
    status = lrk_checkpoint_restore(file, run->checkpoint, 0);
    lrk_checkpoint_close(file);
    return status;
}

START_TEST(each_read_that_fails_is_reported_and_changes_nothing)
{
    resume_run *run = large_run();
    stream s = {.bytes = resume_save(run->checkpoint), .fail_at = -1};
    lrk_reader reader = {
        .struct_size = sizeof reader, .user = &s, .read_at = read_some, .size = s.bytes.n, .name = "a spool"};
    ck_assert_int_eq(open_and_restore(run, &reader), LRK_OK);
    int64_t calls = s.calls;
    ck_assert_int_gt(calls, 20);
    toy_train(run->toy, 2);
    resume_bytes before = resume_save(run->checkpoint);
    for (s.fail_at = 0; s.fail_at < calls; s.fail_at++) {
        int64_t live = run->toy->fault.live;
        s.calls = 0;
        sets_expect(run->toy->context, open_and_restore(run, &reader), LRK_ERR_IO, "cannot read a spool");
        ck_assert_int_eq(run->toy->fault.live, live);
    }
    resume_bytes after = resume_save(run->checkpoint);
    ck_assert(resume_same(&before, &after));
    reader.read_at = NULL;
    ck_assert_int_eq(open_and_restore(run, &reader), LRK_ERR_ARGUMENT);
    free(before.data);
    free(after.data);
    free(s.bytes.data);
    resume_destroy(run);
}
END_TEST

/* A reader that gives other bytes the second time is found out by the checksum before anything is taken over. */
static int32_t read_changing(void *user, uint64_t offset, void *data, size_t n)
{
    stream *s = user;
    memcpy(data, s->bytes.data + offset, n);
    if (s->calls++ >= s->fail_at) ((unsigned char *)data)[n - 1] ^= 0x10;
    return 0;
}

START_TEST(bytes_that_change_after_opening_are_found)
{
    resume_run *run = large_run();
    stream s = {.bytes = resume_save(run->checkpoint), .fail_at = INT64_MAX};
    lrk_reader reader = {
        .struct_size = sizeof reader, .user = &s, .read_at = read_changing, .size = s.bytes.n};
    lrk_checkpoint_file *file;
    ck_assert_int_eq(lrk_checkpoint_open_reader(run->toy->context, &reader, &file), LRK_OK);
    s.fail_at = s.calls + 4;
    ck_assert_int_eq(lrk_checkpoint_restore(file, run->checkpoint, 0), LRK_ERR_FORMAT);
    lrk_checkpoint_close(file);
    resume_bytes after = resume_save(run->checkpoint);
    ck_assert(resume_same(&after, &s.bytes));
    free(after.data);
    free(s.bytes.data);
    resume_destroy(run);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------------------------------ */

typedef struct target {
    resume_run *run;
    resume_bytes bytes;
} target;

static lrk_status save_one(void *user)
{
    target *t = user;
    stream s = {.fail_at = -1};
    lrk_writer writer = {.struct_size = sizeof writer, .user = &s, .write = write_some};
    lrk_status status = lrk_checkpoint_write(t->run->checkpoint, &writer);
    free(s.bytes.data);
    return status;
}

static lrk_status restore_one(void *user)
{
    target *t = user;
    lrk_reader reader = {.struct_size = sizeof reader};
    (void)lrk_reader_memory(&reader, t->bytes.data, t->bytes.n);
    lrk_status status = open_and_restore(t->run, &reader);
    if (status == LRK_OK) return status;
    lrk_adapters_info info = sets_info(t->run->toy->adapters);
    ck_assert_uint_eq(info.generation, 1);
    return status;
}

static void keep_first_scoring(resume_run *run, void *user)
{
    target *t = user;
    if (run->toy->progressed == 25 && t->bytes.data == NULL) t->bytes = resume_save(run->checkpoint);
}

static void undo_nothing(void *user)
{
    (void)user;
}

static lrk_status list_one(void *user)
{
    target *t = user;
    lrk_checkpoint *c;
    lrk_status status = lrk_checkpoint_create(t->run->toy->context, &c);
    if (status == LRK_OK) status = lrk_checkpoint_add_adapters(c, "a", t->run->toy->adapters);
    char name[2] = "a";
    for (int i = 0; i < 12 && status == LRK_OK; i++, name[0]++)
        status = lrk_checkpoint_set_blob(c, name, "1", 1);
    lrk_checkpoint_destroy(c);
    return status;
}

START_TEST(each_allocation_that_fails_changes_nothing)
{
    resume_shape shape = resume_default();
    shape.protect_rounds = 1;
    target t = {resume_create(&shape), {0}};
    t.run->point = keep_first_scoring;
    t.run->user = &t;
    resume_go(t.run);
    ck_assert_ptr_nonnull(t.bytes.data); /* in the second round, scoring */
    sets_each_fault(&t.run->toy->fault, save_one, undo_nothing, &t);
    sets_each_fault(&t.run->toy->fault, list_one, undo_nothing, &t);
    resume_destroy(t.run);
    t.run = resume_create(&shape);
    resume_bytes before = resume_save(t.run->checkpoint), after = {0};
    fault *f = &t.run->toy->fault;
    for (int64_t i = 0;; i++) {
        int64_t live = f->live;
        f->alloc.calls = 0;
        f->alloc.fail_at = i;
        lrk_status status = restore_one(&t);
        f->alloc.fail_at = -1;
        if (status == LRK_OK) break;
        ck_assert_int_eq(status, LRK_ERR_NOMEM);
        ck_assert_int_eq(f->live, live);
        after = resume_save(t.run->checkpoint);
        ck_assert(resume_same(&before, &after));
        free(after.data);
    }
    after = resume_save(t.run->checkpoint);
    ck_assert(!resume_same(&before, &after));
    free(before.data);
    free(after.data);
    free(t.bytes.data);
    resume_destroy(t.run);
}
END_TEST

/* ---- files ------------------------------------------------------------------------------------------------------------- */

START_TEST(a_save_that_fails_leaves_the_previous_file)
{
    scratch files;
    struct rlimit limit, least;
    resume_run *run = large_run();
    scratch_init(&files);
    const char *path = scratch_path(&files, "run.lrk");
    ck_assert_int_eq(lrk_checkpoint_save(run->checkpoint, path), LRK_OK);
    size_t n, m;
    char *before = scratch_read(path, &n);
    toy_train(run->toy, 2);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    for (rlim_t bytes = 0; bytes < n; bytes += n / 7) {
        least = limit;
        least.rlim_cur = bytes;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &least), 0);
        lrk_status status = lrk_checkpoint_save(run->checkpoint, path);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        sets_expect(run->toy->context, status, LRK_ERR_IO, "run.lrk");
        ck_assert_int_eq(scratch_count(files.dir), 1);
    }
    signal(SIGXFSZ, SIG_DFL);
    char *after = scratch_read(path, &m);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(before, after, n);
    lrk_checkpoint_file *file;
    ck_assert_int_eq(lrk_checkpoint_open(run->toy->context, path, &file), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_restore(file, run->checkpoint, 0), LRK_OK);
    lrk_checkpoint_close(file);
    ck_assert_int_eq(lrk_checkpoint_open(run->toy->context, "/nonexistent/x", &file), LRK_ERR_NOT_FOUND);
    ck_assert_int_eq(lrk_checkpoint_open(run->toy->context, NULL, &file), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_open(run->toy->context, path, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_open(NULL, path, &file), LRK_ERR_ARGUMENT);
    free(before);
    free(after);
    scratch_fini(&files);
    resume_destroy(run);
}
END_TEST

START_TEST(facts_and_blobs_are_read_back)
{
    resume_shape shape = resume_default();
    resume_run *run = resume_create(&shape);
    resume_bytes bytes = resume_save(run->checkpoint);
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file;
    char text[64], services[256];
    size_t n = 7;
    ck_assert_int_eq(lrk_reader_memory(&reader, bytes.data, bytes.n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(run->toy->context, &reader, &file), LRK_OK);
    lrk_checkpoint_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_checkpoint_info_get(file, &info), LRK_OK);
    ck_assert_uint_eq(info.flags, LRK_CHECKPOINT_SAME_SERVICES);
    ck_assert_uint_eq(info.format, 1);
    ck_assert_int_eq(info.sections, 8);
    ck_assert_uint_eq(info.bytes, bytes.n);
    ck_assert_str_eq(info.made_by, "lorank 0.1.0");
    lrk_context_describe(run->toy->context, services, sizeof services);
    ck_assert_str_eq(info.made_with, services);
    lrk_checkpoint_section section = {.struct_size = sizeof section};
    ck_assert_int_eq(lrk_checkpoint_section_get(file, 1, &section), LRK_OK);
    ck_assert_int_eq(section.kind, LRK_SECTION_ADAPTERS);
    ck_assert_uint_eq(section.flags, LRK_SECTION_REQUIRED);
    ck_assert_int_eq(section.version, 1);
    ck_assert_str_eq(section.name, "main");
    ck_assert_int_eq(lrk_checkpoint_section_get(file, 8, &section), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_section_get(file, -1, &section), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_read_config(file, text, sizeof text, &n), LRK_OK);
    ck_assert_uint_eq(n, 8);
    ck_assert_mem_eq(text, "seed: 3\n", 8);
    ck_assert_int_eq(lrk_checkpoint_read_blob(file, "history", NULL, 0, &n), LRK_OK);
    ck_assert_uint_eq(n, sizeof run->history);
    sets_expect(run->toy->context, lrk_checkpoint_read_blob(file, "history", text, 9, &n), LRK_ERR_SHAPE,
                "there is room for 9");
    ck_assert_uint_eq(n, sizeof run->history);
    sets_expect(run->toy->context, lrk_checkpoint_read_blob(file, "nothing", text, 9, &n), LRK_ERR_NOT_FOUND,
                "no blob 'nothing'");
    ck_assert_int_eq(lrk_checkpoint_read_blob(file, NULL, text, 9, &n), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_read_blob(file, "history", text, 9, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_restore(file, NULL, 0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_restore(NULL, run->checkpoint, 0), LRK_ERR_ARGUMENT);
    lrk_checkpoint_close(file);
    free(bytes.data);
    resume_destroy(run);
}
END_TEST

/* Other services: the run goes on, and the host is told that bits may differ. */
START_TEST(other_services_are_a_warning)
{
    options o = usual();
    handles h;
    make(&h, &o);
    resume_bytes bytes = resume_save(h.checkpoint);
    lrk_host plain = fault_host(&h.host);
    plain.gemm = NULL;
    plain.threads = 3;
    fault log;
    fault_reset(&log);
    lrk_context *context;
    ck_assert_int_eq(lrk_context_create(&plain, &context, NULL, 0), LRK_OK);
    lrk_adapters *adapters = sets_create(context, o.specs, o.n_modules, &o.set);
    lrk_checkpoint *c;
    lrk_checkpoint_file *file;
    lrk_reader reader = {.struct_size = sizeof reader};
    ck_assert_int_eq(lrk_checkpoint_create(context, &c), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(c, "set", adapters), LRK_OK);
    ck_assert_int_eq(lrk_reader_memory(&reader, bytes.data, bytes.n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(context, &reader, &file), LRK_OK);
    lrk_checkpoint_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_checkpoint_info_get(file, &info), LRK_OK);
    ck_assert_uint_eq(info.flags, 0);
    ck_assert_int_eq(lrk_checkpoint_restore(file, c, LRK_RESTORE_PARTIAL), LRK_OK);
    ck_assert_msg(strstr(h.host.log, "1: memory was made with other kernels, GEMM or parallel loop") != NULL,
                  "%s", h.host.log);
    lrk_checkpoint_close(file);
    lrk_checkpoint_destroy(c);
    lrk_adapters_destroy(adapters);
    lrk_context_destroy(context);
    free(bytes.data);
    give_up(&h);
}
END_TEST

/* A host's storage: it is asked for room, may refuse, and a fixed capacity may be too small. */
START_TEST(storage_of_the_host_is_asked)
{
    options o = usual();
    handles h, grown;
    make(&grown, &o);
    lrk_plan *plan = plan_of(&grown); /* one of a goes, b gets it */
    lrk_participant optimizer = {.struct_size = sizeof optimizer};
    ck_assert_int_eq(lrk_optimizer_participant(grown.optimizer, &optimizer), LRK_OK);
    ck_assert_int_eq(lrk_plan_prepare(plan, &optimizer, 1), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
    resume_bytes bytes = resume_save(grown.checkpoint);
    for (int fixed = 0; fixed < 2; fixed++) {
        sets_host host = {.refuse = -1};
        lrk_storage storage = sets_host_storage(&host, o.specs, fixed ? LRK_STORAGE_FIXED : 0);
        options mine = o;
        mine.set.storage = &storage;
        make(&h, &mine);
        uint64_t before = sets_digest(h.adapters);
        if (fixed) {
            sets_expect(h.context, load(&h, &bytes, 0), LRK_ERR_BUDGET, "fixed capacity");
        } else {
            host.refuse = 1;
            sets_expect(h.context, load(&h, &bytes, 0), LRK_ERR_HOST, "refused");
            host.refuse = -1;
        }
        ck_assert(sets_digest(h.adapters) == before);
        if (!fixed) {
            ck_assert_int_eq(load(&h, &bytes, 0), LRK_OK);
            ck_assert(sets_digest(h.adapters) == sets_digest(grown.adapters));
        }
        give_up(&h);
        sets_host_free(&host);
    }
    free(bytes.data);
    give_up(&grown);
}
END_TEST

Suite *checkpoint_refusals_suite(void)
{
    Suite *suite = suite_create("checkpoint_refusals");
    TCase *all = tcase_create("checkpoint_refusals");
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, an_option_that_changes_results_must_be_the_same, 0, N_CHANGES);
    tcase_add_test(all, a_random_estimator_keeps_its_seed);
    tcase_add_test(all, names_and_order_are_checked);
    tcase_add_test(all, a_restore_wants_everyone_unless_it_is_partial);
    tcase_add_test(all, a_snapshot_without_its_set_is_refused_unless_partial);
    tcase_add_test(all, a_plan_under_way_can_be_neither_saved_nor_loaded_over);
    tcase_add_test(all, an_open_pass_refuses_a_restore);
    tcase_add_test(all, scores_of_another_state_cannot_be_saved);
    tcase_add_test(all, a_stale_paused_run_cannot_be_saved);
    tcase_add_test(all, a_restore_from_within_a_scoring_run_is_refused);
    tcase_add_test(all, a_save_from_an_observer_is_refused);
    tcase_add_test(all, each_write_that_fails_is_reported);
    tcase_add_test(all, each_read_that_fails_is_reported_and_changes_nothing);
    tcase_add_test(all, bytes_that_change_after_opening_are_found);
    tcase_add_test(all, each_allocation_that_fails_changes_nothing);
    tcase_add_test(all, a_save_that_fails_leaves_the_previous_file);
    tcase_add_test(all, facts_and_blobs_are_read_back);
    tcase_add_test(all, other_services_are_a_warning);
    tcase_add_test(all, storage_of_the_host_is_asked);
    suite_add_tcase(suite, all);
    return suite;
}
