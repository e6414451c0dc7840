/* SPDX-License-Identifier: MIT */
/*
 * Merging: delta = s B^T diag(g) A, written or added to a host's weight. The product is made in blocks of rows with one
 * sequence of GEMM calls for both orientations, and added afterwards element by element, so that merging adds exactly
 * what lrk_adapters_delta() writes and unmerging subtracts the same, whatever the GEMM.
 *     rows = n_out: left = B, right = A;   rows = n_in: left = A, right = B;   block = (s) (diag(g) left_block)^T right
 */
#include <math.h>

#include "../kernels/kernels.h"
#include "delta.h"

#define BLOCK_ROWS   64                 /* of delta at a time: the right factor is read rows / 64 times   */
#define BLOCK_FLOATS ((int64_t)1 << 21) /* of delta at a time where rows are very long: 8 MiB, or one row */

static lrk_status check_finite(const lrk_adapters *adapters, int32_t module, const float *values,
                               int64_t cols, const char *tensor)
{
    const lrki_module *m = &adapters->modules[module];
    for (int64_t j = 0; j < m->bank.rank; j++)
        for (int64_t i = 0; i < cols; i++) {
            if (isfinite(values[j * cols + i])) continue;
            lrki_place place = {.module = module, .identity = m->bank.identities[j]};
            return lrki_fail_at(adapters->context, LRK_ERR_NONFINITE, place,
                                "%s of rank %lld of module '%s' is not finite", tensor, (long long)j,
                                m->name);
        }
    return LRK_OK;
}

lrk_status lrki_parameters_check(const lrk_adapters *adapters, int32_t module)
{
    const lrki_module *m = &adapters->modules[module];
    lrk_status status = check_finite(adapters, module, m->bank.a, m->n_in, "A");
    if (status == LRK_OK) status = check_finite(adapters, module, m->bank.b, m->n_out, "B");
    if (status == LRK_OK) status = check_finite(adapters, module, m->bank.gates, 1, "the gate");
    return status;
}

static lrki_delta make_delta(const lrk_adapters *adapters, int32_t module, int32_t orientation)
{
    const lrki_module *m = &adapters->modules[module];
    bool out_in = orientation == LRK_WEIGHT_OUT_IN;
    lrki_delta delta = {.context = adapters->context,
                        .module = m,
                        .rows = out_in ? m->n_out : m->n_in,
                        .cols = out_in ? m->n_in : m->n_out,
                        .left = out_in ? m->bank.b : m->bank.a,
                        .right = out_in ? m->bank.a : m->bank.b};
    delta.block_rows = BLOCK_FLOATS / delta.cols;
    if (delta.block_rows > BLOCK_ROWS) delta.block_rows = BLOCK_ROWS;
    if (delta.block_rows < 1) delta.block_rows = 1;
    return delta;
}

static lrk_status check_weight(const lrk_adapters *adapters, int32_t module, int32_t orientation,
                               const float *weight, int64_t ld, const char *what)
{
    lrk_status status = lrki_adapters_enter_module(adapters, module, what);
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    lrki_place place = {.module = module};
    if (orientation != LRK_WEIGHT_OUT_IN && orientation != LRK_WEIGHT_IN_OUT)
        return lrki_fail_at(context, LRK_ERR_ARGUMENT, place, "%s: unknown orientation %d", what,
                            (int)orientation);
    if (weight == NULL) return lrki_fail_at(context, LRK_ERR_ARGUMENT, place, "%s: the weight is NULL", what);
    lrki_delta d = make_delta(adapters, module, orientation);
    int64_t span;
    if (ld < d.cols)
        return lrki_fail_at(context, LRK_ERR_SHAPE, place,
                            "%s: ld %lld is less than the %lld columns of module '%s'", what, (long long)ld,
                            (long long)d.cols, adapters->modules[module].name);
    if (!lrki_mul(d.rows, ld, &span) || !lrki_mul(span, sizeof(float), &span))
        return lrki_fail_at(context, LRK_ERR_SHAPE, place, "%s: %lld rows of ld %lld of module '%s' overflow",
                            what, (long long)d.rows, (long long)ld, adapters->modules[module].name);
    return LRK_OK;
}

static int64_t gated_floats(const lrki_delta *delta)
{
    int64_t floats;
    return lrki_mul(delta->module->bank.rank, delta->block_rows, &floats) ? floats : -1;
}

