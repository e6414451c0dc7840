/* SPDX-License-Identifier: MIT */
/*
 * Reading a trace line by line (recording.h). Lines of values are passed over: what a run did to its ranks is in the others.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "file.h"
#include "recording_parts.h"
#include "trace.h"

#define TRACE_MOST ((int64_t)1 << 31)

/* ---- start and end --------------------------------------------------------------------------------------------------- */

/* n pairs [identity, birth]; either array may be NULL. */
static void read_pairs(lrki_line *line, const lrki_json *list, uint64_t *identities, int64_t *births)
{
    for (int64_t i = 0; i < lrki_json_count(list) && line->status == LRK_OK; i++) {
        const lrki_json *pair = lrki_json_at(list, i);
        uint64_t identity;
        int64_t birth;
        if (!lrki_json_is_array(pair) || lrki_json_count(pair) != 2 ||
            !lrki_is_identity(lrki_json_at(pair, 0), &identity) ||
            !lrki_is_count(lrki_json_at(pair, 1), &birth))
            lrki_line_fail(line, "a rank is not [identity, birth]");
        else if (identities != NULL) {
            identities[i] = identity;
            births[i] = birth;
        }
    }
}

static void read_module(lrki_line *line, const lrki_json *json, lrki_recorded_module *module)
{
    module->name = lrki_line_text(line, json, "name");
    int64_t stage = lrki_line_count(line, json, "stage");
    module->n_in = lrki_line_count(line, json, "n_in");
    module->n_out = lrki_line_count(line, json, "n_out");
    int64_t rank = lrki_line_count(line, json, "rank");
    module->scale = lrki_line_real(line, json, "scale");
    const lrki_json *ranks = lrki_line_array(line, json, "ranks");
    if (line->status == LRK_OK && (stage > INT32_MAX || lrki_json_count(ranks) != rank))
        lrki_line_fail(line, "module '%.100s': 'rank' and 'ranks' differ, or 'stage' is too large",
                       module->name);
    if (line->status != LRK_OK) return;
    module->stage = (int32_t)stage;
    module->identities = lrki_line_take(line, rank, sizeof *module->identities);
    module->births = lrki_line_take(line, rank, sizeof *module->births);
    module->rank = rank;
    read_pairs(line, ranks, module->identities, module->births);
}

static void read_modules(lrki_line *line, const lrki_json *list)
{
    lrki_recording *r = line->recording;
    int64_t n = lrki_json_count(list);
    if (n == 0 || n > INT32_MAX) lrki_line_fail(line, "field 'modules' is empty or too long");
    if (line->status != LRK_OK) return;
    r->modules = lrki_line_take(line, n, sizeof *r->modules);
    if (r->modules == NULL) return;
    r->n_modules = n;
    r->final_ranks = lrki_line_take(line, n, sizeof *r->final_ranks);
    for (int64_t i = 0; i < n && line->status == LRK_OK; i++) {
        read_module(line, lrki_json_at(list, i), &r->modules[i]);
        r->final_ranks[i] = r->modules[i].rank;
    }
}

static void read_start(lrki_line *line, const lrki_json *json)
{
    lrki_recording *r = line->recording;
    if (r->n_modules > 0) lrki_line_fail(line, "a second start event");
    int64_t format = lrki_line_count(line, json, "format");
    if (line->status == LRK_OK && format != LRKI_TRACE_FORMAT)
        lrki_line_fail(line, "format %" PRId64 ", known here is %d", format, LRKI_TRACE_FORMAT);
    if (line->status == LRK_OK && !lrki_json_is_null(lrki_json_get(json, "label")))
        r->label = lrki_line_text(line, json, "label");
    read_modules(line, lrki_line_array(line, json, "modules"));
}

static void read_end(lrki_line *line, const lrki_json *json)
{
    lrki_recording *r = line->recording;
    const lrki_json *modules = lrki_line_array(line, json, "modules");
    if (line->status == LRK_OK && lrki_json_count(modules) != r->n_modules)
        lrki_line_fail(line, "field 'modules' has %" PRId64 " entries for %" PRId64 " modules",
                       lrki_json_count(modules), r->n_modules);
    for (int64_t i = 0; i < r->n_modules && line->status == LRK_OK; i++) {
        const lrki_json *ranks = lrki_json_at(modules, i);
        if (!lrki_json_is_array(ranks)) lrki_line_fail(line, "field 'modules' holds what is not an array");
        read_pairs(line, ranks, NULL, NULL);
        r->final_ranks[i] = lrki_json_count(ranks);
    }
    r->ended = true;
}

/* ---- lines ----------------------------------------------------------------------------------------------------------- */

