/* SPDX-License-Identifier: MIT */
/*
 * EVA: a plan from the principal components of inputs. The same choice, made between batches, says which components are worth
 * waiting for.
 */
#include "lorank/eva.h"

#include <math.h>

#include "../adapters/pca.h"
#include "start.h"

lrk_status lrk_eva_options_init(lrk_eva_options *options, size_t struct_size)
{
    const lrk_eva_options defaults = {.budget = LRK_BUDGET_INITIAL};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrki_rules rules_of(const lrk_eva_options *options)
{
    return (lrki_rules){.name = "eva",
                        .budget = options->budget,
                        .budget_unit = options->budget_unit,
                        .limits = options->limits,
                        .n_limits = options->n_limits};
}

static lrk_status check_options(lrk_context *context, const lrk_eva_options *options)
{
    const char *wrong = NULL;
    if (options->reserved != 0) wrong = "reserved must be 0";
    if (options->flags & ~LRK_EVA_WHITEN) wrong = "flags has an unknown bit";
    if (wrong != NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
    const lrki_rules rules = rules_of(options);
    return lrki_rules_check(context, &rules);
}

/* ---- the choice ---------------------------------------------------------------------------------------------------- */

static const lrki_pca_group *group_of(const lrk_pca *pca, int32_t module)
{
    return &pca->groups[pca->modules[module].group];
}

/* Components of a module that explain anything. */
static int64_t usable(const lrk_pca *pca, int32_t module)
{
    const lrki_pca_group *group = group_of(pca, module);
    int64_t n = 0;
    while (n < pca->modules[module].asked && group->values[n] > 0)
        n++;
    return n;
}

static lrk_status check_finite(const lrk_pca *pca)
{
    for (int32_t i = 0; i < pca->adapters->n_modules; i++)
        if (!isfinite(group_of(pca, i)->scalars[1]))
            return lrki_fail_at(pca->adapters->context, LRK_ERR_NONFINITE, (lrki_place){.module = i},
                                "module '%s': its input is not finite", pca->adapters->modules[i].name);
    return LRK_OK;
}

static void offer_all(const lrk_pca *pca, lrki_start *start)
{
    for (int32_t i = 0; i < start->round.n_modules; i++) {
        const lrki_pca_group *group = group_of(pca, i);
        const lrki_slot *slot = &start->round.slots[i];
        int64_t n = lrki_smaller(usable(pca, i), slot->ceiling);
        for (int64_t j = slot->floor; j < n; j++)
            lrki_start_offer(start, i, j,
                             group->values[j] * group->values[j] / group->scalars[1] / (double)slot->cost);
    }
}

/* Ranks of every module into the start's round. */
static lrk_status choose(const lrk_pca *pca, const lrk_eva_options *options, lrki_start *start)
{
    const lrki_rules rules = rules_of(options);
    int64_t most = 0;
    for (int32_t i = 0; i < pca->adapters->n_modules; i++)
        most += pca->modules[i].asked;
    lrk_status status = lrki_start_open(pca->adapters, &rules, most, start);
    if (status == LRK_OK) status = lrki_start_budget(start, options->budget, 1);
    if (status == LRK_OK) status = check_finite(pca);
    if (status != LRK_OK) return status;
    offer_all(pca, start);
    return lrki_start_take(start);
}

/* ---- settling ------------------------------------------------------------------------------------------------------ */

static bool all_fed(const lrk_pca *pca)
{
    for (int64_t i = 0; i < pca->n_groups; i++)
        if (pca->groups[i].k > 0 && pca->groups[i].scalars[0] == 0) return false;
    return true;
}

static void want(lrk_pca *pca, const lrki_start *start)
{
    for (int64_t i = 0; i < pca->n_groups; i++)
        pca->groups[i].wanted = 0;
    for (int32_t i = 0; i < pca->adapters->n_modules; i++) {
        int64_t *wanted = &pca->groups[pca->modules[i].group].wanted;
        int64_t n = lrki_smaller(start->round.add[i], usable(pca, i));
        if (*wanted < n) *wanted = n;
    }
}

static int64_t count_open(const lrk_pca *pca)
{
    int64_t open = 0;
    for (int64_t i = 0; i < pca->n_groups; i++)
        open += pca->groups[i].scalars[2] < (double)pca->groups[i].wanted;
    return open;
}

static lrk_status read_options(const lrk_pca *pca, const lrk_eva_options *given, const char *what,
                               lrk_eva_options *options)
{
    lrk_context *context = pca->adapters->context;
    lrk_eva_options_init(options, sizeof *options);
    lrk_status status =
        lrki_struct_read(context, options, sizeof *options, given, 2 * sizeof(uint32_t), "lrk_eva_options");
    if (status == LRK_OK) status = check_options(context, options);
    return status == LRK_OK ? lrki_pca_check_idle(pca, what) : status;
}

lrk_status lrk_eva_settle(lrk_pca *pca, const lrk_eva_options *given, int64_t *open)
{
    lrk_eva_options options;
    lrki_start start = {0};
    if (pca == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = lrki_adapters_enter(pca->adapters, "lrk_eva_settle");
    if (status == LRK_OK) status = read_options(pca, given, "lrk_eva_settle", &options);
    if (status == LRK_OK && all_fed(pca)) {
        status = choose(pca, &options, &start);
        if (status == LRK_OK) want(pca, &start);
        lrki_start_close(&start);
    }
    if (status == LRK_OK && open != NULL) *open = count_open(pca);
    return status;
}

/* ---- the plan ------------------------------------------------------------------------------------------------------ */

static lrk_status check_fed(const lrk_pca *pca)
{
    const lrk_adapters *set = pca->adapters;
    for (int32_t i = 0; i < set->n_modules; i++) {
        bool may_lack = (set->modules[i].flags & LRK_MODULE_MAY_LACK_GRADIENT) != 0;
        if (may_lack || pca->modules[i].asked == 0 || group_of(pca, i)->scalars[0] > 0) continue;
        return lrki_fail_at(set->context, LRK_ERR_STATE, (lrki_place){.module = i},
                            "module '%s': no forward fed the components of its input", set->modules[i].name);
    }
    return LRK_OK;
}

static void write_row(const lrki_pca_group *group, int64_t j, uint32_t flags, float *row)
{
    double divisor = flags & LRK_EVA_WHITEN ? sqrt(group->values[j]) : 1;
    for (int64_t c = 0; c < group->n_in; c++)
        row[c] = (float)(group->components[j * group->n_in + c] / divisor);
}

static lrk_status write_rows(const lrk_pca *pca, const lrki_start *start, uint32_t flags, lrk_plan *plan)
{
    float *row = lrki_plan_rows(plan);
    if (row == NULL) return LRK_ERR_NOMEM;
    for (int32_t i = 0; i < pca->adapters->n_modules; i++) {
        const lrki_pca_group *group = group_of(pca, i);
        int64_t n = usable(pca, i);
        for (int64_t j = 0; j < plan->parts[i].n_added; j++, row += group->n_in) {
            if (j < n)
                write_row(group, j, flags, row);
            else /* a floor above what there is */
                lrki_start_usual_row(start, i, plan->parts[i].added_ids[j], row);
        }
    }
    lrki_plan_seal(plan);
    return LRK_OK;
}

static lrk_status make_plan(const lrk_pca *pca, const lrk_eva_options *given, int64_t step, lrk_plan **out)
{
    lrk_eva_options options;
    lrki_start start = {0};
    lrk_plan *plan = NULL;
    if (out == NULL || step < 0)
        return lrki_fail(pca->adapters->context, LRK_ERR_ARGUMENT, "plan must not be NULL, and step >= 0");
    lrk_status status = read_options(pca, given, "lrk_eva_plan", &options);
    if (status == LRK_OK) status = check_fed(pca);
    if (status == LRK_OK) status = choose(pca, &options, &start);
    if (status == LRK_OK) status = lrki_start_plan(&start, step, &plan);
    if (status == LRK_OK) status = write_rows(pca, &start, options.flags, plan);
    if (start.allocator != NULL) status = lrki_start_finish(&start, status, plan, out);
    lrki_start_close(&start);
    return status;
}

lrk_status lrk_eva_plan(const lrk_pca *pca, const lrk_eva_options *given, int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    if (pca == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = lrki_adapters_enter(pca->adapters, "lrk_eva_plan");
    if (status != LRK_OK) return status;
    status = make_plan(pca, given, step, plan);
    const lrki_claim fed = lrki_pca_claim(pca);
    return lrki_plan_agree(pca->adapters->context, "lrk_eva_plan", status, &fed, plan);
}

/* ---- in a text ----------------------------------------------------------------------------------------------------- */

#define KEY(...) LRKI_KEY(lrk_eva_options, "start", __VA_ARGS__)
static const lrki_key keys[] = {KEY("whiten", FLAG, flags, .bit = LRK_EVA_WHITEN), {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_eva_options_init(options, sizeof(lrk_eva_options));
}

static lrk_eva_options with_terms(const lrki_start_terms *terms, const void *chosen)
{
    lrk_eva_options options = *(const lrk_eva_options *)chosen;
    options.budget = terms->budget;
    options.budget_unit = terms->budget_unit;
    options.limits = terms->limits;
    options.n_limits = terms->n_limits;
    return options;
}

static lrk_status check_chosen(lrk_context *context, const lrki_start_terms *terms, const void *chosen)
{
    lrk_eva_options options = with_terms(terms, chosen);
    return check_options(context, &options);
}

static lrk_status settle_chosen(const lrki_start_terms *terms, const void *chosen, int64_t *open)
{
    lrk_eva_options options = with_terms(terms, chosen);
    return lrk_eva_settle(terms->pca, &options, open);
}

static lrk_status plan_chosen(const lrki_start_terms *terms, const void *chosen, lrk_plan **plan)
{
    lrk_eva_options options = with_terms(terms, chosen);
    return lrk_eva_plan(terms->inputs, &options, terms->step, plan);
}

const lrki_start_kind lrki_start_eva = {
    .method = {.summary = "EVA: ranks and A by principal components of inputs; asks for forward",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_eva_options),
               .init = init_chosen},
    .material = LRKI_START_OF_INPUTS,
    .check = check_chosen,
    .settle = settle_chosen,
    .plan = plan_chosen};
