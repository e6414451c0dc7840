/* SPDX-License-Identifier: MIT */
/*
 * The gradient start: a plan from a sketch instead of from scores. Modules without a usable gradient are refused first; then
 * ranks are taken greedily by the squares of singular values; then the rows of A are written. The sketch's factors are made
 * twice, for values and for rows, so that no module's vectors are held while others are looked at.
 */
#include <math.h>
#include <stdio.h>

#include "../adapters/sketch.h"
#include "lorank/gradient_start.h"
#include "start.h"

#define MULTIPLE 3.0
#define CAP      20

#define ALL_FLAGS (LRK_GRADIENT_START_TOLERATE | LRK_GRADIENT_START_RANKS_ONLY)

/* ---- options ------------------------------------------------------------------------------------------------------- */

lrk_status lrk_gradient_start_options_init(lrk_gradient_start_options *options, size_t struct_size)
{
    const lrk_gradient_start_options defaults = {
        .multiple = MULTIPLE, .budget = LRK_BUDGET_INITIAL, .cap = CAP, .length = 1.0 / sqrt(3.0)};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrki_rules rules_of(const lrk_gradient_start_options *options)
{
    return (lrki_rules){.name = "gradient_start",
                        .budget = options->budget,
                        .budget_unit = options->budget_unit,
                        .limits = options->limits,
                        .n_limits = options->n_limits};
}

static lrk_status check_options(lrk_context *context, const lrk_gradient_start_options *options)
{
    const char *wrong = NULL;
    if (!(options->length > 0 && isfinite(options->length))) wrong = "length must be > 0";
    if (options->cap < 1) wrong = "cap must be >= 1";
    if (!(options->multiple > 0 && isfinite(options->multiple))) wrong = "multiple must be > 0";
    if (options->reserved != 0) wrong = "reserved must be 0";
    if (options->flags & ~ALL_FLAGS) wrong = "flags has an unknown bit";
    if (wrong != NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
    const lrki_rules rules = rules_of(options);
    return lrki_rules_check(context, &rules);
}

/* ---- what is at hand ----------------------------------------------------------------------------------------------- */

typedef struct start {
    const lrk_sketch *sketch;
    lrk_gradient_start_options options;
    lrki_start to;
    int64_t n_values;
    int64_t *firsts; /* [n_modules] of a module's values            */
    double *values;  /* singular values, module after module        */
    int64_t *usable; /* [n_modules] of them that are above rounding */
} start;

static lrk_context *context_of(const start *s)
{
    return s->sketch->adapters->context;
}

static const lrki_module *module_of(const start *s, int64_t i)
{
    return &s->sketch->adapters->modules[i];
}

/* What is wrong with a module's gradient beyond its having few directions; NULL if nothing. */
static const char *why_none(const double *measures)
{
    if (measures[0] == 0.0) return "no backward of it fed the sketch";
    if (measures[3] == 0.0)
        return "its dy is 0 in every row: masked tokens only, or a layer behind it that starts at zero "
               "(train a little first)";
    if (measures[2] == 0.0) return "its x is 0 in every row";
    return "its rows cancel to no more than their rounding";
}

static bool is_tolerated(const start *s, int64_t i, int64_t could)
{
    if (module_of(s, i)->flags & LRK_MODULE_MAY_LACK_GRADIENT) return true;
    bool tolerate = (s->options.flags & LRK_GRADIENT_START_TOLERATE) != 0;
    return s->usable[i] >= could || (tolerate && s->usable[i] > 0);
}

/* Ranks that a module could get if its gradient had all the directions that the sketch looks for. */
static int64_t could_get(const start *s, int64_t i)
{
    int64_t most = lrki_smaller(s->to.round.slots[i].ceiling, s->options.cap);
    return lrki_smaller(most, s->sketch->modules[i].directions);
}

static lrk_status refuse(const start *s, int32_t first, int64_t others)
{
    const double *measures = s->sketch->modules[first].measures;
    lrki_place place = {.module = first};
    const char *name = module_of(s, first)->name;
    char more[48] = "";
    if (others > 0) snprintf(more, sizeof more, " (and %lld more modules)", (long long)others);
    if (s->usable[first] == 0)
        return lrki_fail_at(context_of(s), LRK_ERR_NO_GRADIENT, place, "module '%s' has no gradient: %s%s",
                            name, why_none(measures), more);
    return lrki_fail_at(context_of(s), LRK_ERR_NO_GRADIENT, place,
                        "module '%s': its gradient has %lld directions of the %lld that it could get ranks "
                        "for; %.0f of %.0f rows had a gradient%s",
                        name, (long long)s->usable[first], (long long)could_get(s, first), measures[1],
                        measures[0], more);
}

static lrk_status check_gradients(const start *s)
{
    int32_t first = -1;
    int64_t n = 0;
    for (int32_t i = 0; i < s->to.round.n_modules; i++) {
        if (is_tolerated(s, i, could_get(s, i))) continue;
        if (first < 0) first = i;
        n++;
    }
    return first < 0 ? LRK_OK : refuse(s, first, n - 1);
}

static double worth_of(const start *s, int64_t i, double value)
{
    return value * value / (double)s->to.round.slots[i].cost;
}

/* Told of modules side by side: each has its own place. */
static void keep_values(void *user, int32_t module, const lrki_sketch_factors *f)
{
    const start *s = user;
    s->usable[module] = f->found;
    for (int64_t j = 0; j < f->n; j++)
        s->values[s->firsts[module] + j] = f->values[j];
}

/* What is to be had past the floors. */
static void list_choices(start *s)
{
    for (int32_t i = 0; i < s->to.round.n_modules; i++) {
        int64_t most = lrki_smaller(could_get(s, i), s->usable[i]);
        for (int64_t j = s->to.round.slots[i].floor; j < most; j++)
            lrki_start_offer(&s->to, i, j, worth_of(s, i, s->values[s->firsts[i] + j]));
    }
}

static lrk_status find_values(start *s)
{
    lrk_status status = lrki_sketch_each(s->sketch, 0, (int32_t)s->to.round.n_modules, keep_values, s);
    if (status == LRK_OK) status = check_gradients(s);
    if (status == LRK_OK) list_choices(s);
    return status;
}

/* ---- rows ---------------------------------------------------------------------------------------------------------- */

typedef struct rows {
    const start *start;
    lrk_plan *plan;
} rows;

static void write_rows(void *user, int32_t module, const lrki_sketch_factors *f)
{
    const start *s = ((const rows *)user)->start;
    lrk_plan *plan = ((const rows *)user)->plan;
    const lrki_part *part = &plan->parts[module];
    float *row = plan->rows + (plan->change_parts[module].added_a - plan->rows);
    for (int64_t j = 0; j < part->n_added; j++, row += f->n_in) {
        if (j >= s->usable[module]) { /* a floor above what the gradient has */
            lrki_start_usual_row(&s->to, module, part->added_ids[j], row);
            continue;
        }
        for (int64_t c = 0; c < f->n_in; c++)
            row[c] = (float)(s->options.length * f->right[j * f->n_in + c]);
    }
}

static lrk_status give_rows(const start *s, lrk_plan *plan)
{
    rows r = {s, plan};
    if (lrki_plan_rows(plan) == NULL) return LRK_ERR_NOMEM;
    lrk_status status = lrki_sketch_each(s->sketch, 0, (int32_t)s->to.round.n_modules, write_rows, &r);
    if (status == LRK_OK) lrki_plan_seal(plan);
    return status;
}

/* ---- the plan ------------------------------------------------------------------------------------------------------ */

static lrk_status take_memory(start *s)
{
    lrk_context *context = context_of(s);
    int64_t n = s->sketch->adapters->n_modules;
    s->firsts = lrki_array(context, n, sizeof *s->firsts);
    s->usable = lrki_array(context, n, sizeof *s->usable);
    if (s->firsts == NULL || s->usable == NULL) return lrki_fail_nomem(context, "a gradient start");
    for (int64_t i = 0; i < n; i++) {
        s->firsts[i] = s->n_values;
        s->n_values += s->sketch->modules[i].directions;
    }
    s->values = lrki_array(context, s->n_values, sizeof *s->values);
    return s->values != NULL ? LRK_OK : lrki_fail_nomem(context, "a gradient start");
}

static void free_memory(start *s)
{
    lrk_context *context = context_of(s);
    int64_t n = s->sketch->adapters->n_modules;
    lrki_array_free(context, s->values, s->n_values, sizeof *s->values);
    lrki_array_free(context, s->usable, n, sizeof *s->usable);
    lrki_array_free(context, s->firsts, n, sizeof *s->firsts);
    lrki_start_close(&s->to);
}

static lrk_status make_plan(start *s, int64_t step, lrk_plan **out)
{
    lrk_plan *plan = NULL;
    const lrki_rules rules = rules_of(&s->options);
    lrk_status status = take_memory(s);
    if (status == LRK_OK) status = lrki_start_open(s->sketch->adapters, &rules, s->n_values, &s->to);
    if (status == LRK_OK) status = lrki_start_budget(&s->to, s->options.budget, s->options.multiple);
    if (status == LRK_OK) status = find_values(s);
    if (status == LRK_OK) status = lrki_start_take(&s->to);
    if (status == LRK_OK) status = lrki_start_plan(&s->to, step, &plan);
    if (status == LRK_OK && !(s->options.flags & LRK_GRADIENT_START_RANKS_ONLY)) status = give_rows(s, plan);
    return lrki_start_finish(&s->to, status, plan, out);
}

static lrk_status start_with(start *s, const lrk_gradient_start_options *given, int64_t step, lrk_plan **plan)
{
    lrk_context *context = s->sketch->adapters->context;
    lrk_gradient_start_options_init(&s->options, sizeof s->options);
    lrk_status status = lrki_struct_read(context, &s->options, sizeof s->options, given, 2 * sizeof(uint32_t),
                                         "lrk_gradient_start_options");
    if (status == LRK_OK) status = check_options(context, &s->options);
    if (status == LRK_OK) status = lrki_sketch_check_idle(s->sketch, "lrk_gradient_start_plan");
    if (status != LRK_OK) return status;
    status = make_plan(s, step, plan);
    free_memory(s);
    return status;
}

lrk_status lrk_gradient_start_plan(const lrk_sketch *sketch, const lrk_gradient_start_options *given,
                                   int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    if (sketch == NULL) return LRK_ERR_ARGUMENT;
    lrk_adapters *adapters = sketch->adapters;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_gradient_start_plan");
    if (status != LRK_OK) return status;
    if (plan == NULL || step < 0)
        status = lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "plan must not be NULL, and step >= 0");
    start s = {.sketch = sketch};
    if (status == LRK_OK) status = start_with(&s, given, step, plan);
    const lrki_claim fed = lrki_sketch_claim(sketch);
    return lrki_plan_agree(adapters->context, "lrk_gradient_start_plan", status, &fed, plan);
}

/* ---- in a text ----------------------------------------------------------------------------------------------------- */

#define KEY(...) LRKI_KEY(lrk_gradient_start_options, "start", __VA_ARGS__)
static const lrki_key keys[] = {KEY("multiple", REAL, multiple, ),
                                KEY("cap", INTEGER, cap, ),
                                KEY("length", REAL, length, ),
                                KEY("tolerate", FLAG, flags, .bit = LRK_GRADIENT_START_TOLERATE),
                                KEY("ranks_only", FLAG, flags, .bit = LRK_GRADIENT_START_RANKS_ONLY),
                                {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_gradient_start_options_init(options, sizeof(lrk_gradient_start_options));
}

static double multiple_of(const void *chosen)
{
    return ((const lrk_gradient_start_options *)chosen)->multiple;
}

static lrk_gradient_start_options with_terms(const lrki_start_terms *terms, const void *chosen)
{
    lrk_gradient_start_options options = *(const lrk_gradient_start_options *)chosen;
    options.budget = terms->budget;
    options.budget_unit = terms->budget_unit;
    options.limits = terms->limits;
    options.n_limits = terms->n_limits;
    return options;
}

static lrk_status check_chosen(lrk_context *context, const lrki_start_terms *terms, const void *chosen)
{
    lrk_gradient_start_options options = with_terms(terms, chosen);
    return check_options(context, &options);
}

static lrk_status plan_chosen(const lrki_start_terms *terms, const void *chosen, lrk_plan **plan)
{
    lrk_gradient_start_options options = with_terms(terms, chosen);
    return lrk_gradient_start_plan(terms->sketch, &options, terms->step, plan);
}

const lrki_start_kind lrki_start_gradient = {
    .method = {.summary = "ranks and A by the base model's gradient; asks for forward and backward",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_gradient_start_options),
               .init = init_chosen},
    .material = LRKI_START_OF_GRADIENTS,
    .multiple = multiple_of,
    .check = check_chosen,
    .plan = plan_chosen};
