/* SPDX-License-Identifier: MIT */
/*
 * Progress on standard error: a bar with rate and time left on a terminal, a plain line at every tenth
 * otherwise. Lines that matter go through ft_progress_say(), so that a bar is never left in their way.
 */
#ifndef FT_PROGRESS_H
#define FT_PROGRESS_H

#include <stdint.h>

typedef struct ft_progress {
    const char *label;
    int64_t total;
    int64_t next_line; /* plain: the count that is worth a line */
    int is_terminal;
    int is_drawn;
    double begun;
    double drawn_at;
} ft_progress;

/* Seconds on a clock that never steps back. */
double ft_now(void);

void ft_progress_begin(ft_progress *progress, const char *label, int64_t total);

/* note: a few words behind the bar, or "". */
void ft_progress_update(ft_progress *progress, int64_t done, const char *note);

void ft_progress_say(ft_progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ft_progress_end(ft_progress *progress);

#endif
