/* SPDX-License-Identifier: MIT */
/*
 * The events of a trace (docs/trace.md). Modules are named once, in the start event; after it they are numbers. Ranks
 * are identities.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lorank/adapters.h"
#include "lorank/version.h"
#include "trace.h"

/* ---- births ---- */

lrk_status lrki_births_reserve(lrk_context *context, lrki_births *births, int64_t n)
{
    if (births->n + n <= births->capacity) return LRK_OK;
    int64_t capacity = births->n + n + births->n / 2;
    lrki_birth *list = lrki_array(context, capacity, sizeof *list);
    if (list == NULL) return lrki_fail_nomem(context, "the trace's list of ranks");
    if (births->n > 0) memcpy(list, births->list, (size_t)births->n * sizeof *list);
    lrki_array_free(context, births->list, births->capacity, sizeof *list);
    births->list = list;
    births->capacity = capacity;
    return LRK_OK;
}

static int by_identity(const void *left, const void *right)
{
    uint64_t a = ((const lrki_birth *)left)->identity, b = ((const lrki_birth *)right)->identity;
    return (a > b) - (a < b);
}

static const lrki_birth *find_birth(const lrki_birth *list, int64_t n, uint64_t identity)
{
    lrki_birth key = {identity, 0};
    return n == 0 ? NULL : bsearch(&key, list, (size_t)n, sizeof key, by_identity);
}

/* `sorted` are the first entries, in order; what is appended after them is looked up among those only. */
static void add_birth(lrki_births *births, int64_t sorted, uint64_t identity, int64_t step)
{
    if (find_birth(births->list, sorted, identity) == NULL)
        births->list[births->n++] = (lrki_birth){identity, step};
}

static void sort_births(lrki_births *births)
{
    if (births->n > 1) qsort(births->list, (size_t)births->n, sizeof *births->list, by_identity);
}

static int64_t module_count(const lrk_adapters *adapters)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    (void)lrk_adapters_info_get(adapters, &info);
    return info.modules;
}

void lrki_births_add_live(lrki_births *births, const lrk_adapters *adapters)
{
    int64_t sorted = births->n;
    for (int32_t m = 0; m < module_count(adapters); m++) {
        const uint64_t *identities;
        const int64_t *steps;
        int64_t n;
        (void)lrk_adapters_ranks(adapters, m, &identities, &steps, &n);
        for (int64_t j = 0; j < n; j++)
            add_birth(births, sorted, identities[j], steps[j]);
    }
    sort_births(births);
}

static lrk_plan_module plan_part(const lrk_plan *plan, int64_t module)
{
    lrk_plan_module part = {.struct_size = sizeof part};
    (void)lrk_plan_module_get(plan, (int32_t)module, &part);
    return part;
}

static lrk_plan_info plan_facts(const lrk_plan *plan)
{
    lrk_plan_info info = {.struct_size = sizeof info};
    (void)lrk_plan_info_get(plan, &info);
    return info;
}

void lrki_births_add_plan(lrki_births *births, const lrk_plan *plan, int64_t n_modules)
{
    int64_t sorted = births->n, step = plan_facts(plan).step;
    for (int64_t m = 0; m < n_modules; m++) {
        lrk_plan_module part = plan_part(plan, m);
        for (int64_t j = 0; j < part.n_added; j++)
            add_birth(births, sorted, part.added_ids[j], step);
    }
    sort_births(births);
}

void lrki_births_free(lrk_context *context, lrki_births *births)
{
    lrki_array_free(context, births->list, births->capacity, sizeof *births->list);
    memset(births, 0, sizeof *births);
}

/* ---- start and end ---- */

static lrki_json *new_identity(uint64_t identity)
{
    return lrki_json_new_integer((int64_t)identity);
}

static lrki_json *live_ranks(const lrk_adapters *adapters, int32_t module)
{
    const uint64_t *identities;
    const int64_t *births;
    int64_t n;
    lrki_json *ranks = lrki_json_new_array();
    (void)lrk_adapters_ranks(adapters, module, &identities, &births, &n);
    for (int64_t j = 0; j < n; j++) {
        lrki_json *pair = lrki_json_new_array();
        lrki_json_append(&pair, new_identity(identities[j]));
        lrki_json_append(&pair, lrki_json_new_integer(births[j]));
        lrki_json_append(&ranks, pair);
    }
    return ranks;
}

static lrki_json *start_module(const lrk_adapters *adapters, int32_t module)
{
    lrk_module_info info = {.struct_size = sizeof info};
    (void)lrk_adapters_module(adapters, module, &info);
    lrki_json *json = lrki_json_new_object();
    lrki_json_put(&json, "name", lrki_json_new_text(info.name));
    lrki_json_put(&json, "stage", lrki_json_new_integer(info.stage));
    lrki_json_put(&json, "n_in", lrki_json_new_integer(info.n_in));
    lrki_json_put(&json, "n_out", lrki_json_new_integer(info.n_out));
    lrki_json_put(&json, "rank", lrki_json_new_integer(info.rank));
    lrki_json_put(&json, "scale", lrki_json_new_real(info.scale));
    lrki_json_put(&json, "ranks", live_ranks(adapters, module));
    return json;
}

