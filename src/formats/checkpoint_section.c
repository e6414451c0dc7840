/* SPDX-License-Identifier: MIT */
/*
 * Reading one section: through the file's buffer, with its checksum. Whoever loads it gets no byte beyond its end.
 */
#include <inttypes.h>
#include <string.h>

#include "checkpoint.h"
#include "checksum.h"

lrk_status lrki_checkpoint_count(const lrk_checkpoint_file *file, uint64_t bytes)
{
    lrki_meter *meter = file->meter;
    if (meter == NULL) return LRK_OK;
    meter->done += bytes;
    return lrki_progress_tell(file->context, &meter->progress, meter->what, meter->done, meter->total);
}

/* The next n bytes of the section. */
static lrk_status read_on(lrki_section_reader *r, void *data, size_t n)
{
    lrk_status status = lrki_source_read(&r->file->source, r->section->offset + r->buffered, data, n);
    r->buffered += n;
    return status == LRK_OK ? lrki_checkpoint_count(r->file, n) : status;
}

/* The next bytes of the section into the buffer. */
static lrk_status fill(lrki_section_reader *r)
{
    uint64_t left = r->section->bytes - r->buffered;
    r->in_buffer = left < LRKI_CHECKPOINT_BUFFER ? (size_t)left : LRKI_CHECKPOINT_BUFFER;
    return read_on(r, r->file->buffer, r->in_buffer);
}

/* Small pieces come through the buffer, large ones straight from the file. */
static lrk_status move(void *user, void *data, size_t n)
{
    lrki_section_reader *r = user;
    unsigned char *to = data;
    lrk_status status = LRK_OK;
    for (size_t done = 0; done < n && status == LRK_OK;) {
        uint64_t ready = r->buffered - r->at;
        size_t here = n - done;
        if (ready > 0) {
            if (here > ready) here = (size_t)ready;
            memcpy(to + done, r->file->buffer + r->in_buffer - ready, here);
        } else if (here >= LRKI_CHECKPOINT_BUFFER) {
            if (here > LRKI_CHECKPOINT_PIECE) here = LRKI_CHECKPOINT_PIECE;
            status = read_on(r, to + done, here);
        } else {
            status = fill(r);
            continue;
        }
        r->at += here;
        done += here;
    }
    if (status == LRK_OK) r->checksum = lrki_checksum(r->checksum, data, n);
    return status;
}

lrki_state lrki_section_begin(const lrk_checkpoint_file *file, const lrki_section *section,
                              lrki_section_reader *reader)
{
    *reader = (lrki_section_reader){.file = file, .section = section};
    return (lrki_state){.context = file->context,
                        .name = lrki_section_title(section->kind, section->name, reader->title),
                        .loading = true,
                        .left = (int64_t)section->bytes,
                        .user = reader,
                        .move = move};
}

lrk_status lrki_section_end(lrki_state *state)
{
    const lrki_section_reader *reader = state->user;
    const lrki_section *section = reader->section;
    uint32_t recorded = 0;
    if (state->status == LRK_OK && state->left > 0)
        (void)lrki_state_fail(state, LRK_ERR_FORMAT, "%" PRId64 " bytes are left over", state->left);
    if (state->status == LRK_OK)
        state->status = lrki_source_read(&reader->file->source, section->offset + section->bytes, &recorded,
                                         sizeof recorded);
    if (state->status == LRK_OK && recorded != reader->checksum)
        (void)lrki_state_fail(state, LRK_ERR_FORMAT,
                              "its bytes do not have the checksum recorded: %s is damaged",
                              reader->file->source.name);
    if (state->status == LRK_OK)
        state->status = lrki_checkpoint_count(reader->file, LRKI_CHECKPOINT_CHECKSUM);
    return state->status;
}

lrk_status lrki_section_verify(const lrk_checkpoint_file *file, const lrki_section *section)
{
    lrki_section_reader reader;
    lrki_state state = lrki_section_begin(file, section, &reader);
    while (state.left > 0 && state.status == LRK_OK) {
        uint64_t left = (uint64_t)state.left;
        size_t n = left < LRKI_CHECKPOINT_BUFFER ? (size_t)left : LRKI_CHECKPOINT_BUFFER;
        state.status = fill(&reader);
        reader.at += n;
        state.left -= (int64_t)n;
        if (state.status == LRK_OK) reader.checksum = lrki_checksum(reader.checksum, file->buffer, n);
    }
    return lrki_section_end(&state);
}
