/* SPDX-License-Identifier: MIT */
/*
 * Reading a trace (docs/trace.md): every line is checked before it is believed, and the first that is wrong ends the
 * reading with file, line and field. The only file of the command that knows Jansson.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

#define TRACE_FORMAT  1
#define SCORE_COLUMNS 9
#define MOST_COUNT    1000000000000 /* sums and small multiples of what is read must fit */
#define MOST_REAL     1e100         /* so must differences and ratios                    */

typedef struct reader {
    const char *path;
    int64_t line;
    char *error;
    int error_size;
    run *r;
} reader;

__attribute__((format(printf, 2, 3))) static bool fail(reader *in, const char *format, ...)
{
    va_list args;
    int n = snprintf(in->error, (size_t)in->error_size, "%s:%" PRId64 ": ", in->path, in->line);
    va_start(args, format);
    if (n > 0 && n < in->error_size) vsnprintf(in->error + n, (size_t)(in->error_size - n), format, args);
    va_end(args);
    return false;
}

/* ---- fields ---- */

static bool fail_field(reader *in, const char *key, const char *wanted)
{
    return fail(in, "field '%s' is missing or not %s", key, wanted);
}

static bool is_count(json_t *field)
{
    return json_is_integer(field) && json_integer_value(field) >= 0 &&
           json_integer_value(field) <= MOST_COUNT;
}

static bool want_count(reader *in, json_t *object, const char *key, int64_t *value)
{
    json_t *field = json_object_get(object, key);
    if (!is_count(field)) return fail_field(in, key, "an integer >= 0 (up to 10^12)");
    *value = json_integer_value(field);
    return true;
}

/* A greater number is drawn as the greatest. */
static double real_of(json_t *field)
{
    return fmin(fmax(json_number_value(field), -MOST_REAL), MOST_REAL);
}

static bool is_real(json_t *field, double *value)
{
    *value = json_is_number(field) ? real_of(field) : NAN;
    return json_is_number(field) || json_is_null(field);
}

static bool want_real(reader *in, json_t *object, const char *key, double *value)
{
    return is_real(json_object_get(object, key), value) || fail_field(in, key, "a number or null");
}

static bool want_text(reader *in, json_t *object, const char *key, char **value)
{
    json_t *field = json_object_get(object, key);
    if (!json_is_string(field)) return fail_field(in, key, "a text");
    *value = run_copy(json_string_value(field));
    return true;
}

static bool want_array(reader *in, json_t *object, const char *key, json_t **value)
{
    *value = json_object_get(object, key);
    return json_is_array(*value) || fail_field(in, key, "an array");
}

static bool want_module(reader *in, json_t *object, int64_t *module)
{
    if (!want_count(in, object, "module", module)) return false;
    return *module < in->r->n_modules || fail(in, "field 'module': there is no module %" PRId64, *module);
}

/* ---- lineage ---- */

static int by_identity(const void *left, const void *right)
{
    int64_t a = ((const run_rank *)left)->identity, b = ((const run_rank *)right)->identity;
    return (a > b) - (a < b);
}

static run_rank *find_rank(const run *r, int64_t identity)
{
    run_rank key = {.identity = identity};
    return r->n_lineage == 0 ? NULL
                             : bsearch(&key, r->lineage, (size_t)r->n_lineage, sizeof key, by_identity);
}

/* The rank of that identity, made if it is new. Identities grow, so that it mostly goes to the end. */
static run_rank *ensure_rank(run *r, int64_t identity, int64_t module)
{
    run_rank *found = find_rank(r, identity);
    if (found != NULL) return found;
    if (r->n_lineage == r->lineage_capacity) {
        r->lineage_capacity = 2 * r->lineage_capacity + 64;
        r->lineage = run_grow(r->lineage, r->lineage_capacity, sizeof *r->lineage);
    }
    int64_t at = r->n_lineage++;
    for (; at > 0 && r->lineage[at - 1].identity > identity; at--)
        r->lineage[at] = r->lineage[at - 1];
    r->lineage[at] = (run_rank){identity, module, RUN_UNKNOWN, -1, -1, NAN, true};
    return &r->lineage[at];
}

