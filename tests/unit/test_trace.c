/* SPDX-License-Identifier: MIT */
/*
 * Traces: the exact bytes of every event, the same from a file and a callback, births across rounds, and failures that
 * leave whole lines.
 */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "fault.h"
#include "importance/importance.h"
#include "json_fault.h"
#include "lorank/lorank.h"
#include "scratch.h"
#include "sets.h"

typedef struct lines {
    char text[16384];
    size_t n;
    int calls;
    int fail_at; /* call that fails, -1 */
} lines;

static fault host;
static lrk_context *context;
static scratch files;
static lrk_adapters *adapters;
static lines out;

static int32_t keep(void *user, const char *line, size_t length)
{
    lines *to = user;
    if (to->calls++ == to->fail_at) return 7;
    ck_assert_uint_gt(length, 0);
    ck_assert_int_eq(line[length - 1], '\n');
    ck_assert(memchr(line, '\n', length) == line + length - 1);
    ck_assert_uint_lt(to->n + length, sizeof to->text);
    memcpy(to->text + to->n, line, length);
    to->n += length;
    to->text[to->n] = '\0';
    return 0;
}

static void setup(void)
{
    lrk_module_spec specs[3];
    fault_reset(&host);
    context = fault_context(&host);
    scratch_init(&files);
    sets_three(specs);
    specs[1].scale = 0.1;
    adapters = sets_create(context, specs, 3, NULL);
    memset(&out, 0, sizeof out);
    out.fail_at = -1;
}

static void teardown(void)
{
    lrk_adapters_destroy(adapters);
    lrk_context_destroy(context);
    scratch_fini(&files);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static lrk_trace *create(const char *label)
{
    lrk_trace *trace;
    ck_assert_int_eq(lrk_trace_create(adapters, keep, &out, label, &trace), LRK_OK);
    return trace;
}

/* What was written since `from`. */
static const char *since(size_t from)
{
    return out.text + from;
}

/* ---- the bytes ---- */

static const char start_line[] =
    "{\"event\":\"start\",\"format\":1,\"lorank\":\"0.1.0\",\"label\":\"run "
    "\\\"x\\\"\",\"ranks\":5,\"parameters\":46,"
    "\"modules\":["
    "{\"name\":\"a\",\"stage\":0,\"n_in\":5,\"n_out\":3,\"rank\":2,\"scale\":1.0,\"ranks\":[[1,0],[2,0]]},"
    "{\"name\":\"b\",\"stage\":1,\"n_in\":4,\"n_out\":6,\"rank\":3,\"scale\":0.10000000000000001,"
    "\"ranks\":[[3,0],[4,0],[5,0]]},"
    "{\"name\":\"c\",\"stage\":2,\"n_in\":7,\"n_out\":2,\"rank\":0,\"scale\":1.0,\"ranks\":[]}]}\n";

START_TEST(start_value_and_end_are_as_documented)
{
    lrk_trace *trace = create("run \"x\"");
    ck_assert_str_eq(out.text, start_line);
    size_t at = out.n;
    ck_assert_int_eq(lrk_trace_value(trace, "train_loss", 7, 0.1), LRK_OK);
    ck_assert_str_eq(
        since(at),
        "{\"event\":\"value\",\"name\":\"train_loss\",\"step\":7,\"value\":0.10000000000000001}\n");
    at = out.n;
    ck_assert_int_eq(lrk_trace_value(trace, "x", 8, NAN), LRK_OK);
    ck_assert_int_eq(lrk_trace_value(trace, "x", 8, -INFINITY), LRK_OK);
    ck_assert_str_eq(since(at), "{\"event\":\"value\",\"name\":\"x\",\"step\":8,\"value\":null}\n"
                                "{\"event\":\"value\",\"name\":\"x\",\"step\":8,\"value\":null}\n");
    at = out.n;
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    ck_assert_str_eq(since(at), "{\"event\":\"end\",\"ranks\":5,\"parameters\":46,"
                                "\"modules\":[[[1,0],[2,0]],[[3,0],[4,0],[5,0]],[]]}\n");
}
END_TEST

START_TEST(no_label_is_null)
{
    lrk_trace *trace = create(NULL);
    ck_assert_ptr_nonnull(strstr(out.text, "\"label\":null,"));
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_close(NULL), LRK_OK);
}
END_TEST

/* ---- rounds ---- */

static lrk_scores *scores_of(const double *values)
{
    lrk_scores *scores;
    ck_assert_int_eq(lrk_scores_create(adapters, values, sets_info(adapters).ranks, &scores), LRK_OK);
    return scores;
}

