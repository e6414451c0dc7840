/* SPDX-License-Identifier: MIT */
/* What the program can be asked to do. Each returns an exit status; on other than 0 the error holds a line. */
#ifndef FT_COMMANDS_H
#define FT_COMMANDS_H

#include "args.h"
#include "failure.h"

#define FT_EXIT_OK          0
#define FT_EXIT_FAILED      1
#define FT_EXIT_WRONG       2 /* something given is wrong; nothing was written */
#define FT_EXIT_INTERRUPTED 130

int ft_command_evaluate(const ft_args *args, ft_error *error);
int ft_command_generate(const ft_args *args, ft_error *error);
#ifdef LORANK
int ft_command_list(void);
int ft_command_train(const ft_args *args, ft_error *error);
int ft_command_dry_run(const ft_args *args, ft_error *error);
int ft_command_demo(const ft_args *args, ft_error *error);
#endif

#endif
