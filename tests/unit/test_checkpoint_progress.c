/* SPDX-License-Identifier: MIT */
/*
 * Progress of saving, opening and restoring a checkpoint: it grows to all bytes, by path as by stream, and a host that wants
 * no more at any of its calls has its file, its handles and its memory as they were.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "resume.h"
#include "scratch.h"
#include "sets.h"

#define MOST_STEP (1 << 20)

typedef struct watch {
    int64_t calls;
    int64_t stop_at; /* call that answers no; -1 */
    uint64_t done;
    uint64_t total;
    lrk_checkpoint *checkpoint; /* tried from within [NULL] */
    lrk_checkpoint_file *file;  /* likewise                 */
} watch;

static int32_t see(void *user, uint64_t done, uint64_t total)
{
    watch *w = user;
    size_t n;
    ck_assert(done > w->done && done <= total && done - w->done <= MOST_STEP);
    ck_assert(w->calls == 0 || total == w->total);
    w->done = done;
    w->total = total;
    if (w->checkpoint != NULL)
        ck_assert_int_eq(lrk_checkpoint_save(w->checkpoint, "/nonexistent/x", NULL), LRK_ERR_BUSY);
    if (w->file != NULL)
        ck_assert_int_eq(lrk_checkpoint_read_blob(w->file, "history", NULL, 0, &n), LRK_ERR_BUSY);
    return w->calls++ == w->stop_at;
}

static lrk_checkpoint_options seen_by(watch *w)
{
    lrk_checkpoint_options options;
    ck_assert_int_eq(lrk_checkpoint_options_init(&options, sizeof options), LRK_OK);
    ck_assert(options.progress == NULL && options.flags == 0);
    options.user = w;
    options.progress = see;
    return options;
}

/* ---- a run with all kinds of sections, some larger than a buffer, one larger than a piece ----------------------------- */

#define BLOB_BYTES (2 * MOST_STEP + 12345)

static resume_run *run;
static scratch files;
static unsigned char *blob;

static void setup(void)
{
    resume_shape shape = resume_default();
    shape.toy.d = 300;
    shape.toy.f = 200;
    shape.toy.rank = 12;
    run = resume_create(&shape);
    toy_train(run->toy, 1);
    lrk_scores *scores;
    run->toy->cancel_at = 3;
    ck_assert_int_eq(lrk_estimator_run(run->estimator, 0, &scores), LRK_ERR_CANCELLED);
    ck_assert_int_eq(lrk_snapshot_create(run->toy->adapters, &run->best), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_set_snapshot(run->checkpoint, "best", run->best), LRK_OK);
    blob = malloc(BLOB_BYTES);
    ck_assert_ptr_nonnull(blob);
    memset(blob, 7, BLOB_BYTES);
    ck_assert_int_eq(lrk_checkpoint_set_blob(run->checkpoint, "large", blob, BLOB_BYTES), LRK_OK);
    scratch_init(&files);
}

static void teardown(void)
{
    scratch_fini(&files);
    resume_destroy(run);
    free(blob);
}

static const char *path(void)
{
    return scratch_path(&files, "run.lrk");
}

/* Something else than what was saved: gradients, the scoring run, a blob. */
static void move_on(void)
{
    lrk_estimator_reset(run->estimator);
    toy_train(run->toy, 2);
    run->history.step++;
}

/* ---- saving ------------------------------------------------------------------------------------------------------------ */

static int32_t count_bytes(void *user, const void *data, size_t n)
{
    (void)data;
    ck_assert_uint_le(n, MOST_STEP);
    *(uint64_t *)user += n;
    return 0;
}

static lrk_status save(bool by_path, const lrk_checkpoint_options *options, uint64_t *bytes)
{
    lrk_writer writer = {.struct_size = sizeof writer, .user = bytes, .write = count_bytes};
    *bytes = 0;
    if (!by_path) return lrk_checkpoint_write(run->checkpoint, &writer, options);
    size_t n = 0;
    lrk_status status = lrk_checkpoint_save(run->checkpoint, path(), options);
    if (status == LRK_OK) free(scratch_read(path(), &n));
    *bytes = n;
    return status;
}

