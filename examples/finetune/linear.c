/* SPDX-License-Identifier: MIT */
/*
 * A group of frozen linear layers that read the same input, and the two calls
 * that adapt them: all that the forward and backward of the model know of
 * lorank stands in this file, between #ifdef LORANK and #endif.
 */
#include "mem.h"
#include "model_internal.h"
#include "ops.h"

#ifdef LORANK
#include <lorank/lorank.h>

/* Modules of the group that have an adapter, and their columns of the fused output; returns how many. */
static int32_t adapted(const llama_run *run, const linear_call *call, float *y, int32_t *modules,
                       lrk_matrix_mut *ys)
{
    const linear_group *group = &run->model->groups[call->group];
    int32_t n = 0;
    for (int i = 0; run->pass != NULL && i < group->n_kinds; i++) {
        int32_t module = run->modules[call->block * LLAMA_N_KINDS + group->first_kind + i];
        if (module < 0) continue;
        modules[n] = module;
        ys[n++] = (lrk_matrix_mut){sizeof *ys, LRK_DTYPE_F32,        y + group->column[i],
                                   run->rows,  group->member_out[i], group->n_out};
    }
    return n;
}

/* Room for what the adapters keep until backward; an evaluation keeps nothing. */
static lrk_status reserve_saved(llama_run *run, const linear_call *call, const int32_t *modules, int32_t n)
{
    saved_state *saved = &call->state->saved[call->group];
    saved->bytes = 0;
    if (!run->keeping) return LRK_OK;
    lrk_status status = lrk_saved_size(run->adapters, modules, n, run->rows, &saved->bytes);
    if (status != LRK_OK || saved->bytes <= saved->capacity) return status;
    mem_free(saved->data);
    saved->data = mem_alloc(saved->bytes);
    saved->capacity = saved->data != NULL ? saved->bytes : 0;
    return saved->data != NULL ? LRK_OK : LRK_ERR_NOMEM;
}

static int outcome(llama_run *run, const linear_call *call, lrk_status status)
{
    if (status == LRK_OK) return 0;
    return model_fail(run->error, sizeof run->error, "adapters of block %lld: %s", (long long)call->block,
                      lrk_status_text(status));
}
#endif

int linear_forward(llama_run *run, const linear_call *call, float *y)
{
    const linear_group *group = &run->model->groups[call->group];
    const float *w = run->model->blocks[call->block].group[call->group];
    ops_linear(run->rows, group->n_in, group->n_out, call->x, w, y);
#ifdef LORANK
    lrk_matrix x = {sizeof x, LRK_DTYPE_F32, call->x, run->rows, group->n_in, group->n_in};
    lrk_matrix_mut ys[3];
    int32_t modules[3], n = adapted(run, call, y, modules, ys);
    if (n == 0) return 0;
    saved_state *saved = &call->state->saved[call->group];
    lrk_status status = reserve_saved(run, call, modules, n);
    if (status == LRK_OK)
        status =
            lrk_forward(run->pass, modules, n, &x, ys, saved->bytes > 0 ? saved->data : NULL, saved->bytes);
    return outcome(run, call, status);
#endif
    return 0;
}

int linear_backward(llama_run *run, const linear_call *call, float *dy, float *dx)
{
    const linear_group *group = &run->model->groups[call->group];
    const float *w = run->model->blocks[call->block].group[call->group];
    if (dx != NULL) ops_linear_backward(run->rows, group->n_in, group->n_out, dy, w, dx);
#ifdef LORANK
    lrk_matrix x = {sizeof x, LRK_DTYPE_F32, call->x, run->rows, group->n_in, group->n_in}, dys[3];
    lrk_matrix_mut d = {sizeof d, LRK_DTYPE_F32, dx, run->rows, group->n_in, group->n_in}, views[3];
    int32_t modules[3], n = adapted(run, call, dy, modules, views);
    if (n == 0) return 0;
    for (int32_t i = 0; i < n; i++)
        dys[i] = (lrk_matrix){sizeof *dys,   views[i].dtype, views[i].data,
                              views[i].rows, views[i].cols,  views[i].ld};
    const saved_state *saved = &call->state->saved[call->group];
    return outcome(run, call,
                   lrk_backward(run->pass, modules, n, &x, saved->bytes > 0 ? saved->data : NULL,
                                saved->bytes, dys, dx != NULL ? &d : NULL));
#endif
    return 0;
}
