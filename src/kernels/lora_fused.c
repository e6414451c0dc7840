/* SPDX-License-Identifier: MIT */
/*
 * LoRA with the kernels of skinny.h (lora.h says what is computed). A chunk of rows is walked in blocks of columns:
 *     forward    blocks of x: H += x A^T;                 blocks of y: y += (H diag(f)) B
 *     backward   blocks of dy: P += dy B^T, dB += (H diag(f))^T dy;   blocks of x: dA += D^T x', dx += dropout'(D A)
 * so that every activation comes from memory once, and the next block is fetched ahead.
 * Backward's lanes take runs of chunks. The first adds dA and dB to the gradients, the others to sums of their own, which
 * are added in the order of lanes at the end.
 */
#include <string.h>

#include "lora_pack.h"
#include "lorank/pass.h"

#define FEW_ROWS 4  /* rows of a call up to which blocks are whole rows                                */
#define LEAST    64 /* narrowest block                                                                */
#define LIST     LRKI_SKINNY_ROWS
#define SOURCES  512 /* most ranks that are added to activations at once */

/* ---- lists of rows ---------------------------------------------------------------------------------------------------- */

static void list_rows(const lrki_activations *matrix, lrki_tile t, void **rows)
{
    for (int64_t i = 0; i < t.n_rows; i++)
        rows[i] = lrki_activations_at(matrix, t.row + i, t.col);
}

/* Columns of the blocks that all ranks at once are added to, of n. */
static int64_t rank_blocks(const lrki_lora_call *call, int64_t n, int64_t ranks)
{
    int64_t most = call->kernels->blocks.rank_values / ranks;
    return lrki_even_blocks(n, most < LEAST ? LEAST : lrki_smaller(most, LRKI_TILE_COLS));
}

/* Columns of a block of activations of n columns. */
static int64_t block_step(const lrki_lora_call *call, int64_t n)
{
    return call->rows <= FEW_ROWS && call->dropout == NULL ? n : lrki_block_cols(call->kernels, n);
}

/* The first part from p on that is not silent; n_parts if there is none. */
static int64_t next_loud(const lrki_lora_call *call, int64_t p)
{
    while (p < call->n_parts && call->parts[p].silent)
        p++;
    return p;
}

/* Ranks of the parts before number `end` that are not silent. */
static int64_t loud_ranks(const lrki_lora_call *call, int64_t end)
{
    int64_t ranks = 0;
    for (int64_t p = next_loud(call, 0); p < end; p = next_loud(call, p + 1))
        ranks += call->parts[p].rank;
    return ranks;
}

/* ---- what comes next --------------------------------------------------------------------------------------------------- */

/* A block of activations in memory. */
typedef struct region {
    uintptr_t at;   /* of the first row   */
    int64_t stride; /* bytes to the next  */
    int64_t rows;
    int64_t bytes; /* of a row, 0: no block */
} region;

static const region nothing = {0};

/* The block of a matrix from (row, col) on, a chunk's first row. */
static region block_at(const lrki_lora_call *call, const lrki_activations *matrix, int64_t row, int64_t col,
                       int64_t n_cols)
{
    int64_t size = lrki_dtype_bytes(matrix->dtype), width = lrki_block_cols(call->kernels, n_cols);
    if (matrix->data == NULL) return nothing;
    return (region){(uintptr_t)lrki_activations_at(matrix, row, col), matrix->ld * size,
                    lrki_smaller(call->chunk_rows, call->rows - row),
                    lrki_smaller(width, n_cols - col) * size};
}

/* After block t of a matrix of n_cols columns: its next block, and after the last one `then`. */
static region block_after(const lrki_lora_call *call, const lrki_activations *matrix, lrki_tile t,
                          int64_t n_cols, region then)
{
    return t.col + t.n_cols < n_cols ? block_at(call, matrix, t.row, t.col + t.n_cols, n_cols) : then;
}

/* The first block of a matrix for the next chunk, if there is one. */
static region next_chunk(const lrki_lora_call *call, const lrki_activations *matrix, lrki_tile t,
                         int64_t n_cols)
{
    return t.row + t.n_rows < call->rows ? block_at(call, matrix, t.row + t.n_rows, 0, n_cols) : nothing;
}

