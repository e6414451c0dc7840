/* SPDX-License-Identifier: MIT */
/*
 * LoRA-GA and LoRA-One: rows of A and B from gradients of known spectrum, what is refused, and stacking, which takes a start off again.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "adapters/sketch.h"
#include "material.h"
#include "sets.h"
#include "sketch_rig.h"
#include "spectral.h"

#define N 2
#define K 6

static const shape shapes[N] = {{20, 16, 2, LRK_NO_GROUP, 0, 0.5}, {15, 15, 3, LRK_NO_GROUP, 1, 2.0}};
static const double spectra[N][K] = {{8, 7, 5, 3, 2, 1}, {9, 6, 4, 3, 2, 1}};

static fault host;
static lrk_context *context;
static lrk_adapters *set;
static lrk_sketch *sketch;
static padded x[N], dy[N]; /* x: right singular vectors, dy: left ones times values */
static lrk_gradient_init_options options;

static void setup(void)
{
    lrk_sketch_options o;
    fault_reset(&host);
    context = fault_context(&host);
    set = set_make(context, shapes, N, 0, 0);
    set_fill(set, 1);
    lrk_sketch_options_init(&o, sizeof o);
    o.directions = K;
    o.samples = 61; /* factored whole */
    sketch = sketch_make(set, &o);
    for (int32_t i = 0; i < N; i++) {
        spectral_rows(spectra[i], K, shapes[i].n_in, shapes[i].n_out, 3 + (uint64_t)i, &x[i], &dy[i]);
        ck_assert_int_eq(sketch_feed_one(set, sketch, i, &x[i], &dy[i]), LRK_OK);
    }
    ck_assert_int_eq(lrk_gradient_init_options_init(&options, sizeof options), LRK_OK);
}

