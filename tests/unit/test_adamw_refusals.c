/* SPDX-License-Identifier: MIT */
/*
 * What AdamW refuses and how: gradients that are missing or not finite, steps out of place, options out of range;
 * nothing has changed afterwards.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "small_set.h"

enum { N_IN = 4, N_OUT = 3 };

static small_set s;
static lrk_optimizer *optimizer;
static lrk_adamw_options options;

static void setup(void)
{
    small_set_open_ranks(&s, 3, (const int64_t[]){3, 0, 2});
    ck_assert_int_eq(lrk_adamw_options_init(&options, sizeof options), LRK_OK);
    optimizer = NULL;
}

static void teardown(void)
{
    lrk_optimizer_destroy(optimizer);
    small_set_close(&s);
}

static void create(void)
{
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, &options, &optimizer), LRK_OK);
}

static double norm_of_gradients(void)
{
    double norm2 = 0;
    ck_assert_int_eq(lrk_adapters_gradient_norm2(s.adapters, &norm2), LRK_OK);
    return sqrt(norm2);
}

static void write_constant(float a, float b)
{
    for (int32_t m = 0; m < 3; m++) {
        lrk_tensor ga = small_set_tensor(&s, m, LRK_TENSOR_GRAD_A);
        lrk_tensor gb = small_set_tensor(&s, m, LRK_TENSOR_GRAD_B);
        for (int64_t i = 0; i < ga.rows * ga.cols; i++)
            ga.data[i] = a;
        for (int64_t i = 0; i < gb.rows * gb.cols; i++)
            gb.data[i] = b;
    }
    ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
}

static void open_with_flags(uint32_t flags)
{
    const small_module modules[] = {
        {N_IN, N_OUT, 2, 0, 0}, {N_IN, N_OUT, 2, 0, flags}, {N_IN, N_OUT, 0, 0, 0}};
    small_set_close(&s);
    small_set_open(&s, modules, 3, NULL);
    create();
}

/* One backward pass of one row through module 0 alone. */
static void backward_through_first(void)
{
    float x[N_IN] = {1, 2, 3, 4};
    float y[N_OUT] = {0};
    float dy[N_OUT] = {1, 1, 1};
    lrk_pass_options pass_options;
    lrk_pass *pass = NULL;
    ck_assert_int_eq(lrk_pass_options_init(&pass_options, sizeof pass_options), LRK_OK);
    pass_options.mode = LRK_PASS_TRAIN;
    pass_options.max_rows = 1;
    ck_assert_int_eq(lrk_pass_begin(s.adapters, &pass_options, &pass), LRK_OK);
    const int32_t module = 0;
    const lrk_matrix in = {.struct_size = sizeof in, .data = x, .rows = 1, .cols = N_IN, .ld = N_IN};
    const lrk_matrix back = {.struct_size = sizeof back, .data = dy, .rows = 1, .cols = N_OUT, .ld = N_OUT};
    const lrk_matrix_mut out = {.struct_size = sizeof out, .data = y, .rows = 1, .cols = N_OUT, .ld = N_OUT};
    ck_assert_int_eq(lrk_forward(pass, &module, 1, &in, &out, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_backward(pass, &module, 1, &in, NULL, 0, &back, NULL), LRK_OK);
    lrk_pass_end(pass);
}

START_TEST(a_module_without_gradient_is_named)
{
    open_with_flags(0);
    backward_through_first();
    float before = small_set_tensor(&s, 0, LRK_TENSOR_A).data[0];
    small_set_assert_failed(s.context, lrk_optimizer_step(optimizer, 0.1), LRK_ERR_NO_GRADIENT,
                            "'m1' got no gradient since the last step: no lrk_backward()");
    ck_assert_float_eq(small_set_tensor(&s, 0, LRK_TENSOR_A).data[0], before);
    ck_assert_int_eq(small_set_info(optimizer).steps, 0);
    ck_assert_double_gt(norm_of_gradients(), 0);
}
END_TEST

START_TEST(a_module_that_may_lack_a_gradient_is_left_as_it_is)
{
    const int64_t *steps;
    int64_t n;
    open_with_flags(LRK_MODULE_MAY_LACK_GRADIENT);
    options.weight_decay = 0.1;
    lrk_optimizer_destroy(optimizer);
    create();
    float before = small_set_tensor(&s, 1, LRK_TENSOR_A).data[0];
    backward_through_first();
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    ck_assert_float_eq(small_set_tensor(&s, 1, LRK_TENSOR_A).data[0], before);
    ck_assert_float_eq(small_set_moment(optimizer, 1, LRK_MOMENT_SECOND_A).data[0], 0);
    ck_assert_int_eq(lrk_optimizer_rank_steps(optimizer, 1, &steps, &n), LRK_OK);
    ck_assert_int_eq(steps[0], 0);
    ck_assert_int_eq(lrk_optimizer_rank_steps(optimizer, 0, &steps, &n), LRK_OK);
    ck_assert_int_eq(steps[0], 1);
}
END_TEST

START_TEST(a_gradient_that_is_not_finite_is_named_and_nothing_changes)
{
    const struct {
        int32_t module, tensor;
        int64_t at;
        float value;
        const char *words;
    } cases[] = {{0, LRK_TENSOR_GRAD_A, 0, NAN, "of A of module 'm0'"},
                 {0, LRK_TENSOR_GRAD_A, 3 * N_IN - 1, INFINITY, "of A of module 'm0'"},
                 {2, LRK_TENSOR_GRAD_B, 2 * N_OUT - 1, -INFINITY, "of B of module 'm2'"}};
    uint64_t random = 5;
    create();
    small_set_write_gradients(&s, &random);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    for (int i = 0; i < 3; i++) {
        small_set_write_gradients(&s, &random);
        small_set_tensor(&s, cases[i].module, cases[i].tensor).data[cases[i].at] = cases[i].value;
        lrk_optimizer_info before = small_set_info(optimizer);
        float w = small_set_tensor(&s, 0, LRK_TENSOR_A).data[1];
        float u = small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_A).data[1];
        float g = small_set_tensor(&s, 0, LRK_TENSOR_GRAD_A).data[1];
        small_set_assert_failed(s.context, lrk_optimizer_step(optimizer, 0.1), LRK_ERR_NONFINITE,
                                cases[i].words);
        ck_assert_float_eq(small_set_tensor(&s, 0, LRK_TENSOR_A).data[1], w);
        ck_assert_float_eq(small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_A).data[1], u);
        ck_assert_float_eq(small_set_tensor(&s, 0, LRK_TENSOR_GRAD_A).data[1], g);
        ck_assert_int_eq(small_set_info(optimizer).steps, before.steps);
        ck_assert_double_eq(small_set_info(optimizer).gradient_norm, before.gradient_norm);
    }
}
END_TEST

