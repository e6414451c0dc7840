/* SPDX-License-Identifier: MIT */
/*
 * One transformer block, forward and backward:
 *     x += O(attention(rotate(QKV(norm(x)))));   x += DOWN(swiglu(GATE_UP(norm(x)))).
 * Forward leaves in the state what backward reads; the norms and the SwiGLU
 * are cheap and computed again instead.  These two functions are where layer
 * forwards and backwards are counted.
 */
#include <string.h>

#include "model_internal.h"
#include "ops.h"

static void copy_floats(float *to, const float *from, int64_t n)
{
    memcpy(to, from, (size_t)n * sizeof *to);
}

static int64_t q_width(const llama_config *c)
{
    return c->n_heads * c->head_dim;
}

static int64_t kv_width(const llama_config *c)
{
    return c->n_kv_heads * c->head_dim;
}

static attention attention_of(llama_run *run, const float *qkv)
{
    const llama_config *c = &run->model->config;
    int64_t width = q_width(c) + 2 * kv_width(c);
    return (attention){.n_seq = run->n_seq,
                       .seq_len = run->seq_len,
                       .n_heads = c->n_heads,
                       .n_kv_heads = c->n_kv_heads,
                       .head_dim = c->head_dim,
                       .first_position = run->first_position,
                       .q = qkv,
                       .k = qkv + q_width(c),
                       .v = qkv + q_width(c) + kv_width(c),
                       .ldq = width,
                       .ldkv = width,
                       .scratch = run->thread_scratch,
                       .scratch_floats = run->thread_floats};
}

/* Rotates q and k, which lie side by side. */
static void rotate(llama_run *run, float *qkv, int direction)
{
    const llama_config *c = &run->model->config;
    ops_rope rope = {.table = run->rope_table,
                     .n_heads = c->n_heads + c->n_kv_heads,
                     .head_dim = c->head_dim,
                     .seq_len = run->seq_len,
                     .first = run->first_position};
    ops_rotate(&rope, run->rows, qkv, q_width(c) + 2 * kv_width(c), direction);
}

/* Appends the new tokens' keys and values, and lets attention read all of them from the cache. */
static void use_kv_cache(llama_run *run, int64_t block, attention *a)
{
    int64_t width = kv_width(&run->model->config);
    float *keys = run->kv->keys + block * run->kv->capacity * width;
    float *values = run->kv->values + block * run->kv->capacity * width;
    for (int64_t row = 0; row < run->rows; row++) {
        copy_floats(keys + (run->first_position + row) * width, a->k + row * a->ldkv, width);
        copy_floats(values + (run->first_position + row) * width, a->v + row * a->ldkv, width);
    }
    a->k = keys;
    a->v = values;
    a->ldkv = width;
}

static int attention_half(llama_run *run, int64_t block, block_state *state)
{
    const llama_config *c = &run->model->config;
    const block_weights *w = &run->model->blocks[block];
    linear_call qkv = {block, GROUP_QKV, run->normed, state}, o = {block, GROUP_O, state->attended, state};
    ops_rmsnorm(run->rows, c->hidden, c->rms_norm_eps, run->x, w->input_norm, run->normed);
    if (linear_forward(run, &qkv, state->qkv) != 0) return -1;
    rotate(run, state->qkv, 1);
    attention a = attention_of(run, state->qkv);
    if (run->kv != NULL) use_kv_cache(run, block, &a);
    attention_forward(&a, state->attended);
    if (linear_forward(run, &o, run->normed) != 0) return -1;
    ops_add(run->rows * c->hidden, run->normed, run->x);
    return 0;
}

static int swiglu_half(llama_run *run, int64_t block, block_state *state)
{
    const llama_config *c = &run->model->config;
    const block_weights *w = &run->model->blocks[block];
    linear_call gate_up = {block, GROUP_GATE_UP, run->normed, state},
                down = {block, GROUP_DOWN, run->act, state};
    ops_rmsnorm(run->rows, c->hidden, c->rms_norm_eps, run->x, w->middle_norm, run->normed);
    if (linear_forward(run, &gate_up, state->gate_up) != 0) return -1;
    ops_swiglu(run->rows, c->intermediate, state->gate_up, run->act);
    if (linear_forward(run, &down, run->normed) != 0) return -1;
    ops_add(run->rows * c->hidden, run->normed, run->x);
    return 0;
}

int block_forward(llama_run *run, int64_t block, block_state *state)
{
    int64_t n = run->rows * run->model->config.hidden;
    run->layer_forwards++;
    if (run->keeping && state->input != NULL) copy_floats(state->input, run->x, n);
    if (attention_half(run, block, state) != 0) return -1;
    if (run->keeping && state->middle != NULL) copy_floats(state->middle, run->x, n);
    return swiglu_half(run, block, state);
}

static int swiglu_half_backward(llama_run *run, int64_t block, block_state *state)
{
    const llama_config *c = &run->model->config;
    const block_weights *w = &run->model->blocks[block];
    linear_call gate_up = {block, GROUP_GATE_UP, run->normed, state},
                down = {block, GROUP_DOWN, run->act, state};
    ops_rmsnorm(run->rows, c->hidden, c->rms_norm_eps, state->middle, w->middle_norm, run->normed);
    ops_swiglu(run->rows, c->intermediate, state->gate_up, run->act);
    if (linear_backward(run, &down, run->dx, run->d_narrow) != 0) return -1;
    ops_swiglu_backward(run->rows, c->intermediate, state->gate_up, run->d_narrow, run->d_wide);
    if (linear_backward(run, &gate_up, run->d_wide, run->d_normed) != 0) return -1;
    ops_rmsnorm_backward(run->rows, c->hidden, c->rms_norm_eps, state->middle, w->middle_norm, run->d_normed,
                         run->dx);
    return 0;
}

static int attention_half_backward(llama_run *run, int64_t block, block_state *state, int want_dx)
{
    const llama_config *c = &run->model->config;
    const block_weights *w = &run->model->blocks[block];
    linear_call qkv = {block, GROUP_QKV, run->normed, state}, o = {block, GROUP_O, state->attended, state};
    if (linear_backward(run, &o, run->dx, run->d_narrow) != 0) return -1;
    attention a = attention_of(run, state->qkv);
    float *d_k = run->d_wide + q_width(c);
    attention_backward(&a, run->d_narrow, run->d_wide, d_k, d_k + kv_width(c));
    rotate(run, run->d_wide, -1);
    ops_rmsnorm(run->rows, c->hidden, c->rms_norm_eps, state->input, w->input_norm, run->normed);
    if (linear_backward(run, &qkv, run->d_wide, want_dx ? run->d_normed : NULL) != 0) return -1;
    if (want_dx)
        ops_rmsnorm_backward(run->rows, c->hidden, c->rms_norm_eps, state->input, w->input_norm,
                             run->d_normed, run->dx);
    return 0;
}

int block_backward(llama_run *run, int64_t block, block_state *state, int want_dx)
{
    run->layer_backwards++;
    if (swiglu_half_backward(run, block, state) != 0) return -1;
    return attention_half_backward(run, block, state, want_dx);
}
