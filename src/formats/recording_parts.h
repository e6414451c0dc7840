/* SPDX-License-Identifier: MIT */
/*
 * Recordings, between their files: the fields of a line (recording_fields.c), a round (recording_round.c), the whole
 * (recording.c).
 */
#ifndef LRKI_RECORDING_PARTS_H
#define LRKI_RECORDING_PARTS_H

#include "recording.h"

#define LRKI_RECORDED_MOST INT64_C(1000000000000) /* of counts, ranks and steps: sums of them must fit */

/* One line being read. The first failure sticks. */
typedef struct lrki_line {
    lrki_recording *recording;
    int64_t number;
    lrk_status status;
} lrki_line;

/* LRK_ERR_FORMAT "<path>:<line>: <sentence>", unless the line has failed already. */
void lrki_line_fail(lrki_line *line, const char *format, ...) LRKI_PRINTF(2, 3);
/* An array, zeroed; NULL and LRK_ERR_NOMEM on lack of memory. */
void *lrki_line_take(lrki_line *line, int64_t n, size_t size);

/* The field of an object, of the type; 0 or NULL after a failure. */
int64_t lrki_line_count(lrki_line *line, const lrki_json *object, const char *key);
double lrki_line_real(lrki_line *line, const lrki_json *object, const char *key); /* NaN for null */
const lrki_json *lrki_line_array(lrki_line *line, const lrki_json *object, const char *key);
char *lrki_line_text(lrki_line *line, const lrki_json *object, const char *key);
int64_t lrki_line_module(lrki_line *line, const lrki_json *object);
uint64_t lrki_line_identity(lrki_line *line, const lrki_json *object);

/* Values by themselves. */
bool lrki_is_count(const lrki_json *json, int64_t *value);
bool lrki_is_identity(const lrki_json *json, uint64_t *value);
bool lrki_is_real(const lrki_json *json, double *value);

/* Fills a zeroed round, which is freed by its recording even after a failure. */
void lrki_recorded_round_read(lrki_line *line, const lrki_json *json, lrki_recorded_round *round);
void lrki_recorded_round_free(lrki_recording *recording, lrki_recorded_round *round);

#endif
