/* SPDX-License-Identifier: MIT */
/*
 * LoRA calls (lora.h): the choice of a way, the cutting of work into lanes, and what both ways share. A lane's failure
 * stops it and is reported by the calling thread.
 */
#include "lora_parts.h"

/*
 * Work of a call, in multiply-adds and the activations that they read, weighed as MOVED multiply-adds each, up to which a second
 * thread gives less than it costs (docs/performance.md, "Small calls"). Of few rows each thread reads all rank rows for little.
 */
#define SMALL     (1 << 20)
#define SMALL_FEW (1 << 21)
#define MOVED     6

/*
 * The same where the GEMM works: outside of a parallel loop OpenBLAS uses threads of its own for products of more than 2^18
 * multiply-adds (interface/gemm.c), and then its bits depend on their number.
 */
#define GEMM_SMALL (1 << 18)

/*
 * Most rows of a call that fused backward takes as one lane: a second one clears and adds sums as large as dA and dB, which costs
 * about as much as twelve rows do, and no call of so few rows has a third.
 */
#define ONE_LANE 16
_Static_assert(LRKI_FEW_TOKENS <= ONE_LANE,
               "calls that take any ranks need no sums: a workspace was not measured for them");

/* Least rows of a lane of fused backward that has more than two. */
#define LANE_ROWS 128

/* Floats that are copied or added, up to which the same holds. */
#define LIGHT (1 << 16)

/* ---- chunks and lanes ------------------------------------------------------------------------------------------------ */

/* Inputs of less than two whole chunks are halved, so that two threads have work. */
static int64_t usual_rows(int64_t rows, int64_t most)
{
    int64_t half = ((rows - rows / 2) + 7) / 8 * 8;
    return half < 8 ? 8 : lrki_smaller(half, most);
}

static int64_t pieces_of(int64_t n, int64_t size)
{
    return n / size + (n % size != 0);
}

int64_t lrki_lora_chunks(int64_t rows)
{
    return pieces_of(rows, usual_rows(rows, LRKI_LEAST_ROWS));
}

int64_t lrki_call_chunks(const lrki_lora_call *call)
{
    return pieces_of(call->rows, call->chunk_rows);
}

lrki_tile lrki_lora_chunk(const lrki_lora_call *call, int64_t chunk)
{
    int64_t row = chunk * call->chunk_rows;
    return (lrki_tile){.row = row, .n_rows = lrki_smaller(call->chunk_rows, call->rows - row)};
}

/* Of LANE_ROWS rows or more, since each costs a pass over dA and dB; but two if there are two chunks. */
int64_t lrki_lora_lanes(int64_t rows)
{
    int64_t lanes = lrki_smaller(rows / LANE_ROWS, LRKI_LORA_SUMS);
    return lanes > 2 ? lanes : lrki_smaller(lrki_lora_chunks(rows), 2);
}

int64_t lrki_lora_sums(int64_t rows)
{
    return rows <= ONE_LANE ? 0 : lrki_lora_lanes(rows) - 1;
}

/* Depends on shapes alone, like everything that decides about pieces. */
static bool is_small(const lrki_lora_call *call, bool backward)
{
    double sum = 0.0;
    for (int64_t p = 0; p < call->n_parts; p++)
        sum += (double)(call->parts[p].rank + MOVED) * (double)(call->n_in + call->parts[p].n_out);
    if (call->by_gemm) return sum * (double)call->rows <= GEMM_SMALL;
    return sum * (double)call->rows * (backward ? 2.0 : 1.0) <= (call->rows <= ONE_LANE ? SMALL_FEW : SMALL);
}

/* The GEMM takes calls with a part of more ranks than the fused kernels do. */
static bool wants_gemm(const lrki_lora_call *call)
{
    for (int64_t p = 0; p < call->n_parts; p++) {
        const lrki_lora_part *part = &call->parts[p];
        if (part->rank > lrki_fused_ranks(call->context, call->rows, call->n_in, part->n_out)) return true;
    }
    return false;
}

int64_t lrki_call_ranks(const lrki_lora_call *call)
{
    int64_t ranks = 0;
    for (int64_t p = 0; p < call->n_parts; p++)
        ranks += call->parts[p].rank;
    return ranks;
}

/* Most rows of a chunk. */
static int64_t most_rows(const lrki_lora_call *call)
{
    const lrki_blocks *blocks = &call->kernels->blocks;
    if (call->by_gemm) return LRKI_GEMM_ROWS;
    return lrki_call_ranks(call) > LRKI_FEW_GROUPS * call->kernels->group ? blocks->rows : blocks->few_rows;
}

static void plan(lrki_lora_call *call, bool backward)
{
    call->kernels = lrki_skinny_in(call->context);
    call->by_gemm = wants_gemm(call);
    call->is_small = is_small(call, backward) || (backward && !call->by_gemm && call->rows <= ONE_LANE);
    int64_t most = most_rows(call);
    if (call->is_small) /* one lane; another chunk for a few rows left over would cost more than it saves */
        call->chunk_rows = call->rows <= ONE_LANE ? call->rows : lrki_smaller(call->rows, most);
    else
        call->chunk_rows = usual_rows(call->rows, most);
}