START_TEST(saving_tells_of_every_byte)
{
    watch w = {.stop_at = -1, .checkpoint = run->checkpoint};
    const lrk_checkpoint_options options = seen_by(&w);
    uint64_t bytes;
    ck_assert_int_eq(save(_i == 1, &options, &bytes), LRK_OK);
    ck_assert_int_gt(w.calls, 4);
    ck_assert_uint_eq(w.done, w.total);
    ck_assert_uint_eq(w.total, bytes);
}
END_TEST

START_TEST(a_save_that_is_stopped_leaves_file_and_handles)
{
    watch all = {.stop_at = -1};
    lrk_checkpoint_options options = seen_by(&all);
    uint64_t bytes;
    size_t n, m;
    ck_assert_int_eq(save(true, NULL, &bytes), LRK_OK);
    char *before = scratch_read(path(), &n);
    move_on();
    ck_assert_int_eq(save(false, &options, &bytes), LRK_OK);
    resume_bytes moved = resume_save(run->checkpoint);
    int64_t live = run->toy->fault.live;
    for (int64_t at = 0; at < all.calls; at++) {
        watch w = {.stop_at = at};
        options.user = &w;
        sets_expect(run->toy->context, save(_i == 1, &options, &bytes), LRK_ERR_CANCELLED,
                    "progress() stopped writing after");
        ck_assert_int_eq(w.calls, at + 1);
        if (_i == 0) ck_assert_uint_eq(bytes, w.done);
        ck_assert_int_eq(run->toy->fault.live, live);
        ck_assert_int_eq(scratch_count(files.dir), 1);
        char *after = scratch_read(path(), &m);
        ck_assert_uint_eq(m, n);
        ck_assert_mem_eq(after, before, n);
        free(after);
        resume_bytes same = resume_save(run->checkpoint);
        ck_assert(resume_same(&same, &moved));
        free(same.data);
    }
    free(before);
    free(moved.data);
}
END_TEST

/* ---- changes while it is saved ------------------------------------------------------------------------------------------- */

typedef struct meddler {
    int64_t calls;
    int64_t at; /* call that changes something */
    int what;
} meddler;

/* None changes the bytes of a section. */
#define CHANGES 4

static void change(int what)
{
    lrk_schedule_event event = {.struct_size = sizeof event};
    switch (what) {
    case 0:
        toy_train(run->toy, 2);
        break;
    case 1:
        sets_tensor(run->toy->adapters, 0, LRK_TENSOR_A).data[0] += 1;
        break;
    case 2:
        ck_assert_int_eq(lrk_schedule_step(run->schedule, &event), LRK_OK);
        break;
    default:
        blob[BLOB_BYTES - 1]++;
    }
}

static int32_t meddle(void *user, uint64_t done, uint64_t total)
{
    meddler *m = user;
    (void)done, (void)total;
    if (m->calls++ == m->at) change(m->what);
    return 0;
}

static int32_t meddle_as_writer(void *user, const void *data, size_t n)
{
    (void)data;
    return meddle(user, 0, n);
}

static lrk_status save_meddled(bool by_path, meddler *m)
{
    const lrk_checkpoint_options options = {.struct_size = sizeof options, .user = m, .progress = meddle};
    const lrk_writer writer = {.struct_size = sizeof writer, .user = m, .write = meddle_as_writer};
    if (by_path) return lrk_checkpoint_save(run->checkpoint, path(), &options);
    return lrk_checkpoint_write(run->checkpoint, &writer, NULL);
}

/* Whichever call it comes in, before its section is written or after. */
START_TEST(a_change_of_what_is_saved_is_noticed)
{
    bool by_path = _i >= CHANGES;
    int64_t calls = 1;
    for (int64_t at = 0; at < calls; at++) {
        meddler m = {.at = -1};
        size_t n, now;
        ck_assert_int_eq(lrk_checkpoint_save(run->checkpoint, path(), NULL), LRK_OK);
        char *before = scratch_read(path(), &n);
        ck_assert_int_eq(save_meddled(by_path, &m), LRK_OK);
        calls = m.calls;
        m = (meddler){.at = at, .what = _i % CHANGES};
        blob[0]++; /* between two saves anything may change */
        sets_expect(run->toy->context, save_meddled(by_path, &m), LRK_ERR_HOST,
                    "changed while it was written");
        char *after = scratch_read(path(), &now);
        ck_assert_int_eq(scratch_count(files.dir), 1);
        ck_assert_uint_eq(now, n);
        ck_assert_mem_eq(after, before, n);
        free(after);
        free(before);
        teardown();
        setup();
    }
    ck_assert_int_gt(calls, 4);
}
END_TEST

