/* SPDX-License-Identifier: MIT */
/*
 * Spectra, distances and resizing against dense decompositions of the formed delta in double, and by their properties.
 * Bounds: the factorisations are backward stable in double, the parameters are f32: c n^1.5 eps ||delta|| for what is read
 * off, and 2^-24 relative to the factors for what is written as f32.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "kernels/dense.h"
#include "lorank/lorank.h"
#include "sets.h"

static fault host;
static lrk_context *context;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
}

static void teardown(void)
{
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

enum { N_MODULES = 6, MOST = 32 };

typedef struct shape {
    int64_t n_in;
    int64_t n_out;
    int64_t rank;
    double scale;
} shape;

/* Tall, wide, more ranks than rows or columns, rank 0, a scale below 0 and one of 0. */
static const shape shapes[N_MODULES] = {{20, 30, 4, 2},   {30, 7, 5, -0.5}, {3, 20, 6, 1},
                                        {20, 3, 6, 0.25}, {9, 9, 0, 1},     {6, 5, 2, 0}};

static lrk_adapters *make_set(uint64_t seed)
{
    static const char *const names[N_MODULES] = {"a", "b", "c", "d", "e", "f"};
    lrk_module_spec specs[N_MODULES];
    lrk_adapters_options options;
    lrk_adapters *set;
    for (int i = 0; i < N_MODULES; i++) {
        ck_assert_int_eq(lrk_module_spec_init(&specs[i], sizeof specs[i]), LRK_OK);
        specs[i].name = names[i];
        specs[i].n_in = shapes[i].n_in;
        specs[i].n_out = shapes[i].n_out;
        specs[i].rank = shapes[i].rank;
        specs[i].scale = shapes[i].scale;
    }
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.seed = seed;
    ck_assert_int_eq(lrk_adapters_create(context, specs, N_MODULES, &options, &set), LRK_OK);
    uint64_t state = seed;
    for (int32_t i = 0; i < N_MODULES; i++)
        for (int32_t which = LRK_TENSOR_B; which <= LRK_TENSOR_GATES; which++) {
            lrk_tensor t = {.struct_size = sizeof t};
            ck_assert_int_eq(lrk_adapters_tensor(set, i, which, &t), LRK_OK);
            for (int64_t k = 0; k < t.rows * t.cols; k++) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                t.data[k] = (float)(int64_t)(state >> 40) * 0x1p-23f - 1;
            }
        }
    return set;
}

/* delta [n_out x n_in] by its formula. */
static void form(const lrk_adapters *set, int32_t module, double *delta)
{
    const shape *s = &shapes[module];
    const float *a = sets_tensor(set, module, LRK_TENSOR_A).data,
                *b = sets_tensor(set, module, LRK_TENSOR_B).data,
                *g = sets_tensor(set, module, LRK_TENSOR_GATES).data;
    int64_t rank = sets_rank(set, module);
    for (int64_t o = 0; o < s->n_out; o++)
        for (int64_t i = 0; i < s->n_in; i++) {
            double sum = 0;
            for (int64_t j = 0; j < rank; j++)
                sum += (double)b[j * s->n_out + o] * (double)g[j] * (double)a[j * s->n_in + i];
            delta[o * s->n_in + i] = s->scale * sum;
        }
}

static double norm(const double *values, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += values[i] * values[i];
    return sqrt(sum);
}

#define CLOSE(x, y, size)                                                                                    \
    ck_assert_double_le(fabs((x) - (y)), 8 * MOST * sqrt((double)MOST) * DBL_EPSILON * (size))

START_TEST(a_spectrum_is_that_of_the_formed_delta)
{
    double delta[MOST * MOST], wanted[MOST], values[MOST];
    lrk_adapters *set = make_set(1);
    for (int32_t m = 0; m < N_MODULES; m++) {
        int64_t rank = shapes[m].rank, rows = shapes[m].n_out, cols = shapes[m].n_in;
        int64_t least = rows < cols ? rows : cols;
        form(set, m, delta);
        ck_assert_int_eq(lrki_svd(context, rows, cols, delta, NULL, wanted, NULL), LRK_OK);
        ck_assert_int_eq(lrk_module_spectrum(set, m, values, rank), LRK_OK);
        for (int64_t j = 0; j < rank; j++)
            CLOSE(values[j], j < least ? wanted[j] : 0, wanted[0]);
    }
    lrk_adapters_destroy(set);
}
END_TEST

