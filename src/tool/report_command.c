/* SPDX-License-Identifier: MIT */
/*
 * lorank report: reads a trace and writes its page, whole or not at all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "page.h"

#define ERROR_ROOM 1024

typedef struct report_args {
    const char *trace;
    const char *output; /* NULL: beside the trace */
    const char *unknown;
    bool help;
} report_args;

static const char usage_line[] = "usage: lorank report TRACE.jsonl [-o OUT.html]\n";

/* What is wrong with the arguments; NULL: nothing. */
static const char *parse(int argc, char **argv, report_args *args)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "--output") == 0) {
            if (++i == argc) return "-o needs a file";
            if (args->output != NULL) return "-o is given twice";
            args->output = argv[i];
        } else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            args->help = true;
            return NULL;
        } else if (argv[i][0] == '-') {
            args->unknown = argv[i];
            return "unknown option ";
        } else {
            if (args->trace != NULL) return "more than one trace";
            args->trace = argv[i];
        }
    }
    return args->trace == NULL ? "no trace is given" : NULL;
}

static int usage(const char *words, const char *what)
{
    fprintf(stderr, "lorank report: %s%s\n%s", words, what != NULL ? what : "", usage_line);
    return 2;
}

static int fail(const char *words, const char *path, int error)
{
    fprintf(stderr, "lorank report: %s %s: %s\n", words, path, strerror(error));
    return 1;
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
        return usage("the page would replace the trace", NULL);
    run *r = run_read(trace, error, sizeof error);
    if (r == NULL) {
        fprintf(stderr, "lorank report: %s\n", error);
        return 1;
    }
    int status = draw(r, output);
    run_free(r);
    return status;
}

int report_command(int argc, char **argv)
{
    report_args args = {0};
    const char *wrong = parse(argc, argv, &args);
    if (wrong != NULL) return usage(wrong, args.unknown);
    if (args.help) return fputs(usage_line, stdout) < 0;
    if (args.output != NULL) return report_to(args.trace, args.output);
    char *output = default_output(args.trace);
    int status = report_to(args.trace, output);
    free(output);
    return status;
}