/* The live ranks of one module as [[identity, birth], ...]. */
static bool read_live(reader *in, json_t *list, int64_t module, int64_t *n)
{
    *n = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < *n; i++) {
        json_t *pair = json_array_get(list, (size_t)i);
        json_t *identity = json_array_get(pair, 0), *birth = json_array_get(pair, 1);
        if (json_array_size(pair) != 2 || !json_is_integer(identity) || !json_is_integer(birth))
            return fail(in, "module %" PRId64 ": a rank is not [identity, birth]", module);
        run_rank *rank = ensure_rank(in->r, json_integer_value(identity), module);
        rank->birth = json_integer_value(birth);
        rank->live = true;
    }
    return true;
}

/* ---- start ---- */

static bool read_module(reader *in, json_t *json, int64_t i)
{
    run_module *m = &in->r->modules[i];
    json_t *ranks;
    int64_t n;
    if (!want_text(in, json, "name", &m->name) || !want_count(in, json, "stage", &m->stage) ||
        !want_count(in, json, "n_in", &m->n_in) || !want_count(in, json, "n_out", &m->n_out) ||
        !want_count(in, json, "rank", &m->rank) || !want_array(in, json, "ranks", &ranks) ||
        !read_live(in, ranks, i, &n))
        return false;
    in->r->final_ranks[i] = m->rank;
    return n == m->rank || fail(in, "module '%s': 'rank' and 'ranks' differ", m->name);
}

static bool read_start(reader *in, json_t *json)
{
    run *r = in->r;
    json_t *modules, *label = json_object_get(json, "label");
    int64_t format = 0;
    if (r->version != NULL) return fail(in, "a second start event");
    if (!want_count(in, json, "format", &format)) return false;
    if (format != TRACE_FORMAT) return fail(in, "format %" PRId64 ", known here is %d", format, TRACE_FORMAT);
    if (!want_text(in, json, "lorank", &r->version) || !want_count(in, json, "ranks", &r->ranks) ||
        !want_count(in, json, "parameters", &r->parameters) || !want_array(in, json, "modules", &modules))
        return false;
    if (!json_is_string(label) && !json_is_null(label)) return fail_field(in, "label", "a text or null");
    if (json_is_string(label)) r->label = run_copy(json_string_value(label));
    r->n_modules = (int64_t)json_array_size(modules);
    if (r->n_modules == 0) return fail(in, "field 'modules' is empty");
    r->modules = run_alloc(r->n_modules, sizeof *r->modules);
    r->final_ranks = run_alloc(r->n_modules, sizeof *r->final_ranks);
    r->final_total = r->ranks;
    r->final_parameters = r->parameters;
    for (int64_t i = 0; i < r->n_modules; i++)
        if (!read_module(in, json_array_get(modules, (size_t)i), i)) return false;
    return true;
}

/* ---- rounds ---- */

static bool read_facts(reader *in, json_t *json, run_round *round)
{
    return want_count(in, json, "round", &round->number) && want_count(in, json, "step", &round->step) &&
           want_text(in, json, "estimator", &round->estimator) &&
           want_text(in, json, "policy", &round->policy) &&
           want_real(in, json, "loss_all", &round->loss_all) &&
           want_real(in, json, "loss_none", &round->loss_none) &&
           want_real(in, json, "noise_floor", &round->noise_floor) &&
           want_real(in, json, "split_correlation", &round->split_correlation) &&
           want_real(in, json, "cut", &round->cut) && want_real(in, json, "cut_next", &round->cut_next) &&
           want_count(in, json, "evaluations", &round->evaluations) &&
           want_count(in, json, "differentiations", &round->differentiations) &&
           want_count(in, json, "n_exact", &round->n_exact) &&
           want_count(in, json, "ranks_before", &round->ranks_before) &&
           want_count(in, json, "ranks_after", &round->ranks_after) &&
           want_count(in, json, "parameters_before", &round->parameters_before) &&
           want_count(in, json, "parameters_after", &round->parameters_after);
}

