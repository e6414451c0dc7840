/* SPDX-License-Identifier: MIT */
/* Blocks of columns, and the rows of A and B of the ranks that take part, for the fused kernels. */
#ifndef LRKI_LORA_PACK_H
#define LRKI_LORA_PACK_H

#include "lora_parts.h"

/* n columns in blocks of about equal width, at most `most`. */
int64_t lrki_even_blocks(int64_t n, int64_t most);

/* Columns of a block of n columns: the unit in which rank rows are packed. */
int64_t lrki_block_cols(const lrki_skinny *kernels, int64_t n);

/* Rows of A (B) of a part, and where they are packed: block after block, in each the ranks' parts one behind the other. */
typedef struct lrki_rank_rows {
    const float *const *rows;
    float *packed; /* NULL: not packed */
    int64_t step;  /* lrki_block_cols() of them */
    int64_t rank;
} lrki_rank_rows;

lrki_rank_rows lrki_rows_of_a(const lrki_lora_call *call, const lrki_lora_part *part);
lrki_rank_rows lrki_rows_of_b(const lrki_lora_call *call, const lrki_lora_part *part);

/* Ranks first..first+n-1 from column `col` on. */
void lrki_list_ranks(const lrki_rank_rows *ranks, int64_t first, int64_t n, int64_t col, const float **list);

/* Packs A and B of all parts, if the call has rows enough. */
lrk_status lrki_pack(const lrki_lora_call *call);

#endif
