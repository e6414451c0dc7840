/* SPDX-License-Identifier: MIT */
/*
 * The trainer's core. Losses are summed in double over rows in order, so that results depend neither on
 * threads nor on the size of an evaluation's batches beyond rounding in the model.
 */
#include "trainer.h"

#include <math.h>
#include <stdlib.h>

#ifdef LORANK
#include "adapt.h"
#include "glue.h"
#include "nested.h"
#endif
#ifdef FT_MPI
#include "workers.h"
#endif

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void ft_trainer_run_options(const ft_task *task, const ft_settings *s, const ft_args *args, int train,
                            llama_run_options *options)
{
    int64_t tokens = larger(s->batch, s->validation_rows) * s->seq_len;
    *options = (llama_run_options){
        .train_tokens = train ? tokens : 0,
        .eval_tokens = tokens,
        .max_seq_len = args->mode == FT_MODE_GENERATE ? task->config.max_positions : s->seq_len,
        .recompute = s->recompute,
        .n_threads = (int32_t)args->threads,
    };
}

int ft_trainer_create(const ft_task *task, const ft_settings *settings, const ft_args *args, int train,
                      ft_trainer *trainer, ft_error *error)
{
    llama_run_options options;
    *trainer = (ft_trainer){.task = task, .settings = settings};
    ft_trainer_run_options(task, settings, args, train, &options);
    if (llama_run_create(task->model, &options, &trainer->run, error->text, sizeof error->text)) return -1;
    trainer->scores = calloc((size_t)larger(settings->batch, 1), sizeof *trainer->scores);
    if (trainer->scores) return 0;
    ft_trainer_free(trainer);
    return ft_fail_memory(error, "the trainer");
}

void ft_trainer_free(ft_trainer *trainer)
{
#ifdef LORANK
    ft_adapt_free(trainer);
#endif
    llama_run_free(trainer->run);
    ft_batch_free(&trainer->batch);
    free(trainer->scores);
    *trainer = (ft_trainer){0};
}

static int fail_run(const ft_trainer *trainer, ft_error *error)
{
    return ft_fail(error, "%s", llama_run_error(trainer->run));
}

#ifdef LORANK
/* Passes of one step, or of one batch of an evaluation; without adapters the run stays plain. */
static int begin_pass(ft_trainer *trainer, int32_t mode, int64_t max_rows, lrk_pass **pass, ft_error *error)
{
    lrk_pass_options options;
    *pass = NULL;
    if (!trainer->adapters) return 0;
    lrk_pass_options_init(&options, sizeof options);
    options.mode = mode;
    options.nonce = (uint64_t)trainer->step;
    options.mask = trainer->mask;
    options.max_rows = max_rows;
    if (mode == LRK_PASS_TRAIN && trainer->optimizer)
        lrk_optimizer_gradients(trainer->optimizer, &options.gradients);
    if (lrk_pass_begin(trainer->adapters, &options, pass))
        return ft_fail_lorank(error, trainer->context, NULL);
    llama_run_set_pass(trainer->run, *pass);
    return 0;
}

int ft_trainer_begin_evaluation(ft_trainer *trainer, int64_t max_rows, lrk_pass **pass, ft_error *error)
{
    return begin_pass(trainer, LRK_PASS_EVALUATE, max_rows, pass, error);
}

void ft_trainer_end_pass(ft_trainer *trainer, lrk_pass *pass)
{
    llama_run_set_pass(trainer->run, NULL);
    lrk_pass_end(pass);
}

static int64_t batch_rows(const ft_trainer *trainer)
{
    return trainer->batch.view.n_seq * trainer->batch.view.seq_len;
}

static int optimize(ft_trainer *trainer, ft_error *error)
{
    double rate = 0;
    if (lrk_learning_rate(&trainer->learning_rate, trainer->step, &rate) ||
        lrk_optimizer_step(trainer->optimizer, rate))
        return ft_fail_lorank(error, trainer->context, NULL);
    return 0;
}
#endif

/* ---- evaluation ---- */

typedef struct totals {
    double loss, weight;
    int64_t matched;
} totals;

static void add_scores(const ft_trainer *trainer, totals *sum)
{
    for (int64_t i = 0; i < trainer->batch.view.n_seq; i++) {
        const llama_score *s = &trainer->scores[i];
        sum->loss += s->loss_sum;
        sum->weight += s->weight;
        sum->matched += (double)s->n_correct == s->weight;
    }
}

static int evaluate_batch(ft_trainer *trainer, totals *sum, ft_error *error)
{
#ifdef LORANK
    lrk_pass *pass;
    if (ft_trainer_begin_evaluation(trainer, batch_rows(trainer), &pass, error)) return -1;
#endif
    int failed = llama_evaluate(trainer->run, &trainer->batch.view, trainer->scores);
#ifdef LORANK
    ft_trainer_end_pass(trainer, pass);
#endif
    if (failed) return fail_run(trainer, error);
    add_scores(trainer, sum);
    return 0;
}

int ft_trainer_evaluate(ft_trainer *trainer, const ft_data *data, ft_loss *loss, ft_error *error)
{
    totals sum = {0};
    int64_t n = trainer->settings->batch, *rows = malloc((size_t)n * sizeof *rows);
    if (!rows) return ft_fail_memory(error, "an evaluation");
    int failed = 0;
    for (int64_t at = 0; at < data->n_rows && !failed; at += n) {
        int64_t here = data->n_rows - at < n ? data->n_rows - at : n;
        for (int64_t i = 0; i < here; i++)
            rows[i] = at + i;
        failed =
            ft_batch_fill(&trainer->batch, data, rows, here, error) || evaluate_batch(trainer, &sum, error);
    }
    free(rows);
    loss->loss = sum.loss / sum.weight;
    loss->accuracy = data->kind == FT_ROWS_TEXT ? NAN : (double)sum.matched / (double)data->n_rows;
    return failed ? -1 : 0;
}

/* ---- training ---- */

static int forward_backward(ft_trainer *trainer, double *loss)
{
    totals sum = {0};
    if (llama_forward_loss(trainer->run, &trainer->batch.view, trainer->scores)) return -1;
    add_scores(trainer, &sum);
#ifdef FT_MPI
    double whole[2] = {sum.loss, sum.weight}; /* of all workers' rows */
    ft_workers_sum(whole, 2);
    sum.loss = whole[0];
    sum.weight = whole[1];
#endif
    *loss = sum.loss / sum.weight;
    return llama_backward(trainer->run, 1.0 / sum.weight, NULL);
}

int ft_trainer_step(ft_trainer *trainer, const int64_t *rows, int64_t n, double *loss, ft_error *error)
{
    if (ft_batch_fill(&trainer->batch, &trainer->task->train, rows, n, error)) return -1;
#ifdef LORANK
    lrk_pass *pass;
    if (ft_nested_begin(trainer, error)) return -1;
    if (begin_pass(trainer, LRK_PASS_TRAIN, batch_rows(trainer), &pass, error)) return -1;
#endif
    int failed = forward_backward(trainer, loss);
#ifdef LORANK
    ft_trainer_end_pass(trainer, pass);
#endif
    if (failed) return fail_run(trainer, error);
#ifdef FT_MPI
    if (ft_workers_sum_gradients(trainer->adapters, error)) return -1;
#endif
#ifdef LORANK
    if (ft_nested_end(trainer, error) || optimize(trainer, error)) return -1;
#endif
    trainer->step++;
    return 0;
}
