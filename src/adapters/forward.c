/* SPDX-License-Identifier: MIT */
/*
 * lrk_forward() and lrk_backward(): a call's arguments become parts (call.c), the kernels do the work, and the sums
 * over rows become derivatives by gates and mask. Forward and backward choose the same ranks (lrki_pass_takes), which
 * is what makes a saved H readable.
 */
#include <string.h>

#include "pca.h"
#include "sketch.h"

static const lrki_module *module_at(const lrki_call *call, int32_t i)
{
    return &call->pass->adapters->modules[call->modules[i]];
}

/* Place of module i's H in a saved buffer. */
static unsigned char *saved_at(const lrki_call *call, unsigned char *saved, int32_t i)
{
    unsigned char *at = saved + LRKI_SAVED_HEADER;
    for (int32_t k = 0; k < i; k++) {
        int64_t bytes = 0;
        lrki_saved_part_size(module_at(call, k), call->x.rows, &bytes);
        at += bytes;
    }
    return at;
}

/* Whether forward works on the module: it has ranks, and they change y or their H is kept. */
static bool has_part(const lrk_pass *pass, const lrki_module *m, bool saved)
{
    lrki_share share = lrki_pass_share(pass, m);
    return share.count > 0 && (saved || !share.silent);
}

/* Where the kernels put them; the scratch of backward is free, and there is a chunk if there is a row. */
static void want_outputs(const lrki_call *call, lrki_lora_part *part)
{
    part->own = part->partial;
    part->joint = call->scratch.products + (call->used.ranks - part->rank);
}

/* The parts of a call are those of its modules that have some rank at work. */
static lrk_status add_outputs(const lrki_call *call, bool saved)
{
    const lrk_pass *pass = call->pass;
    const lrki_lora_part *part = call->lora.parts;
    lrk_status status = lrki_lora_outputs(&call->lora);
    for (int32_t i = 0; i < call->n_modules && status == LRK_OK; i++) {
        const lrki_module *m = module_at(call, i);
        if (!has_part(pass, m, saved)) continue;
        lrk_rank_output *to = pass->outputs + m->first_rank;
        for (int64_t j = 0, k = 0; j < m->bank.rank; j++) {
            if (!lrki_pass_takes(pass, m, j)) continue;
            to[j].own += part->own[k];
            to[j].joint += part->joint[k++];
        }
        part++;
    }
    return status;
}

lrk_status lrk_forward(lrk_pass *pass, const int32_t *modules, int32_t n_modules, const lrk_matrix *x,
                       const lrk_matrix_mut *y, void *saved, size_t saved_bytes)
{
    lrki_call call;
    if (pass == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = lrki_call_begin(&call, pass, "lrk_forward", modules, n_modules, x);
    if (status == LRK_OK) status = lrki_saved_check_size(&call, saved, saved_bytes);
    for (int32_t i = 0; i < n_modules && status == LRK_OK; i++) {
        const lrki_module *m = module_at(&call, i);
        lrki_activations to;
        status = lrki_call_matrix(&call, y, i, m->n_out, "y", &to);
        if (status != LRK_OK || !has_part(pass, m, saved != NULL)) continue;
        lrki_lora_part *part = lrki_call_add(&call, modules[i], lrki_pass_share(pass, m), (lrki_target){0});
        part->y = to;
        if (pass->outputs != NULL) want_outputs(&call, part);
        if (saved != NULL) part->keep_h = (float *)(void *)saved_at(&call, saved, i);
    }
    if (status == LRK_OK && saved != NULL)
        memset(saved, 0, LRKI_SAVED_HEADER); /* not valid until H is there */
    bool works = call.x.rows > 0 && call.lora.n_parts > 0;
    if (status == LRK_OK && works) status = lrki_lora_forward(&call.lora);
    if (status == LRK_OK && works && pass->outputs != NULL) status = add_outputs(&call, saved != NULL);
    if (status == LRK_OK && saved != NULL) lrki_saved_write_header(&call, saved);
    return status == LRK_OK && pass->pca != NULL ? lrki_pca_feed(pass->pca, &call) : status;
}

/* ---- backward --------------------------------------------------------------------------------------------------------- */

static lrki_target target_of(const lrk_pass *pass, int32_t module)
{
    if (pass->sink != NULL) return lrki_sink_target(pass->sink, module);
    const lrki_bank *bank = &pass->adapters->modules[module].bank;
    return (lrki_target){.grad_a = bank->grad_a, .grad_b = bank->grad_b, .grad_gates = bank->grad_gates};
}

/* dL/dg_j += m_j s sum H P and dL/dm_j += g_j s sum H P, from the sums of a part. */
static void add_products(const lrki_call *call, const double *products, int32_t module)
{
    const lrk_pass *pass = call->pass;
    const lrki_module *m = &pass->adapters->modules[module];
    lrki_target target = target_of(pass, module);
    for (int64_t rank = 0; rank < m->bank.rank; rank++) {
        if (!lrki_pass_takes(pass, m, rank)) continue;
        double sum = m->scale * *products++;
        if (pass->gradients & LRK_GRAD_GATES) {
            double mask = (double)lrki_pass_mask_value(pass, m, rank);
            if (mask != 0.0) target.grad_gates[rank] = (float)((double)target.grad_gates[rank] + mask * sum);
        }
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): such a pass has a sink for them */
        if (pass->gradients & LRK_GRAD_MASK) target.grad_mask[rank] += (double)m->bank.gates[rank] * sum;
    }
}

