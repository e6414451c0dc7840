/* SPDX-License-Identifier: MIT */
/*
 * Nested ranks: what a depth computes against the oracle in double, that the set cut at it computes the same bits, how depths are
 * drawn, what freezing leaves, and what is refused.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "material.h"
#include "oracle.h"
#include "sets.h"

enum { N = 5, MOST = 11, ROWS = 70 };

/* Ranks above, at and below the depths; 3 and 7 give factors that are no f32. */
static const shape shapes[N] = {{24, 40, 11, LRK_NO_GROUP, 0, 1.5},
                                {33, 17, 7, LRK_NO_GROUP, 1, -0.25},
                                {16, 16, 3, LRK_NO_GROUP, 2, 2},
                                {8, 12, 1, LRK_NO_GROUP, 3, 1},
                                {8, 12, 0, LRK_NO_GROUP, 4, 1}};

static fault host;
static lrk_context *context;
static lrk_adapters *set;

static void setup(void)
{
    fault_reset(&host);
    context = fault_context(&host);
    set = set_make(context, shapes, N, 0, 0);
    set_fill(set, 3);
}

static void teardown(void)
{
    lrk_adapters_destroy(set);
    lrk_context_destroy(context);
    ck_assert_int_eq(host.live, 0);
    ck_assert(!host.bad_release);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void set_gates(lrk_adapters *adapters, float value)
{
    for (int32_t i = 0; i < N; i++) {
        lrk_tensor gates = set_tensor(adapters, i, LRK_TENSOR_GATES);
        for (int64_t j = 0; j < gates.rows * gates.cols; j++)
            gates.data[j] = value;
    }
    ck_assert_int_eq(lrk_adapters_values_changed(adapters), LRK_OK);
}

/* What module i of a set adds to a y of 0 under the mask; NULL: everything. */
static padded forward(lrk_adapters *adapters, int32_t i, const lrk_mask *mask, const padded *x)
{
    lrk_pass_options options = pass_options(x->rows);
    options.mask = mask;
    options.mode = LRK_PASS_EVALUATE;
    padded y = padded_make(x->rows, shapes[i].n_out, 0, 1);
    memset(y.data, 0, (size_t)(y.rows * y.ld) * sizeof(float));
    lrk_pass *pass = pass_open(adapters, options);
    lrk_matrix in = padded_view(x);
    lrk_matrix_mut out = padded_mut(&y);
    ck_assert_int_eq(lrk_forward(pass, &i, 1, &in, &out, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    return y;
}

static lrk_mask *mask_of(lrk_adapters *adapters, int64_t depth)
{
    lrk_mask *mask = NULL;
    ck_assert_int_eq(lrk_mask_create_nested(adapters, depth, &mask), LRK_OK);
    return mask;
}

static lrk_adapters *cut_at(int64_t depth)
{
    lrk_adapters *cut = NULL;
    ck_assert_int_eq(lrk_adapters_truncate(set, depth, NULL, &cut), LRK_OK);
    return cut;
}

/* ---- what a depth computes ------------------------------------------------------------------------------------------ */

/* The formula: the first k ranks at s r / k. */
static void check_against_oracle(const padded *y, const padded *x, int32_t i, int64_t k)
{
    const shape *s = &shapes[i];
    size_t n = (size_t)(ROWS * s->n_out);
    double *want = calloc(n, sizeof *want), *size = calloc(n, sizeof *size);
    oracle_case c = {.rows = ROWS,
                     .n_in = s->n_in,
                     .n_out = s->n_out,
                     .rank = k,
                     .scale = k > 0 ? s->scale * (double)s->rank / (double)k : 0,
                     .a = set_tensor(set, i, LRK_TENSOR_A).data,
                     .b = set_tensor(set, i, LRK_TENSOR_B).data,
                     .gates = set_tensor(set, i, LRK_TENSOR_GATES).data,
                     .x = x->data,
                     .ld_x = x->ld};
    oracle_forward(&c, want, false);
    oracle_forward(&c, size, true);
    for (size_t j = 0; j < n; j++) /* 9: one more rounding, of f */
        ck_assert_msg(oracle_within(y->data[j], want[j], size[j], s->n_in + k + 9),
                      "module %d depth %d: %g for %g", i, (int)k, (double)y->data[j], want[j]);
    free(want);
    free(size);
}

/* _i: the depth, up to one beyond the largest rank */
START_TEST(a_depth_is_its_first_ranks_at_alpha_over_their_number)
{
    lrk_mask *mask = mask_of(set, _i);
    lrk_adapters *cut = cut_at(_i);
    for (int32_t i = 0; i < N; i++) {
        padded x = padded_make(ROWS, shapes[i].n_in, 1, 5);
        padded masked = forward(set, i, mask, &x), own = forward(cut, i, NULL, &x);
        check_against_oracle(&masked, &x, i, smaller(_i, shapes[i].rank));
        check_against_oracle(&own, &x, i, smaller(_i, shapes[i].rank));
        padded_free(&x);
        padded_free(&masked);
        padded_free(&own);
    }
    lrk_mask_destroy(mask);
    lrk_adapters_destroy(cut);
}
END_TEST

START_TEST(a_set_cut_at_a_depth_gives_the_bits_of_its_mask)
{
    static const int64_t rows[] = {1, ROWS, 300};
    set_gates(set, 1);
    lrk_mask *mask = mask_of(set, _i);
    lrk_adapters *cut = cut_at(_i);
    for (int32_t i = 0; i < N; i++)
        for (int r = 0; r < 3; r++) {
            padded x = padded_make(rows[r], shapes[i].n_in, 0, 5);
            padded masked = forward(set, i, mask, &x), own = forward(cut, i, NULL, &x);
            ck_assert_msg(padded_same(&masked, &own), "module %d, %d rows", i, (int)rows[r]);
            padded_free(&x);
            padded_free(&masked);
            padded_free(&own);
        }
    lrk_mask_destroy(mask);
    lrk_adapters_destroy(cut);
}
END_TEST

START_TEST(a_cut_set_has_the_first_rows_and_the_scale_of_its_depth)
{
    lrk_adapters *cut = cut_at(_i);
    for (int32_t i = 0; i < N; i++) {
        lrk_module_info was = {.struct_size = sizeof was}, is = {.struct_size = sizeof is};
        ck_assert_int_eq(lrk_adapters_module(set, i, &was), LRK_OK);
        ck_assert_int_eq(lrk_adapters_module(cut, i, &is), LRK_OK);
        int64_t k = smaller(_i, was.rank);
        ck_assert_str_eq(is.name, was.name);
        ck_assert_int_eq(is.rank, k);
        ck_assert_int_eq(is.stage, was.stage);
        if (k == was.rank) ck_assert(is.scale == was.scale);
        if (k > 0)
            ck_assert(fabs(is.scale * (double)k - was.scale * (double)was.rank) <=
                      0x1p-24 * fabs(was.scale * (double)was.rank));
        const int32_t which[] = {LRK_TENSOR_A, LRK_TENSOR_B, LRK_TENSOR_GATES};
        for (int t = 0; t < 3 && k > 0; t++) {
            lrk_tensor from = set_tensor(set, i, which[t]), to = set_tensor(cut, i, which[t]);
            size_t width = (size_t)(to.rows * to.cols);
            ck_assert_int_eq(memcmp(from.data, to.data, width * sizeof(float)), 0);
        }
    }
    lrk_adapters_destroy(cut);
}
END_TEST

START_TEST(a_depth_of_all_ranks_is_the_set)
{
    lrk_mask_info info = {.struct_size = sizeof info};
    lrk_mask *mask = mask_of(set, MOST);
    ck_assert_int_eq(lrk_mask_info_get(mask, &info), LRK_OK);
    ck_assert_int_eq(info.baseline, LRK_BASELINE_ALL);
    ck_assert_int_eq(info.first_stage, LRK_NO_STAGE);
    lrk_mask_destroy(mask);
    mask = mask_of(set, 7); /* modules 1 and later are whole: of the first stage alone */
    ck_assert_int_eq(lrk_mask_info_get(mask, &info), LRK_OK);
    ck_assert_int_eq(info.first_stage, 0);
    lrk_mask_destroy(mask);
}
END_TEST

/* ---- a step ---------------------------------------------------------------------------------------------------------- */

START_TEST(depths_are_uniform_and_follow_from_seed_and_nonce)
{
    enum { DRAWS = 11000 };
    int64_t counts[MOST + 1] = {0}, first[8], depth, same = 0;
    double chi = 0;
    for (int i = 0; i < DRAWS; i++) {
        ck_assert_int_eq(lrk_nested_draw(set, (uint64_t)i, &depth), LRK_OK);
        ck_assert(depth >= 1 && depth <= MOST);
        counts[depth]++;
        if (i < 8) first[i] = depth;
    }
    for (int k = 1; k <= MOST; k++)
        chi += pow((double)counts[k] - DRAWS / MOST, 2) / (DRAWS / MOST);
    ck_assert_double_lt(chi, 29.6); /* 10 degrees of freedom: 0.999 */
    lrk_adapters *again = set_make(context, shapes, N, 0, 0);
    for (int i = 7; i >= 0; i--) {
        ck_assert_int_eq(lrk_nested_draw(again, (uint64_t)i, &depth), LRK_OK);
        ck_assert_int_eq(depth, first[i]);
    }
    lrk_adapters_destroy(again);
    const lrk_module_spec spec = sets_spec("m", 4, 4, MOST);
    lrk_adapters *other = sets_create(context, &spec, 1, NULL); /* of seed 0 */
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(lrk_nested_draw(other, (uint64_t)i, &depth), LRK_OK);
        same += depth == first[i];
    }
    ck_assert_int_lt(same, 8);
    lrk_adapters_destroy(other);
}
END_TEST

START_TEST(a_set_without_ranks_has_depth_one)
{
    const lrk_module_spec spec = sets_spec("m", 4, 4, 0);
    lrk_adapters *empty = sets_create(context, &spec, 1, NULL);
    int64_t depth = 0;
    ck_assert_int_eq(lrk_nested_draw(empty, 3, &depth), LRK_OK);
    ck_assert_int_eq(depth, 1);
    lrk_mask_destroy(mask_of(empty, 1));
    ck_assert_int_eq(lrk_nested_freeze(empty, 1), LRK_OK);
    lrk_adapters_destroy(empty);
}
END_TEST

static const int32_t gradients[] = {LRK_TENSOR_GRAD_A, LRK_TENSOR_GRAD_B, LRK_TENSOR_GRAD_GATES};

/* One training pass under a depth. */
static void differentiate(int64_t depth)
{
    lrk_pass_options options = pass_options(ROWS);
    lrk_mask *mask = mask_of(set, depth);
    options.mask = mask;
    options.gradients = LRK_GRAD_PARAMETERS | LRK_GRAD_GATES;
    ck_assert_int_eq(lrk_adapters_zero_gradients(set), LRK_OK);
    lrk_pass *pass = pass_open(set, options);
    for (int32_t i = 0; i < N; i++) {
        padded x = padded_make(ROWS, shapes[i].n_in, 0, 5), dy = padded_make(ROWS, shapes[i].n_out, 0, 6);
        lrk_matrix in = padded_view(&x), out = padded_view(&dy);
        ck_assert_int_eq(lrk_backward(pass, &i, 1, &in, NULL, 0, &out, NULL), LRK_OK);
        padded_free(&x);
        padded_free(&dy);
    }
    lrk_pass_end(pass);
    lrk_mask_destroy(mask);
}

static bool is_zero(const float *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (values[i] != 0) return false;
    return true;
}

/* Ranks below the depth have gradients, those behind it none; freezing leaves the last alone, in all its bits. */
START_TEST(freezing_leaves_the_last_rank_of_the_depth)
{
    differentiate(_i);
    float *before[N][3];
    for (int32_t i = 0; i < N; i++)
        for (int t = 0; t < 3; t++) {
            lrk_tensor g = set_tensor(set, i, gradients[t]);
            before[i][t] = calloc((size_t)(g.rows * g.cols) + 1, sizeof(float));
            if (g.data != NULL) memcpy(before[i][t], g.data, (size_t)(g.rows * g.cols) * sizeof(float));
        }
    ck_assert_int_eq(lrk_nested_freeze(set, _i), LRK_OK);
    for (int32_t i = 0; i < N; i++)
        for (int t = 0; t < 3; t++) {
            lrk_tensor g = set_tensor(set, i, gradients[t]);
            int64_t rank = shapes[i].rank, k = smaller(_i, rank);
            int64_t width = rank > 0 ? g.rows * g.cols / rank : 0;
            for (int64_t j = 0; j < rank; j++) {
                const float *was = before[i][t] + j * width, *is = g.data + j * width;
                ck_assert_int_eq(is_zero(was, width), j >= k);
                ck_assert_int_eq(is_zero(is, width), j != k - 1);
                if (j == k - 1) ck_assert_int_eq(memcmp(was, is, (size_t)width * sizeof(float)), 0);
            }
            free(before[i][t]);
        }
    lrk_optimizer *optimizer; /* every module still has its gradient */
    ck_assert_int_eq(lrk_optimizer_create_adamw(set, NULL, &optimizer), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 1e-3), LRK_OK);
    lrk_optimizer_destroy(optimizer);
}
END_TEST

/* ---- refusals, memory ------------------------------------------------------------------------------------------------- */

START_TEST(what_is_wrong_is_refused)
{
    lrk_mask *mask = (lrk_mask *)&host;
    lrk_adapters *cut = (lrk_adapters *)&host;
    int64_t depth = 7;
    ck_assert_int_eq(lrk_nested_draw(NULL, 0, &depth), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_nested_draw(set, 0, NULL), LRK_ERR_ARGUMENT, "depth is NULL");
    ck_assert_int_eq(lrk_mask_create_nested(NULL, 1, &mask), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_mask_create_nested(set, 0, &mask), LRK_ERR_ARGUMENT, "depth must be >= 1, is 0");
    ck_assert_ptr_null(mask);
    sets_expect(context, lrk_mask_create_nested(set, 1, NULL), LRK_ERR_ARGUMENT, "mask is NULL");
    ck_assert_int_eq(lrk_nested_freeze(NULL, 1), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_nested_freeze(set, -2), LRK_ERR_ARGUMENT, "depth must be >= 1, is -2");
    ck_assert_int_eq(lrk_adapters_truncate(NULL, 1, NULL, &cut), LRK_ERR_ARGUMENT);
    sets_expect(context, lrk_adapters_truncate(set, 0, NULL, &cut), LRK_ERR_ARGUMENT, "depth must be >= 1");
    ck_assert_ptr_null(cut);
    sets_expect(context, lrk_adapters_truncate(set, 1, NULL, NULL), LRK_ERR_ARGUMENT, "truncated is NULL");
    lrk_pass *pass = pass_open(set, pass_options(1));
    sets_expect(context, lrk_nested_freeze(set, 1), LRK_ERR_BUSY, "lrk_nested_freeze");
    lrk_pass_end(pass);
    lrk_adapters *inference = set_make(context, shapes, N, 0, LRK_ADAPTERS_INFERENCE);
    sets_expect(context, lrk_nested_freeze(inference, 1), LRK_ERR_UNSUPPORTED, "lrk_nested_freeze");
    lrk_adapters_destroy(inference);
    set_tensor(set, 1, LRK_TENSOR_A).data[0] = NAN;
    sets_expect(context, lrk_adapters_truncate(set, 1, NULL, &cut), LRK_ERR_NONFINITE, "m1");
    ck_assert_ptr_null(cut);
}
END_TEST

static lrk_mask *made_mask;
static lrk_adapters *made_set;

static lrk_status make_mask(void *user)
{
    (void)user;
    return lrk_mask_create_nested(set, 2, &made_mask);
}

static void drop_mask(void *user)
{
    (void)user;
    lrk_mask_destroy(made_mask);
}

static lrk_status make_set(void *user)
{
    (void)user;
    return lrk_adapters_truncate(set, 2, NULL, &made_set);
}

static void drop_set(void *user)
{
    (void)user;
    lrk_adapters_destroy(made_set);
}

START_TEST(creating_unwinds_when_any_request_fails)
{
    sets_each_fault(&host, make_mask, drop_mask, NULL);
    sets_each_fault(&host, make_set, drop_set, NULL);
}
END_TEST

Suite *nested_suite(void);

Suite *nested_suite(void)
{
    Suite *suite = suite_create("nested");
    TCase *cases = tcase_create("nested ranks");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_loop_test(cases, a_depth_is_its_first_ranks_at_alpha_over_their_number, 1, MOST + 2);
    tcase_add_loop_test(cases, a_set_cut_at_a_depth_gives_the_bits_of_its_mask, 1, MOST + 2);
    tcase_add_loop_test(cases, a_cut_set_has_the_first_rows_and_the_scale_of_its_depth, 1, MOST + 2);
    tcase_add_test(cases, a_depth_of_all_ranks_is_the_set);
    tcase_add_test(cases, depths_are_uniform_and_follow_from_seed_and_nonce);
    tcase_add_test(cases, a_set_without_ranks_has_depth_one);
    tcase_add_loop_test(cases, freezing_leaves_the_last_rank_of_the_depth, 1, MOST + 2);
    tcase_add_test(cases, what_is_wrong_is_refused);
    tcase_add_test(cases, creating_unwinds_when_any_request_fails);
    suite_add_tcase(suite, cases);
    return suite;
}