static lrki_json *new_event(const char *event)
{
    lrki_json *json = lrki_json_new_object();
    lrki_json_put(&json, "event", lrki_json_new_text(event));
    return json;
}

lrki_json *lrki_trace_start(const lrk_adapters *adapters, const char *label)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    (void)lrk_adapters_info_get(adapters, &info);
    lrki_json *json = new_event("start");
    lrki_json *modules = lrki_json_new_array();
    for (int32_t m = 0; m < info.modules; m++)
        lrki_json_append(&modules, start_module(adapters, m));
    lrki_json_put(&json, "format", lrki_json_new_integer(LRKI_TRACE_FORMAT));
    lrki_json_put(&json, "lorank", lrki_json_new_text(lrk_version_text()));
    lrki_json_put(&json, "label", lrki_json_new_text(label));
    lrki_json_put(&json, "ranks", lrki_json_new_integer(info.ranks));
    lrki_json_put(&json, "parameters", lrki_json_new_integer(info.parameters));
    lrki_json_put(&json, "modules", modules);
    return json;
}

lrki_json *lrki_trace_end(const lrk_adapters *adapters)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    (void)lrk_adapters_info_get(adapters, &info);
    lrki_json *json = new_event("end");
    lrki_json *modules = lrki_json_new_array();
    for (int32_t m = 0; m < info.modules; m++)
        lrki_json_append(&modules, live_ranks(adapters, m));
    lrki_json_put(&json, "ranks", lrki_json_new_integer(info.ranks));
    lrki_json_put(&json, "parameters", lrki_json_new_integer(info.parameters));
    lrki_json_put(&json, "modules", modules);
    return json;
}

lrki_json *lrki_trace_value(const char *name, int64_t step, double value)
{
    lrki_json *json = new_event("value");
    lrki_json_put(&json, "name", lrki_json_new_text(name));
    lrki_json_put(&json, "step", lrki_json_new_integer(step));
    lrki_json_put(&json, "value", lrki_json_new_real(value));
    return json;
}

/* ---- rounds ---- */

typedef struct round_view {
    int64_t n_modules;
    const lrki_births *births;
    const lrk_scores *scores;
    const lrk_plan *plan;
} round_view;

static lrk_score score_at(const lrk_scores *scores, int64_t i)
{
    lrk_score score = {.struct_size = sizeof score};
    (void)lrk_scores_get(scores, i, &score);
    return score;
}

static lrki_json *dropped_rank(const round_view *view, int64_t module, uint64_t identity, double score)
{
    const lrki_birth *birth = find_birth(view->births->list, view->births->n, identity);
    lrki_json *json = lrki_json_new_object();
    lrki_json_put(&json, "identity", new_identity(identity));
    lrki_json_put(&json, "module", lrki_json_new_integer(module));
    lrki_json_put(&json, "score", lrki_json_new_real(score));
    lrki_json_put(&json, "birth",
                  birth == NULL ? lrki_json_new_text(NULL) : lrki_json_new_integer(birth->step));
    return json;
}

static lrki_json *dropped_ranks(const round_view *view)
{
    lrki_json *list = lrki_json_new_array();
    int64_t first = 0;
    for (int64_t m = 0; m < view->n_modules; m++) {
        lrk_plan_module part = plan_part(view->plan, m);
        for (int64_t j = 0; j < part.n_dropped; j++)
            lrki_json_append(&list, dropped_rank(view, m, part.dropped_ids[j],
                                                 score_at(view->scores, first + part.dropped[j]).score));
        first += part.rank_before;
    }
    return list;
}

static lrki_json *added_ranks(const round_view *view)
{
    lrki_json *list = lrki_json_new_array();
    for (int64_t m = 0; m < view->n_modules; m++) {
        lrk_plan_module part = plan_part(view->plan, m);
        for (int64_t j = 0; j < part.n_added; j++) {
            lrki_json *json = lrki_json_new_object();
            lrki_json_put(&json, "identity", new_identity(part.added_ids[j]));
            lrki_json_put(&json, "module", lrki_json_new_integer(m));
            lrki_json_append(&list, json);
        }
    }
    return list;
}

/* Means are of one kind: of estimates if every rank has one and not every score is exact, as ALoRA takes them. */
static bool means_of_estimates(const lrk_scores *scores, int64_t n)
{
    bool all_exact = true, all_estimated = true;
    for (int64_t i = 0; i < n; i++) {
        lrk_score score = score_at(scores, i);
        all_exact = all_exact && (score.flags & LRK_SCORE_EXACT);
        all_estimated = all_estimated && !isnan(score.estimate);
    }
    return all_estimated && !all_exact;
}

