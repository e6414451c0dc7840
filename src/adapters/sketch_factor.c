/* SPDX-License-Identifier: MIT */
/*
 * From a sketch to singular values and vectors (sketch.h has the formula), in double: bases of both ranges, the core as
 * both sides see it, and its singular value decomposition. It runs in tasks of the parallel loop, where LAPACK keeps to one
 * thread: memory is taken before the loop, and details of failures are recorded after it.
 */
#include "sketch.h"

#include <math.h>
#include <string.h>

#include "../kernels/dense.h"
#include "../kernels/kernels.h"

#define ROUNDING 8.0 /* factor of the floor below which a singular value may be rounding alone */

/* ---- scratch of a task --------------------------------------------------------------------------------------------- */

/* All that a module's factors take, and they themselves. */
typedef struct scratch {
    lrki_sketch_factors f;
    double *left_basis;  /* [k x n_out]: Q transposed                */
    double *right_basis; /* [k x n_in]: P transposed                 */
    double *core;        /* [k x k]                                  */
    double *other;       /* [k x k]                                  */
    double *u;           /* [k x k]                                  */
    double *vt;          /* [k x k]                                  */
    double *wide;        /* [s x n], n the larger of n_in and n_out  */
    double *wide_u;      /* [s x least]                              */
    double *wide_s;      /* [least]                                  */
    double *wide_vt;     /* [least x n]                              */
    double *near;        /* [s x k]                                  */
    double *far;         /* [s x k]                                  */
    double *triangle;    /* [k x k]                                  */
    double *lapack;
} scratch;

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static double *cut(double *base, int64_t *at, int64_t n)
{
    double *piece = base != NULL ? base + *at : NULL;
    *at += n;
    return piece;
}

/* Doubles that LAPACK takes for a module, -1 if it is too large. */
static int64_t lapack_scratch(const lrki_module *m, const lrki_sketch_module *own)
{
    int64_t k = own->directions, s = own->samples;
    int64_t of_in = lrki_svd_scratch(s, m->n_in), of_out = lrki_svd_scratch(s, m->n_out),
            of_qr = lrki_qr_scratch(s, k), of_core = lrki_svd_scratch(k, k);
    if (of_in < 0 || of_out < 0 || of_qr < 0 || of_core < 0) return -1;
    return larger(larger(of_in, of_out), larger(of_qr, of_core));
}

/* Cuts the pieces for a module, which LAPACK can take, from `base` (NULL: only counts); their doubles. */
static int64_t lay_out(const lrki_module *m, const lrki_sketch_module *own, double *base, scratch *t)
{
    int64_t k = own->directions, s = own->samples, n = larger(m->n_in, m->n_out), least = lrki_smaller(s, n),
            at = 0;
    t->f = (lrki_sketch_factors){.n_in = m->n_in, .n_out = m->n_out, .n = k};
    t->f.values = cut(base, &at, k);
    t->f.right = cut(base, &at, k * m->n_in);
    t->f.left = cut(base, &at, k * m->n_out);
    t->left_basis = cut(base, &at, k * m->n_out);
    t->right_basis = cut(base, &at, k * m->n_in);
    t->core = cut(base, &at, k * k);
    t->other = cut(base, &at, k * k);
    t->u = cut(base, &at, k * k);
    t->vt = cut(base, &at, k * k);
    t->wide = cut(base, &at, s * n);
    t->wide_u = cut(base, &at, s * least);
    t->wide_s = cut(base, &at, least);
    t->wide_vt = cut(base, &at, least * n);
    t->near = cut(base, &at, s * k);
    t->far = cut(base, &at, s * k);
    t->triangle = cut(base, &at, k * k);
    t->lapack = cut(base, &at, lapack_scratch(m, own));
    return at;
}

/* ---- pieces -------------------------------------------------------------------------------------------------------- */

/* to [rows x k] = m [rows x n] q^T, q [k x n]. */
static void times_basis(const float *m, int64_t rows, const double *q, int64_t k, int64_t n, double *to)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < k; j++) {
            double sum = 0.0;
            for (int64_t c = 0; c < n; c++)
                sum += (double)m[i * n + c] * q[j * n + c];
            to[i * k + j] = sum;
        }
}

/* q [k x n]: the leading right singular vectors of m [rows x n], k <= rows and n. */
static lrk_status leading_rows(const float *m, int64_t rows, int64_t n, int64_t k, const scratch *t,
                               double *q)
{
    for (int64_t i = 0; i < rows * n; i++)
        t->wide[i] = (double)m[i];
    lrk_status status = lrki_svd_in_task(rows, n, t->wide, t->wide_u, t->wide_s, t->wide_vt, t->lapack);
    if (status == LRK_OK) memcpy(q, t->wide_vt, (size_t)(k * n) * sizeof *q);
    return status;
}

