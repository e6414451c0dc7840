/* SPDX-License-Identifier: MIT */
/*
 * IncreLoRA's policy (Zhang et al. 2023): the modules of highest score grow, nothing is pruned. Its reserve of ranks that learn
 * before they count is left out: docs/decisions/0013 says why.
 */
#include <math.h>

#include "allocation.h"

/* ---- options --------------------------------------------------------------------------------------------------------- */

lrk_status lrk_increlora_options_init(lrk_increlora_options *options, size_t struct_size)
{
    const lrk_increlora_options defaults = {.grow_ranks = 1, .budget = LRK_BUDGET_INITIAL};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrki_rules rules_of(const lrk_increlora_options *options)
{
    return (lrki_rules){.name = "increlora",
                        .budget = options->budget,
                        .budget_unit = options->budget_unit,
                        .new_rank_init = options->new_rank_init,
                        .limits = options->limits,
                        .n_limits = options->n_limits};
}

static lrk_status check_options(lrk_context *context, const lrk_increlora_options *options)
{
    const char *wrong = NULL;
    if (options->reserved != 0) wrong = "reserved must be 0";
    if (options->module_score != LRK_MODULE_SUM && options->module_score != LRK_MODULE_MEAN)
        wrong = "module_score is unknown";
    if (options->budget < 0) wrong = "budget must be set: it is the total to grow to";
    if (options->grow_ranks < 1) wrong = "grow_ranks must be >= 1";
    if (options->grow_modules < 1) wrong = "grow_modules must be >= 1";
    if (options->flags != 0) wrong = "flags must be 0";
    if (wrong != NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
    const lrki_rules rules = rules_of(options);
    return lrki_rules_check(context, &rules);
}

/* ---- one round ------------------------------------------------------------------------------------------------------- */

typedef struct candidate {
    int32_t module;
    double score; /* NaN: rank 0 */
} candidate;

static double module_score(const lrki_round *round, int64_t module, int32_t kind, bool of_estimates)
{
    int64_t rank = round->slots[module].rank;
    double sum = lrki_round_sum(round, module, of_estimates);
    return rank == 0 ? NAN : kind == LRK_MODULE_MEAN ? sum / (double)rank : sum;
}

static void order_modules(const lrki_round *round, int32_t kind, candidate *candidates)
{
    bool of_estimates = lrki_round_of_estimates(round);
    for (int32_t i = 0; i < round->n_modules; i++) {
        candidate new = {i, module_score(round, i, kind, of_estimates)};
        int64_t at = i;
        for (; at > 0 && lrki_score_receives_before(new.score, candidates[at - 1].score); at--)
            candidates[at] = candidates[at - 1];
        candidates[at] = new;
    }
}

static void grow(const lrk_increlora_options *options, lrki_round *round, const candidate *candidates)
{
    int64_t purse = round->budget - round->held;
    int64_t grown = 0;
    for (int64_t i = 0; i < round->n_modules && grown < options->grow_modules; i++) {
        int32_t module = candidates[i].module;
        int64_t n = options->grow_ranks;
        int64_t room = lrki_round_headroom(round, module);
        int64_t affordable = purse / round->slots[module].cost;
        if (n > room) n = room;
        if (n > affordable) n = affordable;
        if (n <= 0) continue;
        round->add[module] = n;
        purse -= n * round->slots[module].cost;
        grown++;
    }
}

static lrk_status choose(lrk_allocator *allocator, lrki_round *round)
{
    const lrk_increlora_options *options = allocator->own;
    lrk_context *context = allocator->adapters->context;
    candidate *candidates = lrki_array(context, round->n_modules, sizeof *candidates);
    if (candidates == NULL) return lrki_fail_nomem(context, "a round of IncreLoRA");
    order_modules(round, options->module_score, candidates);
    grow(options, round, candidates);
    for (int64_t i = 0; i < round->n_modules; i++)
        round->slots[i].floor = INT64_MAX; /* none of its ranks could go: no cut */
    lrki_array_free(context, candidates, round->n_modules, sizeof *candidates);
    return LRK_OK;
}

static void same_options(const lrk_allocator *allocator, lrki_state *state)
{
    const lrk_increlora_options *options = allocator->own;
    lrki_state_same_i64(state, "grow_modules", options->grow_modules);
    lrki_state_same_i64(state, "grow_ranks", options->grow_ranks);
    lrki_state_same_i64(state, "module_score", options->module_score);
}

lrk_status lrk_allocator_create_increlora(lrk_adapters *adapters, const lrk_increlora_options *given,
                                          lrk_allocator **allocator)
{
    if (allocator != NULL) *allocator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "creating an allocator");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (given == NULL || allocator == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "options and allocator must not be NULL");
    lrk_increlora_options options;
    lrk_increlora_options_init(&options, sizeof options);
    status = lrki_struct_read(context, &options, sizeof options, given, sizeof(uint32_t) * 2,
                              "lrk_increlora_options");
    if (status == LRK_OK) status = check_options(context, &options);
    if (status != LRK_OK) return status;
    const lrki_rules rules = rules_of(&options);
    return lrki_allocator_create(adapters, &lrki_policy_increlora, &rules, &options, sizeof options,
                                 allocator);
}

/* ---- in a text ------------------------------------------------------------------------------------------------------- */

static const lrki_word module_score_words[] = {{"sum", LRK_MODULE_SUM}, {"mean", LRK_MODULE_MEAN}, {NULL, 0}};

#define KEY(...) LRKI_KEY(lrk_increlora_options, "allocation", __VA_ARGS__)
static const lrki_key keys[] = {KEY("grow_modules", INTEGER, grow_modules, ),
                                KEY("grow_ranks", INTEGER, grow_ranks, ),
                                KEY("module_score", CHOICE, module_score, .words = module_score_words),
                                {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_increlora_options_init(options, sizeof(lrk_increlora_options));
}

static lrk_increlora_options with_terms(const lrki_policy_terms *terms, const void *chosen)
{
    lrk_increlora_options options = *(const lrk_increlora_options *)chosen;
    options.budget = terms->budget;
    options.budget_unit = terms->budget_unit;
    options.new_rank_init = terms->new_rank_init;
    options.limits = terms->limits;
    options.n_limits = terms->n_limits;
    return options;
}

static lrk_status check_chosen(lrk_context *context, const lrki_policy_terms *terms, const void *chosen)
{
    lrk_increlora_options options = with_terms(terms, chosen);
    options.budget = 0;
    if (options.grow_modules == 0) options.grow_modules = 1;
    return check_options(context, &options);
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_policy_terms *terms, const void *chosen,
                                lrk_allocator **allocator)
{
    lrk_increlora_options options = with_terms(terms, chosen);
    return lrk_allocator_create_increlora(adapters, &options, allocator);
}

const lrki_policy lrki_policy_increlora = {
    .choose = choose,
    .same = same_options,
    .method = {.summary = "IncreLoRA: modules of the highest score grow to the budget, none is pruned",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_increlora_options),
               .init = init_chosen},
    .check = check_chosen,
    .create = create_chosen};