START_TEST(the_largest_floats_are_finite_gradients)
{
    create();
    write_constant(FLT_MAX, -FLT_MAX);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    ck_assert(isfinite(small_set_info(optimizer).gradient_norm));
    ck_assert(isfinite(small_set_tensor(&s, 0, LRK_TENSOR_A).data[0]));
    ck_assert_float_eq(small_set_moment(optimizer, 0, LRK_MOMENT_SECOND_A).data[0],
                       FLT_MAX); /* not infinity, for ever */
}
END_TEST

START_TEST(learning_rates_out_of_range_are_refused)
{
    const double bad[] = {-1e-9, NAN, INFINITY};
    create();
    write_constant(1, 1);
    for (int i = 0; i < 3; i++)
        small_set_assert_failed(s.context, lrk_optimizer_step(optimizer, bad[i]), LRK_ERR_ARGUMENT,
                                "learning rate");
    ck_assert_int_eq(lrk_optimizer_step(NULL, 0.1), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(small_set_info(optimizer).steps, 0);
}
END_TEST

START_TEST(a_step_under_an_open_pass_is_refused)
{
    lrk_pass_options pass_options;
    lrk_pass *pass = NULL;
    create();
    write_constant(1, 1);
    ck_assert_int_eq(lrk_pass_options_init(&pass_options, sizeof pass_options), LRK_OK);
    pass_options.max_rows = 1;
    ck_assert_int_eq(lrk_pass_begin(s.adapters, &pass_options, &pass), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_ERR_BUSY);
    lrk_pass_end(pass);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
}
END_TEST

static void assert_refused(const char *words)
{
    lrk_optimizer *none = (lrk_optimizer *)&s;
    small_set_assert_failed(s.context, lrk_optimizer_create_adamw(s.adapters, &options, &none),
                            LRK_ERR_ARGUMENT, words);
    ck_assert_ptr_null(none);
    ck_assert_int_eq(lrk_adamw_options_init(&options, sizeof options), LRK_OK);
}

static void refuse_each(double *member, const double *bad, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        *member = bad[i];
        assert_refused(name);
    }
}