static bool read_score(reader *in, json_t *row, run_score *score)
{
    double term;
    json_t *identity = json_array_get(row, 0), *module = json_array_get(row, 1);
    json_t *exact = json_array_get(row, 7), *below = json_array_get(row, 8);
    if (json_array_size(row) != SCORE_COLUMNS || !json_is_integer(identity) || !json_is_integer(module) ||
        !json_is_number(json_array_get(row, 2)) || !is_real(json_array_get(row, 3), &term) ||
        !is_real(json_array_get(row, 4), &term) || !is_real(json_array_get(row, 5), &score->noise) ||
        !is_real(json_array_get(row, 6), &score->estimate) || !json_is_boolean(exact) ||
        !json_is_boolean(below))
        return fail(in,
                    "field 'scores': a row is not [identity, module, score, t1, t2, noise, estimate, exact, "
                    "below floor]");
    score->identity = json_integer_value(identity);
    score->module = json_integer_value(module);
    score->score = real_of(json_array_get(row, 2));
    score->exact = json_is_true(exact);
    score->below_floor = json_is_true(below);
    if (score->module < 0 || score->module >= in->r->n_modules)
        return fail(in, "field 'scores': there is no module %" PRId64, score->module);
    ensure_rank(in->r, score->identity, score->module)->last_score = score->score;
    return true;
}

static int by_score(const void *left, const void *right)
{
    const run_score *a = left, *b = right;
    if (a->score != b->score) return a->score < b->score ? -1 : 1;
    if (a->module != b->module) return a->module < b->module ? -1 : 1;
    return (a->identity > b->identity) - (a->identity < b->identity);
}

static bool read_scores(reader *in, json_t *json, run_round *round)
{
    json_t *rows;
    if (!want_array(in, json, "scores", &rows)) return false;
    round->n_scores = (int64_t)json_array_size(rows);
    round->scores = run_alloc(round->n_scores, sizeof *round->scores);
    for (int64_t i = 0; i < round->n_scores; i++)
        if (!read_score(in, json_array_get(rows, (size_t)i), &round->scores[i])) return false;
    qsort(round->scores, (size_t)round->n_scores, sizeof *round->scores, by_score);
    return true;
}

static bool read_dropped(reader *in, json_t *json, run_round *round)
{
    json_t *list;
    if (!want_array(in, json, "dropped", &list)) return false;
    round->n_dropped = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < round->n_dropped; i++) {
        json_t *entry = json_array_get(list, (size_t)i), *birth = json_object_get(entry, "birth");
        int64_t identity = 0, module = 0;
        if (!want_count(in, entry, "identity", &identity) || !want_module(in, entry, &module)) return false;
        run_rank *rank = ensure_rank(in->r, identity, module);
        if (json_is_integer(birth)) rank->birth = json_integer_value(birth);
        rank->drop_round = in->r->n_rounds;
        rank->live = false;
    }
    for (int64_t i = 0; i < round->n_scores; i++)
        round->scores[i].dropped = find_rank(in->r, round->scores[i].identity)->drop_round == in->r->n_rounds;
    return true;
}

static bool read_added(reader *in, json_t *json, run_round *round)
{
    json_t *list;
    if (!want_array(in, json, "added", &list)) return false;
    round->n_added = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < round->n_added; i++) {
        json_t *entry = json_array_get(list, (size_t)i);
        int64_t identity = 0, module = 0;
        if (!want_count(in, entry, "identity", &identity) || !want_module(in, entry, &module)) return false;
        run_rank *rank = ensure_rank(in->r, identity, module);
        rank->birth = round->step;
        rank->born_round = in->r->n_rounds;
        rank->live = true;
    }
    return true;
}

static bool read_receivers(reader *in, json_t *json, run_round *round)
{
    json_t *list;
    if (!want_array(in, json, "receivers", &list)) return false;
    round->n_receivers = (int64_t)json_array_size(list);
    round->receivers = run_alloc(round->n_receivers, sizeof *round->receivers);
    for (int64_t i = 0; i < round->n_receivers; i++) {
        json_t *entry = json_array_get(list, (size_t)i);
        run_receiver *to = &round->receivers[i];
        if (!want_module(in, entry, &to->module) || !want_count(in, entry, "n", &to->n) ||
            !want_real(in, entry, "mean", &to->mean))
            return false;
    }
    return true;
}

/* Ranks of the modules from a list of numbers. */
static bool read_module_ranks(reader *in, json_t *json, int64_t *ranks)
{
    json_t *list;
    if (!want_array(in, json, "module_ranks", &list)) return false;
    if ((int64_t)json_array_size(list) != in->r->n_modules)
        return fail(in, "field 'module_ranks' has %zu entries for %" PRId64 " modules", json_array_size(list),
                    in->r->n_modules);
    for (int64_t i = 0; i < in->r->n_modules; i++) {
        json_t *rank = json_array_get(list, (size_t)i);
        if (!is_count(rank)) return fail_field(in, "module_ranks", "an array of integers >= 0 (up to 10^12)");
        ranks[i] = json_integer_value(rank);
    }
    return true;
}