START_TEST(distances_are_those_of_formed_deltas)
{
    double x[MOST * MOST], y[MOST * MOST];
    lrk_adapters *a = make_set(1), *b = make_set(2);
    for (int32_t m = 0; m < N_MODULES; m++) {
        int64_t count = shapes[m].n_in * shapes[m].n_out;
        lrk_distance d = {.struct_size = sizeof d}, back = d, same = d;
        form(a, m, x);
        form(b, m, y);
        double size = norm(x, count) + norm(y, count);
        ck_assert_int_eq(lrk_module_distance(a, m, b, m, &d), LRK_OK);
        CLOSE(d.norm_a, norm(x, count), size);
        CLOSE(d.norm_b, norm(y, count), size);
        for (int64_t i = 0; i < count; i++)
            x[i] -= y[i];
        CLOSE(d.difference, norm(x, count), size);
        ck_assert_int_eq(lrk_module_distance(b, m, a, m, &back), LRK_OK);
        CLOSE(back.difference, d.difference, size);
        ck_assert_int_eq(lrk_module_distance(a, m, a, m, &same), LRK_OK);
        CLOSE(same.difference, 0, size);
    }
    lrk_adapters_destroy(a);
    lrk_adapters_destroy(b);
}
END_TEST

/* Squares would lose a difference of 1e-7: its square is 1e-14 of theirs. */
START_TEST(small_differences_are_not_lost)
{
    lrk_adapters *a = make_set(1), *b = make_set(1);
    float *one = sets_tensor(b, 0, LRK_TENSOR_B).data;
    double x[MOST * MOST], y[MOST * MOST];
    lrk_distance d = {.struct_size = sizeof d};
    one[3] = nextafterf(one[3], 9);
    form(a, 0, x);
    form(b, 0, y);
    for (int i = 0; i < 20 * 30; i++)
        x[i] -= y[i];
    double wanted = norm(x, 20 * 30);
    ck_assert(wanted > 0);
    ck_assert_int_eq(lrk_module_distance(a, 0, b, 0, &d), LRK_OK);
    ck_assert_double_le(fabs(d.difference - wanted), 1e-5 * wanted);
    lrk_adapters_destroy(a);
    lrk_adapters_destroy(b);
}
END_TEST

START_TEST(numbers_near_the_ends_of_f32_do_not_overflow)
{
    lrk_adapters *set = make_set(1);
    lrk_distance d = {.struct_size = sizeof d}, scaled = d;
    float *a = sets_tensor(set, 0, LRK_TENSOR_A).data, *b = sets_tensor(set, 0, LRK_TENSOR_B).data;
    ck_assert_int_eq(lrk_module_distance(set, 0, set, 0, &d), LRK_OK);
    for (int i = 0; i < 4 * 20; i++)
        a[i] *= 0x1p120f;
    for (int i = 0; i < 4 * 30; i++)
        b[i] *= 0x1p120f;
    ck_assert_int_eq(lrk_module_distance(set, 0, set, 0, &scaled), LRK_OK);
    ck_assert_double_le(fabs(scaled.norm_a * 0x1p-240 - d.norm_a), 1e-12 * d.norm_a);
    lrk_adapters_destroy(set);
}
END_TEST

static double distance(const lrk_adapters *a, const lrk_adapters *b, int32_t module)
{
    lrk_distance d = {.struct_size = sizeof d};
    ck_assert_int_eq(lrk_module_distance(a, module, b, module, &d), LRK_OK);
    return d.difference;
}

/* What truncation drops is the tail of the spectrum, to the rounding of the factors to f32. */
START_TEST(resizing_is_the_best_approximation)
{
    lrk_adapters *set = make_set(3), *small;
    for (int64_t wanted = 0; wanted < 9; wanted++) {
        int64_t ranks[N_MODULES];
        for (int m = 0; m < N_MODULES; m++)
            ranks[m] = wanted;
        ck_assert_int_eq(lrk_adapters_resize(set, ranks, NULL, &small), LRK_OK);
        for (int32_t m = 0; m < N_MODULES; m++) {
            double values[MOST] = {0}, *tail = values + wanted;
            int64_t rank = shapes[m].rank;
            ck_assert_int_eq(lrk_module_spectrum(set, m, values, rank), LRK_OK);
            ck_assert_int_eq(sets_rank(small, m), wanted);
            double lost = wanted < rank ? norm(tail, rank - wanted) : 0;
            ck_assert_double_le(fabs(distance(set, small, m) - lost),
                                4 * (double)(wanted + 1) * 0x1p-24 * values[0]);
        }
        lrk_adapters_destroy(small);
    }
    lrk_adapters_destroy(set);
}
END_TEST

