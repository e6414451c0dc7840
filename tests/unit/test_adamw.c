/* SPDX-License-Identifier: MIT */
/*
 * AdamW's step: against a double-precision transcription in the order of operations of torch.optim.AdamW, within a bound
 * that the transcription carries along; options, clipping, refusals that change nothing. Moments across rank changes
 * are in test_moments.c.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "small_set.h"

enum { N_IN = 4, N_OUT = 3, STEPS = 50 };

static const double UNIT = FLT_EPSILON / 2; /* of a float rounded to nearest */

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

/* ---- the oracle ------------------------------------------------------------------------------------------------------------- */

/* One element in double, with bounds of how far the library's floats may be from it. */
typedef struct element {
    double w, u, v;    /* parameter, moments            */
    double ew, eu, ev; /* bounds of their errors        */
} element;

/*
 * One step in torch.optim.AdamW's order: decay the weight, then w -= lr / c1 * u / (sqrt(v) / sqrt(c2) + eps).
 * The library stores u, v and w in float (relative error UNIT each) and uses the moments of the step unrounded; errors
 * of its double arithmetic are covered by SLACK, far above their few ulps.
 */
static void oracle_step(element *e, const lrk_adamw_options *o, double lr, double k, double d)
{
    const double SLACK = 1e-13;
    double c1 = 1 - pow(o->beta1, k);
    double c2 = 1 - pow(o->beta2, k);
    e->w *= 1 - lr * o->weight_decay;
    e->ew *= fabs(1 - lr * o->weight_decay);
    e->u = e->u + (1 - o->beta1) * (d - e->u);
    e->v = o->beta2 * e->v + (1 - o->beta2) * d * d;
    double eu = o->beta1 * e->eu + SLACK * (fabs(e->u) + fabs(d));
    double ev = o->beta2 * e->ev + SLACK * e->v;
    double low = sqrt(fmax(0, e->v - ev)) / sqrt(c2) + o->epsilon;
    double high = sqrt(e->v + ev) / sqrt(c2) + o->epsilon;
    double most = (fabs(e->u) + eu) / c1 / low;
    double least = (fabs(e->u) - eu) / c1 / (fabs(e->u) < eu ? low : high);
    e->w -= lr / c1 * e->u / (sqrt(e->v) / sqrt(c2) + o->epsilon);
    e->ew += lr * (most - least) * (1 + SLACK);
    e->ew += (UNIT + SLACK) * (fabs(e->w) + e->ew);
    e->eu = eu + UNIT * (fabs(e->u) + eu);
    e->ev = ev + UNIT * (e->v + ev);
}

typedef struct oracle {
    element a[3][3 * N_IN];
    element b[3][3 * N_OUT];
} oracle;

static void oracle_open(oracle *o)
{
    memset(o, 0, sizeof *o);
    for (int32_t m = 0; m < 3; m++) {
        lrk_tensor a = small_set_tensor(&s, m, LRK_TENSOR_A);
        lrk_tensor b = small_set_tensor(&s, m, LRK_TENSOR_B);
        for (int64_t i = 0; i < a.rows * a.cols; i++)
            o->a[m][i].w = a.data[i];
        for (int64_t i = 0; i < b.rows * b.cols; i++)
            o->b[m][i].w = b.data[i];
    }
}

static double norm_of_gradients(void)
{
    double norm2 = 0;
    ck_assert_int_eq(lrk_adapters_gradient_norm2(s.adapters, &norm2), LRK_OK);
    return sqrt(norm2);
}

static void oracle_all(oracle *o, double lr, double k)
{
    double norm = norm_of_gradients();
    double clip = norm > options.max_norm ? options.max_norm / norm : 1;
    for (int32_t m = 0; m < 3; m++) {
        lrk_tensor a = small_set_tensor(&s, m, LRK_TENSOR_GRAD_A);
        lrk_tensor b = small_set_tensor(&s, m, LRK_TENSOR_GRAD_B);
        for (int64_t i = 0; i < a.rows * a.cols; i++)
            oracle_step(&o->a[m][i], &options, lr, k, clip * a.data[i]);
        for (int64_t i = 0; i < b.rows * b.cols; i++)
            oracle_step(&o->b[m][i], &options, lr * options.b_ratio, k, clip * b.data[i]);
    }
}

