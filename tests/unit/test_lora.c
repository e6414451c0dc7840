/* SPDX-License-Identifier: MIT */
/*
 * What passes compute: forward, backward, gate and mask derivatives and dropout against the oracle over shapes, masks
 * and groups; finite differences; relations that must hold; bits that must not depend on threads or on the way.
 */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "adapters/pass_state.h"
#include "fault.h"
#include "kernels/dropout.h"
#include "kernels/kernels.h"
#include "material.h"
#include "oracle.h"

#define MAX_MODULES 3
#define EVERY       (LRK_GRAD_PARAMETERS | LRK_GRAD_GATES | LRK_GRAD_MASK)

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

/* ---- a trial: a set, a pass, one forward and one or more backward calls ---------------------------------------------- */

typedef struct trial {
    lrk_context *context;
    int64_t rows;
    int32_t n; /* modules, all in one call */
    shape shapes[MAX_MODULES];
    double dropout;
    int32_t mask; /* LRKI_MASK_... */
    bool saved;
    int backwards; /* calls of lrk_backward */
    uint64_t nonce;
    int64_t first_row;
} trial;

typedef struct run {
    lrk_adapters *set;
    lrk_mask *mask;
    lrk_sink *sink;
    lrk_pass *pass;
    void *saved;
    size_t saved_bytes;
    int32_t modules[MAX_MODULES];
    padded x, dx, dx_before;
    padded y[MAX_MODULES], y_before[MAX_MODULES], dy[MAX_MODULES];
} run;

/* The mask of the trial; the one rank of WITHOUT and ONLY is number 2, in the first module that has it. */
static lrk_mask *make_mask(lrk_adapters *set, int32_t form)
{
    lrk_mask *mask = NULL;
    float *values = malloc((size_t)(set->n_ranks + 1) * sizeof *values);
    random_floats(values, set->n_ranks, 99);
    if (set->n_ranks > 1) values[1] = 0.0f;
    lrk_status status = form == LRKI_MASK_ALL       ? lrk_mask_create_all(set, &mask)
                        : form == LRKI_MASK_NONE    ? lrk_mask_create_none(set, &mask)
                        : form == LRKI_MASK_WITHOUT ? lrk_mask_create_without(set, 2, &mask)
                        : form == LRKI_MASK_ONLY    ? lrk_mask_create_only(set, 2, &mask)
                                                 : lrk_mask_create_values(set, values, set->n_ranks, &mask);
    ck_assert_int_eq(status, LRK_OK);
    free(values);
    return mask;
}

static run run_begin(const trial *t, uint32_t gradients)
{
    run r = {.set = set_make(t->context, t->shapes, t->n, t->dropout, 0)};
    set_fill(r.set, 5);
    r.mask = make_mask(r.set, t->mask);
    if (gradients != 0) ck_assert_int_eq(lrk_sink_create(r.set, gradients, &r.sink), LRK_OK);
    lrk_pass_options options = pass_options(t->rows > 0 ? t->rows : 1);
    options.mode = LRK_PASS_TRAIN;
    options.gradients = gradients;
    options.mask = r.mask;
    options.sink = r.sink;
    options.nonce = t->nonce;
    options.first_row = t->first_row;
    r.pass = pass_open(r.set, options);
    r.x = padded_make(t->rows, t->shapes[0].n_in, 3, 11);
    r.dx = padded_make(t->rows, t->shapes[0].n_in, 2, 12);
    r.dx_before = padded_copy(&r.dx);
    for (int32_t i = 0; i < t->n; i++) {
        r.modules[i] = i;
        r.y[i] = padded_make(t->rows, t->shapes[i].n_out, i, 20 + (uint64_t)i);
        r.y_before[i] = padded_copy(&r.y[i]);
        r.dy[i] = padded_make(t->rows, t->shapes[i].n_out, 1 + i, 30 + (uint64_t)i);
    }
    if (t->saved) {
        ck_assert_int_eq(lrk_saved_size(r.set, r.modules, t->n, t->rows, &r.saved_bytes), LRK_OK);
        r.saved = malloc(r.saved_bytes);
    }
    return r;
}

static void run_forward(const trial *t, run *r)
{
    lrk_matrix x = padded_view(&r->x);
    lrk_matrix_mut y[MAX_MODULES];
    for (int32_t i = 0; i < t->n; i++)
        y[i] = padded_mut(&r->y[i]);
    ck_assert_int_eq(lrk_forward(r->pass, r->modules, t->n, &x, y, r->saved, r->saved_bytes), LRK_OK);
}

static void run_backward(const trial *t, run *r, bool wants_dx)
{
    lrk_matrix x = padded_view(&r->x), dy[MAX_MODULES];
    lrk_matrix_mut dx = padded_mut(&r->dx);
    for (int32_t i = 0; i < t->n; i++)
        dy[i] = padded_view(&r->dy[i]);
    ck_assert_int_eq(
        lrk_backward(r->pass, r->modules, t->n, &x, r->saved, r->saved_bytes, dy, wants_dx ? &dx : NULL),
        LRK_OK);
}

