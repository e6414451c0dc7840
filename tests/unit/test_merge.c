/* SPDX-License-Identifier: MIT */
/*
 * Merging against a naive double oracle, in both orientations, with padded weights whose padding must survive.
 *
 * Bound of delta: with u = FLT_EPSILON / 2, an element s sum_j g_j b_j a_j of inner length r takes one rounding for
 * g_j b_j, r for the products and their sum in any order, one for s in f32 and one for its product: at most
 * (r + 3) u / (1 - (r + 3) u) times |s| sum_j |g_j b_j a_j|. Merging rounds once more: u (|W| + |delta|).
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/delta.h"
#include "sets.h"

#define U      (FLT_EPSILON / 2.0)
#define CANARY 12345.0f

static fault host;
static lrk_context *context;

typedef struct shape {
    int64_t n_in, n_out, rank;
    double scale;
    int64_t pad;
} shape;

/* Ranks 0, 1, odd, past 8; rows below, at and past the block of 64 that merging works in. */
static const shape shapes[] = {
    {1, 1, 1, 1, 0},       {5, 3, 2, 0.5, 3}, {7, 9, 0, 2, 1},      {64, 65, 3, -1.25, 0},
    {130, 63, 17, 0.1, 5}, {3, 200, 8, 4, 1}, {129, 128, 40, 1, 2},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

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

/* One module between two others, filled, gates included. */
static lrk_adapters *create(lrk_context *in, const shape *s)
{
    lrk_module_spec specs[3] = {sets_spec("before", 6, 6, 2), sets_spec("it", s->n_in, s->n_out, s->rank),
                                sets_spec("after", 6, 6, 2)};
    specs[1].scale = s->scale;
    lrk_adapters *adapters = sets_create(in, specs, 3, NULL);
    sets_fill(adapters);
    return adapters;
}

typedef struct weight {
    int32_t orientation;
    int64_t rows, cols, ld;
    float *data;
} weight;

/* rows x ld floats: the weight from sets_value(), CANARY in the padding. */
static weight weight_of(const shape *s, int32_t orientation)
{
    weight w = {.orientation = orientation};
    w.rows = orientation == LRK_WEIGHT_OUT_IN ? s->n_out : s->n_in;
    w.cols = orientation == LRK_WEIGHT_OUT_IN ? s->n_in : s->n_out;
    w.ld = w.cols + s->pad;
    w.data = malloc((size_t)(w.rows * w.ld) * sizeof(float));
    ck_assert_ptr_nonnull(w.data);
    for (int64_t i = 0; i < w.rows * w.ld; i++)
        w.data[i] = i % w.ld < w.cols ? sets_value(999, 0, i) : CANARY;
    return w;
}

static void expect_padding(const weight *w)
{
    for (int64_t i = 0; i < w->rows * w->ld; i++)
        ck_assert(i % w->ld < w->cols || w->data[i] == CANARY);
}

/* delta of one element, and the sum of the absolute terms. */
static double oracle(const lrk_adapters *adapters, const shape *s, const weight *w, int64_t row, int64_t col,
                     double *size)
{
    const float *a = sets_tensor(adapters, 1, LRK_TENSOR_A).data,
                *b = sets_tensor(adapters, 1, LRK_TENSOR_B).data;
    const float *g = sets_tensor(adapters, 1, LRK_TENSOR_GATES).data;
    int64_t o = w->orientation == LRK_WEIGHT_OUT_IN ? row : col,
            i = w->orientation == LRK_WEIGHT_OUT_IN ? col : row;
    double sum = 0;
    *size = 0;
    for (int64_t j = 0; j < s->rank; j++) {
        double term = s->scale * g[j] * b[j * s->n_out + o] * a[j * s->n_in + i];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

static void expect_delta(const lrk_adapters *adapters, const shape *s, const weight *delta)
{
    double gamma = (double)(s->rank + 3) * U / (1 - (double)(s->rank + 3) * U);
    for (int64_t r = 0; r < delta->rows; r++)
        for (int64_t c = 0; c < delta->cols; c++) {
            double size, expected = oracle(adapters, s, delta, r, c, &size);
            ck_assert_double_le(fabs(delta->data[r * delta->ld + c] - expected), gamma * size);
        }
}

static void check_delta(lrk_context *in, const shape *s, int32_t orientation)
{
    lrk_adapters *adapters = create(in, s);
    weight delta = weight_of(s, orientation); /* what was there does not matter */
    uint64_t digest = sets_digest(adapters);
    ck_assert_int_eq(lrk_adapters_delta(adapters, 1, orientation, delta.data, delta.ld), LRK_OK);
    expect_delta(adapters, s, &delta);
    expect_padding(&delta);
    ck_assert_uint_eq(sets_digest(adapters), digest);
    free(delta.data);
    lrk_adapters_destroy(adapters);
}

START_TEST(delta_agrees_with_the_oracle)
{
    check_delta(context, &shapes[_i / 2], _i % 2);
    lrk_context *blas; /* and with the default GEMM */
    ck_assert_int_eq(lrk_context_create(NULL, &blas, NULL, 0), LRK_OK);
    check_delta(blas, &shapes[_i / 2], _i % 2);
    lrk_context_destroy(blas);
}
END_TEST

/* However many whole blocks are asked for at a time. */
static void check_rows(lrk_context *in, const shape *s, int32_t orientation, int64_t blocks)
{
    lrki_delta rows = {0};
    lrk_adapters *adapters = create(in, s);
    weight whole = weight_of(s, orientation), pieces = weight_of(s, orientation);
    ck_assert_int_eq(lrk_adapters_delta(adapters, 1, orientation, whole.data, whole.ld), LRK_OK);
    ck_assert_int_eq(lrki_delta_open(adapters, 1, orientation, &rows), LRK_OK);
    ck_assert(rows.rows == whole.rows && rows.cols == whole.cols);
    int64_t step = blocks * rows.block_rows;
    for (int64_t first = 0; first < rows.rows; first += step) {
        int64_t n = rows.rows - first < step ? rows.rows - first : step;
        float *out = pieces.data + first * pieces.ld;
        ck_assert_int_eq(lrki_delta_rows(&rows, first, n, out, pieces.ld), LRK_OK);
    }
    lrki_delta_close(&rows);
    lrki_delta_close(&rows);
    ck_assert_mem_eq(pieces.data, whole.data, (size_t)(whole.rows * whole.ld) * sizeof(float));
    free(whole.data);
    free(pieces.data);
    lrk_adapters_destroy(adapters);
}

START_TEST(rows_of_delta_have_the_bits_of_the_whole)
{
    lrk_context *blas;
    ck_assert_int_eq(lrk_context_create(NULL, &blas, NULL, 0), LRK_OK);
    for (int64_t blocks = 1; blocks <= 3; blocks++) {
        check_rows(context, &shapes[_i / 2], _i % 2, blocks);
        check_rows(blas, &shapes[_i / 2], _i % 2, blocks);
    }
    lrk_context_destroy(blas);
}
END_TEST

/* Where 64 rows would take more than 8 MiB there are fewer in a block, and one where a row does. */
START_TEST(blocks_of_long_rows_are_bounded)
{
    static const struct {
        int64_t n_in, block_rows;
    } cases[] = {{32768, 64}, {32769, 63}, {300000, 6}, {2097152, 1}, {3000000, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lrki_delta rows = {0};
        lrk_module_spec spec = sets_spec("it", cases[i].n_in, 3, 1);
        lrk_adapters *adapters = sets_create(context, &spec, 1, NULL);
        ck_assert_int_eq(lrki_delta_open(adapters, 0, LRK_WEIGHT_OUT_IN, &rows), LRK_OK);
        ck_assert_int_eq(rows.block_rows, cases[i].block_rows);
        lrki_delta_close(&rows);
        lrk_adapters_destroy(adapters);
    }
}
END_TEST

START_TEST(long_rows_agree_with_the_oracle)
{
    const shape s = {300000, 14, 2, 0.5, 0};
    lrk_adapters *adapters = create(context, &s);
    weight delta = weight_of(&s, LRK_WEIGHT_OUT_IN);
    ck_assert_int_eq(lrk_adapters_delta(adapters, 1, LRK_WEIGHT_OUT_IN, delta.data, delta.ld), LRK_OK);
    for (int64_t i = 0; i < delta.rows * delta.cols; i += 997) {
        double size, expected = oracle(adapters, &s, &delta, i / delta.cols, i % delta.cols, &size);
        ck_assert_double_le(fabs((double)delta.data[i] - expected), 6 * U * size);
    }
    free(delta.data);
    lrk_adapters_destroy(adapters);
    check_rows(context, &s, LRK_WEIGHT_OUT_IN, 1);
}
END_TEST

static void check_merge(lrk_context *in, const shape *s, int32_t orientation)
{
    lrk_adapters *adapters = create(in, s);
    weight w = weight_of(s, orientation), before = weight_of(s, orientation),
           delta = weight_of(s, orientation);
    ck_assert_int_eq(lrk_adapters_delta(adapters, 1, orientation, delta.data, delta.ld), LRK_OK);
    ck_assert_int_eq(lrk_adapters_merge(adapters, 1, 1, orientation, w.data, w.ld), LRK_OK);
    for (int64_t i = 0; i < w.rows * w.ld; i++)
        if (i % w.ld < w.cols) ck_assert(w.data[i] == before.data[i] + delta.data[i]);
    expect_padding(&w);
    ck_assert_int_eq(lrk_adapters_merge(adapters, 1, -1, orientation, w.data, w.ld), LRK_OK);
    for (int64_t i = 0; i < w.rows * w.ld; i++) {
        double size = fabs(before.data[i]) + fabs(delta.data[i]);
        if (i % w.ld < w.cols) ck_assert_double_le(fabs(w.data[i] - before.data[i]), 2 * FLT_EPSILON * size);
    }
    expect_padding(&w);
    free(w.data);
    free(before.data);
    free(delta.data);
    lrk_adapters_destroy(adapters);
}

START_TEST(merge_adds_exactly_delta_and_unmerge_takes_it_back)
{
    lrk_context *blas;
    check_merge(context, &shapes[_i / 2], _i % 2);
    ck_assert_int_eq(lrk_context_create(NULL, &blas, NULL, 0), LRK_OK);
    check_merge(blas, &shapes[_i / 2], _i % 2);
    lrk_context_destroy(blas);
}
END_TEST

START_TEST(unmerging_is_merging_the_negative)
{
    const shape *s = &shapes[1];
    lrk_adapters *adapters = create(context, s);
    weight w = weight_of(s, 0), delta = weight_of(s, 0), before = weight_of(s, 0);
    ck_assert_int_eq(lrk_adapters_delta(adapters, 1, 0, delta.data, delta.ld), LRK_OK);
    ck_assert_int_eq(lrk_adapters_merge(adapters, 1, -1, 0, w.data, w.ld), LRK_OK);
    for (int64_t i = 0; i < w.rows * w.ld; i++)
        if (i % w.ld < w.cols) ck_assert(w.data[i] == before.data[i] - delta.data[i]);
    free(w.data);
    free(delta.data);
    free(before.data);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(parameters_that_are_not_finite_leave_the_weight_untouched)
{
    const shape *s = &shapes[4];
    lrk_adapters *adapters = create(context, s);
    const char *words[] = {"A of rank 16 of module 'it'", "B of rank 16 of module 'it'",
                           "the gate of rank 16 of"};
    weight w = weight_of(s, 0), before = weight_of(s, 0);
    lrk_tensor t = sets_tensor(adapters, 1, _i);
    t.data[t.rows * t.cols - 1] = _i == 1 ? INFINITY : NAN;
    sets_expect(context, lrk_adapters_merge(adapters, 1, 1, 0, w.data, w.ld), LRK_ERR_NONFINITE, words[_i]);
    lrk_error_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_context_error_info(context, &info), LRK_OK);
    ck_assert(info.module == 1 && info.identity == 2 + 17);
    sets_expect(context, lrk_adapters_delta(adapters, 1, 0, w.data, w.ld), LRK_ERR_NONFINITE, words[_i]);
    ck_assert_mem_eq(w.data, before.data, (size_t)(w.rows * w.ld) * sizeof(float));
    free(w.data);
    free(before.data);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(calls_that_break_their_contract_are_refused)
{
    const shape *s = &shapes[1];
    lrk_adapters *adapters = create(context, s);
    weight w = weight_of(s, 0), before = weight_of(s, 0);
    float *data = w.data;
    sets_expect(context, lrk_adapters_merge(adapters, 3, 1, 0, data, 5), LRK_ERR_ARGUMENT, "no module 3");
    sets_expect(context, lrk_adapters_merge(adapters, -1, 1, 0, data, 5), LRK_ERR_ARGUMENT, "no module -1");
    sets_expect(context, lrk_adapters_merge(adapters, 1, 0, 0, data, 5), LRK_ERR_ARGUMENT, "sign 0");
    sets_expect(context, lrk_adapters_merge(adapters, 1, 2, 0, data, 5), LRK_ERR_ARGUMENT, "sign 2");
    sets_expect(context, lrk_adapters_merge(adapters, 1, 1, 2, data, 5), LRK_ERR_ARGUMENT, "orientation 2");
    sets_expect(context, lrk_adapters_merge(adapters, 1, 1, 0, NULL, 5), LRK_ERR_ARGUMENT, "NULL");
    sets_expect(context, lrk_adapters_merge(adapters, 1, 1, 0, data, 4), LRK_ERR_SHAPE,
                "the 5 columns of module 'it'");
    sets_expect(context, lrk_adapters_merge(adapters, 1, 1, 1, data, 2), LRK_ERR_SHAPE,
                "the 3 columns of module 'it'");
    sets_expect(context, lrk_adapters_merge(adapters, 1, 1, 0, data, INT64_MAX), LRK_ERR_SHAPE, "overflow");
    sets_expect(context, lrk_adapters_delta(adapters, 1, 0, data, INT64_MAX / 4), LRK_ERR_SHAPE, "overflow");
    sets_expect(context, lrk_adapters_delta(adapters, 3, 0, data, 5), LRK_ERR_ARGUMENT, "no module 3");
    sets_expect(context, lrk_adapters_delta(adapters, 1, -1, data, 5), LRK_ERR_ARGUMENT, "orientation -1");
    sets_expect(context, lrk_adapters_delta(adapters, 1, 0, NULL, 5), LRK_ERR_ARGUMENT, "NULL");
    sets_expect(context, lrk_adapters_delta(adapters, 1, 0, data, 4), LRK_ERR_SHAPE, "the 5 columns");
    ck_assert_int_eq(lrk_adapters_merge(NULL, 1, 1, 0, data, 5), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_adapters_delta(NULL, 1, 0, data, 5), LRK_ERR_ARGUMENT);
    ck_assert_mem_eq(w.data, before.data, (size_t)(w.rows * w.ld) * sizeof(float));
    free(w.data);
    free(before.data);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(a_gemm_that_fails_is_reported)
{
    const shape *s = &shapes[3];
    lrk_adapters *adapters = create(context, s);
    weight w = weight_of(s, 0);
    ck_assert_int_eq(lrk_adapters_merge(adapters, 1, 1, 0, w.data, w.ld), LRK_OK);
    int64_t total = host.gemm.calls, live = host.live;
    ck_assert_int_eq(total, 2); /* 65 rows: two blocks */
    for (int64_t i = 0; i < total; i++) {
        host.gemm.fail_at = host.gemm.calls + i;
        sets_expect(context, lrk_adapters_merge(adapters, 1, 1, 0, w.data, w.ld), LRK_ERR_HOST, "gemm");
        host.gemm.fail_at = host.gemm.calls + i;
        sets_expect(context, lrk_adapters_delta(adapters, 1, 0, w.data, w.ld), LRK_ERR_HOST, "gemm");
        ck_assert_int_eq(host.live, live);
    }
    free(w.data);
    lrk_adapters_destroy(adapters);
}
END_TEST

typedef struct attempt {
    lrk_adapters *adapters;
    weight w;
    weight before;
} attempt;

static lrk_status do_merge(void *user)
{
    attempt *t = user;
    lrk_status status = lrk_adapters_merge(t->adapters, 1, 1, 0, t->w.data, t->w.ld);
    if (status != LRK_OK)
        ck_assert_mem_eq(t->w.data, t->before.data, (size_t)(t->w.rows * t->w.ld) * sizeof(float));
    return status;
}

static lrk_status do_delta(void *user)
{
    attempt *t = user;
    return lrk_adapters_delta(t->adapters, 1, 0, t->w.data, t->w.ld);
}

static void undo(void *user)
{
    attempt *t = user;
    memcpy(t->w.data, t->before.data, (size_t)(t->w.rows * t->w.ld) * sizeof(float));
}

START_TEST(lack_of_memory_leaves_the_weight_untouched)
{
    const shape *s = &shapes[4];
    attempt t = {create(context, s), weight_of(s, 0), weight_of(s, 0)};
    sets_each_fault(&host, do_merge, undo, &t);
    sets_each_fault(&host, do_delta, undo, &t);
    free(t.w.data);
    free(t.before.data);
    lrk_adapters_destroy(t.adapters);
}
END_TEST

Suite *merge_suite(void);

Suite *merge_suite(void)
{
    Suite *suite = suite_create("merge");
    TCase *tcase = tcase_create("merge");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, delta_agrees_with_the_oracle, 0, 2 * SHAPES);
    tcase_add_loop_test(tcase, rows_of_delta_have_the_bits_of_the_whole, 0, 2 * SHAPES);
    tcase_add_test(tcase, blocks_of_long_rows_are_bounded);
    tcase_add_test(tcase, long_rows_agree_with_the_oracle);
    tcase_add_loop_test(tcase, merge_adds_exactly_delta_and_unmerge_takes_it_back, 0, 2 * SHAPES);
    tcase_add_test(tcase, unmerging_is_merging_the_negative);
    tcase_add_loop_test(tcase, parameters_that_are_not_finite_leave_the_weight_untouched, 0, 3);
    tcase_add_test(tcase, calls_that_break_their_contract_are_refused);
    tcase_add_test(tcase, a_gemm_that_fails_is_reported);
    tcase_add_test(tcase, lack_of_memory_leaves_the_weight_untouched);
    suite_add_tcase(suite, tcase);
    return suite;
}