static void teardown(void)
{
    for (int i = 0; i < N; i++) {
        padded_free(&x[i]);
        padded_free(&dy[i]);
    }
    lrk_sketch_destroy(sketch);
    lrk_adapters_destroy(set);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static void carry_out(void)
{
    lrk_plan *plan = NULL;
    ck_assert_int_eq(lrk_gradient_init_plan(sketch, &options, 4, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
    lrk_plan_destroy(plan);
}

/* Singular vectors have a sign together: that of the largest entry of the right one. */
static double sign_of(int32_t i, int64_t j)
{
    const float *row = x[i].data + j * x[i].ld;
    int64_t at = 0;
    for (int64_t c = 1; c < x[i].cols; c++)
        if (fabsf(row[c]) > fabsf(row[at])) at = c;
    return row[at] < 0 ? -1 : 1;
}

START_TEST(lora_ga_takes_right_vectors_and_the_next_left_ones)
{
    options.gamma = 9;
    carry_out();
    for (int32_t i = 0; i < N; i++) {
        int64_t r = shapes[i].rank, n_in = shapes[i].n_in, n_out = shapes[i].n_out;
        double c = pow((double)n_out, 0.25) / 3;
        lrk_tensor a = set_tensor(set, i, LRK_TENSOR_A), b = set_tensor(set, i, LRK_TENSOR_B);
        ck_assert_int_eq(a.rows, r);
        for (int64_t j = 0; j < r; j++) {
            for (int64_t k = 0; k < n_in; k++)
                ck_assert_double_eq_tol((double)a.data[j * n_in + k],
                                        c * sign_of(i, j) * (double)x[i].data[j * x[i].ld + k], 1e-5);
            for (int64_t k = 0; k < n_out; k++)
                ck_assert_double_eq_tol((double)b.data[j * n_out + k],
                                        c * sign_of(i, r + j) * (double)dy[i].data[(r + j) * dy[i].ld + k] /
                                            spectra[i][r + j],
                                        1e-5);
        }
    }
}
END_TEST

/* s B^T A is -s c^2 / S_1 times the best approximation of the gradient of rank r. */
START_TEST(lora_one_is_a_step_down_the_gradient)
{
    options.method = LRK_GRADIENT_INIT_LORA_ONE;
    carry_out();
    for (int32_t i = 0; i < N; i++) {
        int64_t r = shapes[i].rank, n_in = shapes[i].n_in, n_out = shapes[i].n_out;
        float delta[20 * 20];
        double factor = -shapes[i].scale * sqrt((double)n_out) / 16 / spectra[i][0];
        ck_assert_int_eq(lrk_adapters_delta(set, i, LRK_WEIGHT_OUT_IN, delta, n_in), LRK_OK);
        for (int64_t o = 0; o < n_out; o++)
            for (int64_t c = 0; c < n_in; c++) {
                double want = 0;
                for (int64_t t = 0; t < r; t++)
                    want +=
                        factor * (double)dy[i].data[t * dy[i].ld + o] * (double)x[i].data[t * x[i].ld + c];
                ck_assert_double_eq_tol((double)delta[o * n_in + c], want, 1e-5);
            }
    }
}
END_TEST

static uint64_t digest_now(void)
{
    uint64_t digest;
    lrk_plan *plan;
    ck_assert_int_eq(lrk_gradient_init_plan(sketch, &options, 4, &plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_digest(plan, &digest), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    lrk_plan_destroy(plan);
    return digest;
}

/* The gradient's negative: rows of A are the same, those of B are not. */
START_TEST(digests_tell_plans_apart_by_their_rows_of_b_too)
{
    options.method = LRK_GRADIENT_INIT_LORA_ONE;
    uint64_t one = digest_now();
    ck_assert_uint_eq(one, digest_now());
    ck_assert_int_eq(lrk_sketch_zero(sketch), LRK_OK);
    for (int32_t i = 0; i < N; i++) {
        for (int64_t t = 0; t < K; t++)
            for (int64_t c = 0; c < dy[i].cols; c++)
                dy[i].data[t * dy[i].ld + c] *= -1;
        ck_assert_int_eq(sketch_feed_one(set, sketch, i, &x[i], &dy[i]), LRK_OK);
    }
    ck_assert_uint_ne(one, digest_now());
}
END_TEST

static void refuse(lrk_status want, const char *words)
{
    lrk_plan *plan = (lrk_plan *)&host;
    sets_expect(context, lrk_gradient_init_plan(sketch, &options, 0, &plan), want, words);
    ck_assert_ptr_null(plan);
}

START_TEST(gradients_with_too_few_directions_are_refused)
{
    ck_assert_int_eq(lrk_sketch_zero(sketch), LRK_OK);
    refuse(LRK_ERR_NO_GRADIENT, "module 'm0': its gradient has 0 directions of the 4 that are taken");
    ck_assert_int_eq(sketch_feed_one(set, sketch, 0, &x[0], &dy[0]), LRK_OK);
    padded few_x = x[1], few_dy = dy[1];
    few_x.rows = few_dy.rows = 5;
    ck_assert_int_eq(sketch_feed_one(set, sketch, 1, &few_x, &few_dy), LRK_OK);
    refuse(LRK_ERR_NO_GRADIENT, "module 'm1': its gradient has 5 directions of the 6 that are taken");
    set->modules[1].flags = LRK_MODULE_MAY_LACK_GRADIENT; /* it begins as usual */
    carry_out();
    lrk_tensor b = set_tensor(set, 1, LRK_TENSOR_B);
    for (int64_t k = 0; k < b.rows * b.cols; k++)
        ck_assert_float_eq(b.data[k], 0);
    set->modules[1].flags = 0;
    options.method = LRK_GRADIENT_INIT_LORA_ONE; /* takes 3 */
    carry_out();
}
END_TEST

START_TEST(options_out_of_range_are_refused)
{
    const lrk_gradient_init_options good = options;
    lrk_plan *plan;
    options.gamma = 0;
    refuse(LRK_ERR_ARGUMENT, "gamma must be > 0");
    options.gamma = NAN;
    refuse(LRK_ERR_ARGUMENT, "gamma must be > 0");
    options = good, options.method = 2;
    refuse(LRK_ERR_ARGUMENT, "method");
    options = good, options.reserved = 1;
    refuse(LRK_ERR_ARGUMENT, "reserved");
    options = good;
    lrk_pass *pass = sketch_pass(set, sketch, 8);
    refuse(LRK_ERR_BUSY, "an open pass feeds the sketch");
    lrk_pass_end(pass);
    sets_expect(context, lrk_gradient_init_plan(sketch, &options, -1, &plan), LRK_ERR_ARGUMENT, "step >= 0");
    sets_expect(context, lrk_gradient_init_plan(sketch, &options, 0, NULL), LRK_ERR_ARGUMENT,
                "plan must not");
    ck_assert_int_eq(lrk_gradient_init_plan(NULL, &options, 0, &plan), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_gradient_init_options_init(NULL, 8), LRK_ERR_ARGUMENT);
}
END_TEST

static void *made;

static lrk_status act_plan(void *user)
{
    (void)user;
    return lrk_gradient_init_plan(sketch, &options, 0, (lrk_plan **)&made);
}

static void undo_plan(void *user)
{
    (void)user;
    ck_assert_int_eq(lrk_plan_abandon(made), LRK_OK);
    lrk_plan_destroy(made);
}

static lrk_status act_stack(void *user)
{
    return lrk_adapters_stack(set, user, -1, NULL, (lrk_adapters **)&made);
}

static void undo_stack(void *user)
{
    (void)user;
    lrk_adapters_destroy(made);
}

START_TEST(everything_unwinds_when_any_request_fails)
{
    sets_each_fault(&host, act_plan, undo_plan, NULL);
    lrk_adapters *other = set_make(context, shapes, N, 0, 0);
    sets_each_fault(&host, act_stack, undo_stack, other);
    lrk_adapters_destroy(other);
}
END_TEST

/* Other scales, gates and ranks; f32 products of 5 terms. */
START_TEST(stacked_sets_have_the_sum_of_their_deltas)
{
    shape others[N] = {shapes[0], shapes[1]};
    others[0].rank = 3, others[0].scale = -0.7, others[1].rank = 0;
    lrk_adapters *other = set_make(context, others, N, 0, 0), *stacked;
    set_fill(other, 9);
    for (int32_t sign = -1; sign <= 1; sign += 2) {
        ck_assert_int_eq(lrk_adapters_stack(set, other, sign, NULL, &stacked), LRK_OK);
        for (int32_t i = 0; i < N; i++) {
            float one[400], two[400], sum[400];
            int64_t n = shapes[i].n_in * shapes[i].n_out;
            ck_assert_int_eq(sets_rank(stacked, i), shapes[i].rank + others[i].rank);
            ck_assert_int_eq(lrk_adapters_delta(set, i, 0, one, shapes[i].n_in), LRK_OK);
            ck_assert_int_eq(lrk_adapters_delta(other, i, 0, two, shapes[i].n_in), LRK_OK);
            ck_assert_int_eq(lrk_adapters_delta(stacked, i, 0, sum, shapes[i].n_in), LRK_OK);
            for (int64_t k = 0; k < n; k++)
                ck_assert_double_eq_tol((double)sum[k], (double)one[k] + sign * (double)two[k], 32 * 0x1p-22);
        }
        lrk_adapters_destroy(stacked);
    }
    sets_expect(context, lrk_adapters_stack(set, other, 0, NULL, &stacked), LRK_ERR_ARGUMENT,
                "sign not +1 or -1");
    sets_expect(context, lrk_adapters_stack(set, other, 1, NULL, NULL), LRK_ERR_ARGUMENT, "stacked is NULL");
    ck_assert_int_eq(lrk_adapters_stack(NULL, other, 1, NULL, &stacked), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_adapters_stack(set, NULL, 1, NULL, &stacked), LRK_ERR_ARGUMENT);
    set->modules[0].scale = 0;
    sets_expect(context, lrk_adapters_stack(set, other, 1, NULL, &stacked), LRK_ERR_ARGUMENT,
                "'m0': its scale is 0");
    set->modules[0].scale = 1;
    lrk_adapters_destroy(other);
    others[1].n_in = 14;
    other = set_make(context, others, N, 0, 0);
    sets_expect(context, lrk_adapters_stack(set, other, 1, NULL, &stacked), LRK_ERR_SHAPE,
                "'m1' has another shape");
    lrk_adapters_destroy(other);
    other = set_make(context, others, 1, 0, 0);
    sets_expect(context, lrk_adapters_stack(set, other, 1, NULL, &stacked), LRK_ERR_ARGUMENT,
                "2 and 1 modules");
    ck_assert_ptr_null(stacked);
    lrk_adapters_destroy(other);
    lrk_module_spec spec = sets_spec("other", 20, 16, 1);
    lrk_module_spec two[2] = {spec, sets_spec("m1", 15, 15, 1)};
    other = sets_create(context, two, 2, NULL);
    sets_expect(context, lrk_adapters_stack(set, other, 1, NULL, &stacked), LRK_ERR_ARGUMENT,
                "module 'm0' stands where the other set has 'other'");
    lrk_adapters_destroy(other);
}
END_TEST

Suite *gradient_init_suite(void);

Suite *gradient_init_suite(void)
{
    Suite *suite = suite_create("gradient_init");
    TCase *tests = tcase_create("gradient_init");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, lora_ga_takes_right_vectors_and_the_next_left_ones);
    tcase_add_test(tests, lora_one_is_a_step_down_the_gradient);
    tcase_add_test(tests, digests_tell_plans_apart_by_their_rows_of_b_too);
    tcase_add_test(tests, gradients_with_too_few_directions_are_refused);
    tcase_add_test(tests, options_out_of_range_are_refused);
    tcase_add_test(tests, everything_unwinds_when_any_request_fails);
    tcase_add_test(tests, stacked_sets_have_the_sum_of_their_deltas);
    suite_add_tcase(suite, tests);
    return suite;
}