lrk_status lrki_delta_open(const lrk_adapters *adapters, int32_t module, int32_t orientation,
                           lrki_delta *delta)
{
    lrk_status status = lrki_parameters_check(adapters, module);
    if (status != LRK_OK) return status;
    *delta = make_delta(adapters, module, orientation);
    delta->gated = lrki_array(delta->context, gated_floats(delta), sizeof *delta->gated);
    return delta->gated != NULL ? LRK_OK : lrki_fail_nomem(delta->context, "the delta of a module");
}

void lrki_delta_close(lrki_delta *delta)
{
    if (delta->gated != NULL)
        lrki_array_free(delta->context, delta->gated, gated_floats(delta), sizeof *delta->gated);
    *delta = (lrki_delta){0};
}

static lrk_status delta_block(const lrki_delta *delta, int64_t first, int64_t n, float *out, int64_t ld)
{
    const lrki_bank *bank = &delta->module->bank;
    for (int64_t r = 0; r < bank->rank; r++)
        for (int64_t i = 0; i < n; i++)
            delta->gated[r * n + i] = bank->gates[r] * delta->left[r * delta->rows + first + i];
    return lrki_gemm(delta->context, true, false, n, delta->cols, bank->rank, (float)delta->module->scale,
                     delta->gated, n, delta->right, delta->cols, 0.0f, out, ld);
}

lrk_status lrki_delta_rows(const lrki_delta *delta, int64_t first, int64_t n, float *out, int64_t ld)
{
    lrk_status status = LRK_OK;
    for (int64_t done = 0; done < n && status == LRK_OK; done += delta->block_rows) {
        int64_t block = n - done < delta->block_rows ? n - done : delta->block_rows;
        status = delta_block(delta, first + done, block, out + done * ld, ld);
    }
    return status;
}

static void add_block(const float *delta, int64_t n, int64_t cols, int32_t sign, float *weight, int64_t ld)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < cols; c++)
            weight[i * ld + c] += (float)sign * delta[i * cols + c];
}

static lrk_status add_all(const lrki_delta *delta, int32_t sign, float *weight, int64_t ld)
{
    int64_t floats = delta->block_rows * delta->cols;
    float *block = lrki_array(delta->context, floats, sizeof *block);
    if (block == NULL) return lrki_fail_nomem(delta->context, "merging a module");
    lrk_status status = LRK_OK;
    for (int64_t first = 0; first < delta->rows && status == LRK_OK; first += delta->block_rows) {
        int64_t left = delta->rows - first, n = left < delta->block_rows ? left : delta->block_rows;
        status = lrki_delta_rows(delta, first, n, block, delta->cols);
        if (status == LRK_OK) add_block(block, n, delta->cols, sign, weight + first * ld, ld);
    }
    lrki_array_free(delta->context, block, floats, sizeof *block);
    return status;
}

lrk_status lrk_adapters_merge(const lrk_adapters *adapters, int32_t module, int32_t sign, int32_t orientation,
                              float *weight, int64_t ld)
{
    lrki_delta delta = {0};
    lrk_status status = check_weight(adapters, module, orientation, weight, ld, "lrk_adapters_merge");
    if (status != LRK_OK) return status;
    if (sign != 1 && sign != -1)
        return lrki_fail_at(adapters->context, LRK_ERR_ARGUMENT, (lrki_place){.module = module},
                            "lrk_adapters_merge: sign %d is neither 1 nor -1", (int)sign);
    if (adapters->modules[module].bank.rank == 0) return LRK_OK;
    status = lrki_delta_open(adapters, module, orientation, &delta);
    if (status == LRK_OK) status = add_all(&delta, sign, weight, ld);
    lrki_delta_close(&delta);
    return status;
}

lrk_status lrk_adapters_delta(const lrk_adapters *adapters, int32_t module, int32_t orientation, float *delta,
                              int64_t ld)
{
    lrki_delta rows = {0};
    lrk_status status = check_weight(adapters, module, orientation, delta, ld, "lrk_adapters_delta");
    if (status != LRK_OK) return status;
    status = lrki_delta_open(adapters, module, orientation, &rows);
    if (status == LRK_OK) status = lrki_delta_rows(&rows, 0, rows.rows, delta, ld);
    lrki_delta_close(&rows);
    return status;
}