/* One round with the given scores; traced before or after commit. */
static void play_round(lrk_trace *trace, lrk_allocator *allocator, const lrk_scores *scores, int64_t step,
                       bool before)
{
    lrk_plan *plan;
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, step, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    if (before) ck_assert_int_eq(lrk_trace_round(trace, scores, plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    if (!before) ck_assert_int_eq(lrk_trace_round(trace, scores, plan), LRK_OK);
    lrk_plan_destroy(plan);
}

START_TEST(a_round_is_as_documented)
{
    const double values[] = {5, 1, 4, 2, 3};
    lrk_trace *trace = create(NULL);
    lrk_allocator *allocator = sets_alora(adapters, 1);
    lrk_scores *scores = scores_of(values);
    lrk_score *second = &scores->scores[1];
    second->t1 = 0.25;
    second->t2 = 0.75;
    second->noise = 0.5;
    second->flags = LRK_SCORE_EXACT | LRK_SCORE_BELOW_FLOOR;
    scores->info.loss_all = 3.5;
    scores->info.loss_none = 4;
    scores->info.n_exact = 1;
    scores->info.evaluations = 4;
    scores->info.differentiations = 2;
    size_t at = out.n;
    play_round(trace, allocator, scores, 60, _i == 1);
    ck_assert_str_eq(
        since(at),
        "{\"event\":\"round\",\"round\":0,\"step\":60,\"estimator\":\"host\",\"loss_all\":3.5,\"loss_none\":"
        "4.0,"
        "\"noise_floor\":null,\"split_correlation\":null,\"evaluations\":4,\"differentiations\":2,\"n_"
        "exact\":1,"
        "\"policy\":\"alora\",\"cut\":1.0,\"cut_next\":2.0,\"ranks_before\":5,\"ranks_after\":5,"
        "\"parameters_before\":46,\"parameters_after\":48,"
        "\"dropped\":[{\"identity\":2,\"module\":0,\"score\":1.0,\"birth\":0}],"
        "\"added\":[{\"identity\":6,\"module\":1}],"
        "\"receivers\":[{\"module\":1,\"n\":1,\"mean\":3.0}],\"module_ranks\":[1,4,0],"
        "\"scores\":[[1,0,5.0,null,null,null,null,false,false],[2,0,1.0,0.25,0.75,0.5,null,true,true],"
        "[3,1,4.0,null,null,null,null,false,false],[4,1,2.0,null,null,null,null,false,false],"
        "[5,1,3.0,null,null,null,null,false,false]]}\n");
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
}
END_TEST

START_TEST(a_dropped_rank_keeps_its_birth)
{
    const double values[] = {5, 1, 4, 2, 3}, later[] = {5, 4, 2, 3, 1};
    lrk_trace *trace = create(NULL);
    lrk_allocator *allocator = sets_alora(adapters, 1);
    lrk_scores *scores = scores_of(values);
    play_round(trace, allocator, scores, 60, _i == 1);
    lrk_scores_destroy(scores);
    scores = scores_of(later);
    size_t at = out.n;
    play_round(trace, allocator, scores, 90, _i == 1);
    ck_assert_ptr_nonnull(
        strstr(since(at), "\"dropped\":[{\"identity\":6,\"module\":1,\"score\":1.0,\"birth\":60}]"));
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
}
END_TEST

START_TEST(means_of_receivers_are_of_one_kind)
{
    const double values[] = {5, 1, 4, 2, 3};
    lrk_trace *trace = create(NULL);
    lrk_allocator *allocator = sets_alora(adapters, 1);
    lrk_scores *scores = scores_of(values);
    for (int i = 0; i < 5; i++)
        scores->scores[i].estimate = 10 * values[i];
    scores->scores[1].flags = LRK_SCORE_EXACT;
    size_t at = out.n;
    play_round(trace, allocator, scores, 60, false);
    ck_assert_ptr_nonnull(strstr(since(at), "\"receivers\":[{\"module\":1,\"n\":1,\"mean\":30.0}]"));
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
}
END_TEST

START_TEST(a_file_gets_the_same_bytes_and_is_replaced)
{
    size_t n;
    lrk_trace *trace;
    char *path = strdup(scratch_path(&files, "trace.jsonl"));
    scratch_write(path, "old\n", 4);
    ck_assert_int_eq(lrk_trace_open(adapters, path, "run \"x\"", &trace), LRK_OK);
    lrk_trace *other = create("run \"x\"");
    ck_assert_int_eq(lrk_trace_value(trace, "l", 1, 2.5), LRK_OK);
    ck_assert_int_eq(lrk_trace_value(other, "l", 1, 2.5), LRK_OK);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_close(other), LRK_OK);
    char *text = scratch_read(path, &n);
    ck_assert_str_eq(text, out.text);
    free(text);
    free(path);
}
END_TEST

/* ---- the observer ---- */

static int32_t fixed_scores(void *user, const uint64_t *identities, double *scores, int64_t n)
{
    (void)user;
    for (int64_t i = 0; i < n; i++)
        scores[i] = (double)identities[i];
    return 0;
}

START_TEST(the_observer_writes_the_round)
{
    lrk_trace *trace = create(NULL);
    lrk_round_binding binding;
    lrk_round_observer observer = {.struct_size = sizeof observer};
    lrk_custom_estimator custom = {sizeof custom, 0, NULL, "by identity", fixed_scores};
    lrk_schedule_event event = {.struct_size = sizeof event};
    lrk_round_binding_init(&binding, sizeof binding);
    ck_assert_int_eq(lrk_estimator_create_custom(adapters, &custom, &binding.estimator), LRK_OK);
    binding.allocator = sets_alora(adapters, 1);
    ck_assert_int_eq(lrk_trace_observer(trace, &observer), LRK_OK);
    binding.observers = &observer;
    binding.n_observers = 1;
    size_t at = out.n;
    ck_assert_int_eq(lrk_round_run(&binding, 0, 30, &event), LRK_OK);
    ck_assert_ptr_nonnull(strstr(since(at), "\"round\":0,\"step\":30,\"estimator\":\"by identity\""));
    ck_assert_ptr_nonnull(strstr(since(at), "\"dropped\":[{\"identity\":1,"));
    out.fail_at = out.calls;
    ck_assert_int_eq(lrk_round_run(&binding, 1, 60, &event), LRK_ERR_HOST);
    ck_assert_int_eq(event.kind, LRK_EVENT_ROUND_DONE);
    lrk_estimator_destroy(binding.estimator);
    lrk_allocator_destroy(binding.allocator);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
}
END_TEST

/* ---- misuse ---- */

START_TEST(wrong_arguments_are_named)
{
    lrk_trace *trace;
    lrk_round_observer observer = {.struct_size = sizeof observer};
    const char *path = scratch_path(&files, "t");
    ck_assert_int_eq(lrk_trace_open(NULL, path, NULL, &trace), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_trace_open(adapters, path, NULL, NULL), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_trace_open(adapters, NULL, NULL, &trace), LRK_ERR_ARGUMENT, "path");
    sets_expect(context, lrk_trace_open(adapters, path, "\xff", &trace), LRK_ERR_ARGUMENT, "label");
    ck_assert_int_eq(lrk_trace_create(NULL, keep, &out, NULL, &trace), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_trace_create(adapters, keep, &out, NULL, NULL), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_trace_create(adapters, NULL, &out, NULL, &trace), LRK_ERR_ARGUMENT, "write");
    sets_expect(context, lrk_trace_create(adapters, keep, &out, "\xc0\x80", &trace), LRK_ERR_ARGUMENT,
                "label");
    ck_assert(!scratch_exists(path));
    ck_assert_int_eq(lrk_trace_value(NULL, "x", 0, 0), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_trace_round(NULL, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_trace_observer(NULL, &observer), LRK_ERR_ARGUMENT);
    trace = create(NULL);
    sets_expect(context, lrk_trace_value(trace, NULL, 0, 0), LRK_ERR_ARGUMENT, "name");
    sets_expect(context, lrk_trace_value(trace, "\xed\xa0\x80", 0, 0), LRK_ERR_ARGUMENT, "name");
    sets_expect(context, lrk_trace_round(trace, NULL, NULL), LRK_ERR_ARGUMENT, "scores or plan");
    sets_expect(context, lrk_trace_observer(trace, NULL), LRK_ERR_ARGUMENT, "lrk_round_observer");
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
}
END_TEST

START_TEST(scores_and_plans_of_others_are_refused)
{
    const double values[] = {5, 1, 4, 2, 3};
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *others = sets_create(context, specs, 3, NULL);
    lrk_trace *trace;
    lrk_plan *plan;
    ck_assert_int_eq(lrk_trace_create(others, keep, &out, NULL, &trace), LRK_OK);
    lrk_allocator *allocator = sets_alora(adapters, 1);
    lrk_scores *scores = scores_of(values);
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, 1, &plan), LRK_OK);
    sets_expect(context, lrk_trace_round(trace, scores, plan), LRK_ERR_ARGUMENT, "another set");
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    trace = create(NULL);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_scores *newer = scores_of(values);
    sets_expect(context, lrk_trace_round(trace, newer, plan), LRK_ERR_ARGUMENT, "not made from these scores");
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    lrk_scores_destroy(newer);
    lrk_scores_destroy(scores);
    lrk_plan_destroy(plan);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(others);
}
END_TEST