static void run_end(const trial *t, run *r)
{
    lrk_pass_end(r->pass);
    lrk_mask_destroy(r->mask);
    lrk_sink_destroy(r->sink);
    lrk_adapters_destroy(r->set);
    free(r->saved);
    padded_free(&r->x);
    padded_free(&r->dx);
    padded_free(&r->dx_before);
    for (int32_t i = 0; i < t->n; i++) {
        padded_free(&r->y[i]);
        padded_free(&r->y_before[i]);
        padded_free(&r->dy[i]);
    }
}

/* ---- the oracle's view of a run --------------------------------------------------------------------------------------- */

/* What x is multiplied by, from the documented key: group, or 2^32 + module. */
static double *keep_of(const trial *t, const run *r, int32_t module)
{
    if (t->dropout == 0.0) return NULL;
    int64_t n_in = t->shapes[module].n_in;
    int32_t group = t->shapes[module].group;
    uint64_t identity = group >= 0 ? (uint64_t)group : ((uint64_t)1 << 32) + (uint64_t)module;
    lrki_stream stream = lrki_stream_make(r->set->seed, LRKI_STREAM_DROPOUT, identity, t->nonce);
    lrki_dropout d = lrki_dropout_make(stream, t->dropout, t->first_row, n_in);
    double *keep = malloc((size_t)(t->rows * n_in + 1) * sizeof *keep);
    for (int64_t i = 0; i < t->rows; i++)
        for (int64_t j = 0; j < n_in; j++)
            keep[i * n_in + j] =
                lrki_dropout_keeps(&d, i, j) ? (double)(float)(1.0 / (1.0 - t->dropout)) : 0.0;
    return keep;
}

static void mask_of(const run *r, int32_t module, float *mask)
{
    const lrki_module *m = &r->set->modules[module];
    for (int64_t j = 0; j < m->bank.rank; j++) {
        bool the_one = m->bank.identities[j] == 2;
        mask[j] = r->mask->form == LRKI_MASK_ALL       ? 1.0f
                  : r->mask->form == LRKI_MASK_NONE    ? 0.0f
                  : r->mask->form == LRKI_MASK_WITHOUT ? (the_one ? 0.0f : 1.0f)
                  : r->mask->form == LRKI_MASK_ONLY    ? (the_one ? 1.0f : 0.0f)
                                                       : r->mask->values[m->first_rank + j];
    }
}

static oracle_case case_of(const trial *t, const run *r, int32_t i, const float *mask, const double *keep)
{
    const lrki_module *m = &r->set->modules[i];
    return (oracle_case){.rows = t->rows,
                         .n_in = m->n_in,
                         .n_out = m->n_out,
                         .rank = m->bank.rank,
                         .scale = m->scale,
                         .a = m->bank.a,
                         .b = m->bank.b,
                         .gates = m->bank.gates,
                         .mask = mask,
                         .x = r->x.data,
                         .ld_x = r->x.ld,
                         .keep = keep,
                         .dy = r->dy[i].data,
                         .ld_dy = r->dy[i].ld};
}

static double *zeros(int64_t n)
{
    double *v = calloc((size_t)n + 1, sizeof *v);
    ck_assert_ptr_nonnull(v);
    return v;
}

/* Compares a padded matrix with before + delta within gamma(length) * (|before| + size). */
static void compare_matrix(const char *what, const padded *got, const padded *before, const double *delta,
                           const double *size, int64_t length)
{
    for (int64_t i = 0; i < got->rows; i++)
        for (int64_t j = 0; j < got->cols; j++) {
            double old = (double)before->data[i * before->ld + j];
            double is = (double)got->data[i * got->ld + j], want = old + delta[i * got->cols + j];
            if (!oracle_within(is, want, fabs(old) + size[i * got->cols + j],
                               length)) /* ck_assert writes a file */
                ck_abort_msg("%s[%d][%d] is %.9g, not %.9g", what, (int)i, (int)j, is, want);
        }
    ck_assert_msg(padded_intact(got), "%s: padding was written", what);
}

static void compare_values(const char *what, const float *got, double times, const double *want,
                           const double *size, int64_t n, int64_t length)
{
    for (int64_t i = 0; i < n; i++)
        if (!oracle_within((double)got[i], times * want[i], times * size[i], length))
            ck_abort_msg("%s[%d] is %.9g, not %.9g", what, (int)i, (double)got[i], times * want[i]);
}

static void check_forward(const trial *t, const run *r)
{
    float mask[64];
    for (int32_t i = 0; i < t->n; i++) {
        double *keep = keep_of(t, r, i), *y = zeros(t->rows * t->shapes[i].n_out),
               *size = zeros(t->rows * t->shapes[i].n_out);
        mask_of(r, i, mask);
        oracle_case c = case_of(t, r, i, mask, keep);
        oracle_forward(&c, y, false);
        oracle_forward(&c, size, true);
        compare_matrix("y", &r->y[i], &r->y_before[i], y, size, c.n_in + c.rank + 8);
        free(keep);
        free(y);
        free(size);
    }
}

