/* SPDX-License-Identifier: MIT */
/*
 * Reading the arguments of lrk_forward() and lrk_backward(): modules, matrices, and from them the parts that the
 * kernels work on. Everything is checked before anything is written. No memory is taken: parts live in the pass's
 * workspace.
 */
#include "pass_state.h"

static lrki_place at_module(int32_t module)
{
    return (lrki_place){.module = module};
}

static lrk_status check_modules(const lrki_call *call)
{
    lrk_adapters *set = call->pass->adapters;
    if (call->modules == NULL || call->n_modules < 1)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT, "%s: no modules", call->name);
    for (int32_t i = 0; i < call->n_modules; i++) {
        int32_t m = call->modules[i];
        if (m < 0 || m >= set->n_modules)
            return lrki_fail(set->context, LRK_ERR_ARGUMENT, "%s: there is no module %d", call->name, (int)m);
        for (int32_t j = 0; j < i; j++)
            if (call->modules[j] == m)
                return lrki_fail_at(set->context, LRK_ERR_ARGUMENT, at_module(m),
                                    "%s: module '%s' is given twice", call->name, set->modules[m].name);
        const lrki_module *first = &set->modules[call->modules[0]], *here = &set->modules[m];
        if (i > 0 && (here->input_group == LRK_NO_GROUP || here->input_group != first->input_group))
            return lrki_fail_at(set->context, LRK_ERR_ARGUMENT, at_module(m),
                                "%s: modules '%s' and '%s' are not of one input group", call->name,
                                first->name, here->name);
    }
    return LRK_OK;
}

_Static_assert(sizeof(lrk_matrix) == sizeof(lrk_matrix_mut) &&
                   offsetof(lrk_matrix, data) == offsetof(lrk_matrix_mut, data) &&
                   offsetof(lrk_matrix, ld) == offsetof(lrk_matrix_mut, ld),
               "one reader serves both");

static lrk_status read_matrix(const lrki_call *call, const void *array, int64_t i, const char *what,
                              lrk_matrix *matrix)
{
    lrk_context *context = call->pass->adapters->context;
    *matrix = (lrk_matrix){0};
    if (array == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "%s: %s is NULL", call->name, what);
    lrk_status status = lrki_struct_read_at(context, matrix, sizeof *matrix, array, i, sizeof *matrix, what);
    if (status != LRK_OK) return status;
    if (matrix->dtype == 1 || matrix->dtype == 2)
        return lrki_fail(context, LRK_ERR_UNSUPPORTED, "%s: %s: bf16 and f16 are not supported yet",
                         call->name, what);
    if (matrix->dtype != LRK_DTYPE_F32)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "%s: %s: unknown dtype %d", call->name, what,
                         (int)matrix->dtype);
    if (matrix->rows < 0 || (matrix->data == NULL && matrix->rows > 0))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "%s: %s: data is NULL or rows negative", call->name,
                         what);
    return LRK_OK;
}

static lrk_status check_shape(const lrki_call *call, const lrk_matrix *matrix, int64_t rows, int64_t cols,
                              const char *what, int32_t module)
{
    lrk_adapters *set = call->pass->adapters;
    int64_t span;
    if (matrix->rows == rows && matrix->cols == cols && matrix->ld >= cols &&
        lrki_mul(rows, matrix->ld, &span) && lrki_mul(span, sizeof(float), &span))
        return LRK_OK;
    return lrki_fail_at(set->context, LRK_ERR_SHAPE, at_module(module),
                        "%s: module '%s': %s is %lld x %lld with ld %lld where %lld x %lld is due",
                        call->name, set->modules[module].name, what, (long long)matrix->rows,
                        (long long)matrix->cols, (long long)matrix->ld, (long long)rows, (long long)cols);
}

/* Live ranks of the call's modules: what its scratch is cut for. */
static int64_t ranks_of(const lrki_call *call)
{
    int64_t ranks = 0;
    for (int32_t i = 0; i < call->n_modules; i++)
        ranks += call->pass->adapters->modules[call->modules[i]].bank.rank;
    return ranks;
}