static void assert_near(const element *e, const lrk_tensor *w, const lrk_tensor *u, const lrk_tensor *v)
{
    for (int64_t i = 0; i < w->rows * w->cols; i++) {
        ck_assert_double_le(fabs(w->data[i] - e[i].w), e[i].ew);
        ck_assert_double_le(fabs(u->data[i] - e[i].u), e[i].eu);
        ck_assert_double_le(fabs(v->data[i] - e[i].v), e[i].ev);
        ck_assert_double_lt(e[i].ew, 1e-4); /* the bound says something: parameters have moved by far more */
    }
}

static void assert_within_bounds(const oracle *o)
{
    for (int32_t m = 0; m < 3; m++) {
        lrk_tensor w = small_set_tensor(&s, m, LRK_TENSOR_A);
        lrk_tensor u = small_set_moment(optimizer, m, LRK_MOMENT_FIRST_A);
        lrk_tensor v = small_set_moment(optimizer, m, LRK_MOMENT_SECOND_A);
        assert_near(o->a[m], &w, &u, &v);
        w = small_set_tensor(&s, m, LRK_TENSOR_B);
        u = small_set_moment(optimizer, m, LRK_MOMENT_FIRST_B);
        v = small_set_moment(optimizer, m, LRK_MOMENT_SECOND_B);
        assert_near(o->b[m], &w, &u, &v);
    }
}

static void set_case(int which)
{
    options.weight_decay = which == 1 ? 0.1 : 0;
    options.b_ratio = which == 2 ? 4 : 1;
    options.max_norm = which == 3 ? 0.5 : INFINITY;
    options.beta1 = which == 4 ? 0 : 0.9;
    options.beta2 = which == 4 ? 0 : 0.999;
    options.epsilon = which == 5 ? 1e-2 : 1e-8;
}

START_TEST(fifty_steps_agree_with_the_oracle) /* _i: which option is not at its default */
{
    oracle o;
    uint64_t random = 7;
    set_case(_i);
    create();
    oracle_open(&o);
    float start = small_set_tensor(&s, 0, LRK_TENSOR_A).data[1];
    for (int k = 1; k <= STEPS; k++) {
        double lr = 0.01 / k;
        small_set_write_gradients(&s, &random);
        oracle_all(&o, lr, k);
        ck_assert_int_eq(lrk_optimizer_step(optimizer, lr), LRK_OK);
        assert_within_bounds(&o);
    }
    ck_assert_double_gt(fabs(small_set_tensor(&s, 0, LRK_TENSOR_A).data[1] - start), 1e-3);
}
END_TEST

/* ---- by hand ----------------------------------------------------------------------------------------------------------------- */

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

START_TEST(the_first_step_moves_every_element_by_the_learning_rate)
{
    options.b_ratio = 3;
    create();
    write_constant(0.5f, -0.25f);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.125), LRK_OK);
    lrk_tensor b = small_set_tensor(&s, 0, LRK_TENSOR_B);
    for (int64_t i = 0; i < b.rows * b.cols;
         i++) /* 0 + 3/8 * 0.25 / (0.25 + 1e-8): the next float below 3/8 at most */
        ck_assert_double_eq_tol(b.data[i], 0.375 * 0.25 / (0.25 + 1e-8), UNIT * 0.375);
    lrk_tensor u = small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_A);
    lrk_tensor v = small_set_moment(optimizer, 2, LRK_MOMENT_SECOND_B);
    ck_assert_double_eq_tol(u.data[0], 0.05, UNIT * 0.05);
    ck_assert_double_eq_tol(v.data[0], 0.001 * 0.0625, UNIT * 0.001 * 0.0625);
}
END_TEST

START_TEST(decay_alone_shrinks_weights_by_its_share)
{
    options.weight_decay = 0.5;
    create();
    lrk_tensor a = small_set_tensor(&s, 0, LRK_TENSOR_A);
    float before = a.data[0];
    write_constant(0, 0);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.25), LRK_OK);
    ck_assert_float_eq(a.data[0], before * 0.875f); /* exact: 7/8 of a float, rounded once in either */
}
END_TEST

