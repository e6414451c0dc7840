/* SPDX-License-Identifier: MIT */
/*
 * The oracle of sketches: gradients in double, their singular value decomposition by one-sided Jacobi rotations (Golub and
 * Van Loan, Matrix Computations, 8.6.3), and activations whose gradient has a spectrum that one chooses.
 */
#ifndef SPECTRAL_H
#define SPECTRAL_H

#include <stdint.h>

#include "material.h"

/* G += sum_t dy_t x_t^T, [dy->cols x x->cols]; and the same of absolute values if sizes is not NULL. */
void spectral_gradient(const padded *x, const padded *dy, double *gradient, double *sizes);

/*
 * values [cols] descending and right [cols x cols] (rows; NULL: not wanted) of a [rows x cols], which is destroyed.
 */
void spectral_svd(int64_t rows, int64_t cols, double *a, double *values, double *right);

/*
 * x [n x n_in] and dy [n x n_out], n = number of values, with sum_t dy_t x_t^T = sum_t values_t u_t v_t^T up to the rounding
 * of x and dy to f32; u and v orthonormal, drawn from the seed. n <= n_in, n_out.
 */
void spectral_rows(const double *values, int64_t n, int64_t n_in, int64_t n_out, uint64_t seed, padded *x,
                   padded *dy);

#endif
