/* SPDX-License-Identifier: MIT */
/* Runs a command of the tool within the test, and keeps what it says. */
#ifndef TOOL_RIG_H
#define TOOL_RIG_H

#include "scratch.h"

typedef struct tool_answer {
    int status;
    char *out; /* standard output */
    char *err; /* standard error  */
} tool_answer;

/* Arguments end with NULL. Both streams go through files in `files`, which are gone afterwards. */
tool_answer tool_run(scratch *files, int (*command)(int argc, char **argv), const char *const *arguments);
void tool_answer_free(tool_answer *answer);

/* Runs, and asserts the status and that standard error is one line with `words` (status 0: nothing). */
void tool_expect(scratch *files, int (*command)(int argc, char **argv), const char *const *arguments,
                 int status, const char *words);

#endif
