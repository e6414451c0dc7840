/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic under the model: threads, matrix products, and the row-wise
 * kernels.  Nothing here knows what a transformer is.
 *
 * Results never depend on the number of threads: work is cut into chunks whose
 * size follows from the shape alone, each chunk runs on one thread, and every
 * sum has a fixed order.  All matrices are row-major f32 with explicit row
 * stride (ld*), counted in elements.
 */
#ifndef FINETUNE_OPS_H
#define FINETUNE_OPS_H

#include <stdint.h>

/* Number of threads for everything below, >= 1; BLAS itself stays on one. */
void ops_set_threads(int n);
int ops_threads(void);
int ops_thread_index(void);

/* One product C = alpha * op(A) op(B) + beta * C; op(A) is m x k, op(B) k x n. */
typedef struct ops_product {
    int trans_a, trans_b;
    int64_t m, n, k;
    const float *a, *b;
    int64_t lda, ldb;
    float *c;
    int64_t ldc;
    float alpha, beta;
} ops_product;

/* On the calling thread, as one BLAS call: for use inside parallel loops. */
void ops_gemm_serial(const ops_product *p);

/* The same, cut into chunks of C over the threads. */
void ops_gemm(const ops_product *p);

/* Y [rows x n_out] = X [rows x n_in] W^T, and dX = dY W, with tight rows. */
void ops_linear(int64_t rows, int64_t n_in, int64_t n_out, const float *x, const float *w, float *y);
void ops_linear_backward(int64_t rows, int64_t n_in, int64_t n_out, const float *dy, const float *w,
                         float *dx);

/* y = x / rms(x) * gain, row by row; rms^2 = mean(x^2) + eps. */
void ops_rmsnorm(int64_t rows, int64_t n, double eps, const float *x, const float *gain, float *y);
/* dx += d/dx of the above applied to dy. */
void ops_rmsnorm_backward(int64_t rows, int64_t n, double eps, const float *x, const float *gain,
                          const float *dy, float *dx);

/*
 * Rotary embedding in place on n_heads heads of head_dim at the start of each
 * row, half-split convention: (x1, x2) -> (x1 c - x2 s, x2 c + x1 s) for
 * element i of the first and of the second half.  Row r has position
 * first + r % seq_len; table holds cos then sin, head_dim / 2 each, a position.
 * direction -1 is the inverse, which is also the backward.
 */
typedef struct ops_rope {
    const float *table;
    int64_t n_heads, head_dim, seq_len, first;
} ops_rope;

void ops_rotate(const ops_rope *rope, int64_t rows, float *x, int64_t ld, int direction);

/* act = silu(gate) * up; gate_up rows hold n gates, then n ups. */
void ops_swiglu(int64_t rows, int64_t n, const float *gate_up, float *act);
void ops_swiglu_backward(int64_t rows, int64_t n, const float *gate_up, const float *d_act, float *d_gate_up);

/* y += x, n elements. */
void ops_add(int64_t n, const float *x, float *y);

/* row[0..n_live) = softmax(scale * row[0..n_live)), row[n_live..n) = 0. */
void ops_softmax(int64_t n, int64_t n_live, float scale, float *row);

/* d_row = scale * p * (d_row - sum(p * d_row)): through the softmax above. */
void ops_softmax_backward(int64_t n, float scale, const float *p, float *d_row);

/*
 * Cross-entropy of one row of logits against target, in nats; *is_top tells
 * whether target is the first of the largest.  With want_gradient the row is
 * replaced by the derivative, softmax(row) - onehot(target).
 */
double ops_cross_entropy(int64_t n, int64_t target, float *row, int want_gradient, int *is_top);

/* Index of the largest element, the first one among equals. */
int64_t ops_argmax(int64_t n, const float *row);

#endif
