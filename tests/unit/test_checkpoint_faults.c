/* SPDX-License-Identifier: MIT */
/*
 * Checkpoints when things fail: calls from within the run at the wrong moment; memory, reads and writes that fail, each
 * one alone; a full disk. Handles and the previous file stay as they were. And what an opened file tells.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "resume.h"
#include "scratch.h"

/* ---- from within the run ----------------------------------------------------------------------------------------------- */

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
    sets_expect(run->toy->context, lrk_checkpoint_save(run->checkpoint, "/nonexistent/x", NULL),
                LRK_ERR_STALE, "estimator 'main'");
    lrk_estimator_reset(run->estimator);
    sets_expect(run->toy->context, lrk_checkpoint_save(run->checkpoint, "/nonexistent/x", NULL), LRK_ERR_IO,
                "x");
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
    sets_expect(w->run->toy->context, lrk_checkpoint_save(w->run->checkpoint, "/nonexistent/x", NULL),
                LRK_ERR_BUSY, "schedule 'main': the observers of round 0");
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
        ck_assert_int_eq(lrk_checkpoint_save(s->checkpoint, "/nonexistent/x", NULL), LRK_ERR_BUSY);
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
    ck_assert_int_eq(lrk_checkpoint_write(run->checkpoint, &writer, NULL), LRK_OK);
    int64_t calls = s.calls;
    ck_assert_int_gt(calls, 2);
    for (int64_t i = 0; i < calls; i++) {
        stream failing = {.fail_at = i};
        writer.user = &failing;
        sets_expect(run->toy->context, lrk_checkpoint_write(run->checkpoint, &writer, NULL), LRK_ERR_IO,
                    "cannot write to a pipe");
        free(failing.bytes.data);
    }
    writer.write = NULL;
    ck_assert_int_eq(lrk_checkpoint_write(run->checkpoint, &writer, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_write(run->checkpoint, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_save(run->checkpoint, NULL, NULL), LRK_ERR_ARGUMENT);
    free(s.bytes.data);
    resume_destroy(run);
}
END_TEST

static lrk_status open_and_restore(resume_run *run, const lrk_reader *reader)
{
    lrk_checkpoint_file *file;
    lrk_status status = lrk_checkpoint_open_reader(run->toy->context, reader, NULL, &file);
    if (status != LRK_OK) return status;
    status = lrk_checkpoint_restore(file, run->checkpoint, NULL);
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
    ck_assert_int_eq(lrk_checkpoint_open_reader(run->toy->context, &reader, NULL, &file), LRK_OK);
    s.fail_at = s.calls + 4;
    ck_assert_int_eq(lrk_checkpoint_restore(file, run->checkpoint, NULL), LRK_ERR_FORMAT);
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
    lrk_status status = lrk_checkpoint_write(t->run->checkpoint, &writer, NULL);
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
    ck_assert_int_eq(lrk_checkpoint_save(run->checkpoint, path, NULL), LRK_OK);
    size_t n, m;
    char *before = scratch_read(path, &n);
    toy_train(run->toy, 2);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    for (rlim_t bytes = 0; bytes < n; bytes += n / 7) {
        least = limit;
        least.rlim_cur = bytes;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &least), 0);
        lrk_status status = lrk_checkpoint_save(run->checkpoint, path, NULL);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        sets_expect(run->toy->context, status, LRK_ERR_IO, "run.lrk");
        ck_assert_int_eq(scratch_count(files.dir), 1);
    }
    signal(SIGXFSZ, SIG_DFL);
    char *after = scratch_read(path, &m);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(before, after, n);
    lrk_checkpoint_file *file;
    ck_assert_int_eq(lrk_checkpoint_open(run->toy->context, path, NULL, &file), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_restore(file, run->checkpoint, NULL), LRK_OK);
    lrk_checkpoint_close(file);
    ck_assert_int_eq(lrk_checkpoint_open(run->toy->context, "/nonexistent/x", NULL, &file),
                     LRK_ERR_NOT_FOUND);
    ck_assert_int_eq(lrk_checkpoint_open(run->toy->context, NULL, NULL, &file), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_open(run->toy->context, path, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_open(NULL, path, NULL, &file), LRK_ERR_ARGUMENT);
    free(before);
    free(after);
    scratch_fini(&files);
    resume_destroy(run);
}
END_TEST

/* Up to the last: what syncing the folder takes is there before the rename. */
START_TEST(memory_that_runs_out_in_a_save_leaves_the_previous_file)
{
    scratch files;
    size_t n, m;
    resume_run *run = large_run();
    fault *f = &run->toy->fault;
    scratch_init(&files);
    const char *path = scratch_path(&files, "run.lrk");
    ck_assert_int_eq(lrk_checkpoint_save(run->checkpoint, path, NULL), LRK_OK);
    char *before = scratch_read(path, &n);
    toy_train(run->toy, 2);
    for (int64_t i = 0;; i++) {
        f->alloc.calls = 0;
        f->alloc.fail_at = i;
        lrk_status status = lrk_checkpoint_save(run->checkpoint, path, NULL);
        f->alloc.fail_at = -1;
        char *after = scratch_read(path, &m);
        bool same = m == n && memcmp(after, before, n) == 0;
        free(after);
        ck_assert_int_eq(scratch_count(files.dir), 1);
        ck_assert_int_eq(same, status != LRK_OK);
        if (status == LRK_OK) break;
        ck_assert_int_eq(status, LRK_ERR_NOMEM);
    }
    free(before);
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
    ck_assert_int_eq(lrk_checkpoint_open_reader(run->toy->context, &reader, NULL, &file), LRK_OK);
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
    ck_assert_int_eq(lrk_checkpoint_restore(file, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_restore(NULL, run->checkpoint, NULL), LRK_ERR_ARGUMENT);
    lrk_checkpoint_close(file);
    free(bytes.data);
    resume_destroy(run);
}
END_TEST

Suite *checkpoint_faults_suite(void)
{
    Suite *suite = suite_create("checkpoint_faults");
    TCase *all = tcase_create("checkpoint_faults");
    tcase_set_timeout(all, 120);
    tcase_add_test(all, a_stale_paused_run_cannot_be_saved);
    tcase_add_test(all, a_restore_from_within_a_scoring_run_is_refused);
    tcase_add_test(all, a_save_from_an_observer_is_refused);
    tcase_add_test(all, each_write_that_fails_is_reported);
    tcase_add_test(all, each_read_that_fails_is_reported_and_changes_nothing);
    tcase_add_test(all, bytes_that_change_after_opening_are_found);
    tcase_add_test(all, each_allocation_that_fails_changes_nothing);
    tcase_add_test(all, a_save_that_fails_leaves_the_previous_file);
    tcase_add_test(all, memory_that_runs_out_in_a_save_leaves_the_previous_file);
    tcase_add_test(all, facts_and_blobs_are_read_back);
    suite_add_tcase(suite, all);
    return suite;
}
