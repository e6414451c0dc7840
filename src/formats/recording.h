/* SPDX-License-Identifier: MIT */
/*
 * A recording: what a trace (docs/trace.md) says, read back. Every line is checked against the page by itself; whether
 * rounds follow from each other is for the reader of the recording to ask.
 */
#ifndef LRKI_RECORDING_H
#define LRKI_RECORDING_H

#include "json.h"
#include "lorank/importance.h"

typedef struct lrki_recorded_module {
    char *name;
    int32_t stage;
    int64_t n_in;
    int64_t n_out;
    int64_t rank; /* at the start */
    double scale;
    uint64_t *identities; /* [rank] */
    int64_t *births;      /* [rank] */
} lrki_recorded_module;

typedef struct lrki_recorded_round {
    int64_t line; /* of the file */
    int64_t number;
    int64_t step;
    char *policy;
    char *estimator;
    lrk_scores_info facts; /* what the trace has of it; n is the number of scores */
    lrk_score *scores;     /* [facts.n] in the set's order, index counted by module */
    double cut;
    double cut_next;
    int64_t n_dropped;
    uint64_t *dropped; /* [n_dropped] */
    int64_t n_added;
    uint64_t *added;        /* [n_added]            */
    int64_t *added_modules; /* [n_added]            */
    int64_t *module_ranks;  /* [n_modules] after it */
} lrki_recorded_round;

typedef struct lrki_recording {
    lrk_context *context; /* counted */
    char *path;
    char *label; /* NULL: none */
    int64_t n_modules;
    lrki_recorded_module *modules;
    int64_t n_rounds;
    lrki_recorded_round *rounds; /* [rounds_held] */
    int64_t rounds_held;
    bool ended;
    int64_t *final_ranks; /* [n_modules]: of the end event, else after the last round, else at the start */
} lrki_recording;

/*
 * Reads a trace from a file, or from n bytes (path is for details then). LRK_ERR_FORMAT with path, line and field;
 * LRK_ERR_NOT_FOUND, LRK_ERR_IO, LRK_ERR_NOMEM. On failure nothing is held.
 */
lrk_status lrki_recording_load(lrk_context *context, const char *path, lrki_recording *recording);
lrk_status lrki_recording_parse(lrk_context *context, const char *path, const char *text, size_t n,
                                lrki_recording *recording);
void lrki_recording_free(lrki_recording *recording); /* also of a zeroed one */

#endif
