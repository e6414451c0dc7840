/* SPDX-License-Identifier: MIT */
/*
 * What saving and restoring refuse: handles that do not fit, one option at a time; names; plans and passes under way;
 * storage of the host. Refusals leave handles as they were.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "resume.h"

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
    const lrk_checkpoint_options how = {.struct_size = sizeof how, .flags = flags};
    ck_assert_int_eq(lrk_reader_memory(&reader, bytes->data, bytes->n), LRK_OK);
    lrk_status status = lrk_checkpoint_open_reader(h->context, &reader, NULL, &file);
    if (status != LRK_OK) return status;
    status = lrk_checkpoint_restore(file, h->checkpoint, &how);
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
    sets_expect(h->context, lrk_checkpoint_save(h->checkpoint, "/nonexistent/x", NULL), LRK_ERR_BUSY,
                "prepared");
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
    sets_expect(h.context, lrk_checkpoint_save(h.checkpoint, "/nonexistent/x", NULL), LRK_ERR_STATE,
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
    sets_expect(h.context, lrk_checkpoint_save(h.checkpoint, "/nonexistent/x", NULL), LRK_ERR_STALE,
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
    sets_expect(h.context, lrk_checkpoint_save(h.checkpoint, "/nonexistent/x", NULL), LRK_ERR_STALE,
                "scores 'now'");
    ck_assert_int_eq(lrk_checkpoint_set_scores(h.checkpoint, "now", NULL), LRK_OK);
    sets_expect(h.context, lrk_checkpoint_save(h.checkpoint, "/nonexistent/x", NULL), LRK_ERR_IO,
                "/nonexistent/x");
    lrk_scores_destroy(scores);
    give_up(&h);
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
    const lrk_checkpoint_options partial = {.struct_size = sizeof partial, .flags = LRK_RESTORE_PARTIAL};
    ck_assert_int_eq(lrk_checkpoint_create(context, &c), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(c, "set", adapters), LRK_OK);
    ck_assert_int_eq(lrk_reader_memory(&reader, bytes.data, bytes.n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(context, &reader, NULL, &file), LRK_OK);
    lrk_checkpoint_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_checkpoint_info_get(file, &info), LRK_OK);
    ck_assert_uint_eq(info.flags, 0);
    ck_assert_int_eq(lrk_checkpoint_restore(file, c, &partial), LRK_OK);
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
    tcase_add_test(all, other_services_are_a_warning);
    tcase_add_test(all, storage_of_the_host_is_asked);
    suite_add_tcase(suite, all);
    return suite;
}
