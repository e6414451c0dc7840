/* SPDX-License-Identifier: MIT */
/*
 * What ablation is told: defaults and bounds of its options and of the host's side. Details name the member first, so
 * that a configuration can point to the key.
 */
#include "ablation.h"

#define MAX_PARTS    4096
#define MAX_PER_CALL 1024

lrk_status lrk_evaluator_init(lrk_evaluator *evaluator, size_t struct_size)
{
    static const lrk_evaluator defaults = {.n_parts = 1, .max_per_call = 1};
    return lrki_struct_init(evaluator, struct_size, &defaults, sizeof defaults);
}

lrk_status lrk_ablation_options_init(lrk_ablation_options *options, size_t struct_size)
{
    static const lrk_ablation_options defaults = {.mode = LRK_ABLATION_EXACT,
                                                  .pool = LRK_POOL_DEFAULT,
                                                  .pool_step = 4,
                                                  .pool_limit = LRK_POOL_UNLIMITED};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

lrk_status lrki_evaluator_check(lrk_context *context, const lrk_evaluator *evaluator, int32_t mode)
{
    if ((evaluator->flags & ~LRK_EVALUATOR_DIFFERENTIATE_IS_BASELINE) != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "evaluator: flags has unknown bits: 0x%x",
                         evaluator->flags);
    if (evaluator->evaluate == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "evaluator: evaluate must not be NULL");
    if (evaluator->differentiate == NULL && mode != LRK_ABLATION_EXACT)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "evaluator: differentiate must not be NULL in this mode");
    if (evaluator->max_rows < 1)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "evaluator: max_rows must be >= 1, is %lld",
                         (long long)evaluator->max_rows);
    if (evaluator->n_parts < 1 || evaluator->n_parts > MAX_PARTS)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "evaluator: n_parts must be in 1..%d, is %d", MAX_PARTS,
                         (int)evaluator->n_parts);
    if (evaluator->max_per_call < 1 || evaluator->max_per_call > MAX_PER_CALL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "evaluator: max_per_call must be in 1..%d, is %d",
                         MAX_PER_CALL, (int)evaluator->max_per_call);
    return LRK_OK;
}

static lrk_status check_counts(lrk_context *context, const lrk_ablation_options *options)
{
    if (options->n_cut < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "n_cut must be >= 0, is %lld", (long long)options->n_cut);
    if (options->pool < 1 && options->pool != LRK_POOL_DEFAULT)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "pool must be >= 1, is %lld", (long long)options->pool);
    if (options->pool_step < 1)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "pool_step must be >= 1, is %lld",
                         (long long)options->pool_step);
    if (options->pool_limit < 1 && options->pool_limit != LRK_POOL_UNLIMITED)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "pool_limit must be >= 1, is %lld",
                         (long long)options->pool_limit);
    return LRK_OK;
}

static lrk_status check_screen(lrk_context *context, const lrk_ablation_options *options)
{
    if (options->n_cut < 1)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "n_cut must be >= 1 to screen, is %lld",
                         (long long)options->n_cut);
    bool own_pool = options->pool != LRK_POOL_DEFAULT;
    if (own_pool && options->pool < options->n_cut)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "pool must be >= n_cut = %lld, is %lld",
                         (long long)options->n_cut, (long long)options->pool);
    int64_t least = own_pool ? options->pool : options->n_cut;
    if (options->pool_limit != LRK_POOL_UNLIMITED && options->pool_limit < least)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "pool_limit must be >= %lld, is %lld", (long long)least,
                         (long long)options->pool_limit);
    return LRK_OK;
}

lrk_status lrki_ablation_options_check(lrk_context *context, const lrk_ablation_options *options)
{
    if (options->flags != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "flags has unknown bits: 0x%x", options->flags);
    if (options->mode < LRK_ABLATION_EXACT || options->mode > LRK_ABLATION_TWO_POINT)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "mode %d is unknown", (int)options->mode);
    if (options->noise_floor_repeats < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "noise_floor_repeats must be >= 0, is %d",
                         (int)options->noise_floor_repeats);
    if (options->mode == LRK_ABLATION_TWO_POINT && options->noise_floor_repeats != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "noise_floor_repeats must be 0 for two-point, which evaluates no baseline");
    lrk_status status = check_counts(context, options);
    if (status != LRK_OK || options->mode != LRK_ABLATION_SCREENED) return status;
    return check_screen(context, options);
}
