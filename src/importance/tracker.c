/* SPDX-License-Identifier: MIT */
/*
 * What estimators that observe keep of every rank. Records follow ranks by identity, and are compared with the set
 * whenever they are used, so that no plan, snapshot or checkpoint has to tell of a change. Invariant: the records of a
 * module are whole, in the order of the ranks that it had when it was last followed.
 */
#include <string.h>

#include "importance.h"

int64_t lrki_tracker_width(const lrki_tracker *tracker, const lrki_module *module)
{
    return tracker->per_element * (module->n_in + module->n_out + 1) + tracker->per_rank;
}

static void free_tracked(lrk_context *context, lrki_tracked *tracked, int64_t width)
{
    lrki_array_free(context, tracked->identities, tracked->rank, sizeof *tracked->identities);
    lrki_array_free(context, tracked->counts, tracked->rank, sizeof *tracked->counts);
    lrki_array_free(context, tracked->sums, tracked->rank, sizeof *tracked->sums);
    lrki_array_free(context, tracked->rows, tracked->rank * width, sizeof *tracked->rows);
    *tracked = (lrki_tracked){0};
}

/* Zeroed records; false on lack of memory, with nothing held. */
static bool make_tracked(lrk_context *context, int64_t rank, int64_t width, lrki_tracked *tracked)
{
    *tracked = (lrki_tracked){.rank = rank};
    tracked->identities = lrki_array(context, rank, sizeof *tracked->identities);
    tracked->counts = lrki_array(context, rank, sizeof *tracked->counts);
    tracked->sums = lrki_array(context, rank, sizeof *tracked->sums);
    if (width > 0) tracked->rows = lrki_array(context, rank * width, sizeof *tracked->rows);
    bool made = tracked->identities != NULL && tracked->counts != NULL && tracked->sums != NULL &&
                (width == 0 || tracked->rows != NULL);
    if (!made) free_tracked(context, tracked, width);
    return made;
}

static void free_modules(lrk_adapters *adapters, const lrki_tracker *tracker, lrki_tracked *modules)
{
    if (modules == NULL) return;
    for (int64_t m = 0; m < adapters->n_modules; m++)
        free_tracked(adapters->context, &modules[m], lrki_tracker_width(tracker, &adapters->modules[m]));
    lrki_array_free(adapters->context, modules, adapters->n_modules, sizeof *modules);
}

void lrki_tracker_free(lrk_adapters *adapters, lrki_tracker *tracker)
{
    free_modules(adapters, tracker, tracker->modules);
    tracker->modules = NULL;
}

/* ---- following --------------------------------------------------------------------------------------- */

static bool fits(const lrki_tracked *tracked, const lrki_bank *bank)
{
    return tracked->identities != NULL && tracked->rank == bank->rank &&
           (bank->rank == 0 || memcmp(tracked->identities, bank->identities,
                                      (size_t)bank->rank * sizeof *bank->identities) == 0);
}

static bool all_fit(const lrk_adapters *adapters, const lrki_tracker *tracker)
{
    for (int64_t m = 0; m < adapters->n_modules; m++)
        if (!fits(&tracker->modules[m], &adapters->modules[m].bank)) return false;
    return true;
}

/* Records of ranks that are known go over; kept ranks mostly stand in the same order, so the search goes round. */
static void take_over(const lrki_tracked *from, int64_t width, lrki_tracked *to)
{
    int64_t at = 0;
    for (int64_t i = 0; i < to->rank; i++) {
        int64_t tried = 0;
        while (tried < from->rank && from->identities[at] != to->identities[i]) {
            at = at + 1 < from->rank ? at + 1 : 0;
            tried++;
        }
        if (tried == from->rank) continue;
        to->counts[i] = from->counts[at];
        to->sums[i] = from->sums[at];
        if (width > 0)
            memcpy(to->rows + i * width, from->rows + at * width, (size_t)width * sizeof *to->rows);
    }
}

/* Makes the records of a module anew, from the present ones if it has any. */
static bool renew(const lrk_adapters *adapters, const lrki_tracker *tracker, int64_t m, lrki_tracked *made)
{
    const lrki_module *module = &adapters->modules[m];
    int64_t width = lrki_tracker_width(tracker, module);
    if (!make_tracked(adapters->context, module->bank.rank, width, made)) return false;
    if (made->rank > 0)
        memcpy(made->identities, module->bank.identities, (size_t)made->rank * sizeof *made->identities);
    if (tracker->modules != NULL) take_over(&tracker->modules[m], width, made);
    return true;
}

lrk_status lrki_tracker_follow(lrk_adapters *adapters, lrki_tracker *tracker)
{
    if (tracker->modules != NULL && all_fit(adapters, tracker)) return LRK_OK;
    lrk_context *context = adapters->context;
    int64_t n = adapters->n_modules;
    lrki_tracked *next = lrki_array(context, n, sizeof *next);
    bool made = next != NULL;
    for (int64_t m = 0; m < n && made; m++)
        if (tracker->modules == NULL || !fits(&tracker->modules[m], &adapters->modules[m].bank))
            made = renew(adapters, tracker, m, &next[m]);
    if (!made) {
        free_modules(adapters, tracker, next);
        return lrki_fail_nomem(context, "what an estimator observes");
    }
    for (int64_t m = 0; m < n && tracker->modules != NULL; m++) {
        if (next[m].identities != NULL) continue;
        next[m] = tracker->modules[m];
        tracker->modules[m] = (lrki_tracked){0};
    }
    lrki_tracker_free(adapters, tracker);
    tracker->modules = next;
    return LRK_OK;
}

