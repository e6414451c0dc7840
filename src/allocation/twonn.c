/* SPDX-License-Identifier: MIT */
/*
 * TwoNN (lorank/gelora.h). Points are sorted by their coordinates: equal ones then lie side by side, and no later sum depends on
 * the order in which they came.
 */
#include <math.h>
#include <stdlib.h>

#include "../kernels/kernels.h"
#include "allocation.h"

#define DISCARD 0.1 /* Facco et al. 2017 */
#define LANES   8

lrk_status lrk_twonn_options_init(lrk_twonn_options *options, size_t struct_size)
{
    const lrk_twonn_options defaults = {.estimate = LRK_TWONN_FIT, .discard = DISCARD};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

lrk_status lrki_twonn_options_check(lrk_context *context, const lrk_twonn_options *options)
{
    const char *wrong = NULL;
    if (!(options->discard >= 0 && options->discard < 1)) wrong = "discard must be in [0, 1)";
    if (options->estimate < LRK_TWONN_FIT || options->estimate > LRK_TWONN_UNBIASED)
        wrong = "estimate must be one of LRK_TWONN_...";
    if (options->reserved != 0 || options->flags != 0) wrong = "flags and reserved must be 0";
    return wrong == NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
}

/* A point, and log mu once it is known. */
typedef struct point {
    const float *at;
    int64_t width;
    double log_mu; /* NaN: a distance overflows */
} point;

/* ---- points -------------------------------------------------------------------------------------------------------- */

static int by_coordinates(const void *one, const void *two)
{
    const point *a = one, *b = two;
    for (int64_t c = 0; c < a->width; c++)
        if (a->at[c] != b->at[c]) return a->at[c] < b->at[c] ? -1 : 1;
    return 0;
}

static lrk_status list_points(lrk_context *context, const float *points, int64_t n, int64_t width, int64_t ld,
                              point *list)
{
    for (int64_t i = 0; i < n; i++) {
        list[i] = (point){points + i * ld, width, 0};
        for (int64_t c = 0; c < width; c++)
            if (!isfinite(list[i].at[c]))
                return lrki_fail(context, LRK_ERR_NONFINITE, "point %lld is not finite", (long long)i);
    }
    return LRK_OK;
}

/* Points that differ, in front and sorted. */
static int64_t keep_distinct(point *list, int64_t n)
{
    int64_t kept = 1;
    qsort(list, (size_t)n, sizeof *list, by_coordinates);
    for (int64_t i = 1; i < n; i++)
        if (by_coordinates(&list[kept - 1], &list[i]) != 0) list[kept++] = list[i];
    return kept;
}

/* ---- ratios -------------------------------------------------------------------------------------------------------- */

typedef struct search {
    point *points;
    int64_t n;
} search;

static double distance2(const point *a, const point *b)
{
    double lanes[LANES] = {0}, sum = 0;
    int64_t whole = a->width - a->width % LANES;
    for (int64_t c = 0; c < whole; c += LANES)
        for (int64_t i = 0; i < LANES; i++) {
            double apart = (double)a->at[c + i] - (double)b->at[c + i];
            lanes[i] += apart * apart;
        }
    for (int64_t c = whole; c < a->width; c++) {
        double apart = (double)a->at[c] - (double)b->at[c];
        lanes[c - whole] += apart * apart;
    }
    for (int i = 0; i < LANES; i++)
        sum += lanes[i];
    return sum;
}

static void find_ratio(void *data, int64_t i)
{
    const search *s = data;
    double first = INFINITY, second = INFINITY;
    for (int64_t j = 0; j < s->n; j++) {
        if (j == i) continue;
        double d = distance2(&s->points[i], &s->points[j]);
        second = fmin(second, fmax(first, d));
        first = fmin(first, d);
    }
    s->points[i].log_mu = 0.5 * log(second / first);
}

static int by_ratio(const void *one, const void *two)
{
    double a = ((const point *)one)->log_mu, b = ((const point *)two)->log_mu;
    return (a > b) - (a < b);
}

/* ---- estimates ----------------------------------------------------------------------------------------------------- */

/* The last ratio has 1 - i / N = 0: it is never on the line. */
static double fit(const point *sorted, int64_t n, double discard, int64_t *used)
{
    double xx = 0, xy = 0;
    *used = (int64_t)floor((1 - discard) * (double)n);
    if (*used > n - 1) *used = n - 1;
    for (int64_t i = 0; i < *used; i++) {
        double x = sorted[i].log_mu, y = -log1p(-(double)(i + 1) / (double)n);
        xx += x * x;
        xy += x * y;
    }
    return xy / xx;
}

static double likelihood(const point *sorted, int64_t n, bool unbiased)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += sorted[i].log_mu;
    return (double)(unbiased ? n - 1 : n) / sum;
}

static lrk_status estimate(lrk_context *context, search *s, const lrk_twonn_options *options,
                           lrk_twonn_info *facts)
{
    if (s->n < 3)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "%lld points differ; two neighbours each take 3",
                         (long long)s->n);
    lrk_status status = lrki_parallel_for(context, s->n, find_ratio, s);
    if (status != LRK_OK) return status;
    qsort(s->points, (size_t)s->n, sizeof *s->points, by_ratio);
    facts->points = facts->used = s->n;
    facts->dimension = options->estimate == LRK_TWONN_FIT
                           ? fit(s->points, s->n, options->discard, &facts->used)
                           : likelihood(s->points, s->n, options->estimate == LRK_TWONN_UNBIASED);
    if (isfinite(facts->dimension) && facts->used > 0) return LRK_OK;
    return lrki_fail(
        context, LRK_ERR_ARGUMENT,
        "the dimension is not finite: the ratios used are all 1, first two neighbours being at one "
        "distance, or discard leaves none");
}

lrk_status lrk_intrinsic_dimension(lrk_context *context, const float *points, int64_t n, int64_t width,
                                   int64_t ld, const lrk_twonn_options *given, lrk_twonn_info *info)
{
    lrk_twonn_options options;
    lrk_twonn_info facts = {0};
    int64_t span;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (points == NULL || info == NULL || n < 1 || width < 1 || ld < width)
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "lrk_intrinsic_dimension: points or info is NULL, n or width < 1, or ld < width");
    if (!lrki_mul(n, ld, &span))
        return lrki_fail(context, LRK_ERR_SHAPE, "lrk_intrinsic_dimension: the size of the points overflows");
    lrk_twonn_options_init(&options, sizeof options);
    lrk_status status =
        lrki_struct_read(context, &options, sizeof options, given, 2 * sizeof(uint32_t), "lrk_twonn_options");
    if (status == LRK_OK) status = lrki_twonn_options_check(context, &options);
    if (status != LRK_OK) return status;
    search s = {.points = lrki_array(context, n, sizeof *s.points)};
    if (s.points == NULL) return lrki_fail_nomem(context, "an intrinsic dimension");
    status = list_points(context, points, n, width, ld, s.points);
    if (status == LRK_OK) s.n = keep_distinct(s.points, n);
    if (status == LRK_OK) status = estimate(context, &s, &options, &facts);
    lrki_array_free(context, s.points, n, sizeof *s.points);
    return status == LRK_OK ? lrki_struct_write(context, info, &facts, sizeof facts, "lrk_twonn_info")
                            : status;
}
