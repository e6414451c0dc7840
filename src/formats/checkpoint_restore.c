/* SPDX-License-Identifier: MIT */
/*
 * Restoring: every listed handle's section is loaded beside the handle (begin), then all are taken over (commit, which
 * cannot fail), in the list's order, so that sets come before what was made from them. Invariant: until the first commit
 * no handle has changed, and a failure gives up what was begun, last first.
 */
#include <inttypes.h>
#include <string.h>

#include "../allocation/allocation.h"
#include "../importance/state.h"
#include "../training/state.h"
#include "checkpoint.h"

typedef union load {
    lrki_adapters_load adapters;
    lrki_optimizer_load optimizer;
    lrki_estimator_load estimator;
    lrki_allocator_load allocator;
    lrki_schedule_load schedule;
} load;

typedef struct restore {
    lrk_checkpoint_file *file;
    lrk_checkpoint *checkpoint;
    load *loads; /* [checkpoint->n] */
    int64_t begun;
    lrki_left *left; /* [file->n], n_left of them filled */
    int64_t n_left;
} restore;

/* ---- what fits ----------------------------------------------------------------------------------------------------------- */

static bool is_handle(int32_t kind)
{
    return kind >= LRK_SECTION_ADAPTERS && kind <= LRK_SECTION_SCHEDULE;
}

static lrk_status check_section(const restore *r, const lrki_section *section, uint32_t flags)
{
    char title[LRKI_TITLE_MOST];
    lrk_context *context = r->checkpoint->context;
    bool known = section->kind >= LRK_SECTION_ORIGIN && section->kind <= LRK_SECTION_BLOB &&
                 section->version <= LRKI_SECTION_VERSION;
    (void)lrki_section_title(section->kind, section->name, title);
    if (!known && (section->flags & LRK_SECTION_REQUIRED) != 0)
        return lrki_fail(context, LRK_ERR_UNSUPPORTED,
                         "%s: of kind %" PRId32 " and version %" PRIu32 ", made by %s", title, section->kind,
                         section->version, r->file->made_by);
    if (!known || !is_handle(section->kind) || (flags & LRK_RESTORE_PARTIAL) != 0) return LRK_OK;
    if (lrki_checkpoint_find(r->checkpoint, section->kind, section->name) != NULL) return LRK_OK;
    return lrki_fail(context, LRK_ERR_ARGUMENT, "%s: is in the checkpoint and not listed here", title);
}

static lrk_status check_sections(const restore *r, uint32_t flags)
{
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < r->file->n && status == LRK_OK; i++)
        status = check_section(r, &r->file->sections[i], flags);
    return status;
}

static bool is_left(int32_t kind)
{
    return kind == LRK_SECTION_SNAPSHOT || kind == LRK_SECTION_SCORES;
}

static uint64_t bytes_of(const lrki_section *section)
{
    return section->bytes + LRKI_CHECKPOINT_CHECKSUM;
}

/* Bytes of the sections that begin() and begin_left() go through. */
static uint64_t bytes_in_all(const restore *r)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < r->file->n; i++) {
        const lrki_section *s = &r->file->sections[i];
        if (is_left(s->kind) ||
            (is_handle(s->kind) && lrki_checkpoint_find(r->checkpoint, s->kind, s->name) != NULL))
            bytes += bytes_of(s);
    }
    return bytes;
}

/* ---- begin --------------------------------------------------------------------------------------------------------------- */

/* The loading set of that item. */
static const lrki_adapters_load *load_of(const restore *r, const lrki_item *set)
{
    return &r->loads[set - r->checkpoint->items].adapters;
}

