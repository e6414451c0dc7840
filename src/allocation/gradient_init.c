/* SPDX-License-Identifier: MIT */
/*
 * LoRA-GA and LoRA-One: rows of A and B from the sketch's factors, in the tasks that make them; what is wrong is looked for after.
 */
#include "lorank/gradient_init.h"

#include <math.h>
#include <string.h>

#include "../adapters/sketch.h"
#include "start.h"

#define GAMMA 16 /* of both published codes */

lrk_status lrk_gradient_init_options_init(lrk_gradient_init_options *options, size_t struct_size)
{
    const lrk_gradient_init_options defaults = {.method = LRK_GRADIENT_INIT_LORA_GA, .gamma = GAMMA};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

static lrk_status check_options(lrk_context *context, const lrk_gradient_init_options *options)
{
    const char *wrong = NULL;
    if (!(options->gamma > 0 && isfinite(options->gamma))) wrong = "gamma must be > 0";
    if (options->method < LRK_GRADIENT_INIT_LORA_GA || options->method > LRK_GRADIENT_INIT_LORA_ONE)
        wrong = "method must be one of LRK_GRADIENT_INIT_...";
    if (options->reserved != 0 || options->flags != 0) wrong = "flags and reserved must be 0";
    return wrong == NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "%s", wrong);
}

typedef struct rows {
    const lrk_sketch *sketch;
    const lrk_gradient_init_options *options;
    const lrki_start *start;
    lrk_plan *plan;
    int64_t *found; /* [n_modules] directions of the gradient */
} rows;

static int64_t needed(const rows *r, int32_t module)
{
    int64_t rank = r->plan->parts[module].n_added;
    return r->options->method == LRK_GRADIENT_INIT_LORA_GA ? 2 * rank : rank;
}

static void scale_row(const double *from, int64_t n, double factor, float *to)
{
    for (int64_t c = 0; c < n; c++)
        to[c] = (float)(factor * from[c]);
}

/* Rows of A and B of rank j. */
static void write_pair(const rows *r, const lrki_sketch_factors *f, int64_t rank, int64_t j, float *a,
                       float *b)
{
    double c = pow((double)f->n_out, 0.25) / sqrt(r->options->gamma);
    if (r->options->method == LRK_GRADIENT_INIT_LORA_GA) {
        scale_row(f->right + j * f->n_in, f->n_in, c, a);
        scale_row(f->left + (rank + j) * f->n_out, f->n_out, c, b);
        return;
    }
    c *= sqrt(f->values[j] / f->values[0]);
    scale_row(f->right + j * f->n_in, f->n_in, c, a);
    scale_row(f->left + j * f->n_out, f->n_out, -c, b);
}

static void write_rows(void *user, int32_t module, const lrki_sketch_factors *f)
{
    const rows *r = user;
    const lrki_part *part = &r->plan->parts[module];
    float *a = r->plan->rows + (r->plan->change_parts[module].added_a - r->plan->rows);
    float *b = r->plan->rows_b + (r->plan->change_parts[module].added_b - r->plan->rows_b);
    r->found[module] = f->found;
    bool enough = f->found >= needed(r, module);
    for (int64_t j = 0; j < part->n_added; j++) {
        if (enough)
            write_pair(r, f, part->n_added, j, a + j * f->n_in, b + j * f->n_out);
        else
            lrki_start_usual_row(r->start, module, part->added_ids[j], a + j * f->n_in);
    }
}

static lrk_status check_found(const rows *r)
{
    const lrk_adapters *set = r->sketch->adapters;
    for (int32_t i = 0; i < set->n_modules; i++) {
        bool may_lack = (set->modules[i].flags & LRK_MODULE_MAY_LACK_GRADIENT) != 0;
        if (may_lack || r->found[i] >= needed(r, i)) continue;
        return lrki_fail_at(
            set->context, LRK_ERR_NO_GRADIENT, (lrki_place){.module = i},
            "module '%s': its gradient has %lld directions of the %lld that are taken (the sketch holds "
            "%lld at most)",
            set->modules[i].name, (long long)r->found[i], (long long)needed(r, i),
            (long long)r->sketch->modules[i].directions);
    }
    return LRK_OK;
}

static lrk_status give_rows(rows *r)
{
    lrk_context *context = r->sketch->adapters->context;
    int64_t n = r->sketch->adapters->n_modules;
    if (lrki_plan_rows(r->plan) == NULL || lrki_plan_rows_b(r->plan) == NULL) return LRK_ERR_NOMEM;
    r->found = lrki_array(context, n, sizeof *r->found);
    if (r->found == NULL) return lrki_fail_nomem(context, "a start from a gradient");
    lrk_status status = lrki_sketch_each(r->sketch, 0, (int32_t)n, write_rows, r);
    if (status == LRK_OK) status = check_found(r);
    if (status == LRK_OK) lrki_plan_seal(r->plan);
    lrki_array_free(context, r->found, n, sizeof *r->found);
    return status;
}

