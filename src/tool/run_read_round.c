/* SPDX-License-Identifier: MIT */
/* A round of a trace: its facts, scores, ranks that went and came, and what the modules had afterwards. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "run_parts.h"

#define SCORE_COLUMNS 9

static bool read_facts(run_reader *in, json_t *json, run_round *round)
{
    return run_want_count(in, json, "round", &round->number) &&
           run_want_count(in, json, "step", &round->step) &&
           run_want_text(in, json, "estimator", &round->estimator) &&
           run_want_text(in, json, "policy", &round->policy) &&
           run_want_real(in, json, "loss_all", &round->loss_all) &&
           run_want_real(in, json, "loss_none", &round->loss_none) &&
           run_want_real(in, json, "noise_floor", &round->noise_floor) &&
           run_want_real(in, json, "split_correlation", &round->split_correlation) &&
           run_want_real(in, json, "cut", &round->cut) &&
           run_want_real(in, json, "cut_next", &round->cut_next) &&
           run_want_count(in, json, "evaluations", &round->evaluations) &&
           run_want_count(in, json, "differentiations", &round->differentiations) &&
           run_want_count(in, json, "n_exact", &round->n_exact) &&
           run_want_count(in, json, "ranks_before", &round->ranks_before) &&
           run_want_count(in, json, "ranks_after", &round->ranks_after) &&
           run_want_count(in, json, "parameters_before", &round->parameters_before) &&
           run_want_count(in, json, "parameters_after", &round->parameters_after);
}

static bool read_score(run_reader *in, json_t *row, run_score *score)
{
    double term;
    json_t *identity = json_array_get(row, 0), *module = json_array_get(row, 1);
    json_t *exact = json_array_get(row, 7), *below = json_array_get(row, 8);
    if (json_array_size(row) != SCORE_COLUMNS || !json_is_integer(identity) || !json_is_integer(module) ||
        !json_is_number(json_array_get(row, 2)) || !run_is_real(json_array_get(row, 3), &term) ||
        !run_is_real(json_array_get(row, 4), &term) || !run_is_real(json_array_get(row, 5), &score->noise) ||
        !run_is_real(json_array_get(row, 6), &score->estimate) || !json_is_boolean(exact) ||
        !json_is_boolean(below))
        return run_fail(
            in, "field 'scores': a row is not [identity, module, score, t1, t2, noise, estimate, exact, "
                "below floor]");
    score->identity = json_integer_value(identity);
    score->module = json_integer_value(module);
    score->score = run_real_of(json_array_get(row, 2));
    score->exact = json_is_true(exact);
    score->below_floor = json_is_true(below);
    if (score->module < 0 || score->module >= in->r->n_modules)
        return run_fail(in, "field 'scores': there is no module %" PRId64, score->module);
    run_ensure_rank(in->r, score->identity, score->module)->last_score = score->score;
    return true;
}

static int by_score(const void *left, const void *right)
{
    const run_score *a = left, *b = right;
    if (a->score != b->score) return a->score < b->score ? -1 : 1;
    if (a->module != b->module) return a->module < b->module ? -1 : 1;
    return (a->identity > b->identity) - (a->identity < b->identity);
}

static bool read_scores(run_reader *in, json_t *json, run_round *round)
{
    json_t *rows;
    if (!run_want_array(in, json, "scores", &rows)) return false;
    round->n_scores = (int64_t)json_array_size(rows);
    round->scores = run_alloc(round->n_scores, sizeof *round->scores);
    for (int64_t i = 0; i < round->n_scores; i++)
        if (!read_score(in, json_array_get(rows, (size_t)i), &round->scores[i])) return false;
    qsort(round->scores, (size_t)round->n_scores, sizeof *round->scores, by_score);
    return true;
}

static bool read_dropped(run_reader *in, json_t *json, run_round *round)
{
    json_t *list;
    if (!run_want_array(in, json, "dropped", &list)) return false;
    round->n_dropped = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < round->n_dropped; i++) {
        json_t *entry = json_array_get(list, (size_t)i), *birth = json_object_get(entry, "birth");
        int64_t identity = 0, module = 0;
        if (!run_want_count(in, entry, "identity", &identity) || !run_want_module(in, entry, &module))
            return false;
        run_rank *rank = run_ensure_rank(in->r, identity, module);
        if (json_is_integer(birth)) rank->birth = json_integer_value(birth);
        rank->drop_round = in->r->n_rounds;
        rank->live = false;
    }
    for (int64_t i = 0; i < round->n_scores; i++)
        round->scores[i].dropped =
            run_find_rank(in->r, round->scores[i].identity)->drop_round == in->r->n_rounds;
    return true;
}

static bool read_added(run_reader *in, json_t *json, run_round *round)
{
    json_t *list;
    if (!run_want_array(in, json, "added", &list)) return false;
    round->n_added = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < round->n_added; i++) {
        json_t *entry = json_array_get(list, (size_t)i);
        int64_t identity = 0, module = 0;
        if (!run_want_count(in, entry, "identity", &identity) || !run_want_module(in, entry, &module))
            return false;
        run_rank *rank = run_ensure_rank(in->r, identity, module);
        rank->birth = round->step;
        rank->born_round = in->r->n_rounds;
        rank->live = true;
    }
    return true;
}

static bool read_receivers(run_reader *in, json_t *json, run_round *round)
{
    json_t *list;
    if (!run_want_array(in, json, "receivers", &list)) return false;
    round->n_receivers = (int64_t)json_array_size(list);
    round->receivers = run_alloc(round->n_receivers, sizeof *round->receivers);
    for (int64_t i = 0; i < round->n_receivers; i++) {
        json_t *entry = json_array_get(list, (size_t)i);
        run_receiver *to = &round->receivers[i];
        if (!run_want_module(in, entry, &to->module) || !run_want_count(in, entry, "n", &to->n) ||
            !run_want_real(in, entry, "mean", &to->mean))
            return false;
    }
    return true;
}

/* Ranks of the modules from a list of numbers. */
static bool read_module_ranks(run_reader *in, json_t *json, int64_t *ranks)
{
    json_t *list;
    if (!run_want_array(in, json, "module_ranks", &list)) return false;
    if ((int64_t)json_array_size(list) != in->r->n_modules)
        return run_fail(in, "field 'module_ranks' has %zu entries for %" PRId64 " modules",
                        json_array_size(list), in->r->n_modules);
    for (int64_t i = 0; i < in->r->n_modules; i++) {
        json_t *rank = json_array_get(list, (size_t)i);
        if (!run_is_count(rank))
            return run_fail_field(in, "module_ranks", "an array of integers >= 0 (up to 10^12)");
        ranks[i] = json_integer_value(rank);
    }
    return true;
}

bool run_read_round(run_reader *in, json_t *json)
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
