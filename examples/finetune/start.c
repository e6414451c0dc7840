/* SPDX-License-Identifier: MIT */
/*
 * The model's own forward, and for a gradient its backward, feed what a start is made of: the pass says so, and silences the
 * adapters. The rows are training rows in an order of their own.
 */
#ifdef LORANK
#include "start.h"

#include <stdlib.h>
#include <string.h>

#include "glue.h"
#include "workers.h"

/* What a start is made of: one of the three is there. */
typedef struct material {
    lrk_sketch *sketch;
    lrk_pca *pca;
    lrk_pca *turn; /* of several workers: what this one adds to pca once each has run a batch */
    float *points; /* [n_layers + 1 x most x hidden]: a row's hidden states at its last target */
    int64_t most;
    lrk_twonn_options twonn;
    int64_t batches; /* at most; of them `run` by this worker */
    int64_t run;
    lrk_mask *none;
} material;

static int fail_lorank(const ft_trainer *t, ft_error *error)
{
    return ft_fail_lorank(error, t->context, NULL);
}

/* The tokens that have a target: neither padding nor what is not learnt. */
static int select_rows(ft_trainer *t, lrk_pca *pca, ft_error *error)
{
    const llama_batch *batch = &t->batch.view;
    int64_t n = batch->n_seq * batch->seq_len;
    uint8_t *counts = malloc((size_t)n);
    if (!counts) return ft_fail_memory(error, "the rows of a start");
    for (int64_t i = 0; i < n; i++)
        counts[i] = batch->targets[i] >= 0;
    lrk_status status = lrk_pca_select(pca, counts, n);
    free(counts);
    return status ? fail_lorank(t, error) : 0;
}

/* The last token of a row that has a target. */
static int64_t last_target(const llama_batch *batch, int64_t row)
{
    int64_t first = row * batch->seq_len, at = first + batch->seq_len - 1;
    while (at > first && batch->targets[at] < 0)
        at--;
    return at;
}

static void keep_points(const ft_trainer *t, material *m, int64_t first)
{
    const llama_config *c = &t->task->config;
    const llama_batch *batch = &t->batch.view;
    for (int64_t i = 0; i < batch->n_seq; i++)
        for (int64_t b = 0; b <= c->n_layers; b++)
            memcpy(m->points + (b * m->most + first + i) * c->hidden,
                   llama_hidden(t->run, b) + last_target(batch, i) * c->hidden,
                   (size_t)c->hidden * sizeof *m->points);
}

static lrk_pca *fed_components(const material *m)
{
    return m->turn ? m->turn : m->pca;
}

static int run_model(ft_trainer *t, material *m, int64_t first)
{
    double weight = 0;
    if (m->pca) return llama_evaluate(t->run, &t->batch.view, t->scores);
    if (llama_forward_loss(t->run, &t->batch.view, t->scores)) return -1;
    if (m->points) keep_points(t, m, first);
    if (!m->sketch) return 0;
    for (int64_t i = 0; i < t->batch.view.n_seq; i++)
        weight += t->scores[i].weight;
    return llama_backward(t->run, 1.0 / weight, NULL);
}

/* One batch through the base model under a pass that feeds the material. `first`: of its rows, among those of all batches. */
static int feed_batch(ft_trainer *t, material *m, int64_t first, ft_error *error)
{
    lrk_pass_options options;
    lrk_pass *pass;
    if (m->pca && select_rows(t, fed_components(m), error)) return -1;
    lrk_pass_options_init(&options, sizeof options);
    options.gradients = 0;
    options.mask = m->none;
    options.sketch = m->sketch;
    options.pca = fed_components(m);
    options.max_rows = t->batch.view.n_seq * t->batch.view.seq_len;
    if (lrk_pass_begin(t->adapters, &options, &pass)) return fail_lorank(t, error);
    llama_run_set_pass(t->run, pass);
    int failed = run_model(t, m, first);
    m->run++;
    ft_trainer_end_pass(t, pass);
    return failed ? ft_fail(error, "%s", llama_run_error(t->run)) : 0;
}

/* What the workers were fed this turn is added to what all hold; *open: inputs that have not settled. */
static int end_turn(const ft_trainer *t, const lrk_config *config, material *m, int64_t *open,
                    ft_error *error)
{
    const double *state;
    int64_t n, batches;
    lrk_status status = LRK_OK;
    if (m->turn) {
        status = lrk_pca_gather(m->turn);
        if (!status) status = lrk_pca_state(m->turn, &state, &n);
        if (!status) status = lrk_pca_add(m->pca, state, n);
        lrk_pca_destroy(m->turn);
        m->turn = NULL;
        if (!status) status = lrk_config_create_pca(config, t->adapters, &m->turn, &batches);
    }
    if (!status) status = lrk_config_settle_eva(config, m->pca, open);
    return status ? fail_lorank(t, error) : 0;
}

