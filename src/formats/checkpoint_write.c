/* SPDX-License-Identifier: MIT */
/*
 * Saving a checkpoint: one walk over everything listed that counts bytes (and finds what cannot be saved before a byte is
 * written), then the header and table, then the same walk again that writes. Where host code runs meanwhile, the first walk
 * takes checksums too, and the second and a last one, which only counts, must find the same.
 */
#include <stdio.h>
#include <string.h>

#include "../allocation/allocation.h"
#include "../importance/state.h"
#include "../training/state.h"
#include "checkpoint.h"
#include "checksum.h"
#include "lorank/version.h"

typedef struct writer {
    lrk_checkpoint *checkpoint;
    lrki_target *target; /* NULL: only count */
    lrk_status answer;   /* of the target to the section so far */
    bool watched;        /* a writer or progress of the host runs, and may change what is listed */
    unsigned char *buffer;
    size_t in_buffer;
    uint64_t done, total; /* bytes of the file */
    uint64_t put;         /* bytes of the section so far                  */
    uint64_t least;       /* writing: those that the table promised       */
    uint32_t checksum;
    lrki_section *sections; /* [items + 1]: the origin first        */
} writer;

/* ---- bytes ------------------------------------------------------------------------------------------------------------- */

/* Hands bytes on, in pieces between which the host is asked. */
static lrk_status hand_on(writer *w, const unsigned char *data, size_t n)
{
    lrk_status status = LRK_OK;
    while (n > 0 && status == LRK_OK) {
        size_t here = n < LRKI_CHECKPOINT_PIECE ? n : LRKI_CHECKPOINT_PIECE;
        status = lrki_target_write(w->target, data, here);
        w->done += here;
        if (status == LRK_OK) status = lrki_target_tell(w->target, w->done, w->total);
        data += here;
        n -= here;
    }
    return status;
}

static lrk_status flush(writer *w)
{
    size_t n = w->in_buffer;
    w->in_buffer = 0;
    return hand_on(w, w->buffer, n);
}

static lrk_status put_bytes(writer *w, const void *data, size_t n)
{
    if (n > LRKI_CHECKPOINT_BUFFER - w->in_buffer) {
        lrk_status status = flush(w);
        if (status != LRK_OK) return status;
    }
    if (n > LRKI_CHECKPOINT_BUFFER) return hand_on(w, data, n);
    memcpy(w->buffer + w->in_buffer, data, n);
    w->in_buffer += n;
    return LRK_OK;
}

static lrk_status move(void *user, void *data, size_t n)
{
    writer *w = user;
    w->put += n;
    if (w->target == NULL && !w->watched) return LRK_OK;
    w->checksum = lrki_checksum(w->checksum, data, n);
    if (w->target == NULL) return LRK_OK;
    if (w->put > w->least) return LRK_ERR_HOST; /* walk_again() says it */
    w->answer = put_bytes(w, data, n);
    return w->answer;
}

/* ---- sections ------------------------------------------------------------------------------------------------------------ */

static void save_text(lrki_state *state, const char *text)
{
    int64_t n = (int64_t)strlen(text);
    lrki_state_i64(state, &n);
    lrki_state_put(state, text, (size_t)n);
}

static void save_origin(const lrk_context *context, lrki_state *state)
{
    char services[LRKI_ORIGIN_MOST], maker[64];
    (void)lrk_context_describe(context, services, sizeof services);
    snprintf(maker, sizeof maker, "lorank %s", lrk_version_text());
    save_text(state, maker);
    save_text(state, services);
}

static void save_set_name(const lrk_checkpoint *checkpoint, const lrki_item *item, lrki_state *state)
{
    const lrk_adapters *set = lrki_item_adapters(item);
    if (set != NULL) save_text(state, lrki_checkpoint_set_of(checkpoint, set)->name);
}

static void save_item(const lrk_checkpoint *checkpoint, const lrki_item *item, lrki_state *state)
{
    save_set_name(checkpoint, item, state);
    switch (item->kind) {
    case LRK_SECTION_ADAPTERS:
        lrki_adapters_save(item->of.adapters, state);
        break;
    case LRK_SECTION_OPTIMIZER:
        lrki_optimizer_save(item->of.optimizer, state);
        break;
    case LRK_SECTION_ESTIMATOR:
        lrki_estimator_save(item->of.estimator, state);
        break;
    case LRK_SECTION_ALLOCATOR:
        lrki_allocator_save(item->of.allocator, state);
        break;
    case LRK_SECTION_SCHEDULE:
        lrki_schedule_save(item->of.schedule, state);
        break;
    case LRK_SECTION_SNAPSHOT:
        lrki_snapshot_save(item->of.snapshot, state);
        break;
    case LRK_SECTION_SCORES:
        lrki_scores_save(item->of.scores, state);
        break;
    default:
        lrki_state_put(state, item->of.bytes, item->n);
    }
}

