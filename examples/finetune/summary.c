/* SPDX-License-Identifier: MIT */
/*
 * The fields of summary.json. A loss or accuracy that was not measured is null.
 */
#ifdef LORANK
#include "summary.h"

#include "output.h"

json_t *ft_summary_of(const ft_loss *dev, const ft_loss *test)
{
    return json_pack("{s:o, s:o, s:o}", "dev_loss", ft_json_number(dev->loss), "test_loss",
                     ft_json_number(test->loss), "test_accuracy", ft_json_number(test->accuracy));
}

json_t *ft_summary_create(uint64_t seed, int64_t budget_ranks, const ft_loss *dev, const ft_loss *test)
{
    return json_pack("{s:I, s:I, s:o}", "seed", (json_int_t)seed, "budget_ranks", (json_int_t)budget_ranks,
                     "base", ft_summary_of(dev, test));
}

json_t *ft_summary_losses(const ft_outcome *outcome)
{
    return ft_summary_of(&outcome->dev, &outcome->test);
}

/* As text: a JSON integer is signed. */
static json_t *digest(uint64_t value)
{
    return json_sprintf("%016llx", (unsigned long long)value);
}

static json_t *digests(const ft_outcome *o)
{
    return json_pack("{s:o, s:o, s:o}", "initial", digest(o->initial_digest), "order",
                     digest(o->order_digest), "validation", digest(o->validation_digest));
}

json_t *ft_summary_run(const ft_outcome *o)
{
    json_t *run = ft_summary_losses(o);
    json_t *more =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:o}", "steps",
                  (json_int_t)o->steps, "best_step", (json_int_t)o->best_step, "initial_parameters",
                  (json_int_t)o->initial_parameters, "final_parameters", (json_int_t)o->final_parameters,
                  "rounds", (json_int_t)o->rounds, "ranks_pruned", (json_int_t)o->pruned, "ranks_added",
                  (json_int_t)o->added, "final_ranks", (json_int_t)o->final_ranks, "evaluations",
                  (json_int_t)o->evaluations, "layer_forwards", (json_int_t)o->layer_forwards,
                  "layer_forwards_naive", (json_int_t)o->layer_forwards_naive, "train_seconds",
                  o->train_seconds, "scoring_seconds", o->scoring_seconds, "evaluation_seconds",
                  o->evaluation_seconds, "start_seconds", o->start_seconds, "digests", digests(o));
    int failed = !run || !more || json_object_update(run, more);
    json_decref(more);
    if (!failed) return run;
    json_decref(run);
    return NULL;
}
#endif
