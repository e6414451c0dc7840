/* SPDX-License-Identifier: MIT */
/*
 * The list of who takes part in a checkpoint: names, what is kept alive and what is borrowed, and what a restore left for
 * the host. Invariant: the set of everything listed stands before it.
 */
#include <stdio.h>
#include <string.h>

#include "../allocation/allocation.h"
#include "../importance/state.h"
#include "../training/state.h"
#include "checkpoint.h"

#define FIRST_ITEMS 8

static const char *const titles[] = {
    [LRK_SECTION_ORIGIN] = "origin",       [LRK_SECTION_CONFIG] = "configuration",
    [LRK_SECTION_ADAPTERS] = "adapters",   [LRK_SECTION_OPTIMIZER] = "optimizer",
    [LRK_SECTION_ESTIMATOR] = "estimator", [LRK_SECTION_ALLOCATOR] = "allocator",
    [LRK_SECTION_SCHEDULE] = "schedule",   [LRK_SECTION_SNAPSHOT] = "snapshot",
    [LRK_SECTION_SCORES] = "scores",       [LRK_SECTION_BLOB] = "blob"};

const char *lrki_section_title(int32_t kind, const char *name, char text[LRKI_TITLE_MOST])
{
    bool known = kind >= LRK_SECTION_ORIGIN && kind <= LRK_SECTION_BLOB;
    if (kind == LRK_SECTION_ORIGIN || kind == LRK_SECTION_CONFIG)
        snprintf(text, LRKI_TITLE_MOST, "%s", titles[kind]);
    else
        snprintf(text, LRKI_TITLE_MOST, "%s '%s'", known ? titles[kind] : "section", name);
    return text;
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

lrk_status lrk_checkpoint_create(lrk_context *context, lrk_checkpoint **checkpoint)
{
    if (checkpoint != NULL) *checkpoint = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (checkpoint == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_checkpoint_create: checkpoint is NULL");
    lrk_checkpoint *made = lrki_alloc_zeroed(context, sizeof *made);
    if (made == NULL) return lrki_fail_nomem(context, "a checkpoint");
    made->context = lrki_context_ref(context);
    *checkpoint = made;
    return LRK_OK;
}

/* Gives up what the list holds of an item. */
static void drop_item(lrk_context *context, lrki_item *item)
{
    lrki_text_free(context, item->name);
    if (item->kind == LRK_SECTION_ADAPTERS) lrki_adapters_unref(item->of.adapters);
    if (item->kind == LRK_SECTION_ESTIMATOR) lrki_estimator_unref(item->of.estimator);
    if (item->kind == LRK_SECTION_ALLOCATOR) lrki_allocator_unref(item->of.allocator);
    *item = (lrki_item){0};
}

void lrki_left_free(lrk_context *context, lrki_left *left, int64_t n)
{
    for (int64_t i = 0; left != NULL && i < n; i++) {
        lrki_text_free(context, left[i].name);
        lrk_snapshot_destroy(left[i].snapshot);
        lrk_scores_destroy(left[i].scores);
    }
    lrki_array_free(context, left, n, sizeof *left);
}

void lrk_checkpoint_destroy(lrk_checkpoint *checkpoint)
{
    if (checkpoint == NULL) return;
    lrk_context *context = checkpoint->context;
    for (int64_t i = 0; i < checkpoint->n; i++)
        drop_item(context, &checkpoint->items[i]);
    lrki_array_free(context, checkpoint->items, checkpoint->held, sizeof *checkpoint->items);
    lrki_left_free(context, checkpoint->left, checkpoint->n_left);
    lrki_free(context, checkpoint, sizeof *checkpoint);
    lrki_context_unref(context);
}

/* ---- options --------------------------------------------------------------------------------------------------------- */

lrk_status lrk_checkpoint_options_init(lrk_checkpoint_options *options, size_t struct_size)
{
    static const lrk_checkpoint_options defaults = {0};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

lrk_status lrki_checkpoint_options(lrk_context *context, const lrk_checkpoint_options *given, uint32_t flags,
                                   lrk_checkpoint_options *known)
{
    (void)lrk_checkpoint_options_init(known, sizeof *known);
    lrk_status status = lrki_struct_read(context, known, sizeof *known, given, 2 * sizeof(uint32_t),
                                         "lrk_checkpoint_options");
    if (status == LRK_OK && (known->flags & ~flags) != 0)
        status = lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_checkpoint_options: unknown flags");
    return status;
}

/* ---- finding --------------------------------------------------------------------------------------------------------- */

lrk_status lrki_checkpoint_enter(const lrk_checkpoint *checkpoint, const char *what)
{
    if (checkpoint == NULL) return LRK_ERR_ARGUMENT;
    if (!checkpoint->busy) return LRK_OK;
    return lrki_fail(checkpoint->context, LRK_ERR_BUSY, "%s: called from a call with the same checkpoint",
                     what);
}

const lrki_item *lrki_checkpoint_find(const lrk_checkpoint *checkpoint, int32_t kind, const char *name)
{
    for (int64_t i = 0; i < checkpoint->n; i++)
        if (checkpoint->items[i].kind == kind && strcmp(checkpoint->items[i].name, name) == 0)
            return &checkpoint->items[i];
    return NULL;
}

const lrki_item *lrki_checkpoint_set_of(const lrk_checkpoint *checkpoint, const lrk_adapters *adapters)
{
    for (int64_t i = 0; i < checkpoint->n; i++)
        if (checkpoint->items[i].kind == LRK_SECTION_ADAPTERS && checkpoint->items[i].of.adapters == adapters)
            return &checkpoint->items[i];
    return NULL;
}

const lrk_adapters *lrki_item_adapters(const lrki_item *item)
{
    switch (item->kind) {
    case LRK_SECTION_OPTIMIZER:
        return lrki_optimizer_adapters(item->of.optimizer);
    case LRK_SECTION_ESTIMATOR:
        return lrki_estimator_adapters(item->of.estimator);
    case LRK_SECTION_ALLOCATOR:
        return lrki_allocator_adapters(item->of.allocator);
    case LRK_SECTION_SNAPSHOT:
        return lrki_snapshot_adapters(item->of.snapshot);
    case LRK_SECTION_SCORES:
        return lrki_scores_adapters(item->of.scores);
    default:
        return NULL;
    }
}

/* ---- listing --------------------------------------------------------------------------------------------------------- */

static lrk_status check_name(const lrk_checkpoint *checkpoint, int32_t kind, const char *name)
{
    char title[LRKI_TITLE_MOST];
    if (name == NULL || name[0] == '\0' || strlen(name) > LRKI_NAME_MOST)
        return lrki_fail(checkpoint->context, LRK_ERR_ARGUMENT, "checkpoint: a name has 1 to %d bytes",
                         LRKI_NAME_MOST);
    if (lrki_checkpoint_find(checkpoint, kind, name) == NULL) return LRK_OK;
    return lrki_fail(checkpoint->context, LRK_ERR_ARGUMENT, "checkpoint: %s is listed already",
                     lrki_section_title(kind, name, title));
}

static lrk_status check_item(const lrk_checkpoint *checkpoint, const lrki_item *item)
{
    char title[LRKI_TITLE_MOST];
    const lrk_adapters *set = lrki_item_adapters(item);
    if (set == NULL || lrki_checkpoint_set_of(checkpoint, set) != NULL) return LRK_OK;
    return lrki_fail(checkpoint->context, LRK_ERR_NOT_FOUND, "checkpoint: the set of %s is not listed",
                     lrki_section_title(item->kind, item->name, title));
}

static lrk_status make_room(lrk_checkpoint *checkpoint)
{
    if (checkpoint->n < checkpoint->held) return LRK_OK;
    int64_t more = checkpoint->held == 0 ? FIRST_ITEMS : 2 * checkpoint->held;
    lrki_item *items = lrki_array(checkpoint->context, more, sizeof *items);
    if (items == NULL) return lrki_fail_nomem(checkpoint->context, "a checkpoint");
    for (int64_t i = 0; i < checkpoint->n; i++)
        items[i] = checkpoint->items[i];
    lrki_array_free(checkpoint->context, checkpoint->items, checkpoint->held, sizeof *items);
    checkpoint->items = items;
    checkpoint->held = more;
    return LRK_OK;
}

/* Lists an item whose name is the caller's text. */
static lrk_status add(lrk_checkpoint *checkpoint, lrki_item item)
{
    lrk_status status = check_name(checkpoint, item.kind, item.name);
    if (status == LRK_OK) status = check_item(checkpoint, &item);
    if (status == LRK_OK) status = make_room(checkpoint);
    if (status != LRK_OK) return status;
    item.name = lrki_text_copy(checkpoint->context, item.name);
    if (item.name == NULL) return lrki_fail_nomem(checkpoint->context, "a checkpoint");
    checkpoint->items[checkpoint->n++] = item;
    return LRK_OK;
}

static lrk_status enter_handle(const lrk_checkpoint *checkpoint, const void *handle)
{
    lrk_status status = lrki_checkpoint_enter(checkpoint, "listing in a checkpoint");
    if (status == LRK_OK && handle == NULL)
        status = lrki_fail(checkpoint->context, LRK_ERR_ARGUMENT, "checkpoint: the handle is NULL");
    return status;
}

/* The interface takes names as const; the item's own copy is not. */
static lrki_item item_of(int32_t kind, const char *name)
{
    return (lrki_item){.kind = kind, .name = (char *)name};
}

lrk_status lrk_checkpoint_add_adapters(lrk_checkpoint *checkpoint, const char *name, lrk_adapters *adapters)
{
    lrk_status status = enter_handle(checkpoint, adapters);
    if (status != LRK_OK) return status;
    if (adapters->context != checkpoint->context)
        return lrki_fail(checkpoint->context, LRK_ERR_ARGUMENT, "checkpoint: the set is of another context");
    if (lrki_checkpoint_set_of(checkpoint, adapters) != NULL)
        return lrki_fail(checkpoint->context, LRK_ERR_ARGUMENT, "checkpoint: the set is listed already");
    lrki_item item = item_of(LRK_SECTION_ADAPTERS, name);
    item.of.adapters = adapters;
    status = add(checkpoint, item);
    if (status == LRK_OK) (void)lrki_adapters_ref(adapters);
    return status;
}

lrk_status lrk_checkpoint_add_optimizer(lrk_checkpoint *checkpoint, const char *name,
                                        lrk_optimizer *optimizer)
{
    lrk_status status = enter_handle(checkpoint, optimizer);
    lrki_item item = item_of(LRK_SECTION_OPTIMIZER, name);
    item.of.optimizer = optimizer;
    return status == LRK_OK ? add(checkpoint, item) : status;
}

lrk_status lrk_checkpoint_add_estimator(lrk_checkpoint *checkpoint, const char *name,
                                        lrk_estimator *estimator)
{
    lrk_status status = enter_handle(checkpoint, estimator);
    lrki_item item = item_of(LRK_SECTION_ESTIMATOR, name);
    item.of.estimator = estimator;
    if (status == LRK_OK) status = add(checkpoint, item);
    if (status == LRK_OK) (void)lrki_estimator_ref(estimator);
    return status;
}

lrk_status lrk_checkpoint_add_allocator(lrk_checkpoint *checkpoint, const char *name,
                                        lrk_allocator *allocator)
{
    lrk_status status = enter_handle(checkpoint, allocator);
    lrki_item item = item_of(LRK_SECTION_ALLOCATOR, name);
    item.of.allocator = allocator;
    if (status == LRK_OK) status = add(checkpoint, item);
    if (status == LRK_OK) (void)lrki_allocator_ref(allocator);
    return status;
}

lrk_status lrk_checkpoint_add_schedule(lrk_checkpoint *checkpoint, const char *name, lrk_schedule *schedule)
{
    lrk_status status = enter_handle(checkpoint, schedule);
    if (status == LRK_OK && lrki_schedule_context(schedule) != checkpoint->context)
        status = lrki_fail(checkpoint->context, LRK_ERR_ARGUMENT,
                           "checkpoint: the schedule is of another context");
    lrki_item item = item_of(LRK_SECTION_SCHEDULE, name);
    item.of.schedule = schedule;
    return status == LRK_OK ? add(checkpoint, item) : status;
}

/* ---- what is set ------------------------------------------------------------------------------------------------------- */

static void remove_item(lrk_checkpoint *checkpoint, const lrki_item *item)
{
    int64_t at = item - checkpoint->items;
    drop_item(checkpoint->context, &checkpoint->items[at]);
    memmove(&checkpoint->items[at], &checkpoint->items[at + 1],
            (size_t)(--checkpoint->n - at) * sizeof *checkpoint->items);
}

/* Takes the place of the entry of that name, or the end; an absent one takes the entry out. */
static lrk_status set(lrk_checkpoint *checkpoint, lrki_item item, bool absent)
{
    lrk_status status = lrki_checkpoint_enter(checkpoint, "setting in a checkpoint");
    if (status != LRK_OK) return status;
    const lrki_item *old = item.name != NULL ? lrki_checkpoint_find(checkpoint, item.kind, item.name) : NULL;
    if (absent && old != NULL) remove_item(checkpoint, old);
    if (absent && item.name != NULL) return LRK_OK;
    if (old == NULL) return add(checkpoint, item);
    status = check_item(checkpoint, &item);
    if (status != LRK_OK) return status;
    item.name = old->name;
    checkpoint->items[old - checkpoint->items] = item;
    return LRK_OK;
}

lrk_status lrk_checkpoint_set_blob(lrk_checkpoint *checkpoint, const char *name, const void *data, size_t n)
{
    lrki_item item = item_of(LRK_SECTION_BLOB, name);
    item.of.bytes = data;
    item.n = n;
    return set(checkpoint, item, data == NULL);
}

lrk_status lrk_checkpoint_set_config(lrk_checkpoint *checkpoint, const char *text, size_t n)
{
    lrki_item item = item_of(LRK_SECTION_CONFIG, "configuration");
    item.of.bytes = text;
    item.n = n;
    return set(checkpoint, item, text == NULL);
}

lrk_status lrk_checkpoint_set_snapshot(lrk_checkpoint *checkpoint, const char *name,
                                       const lrk_snapshot *snapshot)
{
    lrki_item item = item_of(LRK_SECTION_SNAPSHOT, name);
    item.of.snapshot = snapshot;
    return set(checkpoint, item, snapshot == NULL);
}

lrk_status lrk_checkpoint_set_scores(lrk_checkpoint *checkpoint, const char *name, const lrk_scores *scores)
{
    lrki_item item = item_of(LRK_SECTION_SCORES, name);
    item.of.scores = scores;
    return set(checkpoint, item, scores == NULL);
}

/* ---- what a restore left ------------------------------------------------------------------------------------------------- */

static lrki_left *find_left(lrk_checkpoint *checkpoint, int32_t kind, const char *name)
{
    for (int64_t i = 0; i < checkpoint->n_left; i++) {
        lrki_left *left = &checkpoint->left[i];
        if (left->kind == kind && left->name != NULL && strcmp(left->name, name) == 0) return left;
    }
    return NULL;
}

/* Finds what is to be taken and takes its name away. */
static lrk_status take(lrk_checkpoint *checkpoint, int32_t kind, const char *name, const void *out,
                       lrki_left **left)
{
    lrk_status status = lrki_checkpoint_enter(checkpoint, "taking from a checkpoint");
    if (status != LRK_OK) return status;
    if (name == NULL || out == NULL)
        return lrki_fail(checkpoint->context, LRK_ERR_ARGUMENT, "checkpoint: name or result is NULL");
    *left = find_left(checkpoint, kind, name);
    if (*left == NULL)
        return lrki_fail(checkpoint->context, LRK_ERR_NOT_FOUND,
                         "checkpoint: nothing restored is %s '%.255s'", titles[kind], name);
    lrki_text_free(checkpoint->context, (*left)->name);
    (*left)->name = NULL;
    return LRK_OK;
}

lrk_status lrk_checkpoint_take_snapshot(lrk_checkpoint *checkpoint, const char *name, lrk_snapshot **snapshot)
{
    lrki_left *left;
    if (snapshot != NULL) *snapshot = NULL;
    lrk_status status = take(checkpoint, LRK_SECTION_SNAPSHOT, name, snapshot, &left);
    if (status != LRK_OK) return status;
    *snapshot = left->snapshot;
    left->snapshot = NULL;
    return LRK_OK;
}

lrk_status lrk_checkpoint_take_scores(lrk_checkpoint *checkpoint, const char *name, lrk_scores **scores)
{
    lrki_left *left;
    if (scores != NULL) *scores = NULL;
    lrk_status status = take(checkpoint, LRK_SECTION_SCORES, name, scores, &left);
    if (status != LRK_OK) return status;
    *scores = left->scores;
    left->scores = NULL;
    return LRK_OK;
}