/* Prepares to fetch `next` while every value of block t meets that many ranks; NULL if there is nothing to fetch. */
static lrki_fetch *fetch_block(lrki_fetch *fetch, region next, lrki_tile t, int64_t ranks)
{
    int64_t lines = (next.bytes + LRKI_LINE - 1) / LRKI_LINE,
            fetches = (next.rows + LRKI_FETCH_ROWS - 1) / LRKI_FETCH_ROWS * lines;
    if (fetches == 0 || ranks == 0) return NULL;
    int64_t pace = t.n_rows * t.n_cols * ranks / fetches;
    *fetch = (lrki_fetch){.next = next.at,
                          .stride = next.stride,
                          .lines = lines,
                          .left = lines,
                          .rows = next.rows,
                          .pace = pace > 0 ? pace : 1};
    return fetch;
}

/* ---- products of a block ---------------------------------------------------------------------------------------------- */

/* out[rows of t x rank] (+)= block of `rows` times the ranks. */
static void add_dots(const lrki_skinny *kernels, void *const *rows, int32_t dtype, lrki_tile t,
                     lrki_fetch *fetch, lrki_rank_rows ranks, float *out)
{
    for (int64_t first = 0; first < ranks.rank; first += SOURCES) {
        const float *list[SOURCES];
        int64_t n = lrki_smaller(SOURCES, ranks.rank - first);
        lrki_list_ranks(&ranks, first, n, t.col, list);
        const lrki_dot_args args = {.rows = (const void *const *)rows,
                                    .ranks = list,
                                    .dtype = dtype,
                                    .n_rows = (int32_t)t.n_rows,
                                    .n_ranks = (int32_t)n,
                                    .add = t.col > 0,
                                    .n = t.n_cols,
                                    .fetch = fetch,
                                    .out = out + t.row * ranks.rank + first,
                                    .ld_out = ranks.rank};
        kernels->dot(&args);
    }
}

/* What is added to a block: the ranks of one part's B, or those of A of all parts that are not silent. */
typedef struct sources {
    const lrki_lora_call *call;
    const lrki_lora_part *part; /* NULL: all */
    const float *coef;          /* [ranks x rows of the chunk] */
    int64_t ranks;
} sources;

/* Ranks first..first+n-1 of all parts, counted through, from column `col` on. */
static void list_all(const lrki_lora_call *call, int64_t first, int64_t n, int64_t col, const float **list)
{
    for (int64_t p = next_loud(call, 0); p < call->n_parts && n > 0; p = next_loud(call, p + 1)) {
        lrki_rank_rows a = lrki_rows_of_a(call, &call->parts[p]);
        int64_t count = lrki_smaller(n, a.rank - first);
        if (count > 0) {
            lrki_list_ranks(&a, first, count, col, list);
            list += count;
            n -= count;
        }
        first = first > a.rank ? first - a.rank : 0;
    }
}

/*
 * Rows of block t += coef^T times the sources. All at once, since activations of 16 bits are rounded each time; but f32 of
 * few tokens takes so few ranks at a time that each is read as one stream.
 */
static void add_sources(const sources *s, void *const *rows, int32_t dtype, lrki_tile t, lrki_fetch *fetch)
{
    const lrki_skinny *kernels = s->call->kernels;
    int64_t most = t.n_rows <= FEW_ROWS && dtype == LRK_DTYPE_F32 ? kernels->group : SOURCES;
    for (int64_t first = 0; first < s->ranks; first += most) {
        const float *list[SOURCES];
        int64_t n = lrki_smaller(most, s->ranks - first);
        if (s->part == NULL) {
            list_all(s->call, first, n, t.col, list);
        } else {
            lrki_rank_rows b = lrki_rows_of_b(s->call, s->part);
            lrki_list_ranks(&b, first, n, t.col, list);
        }
        const lrki_update_args args = {.dest = rows,
                                       .src = (const void *const *)list,
                                       .dest_dtype = dtype,
                                       .n_dest = (int32_t)t.n_rows,
                                       .n_src = (int32_t)n,
                                       .n = t.n_cols,
                                       .fetch = fetch,
                                       .coef = s->coef + first * t.n_rows,
                                       .ld_coef = t.n_rows};
        kernels->update(&args);
    }
}

/* The same in blocks as narrow as the ranks want; `matrix` holds the block alone, `then` is what comes after it. */
static void add_block(const sources *s, const lrki_activations *matrix, lrki_tile t, region then)
{
    void *rows[LIST];
    lrki_fetch next, *fetch = fetch_block(&next, then, t, s->ranks);
    int64_t begin = t.col, end = t.col + t.n_cols,
            step = t.n_rows <= FEW_ROWS ? t.n_cols : rank_blocks(s->call, t.n_cols, s->ranks);
    for (; t.col < end; t.col += step) {
        t.n_cols = lrki_smaller(step, end - t.col);
        list_rows(matrix, (lrki_tile){.n_rows = t.n_rows, .col = t.col - begin}, rows);
        add_sources(s, rows, matrix->dtype, t, fetch);
    }
}

