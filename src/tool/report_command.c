/* SPDX-License-Identifier: MIT */
/*
 * lorank report: reads a trace and writes its page, whole or not at all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "page.h"

#define ERROR_ROOM 1024

static const char help[] = "usage: lorank report TRACE.jsonl [-o OUT.html]\n"
                           "\n"
                           "Draws a run's trace (docs/trace.md) as one self-contained HTML page. OUT is "
                           "TRACE with .html for its last\n"
                           "suffix unless -o (--output) names it; \"-\" is standard output.\n";

static int fail(const char *words, const char *path, int error)
{
    return command_say("report", "%s %s: %s", words, path, strerror(error));
}

/* A device or a pipe is written to, not replaced. */
static bool is_special(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && !S_ISREG(facts.st_mode) && !S_ISDIR(facts.st_mode);
}

static bool are_one_file(const char *a, const char *b)
{
    struct stat one, other;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

static int write_whole(const char *path, const char *text, size_t n)
{
    bool special = is_special(path);
    char *temporary = run_alloc((int64_t)strlen(path) + 8, 1);
    sprintf(temporary, "%s%s", path, special ? "" : ".part");
    FILE *file = fopen(temporary, "wb");
    int status = 0;
    if (file == NULL)
        status = fail("cannot create", temporary, errno);
    else {
        bool written =
            fwrite(text, 1, n, file) == n && fflush(file) == 0 && (special || fsync(fileno(file)) == 0);
        int error = errno;
        if (fclose(file) != 0 && written) {
            written = false;
            error = errno;
        }
        if (!written) status = fail("cannot write", temporary, error);
        if (written && !special && rename(temporary, path) != 0) status = fail("cannot replace", path, errno);
        if (status != 0 && !special) remove(temporary);
    }
    free(temporary);
    return status;
}

/* TRACE.html for TRACE.jsonl. */
static char *default_output(const char *trace)
{
    char *path = run_alloc((int64_t)strlen(trace) + 6, 1);
    strcpy(path, trace);
    char *dot = strrchr(path, '.');
    if (dot != NULL && strchr(dot, '/') == NULL && dot != path) *dot = '\0';
    return strcat(path, ".html");
}

static int draw(const run *r, const char *output)
{
    char *text = NULL;
    size_t n = 0;
    FILE *page = open_memstream(&text, &n);
    if (page == NULL) return fail("cannot draw", output, errno);
    report_page(page, r);
    bool drawn = !ferror(page);
    if (fclose(page) != 0 || !drawn) {
        free(text);
        return fail("cannot draw", output, ENOMEM);
    }
    int status = 0;
    if (strcmp(output, "-") != 0)
        status = write_whole(output, text, n);
    else if (fwrite(text, 1, n, stdout) != n || fflush(stdout) != 0)
        status = fail("cannot write", "standard output", errno);
    free(text);
    return status;
}

static int report_to(const char *trace, const char *output)
{
    char error[ERROR_ROOM];
    if (strcmp(output, trace) == 0 || are_one_file(output, trace))
        return command_usage("report", "the page would replace the trace", NULL);
    run *r = run_read(trace, error, sizeof error);
    if (r == NULL) return command_say("report", "%s", error);
    int status = draw(r, output);
    run_free(r);
    return status;
}

int report_command(int argc, char **argv)
{
    const char *trace = NULL, *output = NULL;
    const command_option options[] = {COMMAND_VALUE("-o", &output), COMMAND_VALUE("--output", &output)};
    const command_line line = {"report", help, options, 2, {&trace}, 1};
    int status;
    if (!command_parse(&line, argc, argv, &status)) return status;
    if (output != NULL) return report_to(trace, output);
    char *beside = default_output(trace);
    status = report_to(trace, beside);
    free(beside);
    return status;
}
