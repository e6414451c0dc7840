/* SPDX-License-Identifier: MIT */
/*
 * What the model's source files share behind model.h: weights, the buffers of
 * a run, and the steps of a forward and a backward.
 *
 * A block's seven linear layers are run as four groups that read the same
 * input each: q+k+v, o, gate+up, down.  The weights of a group lie one after
 * the other, so that one product computes all of it.
 */
#ifndef FINETUNE_MODEL_INTERNAL_H
#define FINETUNE_MODEL_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "model.h"

enum { GROUP_QKV, GROUP_O, GROUP_GATE_UP, GROUP_DOWN, N_GROUPS };

typedef struct linear_group {
    int first_kind, n_kinds;
    int64_t n_in, n_out; /* n_out: all members together                 */
    int64_t column[3];   /* where each member's output starts           */
    int64_t member_out[3];
} linear_group;

typedef struct block_weights {
    float *input_norm;      /* [hidden]                                    */
    float *middle_norm;     /* [hidden]                                    */
    float *group[N_GROUPS]; /* [n_out x n_in]                              */
} block_weights;

struct llama_model {
    llama_config config;
    linear_group groups[N_GROUPS];
    block_weights *blocks;
    float *embedding;  /* [vocab x hidden]                           */
    float *head;       /* [vocab x hidden]; == embedding when tied   */
    float *final_norm; /* [hidden]                                   */
    float *storage;    /* holds all of the above                     */
};

/* What the adapters of a group keep for backward; grown when ranks need more. */
typedef struct saved_state {
    void *data;
    size_t bytes, capacity;
} saved_state;

/* What backward needs from one block's forward; input and middle are NULL where nothing is kept. */
typedef struct block_state {
    float *input;    /* [rows x hidden]                          */
    float *qkv;      /* [rows x (q + k + v)], q and k rotated    */
    float *attended; /* [rows x q]                               */
    float *middle;   /* [rows x hidden], after the attention half */
    float *gate_up;  /* [rows x 2 intermediate]                  */
    saved_state saved[N_GROUPS];
} block_state;

/* Keys and values of the tokens generated so far. */
typedef struct kv_cache {
    float *keys; /* [n_layers x capacity x kv]                          */
    float *values;
    int64_t capacity; /* positions                                           */
} kv_cache;

struct llama_run {
    const llama_model *model;
    llama_run_options options;
    const struct lrk_adapters *adapters;
    int32_t *modules; /* -1 where a layer has none */
    struct lrk_pass *pass;
    int64_t layer_forwards, layer_backwards;
    char error[256];

    /* The batch in work. */
    int64_t n_seq, seq_len, rows, first_position;
    int keeping;      /* 1: backward will follow, adapters save for it */
    int can_backward; /* 1: a forward is kept and not yet used         */
    kv_cache *kv;     /* NULL except while generating                       */

    /* Buffers; the arena holds all of them. */
    void *arena;
    block_state *states; /* n_layers of them; NULL without training      */
    block_state scratch; /* the block of an evaluation or a recomputation */
    float *rope_table;   /* [max_seq_len x head_dim]                     */
    float *x;            /* [rows x hidden], the residual stream         */
    float *normed;       /* [rows x hidden]                              */
    float *act;          /* [rows x intermediate]                        */
    float *dx;           /* [train rows x hidden]                        */
    float *d_normed;     /* [train rows x hidden]                        */
    float *d_narrow;     /* [train rows x max(intermediate, q)]          */
    float *d_wide;       /* [train rows x max(2 intermediate, q+k+v)]    */
    float *d_head;       /* [train rows x hidden], one row per target    */
    float *gathered;     /* [rows x hidden], one row per target          */
    double *losses;      /* [rows], one per target                       */
    int32_t *counted;    /* [rows], the row of each target               */
    int32_t *is_top;     /* [rows]                                       */
    int64_t n_counted;
    float *thread_scratch; /* n_threads x thread_floats                */
    int64_t thread_floats;
};

/* Writes the one line of an error and returns -1. */
int model_fail(char *err, size_t err_bytes, const char *format, ...);

/* model.c */
void model_groups(const llama_config *config, linear_group groups[N_GROUPS]);
size_t model_weight_floats(const llama_config *config);

/* weights.c: fills the model's tensors from the directory's safetensors files. */
int weights_read(const char *dir, llama_model *model, char *err, size_t err_bytes);

/* linear.c: one group of frozen linear layers and their adapters.
 * y = x W^T (+ adapters); dx = dy W (+ adapters), dx NULL: not wanted. */
typedef struct linear_call {
    int64_t block;
    int group;
    const float *x;
    block_state *state;
} linear_call;

int linear_forward(llama_run *run, const linear_call *call, float *y);
int linear_backward(llama_run *run, const linear_call *call, float *dy, float *dx);

/* attention.c: causal attention within each sequence. */
typedef struct attention {
    int64_t n_seq, seq_len, n_heads, n_kv_heads, head_dim;
    int64_t first_position; /* of the queries; keys start at position 0 */
    const float *q, *k, *v;
    int64_t ldq, ldkv;
    float *scratch;         /* run->thread_scratch                      */
    int64_t scratch_floats; /* per thread                               */
} attention;

int64_t attention_scratch_floats(int64_t max_seq_len);
void attention_forward(const attention *a, float *out);
/* d_q, d_k, d_v: written, row strides as q and k.  first_position must be 0. */
void attention_backward(const attention *a, const float *d_out, float *d_q, float *d_k, float *d_v);

/* block.c: run->x from the block's input to its output, and run->dx back. */
int block_forward(llama_run *run, int64_t block, block_state *state);
int block_backward(llama_run *run, int64_t block, block_state *state, int want_dx);

/* head.c: final norm, logits of the counted rows, cross-entropy. */
int64_t head_scratch_floats(const llama_config *config);
void head_gather(llama_run *run, const int32_t *targets);
void head_loss(llama_run *run, const int32_t *targets, int want_gradient);
void head_backward(llama_run *run, double scale);
void head_scores(const llama_run *run, llama_score *scores);
void head_logits(llama_run *run, int64_t first_row, int64_t n_rows, float *logits);

/* model_run.c */
enum { FOR_EVALUATION, FOR_BACKWARD };
int run_begin(llama_run *run, const llama_batch *batch, int purpose);
void run_embed(llama_run *run, const int32_t *tokens);
int run_blocks(llama_run *run, int64_t first, int64_t end);
void run_score(llama_run *run, const llama_batch *batch, llama_score *scores);

#endif