/* to [rank x rows of t] = (rows of t of from [rows x rank] diag(f))^T; a factor of 0 gives 0 whatever it meets. */
static void scale_transposed(const lrki_lora_part *part, lrki_tile t, const float *from, float *to)
{
    const int64_t rank = part->rank, n_rows = t.n_rows;
    for (int64_t j = 0; j < rank; j++) {
        const float f = part->factor[j], *column = from + t.row * rank + j;
        float *row = to + j * n_rows;
        for (int64_t i = 0; i < n_rows; i++)
            row[i] = f == 0.0f ? 0.0f : f * column[i * rank];
    }
}

static lrki_activations block_of(const lrki_activations *matrix, lrki_tile t)
{
    return (lrki_activations){lrki_activations_at(matrix, t.row, t.col), matrix->ld, matrix->dtype};
}

/* ---- x ------------------------------------------------------------------------------------------------------------------ */

/* Rows of a block of x', and their dtype: of the host's x, or of the lane's tile. */
static int32_t list_x(const lrki_lora_call *call, lrki_tile t, const lrki_lane *lane, void **rows)
{
    if (call->dropout == NULL) {
        list_rows(&call->x, t, rows);
        return call->x.dtype;
    }
    lrki_tile_read(call->kernels, &call->x, call->dropout, t, lane->tile, t.n_cols);
    for (int64_t i = 0; i < t.n_rows; i++)
        rows[i] = lane->tile + i * t.n_cols;
    return LRK_DTYPE_F32;
}

/* H of a chunk for all modules: one pass over x. */
static void make_h(const lrki_lora_call *call, lrki_tile t, const lrki_lane *lane, bool backward, region then)
{
    void *rows[LIST];
    int64_t step = block_step(call, call->n_in);
    for (t.col = 0; t.col < call->n_in; t.col += step) {
        t.n_cols = lrki_smaller(step, call->n_in - t.col);
        int32_t dtype = list_x(call, t, lane, rows);
        lrki_fetch next, *fetch = fetch_block(&next, block_after(call, &call->x, t, call->n_in, then), t,
                                              lrki_call_ranks(call));
        for (int64_t p = 0; p < call->n_parts; p++) {
            const lrki_lora_part *part = &call->parts[p];
            add_dots(call->kernels, rows, dtype, t, fetch, lrki_rows_of_a(call, part),
                     backward ? part->h : lrki_forward_h(part));
        }
    }
}

/* ---- forward ------------------------------------------------------------------------------------------------------------ */

static void make_y(const lrki_lora_call *call, const lrki_lora_part *part, lrki_tile t, region then)
{
    int64_t step = block_step(call, part->n_out);
    float *coef = part->scaled_h + t.row * part->rank;
    const sources all = {call, part, coef, part->rank};
    scale_transposed(part, t, lrki_forward_h(part), coef);
    for (t.col = 0; t.col < part->n_out; t.col += step) {
        t.n_cols = lrki_smaller(step, part->n_out - t.col);
        lrki_activations block = block_of(&part->y, t);
        add_block(&all, &block, t, block_after(call, &part->y, t, part->n_out, then));
    }
}

static lrk_status forward_lane(const lrki_lora_call *call, const lrki_lane *lane)
{
    for (int64_t chunk = lane->first; chunk < lane->first + lane->n; chunk++) {
        lrki_tile t = lrki_lora_chunk(call, chunk);
        region next_x = next_chunk(call, &call->x, t, call->n_in);
        int64_t p = next_loud(call, 0), next;
        make_h(call, t, lane, false,
               p < call->n_parts ? block_at(call, &call->parts[p].y, t.row, 0, call->parts[p].n_out)
                                 : next_x);
        for (; p < call->n_parts; p = next) {
            next = next_loud(call, p + 1);
            make_y(call, &call->parts[p], t,
                   next < call->n_parts
                       ? block_at(call, &call->parts[next].y, t.row, 0, call->parts[next].n_out)
                       : next_x);
        }
    }
    return LRK_OK;
}

lrk_status lrki_fused_forward(const lrki_lora_call *call)
{
    lrk_status status = lrki_pack(call);
    if (status != LRK_OK) return status;
    return lrki_lora_run(call, lrki_call_chunks(call), LRKI_LORA_LANES, forward_lane);
}

/* ---- backward ----------------------------------------------------------------------------------------------------------- */

/* Row of dA (dB) that a lane adds to: of the gradients, or of the lane's own sums. */
static float *gradient_row(const lrki_lora_call *call, const lrki_lora_part *part, int64_t lane, bool of_a,
                           int64_t j)
{
    if (lane == 0) return of_a ? part->grad_a[j] : part->grad_b[j];
    float *sums = part->sums + ((lane - 1) * part->rank + j) * lrki_sums_floats(call->n_in + part->n_out);
    return of_a ? sums : sums + call->n_in;
}