/* c = r^-1 c for upper triangular r, both [k x k]; a diagonal of 0 gives a row of 0. */
static void solve_upper(const double *r, int64_t k, double *c)
{
    for (int64_t i = k - 1; i >= 0; i--)
        for (int64_t j = 0; j < k; j++) {
            double sum = c[i * k + j];
            for (int64_t l = i + 1; l < k; l++)
                sum -= r[i * k + l] * c[l * k + j];
            c[i * k + j] = r[i * k + i] != 0.0 ? sum / r[i * k + i] : 0.0;
        }
}

/* One side of the core: the samples of a random matrix, its product with G, and the bases of both their ranges. */
typedef struct side {
    const float *random; /* [s x n]     */
    const float *sketch; /* [s x other] */
    const double *near;  /* [k x n]     */
    const double *far;   /* [k x other] */
    int64_t n;
    int64_t other;
} side;

/* core [k x k] = (random near^T)^+ sketch far^T, by a QR factorisation of the first. */
static void core_of(const side *a, int64_t s, int64_t k, const scratch *t, double *core)
{
    times_basis(a->random, s, a->near, k, a->n, t->near);
    times_basis(a->sketch, s, a->far, k, a->other, t->far);
    lrki_qr_in_task(s, k, t->near, t->triangle, t->lapack);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++) {
            double sum = 0.0;
            for (int64_t row = 0; row < s; row++)
                sum += t->near[row * k + i] * t->far[row * k + j];
            core[i * k + j] = sum;
        }
    solve_upper(t->triangle, k, core);
}

/* to [n] = sum_j weight_j basis_j, weights a step apart. */
static void combine(const double *weights, int64_t step, const double *basis, int64_t k, int64_t n,
                    double *to)
{
    for (int64_t c = 0; c < n; c++)
        to[c] = 0.0;
    for (int64_t j = 0; j < k; j++)
        for (int64_t c = 0; c < n; c++)
            to[c] += weights[j * step] * basis[j * n + c];
}

/* The entry of largest magnitude of the right vector, the first of equals, becomes positive. */
static void fix_sign(const lrki_sketch_factors *f, int64_t i)
{
    double *right = f->right + i * f->n_in, *left = f->left + i * f->n_out;
    int64_t at = 0;
    for (int64_t c = 1; c < f->n_in; c++)
        if (fabs(right[c]) > fabs(right[at])) at = c;
    if (right[at] >= 0.0) return;
    for (int64_t c = 0; c < f->n_in; c++)
        right[c] = -right[c];
    for (int64_t c = 0; c < f->n_out; c++)
        left[c] = -left[c];
}

/* ---- one module ---------------------------------------------------------------------------------------------------- */

static lrk_status make_core(const lrki_sketch_module *own, const scratch *t)
{
    int64_t k = t->f.n, s = own->samples, n_in = t->f.n_in, n_out = t->f.n_out;
    const side left = {own->psi, own->w, t->left_basis, t->right_basis, n_out, n_in};
    const side right = {own->omega, own->y, t->right_basis, t->left_basis, n_in, n_out};
    lrk_status status = leading_rows(own->y, s, n_out, k, t, t->left_basis);
    if (status == LRK_OK) status = leading_rows(own->w, s, n_in, k, t, t->right_basis);
    if (status != LRK_OK) return status;
    core_of(&left, s, k, t, t->core);
    core_of(&right, s, k, t, t->other);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++)
            t->core[i * k + j] = 0.5 * (t->core[i * k + j] + t->other[j * k + i]);
    return LRK_OK;
}

static int64_t count_found(const lrki_sketch_module *own, const lrki_sketch_factors *f)
{
    double coherent = sqrt(own->measures[0] + (double)(f->n_in + f->n_out)) * f->values[0];
    double random = sqrt(own->measures[2]) * sqrt(own->measures[3]);
    double least = ROUNDING * 0x1p-24 * fmax(coherent, random);
    int64_t found = 0;
    while (found < f->n && f->values[found] > least)
        found++;
    return found;
}

static bool is_finite(const lrki_sketch_module *own, int64_t width)
{
    double sum = 0.0;
    for (int i = 0; i < LRKI_MEASURES; i++)
        sum += 0.0 * own->measures[i];
    for (int64_t i = 0; i < own->samples * width; i++)
        sum += 0.0 * (double)own->w[i]; /* y lies behind w */
    return sum == 0.0;
}

static lrk_status factor(const lrki_sketch_module *own, scratch *t)
{
    lrki_sketch_factors *f = &t->f;
    int64_t k = f->n;
    if (!is_finite(own, f->n_in + f->n_out)) return LRK_ERR_NONFINITE;
    lrk_status status = make_core(own, t);
    if (status == LRK_OK) status = lrki_svd_in_task(k, k, t->core, t->u, f->values, t->vt, t->lapack);
    if (status != LRK_OK) return status;
    for (int64_t i = 0; i < k; i++) {
        combine(t->vt + i * k, 1, t->right_basis, k, f->n_in, f->right + i * f->n_in);
        combine(t->u + i, k, t->left_basis, k, f->n_out, f->left + i * f->n_out);
        fix_sign(f, i);
    }
    f->found = count_found(own, f);
    return LRK_OK;
}

