/* SPDX-License-Identifier: MIT */
/*
 * lorank replay: the table and the JSON of a trace by hand, options as in a configuration, and what it says to wrong calls.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "formats/json.h"
#include "scratch.h"
#include "small_set.h"
#include "tool/command.h"

static scratch files;
static char path[SCRATCH_PATH];
static char printed[SCRATCH_PATH];

static void setup(void)
{
    scratch_init(&files);
    strcpy(path, scratch_path(&files, "trace.jsonl"));
    strcpy(printed, scratch_path(&files, "printed"));
}

static void teardown(void)
{
    scratch_fini(&files);
}

/* Two rounds of three modules 4 x 3 of rank 2; the second has the ranks that ALoRA with n_move 1 left by the first. */
static void write_trace(void)
{
    static const double values[2][6] = {{0.1, 0.9, 0.5, 0.6, 0.2, 0.3}, {0.9, 0.5, 0.6, 0.4, 0.2, 0.3}};
    small_set s = {0};
    lrk_trace *trace = NULL;
    small_set_open_ranks(&s, 3, (const int64_t[]){2, 2, 2});
    lrk_alora_options options = small_set_alora(1);
    lrk_allocator *allocator = small_set_allocator(&s, &options);
    ck_assert_int_eq(lrk_trace_open(s.adapters, path, NULL, &trace), LRK_OK);
    for (int round = 0; round < 2; round++) {
        lrk_scores *scores = small_set_scores(&s, values[round]);
        lrk_plan *plan = small_set_plan(allocator, scores);
        ck_assert_int_eq(lrk_trace_round(trace, scores, plan), LRK_OK);
        small_set_carry_out(plan, NULL, 0);
        lrk_plan_destroy(plan);
        lrk_scores_destroy(scores);
    }
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    lrk_allocator_destroy(allocator);
    small_set_close(&s);
}