/* The sink's derivatives of one module after t->backwards calls; dx and its size are added up over modules. */
static void check_module_gradients(const trial *t, const run *r, int32_t i, double *dx, double *dx_size)
{
    float mask[64];
    double *keep = keep_of(t, r, i);
    mask_of(r, i, mask);
    oracle_case c = case_of(t, r, i, mask, keep);
    int64_t a = c.rank * c.n_in, b = c.rank * c.n_out, times = t->backwards;
    double *v = zeros(2 * (a + b + 2 * c.rank)), *s = v + a + b + 2 * c.rank;
    oracle_backward(&c, (oracle_gradients){dx, v, v + a, v + a + b, v + a + b + c.rank}, false);
    oracle_backward(&c, (oracle_gradients){dx_size, s, s + a, s + a + b, s + a + b + c.rank}, true);

    lrk_tensor tensor = {.struct_size = sizeof tensor};
    const double *dm;
    int64_t n;
    ck_assert_int_eq(lrk_sink_tensor(r->sink, i, LRK_TENSOR_GRAD_A, &tensor), LRK_OK);
    compare_values("dA", tensor.data, (double)times, v, s, a, c.n_out + times * c.rows + 8);
    ck_assert_int_eq(lrk_sink_tensor(r->sink, i, LRK_TENSOR_GRAD_B, &tensor), LRK_OK);
    compare_values("dB", tensor.data, (double)times, v + a, s + a, b, c.n_in + times * c.rows + 8);
    ck_assert_int_eq(lrk_sink_tensor(r->sink, i, LRK_TENSOR_GRAD_GATES, &tensor), LRK_OK);
    compare_values("dg", tensor.data, (double)times, v + a + b, s + a + b, c.rank, c.n_in + c.n_out + 8);
    ck_assert_int_eq(lrk_sink_mask_gradients(r->sink, &dm, &n), LRK_OK);
    ck_assert_int_eq(n, r->set->n_ranks);
    for (int64_t j = 0; j < c.rank; j++)
        ck_assert_msg(oracle_within(dm[r->set->modules[i].first_rank + j],
                                    (double)times * v[a + b + c.rank + j],
                                    (double)times * s[a + b + c.rank + j], c.n_in + c.n_out + 8),
                      "dm[%d] of module %d", (int)j, (int)i);
    free(v);
    free(keep);
}