static void clear_sums(const lrki_lora_call *call, int64_t lane)
{
    for (int64_t p = 0; p < call->n_parts && lane > 0; p++) {
        const lrki_lora_part *part = &call->parts[p];
        int64_t n = part->rank * lrki_sums_floats(call->n_in + part->n_out);
        if (part->grad_a != NULL && !part->silent)
            memset(part->sums + (lane - 1) * n, 0, (size_t)n * sizeof(float));
    }
}

/* Columns of t of dA (dB) += coef[rows of t x rank]^T times block of `rows`, in groups as the kernels take them. */
static void add_gradients(const lrki_lora_call *call, const lrki_lora_part *part, const lrki_lane *lane,
                          bool of_a, void *const *rows, int32_t dtype, lrki_tile t, lrki_fetch *fetch)
{
    int64_t most = call->kernels->dest, groups = (part->rank + most - 1) / most;
    for (int64_t g = 0; g < groups; g++) {
        int64_t first = part->rank * g / groups, n = part->rank * (g + 1) / groups - first;
        void *list[8];
        for (int64_t j = 0; j < n; j++)
            list[j] = gradient_row(call, part, lane->index, of_a, first + j) + t.col;
        const lrki_update_args args = {.dest = list,
                                       .src = (const void *const *)rows,
                                       .src_dtype = dtype,
                                       .n_dest = (int32_t)n,
                                       .n_src = (int32_t)t.n_rows,
                                       .n = t.n_cols,
                                       .fetch = fetch,
                                       .coef = (of_a ? part->d : part->scaled_h) + t.row * part->rank + first,
                                       .ld_coef = part->rank};
        call->kernels->update(&args);
    }
}

/* Where D^T of part p is kept for the rows of t, behind those of the parts before it. */
static float *coef_of(const lrki_lora_call *call, int64_t p, lrki_tile t)
{
    return call->coef + t.row * loud_ranks(call, call->n_parts) + loud_ranks(call, p) * t.n_rows;
}

/* The modules of a call want the same. */
static bool wants_a(const lrki_lora_call *call)
{
    return call->parts[0].grad_a != NULL;
}

/* Of one call all or none have H. */
static bool makes_h(const lrki_lora_call *call)
{
    return lrki_wants_h(&call->parts[0]) && call->parts[0].kept_h == NULL;
}

/* What is read first of the chunk after that of t. */
static region next_of_backward(const lrki_lora_call *call, lrki_tile t)
{
    const lrki_lora_part *first = &call->parts[0];
    return makes_h(call) ? next_chunk(call, &call->x, t, call->n_in)
                         : next_chunk(call, &first->dy, t, first->n_out);
}

/* What is read of a chunk after all dy: x, dx, or neither. */
static region first_of_x(const lrki_lora_call *call, lrki_tile t)
{
    const lrki_activations *first = wants_a(call) ? &call->x : &call->dx;
    if (next_loud(call, 0) == call->n_parts || first->data == NULL) return next_of_backward(call, t);
    return block_at(call, first, t.row, 0, call->n_in);
}

/*
 * P and dB of a chunk: one pass over dy. Then D, and what is summed over H and P. Meanwhile what is read next is on its
 * way.
 */
static void read_dy(const lrki_lora_call *call, int64_t p, lrki_tile t, const lrki_lane *lane, int64_t chunk)
{
    const lrki_lora_part *part = &call->parts[p];
    void *rows[LIST];
    bool wants_b = part->grad_b != NULL && !part->silent;
    int64_t step = block_step(call, part->n_out);
    region then = p + 1 < call->n_parts
                      ? block_at(call, &call->parts[p + 1].dy, t.row, 0, call->parts[p + 1].n_out)
                      : first_of_x(call, t);
    if (wants_b) lrki_scale_ranks(part, t, lrki_backward_h(part), part->scaled_h);
    for (t.col = 0; t.col < part->n_out; t.col += step) {
        t.n_cols = lrki_smaller(step, part->n_out - t.col);
        lrki_fetch next, *fetch = fetch_block(&next, block_after(call, &part->dy, t, part->n_out, then), t,
                                              part->rank * (wants_b ? 2 : 1));
        list_rows(&part->dy, t, rows);
        add_dots(call->kernels, rows, part->dy.dtype, t, fetch, lrki_rows_of_b(call, part), part->d);
        if (wants_b) add_gradients(call, part, lane, false, rows, part->dy.dtype, t, fetch);
    }
    if (part->products != NULL) lrki_sum_products(part, t, chunk);
    if (!part->silent) scale_transposed(part, t, part->d, coef_of(call, p, t));
    lrki_scale_ranks(part, t, part->d, part->d);
}