START_TEST(a_step_clears_gradients_and_counts)
{
    create();
    ck_assert(isnan(small_set_info(optimizer).gradient_norm));
    lrk_adapters_info before = {.struct_size = sizeof before};
    lrk_adapters_info after = {.struct_size = sizeof after};
    ck_assert_int_eq(lrk_adapters_info_get(s.adapters, &before), LRK_OK);
    write_constant(2, 1);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    ck_assert_int_eq(lrk_adapters_info_get(s.adapters, &after), LRK_OK);
    ck_assert_uint_gt(after.values_version, before.values_version);
    ck_assert_uint_eq(after.generation, before.generation);
    ck_assert_double_eq(norm_of_gradients(), 0);
    ck_assert_int_eq(small_set_info(optimizer).steps, 1);
    ck_assert_double_eq_tol(small_set_info(optimizer).gradient_norm, sqrt(5 * (4 * 4.0 + 3 * 1.0)), 1e-13);
    const int64_t *steps;
    int64_t n;
    ck_assert_int_eq(lrk_optimizer_rank_steps(optimizer, 2, &steps, &n), LRK_OK);
    ck_assert_int_eq(n, 2);
    ck_assert_int_eq(steps[0], 1);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_ERR_NO_GRADIENT);
}
END_TEST

START_TEST(clipping_scales_to_the_norm_and_leaves_smaller_ones)
{
    options.max_norm = 4;
    create();
    write_constant(3, 3); /* norm 3 sqrt(35) */
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    double scaled = 4 / sqrt(35);
    ck_assert_double_eq_tol(small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_A).data[0], 0.1 * scaled,
                            0.1 * scaled * 2 * UNIT);
    ck_assert_double_eq_tol(small_set_info(optimizer).gradient_norm, 3 * sqrt(35), 1e-13);
    float before = small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_A).data[0];
    write_constant(0.5f, 0.5f); /* norm 2.96 */
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    double expected = 0.9 * before + 0.05;
    ck_assert_double_eq_tol(small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_A).data[0], expected,
                            expected * 2 * UNIT);
}
END_TEST

START_TEST(a_learning_rate_of_zero_moves_moments_only)
{
    create();
    float before = small_set_tensor(&s, 0, LRK_TENSOR_A).data[0];
    write_constant(1, 1);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0), LRK_OK);
    ck_assert_float_eq(small_set_tensor(&s, 0, LRK_TENSOR_A).data[0], before);
    ck_assert_float_ne(small_set_moment(optimizer, 0, LRK_MOMENT_FIRST_A).data[0], 0);
}
END_TEST

/* ---- determinism --------------------------------------------------------------------------------------------------------------- */

static void train(int32_t threads, int64_t failing_loop, float *a, size_t size)
{
    uint64_t random = 3;
    setup();
    s.host.threads = threads;
    options.max_norm = 1;
    options.weight_decay = 0.1;
    create();
    s.host.loop = (fault_counter){.fail_at = failing_loop};
    for (int k = 0; k < 5; k++) {
        small_set_write_gradients(&s, &random);
        ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.01), LRK_OK);
    }
    ck_assert_uint_eq(size, (size_t)(3 * N_IN) * sizeof *a);
    memcpy(a, small_set_tensor(&s, 0, LRK_TENSOR_A).data, size);
    teardown();
}

START_TEST(threads_and_failing_loops_change_no_bit)
{
    float once[3 * N_IN];
    float again[3 * N_IN];
    teardown();
    train(1, -1, once, sizeof once);
    train(4, -1, again, sizeof again);
    ck_assert_mem_eq(once, again, sizeof once);
    for (int64_t i = 0; i < 10; i++) { /* two loops a step */
        train(2, i, again, sizeof again);
        ck_assert_mem_eq(once, again, sizeof once);
    }
    setup();
}
END_TEST

START_TEST(a_failing_loop_is_logged)
{
    create();
    write_constant(1, 1);
    s.host.loop = (fault_counter){.fail_at = 1};
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    ck_assert_ptr_nonnull(strstr(s.host.log, "1: the host's parallel_for failed"));
    ck_assert_int_eq(small_set_info(optimizer).steps, 1);
}
END_TEST

