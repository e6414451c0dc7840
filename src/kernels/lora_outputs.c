/* SPDX-License-Identifier: MIT */
/*
 * What ranks put out (lora.h), from H and the Gram matrix G of the rows of B, so that no row of outputs is formed:
 *     own_j = sum_t (f_j H_tj)^2 G_jj,   joint_j = sum_t f_j H_tj sum_k G_jk f_k H_tk,   G_jk = <B_j, B_k>.
 * A block of ranks is one piece of work: it makes its rows of G a block at a time and sums over all rows of H in their
 * order, in double. No two pieces write the same sum, so threads cannot change a bit.
 */
#include "lora_parts.h"

#define BLOCK 8 /* ranks of a piece */

typedef struct block {
    const lrki_lora_part *part;
    int64_t first;
    int64_t n;
} block;

static int64_t blocks_of(const lrki_lora_part *part)
{
    return (part->rank + BLOCK - 1) / BLOCK;
}

static block block_at(const lrki_lora_part *part, int64_t index)
{
    int64_t first = index * BLOCK;
    return (block){part, first, lrki_smaller(BLOCK, part->rank - first)};
}

/* Block number `index` over all parts. */
static block find_block(const lrki_lora_call *call, int64_t index)
{
    const lrki_lora_part *part = call->parts;
    for (; index >= blocks_of(part); part++)
        index -= blocks_of(part);
    return block_at(part, index);
}

static double inner(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += (double)a[k] * (double)b[k];
    return sum;
}

static void make_gram(block rows, block cols, double gram[BLOCK][BLOCK])
{
    for (int64_t j = 0; j < rows.n; j++)
        for (int64_t k = 0; k < cols.n; k++)
            gram[j][k] = inner(rows.part->b[rows.first + j], cols.part->b[cols.first + k], rows.part->n_out);
}

/* f_j H_tj of a block; a factor of 0 gives 0 whatever it meets. */
static void scaled_row(block b, int64_t t, double *row)
{
    const float *h = lrki_forward_h(b.part) + t * b.part->rank + b.first;
    for (int64_t j = 0; j < b.n; j++) {
        float f = b.part->factor[b.first + j];
        row[j] = f == 0.0f ? 0.0 : (double)f * (double)h[j];
    }
}

/* The terms of joint that two blocks of ranks have together. */
static void add_joint(const lrki_lora_call *call, block rows, block cols)
{
    double gram[BLOCK][BLOCK], mine[BLOCK], theirs[BLOCK];
    make_gram(rows, cols, gram);
    for (int64_t t = 0; t < call->rows; t++) {
        scaled_row(rows, t, mine);
        scaled_row(cols, t, theirs);
        for (int64_t j = 0; j < rows.n; j++) {
            double sum = 0;
            for (int64_t k = 0; k < cols.n; k++)
                sum += gram[j][k] * theirs[k];
            rows.part->joint[rows.first + j] += mine[j] * sum;
        }
    }
}

static void sum_own(const lrki_lora_call *call, block b)
{
    double row[BLOCK], squares[BLOCK] = {0};
    for (int64_t t = 0; t < call->rows; t++) {
        scaled_row(b, t, row);
        for (int64_t j = 0; j < b.n; j++)
            squares[j] += row[j] * row[j];
    }
    for (int64_t j = 0; j < b.n; j++) {
        const float *of_b = b.part->b[b.first + j];
        b.part->own[b.first + j] = squares[j] * inner(of_b, of_b, b.part->n_out);
        b.part->joint[b.first + j] = 0;
    }
}

static lrk_status outputs_lane(const lrki_lora_call *call, const lrki_lane *lane)
{
    for (int64_t i = lane->first; i < lane->first + lane->n; i++) {
        block rows = find_block(call, i);
        sum_own(call, rows);
        for (int64_t k = 0; k < blocks_of(rows.part); k++)
            add_joint(call, rows, block_at(rows.part, k));
    }
    return LRK_OK;
}

lrk_status lrki_lora_outputs(const lrki_lora_call *call)
{
    int64_t pieces = 0;
    for (int64_t p = 0; p < call->n_parts; p++)
        pieces += blocks_of(&call->parts[p]);
    return lrki_lora_run(call, pieces, LRKI_LORA_LANES, outputs_lane);
}
