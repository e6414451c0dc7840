/* SPDX-License-Identifier: MIT */
/*
 * W + delta in the weight's own dtype, and what rounding did to it. Chunks fit the first cache, so that conversion, sum and
 * measuring read memory once.
 */
#include <math.h>
#include <string.h>

#include "merge_parts.h"

#define CHUNK 1024

/* stored and w as double; false if what was finite is not any more. */
static bool measure(const double *w, const float *delta, const double *stored, int64_t n,
                    lrki_merge_sums *sums)
{
    int64_t n_bad = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(w[i])) continue;
        double d = (double)delta[i], error = fabs(stored[i] - (w[i] + d)), change = stored[i] - w[i];
        n_bad += !isfinite(stored[i]);
        if (error > sums->largest_error) sums->largest_error = error;
        sums->elements++;
        sums->error += error;
        sums->delta2 += d * d;
        sums->change2 += change * change;
    }
    return n_bad == 0;
}

static void widen(const float *values, double *wide, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        wide[i] = (double)values[i];
}

static void load(const lrki_dtype *dtype, const unsigned char *bytes, float *values, int64_t n)
{
    if (dtype->to_f32 == NULL)
        memcpy(values, bytes, (size_t)n * sizeof *values);
    else
        dtype->to_f32(bytes, values, (size_t)n);
}

static void store(const lrki_dtype *dtype, const float *values, unsigned char *bytes, int64_t n)
{
    if (dtype->from_f32 == NULL)
        memcpy(bytes, values, (size_t)n * sizeof *values);
    else
        dtype->from_f32(values, bytes, (size_t)n);
}

static bool add_single(const lrki_dtype *dtype, unsigned char *weight, const float *delta, int64_t n,
                       lrki_merge_sums *sums)
{
    float values[CHUNK];
    double before[CHUNK], after[CHUNK];
    load(dtype, weight, values, n);
    widen(values, before, n);
    for (int64_t i = 0; i < n; i++)
        values[i] += delta[i];
    store(dtype, values, weight, n);
    load(dtype, weight, values, n);
    widen(values, after, n);
    return measure(before, delta, after, n, sums);
}

static bool add_double(unsigned char *weight, const float *delta, int64_t n, lrki_merge_sums *sums)
{
    double before[CHUNK], after[CHUNK];
    memcpy(before, weight, (size_t)n * sizeof *before);
    for (int64_t i = 0; i < n; i++)
        after[i] = before[i] + (double)delta[i];
    memcpy(weight, after, (size_t)n * sizeof *after);
    return measure(before, delta, after, n, sums);
}

bool lrki_merge_add(const lrki_dtype *dtype, unsigned char *weight, const float *delta, int64_t n,
                    lrki_merge_sums *sums)
{
    bool finite = true;
    for (int64_t first = 0; first < n && finite; first += CHUNK) {
        int64_t count = n - first < CHUNK ? n - first : CHUNK;
        unsigned char *at = weight + (size_t)first * (dtype->bits / 8);
        finite = dtype->bits == 64 ? add_double(at, delta + first, count, sums)
                                   : add_single(dtype, at, delta + first, count, sums);
    }
    return finite;
}