static lrk_status make_plan(const lrk_sketch *sketch, const lrk_gradient_init_options *options, int64_t step,
                            lrk_plan **out)
{
    lrki_start start = {0};
    rows r = {.sketch = sketch, .options = options, .start = &start};
    const lrki_rules rules = {.name = "gradient_init"};
    lrk_status status = lrki_start_open(sketch->adapters, &rules, 0, &start);
    if (status == LRK_OK) lrki_start_keep(&start);
    if (status == LRK_OK) status = lrki_start_plan(&start, step, &r.plan);
    if (status == LRK_OK) status = give_rows(&r);
    if (start.allocator != NULL) status = lrki_start_finish(&start, status, r.plan, out);
    lrki_start_close(&start);
    return status;
}

static lrk_status start_with(const lrk_sketch *sketch, const lrk_gradient_init_options *given, int64_t step,
                             lrk_plan **plan)
{
    lrk_gradient_init_options options;
    lrk_context *context = sketch->adapters->context;
    if (plan == NULL || step < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "plan must not be NULL, and step >= 0");
    lrk_gradient_init_options_init(&options, sizeof options);
    lrk_status status = lrki_struct_read(context, &options, sizeof options, given, 2 * sizeof(uint32_t),
                                         "lrk_gradient_init_options");
    if (status == LRK_OK) status = check_options(context, &options);
    if (status == LRK_OK) status = lrki_sketch_check_idle(sketch, "lrk_gradient_init_plan");
    if (status == LRK_OK && sketch->adapters->n_ranks == 0)
        status = lrki_fail(context, LRK_ERR_BUDGET, "the set has no rank to begin");
    return status == LRK_OK ? make_plan(sketch, &options, step, plan) : status;
}

lrk_status lrk_gradient_init_plan(const lrk_sketch *sketch, const lrk_gradient_init_options *options,
                                  int64_t step, lrk_plan **plan)
{
    if (plan != NULL) *plan = NULL;
    if (sketch == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = lrki_adapters_enter(sketch->adapters, "lrk_gradient_init_plan");
    if (status != LRK_OK) return status;
    status = start_with(sketch, options, step, plan);
    const lrki_claim fed = lrki_sketch_claim(sketch);
    return lrki_plan_agree(sketch->adapters->context, "lrk_gradient_init_plan", status, &fed, plan);
}

/* ---- in a text ----------------------------------------------------------------------------------------------------- */

#define KEY(...) LRKI_KEY(lrk_gradient_init_options, "start", __VA_ARGS__)
static const lrki_key keys[] = {KEY("gamma", REAL, gamma, ), {.name = NULL}};
#undef KEY

static void init_chosen(void *options)
{
    (void)lrk_gradient_init_options_init(options, sizeof(lrk_gradient_init_options));
}

static lrk_status check_chosen(lrk_context *context, const lrki_start_terms *terms, const void *chosen)
{
    (void)terms;
    return check_options(context, chosen);
}

static lrk_status plan_of(const lrki_start_terms *terms, const void *chosen, int32_t method, lrk_plan **plan)
{
    lrk_gradient_init_options options = *(const lrk_gradient_init_options *)chosen;
    options.method = method;
    return lrk_gradient_init_plan(terms->sketch, &options, terms->step, plan);
}

static lrk_status plan_lora_ga(const lrki_start_terms *terms, const void *chosen, lrk_plan **plan)
{
    return plan_of(terms, chosen, LRK_GRADIENT_INIT_LORA_GA, plan);
}

static lrk_status plan_lora_one(const lrki_start_terms *terms, const void *chosen, lrk_plan **plan)
{
    return plan_of(terms, chosen, LRK_GRADIENT_INIT_LORA_ONE, plan);
}

const lrki_start_kind lrki_start_lora_ga = {
    .method = {.summary = "LoRA-GA: A and B by the base model's gradient; asks for forward and backward",
               .keys = keys,
               .size = LRKI_METHOD_SIZE(lrk_gradient_init_options),
               .init = init_chosen},
    .material = LRKI_START_OF_GRADIENTS,
    .subtracts = true,
    .check = check_chosen,
    .plan = plan_lora_ga};

const lrki_start_kind lrki_start_lora_one = {
    .method = {.summary = "LoRA-One: A and B by the base model's gradient; asks for forward and backward",
               .like = &lrki_start_lora_ga.method},
    .material = LRKI_START_OF_GRADIENTS,
    .plan = plan_lora_one};