static double mean_score(const lrk_scores *scores, int64_t first, int64_t n, bool estimates)
{
    double sum = 0;
    for (int64_t i = first; i < first + n; i++) {
        lrk_score score = score_at(scores, i);
        sum += estimates ? score.estimate : score.score;
    }
    return n == 0 ? NAN : sum / (double)n;
}

static lrki_json *receivers(const round_view *view, bool estimates)
{
    lrki_json *list = lrki_json_new_array();
    int64_t first = 0;
    for (int64_t m = 0; m < view->n_modules; m++) {
        lrk_plan_module part = plan_part(view->plan, m);
        if (part.n_added > 0) {
            lrki_json *json = lrki_json_new_object();
            lrki_json_put(&json, "module", lrki_json_new_integer(m));
            lrki_json_put(&json, "n", lrki_json_new_integer(part.n_added));
            lrki_json_put(&json, "mean",
                          lrki_json_new_real(mean_score(view->scores, first, part.rank_before, estimates)));
            lrki_json_append(&list, json);
        }
        first += part.rank_before;
    }
    return list;
}

static lrki_json *module_ranks(const round_view *view)
{
    lrki_json *list = lrki_json_new_array();
    for (int64_t m = 0; m < view->n_modules; m++)
        lrki_json_append(&list, lrki_json_new_integer(plan_part(view->plan, m).rank_after));
    return list;
}

static lrki_json *score_row(const lrk_score *score)
{
    lrki_json *row = lrki_json_new_array();
    lrki_json_append(&row, new_identity(score->identity));
    lrki_json_append(&row, lrki_json_new_integer(score->module));
    lrki_json_append(&row, lrki_json_new_real(score->score));
    lrki_json_append(&row, lrki_json_new_real(score->t1));
    lrki_json_append(&row, lrki_json_new_real(score->t2));
    lrki_json_append(&row, lrki_json_new_real(score->noise));
    lrki_json_append(&row, lrki_json_new_real(score->estimate));
    lrki_json_append(&row, lrki_json_new_boolean(score->flags & LRK_SCORE_EXACT));
    lrki_json_append(&row, lrki_json_new_boolean(score->flags & LRK_SCORE_BELOW_FLOOR));
    return row;
}

static lrki_json *score_rows(const lrk_scores *scores, int64_t n)
{
    lrki_json *rows = lrki_json_new_array();
    for (int64_t i = 0; i < n; i++) {
        lrk_score score = score_at(scores, i);
        lrki_json_append(&rows, score_row(&score));
    }
    return rows;
}

static void put_score_facts(lrki_json **json, const lrk_scores_info *info)
{
    lrki_json_put(json, "estimator", lrki_json_new_text(info->estimator));
    lrki_json_put(json, "loss_all", lrki_json_new_real(info->loss_all));
    lrki_json_put(json, "loss_none", lrki_json_new_real(info->loss_none));
    lrki_json_put(json, "noise_floor", lrki_json_new_real(info->noise_floor));
    lrki_json_put(json, "split_correlation", lrki_json_new_real(info->split_correlation));
    lrki_json_put(json, "evaluations", lrki_json_new_integer(info->evaluations));
    lrki_json_put(json, "differentiations", lrki_json_new_integer(info->differentiations));
    lrki_json_put(json, "n_exact", lrki_json_new_integer(info->n_exact));
}

static void put_plan_facts(lrki_json **json, const lrk_plan_info *info)
{
    lrki_json_put(json, "policy", lrki_json_new_text(info->policy));
    lrki_json_put(json, "cut", lrki_json_new_real(info->cut));
    lrki_json_put(json, "cut_next", lrki_json_new_real(info->cut_next));
    lrki_json_put(json, "ranks_before", lrki_json_new_integer(info->ranks_before));
    lrki_json_put(json, "ranks_after", lrki_json_new_integer(info->ranks_after));
    lrki_json_put(json, "parameters_before", lrki_json_new_integer(info->parameters_before));
    lrki_json_put(json, "parameters_after", lrki_json_new_integer(info->parameters_after));
}

lrki_json *lrki_trace_round(const lrk_adapters *adapters, const lrki_births *births, const lrk_scores *scores,
                            const lrk_plan *plan)
{
    lrk_scores_info info = {.struct_size = sizeof info};
    (void)lrk_scores_info_get(scores, &info);
    lrk_plan_info facts = plan_facts(plan);
    round_view view = {module_count(adapters), births, scores, plan};
    lrki_json *json = new_event("round");
    lrki_json_put(&json, "round", lrki_json_new_integer((int64_t)facts.round));
    lrki_json_put(&json, "step", lrki_json_new_integer(facts.step));
    put_score_facts(&json, &info);
    put_plan_facts(&json, &facts);
    lrki_json_put(&json, "dropped", dropped_ranks(&view));
    lrki_json_put(&json, "added", added_ranks(&view));
    lrki_json_put(&json, "receivers", receivers(&view, means_of_estimates(scores, info.n)));
    lrki_json_put(&json, "module_ranks", module_ranks(&view));
    lrki_json_put(&json, "scores", score_rows(scores, info.n));
    return json;
}