static void begin_item(const restore *r, const lrki_item *item, lrki_state *state, load *made)
{
    const lrk_adapters *adapters = lrki_item_adapters(item);
    const lrki_item *set = adapters != NULL ? lrki_checkpoint_set_of(r->checkpoint, adapters) : NULL;
    if (set != NULL) lrki_state_same_text(state, "the set", set->name);
    if (state->status != LRK_OK) return;
    switch (item->kind) {
    case LRK_SECTION_ADAPTERS:
        state->status = lrki_adapters_load_begin(item->of.adapters, state, &made->adapters);
        break;
    case LRK_SECTION_OPTIMIZER:
        state->status =
            lrki_optimizer_load_begin(item->of.optimizer, state, load_of(r, set), &made->optimizer);
        break;
    case LRK_SECTION_ESTIMATOR:
        state->status =
            lrki_estimator_load_begin(item->of.estimator, state, load_of(r, set), &made->estimator);
        break;
    case LRK_SECTION_ALLOCATOR:
        state->status = lrki_allocator_load_begin(item->of.allocator, state, &made->allocator);
        break;
    default:
        state->status = lrki_schedule_load_begin(item->of.schedule, state, &made->schedule);
    }
}

static void abandon_item(const lrki_item *item, load *made)
{
    switch (item->kind) {
    case LRK_SECTION_ADAPTERS:
        lrki_adapters_load_abandon(&made->adapters);
        break;
    case LRK_SECTION_OPTIMIZER:
        lrki_optimizer_load_abandon(&made->optimizer);
        break;
    case LRK_SECTION_ESTIMATOR:
        lrki_estimator_load_abandon(&made->estimator);
        break;
    case LRK_SECTION_ALLOCATOR:
        lrki_allocator_load_abandon(&made->allocator);
        break;
    default:
        break;
    }
}

static lrk_status begin(restore *r, int64_t i)
{
    const lrki_item *item = &r->checkpoint->items[i];
    char title[LRKI_TITLE_MOST];
    lrki_section_reader reader;
    if (!is_handle(item->kind)) return LRK_OK;
    const lrki_section *section = lrki_file_find(r->file, item->kind, item->name);
    if (section == NULL || section->version > LRKI_SECTION_VERSION)
        return lrki_fail(r->checkpoint->context, LRK_ERR_NOT_FOUND,
                         "%s: the checkpoint %s has none that can be read",
                         lrki_section_title(item->kind, item->name, title), r->file->source.name);
    lrki_state state = lrki_section_begin(r->file, section, &reader);
    begin_item(r, item, &state, &r->loads[i]);
    if (state.status != LRK_OK) return state.status;
    lrk_status status = lrki_section_end(&state);
    if (status != LRK_OK) abandon_item(item, &r->loads[i]);
    return status;
}

/* ---- snapshots and scores ------------------------------------------------------------------------------------------------ */

/* The listed set that the section names first; NULL if it is not listed. */
static const lrki_item *named_set(const restore *r, lrki_state *state)
{
    char name[LRKI_NAME_MOST + 1] = "";
    int64_t n = 0;
    lrki_state_within(state, "the length of a name", &n, 0, LRKI_NAME_MOST);
    lrki_state_bytes(state, name, (size_t)n);
    return state->status == LRK_OK ? lrki_checkpoint_find(r->checkpoint, LRK_SECTION_ADAPTERS, name) : NULL;
}

static lrk_status load_left(const restore *r, const lrki_section *section, const lrki_item *set,
                            lrki_state *state, lrki_left *left)
{
    *left = (lrki_left){.kind = section->kind};
    left->name = lrki_text_copy(r->checkpoint->context, section->name);
    if (left->name == NULL) return lrki_state_fail_nomem(state);
    if (section->kind == LRK_SECTION_SNAPSHOT)
        state->status = lrki_snapshot_load(set->of.adapters, state, &left->snapshot);
    else
        state->status = lrki_scores_load(state, load_of(r, set), &left->scores);
    return lrki_section_end(state);
}

static lrk_status begin_left(restore *r, const lrki_section *section, uint32_t flags)
{
    lrki_section_reader reader;
    if (!is_left(section->kind)) return LRK_OK;
    lrki_state state = lrki_section_begin(r->file, section, &reader);
    const lrki_item *set = named_set(r, &state);
    if (state.status == LRK_OK && set == NULL) {
        if ((flags & LRK_RESTORE_PARTIAL) != 0)
            return lrki_checkpoint_count(r->file, bytes_of(section) - reader.buffered);
        return lrki_state_fail(&state, LRK_ERR_ARGUMENT, "its set is not listed here");
    }
    if (state.status != LRK_OK) return state.status;
    return load_left(r, section, set, &state, &r->left[r->n_left++]);
}

