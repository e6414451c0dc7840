/* SPDX-License-Identifier: MIT */
/*
 * Directions of orthogonal ranks, at creation and in plans: at right angles to all rows before, of the documented length, the
 * drawn row's own side of the span, and the drawn row where no direction is left.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/core.h"
#include "small_set.h"

static small_set s;

static void teardown(void)
{
    small_set_close(&s);
}

static void open_orthogonal(int64_t n_in, int64_t rank)
{
    const small_module module = {.n_in = n_in, .n_out = 3, .rank = rank};
    lrk_adapters_options options;
    memset(&s, 0, sizeof s);
    lrk_adapters_options_init(&options, sizeof options);
    options.seed = 5;
    options.init = LRK_INIT_ORTHOGONAL;
    small_set_open(&s, &module, 1, &options);
}

static double dot(const float *x, const float *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/*
 * Rows are rounded to f32 once: of two unit rows at right angles, each element of each is off by half an ulp at most, so
 * that their product is off by no more than eps (|x|'|y|) <= eps |x| |y|, and a length by half of eps.
 */
static void assert_right_angles(const float *x, const float *y, int64_t n)
{
    double lengths = sqrt(dot(x, x, n) * dot(y, y, n));
    ck_assert_double_le(fabs(dot(x, y, n)), 1.01 * FLT_EPSILON * lengths);
}

static void assert_length(const float *x, int64_t n)
{
    ck_assert_double_le(fabs(sqrt(dot(x, x, n)) - 1 / sqrt(3.0)), FLT_EPSILON);
}

static void draw(uint64_t identity, float *row, int64_t n)
{
    lrki_stream stream = lrki_stream_make(5, LRKI_STREAM_INIT_A, identity, 0);
    lrki_stream_fill_uniform(&stream, (float)(1 / sqrt((double)n)), row, n);
}

START_TEST(initial_rows_are_at_right_angles)
{
    enum { N = 37, RANK = 9 };
    float drawn[N];
    open_orthogonal(N, RANK);
    lrk_tensor a = small_set_tensor(&s, 0, LRK_TENSOR_A);
    for (int64_t i = 0; i < RANK; i++) {
        assert_length(a.data + i * N, N);
        draw((uint64_t)i + 1, drawn, N);
        ck_assert_double_gt(dot(drawn, a.data + i * N, N), 0);
        for (int64_t j = 0; j < i; j++)
            assert_right_angles(a.data + i * N, a.data + j * N, N);
    }
    draw(1, drawn, N);
    double stretch = 1 / sqrt(3 * dot(drawn, drawn, N));
    for (int64_t k = 0; k < N; k++)
        ck_assert_double_le(fabs(a.data[k] - stretch * drawn[k]), FLT_EPSILON * fabs((double)a.data[k]));
}
END_TEST

START_TEST(rows_past_the_number_of_inputs_are_as_drawn)
{
    enum { N = 4, RANK = 6 };
    open_orthogonal(N, RANK);
    lrk_tensor a = small_set_tensor(&s, 0, LRK_TENSOR_A);
    for (int64_t i = 0; i < N; i++)
        assert_length(a.data + i * N, N);
    for (int64_t i = N; i < RANK; i++) {
        float drawn[N];
        draw((uint64_t)i + 1, drawn, N);
        ck_assert_mem_eq(drawn, a.data + i * N, sizeof drawn);
    }
}
END_TEST

START_TEST(modules_do_not_see_each_other)
{
    const small_module modules[] = {{.n_in = 3, .n_out = 3, .rank = 3}, {.n_in = 7, .n_out = 3, .rank = 2}};
    lrk_adapters_options options;
    float drawn[7];
    memset(&s, 0, sizeof s);
    lrk_adapters_options_init(&options, sizeof options);
    options.seed = 5;
    options.init = LRK_INIT_ORTHOGONAL;
    small_set_open(&s, modules, 2, &options);
    lrk_tensor a = small_set_tensor(&s, 1, LRK_TENSOR_A);
    draw(4, drawn, 7);
    double lengths = sqrt(dot(drawn, drawn, 7) * dot(a.data, a.data, 7));
    ck_assert_double_ge(dot(drawn, a.data, 7), (1 - FLT_EPSILON) * lengths);
    assert_right_angles(a.data, a.data + 7, 7);
}
END_TEST

