/* SPDX-License-Identifier: MIT */
/*
 * Heat maps of ranks, kind of module by layer: before, after, the change, and one small map a round.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "page.h"

#define SHADES     9
#define CHANGES    4
#define LEAST_SPAN 3 /* of the scale of changes: a single rank is no strong colour */

typedef struct heat_size {
    double left; /* room for labels */
    double top;
    double cell_w;
    double cell_h;
    double gap;
    bool numbers;
} heat_size;

typedef struct heat_map {
    const run *r;
    const int64_t *values; /* [n_modules] */
    const int64_t *before; /* NULL: values are shown; else their change against these */
    int64_t most;          /* greatest value, or greatest change either way */
    heat_size size;
    const char *title;
} heat_map;

static heat_size full_size(const run *r)
{
    size_t longest = 0;
    for (int i = 0; i < r->n_rows; i++)
        if (strlen(r->row_labels[i]) > longest) longest = strlen(r->row_labels[i]);
    double cell = r->n_cols <= 8 ? 34 : r->n_cols <= 16 ? 30 : 25;
    return (heat_size){
        (double)longest * 6.3 + 12, r->has_layers ? 20 : 4, cell, cell > 30 ? 27 : 24, 2, true};
}

/* ---- cells ---- */

static const char *cell_class(const heat_map *map, int64_t module, char class[4])
{
    int64_t value = map->values[module];
    if (map->before == NULL) {
        if (value == 0) return "e";
        int64_t span = map->most - 1; /* rank 1 has the palest shade */
        int64_t shade = span == 0 ? SHADES / 2 : ((value - 1) * (SHADES - 1) + span / 2) / span;
        snprintf(class, 4, "s%d", (int)shade);
        return class;
    }
    int64_t change = value - map->before[module];
    if (change == 0 || map->most == 0) return "z";
    int64_t step = (llabs(change) * CHANGES + map->most - 1) / map->most;
    snprintf(class, 4, "%c%d", change < 0 ? 'n' : 'p', (int)(step > CHANGES ? CHANGES : step));
    return class;
}

static void cell_title(FILE *out, const heat_map *map, int64_t module)
{
    const run_module *m = &map->r->modules[module];
    page_text(out, m->name);
    fprintf(out, ": rank %" PRId64, map->values[module]);
    if (map->before != NULL) fprintf(out, ", before %" PRId64, map->before[module]);
    fprintf(out, " (%" PRId64 " \u00d7 %" PRId64 ")", m->n_in, m->n_out);
}

static void draw_cell(FILE *out, const heat_map *map, int64_t module)
{
    char class[4], number[PAGE_NUMBER];
    const heat_size *s = &map->size;
    const run_module *m = &map->r->modules[module];
    double x = s->left + m->col * (s->cell_w + s->gap), y = s->top + m->row * (s->cell_h + s->gap);
    int64_t value = map->values[module];
    fprintf(out, "<g class=\"%s\"><title>", cell_class(map, module, class));
    cell_title(out, map, module);
    fprintf(out, "</title><rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"%d\"/>", x, y,
            s->cell_w, s->cell_h, s->numbers ? 3 : 1);
    if (s->numbers) {
        const char *text = map->before == NULL ? page_count(number, value)
                                               : page_change(number, value - map->before[module]);
        if (map->before != NULL && value == map->before[module]) text = "\u00b7";
        fprintf(out, "<text class=\"big\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>",
                x + s->cell_w / 2, y + s->cell_h / 2 + 4, text);
    }
    fputs("</g>\n", out);
}

/* ---- frame ---- */

