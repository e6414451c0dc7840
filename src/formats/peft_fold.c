/* SPDX-License-Identifier: MIT */
/*
 * The fold B' = B^T diag(g s r / alpha) (r the ranks in the file), rounded to f32 once. Its inverse is peft_residual.c's.
 */
#include "peft_fold.h"

#include "../adapters/set.h"

lrki_peft_module lrki_peft_module_of(const lrk_adapters *adapters, int32_t i)
{
    const lrki_module *m = &adapters->modules[i];
    return (lrki_peft_module){.name = m->name,
                              .index = i,
                              .n_in = m->n_in,
                              .n_out = m->n_out,
                              .rank = m->bank.rank,
                              .width = m->bank.rank,
                              .scale = m->scale,
                              .a = m->bank.a,
                              .b = m->bank.b,
                              .gates = m->bank.gates};
}

/* Are they once narrowed? */
static bool narrows_finite(const float *values, int64_t n, const lrki_dtype *dtype)
{
    enum { PIECE = 256 };
    float back[PIECE];
    unsigned char narrow[PIECE * sizeof(float)];
    if (dtype->from_f32 == NULL) return true;
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t n_piece = n - at < PIECE ? n - at : PIECE;
        dtype->from_f32(values + at, narrow, (size_t)n_piece);
        dtype->to_f32(narrow, back, (size_t)n_piece);
        if (!lrki_all_finite(back, n_piece)) return false;
    }
    return true;
}

static bool folds_finite(const lrki_peft_module *m, double alpha, const lrki_dtype *dtype)
{
    enum { PIECE = 256 };
    float folded[PIECE];
    for (int64_t j = 0; j < m->rank; j++) {
        const float *b = m->b + j * m->n_out;
        double factor = lrki_fold_factor(m, alpha, j);
        for (int64_t at = 0; at < m->n_out; at += PIECE) {
            int64_t n = m->n_out - at < PIECE ? m->n_out - at : PIECE;
            for (int64_t i = 0; i < n; i++)
                folded[i] = lrki_fold(b[at + i], factor);
            if (!lrki_all_finite(folded, n) || !narrows_finite(folded, n, dtype)) return false;
        }
    }
    return true;
}

lrk_status lrki_fold_check(lrk_context *context, const lrki_peft_module *m, double alpha,
                           const lrki_dtype *dtype)
{
    const char *what = NULL;
    if (!lrki_all_finite(m->a, m->rank * m->n_in) || !narrows_finite(m->a, m->rank * m->n_in, dtype))
        what = "A";
    if (!lrki_all_finite(m->b, m->rank * m->n_out)) what = "B";
    if (!lrki_all_finite(m->gates, m->rank)) what = "gates";
    if (what == NULL && !folds_finite(m, alpha, dtype)) what = "B times scale and gates";
    if (what == NULL) return LRK_OK;
    lrki_place place = {m->index, 0, 0, 0};
    return lrki_fail_at(context, LRK_ERR_NONFINITE, place,
                        "module '%s': %s holds a value that is not finite%s%s", m->name, what,
                        dtype->from_f32 == NULL ? "" : " in ", dtype->from_f32 == NULL ? "" : dtype->name);
}

static void store_rows(const lrki_peft_module *m, double alpha, int64_t begin, int64_t end, float *stored)
{
    for (int64_t j = 0; j < m->rank; j++) {
        double factor = lrki_fold_factor(m, alpha, j);
        for (int64_t i = begin; i < end; i++)
            stored[i * m->width + j] = lrki_fold(m->b[j * m->n_out + i], factor);
    }
    for (int64_t j = m->rank; j < m->width; j++)
        for (int64_t i = begin; i < end; i++)
            stored[i * m->width + j] = 0;
}

void lrki_fold_store(const lrki_peft_module *module, double alpha, float *stored)
{
    for (int64_t begin = 0; begin < module->n_out; begin += LRKI_FOLD_ROWS) {
        int64_t end = begin + LRKI_FOLD_ROWS;
        store_rows(module, alpha, begin, end < module->n_out ? end : module->n_out, stored);
    }
}

void lrki_fold_transpose(const float *stored, int64_t rank, int64_t n_out, float *b)
{
    for (int64_t begin = 0; begin < n_out; begin += LRKI_FOLD_ROWS) {
        int64_t end = n_out - begin < LRKI_FOLD_ROWS ? n_out : begin + LRKI_FOLD_ROWS;
        for (int64_t j = 0; j < rank; j++)
            for (int64_t i = begin; i < end; i++)
                b[j * n_out + i] = stored[i * rank + j];
    }
}
