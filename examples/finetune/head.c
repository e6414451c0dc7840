/* SPDX-License-Identifier: MIT */
/*
 * The end of the model: final norm, logits, cross-entropy.
 *
 * Only rows with a target get logits.  They are gathered, and taken in chunks
 * whose logits fit a fixed share of memory whatever the vocabulary; a chunk is
 * one task.  With gradients wanted, a chunk's logits become their own
 * derivative at once and are carried back to the hidden state, so that no
 * chunk's logits outlive it.  Losses are kept one per target in double and
 * summed in the order of the batch.
 */
#include <string.h>

#include "model_internal.h"
#include "ops.h"

enum { MOST_ROWS = 128, MOST_LOGITS = 1 << 22 };

static int64_t chunk_rows(int64_t vocab)
{
    int64_t fit = MOST_LOGITS / vocab;
    return fit < 1 ? 1 : fit < MOST_ROWS ? fit : MOST_ROWS;
}

int64_t head_scratch_floats(const llama_config *config)
{
    return chunk_rows(config->vocab) * config->vocab;
}

void head_gather(llama_run *run, const int32_t *targets)
{
    int64_t hidden = run->model->config.hidden;
    run->n_counted = 0;
    for (int64_t row = 0; row < run->rows; row++) {
        if (targets == NULL || targets[row] < 0) continue;
        memcpy(run->gathered + run->n_counted * hidden, run->x + row * hidden,
               (size_t)hidden * sizeof *run->x);
        run->counted[run->n_counted++] = (int32_t)row;
    }
    /* In place: a row of the norm reads and writes its own row alone. */
    ops_rmsnorm(run->n_counted, hidden, run->model->config.rms_norm_eps, run->gathered,
                run->model->final_norm, run->gathered);
}

static void chunk_loss(llama_run *run, const int32_t *targets, int want_gradient, int64_t first, int64_t n)
{
    const llama_config *c = &run->model->config;
    float *logits = run->thread_scratch + ops_thread_index() * run->thread_floats;
    ops_gemm_serial(&(ops_product){.trans_b = 1,
                                   .m = n,
                                   .n = c->vocab,
                                   .k = c->hidden,
                                   .a = run->gathered + first * c->hidden,
                                   .lda = c->hidden,
                                   .b = run->model->head,
                                   .ldb = c->hidden,
                                   .c = logits,
                                   .ldc = c->vocab,
                                   .alpha = 1});
    for (int64_t i = 0; i < n; i++)
        run->losses[first + i] =
            ops_cross_entropy(c->vocab, targets[run->counted[first + i]], logits + i * c->vocab,
                              want_gradient, &run->is_top[first + i]);
    if (!want_gradient) return;
    ops_gemm_serial(&(ops_product){.m = n,
                                   .n = c->hidden,
                                   .k = c->vocab,
                                   .a = logits,
                                   .lda = c->vocab,
                                   .b = run->model->head,
                                   .ldb = c->hidden,
                                   .c = run->d_head + first * c->hidden,
                                   .ldc = c->hidden,
                                   .alpha = 1});
}

void head_loss(llama_run *run, const int32_t *targets, int want_gradient)
{
    int64_t step = chunk_rows(run->model->config.vocab);
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < run->n_counted; first += step) {
        int64_t left = run->n_counted - first;
        chunk_loss(run, targets, want_gradient, first, left < step ? left : step);
    }
}

/* dx = scale * (derivative of the loss by the last block's output), 0 on rows without a target. */
void head_backward(llama_run *run, double scale)
{
    const llama_config *c = &run->model->config;
    size_t row_bytes = (size_t)c->hidden * sizeof *run->dx;
    memset(run->dx, 0, (size_t)run->rows * row_bytes);
    for (int64_t i = 0; i < run->n_counted; i++) {
        int64_t row = run->counted[i];
        for (int64_t j = 0; j < c->hidden; j++)
            run->d_normed[i * c->hidden + j] = (float)scale * run->d_head[i * c->hidden + j];
        memcpy(run->gathered + i * c->hidden, run->x + row * c->hidden, row_bytes);
    }
    memset(run->d_head, 0, (size_t)run->n_counted * row_bytes);
    ops_rmsnorm_backward(run->n_counted, c->hidden, c->rms_norm_eps, run->gathered, run->model->final_norm,
                         run->d_normed, run->d_head);
    for (int64_t i = 0; i < run->n_counted; i++)
        memcpy(run->dx + run->counted[i] * c->hidden, run->d_head + i * c->hidden, row_bytes);
}

void head_scores(const llama_run *run, llama_score *scores)
{
    memset(scores, 0, (size_t)run->n_seq * sizeof *scores);
    for (int64_t i = 0; i < run->n_counted; i++) {
        llama_score *score = &scores[run->counted[i] / run->seq_len];
        score->loss_sum += run->losses[i];
        score->weight += 1;
        score->n_correct += run->is_top[i];
    }
}

void head_logits(llama_run *run, int64_t first_row, int64_t n_rows, float *logits)
{
    const llama_config *c = &run->model->config;
    ops_rmsnorm(n_rows, c->hidden, c->rms_norm_eps, run->x + first_row * c->hidden, run->model->final_norm,
                run->gathered);
    ops_linear(n_rows, c->hidden, c->vocab, run->gathered, run->model->head, logits);
}
