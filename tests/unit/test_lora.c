/* SPDX-License-Identifier: MIT */
/*
 * What passes compute: forward, backward, gate and mask derivatives and dropout against the oracle over shapes, masks
 * and groups, and against finite differences.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "trial.h"

Suite *lora_suite(void);

static fault f;
static lrk_context *counted;
static lrk_context *plain;

static void setup(void)
{
    fault_reset(&f);
    counted = fault_context(&f);
    ck_assert_int_eq(lrk_context_create(NULL, &plain, NULL, 0), LRK_OK);
}

static void teardown(void)
{
    lrk_context_destroy(counted);
    lrk_context_destroy(plain);
    ck_assert_int_eq(f.live, 0);
    ck_assert(!f.bad_release);
}

static const int64_t all_rows[] = {0, 1, 5, 131, 300};
static const int64_t all_ranks[] = {0, 1, 2, 3, 7, 8, 16};
static const int64_t all_dims[] = {1, 13, 64};

START_TEST(one_module_agrees_with_the_oracle)
{
    for (int rank = 0; rank < 7; rank++)
        for (int dims = 0; dims < 9; dims++) {
            trial t = {
                .context = _i % 2 ? counted : plain,
                .rows = all_rows[_i / 2],
                .n = 1,
                .shapes = {{all_dims[dims % 3], all_dims[dims / 3], all_ranks[rank], LRK_NO_GROUP, 0, -1.7}},
                .saved = dims % 2,
                .backwards = 1};
            check_trial(&t);
        }
}
END_TEST

/* _i: mask form x dropout x saved x two backward calls */
START_TEST(groups_masks_and_dropout_agree_with_the_oracle)
{
    static const int64_t rows[] = {1, 77, 97};
    for (int i = 0; i < 3; i++) {
        trial t = group_trial(i == 1 ? counted : plain, rows[i]);
        t.mask = _i % 5;
        t.dropout = _i / 5 % 2 ? 0.4 : 0.0;
        t.saved = _i / 10 % 2;
        t.backwards = 1 + _i / 20;
        check_trial(&t);
    }
}
END_TEST

/* Without mask derivatives a pass works on the ranks that take part alone. */
START_TEST(part_of_the_ranks_agrees_with_the_oracle)
{
    static const int32_t forms[] = {LRKI_MASK_ONLY, LRKI_MASK_WITHOUT, LRKI_MASK_VALUES, LRKI_MASK_NONE};
    for (int i = 0; i < 4; i++) {
        trial t = group_trial(_i % 2 ? counted : plain, 131);
        t.mask = forms[i];
        t.saved = _i / 2 % 2;
        t.dropout = _i / 4 ? 0.3 : 0.0;
        t.gradients = _i % 2 ? LRK_GRAD_PARAMETERS : LRK_GRAD_PARAMETERS | LRK_GRAD_GATES;
        check_trial(&t);
    }
}
END_TEST

/* Several blocks of columns, several chunks of rows, three lanes. */
START_TEST(large_shapes_agree_with_the_oracle)
{
    trial t = {.context = plain,
               .rows = 385,
               .n = 1,
               .shapes = {{1300, 1100, 9, LRK_NO_GROUP, 0, 2.0}},
               .dropout = _i ? 0.1 : 0.0,
               .saved = _i,
               .backwards = 1};
    check_trial(&t);
}
END_TEST

/* More chunks of rows and blocks of columns than lanes. */
START_TEST(long_inputs_agree_with_the_oracle)
{
    trial t = {.context = plain,
               .rows = 128 * 33 + 5,
               .n = 1,
               .shapes = {{9, 11, 2, LRK_NO_GROUP, 0, 2.0}},
               .dropout = 0.3,
               .backwards = 1};
    check_trial(&t);
    t = (trial){.context = plain,
                .rows = 40,
                .n = 1,
                .shapes = {{128 * 20 + 3, 128 * 15, 2, LRK_NO_GROUP, 0, 2.0}},
                .backwards = 1};
    check_trial(&t);
}
END_TEST

/* ---- finite differences ------------------------------------------------------------------------------------------------- */

/* L = sum of dy * (y - y_before), in double, and the error that f32 may make in it. */
static double loss_of(const trial *t, run *r, double *error)
{
    double sum = 0.0;
    *error = 0.0;
    for (int32_t i = 0; i < t->n; i++) {
        float mask[64];
        double *size = zeros(t->rows * t->shapes[i].n_out), *keep = keep_of(t, r, i);
        padded_free(&r->y[i]);
        r->y[i] = padded_make(t->rows, t->shapes[i].n_out, 0, 1);
        memset(r->y[i].data, 0, (size_t)(t->rows * t->shapes[i].n_out) * sizeof(float));
        mask_of(r, i, mask);
        oracle_case c = case_of(t, r, i, mask, keep);
        oracle_forward(&c, size, true);
        for (int64_t k = 0; k < t->rows * c.n_out; k++) {
            double dy = (double)r->dy[i].data[k / c.n_out * r->dy[i].ld + k % c.n_out];
            *error += fabs(dy) * size[k] * oracle_gamma(c.n_in + c.rank + 8);
        }
        free(size);
        free(keep);
    }
    trial_forward(t, r);
    for (int32_t i = 0; i < t->n; i++)
        for (int64_t k = 0; k < t->rows * t->shapes[i].n_out; k++) {
            int64_t row = k / t->shapes[i].n_out, col = k % t->shapes[i].n_out;
            sum +=
                (double)r->dy[i].data[row * r->dy[i].ld + col] * (double)r->y[i].data[row * r->y[i].ld + col];
        }
    return sum;
}