static int feed(ft_trainer *t, const lrk_config *config, material *m, ft_error *error)
{
    const ft_data *rows = &t->task->train;
    int64_t n = t->settings->batch, open = 1, *order = malloc((size_t)rows->n_rows * sizeof *order);
    int failed = !order ? ft_fail_memory(error, "the order of rows") : 0;
    if (!failed && lrk_mask_create_none(t->adapters, &m->none)) failed = fail_lorank(t, error);
    if (!failed && m->batches > rows->n_rows / n)
        failed = ft_fail(error, "start.batches is %lld, but train has %lld batches of %lld rows",
                         (long long)m->batches, (long long)(rows->n_rows / n), (long long)n);
    if (!failed) ft_shuffle(order, rows->n_rows, lrk_config_seed(config), FT_STREAM_START);
    for (int64_t i = 0; i < m->batches && open > 0 && !failed; i++) {
        if (ft_workers_owns(i))
            failed =
                ft_batch_fill(&t->batch, rows, order + i * n, n, error) || feed_batch(t, m, i * n, error);
        if (!failed && m->pca && ((i + 1) % ft_workers_number() == 0 || i + 1 == m->batches))
            failed = end_turn(t, config, m, &open, error);
    }
    free(order);
    return failed;
}

/*
 * Workers share the batches out and bring together what they were fed; points are 0 where another worker has them. Components were
 * brought together turn by turn.
 */
static int bring_together(const ft_trainer *t, material *m, ft_error *error)
{
    if (m->sketch) return lrk_sketch_gather(m->sketch) ? fail_lorank(t, error) : 0;
    int64_t n = (t->task->config.n_layers + 1) * m->most * t->task->config.hidden;
    return m->points ? ft_workers_sum_floats(m->points, n, error) : 0;
}

static lrk_status plan_gelora(const ft_trainer *t, const lrk_config *config, const material *m,
                              lrk_plan **plan)
{
    int64_t n = t->task->config.n_layers + 1, hidden = t->task->config.hidden;
    double *dimensions = calloc((size_t)n, sizeof *dimensions);
    lrk_status status = dimensions ? LRK_OK : LRK_ERR_NOMEM;
    for (int64_t b = 0; b < n && !status; b++) {
        lrk_twonn_info info = {.struct_size = sizeof info};
        status = lrk_intrinsic_dimension(t->context, m->points + b * m->most * hidden, m->most, hidden,
                                         hidden, &m->twonn, &info);
        dimensions[b] = info.dimension;
    }
    if (!status) status = lrk_config_plan_gelora(config, t->adapters, dimensions, n, t->step, plan);
    free(dimensions);
    return status;
}

/* The layer of a module; kinds count on over blocks. */
static int64_t layer_of(const ft_trainer *t, const char *name)
{
    llama_linear layer;
    for (int64_t i = 0; i < t->task->config.n_layers * LLAMA_N_KINDS; i++) {
        llama_linear_describe(&t->task->config, i / LLAMA_N_KINDS, (int)(i % LLAMA_N_KINDS), &layer);
        if (!strcmp(layer.name, name)) return i;
    }
    return -1;
}

static float *weight_of(const ft_trainer *t, int32_t module, int64_t *n_in)
{
    lrk_module_info info = {.struct_size = sizeof info};
    if (lrk_adapters_module(t->adapters, module, &info)) return NULL;
    int64_t layer = layer_of(t, info.name);
    *n_in = info.n_in;
    return layer < 0 ? NULL
                     : llama_weight(t->task->model, layer / LLAMA_N_KINDS, (int)(layer % LLAMA_N_KINDS));
}

static int32_t give_weight(void *user, int32_t module, lrk_weight *weight)
{
    weight->data = weight_of(user, module, &weight->ld);
    return weight->data == NULL;
}

static lrk_status make_plan(ft_trainer *t, const lrk_config *config, const material *m, lrk_plan **plan)
{
    if (m->points) return plan_gelora(t, config, m, plan);
    return m->pca ? lrk_config_plan_eva(config, m->pca, t->step, plan)
                  : lrk_config_plan_gradients(config, m->sketch, give_weight, t, t->step, plan);
}

/* ---- starts from weights, and what starts subtract ---- */

