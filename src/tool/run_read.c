/* SPDX-License-Identifier: MIT */
/*
 * Reading a trace (docs/trace.md): every line is checked before it is believed, and the first that is wrong ends the
 * reading with file, line and field.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run_parts.h"

#define TRACE_FORMAT 1

/* ---- start ---- */

static bool read_module(run_reader *in, json_t *json, int64_t i)
{
    run_module *m = &in->r->modules[i];
    json_t *ranks;
    int64_t n;
    if (!run_want_text(in, json, "name", &m->name) || !run_want_count(in, json, "stage", &m->stage) ||
        !run_want_count(in, json, "n_in", &m->n_in) || !run_want_count(in, json, "n_out", &m->n_out) ||
        !run_want_count(in, json, "rank", &m->rank) || !run_want_array(in, json, "ranks", &ranks) ||
        !run_read_live(in, ranks, i, &n))
        return false;
    in->r->final_ranks[i] = m->rank;
    return n == m->rank || run_fail(in, "module '%s': 'rank' and 'ranks' differ", m->name);
}

static bool read_start(run_reader *in, json_t *json)
{
    run *r = in->r;
    json_t *modules, *label = json_object_get(json, "label");
    int64_t format = 0;
    if (r->version != NULL) return run_fail(in, "a second start event");
    if (!run_want_count(in, json, "format", &format)) return false;
    if (format != TRACE_FORMAT)
        return run_fail(in, "format %" PRId64 ", known here is %d", format, TRACE_FORMAT);
    if (!run_want_text(in, json, "lorank", &r->version) || !run_want_count(in, json, "ranks", &r->ranks) ||
        !run_want_count(in, json, "parameters", &r->parameters) ||
        !run_want_array(in, json, "modules", &modules))
        return false;
    if (!json_is_string(label) && !json_is_null(label)) return run_fail_field(in, "label", "a text or null");
    if (json_is_string(label)) r->label = run_copy(json_string_value(label));
    r->n_modules = (int64_t)json_array_size(modules);
    if (r->n_modules == 0) return run_fail(in, "field 'modules' is empty");
    r->modules = run_alloc(r->n_modules, sizeof *r->modules);
    r->final_ranks = run_alloc(r->n_modules, sizeof *r->final_ranks);
    r->final_total = r->ranks;
    r->final_parameters = r->parameters;
    for (int64_t i = 0; i < r->n_modules; i++)
        if (!read_module(in, json_array_get(modules, (size_t)i), i)) return false;
    return true;
}

/* ---- values and the end ---- */

static run_series *find_series(run *r, char *name)
{
    for (int64_t i = 0; i < r->n_series; i++)
        if (strcmp(r->series[i].name, name) == 0) {
            free(name);
            return &r->series[i];
        }
    r->series = run_grow(r->series, r->n_series + 1, sizeof *r->series);
    r->series[r->n_series] = (run_series){.name = name};
    return &r->series[r->n_series++];
}

static bool read_value(run_reader *in, json_t *json)
{
    char *name = NULL;
    int64_t step = 0;
    double value = NAN;
    if (!run_want_count(in, json, "step", &step) || !run_want_real(in, json, "value", &value) ||
        !run_want_text(in, json, "name", &name))
        return false;
    run_series *series = find_series(in->r, name);
    if (series->n == series->capacity) {
        series->capacity = 2 * series->capacity + 64;
        series->steps = run_grow(series->steps, series->capacity, sizeof *series->steps);
        series->values = run_grow(series->values, series->capacity, sizeof *series->values);
    }
    series->steps[series->n] = step;
    series->values[series->n++] = value;
    return true;
}

/* The end tells the truth about what lives: a host may have gone back to an earlier state. */
static bool read_end(run_reader *in, json_t *json)
{
    run *r = in->r;
    json_t *modules;
    if (!run_want_count(in, json, "ranks", &r->final_total) ||
        !run_want_count(in, json, "parameters", &r->final_parameters) ||
        !run_want_array(in, json, "modules", &modules))
        return false;
    if ((int64_t)json_array_size(modules) != r->n_modules)
        return run_fail(in, "field 'modules' has %zu entries for %" PRId64 " modules",
                        json_array_size(modules), r->n_modules);
    for (int64_t i = 0; i < r->n_lineage; i++)
        r->lineage[i].live = false;
    for (int64_t i = 0; i < r->n_modules; i++)
        if (!run_read_live(in, json_array_get(modules, (size_t)i), i, &r->final_ranks[i])) return false;
    r->ended = true;
    return true;
}

/* ---- lines ---- */

static bool read_event(run_reader *in, json_t *json)
{
    const char *event = json_string_value(json_object_get(json, "event"));
    if (event == NULL) return run_fail_field(in, "event", "a text");
    if (in->r->ended) return run_fail(in, "an event after the end");
    if (strcmp(event, "start") == 0) return read_start(in, json);
    if (in->r->version == NULL) return run_fail(in, "the first event is '%s', not 'start'", event);
    if (strcmp(event, "round") == 0) return run_read_round(in, json);
    if (strcmp(event, "value") == 0) return read_value(in, json);
    if (strcmp(event, "end") == 0) return read_end(in, json);
    return run_fail(in, "unknown event '%s'", event);
}

static bool read_line(run_reader *in, const char *text, size_t n)
{
    json_error_t problem;
    json_t *json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &problem);
    if (json == NULL) return run_fail(in, "not valid JSON: %s (column %d)", problem.text, problem.column);
    bool good = json_is_object(json) ? read_event(in, json) : run_fail(in, "not a JSON object");
    json_decref(json);
    return good;
}

static bool read_lines(run_reader *in, FILE *file)
{
    char *text = NULL;
    size_t room = 0;
    bool good = true;
    for (ssize_t n; good && (n = getline(&text, &room, file)) >= 0;) {
        in->line++;
        good = read_line(in, text, (size_t)n);
    }
    free(text);
    if (good && ferror(file)) return run_fail(in, "cannot read: %s", strerror(errno));
    return good && (in->line > 0 || run_fail(in, "the file is empty"));
}

run *run_read(const char *path, char *error, int size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        snprintf(error, (size_t)size, "cannot open %s: %s", path, strerror(errno));
        return NULL;
    }
    run_reader in = {.path = path, .error = error, .error_size = size, .r = run_alloc(1, sizeof *in.r)};
    bool good = read_lines(&in, file);
    fclose(file);
    if (!good) {
        run_free(in.r);
        return NULL;
    }
    run_make_grid(in.r);
    return in.r;
}
