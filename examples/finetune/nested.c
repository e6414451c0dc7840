/* SPDX-License-Identifier: MIT */
/*
 * Nested ranks in the trainer: the depth of a step follows from seed and step alone, so that a resumed run draws what the
 * other would have.
 */
#ifdef LORANK
#include "nested.h"

#include <math.h>
#include <stdio.h>

#include "glue.h"
#include "summary.h"

int ft_nested_begin(ft_trainer *t, ft_error *error)
{
    if (t->nested == LRK_NESTED_NONE) return 0;
    lrk_mask_destroy(t->mask);
    t->mask = NULL;
    lrk_status status = lrk_nested_draw(t->adapters, (uint64_t)t->step, &t->depth);
    if (!status) status = lrk_mask_create_nested(t->adapters, t->depth, &t->mask);
    return status ? ft_fail_lorank(error, t->context, NULL) : 0;
}

int ft_nested_end(ft_trainer *t, ft_error *error)
{
    lrk_mask_destroy(t->mask);
    t->mask = NULL;
    if (t->nested != LRK_NESTED_FROZEN) return 0;
    return lrk_nested_freeze(t->adapters, t->depth) ? ft_fail_lorank(error, t->context, NULL) : 0;
}

/* ---- the end ---- */

static int64_t deepest(const ft_trainer *t)
{
    lrk_adapters_info set = {.struct_size = sizeof set};
    int64_t most = 0;
    lrk_adapters_info_get(t->adapters, &set);
    for (int32_t i = 0; i < set.modules; i++) {
        lrk_module_info m = {.struct_size = sizeof m};
        if (!lrk_adapters_module(t->adapters, i, &m) && m.rank > most) most = m.rank;
    }
    return most;
}

static int evaluate_depth(ft_trainer *t, int64_t depth, ft_loss *dev, ft_loss *test, ft_error *error)
{
    *test = (ft_loss){NAN, NAN};
    if (lrk_mask_create_nested(t->adapters, depth, &t->mask)) return ft_fail_lorank(error, t->context, NULL);
    int failed = ft_trainer_evaluate(t, &t->task->dev, dev, error);
    if (!failed && t->task->test.n_rows) failed = ft_trainer_evaluate(t, &t->task->test, test, error);
    lrk_mask_destroy(t->mask);
    t->mask = NULL;
    return failed;
}

int ft_nested_report(ft_trainer *t, json_t *summary, ft_error *error)
{
    if (t->nested == LRK_NESTED_NONE) return 0;
    json_t *depths = json_array();
    int failed = 0;
    for (int64_t depth = 1; depth <= deepest(t) && !failed; depth++) {
        ft_loss dev, test;
        failed = evaluate_depth(t, depth, &dev, &test, error);
        if (failed) break;
        printf("depth %2lld  dev loss %.4f", (long long)depth, dev.loss);
        if (test.loss == test.loss) printf("  test loss %.4f", test.loss);
        printf("\n");
        if (json_array_append_new(depths, ft_summary_of(&dev, &test)))
            failed = ft_fail_memory(error, "the depths");
    }
    if (!failed && json_object_set(summary, "depths", depths)) failed = ft_fail_memory(error, "the depths");
    json_decref(depths);
    return failed;
}
#endif