static void read_round(lrki_line *line, const lrki_json *json)
{
    lrki_recording *r = line->recording;
    lrki_recorded_round *round = &r->rounds[r->n_rounds++];
    lrki_recorded_round_read(line, json, round);
    for (int64_t i = 0; i < r->n_modules && line->status == LRK_OK; i++)
        r->final_ranks[i] = round->module_ranks[i];
}

static void read_event(lrki_line *line, const lrki_json *json)
{
    const char *event = lrki_json_text(lrki_json_get(json, "event"));
    if (event == NULL) {
        lrki_line_fail(line, "field 'event' is missing or not a text");
        return;
    }
    if (line->recording->ended) lrki_line_fail(line, "an event after the end");
    if (strcmp(event, "start") != 0 && line->recording->n_modules == 0)
        lrki_line_fail(line, "the first event is '%.40s', not 'start'", event);
    if (line->status != LRK_OK) return;
    if (strcmp(event, "start") == 0)
        read_start(line, json);
    else if (strcmp(event, "round") == 0)
        read_round(line, json);
    else if (strcmp(event, "end") == 0)
        read_end(line, json);
    else if (strcmp(event, "value") != 0)
        lrki_line_fail(line, "unknown event '%.40s'", event);
}

static lrk_status read_line(lrki_recording *recording, int64_t number, const char *text, size_t n)
{
    lrki_line line = {recording, number, LRK_OK};
    char what[512];
    lrki_json *json = NULL;
    snprintf(what, sizeof what, "%s:%" PRId64, recording->path, number);
    lrk_status status = lrki_json_parse(recording->context, text, n, what, &json);
    if (status != LRK_OK) return status;
    if (lrki_json_is_object(json))
        read_event(&line, json);
    else
        lrki_line_fail(&line, "not a JSON object");
    lrki_json_free(json);
    return line.status;
}

static int64_t count_lines(const char *text, size_t n)
{
    int64_t lines = n > 0 && text[n - 1] != '\n';
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    return lines;
}

static lrk_status read_lines(lrki_recording *recording, const char *text, size_t n)
{
    lrk_status status = LRK_OK;
    const char *end = text + n;
    for (int64_t number = 1; text < end && status == LRK_OK; number++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (stop == NULL) stop = end;
        status = read_line(recording, number, text, (size_t)(stop - text));
        text = stop < end ? stop + 1 : end;
    }
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------- */

lrk_status lrki_recording_parse(lrk_context *context, const char *path, const char *text, size_t n,
                                lrki_recording *recording)
{
    *recording = (lrki_recording){.context = lrki_context_ref(context)};
    lrk_status status = LRK_OK;
    recording->path = lrki_text_copy(context, path);
    recording->rounds_held = count_lines(text, n);
    recording->rounds = lrki_array(context, recording->rounds_held, sizeof *recording->rounds);
    if (recording->path == NULL || recording->rounds == NULL)
        status = lrki_fail_nomem(context, "a trace");
    else if (n == 0)
        status = lrki_fail(context, LRK_ERR_FORMAT, "%s: the file is empty", path);
    if (status == LRK_OK) status = read_lines(recording, text, n);
    if (status != LRK_OK) lrki_recording_free(recording);
    return status;
}

lrk_status lrki_recording_load(lrk_context *context, const char *path, lrki_recording *recording)
{
    lrki_bytes text;
    *recording = (lrki_recording){0};
    lrk_status status = lrki_file_load(context, path, TRACE_MOST, &text);
    if (status != LRK_OK) return status;
    status = lrki_recording_parse(context, path, text.data, text.n, recording);
    lrki_bytes_free(context, &text);
    return status;
}

void lrki_recording_free(lrki_recording *recording)
{
    lrk_context *context = recording->context;
    if (context == NULL) return;
    for (int64_t i = 0; i < recording->n_modules; i++) {
        lrki_recorded_module *module = &recording->modules[i];
        lrki_text_free(context, module->name);
        lrki_array_free(context, module->identities, module->rank, sizeof *module->identities);
        lrki_array_free(context, module->births, module->rank, sizeof *module->births);
    }
    for (int64_t i = 0; i < recording->n_rounds; i++)
        lrki_recorded_round_free(recording, &recording->rounds[i]);
    lrki_array_free(context, recording->modules, recording->n_modules, sizeof *recording->modules);
    lrki_array_free(context, recording->final_ranks, recording->n_modules, sizeof *recording->final_ranks);
    lrki_array_free(context, recording->rounds, recording->rounds_held, sizeof *recording->rounds);
    lrki_text_free(context, recording->label);
    lrki_text_free(context, recording->path);
    *recording = (lrki_recording){0};
    lrki_context_unref(context);
}
