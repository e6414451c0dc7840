/* SPDX-License-Identifier: MIT */
#include "checksum.h"

#include <zlib.h>

#include "../kernels/kernels.h"

#define PIECE_LEAST ((size_t)1 << 17)
#define PIECES_MOST 64

uint32_t lrki_checksum(uint32_t checksum, const void *data, size_t n)
{
    return n == 0 ? checksum : (uint32_t)crc32_z(checksum, data, n);
}

typedef struct wide {
    const unsigned char *data;
    size_t n;
    size_t piece; /* bytes of each piece but the last */
    uint32_t sums[PIECES_MOST];
} wide;

static size_t piece_bytes(const wide *w, size_t i)
{
    size_t left = w->n - i * w->piece;
    return left < w->piece ? left : w->piece;
}

static void sum_piece(void *data, int64_t index)
{
    wide *w = data;
    size_t i = (size_t)index;
    w->sums[i] = lrki_checksum(0, w->data + i * w->piece, piece_bytes(w, i));
}

lrk_status lrki_checksum_wide(lrk_context *context, uint32_t *checksum, const void *data, size_t n)
{
    wide w = {.data = data, .n = n, .piece = n / PIECES_MOST + 1};
    if (w.piece < PIECE_LEAST) w.piece = PIECE_LEAST;
    if (n <= w.piece || lrki_parallel_width(context) < 2) {
        *checksum = lrki_checksum(*checksum, data, n);
        return LRK_OK;
    }
    size_t pieces = (n - 1) / w.piece + 1;
    lrk_status status = lrki_parallel_for(context, (int64_t)pieces, sum_piece, &w);
    for (size_t i = 0; i < pieces && status == LRK_OK; i++)
        *checksum = (uint32_t)crc32_combine(*checksum, w.sums[i], (z_off_t)piece_bytes(&w, i));
    return status;
}