/* Walks section i (0: the origin) and leaves its bytes in w->put. */
static lrk_status walk(writer *w, int64_t i)
{
    char title[LRKI_TITLE_MOST];
    const lrki_section *section = &w->sections[i];
    lrki_state state = {.context = w->checkpoint->context, .user = w, .move = move};
    state.name = lrki_section_title(section->kind, section->name, title);
    w->put = w->checksum = 0;
    if (i == 0)
        save_origin(w->checkpoint->context, &state);
    else
        save_item(w->checkpoint, &w->checkpoint->items[i - 1], &state);
    return state.status;
}

/* ---- the file -------------------------------------------------------------------------------------------------------------- */

static lrk_status measure(writer *w)
{
    lrk_status status = LRK_OK;
    w->sections[0] = (lrki_section){.kind = LRK_SECTION_ORIGIN, .name = ""};
    for (int64_t i = 0; i <= w->checkpoint->n && status == LRK_OK; i++) {
        lrki_section *section = &w->sections[i];
        if (i > 0) {
            const lrki_item *item = &w->checkpoint->items[i - 1];
            *section = (lrki_section){.kind = item->kind, .name = item->name};
            bool optional = item->kind == LRK_SECTION_BLOB || item->kind == LRK_SECTION_CONFIG;
            if (!optional) section->flags = LRK_SECTION_REQUIRED;
        }
        section->version = LRKI_SECTION_VERSION;
        status = walk(w, i);
        section->bytes = w->put;
        section->checksum = w->checksum;
    }
    return status;
}

static lrk_status put_number(writer *w, uint64_t value, size_t bytes)
{
    w->checksum = lrki_checksum(w->checksum, &value, bytes); /* little-endian (dtype.h) */
    return put_bytes(w, &value, bytes);
}

static lrk_status put_checksum(writer *w)
{
    uint32_t checksum = w->checksum;
    w->checksum = 0;
    return put_bytes(w, &checksum, sizeof checksum);
}

static lrk_status put_header(writer *w)
{
    uint64_t table = LRKI_CHECKPOINT_CHECKSUM, content = 0;
    for (int64_t i = 0; i <= w->checkpoint->n; i++) {
        table += LRKI_CHECKPOINT_ENTRY + strlen(w->sections[i].name);
        content += w->sections[i].bytes + LRKI_CHECKPOINT_CHECKSUM;
    }
    w->total = LRKI_CHECKPOINT_HEADER + table + content;
    w->checksum = lrki_checksum(0, LRKI_CHECKPOINT_MAGIC, 8);
    lrk_status status = put_bytes(w, LRKI_CHECKPOINT_MAGIC, 8);
    if (status == LRK_OK) status = put_number(w, LRKI_CHECKPOINT_FORMAT, 4);
    if (status == LRK_OK) status = put_number(w, (uint64_t)w->checkpoint->n + 1, 4);
    if (status == LRK_OK) status = put_number(w, table, 8);
    if (status == LRK_OK) status = put_number(w, w->total, 8);
    if (status == LRK_OK) status = put_number(w, 0, 4);
    return status == LRK_OK ? put_checksum(w) : status;
}

static lrk_status put_entry(writer *w, const lrki_section *section)
{
    size_t length = strlen(section->name);
    lrk_status status = put_number(w, (uint64_t)section->kind, 4);
    if (status == LRK_OK) status = put_number(w, section->flags, 4);
    if (status == LRK_OK) status = put_number(w, section->version, 4);
    if (status == LRK_OK) status = put_number(w, length, 4);
    if (status == LRK_OK) status = put_number(w, section->bytes, 8);
    w->checksum = lrki_checksum(w->checksum, section->name, length);
    return status == LRK_OK ? put_bytes(w, section->name, length) : status;
}

/* Walks a section that was measured: LRK_ERR_HOST if it is not what it was, or can no longer be saved. */
static lrk_status walk_again(writer *w, int64_t i)
{
    char title[LRKI_TITLE_MOST];
    const lrki_section *section = &w->sections[i];
    w->least = section->bytes;
    w->answer = LRK_OK;
    lrk_status status = walk(w, i);
    if (w->answer != LRK_OK) return w->answer;
    bool same = w->put == section->bytes && (!w->watched || w->checksum == section->checksum);
    if (status == LRK_OK && same) return LRK_OK;
    return lrki_fail(w->checkpoint->context, LRK_ERR_HOST, "%s: changed while it was written",
                     lrki_section_title(section->kind, section->name, title));
}

static lrk_status put_section(writer *w, int64_t i)
{
    lrk_status status = walk_again(w, i);
    return status == LRK_OK ? put_checksum(w) : status;
}

