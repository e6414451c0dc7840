/* SPDX-License-Identifier: MIT */
/*
 * Pruning alone, along AdaLoRA's cubic budget (Zhang et al. 2023, equation 10): after round t of T the set holds at most
 *     b(t) = b_T + (b_0 - b_T) (1 - t / T)^3,   rounded down, b(0) = b_0, b(t) = b_T for t >= T,
 * the ranks of lowest score going first, in exact numbers; nothing grows. What AdaLoRA's own code does, setting gates to 0 from
 * where they can come back, is LRK_PRUNE_COME_BACK; there too counts are exact where scores are equal.
 */
#include <math.h>

#include "allocation.h"

#define MOST 9e18 /* below 2^63 */

/* What the policy keeps: the budgets in units, resolved. */
typedef struct cubic {
    int64_t rounds;
    int64_t first; /* b_0 */
    int64_t last;  /* b_T */
    bool come_back;
} cubic;

/* ---- options ------------------------------------------------------------------------------------------------------- */

lrk_status lrk_prune_options_init(lrk_prune_options *options, size_t struct_size)
{
    const lrk_prune_options defaults = {.budget = LRK_BUDGET_INITIAL, .multiple = 1.0};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrki_rules rules_of(const lrk_prune_options *options)
{
    bool come_back = (options->flags & LRK_PRUNE_COME_BACK) != 0;
    return (lrki_rules){.name = come_back ? "adalora" : "prune",
                        .budget = options->budget,
                        .budget_unit = options->budget_unit,
                        .protect_rounds = options->protect_rounds,
                        .limits = options->limits,
                        .n_limits = options->n_limits};
}

static lrk_status check_options(lrk_context *context, const lrk_prune_options *options)
{
    const char *wrong = NULL;
    if (!(options->multiple >= 1 && isfinite(options->multiple))) wrong = "multiple must be >= 1";
    if (options->n_rounds < 1) wrong = "n_rounds must be >= 1";
    if ((options->flags & ~LRK_PRUNE_COME_BACK) != 0) wrong = "flags has an unknown bit";
    if (wrong != NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
    const lrki_rules rules = rules_of(options);
    return lrki_rules_check(context, &rules);
}

/* ---- the budget ---------------------------------------------------------------------------------------------------- */

/* b(t): t rounds are carried out. */
static int64_t budget_after(const cubic *c, uint64_t t)
{
    if (t >= (uint64_t)c->rounds) return c->last;
    double left = 1.0 - (double)t / (double)c->rounds;
    return c->last + (int64_t)floor((double)(c->first - c->last) * left * left * left);
}

static int64_t cheapest(const lrk_allocator *allocator)
{
    int64_t least = INT64_MAX;
    for (int32_t i = 0; i < allocator->adapters->n_modules; i++)
        least = lrki_allocator_cost(allocator, i) < least ? lrki_allocator_cost(allocator, i) : least;
    return least;
}

/*
 * From the schedule alone and not from what the set holds: an estimator that is made before the set has been filled for its
 * start, or for a run that is about to be resumed, must be told the same.
 */
static int64_t n_move(const lrk_allocator *allocator)
{
    const cubic *c = allocator->own;
    uint64_t since = c->come_back ? 0 : allocator->round;
    int64_t units = budget_after(c, since) - budget_after(c, allocator->round + 1);
    int64_t least = cheapest(allocator);
    return units / least + (units % least != 0);
}

/* ---- one round ----------------------------------------------------------------------------------------------------- */

/* Marks from the lowest up until no more than `budget` is left, as far as floors and protection let it. */
static void mark_lowest(lrki_round *round, const int64_t *order, int64_t *left, int64_t budget,
                        uint8_t *marks)
{
    for (int64_t i = 0; i < round->n_modules; i++)
        left[i] = round->slots[i].rank;
    int64_t held = round->held;
    for (int64_t i = 0; i < round->n_ranks && held > budget; i++) {
        const lrk_score *rank = &round->ranks[order[i]];
        const lrki_slot *slot = &round->slots[rank->module];
        if (left[rank->module] <= slot->floor || rank->identity >= round->newborn_first) continue;
        marks[order[i]] = 1;
        left[rank->module]--;
        held -= slot->cost;
    }
    if (marks == round->drop) round->budget = held > budget ? held : budget; /* what is kept is no error */
}

static lrk_status choose(lrk_allocator *allocator, lrki_round *round)
{
    lrk_context *context = allocator->adapters->context;
    int64_t *order = lrki_array(context, round->n_ranks, sizeof *order);
    int64_t *left = lrki_array(context, round->n_modules, sizeof *left);
    lrk_status status = order && left ? LRK_OK : lrki_fail_nomem(context, "a round of pruning");
    if (status == LRK_OK) status = lrk_scores_lowest(round->scores, round->n_ranks, order);
    const cubic *c = allocator->own;
    bool for_good = !c->come_back || round->number + 1 >= (uint64_t)c->rounds;
    if (status == LRK_OK)
        mark_lowest(round, order, left, budget_after(c, round->number + 1),
                    for_good ? round->drop : round->silence);
    lrki_array_free(context, order, round->n_ranks, sizeof *order);
    lrki_array_free(context, left, round->n_modules, sizeof *left);
    return status;
}

static void same_options(const lrk_allocator *allocator, lrki_state *state)
{
    const cubic *c = allocator->own;
    lrki_state_same_i64(state, "n_rounds", c->rounds);
    lrki_state_same_i64(state, "the first budget", c->first);
    lrki_state_same_i64(state, "the last budget", c->last);
}

/* ---- creation ------------------------------------------------------------------------------------------------------ */

/* Budgets in units, from what the set holds now. */
static lrk_status resolve(const lrk_adapters *adapters, const lrk_prune_options *options, cubic *c)
{
    int64_t held = 0;
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *m = &adapters->modules[i];
        held += m->bank.rank * (options->budget_unit == LRK_BUDGET_RANKS ? 1 : m->n_in + m->n_out);
    }
    c->rounds = options->n_rounds;
    c->come_back = (options->flags & LRK_PRUNE_COME_BACK) != 0;
    c->last = options->budget == LRK_BUDGET_INITIAL ? held : options->budget;
    double first = floor(options->multiple * (double)c->last);
    if (first > MOST)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "multiple %g of budget %lld is too large",
                         options->multiple, (long long)c->last);
    c->first = (int64_t)first > held ? (int64_t)first : held;
    return LRK_OK;
}

