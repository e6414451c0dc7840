/* SPDX-License-Identifier: MIT */
/*
 * The command that draws reports, within the test and as it was built: statuses, what it says and what it leaves alone; a
 * trace that the library wrote.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report_rig.h"
#include "sets.h"
#include "tool/command.h"
#include "tool_rig.h"

START_TEST(calls_that_are_wrong_have_status_2)
{
    const char *const none[] = {NULL}, *const unknown[] = {"-q", NULL},
                      *const two[] = {report_rig.trace_path, "two", NULL},
                      *const bare[] = {report_rig.trace_path, "-o", NULL},
                      *const itself[] = {report_rig.page_path, NULL},
                      *const twice[] = {report_rig.trace_path, "-o", "a", "--output=b", NULL},
                      *const help[] = {"--help", NULL};
    tool_expect(&report_rig.files, report_command, none, 2, "an argument is missing");
    tool_expect(&report_rig.files, report_command, unknown, 2, "unknown option: -q");
    tool_expect(&report_rig.files, report_command, two, 2, "one argument too many: two");
    tool_expect(&report_rig.files, report_command, bare, 2, "an option lacks its value: -o");
    tool_expect(&report_rig.files, report_command, itself, 2, "replace the trace");
    tool_expect(&report_rig.files, report_command, twice, 2, "given twice: --output=b");
    tool_answer answer = tool_run(&report_rig.files, report_command, help);
    ck_assert_int_eq(answer.status, 0);
    ck_assert_str_eq(answer.err, "");
    ck_assert_ptr_eq(strstr(answer.out, "usage: lorank report"), answer.out);
    tool_answer_free(&answer);
    ck_assert_int_eq(scratch_count(report_rig.files.dir), 0);
}
END_TEST

START_TEST(failures_have_status_1_and_leave_no_page)
{
    const char *const one[] = {report_rig.trace_path, NULL},
                      *const nowhere[] = {report_rig.trace_path, "-o", "/nonexistent/page.html", NULL},
                      *const folder[] = {report_rig.trace_path, "-o", report_rig.files.dir, NULL},
                      *const not_a_file[] = {report_rig.files.dir, "-o", report_rig.page_path, NULL};
    tool_expect(&report_rig.files, report_command, one, 1, "cannot open");
    scratch_write(report_rig.trace_path, "x", 1);
    tool_expect(&report_rig.files, report_command, one, 1, "trace.jsonl:1: not valid JSON");
    scratch_write(report_rig.trace_path, report_whole, strlen(report_whole));
    tool_expect(&report_rig.files, report_command, nowhere, 1, "/nonexistent/page.html");
    tool_expect(&report_rig.files, report_command, folder, 1, "");
    ck_assert_int_eq(scratch_count(report_rig.files.dir), 1);
    char part[SCRATCH_PATH + 8];
    snprintf(part, sizeof part, "%s.part", report_rig.files.dir);
    ck_assert(!scratch_exists(part));
    tool_expect(&report_rig.files, report_command, not_a_file, 1, "cannot read");
}
END_TEST

/* Through a link, so that a page that replaces what it is told to write to replaces that alone. */
START_TEST(a_device_is_written_to_and_the_trace_is_spared_by_any_name)
{
    char same[SCRATCH_PATH + 32];
    size_t n;
    scratch_write(report_rig.trace_path, report_whole, strlen(report_whole));
    ck_assert_int_eq(symlink("/dev/full", report_rig.page_path), 0);
    const char *const device[] = {report_rig.trace_path, "-o", report_rig.page_path, NULL};
    tool_expect(&report_rig.files, report_command, device, 1, "cannot write");
    ck_assert_int_gt(readlink(report_rig.page_path, same, sizeof same), 0);
    snprintf(same, sizeof same, "%s/./trace.jsonl", report_rig.files.dir);
    const char *const itself[] = {report_rig.trace_path, "-o", same, NULL};
    tool_expect(&report_rig.files, report_command, itself, 2, "replace the trace");
    char *text = scratch_read(report_rig.trace_path, &n);
    ck_assert_str_eq(text, report_whole);
    free(text);
}
END_TEST

/* The built command with arguments: its status and the first line it says on either stream. */
static int built(const char *arguments, char *said)
{
    char line[1024];
    const char *build = getenv("LRK_BUILD");
    ck_assert_msg(build != NULL, "LRK_BUILD must name the build folder");
    snprintf(line, sizeof line, "%s/lorank %s 2>&1", build, arguments);
    FILE *pipe = popen(line, "r");
    ck_assert_ptr_nonnull(pipe);
    said[0] = '\0';
    if (fgets(said, 512, pipe) == NULL) said[0] = '\0';
    while (fgets(line, sizeof line, pipe) != NULL)
        ;
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(the_built_command_answers)
{
    char said[512], wanted[64], line[SCRATCH_PATH + 32];
    snprintf(wanted, sizeof wanted, "lorank %s (ABI %d)\n", lrk_version_text(), (int)lrk_abi_version());
    ck_assert_int_eq(built("--version", said), 0);
    ck_assert_str_eq(said, wanted);
    ck_assert_int_eq(built("--help", said), 0);
    ck_assert_ptr_eq(strstr(said, "usage: lorank COMMAND"), said);
    ck_assert_int_eq(built("", said), 2);
    ck_assert_int_eq(built("frob", said), 2);
    ck_assert_str_eq(said, "lorank: unknown command 'frob' (lorank --help)\n");
    scratch_write(report_rig.trace_path, report_whole, strlen(report_whole));
    snprintf(line, sizeof line, "report %s -o -", report_rig.trace_path);
    ck_assert_int_eq(built(line, said), 0);
    ck_assert_str_eq(said, "<!DOCTYPE html>\n");
    ck_assert_int_eq(scratch_count(report_rig.files.dir), 1);
}
END_TEST

START_TEST(a_real_trace_becomes_a_page)
{
    size_t n;
    lrk_trace *trace;
    lrk_module_spec specs[3];
    sets_three(specs);
    lrk_adapters *adapters = sets_create(report_rig.context, specs, 3, NULL);
    ck_assert_int_eq(lrk_trace_open(adapters, report_rig.trace_path, "from the library", &trace), LRK_OK);
    ck_assert_int_eq(lrk_trace_value(trace, "dev_loss", 1, 2.5), LRK_OK);
    ck_assert_int_eq(lrk_trace_close(trace), LRK_OK);
    lrk_adapters_destroy(adapters);
    const char *const one[] = {report_rig.trace_path, NULL};
    tool_expect(&report_rig.files, report_command, one, 0, "");
    char *page = scratch_read(report_rig.page_path, &n);
    ck_assert_ptr_nonnull(strstr(page, "from the library"));
    ck_assert_int_eq(scratch_count(report_rig.files.dir), 2);
    free(page);
}
END_TEST

Suite *report_command_suite(void);

Suite *report_command_suite(void)
{
    Suite *suite = suite_create("report_command");
    TCase *cases = tcase_create("command");
    tcase_add_checked_fixture(cases, report_rig_open, report_rig_close);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, calls_that_are_wrong_have_status_2);
    tcase_add_test(cases, failures_have_status_1_and_leave_no_page);
    tcase_add_test(cases, a_device_is_written_to_and_the_trace_is_spared_by_any_name);
    tcase_add_test(cases, the_built_command_answers);
    tcase_add_test(cases, a_real_trace_becomes_a_page);
    suite_add_tcase(suite, cases);
    return suite;
}
