/* SPDX-License-Identifier: MIT */
/*
 * LoRA over the context's GEMM (lora.h says what is computed), for many ranks. Two stages: chunks of rows (H, y, P, D,
 * dx), then blocks of columns over all rows (dA, dB), so that each sum has one owner and a fixed order. A GEMM takes
 * ranks whose rows lie one behind the other, so a list of ranks is taken in runs of such. Activations that are not f32, and
 * x' with dropout, pass through a tile of the lane.
 */
#include <string.h>

#include "lora_parts.h"
#include "lorank/pass.h"

#define GRADIENT_COLS 128 /* columns of a block of dA or dB */

/* Ranks from `first` on whose rows follow each other. */
static int64_t run_of(const lrki_lora_call *call, const lrki_lora_part *part, int64_t first)
{
    int64_t n = 1;
    while (first + n < part->rank && part->a[first + n] == part->a[first + n - 1] + call->n_in)
        n++;
    return n;
}

/* ---- activations as f32 ------------------------------------------------------------------------------------------------ */

static bool is_direct(const lrki_activations *matrix, const lrki_dropout *dropout)
{
    return matrix->dtype == LRK_DTYPE_F32 && dropout == NULL;
}

/* Columns of a matrix's n_rows rows that are at hand at once. */
static int64_t step_of(const lrki_activations *matrix, const lrki_dropout *dropout, int64_t n_rows,
                       int64_t n_cols)
{
    if (is_direct(matrix, dropout)) return n_cols;
    return lrki_smaller(LRKI_TILE_FLOATS / n_rows, LRKI_TILE_COLS);
}

typedef struct source {
    const float *data;
    int64_t ld;
} source;

/* The tile t of a matrix in f32; t is no wider than step_of(). */
static source read_part(const lrki_lora_call *call, const lrki_activations *matrix,
                        const lrki_dropout *dropout, lrki_tile t, const lrki_lane *lane)
{
    if (is_direct(matrix, dropout)) return (source){lrki_activations_at(matrix, t.row, t.col), matrix->ld};
    lrki_tile_read(call->kernels, matrix, dropout, t, lane->tile, t.n_cols);
    return (source){lane->tile, t.n_cols};
}

/* ---- rows of x: H, y --------------------------------------------------------------------------------------------------- */

/* out[rows of t x rank] = rows of `matrix` times the ranks; of A if x is read, else of B. Columns after the first tile add. */
static lrk_status add_dots(const lrki_lora_call *call, const lrki_lora_part *part, source from, lrki_tile t,
                           bool of_a, float *out)
{
    const float *const *ranks = of_a ? part->a : part->b;
    lrk_status status = LRK_OK;
    for (int64_t j = 0, n; j < part->rank && status == LRK_OK; j += n) {
        n = run_of(call, part, j);
        status = lrki_gemm_in_task(call->context, false, true, t.n_rows, n, t.n_cols, 1.0f, from.data,
                                   from.ld, ranks[j] + t.col, of_a ? call->n_in : part->n_out,
                                   t.col == 0 ? 0.0f : 1.0f, out + t.row * part->rank + j, part->rank);
    }
    return status;
}

/* H of a chunk for all modules; a tile of x' is made once for all of them. */
static lrk_status make_h(const lrki_lora_call *call, lrki_tile t, const lrki_lane *lane, bool backward)
{
    int64_t step = step_of(&call->x, call->dropout, t.n_rows, call->n_in);
    for (t.col = 0; t.col < call->n_in; t.col += step) {
        t.n_cols = lrki_smaller(step, call->n_in - t.col);
        source x = read_part(call, &call->x, call->dropout, t, lane);
        for (int64_t p = 0; p < call->n_parts; p++) {
            const lrki_lora_part *part = &call->parts[p];
            lrk_status status = add_dots(call, part, x, t, true, backward ? part->h : lrki_forward_h(part));
            if (status != LRK_OK) return status;
        }
    }
    return LRK_OK;
}

/* to (+)= coef[rows of t x rank] times columns of the ranks. */
static lrk_status add_ranks(const lrki_lora_call *call, const lrki_lora_part *part, lrki_tile t, bool of_a,
                            const float *coef, float beta, float *to, int64_t ld_to)
{
    const float *const *ranks = of_a ? part->a : part->b;
    lrk_status status = LRK_OK;
    for (int64_t j = 0, n; j < part->rank && status == LRK_OK; j += n, beta = 1.0f) {
        n = run_of(call, part, j);
        status = lrki_gemm_in_task(call->context, false, false, t.n_rows, t.n_cols, n, 1.0f,
                                   coef + t.row * part->rank + j, part->rank, ranks[j] + t.col,
                                   of_a ? call->n_in : part->n_out, beta, to, ld_to);
    }
    return status;
}

