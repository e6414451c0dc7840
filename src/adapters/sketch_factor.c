/* SPDX-License-Identifier: MIT */
/*
 * From a sketch to singular values and vectors (sketch.h has the formula), in double: bases of both ranges, the core as
 * both sides see it, and its singular value decomposition. It runs in tasks of the parallel loop: details of failures are
 * recorded once the loop has ended.
 */
#include "sketch.h"

#include <math.h>
#include <string.h>

#include "../kernels/dense.h"
#include "../kernels/kernels.h"

#define ROUNDING 8.0 /* factor of the floor below which a singular value may be rounding alone */

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
static lrk_status leading_rows(lrk_context *context, const float *m, int64_t rows, int64_t n, int64_t k,
                               double *q)
{
    int64_t least = lrki_smaller(rows, n);
    double *a = lrki_array(context, rows * n, sizeof *a);
    double *u = lrki_array(context, rows * least, sizeof *u);
    double *s = lrki_array(context, least, sizeof *s);
    double *vt = lrki_array(context, least * n, sizeof *vt);
    lrk_status status = LRK_OK;
    if (a == NULL || u == NULL || s == NULL || vt == NULL) status = LRK_ERR_NOMEM;
    for (int64_t i = 0; i < rows * n && status == LRK_OK; i++)
        a[i] = (double)m[i];
    if (status == LRK_OK) status = lrki_svd(context, rows, n, a, u, s, vt);
    if (status == LRK_OK) memcpy(q, vt, (size_t)(k * n) * sizeof *q);
    lrki_array_free(context, a, rows * n, sizeof *a);
    lrki_array_free(context, u, rows * least, sizeof *u);
    lrki_array_free(context, s, least, sizeof *s);
    lrki_array_free(context, vt, least * n, sizeof *vt);
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
static lrk_status core_of(lrk_context *context, const side *a, int64_t s, int64_t k, double *core)
{
    double *q = lrki_array(context, s * k, sizeof *q);
    double *r = lrki_array(context, k * k, sizeof *r);
    double *seen = lrki_array(context, s * k, sizeof *seen);
    lrk_status status = LRK_OK;
    if (q == NULL || r == NULL || seen == NULL) status = LRK_ERR_NOMEM;
    if (status == LRK_OK) {
        times_basis(a->random, s, a->near, k, a->n, q);
        times_basis(a->sketch, s, a->far, k, a->other, seen);
        status = lrki_qr(context, s, k, q, r);
    }
    if (status == LRK_OK) {
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < k; j++) {
                double sum = 0.0;
                for (int64_t t = 0; t < s; t++)
                    sum += q[t * k + i] * seen[t * k + j];
                core[i * k + j] = sum;
            }
        solve_upper(r, k, core);
    }
    lrki_array_free(context, q, s * k, sizeof *q);
    lrki_array_free(context, r, k * k, sizeof *r);
    lrki_array_free(context, seen, s * k, sizeof *seen);
    return status;
}

/* ---- a module ------------------------------------------------------------------------------------------------------ */

/* What lives while a module is factored. */
typedef struct scratch {
    double *left_basis;  /* [k x n_out]: Q transposed */
    double *right_basis; /* [k x n_in]: P transposed  */
    double *core;        /* [k x k]                   */
    double *other;       /* [k x k]                   */
    double *u;           /* [k x k]                   */
    double *vt;          /* [k x k]                   */
} scratch;

static bool take_scratch(lrk_context *context, const lrki_sketch_factors *f, scratch *t)
{
    int64_t square = f->n * f->n;
    t->left_basis = lrki_array(context, f->n * f->n_out, sizeof(double));
    t->right_basis = lrki_array(context, f->n * f->n_in, sizeof(double));
    t->core = lrki_array(context, square, sizeof(double));
    t->other = lrki_array(context, square, sizeof(double));
    t->u = lrki_array(context, square, sizeof(double));
    t->vt = lrki_array(context, square, sizeof(double));
    return t->left_basis && t->right_basis && t->core && t->other && t->u && t->vt;
}

static void free_scratch(lrk_context *context, const lrki_sketch_factors *f, scratch *t)
{
    int64_t square = f->n * f->n;
    lrki_array_free(context, t->left_basis, f->n * f->n_out, sizeof(double));
    lrki_array_free(context, t->right_basis, f->n * f->n_in, sizeof(double));
    lrki_array_free(context, t->core, square, sizeof(double));
    lrki_array_free(context, t->other, square, sizeof(double));
    lrki_array_free(context, t->u, square, sizeof(double));
    lrki_array_free(context, t->vt, square, sizeof(double));
}

