/* SPDX-License-Identifier: MIT */
/*
 * Directions of new ranks (direction.h). Orthogonal ones are found by modified Gram-Schmidt, twice over, in double: one
 * pass loses as many digits as the rows are near to each other, the second gives them back.
 */
#include <math.h>
#include <string.h>

#include "direction.h"

/* Share of its length below which a row counts as dependent on the others: f32 rows that are leave about 1e-7. */
#define LEAST_SHARE 1e-6

lrk_status lrki_directions_prepare(lrk_adapters *adapters, const lrki_module_change *parts,
                                   lrki_directions *directions)
{
    directions->seed = adapters->seed;
    if (directions->init != LRK_INIT_ORTHOGONAL) return LRK_OK;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        int64_t rows, floats;
        if (parts[i].n_added == 0) continue;
        if (!lrki_add(parts[i].n_kept, parts[i].n_added, &rows) ||
            !lrki_mul(rows, adapters->modules[i].n_in, &floats))
            return lrki_fail_nomem(adapters->context, "the directions of new ranks");
        if (floats > directions->held) directions->held = floats;
    }
    directions->basis = lrki_array(adapters->context, directions->held, sizeof *directions->basis);
    return directions->basis != NULL ? LRK_OK
                                     : lrki_fail_nomem(adapters->context, "the directions of new ranks");
}

void lrki_directions_free(lrk_adapters *adapters, lrki_directions *directions)
{
    lrki_array_free(adapters->context, directions->basis, directions->held, sizeof *directions->basis);
    directions->basis = NULL;
}

/* ---- the basis ------------------------------------------------------------------------------------------------------- */

static double dot(const double *x, const double *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static void subtract_span(const lrki_directions *directions, double *x, int64_t n)
{
    for (int64_t k = 0; k < directions->n_basis; k++) {
        const double *unit = directions->basis + k * n;
        double along = dot(x, unit, n);
        for (int64_t i = 0; i < n; i++)
            x[i] -= along * unit[i];
    }
}

/* Adds the part of a row that the basis does not span, as a unit vector; NULL if there is none. */
static const double *extend_basis(lrki_directions *directions, const float *row, int64_t n)
{
    double *x = directions->basis + directions->n_basis * n;
    for (int64_t i = 0; i < n; i++)
        x[i] = row[i];
    double before = sqrt(dot(x, x, n));
    subtract_span(directions, x, n);
    subtract_span(directions, x, n);
    double after = sqrt(dot(x, x, n));
    if (!isfinite(after) || !(after > LEAST_SHARE * before)) return NULL;
    for (int64_t i = 0; i < n; i++)
        x[i] /= after;
    directions->n_basis++;
    return x;
}

void lrki_directions_enter(lrki_directions *directions, const lrki_module *module, const float *a,
                           const lrki_module_change *part)
{
    directions->n_basis = 0;
    if (directions->init != LRK_INIT_ORTHOGONAL || part->n_added == 0) return;
    for (int64_t i = 0; i < part->n_kept; i++)
        (void)extend_basis(directions, a + i * module->n_in, module->n_in);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

void lrki_direction_begin(lrki_directions *directions, const lrki_module *module, float *a, int64_t i,
                          uint64_t identity)
{
    int64_t n = module->n_in;
    float *row = a + i * n;
    if (directions->init == LRKI_INIT_UNSET) return;
    float bound = (float)(1.0 / sqrt((double)n));
    lrki_stream stream = lrki_stream_make(directions->seed, LRKI_STREAM_INIT_A, identity, 0);
    if (directions->init == LRK_INIT_ZERO) {
        memset(row, 0, (size_t)n * sizeof *row);
        return;
    }
    if (directions->init == LRK_INIT_GAUSSIAN || directions->init == LRK_INIT_TRIPLET) {
        lrki_stream_fill_normal(
            &stream, directions->init == LRK_INIT_TRIPLET ? LRKI_TRIPLET_DEVIATION : bound, row, n);
        return;
    }
    lrki_stream_fill_uniform(&stream, bound, row, n);
    const double *unit = directions->init == LRK_INIT_ORTHOGONAL ? extend_basis(directions, row, n) : NULL;
    for (int64_t k = 0; unit != NULL && k < n; k++)
        row[k] = (float)(unit[k] / sqrt(3.0));
}
