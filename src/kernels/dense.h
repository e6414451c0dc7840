/* SPDX-License-Identifier: MIT */
/*
 * Small dense factorisations in double over LAPACK, row-major. dense.c alone knows LAPACK. Scratch comes from the
 * context. The sign of each factor is fixed (the entry of largest magnitude of a row of vt, the diagonal of r: not
 * negative), so that results do not depend on LAPACK's choice.
 */
#ifndef LRKI_DENSE_H
#define LRKI_DENSE_H

#include "../core/core.h"

/*
 * a = q r, thin: a [rows x cols], rows >= cols >= 0, is replaced by q; r [cols x cols] upper triangular, NULL: not wanted.
 * LRK_ERR_NOMEM; LRK_ERR_SHAPE if a size exceeds LAPACK's integer.
 */
lrk_status lrki_qr(lrk_context *context, int64_t rows, int64_t cols, double *a, double *r);

/*
 * a = u diag(s) vt, thin, k = min(rows, cols): a [rows x cols] is destroyed; u [rows x k], s [k] descending, vt [k x cols];
 * u and vt may both be NULL. LRK_ERR_NONFINITE if a holds NaN or infinity or the iteration does not converge.
 */
lrk_status lrki_svd(lrk_context *context, int64_t rows, int64_t cols, double *a, double *u, double *s, double *vt);

#endif
