/* SPDX-License-Identifier: MIT */
/*
 * The threshold policy: ranks whose score is not above it go. How many that are is the scores' business, so that there is
 * no quota and no budget; floors and protection hold.
 */
#include <math.h>

#include "allocation.h"

lrk_status lrk_threshold_options_init(lrk_threshold_options *options, size_t struct_size)
{
    const lrk_threshold_options defaults = {0};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrki_rules rules_of(const lrk_threshold_options *options)
{
    return (lrki_rules){.name = "threshold",
                        .budget = LRKI_NO_BUDGET,
                        .protect_rounds = options->protect_rounds,
                        .limits = options->limits,
                        .n_limits = options->n_limits};
}

static lrk_status check_options(lrk_context *context, const lrk_threshold_options *options)
{
    const char *wrong = NULL;
    if (options->reserved != 0) wrong = "reserved must be 0";
    if (!isfinite(options->threshold)) wrong = "threshold must be finite";
    if (options->flags != 0) wrong = "flags must be 0";
    if (wrong != NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
    const lrki_rules rules = rules_of(options);
    return lrki_rules_check(context, &rules);
}

/* In the order of scores, so that a floor keeps the highest of its module. */
static void drop(double threshold, lrki_round *round, const int64_t *order, int64_t *left)
{
    for (int64_t i = 0; i < round->n_modules; i++)
        left[i] = round->slots[i].rank - round->slots[i].floor;
    for (int64_t i = 0; i < round->n_ranks; i++) {
        const lrk_score *rank = &round->ranks[order[i]];
        if (rank->score > threshold) break;
        if (left[rank->module] <= 0 || rank->identity >= round->newborn_first) continue;
        round->drop[order[i]] = 1;
        left[rank->module]--;
    }
}

static lrk_status choose(lrk_allocator *allocator, lrki_round *round)
{
    const lrk_threshold_options *options = allocator->own;
    lrk_context *context = allocator->adapters->context;
    int64_t *order = lrki_array(context, round->n_ranks, sizeof *order);
    int64_t *left = lrki_array(context, round->n_modules, sizeof *left);
    lrk_status status = LRK_OK;
    if (!order || !left) status = lrki_fail_nomem(context, "a round of the threshold");
    if (status == LRK_OK) status = lrk_scores_lowest(round->scores, round->n_ranks, order);
    if (status == LRK_OK) drop(options->threshold, round, order, left);
    lrki_array_free(context, order, round->n_ranks, sizeof *order);
    lrki_array_free(context, left, round->n_modules, sizeof *left);
    return status;
}

static void same_options(const lrk_allocator *allocator, lrki_state *state)
{
    const lrk_threshold_options *options = allocator->own;
    lrki_state_same_f64(state, "threshold", options->threshold);
}

lrk_status lrk_allocator_create_threshold(lrk_adapters *adapters, const lrk_threshold_options *given,
                                          lrk_allocator **allocator)
{
    if (allocator != NULL) *allocator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "creating an allocator");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (allocator == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "allocator must not be NULL");
    lrk_threshold_options options;
    lrk_threshold_options_init(&options, sizeof options);
    status = lrki_struct_read(context, &options, sizeof options, given, sizeof(uint32_t) * 2,
                              "lrk_threshold_options");
    if (status == LRK_OK) status = check_options(context, &options);
    if (status != LRK_OK) return status;
    const lrki_rules rules = rules_of(&options);
    return lrki_allocator_create(adapters, &lrki_policy_threshold, &rules, &options, sizeof options,
                                 allocator);
}

/* ---- in a text ------------------------------------------------------------------------------------------------------- */

#define KEY(...) LRKI_KEY(lrk_threshold_options, "allocation", __VA_ARGS__)
static const lrki_key keys[] = {KEY("threshold", REAL, threshold, ), {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_threshold_options_init(options, sizeof(lrk_threshold_options));
}

static lrk_threshold_options with_terms(const lrki_policy_terms *terms, const void *chosen)
{
    lrk_threshold_options options = *(const lrk_threshold_options *)chosen;
    options.protect_rounds = terms->protect_rounds;
    options.limits = terms->limits;
    options.n_limits = terms->n_limits;
    return options;
}

static lrk_status check_chosen(lrk_context *context, const lrki_policy_terms *terms, const void *chosen)
{
    lrk_threshold_options options = with_terms(terms, chosen);
    return check_options(context, &options);
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_policy_terms *terms, const void *chosen,
                                lrk_allocator **allocator)
{
    lrk_threshold_options options = with_terms(terms, chosen);
    return lrk_allocator_create_threshold(adapters, &options, allocator);
}

const lrki_policy lrki_policy_threshold = {
    .choose = choose,
    .same = same_options,
    .method = {.summary =
                   "ranks whose score is not above a threshold go (the end of SoRA, CoDyRA, LoRA-drop)",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_threshold_options),
               .init = init_chosen},
    .check = check_chosen,
    .create = create_chosen};
