/* SPDX-License-Identifier: MIT */
/*
 * AdamW (optimizer.h has the formula): checks, gradient norm, and the step. Arithmetic is in double, element by element;
 * moments and parameters are stored in float. Modules are the parallel tasks and elements are treated in order, so the
 * bits do not depend on threads. A step either happens whole or not at all. Moments across rank changes: moments.c.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../allocation/allocation.h"
#include "../kernels/kernels.h"
#include "adamw.h"

/* ---- options --------------------------------------------------------------------------------------------------------- */

lrk_status lrk_adamw_options_init(lrk_adamw_options *options, size_t struct_size)
{
    const lrk_adamw_options defaults = {.beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .epsilon = 1e-8,
                                        .b_ratio = 1,
                                        .max_norm = INFINITY,
                                        .gate_ratio = 1,
                                        .gate_stairs = 1};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static bool is_positive(double value)
{
    return value > 0 && isfinite(value);
}

lrk_status lrki_adamw_options_check(lrk_context *context, const lrk_adamw_options *options)
{
    const char *wrong = lrki_gates_check(options);
    if (options->steps != LRK_STEPS_PER_RANK && options->steps != LRK_STEPS_GLOBAL)
        wrong = "steps is unknown";
    if (!(options->max_norm > 0)) wrong = "max_norm must be > 0";
    if (!is_positive(options->b_ratio)) wrong = "b_ratio must be > 0";
    if (!(options->weight_decay >= 0 && isfinite(options->weight_decay))) wrong = "weight_decay must be >= 0";
    if (!is_positive(options->epsilon)) wrong = "epsilon must be > 0";
    if (!(options->beta2 >= 0 && options->beta2 < 1)) wrong = "beta2 must be in [0, 1)";
    if (!(options->beta1 >= 0 && options->beta1 < 1)) wrong = "beta1 must be in [0, 1)";
    if (!(options->orthogonality >= 0 && isfinite(options->orthogonality)))
        wrong = "orthogonality must be >= 0";
    if ((options->flags & ~(LRK_ADAMW_GATES | LRK_ADAMW_GATE_SCALED | LRK_ADAMW_ORTHOGONALITY_SQUARED)) != 0)
        wrong = "flags has an unknown bit";
    return wrong == NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

static lrk_status fill_optimizer(lrk_optimizer *optimizer)
{
    lrk_context *context = optimizer->adapters->context;
    int64_t n = optimizer->adapters->n_modules;
    optimizer->sums = lrki_array(context, LRKI_SUMS * n, sizeof *optimizer->sums);
    optimizer->done = lrki_array(context, n, sizeof *optimizer->done);
    bool term = optimizer->options.orthogonality > 0;
    if (term) optimizer->norms = lrki_array(context, 2 * n, sizeof *optimizer->norms);
    if (!optimizer->sums || !optimizer->done || (term && !optimizer->norms))
        return lrki_fail_nomem(context, "the optimizer");
    return lrki_moments_create(optimizer);
}

static lrk_status create(lrk_adapters *adapters, const lrk_adamw_options *options, lrk_optimizer **out)
{
    lrk_optimizer *optimizer = lrki_alloc_zeroed(adapters->context, sizeof *optimizer);
    if (optimizer == NULL) return lrki_fail_nomem(adapters->context, "the optimizer");
    optimizer->adapters = lrki_adapters_ref(adapters);
    optimizer->options = *options;
    optimizer->gradient_norm = NAN;
    lrk_status status = fill_optimizer(optimizer);
    if (status == LRK_OK)
        *out = optimizer;
    else
        lrk_optimizer_destroy(optimizer);
    return status;
}

lrk_status lrk_optimizer_create_adamw(lrk_adapters *adapters, const lrk_adamw_options *given,
                                      lrk_optimizer **optimizer)
{
    if (optimizer != NULL) *optimizer = NULL;
    lrk_status status = lrki_adapters_enter_gradients(adapters, "creating an optimizer");
    if (status != LRK_OK) return status;
    if (optimizer == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "optimizer must not be NULL");
    lrk_adamw_options options;
    lrk_adamw_options_init(&options, sizeof options);
    status = lrki_struct_read(adapters->context, &options, sizeof options, given, sizeof(uint32_t) * 2,
                              "lrk_adamw_options");
    if (status == LRK_OK) status = lrki_adamw_options_check(adapters->context, &options);
    return status == LRK_OK ? create(adapters, &options, optimizer) : status;
}

void lrk_optimizer_destroy(lrk_optimizer *optimizer)
{
    if (optimizer == NULL) return;
    lrk_adapters *adapters = optimizer->adapters;
    lrk_context *context = adapters->context;
    lrki_moments_free(optimizer, optimizer->moments);
    lrki_moments_free(optimizer, optimizer->prepared);
    lrki_array_free(context, optimizer->norms, 2 * adapters->n_modules, sizeof *optimizer->norms);
    lrki_array_free(context, optimizer->sums, LRKI_SUMS * adapters->n_modules, sizeof *optimizer->sums);
    lrki_array_free(context, optimizer->done, adapters->n_modules, sizeof *optimizer->done);
    lrki_free(context, optimizer, sizeof *optimizer);
    lrki_adapters_unref(adapters);
}

/* ---- loops over modules ------------------------------------------------------------------------------------------------ */

typedef struct step_loop {
    lrk_optimizer *optimizer;
    void (*task)(const struct step_loop *loop, int64_t module);
    double lr;
    double clip;      /* factor on every gradient                  */
    double penalty;   /* gate_l1 over the number of live ranks     */
    double threshold; /* c, times the gates' learning rate if scaled */
} step_loop;

static bool is_trained(const lrki_module *module)
{
    return module->bank.rank > 0 && module->has_gradient;
}

static void run_task(void *data, int64_t i)
{
    const step_loop *loop = data;
    if (loop->optimizer->done[i]) return;
    if (is_trained(&loop->optimizer->adapters->modules[i])) loop->task(loop, i);
    loop->optimizer->done[i] = 1;
}

/* A loop of the host that fails half-way, or leaves tasks out, must not leave half a step: what it left is done here. */
static void run_loop(step_loop *loop)
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

static double sum_gates(const step_loop *loop, const lrki_bank *bank)
{
    double sum = 0;
    for (int64_t j = 0; j < bank->rank; j++) {
        float d = lrki_gate_gradient(bank, j, loop->penalty);
        sum += (double)d * (double)d;
    }
    return sum;
}

static void sum_module(const step_loop *loop, int64_t index)
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

static lrk_status measure_gradients(const step_loop *step, double *norm)
{
    lrk_optimizer *optimizer = step->optimizer;
    int64_t n = LRKI_SUMS * optimizer->adapters->n_modules;
    step_loop loop = *step;
    loop.task = sum_module;
    memset(optimizer->sums, 0, (size_t)n * sizeof *optimizer->sums);
    run_loop(&loop);
    lrk_status status = find_nonfinite(optimizer);
    if (status != LRK_OK) return status;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += optimizer->sums[i];
    *norm = sqrt(sum);
    return LRK_OK;
}

/* ---- orthogonality ----------------------------------------------------------------------------------------------------- */

static void measure_module(const step_loop *loop, int64_t index)
{
    const lrki_module *module = &loop->optimizer->adapters->modules[index];
    double *norms = &loop->optimizer->norms[2 * index];
    norms[0] = lrki_orthogonality_norm(module->bank.a, module->bank.rank, module->n_in);
    norms[1] = lrki_orthogonality_norm(module->bank.b, module->bank.rank, module->n_out);
}

static void pull_module(const step_loop *loop, int64_t index)
{
    const lrki_module *module = &loop->optimizer->adapters->modules[index];
    const lrki_bank *bank = &module->bank;
    const double *norms = &loop->optimizer->norms[2 * index];
    lrki_orthogonality_add(bank->a, bank->rank, module->n_in,
                           lrki_orthogonality_factor(loop->optimizer, norms[0]), bank->grad_a);
    lrki_orthogonality_add(bank->b, bank->rank, module->n_out,
                           lrki_orthogonality_factor(loop->optimizer, norms[1]), bank->grad_b);
}

/* The term's part of the step that can fail; nothing is changed yet. */
static lrk_status prepare_term(const step_loop *step)
{
    const lrk_optimizer *optimizer = step->optimizer;
    const lrk_adapters *adapters = optimizer->adapters;
    step_loop loop = *step;
    if (optimizer->norms == NULL) return LRK_OK;
    loop.task = measure_module;
    memset(optimizer->norms, 0, 2 * (size_t)adapters->n_modules * sizeof *optimizer->norms);
    run_loop(&loop);
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

/* Adds its derivative to the gradients, and measures them again. */
static lrk_status add_term(const step_loop *step, double *norm)
{
    step_loop loop = *step;
    if (loop.optimizer->norms == NULL) return LRK_OK;
    loop.task = pull_module;
    run_loop(&loop);
    return measure_gradients(step, norm);
}

/* ---- step -------------------------------------------------------------------------------------------------------------- */

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
static void update_gate(const step_loop *loop, row_rule rule, const lrki_bank *bank, lrki_moments *moments,
                        int64_t j)
{
    const lrk_adamw_options *options = &loop->optimizer->options;
    float gradient = lrki_gate_gradient(bank, j, loop->penalty);
    rule.lr = loop->lr * options->gate_ratio;
    rule.weight_decay = 0;
    update_row(&rule, 1, &bank->gates[j], &gradient, &moments->first_gates[j], &moments->second_gates[j]);
    bank->gates[j] = lrki_gate_shrink(options->gate_rule, bank->gates[j], loop->threshold);
}

static void update_rank(const step_loop *loop, const lrki_module *module, lrki_moments *moments, int64_t j)
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

static void update_module(const step_loop *loop, int64_t index)
{
    const lrki_module *module = &loop->optimizer->adapters->modules[index];
    for (int64_t j = 0; j < module->bank.rank; j++)
        update_rank(loop, module, &loop->optimizer->moments[index], j);
}

static lrk_status check_fit(const lrk_optimizer *optimizer)
{
    if (optimizer->generation == optimizer->adapters->generation) return LRK_OK;
    return lrki_fail(
        optimizer->adapters->context, LRK_ERR_STALE,
        "ranks changed without the optimizer: lrk_optimizer_realign() it, or make it a participant of plans");
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
    if (status == LRK_OK) status = check_fit(optimizer);
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
    step_loop loop = {.optimizer = optimizer, .task = update_module, .lr = lr};
    loop.penalty = ranks > 0 ? options->gate_l1 / (double)ranks : 0;
    loop.threshold = lrki_gate_threshold(options, optimizer->steps);
    if (options->flags & LRK_ADAMW_GATE_SCALED) loop.threshold *= lr * options->gate_ratio;
    status = measure_gradients(&loop, &norm);
    if (status == LRK_OK) status = prepare_term(&loop);
    if (status == LRK_OK) status = lrki_gradients_prepare(optimizer->adapters);
    if (status == LRK_OK) status = add_term(&loop, &norm);
    if (status != LRK_OK) return status;
    lrki_gradients_observe(optimizer->adapters);
    loop.clip = norm > options->max_norm ? options->max_norm / norm : 1;
    run_loop(&loop);
    optimizer->gradient_norm = norm;
    optimizer->steps++;
    optimizer->adapters->values_version++;
    lrki_gradients_clear(optimizer->adapters);
    return LRK_OK;
}

/* ---- questions ----------------------------------------------------------------------------------------------------------- */

lrk_status lrk_optimizer_moment(const lrk_optimizer *optimizer, int32_t index, int32_t which,
                                lrk_tensor *tensor)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    const lrk_adapters *adapters = optimizer->adapters;
    lrk_status status = lrki_adapters_enter_module(adapters, index, "a moment");
    if (status == LRK_OK) status = check_fit(optimizer);
    if (status != LRK_OK) return status;
    const lrki_moments *moments = &optimizer->moments[index];
    float *const data[] = {moments->first_a,  moments->first_b,     moments->second_a,
                           moments->second_b, moments->first_gates, moments->second_gates};
    bool gates = lrki_trains_gates(&optimizer->options);
    if (which < LRK_MOMENT_FIRST_A || which > (gates ? LRK_MOMENT_SECOND_GATES : LRK_MOMENT_SECOND_B))
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "no moment %d", (int)which);
    bool of_a = which == LRK_MOMENT_FIRST_A || which == LRK_MOMENT_SECOND_A;
    int64_t cols = which > LRK_MOMENT_SECOND_B ? 1
                   : of_a                      ? adapters->modules[index].n_in
                                               : adapters->modules[index].n_out;
    const lrk_tensor filled = {.data = data[which],
                               .rows = moments->rank,
                               .cols = cols,
                               .ld = cols,
                               .generation = optimizer->generation};
    return lrki_struct_write(adapters->context, tensor, &filled, sizeof filled, "lrk_tensor");
}

lrk_status lrk_optimizer_gradients(const lrk_optimizer *optimizer, uint32_t *gradients)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    if (gradients == NULL)
        return lrki_fail(optimizer->adapters->context, LRK_ERR_ARGUMENT, "gradients must not be NULL");
    *gradients = LRK_GRAD_PARAMETERS;
    if (lrki_trains_gates(&optimizer->options)) *gradients |= LRK_GRAD_GATES;
    return LRK_OK;
}