static lrk_status make_y(const lrki_lora_call *call, const lrki_lora_part *part, lrki_tile t,
                         const lrki_lane *lane)
{
    int64_t step = step_of(&part->y, NULL, t.n_rows, part->n_out);
    lrki_scale_ranks(part, t, lrki_forward_h(part), part->scaled_h);
    for (t.col = 0; t.col < part->n_out; t.col += step) {
        t.n_cols = lrki_smaller(step, part->n_out - t.col);
        bool direct = is_direct(&part->y, NULL);
        float *to = direct ? lrki_activations_at(&part->y, t.row, t.col) : lane->tile;
        lrk_status status = add_ranks(call, part, t, false, part->scaled_h, direct ? 1.0f : 0.0f, to,
                                      direct ? part->y.ld : t.n_cols);
        if (status != LRK_OK) return status;
        if (!direct) lrki_tile_add(call->kernels, &part->y, NULL, t, lane->tile, t.n_cols);
    }
    return LRK_OK;
}

static lrk_status forward_lane(const lrki_lora_call *call, const lrki_lane *lane)
{
    lrk_status status = LRK_OK;
    for (int64_t chunk = lane->first; chunk < lane->first + lane->n && status == LRK_OK; chunk++) {
        lrki_tile t = lrki_lora_chunk(call, chunk);
        status = make_h(call, t, lane, false);
        for (int64_t p = 0; p < call->n_parts && status == LRK_OK; p++)
            if (!call->parts[p].silent) status = make_y(call, &call->parts[p], t, lane);
    }
    return status;
}

lrk_status lrki_gemm_forward(const lrki_lora_call *call)
{
    return lrki_lora_run(call, lrki_call_chunks(call), LRKI_LORA_LANES, forward_lane);
}

/* ---- backward, rows ---------------------------------------------------------------------------------------------------- */

/* P of a chunk, what is summed over H and P, then D and the scaled H. */
static lrk_status make_d(const lrki_lora_call *call, const lrki_lora_part *part, lrki_tile t, int64_t chunk,
                         const lrki_lane *lane)
{
    int64_t step = step_of(&part->dy, NULL, t.n_rows, part->n_out);
    for (t.col = 0; t.col < part->n_out; t.col += step) {
        t.n_cols = lrki_smaller(step, part->n_out - t.col);
        lrk_status status =
            add_dots(call, part, read_part(call, &part->dy, NULL, t, lane), t, false, part->d);
        if (status != LRK_OK) return status;
    }
    if (part->products != NULL) lrki_sum_products(part, t, chunk);
    lrki_scale_ranks(part, t, part->d, part->d);
    if (part->grad_b != NULL) lrki_scale_ranks(part, t, lrki_backward_h(part), part->scaled_h);
    return LRK_OK;
}

/* to (+)= sum over modules of D A[:, columns of t]. */
static lrk_status add_da(const lrki_lora_call *call, lrki_tile t, float beta, float *to, int64_t ld_to)
{
    for (int64_t p = 0; p < call->n_parts; p++) {
        const lrki_lora_part *part = &call->parts[p];
        if (part->silent) continue;
        lrk_status status = add_ranks(call, part, t, true, part->d, beta, to, ld_to);
        if (status != LRK_OK) return status;
        beta = 1.0f;
    }
    return LRK_OK;
}

static bool all_silent(const lrki_lora_call *call)
{
    for (int64_t p = 0; p < call->n_parts; p++)
        if (!call->parts[p].silent) return false;
    return true;
}

static lrk_status make_dx(const lrki_lora_call *call, lrki_tile t, const lrki_lane *lane)
{
    if (call->dx.data == NULL || all_silent(call)) return LRK_OK;
    int64_t step = step_of(&call->dx, call->dropout, t.n_rows, call->n_in);
    for (t.col = 0; t.col < call->n_in; t.col += step) {
        t.n_cols = lrki_smaller(step, call->n_in - t.col);
        if (is_direct(&call->dx, call->dropout))
            return add_da(call, t, 1.0f, lrki_activations_at(&call->dx, t.row, 0), call->dx.ld);
        lrk_status status = add_da(call, t, 0.0f, lane->tile, t.n_cols);
        if (status != LRK_OK) return status;
        lrki_tile_add(call->kernels, &call->dx, call->dropout, t, lane->tile, t.n_cols);
    }
    return LRK_OK;
}

