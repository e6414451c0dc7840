/* SPDX-License-Identifier: MIT */
/*
 * What replay refuses: lines that are not as the trace's page has them, rounds that do not follow from each other, sets that
 * cannot be, wrong calls; observers that end a run; failing memory.
 */
#include <check.h>
#include <string.h>

#include "json_fault.h"
#include "scratch.h"
#include "sets.h"
#include "small_set.h"
#include "trace_text.h"

static scratch files;
static char path[SCRATCH_PATH];
static small_set s; /* for its context */

static void setup(void)
{
    memset(&s, 0, sizeof s);
    scratch_init(&files);
    strcpy(path, scratch_path(&files, "trace.jsonl"));
}

static void teardown(void)
{
    small_set_close(&s);
    scratch_fini(&files);
}

static lrk_replay *open_replay(void)
{
    lrk_replay *replay = NULL;
    char detail[512];
    lrk_status status = lrk_replay_open(s.context, path, &replay);
    lrk_context_error(s.context, detail, sizeof detail);
    ck_assert_msg(status == LRK_OK, "%s", detail);
    return replay;
}

static void write_trace(const char *text)
{
    scratch_write(path, text, strlen(text));
}

static int32_t pass_over(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    (void)user, (void)scores, (void)plan;
    return 0;
}

static int32_t stop(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    (void)user, (void)scores, (void)plan;
    return 5;
}