lrk_status lrk_optimizer_rank_steps(const lrk_optimizer *optimizer, int32_t module, const int64_t **steps,
                                    int64_t *n)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = optimizer->adapters->context;
    lrk_status status = lrki_adapters_enter_module(optimizer->adapters, module, "step counts");
    if (status == LRK_OK) status = check_fit(optimizer);
    if (status != LRK_OK) return status;
    if (steps == NULL || n == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "steps and n must not be NULL");
    *steps = optimizer->moments[module].steps;
    *n = optimizer->moments[module].rank;
    return LRK_OK;
}

static size_t memory_of(const lrk_optimizer *optimizer)
{
    size_t n = (size_t)optimizer->adapters->n_modules;
    size_t bytes = sizeof *optimizer + (optimizer->norms != NULL ? 2 * n * sizeof *optimizer->norms : 0) +
                   n * (LRKI_SUMS * sizeof *optimizer->sums + sizeof *optimizer->done);
    for (size_t i = 0; i < n; i++)
        bytes += sizeof optimizer->moments[i] + optimizer->moments[i].block_bytes;
    return bytes;
}

lrk_status lrk_optimizer_info_get(const lrk_optimizer *optimizer, lrk_optimizer_info *info)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    const lrk_optimizer_info facts = {
        .steps = optimizer->steps, .gradient_norm = optimizer->gradient_norm, .memory = memory_of(optimizer)};
    return lrki_struct_write(optimizer->adapters->context, info, &facts, sizeof facts, "lrk_optimizer_info");
}
