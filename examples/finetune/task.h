/* SPDX-License-Identifier: MIT */
/* What a run works on: the model, its tokenizer and the rows, loaded and checked against each other. */
#ifndef FT_TASK_H
#define FT_TASK_H

#include "args.h"
#include "data.h"
#include "failure.h"
#include "model.h"
#include "tokenizer.h"

typedef struct ft_task {
    llama_config config;
    llama_model *model;
    ft_tokenizer *tokenizer;
    ft_data train, dev, test; /* no rows where no file was given */
} ft_task;

/* Cheap checks come first; the weights are loaded last. On failure the task is empty. */
int ft_task_load(const ft_args *args, int64_t seq_len, ft_task *task, ft_error *error);
void ft_task_free(ft_task *task);

#endif