static lrk_status backward_lane(const lrki_lora_call *call, const lrki_lane *lane)
{
    const lrki_lora_part *first =
        &call->parts[0]; /* the modules of a call want the same, and all or none have H */
    lrk_status status = LRK_OK;
    for (int64_t chunk = lane->first; chunk < lane->first + lane->n && status == LRK_OK; chunk++) {
        lrki_tile t = lrki_lora_chunk(call, chunk);
        if (lrki_wants_h(first) && first->kept_h == NULL) status = make_h(call, t, lane, true);
        for (int64_t p = 0; p < call->n_parts && status == LRK_OK; p++)
            status = make_d(call, &call->parts[p], t, chunk, lane);
        if (status == LRK_OK) status = make_dx(call, t, lane);
    }
    return status;
}

/* ---- backward, columns -------------------------------------------------------------------------------------------------- */

/* Columns from `col` on of dA (dB) += left^T times those of x' (dy), over all rows. */
static lrk_status gradient_block(const lrki_lora_call *call, const lrki_lora_part *part, bool of_a,
                                 int64_t col, const lrki_lane *lane)
{
    const lrki_activations *matrix = of_a ? &call->x : &part->dy;
    const lrki_dropout *dropout = of_a ? call->dropout : NULL;
    float *const *grad = of_a ? part->grad_a : part->grad_b;
    int64_t width = of_a ? call->n_in : part->n_out;
    int64_t step = is_direct(matrix, dropout) ? call->rows : LRKI_TILE_FLOATS / GRADIENT_COLS;
    lrki_tile t = {.col = col, .n_cols = lrki_smaller(GRADIENT_COLS, width - col)};
    for (; t.row < call->rows; t.row += step) {
        t.n_rows = lrki_smaller(step, call->rows - t.row);
        source from = read_part(call, matrix, dropout, t, lane);
        const float *left = (of_a ? part->d : part->scaled_h) + t.row * part->rank;
        for (int64_t j = 0, n; j < part->rank; j += n) {
            n = run_of(call, part, j);
            lrk_status status =
                lrki_gemm_in_task(call->context, true, false, n, t.n_cols, t.n_rows, 1.0f, left + j,
                                  part->rank, from.data, from.ld, 1.0f, grad[j] + col, width);
            if (status != LRK_OK) return status;
        }
    }
    return LRK_OK;
}

static int64_t column_blocks(int64_t n)
{
    return (n + GRADIENT_COLS - 1) / GRADIENT_COLS;
}

/* Block number `index` of: dA of the first module, its dB, dA of the second, ... */
static lrk_status any_block(const lrki_lora_call *call, int64_t index, const lrki_lane *lane)
{
    int64_t of_a = column_blocks(call->n_in);
    for (int64_t p = 0; p < call->n_parts; p++) {
        const lrki_lora_part *part = &call->parts[p];
        if (part->silent) continue;
        int64_t of_b = column_blocks(part->n_out);
        if (index < of_a) return gradient_block(call, part, true, index * GRADIENT_COLS, lane);
        if (index < of_a + of_b)
            return gradient_block(call, part, false, (index - of_a) * GRADIENT_COLS, lane);
        index -= of_a + of_b;
    }
    return LRK_OK;
}

static lrk_status gradient_lane(const lrki_lora_call *call, const lrki_lane *lane)
{
    lrk_status status = LRK_OK;
    for (int64_t i = lane->first; i < lane->first + lane->n && status == LRK_OK; i++)
        status = any_block(call, i, lane);
    return status;
}

lrk_status lrki_gemm_backward(const lrki_lora_call *call)
{
    int64_t blocks = 0;
    lrk_status status = lrki_lora_run(call, lrki_call_chunks(call), LRKI_LORA_LANES, backward_lane);
    if (status != LRK_OK || call->parts[0].grad_a == NULL) return status;
    for (int64_t p = 0; p < call->n_parts; p++)
        if (!call->parts[p].silent) blocks += column_blocks(call->n_in) + column_blocks(call->parts[p].n_out);
    return lrki_lora_run(call, blocks, LRKI_LORA_LANES, gradient_lane);
}
