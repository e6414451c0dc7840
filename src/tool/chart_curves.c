/* SPDX-License-Identifier: MIT */
/*
 * Values over steps, with a mark where a round was. All losses share one drawing; every other name has its own. A dense
 * series is drawn thin, with its running mean on top; the scale is fitted to the means, so that a few outliers of
 * single batches do not flatten the rest.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "page.h"

#define WIDTH   1120
#define HEIGHT  300
#define LEFT    56
#define RIGHT   1108
#define TOP     22
#define BOTTOM  262
#define DENSE   120  /* values from which on a running mean is drawn */
#define MEANS   40   /* windows of that mean over the whole series   */
#define POINTS  2000 /* drawn of a series, at most about             */
#define COLOURS 6

typedef struct curve_view {
    const run *r;
    page_scale x;
    page_scale y;
} curve_view;

static bool is_loss(const run_series *series)
{
    return strstr(series->name, "loss") != NULL;
}

/* Only losses are noisy enough for a mean to say more than the values. */
static bool is_dense(const run_series *series)
{
    return is_loss(series) && series->n >= DENSE;
}

/* Values on either side that the mean of a value takes in. */
static int64_t reach_of(const run_series *series)
{
    return is_dense(series) ? series->n / 2 / MEANS : 0;
}

/* Mean of the finite values around i; NaN if there are none. */
static double running_mean(const run_series *series, int64_t i)
{
    double sum = 0;
    int64_t n = 0, reach = reach_of(series);
    int64_t first = i < reach ? 0 : i - reach, last = i + reach < series->n ? i + reach : series->n - 1;
    for (int64_t j = first; j <= last; j++) {
        if (isnan(series->values[j])) continue;
        sum += series->values[j];
        n++;
    }
    return n == 0 ? NAN : sum / (double)n;
}

/* ---- scales ---- */

static void widen(page_scale *scale, double value)
{
    if (isnan(value)) return;
    scale->from = fmin(scale->from, value);
    scale->to = fmax(scale->to, value);
}

static void fit(curve_view *view, const run_series *series)
{
    for (int64_t i = 0; i < series->n; i++) {
        widen(&view->x, (double)series->steps[i]);
        widen(&view->y, running_mean(series, i));
    }
}

static curve_view view_of(const run *r, const run_series *const *list, int n)
{
    curve_view view = {r, {INFINITY, -INFINITY, LEFT, RIGHT}, {INFINITY, -INFINITY, BOTTOM, TOP}};
    for (int i = 0; i < n; i++)
        fit(&view, list[i]);
    for (int64_t k = 0; k < r->n_rounds; k++)
        widen(&view.x, (double)r->rounds[k].step);
    if (!(view.y.from <= view.y.to)) view.y.from = view.y.to = 0;
    double margin = (view.y.to - view.y.from) * 0.06;
    if (margin == 0) margin = fabs(view.y.to) * 0.05 + 1e-9;
    view.y.from -= margin;
    view.y.to += margin;
    return view;
}

/* ---- drawing ---- */

static void draw_axes(FILE *out, const curve_view *view)
{
    double ticks[PAGE_TICKS];
    char number[PAGE_NUMBER];
    int n = page_ticks(view->y.from, view->y.to, 5, ticks);
    for (int i = 0; i < n; i++) {
        double y = page_map(view->y, ticks[i]);
        fprintf(out,
                "<line class=\"gr\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%s</text>",
                LEFT, RIGHT, y, y, LEFT - 7, y + 4, page_real(number, ticks[i], 4));
    }
    n = page_ticks(view->x.from, view->x.to, 10, ticks);
    for (int i = 0; i < n; i++)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>",
                page_map(view->x, ticks[i]), BOTTOM + 16, page_count(number, (int64_t)ticks[i]));
    fprintf(out,
            "<line class=\"ax\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/><text x=\"%d\" y=\"%d\" "
            "text-anchor=\"middle\">"
            "optimizer step</text>\n",
            LEFT, RIGHT, BOTTOM, BOTTOM, (LEFT + RIGHT) / 2, HEIGHT - 4);
}

