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
    if (matrix->dtype < LRK_DTYPE_F32 || matrix->dtype > LRK_DTYPE_F16)
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
        lrki_mul(rows, matrix->ld, &span) && lrki_mul(span, lrki_dtype_bytes(matrix->dtype), &span))
        return LRK_OK;
    return lrki_fail_at(set->context, LRK_ERR_SHAPE, at_module(module),
                        "%s: module '%s': %s is %lld x %lld with ld %lld where %lld x %lld is due",
                        call->name, set->modules[module].name, what, (long long)matrix->rows,
                        (long long)matrix->cols, (long long)matrix->ld, (long long)rows, (long long)cols);
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

/* What its scratch is cut for: all live ranks of its modules. The workspace was measured for no less. */
static lrki_lora_size size_of(const lrki_call *call)
{
    const lrk_adapters *set = call->pass->adapters;
    lrki_lora_size size = {.rows = call->x.rows, .tiles = drops(call->pass)};
    for (int32_t i = 0; i < call->n_modules; i++) {
        const lrki_module *m = &set->modules[call->modules[i]];
        lrki_lora_size_add(&size, lrki_fused_ranks(set->context, size.rows, m->n_in, m->n_out), m->n_in,
                           m->n_out, m->bank.rank);
    }
    return size;
}

/* Views of the caller's are all read as const; what is written is known to the kernels. */
static lrki_activations activations_of(const lrk_matrix *matrix)
{
    return (lrki_activations){.data = (void *)matrix->data, .ld = matrix->ld, .dtype = matrix->dtype};
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

    lrki_lora_size size = size_of(call);
    call->scratch = lrki_lora_scratch_cut(pass->workspace, &size);
    call->used.rows = call->x.rows;
    call->lora = (lrki_lora_call){.context = set->context,
                                  .rows = call->x.rows,
                                  .n_in = n_in,
                                  .x = activations_of(&call->x),
                                  .parts = call->scratch.parts,
                                  .coef = call->scratch.coef,
                                  .lanes = call->scratch.lanes,
                                  .has_tiles = size.tiles};
    if (drops(pass)) {
        lrki_stream stream =
            lrki_stream_make(set->seed, LRKI_STREAM_DROPOUT, dropout_identity(call), pass->nonce);
        call->dropout = lrki_dropout_make(stream, set->dropout, pass->first_row, n_in);
        call->lora.dropout = &call->dropout;
    }
    return LRK_OK;
}

lrk_status lrki_call_matrix(const lrki_call *call, const void *array, int64_t i, int64_t cols,
                            const char *what, lrki_activations *matrix)
{
    lrk_matrix view;
    lrk_status status = read_matrix(call, array, i, what, &view);
    if (status == LRK_OK) status = check_shape(call, &view, call->x.rows, cols, what, call->modules[i]);
    *matrix = activations_of(&view);
    return status;
}

/* Lists and factors of the ranks that the pass takes. */
static void list_ranks(const lrki_call *call, const lrki_module *m, lrki_target target, lrki_lora_part *part)
{
    float *factor = call->scratch.factors + call->used.ranks;
    for (int64_t j = 0, k = 0; j < m->bank.rank; j++) {
        if (!lrki_pass_takes(call->pass, m, j)) continue;
        double weight = (double)lrki_pass_mask_value(call->pass, m, j) * (double)m->bank.gates[j];
        factor[k] = (float)(m->scale * weight);
        part->a[k] = m->bank.a + j * m->n_in;
        part->b[k] = m->bank.b + j * m->n_out;
        if (part->grad_a != NULL) {
            part->grad_a[k] = target.grad_a + j * m->n_in;
            part->grad_b[k] = target.grad_b + j * m->n_out;
        }
        k++;
    }
    part->factor = factor;
}

lrki_lora_part *lrki_call_add(lrki_call *call, int32_t module, lrki_share share, lrki_target target)
{
    const lrki_lora_scratch *scratch = &call->scratch;
    const lrki_module *m = &call->pass->adapters->modules[module];
    int64_t rows = call->x.rows, chunks = lrki_lora_chunks(rows), ranks = call->used.ranks;
    bool gradients = target.grad_a != NULL && (call->pass->gradients & LRK_GRAD_PARAMETERS);
    bool products = (call->pass->gradients & (LRK_GRAD_GATES | LRK_GRAD_MASK)) != 0;
    lrki_lora_part *part = &call->lora.parts[call->lora.n_parts++];
    *part = (lrki_lora_part){.rank = share.count,
                             .n_out = m->n_out,
                             .a = scratch->lists + 2 * ranks,
                             .b = scratch->lists + 2 * ranks + share.count,
                             .grad_a = gradients ? scratch->gradient_lists + 2 * ranks : NULL,
                             .grad_b = gradients ? scratch->gradient_lists + 2 * ranks + share.count : NULL,
                             .silent = share.silent,
                             .products = products ? scratch->products + ranks : NULL,
                             .h = scratch->h + rows * ranks,
                             .scaled_h = scratch->scaled_h + rows * ranks,
                             .d = scratch->d + rows * ranks,
                             .partial = scratch->partial + chunks * ranks,
                             .packed = scratch->packed + call->used.packed,
                             .sums = scratch->sums + lrki_lora_sums(rows) * call->used.gradients};
    list_ranks(call, m, target, part);
    lrki_lora_size_add(&call->used, lrki_fused_ranks(call->lora.context, rows, m->n_in, m->n_out), m->n_in,
                       m->n_out, share.count);
    return part;
}