/* Leaves every odd task out, carries the rest out twice, and says that all went well. */
static int32_t careless_loop(void *user, int64_t n, void (*task)(void *data, int64_t index), void *data)
{
    (void)user;
    for (int64_t i = 0; i < 2 * n; i++)
        if (i % n % 2 == 0) task(data, i % n);
    return 0;
}

START_TEST(a_careless_loop_changes_no_bit)
{
    static const int64_t ranks[] = {1, 2, 3};
    lrk_host host = fault_host(&s.host);
    host.parallel_for = careless_loop;
    float values[2][64];
    for (int careless = 0; careless < 2; careless++) {
        lrk_context *context = s.context;
        if (careless) ck_assert_int_eq(lrk_context_create(&host, &context, NULL, 0), LRK_OK);
        lrk_module_spec specs[3];
        static const char *const names[] = {"m0", "m1", "m2"};
        for (int i = 0; i < 3; i++) {
            ck_assert_int_eq(lrk_module_spec_init(&specs[i], sizeof specs[i]), LRK_OK);
            specs[i].name = names[i];
            specs[i].n_in = 4;
            specs[i].n_out = 3;
            specs[i].rank = ranks[i];
        }
        lrk_adapters *set;
        lrk_optimizer *adamw;
        lrk_segment flat[3] = {{.struct_size = sizeof flat[0]}};
        int64_t n, used = 0;
        ck_assert_int_eq(lrk_adapters_create(context, specs, 3, NULL, &set), LRK_OK);
        ck_assert_int_eq(lrk_optimizer_create_adamw(set, NULL, &adamw), LRK_OK);
        ck_assert_int_eq(lrk_adapters_flat(set, LRK_FLAT_GRADIENTS, flat, 3, &n), LRK_OK);
        for (int64_t i = 0; i < n; i++)
            flat[i].data[0] = 1.0f;
        ck_assert_int_eq(lrk_adapters_gradients_written(set), LRK_OK);
        ck_assert_int_eq(lrk_optimizer_step(adamw, 0.1), LRK_OK);
        ck_assert_int_eq(lrk_adapters_flat(set, LRK_FLAT_PARAMETERS, flat, 3, &n), LRK_OK);
        for (int64_t i = 0; i < n; used += flat[i++].count)
            memcpy(values[careless] + used, flat[i].data, (size_t)flat[i].count * sizeof(float));
        ck_assert_int_eq(used, 42);
        lrk_optimizer_destroy(adamw);
        lrk_adapters_destroy(set);
        if (careless) lrk_context_destroy(context);
    }
    ck_assert_mem_eq(values[0], values[1], 42 * sizeof(float));
}
END_TEST

START_TEST(a_step_takes_no_memory)
{
    create();
    write_constant(1, 1);
    s.host.alloc = (fault_counter){.fail_at = 0, .sticky = true};
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    ck_assert_int_eq(s.host.alloc.calls, 0);
    s.host.alloc.fail_at = -1;
}
END_TEST

Suite *adamw_suite(void);

Suite *adamw_suite(void)
{
    Suite *suite = suite_create("adamw");
    TCase *tests = tcase_create("adamw");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, fifty_steps_agree_with_the_oracle, 0, 6);
    tcase_add_test(tests, the_first_step_moves_every_element_by_the_learning_rate);
    tcase_add_test(tests, decay_alone_shrinks_weights_by_its_share);
    tcase_add_test(tests, a_step_clears_gradients_and_counts);
    tcase_add_test(tests, clipping_scales_to_the_norm_and_leaves_smaller_ones);
    tcase_add_test(tests, a_learning_rate_of_zero_moves_moments_only);
    tcase_add_test(tests, threads_and_failing_loops_change_no_bit);
    tcase_add_test(tests, a_failing_loop_is_logged);
    tcase_add_test(tests, a_careless_loop_changes_no_bit);
    tcase_add_test(tests, a_step_takes_no_memory);
    suite_add_tcase(suite, tests);
    return suite;
}
