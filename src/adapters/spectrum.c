/* SPDX-License-Identifier: MIT */
/*
 * Singular values, norms and distances of deltas, from their factored form.
 */
#include <math.h>
#include <string.h>

#include "../kernels/dense.h"
#include "delta.h"
#include "factored.h"
#include "lorank/spectrum.h"

static lrk_status spectrum(lrk_context *context, const lrki_module *module, double *values)
{
    const lrki_term term = {module, 1};
    lrki_factored f = {0};
    memset(values, 0, (size_t)module->bank.rank * sizeof *values);
    lrk_status status = lrki_factored_make(context, &term, 1, &f);
    if (status == LRK_OK) status = lrki_svd(context, f.k_out, f.k_in, f.core, NULL, values, NULL);
    lrki_factored_free(&f);
    return status;
}

lrk_status lrk_module_spectrum(const lrk_adapters *adapters, int32_t module, double *values, int64_t n)
{
    lrk_status status = lrki_adapters_enter_module(adapters, module, "lrk_module_spectrum");
    if (status != LRK_OK) return status;
    const lrki_module *m = &adapters->modules[module];
    lrki_place place = {.module = module};
    if (n != m->bank.rank)
        return lrki_fail_at(adapters->context, LRK_ERR_SHAPE, place, "module '%s' has %lld ranks, not %lld",
                            m->name, (long long)m->bank.rank, (long long)n);
    if (n == 0) return LRK_OK;
    if (values == NULL) return lrki_fail_at(adapters->context, LRK_ERR_ARGUMENT, place, "values is NULL");
    status = lrki_parameters_check(adapters, module);
    return status == LRK_OK ? spectrum(adapters->context, m, values) : status;
}

/* Frobenius norm of a sum of terms. The largest entry is taken out, so that no square overflows or vanishes. */
static lrk_status norm_of(lrk_context *context, const lrki_term *terms, int32_t n_terms, double *norm)
{
    lrki_factored f = {0};
    double largest = 0, sum = 0;
    lrk_status status = lrki_factored_make(context, terms, n_terms, &f);
    int64_t count = status == LRK_OK ? f.k_out * f.k_in : 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(f.core[i]));
    for (int64_t i = 0; i < count && largest > 0; i++)
        sum += f.core[i] / largest * (f.core[i] / largest);
    *norm = largest * sqrt(sum);
    lrki_factored_free(&f);
    return status;
}

lrk_status lrk_module_distance(const lrk_adapters *a, int32_t module_a, const lrk_adapters *b,
                               int32_t module_b, lrk_distance *distance)
{
    lrk_status status = lrki_adapters_enter_module(a, module_a, "lrk_module_distance");
    if (status == LRK_OK) status = lrki_adapters_enter_module(b, module_b, "lrk_module_distance");
    if (status != LRK_OK) return status;
    const lrki_module *one = &a->modules[module_a], *other = &b->modules[module_b];
    if (one->n_in != other->n_in || one->n_out != other->n_out)
        return lrki_fail(a->context, LRK_ERR_SHAPE, "module '%s' is %lld x %lld, module '%s' is %lld x %lld",
                         one->name, (long long)one->n_out, (long long)one->n_in, other->name,
                         (long long)other->n_out, (long long)other->n_in);
    status = lrki_parameters_check(a, module_a);
    if (status == LRK_OK) status = lrki_parameters_check(b, module_b);
    lrk_distance filled = {0};
    const lrki_term terms[] = {{one, 1}, {other, -1}};
    if (status == LRK_OK) status = norm_of(a->context, &terms[0], 1, &filled.norm_a);
    if (status == LRK_OK) status = norm_of(a->context, &terms[1], 1, &filled.norm_b);
    if (status == LRK_OK) status = norm_of(a->context, terms, 2, &filled.difference);
    if (status != LRK_OK) return status;
    return lrki_struct_write(a->context, distance, &filled, sizeof filled, "lrk_distance");
}
