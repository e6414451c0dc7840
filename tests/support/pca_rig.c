/* SPDX-License-Identifier: MIT */
/* The oracle of input components and the rig of their tests (pca_rig.h). */
#include "pca_rig.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "spectral.h"

static int64_t count_rows(int64_t first, int64_t n, const uint8_t *counts)
{
    int64_t taken = 0;
    for (int64_t t = first; t < first + n; t++)
        taken += counts == NULL || counts[t];
    return taken;
}

void pca_oracle_feed(pca_oracle *o, const padded *x, int64_t first, int64_t n, const uint8_t *counts)
{
    int64_t d = o->n_in, k = o->rows > 0 ? o->k : 0, taken = count_rows(first, n, counts), at = k;
    double *stack = calloc((size_t)((k + taken + 1) * d), sizeof *stack), total = o->rows + (double)taken;
    double *right = calloc((size_t)(d * d), sizeof *right), *values = calloc((size_t)d, sizeof *values);
    ck_assert_int_le(d, PCA_MOST);
    for (int64_t i = 0; i < k; i++)
        for (int64_t c = 0; c < d; c++)
            stack[i * d + c] = o->values[i] * o->components[i * d + c];
    for (int64_t t = first; t < first + n; t++) {
        if (counts != NULL && !counts[t]) continue;
        for (int64_t c = 0; c < d; c++)
            stack[at * d + c] = (double)x->data[t * x->ld + c];
        at++;
    }
    for (int64_t c = 0; c < d; c++) {
        double mean = 0, squares = 0, old = o->mean[c];
        for (int64_t t = k; t < at; t++)
            mean += stack[t * d + c] / (double)taken;
        for (int64_t t = k; t < at; t++) {
            stack[t * d + c] -= mean;
            squares += stack[t * d + c] * stack[t * d + c];
        }
        stack[at * d + c] = sqrt(o->rows / total * (double)taken) * (old - mean);
        o->mean[c] = (o->rows * old + (double)taken * mean) / total;
        o->variance[c] =
            (o->rows * (o->variance[c] + old * old) + squares + (double)taken * mean * mean) / total -
            o->mean[c] * o->mean[c];
    }
    spectral_svd(at + 1, d, stack, values, right);
    memcpy(o->values, values, (size_t)o->k * sizeof *values);
    memcpy(o->components, right, (size_t)(o->k * d) * sizeof *right);
    o->rows = total;
    free(values);
    free(right);
    free(stack);
}

double pca_oracle_share(const pca_oracle *o, int64_t i)
{
    double sum = 0;
    for (int64_t c = 0; c < o->n_in; c++)
        sum += o->variance[c] * o->rows;
    return o->values[i] * o->values[i] / sum;
}

padded pca_rows(int64_t rows, int64_t cols, double decay, uint64_t seed)
{
    padded x = padded_make(rows, cols, 3, seed);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t c = 0; c < cols; c++) {
            float *value = &x.data[t * x.ld + c];
            *value = (float)(pow(decay, (double)c) * (double)*value + 0.1 * (double)(c % 5));
        }
    return x;
}

lrk_status pca_forward(lrk_adapters *set, lrk_pca *pca, const int32_t *modules, int32_t n,
                       const lrk_matrix *x)
{
    lrk_pass_options options = pass_options(x->rows > 0 ? x->rows : 1);
    padded y[4];
    lrk_matrix_mut views[4];
    lrk_mask *none;
    ck_assert_int_eq(lrk_mask_create_none(set, &none), LRK_OK);
    options.mask = none;
    options.pca = pca;
    for (int32_t i = 0; i < n; i++) {
        lrk_module_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_adapters_module(set, modules[i], &info), LRK_OK);
        y[i] = padded_make(x->rows, info.n_out, 0, 1);
        views[i] = padded_mut(&y[i]);
    }
    lrk_pass *pass = pass_open(set, options);
    lrk_status status = lrk_forward(pass, modules, n, x, views, NULL, 0);
    lrk_pass_end(pass);
    for (int32_t i = 0; i < n; i++)
        padded_free(&y[i]);
    lrk_mask_destroy(none);
    return status;
}

lrk_status pca_feed_one(lrk_adapters *set, lrk_pca *pca, int32_t module, const padded *x)
{
    lrk_matrix view = padded_view(x);
    return pca_forward(set, pca, &module, 1, &view);
}

/* ---- the rig ------------------------------------------------------------------------------------------------------- */

const shape pca_shapes[] = {{24, 30, 3, 0, 0, 1.0},
                            {24, 17, 2, 0, 0, 0.5},
                            {37, 24, 3, LRK_NO_GROUP, 1, 1.0},
                            {6, 9, 0, LRK_NO_GROUP, 2, 1.0},
                            {5, 4, 9, LRK_NO_GROUP, 2, 1.0}};
struct pca_rig pca_rig;

void pca_rig_open(int32_t threads)
{
    fault_reset(&pca_rig.host);
    pca_rig.host.threads = threads;
    pca_rig.context = fault_context(&pca_rig.host);
    pca_rig.set = set_make(pca_rig.context, pca_shapes, PCA_MODULES, 0.25, 0);
    set_fill(pca_rig.set, 1);
}

void pca_rig_close(void)
{
    lrk_adapters_destroy(pca_rig.set);
    lrk_context_destroy(pca_rig.context);
    pca_rig.set = NULL; /* a check that fails between two tear-downs comes here twice */
    pca_rig.context = NULL;
    ck_assert_int_eq(pca_rig.host.live, 0);
    ck_assert(!pca_rig.host.bad_release);
}

lrk_pca_options pca_usual_options(void)
{
    lrk_pca_options options;
    ck_assert_int_eq(lrk_pca_options_init(&options, sizeof options), LRK_OK);
    options.batch_rows = 40;
    return options;
}

lrk_pca *pca_make(const lrk_pca_options *options)
{
    lrk_pca *pca = NULL;
    ck_assert_int_eq(lrk_pca_create(pca_rig.set, options, &pca), LRK_OK);
    return pca;
}

lrk_pca *pca_make_usual(void)
{
    lrk_pca_options options = pca_usual_options();
    return pca_make(&options);
}
