/* SPDX-License-Identifier: MIT */
/*
 * All scores of a round as a histogram. Scores span decades on both sides of 0, so that the axis is asinh(score / unit):
 * linear within a unit of 0, logarithmic beyond. The unit is a tenth of the median magnitude.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "page.h"

#define WIDTH  430
#define HEIGHT 196
#define LEFT   40
#define RIGHT  424
#define TOP    10
#define BOTTOM 162
#define BINS   36

enum { DROP_EXACT, DROP_ESTIMATED, KEEP_EXACT, KEEP_ESTIMATED, PARTS };

typedef struct histogram {
    const run_round *round;
    double unit;
    page_scale x;
    page_scale y;
    int64_t bins[BINS][PARTS];
    int64_t most;
} histogram;

static int by_double(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double find_unit(const run_round *round)
{
    int64_t n = 0;
    double *magnitudes = run_alloc(round->n_scores, sizeof *magnitudes);
    for (int64_t i = 0; i < round->n_scores; i++)
        if (round->scores[i].score != 0) magnitudes[n++] = fabs(round->scores[i].score);
    qsort(magnitudes, (size_t)n, sizeof *magnitudes, by_double);
    double unit = n == 0 ? 1 : magnitudes[n / 2] / 10;
    free(magnitudes);
    return unit > 0 ? unit : 1; /* a tenth of the smallest double is 0 */
}

static double bent(const histogram *h, double score)
{
    return asinh(fmin(fmax(score / h->unit, -1e300), 1e300));
}

static int part_of(const run_score *score)
{
    return score->dropped ? (score->exact ? DROP_EXACT : DROP_ESTIMATED)
                          : (score->exact ? KEEP_EXACT : KEEP_ESTIMATED);
}

static void fill_bins(histogram *h)
{
    for (int64_t i = 0; i < h->round->n_scores; i++) {
        const run_score *score = &h->round->scores[i];
        page_scale bins = {h->x.from, h->x.to, 0, BINS};
        int bin = (int)page_map(bins, bent(h, score->score));
        h->bins[bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin][part_of(score)]++;
    }
    for (int i = 0; i < BINS; i++) {
        int64_t sum = 0;
        for (int part = 0; part < PARTS; part++)
            sum += h->bins[i][part];
        if (sum > h->most) h->most = sum;
    }
}

static histogram make(const run_round *round)
{
    histogram h = {.round = round, .unit = find_unit(round)};
    double low = bent(&h, round->scores[0].score), high = bent(&h, round->scores[round->n_scores - 1].score);
    double margin = (high - low) / 40 + 1e-9;
    h.x = (page_scale){low - margin, high + margin, LEFT, RIGHT};
    fill_bins(&h);
    h.y = (page_scale){0, (double)h.most * 1.2, BOTTOM, TOP};
    return h;
}

/* ---- drawing ---- */

static void draw_x_tick(FILE *out, const histogram *h, double score, double *last)
{
    char number[PAGE_NUMBER];
    double at = bent(h, score);
    if (at < h->x.from || at > h->x.to) return;
    double x = page_map(h->x, at);
    fprintf(out, "<line class=\"gr\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", x, x, TOP, BOTTOM);
    if (x - *last < 46) return;
    *last = x;
    fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", x, BOTTOM + 14,
            page_real(number, score, 3));
}

/* Powers of ten on both sides and 0, from left to right. */
static void draw_x_axis(FILE *out, const histogram *h)
{
    double last = -1000;
    int lowest = (int)floor(log10(h->unit)), highest = lowest + 12;
    for (int e = highest; e >= lowest; e--)
        draw_x_tick(out, h, -pow(10, e), &last);
    draw_x_tick(out, h, 0, &last);
    for (int e = lowest; e <= highest; e++)
        draw_x_tick(out, h, pow(10, e), &last);
    fprintf(
        out,
        "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">score (linear near 0, logarithmic beyond)</text>\n",
        (LEFT + RIGHT) / 2, HEIGHT - 4);
}

static void draw_y_axis(FILE *out, const histogram *h)
{
    double ticks[PAGE_TICKS];
    int n = page_ticks(0, h->y.to, 4, ticks);
    for (int i = 0; i < n; i++) {
        double y = page_map(h->y, ticks[i]);
        if (ticks[i] != floor(ticks[i])) continue;
        fprintf(out,
                "<line class=\"gr\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%.0f</text>",
                LEFT, RIGHT, y, y, LEFT - 6, y + 4, ticks[i]);
    }
    fputc('\n', out);
}

static void draw_bin(FILE *out, const histogram *h, int bin)
{
    static const char *const classes[PARTS] = {"drop", "est-drop", "keep", "est"};
    static const char *const words[PARTS] = {"dropped, exact", "dropped, estimated", "kept, exact",
                                             "kept, estimated"};
    char low[PAGE_NUMBER], high[PAGE_NUMBER];
    page_scale edges = {0, BINS, h->x.from, h->x.to};
    double from = page_map(edges, bin), to = page_map(edges, bin + 1);
    int64_t below = 0;
    for (int part = 0; part < PARTS; part++) {
        int64_t n = h->bins[bin][part];
        if (n == 0) continue;
        double top = page_map(h->y, (double)(below + n)), bottom = page_map(h->y, (double)below);
        fprintf(out,
                "<rect class=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"><title>%" PRId64
                " %s: %s to %s"
                "</title></rect>",
                classes[part], page_map(h->x, from) + 0.4, top,
                page_map(h->x, to) - page_map(h->x, from) - 0.8, bottom - top, n, words[part],
                page_real(low, sinh(from) * h->unit, 3), page_real(high, sinh(to) * h->unit, 3));
        below += n;
    }
}

void report_score_histogram(FILE *out, const run *r, const run_round *round)
{
    char cut[PAGE_NUMBER];
    (void)r;
    histogram h = make(round);
    page_svg(out, WIDTH, HEIGHT, 0, "distribution of scores");
    draw_x_axis(out, &h);
    draw_y_axis(out, &h);
    for (int i = 0; i < BINS; i++)
        draw_bin(out, &h, i);
    fprintf(out, "<line class=\"ax\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>", LEFT, RIGHT, BOTTOM, BOTTOM);
    if (!isnan(round->cut)) {
        double x = page_map(h.x, bent(&h, round->cut));
        bool right = x > (LEFT + RIGHT) / 2.0;
        fprintf(out,
                "<line class=\"cut\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/><text class=\"lab\" "
                "x=\"%.1f\" y=\"%d\" "
                "text-anchor=\"%s\">cut %s</text>",
                x, x, TOP, BOTTOM, right ? x - 5 : x + 5, TOP + 10, right ? "end" : "start",
                page_real(cut, round->cut, 3));
    }
    fputs("</svg></div>\n", out);
}