static void make_dx(const lrki_lora_call *call, lrki_tile t, const lrki_lane *lane, region then)
{
    bool direct = call->dropout == NULL;
    lrki_activations block = {.data = lane->tile, .ld = t.n_cols, .dtype = LRK_DTYPE_F32};
    const sources all = {call, NULL, coef_of(call, 0, t), loud_ranks(call, call->n_parts)};
    if (direct)
        block = block_of(&call->dx, t);
    else
        memset(lane->tile, 0, (size_t)(t.n_rows * t.n_cols) * sizeof(float));
    add_block(&all, &block, t, then);
    if (!direct) lrki_tile_add(call->kernels, &call->dx, call->dropout, t, lane->tile, t.n_cols);
}

/* dA of block t of x. */
static void add_grad_a(const lrki_lora_call *call, lrki_tile t, const lrki_lane *lane, region then)
{
    void *rows[LIST];
    int32_t dtype = list_x(call, t, lane, rows);
    lrki_fetch next, *fetch = fetch_block(&next, then, t, loud_ranks(call, call->n_parts));
    for (int64_t p = next_loud(call, 0); p < call->n_parts; p = next_loud(call, p + 1))
        add_gradients(call, &call->parts[p], lane, true, rows, dtype, t, fetch);
}

/* dA and dx of a chunk: one pass over x and dx. While one is read, its block of the other is fetched, or else the next. */
static void read_x(const lrki_lora_call *call, lrki_tile t, const lrki_lane *lane)
{
    const region then = next_of_backward(call, t);
    bool wants_dx = call->dx.data != NULL;
    const lrki_activations *first = wants_a(call) ? &call->x : &call->dx;
    int64_t step = block_step(call, call->n_in);
    for (t.col = 0; t.col < call->n_in; t.col += step) {
        t.n_cols = lrki_smaller(step, call->n_in - t.col);
        region next = block_after(call, first, t, call->n_in, then);
        if (wants_a(call))
            add_grad_a(call, t, lane, wants_dx ? block_at(call, &call->dx, t.row, t.col, call->n_in) : next);
        if (wants_dx) make_dx(call, t, lane, next);
    }
}

static lrk_status backward_lane(const lrki_lora_call *call, const lrki_lane *lane)
{
    const lrki_lora_part *first = &call->parts[0];
    clear_sums(call, lane->index);
    for (int64_t chunk = lane->first; chunk < lane->first + lane->n; chunk++) {
        lrki_tile t = lrki_lora_chunk(call, chunk);
        if (makes_h(call)) make_h(call, t, lane, true, block_at(call, &first->dy, t.row, 0, first->n_out));
        for (int64_t p = 0; p < call->n_parts; p++)
            read_dy(call, p, t, lane, chunk);
        if (next_loud(call, 0) < call->n_parts) read_x(call, t, lane);
    }
    return LRK_OK;
}

/* ---- the lanes' sums ---------------------------------------------------------------------------------------------------- */

static void add_row(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

/* The gradients of rank number `piece`, counted over all parts, += the sums of the lanes in their order. */
static lrk_status add_sums(const lrki_lora_call *call, const lrki_lane *lane)
{
    int64_t lanes = lrki_lora_lanes(call->rows), before = 0;
    for (int64_t p = 0; p < call->n_parts; before += call->parts[p++].rank) {
        const lrki_lora_part *part = &call->parts[p];
        for (int64_t j = 0; j < part->rank && !part->silent; j++) {
            if (before + j < lane->first || before + j >= lane->first + lane->n) continue;
            for (int64_t from = 1; from < lanes; from++) {
                add_row(part->grad_a[j], gradient_row(call, part, from, true, j), call->n_in);
                add_row(part->grad_b[j], gradient_row(call, part, from, false, j), part->n_out);
            }
        }
    }
    return LRK_OK;
}

lrk_status lrki_fused_backward(const lrki_lora_call *call)
{
    int64_t chunks = lrki_call_chunks(call), lanes = call->is_small ? 1 : lrki_lora_lanes(call->rows);
    lrk_status status = lrki_pack(call);
    if (status == LRK_OK) status = lrki_lora_run(call, chunks, lanes, backward_lane);
    if (status != LRK_OK || lanes == 1 || call->parts[0].grad_a == NULL) return status;
    return lrki_lora_run_ranks(call, lanes - 1, add_sums);
}
