/* SPDX-License-Identifier: MIT */
/*
 * The one place that formats error lines. A line that does not fit is cut, never overrun.
 */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

int ft_fail(ft_error *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return -1;
}

int ft_fail_memory(ft_error *error, const char *what)
{
    return ft_fail(error, "out of memory for %s", what);
}
