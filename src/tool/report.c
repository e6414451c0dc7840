/* SPDX-License-Identifier: MIT */
/*
 * The report's page: the head with the facts, then the parts.
 */
#include <math.h>
#include <string.h>

#include "page.h"

static void tile_open(FILE *out, const char *value)
{
    fprintf(out, "<div class=\"tile\"><b>%s</b>", value);
}

static void tile_level(FILE *out, const char *what, int64_t start, int64_t end)
{
    char number[PAGE_NUMBER], change[PAGE_NUMBER];
    tile_open(out, page_count(number, end));
    fprintf(out, "<span>%s</span><i>at the start %s (%s)</i></div>\n", what, page_count(number, start),
            page_change(change, end - start));
}

static void tile_moves(FILE *out, const run *r)
{
    char number[PAGE_NUMBER], more[PAGE_NUMBER];
    int64_t dropped = 0, added = 0;
    for (int64_t k = 0; k < r->n_rounds; k++) {
        dropped += r->rounds[k].n_dropped;
        added += r->rounds[k].n_added;
    }
    tile_open(out, page_count(number, dropped));
    fprintf(out, "<span>ranks dropped</span><i>%s added, in %s rounds</i></div>\n", page_count(number, added),
            page_count(more, r->n_rounds));
}

/* 2 evaluations a rank and the two baselines: what ablating every rank would take. */
static void tile_cost(FILE *out, const run *r)
{
    char number[PAGE_NUMBER], more[PAGE_NUMBER];
    int64_t forwards = 0, backwards = 0, naive = 0;
    for (int64_t k = 0; k < r->n_rounds; k++) {
        forwards += r->rounds[k].evaluations;
        backwards += r->rounds[k].differentiations;
        naive += 2 * r->rounds[k].n_scores + 2;
    }
    tile_open(out, page_count(number, forwards));
    fputs("<span>evaluations to score</span><i>", out);
    if (backwards > 0) fprintf(out, "and %s with backward; ", page_count(more, backwards));
    fprintf(out, "ablating all: %s</i></div>\n", page_count(number, naive));
}

static double least_value(const run_series *series)
{
    double least = NAN;
    for (int64_t i = 0; i < series->n; i++)
        least = fmin(least, series->values[i]);
    return least;
}

static void tile_loss(FILE *out, const run_series *series)
{
    char number[PAGE_NUMBER], more[PAGE_NUMBER];
    tile_open(out, page_real(number, series->values[series->n - 1], 4));
    fputs("<span>", out);
    page_text(out, series->name);
    fprintf(out, "</span><i>first %s, least %s</i></div>\n", page_real(number, series->values[0], 4),
            page_real(more, least_value(series), 4));
}

/* The loss to show: of the development data if there is one. */
static const run_series *chief_loss(const run *r)
{
    const run_series *chief = NULL;
    for (int64_t i = 0; i < r->n_series; i++) {
        if (strstr(r->series[i].name, "loss") == NULL) continue;
        bool better = strstr(r->series[i].name, "dev") != NULL || strstr(r->series[i].name, "val") != NULL;
        if (chief == NULL || better) chief = &r->series[i];
    }
    return chief;
}

static void draw_head(FILE *out, const run *r)
{
    char number[PAGE_NUMBER];
    fputs("<header><h1>", out);
    page_text(out, r->label == NULL ? "Rank allocation" : r->label);
    fprintf(out, "</h1><p class=\"soft\">%s adapted modules", page_count(number, r->n_modules));
    if (r->n_rounds > 0) {
        fputs(" \u00b7 scores by ", out);
        page_text(out, r->rounds[0].estimator);
        fputs(" \u00b7 policy ", out);
        page_text(out, r->rounds[0].policy);
    }
    if (!r->ended) fputs(" \u00b7 the trace has no end: the run goes on or broke off", out);
    fputs("</p></header>\n<div class=\"tiles\">\n", out);
    tile_level(out, "ranks", r->ranks, r->final_total);
    tile_level(out, "parameters", r->parameters, r->final_parameters);
    tile_moves(out, r);
    tile_cost(out, r);
    if (chief_loss(r) != NULL) tile_loss(out, chief_loss(r));
    fputs("</div>\n", out);
}

void report_page(FILE *out, const run *r)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>",
          out);
    page_text(out, r->label == NULL ? "Rank allocation" : r->label);
    fputs(" \u2013 lorank report</title>\n", out);
    page_style(out);
    fputs("</head><body><main>\n", out);
    draw_head(out, r);
    report_heat_maps(out, r);
    report_curves(out, r);
    report_totals(out, r);
    report_scores(out, r);
    report_rounds(out, r);
    report_lineage(out, r);
    fputs("<footer>Drawn by lorank from a trace of lorank ", out);
    page_text(out, r->version);
    fputs(".</footer>\n</main></body></html>\n", out);
}