static void draw_labels(FILE *out, const heat_map *map)
{
    const heat_size *s = &map->size;
    for (int i = 0; i < map->r->n_rows; i++) {
        fprintf(out, "<text class=\"lab\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", s->left - 6,
                s->top + i * (s->cell_h + s->gap) + s->cell_h / 2 + 4);
        page_text(out, map->r->row_labels[i]);
        fputs("</text>", out);
    }
    for (int i = 0; map->r->has_layers && i < map->r->n_cols; i++)
        fprintf(out, "<text x=\"%.1f\" y=\"13\" text-anchor=\"middle\">%" PRId64 "</text>",
                s->left + i * (s->cell_w + s->gap) + s->cell_w / 2, map->r->col_layers[i]);
    fputc('\n', out);
}

static int64_t shown(const heat_map *map, int64_t module)
{
    return map->values[module] - (map->before == NULL ? 0 : map->before[module]);
}

static const char *sum_text(const heat_map *map, char number[PAGE_NUMBER], int64_t sum)
{
    return map->before == NULL ? page_count(number, sum) : page_change(number, sum);
}

/* Sums at the right and below. */
static void draw_sums(FILE *out, const heat_map *map)
{
    char number[PAGE_NUMBER];
    const heat_size *s = &map->size;
    const run *r = map->r;
    double right = s->left + r->n_cols * (s->cell_w + s->gap) + 5;
    double below = s->top + r->n_rows * (s->cell_h + s->gap) + 12;
    for (int row = 0; row < r->n_rows; row++) {
        int64_t sum = 0;
        for (int64_t i = 0; i < r->n_modules; i++)
            sum += r->modules[i].row == row ? shown(map, i) : 0;
        fprintf(out, "<text class=\"sum\" x=\"%.1f\" y=\"%.1f\">%s</text>", right,
                s->top + row * (s->cell_h + s->gap) + s->cell_h / 2 + 4, sum_text(map, number, sum));
    }
    for (int col = 0; r->has_layers && col < r->n_cols; col++) {
        int64_t sum = 0;
        for (int64_t i = 0; i < r->n_modules; i++)
            sum += r->modules[i].has_layer && r->modules[i].col == col ? shown(map, i) : 0;
        fprintf(out, "<text class=\"sum\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>",
                s->left + col * (s->cell_w + s->gap) + s->cell_w / 2, below, sum_text(map, number, sum));
    }
    fputc('\n', out);
}

static double map_width(const heat_map *map)
{
    return map->size.left + map->r->n_cols * (map->size.cell_w + map->size.gap) +
           (map->size.numbers ? 36 : 2);
}

static void draw_map(FILE *out, const heat_map *map)
{
    const heat_size *s = &map->size;
    double height = s->top + map->r->n_rows * (s->cell_h + s->gap) + (s->numbers ? 18 : 2);
    double width = map_width(map);
    page_svg(out, width, height, s->numbers ? width * 0.8 : 0, map->title);
    if (s->numbers) draw_labels(out, map);
    for (int64_t i = 0; i < map->r->n_modules; i++)
        draw_cell(out, map, i);
    if (s->numbers) draw_sums(out, map);
    fputs("</svg></div>\n", out);
}

/* ---- legends ---- */

static void legend_ranks(FILE *out, int64_t most)
{
    fputs("<div class=\"legend\"><span class=\"scale\">rank 1 <b>", out);
    for (int i = 0; i < SHADES; i++)
        fprintf(out, "<i style=\"background:var(--s%d)\"></i>", i);
    fprintf(out,
            "</b> %" PRId64
            "</span><span><i style=\"border:1px dashed var(--mark)\"></i> rank 0</span></div>\n",
            most);
}

static void legend_change(FILE *out, int64_t most)
{
    fprintf(out, "<div class=\"legend\"><span class=\"scale\">\u2212%" PRId64 " <b>", most);
    for (int i = CHANGES; i > 0; i--)
        fprintf(out, "<i style=\"background:var(--n%d)\"></i>", i);
    fputs("<i style=\"background:var(--z)\"></i>", out);
    for (int i = 1; i <= CHANGES; i++)
        fprintf(out, "<i style=\"background:var(--p%d)\"></i>", i);
    fprintf(out, "</b> +%" PRId64 "</span></div>\n", most);
}

