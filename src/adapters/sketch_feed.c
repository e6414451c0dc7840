/* SPDX-License-Identifier: MIT */
/*
 * Feeding a sketch: a backward of the adapters A = Omega^T, B = Psi with scale 1, whose dA is W and whose dB is Y
 * transposed, by the kernels of every other backward; and the measures of what was fed. Nothing is allocated: scratch
 * was reserved when the pass began.
 */
#include "sketch.h"

#define MEASURE_ROWS  64        /* of a task                                                */
#define MEASURE_SMALL (1 << 16) /* values up to which a parallel loop costs more than it gives */

lrk_status lrki_sketch_reserve(lrk_sketch *sketch, int64_t max_rows)
{
    lrk_context *context = sketch->adapters->context;
    size_t bytes;
    lrk_status status = lrki_workspace_size(sketch->adapters, sketch, max_rows, &bytes);
    if (status != LRK_OK || bytes <= sketch->workspace_bytes) return status;
    void *workspace = lrki_alloc(context, bytes);
    if (workspace == NULL) return lrki_fail_nomem(context, "the workspace of a sketch");
    lrki_free(context, sketch->workspace, sketch->workspace_bytes);
    sketch->workspace = workspace;
    sketch->workspace_bytes = bytes;
    return LRK_OK;
}

/* ---- measures ------------------------------------------------------------------------------------------------------ */

typedef struct measuring {
    const lrki_skinny *kernels;
    const lrki_activations *matrix;
    int64_t rows;
    int64_t cols;
    double *norms; /* [rows] */
} measuring;

static void measure_rows(void *data, int64_t index)
{
    const measuring *m = data;
    float values[LRKI_TILE_COLS];
    int64_t first = index * MEASURE_ROWS, end = first + lrki_smaller(MEASURE_ROWS, m->rows - first);
    for (int64_t row = first; row < end; row++) {
        m->norms[row] = 0.0;
        for (int64_t col = 0; col < m->cols; col += LRKI_TILE_COLS) {
            lrki_tile t = {row, 1, col, lrki_smaller(LRKI_TILE_COLS, m->cols - col)};
            lrki_tile_read(m->kernels, m->matrix, NULL, t, values, t.n_cols);
            m->norms[row] += lrki_sum_of_squares(values, t.n_cols);
        }
    }
}

/* Sum of squares of a matrix, rows added in order, and how many of them are not 0. `norms` is scratch [rows]. */
static lrk_status measure(const lrki_lora_call *call, const lrki_activations *matrix, int64_t cols,
                          double *norms, double *norm2, double *active)
{
    measuring m = {lrki_skinny_in(call->context), matrix, call->rows, cols, norms};
    int64_t tasks = (call->rows + MEASURE_ROWS - 1) / MEASURE_ROWS;
    lrk_status status = LRK_OK;
    if ((double)call->rows * (double)cols > MEASURE_SMALL)
        status = lrki_parallel_for(call->context, tasks, measure_rows, &m);
    else
        for (int64_t i = 0; i < tasks; i++)
            measure_rows(&m, i);
    *norm2 = *active = 0.0;
    for (int64_t row = 0; row < call->rows && status == LRK_OK; row++) {
        *norm2 += norms[row];
        *active += norms[row] != 0.0;
    }
    return status;
}

static lrk_status add_measures(lrk_sketch *sketch, const lrki_call *call, const lrki_lora_call *lora,
                               double *norms)
{
    double x2, active;
    lrk_status status = measure(lora, &lora->x, lora->n_in, norms, &x2, &active);
    for (int64_t i = 0; i < lora->n_parts && status == LRK_OK; i++) {
        const lrki_lora_part *part = &lora->parts[i];
        double *own = sketch->modules[call->modules[i]].measures, dy2;
        status = measure(lora, &part->dy, part->n_out, norms, &dy2, &active);
        if (status != LRK_OK) break;
        own[0] += (double)lora->rows;
        own[1] += active;
        own[2] += x2;
        own[3] += dy2;
    }
    return status;
}

