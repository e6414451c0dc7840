/* SPDX-License-Identifier: MIT */
/*
 * The oracle: forward and backward of one module by naive loops in double, straight from the formulas in
 * include/lorank/pass.h, and the error that f32 arithmetic may make.
 *
 * Bound. With u = 2^-24, an inner product of length k in f32, summed in any order, with or without fused
 * multiply-adds, errs by at most gamma(k) = k u / (1 - k u) times the product of the absolute values (Higham, Accuracy
 * and Stability of Numerical Algorithms, 3.1). Chained products add their lengths: gamma(j) + gamma(k) +
 * gamma(j) gamma(k) <= gamma(j + k). So every result errs by at most gamma(length) * size, where `size` is the same
 * formula with every factor (and the value that is accumulated onto) replaced by its absolute value, and
 *     y        n_in + rank + 8        (x' 1, H n_in, f 1, H f 1, sum over ranks and the old y rank + 1, alpha and beta 2)
 *     dx       n_out + ranks + 8      (P n_out, f 1, D 1, sum over ranks of all modules, old dx, dropout 2)
 *     dA       n_out + rows + 8       (D n_out + 2, x' 1, sum over rows and the old value)
 *     dB       n_in + rows + 8
 *     dg, dm   n_in + n_out + 8       (H and P; their products are exact in double and the sums' error is far below u)
 * with the constant rounded up to 8 for all.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct oracle_case {
    int64_t rows;
    int64_t n_in;
    int64_t n_out;
    int64_t rank;
    double scale;
    const float *a;     /* [rank x n_in]  */
    const float *b;     /* [rank x n_out] */
    const float *gates; /* [rank] */
    const float *mask;  /* [rank]; NULL: 1 */
    const float *x;
    int64_t ld_x;
    const double *keep; /* [rows x n_in]: what x is multiplied by; NULL: 1 */
    const float *dy;
    int64_t ld_dy;
} oracle_case;

/* Derivatives, added to; NULL: not wanted. Tight rows. */
typedef struct oracle_gradients {
    double *dx;
    double *grad_a;
    double *grad_b;
    double *gates;
    double *mask;
} oracle_gradients;

/* Adds the update to y [rows x n_out] (tight); with sizes, absolute values throughout. */
void oracle_forward(const oracle_case *c, double *y, bool sizes);
void oracle_backward(const oracle_case *c, oracle_gradients g, bool sizes);

double oracle_gamma(int64_t length);
/* |got - want| <= gamma(length) * size; NaN fails. */
bool oracle_within(double got, double want, double size, int64_t length);

#endif