START_TEST(options_out_of_range_are_refused_by_name)
{
    refuse_each(&options.beta1, (const double[]){-0.1, 1, NAN}, 3, "beta1");
    refuse_each(&options.beta2, (const double[]){-0.1, 1, NAN}, 3, "beta2");
    refuse_each(&options.epsilon, (const double[]){0, -1, NAN, INFINITY}, 4, "epsilon");
    refuse_each(&options.weight_decay, (const double[]){-1, NAN, INFINITY}, 3, "weight_decay");
    refuse_each(&options.b_ratio, (const double[]){0, -1, NAN, INFINITY}, 4, "b_ratio");
    refuse_each(&options.max_norm, (const double[]){0, -1, NAN}, 3, "max_norm");
    options.steps = 2;
    assert_refused("steps");
    options.gate_rule = 2;
    assert_refused("gate_rule");
    options.flags = 8;
    assert_refused("flags");
    options.struct_size = 4;
    assert_refused("struct_size");
}
END_TEST

START_TEST(shorter_options_leave_the_defaults_of_the_rest)
{
    options.beta1 = 0.5;
    options.beta2 = NAN; /* not read */
    options.struct_size = offsetof(lrk_adamw_options, beta2);
    create();
    write_constant(1, 1);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    ck_assert_float_eq(small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_A).data[0], 0.5f);
    ck_assert_double_eq_tol(small_set_moment(optimizer, 0, LRK_MOMENT_SECOND_A).data[0], 0.001,
                            0.001 * FLT_EPSILON / 2);
}
END_TEST

START_TEST(bad_calls_are_refused)
{
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    lrk_participant participant = {.struct_size = sizeof participant};
    const int64_t *steps;
    int64_t n;
    ck_assert_int_eq(lrk_optimizer_create_adamw(NULL, NULL, &optimizer), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_adamw_options_init(NULL, sizeof options), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, NULL, &optimizer), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_moment(NULL, 0, 0, &tensor), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_moment(optimizer, 3, 0, &tensor), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_moment(optimizer, 0, 4, &tensor), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_moment(optimizer, 0, -1, &tensor), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_moment(optimizer, 0, 0, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_rank_steps(NULL, 0, &steps, &n), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_rank_steps(optimizer, -1, &steps, &n), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_rank_steps(optimizer, 0, NULL, &n), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_rank_steps(optimizer, 0, &steps, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_info_get(NULL, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_info_get(optimizer, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_participant(NULL, &participant), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_participant(optimizer, NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_optimizer_realign(NULL), LRK_ERR_ARGUMENT);
    lrk_optimizer_destroy(NULL);
}
END_TEST

START_TEST(an_inference_only_set_has_no_optimizer)
{
    lrk_adapters_options set_options;
    lrk_optimizer *none = (lrk_optimizer *)&s;
    small_set_close(&s);
    ck_assert_int_eq(lrk_adapters_options_init(&set_options, sizeof set_options), LRK_OK);
    set_options.flags = LRK_ADAPTERS_INFERENCE;
    small_set_open(&s, (const small_module[]){{4, 3, 2, 0, 0}}, 1, &set_options);
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, NULL, &none), LRK_ERR_UNSUPPORTED);
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(the_optimizer_keeps_its_set_alive)
{
    create();
    lrk_adapters_destroy(s.adapters);
    s.adapters = NULL;
    ck_assert_int_eq(small_set_info(optimizer).steps, 0);
}
END_TEST

Suite *adamw_refusals_suite(void);

Suite *adamw_refusals_suite(void)
{
    Suite *suite = suite_create("adamw_refusals");
    TCase *tests = tcase_create("adamw_refusals");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_module_without_gradient_is_named);
    tcase_add_test(tests, a_module_that_may_lack_a_gradient_is_left_as_it_is);
    tcase_add_test(tests, a_gradient_that_is_not_finite_is_named_and_nothing_changes);
    tcase_add_test(tests, the_largest_floats_are_finite_gradients);
    tcase_add_test(tests, learning_rates_out_of_range_are_refused);
    tcase_add_test(tests, a_step_under_an_open_pass_is_refused);
    tcase_add_test(tests, options_out_of_range_are_refused_by_name);
    tcase_add_test(tests, shorter_options_leave_the_defaults_of_the_rest);
    tcase_add_test(tests, bad_calls_are_refused);
    tcase_add_test(tests, an_inference_only_set_has_no_optimizer);
    tcase_add_test(tests, the_optimizer_keeps_its_set_alive);
    suite_add_tcase(suite, tests);
    return suite;
}
