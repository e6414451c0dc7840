/* SPDX-License-Identifier: MIT */
#include "command.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_ROOM 1024

/* ---- arguments ---- */

int command_usage(const char *command, const char *words, const char *what)
{
    fprintf(stderr, "lorank %s: %s%s%s (lorank %s --help)\n", command, words, what != NULL ? ": " : "",
            what != NULL ? what : "", command);
    return 2;
}

/* The option that an argument names, whole or before its '='. */
static const command_option *find_option(const command_line *line, const char *argument)
{
    size_t n = strcspn(argument, "=");
    for (int i = 0; i < line->n_options; i++)
        if (strlen(line->options[i].name) == n && strncmp(line->options[i].name, argument, n) == 0)
            return &line->options[i];
    return NULL;
}

/* Where the option's next value goes; NULL: it was given as often as it may be. */
static const char **next_value(const command_option *option)
{
    for (int i = 0; i < option->room || i == 0; i++)
        if (option->value[i] == NULL) return &option->value[i];
    return NULL;
}

/* What is wrong with the option at argv[*i], NULL: nothing. */
static const char *take_option(const command_line *line, int argc, char **argv, int *i)
{
    const char *argument = argv[*i], *equals = strchr(argument, '=');
    const command_option *option = find_option(line, argument);
    if (option == NULL) return "unknown option";
    const char **value = next_value(option);
    if (value == NULL) return option->room > 1 ? "an option is given too often" : "an option is given twice";
    if (option->is_flag) {
        *value = option->name;
        return equals != NULL ? "an option takes no value" : NULL;
    }
    if (equals != NULL)
        *value = equals + 1;
    else if (++*i < argc)
        *value = argv[*i];
    return *value == NULL ? "an option lacks its value" : NULL;
}

bool command_parse(const command_line *line, int argc, char **argv, int *status)
{
    int n = 0;
    bool options_end = false;
    *status = 2;
    for (int i = 0; i < argc; i++) {
        const char *argument = argv[i], *wrong = NULL;
        if (!options_end && (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0)) {
            *status = fputs(line->help, stdout) < 0;
            return false;
        }
        if (!options_end && strcmp(argument, "--") == 0)
            options_end = true;
        else if (!options_end && argument[0] == '-' && argument[1] != '\0')
            wrong = take_option(line, argc, argv, &i);
        else if (n == line->n_operands)
            wrong = "one argument too many";
        else
            *line->operands[n++] = argument;
        if (wrong != NULL) {
            (void)command_usage(line->command, wrong, argument);
            return false;
        }
    }
    if (n == line->n_operands) return true;
    (void)command_usage(line->command, "an argument is missing", NULL);
    return false;
}

bool command_integer(const char *command, const char *option, const char *text, int64_t least, int64_t most,
                     int64_t *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    *value = number;
    if (errno == 0 && end != text && *end == '\0' && number >= least && number <= most) return true;
    fprintf(stderr, "lorank %s: %s must be a whole number from %" PRId64 " to %" PRId64 ", not '%s'\n",
            command, option, least, most, text);
    return false;
}

bool command_real(const char *command, const char *option, const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    if (end != text && *end == '\0' && isfinite(*value) && *value > 0) return true;
    fprintf(stderr, "lorank %s: %s must be a number above 0, not '%s'\n", command, option, text);
    return false;
}

/* ---- a run ---- */

bool command_begin(command_run *run, const char *command)
{
    char words[WORDS_ROOM] = "";
    *run = (command_run){.command = command};
    if (lrk_context_create(NULL, &run->context, words, sizeof words) == LRK_OK) return true;
    (void)command_say(command, "%s", words);
    return false;
}

void command_end(command_run *run)
{
    lrk_context_destroy(run->context);
}

int command_say(const char *command, const char *format, ...)
{
    char words[WORDS_ROOM];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    fprintf(stderr, "lorank %s: ", command);
    command_text(stderr, words, 0);
    fputc('\n', stderr);
    return 1;
}

int command_fail(const command_run *run)
{
    char words[WORDS_ROOM] = "";
    lrk_context_error(run->context, words, sizeof words);
    return command_say(run->command, "%s", words);
}

command_progress command_progress_new(bool is_quiet, const char *unit, double scale)
{
    return (command_progress){
        .is_silent = is_quiet || !isatty(STDERR_FILENO), .unit = unit, .scale = scale, .shown = -1};
}

int32_t command_progress_show(void *user, uint64_t done, uint64_t total)
{
    command_progress *progress = user;
    int percent = total > 0 ? (int)(100.0 * (double)done / (double)total) : 100;
    if (percent != progress->shown && !progress->is_silent)
        fprintf(stderr, "\r%3d %% of %.*f %s%s", percent, progress->scale < 1,
                (double)total * progress->scale, progress->unit, done == total ? "\n" : "");
    progress->shown = percent;
    return 0;
}

void command_progress_end(const command_progress *progress)
{
    if (!progress->is_silent && progress->shown >= 0 && progress->shown < 100) fputc('\n', stderr);
}

int command_print(const char *command, FILE *stream, char **text, size_t *n)
{
    int status = 0;
    bool is_whole = !ferror(stream);
    if (fclose(stream) != 0 || !is_whole)
        status = command_say(command, "out of memory");
    else if (fwrite(*text, 1, *n, stdout) != *n || fflush(stdout) != 0)
        status = command_say(command, "cannot write to standard output: %s", strerror(errno));
    free(*text);
    return status;
}

/* ---- text ---- */

/* Names come from files, and a terminal obeys control characters: C0, DEL, and C1 in UTF-8. */
static size_t control_bytes(const unsigned char *at)
{
    if (at[0] < 0x20 || at[0] == 0x7f) return 1;
    return at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0 ? 2 : 0;
}

void command_text(FILE *out, const char *text, int width)
{
    int n = 0;
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0';) {
        size_t escaped = control_bytes(at);
        if (escaped == 0) n += fputc(*at++, out) != EOF;
        for (; escaped > 0; escaped--)
            n += fprintf(out, "\\x%02x", *at++);
    }
    for (; n < width; n++)
        fputc(' ', out);
}

/* ---- JSON ---- */

void command_json_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

void command_json_real(FILE *out, double value)
{
    if (isfinite(value))
        fprintf(out, "%.17g", value);
    else
        fputs("null", out);
}
