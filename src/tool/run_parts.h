/* SPDX-License-Identifier: MIT */
/* What the parts of the trace's reader share: where it is, fields that are checked, the lineage of ranks. */
#ifndef TOOL_RUN_PARTS_H
#define TOOL_RUN_PARTS_H

#include <jansson.h>

#include "run.h"

typedef struct run_reader {
    const char *path;
    int64_t line;
    char *error;
    int error_size;
    run *r;
} run_reader;

/* Says what is wrong with the line; returns false. */
__attribute__((format(printf, 2, 3))) bool run_fail(run_reader *in, const char *format, ...);

/* ---- fields (run_fields.c): false, and said so, if one is not there or not of its type ---- */

bool run_fail_field(run_reader *in, const char *key, const char *wanted);
bool run_is_count(json_t *field);
bool run_is_real(json_t *field, double *value); /* null: NaN */
double run_real_of(json_t *field);              /* a greater number is drawn as the greatest */
bool run_want_count(run_reader *in, json_t *object, const char *key, int64_t *value);
bool run_want_real(run_reader *in, json_t *object, const char *key, double *value);
bool run_want_text(run_reader *in, json_t *object, const char *key, char **value);
bool run_want_array(run_reader *in, json_t *object, const char *key, json_t **value);
bool run_want_module(run_reader *in, json_t *object, int64_t *module);

/* ---- lineage (run_lineage.c) ---- */

run_rank *run_find_rank(const run *r, int64_t identity); /* NULL: none */
/* The rank of that identity, made if it is new. */
run_rank *run_ensure_rank(run *r, int64_t identity, int64_t module);
/* The live ranks of one module as [[identity, birth], ...]. */
bool run_read_live(run_reader *in, json_t *list, int64_t module, int64_t *n);

/* ---- rounds (run_read_round.c) ---- */

bool run_read_round(run_reader *in, json_t *json);

#endif
