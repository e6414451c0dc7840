/* SPDX-License-Identifier: MIT */
/*
 * GeLoRA: a plan from intrinsic dimensions of hidden states at the boundaries of stages.
 */
#include "lorank/gelora.h"

#include <math.h>

#include "../kernels/lora.h"
#include "start.h"

#define MOST 1e15 /* of a dimension: differences are exact */

lrk_status lrk_gelora_options_init(lrk_gelora_options *options, size_t struct_size)
{
    const lrk_gelora_options defaults = {0};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrk_status check_dimensions(const lrk_adapters *adapters, const double *dimensions, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(dimensions[i] >= 0 && dimensions[i] <= MOST))
            return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "dimension %lld is %g", (long long)i,
                             dimensions[i]);
    for (int32_t i = 0; i < adapters->n_modules; i++)
        if (adapters->modules[i].stage > n - 2)
            return lrki_fail_at(adapters->context, LRK_ERR_ARGUMENT, (lrki_place){.module = i},
                                "module '%s' is of stage %d, whose output has no dimension among %lld",
                                adapters->modules[i].name, (int)adapters->modules[i].stage, (long long)n);
    return LRK_OK;
}

static int64_t rank_of(const double *dimensions, int32_t stage)
{
    double more = round(dimensions[stage + 1]) - round(dimensions[stage]);
    return (more > 0 ? (int64_t)more : 0) + 1;
}

/* Every live rank goes; what the dimensions say comes. */
static lrk_status choose(const double *dimensions, lrki_start *start)
{
    lrki_round *round = &start->round;
    int64_t taken = 0;
    for (int64_t i = 0; i < round->n_ranks; i++)
        round->drop[i] = 1;
    for (int64_t i = 0; i < round->n_modules; i++) {
        const lrki_slot *slot = &round->slots[i];
        int64_t rank = rank_of(dimensions, slot->stage);
        round->add[i] = lrki_smaller(rank > slot->floor ? rank : slot->floor, slot->ceiling);
        taken += round->add[i] > 0;
    }
    if (taken > 0) return LRK_OK;
    return lrki_fail(start->allocator->adapters->context, LRK_ERR_BUDGET, "the caps leave no rank at all");
}

static lrk_status make_plan(lrk_adapters *adapters, const double *dimensions, int64_t n,
                            const lrk_gelora_options *given, int64_t step, lrk_plan **out)
{
    lrk_gelora_options options;
    lrki_start start = {0};
    lrk_plan *plan = NULL;
    lrk_context *context = adapters->context;
    if (out == NULL || dimensions == NULL || step < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "plan and dimensions must not be NULL, and step >= 0");
    lrk_gelora_options_init(&options, sizeof options);
    lrk_status status = lrki_struct_read(context, &options, sizeof options, given, 2 * sizeof(uint32_t),
                                         "lrk_gelora_options");
    if (status == LRK_OK && options.flags != 0)
        status = lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_gelora_options: flags must be 0");
    if (status == LRK_OK) status = check_dimensions(adapters, dimensions, n);
    if (status != LRK_OK) return status;
    const lrki_rules rules = {.name = "gelora", .limits = options.limits, .n_limits = options.n_limits};
    status = lrki_rules_check(context, &rules);
    if (status == LRK_OK) status = lrki_start_open(adapters, &rules, 0, &start);
    if (status == LRK_OK) status = choose(dimensions, &start);
    if (status == LRK_OK) status = lrki_start_plan(&start, step, &plan);
    if (start.allocator != NULL) status = lrki_start_finish(&start, status, plan, out);
    lrki_start_close(&start);
    return status;
}

lrk_status lrk_gelora_plan(lrk_adapters *adapters, const double *dimensions, int64_t n,
                           const lrk_gelora_options *options, int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_gelora_plan");
    if (status != LRK_OK) return status;
    status = make_plan(adapters, dimensions, n, options, step, plan);
    lrki_claim given = {"the dimensions", 0};
    if (status == LRK_OK) given.value = lrki_hash_doubles(0, dimensions, n);
    return lrki_plan_agree(adapters->context, "lrk_gelora_plan", status, &given, plan);
}

/* ---- in a text ----------------------------------------------------------------------------------------------------- */

static const lrki_word estimate_words[] = {
    {"fit", LRK_TWONN_FIT}, {"mle", LRK_TWONN_MLE}, {"unbiased", LRK_TWONN_UNBIASED}, {NULL, 0}};

/* Of the dimensions: the host asks for them and hands the dimensions back. */
#define KEY(...) LRKI_KEY(lrk_twonn_options, "start", __VA_ARGS__)
static const lrki_key keys[] = {KEY("estimate", CHOICE, estimate, .words = estimate_words),
                                KEY("discard", REAL, discard, ),
                                {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_twonn_options_init(options, sizeof(lrk_twonn_options));
}

static lrk_status check_chosen(lrk_context *context, const lrki_start_terms *terms, const void *chosen)
{
    (void)terms;
    return lrki_twonn_options_check(context, chosen);
}

static lrk_status plan_chosen(const lrki_start_terms *terms, const void *chosen, lrk_plan **plan)
{
    (void)chosen;
    lrk_gelora_options options;
    (void)lrk_gelora_options_init(&options, sizeof options);
    options.limits = terms->limits;
    options.n_limits = terms->n_limits;
    return lrk_gelora_plan(terms->adapters, terms->dimensions, terms->n_dimensions, &options, terms->step,
                           plan);
}

const lrki_start_kind lrki_start_gelora = {
    .method = {.summary = "GeLoRA: ranks by intrinsic dimensions; asks for hidden states of forward",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_twonn_options),
               .init = init_chosen},
    .material = LRKI_START_OF_HIDDEN,
    .check = check_chosen,
    .plan = plan_chosen};
