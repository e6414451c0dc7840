/* SPDX-License-Identifier: MIT */
/*
 * Totals over the rounds in three small drawings: ranks, parameters, and what scoring asked of the host.
 */
#include <inttypes.h>

#include "page.h"

#define WIDTH  360
#define HEIGHT 170
#define LEFT   62
#define RIGHT  350
#define TOP    12
#define BOTTOM 138

/* The number of round k; k = -1 is the start. */
typedef int64_t (*total_of)(const run *r, int64_t k);

static int64_t ranks(const run *r, int64_t k)
{
    return k < 0 ? r->rounds[0].ranks_before : r->rounds[k].ranks_after;
}

static int64_t parameters(const run *r, int64_t k)
{
    return k < 0 ? r->rounds[0].parameters_before : r->rounds[k].parameters_after;
}

static int64_t evaluations(const run *r, int64_t k)
{
    return r->rounds[k].evaluations;
}

static int64_t differentiations(const run *r, int64_t k)
{
    return r->rounds[k].differentiations;
}

static void draw_y(FILE *out, page_scale y)
{
    double ticks[PAGE_TICKS];
    char number[PAGE_NUMBER];
    int n = page_ticks(y.from, y.to, 4, ticks);
    for (int i = 0; i < n; i++) {
        double at = page_map(y, ticks[i]);
        if (ticks[i] != (double)(int64_t)ticks[i]) continue;
        fprintf(out,
                "<line class=\"gr\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%s</text>",
                LEFT, RIGHT, at, at, LEFT - 6, at + 4, page_count(number, (int64_t)ticks[i]));
    }
    fputc('\n', out);
}

static void draw_x_number(FILE *out, const run *r, int64_t k, double x, double *last)
{
    if (x - *last < 22) return;
    *last = x;
    if (k < 0)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">start</text>", x, BOTTOM + 15);
    else
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">R%" PRId64 "</text>", x, BOTTOM + 15,
                r->rounds[k].number);
}

static void draw_end(FILE *out, const char *legend)
{
    fprintf(out, "<line class=\"ax\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/></svg></div>%s</figure>\n",
            LEFT, RIGHT, BOTTOM, BOTTOM, legend);
}

static void draw_level(FILE *out, const run *r, const char *title, total_of total)
{
    char number[PAGE_NUMBER];
    double last = -100;
    page_scale x = {-1, (double)r->n_rounds - 1, LEFT + 14, RIGHT - 10}, y = {1e300, -1e300, BOTTOM, TOP};
    for (int64_t k = -1; k < r->n_rounds; k++) {
        if ((double)total(r, k) < y.from) y.from = (double)total(r, k);
        if ((double)total(r, k) > y.to) y.to = (double)total(r, k);
    }
    double margin = y.to - y.from > y.to * 0.02 ? (y.to - y.from) * 0.15 : y.to * 0.02 + 1;
    y.from -= margin;
    y.to += margin;
    fprintf(out, "<figure><h3>%s <small>after each round</small></h3>", title);
    page_svg(out, WIDTH, HEIGHT, 0, title);
    draw_y(out, y);
    fputs("<path class=\"curve c0\" d=\"", out);
    for (int64_t k = -1; k < r->n_rounds; k++)
        fprintf(out, "%c%.1f %.1f", k < 0 ? 'M' : 'L', page_map(x, (double)k),
                page_map(y, (double)total(r, k)));
    fputs("\"/>\n", out);
    for (int64_t k = -1; k < r->n_rounds; k++) {
        fprintf(out, "<circle class=\"f0\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>%s</title></circle>",
                page_map(x, (double)k), page_map(y, (double)total(r, k)), page_count(number, total(r, k)));
        draw_x_number(out, r, k, page_map(x, (double)k), &last);
    }
    draw_end(out, "");
}

static void draw_bar(FILE *out, double x, double width, double from, double to, const char *class, int64_t n,
                     const char *what)
{
    char number[PAGE_NUMBER];
    fprintf(
        out,
        "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>%s %s</title></rect>",
        class, x, to, width, from - to, page_count(number, n), what);
}

static void draw_cost(FILE *out, const run *r)
{
    double most = 1, last = -100, width = (RIGHT - LEFT) / (double)r->n_rounds;
    for (int64_t k = 0; k < r->n_rounds; k++) {
        double sum = (double)(evaluations(r, k) + differentiations(r, k));
        if (sum > most) most = sum;
    }
    page_scale y = {0, most * 1.08, BOTTOM, TOP};
    fputs("<figure><h3>Evaluations <small>a round</small></h3>", out);
    page_svg(out, WIDTH, HEIGHT, 0, "evaluations per round");
    draw_y(out, y);
    for (int64_t k = 0; k < r->n_rounds; k++) {
        double x = LEFT + width * (double)k, e = (double)evaluations(r, k),
               d = (double)differentiations(r, k);
        draw_bar(out, x + width * 0.15, width * 0.7, page_map(y, 0), page_map(y, e), "keep",
                 evaluations(r, k), "forward passes");
        draw_bar(out, x + width * 0.15, width * 0.7, page_map(y, e), page_map(y, e + d), "drop",
                 differentiations(r, k), "forward and backward passes");
        draw_x_number(out, r, k, x + width / 2, &last);
    }
    draw_end(out, "<div class=\"legend\"><span><i style=\"background:var(--keep)\"></i> forward</span><span>"
                  "<i style=\"background:var(--drop)\"></i> with backward</span></div>");
}

void report_totals(FILE *out, const run *r)
{
    if (r->n_rounds == 0) return;
    fputs("<h2>Totals</h2><div class=\"grid three\">\n", out);
    draw_level(out, r, "Ranks", ranks);
    draw_level(out, r, "Parameters", parameters);
    draw_cost(out, r);
    fputs("</div>\n", out);
}
