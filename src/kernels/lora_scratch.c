/* SPDX-License-Identifier: MIT */
/* The layout of a call's scratch (lora.h): one list of pieces, walked once to add up and once to cut. */
#include "lora.h"

#define N_PIECES 13

bool lrki_lora_size_add(lrki_lora_size *size, int64_t most, int64_t n_in, int64_t n_out, int64_t ranks)
{
    bool packs = size->rows >= LRKI_PACK_ROWS;
    int64_t packed, packed_a = packs ? lrki_packed_floats(n_in) : 0,
                    packed_b = packs ? lrki_packed_floats(n_out) : 0;
    int64_t width, values, fused = lrki_smaller(ranks, most);
    size->n_parts++;
    size->tiles = size->tiles || fused < ranks;
    return lrki_add(n_in, n_out, &width) && lrki_mul(lrki_sums_floats(width), fused, &values) &&
           lrki_add(size->gradients, values, &size->gradients) && lrki_add(packed_a, packed_b, &packed) &&
           lrki_mul(packed, fused, &packed) && lrki_add(size->packed, packed, &size->packed) &&
           lrki_add(size->ranks, ranks, &size->ranks);
}

/* Bytes of each piece, multiples of LRKI_ALIGN. False on overflow. */
static bool piece_sizes(const lrki_lora_size *size, int64_t bytes[N_PIECES])
{
    int64_t chunks = lrki_lora_chunks(size->rows);
    const int64_t counts[N_PIECES][2] = {{size->n_parts, 1},
                                         {size->ranks, 2},
                                         {size->ranks, 2},
                                         {size->ranks, 1},
                                         {size->ranks, 1},
                                         {size->ranks, size->rows},
                                         {size->ranks, size->rows},
                                         {size->ranks, size->rows},
                                         {size->ranks, size->rows},
                                         {size->ranks, chunks},
                                         {size->packed, 1},
                                         {size->gradients, lrki_lora_sums(size->rows)},
                                         {lrki_lane_floats(size->tiles), LRKI_LORA_LANES}};
    const int64_t units[N_PIECES] = {sizeof(lrki_lora_part), sizeof(float *), sizeof(float *), sizeof(float),
                                     sizeof(double),         sizeof(float),   sizeof(float),   sizeof(float),
                                     sizeof(float),          sizeof(double),  sizeof(float),   sizeof(float),
                                     sizeof(float)};
    for (int i = 0; i < N_PIECES; i++) {
        if (!lrki_mul(counts[i][0], counts[i][1], &bytes[i]) || !lrki_mul(bytes[i], units[i], &bytes[i]) ||
            !lrki_add(bytes[i], LRKI_ALIGN - 1, &bytes[i]))
            return false;
        bytes[i] -= bytes[i] % LRKI_ALIGN;
    }
    return true;
}

bool lrki_lora_scratch_size(const lrki_lora_size *size, size_t *bytes)
{
    int64_t pieces[N_PIECES];
    int64_t total = 0;
    if (!piece_sizes(size, pieces)) return false;
    for (int i = 0; i < N_PIECES; i++)
        if (!lrki_add(total, pieces[i], &total)) return false;
    *bytes = (size_t)total;
    return (uint64_t)total <= SIZE_MAX;
}

lrki_lora_scratch lrki_lora_scratch_cut(void *memory, const lrki_lora_size *size)
{
    int64_t pieces[N_PIECES] = {0};
    unsigned char *at[N_PIECES];
    unsigned char *next = memory;
    piece_sizes(size, pieces); /* fits: the memory was sized by the same arguments */
    for (int i = 0; i < N_PIECES; i++) {
        at[i] = next;
        next += pieces[i];
    }
    return (lrki_lora_scratch){.parts = (void *)at[0],
                               .lists = (void *)at[1],
                               .gradient_lists = (void *)at[2],
                               .factors = (void *)at[3],
                               .products = (void *)at[4],
                               .h = (void *)at[5],
                               .scaled_h = (void *)at[6],
                               .d = (void *)at[7],
                               .coef = (void *)at[8],
                               .partial = (void *)at[9],
                               .packed = (void *)at[10],
                               .sums = (void *)at[11],
                               .lanes = (void *)at[12]};
}
