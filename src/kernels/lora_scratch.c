/* SPDX-License-Identifier: MIT */
/* The layout of a call's scratch (lora.h): one list of pieces, walked once to add up and once to cut. */
#include "lora.h"

#define N_PIECES 7

/* Bytes of each piece, multiples of LRKI_ALIGN. False on overflow. */
static bool piece_sizes(int64_t rows, int64_t n_parts, int64_t ranks, bool dropout, int64_t bytes[N_PIECES])
{
    int64_t values, partials;
    int64_t chunks = lrki_lora_chunks(rows);
    int64_t tile_rows = rows < LRKI_LORA_ROWS ? rows : LRKI_LORA_ROWS;
    int64_t tiles = dropout ? LRKI_LORA_LANES * tile_rows * LRKI_TILE_COLS : 0;
    if (!lrki_mul(rows, ranks, &values) || !lrki_mul(chunks, ranks, &partials)) return false;
    const int64_t counts[N_PIECES] = {n_parts, ranks, ranks, values, values, partials, tiles};
    const int64_t sizes[N_PIECES] = {sizeof(lrki_lora_part), sizeof(float),  sizeof(double), sizeof(float),
                                     sizeof(float),          sizeof(double), sizeof(float)};
    for (int i = 0; i < N_PIECES; i++) {
        if (!lrki_mul(counts[i], sizes[i], &bytes[i]) || !lrki_add(bytes[i], LRKI_ALIGN - 1, &bytes[i]))
            return false;
        bytes[i] -= bytes[i] % LRKI_ALIGN;
    }
    return true;
}

bool lrki_lora_scratch_size(int64_t rows, int64_t n_parts, int64_t ranks, bool dropout, size_t *bytes)
{
    int64_t pieces[N_PIECES];
    int64_t total = 0;
    if (!piece_sizes(rows, n_parts, ranks, dropout, pieces)) return false;
    for (int i = 0; i < N_PIECES; i++)
        if (!lrki_add(total, pieces[i], &total)) return false;
    *bytes = (size_t)total;
    return (uint64_t)total <= SIZE_MAX;
}

lrki_lora_scratch lrki_lora_scratch_cut(void *memory, int64_t rows, int64_t n_parts, int64_t ranks,
                                        bool dropout)
{
    int64_t pieces[N_PIECES] = {0};
    unsigned char *at[N_PIECES];
    unsigned char *next = memory;
    piece_sizes(rows, n_parts, ranks, dropout, pieces); /* fits: the memory was sized by the same arguments */
    for (int i = 0; i < N_PIECES; i++) {
        at[i] = next;
        next += pieces[i];
    }
    return (lrki_lora_scratch){.parts = (void *)at[0],
                               .factors = (void *)at[1],
                               .products = (void *)at[2],
                               .scaled_h = (void *)at[3],
                               .d = (void *)at[4],
                               .partial = (void *)at[5],
                               .tiles = (void *)at[6]};
}