/* ---- refusals -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *words;
} bad_lines[] = {
    {"", "trace.jsonl: the file is empty"},
    {"{\n", "trace.jsonl:1: not valid JSON"},
    {"[]\n", ":1: not a JSON object"},
    {"{\"even\":1}\n", ":1: field 'event' is missing or not a text"},
    {"{\"event\":\"round\"}\n", ":1: the first event is 'round', not 'start'"},
    {START "{\"event\":\"dance\"}\n", ":2: unknown event 'dance'"},
    {START START, ":2: a second start event"},
    {START END ROUND, ":3: an event after the end"},
    {"{\"event\":\"start\",\"format\":2}\n", ":1: format 2, known here is 1"},
    {"{\"event\":\"start\",\"format\":1,\"label\":7}\n", ":1: field 'label' is missing or not a text"},
    {"{\"event\":\"start\",\"format\":1,\"label\":null}\n", ":1: field 'modules' is missing or not an array"},
    {"{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[]}\n", ":1: field 'modules' is empty"},
    {"{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[{\"name\":\"a\",\"stage\":-1}]}\n",
     ":1: field 'stage' is missing or not an integer >= 0"},
    {"{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[{\"name\":\"a\",\"stage\":0,\"n_in\":1,"
     "\"n_out\":1,\"rank\":2,\"scale\":1,\"ranks\":[[1,0]]}]}\n",
     ":1: module 'a': 'rank' and 'ranks' differ"},
    {"{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[{\"name\":\"a\",\"stage\":0,\"n_in\":1,"
     "\"n_out\":1,\"rank\":1,\"scale\":1,\"ranks\":[[0,0]]}]}\n",
     ":1: a rank is not [identity, birth]"},
    {START "{\"event\":\"round\",\"round\":0}\n", ":2: field 'step' is missing or not an integer >= 0"},
    {START ROUND_OF("\"estimator\":\"x\",\"policy\":\"y\",\"cut\":\"z\"", CHANGES, SCORES),
     ":2: field 'cut' is missing or not a number or null"},
    {START ROUND_OF(FACTS, CHANGES, "\"scores\":[[4,0,0.1]]"), ":2: field 'scores': row 0 is not [identity,"},
    {START ROUND_OF(FACTS, CHANGES, "\"scores\":[[4,2,0.1,1,1,1,1,true,true]]"),
     ":2: field 'scores': row 0 is not of module 0 or a later one"},
    {START ROUND_OF(FACTS, CHANGES, "\"scores\":[[4,1,0.1,1,1,1,1,true,true],[5,0,0.1,1,1,1,1,true,true]]"),
     ":2: field 'scores': row 1 is not of module 1 or a later one"},
    {START ROUND_OF(FACTS, "\"dropped\":[{\"identity\":0}]", SCORES),
     ":2: field 'identity' is missing or not an integer >= 1"},
    {START ROUND_OF(FACTS, "\"dropped\":[{\"identity\":4,\"module\":2}]", SCORES),
     ":2: field 'module': there is no module 2"},
    {START ROUND_OF(FACTS, "\"dropped\":[],\"added\":[],\"module_ranks\":[1]", SCORES),
     ":2: field 'module_ranks' has 1 entries for 2 modules"},
    {START ROUND_OF(FACTS, "\"dropped\":[],\"added\":[],\"module_ranks\":[1,-1]", SCORES),
     ":2: field 'module_ranks' holds what is not an integer >= 0"},
    {START "{\"event\":\"end\",\"modules\":[[]]}\n", ":2: field 'modules' has 1 entries for 2 modules"},
    {START "{\"event\":\"end\",\"modules\":[[],7]}\n", ":2: field 'modules' holds what is not an array"},
    {START "{\"event\":\"end\",\"modules\":[[],[[1]]]}\n", ":2: a rank is not [identity, birth]"},
};

START_TEST(a_wrong_line_is_refused_with_its_number)
{
    lrk_replay *replay = (lrk_replay *)&s;
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(bad_lines[_i].text);
    small_set_assert_failed(s.context, lrk_replay_open(s.context, path, &replay), LRK_ERR_FORMAT,
                            bad_lines[_i].words);
    ck_assert_ptr_null(replay);
}
END_TEST

static const struct {
    const char *text;
    const char *words;
} bad_rounds[] = {
    {START ROUND ROUND, ":3: its ranks are not those that the rounds before it left"},
    {START ROUND_OF(FACTS, CHANGES, "\"scores\":[]"), ":2: its ranks are not those"},
    {START ROUND_OF(FACTS, "\"dropped\":[{\"identity\":8,\"module\":0}],\"added\":[],\"module_ranks\":[2,1]",
                    SCORES),
     ":2: what was dropped and added does not fit its ranks"},
    {START ROUND_OF(FACTS, "\"dropped\":[],\"added\":[{\"identity\":7,\"module\":0}],\"module_ranks\":[3,1]",
                    SCORES),
     ":2: what was dropped and added does not fit its ranks"},
    {START ROUND_OF(FACTS,
                    "\"dropped\":[],\"added\":[{\"identity\":9,\"module\":0},{\"identity\":11,\"module\":0}],"
                    "\"module_ranks\":[4,1]",
                    SCORES),
     ":2: what was dropped and added does not fit its ranks"},
    {START ROUND_OF(FACTS,
                    "\"dropped\":[],\"added\":[{\"identity\":9,\"module\":1},{\"identity\":10,\"module\":0}],"
                    "\"module_ranks\":[3,2]",
                    SCORES),
     ":2: what was dropped and added does not fit its ranks"},
    {START ROUND_OF(FACTS, "\"dropped\":[],\"added\":[],\"module_ranks\":[2,2]", SCORES),
     ":2: what was dropped and added does not fit its ranks"},
};

static lrk_status run_fixed(lrk_replay *replay)
{
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    const lrk_round_observer observer = {.struct_size = sizeof observer, .round = pass_over};
    lrk_status status = lrk_replay_create_adapters(replay, &set);
    if (status == LRK_OK) status = lrk_allocator_create_fixed(set, &allocator);
    if (status == LRK_OK) status = lrk_replay_run(replay, allocator, &observer);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    return status;
}

START_TEST(rounds_that_do_not_follow_are_refused)
{
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    const lrk_round_observer observer = {.struct_size = sizeof observer, .round = pass_over};
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(bad_rounds[_i].text);
    lrk_replay *replay = open_replay();
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_fixed(set, &allocator), LRK_OK);
    small_set_assert_failed(s.context, lrk_replay_run(replay, allocator, &observer), LRK_ERR_FORMAT,
                            bad_rounds[_i].words);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_replay_close(replay);
}
END_TEST

START_TEST(a_set_that_cannot_be_is_refused)
{
    static const char twice[] = "{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[{\"name\":"
                                "\"a\",\"stage\":0,\"n_in\":1,"
                                "\"n_out\":1,\"rank\":2,\"scale\":1,\"ranks\":[[3,0],[3,0]]}]}\n";
    static const char flat[] = "{\"event\":\"start\",\"format\":1,\"label\":null,\"modules\":[{\"name\":"
                               "\"a\",\"stage\":0,\"n_in\":0,"
                               "\"n_out\":1,\"rank\":0,\"scale\":1,\"ranks\":[]}]}\n";
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(twice);
    lrk_replay *replay = open_replay();
    lrk_adapters *set = (lrk_adapters *)&s;
    small_set_assert_failed(s.context, lrk_replay_create_adapters(replay, &set), LRK_ERR_FORMAT,
                            "identity 3 stands twice");
    ck_assert_ptr_null(set);
    lrk_replay_close(replay);
    write_trace(flat);
    replay = open_replay();
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_ERR_SHAPE);
    ck_assert_int_eq(lrk_replay_create_adapters(replay, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_create_adapters(NULL, &set), LRK_ERR_ARGUMENT);
    lrk_replay_close(replay);
}
END_TEST

START_TEST(wrong_calls_are_refused)
{
    lrk_replay *replay = NULL;
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    lrk_round_observer observer = {.struct_size = sizeof observer, .round = pass_over};
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    ck_assert_int_eq(lrk_replay_open(NULL, path, &replay), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_open(s.context, NULL, &replay), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_open(s.context, path, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_parse(NULL, "t", "{}", 2, &replay), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_parse(s.context, NULL, "{}", 2, &replay), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_parse(s.context, "t", NULL, 2, &replay), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_parse(s.context, "t", "{}", 2, NULL), LRK_ERR_ARGUMENT);
    small_set_assert_failed(s.context, lrk_replay_open(s.context, path, &replay), LRK_ERR_NOT_FOUND,
                            "trace.jsonl");
    small_set_assert_failed(s.context, lrk_replay_open(s.context, files.dir, &replay), LRK_ERR_IO,
                            "not a regular file");
    write_trace(START ROUND NEXT);
    replay = open_replay();
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_fixed(set, &allocator), LRK_OK);
    ck_assert_int_eq(lrk_replay_run(NULL, allocator, &observer), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_run(replay, NULL, &observer), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_replay_run(replay, allocator, NULL), LRK_ERR_ARGUMENT);
    observer.flags = 1;
    ck_assert_int_eq(lrk_replay_run(replay, allocator, &observer), LRK_ERR_ARGUMENT);
    observer.flags = 0;
    observer.round = NULL;
    ck_assert_int_eq(lrk_replay_run(replay, allocator, &observer), LRK_ERR_ARGUMENT);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_replay_close(replay);
}
END_TEST

START_TEST(an_observer_ends_the_run_and_no_plan_is_left)
{
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    const lrk_round_observer observer = {.struct_size = sizeof observer, .round = stop};
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(START ROUND NEXT);
    lrk_replay *replay = open_replay();
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_fixed(set, &allocator), LRK_OK);
    small_set_assert_failed(s.context, lrk_replay_run(replay, allocator, &observer), LRK_ERR_HOST,
                            "the observer of replayed round 0 returned 5");
    const double values[] = {1, 2, 3};
    lrk_scores *scores = NULL;
    lrk_plan *plan = NULL;
    ck_assert_int_eq(lrk_scores_create(set, values, 3, &scores), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(allocator, scores, 0, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_scores_destroy(scores);
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_replay_close(replay);
}
END_TEST

START_TEST(a_run_that_outgrew_the_budget_is_said)
{
    static const char grown[] = START ROUND_OF(
        FACTS, "\"dropped\":[],\"added\":[{\"identity\":8,\"module\":0}],\"module_ranks\":[3,1]",
        SCORES) "{\"event\":\"round\",\"round\":1,\"step\":90," FACTS
                ",\"dropped\":[],\"added\":[],\"module_ranks\":[3,1],\"scores\":"
                "[[4,0,0.1,1,1,1,1,true,true],[7,0,0.2,1,1,1,1,true,true],[8,0,0.3,1,1,1,1,true,"
                "true],[5,1,0.4,1,1,1,1,true,true]]}\n";
    lrk_elalora_options options;
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(grown);
    lrk_replay *replay = open_replay();
    lrk_elalora_options_init(&options, sizeof options);
    options.n_move = 1;
    lrk_adapters *set = NULL;
    lrk_allocator *allocator = NULL;
    const lrk_round_observer observer = {.struct_size = sizeof observer, .round = pass_over};
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_elalora(set, &options, &allocator), LRK_OK);
    lrk_status status = lrk_replay_run(replay, allocator, &observer);
    ck_assert_int_eq(status, LRK_OK); /* it drops one and adds none: back to 3 */
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_increlora_options grow;
    lrk_increlora_options_init(&grow, sizeof grow);
    grow.grow_modules = 1;
    grow.budget = 3;
    ck_assert_int_eq(lrk_replay_create_adapters(replay, &set), LRK_OK);
    ck_assert_int_eq(lrk_allocator_create_increlora(set, &grow, &allocator), LRK_OK);
    small_set_assert_failed(s.context, lrk_replay_run(replay, allocator, &observer), LRK_ERR_BUDGET,
                            "takes 4 of a budget of 3");
    lrk_allocator_destroy(allocator);
    lrk_adapters_destroy(set);
    lrk_replay_close(replay);
}
END_TEST

