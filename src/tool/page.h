/* SPDX-License-Identifier: MIT */
/*
 * What every part of the report page needs: escaped text, numbers for people, scales and ticks. Names and labels come
 * from a file and are never printed but through page_text().
 */
#ifndef TOOL_PAGE_H
#define TOOL_PAGE_H

#include <stdint.h>
#include <stdio.h>

#include "run.h"

#define PAGE_NUMBER 40 /* room for a number as text */

void page_text(FILE *out, const char *text);

/* "1,234,567" */
const char *page_count(char buffer[PAGE_NUMBER], int64_t value);
/* Like page_count() with a sign; a true minus, "±0" for 0. */
const char *page_change(char buffer[PAGE_NUMBER], int64_t value);
/* Significant digits as asked; "–" for NaN. */
const char *page_real(char buffer[PAGE_NUMBER], double value, int digits);

/* Linear map of [from, to] to [low, high]. */
typedef struct page_scale {
    double from;
    double to;
    double low;
    double high;
} page_scale;

double page_map(page_scale scale, double value);

#define PAGE_TICKS 12

/* Round numbers in [from, to], about `wanted` of them, at most PAGE_TICKS; returns how many. */
int page_ticks(double from, double to, int wanted, double ticks[PAGE_TICKS]);

void page_style(FILE *out);

/* Opening tag of a drawing that keeps its shape and shrinks to its place, but not below least_width. */
void page_svg(FILE *out, double width, double height, double least_width, const char *title);

/* ---- the parts, one a file ---- */

void report_heat_maps(FILE *out, const run *r);
void report_score_histogram(FILE *out, const run *r, const run_round *round);
void report_score_cut(FILE *out, const run *r, const run_round *round);
void report_scores(FILE *out, const run *r);
void report_curves(FILE *out, const run *r);
void report_totals(FILE *out, const run *r);
void report_rounds(FILE *out, const run *r);
void report_lineage(FILE *out, const run *r);
void report_page(FILE *out, const run *r);

#endif