static void check_trial(const trial *t)
{
    run r = run_begin(t, EVERY);
    int64_t n = t->rows * t->shapes[0].n_in, n_out = 0, ranks = 0;
    double *dx = zeros(n), *size = zeros(n);
    run_forward(t, &r);
    check_forward(t, &r);
    for (int i = 0; i < t->backwards; i++)
        run_backward(t, &r, i == 0);
    for (int32_t i = 0; i < t->n; i++) {
        check_module_gradients(t, &r, i, dx, size);
        ranks += t->shapes[i].rank;
        if (t->shapes[i].n_out > n_out) n_out = t->shapes[i].n_out;
    }
    compare_matrix("dx", &r.dx, &r.dx_before, dx, size, n_out + ranks + 8);
    free(dx);
    free(size);
    run_end(t, &r);
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

static trial group_trial(lrk_context *context, int64_t rows)
{
    return (trial){.context = context,
                   .rows = rows,
                   .n = 3,
                   .shapes = {{19, 40, 5, 7, 0, 0.5}, {19, 17, 0, 7, 0, 2.0}, {19, 150, 3, 7, 0, 1.25}},
                   .backwards = 1,
                   .nonce = 3,
                   .first_row = 1000};
}

/* _i: mask form x dropout x saved x two backward calls */
START_TEST(groups_masks_and_dropout_agree_with_the_oracle)
{
    static const int64_t rows[] = {1, 77, 129};
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

/* Wider than a tile of dropout, wider than a block of columns, more rows than a chunk. */
START_TEST(large_shapes_agree_with_the_oracle)
{
    trial t = {.context = plain,
               .rows = 270,
               .n = 1,
               .shapes = {{600, 300, 9, LRK_NO_GROUP, 0, 2.0}},
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
    run_forward(t, r);
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

START_TEST(every_derivative_agrees_with_finite_differences)
{
    trial t = {.context = counted,
               .rows = 4,
               .n = 2,
               .shapes = {{5, 3, 3, 0, 0, 0.75}, {5, 4, 2, 0, 0, 1.5}},
               .dropout = 0.25,
               .mask = LRKI_MASK_VALUES,
               .backwards = 1,
               .nonce = 8};
    run r = run_begin(&t, EVERY);
    const double *dm;
    int64_t n;
    memset(r.dx.data, 0, (size_t)(t.rows * r.dx.ld) * sizeof(float));
    run_forward(&t, &r);
    run_backward(&t, &r, true);
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
    run_end(&t, &r);
}
END_TEST

/* ---- relations ------------------------------------------------------------------------------------------------------------ */

START_TEST(doubling_the_input_doubles_the_update)
{
    trial t = group_trial(plain, 50);
    t.dropout = 0.2;
    run one = run_begin(&t, 0), two = run_begin(&t, 0);
    for (int64_t k = 0; k < t.rows * two.x.ld; k++)
        two.x.data[k] *= 2.0f;
    for (int32_t i = 0; i < t.n; i++) {
        memset(one.y[i].data, 0, (size_t)(t.rows * one.y[i].ld) * sizeof(float));
        memset(two.y[i].data, 0, (size_t)(t.rows * two.y[i].ld) * sizeof(float));
    }
    run_forward(&t, &one);
    run_forward(&t, &two);
    for (int32_t i = 0; i < t.n; i++)
        for (int64_t k = 0; k < t.rows * one.y[i].ld; k++)
            ck_assert_float_eq(2.0f * one.y[i].data[k],
                               two.y[i].data[k]); /* a power of two commutes with rounding */
    run_end(&t, &one);
    run_end(&t, &two);
}
END_TEST

/* The counting host's GEMM computes each row for itself, so that rows may be split without changing a bit. */
START_TEST(splitting_rows_changes_nothing_in_y_and_dx)
{
    trial t = group_trial(counted, 90);
    t.dropout = 0.2;
    run whole = run_begin(&t, 0);
    run_forward(&t, &whole);
    run_backward(&t, &whole, true);
    for (int64_t first = 0, rows; first < 90; first += rows) {
        rows = first == 0 ? 37 : 53;
        trial part = t;
        part.rows = rows;
        part.first_row = t.first_row + first;
        run r = run_begin(&part, 0);
        for (int64_t i = 0; i < rows; i++) {
            memcpy(r.x.data + i * r.x.ld, whole.x.data + (first + i) * whole.x.ld, 19 * sizeof(float));
            memcpy(r.dx.data + i * r.dx.ld, whole.dx_before.data + (first + i) * whole.dx.ld,
                   19 * sizeof(float));
            for (int32_t m = 0; m < t.n; m++) {
                size_t bytes = (size_t)t.shapes[m].n_out * sizeof(float);
                memcpy(r.y[m].data + i * r.y[m].ld, whole.y_before[m].data + (first + i) * whole.y[m].ld,
                       bytes);
                memcpy(r.dy[m].data + i * r.dy[m].ld, whole.dy[m].data + (first + i) * whole.dy[m].ld, bytes);
            }
        }
        run_forward(&part, &r);
        run_backward(&part, &r, true);
        for (int64_t i = 0; i < rows; i++) {
            ck_assert_mem_eq(r.dx.data + i * r.dx.ld, whole.dx.data + (first + i) * whole.dx.ld,
                             19 * sizeof(float));
            for (int32_t m = 0; m < t.n; m++)
                ck_assert_mem_eq(r.y[m].data + i * r.y[m].ld, whole.y[m].data + (first + i) * whole.y[m].ld,
                                 (size_t)t.shapes[m].n_out * sizeof(float));
        }
        run_end(&part, &r);
    }
    run_end(&t, &whole);
}
END_TEST

static void swap_rows(float *data, int64_t a, int64_t b, int64_t cols)
{
    for (int64_t k = 0; k < cols; k++) {
        float v = data[a * cols + k];
        data[a * cols + k] = data[b * cols + k];
        data[b * cols + k] = v;
    }
}

START_TEST(permuting_ranks_permutes_gradients_and_nothing_else)
{
    trial t = {
        .context = plain, .rows = 33, .n = 1, .shapes = {{21, 18, 6, LRK_NO_GROUP, 0, 1.0}}, .backwards = 1};
    run r = run_begin(&t, EVERY), p = run_begin(&t, EVERY);
    lrki_bank *bank = &p.set->modules[0].bank;
    swap_rows(bank->a, 1, 4, 21);
    swap_rows(bank->b, 1, 4, 18);
    swap_rows(bank->gates, 1, 4, 1);
    run_forward(&t, &r);
    run_forward(&t, &p);
    check_forward(&t, &r);
    check_forward(&t, &p); /* both within the bound of the same sum */
    run_backward(&t, &r, true);
    run_backward(&t, &p, true);
    lrk_tensor a = {.struct_size = sizeof a}, b = a;
    ck_assert_int_eq(lrk_sink_tensor(r.sink, 0, LRK_TENSOR_GRAD_A, &a), LRK_OK);
    ck_assert_int_eq(lrk_sink_tensor(p.sink, 0, LRK_TENSOR_GRAD_A, &b), LRK_OK);
    double scale = 0.0;
    for (int64_t k = 0; k < 6 * 21; k++)
        scale = fmax(scale, fabs((double)a.data[k]));
    swap_rows(b.data, 1, 4, 21);
    /* every factor is at most 1.5 in size: P 18, D 1.5 P, summed over 33 rows */
    double bound = 2.0 * oracle_gamma(18 + 33 + 8) * 33.0 * 18.0 * 1.5;
    for (int64_t k = 0; k < 6 * 21; k++)
        ck_assert_double_le(fabs((double)a.data[k] - (double)b.data[k]), bound);
    ck_assert_double_gt(scale, 100.0 * bound);
    run_end(&t, &r);
    run_end(&t, &p);
}
END_TEST

START_TEST(a_group_equals_its_modules_one_by_one)
{
    trial t = group_trial(counted, 60);
    t.dropout = _i ? 0.3 : 0.0;
    t.saved = _i;
    run together = run_begin(&t, EVERY), apart = run_begin(&t, EVERY);
    run_forward(&t, &together);
    run_backward(&t, &together, true);
    for (int32_t i = 0; i < t.n; i++) {
        lrk_matrix x = padded_view(&apart.x), dy = padded_view(&apart.dy[i]);
        lrk_matrix_mut y = padded_mut(&apart.y[i]), dx = padded_mut(&apart.dx);
        ck_assert_int_eq(lrk_forward(apart.pass, &i, 1, &x, &y, NULL, 0), LRK_OK);
        ck_assert_int_eq(lrk_backward(apart.pass, &i, 1, &x, NULL, 0, &dy, &dx), LRK_OK);
        ck_assert(padded_same(&together.y[i], &apart.y[i]));
    }
    if (t.dropout == 0.0)
        ck_assert(padded_same(&together.dx, &apart.dx)); /* with dropout the sum is masked once */
    ck_assert_mem_eq(together.sink->values, apart.sink->values,
                     (size_t)together.sink->offsets[t.n] * sizeof(float));
    ck_assert_mem_eq(together.sink->mask_gradients, apart.sink->mask_gradients, 8 * sizeof(double));
    run_end(&t, &together);
    run_end(&t, &apart);
}
END_TEST

START_TEST(saved_activations_change_no_bit)
{
    trial t = group_trial(_i ? counted : plain, 140);
    t.dropout = 0.3;
    t.mask = LRKI_MASK_WITHOUT;
    run computed = run_begin(&t, EVERY);
    run_forward(&t, &computed);
    run_backward(&t, &computed, true);
    t.saved = true;
    run kept = run_begin(&t, EVERY);
    run_forward(&t, &kept);
    run_backward(&t, &kept, true);
    ck_assert(padded_same(&computed.dx, &kept.dx));
    ck_assert_mem_eq(computed.sink->values, kept.sink->values,
                     (size_t)kept.sink->offsets[t.n] * sizeof(float));
    ck_assert_mem_eq(computed.sink->mask_gradients, kept.sink->mask_gradients, 8 * sizeof(double));
    run_end(&t, &computed);
    run_end(&t, &kept);
}
END_TEST

START_TEST(the_sets_own_gradients_equal_a_sinks)
{
    trial t = group_trial(plain, 70);
    run r = run_begin(&t, LRK_GRAD_PARAMETERS | LRK_GRAD_GATES);
    run_forward(&t, &r);
    run_backward(&t, &r, true);
    lrk_pass_options options = pass_options(70);
    options.gradients = LRK_GRAD_PARAMETERS | LRK_GRAD_GATES;
    options.nonce = t.nonce;
    lrk_pass *own = pass_open(r.set, options);
    lrk_matrix x = padded_view(&r.x), dy[3];
    for (int32_t i = 0; i < 3; i++)
        dy[i] = padded_view(&r.dy[i]);
    ck_assert(!r.set->modules[0].has_gradient);
    ck_assert_int_eq(lrk_backward(own, r.modules, 3, &x, NULL, 0, dy, NULL), LRK_OK);
    lrk_pass_end(own);
    for (int32_t i = 0; i < 3; i++) {
        ck_assert(r.set->modules[i].has_gradient); /* rank 0 counts too */
        for (int32_t which = LRK_TENSOR_GRAD_A; which <= LRK_TENSOR_GRAD_GATES; which++) {
            lrk_tensor mine = set_tensor(r.set, i, which), sinks = {.struct_size = sizeof sinks};
            ck_assert_int_eq(lrk_sink_tensor(r.sink, i, which, &sinks), LRK_OK);
            ck_assert_int_eq(sinks.rows, mine.rows);
            ck_assert_int_eq(sinks.cols, mine.cols);
            if (mine.rows > 0)
                ck_assert_mem_eq(mine.data, sinks.data, (size_t)(mine.rows * mine.cols) * sizeof(float));
        }
    }
    run_end(&t, &r);
}
END_TEST

/* ---- masks: what takes no part ---------------------------------------------------------------------------------------------- */

START_TEST(a_silent_module_costs_nothing_and_stays_untouched)
{
    trial t = group_trial(counted, 30);
    t.mask = LRKI_MASK_NONE;
    run r = run_begin(&t, LRK_GRAD_PARAMETERS);
    r.x.data[5] = NAN;
    run_forward(&t, &r);
    run_backward(&t, &r, true);
    for (int32_t i = 0; i < t.n; i++)
        ck_assert(padded_same(&r.y[i], &r.y_before[i]));
    ck_assert(padded_same(&r.dx, &r.dx_before));
    ck_assert_int_eq(f.gemm.calls, 0);
    ck_assert_int_eq(f.loop.calls, 0);
    for (int64_t k = 0; k < r.sink->offsets[t.n]; k++)
        ck_assert_float_eq(r.sink->values[k], 0.0f);
    run_end(&t, &r);
}
END_TEST

START_TEST(only_one_rank_costs_one_rank)
{
    trial t = group_trial(counted, 30);
    t.mask = LRKI_MASK_ONLY;
    run r = run_begin(&t, LRK_GRAD_PARAMETERS);
    run_forward(&t, &r);
    ck_assert_int_eq(f.multiply_adds, 30 * (19 + 40));
    f.multiply_adds = 0;
    run_backward(&t, &r, true); /* H, P, dx, dA, dB */
    ck_assert_int_eq(f.multiply_adds, 30 * (3 * 19 + 2 * 40));
    ck_assert(padded_same(&r.y[2], &r.y_before[2]));
    run_end(&t, &r);
}
END_TEST

START_TEST(what_is_not_asked_for_is_not_computed)
{
    trial t = group_trial(counted, 30);
    run r = run_begin(&t, 0);
    run_backward(&t, &r, true); /* P and dx alone */
    ck_assert_int_eq(f.multiply_adds, 30 * (5 * (40 + 19) + 3 * (150 + 19)));
    f.multiply_adds = 0;
    run_backward(&t, &r, false);
    ck_assert_int_eq(f.multiply_adds, 0);
    run_end(&t, &r);

    f.multiply_adds = 0;
    r = run_begin(&t, LRK_GRAD_MASK);
    run_backward(&t, &r, false); /* H and P */
    ck_assert_int_eq(f.multiply_adds, 30 * (5 * (40 + 19) + 3 * (150 + 19)));
    lrk_pass_end(r.pass);
    r.pass = NULL;
    ck_assert_int_eq(lrk_sink_accumulate(r.sink, 1.0),
                     LRK_OK); /* mask derivatives are no gradient of the set */
    ck_assert(!r.set->modules[0].has_gradient);
    run_end(&t, &r);
}
END_TEST

START_TEST(a_masked_rank_gets_exactly_no_gradient)
{
    trial t = group_trial(plain, 30);
    t.mask = LRKI_MASK_WITHOUT; /* identity 2: rank 1 of module 0 */
    run r = run_begin(&t, EVERY);
    run_backward(&t, &r, true);
    lrk_tensor a = {.struct_size = sizeof a}, b = a, g = a;
    ck_assert_int_eq(lrk_sink_tensor(r.sink, 0, LRK_TENSOR_GRAD_A, &a), LRK_OK);
    ck_assert_int_eq(lrk_sink_tensor(r.sink, 0, LRK_TENSOR_GRAD_B, &b), LRK_OK);
    ck_assert_int_eq(lrk_sink_tensor(r.sink, 0, LRK_TENSOR_GRAD_GATES, &g), LRK_OK);
    for (int64_t k = 0; k < 19; k++) {
        ck_assert_float_eq(a.data[19 + k], 0.0f);
        ck_assert_float_ne(a.data[k], 0.0f);
    }
    for (int64_t k = 0; k < 40; k++)
        ck_assert_float_eq(b.data[40 + k], 0.0f);
    ck_assert_float_eq(g.data[1], 0.0f);
    ck_assert_double_ne(r.sink->mask_gradients[1], 0.0);
    run_end(&t, &r);
}
END_TEST

START_TEST(non_finite_values_propagate)
{
    trial t = {
        .context = plain, .rows = 3, .n = 1, .shapes = {{4, 2, 2, LRK_NO_GROUP, 0, 1.0}}, .backwards = 1};
    run r = run_begin(&t, LRK_GRAD_PARAMETERS);
    r.x.data[r.x.ld + 1] = INFINITY;
    run_forward(&t, &r);
    run_backward(&t, &r, true);
    ck_assert(!isfinite(r.y[0].data[r.y[0].ld]) && !isfinite(r.sink->values[1]));
    ck_assert(isfinite(r.y[0].data[0]) && isfinite(r.y[0].data[2 * r.y[0].ld]));
    run_end(&t, &r);
}
END_TEST

/* ---- dropout ------------------------------------------------------------------------------------------------------------------ */

/* y of one module from zero, under a trial that may differ in dropout, nonce and place. */
static padded update_of(trial t, int32_t module)
{
    run r = run_begin(&t, 0);
    lrk_matrix x = padded_view(&r.x);
    padded y = padded_make(t.rows, t.shapes[module].n_out, 0, 1);
    memset(y.data, 0, (size_t)(t.rows * y.ld) * sizeof(float));
    lrk_matrix_mut view = padded_mut(&y);
    ck_assert_int_eq(lrk_forward(r.pass, &module, 1, &x, &view, NULL, 0), LRK_OK);
    run_end(&t, &r);
    return y;
}

static bool same_update(trial a, trial b)
{
    padded ya = update_of(a, 0), yb = update_of(b, 0);
    bool same = padded_same(&ya, &yb);
    padded_free(&ya);
    padded_free(&yb);
    return same;
}

START_TEST(dropout_depends_on_nonce_and_row_and_repeats)
{
    trial t = group_trial(counted, 20);
    t.dropout = 0.5;
    trial other = t;
    ck_assert(same_update(t, other));
    other.nonce = t.nonce + 1;
    ck_assert(!same_update(t, other));
    other = t;
    other.first_row = t.first_row + 1;
    ck_assert(!same_update(t, other));
    other = t;
    other.shapes[0].group = other.shapes[1].group = other.shapes[2].group = 8;
    ck_assert(!same_update(t, other));
    other.shapes[0].group = LRK_NO_GROUP;
    ck_assert(!same_update(t, other));
}
END_TEST

START_TEST(evaluation_drops_nothing)
{
    trial t = group_trial(counted, 20);
    t.dropout = 0.5;
    run r = run_begin(&t, 0);
    lrk_pass *pass = pass_open(r.set, pass_options(20));
    lrk_matrix x = padded_view(&r.x);
    lrk_matrix_mut y[3] = {padded_mut(&r.y[0]), padded_mut(&r.y[1]), padded_mut(&r.y[2])};
    ck_assert_int_eq(lrk_forward(pass, r.modules, 3, &x, y, NULL, 0), LRK_OK);
    lrk_pass_end(pass);
    t.dropout = 0.0;
    check_forward(&t, &r);
    run_end(&t, &r);
}
END_TEST

/* ---- determinism ---------------------------------------------------------------------------------------------------------------- */

static trial wide_trial(lrk_context *context, int64_t rows, bool dropout)
{
    return (trial){.context = context,
                   .rows = rows,
                   .n = 2,
                   .shapes = {{300, 200, 6, 1, 0, 1.0}, {300, 130, 3, 1, 0, 1.0}},
                   .dropout = dropout ? 0.2 : 0.0,
                   .saved = true,
                   .backwards = 1};
}

static void check_same_run(const trial *t, const run *a, const run *b)
{
    ck_assert(padded_same(&a->dx, &b->dx));
    for (int32_t i = 0; i < t->n; i++)
        ck_assert(padded_same(&a->y[i], &b->y[i]));
    ck_assert_mem_eq(a->sink->values, b->sink->values, (size_t)a->sink->offsets[t->n] * sizeof(float));
    ck_assert_mem_eq(a->sink->mask_gradients, b->sink->mask_gradients,
                     (size_t)a->sink->n_mask * sizeof(double));
}

static run whole_run(const trial *t)
{
    run r = run_begin(t, EVERY);
    run_forward(t, &r);
    run_backward(t, &r, true);
    return r;
}

START_TEST(bits_do_not_depend_on_the_hosts_threads)
{
    static const int64_t rows[] = {3, 100, 400};
    trial t = wide_trial(counted, rows[_i % 3], _i / 3);
    run serial = whole_run(&t);
    for (f.threads = 2; f.threads <= 3; f.threads++) {
        run parallel = whole_run(&t);
        check_same_run(&t, &serial, &parallel);
        run_end(&t, &parallel);
    }
    run_end(&t, &serial);
}
END_TEST

#ifdef _OPENMP
START_TEST(bits_do_not_depend_on_the_width_of_openmp)
{
    static const int64_t rows[] = {3, 100, 400};
    if (lrki_blas_has_own_threads()) return;
    trial t = wide_trial(plain, rows[_i % 3], _i / 3);
    omp_set_num_threads(1);
    run serial = whole_run(&t);
    for (int threads = 2; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        run parallel = whole_run(&t);
        check_same_run(&t, &serial, &parallel);
        run_end(&t, &parallel);
    }
    run_end(&t, &serial);
}
END_TEST
#endif

#define WORKERS 3

typedef struct worker {
    lrk_adapters *set;
    lrk_sink *sink;
    uint64_t number;
    lrk_status status;
} worker;

/* One micro-batch into the worker's own sink. */
static void *train(void *argument)
{
    worker *w = argument;
    lrk_pass *pass = NULL;
    int32_t modules[2] = {0, 1};
    lrk_pass_options options = {.struct_size = sizeof options,
                                .mode = LRK_PASS_TRAIN,
                                .gradients = EVERY,
                                .max_rows = 150,
                                .nonce = w->number,
                                .sink = w->sink};
    padded x = padded_make(150, 300, 0, w->number), y0 = padded_make(150, 200, 0, 2),
           y1 = padded_make(150, 130, 0, 3);
    lrk_matrix view = padded_view(&x), dy[2] = {padded_view(&y0), padded_view(&y1)};
    lrk_matrix_mut y[2] = {padded_mut(&y0), padded_mut(&y1)};
    w->status = lrk_pass_begin(w->set, &options, &pass);
    if (w->status == LRK_OK) w->status = lrk_forward(pass, modules, 2, &view, y, NULL, 0);
    if (w->status == LRK_OK) w->status = lrk_backward(pass, modules, 2, &view, NULL, 0, dy, NULL);
    lrk_pass_end(pass);
    padded_free(&x);
    padded_free(&y0);
    padded_free(&y1);
    return NULL;
}

static void train_all(lrk_adapters *set, worker *workers, bool concurrent)
{
    pthread_t threads[WORKERS];
    for (uint64_t i = 0; i < WORKERS; i++) {
        workers[i] = (worker){.set = set, .number = i + 1, .status = LRK_ERR_STATE};
        ck_assert_int_eq(lrk_sink_create(set, EVERY, &workers[i].sink), LRK_OK);
        if (concurrent)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, train, &workers[i]), 0);
        else
            train(&workers[i]);
    }
    for (int i = 0; i < WORKERS; i++) {
        if (concurrent) pthread_join(threads[i], NULL);
        ck_assert_int_eq(workers[i].status, LRK_OK);
    }
}

START_TEST(concurrent_passes_equal_serial_ones)
{
    trial t = wide_trial(counted, 1, true);
    lrk_adapters *set = set_make(counted, t.shapes, 2, 0.2, 0);
    set_fill(set, 3);
    worker serial[WORKERS], concurrent[WORKERS];
    f.threads = 2;
    train_all(set, serial, false);
    train_all(set, concurrent, true);
    int64_t n = serial[0].sink->offsets[2];
    for (int i = 0; i < WORKERS; i++) {
        ck_assert_mem_eq(serial[i].sink->values, concurrent[i].sink->values, (size_t)n * sizeof(float));
        ck_assert_mem_eq(serial[i].sink->mask_gradients, concurrent[i].sink->mask_gradients,
                         9 * sizeof(double));
    }
    ck_assert(!set->modules[0].has_gradient);
    for (int i = 0; i < WORKERS; i++)
        ck_assert_int_eq(lrk_sink_accumulate(concurrent[i].sink, 0.5), LRK_OK);
    float sum = 0.0f;
    for (int i = 0; i < WORKERS; i++)
        sum = (float)((double)sum + 0.5 * (double)serial[i].sink->values[0]);
    ck_assert_float_eq(set->modules[0].bank.grad_a[0], sum);
    ck_assert(set->modules[0].has_gradient && set->modules[1].has_gradient);
    ck_assert_int_eq(set->open_passes, 0);
    for (int i = 0; i < WORKERS; i++) {
        lrk_sink_destroy(serial[i].sink);
        lrk_sink_destroy(concurrent[i].sink);
    }
    lrk_adapters_destroy(set);
}
END_TEST

START_TEST(the_hot_path_does_not_allocate)
{
    trial t = wide_trial(counted, 200, true);
    run r = run_begin(&t, EVERY);
    int64_t before = f.alloc.calls;
    run_forward(&t, &r);
    run_backward(&t, &r, true);
    ck_assert_int_eq(f.alloc.calls, before);
    lrk_pass_options options = pass_options(200);
    options.mask = r.mask;
    lrk_pass_end(r.pass);
    r.pass = pass_open(r.set, options); /* the ended pass and its workspace serve again */
    ck_assert_int_eq(f.alloc.calls, before);
    run_end(&t, &r);
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
    tcase_add_loop_test(tc, large_shapes_agree_with_the_oracle, 0, 2);
    tcase_add_test(tc, long_inputs_agree_with_the_oracle);
    tcase_add_test(tc, every_derivative_agrees_with_finite_differences);
    tcase_add_test(tc, doubling_the_input_doubles_the_update);
    tcase_add_test(tc, splitting_rows_changes_nothing_in_y_and_dx);
    tcase_add_test(tc, permuting_ranks_permutes_gradients_and_nothing_else);
    tcase_add_loop_test(tc, a_group_equals_its_modules_one_by_one, 0, 2);
    tcase_add_loop_test(tc, saved_activations_change_no_bit, 0, 2);
    tcase_add_test(tc, the_sets_own_gradients_equal_a_sinks);
    tcase_add_test(tc, a_silent_module_costs_nothing_and_stays_untouched);
    tcase_add_test(tc, only_one_rank_costs_one_rank);
    tcase_add_test(tc, what_is_not_asked_for_is_not_computed);
    tcase_add_test(tc, a_masked_rank_gets_exactly_no_gradient);
    tcase_add_test(tc, non_finite_values_propagate);
    tcase_add_test(tc, dropout_depends_on_nonce_and_row_and_repeats);
    tcase_add_test(tc, evaluation_drops_nothing);
    tcase_add_loop_test(tc, bits_do_not_depend_on_the_hosts_threads, 0, 6);
#ifdef _OPENMP
    tcase_add_loop_test(tc, bits_do_not_depend_on_the_width_of_openmp, 0, 6);
#endif
    tcase_add_test(tc, concurrent_passes_equal_serial_ones);
    tcase_add_test(tc, the_hot_path_does_not_allocate);
    suite_add_tcase(suite, tc);
    return suite;
}
