/* SPDX-License-Identifier: MIT */
/*
 * One model in training or evaluation: a step, and the loss of a file. Compiles with and without lorank;
 * what stands between #ifdef LORANK and #endif, here and in the model, is what adding lorank takes
 * (integration_diff.sh counts it).
 */
#ifndef FT_TRAINER_H
#define FT_TRAINER_H

#include "data.h"
#include "failure.h"
#include "model.h"
#include "settings.h"
#include "task.h"
#ifdef LORANK
#include "lorank/lorank.h"
#include "score.h"
#endif

typedef struct ft_loss {
    double loss;     /* mean cross-entropy of the targets, nats            */
    double accuracy; /* share of rows matched exactly; NaN for text rows   */
} ft_loss;

typedef struct ft_trainer {
    const ft_task *task;
    const ft_settings *settings;
    llama_run *run;
    ft_batch batch;
    llama_score *scores; /* one for each row of a batch */
    int64_t step;        /* optimizer steps so far      */
#ifdef LORANK
    lrk_context *context;
    lrk_adapters *adapters;
    lrk_adapters *begun; /* what a start subtracted from the model's weights; NULL: nothing */
    lrk_optimizer *optimizer;
    lrk_estimator *estimator;
    lrk_allocator *allocator;
    lrk_schedule *schedule;
    lrk_lr_options learning_rate;
    int32_t nested; /* LRK_NESTED_...                                         */
    int64_t depth;  /* of the step, with nested ranks                         */
    lrk_mask *mask; /* what passes train and evaluate under; NULL: everything */
    ft_scorer scorer;
#endif
} ft_trainer;

/* What a run of the model is created with; the dry run asks what that takes. */
void ft_trainer_run_options(const ft_task *task, const ft_settings *settings, const ft_args *args, int train,
                            llama_run_options *options);

/* train: also room for backward. The trainer borrows task and settings. */
int ft_trainer_create(const ft_task *task, const ft_settings *settings, const ft_args *args, int train,
                      ft_trainer *trainer, ft_error *error);
void ft_trainer_free(ft_trainer *trainer);

/* Mean loss and exact matches over all rows, under the adapters if there are any. */
int ft_trainer_evaluate(ft_trainer *trainer, const ft_data *data, ft_loss *loss, ft_error *error);

#ifdef LORANK
/* An evaluation pass of at most max_rows rows for calls on the run; without adapters it is NULL. */
int ft_trainer_begin_evaluation(ft_trainer *trainer, int64_t max_rows, lrk_pass **pass, ft_error *error);
void ft_trainer_end_pass(ft_trainer *trainer, lrk_pass *pass);
#endif

/* Train on rows[0..n) of the training file: forward, backward, one optimizer step. */
int ft_trainer_step(ft_trainer *trainer, const int64_t *rows, int64_t n, double *loss, ft_error *error);

#endif
