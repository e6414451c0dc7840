/* SPDX-License-Identifier: MIT */
/*
 * Runs: their buffers, and forward, backward and evaluation of a batch.
 *
 * All buffers lie in one arena whose layout is computed by the same function
 * that the dry run asks for its size, so the estimate cannot drift from the
 * truth.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"
#include "model_internal.h"
#include "ops.h"

/* Resident memory that no allocation of ours explains: program, libraries, and for each thread its stack and BLAS's
 * packing buffers.  Measured: 5.9 to 8.4 MB at 1 to 4 threads on Debian 12, x86-64, OpenBLAS 0.3.21 on OpenMP. */
enum { RUNTIME_BYTES = 5632 << 10, RUNTIME_BYTES_PER_THREAD = 768 << 10 };

int model_fail(char *err, size_t err_bytes, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (err != NULL && err_bytes > 0) vsnprintf(err, err_bytes, format, arguments);
    va_end(arguments);
    return -1;
}

#define RUN_FAIL(run, ...) model_fail((run)->error, sizeof(run)->error, __VA_ARGS__)

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---------------------------------------------------------------- layout */

typedef struct arena {
    char *base; /* NULL: only measure */
    size_t used;
} arena;

static void *take(arena *a, int64_t n, size_t item_bytes)
{
    size_t at = a->used;
    a->used += ((size_t)n * item_bytes + 63) / 64 * 64;
    return a->base != NULL && n > 0 ? a->base + at : NULL;
}

static float *take_floats(arena *a, int64_t rows, int64_t columns)
{
    return take(a, rows * columns, sizeof(float));
}

static void lay_state(arena *a, const llama_config *c, int64_t rows, block_state *state)
{
    int64_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    state->qkv = take_floats(a, rows, q + 2 * kv);
    state->attended = take_floats(a, rows, q);
    state->gate_up = take_floats(a, rows, 2 * c->intermediate);
}

static void lay_training(arena *a, const llama_config *c, llama_run *run)
{
    int64_t rows = run->options.train_tokens, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    block_state unused = {0};
    run->states = take(a, c->n_layers, sizeof *run->states);
    for (int64_t b = 0; b < c->n_layers; b++) {
        block_state *state = run->states != NULL ? &run->states[b] : &unused;
        state->input = take_floats(a, rows, c->hidden);
        if (run->options.recompute) continue;
        state->middle = take_floats(a, rows, c->hidden);
        lay_state(a, c, rows, state);
    }
    if (run->options.recompute) run->scratch.middle = take_floats(a, rows, c->hidden);
    run->dx = take_floats(a, rows, c->hidden);
    run->d_normed = take_floats(a, rows, c->hidden);
    run->d_head = take_floats(a, rows, c->hidden);
    run->d_narrow = take_floats(a, rows, larger(c->intermediate, q));
    run->d_wide = take_floats(a, rows, larger(2 * c->intermediate, q + 2 * kv));
}

static size_t lay_out(const llama_config *c, llama_run *run, char *base)
{
    arena a = {.base = base};
    const llama_run_options *o = &run->options;
    int64_t rows = larger(o->train_tokens, o->eval_tokens);
    lay_state(&a, c, o->recompute ? rows : o->eval_tokens, &run->scratch);
    run->rope_table = take_floats(&a, o->max_seq_len, c->head_dim);
    run->x = take_floats(&a, rows, c->hidden);
    run->normed = take_floats(&a, rows, c->hidden);
    run->act = take_floats(&a, rows, c->intermediate);
    run->gathered = take_floats(&a, rows, c->hidden);
    run->losses = take(&a, rows, sizeof *run->losses);
    run->counted = take(&a, rows, sizeof *run->counted);
    run->is_top = take(&a, rows, sizeof *run->is_top);
    run->thread_floats = larger(head_scratch_floats(c), attention_scratch_floats(o->max_seq_len));
    run->thread_floats = (run->thread_floats + 15) / 16 * 16;
    run->thread_scratch = take_floats(&a, o->n_threads, run->thread_floats);
    if (o->train_tokens > 0) lay_training(&a, c, run);
    return a.used;
}

void llama_memory(const llama_config *config, const llama_run_options *options, llama_memory_use *use)
{
    llama_run run = {.options = *options};
    size_t all = lay_out(config, &run, NULL);
    use->scratch = (size_t)options->n_threads * (size_t)run.thread_floats * sizeof(float);
    use->activations = all - use->scratch;
    use->weights = model_weight_floats(config) * sizeof(float);
    use->runtime = RUNTIME_BYTES + (size_t)options->n_threads * RUNTIME_BYTES_PER_THREAD;
}

