/* SPDX-License-Identifier: MIT */
/*
 * How the trainer reports errors: a function that can fail takes an ft_error, writes one line
 * into it that names the thing at fault, and returns -1. Nothing below main prints or exits.
 */
#ifndef FT_FAILURE_H
#define FT_FAILURE_H

typedef struct ft_error {
    char text[1024];
} ft_error;

/* Write the line and return -1, so that a failing function can end with `return ft_fail(...)`. */
int ft_fail(ft_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The line for a failed allocation. */
int ft_fail_memory(ft_error *error, const char *what);

#endif
