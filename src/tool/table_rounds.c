/* SPDX-License-Identifier: MIT */
/*
 * The table of rounds: every number of a round that is not a list, and who received.
 */
#include <inttypes.h>

#include "page.h"

static void cell_count(FILE *out, int64_t value)
{
    char number[PAGE_NUMBER];
    fprintf(out, "<td>%s</td>", page_count(number, value));
}

static void cell_real(FILE *out, double value, int digits)
{
    char number[PAGE_NUMBER];
    fprintf(out, "<td>%s</td>", page_real(number, value, digits));
}

static void draw_receivers(FILE *out, const run *r, const run_round *round)
{
    char mean[PAGE_NUMBER];
    fputs("<tr class=\"under\"><td></td><td class=\"l\" colspan=\"14\">to ", out);
    for (int64_t i = 0; i < round->n_receivers; i++) {
        const run_receiver *to = &round->receivers[i];
        const run_module *m = &r->modules[to->module];
        fprintf(out, "%s<span title=\"", i == 0 ? "" : ", ");
        page_text(out, m->name);
        fprintf(out, ", mean score %s\">", page_real(mean, to->mean, 3));
        if (m->has_layer) fprintf(out, "%" PRId64 ".", r->col_layers[m->col]);
        page_text(out, r->row_labels[m->row]);
        fprintf(out, "&nbsp;+%" PRId64 "</span>", to->n);
    }
    fputs("</td></tr>\n", out);
}

static void draw_round(FILE *out, const run *r, const run_round *round)
{
    fputs("<tr>", out);
    cell_count(out, round->number);
    cell_count(out, round->step);
    cell_count(out, round->n_dropped);
    cell_count(out, round->n_added);
    cell_count(out, round->ranks_after);
    cell_count(out, round->parameters_after);
    cell_real(out, round->cut, 3);
    cell_real(out, round->cut_next, 3);
    cell_real(out, round->loss_all, 5);
    cell_real(out, round->loss_none, 5);
    cell_real(out, round->split_correlation, 2);
    cell_real(out, round->noise_floor, 2);
    cell_count(out, round->n_exact);
    cell_count(out, round->evaluations);
    cell_count(out, round->differentiations);
    fputs("</tr>\n", out);
    if (round->n_receivers > 0) draw_receivers(out, r, round);
}

void report_rounds(FILE *out, const run *r)
{
    if (r->n_rounds == 0) return;
    fputs(
        "<h2>Rounds</h2><p class=\"note\">Halves: rank correlation of the scores from either half of the "
        "batch. Floor: "
        "the host\u2019s own noise in a score. Forward, backward: passes over the batch that the round asked "
        "for.</p>"
        "<div class=\"panel scroll\"><table "
        "class=\"dense\"><thead><tr><th>round</th><th>step</th><th>dropped</th>"
        "<th>added</th><th>ranks</th><th>parameters</th><th>cut</th><th>next</th><th>loss, "
        "all</th><th>none</th>"
        "<th>halves</th><th>floor</th><th>exact</th><th>forward</th><th>backward</th></tr></thead><tbody>\n",
        out);
    for (int64_t k = 0; k < r->n_rounds; k++)
        draw_round(out, r, &r->rounds[k]);
    fputs("</tbody></table></div>\n", out);
}
