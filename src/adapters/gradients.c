/* SPDX-License-Identifier: MIT */
/*
 * The set's own gradients as a whole: zero, scale, norm. Only live rows are touched. Sums run in module order, A before
 * B, in LANES interleaved partial sums, so that the same gradients give the same bits everywhere.
 */
#include <math.h>
#include <string.h>

#include "set.h"

#define LANES 8

static void zero(float *values, int64_t n)
{
    if (n > 0) memset(values, 0, (size_t)n * sizeof *values);
}

void lrki_gradients_clear(lrk_adapters *adapters)
{
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        lrki_module *module = &adapters->modules[i];
        module->has_gradient = false;
        if (adapters->flags & LRK_ADAPTERS_INFERENCE) continue;
        zero(module->bank.grad_a, module->bank.rank * module->n_in);
        zero(module->bank.grad_b, module->bank.rank * module->n_out);
        zero(module->bank.grad_gates, module->bank.rank);
    }
}

lrk_status lrk_adapters_zero_gradients(lrk_adapters *adapters)
{
    lrk_status status = lrki_adapters_enter_gradients(adapters, "lrk_adapters_zero_gradients");
    if (status == LRK_OK) lrki_gradients_clear(adapters);
    return status;
}

lrk_status lrk_adapters_gradients_written(lrk_adapters *adapters)
{
    lrk_status status = lrki_adapters_enter_gradients(adapters, "lrk_adapters_gradients_written");
    for (int64_t i = 0; status == LRK_OK && i < adapters->n_modules; i++)
        adapters->modules[i].has_gradient = true;
    return status;
}

/* Multiplies and tells whether all results are finite: 0 * v is NaN exactly where v is not. */
static bool scale(float *values, int64_t n, double factor)
{
    float poison = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        values[i] = (float)(values[i] * factor);
        poison += 0.0f * values[i];
    }
    return !isnan(poison);
}

lrk_status lrk_adapters_scale_gradients(lrk_adapters *adapters, double factor, int32_t *finite)
{
    lrk_status status = lrki_adapters_enter_gradients(adapters, "lrk_adapters_scale_gradients");
    if (status != LRK_OK) return status;
    if (!isfinite(factor))
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_adapters_scale_gradients: factor %g",
                         factor);
    bool all = true;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *module = &adapters->modules[i];
        const lrki_bank *bank = &module->bank;
        all &= scale(bank->grad_a, bank->rank * module->n_in, factor);
        all &= scale(bank->grad_b, bank->rank * module->n_out, factor);
        all &= scale(bank->grad_gates, bank->rank, factor);
    }
    if (finite != NULL) *finite = all;
    return LRK_OK;
}

double lrki_sum_of_squares(const float *values, int64_t n)
{
    double lanes[LANES] = {0}, sum = 0;
    int64_t whole = n - n % LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += (double)values[i + lane] * values[i + lane];
    for (int64_t i = whole; i < n; i++)
        lanes[i - whole] += (double)values[i] * values[i];
    for (int lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    return sum;
}

lrk_status lrk_adapters_gradient_norm2(const lrk_adapters *adapters, double *norm2)
{
    lrk_status status = lrki_adapters_enter_gradients(adapters, "lrk_adapters_gradient_norm2");
    if (status != LRK_OK) return status;
    if (norm2 == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_adapters_gradient_norm2: norm2 is NULL");
    double sum = 0;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *module = &adapters->modules[i];
        sum += lrki_sum_of_squares(module->bank.grad_a, module->bank.rank * module->n_in);
        sum += lrki_sum_of_squares(module->bank.grad_b, module->bank.rank * module->n_out);
    }
    *norm2 = sum;
    return LRK_OK;
}

/* ---- listeners --------------------------------------------------------------------------------------- */

void lrki_gradients_listen(lrk_adapters *adapters, lrki_listener *listener)
{
    lrki_listener **end = &adapters->listeners;
    while (*end != NULL)
        end = &(*end)->next;
    listener->next = NULL;
    *end = listener;
}

void lrki_gradients_leave(lrk_adapters *adapters, lrki_listener *listener)
{
    lrki_listener **at = &adapters->listeners;
    while (*at != NULL && *at != listener)
        at = &(*at)->next;
    if (*at != NULL) *at = listener->next;
}

lrk_status lrki_gradients_prepare(lrk_adapters *adapters)
{
    lrk_status status = LRK_OK;
    for (lrki_listener *l = adapters->listeners; l != NULL && status == LRK_OK; l = l->next)
        status = l->prepare(l->user);
    return status;
}

void lrki_gradients_observe(lrk_adapters *adapters)
{
    for (lrki_listener *l = adapters->listeners; l != NULL; l = l->next)
        l->observe(l->user);
}
