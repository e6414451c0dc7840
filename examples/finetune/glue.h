/* SPDX-License-Identifier: MIT */
/* Between lorank's errors and the trainer's. Only the build with lorank uses it. */
#ifndef FT_GLUE_H
#define FT_GLUE_H

#include "failure.h"
#include "lorank/lorank.h"

/* Write what the context says about the thread's last failure, after `where` if given; returns -1. */
int ft_fail_lorank(ft_error *error, const lrk_context *context, const char *where);

/* A context that shares the trainer's threads and prints lorank's warnings. */
int ft_context_create(int64_t threads, lrk_context **context, ft_error *error);

#endif