/* A sink also remembers modules that only mask derivatives reached: estimators ask for that. */
static void mark_gradient(const lrk_pass *pass, int32_t module)
{
    if (pass->gradients == 0) return;
    if (pass->sink != NULL)
        pass->sink->touched[module] = true;
    else
        pass->adapters->modules[module].has_gradient = true;
}

/* Adds the parts of a backward call, in the order of its modules; those without work get none. */
static lrk_status read_backward(lrki_call *call, const void *saved, const lrk_matrix *dy)
{
    for (int32_t i = 0; i < call->n_modules; i++) {
        const lrki_module *m = module_at(call, i);
        lrki_activations from;
        lrk_status status = lrki_call_matrix(call, dy, i, m->n_out, "dy", &from);
        if (status != LRK_OK) return status;
        lrki_share share = lrki_pass_share(call->pass, m);
        if (share.count == 0) continue;
        lrki_lora_part *part =
            lrki_call_add(call, call->modules[i], share, target_of(call->pass, call->modules[i]));
        part->dy = from;
        if (saved != NULL) /* only read through kept_h */
            part->kept_h = (const float *)(void *)saved_at(call, (unsigned char *)saved, i);
    }
    return LRK_OK;
}

static void finish_backward(const lrki_call *call)
{
    const lrki_lora_part *part = call->lora.parts;
    for (int32_t i = 0; i < call->n_modules; i++) {
        if (lrki_pass_share(call->pass, module_at(call, i)).count == 0) continue;
        if (part->products != NULL) add_products(call, part->products, call->modules[i]);
        part++;
    }
}

static lrk_status check_derivable(const lrk_pass *pass)
{
    if (pass->gradients == 0 || !(pass->adapters->flags & LRK_ADAPTERS_INFERENCE)) return LRK_OK;
    return lrki_fail(
        pass->adapters->context, LRK_ERR_UNSUPPORTED,
        "lrk_backward: an inference-only set has no gradients; ask for dx alone (gradients = 0)");
}

lrk_status lrk_backward(lrk_pass *pass, const int32_t *modules, int32_t n_modules, const lrk_matrix *x,
                        const void *saved, size_t saved_bytes, const lrk_matrix *dy, const lrk_matrix_mut *dx)
{
    lrki_call call;
    lrki_activations to_dx = {0};
    if (pass == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = lrki_call_begin(&call, pass, "lrk_backward", modules, n_modules, x);
    if (status == LRK_OK && dx != NULL) status = lrki_call_matrix(&call, dx, 0, call.lora.n_in, "dx", &to_dx);
    if (status == LRK_OK) status = lrki_saved_check_size(&call, saved, saved_bytes);
    if (status == LRK_OK && saved != NULL) status = lrki_saved_check_header(&call, saved);
    if (status == LRK_OK) status = check_derivable(pass);
    if (status == LRK_OK) status = read_backward(&call, saved, dy);
    if (status == LRK_OK && pass->gradients != 0) status = lrki_pass_claim(pass);
    if (status != LRK_OK) return status;

    call.lora.dx = to_dx;
    bool derives = dx != NULL || pass->gradients != 0;
    if (derives && call.x.rows > 0 && call.lora.n_parts > 0) {
        status = lrki_lora_backward(&call.lora);
        if (status != LRK_OK) return status;
        finish_backward(&call);
    }
    if (pass->sketch != NULL) status = lrki_sketch_feed(pass->sketch, &call, dy);
    if (status != LRK_OK) return status;
    for (int32_t i = 0; i < n_modules; i++)
        mark_gradient(pass, modules[i]);
    return LRK_OK;
}
