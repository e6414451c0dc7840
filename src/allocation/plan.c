/* SPDX-License-Identifier: MIT */
/*
 * A plan: the checked answer of a policy, fixed as kept and dropped indices, dropped identities, and identities of the
 * ranks to come (from the set's next one on, in module order). It is immutable but for its state; the transaction
 * changes that. Everything a reader may ask is worked out here, so that reading stays legal after the commit.
 */
#include <math.h>
#include <string.h>

#include "allocation.h"

/* ---- life ---------------------------------------------------------------------------------------------------------- */

static lrk_context *context_of(const lrk_plan *plan)
{
    return plan->allocator->adapters->context;
}

const lrk_adapters *lrki_plan_adapters(const lrk_plan *plan)
{
    return plan->allocator->adapters;
}

void lrki_plan_free(lrk_plan *plan)
{
    lrk_context *context = context_of(plan);
    lrk_allocator *allocator = plan->allocator;
    lrki_array_free(context, plan->parts, plan->n_modules, sizeof *plan->parts);
    lrki_array_free(context, plan->change_parts, plan->n_modules, sizeof *plan->change_parts);
    lrki_array_free(context, plan->index_pool, plan->ranks_before, sizeof *plan->index_pool);
    lrki_array_free(context, plan->identity_pool, plan->n_dropped + plan->n_added,
                    sizeof *plan->identity_pool);
    lrki_array_free(context, plan->silenced, plan->ranks_before, sizeof *plan->silenced);
    lrki_array_free(context, plan->rows, plan->n_rows, sizeof *plan->rows);
    lrki_array_free(context, plan->rows_b, plan->n_rows_b, sizeof *plan->rows_b);
    lrki_free(context, plan, sizeof *plan);
    lrki_allocator_unref(allocator);
}

/* Counts of every module; the pools are sized by their sums, which the budget keeps from overflowing. */
static void count_parts(lrk_plan *plan, const lrki_round *round)
{
    for (int64_t i = 0; i < plan->n_modules; i++) {
        const lrki_slot *slot = &round->slots[i];
        lrki_part *part = &plan->parts[i];
        for (int64_t j = 0; j < slot->rank; j++)
            part->n_dropped += round->drop[slot->first + j] != 0;
        part->n_kept = slot->rank - part->n_dropped;
        part->n_added = round->add[i];
        plan->n_dropped += part->n_dropped;
        plan->n_added += part->n_added;
    }
}

/* The marks of protection grow here, where failing is still allowed; a mark counts once its plan is committed. */
static lrk_status reserve_mark(lrk_allocator *allocator)
{
    lrk_context *context = allocator->adapters->context;
    if (allocator->protect_rounds == 0) return LRK_OK;
    int64_t n = (int64_t)allocator->round + 1;
    if (n > allocator->marks_held) {
        uint64_t *marks = lrki_array(context, 2 * n, sizeof *marks);
        if (marks == NULL) return lrki_fail_nomem(context, "a plan");
        for (int64_t i = 0; i < allocator->marks_held; i++)
            marks[i] = allocator->marks[i];
        lrki_array_free(context, allocator->marks, allocator->marks_held, sizeof *marks);
        allocator->marks = marks;
        allocator->marks_held = 2 * n;
    }
    allocator->marks[allocator->round] = allocator->adapters->next_identity;
    return LRK_OK;
}

static lrk_status take_memory(lrk_plan *plan, const lrki_round *round)
{
    lrk_context *context = context_of(plan);
    plan->parts = lrki_array(context, plan->n_modules, sizeof *plan->parts);
    plan->change_parts = lrki_array(context, plan->n_modules, sizeof *plan->change_parts);
    if (!plan->parts || !plan->change_parts) return lrki_fail_nomem(context, "a plan");
    count_parts(plan, round);
    plan->index_pool = lrki_array(context, plan->ranks_before, sizeof *plan->index_pool);
    plan->identity_pool = lrki_array(context, plan->n_dropped + plan->n_added, sizeof *plan->identity_pool);
    plan->silenced = lrki_array(context, plan->ranks_before, sizeof *plan->silenced);
    if (!plan->index_pool || !plan->identity_pool || !plan->silenced)
        return lrki_fail_nomem(context, "a plan");
    return reserve_mark(plan->allocator);
}