static int32_t add_two(void *user, const lrk_policy_request *request)
{
    (void)user;
    request->add[0] = 2;
    return 0;
}

/* A plan that adds two ranks to two whose rows of A are these. */
static void grow(const float *first, const float *second, int64_t n)
{
    lrk_custom_policy policy;
    lrk_allocator *allocator = NULL;
    const double values[] = {1, 1};
    lrk_tensor a = small_set_tensor(&s, 0, LRK_TENSOR_A);
    memcpy(a.data, first, (size_t)n * sizeof(float));
    memcpy(a.data + n, second, (size_t)n * sizeof(float));
    ck_assert_int_eq(lrk_adapters_values_changed(s.adapters), LRK_OK);
    lrk_custom_policy_init(&policy, sizeof policy);
    policy.name = "two";
    policy.plan = add_two;
    policy.budget = 4;
    policy.new_rank_init = LRK_INIT_ORTHOGONAL;
    ck_assert_int_eq(lrk_allocator_create_custom(s.adapters, &policy, &allocator), LRK_OK);
    small_set_move(&s, allocator, 1, values, ".+2");
    lrk_allocator_destroy(allocator);
}

START_TEST(new_rows_leave_the_span_of_the_trained_ones)
{
    enum { N = 12 };
    float first[N], second[N];
    uint64_t random = 3;
    open_orthogonal(N, 2);
    for (int i = 0; i < N; i++) {
        first[i] = (float)(100 * small_random_real(&random));
        second[i] = first[i] + (float)(1e-3 * small_random_real(&random)); /* nearly parallel */
    }
    grow(first, second, N);
    lrk_tensor a = small_set_tensor(&s, 0, LRK_TENSOR_A);
    ck_assert_int_eq(a.rows, 4);
    ck_assert_mem_eq(a.data, first, sizeof first);
    ck_assert_mem_eq(a.data + N, second, sizeof second);
    for (int64_t i = 2; i < 4; i++) {
        assert_length(a.data + i * N, N);
        for (int64_t j = 0; j < i; j++)
            assert_right_angles(a.data + i * N, a.data + j * N, N);
    }
    lrk_tensor b = small_set_tensor(&s, 0, LRK_TENSOR_B);
    for (int64_t k = 0; k < 2 * b.cols; k++)
        ck_assert(b.data[2 * b.cols + k] == 0);
}
END_TEST

START_TEST(rows_that_are_zero_or_not_finite_span_nothing)
{
    enum { N = 5 };
    float first[N] = {0}, second[N] = {1, NAN, INFINITY, 0, 0};
    open_orthogonal(N, 2);
    grow(first, second, N);
    lrk_tensor a = small_set_tensor(&s, 0, LRK_TENSOR_A);
    assert_length(a.data + 2 * N, N);
    assert_length(a.data + 3 * N, N);
    assert_right_angles(a.data + 2 * N, a.data + 3 * N, N);
}
END_TEST

Suite *direction_suite(void);
Suite *direction_suite(void)
{
    Suite *suite = suite_create("direction");
    TCase *tests = tcase_create("direction");
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, initial_rows_are_at_right_angles);
    tcase_add_test(tests, rows_past_the_number_of_inputs_are_as_drawn);
    tcase_add_test(tests, modules_do_not_see_each_other);
    tcase_add_test(tests, new_rows_leave_the_span_of_the_trained_ones);
    tcase_add_test(tests, rows_that_are_zero_or_not_finite_span_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}
