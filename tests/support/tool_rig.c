/* SPDX-License-Identifier: MIT */
#include "tool_rig.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_ARGUMENTS 32

typedef struct stream {
    FILE *file;
    int number;
    int kept;
    char *path;
} stream;

static stream divert(scratch *files, FILE *file, int number, const char *name)
{
    stream s = {file, number, dup(number), strdup(scratch_path(files, name))};
    fflush(file);
    int to = open(s.path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert(s.kept >= 0 && to >= 0 && dup2(to, number) == number);
    close(to);
    return s;
}

static char *give_back(stream *s)
{
    size_t n;
    fflush(s->file);
    ck_assert_int_eq(dup2(s->kept, s->number), s->number);
    close(s->kept);
    char *text = scratch_read(s->path, &n);
    ck_assert_int_eq(remove(s->path), 0);
    free(s->path);
    return text;
}

tool_answer tool_run(scratch *files, int (*command)(int argc, char **argv), const char *const *arguments)
{
    char *argv[MOST_ARGUMENTS];
    int argc = 0;
    while (arguments[argc] != NULL) {
        ck_assert_int_lt(argc, MOST_ARGUMENTS);
        argv[argc] = (char *)arguments[argc];
        argc++;
    }
    stream out = divert(files, stdout, 1, "stdout.txt"), err = divert(files, stderr, 2, "stderr.txt");
    tool_answer answer = {.status = command(argc, argv)};
    answer.err = give_back(&err);
    answer.out = give_back(&out);
    return answer;
}

void tool_answer_free(tool_answer *answer)
{
    free(answer->out);
    free(answer->err);
}

void tool_expect(scratch *files, int (*command)(int argc, char **argv), const char *const *arguments,
                 int status, const char *words)
{
    tool_answer answer = tool_run(files, command, arguments);
    const char *end = strchr(answer.err, '\n');
    ck_assert_msg(answer.status == status, "status %d, said '%s'", answer.status, answer.err);
    ck_assert_msg(strstr(answer.err, words) != NULL, "'%s' does not say '%s'", answer.err, words);
    if (status != 0) ck_assert_msg(end != NULL && end[1] == '\0', "'%s' is not one line", answer.err);
    tool_answer_free(&answer);
}