/* What floors keep must fit into the last budget. */
static lrk_status check_floors(const lrk_allocator *allocator)
{
    const lrk_adapters *adapters = allocator->adapters;
    const cubic *c = allocator->own;
    int64_t sum = 0, cost;
    for (int32_t i = 0; i < adapters->n_modules; i++)
        if (!lrki_mul(allocator->bounds[i].floor, lrki_allocator_cost(allocator, i), &cost) ||
            !lrki_add(sum, cost, &sum) || sum > c->last)
            return lrki_fail_at(adapters->context, LRK_ERR_BUDGET, (lrki_place){.module = i},
                                "module '%s': with its floor of %lld the floors exceed the budget of %lld",
                                adapters->modules[i].name, (long long)allocator->bounds[i].floor,
                                (long long)c->last);
    return LRK_OK;
}

static lrk_status create(lrk_adapters *adapters, const lrk_prune_options *options, lrk_allocator **out)
{
    cubic c = {0};
    lrk_allocator *allocator = NULL;
    lrki_rules rules = rules_of(options);
    lrk_status status = resolve(adapters, options, &c);
    if (status != LRK_OK) return status;
    rules.budget = c.first;
    status = lrki_allocator_create(adapters, c.come_back ? &lrki_policy_adalora : &lrki_policy_prune, &rules,
                                   &c, sizeof c, &allocator);
    if (status == LRK_OK) status = check_floors(allocator);
    if (status == LRK_OK)
        *out = allocator;
    else
        lrki_allocator_unref(allocator);
    return status;
}

lrk_status lrk_allocator_create_prune(lrk_adapters *adapters, const lrk_prune_options *given,
                                      lrk_allocator **allocator)
{
    if (allocator != NULL) *allocator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "creating an allocator");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (given == NULL || allocator == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "options and allocator must not be NULL");
    lrk_prune_options options;
    lrk_prune_options_init(&options, sizeof options);
    status =
        lrki_struct_read(context, &options, sizeof options, given, 2 * sizeof(uint32_t), "lrk_prune_options");
    if (status == LRK_OK) status = check_options(context, &options);
    return status == LRK_OK ? create(adapters, &options, allocator) : status;
}

/* ---- in a text ----------------------------------------------------------------------------------------------------- */

static lrk_status create_cubic(lrk_adapters *adapters, const lrki_policy_terms *terms, uint32_t flags,
                               lrk_allocator **allocator)
{
    lrk_prune_options options;
    (void)lrk_prune_options_init(&options, sizeof options);
    options.flags = flags;
    options.n_rounds = terms->n_rounds;
    options.budget = terms->budget;
    options.budget_unit = terms->budget_unit;
    options.protect_rounds = terms->protect_rounds;
    if (terms->multiple > 1) options.multiple = terms->multiple;
    options.limits = terms->limits;
    options.n_limits = terms->n_limits;
    return lrk_allocator_create_prune(adapters, &options, allocator);
}

static lrk_status create_prune(lrk_adapters *adapters, const lrki_policy_terms *terms, const void *chosen,
                               lrk_allocator **allocator)
{
    (void)chosen;
    return create_cubic(adapters, terms, 0, allocator);
}

static lrk_status create_adalora(lrk_adapters *adapters, const lrki_policy_terms *terms, const void *chosen,
                                 lrk_allocator **allocator)
{
    (void)chosen;
    if (!terms->trains_gates)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT,
                         "policy adalora needs optimizer.train_gates: what it masks would not come back");
    return create_cubic(adapters, terms, LRK_PRUNE_COME_BACK, allocator);
}

const lrki_policy lrki_policy_prune = {
    .choose = choose,
    .n_move = n_move,
    .same = same_options,
    .method = {.summary = "the lowest ranks go, along a cubic down to the budget"},
    .create = create_prune};

const lrki_policy lrki_policy_adalora = {
    .choose = choose,
    .n_move = n_move,
    .same = same_options,
    .method = {.summary = "AdaLoRA: as prune, but masks until the last round; needs optimizer.train_gates"},
    .create = create_adalora};