/* ---- faults ---------------------------------------------------------------------------------------------------------- */

static lrk_status whole(void *user)
{
    lrk_replay **replay = user;
    lrk_status status = lrk_replay_open(s.context, path, replay);
    if (status != LRK_OK) return status;
    status = run_fixed(*replay);
    if (status != LRK_OK) lrk_replay_close(*replay);
    return status;
}

static lrk_status only_open(void *user)
{
    return lrk_replay_open(s.context, path, user);
}

static void close_it(void *user)
{
    lrk_replay_close(*(lrk_replay **)user);
}

START_TEST(every_failed_request_for_memory_leaves_nothing_behind)
{
    lrk_replay *replay = NULL;
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(START ROUND NEXT END);
    sets_each_fault(&s.host, only_open, close_it, &replay);
    json_each_fault(only_open, close_it, &replay, true);
}
END_TEST

START_TEST(every_failed_request_of_a_run_leaves_nothing_behind)
{
    lrk_replay *replay = NULL;
    static const char one[] =
        START "{\"event\":\"round\",\"round\":0,\"step\":90," FACTS "," CHANGES "," SCORES "}\n";
    small_set_open_ranks(&s, 1, (const int64_t[]){1});
    write_trace(one);
    sets_each_fault(&s.host, whole, close_it, &replay);
}
END_TEST

Suite *replay_refusals_suite(void);
Suite *replay_refusals_suite(void)
{
    Suite *suite = suite_create("replay_refusals");
    TCase *tests = tcase_create("replay_refusals");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_wrong_line_is_refused_with_its_number, 0,
                        sizeof bad_lines / sizeof *bad_lines);
    tcase_add_loop_test(tests, rounds_that_do_not_follow_are_refused, 0,
                        sizeof bad_rounds / sizeof *bad_rounds);
    tcase_add_test(tests, a_set_that_cannot_be_is_refused);
    tcase_add_test(tests, wrong_calls_are_refused);
    tcase_add_test(tests, an_observer_ends_the_run_and_no_plan_is_left);
    tcase_add_test(tests, a_run_that_outgrew_the_budget_is_said);
    tcase_add_test(tests, every_failed_request_for_memory_leaves_nothing_behind);
    tcase_add_test(tests, every_failed_request_of_a_run_leaves_nothing_behind);
    suite_add_tcase(suite, tests);
    return suite;
}
