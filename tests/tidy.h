/* SPDX-License-Identifier: MIT */
/*
 * For clang-tidy alone, which sees one file at a time: what src/core promises. Without it every "NULL is a failure" would
 * be followed further as a success. Not for src/core, which defines these.
 */
#include "core/core.h"
#include "core/state.h"
#include "core/workers.h"

/* Recording a failure never returns LRK_OK. */
#define lrki_fail(context, status, ...)    ((void)lrki_fail(context, status, __VA_ARGS__), (status))
#define lrki_fail_at(context, status, ...) ((void)lrki_fail_at(context, status, __VA_ARGS__), (status))
#define lrki_fail_nomem(context, what)     ((void)lrki_fail_nomem(context, what), LRK_ERR_NOMEM)

/* Nor does it leave a state without one. */
static inline lrk_status tidy_failed(const lrki_state *state)
{
    __builtin_assume(state->status != LRK_OK);
    return state->status;
}
#define lrki_state_fail(state, ...)  ((void)lrki_state_fail(state, __VA_ARGS__), tidy_failed(state))
#define lrki_state_fail_nomem(state) ((void)lrki_state_fail_nomem(state), tidy_failed(state))

/* A worker's own failure stays one, whatever the others say. */
static inline lrk_status tidy_talk_agree(lrki_talk *talk, const char *place, lrk_status own,
                                         const lrki_claim *claims, int32_t n_claims)
{
    lrk_status status = lrki_talk_agree(talk, place, own, claims, n_claims);
    return own != LRK_OK ? own : status;
}
#define lrki_talk_agree tidy_talk_agree

static inline lrk_status tidy_talk_end(lrki_talk *talk, const char *place, lrk_status own,
                                       const lrki_claim *claims, int32_t n_claims)
{
    lrk_status status = lrki_talk_end(talk, place, own, claims, n_claims);
    return own != LRK_OK ? own : status;
}
#define lrki_talk_end tidy_talk_end