static bool read_round(reader *in, json_t *json)
{
    run *r = in->r;
    r->rounds = run_grow(r->rounds, r->n_rounds + 1, sizeof *r->rounds);
    run_round *round = &r->rounds[r->n_rounds];
    memset(round, 0, sizeof *round);
    round->module_ranks = run_alloc(r->n_modules, sizeof *round->module_ranks);
    bool read = read_facts(in, json, round) && read_scores(in, json, round) &&
                read_dropped(in, json, round) && read_added(in, json, round) &&
                read_receivers(in, json, round) && read_module_ranks(in, json, round->module_ranks);
    r->n_rounds++;
    if (!read) return false;
    memcpy(r->final_ranks, round->module_ranks, (size_t)r->n_modules * sizeof *r->final_ranks);
    r->final_total = round->ranks_after;
    r->final_parameters = round->parameters_after;
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

static bool read_value(reader *in, json_t *json)
{
    char *name = NULL;
    int64_t step = 0;
    double value = NAN;
    if (!want_count(in, json, "step", &step) || !want_real(in, json, "value", &value) ||
        !want_text(in, json, "name", &name))
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
static bool read_end(reader *in, json_t *json)
{
    run *r = in->r;
    json_t *modules;
    if (!want_count(in, json, "ranks", &r->final_total) ||
        !want_count(in, json, "parameters", &r->final_parameters) ||
        !want_array(in, json, "modules", &modules))
        return false;
    if ((int64_t)json_array_size(modules) != r->n_modules)
        return fail(in, "field 'modules' has %zu entries for %" PRId64 " modules", json_array_size(modules),
                    r->n_modules);
    for (int64_t i = 0; i < r->n_lineage; i++)
        r->lineage[i].live = false;
    for (int64_t i = 0; i < r->n_modules; i++)
        if (!read_live(in, json_array_get(modules, (size_t)i), i, &r->final_ranks[i])) return false;
    r->ended = true;
    return true;
}

/* ---- lines ---- */

static bool read_event(reader *in, json_t *json)
{
    const char *event = json_string_value(json_object_get(json, "event"));
    if (event == NULL) return fail_field(in, "event", "a text");
    if (in->r->ended) return fail(in, "an event after the end");
    if (strcmp(event, "start") == 0) return read_start(in, json);
    if (in->r->version == NULL) return fail(in, "the first event is '%s', not 'start'", event);
    if (strcmp(event, "round") == 0) return read_round(in, json);
    if (strcmp(event, "value") == 0) return read_value(in, json);
    if (strcmp(event, "end") == 0) return read_end(in, json);
    return fail(in, "unknown event '%s'", event);
}

static bool read_line(reader *in, const char *text, size_t n)
{
    json_error_t problem;
    json_t *json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &problem);
    if (json == NULL) return fail(in, "not valid JSON: %s (column %d)", problem.text, problem.column);
    bool good = json_is_object(json) ? read_event(in, json) : fail(in, "not a JSON object");
    json_decref(json);
    return good;
}

static bool read_lines(reader *in, FILE *file)
{
    char *text = NULL;
    size_t room = 0;
    bool good = true;
    for (ssize_t n; good && (n = getline(&text, &room, file)) >= 0;) {
        in->line++;
        good = read_line(in, text, (size_t)n);
    }
    free(text);
    if (good && ferror(file)) return fail(in, "cannot read: %s", strerror(errno));
    return good && (in->line > 0 || fail(in, "the file is empty"));
}

run *run_read(const char *path, char *error, int size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        snprintf(error, (size_t)size, "cannot open %s: %s", path, strerror(errno));
        return NULL;
    }
    reader in = {.path = path, .error = error, .error_size = size, .r = run_alloc(1, sizeof *in.r)};
    bool good = read_lines(&in, file);
    fclose(file);
    if (!good) {
        run_free(in.r);
        return NULL;
    }
    run_make_grid(in.r);
    return in.r;
}