void lrki_tracker_restart(const lrk_adapters *adapters, lrki_tracker *tracker)
{
    for (int64_t m = 0; m < adapters->n_modules; m++)
        for (int64_t i = 0; i < tracker->modules[m].rank; i++) {
            tracker->modules[m].counts[i] = 0;
            tracker->modules[m].sums[i] = 0;
        }
}

lrk_status lrki_tracker_check_seen(const lrk_adapters *adapters, const lrki_tracker *tracker,
                                   const char *what)
{
    bool seen = adapters->n_ranks == 0;
    for (int64_t m = 0; m < adapters->n_modules && !seen; m++)
        for (int64_t i = 0; i < tracker->modules[m].rank && !seen; i++)
            seen = tracker->modules[m].counts[i] > 0;
    if (seen) return LRK_OK;
    return lrki_fail(adapters->context, LRK_ERR_STATE,
                     "%s estimator: no gradient of a live rank was observed yet", what);
}

double lrki_mask_gradient(const lrki_module *module, int64_t i)
{
    const float *a = module->bank.a + i * module->n_in, *d = module->bank.grad_a + i * module->n_in;
    double sum = 0;
    for (int64_t j = 0; j < module->n_in; j++)
        sum += (double)a[j] * (double)d[j];
    return sum;
}

/* ---- in checkpoints ---------------------------------------------------------------------------------- */

static void move_records(lrki_state *state, lrki_tracked *tracked, int64_t width)
{
    size_t n = (size_t)tracked->rank;
    lrki_state_bytes(state, tracked->identities, n * sizeof *tracked->identities);
    lrki_state_bytes(state, tracked->counts, n * sizeof *tracked->counts);
    lrki_state_bytes(state, tracked->sums, n * sizeof *tracked->sums);
    if (width > 0) lrki_state_bytes(state, tracked->rows, n * (size_t)width * sizeof *tracked->rows);
}

void lrki_tracker_save(lrk_adapters *adapters, const lrki_tracker *tracker, lrki_state *state)
{
    for (int64_t m = 0; m < adapters->n_modules; m++) {
        lrki_tracked tracked = {0}; /* saving only reads */
        if (tracker->modules != NULL) tracked = tracker->modules[m];
        lrki_state_count(state, "ranks observed", &tracked.rank, sizeof *tracked.identities);
        move_records(state, &tracked, lrki_tracker_width(tracker, &adapters->modules[m]));
    }
}

static void load_module(lrk_adapters *adapters, lrki_tracker *made, int64_t m, lrki_state *state)
{
    int64_t rank = 0, width = lrki_tracker_width(made, &adapters->modules[m]);
    lrki_tracked *tracked = &made->modules[m];
    size_t each = sizeof *tracked->identities + sizeof *tracked->counts + sizeof *tracked->sums +
                  (size_t)width * sizeof *tracked->rows;
    lrki_state_count(state, "ranks observed", &rank, each);
    if (state->status != LRK_OK) return;
    if (!make_tracked(adapters->context, rank, width, tracked)) {
        (void)lrki_state_fail_nomem(state);
        return;
    }
    move_records(state, tracked, width);
    for (int64_t i = 0; i < rank && state->status == LRK_OK; i++)
        if (tracked->counts[i] < 0 || tracked->counts[i] > INT64_MAX / 2)
            (void)lrki_state_fail(state, LRK_ERR_FORMAT, "a rank was observed %lld times",
                                  (long long)tracked->counts[i]);
}

lrk_status lrki_tracker_load(lrk_adapters *adapters, const lrki_tracker *like, lrki_state *state,
                             lrki_tracker **loaded)
{
    lrk_context *context = adapters->context;
    lrki_tracker *made = lrki_alloc_zeroed(context, sizeof *made);
    *loaded = NULL;
    if (made == NULL) return lrki_state_fail_nomem(state);
    made->per_element = like->per_element;
    made->per_rank = like->per_rank;
    made->modules = lrki_array(context, adapters->n_modules, sizeof *made->modules);
    if (made->modules == NULL) (void)lrki_state_fail_nomem(state);
    for (int64_t m = 0; m < adapters->n_modules && state->status == LRK_OK; m++)
        load_module(adapters, made, m, state);
    if (state->status != LRK_OK) {
        lrki_tracker_drop(adapters, made);
        return state->status;
    }
    *loaded = made;
    return LRK_OK;
}

void lrki_tracker_adopt(lrk_adapters *adapters, lrki_tracker *tracker, lrki_tracker *loaded)
{
    lrki_tracker_free(adapters, tracker);
    if (loaded == NULL) return;
    tracker->modules = loaded->modules;
    lrki_free(adapters->context, loaded, sizeof *loaded);
}

void lrki_tracker_drop(lrk_adapters *adapters, lrki_tracker *loaded)
{
    lrki_tracker_free(adapters, loaded);
    lrki_free(adapters->context, loaded, sizeof *loaded);
}
