/* SPDX-License-Identifier: MIT */
/*
 * GoRA (lorank/gora.h): modules one after the other, since weights come one by one; a module's sums in the task that factors its sketch.
 */
#include "lorank/gora.h"

#include <math.h>
#include <string.h>

#include "../adapters/sketch.h"
#include "../kernels/dense.h"
#include "../kernels/lora.h"
#include "start.h"

#define DESCENT 0.05 /* gamma, as public code quotes the paper */
#define LEAST   0.5
#define MOST    4.0

lrk_status lrk_gora_options_init(lrk_gora_options *options, size_t struct_size)
{
    const lrk_gora_options defaults = {.descent = DESCENT, .least = LEAST, .most = MOST, .batches = 1};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrk_status check_options(lrk_context *context, const lrk_gora_options *options)
{
    const char *wrong = NULL;
    if (options->batches < 1) wrong = "batches must be >= 1";
    if (!(options->least >= 0 && options->least <= options->most)) wrong = "least must be in [0, most]";
    if (!(options->most >= 0 && options->most <= 1e6)) wrong = "most must be in [0, 1e6]";
    if (!(options->descent >= 0 && isfinite(options->descent))) wrong = "descent must be >= 0";
    if (options->flags != 0) wrong = "flags must be 0";
    return wrong == NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
}

typedef struct gora {
    const lrk_sketch *sketch;
    const lrk_gora_options *options;
    lrki_start start;
    lrk_plan *plan;
    double *importance; /* [n_modules] */
    /* Of the module at hand. */
    lrk_weight weight;
    int64_t rank;
    int64_t found;
    double *memory;
    int64_t doubles;
} gora;

static lrk_context *context_of(const gora *g)
{
    return g->sketch->adapters->context;
}

static lrk_status take_memory(gora *g, int64_t doubles)
{
    g->memory = lrki_array(context_of(g), doubles, sizeof *g->memory);
    g->doubles = doubles;
    return g->memory != NULL ? LRK_OK : lrki_fail_nomem(context_of(g), "a start from weights and gradients");
}

static void free_memory(gora *g)
{
    lrki_array_free(context_of(g), g->memory, g->doubles, sizeof *g->memory);
    g->memory = NULL;
}

/* ---- importances --------------------------------------------------------------------------------------------------- */

static void add_row(double *to, double factor, const double *row, int64_t n)
{
    for (int64_t c = 0; c < n; c++)
        to[c] += factor * row[c];
}

static void measure(void *user, int32_t module, const lrki_sketch_factors *f)
{
    gora *g = user;
    const lrk_weight *w = &g->weight;
    bool t = w->orientation == LRK_WEIGHT_IN_OUT;
    double sum = 0;
    for (int64_t o = 0; o < f->n_out; o++) {
        memset(g->memory, 0, (size_t)f->n_in * sizeof *g->memory);
        for (int64_t k = 0; k < f->found; k++)
            add_row(g->memory, f->values[k] * f->left[k * f->n_out + o], f->right + k * f->n_in, f->n_in);
        for (int64_t c = 0; c < f->n_in; c++)
            sum += fabs((double)w->data[t ? c * w->ld + o : o * w->ld + c] * g->memory[c]);
    }
    g->found = f->found;
    g->importance[module] = sum / ((double)f->n_out * (double)f->n_in);
}

static lrk_status measure_module(gora *g, int32_t i)
{
    const lrk_adapters *set = g->sketch->adapters;
    const lrki_module *m = &set->modules[i];
    if (g->start.round.slots[i].rank == 0) return LRK_OK;
    lrk_status status = lrki_start_weight(set, i, g->options->weight, g->options->user, &g->weight);
    if (status == LRK_OK) status = take_memory(g, m->n_in);
    if (status == LRK_OK) status = lrki_sketch_each(g->sketch, i, 1, measure, g);
    free_memory(g);
    if (status != LRK_OK || g->found > 0 || (m->flags & LRK_MODULE_MAY_LACK_GRADIENT) != 0) return status;
    return lrki_fail_at(set->context, LRK_ERR_NO_GRADIENT, (lrki_place){.module = i},
                        "module '%s': its gradient is 0", m->name);
}

/* ---- ranks --------------------------------------------------------------------------------------------------------- */

static double root_of(const lrki_module *m)
{
    return sqrt((double)m->n_in + (double)m->n_out);
}

static int64_t rank_of(const gora *g, int32_t i, double share)
{
    const lrki_module *m = &g->sketch->adapters->modules[i];
    const lrki_slot *slot = &g->start.round.slots[i];
    double r = (double)slot->rank, low = round(g->options->least * r), high = round(g->options->most * r);
    double rank = fmin(fmax(round(share / root_of(m)), low), high);
    rank = fmin(fmax(rank, (double)slot->floor), (double)lrki_smaller(m->n_in, m->n_out));
    return lrki_smaller((int64_t)rank, slot->ceiling);
}

static lrk_status choose(gora *g)
{
    const lrk_adapters *set = g->sketch->adapters;
    lrki_round *round = &g->start.round;
    double sum = 0, budget = 0;
    int64_t taken = 0;
    memset(round->drop, 1, (size_t)round->n_ranks);
    for (int32_t i = 0; i < set->n_modules; i++) {
        sum += g->importance[i];
        budget += root_of(&set->modules[i]) * (double)round->slots[i].rank;
    }
    if (!(sum > 0))
        return lrki_fail(set->context, LRK_ERR_NO_GRADIENT,
                         "the weights times their gradients are 0 in all modules");
    for (int32_t i = 0; i < set->n_modules; i++) {
        if (round->slots[i].rank > 0) round->add[i] = rank_of(g, i, budget * (g->importance[i] / sum));
        taken += round->add[i];
    }
    return taken > 0 ? LRK_OK : lrki_fail(set->context, LRK_ERR_BUDGET, "the caps leave no rank at all");
}

/* ---- rows ---------------------------------------------------------------------------------------------------------- */

/* With A^T = Q R: (A A^T)^-1 A G^T = R^-1 Q^T G^T, from the last row up. */
static void project(void *user, int32_t module, const lrki_sketch_factors *f)
{
    gora *g = user;
    const float *a = g->plan->change_parts[module].added_a;
    float *b = g->plan->rows_b + (g->plan->change_parts[module].added_b - g->plan->rows_b);
    int64_t r = g->rank, n_in = f->n_in, n_out = f->n_out;
    double *q = g->memory, *upper = q + n_in * r, *rows = upper + r * r, *scratch = rows + r * n_out;
    for (int64_t j = 0; j < r; j++)
        for (int64_t c = 0; c < n_in; c++)
            q[c * r + j] = (double)a[j * n_in + c];
    lrki_qr_in_task(n_in, r, q, upper, scratch);
    memset(rows, 0, (size_t)(r * n_out) * sizeof *rows);
    double factor = -g->options->descent * sqrt((double)n_in / (double)r) /
                    (g->sketch->adapters->modules[module].scale * (double)g->options->batches);
    for (int64_t j = r - 1; j >= 0; j--) {
        double *row = rows + j * n_out;
        for (int64_t k = 0; k < f->found; k++) {
            double dot = 0;
            for (int64_t c = 0; c < n_in; c++)
                dot += q[c * r + j] * f->right[k * n_in + c];
            add_row(row, dot * f->values[k], f->left + k * n_out, n_out);
        }
        for (int64_t l = j + 1; l < r; l++)
            add_row(row, -upper[j * r + l], rows + l * n_out, n_out);
        for (int64_t o = 0; o < n_out; o++) {
            row[o] /= upper[j * r + j];
            b[j * n_out + o] = (float)(factor * row[o]);
        }
    }
}

static lrk_status begin_module(gora *g, int32_t i)
{
    const lrk_adapters *set = g->sketch->adapters;
    const lrki_module *m = &set->modules[i];
    const lrki_part *part = &g->plan->parts[i];
    float *a = g->plan->rows + (g->plan->change_parts[i].added_a - g->plan->rows);
    int64_t r = g->rank = part->n_added, scratch = lrki_qr_scratch(m->n_in, r), doubles;
    for (int64_t j = 0; j < r; j++)
        lrki_start_usual_row(&g->start, i, part->added_ids[j], a + j * m->n_in);
    if (r == 0 || g->options->descent == 0) return LRK_OK;
    if (m->scale == 0)
        return lrki_fail_at(set->context, LRK_ERR_ARGUMENT, (lrki_place){.module = i},
                            "module '%s': its scale is 0", m->name);
    if (scratch < 0 || !lrki_mul(m->n_in + m->n_out + r, r, &doubles))
        return lrki_fail_at(set->context, LRK_ERR_SHAPE, (lrki_place){.module = i},
                            "module '%s': too large for LAPACK", m->name);
    lrk_status status = take_memory(g, doubles + scratch);
    if (status == LRK_OK) status = lrki_sketch_each(g->sketch, i, 1, project, g);
    free_memory(g);
    return status;
}

/* ---- the plan ------------------------------------------------------------------------------------------------------ */

static lrk_status fill(gora *g, int64_t step)
{
    lrk_status status = LRK_OK;
    int64_t n = g->sketch->adapters->n_modules;
    g->importance = lrki_array(context_of(g), n, sizeof *g->importance);
    if (g->importance == NULL) return lrki_fail_nomem(context_of(g), "a start from weights and gradients");
    memset(g->importance, 0, (size_t)n * sizeof *g->importance);
    for (int32_t i = 0; i < n && status == LRK_OK; i++)
        status = measure_module(g, i);
    if (status == LRK_OK) status = choose(g);
    if (status == LRK_OK) status = lrki_start_plan(&g->start, step, &g->plan);
    if (status == LRK_OK && (lrki_plan_rows(g->plan) == NULL || lrki_plan_rows_b(g->plan) == NULL))
        status = LRK_ERR_NOMEM;
    for (int32_t i = 0; i < n && status == LRK_OK; i++)
        status = begin_module(g, i);
    if (status == LRK_OK) lrki_plan_seal(g->plan);
    return status;
}

static lrk_status make_plan(gora *g, int64_t step, lrk_plan **out)
{
    const lrki_rules rules = {.name = "gora", .limits = g->options->limits, .n_limits = g->options->n_limits};
    lrk_status status = lrki_rules_check(context_of(g), &rules);
    if (status == LRK_OK) status = lrki_start_open(g->sketch->adapters, &rules, 0, &g->start);
    if (status == LRK_OK) status = fill(g, step);
    if (g->start.allocator != NULL) status = lrki_start_finish(&g->start, status, g->plan, out);
    lrki_array_free(context_of(g), g->importance, g->sketch->adapters->n_modules, sizeof *g->importance);
    lrki_start_close(&g->start);
    return status;
}

static lrk_status start_with(const lrk_sketch *sketch, const lrk_gora_options *given, int64_t step,
                             lrk_plan **plan)
{
    lrk_gora_options options;
    lrk_context *context = sketch->adapters->context;
    if (plan == NULL || given == NULL || step < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "plan and options must not be NULL, and step >= 0");
    lrk_gora_options_init(&options, sizeof options);
    lrk_status status =
        lrki_struct_read(context, &options, sizeof options, given, 2 * sizeof(uint32_t), "lrk_gora_options");
    if (status == LRK_OK) status = check_options(context, &options);
    if (status == LRK_OK && options.weight == NULL)
        status = lrki_fail(context, LRK_ERR_ARGUMENT, "weight must not be NULL");
    if (status == LRK_OK) status = lrki_sketch_check_idle(sketch, "lrk_gora_plan");
    if (status == LRK_OK && sketch->adapters->n_ranks == 0)
        status = lrki_fail(context, LRK_ERR_BUDGET, "the set has no rank to begin");
    gora g = {.sketch = sketch, .options = &options};
    return status == LRK_OK ? make_plan(&g, step, plan) : status;
}

lrk_status lrk_gora_plan(const lrk_sketch *sketch, const lrk_gora_options *options, int64_t step,
                         lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    if (sketch == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = lrki_adapters_enter(sketch->adapters, "lrk_gora_plan");
    if (status != LRK_OK) return status;
    status = start_with(sketch, options, step, plan);
    const lrki_claim fed = lrki_sketch_claim(sketch);
    return lrki_plan_agree(sketch->adapters->context, "lrk_gora_plan", status, &fed, plan);
}

/* ---- in a text ----------------------------------------------------------------------------------------------------- */

#define KEY(...) LRKI_KEY(lrk_gora_options, "start", __VA_ARGS__)
static const lrki_key keys[] = {
    KEY("descent", REAL, descent, ), KEY("least", REAL, least, ), KEY("most", REAL, most, ), {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_gora_options_init(options, sizeof(lrk_gora_options));
}

static lrk_status check_chosen(lrk_context *context, const lrki_start_terms *terms, const void *chosen)
{
    (void)terms;
    return check_options(context, chosen);
}

static lrk_status plan_chosen(const lrki_start_terms *terms, const void *chosen, lrk_plan **plan)
{
    lrk_gora_options options = *(const lrk_gora_options *)chosen;
    options.batches = terms->batches;
    options.limits = terms->limits;
    options.n_limits = terms->n_limits;
    options.weight = terms->weight;
    options.user = terms->user;
    return lrk_gora_plan(terms->sketch, &options, terms->step, plan);
}

const lrki_start_kind lrki_start_gora = {
    .method = {.summary = "GoRA: ranks and B by gradients and weights; asks for forward and backward",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_gora_options),
               .init = init_chosen},
    .material = LRKI_START_OF_GRADIENTS,
    .check = check_chosen,
    .plan = plan_chosen};
