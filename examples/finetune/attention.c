/* SPDX-License-Identifier: MIT */
/*
 * Causal grouped-query attention, forward and backward.
 *
 * Queries are taken in tiles of up to TILE rows of one head; a tile only meets
 * the keys that its last row may see.  The probabilities are never kept:
 * backward computes each tile's again, which costs one product and keeps the
 * memory independent of the batch.  One task is one sequence and one key/value
 * head with all the query heads that share it, so that the sums into dk and dv
 * run in a fixed order on one thread.
 */
#include <math.h>
#include <string.h>

#include "model_internal.h"
#include "ops.h"

enum { TILE = 64 };

/* One tile of queries and the keys it sees. */
typedef struct tile {
    const float *q, *k, *v;
    int64_t row, n_rows; /* rows of the sequence                        */
    int64_t n_keys;
    float *p; /* [n_rows x n_keys]                           */
} tile;

int64_t attention_scratch_floats(int64_t max_seq_len)
{
    return 2 * TILE * max_seq_len;
}

static tile tile_at(const attention *a, int64_t seq, int64_t head, int64_t row)
{
    int64_t kv_head = head / (a->n_heads / a->n_kv_heads);
    int64_t left = a->seq_len - row;
    tile t = {.row = row, .n_rows = left < TILE ? left : TILE};
    t.n_keys = a->first_position + row + t.n_rows;
    t.q = a->q + (seq * a->seq_len + row) * a->ldq + head * a->head_dim;
    t.k = a->k + seq * a->seq_len * a->ldkv + kv_head * a->head_dim;
    t.v = a->v + seq * a->seq_len * a->ldkv + kv_head * a->head_dim;
    t.p = a->scratch + ops_thread_index() * a->scratch_floats;
    return t;
}

/* p = softmax(q k^T / sqrt(head_dim)) over the keys up to each query's own position. */
static void tile_probabilities(const attention *a, const tile *t)
{
    ops_gemm_serial(&(ops_product){.trans_b = 1,
                                   .m = t->n_rows,
                                   .n = t->n_keys,
                                   .k = a->head_dim,
                                   .alpha = 1,
                                   .a = t->q,
                                   .lda = a->ldq,
                                   .b = t->k,
                                   .ldb = a->ldkv,
                                   .c = t->p,
                                   .ldc = t->n_keys});
    float scale = (float)(1.0 / sqrt((double)a->head_dim));
    for (int64_t i = 0; i < t->n_rows; i++)
        ops_softmax(t->n_keys, a->first_position + t->row + i + 1, scale, t->p + i * t->n_keys);
}

void attention_forward(const attention *a, float *out)
{
    int64_t width = a->n_heads * a->head_dim;
    int64_t n_tasks = a->n_seq * a->n_heads;
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < n_tasks; task++) {
        int64_t seq = task / a->n_heads, head = task % a->n_heads;
        for (int64_t row = 0; row < a->seq_len; row += TILE) {
            tile t = tile_at(a, seq, head, row);
            tile_probabilities(a, &t);
            float *o = out + (seq * a->seq_len + row) * width + head * a->head_dim;
            ops_gemm_serial(&(ops_product){.m = t.n_rows,
                                           .n = a->head_dim,
                                           .k = t.n_keys,
                                           .alpha = 1,
                                           .a = t.p,
                                           .lda = t.n_keys,
                                           .b = t.v,
                                           .ldb = a->ldkv,
                                           .c = o,
                                           .ldc = width});
        }
    }
}

/* Where the derivatives of one tile go. */
typedef struct tile_gradient {
    const float *d_out; /* [n_rows x head_dim], row stride width             */
    int64_t width;
    float *d_q, *d_k, *d_v;
} tile_gradient;

/* dv += p^T do;  dp = do v^T;  ds = softmax'(dp);  dq = ds k;  dk += ds^T q. */
static void tile_backward(const attention *a, const tile *t, const tile_gradient *g)
{
    float *ds = t->p + t->n_rows * t->n_keys;
    tile_probabilities(a, t);
    ops_gemm_serial(&(ops_product){.trans_a = 1,
                                   .m = t->n_keys,
                                   .n = a->head_dim,
                                   .k = t->n_rows,
                                   .alpha = 1,
                                   .a = t->p,
                                   .lda = t->n_keys,
                                   .b = g->d_out,
                                   .ldb = g->width,
                                   .c = g->d_v,
                                   .ldc = a->ldkv,
                                   .beta = 1});
    ops_gemm_serial(&(ops_product){.trans_b = 1,
                                   .m = t->n_rows,
                                   .n = t->n_keys,
                                   .k = a->head_dim,
                                   .alpha = 1,
                                   .a = g->d_out,
                                   .lda = g->width,
                                   .b = t->v,
                                   .ldb = a->ldkv,
                                   .c = ds,
                                   .ldc = t->n_keys});
    float scale = (float)(1.0 / sqrt((double)a->head_dim));
    for (int64_t i = 0; i < t->n_rows; i++)
        ops_softmax_backward(t->n_keys, scale, t->p + i * t->n_keys, ds + i * t->n_keys);
    ops_gemm_serial(&(ops_product){.m = t->n_rows,
                                   .n = a->head_dim,
                                   .k = t->n_keys,
                                   .alpha = 1,
                                   .a = ds,
                                   .lda = t->n_keys,
                                   .b = t->k,
                                   .ldb = a->ldkv,
                                   .c = g->d_q,
                                   .ldc = a->ldq});
    ops_gemm_serial(&(ops_product){.trans_a = 1,
                                   .m = t->n_keys,
                                   .n = a->head_dim,
                                   .k = t->n_rows,
                                   .alpha = 1,
                                   .a = ds,
                                   .lda = t->n_keys,
                                   .b = t->q,
                                   .ldb = a->ldq,
                                   .c = g->d_k,
                                   .ldc = a->ldkv,
                                   .beta = 1});
}

static void clear_columns(int64_t rows, int64_t columns, float *x, int64_t ld)
{
    for (int64_t row = 0; row < rows; row++)
        memset(x + row * ld, 0, (size_t)columns * sizeof *x);
}

static void head_group_backward(const attention *a, int64_t seq, int64_t kv_head, const float *d_out,
                                tile_gradient g)
{
    int64_t share = a->n_heads / a->n_kv_heads, first_row = seq * a->seq_len;
    float *d_q = g.d_q;
    g.d_k += first_row * a->ldkv + kv_head * a->head_dim;
    g.d_v += first_row * a->ldkv + kv_head * a->head_dim;
    clear_columns(a->seq_len, a->head_dim, g.d_k, a->ldkv);
    clear_columns(a->seq_len, a->head_dim, g.d_v, a->ldkv);
    for (int64_t head = kv_head * share; head < (kv_head + 1) * share; head++)
        for (int64_t row = 0; row < a->seq_len; row += TILE) {
            tile t = tile_at(a, seq, head, row);
            g.d_q = d_q + (first_row + row) * a->ldq + head * a->head_dim;
            g.d_out = d_out + (first_row + row) * g.width + head * a->head_dim;
            tile_backward(a, &t, &g);
        }
}

void attention_backward(const attention *a, const float *d_out, float *d_q, float *d_k, float *d_v)
{
    int64_t n_tasks = a->n_seq * a->n_kv_heads;
    tile_gradient g = {.width = a->n_heads * a->head_dim, .d_q = d_q, .d_k = d_k, .d_v = d_v};
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < n_tasks; task++)
        head_group_backward(a, task / a->n_kv_heads, task % a->n_kv_heads, d_out, g);
}
