/* SPDX-License-Identifier: MIT */
/*
 * A step of AdamW: what may fail comes first, then every module's ranks. Arithmetic is in double, element by element; moments and
 * parameters are stored in float.
 */
#include <float.h>
#include <math.h>

#include "adamw.h"

/* What is the same for all elements of a row. */
typedef struct row_rule {
    double beta1;
    double beta2;
    double correct1; /* 1 - beta1^k */
    double correct2;
    double epsilon;
    double weight_decay;
    double lr;
    double clip;
} row_rule;

static void update_row(const row_rule *rule, int64_t n, float *w, const float *gradient, float *first,
                       float *second)
{
    for (int64_t i = 0; i < n; i++) {
        double d = rule->clip * gradient[i];
        double u = rule->beta1 * first[i] + (1 - rule->beta1) * d;
        double v = rule->beta2 * second[i] + (1 - rule->beta2) * d * d;
        double direction = u / rule->correct1 / (sqrt(v / rule->correct2) + rule->epsilon);
        w[i] = (float)(w[i] - rule->lr * (direction + rule->weight_decay * w[i]));
        first[i] = (float)u;
        second[i] = (float)fmin(v, FLT_MAX); /* infinity would freeze the element for good */
    }
}

/* Gates are not decayed: what pulls them to 0 is penalty and threshold. */
static void update_gate(const lrki_step_loop *loop, row_rule rule, const lrki_bank *bank,
                        lrki_moments *moments, int64_t j)
{
    const lrk_adamw_options *options = &loop->optimizer->options;
    float gradient = lrki_gate_gradient(bank, j, loop->penalty);
    rule.lr = loop->lr * options->gate_ratio;
    rule.weight_decay = 0;
    update_row(&rule, 1, &bank->gates[j], &gradient, &moments->first_gates[j], &moments->second_gates[j]);
    bank->gates[j] = lrki_gate_shrink(options->gate_rule, bank->gates[j], loop->threshold);
}

static void update_rank(const lrki_step_loop *loop, const lrki_module *module, lrki_moments *moments,
                        int64_t j)
{
    const lrk_adamw_options *options = &loop->optimizer->options;
    const lrki_bank *bank = &module->bank;
    int64_t n_in = module->n_in;
    int64_t n_out = module->n_out;
    double k = (double)++moments->steps[j];
    row_rule rule = {.beta1 = options->beta1,
                     .beta2 = options->beta2,
                     .correct1 = 1 - pow(options->beta1, k),
                     .correct2 = 1 - pow(options->beta2, k),
                     .epsilon = options->epsilon,
                     .weight_decay = options->weight_decay,
                     .lr = loop->lr,
                     .clip = loop->clip};
    update_row(&rule, n_in, bank->a + j * n_in, bank->grad_a + j * n_in, moments->first_a + j * n_in,
               moments->second_a + j * n_in);
    rule.lr = loop->lr * options->b_ratio;
    update_row(&rule, n_out, bank->b + j * n_out, bank->grad_b + j * n_out, moments->first_b + j * n_out,
               moments->second_b + j * n_out);
    if (lrki_trains_gates(options)) update_gate(loop, rule, bank, moments, j);
}

static void update_module(const lrki_step_loop *loop, int64_t index)
{
    const lrki_module *module = &loop->optimizer->adapters->modules[index];
    for (int64_t j = 0; j < module->bank.rank; j++)
        update_rank(loop, module, &loop->optimizer->moments[index], j);
}

static lrk_status check_gradients(const lrk_adapters *adapters)
{
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *module = &adapters->modules[i];
        if (module->bank.rank == 0 || module->has_gradient) continue;
        if (module->flags & LRK_MODULE_MAY_LACK_GRADIENT) continue;
        return lrki_fail_at(adapters->context, LRK_ERR_NO_GRADIENT, (lrki_place){.module = (int32_t)i},
                            "module '%s' got no gradient since the last step: no lrk_backward() reached it",
                            module->name);
    }
    return LRK_OK;
}

static lrk_status check_step(const lrk_optimizer *optimizer, double lr)
{
    const lrk_adapters *adapters = optimizer->adapters;
    if (!(lr >= 0 && isfinite(lr)))
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT,
                         "the learning rate %g is not finite or negative", lr);
    lrk_status status = lrki_adapters_check_idle(adapters, "an optimizer step");
    if (status == LRK_OK) status = lrki_optimizer_check_fit(optimizer);
    return status == LRK_OK ? check_gradients(adapters) : status;
}

lrk_status lrk_optimizer_step(lrk_optimizer *optimizer, double lr)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    double norm;
    lrk_status status = check_step(optimizer, lr);
    if (status != LRK_OK) return status;
    const lrk_adamw_options *options = &optimizer->options;
    int64_t ranks = optimizer->adapters->n_ranks;
    lrki_step_loop loop = {.optimizer = optimizer, .task = update_module, .lr = lr};
    loop.penalty = ranks > 0 ? options->gate_l1 / (double)ranks : 0;
    loop.threshold = lrki_gate_threshold(options, optimizer->steps);
    if (options->flags & LRK_ADAMW_GATE_SCALED) loop.threshold *= lr * options->gate_ratio;
    status = lrki_step_measure(&loop, &norm);
    if (status == LRK_OK) status = lrki_step_prepare_term(&loop);
    if (status == LRK_OK) status = lrki_gradients_prepare(optimizer->adapters);
    if (status == LRK_OK) status = lrki_step_add_term(&loop, &norm);
    if (status != LRK_OK) return status;
    lrki_gradients_observe(optimizer->adapters);
    loop.clip = norm > options->max_norm ? options->max_norm / norm : 1;
    lrki_step_run(&loop);
    optimizer->gradient_norm = norm;
    optimizer->steps++;
    optimizer->adapters->values_version++;
    lrki_gradients_clear(optimizer->adapters);
    return LRK_OK;
}