/* What would free or move what is read. */
static int32_t try_to_move(void *user, uint64_t done, uint64_t total)
{
    int64_t *calls = user;
    lrk_context *context = run->toy->context;
    lrk_scores *scores;
    (void)done, (void)total;
    ++*calls;
    sets_expect(context, lrk_optimizer_step(run->optimizer, 0.1), LRK_ERR_BUSY, "callback");
    sets_expect(context, lrk_estimator_run(run->estimator, 0, &scores), LRK_ERR_BUSY, "of a save");
    sets_expect(context, lrk_snapshot_restore(run->best, run->toy->adapters), LRK_ERR_BUSY, "callback");
    lrk_estimator_reset(run->estimator);
    return 0;
}

START_TEST(what_would_free_what_is_saved_is_refused)
{
    int64_t calls = 0;
    lrk_checkpoint_options options = {.struct_size = sizeof options, .user = &calls, .progress = try_to_move};
    size_t n, m;
    ck_assert_int_eq(lrk_checkpoint_save(run->checkpoint, path(), NULL), LRK_OK);
    char *before = scratch_read(path(), &n);
    ck_assert_int_eq(lrk_checkpoint_save(run->checkpoint, path(), &options), LRK_OK);
    char *after = scratch_read(path(), &m);
    ck_assert_uint_eq(m, n);
    ck_assert_mem_eq(after, before, n);
    ck_assert_int_gt(calls, 2);
    free(after);
    free(before);
    ck_assert_int_eq(lrk_optimizer_step(run->optimizer, 0.1), LRK_OK); /* nothing stays held */
}
END_TEST

static int32_t try_inner(void *user, uint64_t done, uint64_t total)
{
    lrk_estimator *const *pair = user;
    lrk_scores *scores;
    (void)done, (void)total;
    for (int i = 0; i < 2; i++)
        sets_expect(run->toy->context, lrk_estimator_run(pair[i], 0, &scores), LRK_ERR_BUSY, "of a save");
    lrk_estimator_reset(pair[0]);
    return 0;
}

/* What is saved of an estimator that alters the scores of another is the other's run. */
START_TEST(the_run_of_an_inner_estimator_is_kept_too)
{
    lrk_estimator *pair[2] = {NULL, run->estimator};
    lrk_checkpoint_options options = {.struct_size = sizeof options, .user = pair, .progress = try_inner};
    lrk_checkpoint *list;
    size_t n, m;
    ck_assert_int_eq(lrk_estimator_create_reversed(run->estimator, &pair[0]), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_create(run->toy->context, &list), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(list, "set", run->toy->adapters), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_estimator(list, "reversed", pair[0]), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_save(list, path(), NULL), LRK_OK);
    char *before = scratch_read(path(), &n);
    ck_assert_int_eq(lrk_checkpoint_save(list, path(), &options), LRK_OK);
    char *after = scratch_read(path(), &m);
    ck_assert_uint_eq(m, n);
    ck_assert_mem_eq(after, before, n);
    free(after);
    free(before);
    lrk_checkpoint_destroy(list);
    lrk_estimator_destroy(pair[0]);
}
END_TEST

/* ---- opening ----------------------------------------------------------------------------------------------------------- */

static resume_bytes saved(void)
{
    ck_assert_int_eq(lrk_checkpoint_save(run->checkpoint, path(), NULL), LRK_OK);
    return resume_save(run->checkpoint);
}

static lrk_status open_one(bool by_path, const resume_bytes *bytes, const lrk_checkpoint_options *options,
                           lrk_checkpoint_file **file)
{
    lrk_reader reader = {.struct_size = sizeof reader};
    ck_assert_int_eq(lrk_reader_memory(&reader, bytes->data, bytes->n), LRK_OK);
    return by_path ? lrk_checkpoint_open(run->toy->context, path(), options, file)
                   : lrk_checkpoint_open_reader(run->toy->context, &reader, options, file);
}

