/* SPDX-License-Identifier: MIT */
/*
 * One round of a trace: facts, scores, and what went and came.
 */
#include <inttypes.h>
#include <math.h>

#include "recording_parts.h"

#define SCORE_COLUMNS 9

static void read_facts(lrki_line *line, const lrki_json *json, lrki_recorded_round *round)
{
    lrk_scores_info *facts = &round->facts;
    round->line = line->number;
    round->number = lrki_line_count(line, json, "round");
    round->step = lrki_line_count(line, json, "step");
    round->policy = lrki_line_text(line, json, "policy");
    round->estimator = lrki_line_text(line, json, "estimator");
    round->cut = lrki_line_real(line, json, "cut");
    round->cut_next = lrki_line_real(line, json, "cut_next");
    facts->loss_all = lrki_line_real(line, json, "loss_all");
    facts->loss_none = lrki_line_real(line, json, "loss_none");
    facts->noise_floor = lrki_line_real(line, json, "noise_floor");
    facts->split_correlation = lrki_line_real(line, json, "split_correlation");
    facts->evaluations = lrki_line_count(line, json, "evaluations");
    facts->differentiations = lrki_line_count(line, json, "differentiations");
    facts->n_exact = lrki_line_count(line, json, "n_exact");
}

/* ---- scores ---------------------------------------------------------------------------------------------------------- */

static bool read_score(const lrki_json *row, lrk_score *score, int64_t *module)
{
    bool exact = false, below = false;
    bool good =
        lrki_json_count(row) == SCORE_COLUMNS && lrki_json_is_array(row) &&
        lrki_is_identity(lrki_json_at(row, 0), &score->identity) &&
        lrki_is_count(lrki_json_at(row, 1), module) &&
        lrki_json_number(lrki_json_at(row, 2), &score->score) &&
        lrki_is_real(lrki_json_at(row, 3), &score->t1) && lrki_is_real(lrki_json_at(row, 4), &score->t2) &&
        lrki_is_real(lrki_json_at(row, 5), &score->noise) &&
        lrki_is_real(lrki_json_at(row, 6), &score->estimate) &&
        lrki_json_boolean(lrki_json_at(row, 7), &exact) && lrki_json_boolean(lrki_json_at(row, 8), &below);
    score->flags = (exact ? LRK_SCORE_EXACT : 0) | (below ? LRK_SCORE_BELOW_FLOOR : 0);
    return good;
}

static void read_scores(lrki_line *line, const lrki_json *json, lrki_recorded_round *round)
{
    const lrki_json *rows = lrki_line_array(line, json, "scores");
    int64_t n = round->facts.n = lrki_json_count(rows);
    round->scores = lrki_line_take(line, n, sizeof *round->scores);
    int64_t before = 0;
    for (int64_t i = 0; i < n && line->status == LRK_OK; i++) {
        lrk_score *score = &round->scores[i];
        int64_t module = 0;
        if (!read_score(lrki_json_at(rows, i), score, &module))
            lrki_line_fail(line,
                           "field 'scores': row %" PRId64 " is not [identity, module, score, t1, t2, noise, "
                           "estimate, exact, below floor]",
                           i);
        else if (module >= line->recording->n_modules || module < before)
            lrki_line_fail(line,
                           "field 'scores': row %" PRId64 " is not of module %" PRId64 " or a later one", i,
                           before);
        score->struct_size = sizeof *score;
        score->module = (int32_t)module;
        score->index = i > 0 && module == before ? round->scores[i - 1].index + 1 : 0;
        before = module;
    }
}

/* ---- what went and came ---------------------------------------------------------------------------------------------- */

static void read_dropped(lrki_line *line, const lrki_json *json, lrki_recorded_round *round)
{
    const lrki_json *list = lrki_line_array(line, json, "dropped");
    int64_t n = round->n_dropped = lrki_json_count(list);
    round->dropped = lrki_line_take(line, n, sizeof *round->dropped);
    for (int64_t i = 0; i < n && line->status == LRK_OK; i++) {
        round->dropped[i] = lrki_line_identity(line, lrki_json_at(list, i));
        (void)lrki_line_module(line, lrki_json_at(list, i));
    }
}

static void read_added(lrki_line *line, const lrki_json *json, lrki_recorded_round *round)
{
    const lrki_json *list = lrki_line_array(line, json, "added");
    int64_t n = round->n_added = lrki_json_count(list);
    round->added = lrki_line_take(line, n, sizeof *round->added);
    round->added_modules = lrki_line_take(line, n, sizeof *round->added_modules);
    for (int64_t i = 0; i < n && line->status == LRK_OK; i++) {
        round->added[i] = lrki_line_identity(line, lrki_json_at(list, i));
        round->added_modules[i] = lrki_line_module(line, lrki_json_at(list, i));
    }
}

static void read_module_ranks(lrki_line *line, const lrki_json *json, lrki_recorded_round *round)
{
    int64_t n = line->recording->n_modules;
    const lrki_json *list = lrki_line_array(line, json, "module_ranks");
    if (line->status == LRK_OK && lrki_json_count(list) != n)
        lrki_line_fail(line, "field 'module_ranks' has %" PRId64 " entries for %" PRId64 " modules",
                       lrki_json_count(list), n);
    round->module_ranks = lrki_line_take(line, n, sizeof *round->module_ranks);
    for (int64_t i = 0; i < n && line->status == LRK_OK; i++)
        if (!lrki_is_count(lrki_json_at(list, i), &round->module_ranks[i]))
            lrki_line_fail(line, "field 'module_ranks' holds what is not an integer >= 0 (up to 10^12)");
}

void lrki_recorded_round_read(lrki_line *line, const lrki_json *json, lrki_recorded_round *round)
{
    read_facts(line, json, round);
    read_scores(line, json, round);
    read_dropped(line, json, round);
    read_added(line, json, round);
    read_module_ranks(line, json, round);
}

void lrki_recorded_round_free(lrki_recording *recording, lrki_recorded_round *round)
{
    lrk_context *context = recording->context;
    lrki_text_free(context, round->policy);
    lrki_text_free(context, round->estimator);
    lrki_array_free(context, round->scores, round->facts.n, sizeof *round->scores);
    lrki_array_free(context, round->dropped, round->n_dropped, sizeof *round->dropped);
    lrki_array_free(context, round->added, round->n_added, sizeof *round->added);
    lrki_array_free(context, round->added_modules, round->n_added, sizeof *round->added_modules);
    lrki_array_free(context, round->module_ranks, recording->n_modules, sizeof *round->module_ranks);
}
