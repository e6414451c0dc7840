/* SPDX-License-Identifier: MIT */
/*
 * Greedy generation of one sequence: the prompt in one forward, then a token
 * at a time over a key/value cache that lives for the call.
 */
#include "mem.h"
#include "model_internal.h"
#include "ops.h"

/* One forward over n new tokens at the run's position; the most likely next token. */
static int next_token(llama_run *run, const int32_t *tokens, int64_t n, float *logits, int32_t *next)
{
    run->rows = run->seq_len = n;
    run_embed(run, tokens);
    if (run_blocks(run, 0, run->model->config.n_layers) != 0) return -1;
    head_logits(run, n - 1, 1, logits);
    *next = (int32_t)ops_argmax(run->model->config.vocab, logits);
    run->first_position += n;
    return 0;
}

static int continue_prompt(llama_run *run, const llama_batch *prompt, int64_t most, int32_t stop_token,
                           int32_t *out, int64_t *n_out)
{
    int32_t token;
    float *logits = run->thread_scratch;
    if (next_token(run, prompt->tokens, prompt->seq_len, logits, &token) != 0) return -1;
    for (;;) {
        out[(*n_out)++] = token;
        if (token == stop_token || *n_out >= most) return 0;
        if (next_token(run, &out[*n_out - 1], 1, logits, &token) != 0) return -1;
    }
}

int llama_generate(llama_run *run, const int32_t *prompt, int64_t n_prompt, int64_t max_new,
                   int32_t stop_token, int32_t *out, int64_t *n_out)
{
    const llama_config *c = &run->model->config;
    llama_batch batch = {.n_seq = 1, .seq_len = n_prompt, .tokens = prompt};
    int64_t room = run->options.max_seq_len - n_prompt, most = max_new < room ? max_new : room;
    *n_out = 0;
    if (run_begin(run, &batch, FOR_EVALUATION) != 0) return -1;
    if (most < 1) return 0;
    kv_cache kv = {.capacity = n_prompt + most};
    int64_t floats = c->n_layers * kv.capacity * c->n_kv_heads * c->head_dim;
    kv.keys = mem_alloc_array(floats, sizeof *kv.keys);
    kv.values = mem_alloc_array(floats, sizeof *kv.values);
    run->kv = &kv;
    int status = kv.keys == NULL || kv.values == NULL
                     ? model_fail(run->error, sizeof run->error, "out of memory for %lld generated tokens",
                                  (long long)most)
                     : continue_prompt(run, &batch, most, stop_token, out, n_out);
    run->kv = NULL;
    mem_free(kv.keys);
    mem_free(kv.values);
    return status;
}