int64_t lrki_lane_floats(bool has_tiles)
{
    return has_tiles ? LRKI_TILE_FLOATS : 0;
}

typedef struct work {
    const lrki_lora_call *call;
    int64_t pieces;
    int64_t lanes;
    lrk_status (*task)(const lrki_lora_call *call, const lrki_lane *lane);
    lrk_status status; /* atomic: the first failure */
} work;

static void run_lane(void *data, int64_t index)
{
    work *w = data;
    lrk_status none = LRK_OK;
    if (__atomic_load_n(&w->status, __ATOMIC_RELAXED) != LRK_OK) return;
    int64_t first = w->pieces * index / w->lanes;
    lrki_lane lane = {.first = first,
                      .n = w->pieces * (index + 1) / w->lanes - first,
                      .index = index,
                      .tile = w->call->lanes + index * lrki_lane_floats(w->call->has_tiles)};
    lrk_status status = w->task(w->call, &lane);
    if (status != LRK_OK)
        __atomic_compare_exchange_n(&w->status, &none, status, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static lrk_status run(work w, bool alone)
{
    const lrki_lora_call *call = w.call;
    if (alone) {
        for (int64_t i = 0; i < w.lanes; i++)
            run_lane(&w, i);
    } else {
        lrk_status status = lrki_parallel_for(call->context, w.lanes, run_lane, &w);
        if (status != LRK_OK) return status;
    }
    return lrki_gemm_report(call->context, w.status);
}

lrk_status lrki_lora_run(const lrki_lora_call *call, int64_t pieces, int64_t most,
                         lrk_status (*task)(const lrki_lora_call *call, const lrki_lane *lane))
{
    work w = {.call = call, .pieces = pieces, .lanes = lrki_smaller(pieces, most), .task = task};
    bool lone = w.lanes == 1 && !call->by_gemm; /* the GEMM wants a team even so: parallel.c */
    return run(w, call->is_small || lone);
}

lrk_status lrki_lora_run_ranks(const lrki_lora_call *call, int64_t times,
                               lrk_status (*task)(const lrki_lora_call *call, const lrki_lane *lane))
{
    work w = {.call = call, .task = task};
    double floats = 0.0;
    for (int64_t p = 0; p < call->n_parts; p++) {
        w.pieces += call->parts[p].rank;
        floats += (double)call->parts[p].rank * (double)(call->n_in + call->parts[p].n_out) * (double)times;
    }
    w.lanes = lrki_smaller(w.pieces, LRKI_LORA_LANES);
    return run(w, call->is_small || floats <= LIGHT);
}

/* ---- H and P --------------------------------------------------------------------------------------------------------- */

float *lrki_forward_h(const lrki_lora_part *part)
{
    return part->keep_h != NULL ? part->keep_h : part->h;
}

const float *lrki_backward_h(const lrki_lora_part *part)
{
    return part->kept_h != NULL ? part->kept_h : part->h;
}

bool lrki_wants_h(const lrki_lora_part *part)
{
    return part->grad_b != NULL || part->products != NULL;
}

void lrki_scale_ranks(const lrki_lora_part *part, lrki_tile t, const float *from, float *to)
{
    for (int64_t i = t.row; i < t.row + t.n_rows; i++)
        for (int64_t j = 0; j < part->rank; j++) {
            float f = part->factor[j];
            to[i * part->rank + j] = f == 0.0f ? 0.0f : f * from[i * part->rank + j];
        }
}

void lrki_sum_products(const lrki_lora_part *part, lrki_tile t, int64_t chunk)
{
    const float *h = lrki_backward_h(part);
    double *sums = part->partial + chunk * part->rank;
    for (int64_t j = 0; j < part->rank; j++)
        sums[j] = 0.0;
    for (int64_t i = t.row; i < t.row + t.n_rows; i++)
        for (int64_t j = 0; j < part->rank; j++)
            sums[j] += (double)h[i * part->rank + j] * (double)part->d[i * part->rank + j];
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

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

lrk_status lrki_lora_forward(lrki_lora_call *call)
{
    plan(call, false);
    return call->by_gemm ? lrki_gemm_forward(call) : lrki_fused_forward(call);
}

lrk_status lrki_lora_backward(lrki_lora_call *call)
{
    plan(call, true);
    lrk_status status = call->by_gemm ? lrki_gemm_backward(call) : lrki_fused_backward(call);
    if (status != LRK_OK) return status;
    for (int64_t p = 0; p < call->n_parts; p++)
        if (call->parts[p].products != NULL) finish_products(&call->parts[p], lrki_call_chunks(call));
    return LRK_OK;
}