/* ---- the section ---- */

static int64_t greatest(const run *r, const int64_t *before)
{
    int64_t most = 1;
    for (int64_t i = 0; i < r->n_modules; i++) {
        if (before[i] > most) most = before[i];
        if (r->final_ranks[i] > most) most = r->final_ranks[i];
        for (int64_t k = 0; k < r->n_rounds; k++)
            if (r->rounds[k].module_ranks[i] > most) most = r->rounds[k].module_ranks[i];
    }
    return most;
}

static int64_t greatest_change(const run *r, const int64_t *before)
{
    int64_t most = LEAST_SPAN;
    for (int64_t i = 0; i < r->n_modules; i++)
        if (llabs(r->final_ranks[i] - before[i]) > most) most = llabs(r->final_ranks[i] - before[i]);
    return most;
}

static void draw_figures(FILE *out, heat_map map, const int64_t *before, const int64_t *after)
{
    double width = map_width(&map) + 34;
    fprintf(out,
            "<div class=\"grid\" "
            "style=\"grid-template-columns:repeat(auto-fit,minmax(min(100%%,%.0fpx),1fr))\">\n",
            width < 360 ? width : width * 0.9);
    map.values = before;
    map.title = "ranks before";
    fputs("<figure><h3>Before</h3>", out);
    draw_map(out, &map);
    legend_ranks(out, map.most);
    map.values = after;
    map.title = "ranks after";
    fprintf(out, "</figure><figure><h3>After <small>%s</small></h3>",
            map.r->ended ? "the run" : "the last round so far");
    draw_map(out, &map);
    legend_ranks(out, map.most);
    map.before = before;
    map.most = greatest_change(map.r, before);
    map.title = "change of ranks";
    fputs("</figure><figure><h3>Change</h3>", out);
    draw_map(out, &map);
    legend_change(out, map.most);
    fputs("</figure></div>\n", out);
}

static void draw_rounds(FILE *out, heat_map map)
{
    const run *r = map.r;
    double cell = r->n_cols <= 16 ? 15 : r->n_cols <= 40 ? 9 : 6;
    map.size = (heat_size){0, 0, cell, cell > 10 ? 11 : cell, 1, false};
    double width = map_width(&map);
    fprintf(
        out,
        "<h3 style=\"margin-top:22px\">Round by round</h3><div class=\"grid\" style=\"grid-template-columns:"
        "repeat(auto-fill,minmax(min(100%%,%.0fpx),1fr))\">\n",
        width < 96 ? 118 : width + 22);
    for (int64_t k = 0; k < r->n_rounds; k++) {
        map.values = r->rounds[k].module_ranks;
        map.title = "ranks after a round";
        fprintf(out,
                "<figure class=\"small\"><h3>Round %" PRId64 " <small>step %" PRId64 " \u00b7 \u2212%" PRId64
                " +%" PRId64 "</small></h3>",
                r->rounds[k].number, r->rounds[k].step, r->rounds[k].n_dropped, r->rounds[k].n_added);
        draw_map(out, &map);
        fputs("</figure>\n", out);
    }
    fputs("</div>\n", out);
}

void report_heat_maps(FILE *out, const run *r)
{
    int64_t *before = run_alloc(r->n_modules, sizeof *before);
    for (int64_t i = 0; i < r->n_modules; i++)
        before[i] = r->modules[i].rank;
    heat_map map = {r, NULL, NULL, greatest(r, before), full_size(r), NULL};
    fprintf(out,
            "<h2>Ranks by module</h2><p class=\"note\">%s. Sums stand at the edges; hover over a cell for "
            "the module.</p>\n",
            r->has_layers ? "Rows are kinds of module, columns are layers" : "One row a module");
    draw_figures(out, map, before, r->final_ranks);
    if (r->n_rounds > 1) draw_rounds(out, map);
    free(before);
}
