/* SPDX-License-Identifier: MIT */
/*
 * Replay (replay.h). For each recorded round the set is given the recorded scores, the policy is asked, its plan is shown and
 * abandoned, and the recorded round itself is carried out as a plan of the same allocator, so that the account and the
 * identities go on as they did then.
 */
#include "lorank/replay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../allocation/allocation.h"
#include "recording.h"

struct lrk_replay {
    lrk_context *context; /* counted by the recording */
    lrki_recording recording;
};

/* ---- life and questions ---------------------------------------------------------------------------------------------- */

/* A replay without a recording; NULL on lack of memory (recorded). */
static lrk_replay *new_replay(lrk_context *context)
{
    lrk_replay *replay = lrki_alloc_zeroed(context, sizeof *replay);
    if (replay == NULL)
        (void)lrki_fail_nomem(context, "a replay");
    else
        replay->context = context;
    return replay;
}

/* Hands over a replay whose recording was read with `status`, or frees it. */
static lrk_status finish(lrk_replay *made, lrk_status status, lrk_replay **replay)
{
    if (status == LRK_OK)
        *replay = made;
    else
        lrki_free(made->context, made, sizeof *made);
    return status;
}

lrk_status lrk_replay_open(lrk_context *context, const char *path, lrk_replay **replay)
{
    if (replay != NULL) *replay = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (replay == NULL || path == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "replay: path and replay must not be NULL");
    lrk_replay *made = new_replay(context);
    if (made == NULL) return LRK_ERR_NOMEM;
    return finish(made, lrki_recording_load(context, path, &made->recording), replay);
}

lrk_status lrk_replay_parse(lrk_context *context, const char *name, const char *text, size_t length,
                            lrk_replay **replay)
{
    if (replay != NULL) *replay = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (replay == NULL || name == NULL || text == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "replay: name, text and replay must not be NULL");
    lrk_replay *made = new_replay(context);
    if (made == NULL) return LRK_ERR_NOMEM;
    return finish(made, lrki_recording_parse(context, name, text, length, &made->recording), replay);
}

void lrk_replay_close(lrk_replay *replay)
{
    if (replay == NULL) return;
    lrki_recording recording = replay->recording;
    lrki_free(replay->context, replay, sizeof *replay);
    lrki_recording_free(&recording);
}

int64_t lrk_replay_rounds(const lrk_replay *replay)
{
    return replay != NULL ? replay->recording.n_rounds : -1;
}

lrk_status lrk_replay_round_get(const lrk_replay *replay, int64_t i, lrk_replay_round *round)
{
    if (replay == NULL) return LRK_ERR_ARGUMENT;
    if (i < 0 || i >= replay->recording.n_rounds)
        return lrki_fail(replay->context, LRK_ERR_ARGUMENT, "the trace has no round %" PRId64, i);
    const lrki_recorded_round *recorded = &replay->recording.rounds[i];
    const lrk_replay_round facts = {.policy = recorded->policy,
                                    .estimator = recorded->estimator,
                                    .round = recorded->number,
                                    .step = recorded->step,
                                    .n_ranks = recorded->facts.n,
                                    .n_dropped = recorded->n_dropped,
                                    .n_added = recorded->n_added,
                                    .dropped_ids = recorded->dropped,
                                    .added_ids = recorded->added,
                                    .module_ranks = recorded->module_ranks,
                                    .cut = recorded->cut,
                                    .cut_next = recorded->cut_next};
    return lrki_struct_write(replay->context, round, &facts, sizeof facts, "lrk_replay_round");
}

/* ---- the set at the start -------------------------------------------------------------------------------------------- */

