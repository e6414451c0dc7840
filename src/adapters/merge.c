/* SPDX-License-Identifier: MIT */
/*
 * Merging: delta = s B^T diag(g) A, written or added to a host's weight. The product is made in blocks of rows with one
 * sequence of GEMM calls for both orientations, and added afterwards element by element, so that merging adds exactly
 * what lrk_adapters_delta() writes and unmerging subtracts the same, whatever the GEMM.
 *     rows = n_out: left = B, right = A;   rows = n_in: left = A, right = B;   block = (s) (diag(g) left_block)^T right
 */
#include <math.h>

#include "../kernels/kernels.h"
#include "bank.h"

#define BLOCK_ROWS                                                                                           \
    64 /* of delta at a time: scratch of 64 rows, and the right factor is read rows / 64 times */

typedef struct job {
    const lrk_adapters *adapters;
    const lrki_module *module;
    int64_t rows;
    int64_t cols;
    const float *left;  /* [rank x rows] */
    const float *right; /* [rank x cols] */
    float *scratch;     /* BLOCK_ROWS columns of gated left, then BLOCK_ROWS rows of delta */
    int64_t scratch_floats;
} job;

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

static lrk_status check_parameters(const lrk_adapters *adapters, int32_t module)
{
    const lrki_module *m = &adapters->modules[module];
    lrk_status status = check_finite(adapters, module, m->bank.a, m->n_in, "A");
    if (status == LRK_OK) status = check_finite(adapters, module, m->bank.b, m->n_out, "B");
    if (status == LRK_OK) status = check_finite(adapters, module, m->bank.gates, 1, "the gate");
    return status;
}

static job make_job(const lrk_adapters *adapters, int32_t module, int32_t orientation)
{
    const lrki_module *m = &adapters->modules[module];
    bool out_in = orientation == LRK_WEIGHT_OUT_IN;
    return (job){.adapters = adapters,
                 .module = m,
                 .rows = out_in ? m->n_out : m->n_in,
                 .cols = out_in ? m->n_in : m->n_out,
                 .left = out_in ? m->bank.b : m->bank.a,
                 .right = out_in ? m->bank.a : m->bank.b};
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
    job j = make_job(adapters, module, orientation);
    int64_t span;
    if (ld < j.cols)
        return lrki_fail_at(context, LRK_ERR_SHAPE, place,
                            "%s: ld %lld is less than the %lld columns of module '%s'", what, (long long)ld,
                            (long long)j.cols, adapters->modules[module].name);
    if (!lrki_mul(j.rows, ld, &span) || !lrki_mul(span, sizeof(float), &span))
        return lrki_fail_at(context, LRK_ERR_SHAPE, place, "%s: %lld rows of ld %lld of module '%s' overflow",
                            what, (long long)j.rows, (long long)ld, adapters->modules[module].name);
    return check_parameters(adapters, module);
}

static lrk_status take_scratch(job *j)
{
    lrk_context *context = j->adapters->context;
    int64_t width, floats;
    bool fits = lrki_add(j->module->bank.rank, j->cols, &width) && lrki_mul(width, BLOCK_ROWS, &floats);
    j->scratch_floats = fits ? floats : -1;
    j->scratch = lrki_array(context, j->scratch_floats, sizeof *j->scratch);
    return j->scratch != NULL ? LRK_OK : lrki_fail_nomem(context, "merging a module");
}

static void free_scratch(job *j)
{
    lrki_array_free(j->adapters->context, j->scratch, j->scratch_floats, sizeof *j->scratch);
}

/* delta rows first..first+n-1 to out. */
static lrk_status delta_block(const job *j, int64_t first, int64_t n, float *out, int64_t ld)
{
    const lrki_bank *bank = &j->module->bank;
    for (int64_t r = 0; r < bank->rank; r++)
        for (int64_t i = 0; i < n; i++)
            j->scratch[r * n + i] = bank->gates[r] * j->left[r * j->rows + first + i];
    return lrki_gemm(j->adapters->context, true, false, n, j->cols, bank->rank, (float)j->module->scale,
                     j->scratch, n, j->right, j->cols, 0.0f, out, ld);
}

static void add_block(const float *delta, int64_t n, int64_t cols, int32_t sign, float *weight, int64_t ld)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < cols; c++)
            weight[i * ld + c] += (float)sign * delta[i * cols + c];
}

/* sign 0: delta itself. */
static lrk_status run(job *j, int32_t sign, float *weight, int64_t ld)
{
    float *delta = j->scratch + j->module->bank.rank * BLOCK_ROWS;
    for (int64_t first = 0; first < j->rows; first += BLOCK_ROWS) {
        int64_t n = j->rows - first < BLOCK_ROWS ? j->rows - first : BLOCK_ROWS;
        float *rows = weight + first * ld;
        lrk_status status =
            sign == 0 ? delta_block(j, first, n, rows, ld) : delta_block(j, first, n, delta, j->cols);
        if (status != LRK_OK) return status;
        if (sign != 0) add_block(delta, n, j->cols, sign, rows, ld);
    }
    return LRK_OK;
}

lrk_status lrk_adapters_merge(const lrk_adapters *adapters, int32_t module, int32_t sign, int32_t orientation,
                              float *weight, int64_t ld)
{
    lrk_status status = check_weight(adapters, module, orientation, weight, ld, "lrk_adapters_merge");
    if (status != LRK_OK) return status;
    if (sign != 1 && sign != -1)
        return lrki_fail_at(adapters->context, LRK_ERR_ARGUMENT, (lrki_place){.module = module},
                            "lrk_adapters_merge: sign %d is neither 1 nor -1", (int)sign);
    job j = make_job(adapters, module, orientation);
    if (j.module->bank.rank == 0) return LRK_OK;
    status = take_scratch(&j);
    if (status == LRK_OK) status = run(&j, sign, weight, ld);
    free_scratch(&j);
    return status;
}

lrk_status lrk_adapters_delta(const lrk_adapters *adapters, int32_t module, int32_t orientation, float *delta,
                              int64_t ld)
{
    lrk_status status = check_weight(adapters, module, orientation, delta, ld, "lrk_adapters_delta");
    if (status != LRK_OK) return status;
    job j = make_job(adapters, module, orientation);
    status = take_scratch(&j);
    if (status == LRK_OK) status = run(&j, 0, delta, ld);
    free_scratch(&j);
    return status;
}