START_TEST(the_same_rank_keeps_every_bit)
{
    int64_t ranks[N_MODULES];
    lrk_adapters *set = make_set(4), *same;
    for (int m = 0; m < N_MODULES; m++)
        ranks[m] = shapes[m].rank;
    ck_assert_int_eq(lrk_adapters_resize(set, ranks, NULL, &same), LRK_OK);
    for (int32_t m = 0; m < N_MODULES; m++) {
        size_t rank = (size_t)ranks[m];
        if (rank == 0) continue;
        ck_assert_mem_eq(sets_tensor(set, m, LRK_TENSOR_A).data, sets_tensor(same, m, LRK_TENSOR_A).data,
                         rank * (size_t)shapes[m].n_in * sizeof(float));
        ck_assert_mem_eq(sets_tensor(set, m, LRK_TENSOR_B).data, sets_tensor(same, m, LRK_TENSOR_B).data,
                         rank * (size_t)shapes[m].n_out * sizeof(float));
        ck_assert_mem_eq(sets_tensor(set, m, LRK_TENSOR_GATES).data,
                         sets_tensor(same, m, LRK_TENSOR_GATES).data, rank * sizeof(float));
        lrk_module_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_adapters_module(same, m, &info), LRK_OK);
        ck_assert(info.scale == shapes[m].scale);
    }
    lrk_adapters_destroy(set);
    lrk_adapters_destroy(same);
}
END_TEST

START_TEST(every_refusal)
{
    double values[MOST];
    int64_t ranks[N_MODULES] = {1, 1, 1, 1, 1, -1};
    lrk_distance d = {.struct_size = sizeof d};
    lrk_adapters *set = make_set(5), *other = make_set(6), *resized = set;
    ck_assert_int_eq(lrk_module_spectrum(NULL, 0, values, 4), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_module_spectrum(set, 6, values, 4), LRK_ERR_ARGUMENT, "");
    sets_expect(context, lrk_module_spectrum(set, 0, values, 3), LRK_ERR_SHAPE, "'a' has 4 ranks, not 3");
    sets_expect(context, lrk_module_spectrum(set, 0, NULL, 4), LRK_ERR_ARGUMENT, "values");
    ck_assert_int_eq(lrk_module_spectrum(set, 4, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_module_distance(NULL, 0, set, 0, &d), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_module_distance(set, 0, other, 9, &d), LRK_ERR_ARGUMENT, "");
    sets_expect(context, lrk_module_distance(set, 0, other, 1, &d), LRK_ERR_SHAPE, "'a' is 30 x 20");
    sets_expect(context, lrk_module_distance(set, 0, other, 0, NULL), LRK_ERR_ARGUMENT, "");
    sets_expect(context, lrk_adapters_resize(set, ranks, NULL, &resized), LRK_ERR_ARGUMENT,
                "'f': a rank of -1");
    ck_assert_ptr_null(resized);
    sets_expect(context, lrk_adapters_resize(set, NULL, NULL, &resized), LRK_ERR_ARGUMENT, "NULL");
    sets_expect(context, lrk_adapters_resize(set, ranks, NULL, NULL), LRK_ERR_ARGUMENT, "NULL");
    ranks[5] = 1;
    sets_tensor(set, 1, LRK_TENSOR_B).data[2] = NAN;
    sets_expect(context, lrk_adapters_resize(set, ranks, NULL, &resized), LRK_ERR_NONFINITE, "'b'");
    ck_assert_ptr_null(resized);
    sets_expect(context, lrk_module_spectrum(set, 1, values, 5), LRK_ERR_NONFINITE, "'b'");
    sets_expect(context, lrk_module_distance(other, 1, set, 1, &d), LRK_ERR_NONFINITE, "'b'");
    lrk_adapters_destroy(set);
    lrk_adapters_destroy(other);
}
END_TEST

static lrk_status do_all(void *user)
{
    static const int64_t ranks[N_MODULES] = {2, 2, 2, 2, 2, 2};
    const lrk_adapters *set = user;
    double values[MOST];
    lrk_distance d = {.struct_size = sizeof d};
    lrk_adapters *resized;
    lrk_status status = lrk_module_spectrum(set, 0, values, 4);
    if (status == LRK_OK) status = lrk_module_distance(set, 0, set, 0, &d);
    if (status == LRK_OK) status = lrk_adapters_resize(set, ranks, NULL, &resized);
    if (status == LRK_OK) lrk_adapters_destroy(resized);
    return status;
}

static void undo_nothing(void *user)
{
    (void)user;
}

START_TEST(every_allocation_fails_once)
{
    lrk_adapters *set = make_set(7);
    sets_each_fault(&host, do_all, undo_nothing, set);
    lrk_adapters_destroy(set);
}
END_TEST

Suite *spectrum_suite(void);

Suite *spectrum_suite(void)
{
    Suite *suite = suite_create("spectrum");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, a_spectrum_is_that_of_the_formed_delta);
    tcase_add_test(cases, distances_are_those_of_formed_deltas);
    tcase_add_test(cases, small_differences_are_not_lost);
    tcase_add_test(cases, numbers_near_the_ends_of_f32_do_not_overflow);
    tcase_add_test(cases, resizing_is_the_best_approximation);
    tcase_add_test(cases, the_same_rank_keeps_every_bit);
    tcase_add_test(cases, every_refusal);
    tcase_add_test(cases, every_allocation_fails_once);
    suite_add_tcase(suite, cases);
    return suite;
}
