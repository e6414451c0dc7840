/* SPDX-License-Identifier: MIT */
/*
 * AdamW's orthogonality term: its derivative against finite differences of the formula, its count of matrices, clipping, what
 * estimators see, and what it refuses. With beta1 = beta2 = 0, gradients show in the first moment as they were used.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "resume.h"
#include "sets.h"
#include "small_set.h"

#define GAMMA 0.25
#define UNIT  0x1p-24

static small_set s;
static lrk_adamw_options options;
static lrk_optimizer *optimizer;

static void setup(void)
{
    small_set_open_ranks(&s, 3, (const int64_t[]){5, 0, 3});
    ck_assert_int_eq(lrk_adamw_options_init(&options, sizeof options), LRK_OK);
    ck_assert(options.orthogonality == 0);
    options.beta1 = options.beta2 = 0;
    options.orthogonality = GAMMA;
    uint64_t random = 11;
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_B; which++) {
            lrk_tensor t = small_set_tensor(&s, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                t.data[i] = (float)small_random_real(&random);
        }
    ck_assert_int_eq(lrk_adapters_values_changed(s.adapters), LRK_OK);
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

/* The term of one matrix, divided by four: two modules have ranks. */
static double term(const double *w, int64_t rank, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < rank; i++)
        for (int64_t j = 0; j < rank; j++) {
            double p = i == j ? -1 : 0;
            for (int64_t k = 0; k < n; k++)
                p += w[i * n + k] * w[j * n + k];
            sum += p * p;
        }
    return GAMMA / 4 * (options.flags & LRK_ADAMW_ORTHOGONALITY_SQUARED ? sum : sqrt(sum));
}

typedef struct before {
    double w[32], d[32];
    int64_t rank, n;
} before;

static before read_before(int32_t module, int32_t which)
{
    lrk_tensor w = small_set_tensor(&s, module, which);
    lrk_tensor d = small_set_tensor(&s, module, which + LRK_TENSOR_GRAD_A - LRK_TENSOR_A);
    before b = {.rank = w.rows, .n = w.cols};
    for (int64_t i = 0; i < w.rows * w.cols; i++) {
        b.w[i] = w.data[i];
        b.d[i] = d.data[i];
    }
    return b;
}

/*
 * Central differences of h = 2^-13 err by h^2 / 6 of the third derivative, below 2^-20 for terms of this size, and the rounding of
 * the sums, far below. The library rounds the gradient to float once for each rank.
 */
static void assert_used(before *b, const float *used)
{
    const double h = 1.0 / 8192;
    for (int64_t i = 0; i < b->rank * b->n; i++) {
        double w = b->w[i];
        b->w[i] = w + h;
        double up = term(b->w, b->rank, b->n);
        b->w[i] = w - h;
        double slope = (up - term(b->w, b->rank, b->n)) / (2 * h);
        b->w[i] = w;
        ck_assert_double_eq_tol(used[i], b->d[i] + slope,
                                1e-6 + (double)(b->rank + 1) * UNIT * (fabs(b->d[i]) + 4));
    }
}

START_TEST(gradients_get_the_derivative_of_the_formula)
{
    uint64_t random = 5;
    before all[2][2];
    options.flags = _i == 1 ? LRK_ADAMW_ORTHOGONALITY_SQUARED : 0;
    create();
    small_set_write_gradients(&s, &random);
    for (int m = 0; m < 2; m++)
        for (int which = 0; which < 2; which++)
            all[m][which] = read_before(2 * m, which);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.01), LRK_OK);
    for (int m = 0; m < 2; m++)
        for (int which = 0; which < 2; which++)
            assert_used(&all[m][which], small_set_moment(optimizer, 2 * m, which).data);
}
END_TEST

START_TEST(orthonormal_rows_are_left_alone)
{
    options.epsilon = 1;
    create();
    for (int32_t m = 0; m < 3; m++)
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_B; which++) {
            lrk_tensor t = small_set_tensor(&s, m, which);
            if (t.data == NULL) continue; /* a module without ranks */
            memset(t.data, 0, (size_t)(t.rows * t.cols) * sizeof *t.data);
            if (m == 2)
                for (int64_t j = 0; j < t.rows; j++)
                    t.data[j * t.cols + j] = 1;
        }
    ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    for (int32_t m = 0; m < 3; m++) /* module 0 is 0, where the derivative is, too */
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_B; which++) {
            lrk_tensor t = small_set_tensor(&s, m, which);
            for (int64_t i = 0; i < t.rows * t.cols; i++)
                ck_assert(t.data[i] == (m == 2 && i / t.cols == i % t.cols ? 1 : 0));
        }
}
END_TEST

START_TEST(rows_trained_by_it_alone_become_orthonormal)
{
    options.beta1 = 0.9;
    options.beta2 = 0.99;
    create();
    double first = 0, last = 0;
    for (int k = 0; k < 400; k++) {
        before a = read_before(2, LRK_TENSOR_A);
        last = term(a.w, a.rank, a.n);
        if (k == 0) first = last;
        ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
        ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.02 * pow(0.99, k)), LRK_OK);
    }
    ck_assert_double_lt(last, first / 20);
}
END_TEST

START_TEST(the_norm_and_what_it_clips_have_the_term)
{
    create();
    ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0), LRK_OK);
    double norm = small_set_info(optimizer).gradient_norm;
    ck_assert_double_gt(norm, 0.01);
    lrk_optimizer_destroy(optimizer);
    options.max_norm = norm / 2;
    float whole = small_set_tensor(&s, 0, LRK_TENSOR_A).data[0];
    create();
    ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0), LRK_OK);
    ck_assert(small_set_tensor(&s, 0, LRK_TENSOR_A).data[0] == whole);
    double sum = 0;
    for (int m = 0; m < 3; m += 2)
        for (int which = 0; which < 2; which++) {
            lrk_tensor u = small_set_moment(optimizer, m, which);
            for (int64_t i = 0; i < u.rows * u.cols; i++)
                sum += (double)u.data[i] * u.data[i];
        }
    ck_assert_double_eq_tol(sqrt(sum), norm / 2, 8 * UNIT * norm);
}
END_TEST