/* Cosines, then sines, of every position's angles. */
static void fill_rope_table(const llama_config *c, int64_t n_positions, float *table)
{
    int64_t half = c->head_dim / 2;
    for (int64_t position = 0; position < n_positions; position++, table += c->head_dim)
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)position * pow(c->rope_theta, -2.0 * (double)i / (double)c->head_dim);
            table[i] = (float)cos(angle);
            table[half + i] = (float)sin(angle);
        }
}

static int check_options(const llama_config *c, const llama_run_options *o, char *err, size_t err_bytes)
{
    const int64_t most = INT32_MAX / 2;
    if (o->max_seq_len < 1 || o->max_seq_len > c->max_positions)
        return model_fail(err, err_bytes,
                          "sequence length %lld is outside 1..%lld, what the model was made for",
                          (long long)o->max_seq_len, (long long)c->max_positions);
    if (o->train_tokens < 0 || o->train_tokens > most || o->eval_tokens < 1 || o->eval_tokens > most)
        return model_fail(err, err_bytes, "a batch of %lld or %lld tokens is out of range",
                          (long long)o->train_tokens, (long long)o->eval_tokens);
    if (o->n_threads < 1 || o->n_threads > 4096)
        return model_fail(err, err_bytes, "%d threads are outside 1..4096", (int)o->n_threads);
    return 0;
}

int llama_run_create(const llama_model *model, const llama_run_options *options, llama_run **out, char *err,
                     size_t err_bytes)
{
    *out = NULL;
    if (check_options(&model->config, options, err, err_bytes) != 0) return -1;
    llama_run *run = mem_alloc(sizeof *run);
    if (run == NULL) return model_fail(err, err_bytes, "out of memory");
    run->model = model;
    run->options = *options;
    size_t bytes = lay_out(&model->config, run, NULL);
    run->arena = mem_alloc(bytes);
    run->modules = mem_alloc_array(model->config.n_layers * LLAMA_N_KINDS, sizeof *run->modules);
    if (run->arena == NULL || run->modules == NULL) {
        llama_run_free(run);
        return model_fail(err, err_bytes, "out of memory: the run needs %zu bytes of activations", bytes);
    }
    lay_out(&model->config, run, run->arena);
    fill_rope_table(&model->config, options->max_seq_len, run->rope_table);
    llama_run_set_adapters(run, NULL, NULL);
    *out = run;
    return 0;
}

static void free_saved(block_state *state)
{
    for (int group = 0; group < N_GROUPS; group++)
        mem_free(state->saved[group].data);
}

void llama_run_free(llama_run *run)
{
    if (run == NULL) return;
    for (int64_t b = 0; run->states != NULL && b < run->model->config.n_layers; b++)
        free_saved(&run->states[b]);
    free_saved(&run->scratch);
    mem_free(run->modules);
    mem_free(run->arena);
    mem_free(run);
}

const char *llama_run_error(const llama_run *run)
{
    return run->error;
}

void llama_run_set_adapters(llama_run *run, const struct lrk_adapters *adapters, const int32_t *modules)
{
    int64_t n = run->model->config.n_layers * LLAMA_N_KINDS;
    run->adapters = adapters;
    run->pass = NULL;
    for (int64_t i = 0; i < n; i++)
        run->modules[i] = modules != NULL ? modules[i] : -1;
}

void llama_run_set_pass(llama_run *run, struct lrk_pass *pass)
{
    run->pass = pass;
}

int64_t llama_run_layer_forwards(const llama_run *run)
{
    return run->layer_forwards;
}

int64_t llama_run_layer_backwards(const llama_run *run)
{
    return run->layer_backwards;
}

/* --------------------------------------------------------------- batches */

static int check_tokens(llama_run *run, const llama_batch *batch)
{
    int64_t vocab = run->model->config.vocab;
    for (int64_t i = 0; i < batch->n_seq * batch->seq_len; i++) {
        int64_t token = batch->tokens[i], target = batch->targets != NULL ? batch->targets[i] : -1;
        if (token < 0 || token >= vocab || target >= vocab)
            return RUN_FAIL(run, "sequence %lld, position %lld: token %lld is outside the vocabulary of %lld",
                            (long long)(i / batch->seq_len), (long long)(i % batch->seq_len),
                            (long long)(token < 0 || token >= vocab ? token : target), (long long)vocab);
    }
    return 0;
}

int run_begin(llama_run *run, const llama_batch *batch, int purpose)
{
    int64_t most = purpose == FOR_BACKWARD ? run->options.train_tokens : run->options.eval_tokens;
    run->can_backward = 0;
    if (batch->seq_len < 1 || batch->seq_len > run->options.max_seq_len)
        return RUN_FAIL(run, "sequences of %lld tokens; the run was made for 1..%lld",
                        (long long)batch->seq_len, (long long)run->options.max_seq_len);
    if (batch->n_seq < 1 || batch->n_seq > most / batch->seq_len)
        return RUN_FAIL(run, "a batch of %lld x %lld tokens; the run was made for at most %lld",
                        (long long)batch->n_seq, (long long)batch->seq_len, (long long)most);
    if (ops_threads() > run->options.n_threads)
        return RUN_FAIL(run, "%d threads in use; the run was made for %d", ops_threads(),
                        (int)run->options.n_threads);
    run->n_seq = batch->n_seq;
    run->seq_len = batch->seq_len;
    run->rows = batch->n_seq * batch->seq_len;
    run->first_position = 0;
    run->kv = NULL;
    run->keeping = purpose == FOR_BACKWARD;
    return check_tokens(run, batch);
}

