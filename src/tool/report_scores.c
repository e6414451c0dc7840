/* SPDX-License-Identifier: MIT */
/*
 * The section on scores: for every round the distribution, the neighbourhood of the cut, and what they come to in words.
 */
#include <inttypes.h>
#include <math.h>

#include "page.h"

/* Scores that their own standard error would carry over the cut. */
static int64_t count_uncertain(const run_round *round)
{
    int64_t n = 0;
    double middle = isnan(round->cut_next) ? round->cut : (round->cut + round->cut_next) / 2;
    for (int64_t i = 0; i < round->n_scores; i++)
        n += fabs(round->scores[i].score - middle) < round->scores[i].noise;
    return n;
}

static int64_t count_noisy(const run_round *round)
{
    int64_t n = 0;
    for (int64_t i = 0; i < round->n_scores; i++)
        n += !isnan(round->scores[i].noise);
    return n;
}

static void draw_cut_facts(FILE *out, const run_round *round)
{
    char a[PAGE_NUMBER], b[PAGE_NUMBER];
    if (isnan(round->cut)) {
        fputs("<dt>dropped</dt><dd>none</dd>", out);
        return;
    }
    fprintf(out, "<dt>dropped</dt><dd>%s, up to %s</dd>", page_count(a, round->n_dropped),
            page_real(b, round->cut, 3));
    if (!isnan(round->cut_next))
        fprintf(out, "<dt>next that could go</dt><dd>%s</dd>", page_real(a, round->cut_next, 3));
    if (count_noisy(round) > 0)
        fprintf(out, "<dt>within error of the cut</dt><dd>%s</dd>", page_count(a, count_uncertain(round)));
}

static void draw_facts(FILE *out, const run_round *round)
{
    char a[PAGE_NUMBER], b[PAGE_NUMBER];
    fprintf(out, "<dl><dt>scores</dt><dd>%s, %s exact</dd>", page_count(a, round->n_scores),
            page_count(b, round->n_exact));
    draw_cut_facts(out, round);
    if (!isnan(round->split_correlation))
        fprintf(out, "<dt>halves of the batch</dt><dd>\u03c1 = %s</dd>",
                page_real(a, round->split_correlation, 2));
    if (!isnan(round->noise_floor))
        fprintf(out, "<dt>noise floor of the host</dt><dd>%s</dd>", page_real(a, round->noise_floor, 2));
    if (!isnan(round->loss_all))
        fprintf(out, "<dt>loss, all ranks / none</dt><dd>%s, %s</dd>", page_real(a, round->loss_all, 5),
                page_real(b, round->loss_none, 5));
    fputs("</dl>\n", out);
}

static void draw_round(FILE *out, const run *r, const run_round *round)
{
    fprintf(out, "<figure><h3>Round %" PRId64 " <small>step %" PRId64 " \u00b7 ", round->number, round->step);
    page_text(out, round->estimator);
    fputs("</small></h3>\n", out);
    fputs("<div class=\"pair\">", out);
    if (round->n_scores > 0) {
        report_score_histogram(out, r, round);
        report_score_cut(out, r, round);
    }
    draw_facts(out, round);
    fputs("</div></figure>\n", out);
}

void report_scores(FILE *out, const run *r)
{
    if (r->n_rounds == 0) return;
    fputs("<h2>Scores and the cut</h2><p class=\"note\">Left: all live ranks of the round. Right: the ranks "
          "next to the "
          "cut, lowest at the bottom, arrows for scores beyond the edge; the shaded band is the cut\u2019s "
          "uncertainty.</p>\n"
          "<div class=\"legend\"><span><i style=\"background:var(--drop)\"></i> dropped</span>"
          "<span><i style=\"background:var(--keep)\"></i> kept</span>"
          "<span><i class=\"dot\" style=\"background:var(--keep)\"></i> exact</span>"
          "<span><i style=\"background:var(--est)\"></i><i class=\"dot\" style=\"border:2px solid "
          "var(--keep)\"></i> estimated"
          "</span></div>\n<div class=\"grid wide\">\n",
          out);
    for (int64_t k = 0; k < r->n_rounds; k++)
        draw_round(out, r, &r->rounds[k]);
    fputs("</div>\n", out);
}
