/* SPDX-License-Identifier: MIT */
/*
 * Starts from a gradient in classification: behind a head of zeros there is none, which is refused with its reason; once the host has
 * trained the head for the steps that the configuration says, the starts find directions of every module's gradient, and training
 * from them goes below what the head alone reaches.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "configs.h"
#include "toy.h"

#define CAP  4
#define RATE 0.5

static toy *model;

static void setup(void)
{
    toy_shape shape = toy_default();
    shape.classes = 7; /* a trained head has 6 directions: above CAP */
    shape.rows = 48;
    shape.size = 0; /* B is 0, as adapters begin */
    shape.rank = 2;
    model = toy_create(&shape);
    memset(model->head, 0, (size_t)(shape.classes * shape.d) * sizeof *model->head);
}

static void teardown(void)
{
    toy_destroy(model);
}

static lrk_config *parse(const char *kind, int steps)
{
    char text[256];
    snprintf(text, sizeof text,
             "seed: 3\nstart: {kind: %s, warmup: %d, multiple: 1.5, cap: %d, directions: 6}\n"
             "allocation: {policy: fixed}\n",
             kind, steps, CAP);
    return configs_parse(model->context, text, NULL, 0);
}

/* One forward and backward with the adapters silent. Returns the loss. */
static double run_base(lrk_sketch *sketch)
{
    lrk_pass_options options;
    lrk_mask *none;
    ck_assert_int_eq(lrk_mask_create_none(model->adapters, &none), LRK_OK);
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.gradients = 0;
    options.mask = none;
    options.sketch = sketch;
    double loss = toy_run(model, options);
    lrk_mask_destroy(none);
    return loss;
}

/* What a host does: its head's warm-up, then the sketch. */
static lrk_status start(const lrk_config *config, lrk_sketch **sketch, lrk_plan **plan)
{
    int64_t batches = 0;
    for (int64_t i = 0; i < lrk_config_start_warmup(config); i++) {
        (void)run_base(NULL);
        toy_step_head(model, RATE);
    }
    configs_ok(model->context, lrk_config_create_sketch(config, model->adapters, sketch, &batches));
    (void)run_base(*sketch);
    return lrk_config_plan_start(config, *sketch, 0, plan);
}

START_TEST(a_head_of_zeros_is_refused_with_its_reason)
{
    static const char *const kinds[] = {"gradient", "lora_ga", "lora_one"};
    lrk_config *config = parse(kinds[_i], 0);
    lrk_sketch *sketch;
    lrk_plan *plan = (lrk_plan *)model;
    uint64_t before = sets_digest(model->adapters);
    ck_assert_int_eq(lrk_config_start_warmup(config), 0);
    lrk_status status = start(config, &sketch, &plan);
    sets_expect(model->context, status, LRK_ERR_NO_GRADIENT, _i == 0 ? "starts at zero" : "has 0 directions");
    ck_assert_ptr_null(plan);
    ck_assert_uint_eq(sets_digest(model->adapters), before);
    char text[512];
    lrk_context_error(model->context, text, sizeof text);
    lrk_module_info first = {.struct_size = sizeof first};
    ck_assert_int_eq(lrk_adapters_module(model->adapters, 0, &first), LRK_OK);
    ck_assert_msg(strstr(text, first.name) != NULL, "%s", text);
    lrk_sketch_destroy(sketch);
    lrk_config_destroy(config);
}
END_TEST

/* Every module has at least CAP directions of a gradient, and a start's first row lies along the first of them. */
static void expect_directions(const lrk_sketch *sketch)
{
    for (int32_t i = 0; i < 2 * model->shape.stages; i++) {
        double values[CAP], right[CAP * 16], dot = 0, norm2 = 0;
        int64_t found;
        ck_assert_int_eq(lrk_sketch_spectrum(sketch, i, CAP, values, right, NULL, &found), LRK_OK);
        ck_assert_msg(found >= CAP, "module %d has %lld directions", (int)i, (long long)found);
        lrk_tensor a = sets_tensor(model->adapters, i, LRK_TENSOR_A);
        if (a.rows == 0) continue;
        for (int64_t c = 0; c < a.cols; c++) {
            dot += (double)a.data[c] * right[c];
            norm2 += (double)a.data[c] * (double)a.data[c];
        }
        /* a row is the direction, rounded to f32, by a length */
        ck_assert_double_ge(fabs(dot) / sqrt(norm2), 1 - (double)a.cols * 0x1p-24);
    }
}

static double train_adapters(int steps)
{
    lrk_adamw_options options;
    lrk_optimizer *optimizer;
    double loss = 0;
    ck_assert_int_eq(lrk_adamw_options_init(&options, sizeof options), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_create_adamw(model->adapters, &options, &optimizer), LRK_OK);
    for (int i = 0; i < steps; i++) {
        loss = toy_train(model, (uint64_t)i);
        ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.02), LRK_OK);
    }
    lrk_optimizer_destroy(optimizer);
    return loss;
}

START_TEST(a_head_that_was_warmed_up_gives_every_module_its_directions)
{
    lrk_config *config = parse("gradient", 20);
    lrk_sketch *sketch;
    lrk_plan *plan = NULL;
    double at_zero = run_base(NULL);
    ck_assert_double_le(fabs(at_zero - log((double)model->shape.classes)), 1e-6); /* all classes alike */
    int64_t ranks = sets_info(model->adapters).ranks;
    configs_ok(model->context, start(config, &sketch, &plan));
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
    ck_assert_int_eq(sets_info(model->adapters).ranks, ranks * 3 / 2);
    expect_directions(sketch);
    double of_head = run_base(NULL);
    ck_assert_double_lt(of_head, at_zero);
    ck_assert(toy_train(model, 0) == of_head); /* B is 0: the base model */
    ck_assert_int_eq(lrk_adapters_zero_gradients(model->adapters), LRK_OK);
    ck_assert_double_lt(train_adapters(40), of_head);
    lrk_sketch_destroy(sketch);
    lrk_config_destroy(config);
}
END_TEST

START_TEST(warm_up_is_of_starts_from_gradients)
{
    static const char *const kinds[] = {"gradient", "lora_ga", "lora_one", "uniform",
                                        "eva",      "gelora",  "pissa"};
    for (int i = 0; i < 7; i++) {
        lrk_config *config = parse(kinds[i], 9);
        ck_assert_int_eq(lrk_config_start_warmup(config), i < 3 ? 9 : 0);
        lrk_config_destroy(config);
    }
    ck_assert_int_eq(lrk_config_start_warmup(NULL), 0);
}
END_TEST

Suite *head_warmup_suite(void)
{
    Suite *suite = suite_create("head_warmup");
    TCase *classes = tcase_create("classes");
    tcase_add_checked_fixture(classes, setup, teardown);
    tcase_add_loop_test(classes, a_head_of_zeros_is_refused_with_its_reason, 0, 3);
    tcase_add_test(classes, a_head_that_was_warmed_up_gives_every_module_its_directions);
    tcase_add_test(classes, warm_up_is_of_starts_from_gradients);
    suite_add_tcase(suite, classes);
    return suite;
}
