/* SPDX-License-Identifier: MIT */
/*
 * Draws progress. A terminal is redrawn at most ten times a second; elsewhere ten lines a phase are written.
 */
#include "progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 24, LINES = 10 };

double ft_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void ft_progress_begin(ft_progress *progress, const char *label, int64_t total)
{
    *progress = (ft_progress){.label = label, .total = total, .begun = ft_now()};
    progress->is_terminal = isatty(STDERR_FILENO);
    progress->next_line = (total + LINES - 1) / LINES;
}

static void print_time(double seconds)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        fprintf(stderr, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        fprintf(stderr, "%ld:%02ld", s / 60, s % 60);
}

static void print_rate(const ft_progress *progress, int64_t done)
{
    double elapsed = ft_now() - progress->begun, rate = elapsed > 0 ? (double)done / elapsed : 0;
    fprintf(stderr, "%lld/%lld  %.1f/s", (long long)done, (long long)progress->total, rate);
    if (rate <= 0 || done >= progress->total) return;
    fputs("  left ", stderr);
    print_time((double)(progress->total - done) / rate);
}

static void clear_bar(ft_progress *progress)
{
    if (progress->is_drawn) fputs("\r\033[K", stderr);
    progress->is_drawn = 0;
}

static void draw_bar(ft_progress *progress, int64_t done, const char *note)
{
    char bar[BAR + 1];
    int filled = progress->total > 0 ? (int)(done * BAR / progress->total) : BAR;
    for (int i = 0; i < BAR; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR] = '\0';
    clear_bar(progress);
    fprintf(stderr, "%s [%s] ", progress->label, bar);
    print_rate(progress, done);
    fprintf(stderr, "  %s", note);
    fflush(stderr);
    progress->is_drawn = 1;
    progress->drawn_at = ft_now();
}

static void write_line(ft_progress *progress, int64_t done, const char *note)
{
    fprintf(stderr, "%s ", progress->label);
    print_rate(progress, done);
    fprintf(stderr, "  %s\n", note);
    while (progress->next_line <= done)
        progress->next_line += (progress->total + LINES - 1) / LINES;
}

void ft_progress_update(ft_progress *progress, int64_t done, const char *note)
{
    if (progress->is_terminal) {
        if (done >= progress->total || ft_now() - progress->drawn_at >= 0.1) draw_bar(progress, done, note);
    } else if (progress->total > 0 && (done >= progress->next_line || done == progress->total)) {
        write_line(progress, done, note);
    }
}

void ft_progress_say(ft_progress *progress, const char *format, ...)
{
    va_list args;
    clear_bar(progress);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void ft_progress_end(ft_progress *progress)
{
    clear_bar(progress);
    fflush(stderr);
}
