/* SPDX-License-Identifier: MIT */
/*
 * A sum of deltas in factored form, in double: sum_p sign_p s_p B_p^T diag(g_p) A_p = left core right^T with orthonormal
 * columns in left and right, so that all that is invariant under rotation can be read off core.
 */
#ifndef LRKI_FACTORED_H
#define LRKI_FACTORED_H

#include "set.h"

typedef struct lrki_term {
    const lrki_module *module;
    double sign;
} lrki_term;

typedef struct lrki_factored {
    lrk_context *context;
    int64_t n_out;
    int64_t n_in;
    int64_t k_out;
    int64_t k_in;
    double *left;  /* [n_out x k_out] */
    double *right; /* [n_in x k_in]   */
    double *core;  /* [k_out x k_in]  */
} lrki_factored;

/*
 * Of terms of one shape and with finite parameters; k_out = min(n_out, ranks), k_in = min(n_in, ranks) of all terms together.
 * Zero-initialise; lrki_factored_free() is right at any time. LRK_ERR_NOMEM, LRK_ERR_SHAPE.
 */
lrk_status lrki_factored_make(lrk_context *context, const lrki_term *terms, int32_t n_terms,
                              lrki_factored *factored);
void lrki_factored_free(lrki_factored *factored);

#endif