/* ---- failures ---- */

START_TEST(a_callback_that_fails_is_told_and_the_trace_goes_on)
{
    lrk_trace *trace = (lrk_trace *)&host;
    out.fail_at = 0;
    sets_expect(context, lrk_trace_create(adapters, keep, &out, NULL, &trace), LRK_ERR_HOST, "returned 7");
    ck_assert_ptr_null(trace);
    out.fail_at = 2;
    trace = create(NULL);
    sets_expect(context, lrk_trace_value(trace, "x", 1, 1), LRK_ERR_HOST, "returned 7");
    ck_assert_int_eq(lrk_trace_value(trace, "x", 2, 1), LRK_OK);
    out.fail_at = 4;
    ck_assert_int_eq(lrk_trace_close(trace), LRK_ERR_HOST);
}
END_TEST

START_TEST(a_file_that_cannot_be_made_is_named)
{
    lrk_trace *trace = (lrk_trace *)&host;
    sets_expect(context, lrk_trace_open(adapters, scratch_path(&files, "no/t"), NULL, &trace), LRK_ERR_IO,
                "no/t");
    ck_assert_ptr_null(trace);
}
END_TEST

START_TEST(a_full_disk_leaves_whole_lines)
{
    size_t n;
    struct rlimit limit, least;
    lrk_trace *trace;
    char *path = strdup(scratch_path(&files, "trace.jsonl"));
    ck_assert_int_eq(lrk_trace_open(adapters, path, NULL, &trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_value(trace, "first", 1, 1), LRK_OK);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    free(scratch_read(path, &n));
    least = limit;
    least.rlim_cur = n + 10;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &least), 0);
    lrk_status status = lrk_trace_value(trace, "second", 2, 1);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, SIG_DFL);
    sets_expect(context, status, LRK_ERR_IO, "trace.jsonl");
    ck_assert_int_eq(lrk_trace_value(trace, "third", 3, 1), LRK_OK);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    char *text = scratch_read(path, &n);
    ck_assert_ptr_null(strstr(text, "second"));
    ck_assert_ptr_nonnull(
        strstr(text, "\"first\",\"step\":1,\"value\":1.0}\n{\"event\":\"value\",\"name\":\"third\""));
    free(text);
    free(path);
}
END_TEST