/* The loss is linear in each single number, so a difference over a wide step is exact but for rounding. */
static void check_difference(const trial *t, run *r, float *at, double derivative, const char *what)
{
    double error_up, error_down;
    float old = *at;
    *at = old + 0.5f;
    double up = loss_of(t, r, &error_up), high = (double)*at;
    *at = old - 0.5f;
    double down = loss_of(t, r, &error_down), step = high - (double)*at;
    *at = old;
    /* the derivative itself errs by less than the loss does over a step of 1 */
    double bound = 2.0 * (error_up + error_down) / step;
    ck_assert_msg(fabs((up - down) / step - derivative) <= bound, "%s: %.9g by difference, %.9g by backward",
                  what, (up - down) / step, derivative);
    ck_assert_msg(bound < 1e-3, "%s: the bound %.3g says nothing", what, bound);
}

/* _i: kernels */
START_TEST(every_derivative_agrees_with_finite_differences)
{
    if (lrki_skinny_find(_i) == NULL) return;
    lrk_context_destroy(counted);
    f.kernels = _i;
    counted = fault_context(&f);
    trial t = {.context = counted,
               .rows = 4,
               .n = 2,
               .shapes = {{5, 3, 3, 0, 0, 0.75}, {5, 4, 2, 0, 0, 1.5}},
               .dropout = 0.25,
               .mask = LRKI_MASK_VALUES,
               .backwards = 1,
               .nonce = 8};
    run r = trial_begin(&t, EVERY);
    const double *dm;
    int64_t n;
    memset(r.dx.data, 0, (size_t)(t.rows * r.dx.ld) * sizeof(float));
    trial_forward(&t, &r);
    trial_backward(&t, &r, true);
    for (int64_t k = 0; k < t.rows * 5; k++)
        check_difference(&t, &r, &r.x.data[k / 5 * r.x.ld + k % 5],
                         (double)r.dx.data[k / 5 * r.dx.ld + k % 5], "x");
    ck_assert_int_eq(lrk_sink_mask_gradients(r.sink, &dm, &n), LRK_OK);
    for (int64_t j = 0; j < n; j++)
        check_difference(&t, &r, &r.mask->values[j], dm[j], "mask");
    for (int32_t i = 0; i < t.n; i++)
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
            lrk_tensor value = set_tensor(r.set, i, which), grad = {.struct_size = sizeof grad};
            ck_assert_int_eq(lrk_sink_tensor(r.sink, i, which + 3, &grad), LRK_OK);
            for (int64_t k = 0; k < value.rows * value.cols; k++)
                check_difference(&t, &r, &value.data[k], (double)grad.data[k], "parameter");
        }
    trial_end(&t, &r);
}
END_TEST

/* What is fetched ahead lies behind rows that do not exist, and no sum of their addresses overflows (make ubsan). */
START_TEST(a_single_row_may_be_any_distance_from_the_next)
{
    static const shape shapes[] = {{96, 80, 8, 0, 0, 1.0}, {96, 64, 3, 0, 0, 1.0}};
    static const int32_t both[] = {0, 1};
    static float values[6][96];
    const int64_t far = INT64_MAX / (int64_t)sizeof(float);
    const size_t size = sizeof(lrk_matrix);
    const lrk_matrix x = {size, LRK_DTYPE_F32, values[0], 1, 96, far};
    const lrk_matrix dy[] = {{size, LRK_DTYPE_F32, values[1], 1, 80, far},
                             {size, LRK_DTYPE_F32, values[2], 1, 64, far}};
    const lrk_matrix_mut y[] = {{size, LRK_DTYPE_F32, values[3], 1, 80, far},
                                {size, LRK_DTYPE_F32, values[4], 1, 64, far}};
    const lrk_matrix_mut dx = {size, LRK_DTYPE_F32, values[5], 1, 96, far};
    lrk_adapters *set = set_make(plain, shapes, 2, 0.0, 0);
    lrk_pass *pass = pass_open(set, pass_options(1));
    ck_assert_int_eq(lrk_forward(pass, both, 2, &x, y, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_backward(pass, both, 2, &x, NULL, 0, dy, &dx), LRK_OK);
    lrk_pass_end(pass);
    lrk_adapters_destroy(set);
}
END_TEST

Suite *lora_suite(void)
{
    Suite *suite = suite_create("lora");
    TCase *tc = tcase_create("lora");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, one_module_agrees_with_the_oracle, 0, 10);
    tcase_add_loop_test(tc, groups_masks_and_dropout_agree_with_the_oracle, 0, 40);
    tcase_add_loop_test(tc, part_of_the_ranks_agrees_with_the_oracle, 0, 8);
    tcase_add_loop_test(tc, large_shapes_agree_with_the_oracle, 0, 2);
    tcase_add_test(tc, long_inputs_agree_with_the_oracle);
    tcase_add_test(tc, a_single_row_may_be_any_distance_from_the_next);
    tcase_add_loop_test(tc, every_derivative_agrees_with_finite_differences, 0, N_KERNELS);
    suite_add_tcase(suite, tc);
    return suite;
}