/* Modules of one input group share a mask of dropout; the high bit keeps lone modules apart from groups. */
static uint64_t dropout_identity(const lrki_call *call)
{
    int32_t module = call->modules[0];
    int32_t group = call->pass->adapters->modules[module].input_group;
    return group >= 0 ? (uint64_t)group : ((uint64_t)1 << 32) + (uint64_t)module;
}

static bool drops(const lrk_pass *pass)
{
    return pass->mode == LRK_PASS_TRAIN && pass->adapters->dropout > 0.0;
}

lrk_status lrki_call_begin(lrki_call *call, lrk_pass *pass, const char *name, const int32_t *modules,
                           int32_t n_modules, const lrk_matrix *x)
{
    lrk_adapters *set = pass->adapters;
    *call = (lrki_call){.pass = pass, .name = name, .modules = modules, .n_modules = n_modules};
    lrk_status status = check_modules(call);
    if (status == LRK_OK) status = read_matrix(call, x, 0, "x", &call->x);
    if (status != LRK_OK) return status;
    int64_t n_in = set->modules[modules[0]].n_in;
    status = check_shape(call, &call->x, call->x.rows, n_in, "x", modules[0]);
    if (status != LRK_OK) return status;
    if (call->x.rows > pass->max_rows)
        return lrki_fail(set->context, LRK_ERR_SHAPE,
                         "%s: x has %lld rows, more than the pass's max_rows %lld", name,
                         (long long)call->x.rows, (long long)pass->max_rows);

    call->scratch =
        lrki_lora_scratch_cut(pass->workspace, call->x.rows, n_modules, ranks_of(call), drops(pass));
    call->lora = (lrki_lora_call){.context = set->context,
                                  .rows = call->x.rows,
                                  .n_in = n_in,
                                  .x = call->x.data,
                                  .ld_x = call->x.ld,
                                  .parts = call->scratch.parts,
                                  .tiles = call->scratch.tiles};
    if (drops(pass)) {
        lrki_stream stream =
            lrki_stream_make(set->seed, LRKI_STREAM_DROPOUT, dropout_identity(call), pass->nonce);
        call->dropout = lrki_dropout_make(stream, set->dropout, pass->first_row, n_in);
        call->lora.dropout = &call->dropout;
    }
    return LRK_OK;
}

lrk_status lrki_call_matrix(const lrki_call *call, const void *array, int64_t i, int64_t cols,
                            const char *what, lrk_matrix *matrix)
{
    lrk_status status = read_matrix(call, array, i, what, matrix);
    if (status != LRK_OK) return status;
    return check_shape(call, matrix, call->x.rows, cols, what, call->modules[i]);
}

lrki_lora_part *lrki_call_add(lrki_call *call, int32_t module, lrki_span span)
{
    const lrk_pass *pass = call->pass;
    const lrki_module *m = &pass->adapters->modules[module];
    int64_t rows = call->x.rows;
    lrki_lora_part *part = &call->lora.parts[call->lora.n_parts++];
    *part = (lrki_lora_part){.rank = span.count,
                             .n_out = m->n_out,
                             .a = m->bank.a + span.first * m->n_in,
                             .b = m->bank.b + span.first * m->n_out,
                             .factor = call->scratch.factors + call->ranks,
                             .silent = span.silent,
                             .scaled_h = call->scratch.scaled_h + rows * call->ranks,
                             .d = call->scratch.d + rows * call->ranks,
                             .partial = call->scratch.partial + lrki_lora_chunks(rows) * call->ranks};
    for (int64_t j = 0; j < span.count; j++) {
        int64_t rank = span.first + j;
        double weight = (double)lrki_pass_mask_value(pass, m, rank) * (double)m->bank.gates[rank];
        call->scratch.factors[call->ranks + j] = (float)(m->scale * weight);
    }
    call->ranks += span.count;
    return part;
}