/* The model's weights lose what the adapters begin with, and the trainer remembers it for the export. */
static int subtract(ft_trainer *t, ft_error *error)
{
    lrk_adapters_info set = {.struct_size = sizeof set};
    lrk_adapters_options options;
    lrk_adapters_options_init(&options, sizeof options);
    options.flags = LRK_ADAPTERS_INFERENCE;
    lrk_adapters_info_get(t->adapters, &set);
    int64_t *ranks = calloc((size_t)set.modules, sizeof *ranks);
    if (!ranks) return ft_fail_memory(error, "what a start subtracts");
    for (int32_t i = 0; i < set.modules; i++)
        lrk_adapters_ranks(t->adapters, i, NULL, NULL, &ranks[i]);
    lrk_status status =
        lrk_adapters_resize(t->adapters, ranks, &options, &t->begun); /* the same ranks: a copy */
    free(ranks);
    for (int32_t i = 0; i < set.modules && !status; i++) {
        int64_t n_in = 0;
        float *weight = weight_of(t, i, &n_in);
        status = lrk_adapters_merge(t->adapters, i, -1, LRK_WEIGHT_OUT_IN, weight, n_in);
    }
    return status ? fail_lorank(t, error) : 0;
}

static int commit(ft_trainer *t, const lrk_config *config, lrk_plan *plan, ft_error *error)
{
    lrk_participant optimizer;
    lrk_participant_init(&optimizer, sizeof optimizer);
    lrk_status status = lrk_optimizer_participant(t->optimizer, &optimizer);
    if (!status) status = lrk_plan_prepare(plan, &optimizer, 1);
    if (!status) status = lrk_plan_commit(plan);
    int failed = status ? fail_lorank(t, error) : 0;
    if (status) lrk_plan_abandon(plan);
    return failed || (lrk_config_start_subtracts(config) && subtract(t, error));
}

static int start_from_weights(ft_trainer *t, const lrk_config *config, int *begun, ft_error *error)
{
    lrk_plan *plan = NULL;
    if (lrk_config_plan_weights(config, t->adapters, give_weight, t, t->step, &plan))
        return fail_lorank(t, error);
    int failed = plan && commit(t, config, plan, error);
    *begun = plan && !failed;
    lrk_plan_destroy(plan);
    return failed;
}

static int create_points(const ft_trainer *t, const lrk_config *config, material *m, ft_error *error)
{
    m->twonn.struct_size = sizeof m->twonn;
    if (lrk_config_twonn(config, &m->twonn, &m->batches)) return fail_lorank(t, error);
    if (m->batches == 0) return 0;
    m->most = m->batches * t->settings->batch;
    m->points = calloc((size_t)((t->task->config.n_layers + 1) * m->most * t->task->config.hidden),
                       sizeof *m->points);
    return m->points ? 0 : ft_fail_memory(error, "the hidden states of a start");
}

static int create(const ft_trainer *t, const lrk_config *config, material *m, ft_error *error)
{
    if (lrk_config_create_sketch(config, t->adapters, &m->sketch, &m->batches)) return fail_lorank(t, error);
    if (!m->sketch && lrk_config_create_pca(config, t->adapters, &m->pca, &m->batches))
        return fail_lorank(t, error);
    if (m->pca && ft_workers_many() && lrk_config_create_pca(config, t->adapters, &m->turn, &m->batches))
        return fail_lorank(t, error);
    return m->sketch || m->pca ? 0 : create_points(t, config, m, error);
}

static int carry_out(ft_trainer *t, const lrk_config *config, const material *m, ft_error *error)
{
    lrk_plan *plan = NULL;
    int failed = make_plan(t, config, m, &plan) ? fail_lorank(t, error) : commit(t, config, plan, error);
    lrk_plan_destroy(plan);
    return failed;
}

int ft_start(ft_trainer *t, const lrk_config *config, int *begun, ft_error *error)
{
    material m = {0};
    *begun = 0;
    int failed = create(t, config, &m, error);
    if (!failed && m.batches > 0) {
        failed =
            feed(t, config, &m, error) || bring_together(t, &m, error) || carry_out(t, config, &m, error);
        *begun = !failed;
    } else if (!failed) {
        failed = start_from_weights(t, config, begun, error);
    }
    if (!failed && *begun) failed = ft_workers_check(t->adapters, "start", t->step, "batches", m.run, error);
    lrk_mask_destroy(m.none);
    lrk_sketch_destroy(m.sketch);
    lrk_pca_destroy(m.pca);
    lrk_pca_destroy(m.turn);
    free(m.points);
    return failed ? -1 : 0;
}
#endif