/* ---- content --------------------------------------------------------------------------------------------------------- */

static void fill_part(lrki_part *part, const lrki_round *round, const lrki_slot *slot,
                      const uint64_t *identities, uint64_t first_new)
{
    int64_t kept = 0;
    int64_t dropped = 0;
    for (int64_t j = 0; j < slot->rank; j++) {
        if (round->drop[slot->first + j] == 0) {
            part->kept[kept++] = j;
            continue;
        }
        part->dropped[dropped] = j;
        part->dropped_ids[dropped++] = identities[j];
    }
    for (int64_t j = 0; j < part->n_added; j++)
        part->added_ids[j] = first_new + (uint64_t)j;
}

static void fill_parts(lrk_plan *plan, const lrki_round *round)
{
    int64_t *indices = plan->index_pool;
    uint64_t *identities = plan->identity_pool;
    uint64_t next = plan->allocator->adapters->next_identity;
    const lrki_module *modules = plan->allocator->adapters->modules;
    for (int64_t i = 0; i < plan->n_modules; i++) {
        lrki_part *part = &plan->parts[i];
        part->kept = indices;
        part->dropped = indices + part->n_kept;
        part->dropped_ids = identities;
        part->added_ids = identities + part->n_dropped;
        fill_part(part, round, &round->slots[i], modules[i].bank.identities, next);
        indices += part->n_kept + part->n_dropped;
        identities += part->n_dropped + part->n_added;
        next += (uint64_t)part->n_added;
        plan->change_parts[i] =
            (lrki_module_change){part->n_kept, part->kept, part->n_added, part->added_ids, NULL, NULL};
    }
}

static void fill_silenced(lrk_plan *plan, const lrki_round *round)
{
    for (int64_t i = 0; round->silence != NULL && i < round->n_ranks; i++) {
        plan->silenced[i] = round->silence[i] != 0 && round->drop[i] == 0;
        plan->n_silenced += plan->silenced[i];
    }
}

/* A module whose rank changes gets a new block; one whose rank stays is compacted in place. */
static int64_t rows_moved(const lrki_part *part)
{
    if (part->n_dropped != part->n_added) return part->n_kept;
    int64_t moved = 0;
    for (int64_t i = 0; i < part->n_kept; i++)
        moved += part->kept[i] != i;
    return moved;
}

static void sum_totals(lrk_plan *plan)
{
    const lrki_module *modules = plan->allocator->adapters->modules;
    for (int64_t i = 0; i < plan->n_modules; i++) {
        const lrki_part *part = &plan->parts[i];
        int64_t width = modules[i].n_in + modules[i].n_out;
        plan->parameters_before += (part->n_kept + part->n_dropped) * width;
        plan->parameters_after += (part->n_kept + part->n_added) * width;
        if (part->n_dropped == 0 && part->n_added == 0) continue;
        plan->modules_changed++;
        plan->bytes_moved += rows_moved(part) * (width + 1) * (int64_t)sizeof(float); /* and the gate */
    }
}

static void find_cut(lrk_plan *plan, const lrki_round *round)
{
    plan->cut = NAN;
    plan->cut_next = NAN;
    if (round->ranks == NULL) return;
    for (int64_t i = 0; i < round->n_ranks; i++) {
        const lrk_score *rank = &round->ranks[i];
        bool at_floor = plan->parts[rank->module].n_kept <= round->slots[rank->module].floor;
        if (round->drop[i] != 0 || plan->silenced[i] != 0)
            plan->cut = fmax(plan->cut, rank->score); /* fmax and fmin pass over a NaN */
        else if (!at_floor && rank->identity < round->newborn_first)
            plan->cut_next = fmin(plan->cut_next, rank->score);
    }
}

