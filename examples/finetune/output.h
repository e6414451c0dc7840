/* SPDX-License-Identifier: MIT */
/* The output directory and what goes into it besides lorank's own files. */
#ifndef FT_OUTPUT_H
#define FT_OUTPUT_H

#include <jansson.h>
#include <stddef.h>

#include "failure.h"

enum { FT_PATH = 4096 };

/* Can the directory be made or written to? Makes nothing. */
int ft_output_check(const char *directory, ft_error *error);

/* Make it if it is not there (its parent must be). */
int ft_output_create(const char *directory, ft_error *error);

int ft_output_path(const char *directory, const char *name, char path[FT_PATH], ft_error *error);

/* Write JSON under a temporary name, sync, rename: the file is the old one or the new one. */
int ft_output_json(const char *path, const json_t *value, ft_error *error);

/* Run `COMMAND report TRACE -o HTML`. command NULL: lorank next to this program, else on the PATH. */
int ft_output_report(const char *command, const char *trace, const char *html, ft_error *error);

/* A number, or null if it is not finite: JSON has no other way to say "none". */
json_t *ft_json_number(double value);

#endif
