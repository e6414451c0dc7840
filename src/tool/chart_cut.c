/* SPDX-License-Identifier: MIT */
/*
 * The scores next to the cut, one a row from the lowest: a dot, a whisker of one standard error to either side, filled
 * if the score is exact and open if it is an estimate. The band is the uncertainty of the cut: the median standard
 * error of the scores shown, around the middle between the last rank dropped and the first kept.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "page.h"

#define WIDTH      330
#define LEFT       12
#define RIGHT      318
#define TOP        18
#define ROW        9
#define MOST       44
#define BEYOND     8 /* kept ranks shown, at least */
#define AXIS_SPACE 32

typedef struct cut_view {
    const run *r;
    const run_round *round;
    int64_t first; /* of the ascending scores */
    int64_t n;
    double bottom;
    page_scale x;
    double middle; /* of the cut, NaN: nothing was dropped */
    double error;  /* median standard error, NaN: unknown  */
} cut_view;

static int by_double(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median_noise(const run_score *scores, int64_t n)
{
    int64_t known = 0;
    double *noise = run_alloc(n, sizeof *noise);
    for (int64_t i = 0; i < n; i++)
        if (!isnan(scores[i].noise)) noise[known++] = scores[i].noise;
    qsort(noise, (size_t)known, sizeof *noise, by_double);
    double median = known == 0 ? NAN : noise[known / 2];
    free(noise);
    return median;
}

/* The window: the dropped ranks and about as many above them, without the lowest ones if that is too many rows. */
static void choose_window(cut_view *view)
{
    const run_round *round = view->round;
    int64_t last = 0;
    for (int64_t i = 0; i < round->n_scores; i++)
        if (round->scores[i].dropped) last = i + 1;
    int64_t beyond = last > BEYOND ? last : BEYOND;
    if (beyond > MOST / 2) beyond = MOST / 2;
    int64_t end = last + beyond < round->n_scores ? last + beyond : round->n_scores;
    view->first = end > MOST ? end - MOST : 0;
    view->n = end - view->first;
}

/*
 * Centred on the cut: four of five dots fit, and twice the uncertainty of the cut, so that one far score does not
 * squeeze the others. Without a cut all dots fit.
 */
static void choose_scale(cut_view *view)
{
    const run_score *scores = view->round->scores + view->first;
    double centre = isnan(view->middle) ? (scores[0].score + scores[view->n - 1].score) / 2 : view->middle;
    double *away = run_alloc(view->n, sizeof *away);
    for (int64_t i = 0; i < view->n; i++)
        away[i] = fabs(scores[i].score - centre);
    qsort(away, (size_t)view->n, sizeof *away, by_double);
    double reach = isnan(view->middle) ? away[view->n - 1] : away[view->n * 4 / 5];
    free(away);
    reach = fmax(reach * 1.15, isnan(view->error) ? 0 : 2 * view->error);
    if (reach == 0) reach = fabs(centre) * 0.1 + 1e-12;
    view->x = (page_scale){centre - reach, centre + reach, LEFT, RIGHT};
}

static double clipped(const cut_view *view, double score)
{
    return page_map(view->x, fmin(fmax(score, view->x.from), view->x.to));
}

static void draw_axis(FILE *out, const cut_view *view)
{
    double ticks[PAGE_TICKS], last = -1000;
    char number[PAGE_NUMBER];
    int n = page_ticks(view->x.from, view->x.to, 4, ticks);
    for (int i = 0; i < n; i++) {
        double x = page_map(view->x, ticks[i]);
        fprintf(out, "<line class=\"gr\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%.1f\"/>", x, x, TOP,
                view->bottom);
        if (x - last < 50) continue;
        last = x;
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>", x, view->bottom + 14,
                x < LEFT + 20    ? "start"
                : x > RIGHT - 20 ? "end"
                                 : "middle",
                page_real(number, fabs(ticks[i]) < (view->x.to - view->x.from) * 1e-9 ? 0 : ticks[i], 3));
    }
    fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"middle\">score, with one standard error</text>\n",
            (LEFT + RIGHT) / 2, view->bottom + 28);
}

static void draw_cut(FILE *out, const cut_view *view)
{
    char number[PAGE_NUMBER];
    if (isnan(view->middle)) return;
    double x = clipped(view, view->middle);
    if (!isnan(view->error)) {
        double from = clipped(view, view->middle - view->error),
               to = clipped(view, view->middle + view->error);
        fprintf(out,
                "<rect class=\"band\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%.1f\"><title>cut \u00b1 "
                "median standard "
                "error %s</title></rect>",
                from, TOP, to - from, view->bottom - TOP, page_real(number, view->error, 3));
    }
    bool right = x > (LEFT + RIGHT) / 2.0;
    fprintf(out,
            "<line class=\"cut\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%.1f\"/><text class=\"lab\" "
            "x=\"%.1f\" y=\"%d\" "
            "text-anchor=\"%s\">cut</text>\n",
            x, x, TOP - 6, view->bottom, right ? x - 5 : x + 5, TOP - 5, right ? "end" : "start");
}

/* A dot; or, for a score beyond the edge, an arrow there. */
static void draw_mark(FILE *out, const cut_view *view, const run_score *score, const char *tone, double y)
{
    const char *open = score->exact ? "" : "open ";
    if (score->score < view->x.from)
        fprintf(out, "<path class=\"%s%s\" d=\"M%d %.1fl7 -3.5v7z\"/>", open, tone, LEFT - 6, y);
    else if (score->score > view->x.to)
        fprintf(out, "<path class=\"%s%s\" d=\"M%d %.1fl-7 -3.5v7z\"/>", open, tone, RIGHT + 6, y);
    else
        fprintf(out, "<circle class=\"%s%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"/>", open, tone,
                page_map(view->x, score->score), y, score->exact ? "3.2" : "2.8");
}

static void draw_score(FILE *out, const cut_view *view, const run_score *score, double y)
{
    char value[PAGE_NUMBER], noise[PAGE_NUMBER];
    const char *tone = score->dropped ? "drop" : "keep";
    fprintf(out, "<g><title>rank %" PRId64 " of ", score->identity);
    page_text(out, view->r->modules[score->module].name);
    fprintf(out, ": %s \u00b1 %s, %s, %s%s</title>", page_real(value, score->score, 4),
            page_real(noise, score->noise, 2), score->exact ? "exact" : "estimated",
            score->dropped ? "dropped" : "kept", score->below_floor ? ", below the noise floor" : "");
    if (!isnan(score->noise))
        fprintf(out, "<line class=\"w-%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", tone,
                clipped(view, score->score - score->noise), clipped(view, score->score + score->noise), y, y);
    draw_mark(out, view, score, tone, y);
    fputs("</g>\n", out);
}

void report_score_cut(FILE *out, const run *r, const run_round *round)
{
    cut_view view = {.r = r, .round = round};
    choose_window(&view);
    view.bottom = TOP + ROW * (double)view.n;
    view.middle = isnan(round->cut_next) ? round->cut : (round->cut + round->cut_next) / 2;
    view.error = median_noise(round->scores + view.first, view.n);
    choose_scale(&view);
    page_svg(out, WIDTH, view.bottom + AXIS_SPACE, 0, "scores next to the cut");
    draw_axis(out, &view);
    draw_cut(out, &view);
    for (int64_t i = 0; i < view.n; i++)
        draw_score(out, &view, &round->scores[view.first + i], view.bottom - ROW * ((double)i + 0.5));
    fputs("</svg></div>\n", out);
}
