/* SPDX-License-Identifier: MIT */
/*
 * A Llama-architecture transformer with frozen weights, in f32 over BLAS.
 *
 * Reads a Hugging Face directory, runs forward and backward (gradients with
 * respect to activations only: the weights never change), scores batches and
 * generates greedily.  Adapters come from outside: bind a lorank pass to a run
 * and every linear layer calls it; without one this is a plain transformer.
 *
 * Conventions
 *   shapes    row-major; a batch of n_seq sequences of seq_len tokens is a
 *             matrix of n_seq * seq_len rows.
 *   stages    stage s is transformer block s, 0 <= s < n_layers.
 *   errors    functions that can fail return 0, or -1 after writing one line
 *             that names the file, key, tensor or token to blame.  Loading and
 *             creation take a buffer; runs keep the line: llama_run_error().
 *   threads   one call at a time per run; several runs may share one model.
 *             The functions use OpenMP inside, and give the same bits at any
 *             number of threads (ops_set_threads() in ops.h).
 */
#ifndef FINETUNE_MODEL_H
#define FINETUNE_MODEL_H

#include <stddef.h>
#include <stdint.h>

struct lrk_adapters;
struct lrk_pass;

/* ------------------------------------------------------------------ model */

typedef struct llama_config {
    int64_t hidden;       /* width of the residual stream                    */
    int64_t intermediate; /* width of the SwiGLU layer                       */
    int64_t n_layers;
    int64_t n_heads;
    int64_t n_kv_heads; /* divides n_heads                                   */
    int64_t head_dim;
    int64_t vocab;
    int64_t max_positions; /* longest sequence the model was made for        */
    double rope_theta;
    double rms_norm_eps;
    int32_t tied_head; /* 1: the embedding matrix is also the output head    */
    int32_t bos_token; /* -1: none                                           */
    int32_t eos_token; /* -1: none; the first one where the file has a list  */
    int32_t pad_token; /* -1: none                                           */
} llama_config;

typedef struct llama_model llama_model;

/*
 * Read and check dir/config.json alone: enough for a dry run's arithmetic.
 * Refused by name: another model_type or hidden_act, any rope_scaling, biases,
 * heads that do not divide, missing or non-positive sizes.
 */
int llama_config_read(const char *dir, llama_config *config, char *err, size_t err_bytes);

/*
 * Load config.json and the weights: model.safetensors, or the shards listed by
 * model.safetensors.index.json; f32, f16 or bf16, widened to f32.  On failure
 * *model is NULL.
 */
int llama_load(const char *dir, llama_model **model, char *err, size_t err_bytes);
void llama_free(llama_model *model);

const llama_config *llama_model_config(const llama_model *model);
int64_t llama_n_parameters(const llama_config *config);

/* ------------------------------------------------------- adaptable layers */

/* The seven linear layers of a block; a table of modules has one entry per
 * (block, kind) at [block * LLAMA_N_KINDS + kind]. */
enum { LLAMA_Q, LLAMA_K, LLAMA_V, LLAMA_O, LLAMA_GATE, LLAMA_UP, LLAMA_DOWN, LLAMA_N_KINDS };

typedef struct llama_linear {
    char name[64]; /* "model.layers.3.self_attn.q_proj"                   */
    int64_t n_in;
    int64_t n_out;
    int64_t stage;
    int64_t input_group; /* equal for layers that read the same input        */
} llama_linear;

/* Describe one linear layer; needs no weights. */
void llama_linear_describe(const llama_config *config, int64_t block, int kind, llama_linear *out);

/* The frozen weight of a layer, n_out x n_in, tight; a start may subtract from it. */
float *llama_weight(llama_model *model, int64_t block, int kind);

/* ------------------------------------------------------------------- runs */

typedef struct llama_batch {
    int64_t n_seq;
    int64_t seq_len;
    const int32_t *tokens;  /* n_seq * seq_len; pad on the right             */
    const int32_t *targets; /* token wanted after each position, -1 = not counted */
} llama_batch;

/* What a batch scored, one per sequence: summed cross-entropy in nats over the
 * counted positions, how many there were, and at how many of them the target
 * was the most likely token.  All of them right = greedy decoding would have
 * produced exactly the targets. */
typedef struct llama_score {
    double loss_sum;
    double weight;
    int64_t n_correct;
} llama_score;

typedef struct llama_run_options {
    int64_t train_tokens; /* largest n_seq * seq_len given to llama_forward_loss; 0: no backward */
    int64_t eval_tokens;  /* largest one given to any other call             */
    int64_t max_seq_len;  /* longest sequence; at most config.max_positions  */
    int32_t recompute;    /* 1: keep block inputs only, run blocks again in backward */
    int32_t n_threads;    /* threads that get scratch memory                 */
} llama_run_options;

/* Buffers for forward and backward over one model.  Borrows the model. */
typedef struct llama_run llama_run;

int llama_run_create(const llama_model *model, const llama_run_options *options, llama_run **run, char *err,
                     size_t err_bytes);
