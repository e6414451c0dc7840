/* SPDX-License-Identifier: MIT */
/*
 * lorank asks for evaluations in ascending order of the first stage that a mask changes; the cache rolls
 * forward with them. Both baselines are run once a state of the parameters.
 */
#ifdef LORANK
#include "score.h"

#include "digest.h"

#include <stdlib.h>

#include "interrupt.h"

/* The cache holds inputs of one shape: rows of another length need another cache. */
static int fit_cache(ft_scorer *scorer, ft_error *error)
{
    int64_t tokens = scorer->batch.view.n_seq * scorer->batch.view.seq_len;
    if (tokens == scorer->cache_tokens) return 0;
    llama_cache_free(scorer->cache);
    scorer->cache_tokens = 0;
    if (llama_cache_create(scorer->config, tokens, scorer->cache_bytes, &scorer->cache, error->text,
                           sizeof error->text))
        return -1;
    scorer->cache_tokens = tokens;
    return 0;
}

static int draw_rows(ft_scorer *scorer, int64_t round, ft_error *error)
{
    int64_t *order = malloc((size_t)scorer->data->n_rows * sizeof *order);
    if (!order) return ft_fail_memory(error, "the validation batch");
    ft_shuffle(order, scorer->data->n_rows, scorer->seed, FT_STREAM_VALIDATION + (uint64_t)round);
    int failed = ft_batch_fill(&scorer->batch, scorer->data, order, scorer->n_rows, error);
    free(order);
    return failed ? -1 : fit_cache(scorer, error);
}

int ft_scorer_create(ft_scorer *scorer, const ft_task *task, const ft_settings *settings, llama_run *run,
                     lrk_adapters *adapters, uint64_t seed, ft_error *error)
{
    if (settings->validation_rows > task->dev.n_rows)
        return ft_fail(error, "validation_rows is %lld, but dev has %lld rows",
                       (long long)settings->validation_rows, (long long)task->dev.n_rows);
    *scorer = (ft_scorer){.run = run,
                          .config = &task->config,
                          .adapters = adapters,
                          .data = &task->dev,
                          .n_rows = settings->validation_rows,
                          .cache_bytes = (size_t)settings->cache_bytes,
                          .draws_every_round = settings->redraw_validation,
                          .seed = seed};
    scorer->scores = calloc((size_t)scorer->n_rows, sizeof *scorer->scores);
    if (!scorer->scores) return ft_fail_memory(error, "the validation batch");
    return draw_rows(scorer, 0, error);
}

void ft_scorer_free(ft_scorer *scorer)
{
    llama_cache_free(scorer->cache);
    ft_batch_free(&scorer->batch);
    free(scorer->scores);
    *scorer = (ft_scorer){0};
}

int ft_scorer_begin_round(ft_scorer *scorer, int64_t round, ft_error *error)
{
    scorer->state++;
    scorer->error.text[0] = '\0';
    return scorer->draws_every_round ? draw_rows(scorer, round, error) : 0;
}

void ft_scorer_forget(ft_scorer *scorer)
{
    scorer->state++;
}

uint64_t ft_scorer_digest(const ft_scorer *scorer)
{
    const llama_batch *b = &scorer->batch.view;
    return ft_digest(FT_DIGEST_EMPTY, b->tokens, (size_t)(b->n_seq * b->seq_len) * sizeof *b->tokens);
}

static uint64_t state_of(ft_scorer *scorer)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    lrk_adapters_info_get(scorer->adapters, &info);
    if (info.values_version != scorer->values_version) scorer->state++;
    scorer->values_version = info.values_version;
    return scorer->state;
}

static double fill_parts(const ft_scorer *scorer, const lrk_evaluation *evaluation)
{
    double weight = 0;
    for (int32_t i = 0; i < evaluation->n_parts; i++) {
        evaluation->parts[i] = (lrk_loss_part){scorer->scores[i].loss_sum, scorer->scores[i].weight};
        weight += scorer->scores[i].weight;
    }
    return weight;
}

/* Ends a callback: the run is plain again, and its error line is kept, since lorank only learns that it failed. */
static int32_t leave(ft_scorer *scorer, int failed)
{
    llama_run_set_pass(scorer->run, NULL);
    if (failed) ft_fail(&scorer->error, "%s", llama_run_error(scorer->run));
    return failed;
}

static int32_t evaluate(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    ft_scorer *scorer = user;
    int failed = 0;
    for (int32_t i = 0; i < n && !failed; i++) {
        const lrk_evaluation *e = &evaluations[i];
        llama_start start = {e->baseline == LRK_BASELINE_ALL ? LLAMA_BASELINE_ALL : LLAMA_BASELINE_NONE,
                             e->first_stage == LRK_NO_STAGE ? scorer->config->n_layers : e->first_stage,
                             state_of(scorer)};
        llama_run_set_pass(scorer->run, e->pass);
        failed = llama_evaluate_from(scorer->run, scorer->cache, &scorer->batch.view, &start, scorer->scores);
        if (!failed) fill_parts(scorer, e);
        scorer->evaluations++;
    }
    return leave(scorer, failed);
}

static int32_t differentiate(void *user, const lrk_evaluation *evaluation)
{
    ft_scorer *scorer = user;
    llama_run_set_pass(scorer->run, evaluation->pass);
    int failed = llama_forward_loss(scorer->run, &scorer->batch.view, scorer->scores);
    if (!failed) failed = llama_backward(scorer->run, 1.0 / fill_parts(scorer, evaluation), NULL);
    return leave(scorer, failed);
}

/* Rounds are short: off a terminal they get no lines of their own. */
static int32_t progress(void *user, int64_t done, int64_t total)
{
    ft_scorer *scorer = user;
    if (scorer->progress.label == NULL) ft_progress_begin(&scorer->progress, "scoring", total);
    scorer->progress.total = total;
    if (scorer->progress.is_terminal) ft_progress_update(&scorer->progress, done, "");
    if (done >= total) {
        ft_progress_end(&scorer->progress);
        scorer->progress.label = NULL;
    }
    return (scorer->between && scorer->between(scorer->between_user, done)) || ft_interrupted;
}

void ft_scorer_evaluator(ft_scorer *scorer, lrk_evaluator *evaluator)
{
    lrk_evaluator_init(evaluator, sizeof *evaluator);
    evaluator->user = scorer;
    evaluator->evaluate = evaluate;
    evaluator->differentiate = differentiate;
    evaluator->progress = progress;
    evaluator->max_rows = scorer->n_rows * scorer->data->longest;
    evaluator->n_parts = (int32_t)scorer->n_rows;
}
#endif