static lrk_status put_all(writer *w)
{
    lrk_status status = put_header(w);
    for (int64_t i = 0; i <= w->checkpoint->n && status == LRK_OK; i++)
        status = put_entry(w, &w->sections[i]);
    if (status == LRK_OK) status = put_checksum(w);
    for (int64_t i = 0; i <= w->checkpoint->n && status == LRK_OK; i++)
        status = put_section(w, i);
    return status == LRK_OK ? flush(w) : status;
}

/* After the host's last word: what was written is still what is listed. */
static lrk_status check_all(writer *w)
{
    lrk_status status = LRK_OK;
    w->target = NULL;
    for (int64_t i = 0; i <= w->checkpoint->n && status == LRK_OK; i++)
        status = walk_again(w, i);
    return status;
}

/* Where to: a path, or a writer. */
static lrk_status write_to(writer *w, const char *path, const lrk_writer *given,
                           const lrk_checkpoint_options *options)
{
    lrk_context *context = w->checkpoint->context;
    lrki_target target = {0};
    w->watched = given != NULL || options->progress != NULL;
    lrk_status status = measure(w);
    if (status != LRK_OK) return status;
    status =
        path != NULL ? lrki_target_open(context, path, &target) : lrki_target_writer(context, given, &target);
    target.progress = (lrki_progress){options->user, options->progress};
    w->target = &target;
    if (status == LRK_OK) status = put_all(w);
    if (status == LRK_OK && w->watched) status = check_all(w);
    if (status == LRK_OK) status = lrki_target_commit(&target);
    lrki_target_abandon(&target);
    w->target = NULL;
    return status;
}

/* What makes calls that would free or move what is read answer LRK_ERR_BUSY; NULL: such calls are refused by the set's. */
static bool *hold_of(const lrki_item *item)
{
    if (item->kind == LRK_SECTION_ADAPTERS) return &item->of.adapters->in_host_callback;
    if (item->kind != LRK_SECTION_ESTIMATOR) return NULL;
    lrk_estimator *estimator = item->of.estimator;
    while (estimator->type->inner != NULL) /* whose run it is that is saved */
        estimator = estimator->type->inner(estimator);
    return &estimator->running;
}

static void hold_all(const lrk_checkpoint *checkpoint)
{
    for (int64_t i = 0; i < checkpoint->n; i++) {
        lrki_item *item = &checkpoint->items[i];
        bool *hold = hold_of(item);
        if (hold == NULL) continue;
        item->was_held = *hold;
        *hold = true;
    }
}

static void release_all(const lrk_checkpoint *checkpoint)
{
    for (int64_t i = 0; i < checkpoint->n; i++) {
        bool *hold = hold_of(&checkpoint->items[i]);
        if (hold != NULL) *hold = checkpoint->items[i].was_held;
    }
}

static lrk_status save(lrk_checkpoint *checkpoint, const char *path, const lrk_writer *given,
                       const lrk_checkpoint_options *options)
{
    lrk_context *context = checkpoint->context;
    int64_t n = checkpoint->n + 1;
    writer w = {.checkpoint = checkpoint};
    lrk_checkpoint_options known;
    lrk_status status = lrki_checkpoint_options(context, options, 0, &known);
    if (status != LRK_OK) return status;
    w.sections = lrki_array(context, n, sizeof *w.sections);
    w.buffer = lrki_alloc(context, LRKI_CHECKPOINT_BUFFER);
    checkpoint->busy = true;
    hold_all(checkpoint);
    status = w.sections != NULL && w.buffer != NULL ? write_to(&w, path, given, &known)
                                                    : lrki_fail_nomem(context, "saving a checkpoint");
    release_all(checkpoint);
    checkpoint->busy = false;
    lrki_array_free(context, w.sections, n, sizeof *w.sections);
    lrki_free(context, w.buffer, LRKI_CHECKPOINT_BUFFER);
    return status;
}

lrk_status lrk_checkpoint_save(lrk_checkpoint *checkpoint, const char *path,
                               const lrk_checkpoint_options *options)
{
    lrk_status status = lrki_checkpoint_enter(checkpoint, "lrk_checkpoint_save");
    if (status != LRK_OK) return status;
    if (path == NULL)
        return lrki_fail(checkpoint->context, LRK_ERR_ARGUMENT, "lrk_checkpoint_save: path is NULL");
    return save(checkpoint, path, NULL, options);
}

lrk_status lrk_checkpoint_write(lrk_checkpoint *checkpoint, const lrk_writer *writer_given,
                                const lrk_checkpoint_options *options)
{
    lrk_status status = lrki_checkpoint_enter(checkpoint, "lrk_checkpoint_write");
    if (status != LRK_OK) return status;
    if (writer_given == NULL)
        return lrki_fail(checkpoint->context, LRK_ERR_ARGUMENT, "lrk_checkpoint_write: writer is NULL");
    return save(checkpoint, NULL, writer_given, options);
}
