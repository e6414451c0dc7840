/* SPDX-License-Identifier: MIT */
/* The members of a checkpoint's sections: numbers of eight bytes, texts with their length, comparisons that say what differs. */
#include "state.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEXT_CHUNK 64

lrk_status lrki_state_fail(lrki_state *state, lrk_status status, const char *format, ...)
{
    if (state->status != LRK_OK) return state->status;
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    state->status = lrki_fail(state->context, status, "%s: %s", state->name, text);
    return state->status;
}

lrk_status lrki_state_fail_nomem(lrki_state *state)
{
    if (state->status == LRK_OK) state->status = lrki_fail_nomem(state->context, state->name);
    return state->status;
}

void lrki_state_bytes(lrki_state *state, void *data, size_t n)
{
    if (state->status == LRK_OK && state->loading) {
        if ((uint64_t)n > (uint64_t)state->left)
            (void)lrki_state_fail(state, LRK_ERR_FORMAT, "the section ends early");
        else
            state->left -= (int64_t)n;
    }
    if (state->status == LRK_OK && n > 0) state->status = state->move(state->user, data, n);
    if (state->status != LRK_OK && state->loading && n > 0) memset(data, 0, n);
}

void lrki_state_put(lrki_state *state, const void *data, size_t n)
{
    lrki_state_bytes(state, (void *)data, n); /* saving only reads */
}

/* ---- numbers --------------------------------------------------------------------------------------------------------- */

void lrki_state_i64(lrki_state *state, int64_t *value)
{
    lrki_state_bytes(state, value, sizeof *value);
}

void lrki_state_u64(lrki_state *state, uint64_t *value)
{
    lrki_state_bytes(state, value, sizeof *value);
}

void lrki_state_f64(lrki_state *state, double *value)
{
    lrki_state_bytes(state, value, sizeof *value);
}

void lrki_state_within(lrki_state *state, const char *what, int64_t *value, int64_t least, int64_t most)
{
    lrki_state_i64(state, value);
    if (!state->loading || state->status != LRK_OK || (*value >= least && *value <= most)) return;
    (void)lrki_state_fail(state, LRK_ERR_FORMAT, "%s is %" PRId64 ", which cannot be", what, *value);
    *value = 0;
}

void lrki_state_flag(lrki_state *state, bool *value)
{
    int64_t number = *value;
    lrki_state_within(state, "a flag", &number, 0, 1);
    *value = number != 0;
}

void lrki_state_count(lrki_state *state, const char *what, int64_t *n, size_t each)
{
    int64_t most = INT64_MAX;
    if (state->loading) most = state->left < 8 || each > INT64_MAX ? 0 : (state->left - 8) / (int64_t)each;
    lrki_state_within(state, what, n, 0, most);
}

/* ---- what must be the same --------------------------------------------------------------------------------------------- */

void lrki_state_same_i64(lrki_state *state, const char *what, int64_t value)
{
    int64_t recorded = value;
    lrki_state_i64(state, &recorded);
    if (state->status == LRK_OK && recorded != value)
        (void)lrki_state_fail(state, LRK_ERR_ARGUMENT,
                              "%s is %" PRId64 " in the checkpoint and %" PRId64 " here", what, recorded,
                              value);
}

void lrki_state_same_u64(lrki_state *state, const char *what, uint64_t value)
{
    uint64_t recorded = value;
    lrki_state_u64(state, &recorded);
    if (state->status == LRK_OK && recorded != value)
        (void)lrki_state_fail(state, LRK_ERR_ARGUMENT,
                              "%s is %" PRIu64 " in the checkpoint and %" PRIu64 " here", what, recorded,
                              value);
}

/* Values that are compared bit by bit: a NaN is the same as itself, and -0 is not 0. */
static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void lrki_state_same_f64(lrki_state *state, const char *what, double value)
{
    double recorded = value;
    lrki_state_f64(state, &recorded);
    if (state->status == LRK_OK && bits_of(recorded) != bits_of(value))
        (void)lrki_state_fail(state, LRK_ERR_ARGUMENT, "%s is %.17g in the checkpoint and %.17g here", what,
                              recorded, value);
}

void lrki_state_same_text(lrki_state *state, const char *what, const char *value)
{
    int64_t length = (int64_t)strlen(value), n = length;
    lrki_state_count(state, what, &n, 1);
    char first[TEXT_CHUNK + 1] = "", chunk[TEXT_CHUNK];
    bool same = n == length;
    for (int64_t at = 0; at < n && state->status == LRK_OK; at += TEXT_CHUNK) {
        size_t here = n - at < TEXT_CHUNK ? (size_t)(n - at) : TEXT_CHUNK;
        if (!state->loading) memcpy(chunk, value + at, here);
        lrki_state_bytes(state, chunk, here);
        if (at == 0) memcpy(first, chunk, here);
        same = same && memcmp(chunk, value + at, here) == 0;
    }
    if (state->status == LRK_OK && !same)
        (void)lrki_state_fail(state, LRK_ERR_ARGUMENT, "%s is '%s' in the checkpoint and '%.64s' here", what,
                              first, value);
}