static void draw_round_marks(FILE *out, const curve_view *view)
{
    double last = -1000;
    for (int64_t k = 0; k < view->r->n_rounds; k++) {
        const run_round *round = &view->r->rounds[k];
        double x = page_map(view->x, (double)round->step);
        fprintf(out,
                "<g><title>round %" PRId64 " at step %" PRId64 ": %" PRId64 " dropped, %" PRId64
                " added</title>"
                "<line class=\"round\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>",
                round->number, round->step, round->n_dropped, round->n_added, x, x, TOP, BOTTOM);
        if (x - last > 24) {
            fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">R%" PRId64 "</text>", x, TOP - 7,
                    round->number);
            last = x;
        }
        fputs("</g>\n", out);
    }
}

static double kept_inside(const curve_view *view, double value)
{
    return fmin(fmax(page_map(view->y, value), TOP), BOTTOM);
}

/* A line through the values (or their running means); null breaks it. */
static void draw_line(FILE *out, const curve_view *view, const run_series *series, bool mean,
                      const char *class)
{
    bool down = false;
    int64_t stride = series->n / POINTS + 1;
    fprintf(out, "<path class=\"curve %s\" d=\"", class);
    for (int64_t i = 0; i < series->n; i += stride) {
        double value = mean ? running_mean(series, i) : series->values[i];
        if (!isnan(value))
            fprintf(out, "%c%.1f %.1f", down ? 'L' : 'M', page_map(view->x, (double)series->steps[i]),
                    kept_inside(view, value));
        down = !isnan(value);
    }
    fputs("\"/>\n", out);
}

static void draw_points(FILE *out, const curve_view *view, const run_series *series, int colour)
{
    char number[PAGE_NUMBER];
    for (int64_t i = 0; i < series->n; i++) {
        if (isnan(series->values[i])) continue;
        fprintf(out, "<circle class=\"f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>", colour,
                page_map(view->x, (double)series->steps[i]), page_map(view->y, series->values[i]));
        page_text(out, series->name);
        fprintf(out, " %s at step %" PRId64 "</title></circle>\n", page_real(number, series->values[i], 5),
                series->steps[i]);
    }
}

static void draw_series(FILE *out, const curve_view *view, const run_series *series, int colour)
{
    char class[16];
    snprintf(class, sizeof class, "thin c%d", colour);
    if (is_dense(series)) draw_line(out, view, series, false, class);
    draw_line(out, view, series, true, class + 5);
    if (series->n < DENSE) draw_points(out, view, series, colour);
}

static void draw_legend(FILE *out, const run_series *const *list, int n)
{
    char number[PAGE_NUMBER];
    fputs("<div class=\"legend\">", out);
    for (int i = 0; i < n; i++) {
        const run_series *series = list[i];
        fprintf(out, "<span><i class=\"line\" style=\"background:var(--c%d)\"></i>", i % COLOURS);
        page_text(out, series->name);
        fprintf(out, ", last %s", page_real(number, series->values[series->n - 1], 4));
        if (is_dense(series)) fprintf(out, " (thick: mean of %" PRId64 ")", 2 * reach_of(series) + 1);
        fputs("</span>", out);
    }
    fputs("</div>", out);
}

static void draw_figure(FILE *out, const run *r, const run_series *const *list, int n, const char *title)
{
    curve_view view = view_of(r, list, n);
    fputs("<figure><h3>", out);
    page_text(out, title);
    fputs("</h3>", out);
    page_svg(out, WIDTH, HEIGHT, 640, title);
    draw_axes(out, &view);
    draw_round_marks(out, &view);
    for (int i = 0; i < n; i++)
        draw_series(out, &view, list[i], i % COLOURS);
    fputs("</svg></div>\n", out);
    draw_legend(out, list, n);
    fputs("</figure>\n", out);
}

void report_curves(FILE *out, const run *r)
{
    if (r->n_series == 0) return;
    int n = 0;
    const run_series **losses = run_alloc(r->n_series, sizeof *losses);
    for (int64_t i = 0; i < r->n_series; i++)
        if (is_loss(&r->series[i])) losses[n++] = &r->series[i];
    fputs("<h2>Curves</h2><div class=\"grid\">\n", out);
    if (n > 0) draw_figure(out, r, losses, n, n == 1 ? losses[0]->name : "Losses");
    for (int64_t i = 0; i < r->n_series; i++) {
        const run_series *one = &r->series[i];
        if (!is_loss(one)) draw_figure(out, r, &one, 1, one->name);
    }
    fputs("</div>\n", out);
    free(losses);
}