void llama_run_free(llama_run *run);

/* The line written by the last call that failed; "" before any. */
const char *llama_run_error(const llama_run *run);

/* The adapter set, and which of its modules belongs to which layer:
 * n_layers * LLAMA_N_KINDS indices, -1 where a layer has none (copied).  NULL,
 * NULL: no adapters. */
void llama_run_set_adapters(llama_run *run, const struct lrk_adapters *adapters, const int32_t *modules);

/* The pass that the following calls report to; NULL = plain base model.
 * Borrowed until it is replaced. */
void llama_run_set_pass(llama_run *run, struct lrk_pass *pass);

/* Blocks run forward and backward since creation, counted inside the block
 * functions; a recomputed block counts as a forward. */
int64_t llama_run_layer_forwards(const llama_run *run);
int64_t llama_run_layer_backwards(const llama_run *run);

/*
 * Forward, keeping what llama_backward() needs.  scores: n_seq entries.
 */
int llama_forward_loss(llama_run *run, const llama_batch *batch, llama_score *scores);

/*
 * Hidden states that the last llama_forward_loss() left at a boundary, tokens x hidden: 0 .. n_layers - 1 are the inputs of
 * blocks, n_layers is the last one's output.  Borrowed until the next call on the run.
 */
const float *llama_hidden(const llama_run *run, int64_t boundary);

/*
 * Backward of scale * (sum of all counted losses) of the last
 * llama_forward_loss(), under the same pass.  Gradients of adapters go where
 * the pass puts them.  d_input: NULL, or tokens x hidden to receive the
 * gradient with respect to the input of block 0; without it backward stops at
 * the lowest block that has an adapter.
 */
int llama_backward(llama_run *run, double scale, float *d_input);

/* Forward only. */
int llama_evaluate(llama_run *run, const llama_batch *batch, llama_score *scores);

/* Logits of every position, tokens x vocab, into a buffer of the caller's. */
int llama_logits(llama_run *run, const llama_batch *batch, float *logits);

/*
 * Greedy continuation of one sequence with a key/value cache: writes at most
 * max_new tokens, stops after stop_token (which is written; -1: never stops)
 * and at max_seq_len.  n_out: how many were written.
 */
int llama_generate(llama_run *run, const int32_t *prompt, int64_t n_prompt, int64_t max_new,
                   int32_t stop_token, int32_t *out, int64_t *n_out);

/* ------------------------------------------------------------ stage cache */

/*
 * Inputs of blocks 1 .. n_layers-1 for one fixed batch under each of the two
 * baselines of a mask, so that evaluating a mask that first changes block s
 * starts at block s.  Holds as many of them as limit_bytes allows, half for
 * each baseline; where one is missing, the nearest earlier one is rolled
 * forward, which costs at most n_layers blocks a baseline as long as the
 * evaluations of a baseline come in ascending order of their first stage.
 */
typedef struct llama_cache llama_cache;

enum { LLAMA_BASELINE_ALL, LLAMA_BASELINE_NONE, LLAMA_N_BASELINES };

int llama_cache_create(const llama_config *config, int64_t n_tokens, size_t limit_bytes, llama_cache **cache,
                       char *err, size_t err_bytes);
void llama_cache_free(llama_cache *cache);
size_t llama_cache_bytes(const llama_config *config, int64_t n_tokens, size_t limit_bytes);

/* What the stage cache knows about one evaluation.  Below first_stage the
 * bound pass must equal the baseline; a pass that is the baseline itself has
 * first_stage = n_layers.  A cached input counts only while state_version is
 * the one it was made under: change it with every change of a parameter. */
typedef struct llama_start {
    int32_t baseline;
    int64_t first_stage;
    uint64_t state_version;
} llama_start;

/* llama_evaluate() through the cache; always the same batch per cache.
 * Bitwise equal to llama_evaluate() under the same pass. */
int llama_evaluate_from(llama_run *run, llama_cache *cache, const llama_batch *batch,
                        const llama_start *start, llama_score *scores);

/* -------------------------------------------------------------- dry run */

typedef struct llama_memory_use {
    size_t weights;     /* f32 weights, for as long as the model lives       */
    size_t activations; /* buffers of the run                                */
    size_t scratch;     /* per-thread buffers of the run                     */
    size_t runtime;     /* measured: BLAS buffers, libraries, stacks         */
} llama_memory_use;

/* Bytes that llama_load and llama_run_create will ask for.  Beside them: the stage cache, llama_cache_bytes(); the
 * adapters, lorank's to count; and what adapters save for backward, about 4 bytes a training token and rank. */
void llama_memory(const llama_config *config, const llama_run_options *options, llama_memory_use *use);

/* Multiply-adds times two of one block and of the head, forward, in flops. */
double llama_block_flops(const llama_config *config, int64_t n_seq, int64_t seq_len);
double llama_head_flops(const llama_config *config, int64_t n_targets);

#endif