START_TEST(opening_tells_of_every_byte_and_can_be_stopped)
{
    watch all = {.stop_at = -1};
    lrk_checkpoint_options options = seen_by(&all);
    lrk_checkpoint_file *file;
    resume_bytes bytes = saved();
    ck_assert_int_eq(open_one(_i == 1, &bytes, &options, &file), LRK_OK);
    ck_assert_uint_eq(all.done, all.total);
    ck_assert_uint_eq(all.total, bytes.n);
    lrk_checkpoint_close(file);
    int64_t live = run->toy->fault.live;
    for (int64_t at = 0; at < all.calls; at++) {
        watch w = {.stop_at = at};
        options.user = &w;
        sets_expect(run->toy->context, open_one(_i == 1, &bytes, &options, &file), LRK_ERR_CANCELLED,
                    "progress() stopped opening after");
        ck_assert_int_eq(w.calls, at + 1);
        ck_assert_ptr_null(file);
        ck_assert_int_eq(run->toy->fault.live, live);
    }
    free(bytes.data);
}
END_TEST

/* What is damaged is not told as verified: progress ends before the section. */
START_TEST(damage_is_not_counted_as_verified)
{
    watch w = {.stop_at = -1};
    const lrk_checkpoint_options options = seen_by(&w);
    lrk_checkpoint_file *file;
    resume_bytes bytes = saved();
    bytes.data[bytes.n - 1] ^= 1;
    ck_assert_int_eq(open_one(false, &bytes, &options, &file), LRK_ERR_FORMAT);
    ck_assert_uint_eq(w.total, bytes.n);
    ck_assert_uint_lt(w.done, w.total);
    free(bytes.data);
}
END_TEST

/* ---- restoring ----------------------------------------------------------------------------------------------------------- */

START_TEST(restoring_tells_of_every_byte_and_can_be_stopped)
{
    watch all = {.stop_at = -1, .checkpoint = run->checkpoint};
    lrk_checkpoint_options options = seen_by(&all);
    lrk_checkpoint_file *file;
    resume_bytes bytes = saved();
    ck_assert_int_eq(open_one(_i == 1, &bytes, NULL, &file), LRK_OK);
    all.file = file;
    ck_assert_int_eq(lrk_checkpoint_restore(file, run->checkpoint, &options), LRK_OK);
    ck_assert_int_gt(all.calls, 4);
    ck_assert_uint_eq(all.done, all.total);
    ck_assert_uint_lt(all.total, bytes.n - BLOB_BYTES);
    move_on();
    resume_bytes moved = resume_save(run->checkpoint);
    int64_t live = run->toy->fault.live;
    for (int64_t at = 0; at < all.calls; at++) {
        watch w = {.stop_at = at};
        options.user = &w;
        sets_expect(run->toy->context, lrk_checkpoint_restore(file, run->checkpoint, &options),
                    LRK_ERR_CANCELLED, "progress() stopped restoring after");
        ck_assert_int_eq(w.calls, at + 1);
        ck_assert_int_eq(run->toy->fault.live, live);
        resume_bytes same = resume_save(run->checkpoint);
        ck_assert(resume_same(&same, &moved));
        free(same.data);
    }
    ck_assert_int_eq(lrk_checkpoint_restore(file, run->checkpoint, NULL), LRK_OK);
    run->history.step--;
    resume_bytes back = resume_save(run->checkpoint);
    ck_assert(!resume_same(&back, &moved));
    free(back.data);
    free(moved.data);
    free(bytes.data);
    lrk_checkpoint_close(file);
}
END_TEST

static int32_t open_pass(void *user, uint64_t done, uint64_t total)
{
    lrk_pass **pass = user;
    lrk_pass_options options;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.max_rows = 8;
    if (done < total && *pass == NULL)
        ck_assert_int_eq(lrk_pass_begin(run->toy->adapters, &options, pass), LRK_OK);
    return 0;
}

