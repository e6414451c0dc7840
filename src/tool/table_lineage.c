/* SPDX-License-Identifier: MIT */
/*
 * The lineage of ranks: first those that came or went during the run, then, folded away, those that were there from
 * start to end.
 */
#include <inttypes.h>
#include <math.h>

#include "page.h"

#define LIFE_WIDTH 150
#define LIFE_LEAST 2

static bool moved(const run_rank *rank)
{
    return rank->born_round >= 0 || rank->drop_round >= 0;
}

static int64_t last_step(const run *r)
{
    int64_t last = r->n_rounds > 0 ? r->rounds[r->n_rounds - 1].step : 0;
    for (int64_t i = 0; i < r->n_series; i++) {
        int64_t step = r->series[i].steps[r->series[i].n - 1];
        if (step > last) last = step;
    }
    return last;
}

/* A bar from birth to drop on the run's time. */
static void draw_life(FILE *out, const run *r, const run_rank *rank)
{
    page_scale x = {0, (double)last_step(r), 0, LIFE_WIDTH};
    double from = rank->born_round < 0 ? 0 : page_map(x, (double)r->rounds[rank->born_round].step);
    double to = rank->live || rank->drop_round < 0 ? LIFE_WIDTH
                                                   : page_map(x, (double)r->rounds[rank->drop_round].step);
    from = last_step(r) == 0 ? 0 : fmin(from, LIFE_WIDTH - LIFE_LEAST);
    fprintf(out,
            "<td class=\"l\"><svg class=\"life\" viewBox=\"0 0 %d 12\" aria-hidden=\"true\"><line "
            "class=\"gr\" x1=\"0\" "
            "x2=\"%d\" y1=\"6\" y2=\"6\"/><rect class=\"%s\" x=\"%.1f\" y=\"3\" width=\"%.1f\" height=\"6\" "
            "rx=\"2\"/></svg></td>",
            LIFE_WIDTH, LIFE_WIDTH, rank->live ? "keep" : "drop", from, fmax(to - from, LIFE_LEAST));
}

static void draw_fate(FILE *out, const run *r, const run_rank *rank)
{
    if (rank->live && rank->drop_round >= 0)
        fprintf(out, "<td class=\"l fate-l\">live again (dropped in round %" PRId64 ")</td>",
                r->rounds[rank->drop_round].number);
    else if (rank->live)
        fputs("<td class=\"l fate-l\">live</td>", out);
    else if (rank->drop_round >= 0)
        fprintf(out, "<td class=\"l fate-d\">dropped in round %" PRId64 " at step %" PRId64 "</td>",
                r->rounds[rank->drop_round].number, r->rounds[rank->drop_round].step);
    else
        fputs("<td class=\"l fate-d\">gone: the host went back</td>", out);
}

static void draw_rank(FILE *out, const run *r, const run_rank *rank)
{
    char number[PAGE_NUMBER];
    fprintf(out, "<tr><td>%" PRId64 "</td><td class=\"l\">", rank->identity);
    page_text(out, r->modules[rank->module].name);
    fprintf(out, "</td><td>%s</td>", rank->birth == RUN_UNKNOWN ? "?" : page_count(number, rank->birth));
    draw_life(out, r, rank);
    draw_fate(out, r, rank);
    fprintf(out, "<td>%s</td></tr>\n", page_real(number, rank->last_score, 4));
}

static void draw_table(FILE *out, const run *r, bool of_moved)
{
    fputs("<div class=\"panel scroll\"><table><thead><tr><th>rank</th><th class=\"l\">module</th><th>born at "
          "step</th>"
          "<th class=\"l\">life</th><th class=\"l\">fate</th><th>last score</th></tr></thead><tbody>\n",
          out);
    for (int64_t i = 0; i < r->n_lineage; i++)
        if (moved(&r->lineage[i]) == of_moved) draw_rank(out, r, &r->lineage[i]);
    fputs("</tbody></table></div>\n", out);
}

void report_lineage(FILE *out, const run *r)
{
    char number[PAGE_NUMBER];
    int64_t n_moved = 0;
    for (int64_t i = 0; i < r->n_lineage; i++)
        n_moved += moved(&r->lineage[i]);
    fputs("<h2>Lineage of ranks</h2>\n", out);
    if (n_moved == 0)
        fputs("<p class=\"note\">No rank came or went.</p>\n", out);
    else {
        fprintf(out, "<p class=\"note\">%s ranks came or went. A rank keeps its number for life.</p>\n",
                page_count(number, n_moved));
        draw_table(out, r, true);
    }
    if (n_moved == r->n_lineage) return;
    fprintf(out, "<details><summary>%s ranks that were there from start to end</summary>\n",
            page_count(number, r->n_lineage - n_moved));
    draw_table(out, r, false);
    fputs("</details>\n", out);
}