START_TEST(what_is_not_finite_is_named_and_nothing_changes)
{
    create();
    small_set_tensor(&s, 2, LRK_TENSOR_B).data[1] = NAN;
    ck_assert_int_eq(lrk_adapters_gradients_written(s.adapters), LRK_OK);
    small_set_assert_failed(s.context, lrk_optimizer_step(optimizer, 0.1), LRK_ERR_NONFINITE,
                            "the orthogonality term of B of module 'm2' is not finite");
    ck_assert(small_set_tensor(&s, 0, LRK_TENSOR_GRAD_A).data[0] == 0);
    small_set_tensor(&s, 2, LRK_TENSOR_B).data[1] = 1;
    ck_assert_int_eq(lrk_optimizer_step(optimizer, 0.1), LRK_OK);
    lrk_optimizer_destroy(optimizer);
    optimizer = NULL;
    const double bad[] = {-1, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        options.orthogonality = bad[i];
        small_set_assert_failed(s.context, lrk_optimizer_create_adamw(s.adapters, &options, &optimizer),
                                LRK_ERR_ARGUMENT, "orthogonality must be >= 0");
    }
}
END_TEST

static lrk_status create_one(void *user)
{
    return lrk_optimizer_create_adamw(s.adapters, &options, user);
}

static void destroy_one(void *user)
{
    lrk_optimizer_destroy(*(lrk_optimizer **)user);
}

START_TEST(every_failed_request_for_memory_leaves_nothing_behind)
{
    lrk_optimizer *made = NULL;
    sets_each_fault(&s.host, create_one, destroy_one, &made);
}
END_TEST

/* An estimator whose memory fails keeps the step from being taken: the term must not be in the gradients then. */
static lrk_status step_once(void *user)
{
    (void)user;
    return lrk_optimizer_step(optimizer, 0.1);
}

START_TEST(a_step_that_fails_for_memory_leaves_gradients_as_they_were)
{
    lrk_estimator *estimator = NULL;
    uint64_t random = 5;
    create();
    ck_assert_int_eq(lrk_estimator_create_sensitivity(s.adapters, NULL, &estimator), LRK_OK);
    small_set_write_gradients(&s, &random);
    float d = small_set_tensor(&s, 0, LRK_TENSOR_GRAD_A).data[0];
    s.host.alloc.fail_at = s.host.alloc.calls;
    ck_assert_int_eq(step_once(NULL), LRK_ERR_NOMEM);
    ck_assert(small_set_tensor(&s, 0, LRK_TENSOR_GRAD_A).data[0] == d);
    s.host.alloc.fail_at = -1;
    ck_assert_int_eq(step_once(NULL), LRK_OK);
    lrk_estimator_destroy(estimator);
}
END_TEST

static lrk_checkpoint *list(lrk_optimizer *of)
{
    lrk_checkpoint *checkpoint = NULL;
    ck_assert_int_eq(lrk_checkpoint_create(s.context, &checkpoint), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_adapters(checkpoint, "set", s.adapters), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_add_optimizer(checkpoint, "main", of), LRK_OK);
    return checkpoint;
}

/* From the optimizer as it is to one of another weight. */
static lrk_status restore_at(double weight)
{
    lrk_optimizer *other = NULL;
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file = NULL;
    options.orthogonality = weight;
    ck_assert_int_eq(lrk_optimizer_create_adamw(s.adapters, &options, &other), LRK_OK);
    lrk_checkpoint *out = list(optimizer), *in = list(other);
    resume_bytes bytes = resume_save(out);
    ck_assert_int_eq(lrk_reader_memory(&reader, bytes.data, bytes.n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_open_reader(s.context, &reader, NULL, &file), LRK_OK);
    lrk_status status = lrk_checkpoint_restore(file, in, NULL);
    lrk_checkpoint_close(file);
    lrk_checkpoint_destroy(in);
    lrk_checkpoint_destroy(out);
    free(bytes.data);
    lrk_optimizer_destroy(other);
    return status;
}

START_TEST(a_checkpoint_knows_the_weight)
{
    create();
    ck_assert_int_eq(restore_at(GAMMA), LRK_OK);
    small_set_assert_failed(s.context, restore_at(2 * GAMMA), LRK_ERR_ARGUMENT, "orthogonality is 0.25");
    small_set_assert_failed(s.context, restore_at(0), LRK_ERR_ARGUMENT, "flags is");
}
END_TEST

Suite *orthogonality_suite(void);
Suite *orthogonality_suite(void)
{
    Suite *suite = suite_create("orthogonality");
    TCase *tests = tcase_create("orthogonality");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, gradients_get_the_derivative_of_the_formula, 0, 2);
    tcase_add_test(tests, orthonormal_rows_are_left_alone);
    tcase_add_test(tests, rows_trained_by_it_alone_become_orthonormal);
    tcase_add_test(tests, the_norm_and_what_it_clips_have_the_term);
    tcase_add_test(tests, what_is_not_finite_is_named_and_nothing_changes);
    tcase_add_test(tests, every_failed_request_for_memory_leaves_nothing_behind);
    tcase_add_test(tests, a_step_that_fails_for_memory_leaves_gradients_as_they_were);
    tcase_add_test(tests, a_checkpoint_knows_the_weight);
    suite_add_tcase(suite, tests);
    return suite;
}