/* Nothing is taken over under a pass, though it was opened after restoring had begun. */
START_TEST(a_pass_that_progress_opens_keeps_the_set_as_it_is)
{
    lrk_pass *pass = NULL;
    lrk_checkpoint_options options = {.struct_size = sizeof options, .user = &pass, .progress = open_pass};
    lrk_checkpoint_file *file;
    resume_bytes bytes = saved();
    ck_assert_int_eq(open_one(false, &bytes, NULL, &file), LRK_OK);
    move_on();
    resume_bytes moved = resume_save(run->checkpoint);
    lrk_status status = lrk_checkpoint_restore(file, run->checkpoint, &options);
    ck_assert_ptr_nonnull(pass);
    sets_expect(run->toy->context, status, LRK_ERR_BUSY, "pass");
    lrk_pass_end(pass);
    resume_bytes same = resume_save(run->checkpoint);
    ck_assert(resume_same(&same, &moved));
    ck_assert_int_eq(lrk_checkpoint_restore(file, run->checkpoint, NULL), LRK_OK);
    free(same.data);
    free(moved.data);
    free(bytes.data);
    lrk_checkpoint_close(file);
}
END_TEST

/* Sections that are left out count too, where they are looked at: the last call has all. Those of handles are not. */
START_TEST(a_partial_restore_comes_to_its_end)
{
    watch w = {.stop_at = -1};
    lrk_checkpoint_options options = seen_by(&w);
    lrk_checkpoint_file *file;
    lrk_checkpoint *empty;
    resume_bytes bytes = saved();
    lrk_checkpoint_section section = {.struct_size = sizeof section};
    uint64_t snapshot = 0;
    ck_assert_int_eq(lrk_checkpoint_create(run->toy->context, &empty), LRK_OK);
    ck_assert_int_eq(open_one(false, &bytes, NULL, &file), LRK_OK);
    for (int64_t i = 0; lrk_checkpoint_section_get(file, i, &section) == LRK_OK; i++)
        if (section.kind == LRK_SECTION_SNAPSHOT) snapshot = section.bytes;
    ck_assert_uint_gt(snapshot, 65536); /* what is left of it is passed over */
    options.flags = LRK_RESTORE_PARTIAL;
    ck_assert_int_eq(lrk_checkpoint_restore(file, empty, &options), LRK_OK);
    ck_assert_int_eq(w.calls, 2);
    ck_assert_uint_eq(w.done, w.total);
    ck_assert_uint_eq(w.total, snapshot + 4);
    w = (watch){.stop_at = 1};
    sets_expect(run->toy->context, lrk_checkpoint_restore(file, empty, &options), LRK_ERR_CANCELLED,
                "restoring");
    lrk_checkpoint_close(file);
    lrk_checkpoint_destroy(empty);
    free(bytes.data);
}
END_TEST

START_TEST(a_tensor_larger_than_a_piece_is_read_in_pieces)
{
    watch w = {.stop_at = -1};
    const lrk_checkpoint_options options = seen_by(&w);
    const lrk_module_spec spec = sets_spec("wide", 600000, 1, 1); /* A has 2.4 MB */
    lrk_adapters *set = sets_create(run->toy->context, &spec, 1, NULL);
    lrk_checkpoint *list;
    lrk_checkpoint_file *file;
    lrk_tensor a = sets_tensor(set, 0, LRK_TENSOR_A);
    float last = a.data[a.cols - 1];
    ck_assert_int_eq(lrk_checkpoint_create(run->toy->context, &list), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(list, "wide", set), LRK_OK);
    resume_bytes bytes = resume_save(list);
    a.data[a.cols - 1] += 1;
    ck_assert_int_eq(lrk_adapters_values_changed(set), LRK_OK);
    ck_assert_int_eq(open_one(false, &bytes, NULL, &file), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_restore(file, list, &options), LRK_OK);
    ck_assert_uint_eq(w.done, w.total);
    a = sets_tensor(set, 0, LRK_TENSOR_A);
    ck_assert_float_eq(a.data[a.cols - 1], last);
    lrk_checkpoint_close(file);
    lrk_checkpoint_destroy(list);
    lrk_adapters_destroy(set);
    free(bytes.data);
}
END_TEST

/* ---- what else may happen ---------------------------------------------------------------------------------------------- */

/* One kind of call a test: save, restore, open. */
static lrk_status do_call(int kind, lrk_checkpoint_file *file, const lrk_checkpoint_options *options)
{
    lrk_checkpoint_file *opened;
    if (kind == 0) return lrk_checkpoint_save(run->checkpoint, path(), options);
    if (kind == 1) return lrk_checkpoint_restore(file, run->checkpoint, options);
    lrk_status status = lrk_checkpoint_open(run->toy->context, path(), options, &opened);
    lrk_checkpoint_close(opened);
    return status;
}

