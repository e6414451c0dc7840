/* SPDX-License-Identifier: MIT */
/*
 * ALoRA's policy (Liu et al. 2024, Algorithm 1 and its footnotes): the n_A lowest ranks go, and what they took of the
 * budget is given out to modules from which nothing was pruned, in turns in the order of their mean scores, so that
 * shares are as even as can be and the modules of higher mean take the extra ranks. Where the paper is silent an option
 * decides; scopes (the whole set, or one stage) are treated one after the other and do not see each other.
 */
#include <math.h>

#include "allocation.h"

#define ALL_STAGES (-1)

/* ---- options --------------------------------------------------------------------------------------------------------- */

lrk_status lrk_alora_options_init(lrk_alora_options *options, size_t struct_size)
{
    const lrk_alora_options defaults = {.budget = LRK_BUDGET_INITIAL};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrki_rules rules_of(const lrk_alora_options *options)
{
    return (lrki_rules){.name = "alora",
                        .budget = options->budget,
                        .budget_unit = options->budget_unit,
                        .new_rank_init = options->new_rank_init,
                        .protect_rounds = options->protect_rounds,
                        .limits = options->limits,
                        .n_limits = options->n_limits};
}

static lrk_status check_options(lrk_context *context, const lrk_alora_options *options)
{
    const char *wrong = NULL;
    if (options->no_receiver != LRK_NO_RECEIVER_SHRINK && options->no_receiver != LRK_NO_RECEIVER_KEEP)
        wrong = "no_receiver is unknown";
    if (options->scope != LRK_SCOPE_GLOBAL && options->scope != LRK_SCOPE_PER_STAGE)
        wrong = "scope is unknown";
    if (options->unpruned != LRK_UNPRUNED_THIS_ROUND && options->unpruned != LRK_UNPRUNED_EVER)
        wrong = "unpruned is unknown";
    if ((options->n_move == 0) == (options->move_share == 0))
        wrong = "n_move or move_share must be set, and not both";
    if (!(options->move_share >= 0 && options->move_share <= 1)) wrong = "move_share must be in (0, 1]";
    if (options->n_move < 0) wrong = "n_move must be >= 1";
    if (options->flags & ~LRK_ALORA_REFILL) wrong = "flags has an unknown bit";
    if (wrong != NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
    const lrki_rules rules = rules_of(options);
    return lrki_rules_check(context, &rules);
}

/* ---- how many and from where ------------------------------------------------------------------------------------------ */

static bool in_scope(int32_t stage, int32_t scope)
{
    return scope == ALL_STAGES || stage == scope;
}

static int64_t quota(const lrk_alora_options *options, int64_t live)
{
    if (options->n_move > 0) return options->n_move;
    int64_t share = (int64_t)llround(options->move_share * (double)live);
    return share < 1 ? 1 : share;
}

static int64_t n_move_in(const lrk_allocator *allocator, int32_t scope)
{
    const lrk_adapters *adapters = allocator->adapters;
    int64_t live = 0;
    int64_t prunable = 0;
    for (int32_t i = 0; i < adapters->n_modules; i++) {
        if (!in_scope(adapters->modules[i].stage, scope)) continue;
        live += adapters->modules[i].bank.rank;
        prunable += lrki_allocator_prunable(allocator, i);
    }
    int64_t wanted = quota(allocator->own, live);
    return wanted < prunable ? wanted : prunable;
}

/* Whether module i is the first of its stage: such modules stand for the stages. */
static bool leads_stage(const lrk_adapters *adapters, int64_t i)
{
    for (int64_t j = 0; j < i; j++)
        if (adapters->modules[j].stage == adapters->modules[i].stage) return false;
    return true;
}

static int64_t n_move(const lrk_allocator *allocator)
{
    const lrk_alora_options *options = allocator->own;
    const lrk_adapters *adapters = allocator->adapters;
    if (options->scope == LRK_SCOPE_GLOBAL) return n_move_in(allocator, ALL_STAGES);
    int64_t sum = 0;
    for (int64_t i = 0; i < adapters->n_modules; i++)
        if (leads_stage(adapters, i)) sum += n_move_in(allocator, adapters->modules[i].stage);
    return sum;
}

/* ---- one round --------------------------------------------------------------------------------------------------------- */

typedef struct receiver {
    int32_t module;
    double mean; /* NaN for a module of rank 0 */
} receiver;

typedef struct alora_round {
    const lrk_alora_options *options;
    lrki_round *round;
    int64_t *order;      /* [n_ranks] flat positions, lowest score first */
    int64_t *dropped;    /* [n_modules] in this round                    */
    receiver *receivers; /* [n_modules]                                  */
    int64_t n_receivers;
    bool use_estimates; /* means of estimates, not of scores */
} alora_round;

/* Drops the lowest ranks of a scope as far as floors and protection let it; returns the units of budget freed. */
static int64_t prune_lowest(alora_round *a, int32_t scope, int64_t n)
{
    lrki_round *round = a->round;
    int64_t freed = 0;
    for (int64_t i = 0; i < round->n_ranks && n > 0; i++) {
        const lrk_score *rank = &round->ranks[a->order[i]];
        const lrki_slot *slot = &round->slots[rank->module];
        int64_t left = slot->rank - a->dropped[rank->module];
        if (!in_scope(slot->stage, scope) || left <= slot->floor || rank->identity >= round->newborn_first)
            continue;
        round->drop[a->order[i]] = 1;
        a->dropped[rank->module]++;
        freed += slot->cost;
        n--;
    }
    return freed;
}

static void undo_pruning(alora_round *a, int32_t scope)
{
    for (int64_t i = 0; i < a->round->n_modules; i++) {
        const lrki_slot *slot = &a->round->slots[i];
        if (!in_scope(slot->stage, scope)) continue;
        for (int64_t j = 0; j < slot->rank; j++)
            a->round->drop[slot->first + j] = 0;
        a->dropped[i] = 0;
    }
}

static bool may_receive(const alora_round *a, int64_t module)
{
    bool ever = a->options->unpruned == LRK_UNPRUNED_EVER && a->round->slots[module].pruned_before;
    return a->dropped[module] == 0 && !ever && lrki_round_headroom(a->round, module) > 0;
}

static double mean_score(const alora_round *a, int64_t module)
{
    int64_t rank = a->round->slots[module].rank;
    return rank == 0 ? NAN : lrki_round_sum(a->round, module, a->use_estimates) / (double)rank;
}

/* Highest mean first, rank 0 last, ties by module index. */
static void find_receivers(alora_round *a, int32_t scope)
{
    a->n_receivers = 0;
    for (int32_t i = 0; i < a->round->n_modules; i++) {
        if (!in_scope(a->round->slots[i].stage, scope) || !may_receive(a, i)) continue;
        receiver new = {i, mean_score(a, i)};
        int64_t at = a->n_receivers++;
        for (; at > 0 && lrki_score_receives_before(new.mean, a->receivers[at - 1].mean); at--)
            a->receivers[at] = a->receivers[at - 1];
        a->receivers[at] = new;
    }
}

/* Forgets receivers that are full or too dear; sums the cost of a rank each, and the least headroom. */
static void narrow_receivers(alora_round *a, int64_t purse, int64_t *turn_cost, int64_t *least)
{
    int64_t n = 0;
    *turn_cost = 0;
    *least = INT64_MAX;
    for (int64_t i = 0; i < a->n_receivers; i++) {
        int32_t m = a->receivers[i].module;
        int64_t cost = a->round->slots[m].cost;
        int64_t room = lrki_round_headroom(a->round, m);
        if (room <= 0 || cost > purse) continue;
        a->receivers[n++] = a->receivers[i];
        *turn_cost += cost;
        if (room < *least) *least = room;
    }
    a->n_receivers = n;
}

/*
 * Gives out a purse one rank at a time in turns, to whom a rank still fits; whole turns at once where all receivers can
 * take them. A purse that is not a whole number of turns ends in a last, partial turn: the higher means come first.
 */
static void give_out(alora_round *a, int64_t purse)
{
    int64_t turn_cost;
    int64_t least;
    for (narrow_receivers(a, purse, &turn_cost, &least); a->n_receivers > 0;
         narrow_receivers(a, purse, &turn_cost, &least)) {
        int64_t turns = purse / turn_cost;
        int64_t each = turns == 0 ? 1 : turns < least ? turns : least;
        for (int64_t i = 0; i < a->n_receivers; i++) {
            int32_t m = a->receivers[i].module;
            int64_t cost = each * a->round->slots[m].cost;
            if (cost > purse) continue;
            a->round->add[m] += each;
            purse -= cost;
        }
    }
}

/* Budget left once what is kept and what was given out is paid for; negative if the set outgrew it by other means. */
static int64_t unspent(const alora_round *a)
{
    const lrki_round *round = a->round;
    int64_t left = round->budget - round->held;
    for (int64_t i = 0; i < round->n_modules; i++)
        left += (a->dropped[i] - round->add[i]) * round->slots[i].cost;
    return left;
}

static int64_t live_in(const lrki_round *round, int32_t scope)
{
    int64_t live = 0;
    for (int64_t i = 0; i < round->n_modules; i++)
        if (in_scope(round->slots[i].stage, scope)) live += round->slots[i].rank;
    return live;
}

static void move_within(alora_round *a, int32_t scope, int64_t saved)
{
    int64_t purse = prune_lowest(a, scope, quota(a->options, live_in(a->round, scope))) + saved;
    find_receivers(a, scope);
    if (a->n_receivers == 0 && a->options->no_receiver == LRK_NO_RECEIVER_KEEP) {
        undo_pruning(a, scope);
        purse = saved;
        find_receivers(a, scope);
    }
    int64_t left = unspent(a);
    give_out(a, purse < left ? purse : left);
}

static void move_all(alora_round *a, const lrk_adapters *adapters)
{
    int64_t saved = a->round->budget - a->round->held; /* what earlier rounds left unused */
    bool refill = (a->options->flags & LRK_ALORA_REFILL) && saved > 0;
    if (a->options->scope == LRK_SCOPE_GLOBAL) {
        move_within(a, ALL_STAGES, refill ? saved : 0);
        return;
    }
    for (int64_t i = 0; i < adapters->n_modules; i++)
        if (leads_stage(adapters, i)) move_within(a, adapters->modules[i].stage, 0);
    if (!refill) return;
    find_receivers(a, ALL_STAGES);
    give_out(a, saved);
}

static lrk_status choose(lrk_allocator *allocator, lrki_round *round)
{
    const lrk_adapters *adapters = allocator->adapters;
    lrk_context *context = adapters->context;
    alora_round a = {
        .options = allocator->own, .round = round, .use_estimates = lrki_round_of_estimates(round)};
    a.order = lrki_array(context, round->n_ranks, sizeof *a.order);
    a.dropped = lrki_array(context, round->n_modules, sizeof *a.dropped);
    a.receivers = lrki_array(context, round->n_modules, sizeof *a.receivers);
    lrk_status status = LRK_OK;
    if (!a.order || !a.dropped || !a.receivers) status = lrki_fail_nomem(context, "a round of ALoRA");
    if (status == LRK_OK) status = lrk_scores_lowest(round->scores, round->n_ranks, a.order);
    if (status == LRK_OK) move_all(&a, adapters);
    lrki_array_free(context, a.order, round->n_ranks, sizeof *a.order);
    lrki_array_free(context, a.dropped, round->n_modules, sizeof *a.dropped);
    lrki_array_free(context, a.receivers, round->n_modules, sizeof *a.receivers);
    return status;
}

static void same_options(const lrk_allocator *allocator, lrki_state *state)
{
    const lrk_alora_options *options = allocator->own;
    lrki_state_same_i64(state, "flags", options->flags);
    lrki_state_same_i64(state, "n_move", options->n_move);
    lrki_state_same_f64(state, "move_share", options->move_share);
    lrki_state_same_i64(state, "unpruned", options->unpruned);
    lrki_state_same_i64(state, "scope", options->scope);
    lrki_state_same_i64(state, "no_receiver", options->no_receiver);
}

lrk_status lrk_allocator_create_alora(lrk_adapters *adapters, const lrk_alora_options *given,
                                      lrk_allocator **allocator)
{
    if (allocator != NULL) *allocator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "creating an allocator");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (given == NULL || allocator == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "options and allocator must not be NULL");
    lrk_alora_options options;
    lrk_alora_options_init(&options, sizeof options);
    status =
        lrki_struct_read(context, &options, sizeof options, given, sizeof(uint32_t) * 2, "lrk_alora_options");
    if (status == LRK_OK) status = check_options(context, &options);
    if (status != LRK_OK) return status;
    const lrki_rules rules = rules_of(&options);
    return lrki_allocator_create(adapters, &lrki_policy_alora, &rules, &options, sizeof options, allocator);
}

/* ---- in a text ------------------------------------------------------------------------------------------------------- */

static const lrki_word unpruned_words[] = {
    {"this_round", LRK_UNPRUNED_THIS_ROUND}, {"ever", LRK_UNPRUNED_EVER}, {NULL, 0}};
static const lrki_word scope_words[] = {
    {"global", LRK_SCOPE_GLOBAL}, {"per_stage", LRK_SCOPE_PER_STAGE}, {NULL, 0}};
static const lrki_word receiver_words[] = {
    {"shrink", LRK_NO_RECEIVER_SHRINK}, {"keep", LRK_NO_RECEIVER_KEEP}, {NULL, 0}};

#define KEY(...) LRKI_KEY(lrk_alora_options, "allocation", __VA_ARGS__)
static const lrki_key keys[] = {KEY("move_share", REAL, move_share, .rival = "n_move"),
                                KEY("unpruned", CHOICE, unpruned, .words = unpruned_words),
                                KEY("scope", CHOICE, scope, .words = scope_words),
                                KEY("no_receiver", CHOICE, no_receiver, .words = receiver_words),
                                KEY("refill", FLAG, flags, .bit = LRK_ALORA_REFILL),
                                {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_alora_options_init(options, sizeof(lrk_alora_options));
}

static lrk_alora_options with_terms(const lrki_policy_terms *terms, const void *chosen)
{
    lrk_alora_options options = *(const lrk_alora_options *)chosen;
    options.n_move = terms->n_move;
    options.budget = terms->budget;
    options.budget_unit = terms->budget_unit;
    options.new_rank_init = terms->new_rank_init;
    options.protect_rounds = terms->protect_rounds;
    options.limits = terms->limits;
    options.n_limits = terms->n_limits;
    return options;
}

static lrk_status check_chosen(lrk_context *context, const lrki_policy_terms *terms, const void *chosen)
{
    lrk_alora_options options = with_terms(terms, chosen);
    if (options.n_move == 0 && options.move_share == 0) options.n_move = 1;
    return check_options(context, &options);
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_policy_terms *terms, const void *chosen,
                                lrk_allocator **allocator)
{
    lrk_alora_options options = with_terms(terms, chosen);
    if (terms->multiple > 1)
        return lrki_fail(adapters->context, LRK_ERR_CONFIG,
                         "multiple must be <= 1 under policy alora: prune alone comes back to the budget");
    return lrk_allocator_create_alora(adapters, &options, allocator);
}

const lrki_policy lrki_policy_alora = {
    .choose = choose,
    .n_move = n_move,
    .same = same_options,
    .method = {.summary = "ALoRA: the lowest ranks go, modules that lost none grow",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_alora_options),
               .init = init_chosen},
    .check = check_chosen,
    .create = create_chosen};