/* ---- all or nothing ---------------------------------------------------------------------------------------------------------- */

static lrk_status begin_all(restore *r, uint32_t flags)
{
    lrk_status status = check_sections(r, flags);
    while (status == LRK_OK && r->begun < r->checkpoint->n) {
        status = begin(r, r->begun);
        if (status == LRK_OK) r->begun++;
    }
    for (int64_t i = 0; i < r->file->n && status == LRK_OK; i++)
        status = begin_left(r, &r->file->sections[i], flags);
    return status;
}

static void commit_item(const lrki_item *item, load *made)
{
    switch (item->kind) {
    case LRK_SECTION_ADAPTERS:
        lrki_adapters_load_commit(&made->adapters);
        break;
    case LRK_SECTION_OPTIMIZER:
        lrki_optimizer_load_commit(&made->optimizer);
        break;
    case LRK_SECTION_ESTIMATOR:
        lrki_estimator_load_commit(&made->estimator);
        break;
    case LRK_SECTION_ALLOCATOR:
        lrki_allocator_load_commit(&made->allocator);
        break;
    case LRK_SECTION_SCHEDULE:
        lrki_schedule_load_commit(&made->schedule);
        break;
    default:
        break;
    }
}

static void commit_all(restore *r)
{
    lrk_checkpoint *checkpoint = r->checkpoint;
    for (int64_t i = 0; i < checkpoint->n; i++)
        commit_item(&checkpoint->items[i], &r->loads[i]);
    for (int64_t i = 0; i < r->n_left; i++)
        if (r->left[i].scores != NULL) lrki_scores_load_commit(r->left[i].scores);
    lrki_left_free(checkpoint->context, checkpoint->left, checkpoint->n_left);
    checkpoint->left = r->left;
    checkpoint->n_left = r->file->n;
    r->left = NULL;
    if (!lrki_same_services(r->file, checkpoint->context))
        lrki_log(checkpoint->context, LRK_LOG_WARNING,
                 "%s was made with other kernels, GEMM or parallel loop (%s): bits may differ from here on",
                 r->file->source.name, r->file->made_with);
}

static void abandon_all(restore *r)
{
    while (r->begun-- > 0)
        abandon_item(&r->checkpoint->items[r->begun], &r->loads[r->begun]);
}

static lrk_status run(restore *r, const lrk_checkpoint_options *options)
{
    lrk_context *context = r->checkpoint->context;
    lrki_meter meter = {{options->user, options->progress}, "restoring", 0, bytes_in_all(r)};
    r->loads = lrki_array(context, r->checkpoint->n, sizeof *r->loads);
    r->left = lrki_array(context, r->file->n, sizeof *r->left);
    r->file->meter = &meter;
    lrk_status status = r->loads != NULL && r->left != NULL
                            ? begin_all(r, options->flags)
                            : lrki_fail_nomem(context, "restoring a checkpoint");
    r->file->meter = NULL;
    if (status == LRK_OK)
        commit_all(r);
    else
        abandon_all(r);
    lrki_left_free(context, r->left, r->file->n);
    lrki_array_free(context, r->loads, r->checkpoint->n, sizeof *r->loads);
    return status;
}

lrk_status lrk_checkpoint_restore(lrk_checkpoint_file *file, lrk_checkpoint *checkpoint,
                                  const lrk_checkpoint_options *options)
{
    lrk_checkpoint_options known;
    if (file == NULL || checkpoint == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = lrki_checkpoint_enter(checkpoint, "lrk_checkpoint_restore");
    if (status != LRK_OK) return status;
    status = lrki_checkpoint_options(checkpoint->context, options, LRK_RESTORE_PARTIAL, &known);
    if (status != LRK_OK) return status;
    if (file->context != checkpoint->context)
        return lrki_fail(checkpoint->context, LRK_ERR_ARGUMENT,
                         "lrk_checkpoint_restore: the file is of another context");
    if (file->busy)
        return lrki_fail(checkpoint->context, LRK_ERR_BUSY, "%s: it is being restored", file->source.name);
    restore r = {.file = file, .checkpoint = checkpoint};
    checkpoint->busy = file->busy = true;
    status = run(&r, &known);
    checkpoint->busy = file->busy = false;
    return status;
}
