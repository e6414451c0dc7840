/* SPDX-License-Identifier: MIT */
/*
 * The fold B' = B^T diag(g s r / alpha) (r the ranks in the file), rounded to f32 once, and its exact inverse. Dividing B' by the factor gives B
 * back up to one unit in the last place (both roundings err by half a unit of B' or B, and those units differ by at
 * most a factor of 2). The difference is kept in 2 bits an element: 0 as divided, 1 the next larger magnitude, 2 the
 * next smaller one, 3 escape: the value itself follows in a list (gate 0, underflow, the wrong sign of zero).
 * Describe chooses every code by running the inverse, so that what is written is known to come back; restoring folds
 * again and compares, so that damaged metadata gives the delta that PEFT sees, or an error.
 */
#include <math.h>
#include <string.h>

#include "base64.h"
#include "peft_parts.h"

#include "../adapters/set.h"

#define CODE_SAME   0u
#define CODE_UP     1u
#define CODE_DOWN   2u
#define CODE_ESCAPE 3u

static double factor_of(const lrki_peft_module *module, double alpha, int64_t rank_index)
{
    return module->scale * (double)module->width / alpha * (double)module->gates[rank_index];
}

static float fold(float b, double factor)
{
    return factor == 1 ? b : (float)((double)b * factor);
}

