/* SPDX-License-Identifier: MIT */
/*
 * Gates under AdamW: their penalty, the threshold that rises over the run, and the proximal step that makes gates exactly
 * 0, where a gradient alone would leave them small. Whether a rank with such a gate goes is a policy's decision.
 */
#include <math.h>

#include "adamw.h"

const char *lrki_gates_check(const lrk_adamw_options *options)
{
    bool trained = lrki_trains_gates(options);
    const char *wrong = NULL;
    if (options->gate_stairs < 1) wrong = "gate_stairs must be >= 1";
    if (options->gate_rise_steps < 0) wrong = "gate_rise_steps must be >= 0";
    if (options->gate_dense_steps < 0) wrong = "gate_dense_steps must be >= 0";
    if (!(options->gate_threshold >= 0 && isfinite(options->gate_threshold)))
        wrong = "gate_threshold must be >= 0";
    if (!(options->gate_l1 >= 0 && isfinite(options->gate_l1))) wrong = "gate_l1 must be >= 0";
    if (!(options->gate_ratio > 0 && isfinite(options->gate_ratio))) wrong = "gate_ratio must be > 0";
    if (options->gate_rule != LRK_GATE_SOFT && options->gate_rule != LRK_GATE_TWICE)
        wrong = "gate_rule is unknown";
    if (!trained && (options->gate_threshold > 0 || options->gate_l1 > 0))
        wrong =
            options->gate_l1 > 0 ? "gate_l1 needs LRK_ADAMW_GATES" : "gate_threshold needs LRK_ADAMW_GATES";
    return wrong;
}

double lrki_gate_threshold(const lrk_adamw_options *options, int64_t step)
{
    int64_t last = options->gate_stairs - 1;
    int64_t since = step - options->gate_dense_steps;
    if (since < 0) return 0;
    if (last == 0 || since >= options->gate_rise_steps) return options->gate_threshold;
    double along = (double)since / (double)options->gate_rise_steps;
    double stair = fmin(floor(along * (double)options->gate_stairs), (double)last);
    return options->gate_threshold * stair / (double)last;
}

float lrki_gate_gradient(const lrki_bank *bank, int64_t j, double penalty)
{
    float gate = bank->gates[j];
    return (float)((double)bank->grad_gates[j] + penalty * (double)((gate > 0) - (gate < 0)));
}

float lrki_gate_shrink(int32_t rule, double gate, double c)
{
    double size = fabs(gate);
    if (rule == LRK_GATE_SOFT)
        size = fmax(size - c, 0);
    else {
        if (size > c) size -= c;
        if (size < c) size = 0;
    }
    return size == 0 ? 0 : (float)copysign(size, gate);
}

lrk_status lrk_optimizer_gate_threshold(const lrk_optimizer *optimizer, double *threshold)
{
    if (optimizer == NULL) return LRK_ERR_ARGUMENT;
    if (threshold == NULL)
        return lrki_fail(optimizer->adapters->context, LRK_ERR_ARGUMENT, "threshold must not be NULL");
    *threshold = lrki_gate_threshold(&optimizer->options, optimizer->steps);
    return LRK_OK;
}