static lrk_status act(void *user)
{
    const double values[] = {5, 1, 4, 2, 3};
    lrk_trace *trace;
    lrk_plan *plan = NULL;
    (void)user;
    out.n = 0;
    lrk_status status = lrk_trace_open(adapters, scratch_path(&files, "f.jsonl"), "x", &trace);
    if (status != LRK_OK) return status;
    lrk_allocator *allocator = NULL;
    lrk_alora_options options;
    lrk_scores *scores = NULL;
    lrk_alora_options_init(&options, sizeof options);
    options.n_move = 2;
    status = lrk_allocator_create_alora(adapters, &options, &allocator);
    if (status == LRK_OK) status = lrk_scores_create(adapters, values, 5, &scores);
    if (status == LRK_OK) status = lrk_allocator_plan(allocator, scores, 1, &plan);
    if (status == LRK_OK) status = lrk_trace_round(trace, scores, plan);
    if (status == LRK_OK) status = lrk_trace_value(trace, "x", 1, 0.5);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    lrk_status closed = lrk_trace_close(trace);
    return status == LRK_OK ? closed : status;
}

static void undo(void *user)
{
    (void)user;
}

START_TEST(each_lack_of_memory_is_reported_and_leaves_nothing)
{
    sets_each_fault(&host, act, undo, NULL);
    json_each_fault(act, undo, NULL, false);
}
END_TEST

/* ---- going on ---- */

