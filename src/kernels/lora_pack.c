/* SPDX-License-Identifier: MIT */
/*
 * Rank rows as the fused kernels read them (lora_pack.h): packed block by block, or where they are. Rows of a power-of-two
 * length would evict each other from the first-level cache, which has few places for equal low address bits; few rows of
 * activations do not pay for packing.
 */
#include "lora_pack.h"

#include <string.h>

/* n columns in blocks of about equal width, at most `most`. */
int64_t lrki_even_blocks(int64_t n, int64_t most)
{
    int64_t blocks = (n + most - 1) / most, cols = (n + blocks - 1) / blocks;
    return (cols + LRKI_SKEW - 1) / LRKI_SKEW * LRKI_SKEW;
}

int64_t lrki_block_cols(const lrki_skinny *kernels, int64_t n)
{
    const lrki_blocks *blocks = &kernels->blocks;
    return lrki_even_blocks(n, n <= blocks->whole ? blocks->whole : blocks->cols);
}

/* An odd number of cache lines, so that the sums of neighbouring ranks begin in different cache sets. */
int64_t lrki_sums_floats(int64_t n)
{
    return ((n + LRKI_SKEW - 1) / LRKI_SKEW | 1) * LRKI_SKEW;
}

/* Rounding adds less than LRKI_SKEW to a block. */
int64_t lrki_packed_floats(int64_t n)
{
    return n + (n + LRKI_LEAST_COLS - 1) / LRKI_LEAST_COLS * (2 * LRKI_SKEW);
}

lrki_rank_rows lrki_rows_of_a(const lrki_lora_call *call, const lrki_lora_part *part)
{
    float *packed = call->rows < LRKI_PACK_ROWS ? NULL : part->packed;
    return (lrki_rank_rows){part->a, packed, lrki_block_cols(call->kernels, call->n_in), part->rank};
}

lrki_rank_rows lrki_rows_of_b(const lrki_lora_call *call, const lrki_lora_part *part)
{
    float *packed =
        call->rows < LRKI_PACK_ROWS ? NULL : part->packed + part->rank * lrki_packed_floats(call->n_in);
    return (lrki_rank_rows){part->b, packed, lrki_block_cols(call->kernels, part->n_out), part->rank};
}

static float *packed_at(const lrki_rank_rows *ranks, int64_t j, int64_t col)
{
    int64_t step = ranks->step;
    return ranks->packed + (col / step * ranks->rank + j) * (step + LRKI_SKEW) + col % step;
}

static void pack_row(const lrki_rank_rows *ranks, int64_t j, int64_t n)
{
    for (int64_t col = 0; col < n; col += ranks->step)
        memcpy(packed_at(ranks, j, col), ranks->rows[j] + col,
               (size_t)lrki_smaller(ranks->step, n - col) * sizeof(float));
}

/* Ranks first..first+n-1 from column `col` on. */
void lrki_list_ranks(const lrki_rank_rows *ranks, int64_t first, int64_t n, int64_t col, const float **list)
{
    for (int64_t j = 0; j < n; j++)
        list[j] = ranks->packed == NULL ? ranks->rows[first + j] + col : packed_at(ranks, first + j, col);
}

static lrk_status pack_lane(const lrki_lora_call *call, const lrki_lane *lane)
{
    int64_t number = 0;
    for (int64_t p = 0; p < call->n_parts; p++) {
        lrki_rank_rows a = lrki_rows_of_a(call, &call->parts[p]), b = lrki_rows_of_b(call, &call->parts[p]);
        for (int64_t j = 0; j < a.rank; j++, number++) {
            if (number < lane->first || number >= lane->first + lane->n) continue;
            pack_row(&a, j, call->n_in);
            pack_row(&b, j, call->parts[p].n_out);
        }
    }
    return LRK_OK;
}

lrk_status lrki_pack(const lrki_lora_call *call)
{
    return call->rows < LRKI_PACK_ROWS ? LRK_OK : lrki_lora_run_ranks(call, 1, pack_lane);
}
