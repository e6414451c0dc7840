/* SPDX-License-Identifier: MIT */
/*
 * Small dense factorisations in double over the LAPACK that comes with OpenBLAS, row-major; dense.c alone knows it.
 * Scratch comes from the context. Signs are fixed (the diagonal of r and the entry of largest magnitude of every row of
 * vt are not negative), so that they do not depend on LAPACK's choice; the last bits may depend on OpenBLAS' threads.
 * Both functions may run in tasks of a parallel loop: details are recorded for the thread that calls.
 */
#ifndef LRKI_DENSE_H
#define LRKI_DENSE_H

#include "../core/core.h"

/*
 * a = q r, thin: a [rows x cols], rows >= cols >= 0, is replaced by q; r [cols x cols] upper triangular, NULL: not wanted.
 * A deficient a gives a q that is orthonormal all the same, and zeros (to rounding) on the diagonal of r.
 * LRK_ERR_NOMEM; LRK_ERR_SHAPE if a size exceeds LAPACK's integer; LRK_ERR_NONFINITE if a holds NaN or infinity.
 */
lrk_status lrki_qr(lrk_context *context, int64_t rows, int64_t cols, double *a, double *r);

/*
 * a = u diag(s) vt, thin, k = min(rows, cols): a [rows x cols] is destroyed; u [rows x k], s [k] descending, vt [k x cols];
 * u and vt may both be NULL. Errors as lrki_qr(); LRK_ERR_NONFINITE also if the iteration does not converge.
 */
lrk_status lrki_svd(lrk_context *context, int64_t rows, int64_t cols, double *a, double *u, double *s,
                    double *vt);

/*
 * The same within a task of a parallel loop, where OpenBLAS keeps to one thread, so that the bits do not depend on how many
 * there are: nothing is allocated and no detail recorded. scratch has as many doubles as the functions beside them say, a
 * negative number if a size exceeds LAPACK's integer.
 */
int64_t lrki_qr_scratch(int64_t rows, int64_t cols);
int64_t lrki_svd_scratch(int64_t rows, int64_t cols); /* for u and vt or neither */
void lrki_qr_in_task(int64_t rows, int64_t cols, double *a, double *r, double *scratch);
lrk_status lrki_svd_in_task(int64_t rows, int64_t cols, double *a, double *u, double *s, double *vt,
                            double *scratch);

/*
 * The `top` largest eigenvalues, descending, of a symmetric a [n x n], which is destroyed, and their unit eigenvectors as rows of
 * vectors [top x n]; 1 <= top <= n. For tasks, as above; signs are LAPACK's. LRK_ERR_NONFINITE: a is not finite, or no convergence.
 */
int64_t lrki_eigen_scratch(int64_t n);
lrk_status lrki_eigen_in_task(int64_t n, int64_t top, double *a, double *values, double *vectors,
                              double *scratch);

#endif