START_TEST(each_allocation_that_fails_beside_progress_changes_nothing)
{
    watch w;
    const lrk_checkpoint_options options = seen_by(&w);
    fault *f = &run->toy->fault;
    lrk_checkpoint_file *file;
    resume_bytes bytes = saved(), before;
    ck_assert_int_eq(open_one(true, &bytes, NULL, &file), LRK_OK);
    ck_assert_int_eq(do_call(1, file, NULL), LRK_OK);
    move_on();
    before = resume_save(run->checkpoint);
    for (int64_t i = 0;; i++) {
        int64_t live = f->live;
        w = (watch){.stop_at = -1};
        f->alloc.calls = 0;
        f->alloc.fail_at = i;
        lrk_status status = do_call(_i, file, &options);
        f->alloc.fail_at = -1;
        if (status == LRK_OK) break;
        ck_assert_int_eq(status, LRK_ERR_NOMEM);
        ck_assert_int_eq(f->live, live);
        resume_bytes same = resume_save(run->checkpoint);
        ck_assert(resume_same(&same, &before));
        free(same.data);
    }
    ck_assert_uint_eq(w.done, w.total);
    lrk_checkpoint_close(file);
    free(before.data);
    free(bytes.data);
}
END_TEST

START_TEST(options_that_no_one_knows_are_refused)
{
    resume_bytes bytes = saved();
    lrk_checkpoint_file *file, *opened;
    ck_assert_int_eq(open_one(true, &bytes, NULL, &file), LRK_OK);
    lrk_checkpoint_options options = {.struct_size = sizeof options, .flags = 0x2};
    for (int kind = 0; kind < 3; kind++)
        sets_expect(run->toy->context, do_call(kind, file, &options), LRK_ERR_ARGUMENT, "unknown flags");
    options.flags = LRK_RESTORE_PARTIAL;
    ck_assert_int_eq(lrk_checkpoint_save(run->checkpoint, path(), &options), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_checkpoint_open(run->toy->context, path(), &options, &opened), LRK_ERR_ARGUMENT);
    ck_assert_ptr_null(opened);
    const struct {
        lrk_checkpoint_options options;
        uint64_t tail;
    } later = {{.struct_size = sizeof later}, 1};
    for (int kind = 0; kind < 3; kind++)
        sets_expect(run->toy->context, do_call(kind, file, &later.options), LRK_ERR_VERSION,
                    "lrk_checkpoint_options");
    ck_assert_int_eq(lrk_checkpoint_options_init(NULL, sizeof options), LRK_ERR_ARGUMENT);
    lrk_checkpoint_close(file);
    free(bytes.data);
}
END_TEST

Suite *checkpoint_progress_suite(void);

Suite *checkpoint_progress_suite(void)
{
    Suite *suite = suite_create("checkpoint_progress");
    TCase *all = tcase_create("checkpoint_progress");
    tcase_set_timeout(all, 120);
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_loop_test(all, saving_tells_of_every_byte, 0, 2);
    tcase_add_loop_test(all, a_save_that_is_stopped_leaves_file_and_handles, 0, 2);
    tcase_add_loop_test(all, a_change_of_what_is_saved_is_noticed, 0, 2 * CHANGES);
    tcase_add_test(all, what_would_free_what_is_saved_is_refused);
    tcase_add_test(all, the_run_of_an_inner_estimator_is_kept_too);
    tcase_add_loop_test(all, opening_tells_of_every_byte_and_can_be_stopped, 0, 2);
    tcase_add_test(all, damage_is_not_counted_as_verified);
    tcase_add_loop_test(all, restoring_tells_of_every_byte_and_can_be_stopped, 0, 2);
    tcase_add_test(all, a_partial_restore_comes_to_its_end);
    tcase_add_test(all, a_pass_that_progress_opens_keeps_the_set_as_it_is);
    tcase_add_test(all, a_tensor_larger_than_a_piece_is_read_in_pieces);
    tcase_add_loop_test(all, each_allocation_that_fails_beside_progress_changes_nothing, 0, 3);
    tcase_add_test(all, options_that_no_one_knows_are_refused);
    suite_add_tcase(suite, all);
    return suite;
}
