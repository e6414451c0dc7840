/* SPDX-License-Identifier: MIT */
/*
 * The columns of all terms side by side are one tall matrix a side; its QR factorisation gives an orthonormal basis and
 * the small triangle that goes into the core. Where there are more columns than rows, the basis is that of the space.
 */
#include "factored.h"

#include <string.h>

#include "../kernels/dense.h"

/* One side while it is reduced: columns = basis [rows x k] reduced [k x n]. */
typedef struct side {
    int64_t rows;
    int64_t n;
    int64_t k;
    double *basis;
    double *reduced;
} side;

static int64_t ranks_of(const lrki_term *terms, int32_t n_terms)
{
    int64_t ranks = 0;
    for (int32_t t = 0; t < n_terms; t++)
        ranks += terms[t].module->bank.rank;
    return ranks;
}

/* columns [rows x n]: rank j of each term, times its sign, scale and gate on the side of B. */
static void fill_columns(const lrki_term *terms, int32_t n_terms, bool out, int64_t rows, int64_t n,
                         double *columns)
{
    int64_t column = 0;
    for (int32_t t = 0; t < n_terms; t++) {
        const lrki_module *m = terms[t].module;
        const float *values = out ? m->bank.b : m->bank.a;
        for (int64_t j = 0; j < m->bank.rank; j++, column++) {
            double factor = out ? terms[t].sign * m->scale * (double)m->bank.gates[j] : 1;
            for (int64_t i = 0; i < rows; i++)
                columns[i * n + column] = factor * (double)values[j * rows + i];
        }
    }
}

static lrk_status reduce(lrk_context *context, const lrki_term *terms, int32_t n_terms, bool out, side *s)
{
    bool is_tall = s->rows >= s->n;
    s->k = is_tall ? s->n : s->rows;
    s->basis = lrki_array(context, s->rows * s->k, sizeof *s->basis);
    s->reduced = lrki_array(context, s->k * s->n, sizeof *s->reduced);
    if (s->basis == NULL || s->reduced == NULL) return lrki_fail_nomem(context, "a factored delta");
    fill_columns(terms, n_terms, out, s->rows, s->n, is_tall ? s->basis : s->reduced);
    if (is_tall) return lrki_qr(context, s->rows, s->n, s->basis, s->reduced);
    for (int64_t i = 0; i < s->rows; i++)
        s->basis[i * s->k + i] = 1;
    return LRK_OK;
}

static void multiply_core(const side *out, const side *in, double *core)
{
    for (int64_t i = 0; i < out->k; i++)
        for (int64_t j = 0; j < in->k; j++) {
            double sum = 0;
            for (int64_t t = 0; t < out->n; t++)
                sum += out->reduced[i * out->n + t] * in->reduced[j * in->n + t];
            core[i * in->k + j] = sum;
        }
}

lrk_status lrki_factored_make(lrk_context *context, const lrki_term *terms, int32_t n_terms,
                              lrki_factored *factored)
{
    int64_t ranks = ranks_of(terms, n_terms);
    side out = {.rows = terms[0].module->n_out, .n = ranks}, in = {.rows = terms[0].module->n_in, .n = ranks};
    lrk_status status = reduce(context, terms, n_terms, true, &out);
    if (status == LRK_OK) status = reduce(context, terms, n_terms, false, &in);
    *factored = (lrki_factored){.context = context,
                                .n_out = out.rows,
                                .n_in = in.rows,
                                .k_out = out.k,
                                .k_in = in.k,
                                .left = out.basis,
                                .right = in.basis};
    if (status == LRK_OK) {
        factored->core = lrki_array(context, out.k * in.k, sizeof *factored->core);
        if (factored->core == NULL)
            status = lrki_fail_nomem(context, "a factored delta");
        else
            multiply_core(&out, &in, factored->core);
    }
    lrki_array_free(context, out.reduced, out.k * out.n, sizeof *out.reduced);
    lrki_array_free(context, in.reduced, in.k * in.n, sizeof *in.reduced);
    return status;
}

void lrki_factored_free(lrki_factored *f)
{
    lrki_array_free(f->context, f->left, f->n_out * f->k_out, sizeof *f->left);
    lrki_array_free(f->context, f->right, f->n_in * f->k_in, sizeof *f->right);
    lrki_array_free(f->context, f->core, f->k_out * f->k_in, sizeof *f->core);
    *f = (lrki_factored){0};
}