/* FNV-1a over the bytes of a number, lowest first whatever the machine's order. */
static uint64_t digest_word(uint64_t digest, uint64_t word)
{
    for (int byte = 0; byte < 8; byte++)
        digest = (digest ^ (word >> (8 * byte) & 0xff)) * 0x100000001b3u;
    return digest;
}

static uint64_t digest_of(const lrk_plan *plan)
{
    uint64_t digest = digest_word(0xcbf29ce484222325u, (uint64_t)plan->n_modules);
    for (int64_t i = 0; i < plan->n_modules; i++) {
        const lrki_part *part = &plan->parts[i];
        digest = digest_word(digest, (uint64_t)part->n_kept);
        for (int64_t j = 0; j < part->n_kept; j++)
            digest = digest_word(digest, (uint64_t)part->kept[j]);
        digest = digest_word(digest, (uint64_t)part->n_dropped);
        for (int64_t j = 0; j < part->n_dropped; j++)
            digest = digest_word(digest, part->dropped_ids[j]);
        digest = digest_word(digest, (uint64_t)part->n_added);
        for (int64_t j = 0; j < part->n_added; j++)
            digest = digest_word(digest, part->added_ids[j]);
    }
    for (int64_t i = 0; plan->n_silenced > 0 && i < plan->ranks_before; i++)
        digest = digest_word(digest, plan->silenced[i]);
    return digest;
}

lrk_status lrki_plan_create(lrk_allocator *allocator, const lrki_round *round, int64_t step, lrk_plan **out)
{
    const lrk_adapters *adapters = allocator->adapters;
    lrk_plan *plan = lrki_alloc_zeroed(adapters->context, sizeof *plan);
    if (plan == NULL) return lrki_fail_nomem(adapters->context, "a plan");
    plan->allocator = lrki_allocator_ref(allocator);
    plan->round = round->number;
    plan->step = step;
    const lrk_scores *scores = round->scores; /* what was scored counts, not what is there by now */
    plan->generation = scores != NULL ? scores->info.generation : adapters->generation;
    plan->values_version = scores != NULL ? scores->info.values_version : adapters->values_version;
    plan->n_modules = round->n_modules;
    plan->ranks_before = round->n_ranks;
    lrk_status status = take_memory(plan, round);
    if (status != LRK_OK) {
        lrki_plan_free(plan);
        return status;
    }
    fill_parts(plan, round);
    fill_silenced(plan, round);
    sum_totals(plan);
    find_cut(plan, round);
    plan->digest = digest_of(plan);
    *out = plan;
    return LRK_OK;
}

float *lrki_plan_rows(lrk_plan *plan)
{
    const lrk_adapters *adapters = plan->allocator->adapters;
    int64_t n = 0, at = 0;
    for (int64_t i = 0; i < plan->n_modules; i++)
        n += plan->parts[i].n_added * adapters->modules[i].n_in; /* fits: the plan keeps to a budget */
    plan->rows = lrki_array(adapters->context, n, sizeof *plan->rows);
    if (plan->rows == NULL) {
        (void)lrki_fail_nomem(adapters->context, "the rows of a plan");
        return NULL;
    }
    plan->n_rows = n;
    for (int64_t i = 0; i < plan->n_modules; i++) {
        plan->change_parts[i].added_a = plan->rows + at;
        at += plan->parts[i].n_added * adapters->modules[i].n_in;
    }
    return plan->rows;
}

float *lrki_plan_rows_b(lrk_plan *plan)
{
    const lrk_adapters *adapters = plan->allocator->adapters;
    int64_t n = 0, at = 0;
    for (int64_t i = 0; i < plan->n_modules; i++)
        n += plan->parts[i].n_added * adapters->modules[i].n_out;
    plan->rows_b = lrki_array(adapters->context, n, sizeof *plan->rows_b);
    if (plan->rows_b == NULL) {
        (void)lrki_fail_nomem(adapters->context, "the rows of a plan");
        return NULL;
    }
    plan->n_rows_b = n;
    for (int64_t i = 0; i < plan->n_modules; i++) {
        plan->change_parts[i].added_b = plan->rows_b + at;
        at += plan->parts[i].n_added * adapters->modules[i].n_out;
    }
    return plan->rows_b;
}

