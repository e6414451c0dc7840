/* SPDX-License-Identifier: MIT */
/*
 * Principal components of inputs: their memory, and questions. Passes feed them (pca_feed.c).
 */
#include "pca.h"

#include <math.h>
#include <string.h>

#include "../kernels/dense.h"

#define RHO        2.0
#define TAU        0.99
#define BATCH_ROWS 256 /* M M^T and its eigenvectors then cost less than the products with M */

lrk_status lrk_pca_options_init(lrk_pca_options *options, size_t struct_size)
{
    const lrk_pca_options defaults = {.rho = RHO, .tau = TAU, .batch_rows = BATCH_ROWS};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

lrk_status lrki_pca_options_check(lrk_context *context, const lrk_pca_options *options)
{
    const char *wrong = NULL;
    if (options->batch_rows < 1 || options->batch_rows > INT32_MAX)
        wrong = "batch_rows must be >= 1 and fit in 31 bits";
    if (!(options->tau > 0 && options->tau <= 1)) wrong = "tau must be in (0, 1]";
    if (!(options->rho > 0 && isfinite(options->rho))) wrong = "rho must be > 0";
    if (options->flags != 0) wrong = "flags must be 0";
    return wrong == NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_pca_options: %s", wrong);
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

lrk_pca *lrki_pca_ref(lrk_pca *pca)
{
    __atomic_add_fetch(&pca->references, 1, __ATOMIC_RELAXED);
    return pca;
}

/* Accepts a half-built object. */
void lrki_pca_unref(lrk_pca *pca)
{
    if (pca == NULL || __atomic_sub_fetch(&pca->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    lrk_adapters *set = pca->adapters;
    lrk_context *context = set->context;
    lrki_array_free(context, pca->groups, set->n_modules, sizeof *pca->groups);
    lrki_array_free(context, pca->modules, set->n_modules, sizeof *pca->modules);
    lrki_array_free(context, pca->state, pca->n_state, sizeof *pca->state);
    lrki_array_free(context, pca->counts, pca->n_counts, sizeof *pca->counts);
    lrki_array_free(context, pca->scratch.stack, pca->scratch.doubles, sizeof *pca->scratch.stack);
    lrki_array_free(context, pca->scratch.rows, pca->options.batch_rows, sizeof *pca->scratch.rows);
    lrki_free(context, pca, sizeof *pca);
    lrki_adapters_unref(set);
}

void lrk_pca_destroy(lrk_pca *pca)
{
    lrki_pca_unref(pca);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Index of a module's group, entered if it is new. */
static int32_t group_of(lrk_pca *pca, int32_t module)
{
    const lrki_module *m = &pca->adapters->modules[module];
    for (int32_t i = 0; i < pca->n_groups && m->input_group != LRK_NO_GROUP; i++)
        if (pca->adapters->modules[pca->groups[i].feeder].input_group == m->input_group) return i;
    pca->groups[pca->n_groups] = (lrki_pca_group){.n_in = m->n_in, .feeder = module};
    return (int32_t)pca->n_groups++;
}

static lrk_status find_groups(lrk_pca *pca)
{
    const lrk_adapters *set = pca->adapters;
    pca->groups = lrki_array(set->context, set->n_modules, sizeof *pca->groups);
    pca->modules = lrki_array(set->context, set->n_modules, sizeof *pca->modules);
    if (pca->groups == NULL || pca->modules == NULL) return lrki_fail_nomem(set->context, "input components");
    for (int32_t i = 0; i < set->n_modules; i++) {
        const lrki_module *m = &set->modules[i];
        double asked = rint(pca->options.rho * (double)m->bank.rank);
        pca->modules[i].group = group_of(pca, i);
        lrki_pca_group *group = &pca->groups[pca->modules[i].group];
        group->k = larger(group->k, asked < (double)m->n_in ? (int64_t)asked : m->n_in);
        group->wanted = group->k;
    }
    for (int64_t i = 0; i < set->n_modules; i++)
        pca->modules[i].asked = set->modules[i].bank.rank > 0 ? pca->groups[pca->modules[i].group].k : 0;
    return LRK_OK;
}

static bool size_group(const lrki_pca_group *group, int64_t *n)
{
    int64_t vectors;
    return lrki_mul(group->k + 1, group->n_in, &vectors) &&
           lrki_add(vectors, group->k + LRKI_PCA_SCALARS, &vectors) && lrki_add(*n, vectors, n);
}

static double *cut(double **next, int64_t n)
{
    double *piece = *next;
    *next += n;
    return piece;
}

static lrk_status take_state(lrk_pca *pca)
{
    lrk_context *context = pca->adapters->context;
    int64_t n = 0, bytes;
    for (int64_t i = 0; i < pca->n_groups; i++)
        if (!size_group(&pca->groups[i], &n) || !lrki_mul(n, (int64_t)sizeof(double), &bytes))
            return lrki_fail_at(context, LRK_ERR_SHAPE, (lrki_place){.module = pca->groups[i].feeder},
                                "module '%s': the size of its input's components overflows",
                                pca->adapters->modules[pca->groups[i].feeder].name);
    pca->state = lrki_array(context, n, sizeof *pca->state);
    if (pca->state == NULL) return lrki_fail_nomem(context, "input components");
    pca->n_state = n;
    double *next = pca->state;
    for (int64_t i = 0; i < pca->n_groups; i++) {
        lrki_pca_group *group = &pca->groups[i];
        group->scalars = cut(&next, LRKI_PCA_SCALARS);
        group->mean = cut(&next, group->n_in);
        group->values = cut(&next, group->k);
        group->components = cut(&next, group->k * group->n_in);
    }
    return LRK_OK;
}

/* Doubles of the scratch: products of sizes below 2^31 each, so that they fit. -1 if LAPACK cannot take M M^T. */
static int64_t lay_out(lrki_pca_scratch *s, int64_t width, int64_t k, double *base)
{
    int64_t lapack = lrki_eigen_scratch(s->n), total;
    if (lapack < 0 || width > INT32_MAX || !lrki_mul(s->n, width + s->n + k, &total)) return -1;
    double *next = base;
    const int64_t sizes[] = {s->n * width, s->n * s->n, k * s->n, k, k * width, lapack};
    double **pieces[] = {&s->stack, &s->gram, &s->vectors, &s->squares, &s->before, &s->lapack};
    int64_t doubles = 0;
    for (int i = 0; i < 6; i++) {
        if (base != NULL) *pieces[i] = cut(&next, sizes[i]);
        doubles += sizes[i];
    }
    return doubles;
}

static lrk_status take_scratch(lrk_pca *pca)
{
    lrk_context *context = pca->adapters->context;
    lrki_pca_scratch *s = &pca->scratch;
    int64_t width = 0, k = 0;
    for (int64_t i = 0; i < pca->n_groups; i++) {
        width = larger(width, lrki_pca_padded(pca->groups[i].n_in));
        k = larger(k, pca->groups[i].k);
    }
    s->n = k + larger(pca->options.batch_rows, k) + 1; /* of rows, or of another's components */
    int64_t doubles = lay_out(s, width, k, NULL);
    if (doubles < 0)
        return lrki_fail(context, LRK_ERR_SHAPE,
                         "lrk_pca_create: batch_rows or components are too large for LAPACK");
    s->rows = lrki_array(context, pca->options.batch_rows, sizeof *s->rows);
    s->stack = lrki_array(context, doubles, sizeof *s->stack);
    s->doubles = doubles;
    if (s->rows == NULL || s->stack == NULL) return lrki_fail_nomem(context, "batches of input components");
    (void)lay_out(s, width, k, s->stack);
    return LRK_OK;
}

lrk_status lrk_pca_create(lrk_adapters *adapters, const lrk_pca_options *given, lrk_pca **out)
{
    if (out != NULL) *out = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_pca_create");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (out == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_pca_create: pca is NULL");
    lrk_pca_options options;
    lrk_pca_options_init(&options, sizeof options);
    status =
        lrki_struct_read(context, &options, sizeof options, given, 2 * sizeof(uint32_t), "lrk_pca_options");
    if (status == LRK_OK) status = lrki_pca_options_check(context, &options);
    if (status != LRK_OK) return status;
    lrk_pca *pca = lrki_alloc_zeroed(context, sizeof *pca);
    if (pca == NULL) return lrki_fail_nomem(context, "input components");
    pca->references = 1;
    pca->adapters = lrki_adapters_ref(adapters);
    pca->options = options;
    status = find_groups(pca);
    if (status == LRK_OK) status = take_state(pca);
    if (status == LRK_OK) status = take_scratch(pca);
    if (status == LRK_OK)
        *out = pca;
    else
        lrki_pca_unref(pca);
    return status;
}

/* ---- settings and questions ---------------------------------------------------------------------------------------- */

lrk_status lrki_pca_check_idle(const lrk_pca *pca, const char *what)
{
    if (!__atomic_load_n(&pca->in_use, __ATOMIC_ACQUIRE)) return LRK_OK;
    return lrki_fail(pca->adapters->context, LRK_ERR_BUSY, "%s: an open pass feeds the components", what);
}

lrk_status lrk_pca_select(lrk_pca *pca, const uint8_t *counts, int64_t n)
{
    if (pca == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = pca->adapters->context;
    if (n < 0 || (counts == NULL) != (n == 0))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_pca_select: counts is NULL or n < 1, but not both");
    lrk_status status = lrki_pca_check_idle(pca, "lrk_pca_select");
    if (status != LRK_OK) return status;
    uint8_t *copy = n > 0 ? lrki_array(context, n, sizeof *copy) : NULL;
    if (n > 0 && copy == NULL) return lrki_fail_nomem(context, "the rows that count");
    if (n > 0) memcpy(copy, counts, (size_t)n);
    lrki_array_free(context, pca->counts, pca->n_counts, sizeof *pca->counts);
    pca->counts = copy;
    pca->n_counts = n;
    return LRK_OK;
}

static lrk_status check_module(const lrk_pca *pca, int32_t module, const char *what)
{
    if (module >= 0 && module < pca->adapters->n_modules) return LRK_OK;
    return lrki_fail(pca->adapters->context, LRK_ERR_ARGUMENT, "%s: there is no module %d", what,
                     (int)module);
}

lrk_status lrk_pca_info_get(const lrk_pca *pca, int32_t module, lrk_pca_info *info)
{
    if (pca == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = check_module(pca, module, "lrk_pca_info_get");
    if (status != LRK_OK) return status;
    const lrki_pca_group *group = &pca->groups[pca->modules[module].group];
    double rows = group->scalars[0];
    const lrk_pca_info facts = {.components = group->k,
                                .converged = (int64_t)group->scalars[2],
                                .wanted = group->wanted,
                                .rows = rows,
                                .variance = rows > 0 ? group->scalars[1] / rows : 0};
    return lrki_struct_write(pca->adapters->context, info, &facts, sizeof facts, "lrk_pca_info");
}

lrk_status lrk_pca_components(const lrk_pca *pca, int32_t module, int64_t n, double *values, double *shares,
                              double *components)
{
    if (pca == NULL) return LRK_ERR_ARGUMENT;
    const lrk_adapters *set = pca->adapters;
    lrk_status status = check_module(pca, module, "lrk_pca_components");
    if (status != LRK_OK) return status;
    const lrki_pca_group *group = &pca->groups[pca->modules[module].group];
    if (values == NULL || n < 1 || n > group->k)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT,
                         "lrk_pca_components: module '%s': values is NULL or n is not in 1..%lld",
                         set->modules[module].name, (long long)group->k);
    status = lrki_pca_check_idle(pca, "lrk_pca_components");
    if (status != LRK_OK) return status;
    double variance = group->scalars[1];
    if (!isfinite(variance))
        return lrki_fail_at(set->context, LRK_ERR_NONFINITE, (lrki_place){.module = module},
                            "module '%s': its input is not finite", set->modules[module].name);
    memcpy(values, group->values, (size_t)n * sizeof *values);
    for (int64_t i = 0; i < n && shares != NULL; i++)
        shares[i] = variance > 0 ? values[i] * values[i] / variance : 0;
    if (components != NULL)
        memcpy(components, group->components, (size_t)(n * group->n_in) * sizeof *components);
    return LRK_OK;
}

lrk_status lrk_pca_state(const lrk_pca *pca, const double **state, int64_t *n)
{
    if (pca == NULL) return LRK_ERR_ARGUMENT;
    if (state == NULL || n == NULL)
        return lrki_fail(pca->adapters->context, LRK_ERR_ARGUMENT, "lrk_pca_state: a result is NULL");
    lrk_status status = lrki_pca_check_idle(pca, "lrk_pca_state");
    if (status != LRK_OK) return status;
    *state = pca->state;
    *n = pca->n_state;
    return LRK_OK;
}
