/* SPDX-License-Identifier: MIT */
/*
 * Loads a task. Whatever does not fit together - more token ids than embeddings, windows longer than the
 * model's positions, rows of two kinds - ends here, before anything is computed or written.
 */
#include "task.h"

#include <stdio.h>
#include <string.h>

static int load_tokenizer(const ft_args *args, ft_task *task, ft_error *error)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/tokenizer.json", args->model) >= (int)sizeof path)
        return ft_fail(error, "--model: the path is too long");
    if (ft_tokenizer_load(path, &task->tokenizer, error)) return -1;
    int32_t n_ids = ft_tokenizer_n_ids(task->tokenizer);
    if (n_ids > task->config.vocab)
        return ft_fail(error, "%s: token ids go up to %d, the model has %lld embeddings", path, n_ids - 1,
                       (long long)task->config.vocab);
    return 0;
}

static int check_positions(const ft_args *args, const llama_config *config, int64_t seq_len, ft_error *error)
{
    if (seq_len > config->max_positions)
        return ft_fail(error, "the sequence length %lld exceeds the %lld positions of %s", (long long)seq_len,
                       (long long)config->max_positions, args->model);
    return 0;
}

static int load_rows(const ft_args *args, int64_t seq_len, ft_task *task, ft_error *error)
{
    const char *path[] = {args->train, args->dev, args->test};
    ft_data *rows[] = {&task->train, &task->dev, &task->test};
    int32_t kind = -1;
    for (int i = 0; i < 3; i++) {
        if (!path[i]) continue;
        if (task->config.eos_token < 0)
            return ft_fail(error, "%s/config.json: eos_token_id is needed to end rows", args->model);
        if (ft_data_read(path[i], task->tokenizer, task->config.eos_token, seq_len, rows[i], error))
            return -1;
        if (kind >= 0 && rows[i]->kind != kind)
            return ft_fail(error, "%s: its rows are of another kind than those of the other files", path[i]);
        kind = rows[i]->kind;
    }
    return 0;
}

int ft_task_load(const ft_args *args, int64_t seq_len, ft_task *task, ft_error *error)
{
    *task = (ft_task){0};
    int failed = llama_config_read(args->model, &task->config, error->text, sizeof error->text) ||
                 check_positions(args, &task->config, seq_len, error) || load_tokenizer(args, task, error) ||
                 load_rows(args, seq_len, task, error) ||
                 llama_load(args->model, &task->model, error->text, sizeof error->text);
    if (failed) ft_task_free(task);
    return failed ? -1 : 0;
}

void ft_task_free(ft_task *task)
{
    ft_data_free(&task->train);
    ft_data_free(&task->dev);
    ft_data_free(&task->test);
    ft_tokenizer_free(task->tokenizer);
    llama_free(task->model);
    *task = (ft_task){0};
}
