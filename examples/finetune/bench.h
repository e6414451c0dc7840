/* SPDX-License-Identifier: MIT */
/* All that training needs, opened in one call: configuration, task, and a trainer with its adapters. */
#ifndef FT_BENCH_H
#define FT_BENCH_H

#include "args.h"
#include "failure.h"
#include "loop.h"
#include "lorank/lorank.h"
#include "trainer.h"

typedef struct ft_bench {
    ft_args args;
    lrk_context *context;
    lrk_config *config;
    ft_settings settings;
    ft_task task;
    ft_trainer trainer; /* borrows from the members above: a bench is not copied */
} ft_bench;

/* Load configuration and task; the trainer comes with ft_bench_prepare(). Starts as {0}. */
int ft_bench_open(ft_bench *bench, const ft_args *args, ft_error *error);
void ft_bench_close(ft_bench *bench);

/* A key of the configuration put in place of what file and command line say; key NULL: none. */
typedef struct ft_override {
    const char *key, *value;
} ft_override;

enum { FT_BENCH_OVERRIDES = 3 };

/*
 * A fresh trainer by the configuration and the overrides (NULL, or FT_BENCH_OVERRIDES of them), instead of the
 * one before. The task is kept: overrides that would change its rows are not for here.
 */
int ft_bench_prepare(ft_bench *bench, const ft_override *overrides, ft_error *error);

/* Loss of the base model, without adapters. */
int ft_bench_base(ft_bench *bench, ft_loss *dev, ft_loss *test, ft_error *error);

/* Write the trainer's adapters as a PEFT directory. */
int ft_bench_save(ft_bench *bench, const char *directory, ft_error *error);

#endif