void run_embed(llama_run *run, const int32_t *tokens)
{
    int64_t hidden = run->model->config.hidden;
    for (int64_t row = 0; row < run->rows; row++)
        memcpy(run->x + row * hidden, run->model->embedding + tokens[row] * hidden,
               (size_t)hidden * sizeof *run->x);
}

int run_blocks(llama_run *run, int64_t first, int64_t end)
{
    for (int64_t b = first; b < end; b++)
        if (block_forward(run, b, &run->scratch) != 0) return -1;
    return 0;
}

void run_score(llama_run *run, const llama_batch *batch, llama_score *scores)
{
    head_gather(run, batch->targets);
    head_loss(run, batch->targets, run->keeping);
    head_scores(run, scores);
}

int llama_evaluate(llama_run *run, const llama_batch *batch, llama_score *scores)
{
    if (run_begin(run, batch, FOR_EVALUATION) != 0) return -1;
    run_embed(run, batch->tokens);
    if (run_blocks(run, 0, run->model->config.n_layers) != 0) return -1;
    run_score(run, batch, scores);
    return 0;
}

int llama_logits(llama_run *run, const llama_batch *batch, float *logits)
{
    if (run_begin(run, batch, FOR_EVALUATION) != 0) return -1;
    run_embed(run, batch->tokens);
    if (run_blocks(run, 0, run->model->config.n_layers) != 0) return -1;
    head_logits(run, 0, run->rows, logits);
    return 0;
}

int llama_forward_loss(llama_run *run, const llama_batch *batch, llama_score *scores)
{
    if (run_begin(run, batch, FOR_BACKWARD) != 0) return -1;
    run_embed(run, batch->tokens);
    for (int64_t b = 0; b < run->model->config.n_layers; b++) {
        block_state *state = &run->states[b];
        run->scratch.input = state->input;
        if (block_forward(run, b, run->options.recompute ? &run->scratch : state) != 0) return -1;
    }
    run_score(run, batch, scores);
    run->can_backward = 1;
    return 0;
}

const float *llama_hidden(const llama_run *run, int64_t boundary)
{
    return boundary < run->model->config.n_layers ? run->states[boundary].input : run->x;
}

/* -------------------------------------------------------------- backward */

static int64_t lowest_adapted(const llama_run *run)
{
    int64_t n = run->model->config.n_layers * LLAMA_N_KINDS;
    for (int64_t i = 0; i < n; i++)
        if (run->modules[i] >= 0) return i / LLAMA_N_KINDS;
    return run->model->config.n_layers;
}

/* The block's state as its forward left it. */
static block_state *state_of(llama_run *run, int64_t block)
{
    if (!run->options.recompute) return &run->states[block];
    run->scratch.input = run->states[block].input;
    memcpy(run->x, run->scratch.input, (size_t)(run->rows * run->model->config.hidden) * sizeof *run->x);
    return block_forward(run, block, &run->scratch) == 0 ? &run->scratch : NULL;
}

int llama_backward(llama_run *run, double scale, float *d_input)
{
    const llama_config *c = &run->model->config;
    int64_t lowest = d_input != NULL ? 0 : lowest_adapted(run);
    if (!run->can_backward) return RUN_FAIL(run, "backward without a forward that kept its activations");
    run->can_backward = 0;
    head_backward(run, scale);
    for (int64_t b = c->n_layers - 1; b >= lowest; b--) {
        block_state *state = state_of(run, b);
        if (state == NULL || block_backward(run, b, state, b > lowest || d_input != NULL) != 0) return -1;
    }
    if (d_input != NULL) memcpy(d_input, run->dx, (size_t)(run->rows * c->hidden) * sizeof *run->dx);
    return 0;
}

double llama_block_flops(const llama_config *c, int64_t n_seq, int64_t seq_len)
{
    double q = (double)(c->n_heads * c->head_dim), kv = (double)(c->n_kv_heads * c->head_dim);
    double weights = (double)c->hidden * (2 * q + 2 * kv + 3 * (double)c->intermediate);
    return 2 * (double)(n_seq * seq_len) * (weights + 2 * q * (double)seq_len);
}

double llama_head_flops(const llama_config *c, int64_t n_targets)
{
    return 2 * (double)n_targets * (double)c->hidden * (double)c->vocab;
}
