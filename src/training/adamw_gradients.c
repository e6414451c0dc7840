/* SPDX-License-Identifier: MIT */
/*
 * What a step of AdamW does before it changes anything: its loops over modules, the norm of all gradients, and the derivative of
 * the orthogonality term. Modules are the parallel tasks and elements are treated in order, so the bits do not depend on threads.
 */
#include <math.h>
#include <string.h>

#include "../kernels/kernels.h"
#include "adamw.h"

/* ---- loops over modules ------------------------------------------------------------------------------------------------ */

static bool is_trained(const lrki_module *module)
{
    return module->bank.rank > 0 && module->has_gradient;
}

static void run_task(void *data, int64_t i)
{
    const lrki_step_loop *loop = data;
    if (loop->optimizer->done[i]) return;
    if (is_trained(&loop->optimizer->adapters->modules[i])) loop->task(loop, i);
    loop->optimizer->done[i] = 1;
}

/* A loop of the host that fails half-way, or leaves tasks out, must not leave half a step: what it left is done here. */
void lrki_step_run(lrki_step_loop *loop)
{
    lrk_optimizer *optimizer = loop->optimizer;
    lrk_context *context = optimizer->adapters->context;
    int64_t n = optimizer->adapters->n_modules;
    memset(optimizer->done, 0, (size_t)n);
    if (lrki_parallel_for(context, n, run_task, loop) != LRK_OK)
        lrki_log(context, LRK_LOG_WARNING,
                 "the host's parallel_for failed: the optimizer's step goes on without it");
    for (int64_t i = 0; i < n; i++)
        run_task(loop, i);
}

/* ---- gradient norm ----------------------------------------------------------------------------------------------------- */

/* Squares of floats add up in double without overflow, so the sum is finite exactly if all elements are. */
static double sum_squares(const float *values, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)values[i] * (double)values[i];
    return sum;
}

static double sum_gates(const lrki_step_loop *loop, const lrki_bank *bank)
{
    double sum = 0;
    for (int64_t j = 0; j < bank->rank; j++) {
        float d = lrki_gate_gradient(bank, j, loop->penalty);
        sum += (double)d * (double)d;
    }
    return sum;
}

static void sum_module(const lrki_step_loop *loop, int64_t index)
{
    const lrki_module *module = &loop->optimizer->adapters->modules[index];
    double *sums = &loop->optimizer->sums[LRKI_SUMS * index];
    sums[0] = sum_squares(module->bank.grad_a, module->bank.rank * module->n_in);
    sums[1] = sum_squares(module->bank.grad_b, module->bank.rank * module->n_out);
    if (lrki_trains_gates(&loop->optimizer->options)) sums[2] = sum_gates(loop, &module->bank);
}

static lrk_status find_nonfinite(const lrk_optimizer *optimizer)
{
    const lrk_adapters *adapters = optimizer->adapters;
    static const char *const names[LRKI_SUMS] = {"A", "B", "gates"};
    for (int64_t i = 0; i < LRKI_SUMS * adapters->n_modules; i++)
        if (!isfinite(optimizer->sums[i]))
            return lrki_fail_at(adapters->context, LRK_ERR_NONFINITE,
                                (lrki_place){.module = (int32_t)(i / LRKI_SUMS)},
                                "the gradient of %s of module '%s' is not finite", names[i % LRKI_SUMS],
                                adapters->modules[i / LRKI_SUMS].name);
    return LRK_OK;
}

lrk_status lrki_step_measure(const lrki_step_loop *step, double *norm)
{
    lrk_optimizer *optimizer = step->optimizer;
    int64_t n = LRKI_SUMS * optimizer->adapters->n_modules;
    lrki_step_loop loop = *step;
    loop.task = sum_module;
    memset(optimizer->sums, 0, (size_t)n * sizeof *optimizer->sums);
    lrki_step_run(&loop);
    lrk_status status = find_nonfinite(optimizer);
    if (status != LRK_OK) return status;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += optimizer->sums[i];
    *norm = sqrt(sum);
    return LRK_OK;
}

/* ---- orthogonality ----------------------------------------------------------------------------------------------------- */

static void measure_module(const lrki_step_loop *loop, int64_t index)
{
    const lrki_module *module = &loop->optimizer->adapters->modules[index];
    double *norms = &loop->optimizer->norms[2 * index];
    norms[0] = lrki_defect_norm(module->bank.a, module->bank.rank, module->n_in);
    norms[1] = lrki_defect_norm(module->bank.b, module->bank.rank, module->n_out);
}

static void pull_module(const lrki_step_loop *loop, int64_t index)
{
    const lrki_module *module = &loop->optimizer->adapters->modules[index];
    const lrki_bank *bank = &module->bank;
    const double *norms = &loop->optimizer->norms[2 * index];
    lrki_orthogonality_add(bank->a, bank->rank, module->n_in,
                           lrki_orthogonality_factor(loop->optimizer, norms[0]), bank->grad_a);
    lrki_orthogonality_add(bank->b, bank->rank, module->n_out,
                           lrki_orthogonality_factor(loop->optimizer, norms[1]), bank->grad_b);
}

lrk_status lrki_step_prepare_term(const lrki_step_loop *step)
{
    const lrk_optimizer *optimizer = step->optimizer;
    const lrk_adapters *adapters = optimizer->adapters;
    lrki_step_loop loop = *step;
    if (optimizer->norms == NULL) return LRK_OK;
    loop.task = measure_module;
    memset(optimizer->norms, 0, 2 * (size_t)adapters->n_modules * sizeof *optimizer->norms);
    lrki_step_run(&loop);
    for (int64_t i = 0; i < 2 * adapters->n_modules; i++) {
        double norm = optimizer->norms[i];
        const lrki_module *module = &adapters->modules[i / 2];
        if (lrki_orthogonality_fits(lrki_orthogonality_factor(optimizer, norm), norm, module->bank.rank))
            continue;
        return lrki_fail_at(adapters->context, LRK_ERR_NONFINITE, (lrki_place){.module = (int32_t)(i / 2)},
                            "the orthogonality term of %s of module '%s' is not finite",
                            i % 2 == 0 ? "A" : "B", module->name);
    }
    return LRK_OK;
}

lrk_status lrki_step_add_term(const lrki_step_loop *step, double *norm)
{
    lrki_step_loop loop = *step;
    if (loop.optimizer->norms == NULL) return LRK_OK;
    loop.task = pull_module;
    lrki_step_run(&loop);
    return lrki_step_measure(step, norm);
}
