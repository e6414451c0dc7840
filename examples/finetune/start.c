/* SPDX-License-Identifier: MIT */
/*
 * The model's own forward and backward feed the sketch: the pass says so, and silences the adapters. The rows are training
 * rows in an order of their own.
 */
#ifdef LORANK
#include "start.h"

#include <stdlib.h>

#include "glue.h"

static int fail_lorank(const ft_trainer *t, ft_error *error)
{
    return ft_fail_lorank(error, t->context, NULL);
}

/* One batch through the base model under a pass that feeds the sketch. */
static int feed_batch(ft_trainer *t, lrk_sketch *sketch, const lrk_mask *none, ft_error *error)
{
    lrk_pass_options options;
    lrk_pass *pass;
    double weight = 0;
    lrk_pass_options_init(&options, sizeof options);
    options.gradients = 0;
    options.mask = none;
    options.sketch = sketch;
    options.max_rows = t->batch.view.n_seq * t->batch.view.seq_len;
    if (lrk_pass_begin(t->adapters, &options, &pass)) return fail_lorank(t, error);
    llama_run_set_pass(t->run, pass);
    int failed = llama_forward_loss(t->run, &t->batch.view, t->scores);
    for (int64_t i = 0; i < t->batch.view.n_seq && !failed; i++)
        weight += t->scores[i].weight;
    if (!failed) failed = llama_backward(t->run, 1.0 / weight, NULL);
    ft_trainer_end_pass(t, pass);
    return failed ? ft_fail(error, "%s", llama_run_error(t->run)) : 0;
}

static int feed(ft_trainer *t, lrk_sketch *sketch, int64_t batches, uint64_t seed, ft_error *error)
{
    const ft_data *rows = &t->task->train;
    int64_t n = t->settings->batch, *order = malloc((size_t)rows->n_rows * sizeof *order);
    lrk_mask *none = NULL;
    int failed = !order ? ft_fail_memory(error, "the order of rows") : 0;
    if (!failed && lrk_mask_create_none(t->adapters, &none)) failed = fail_lorank(t, error);
    if (!failed && batches > rows->n_rows / n)
        failed = ft_fail(error, "start.batches is %lld, but train has %lld batches of %lld rows",
                         (long long)batches, (long long)(rows->n_rows / n), (long long)n);
    if (!failed) ft_shuffle(order, rows->n_rows, seed, FT_STREAM_START);
    for (int64_t i = 0; i < batches && !failed; i++)
        failed =
            ft_batch_fill(&t->batch, rows, order + i * n, n, error) || feed_batch(t, sketch, none, error);
    lrk_mask_destroy(none);
    free(order);
    return failed;
}

static int carry_out(ft_trainer *t, const lrk_config *config, const lrk_sketch *sketch, ft_error *error)
{
    lrk_participant optimizer;
    lrk_plan *plan = NULL;
    lrk_participant_init(&optimizer, sizeof optimizer);
    lrk_status status = lrk_optimizer_participant(t->optimizer, &optimizer);
    if (!status) status = lrk_config_plan_start(config, sketch, t->step, &plan);
    if (!status) status = lrk_plan_prepare(plan, &optimizer, 1);
    if (!status) status = lrk_plan_commit(plan);
    int failed = status ? fail_lorank(t, error) : 0;
    if (plan && status) lrk_plan_abandon(plan);
    lrk_plan_destroy(plan);
    return failed;
}

int ft_start(ft_trainer *t, const lrk_config *config, int *begun, ft_error *error)
{
    lrk_sketch *sketch = NULL;
    int64_t batches = 0;
    *begun = 0;
    if (lrk_config_create_sketch(config, t->adapters, &sketch, &batches)) return fail_lorank(t, error);
    if (!sketch) return 0;
    int failed =
        feed(t, sketch, batches, lrk_config_seed(config), error) || carry_out(t, config, sketch, error);
    lrk_sketch_destroy(sketch);
    *begun = !failed;
    return failed ? -1 : 0;
}
#endif