static uint64_t digest_floats(uint64_t digest, const float *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        digest = digest_word(digest, bits);
    }
    return digest;
}

void lrki_plan_seal(lrk_plan *plan)
{
    plan->digest = digest_floats(plan->digest, plan->rows, plan->n_rows);
    plan->digest = digest_floats(plan->digest, plan->rows_b, plan->n_rows_b);
}

lrk_status lrki_plan_agree(lrk_context *context, const char *call, lrk_status own, const lrki_claim *made_of,
                           lrk_plan **plan)
{
    lrki_talk talk = lrki_talk_begin(context, call);
    lrki_claim claims[LRKI_CLAIMS] = {{"the round", 0}, {"the step", 0}};
    int32_t n = 2;
    if (made_of != NULL) claims[n++] = *made_of;
    claims[n++] = (lrki_claim){"the plan", 0};
    if (own == LRK_OK) {
        claims[0].value = (*plan)->round;
        claims[1].value = (uint64_t)(*plan)->step;
        claims[n - 1].value = (*plan)->digest;
    }
    lrk_status status = lrki_talk_end(&talk, "its end", own, claims, n);
    if (own == LRK_OK && status != LRK_OK) {
        lrki_plan_free(*plan);
        *plan = NULL;
    }
    return status;
}

/* ---- questions --------------------------------------------------------------------------------------------------------- */

lrk_status lrk_plan_info_get(const lrk_plan *plan, lrk_plan_info *info)
{
    if (plan == NULL) return LRK_ERR_ARGUMENT;
    const lrk_plan_info facts = {.policy = plan->allocator->name,
                                 .round = plan->round,
                                 .step = plan->step,
                                 .n_dropped = plan->n_dropped,
                                 .n_added = plan->n_added,
                                 .modules_changed = plan->modules_changed,
                                 .ranks_before = plan->ranks_before,
                                 .ranks_after = plan->ranks_before - plan->n_dropped + plan->n_added,
                                 .parameters_before = plan->parameters_before,
                                 .parameters_after = plan->parameters_after,
                                 .cut = plan->cut,
                                 .cut_next = plan->cut_next,
                                 .bytes_moved = plan->bytes_moved,
                                 .state = plan->state,
                                 .n_silenced = plan->n_silenced};
    return lrki_struct_write(context_of(plan), info, &facts, sizeof facts, "lrk_plan_info");
}

lrk_status lrk_plan_module_get(const lrk_plan *plan, int32_t module, lrk_plan_module *out)
{
    if (plan == NULL) return LRK_ERR_ARGUMENT;
    if (module < 0 || module >= plan->n_modules)
        return lrki_fail(context_of(plan), LRK_ERR_ARGUMENT, "the plan has no module %d", (int)module);
    const lrki_part *part = &plan->parts[module];
    const lrk_plan_module facts = {.rank_before = part->n_kept + part->n_dropped,
                                   .rank_after = part->n_kept + part->n_added,
                                   .n_kept = part->n_kept,
                                   .n_dropped = part->n_dropped,
                                   .n_added = part->n_added,
                                   .kept = part->kept,
                                   .dropped = part->dropped,
                                   .dropped_ids = part->dropped_ids,
                                   .added_ids = part->added_ids};
    return lrki_struct_write(context_of(plan), out, &facts, sizeof facts, "lrk_plan_module");
}

lrk_status lrk_plan_digest(const lrk_plan *plan, uint64_t *digest)
{
    if (plan == NULL) return LRK_ERR_ARGUMENT;
    if (digest == NULL) return lrki_fail(context_of(plan), LRK_ERR_ARGUMENT, "digest must not be NULL");
    *digest = plan->digest;
    return LRK_OK;
}