/* ---- many modules -------------------------------------------------------------------------------------------------- */

typedef struct factoring {
    const lrk_sketch *sketch;
    int32_t first;
    int32_t n;
    int64_t
        lanes; /* lane i factors modules first + i, first + i + lanes, ...                               */
    double
        *memory; /* [lanes x each]                                                                         */
    int64_t each;
    lrki_sketch_use use;
    void *user;
    int64_t failed; /* atomic: the lowest module that failed, INT64_MAX: none; every failure is NONFINITE */
} factoring;

static void note_failure(factoring *work, int64_t module)
{
    int64_t lowest = __atomic_load_n(&work->failed, __ATOMIC_RELAXED);
    while (module < lowest && !__atomic_compare_exchange_n(&work->failed, &lowest, module, false,
                                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

static void factor_lane(void *data, int64_t lane)
{
    factoring *work = data;
    for (int64_t i = lane; i < work->n; i += work->lanes) {
        int32_t module = work->first + (int32_t)i;
        scratch t;
        (void)lay_out(&work->sketch->adapters->modules[module], &work->sketch->modules[module],
                      work->memory + lane * work->each, &t);
        if (factor(&work->sketch->modules[module], &t) == LRK_OK)
            work->use(work->user, module, &t.f);
        else
            note_failure(work, module);
    }
}

/* Doubles that a lane needs; LRK_ERR_SHAPE names the module. */
static lrk_status measure_lanes(factoring *work)
{
    const lrk_adapters *set = work->sketch->adapters;
    for (int32_t i = work->first; i < work->first + work->n; i++) {
        const lrki_sketch_module *own = &work->sketch->modules[i];
        scratch t;
        if (lapack_scratch(&set->modules[i], own) < 0)
            return lrki_fail_at(set->context, LRK_ERR_SHAPE, (lrki_place){.module = i},
                                "module '%s': its sketch is too large for LAPACK", set->modules[i].name);
        work->each = larger(work->each, lay_out(&set->modules[i], own, NULL, &t));
    }
    return LRK_OK;
}

lrk_status lrki_sketch_each(const lrk_sketch *sketch, int32_t first, int32_t n, lrki_sketch_use use,
                            void *user)
{
    const lrk_adapters *set = sketch->adapters;
    factoring work = {
        .sketch = sketch, .first = first, .n = n, .use = use, .user = user, .failed = INT64_MAX};
    work.lanes = lrki_smaller(n, larger(lrki_parallel_width(set->context), 1));
    lrk_status status = measure_lanes(&work);
    if (status != LRK_OK) return status;
    work.memory = lrki_array(set->context, work.lanes * work.each, sizeof *work.memory);
    if (work.memory == NULL) return lrki_fail_nomem(set->context, "the factors of a sketch");
    status = lrki_parallel_for(set->context, work.lanes, factor_lane, &work);
    lrki_array_free(set->context, work.memory, work.lanes * work.each, sizeof *work.memory);
    if (status != LRK_OK || work.failed == INT64_MAX) return status;
    return lrki_fail_at(set->context, LRK_ERR_NONFINITE, (lrki_place){.module = (int32_t)work.failed},
                        "module '%s': its gradient sketch is not finite", set->modules[work.failed].name);
}

/* ---- one module's spectrum ----------------------------------------------------------------------------------------- */

typedef struct wanted {
    int64_t n;
    double *values;
    double *right;
    double *left;
    int64_t *found;
} wanted;

static void give_spectrum(void *user, int32_t module, const lrki_sketch_factors *f)
{
    const wanted *w = user;
    (void)module;
    memcpy(w->values, f->values, (size_t)w->n * sizeof *w->values);
    if (w->right != NULL) memcpy(w->right, f->right, (size_t)(w->n * f->n_in) * sizeof *w->right);
    if (w->left != NULL) memcpy(w->left, f->left, (size_t)(w->n * f->n_out) * sizeof *w->left);
    if (w->found != NULL) *w->found = lrki_smaller(f->found, w->n);
}

lrk_status lrk_sketch_spectrum(const lrk_sketch *sketch, int32_t module, int64_t n, double *values,
                               double *right, double *left, int64_t *found)
{
    if (sketch == NULL) return LRK_ERR_ARGUMENT;
    const lrk_adapters *set = sketch->adapters;
    if (module < 0 || module >= set->n_modules)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_sketch_spectrum: there is no module %d",
                         (int)module);
    int64_t most = sketch->modules[module].directions;
    if (values == NULL || n < 1 || n > most)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT,
                         "lrk_sketch_spectrum: module '%s': values is NULL or n is not in 1..%lld",
                         set->modules[module].name, (long long)most);
    lrk_status status = lrki_sketch_check_idle(sketch, "lrk_sketch_spectrum");
    if (status != LRK_OK) return status;
    wanted w = {n, values, right, left, found};
    return lrki_sketch_each(sketch, module, 1, give_spectrum, &w);
}
