/* SPDX-License-Identifier: MIT */
/*
 * ElaLoRA's policy (Chang et al. 2025): modules nominate their lowest ranks, the lowest nominees go and the highest ones
 * bring their modules new ranks, so that the total stays. What the paper's training loop does besides - its phases, its
 * scores - is the schedule's and the estimator's here.
 */
#include <math.h>

#include "allocation.h"

/* ---- options --------------------------------------------------------------------------------------------------------- */

lrk_status lrk_elalora_options_init(lrk_elalora_options *options, size_t struct_size)
{
    const lrk_elalora_options defaults = {
        .nominees = 2, .budget = LRK_BUDGET_INITIAL, .new_rank_init = LRK_INIT_ORTHOGONAL};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrki_rules rules_of(const lrk_elalora_options *options)
{
    return (lrki_rules){.name = "elalora",
                        .budget = options->budget,
                        .budget_unit = options->budget_unit,
                        .new_rank_init = options->new_rank_init,
                        .protect_rounds = options->protect_rounds,
                        .limits = options->limits,
                        .n_limits = options->n_limits};
}

static lrk_status check_options(lrk_context *context, const lrk_elalora_options *options)
{
    const char *wrong = NULL;
    if (options->reserved != 0) wrong = "reserved must be 0";
    if (options->nominees < 1) wrong = "nominees must be >= 1";
    if (options->n_rounds != 0 && options->n_move_last == 0) wrong = "n_rounds needs n_move_last";
    if (options->n_move_last != 0 && options->n_rounds < 2) wrong = "n_rounds must be >= 2 with n_move_last";
    if (options->n_move_last < 0) wrong = "n_move_last must be >= 1";
    if (options->n_move < 1) wrong = "n_move must be >= 1";
    if (options->flags != 0) wrong = "flags must be 0";
    if (wrong != NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
    const lrki_rules rules = rules_of(options);
    return lrki_rules_check(context, &rules);
}

/* ---- how many -------------------------------------------------------------------------------------------------------- */

/* b of a round. */
static int64_t quota(const lrk_elalora_options *options, uint64_t round)
{
    int64_t last = options->n_rounds - 1;
    if (options->n_move_last == 0) return options->n_move;
    if (round >= (uint64_t)last) return options->n_move_last;
    double along = (double)round / (double)last;
    return llround((double)options->n_move +
                   along * ((double)options->n_move_last - (double)options->n_move));
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Ranks that a module nominates. */
static int64_t nominated(const lrk_allocator *allocator, int32_t module)
{
    const lrk_elalora_options *options = allocator->own;
    int64_t but_one = allocator->adapters->modules[module].bank.rank - 1;
    int64_t prunable = lrki_allocator_prunable(allocator, module);
    return but_one < 0 ? 0 : least(options->nominees, least(prunable, but_one));
}

static int64_t n_move(const lrk_allocator *allocator)
{
    int64_t pool = 0;
    for (int32_t i = 0; i < allocator->adapters->n_modules; i++)
        pool += nominated(allocator, i);
    return least(quota(allocator->own, allocator->round), pool / 2);
}

/* ---- one round ------------------------------------------------------------------------------------------------------- */

/* From all ranks by ascending score to the nominees by ascending score, in place; `left` is what each module may name. */
static int64_t nominate(const lrki_round *round, int64_t *order, int64_t *left)
{
    int64_t n = 0;
    for (int64_t i = 0; i < round->n_ranks; i++) {
        const lrk_score *rank = &round->ranks[order[i]];
        if (left[rank->module] == 0 || rank->identity >= round->newborn_first) continue;
        left[rank->module]--;
        order[n++] = order[i];
    }
    return n;
}

/* The first `n` of the pool go; returns what the budget has left then. */
static int64_t drop_lowest(lrki_round *round, const int64_t *pool, int64_t n)
{
    int64_t purse = round->budget - round->held;
    for (int64_t i = 0; i < n; i++) {
        round->drop[pool[i]] = 1;
        purse += round->slots[round->ranks[pool[i]].module].cost;
    }
    return purse;
}

static void expand_highest(lrki_round *round, const int64_t *pool, int64_t n_pool, int64_t n, int64_t purse)
{
    int64_t came = 0;
    for (int64_t i = n_pool - 1; i >= n && came < n; i--) {
        int32_t module = round->ranks[pool[i]].module;
        int64_t cost = round->slots[module].cost;
        if (cost > purse || lrki_round_headroom(round, module) <= 0) continue;
        round->add[module]++;
        purse -= cost;
        came++;
    }
}

static void move(const lrk_allocator *allocator, lrki_round *round, int64_t *order, int64_t *left)
{
    for (int32_t i = 0; i < round->n_modules; i++) {
        left[i] = nominated(allocator, i);
        round->slots[i].floor = round->slots[i].rank - left[i]; /* only nominees could go: for the cut */
    }
    int64_t n_pool = nominate(round, order, left);
    int64_t n = least(quota(allocator->own, round->number), n_pool / 2);
    int64_t purse = drop_lowest(round, order, n);
    expand_highest(round, order, n_pool, n, purse);
}

static lrk_status choose(lrk_allocator *allocator, lrki_round *round)
{
    lrk_context *context = allocator->adapters->context;
    int64_t *order = lrki_array(context, round->n_ranks, sizeof *order);
    int64_t *left = lrki_array(context, round->n_modules, sizeof *left);
    lrk_status status = LRK_OK;
    if (!order || !left) status = lrki_fail_nomem(context, "a round of ElaLoRA");
    if (status == LRK_OK) status = lrk_scores_lowest(round->scores, round->n_ranks, order);
    if (status == LRK_OK) move(allocator, round, order, left);
    lrki_array_free(context, order, round->n_ranks, sizeof *order);
    lrki_array_free(context, left, round->n_modules, sizeof *left);
    return status;
}

static void same_options(const lrk_allocator *allocator, lrki_state *state)
{
    const lrk_elalora_options *options = allocator->own;
    lrki_state_same_i64(state, "n_move", options->n_move);
    lrki_state_same_i64(state, "n_move_last", options->n_move_last);
    lrki_state_same_i64(state, "n_rounds", options->n_rounds);
    lrki_state_same_i64(state, "nominees", options->nominees);
}

lrk_status lrk_allocator_create_elalora(lrk_adapters *adapters, const lrk_elalora_options *given,
                                        lrk_allocator **allocator)
{
    if (allocator != NULL) *allocator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "creating an allocator");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (given == NULL || allocator == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "options and allocator must not be NULL");
    lrk_elalora_options options;
    lrk_elalora_options_init(&options, sizeof options);
    status = lrki_struct_read(context, &options, sizeof options, given, sizeof(uint32_t) * 2,
                              "lrk_elalora_options");
    if (status == LRK_OK) status = check_options(context, &options);
    if (status != LRK_OK) return status;
    const lrki_rules rules = rules_of(&options);
    return lrki_allocator_create(adapters, &lrki_policy_elalora, &rules, &options, sizeof options, allocator);
}

/* ---- in a text ------------------------------------------------------------------------------------------------------- */

#define KEY(...) LRKI_KEY(lrk_elalora_options, "allocation", __VA_ARGS__)
static const lrki_key keys[] = {KEY("nominees", INTEGER, nominees, ),
                                KEY("n_move_last", INTEGER, n_move_last, ),
                                KEY("n_rounds", INTEGER, n_rounds, ),
                                {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_elalora_options_init(options, sizeof(lrk_elalora_options));
}

static lrk_elalora_options with_terms(const lrki_policy_terms *terms, const void *chosen)
{
    lrk_elalora_options options = *(const lrk_elalora_options *)chosen;
    options.n_move = terms->n_move;
    options.budget = terms->budget;
    options.budget_unit = terms->budget_unit;
    if (terms->has_init) options.new_rank_init = terms->new_rank_init;
    options.protect_rounds = terms->protect_rounds;
    options.limits = terms->limits;
    options.n_limits = terms->n_limits;
    return options;
}

static lrk_status check_chosen(lrk_context *context, const lrki_policy_terms *terms, const void *chosen)
{
    lrk_elalora_options options = with_terms(terms, chosen);
    if (options.n_move == 0) options.n_move = 1;
    if (options.n_rounds != 0 && options.n_move_last == 0) options.n_move_last = 1;
    if (options.n_rounds == 0 && options.n_move_last != 0) options.n_rounds = 2;
    return check_options(context, &options);
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_policy_terms *terms, const void *chosen,
                                lrk_allocator **allocator)
{
    lrk_elalora_options options = with_terms(terms, chosen);
    return lrk_allocator_create_elalora(adapters, &options, allocator);
}

const lrki_policy lrki_policy_elalora = {
    .choose = choose,
    .n_move = n_move,
    .same = same_options,
    .method = {.summary = "ElaLoRA: modules nominate, the lowest nominees go, owners of the highest grow",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_elalora_options),
               .init = init_chosen},
    .check = check_chosen,
    .create = create_chosen};
