/* SPDX-License-Identifier: MIT */
/*
 * The fold B' = B^T diag(g s r / alpha) (r the ranks in the file), rounded to f32 once. Its inverse is peft_residual.c's.
 */
#include "peft_fold.h"

#include <math.h>

#include "../adapters/set.h"
#include "../kernels/lora.h"

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

/* Magnitudes of floats order as their bits do; infinity and NaN are above all others. */
static uint32_t magnitude(float value)
{
    return lrki_bits(value) & 0x7fffffffu;
}

static uint32_t greatest_magnitude(const float *values, int64_t n)
{
    uint32_t most = 0;
    for (int64_t i = 0; i < n; i++)
        most = magnitude(values[i]) > most ? magnitude(values[i]) : most;
    return most;
}

/* Is the value finite in dtype? */
static bool is_finite_in(const lrki_dtype *dtype, float value)
{
    unsigned char narrow[sizeof(float)];
    if (dtype->from_f32 != NULL) {
        dtype->from_f32(&value, narrow, 1);
        dtype->to_f32(narrow, &value, 1);
    }
    return lrki_all_finite(&value, 1);
}

/*
 * Are all, times the factor, so small that every dtype holds them? To the end and in one type, so that it is vectorised: what
 * nearly all values are need not be looked at for the greatest.
 */
static bool are_small(const float *values, int64_t n, double factor)
{
    double bound = fabs(factor) > 1 ? 0x1p14 / fabs(factor) : 0x1p14;
    int32_t limit = (int32_t)lrki_bits((float)bound), any_other = 0;
    for (int64_t i = 0; i < n; i++)
        any_other |= (int32_t)magnitude(values[i]) >= limit;
    return !any_other && !isnan(factor);
}

/* Folding and narrowing keep the order of magnitudes, so that the greatest of a row speaks for all. */
static bool folds_finite(const lrki_peft_module *m, double alpha, const lrki_dtype *dtype, bool *b_is_finite)
{
    bool finite = true;
    *b_is_finite = true;
    for (int64_t j = 0; j < m->rank; j++) {
        const float *row = m->b + j * m->n_out;
        double factor = lrki_fold_factor(m, alpha, j);
        if (are_small(row, m->n_out, factor)) continue;
        float most = lrki_float(greatest_magnitude(row, m->n_out));
        *b_is_finite = *b_is_finite && lrki_all_finite(&most, 1);
        finite = finite && is_finite_in(dtype, lrki_fold(most, factor));
    }
    return finite;
}

static bool a_is_finite(const lrki_peft_module *m, const lrki_dtype *dtype)
{
    int64_t n = m->rank * m->n_in;
    return are_small(m->a, n, 1) || is_finite_in(dtype, lrki_float(greatest_magnitude(m->a, n)));
}

lrk_status lrki_fold_check(lrk_context *context, const lrki_peft_module *m, double alpha,
                           const lrki_dtype *dtype)
{
    const char *what = NULL;
    bool b_is_finite, fold_is_finite = folds_finite(m, alpha, dtype, &b_is_finite);
    if (!a_is_finite(m, dtype)) what = "A";
    if (!b_is_finite) what = "B";
    if (!lrki_all_finite(m->gates, m->rank)) what = "gates";
    if (what == NULL && !fold_is_finite) what = "B times scale and gates";
    if (what == NULL) return LRK_OK;
    lrki_place place = {m->index, 0, 0, 0};
    return lrki_fail_at(context, LRK_ERR_NONFINITE, place,
                        "module '%s': %s holds a value that is not finite%s%s", m->name, what,
                        dtype->from_f32 == NULL ? "" : " in ", dtype->from_f32 == NULL ? "" : dtype->name);
}

/* Blocks that stay in the nearest cache, tiles that stay in registers, floats of a line of the cache. */
enum { BLOCK = 128, ROWS = 64, TILE = 4, LINE = 16 };

/* to[c * to_step + r] = from[r * from_step + c], r below n_rows <= TILE, c below n. */
static void transpose_rows(const float *from, int64_t from_step, int64_t n_rows, int64_t n, float *to,
                           int64_t to_step)
{
    int64_t c = 0;
    for (; n_rows == TILE && c + TILE <= n; c += TILE) {
        float tile[TILE][TILE];
        for (int64_t r = 0; r < TILE; r++)
            for (int64_t i = 0; i < TILE; i++)
                tile[r][i] = from[r * from_step + c + i];
        for (int64_t i = 0; i < TILE; i++)
            for (int64_t r = 0; r < TILE; r++)
                to[(c + i) * to_step + r] = tile[r][i];
    }
    for (; c < n; c++)
        for (int64_t r = 0; r < n_rows; r++)
            to[c * to_step + r] = from[r * from_step + c];
}

/*
 * Columns [begin, begin + n) of the ranks [j, j + n_rows), folded, in rows of BLOCK. What the next block reads is fetched, as no row
 * is read for long enough that the processor would see it coming.
 */
static void fold_rows(const lrki_peft_module *m, double alpha, int64_t j, int64_t n_rows, int64_t begin,
                      int64_t n, float *folded)
{
    for (int64_t r = 0; r < n_rows; r++) {
        double factor = lrki_fold_factor(m, alpha, j + r);
        const float *b = m->b + (j + r) * m->n_out + begin;
        for (int64_t i = 0; i < n && begin + BLOCK + i < m->n_out; i += LINE)
            __builtin_prefetch(b + BLOCK + i);
        for (int64_t i = 0; i < n; i++)
            folded[r * BLOCK + i] = lrki_fold(b[i], factor);
    }
}

void lrki_fold_store(const lrki_peft_module *m, double alpha, float *stored)
{
    float folded[TILE * BLOCK];
    for (int64_t begin = 0; begin < m->n_out; begin += BLOCK) {
        int64_t n = lrki_smaller(m->n_out - begin, BLOCK);
        float *to = stored + begin * m->width;
        for (int64_t j = 0; j < m->rank; j += TILE) {
            int64_t n_rows = lrki_smaller(m->rank - j, TILE);
            fold_rows(m, alpha, j, n_rows, begin, n, folded);
            transpose_rows(folded, BLOCK, n_rows, n, to + j, m->width);
        }
        for (int64_t i = 0; i < n && m->rank < m->width; i++)
            memset(to + i * m->width + m->rank, 0, (size_t)(m->width - m->rank) * sizeof *to);
    }
}

/* Rows of `stored` that a near cache holds are read a few ranks at a time, so that the lines of B that these have are filled at once. */
void lrki_fold_transpose(const float *stored, int64_t rank, int64_t n, float *b, int64_t b_step)
{
    for (int64_t begin = 0; begin < n; begin += ROWS) {
        int64_t end = begin + lrki_smaller(n - begin, ROWS);
        for (int64_t j = 0; j < rank; j += TILE)
            for (int64_t i = begin; i < end; i += TILE)
                transpose_rows(stored + i * rank + j, rank, lrki_smaller(end - i, TILE),
                               lrki_smaller(rank - j, TILE), b + j * b_step + i, b_step);
    }
}
