/* SPDX-License-Identifier: MIT */
/*
 * State: what a layer keeps of its objects in a checkpoint, member after member. One walk over the members both saves and
 * loads, so that the two cannot differ; where the bytes go and come from is decided in formats/.
 *     lrki_state_xxx()       saving: writes the value;  loading: fills it
 *     lrki_state_same_xxx()  saving: writes the value;  loading: it must be the one recorded, else LRK_ERR_ARGUMENT
 * A failure sticks in `status`: what follows moves no bytes, and values that should be filled become 0. Nothing that was
 * loaded is trusted: layers check ranges and counts, and put their objects together aside before anything is taken over.
 */
#ifndef LRKI_STATE_H
#define LRKI_STATE_H

#include "core.h"

typedef struct lrki_state {
    lrk_context *context;
    const char *name; /* of the section, for details: "optimizer 'main'" */
    bool loading;
    lrk_status status;
    int64_t left; /* loading: bytes of the section that are still to come */
    void *user;
    lrk_status (*move)(void *user, void *data, size_t n); /* out of data when saving, into it when loading */
} lrki_state;

void lrki_state_bytes(lrki_state *state, void *data, size_t n);
/* Saving only. */
void lrki_state_put(lrki_state *state, const void *data, size_t n);

void lrki_state_i64(lrki_state *state, int64_t *value);
void lrki_state_u64(lrki_state *state, uint64_t *value);
void lrki_state_f64(lrki_state *state, double *value);
void lrki_state_flag(lrki_state *state, bool *value);

/* A number that loading finds outside least..most is LRK_ERR_FORMAT; it becomes 0. */
void lrki_state_within(lrki_state *state, const char *what, int64_t *value, int64_t least, int64_t most);
/* The number of elements that follow, `each` >= 1 bytes apiece: loading allows no more than the section still holds. */
void lrki_state_count(lrki_state *state, const char *what, int64_t *n, size_t each);

void lrki_state_same_i64(lrki_state *state, const char *what, int64_t value);
void lrki_state_same_u64(lrki_state *state, const char *what, uint64_t value);
void lrki_state_same_f64(lrki_state *state, const char *what, double value);
void lrki_state_same_text(lrki_state *state, const char *what, const char *value);

/* "<section>: <sentence>" as the state's failure, unless there is one already; returns state->status. */
lrk_status lrki_state_fail(lrki_state *state, lrk_status status, const char *format, ...) LRKI_PRINTF(3, 4);
/* The same on lack of memory. */
lrk_status lrki_state_fail_nomem(lrki_state *state);

#endif
