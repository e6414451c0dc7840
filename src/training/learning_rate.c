/* SPDX-License-Identifier: MIT */
/*
 * Learning rates: a pure function of options and step, so that a resumed run needs no state. When steps happen is the
 * host's; which options are legal is decided here for the C API and for configurations alike.
 */
#include <math.h>

#include "training.h"

static const double PI = 3.14159265358979323846;

lrk_status lrk_lr_options_init(lrk_lr_options *options, size_t struct_size)
{
    const lrk_lr_options defaults = {.kind = LRK_LR_LINEAR, .peak = 1e-4};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

lrk_status lrki_lr_options_check(lrk_context *context, const lrk_lr_options *options)
{
    const char *wrong = NULL;
    if (options->kind != LRK_LR_CONSTANT && options->total_steps <= options->warmup_steps)
        wrong = "total_steps must be >= 1 and above warmup_steps";
    if (options->warmup_steps < 0) wrong = "warmup_steps must be >= 0";
    if (!(options->final_ratio >= 0 && options->final_ratio <= 1)) wrong = "final_ratio must be in [0, 1]";
    if (!(options->peak > 0 && isfinite(options->peak))) wrong = "peak must be > 0";
    if (options->kind < LRK_LR_CONSTANT || options->kind > LRK_LR_COSINE) wrong = "kind is unknown";
    if (options->reserved != 0) wrong = "reserved must be 0";
    if (options->flags != 0) wrong = "flags must be 0";
    if (wrong == NULL) return LRK_OK;
    return context == NULL ? LRK_ERR_ARGUMENT : lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
}

static double rate_after_warmup(const lrk_lr_options *options, int64_t step)
{
    if (options->kind == LRK_LR_CONSTANT) return options->peak;
    double span = (double)(options->total_steps - options->warmup_steps);
    double p = (double)(step - options->warmup_steps) / span;
    if (p > 1) p = 1;
    double final = options->final_ratio;
    if (options->kind == LRK_LR_LINEAR) return options->peak * (1 - (1 - final) * p);
    return options->peak * (final + (1 - final) * (1 + cos(PI * p)) / 2);
}

lrk_status lrk_learning_rate(const lrk_lr_options *given, int64_t step, double *lr)
{
    if (given == NULL || lr == NULL || step < 0) return LRK_ERR_ARGUMENT;
    lrk_lr_options options;
    lrk_lr_options_init(&options, sizeof options);
    lrk_status status =
        lrki_struct_read(NULL, &options, sizeof options, given, sizeof(uint32_t) * 2, "lrk_lr_options");
    if (status == LRK_OK) status = lrki_lr_options_check(NULL, &options);
    if (status != LRK_OK) return status;
    if (step < options.warmup_steps)
        *lr = options.peak * ((double)step + 1) / ((double)options.warmup_steps + 1);
    else
        *lr = rate_after_warmup(&options, step);
    return LRK_OK;
}
