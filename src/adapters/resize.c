/* SPDX-License-Identifier: MIT */
/*
 * Resizing: a new set whose modules are truncated singular value decompositions of the old ones' deltas,
 *     delta = left U diag(sigma) V^T right^T,   A'_j = sqrt(sigma_j / |s|) (right V_j),  B'_j = sign(s) sqrt(sigma_j / |s|) (left U_j).
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "../kernels/dense.h"
#include "delta.h"
#include "factored.h"
#include "filling.h"
#include "lorank/spectrum.h"

typedef struct svd {
    lrk_context *context;
    lrki_factored factored;
    int64_t k;
    double *u;  /* [k_out x k] */
    double *s;  /* [k]         */
    double *vt; /* [k x k_in]  */
} svd;

static lrk_status decompose(lrk_context *context, const lrki_module *module, svd *d)
{
    const lrki_term term = {module, 1};
    lrki_factored *f = &d->factored;
    d->context = context;
    lrk_status status = lrki_factored_make(context, &term, 1, f);
    if (status != LRK_OK) return status;
    d->k = f->k_out < f->k_in ? f->k_out : f->k_in;
    d->u = lrki_array(context, f->k_out * d->k, sizeof *d->u);
    d->s = lrki_array(context, d->k, sizeof *d->s);
    d->vt = lrki_array(context, d->k * f->k_in, sizeof *d->vt);
    if (d->u == NULL || d->s == NULL || d->vt == NULL) return lrki_fail_nomem(context, "a resized module");
    return lrki_svd(context, f->k_out, f->k_in, f->core, d->u, d->s, d->vt);
}

static void svd_free(svd *d)
{
    lrki_array_free(d->context, d->u, d->factored.k_out * d->k, sizeof *d->u);
    lrki_array_free(d->context, d->s, d->k, sizeof *d->s);
    lrki_array_free(d->context, d->vt, d->k * d->factored.k_in, sizeof *d->vt);
    lrki_factored_free(&d->factored);
}

/* row [n] = factor * basis [n x k] v, v with a stride. */
static void rotate(const double *basis, int64_t n, int64_t k, const double *v, int64_t stride, double factor,
                   float *row)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t t = 0; t < k; t++)
            sum += basis[i * k + t] * v[t * stride];
        row[i] = (float)(factor * sum);
    }
}

static lrk_status fill_truncated(lrk_context *context, const lrki_module *from, lrki_module *to)
{
    svd d = {0};
    lrk_status status = decompose(context, from, &d);
    const lrki_factored *f = &d.factored;
    int64_t n = to->bank.rank < d.k ? to->bank.rank : d.k;
    for (int64_t j = 0; j < n && status == LRK_OK && from->scale != 0; j++) {
        double root = sqrt(d.s[j] / fabs(from->scale));
        rotate(f->right, f->n_in, f->k_in, d.vt + j * f->k_in, 1, root, to->bank.a + j * f->n_in);
        rotate(f->left, f->n_out, f->k_out, d.u + j, d.k, from->scale < 0 ? -root : root,
               to->bank.b + j * f->n_out);
    }
    svd_free(&d);
    return status;
}

static void copy_module(const lrki_module *from, lrki_module *to)
{
    size_t rank = (size_t)from->bank.rank;
    if (rank == 0) return;
    memcpy(to->bank.a, from->bank.a, rank * (size_t)from->n_in * sizeof(float));
    memcpy(to->bank.b, from->bank.b, rank * (size_t)from->n_out * sizeof(float));
    memcpy(to->bank.gates, from->bank.gates, rank * sizeof(float));
}

static lrk_status fill(const lrk_adapters *from, const lrk_adapters_options *options, lrk_adapters *to)
{
    lrk_status status = LRK_OK;
    lrki_filling filling = lrki_filling_begin(to, options, "resizing");
    for (int64_t i = 0; i < from->n_modules && status == LRK_OK; i++) {
        const lrki_module *m = &from->modules[i];
        status = lrki_parameters_check(from, (int32_t)i);
        if (status != LRK_OK) break;
        if (m->bank.rank == to->modules[i].bank.rank)
            copy_module(m, &to->modules[i]);
        else
            status = fill_truncated(from->context, m, &to->modules[i]);
        if (status == LRK_OK) status = lrki_filling_tell(&filling, i);
    }
    return status;
}

lrk_module_spec lrki_spec_of(const lrki_module *module, int64_t rank)
{
    return (lrk_module_spec){.struct_size = sizeof(lrk_module_spec),
                             .flags = module->flags,
                             .name = module->name,
                             .kind = module->kind,
                             .stage = module->stage,
                             .n_in = module->n_in,
                             .n_out = module->n_out,
                             .rank = rank,
                             .input_group = module->input_group,
                             .scale_rule = LRK_SCALE_EXPLICIT,
                             .scale = module->scale};
}

static lrk_status create(const lrk_adapters *adapters, const int64_t *ranks,
                         const lrk_adapters_options *options, lrk_adapters **resized)
{
    lrk_module_spec *specs = lrki_array(adapters->context, adapters->n_modules, sizeof *specs);
    if (specs == NULL) return lrki_fail_nomem(adapters->context, "the modules of a resized set");
    for (int64_t i = 0; i < adapters->n_modules; i++)
        specs[i] = lrki_spec_of(&adapters->modules[i], ranks[i]);
    lrk_status status =
        lrki_adapters_create_zero(adapters->context, specs, adapters->n_modules, options, resized);
    lrki_array_free(adapters->context, specs, adapters->n_modules, sizeof *specs);
    return status;
}

lrk_status lrk_adapters_resize(const lrk_adapters *adapters, const int64_t *ranks,
                               const lrk_adapters_options *options, lrk_adapters **resized)
{
    if (resized != NULL) *resized = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_adapters_resize");
    if (status != LRK_OK) return status;
    if (ranks == NULL || resized == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_adapters_resize: NULL");
    for (int64_t i = 0; i < adapters->n_modules; i++)
        if (ranks[i] < 0)
            return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "module '%s': a rank of %" PRId64,
                             adapters->modules[i].name, ranks[i]);
    status = create(adapters, ranks, options, resized);
    if (status != LRK_OK) return status;
    status = fill(adapters, options, *resized);
    if (status == LRK_OK) return LRK_OK;
    lrk_adapters_destroy(*resized);
    *resized = NULL;
    return status;
}
