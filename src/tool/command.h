/* SPDX-License-Identifier: MIT */
/*
 * What all commands share: their table, their options, a context, and one way to fail. Exit status: 0 done, 1 failed (a
 * line on standard error says why), 2 called wrongly.
 */
#ifndef TOOL_COMMAND_H
#define TOOL_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "lorank/lorank.h"

/*
 * "--name VALUE" or "--name=VALUE"; a flag has no value and puts its own name there. With `room` it may be given more than
 * once, up to as many times: value[0..room).
 */
typedef struct command_option {
    const char *name;
    bool is_flag;
    const char **value; /* NULL on entry: not given */
    int room;           /* 0: one */
} command_option;

#define COMMAND_VALUE(name, to)                                                                              \
    {                                                                                                        \
        name, false, to, 0                                                                                   \
    }
#define COMMAND_VALUES(name, to, room)                                                                       \
    {                                                                                                        \
        name, false, to, room                                                                                \
    }
#define COMMAND_FLAG(name, to)                                                                               \
    {                                                                                                        \
        name, true, to, 0                                                                                    \
    }

/* The arguments of one command: operands, all needed, and options in any order; "--" ends the options. */
typedef struct command_line {
    const char *command;
    const char *help; /* begins with a usage line */
    const command_option *options;
    int n_options;
    const char **operands[3];
    int n_operands;
} command_line;

/* Fills values and operands. False: the command ends with *status (0 after --help). */
bool command_parse(const command_line *line, int argc, char **argv, int *status);

/* "lorank COMMAND: WORDS" on standard error; returns 2, as a command called wrongly does. */
int command_usage(const char *command, const char *words, const char *what);

/* Number of an option; false, and said so, unless it is a whole one in [least, most] (a finite one above 0). */
bool command_integer(const char *command, const char *option, const char *text, int64_t least, int64_t most,
                     int64_t *value);
bool command_real(const char *command, const char *option, const char *text, double *value);

/* A run of a command. */
typedef struct command_run {
    const char *command;
    lrk_context *context;
} command_run;

bool command_begin(command_run *run, const char *command); /* false: said why */
void command_end(command_run *run);
int command_fail(const command_run *run); /* the context's words; returns 1 */
int command_say(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3))); /* returns 1 */

/* How far long work is, as one line on standard error, if that is a terminal and nobody asked for quiet. */
typedef struct command_progress {
    bool is_silent;
    const char *unit;
    double scale; /* units one of what is counted */
    int shown;    /* percent; -1: nothing yet */
} command_progress;

command_progress command_progress_new(bool is_quiet, const char *unit, double scale);
/* `user` is one; what the library's callbacks of progress look like. Returns 0. */
int32_t command_progress_show(void *user, uint64_t done, uint64_t total);
void command_progress_end(
    const command_progress *progress); /* ends the line of work that stopped before its end */

/* Puts what was written to `text` (an open_memstream) on standard output. Takes both. Returns the exit status. */
int command_print(const char *command, FILE *stream, char **text, size_t *n);

/* A name as a line of text: control characters as \xNN, then spaces up to `width` bytes. */
void command_text(FILE *out, const char *text, int width);

/* A JSON string with its quotes; a number, or null if it is not finite. */
void command_json_text(FILE *out, const char *text);
void command_json_real(FILE *out, double value);

/* The commands, one a file: the arguments after the command's name; returns the exit status. */
int inspect_command(int argc, char **argv);
int convert_command(int argc, char **argv);
int merge_command(int argc, char **argv);
int diff_command(int argc, char **argv);
int resize_command(int argc, char **argv);
int report_command(int argc, char **argv);
int replay_command(int argc, char **argv);

#endif