static float unfold(float stored, double factor)
{
    if (factor == 1) return stored;
    return factor == 0 ? 0 : (float)((double)stored / factor);
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Without branches: which code comes next is close to random. */
static uint32_t code_of(float b, double factor)
{
    uint32_t up = bits_of(b) - bits_of(unfold(fold(b, factor), factor));
    return up == 0 ? CODE_SAME : up == 1 ? CODE_UP : up == UINT32_MAX ? CODE_DOWN : CODE_ESCAPE;
}

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

/* ---- describe ---- */

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
        double factor = factor_of(m, alpha, j);
        for (int64_t at = 0; at < m->n_out; at += PIECE) {
            int64_t n = m->n_out - at < PIECE ? m->n_out - at : PIECE;
            for (int64_t i = 0; i < n; i++)
                folded[i] = fold(b[at + i], factor);
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

/* What the codes of a module came to. */
typedef struct coded {
    int64_t n_escapes;
    uint32_t seen; /* all codes, or-ed */
} coded;

static void code_rank(const lrki_peft_module *m, double alpha, int64_t j, unsigned char *codes, coded *result)
{
    enum { PIECE = 256 };
    unsigned char piece[PIECE];
    double factor = factor_of(m, alpha, j);
    for (int64_t at = j * m->n_out; at < (j + 1) * m->n_out; at += PIECE) {
        int64_t left = (j + 1) * m->n_out - at, n = left < PIECE ? left : PIECE;
        for (int64_t i = 0; i < n; i++)
            piece[i] = (unsigned char)code_of(m->b[at + i], factor);
        for (int64_t i = 0; i < n; i++) {
            codes[(at + i) / 4] |= (unsigned char)(piece[i] << 2 * ((at + i) % 4));
            result->n_escapes += piece[i] == CODE_ESCAPE;
            result->seen |= piece[i];
        }
    }
}

static uint32_t code_at(const unsigned char *codes, int64_t i)
{
    return codes[i / 4] >> 2 * (i % 4) & 3u;
}

static lrki_json *escapes_json(lrk_context *context, const lrki_peft_module *m, const unsigned char *codes,
                               int64_t n)
{
    float *escapes = lrki_array(context, n, sizeof *escapes);
    if (escapes == NULL) return NULL;
    int64_t filled = 0;
    for (int64_t i = 0; i < m->rank * m->n_out; i++)
        if (code_at(codes, i) == CODE_ESCAPE) escapes[filled++] = m->b[i];
    lrki_json *json = lrki_base64_json(context, escapes, (size_t)n * sizeof *escapes);
    lrki_array_free(context, escapes, n, sizeof *escapes);
    return json;
}

lrk_status lrki_fold_describe(lrk_context *context, const lrki_peft_module *module, double alpha,
                              lrki_json **fold_object)
{
    int64_t n_bytes = (module->rank * module->n_out + 3) / 4;
    unsigned char *codes = lrki_array(context, n_bytes, 1);
    if (codes == NULL) return lrki_fail_nomem(context, module->name);
    coded all = {0};
    for (int64_t j = 0; j < module->rank; j++)
        code_rank(module, alpha, j, codes, &all);
    if (all.seen != CODE_SAME) {
        lrki_json *entry = lrki_json_new_object();
        lrki_json_put(&entry, "codes", lrki_base64_json(context, codes, (size_t)n_bytes));
        if (all.n_escapes > 0) {
            lrki_json_put(&entry, "n_escapes", lrki_json_new_integer(all.n_escapes));
            lrki_json_put(&entry, "escapes", escapes_json(context, module, codes, all.n_escapes));
        }
        lrki_json_put(fold_object, module->name, entry);
    }
    lrki_array_free(context, codes, n_bytes, 1);
    return *fold_object == NULL ? lrki_fail_nomem(context, module->name) : LRK_OK;
}

static void store_rows(const lrki_peft_module *m, double alpha, int64_t begin, int64_t end, float *stored)
{
    for (int64_t j = 0; j < m->rank; j++) {
        double factor = factor_of(m, alpha, j);
        for (int64_t i = begin; i < end; i++)
            stored[i * m->width + j] = fold(m->b[j * m->n_out + i], factor);
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

/* ---- restore ---- */

typedef struct fold_residual {
    int64_t n_bytes;
    unsigned char *codes; /* NULL: all 0 */
    int64_t n_escapes;
    float *escapes;
} fold_residual;

static void residual_free(lrk_context *context, fold_residual *residual)
{
    lrki_array_free(context, residual->codes, residual->n_bytes, 1);
    lrki_array_free(context, residual->escapes, residual->n_escapes, sizeof *residual->escapes);
}

static int64_t count_escapes(const fold_residual *residual, int64_t n)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        found += code_at(residual->codes, i) == CODE_ESCAPE;
    return found;
}

static lrk_status residual_read(lrk_context *context, const lrki_peft_module *m, const lrki_json *entry,
                                fold_residual *residual)
{
    int64_t n = m->rank * m->n_out, stated = 0;
    (void)lrki_json_integer(lrki_json_get(entry, "n_escapes"), &stated);
    residual->n_bytes = (n + 3) / 4;
    residual->codes = lrki_array(context, residual->n_bytes, 1);
    if (residual->codes == NULL) return lrki_fail_nomem(context, m->name);
    bool fits = lrki_base64_decode(lrki_json_text(lrki_json_get(entry, "codes")), residual->codes,
                                   (size_t)residual->n_bytes) &&
                stated == count_escapes(residual, n);
    if (fits && stated > 0) {
        residual->escapes = lrki_array(context, stated, sizeof *residual->escapes);
        if (residual->escapes == NULL) return lrki_fail_nomem(context, m->name);
        residual->n_escapes = stated;
        fits = lrki_base64_decode(lrki_json_text(lrki_json_get(entry, "escapes")), residual->escapes,
                                  (size_t)stated * sizeof *residual->escapes);
    }
    if (fits) return LRK_OK;
    return lrki_fail(context, LRK_ERR_FORMAT,
                     "metadata " LRKI_KEY_FOLD ": module '%s': codes and escapes do not fit", m->name);
}

static float corrected(float value, uint32_t code)
{
    uint32_t bits = bits_of(value) + (code == CODE_UP ? 1u : 0u) - (code == CODE_DOWN ? 1u : 0u);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* b[0..n) in place, codes from element `at` on. Loops of one kind each, so that they are vectorised. */
static int64_t restore_piece(const fold_residual *residual, int64_t at, int64_t n, double factor, float *b,
                             int64_t *escape)
{
    enum { PIECE = 256 };
    float stored[PIECE];
    uint32_t codes[PIECE] = {0}, seen = 0;
    int64_t n_others = 0;
    memcpy(stored, b, (size_t)n * sizeof *b);
    for (int64_t i = 0; i < n && residual->codes != NULL; i++)
        codes[i] = code_at(residual->codes, at + i);
    for (int64_t i = 0; i < n; i++)
        b[i] = corrected(unfold(stored[i], factor), codes[i]);
    for (int64_t i = 0; i < n; i++)
        seen |= codes[i] & codes[i] >> 1;
    for (int64_t i = 0; i < n && seen != 0; i++)
        if (codes[i] == CODE_ESCAPE) b[i] = residual->escapes[(*escape)++];
    for (int64_t i = 0; i < n; i++)
        n_others += bits_of(fold(b[i], factor)) != bits_of(stored[i]);
    return n_others;
}

/* In place, once B' is transposed; how many values do not fold to what was stored. */
static int64_t restore(const lrki_peft_module *m, double alpha, const fold_residual *residual, float *b)
{
    enum { PIECE = 256 };
    int64_t escape = 0, n_others = 0;
    for (int64_t j = 0; j < m->rank; j++) {
        double factor = factor_of(m, alpha, j);
        for (int64_t at = j * m->n_out; at < (j + 1) * m->n_out; at += PIECE) {
            int64_t left = (j + 1) * m->n_out - at, n = left < PIECE ? left : PIECE;
            n_others += restore_piece(residual, at, n, factor, b + at, &escape);
        }
    }
    return n_others;
}

lrk_status lrki_fold_restore(lrk_context *context, const lrki_peft_module *module, double alpha,
                             const lrki_json *entry, const float *stored, float *b)
{
    fold_residual residual = {0};
    lrk_status status = entry == NULL ? LRK_OK : residual_read(context, module, entry, &residual);
    lrki_fold_transpose(stored, module->rank, module->n_out, b);
    if (status == LRK_OK && restore(module, alpha, &residual, b) > 0)
        status =
            lrki_fail(context, LRK_ERR_FORMAT,
                      "module '%s': scale, gates and " LRKI_KEY_FOLD " of the metadata contradict lora_B",
                      module->name);
    residual_free(context, &residual);
    return status;
}