/* The status of the command, and all that it printed on both streams, which the caller frees. */
static int command(const char *arguments, char **said)
{
    char line[1024];
    char *argv[16];
    int argc = 0;
    size_t n;
    snprintf(line, sizeof line, "%s", arguments);
    for (char *word = strtok(line, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = strcmp(word, "TRACE") == 0 ? path : word;
    fflush(NULL);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        if (freopen(printed, "w", stdout) == NULL || dup2(fileno(stdout), 2) < 0) _exit(99);
        int status = replay_command(argc, argv);
        fflush(stdout);
        _exit(status);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    *said = scratch_read(printed, &n);
    return WEXITSTATUS(status);
}

static void expect(const char *arguments, int status, const char *words)
{
    char *said = NULL;
    int got = command(arguments, &said);
    ck_assert_msg(got == status && strstr(said, words) != NULL, "'%s': %d, '%s' lacks '%s'", arguments, got,
                  said, words);
    free(said);
}

START_TEST(the_table_counts_what_went_and_came_and_what_both_did)
{
    char *said = NULL;
    write_trace();
    ck_assert_int_eq(command("TRACE --policy alora --n 2", &said), 0);
    ck_assert_str_eq(said,
                     "round     step      recorded         alora          both     ranks    parameters\n"
                     "    0        7         -1 +1         -2 +2         -1 +1         6            42\n"
                     "    1        7         -1 +1         -2 +2         -1 +1         6            42\n"
                     "  all                  -2 +2         -4 +4         -2 +2\n");
    free(said);
    ck_assert_int_eq(command("TRACE --policy fixed", &said), 0);
    ck_assert_str_eq(said,
                     "round     step      recorded         fixed          both     ranks    parameters\n"
                     "    0        7         -1 +1         -0 +0         -0 +0         6            42\n"
                     "    1        7         -1 +1         -0 +0         -0 +0         6            42\n"
                     "  all                  -2 +2         -0 +0         -0 +0\n");
    free(said);
}
END_TEST

static int64_t integer(const lrki_json *json)
{
    int64_t value = -1;
    ck_assert(lrki_json_integer(json, &value));
    return value;
}

static int64_t at(const lrki_json *object, const char *key, int64_t i)
{
    return integer(lrki_json_at(lrki_json_get(object, key), i));
}

/* With n_move 2 the ranks of scores .1 and .2 go in round 0: identity 1 of m0 and 5 of m2; m1 gets both. */
START_TEST(the_json_lists_them)
{
    fault host;
    char *said = NULL;
    lrki_json *json = NULL;
    write_trace();
    ck_assert_int_eq(command("TRACE --set n_move=2 --json", &said), 0);
    fault_reset(&host);
    lrk_context *context = fault_context(&host);
    ck_assert_int_eq(lrki_json_parse(context, said, strlen(said), "json", &json), LRK_OK);
    ck_assert_str_eq(lrki_json_text(lrki_json_get(json, "policy")), "alora");
    const lrki_json *rounds = lrki_json_get(json, "rounds");
    ck_assert_int_eq(lrki_json_count(rounds), 2);
    const lrki_json *round = lrki_json_at(rounds, 0);
    const lrki_json *recorded = lrki_json_get(round, "recorded"),
                    *replayed = lrki_json_get(round, "replayed");
    ck_assert_int_eq(integer(lrki_json_get(round, "round")), 0);
    ck_assert_int_eq(integer(lrki_json_get(round, "step")), 7);
    ck_assert_str_eq(lrki_json_text(lrki_json_get(recorded, "policy")), "alora");
    ck_assert_int_eq(lrki_json_count(lrki_json_get(recorded, "dropped")), 1);
    ck_assert_int_eq(at(recorded, "dropped", 0), 1);
    ck_assert_int_eq(at(recorded, "module_ranks", 1), 3);
    ck_assert_int_eq(lrki_json_count(lrki_json_get(replayed, "dropped")), 2);
    ck_assert(at(replayed, "dropped", 0) == 1 && at(replayed, "dropped", 1) == 5);
    ck_assert(at(replayed, "module_ranks", 0) == 1 && at(replayed, "module_ranks", 1) == 4);
    ck_assert_int_eq(integer(lrki_json_get(replayed, "ranks")), 6);
    ck_assert_int_eq(integer(lrki_json_get(replayed, "parameters")), 42);
    double cut = 0, next = 0;
    ck_assert(lrki_json_number(lrki_json_get(replayed, "cut"), &cut) && cut == 0.2);
    ck_assert(lrki_json_number(lrki_json_get(replayed, "cut_next"), &next) && next == 0.3);
    ck_assert_int_eq(integer(lrki_json_get(round, "dropped_by_both")), 1);
    ck_assert_int_eq(integer(lrki_json_get(round, "added_by_both")), 1);
    lrki_json_free(json);
    lrk_context_destroy(context);
    free(said);
}
END_TEST

START_TEST(what_is_not_known_is_null)
{
    char *said = NULL;
    write_trace();
    ck_assert_int_eq(command("TRACE --json --policy increlora --set grow_modules=1 --set budget=7", &said),
                     0);
    ck_assert_ptr_nonnull(strstr(said, "\"cut\":null,\"cut_next\":null"));
    ck_assert_ptr_nonnull(strstr(said, "\"replayed\":{\"dropped\":[],\"module_ranks\":[2,3,2],\"ranks\":7"));
    free(said);
}
END_TEST

static const struct {
    const char *arguments;
    int status;
    const char *words;
} wrong[] = {
    {"", 2, "lorank replay: an argument is missing (lorank replay --help)"},
    {"TRACE TRACE", 2, "one argument too many"},
    {"TRACE --frob", 2, "unknown option"},
    {"TRACE --policy", 2, "an option lacks its value"},
    {"TRACE --set n_move", 2, "not KEY=VALUE"},
    {"TRACE --set =3", 2, "not KEY=VALUE"},
    {"TRACE --policy frob", 2, "allocation.policy: 'frob' is not one of alora"},
    {"TRACE --n 0.5", 2, "allocation.n_move: '0.5' is not a 64-bit integer"},
    {"TRACE --n -1", 2, "n_move must be >= 1"},
    {"TRACE --set limits=3", 2, "allocation.limits is a list"},
    {"TRACE --set frob=3", 2, "unknown key 'frob' in allocation"},
    {"TRACE --policy elalora", 1, "n_move must be >= 1"},
    {"TRACE --set budget=5", 1, "the set holds 6 ranks, the budget is 5"},
    {"/nowhere.jsonl", 1, "cannot open /nowhere.jsonl"},
    {"--help", 0, "usage: lorank replay"},
};

START_TEST(wrong_calls_are_answered)
{
    write_trace();
    expect(wrong[_i].arguments, wrong[_i].status, wrong[_i].words);
}
END_TEST

START_TEST(a_trace_that_cannot_be_replayed_prints_no_half_of_a_table)
{
    char *said = NULL;
    size_t n;
    write_trace();
    char *text = scratch_read(path, &n);
    char *round = strstr(text, "{\"event\":\"round\"");
    char *next = strchr(round, '\n') + 1;
    char *again = malloc(n * 2);
    int length = snprintf(again, n * 2, "%.*s%.*s", (int)(next - text), text, (int)(next - round), round);
    scratch_write(path, again, (size_t)length);
    ck_assert_int_eq(command("TRACE", &said), 1);
    ck_assert_ptr_nonnull(strstr(said, ":3: its ranks are not those that the rounds before it left\n"));
    ck_assert_ptr_null(strstr(said, "recorded"));
    free(said);
    free(again);
    free(text);
}
END_TEST

Suite *replay_command_suite(void);
Suite *replay_command_suite(void)
{
    Suite *suite = suite_create("replay_command");
    TCase *tests = tcase_create("replay_command");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_table_counts_what_went_and_came_and_what_both_did);
    tcase_add_test(tests, the_json_lists_them);
    tcase_add_test(tests, what_is_not_known_is_null);
    tcase_add_loop_test(tests, wrong_calls_are_answered, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(tests, a_trace_that_cannot_be_replayed_prints_no_half_of_a_table);
    suite_add_tcase(suite, tests);
    return suite;
}