/* ---- sums ---------------------------------------------------------------------------------------------------------- */

/* The part of a module: every sample takes part with factor 1. */
static void add_part(const lrk_sketch *sketch, lrki_lora_call *lora, const lrki_lora_scratch *scratch,
                     int32_t module, lrki_lora_size *used)
{
    const lrki_module *m = &sketch->adapters->modules[module];
    const lrki_sketch_module *own = &sketch->modules[module];
    int64_t rows = lora->rows, ranks = used->ranks, s = own->samples;
    lrki_lora_part *part = &lora->parts[lora->n_parts++];
    float *factor = scratch->factors + ranks;
    *part = (lrki_lora_part){.rank = s,
                             .n_out = m->n_out,
                             .a = scratch->lists + 2 * ranks,
                             .b = scratch->lists + 2 * ranks + s,
                             .factor = factor,
                             .grad_a = scratch->gradient_lists + 2 * ranks,
                             .grad_b = scratch->gradient_lists + 2 * ranks + s,
                             .h = scratch->h + rows * ranks,
                             .scaled_h = scratch->scaled_h + rows * ranks,
                             .d = scratch->d + rows * ranks,
                             .partial = scratch->partial + lrki_lora_chunks(rows) * ranks,
                             .packed = scratch->packed + used->packed,
                             .sums = scratch->sums + lrki_lora_sums(rows) * used->gradients};
    for (int64_t j = 0; j < s; j++) {
        factor[j] = 1.0f;
        part->a[j] = own->omega + j * m->n_in;
        part->b[j] = own->psi + j * m->n_out;
        part->grad_a[j] = own->w + j * m->n_in;
        part->grad_b[j] = own->y + j * m->n_out;
    }
    lrki_lora_size_add(used, lrki_fused_ranks(lora->context, rows, m->n_in, m->n_out), m->n_in, m->n_out, s);
}

static lrki_lora_size size_of(const lrk_sketch *sketch, const lrki_call *call)
{
    lrki_lora_size size = {.rows = call->x.rows};
    for (int32_t i = 0; i < call->n_modules; i++) {
        const lrki_module *m = &sketch->adapters->modules[call->modules[i]];
        lrki_lora_size_add(&size, lrki_fused_ranks(sketch->adapters->context, size.rows, m->n_in, m->n_out),
                           m->n_in, m->n_out, sketch->modules[call->modules[i]].samples);
    }
    return size;
}

lrk_status lrki_sketch_feed(lrk_sketch *sketch, const lrki_call *call, const lrk_matrix *dy)
{
    if (call->x.rows == 0) return LRK_OK;
    lrki_lora_size size = size_of(sketch, call), used = {.rows = call->x.rows};
    lrki_lora_scratch scratch = lrki_lora_scratch_cut(sketch->workspace, &size);
    lrki_lora_call lora = {.context = sketch->adapters->context,
                           .rows = call->x.rows,
                           .n_in = call->lora.n_in,
                           .x = call->lora.x,
                           .parts = scratch.parts,
                           .coef = scratch.coef,
                           .lanes = scratch.lanes,
                           .has_tiles = size.tiles};
    for (int32_t i = 0; i < call->n_modules; i++) {
        int32_t module = call->modules[i];
        lrki_activations from;
        lrk_status status =
            lrki_call_matrix(call, dy, i, sketch->adapters->modules[module].n_out, "dy", &from);
        if (status != LRK_OK) return status;
        add_part(sketch, &lora, &scratch, module, &used);
        lora.parts[i].dy = from;
    }
    /* a module has two samples at least: H has room for a double a row */
    lrk_status status = add_measures(sketch, call, &lora, (double *)(void *)scratch.h);
    return status == LRK_OK ? lrki_lora_backward(&lora) : status;
}