static int by_number(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Puts the recorded identities and births in place of those that the creation gave. */
static lrk_status take_identities(const lrki_recording *recording, lrk_adapters *adapters)
{
    lrk_context *context = adapters->context;
    uint64_t *all = lrki_array(context, adapters->n_ranks, sizeof *all);
    if (all == NULL) return lrki_fail_nomem(context, "a replay");
    int64_t n = 0;
    for (int64_t m = 0; m < recording->n_modules; m++) {
        const lrki_recorded_module *recorded = &recording->modules[m];
        lrki_bank *bank = &adapters->modules[m].bank;
        for (int64_t j = 0; j < recorded->rank; j++) {
            all[n++] = bank->identities[j] = recorded->identities[j];
            bank->births[j] = recorded->births[j];
        }
    }
    qsort(all, (size_t)n, sizeof *all, by_number);
    lrk_status status = LRK_OK;
    for (int64_t i = 1; i < n && status == LRK_OK; i++)
        if (all[i] == all[i - 1])
            status = lrki_fail(context, LRK_ERR_FORMAT, "%s: identity %" PRIu64 " stands twice at the start",
                               recording->path, all[i]);
    if (n > 0) adapters->next_identity = all[n - 1] + 1;
    lrki_array_free(context, all, adapters->n_ranks, sizeof *all);
    return status;
}

static lrk_status create_set(const lrki_recording *recording, lrk_module_spec *specs, lrk_adapters **adapters)
{
    lrk_adapters_options options;
    (void)lrk_adapters_options_init(&options, sizeof options);
    options.flags = LRK_ADAPTERS_INFERENCE;
    options.init = LRK_INIT_ZERO;
    for (int64_t m = 0; m < recording->n_modules; m++) {
        const lrki_recorded_module *module = &recording->modules[m];
        (void)lrk_module_spec_init(&specs[m], sizeof specs[m]);
        specs[m].name = module->name;
        specs[m].stage = module->stage;
        specs[m].n_in = module->n_in;
        specs[m].n_out = module->n_out;
        specs[m].rank = module->rank;
        specs[m].scale = module->scale;
    }
    return lrk_adapters_create(recording->context, specs, recording->n_modules, &options, adapters);
}

lrk_status lrk_replay_create_adapters(lrk_replay *replay, lrk_adapters **adapters)
{
    if (adapters != NULL) *adapters = NULL;
    if (replay == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = replay->context;
    const lrki_recording *recording = &replay->recording;
    if (adapters == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "replay: adapters must not be NULL");
    if (recording->n_modules == 0)
        return lrki_fail(context, LRK_ERR_FORMAT, "%s: no start event", recording->path);
    lrk_module_spec *specs = lrki_array(context, recording->n_modules, sizeof *specs);
    lrk_adapters *made = NULL;
    lrk_status status =
        specs != NULL ? create_set(recording, specs, &made) : lrki_fail_nomem(context, "a replay");
    if (status == LRK_OK) status = take_identities(recording, made);
    lrki_array_free(context, specs, recording->n_modules, sizeof *specs);
    if (status == LRK_OK)
        *adapters = made;
    else
        lrk_adapters_destroy(made);
    return status;
}

/* ---- one round ------------------------------------------------------------------------------------------------------- */

static lrk_status refuse(const lrki_recording *recording, const lrki_recorded_round *round, const char *what)
{
    lrki_place place = LRKI_NOWHERE;
    place.line = round->line;
    return lrki_fail_at(recording->context, LRK_ERR_FORMAT, place, "%s:%" PRId64 ": %s", recording->path,
                        round->line, what);
}

/* Scores of the set as the trace has them. LRK_ERR_FORMAT if they are of other ranks than it holds. */
static lrk_status recorded_scores(const lrki_recording *recording, const lrki_recorded_round *round,
                                  lrk_adapters *adapters, lrk_scores **scores)
{
    if (round->facts.n != adapters->n_ranks)
        return refuse(recording, round, "its ranks are not those that the rounds before it left");
    lrk_scores *made = lrki_scores_new(adapters, round->estimator);
    if (made == NULL) return LRK_ERR_NOMEM;
    const lrk_scores_info own = made->info;
    made->info = round->facts;
    made->info.struct_size = own.struct_size;
    made->info.estimator = own.estimator;
    made->info.generation = own.generation;
    made->info.values_version = own.values_version;
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < own.n && status == LRK_OK; i++) {
        const lrk_score *row = &round->scores[i];
        const lrk_score *live = &made->scores[i];
        if (row->identity != live->identity || row->module != live->module)
            status = refuse(recording, round, "its ranks are not those that the rounds before it left");
        made->scores[i] = *row;
    }
    if (status == LRK_OK)
        *scores = made;
    else
        lrk_scores_destroy(made);
    return status;
}

/* What the recorded run did, as a policy's answer. False: it does not fit the round. */
static bool recorded_answer(const lrki_recording *recording, const lrki_recorded_round *recorded,
                            uint64_t next_identity, lrki_round *round)
{
    int64_t dropped = 0, last = 0;
    for (int64_t i = 0; i < round->n_ranks && dropped < recorded->n_dropped; i++) {
        if (round->ranks[i].identity != recorded->dropped[dropped]) continue;
        round->drop[i] = 1;
        dropped++;
    }
    for (int64_t i = 0; i < recorded->n_added; i++) {
        if (recorded->added[i] != next_identity + (uint64_t)i || recorded->added_modules[i] < last)
            return false;
        last = recorded->added_modules[i];
        round->add[last]++;
    }
    for (int64_t m = 0; m < round->n_modules; m++) {
        int64_t after = round->slots[m].rank + round->add[m];
        for (int64_t j = 0; j < round->slots[m].rank; j++)
            after -= round->drop[round->slots[m].first + j];
        if (after != recorded->module_ranks[m]) return false;
    }
    return dropped == recorded->n_dropped && recording->n_modules == round->n_modules;
}

/* Carries the recorded round out, on the allocator's account. */
static lrk_status follow(const lrki_recording *recording, const lrki_recorded_round *recorded,
                         lrk_allocator *allocator, const lrk_scores *scores)
{
    lrki_round round = {0};
    lrk_plan *plan = NULL;
    lrk_status status = lrki_round_gather(allocator, scores, &round);
    if (status == LRK_OK && !recorded_answer(recording, recorded, allocator->adapters->next_identity, &round))
        status = refuse(recording, recorded, "what was dropped and added does not fit its ranks");
    if (status == LRK_OK) status = lrki_allocator_follow(allocator, &round, recorded->step, &plan);
    lrki_round_free(allocator, &round);
    if (status != LRK_OK) return status;
    status = lrk_plan_prepare(plan, NULL, 0);
    if (status == LRK_OK)
        (void)lrk_plan_commit(plan);
    else
        (void)lrk_plan_abandon(plan);
    lrk_plan_destroy(plan);
    return status;
}

static lrk_status show(const lrk_round_observer *observer, const lrk_scores *scores, lrk_plan *plan,
                       int64_t i)
{
    lrk_context *context = plan->allocator->adapters->context;
    uint64_t failures = lrki_failures(context);
    int32_t answer = observer->round(observer->user, scores, plan);
    lrk_status status = lrk_plan_abandon(plan);
    if (answer == 0) return status;
    return lrki_fail_callback(context, LRK_ERR_HOST, LRKI_NOWHERE, failures,
                              "the observer of replayed round %" PRId64 " returned %d", i, (int)answer);
}

/* The identities that new ranks get are the recorded ones as far as they go. */
static lrk_status align_identities(const lrki_recording *recording, const lrki_recorded_round *round,
                                   lrk_adapters *adapters)
{
    if (round->n_added == 0) return LRK_OK;
    uint64_t first = round->added[0];
    if (first < adapters->next_identity)
        return refuse(recording, round, "what was dropped and added does not fit its ranks");
    adapters->next_identity = first;
    return LRK_OK;
}

static lrk_status replay_round(const lrki_recording *recording, int64_t i, lrk_allocator *allocator,
                               const lrk_round_observer *observer)
{
    const lrki_recorded_round *recorded = &recording->rounds[i];
    lrk_scores *scores = NULL;
    lrk_plan *plan = NULL;
    lrk_status status = recorded_scores(recording, recorded, allocator->adapters, &scores);
    if (status != LRK_OK) return status;
    status = align_identities(recording, recorded, allocator->adapters);
    if (status == LRK_OK) status = lrk_allocator_plan(allocator, scores, recorded->step, &plan);
    if (status == LRK_OK) {
        status = show(observer, scores, plan, i);
        lrk_plan_destroy(plan);
    }
    if (status == LRK_OK) status = follow(recording, recorded, allocator, scores);
    lrk_scores_destroy(scores);
    return status;
}

/* ---- all rounds ------------------------------------------------------------------------------------------------------ */

static lrk_status check_start(const lrki_recording *recording, const lrk_adapters *adapters)
{
    bool same = adapters->n_modules == recording->n_modules;
    for (int64_t m = 0; m < adapters->n_modules && same; m++) {
        const lrki_module *module = &adapters->modules[m];
        const lrki_recorded_module *recorded = &recording->modules[m];
        same = strcmp(module->name, recorded->name) == 0 && module->bank.rank == recorded->rank &&
               (recorded->rank == 0 || memcmp(module->bank.identities, recorded->identities,
                                              (size_t)recorded->rank * sizeof(uint64_t)) == 0);
    }
    if (same) return LRK_OK;
    return lrki_fail(recording->context, LRK_ERR_STATE,
                     "replay: the set is not in the state at the start of the trace");
}

lrk_status lrk_replay_run(lrk_replay *replay, lrk_allocator *allocator, const lrk_round_observer *observer)
{
    if (replay == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = replay->context;
    lrk_round_observer known = {0};
    if (allocator == NULL || observer == NULL || allocator->adapters->context != context)
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "replay: allocator and observer must be given, and be of its context");
    lrk_status status = lrki_struct_read(context, &known, sizeof known, observer, 8, "round observer");
    if (status == LRK_OK && (known.flags != 0 || known.round == NULL))
        status = lrki_fail(context, LRK_ERR_ARGUMENT, "round observer: no round() or unknown flags");
    if (status == LRK_OK) status = check_start(&replay->recording, allocator->adapters);
    for (int64_t i = 0; i < replay->recording.n_rounds && status == LRK_OK; i++)
        status = replay_round(&replay->recording, i, allocator, &known);
    return status;
}