/* A file that is gone on with gets the bytes of the one that never stopped, whatever was written after the point. */
START_TEST(a_trace_goes_on_from_where_it_was_saved)
{
    lrk_trace *trace;
    uint64_t length;
    size_t n, m;
    char whole_path[SCRATCH_PATH];
    snprintf(whole_path, sizeof whole_path, "%s", scratch_path(&files, "whole"));
    ck_assert_int_eq(lrk_trace_open(adapters, whole_path, "x", &trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_value(trace, "loss", 1, 0.5), LRK_OK);
    ck_assert_int_eq(lrk_trace_value(trace, "loss", 2, 0.25), LRK_OK);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    char *whole = scratch_read(whole_path, &n);
    const char *path = scratch_path(&files, "stopped");
    ck_assert_int_eq(lrk_trace_open(adapters, path, "x", &trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_value(trace, "loss", 1, 0.5), LRK_OK);
    ck_assert_int_eq(lrk_trace_sync(trace, &length), LRK_OK);
    ck_assert_int_eq(lrk_trace_value(trace, "lost", 2, 9), LRK_OK);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_resume(adapters, path, length, &trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_value(trace, "loss", 2, 0.25), LRK_OK);
    ck_assert_int_eq(lrk_trace_sync(trace, NULL), LRK_OK);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    char *stopped = scratch_read(path, &m);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(whole, stopped, n);
    free(whole);
    free(stopped);
}
END_TEST

START_TEST(a_trace_that_cannot_go_on_says_why)
{
    lrk_trace *trace;
    const char *path = scratch_path(&files, "t");
    scratch_write(path, "{}\n{}\n", 6);
    sets_expect(context, lrk_trace_resume(adapters, path, 7, &trace), LRK_ERR_FORMAT,
                "has 6 bytes and had 7");
    ck_assert_ptr_null(trace);
    sets_expect(context, lrk_trace_resume(adapters, path, 4, &trace), LRK_ERR_FORMAT,
                "byte 4 is no end of a line");
    size_t n;
    free(scratch_read(path, &n));
    ck_assert_uint_eq(n, 6);
    sets_expect(context, lrk_trace_resume(adapters, "/nonexistent/t", 0, &trace), LRK_ERR_NOT_FOUND,
                "/nonexistent/t");
    sets_expect(context, lrk_trace_resume(adapters, files.dir, 0, &trace), LRK_ERR_IO, files.dir);
    sets_expect(context, lrk_trace_resume(adapters, NULL, 0, &trace), LRK_ERR_ARGUMENT, "path is NULL");
    ck_assert_int_eq(lrk_trace_resume(NULL, path, 0, &trace), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_trace_resume(adapters, path, 0, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_trace_create(adapters, keep, &out, NULL, &trace), LRK_OK);
    sets_expect(context, lrk_trace_sync(trace, NULL), LRK_ERR_UNSUPPORTED, "callback");
    ck_assert_int_eq(lrk_trace_sync(NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
}
END_TEST

static lrk_trace *resumed;

static lrk_status resume_kept(void *user)
{
    return lrk_trace_resume(adapters, user, 3, &resumed);
}

static void close_resumed(void *user)
{
    (void)user;
    ck_assert_int_eq(lrk_trace_close(resumed), LRK_OK);
}

START_TEST(going_on_reports_each_lack_of_memory)
{
    const char *path = scratch_path(&files, "t");
    scratch_write(path, "{}\n{}\n", 6);
    sets_each_fault(&host, resume_kept, close_resumed, (void *)path);
}
END_TEST

Suite *trace_suite(void);

Suite *trace_suite(void)
{
    Suite *suite = suite_create("trace");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, start_value_and_end_are_as_documented);
    tcase_add_test(cases, no_label_is_null);
    tcase_add_loop_test(cases, a_round_is_as_documented, 0, 2);
    tcase_add_loop_test(cases, a_dropped_rank_keeps_its_birth, 0, 2);
    tcase_add_test(cases, means_of_receivers_are_of_one_kind);
    tcase_add_test(cases, a_file_gets_the_same_bytes_and_is_replaced);
    tcase_add_test(cases, the_observer_writes_the_round);
    tcase_add_test(cases, wrong_arguments_are_named);
    tcase_add_test(cases, scores_and_plans_of_others_are_refused);
    tcase_add_test(cases, a_callback_that_fails_is_told_and_the_trace_goes_on);
    tcase_add_test(cases, a_file_that_cannot_be_made_is_named);
    tcase_add_test(cases, a_full_disk_leaves_whole_lines);
    tcase_add_test(cases, each_lack_of_memory_is_reported_and_leaves_nothing);
    tcase_add_test(cases, a_trace_goes_on_from_where_it_was_saved);
    tcase_add_test(cases, a_trace_that_cannot_go_on_says_why);
    tcase_add_test(cases, going_on_reports_each_lack_of_memory);
    suite_add_tcase(suite, cases);
    return suite;
}