static lrk_status make_core(lrk_context *context, const lrki_sketch_module *own, const lrki_sketch_factors *f,
                            scratch *t)
{
    int64_t k = f->n, s = own->samples;
    const side left = {own->psi, own->w, t->left_basis, t->right_basis, f->n_out, f->n_in};
    const side right = {own->omega, own->y, t->right_basis, t->left_basis, f->n_in, f->n_out};
    lrk_status status = leading_rows(context, own->y, s, f->n_out, k, t->left_basis);
    if (status == LRK_OK) status = leading_rows(context, own->w, s, f->n_in, k, t->right_basis);
    if (status == LRK_OK) status = core_of(context, &left, s, k, t->core);
    if (status == LRK_OK) status = core_of(context, &right, s, k, t->other);
    for (int64_t i = 0; i < k && status == LRK_OK; i++)
        for (int64_t j = 0; j < k; j++)
            t->core[i * k + j] = 0.5 * (t->core[i * k + j] + t->other[j * k + i]);
    return status;
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
static void fix_sign(lrki_sketch_factors *f, int64_t i)
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

static lrk_status factor(lrk_context *context, const lrki_sketch_module *own, lrki_sketch_factors *f,
                         scratch *t)
{
    int64_t k = f->n;
    lrk_status status = make_core(context, own, f, t);
    if (status == LRK_OK) status = lrki_svd(context, k, k, t->core, t->u, f->values, t->vt);
    for (int64_t i = 0; i < k && status == LRK_OK; i++) {
        combine(t->vt + i * k, 1, t->right_basis, k, f->n_in, f->right + i * f->n_in);
        combine(t->u + i, k, t->left_basis, k, f->n_out, f->left + i * f->n_out);
        fix_sign(f, i);
    }
    if (status == LRK_OK) f->found = count_found(own, f);
    return status;
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

static void free_factors(lrk_context *context, lrki_sketch_factors *f)
{
    lrki_array_free(context, f->values, f->n, sizeof *f->values);
    lrki_array_free(context, f->right, f->n * f->n_in, sizeof *f->right);
    lrki_array_free(context, f->left, f->n * f->n_out, sizeof *f->left);
}

static lrk_status factor_module(const lrk_sketch *sketch, int32_t module, lrki_sketch_factors *f)
{
    lrk_context *context = sketch->adapters->context;
    const lrki_module *m = &sketch->adapters->modules[module];
    const lrki_sketch_module *own = &sketch->modules[module];
    *f = (lrki_sketch_factors){.n_in = m->n_in, .n_out = m->n_out, .n = own->directions};
    if (!is_finite(own, m->n_in + m->n_out)) return LRK_ERR_NONFINITE;
    f->values = lrki_array(context, f->n, sizeof *f->values);
    f->right = lrki_array(context, f->n * f->n_in, sizeof *f->right);
    f->left = lrki_array(context, f->n * f->n_out, sizeof *f->left);
    scratch t = {0};
    lrk_status status = LRK_ERR_NOMEM;
    if (f->values && f->right && f->left && take_scratch(context, f, &t))
        status = factor(context, own, f, &t);
    free_scratch(context, f, &t);
    return status;
}

/* ---- many modules -------------------------------------------------------------------------------------------------- */

typedef struct factoring {
    const lrk_sketch *sketch;
    int32_t first;
    lrki_sketch_use use;
    void *user;
    int64_t failure; /* atomic: module << 8 | -status of the lowest module that failed; INT64_MAX: none */
} factoring;

static void note_failure(factoring *work, int32_t module, lrk_status status)
{
    int64_t mine = ((int64_t)module << 8) - status,
            lowest = __atomic_load_n(&work->failure, __ATOMIC_RELAXED);
    while (mine < lowest && !__atomic_compare_exchange_n(&work->failure, &lowest, mine, false,
                                                         __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

static void factor_task(void *data, int64_t index)
{
    factoring *work = data;
    int32_t module = work->first + (int32_t)index;
    lrki_sketch_factors f;
    lrk_status status = factor_module(work->sketch, module, &f);
    if (status == LRK_OK)
        work->use(work->user, module, &f);
    else
        note_failure(work, module, status);
    free_factors(work->sketch->adapters->context, &f);
}

lrk_status lrki_sketch_each(const lrk_sketch *sketch, int32_t first, int32_t n, lrki_sketch_use use,
                            void *user)
{
    lrk_context *context = sketch->adapters->context;
    factoring work = {sketch, first, use, user, INT64_MAX};
    lrk_status status = lrki_parallel_for(context, n, factor_task, &work);
    if (status != LRK_OK || work.failure == INT64_MAX) return status;
    int32_t module = (int32_t)(work.failure >> 8);
    status = -(lrk_status)(work.failure & 0xff);
    const char *why = status == LRK_ERR_NONFINITE ? "is not finite" : "cannot be factored";
    if (status == LRK_ERR_NOMEM) return lrki_fail_nomem(context, "the factors of a sketch");
    return lrki_fail_at(context, status, (lrki_place){.module = module},
                        "module '%s': its gradient sketch %s", sketch->adapters->modules[module].name, why);
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
    if (status != LRK_OK) return status;
    wanted w = {n, values, right, left, found};
    return lrki_sketch_each(sketch, module, 1, give_spectrum, &w);
}
