/* SPDX-License-Identifier: MIT */
/* Reading a GGUF header from its beginning, in pieces, never beyond the file. */
#include <string.h>

#include "gguf_parts.h"

lrk_status lrki_gguf_fail(const lrki_source *source, const char *what)
{
    return lrki_fail(source->context, LRK_ERR_FORMAT, "%s: %s", source->name, what);
}

uint64_t lrki_gguf_left(const lrki_gguf_cursor *cursor)
{
    return cursor->source->size - cursor->at;
}

static lrk_status fill_piece(lrki_gguf_cursor *cursor)
{
    uint64_t left = lrki_gguf_left(cursor);
    cursor->piece_at = cursor->at;
    cursor->piece_n = left < sizeof cursor->piece ? (size_t)left : sizeof cursor->piece;
    lrk_status status = lrki_source_read(cursor->source, cursor->piece_at, cursor->piece, cursor->piece_n);
    if (status != LRK_OK) cursor->piece_n = 0;
    return status;
}

lrk_status lrki_gguf_take(lrki_gguf_cursor *cursor, void *data, size_t n)
{
    unsigned char *to = data;
    if (n > lrki_gguf_left(cursor)) return lrki_gguf_fail(cursor->source, "the file ends within its header");
    while (n > 0) {
        if (cursor->at < cursor->piece_at || cursor->at - cursor->piece_at >= cursor->piece_n) {
            lrk_status status = fill_piece(cursor);
            if (status != LRK_OK) return status;
        }
        size_t from = (size_t)(cursor->at - cursor->piece_at);
        size_t most = cursor->piece_n - from;
        size_t part = n < most ? n : most;
        memcpy(to, cursor->piece + from, part);
        to += part;
        cursor->at += part;
        n -= part;
    }
    return LRK_OK;
}

lrk_status lrki_gguf_take_u32(lrki_gguf_cursor *cursor, uint32_t *value)
{
    return lrki_gguf_take(cursor, value, sizeof *value);
}

lrk_status lrki_gguf_take_u64(lrki_gguf_cursor *cursor, uint64_t *value)
{
    return lrki_gguf_take(cursor, value, sizeof *value);
}

lrk_status lrki_gguf_skip(lrki_gguf_cursor *cursor, uint64_t n)
{
    if (n > lrki_gguf_left(cursor)) return lrki_gguf_fail(cursor->source, "the file ends within its header");
    cursor->at += n;
    return LRK_OK;
}
