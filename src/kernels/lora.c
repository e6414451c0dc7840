/* SPDX-License-Identifier: MIT */
/*
 * LoRA over the GEMM (lora.h). Two stages: chunks of rows (H, y, P, D, dx), then blocks of columns over all rows (dA,
 * dB), so that each sum has one owner and a fixed order. The pieces of a stage are dealt to at most LRKI_LORA_LANES
 * tasks; a task's first failure stops the others and is reported by the calling thread.
 */
#include "lora.h"

typedef struct stage {
    const lrki_lora_call *call;
    int64_t pieces;
    lrk_status (*piece)(const lrki_lora_call *call, int64_t index, float *tile);
    lrk_status status; /* atomic: the first failure */
} stage;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t pieces_of(int64_t n, int64_t size)
{
    return n / size + (n % size != 0);
}

int64_t lrki_lora_chunks(int64_t rows)
{
    return pieces_of(rows, LRKI_LORA_ROWS);
}

static int64_t tile_floats(const lrki_lora_call *call)
{
    return smaller(call->rows, LRKI_LORA_ROWS) * LRKI_TILE_COLS;
}

/* ---- running a stage ---------------------------------------------------------------------------------------------- */

static void run_lane(void *data, int64_t lane)
{
    stage *s = data;
    float *tile = s->call->dropout != NULL ? s->call->tiles + lane * tile_floats(s->call) : NULL;
    for (int64_t i = lane; i < s->pieces; i += LRKI_LORA_LANES) {
        if (__atomic_load_n(&s->status, __ATOMIC_RELAXED) != LRK_OK) return;
        lrk_status status = s->piece(s->call, i, tile);
        lrk_status none = LRK_OK;
        if (status != LRK_OK)
            __atomic_compare_exchange_n(&s->status, &none, status, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
}

/* Multiply-adds of one product over all modules, about. */
static bool is_small(const lrki_lora_call *call)
{
    double work = 0.0;
    for (int64_t p = 0; p < call->n_parts; p++)
        work += (double)call->parts[p].rank * (double)(call->n_in + call->parts[p].n_out);
    return work * (double)call->rows <= LRKI_LORA_SMALL;
}

static lrk_status run_stage(const lrki_lora_call *call, int64_t pieces,
                            lrk_status (*piece)(const lrki_lora_call *, int64_t, float *))
{
    stage s = {.call = call, .pieces = pieces, .piece = piece, .status = LRK_OK};
    int64_t lanes = smaller(pieces, LRKI_LORA_LANES);
    if (is_small(call)) {
        for (int64_t lane = 0; lane < lanes; lane++)
            run_lane(&s, lane);
    } else {
        lrk_status status = lrki_parallel_for(call->context, lanes, run_lane, &s);
        if (status != LRK_OK) return status;
    }
    return lrki_gemm_report(call->context, s.status);
}

/* ---- pieces of rows ------------------------------------------------------------------------------------------------ */

static lrki_tile chunk_rows(const lrki_lora_call *call, int64_t chunk)
{
    int64_t row = chunk * LRKI_LORA_ROWS;
    return (lrki_tile){.row = row, .n_rows = smaller(LRKI_LORA_ROWS, call->rows - row)};
}

/* Where the rows of H of this call go: to the host's buffer, or to scratch. */
static float *h_target(const lrki_lora_part *part)
{
    return part->keep_h != NULL ? part->keep_h : part->scaled_h;
}

/* H = X A^T for a run of columns of x; the first run overwrites. */
static lrk_status add_h(const lrki_lora_call *call, lrki_tile t, const float *x, int64_t ld_x)
{
    for (int64_t p = 0; p < call->n_parts; p++) {
        const lrki_lora_part *part = &call->parts[p];
        lrk_status status = lrki_gemm_in_task(
            call->context, false, true, t.n_rows, part->rank, t.n_cols, 1.0f, x, ld_x, part->a + t.col,
            call->n_in, t.col == 0 ? 0.0f : 1.0f, h_target(part) + t.row * part->rank, part->rank);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

/* H of a chunk for all modules; a tile of x' is made once for all of them. */
static lrk_status make_h(const lrki_lora_call *call, lrki_tile t, float *tile)
{
    if (call->dropout == NULL) {
        t.n_cols = call->n_in;
        return add_h(call, t, call->x + t.row * call->ld_x, call->ld_x);
    }
    for (t.col = 0; t.col < call->n_in; t.col += LRKI_TILE_COLS) {
        t.n_cols = smaller(LRKI_TILE_COLS, call->n_in - t.col);
        lrki_dropout_read(call->dropout, t, call->x, call->ld_x, tile, t.n_cols);
        lrk_status status = add_h(call, t, tile, t.n_cols);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

/* to = from diag(f) on the rows of t; a factor of 0 gives 0 whatever it meets. */
static void scale_ranks(const lrki_lora_part *part, lrki_tile t, const float *from, float *to)
{
    for (int64_t i = t.row; i < t.row + t.n_rows; i++)
        for (int64_t j = 0; j < part->rank; j++) {
            float f = part->factor[j];
            to[i * part->rank + j] = f == 0.0f ? 0.0f : f * from[i * part->rank + j];
        }
}

static lrk_status forward_chunk(const lrki_lora_call *call, int64_t chunk, float *tile)
{
    lrki_tile t = chunk_rows(call, chunk);
    lrk_status status = make_h(call, t, tile);
    for (int64_t p = 0; p < call->n_parts && status == LRK_OK; p++) {
        const lrki_lora_part *part = &call->parts[p];
        if (part->silent) continue;
        scale_ranks(part, t, h_target(part), part->scaled_h);
        status = lrki_gemm_in_task(call->context, false, false, t.n_rows, part->n_out, part->rank, 1.0f,
                                   part->scaled_h + t.row * part->rank, part->rank, part->b, part->n_out,
                                   1.0f, part->y + t.row * part->ld_y, part->ld_y);
    }
    return status;
}

lrk_status lrki_lora_forward(const lrki_lora_call *call)
{
    return run_stage(call, lrki_lora_chunks(call->rows), forward_chunk);
}

/* ---- backward, rows ------------------------------------------------------------------------------------------------ */

static bool wants_h(const lrki_lora_part *part)
{
    return part->grad_b != NULL || part->products != NULL;
}

/* sum over the chunk's rows of H_tj P_tj, into the chunk's row of `partial`. */
static void sum_products(const lrki_lora_part *part, lrki_tile t, const float *h, double *sums)
{
    for (int64_t j = 0; j < part->rank; j++)
        sums[j] = 0.0;
    for (int64_t i = t.row; i < t.row + t.n_rows; i++)
        for (int64_t j = 0; j < part->rank; j++)
            sums[j] += (double)h[i * part->rank + j] * (double)part->d[i * part->rank + j];
}

/* P of a chunk, what needs H and P unscaled, then D and the scaled H in their places. */
static lrk_status make_d(const lrki_lora_call *call, const lrki_lora_part *part, lrki_tile t)
{
    const float *h = part->kept_h != NULL ? part->kept_h : part->scaled_h;
    lrk_status status = lrki_gemm_in_task(call->context, false, true, t.n_rows, part->rank, part->n_out, 1.0f,
                                          part->dy + t.row * part->ld_dy, part->ld_dy, part->b, part->n_out,
                                          0.0f, part->d + t.row * part->rank, part->rank);
    if (status != LRK_OK) return status;
    if (part->products != NULL) sum_products(part, t, h, part->partial + t.row / LRKI_LORA_ROWS * part->rank);
    scale_ranks(part, t, part->d, part->d);
    if (part->grad_b != NULL) scale_ranks(part, t, h, part->scaled_h);
    return LRK_OK;
}

/* C (+)= sum over modules of D A[:, columns of t]. */
static lrk_status add_da(const lrki_lora_call *call, lrki_tile t, float beta, float *c, int64_t ld_c)
{
    for (int64_t p = 0; p < call->n_parts; p++) {
        const lrki_lora_part *part = &call->parts[p];
        if (part->silent) continue;
        lrk_status status = lrki_gemm_in_task(call->context, false, false, t.n_rows, t.n_cols, part->rank,
                                              1.0f, part->d + t.row * part->rank, part->rank, part->a + t.col,
                                              call->n_in, beta, c, ld_c);
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

static lrk_status make_dx(const lrki_lora_call *call, lrki_tile t, float *tile)
{
    if (call->dx == NULL || all_silent(call)) return LRK_OK;
    if (call->dropout == NULL) {
        t.n_cols = call->n_in;
        return add_da(call, t, 1.0f, call->dx + t.row * call->ld_dx, call->ld_dx);
    }
    for (t.col = 0; t.col < call->n_in; t.col += LRKI_TILE_COLS) {
        t.n_cols = smaller(LRKI_TILE_COLS, call->n_in - t.col);
        lrk_status status = add_da(call, t, 0.0f, tile, t.n_cols);
        if (status != LRK_OK) return status;
        lrki_dropout_add(call->dropout, t, tile, t.n_cols, call->dx, call->ld_dx);
    }
    return LRK_OK;
}

static lrk_status backward_chunk(const lrki_lora_call *call, int64_t chunk, float *tile)
{
    lrki_tile t = chunk_rows(call, chunk);
    const lrki_lora_part *first =
        &call->parts[0]; /* the modules of a call want the same, and all or none have H */
    lrk_status status = LRK_OK;
    if (wants_h(first) && first->kept_h == NULL) status = make_h(call, t, tile);
    for (int64_t p = 0; p < call->n_parts && status == LRK_OK; p++)
        status = make_d(call, &call->parts[p], t);
    return status == LRK_OK ? make_dx(call, t, tile) : status;
}

/* ---- backward, columns --------------------------------------------------------------------------------------------- */

static int64_t column_blocks(int64_t n)
{
    return pieces_of(n, LRKI_LORA_COLS);
}

/* grad[:, columns of t] += left^T right[:, columns of t] over the rows of t. */
static lrk_status add_gradient(const lrki_lora_call *call, const lrki_lora_part *part, lrki_tile t,
                               const float *left, const float *right, int64_t ld_right, float *grad,
                               int64_t ld_grad)
{
    return lrki_gemm_in_task(call->context, true, false, part->rank, t.n_cols, t.n_rows, 1.0f,
                             left + t.row * part->rank, part->rank, right, ld_right, 1.0f, grad + t.col,
                             ld_grad);
}

static lrk_status grad_a_block(const lrki_lora_call *call, const lrki_lora_part *part, int64_t block,
                               float *tile)
{
    lrki_tile t = {.n_rows = call->rows, .col = block * LRKI_LORA_COLS};
    t.n_cols = smaller(LRKI_LORA_COLS, call->n_in - t.col);
    if (call->dropout == NULL)
        return add_gradient(call, part, t, part->d, call->x + t.col, call->ld_x, part->grad_a, call->n_in);
    int64_t step = tile_floats(call) / LRKI_LORA_COLS;
    for (; t.row < call->rows; t.row += step) {
        t.n_rows = smaller(step, call->rows - t.row);
        lrki_dropout_read(call->dropout, t, call->x, call->ld_x, tile, t.n_cols);
        lrk_status status = add_gradient(call, part, t, part->d, tile, t.n_cols, part->grad_a, call->n_in);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

static lrk_status grad_b_block(const lrki_lora_call *call, const lrki_lora_part *part, int64_t block)
{
    lrki_tile t = {.n_rows = call->rows, .col = block * LRKI_LORA_COLS};
    t.n_cols = smaller(LRKI_LORA_COLS, part->n_out - t.col);
    return add_gradient(call, part, t, part->scaled_h, part->dy + t.col, part->ld_dy, part->grad_b,
                        part->n_out);
}

/* Block number `index` of: dA of the first module, its dB, dA of the second, ... */
static lrk_status gradient_block(const lrki_lora_call *call, int64_t index, float *tile)
{
    int64_t of_a = column_blocks(call->n_in);
    for (int64_t p = 0; p < call->n_parts; p++) {
        const lrki_lora_part *part = &call->parts[p];
        if (part->silent) continue;
        int64_t of_b = column_blocks(part->n_out);
        if (index < of_a) return grad_a_block(call, part, index, tile);
        if (index < of_a + of_b) return grad_b_block(call, part, index - of_a);
        index -= of_a + of_b;
    }
    return LRK_OK;
}

static lrk_status make_gradients(const lrki_lora_call *call)
{
    int64_t blocks = 0;
    for (int64_t p = 0; p < call->n_parts; p++)
        if (!call->parts[p].silent) blocks += column_blocks(call->n_in) + column_blocks(call->parts[p].n_out);
    return run_stage(call, blocks, gradient_block);
}

/* Adds the chunks' sums in their order. */
static void finish_products(const lrki_lora_part *part, int64_t chunks)
{
    for (int64_t j = 0; j < part->rank; j++) {
        part->products[j] = 0.0;
        for (int64_t c = 0; c < chunks; c++)
            part->products[j] += part->partial[c * part->rank + j];
    }
}

lrk_status lrki_lora_backward(const lrki_lora_call *call)
{
    int64_t chunks = lrki_lora_chunks(call->rows);
    lrk_status status = run_stage(call, chunks, backward_chunk);
    if (status != LRK_OK || call->n_parts == 0) return status;
    if (call->parts[0].products != NULL)
        for (int64_t p = 0; p < call->n_parts; p++)
            finish_products(&call->parts[p], chunks);
    return call->parts[0].grad_a != NULL ? make_gradients(call) : LRK_OK;
}
