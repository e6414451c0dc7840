/* SPDX-License-Identifier: MIT */
/*
 * Sketches: the sums against naive loops, what a pass with a sketch leaves alone, adding up, threads, every refusal, faults.
 * Singular values and vectors are tested in test_sketch_spectrum.c.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "half.h"
#include "oracle.h"
#include "sets.h"
#include "sketch_rig.h"

#define MOST 4096

static void close_rig(void)
{
    sketch_rig_close();
}

static void open_rig(void)
{
    sketch_rig_open(LRK_KERNELS_BLAS, 1);
}

/* ---- sums ---------------------------------------------------------------------------------------------------------- */

/* out [s x to->cols] += (from random^T)^T to, as W and Y are; sizes of absolute values. */
static void naive_sums(const padded *from, const float *random, int64_t s, const padded *to, double *out,
                       double *sizes)
{
    for (int64_t t = 0; t < from->rows; t++)
        for (int64_t j = 0; j < s; j++) {
            double h = 0, size = 0;
            for (int64_t i = 0; i < from->cols; i++) {
                double term = (double)from->data[t * from->ld + i] * (double)random[j * from->cols + i];
                h += term, size += fabs(term);
            }
            for (int64_t c = 0; c < to->cols; c++) {
                double value = (double)to->data[t * to->ld + c];
                out[j * to->cols + c] += h * value;
                sizes[j * to->cols + c] += size * fabs(value);
            }
        }
}

static void check_sums(const float *got, const padded *from, const float *random, int64_t s, const padded *to,
                       int times)
{
    double want[MOST] = {0}, sizes[MOST] = {0};
    ck_assert_int_le(s * to->cols, MOST);
    for (int i = 0; i < times; i++)
        naive_sums(from, random, s, to, want, sizes);
    for (int64_t i = 0; i < s * to->cols; i++)
        ck_assert_msg(oracle_within((double)got[i], want[i], sizes[i], from->cols + times * from->rows + 8),
                      "%lld: %g instead of %g", (long long)i, (double)got[i], want[i]);
}

static void check_module(const lrk_sketch *sketch, int32_t module, const padded *x, const padded *dy,
                         int times)
{
    const lrki_sketch_module *own = &sketch->modules[module];
    check_sums(own->w, dy, own->psi, own->samples, x, times);
    check_sums(own->y, x, own->omega, own->samples, dy, times);
}

typedef struct sums_case {
    int32_t kernels;
    int64_t directions; /* few: fused kernels; many: GEMM */
    int32_t dtype;
} sums_case;

static const sums_case sums_cases[] = {
    {LRK_KERNELS_BLAS, 3, LRK_DTYPE_F32},     {LRK_KERNELS_AUTO, 3, LRK_DTYPE_F32},
    {LRK_KERNELS_GENERIC, 2, LRK_DTYPE_F32},  {LRK_KERNELS_AUTO, 40, LRK_DTYPE_F32},
    {LRK_KERNELS_AUTO, 3, LRK_DTYPE_BF16},    {LRK_KERNELS_BLAS, 3, LRK_DTYPE_F16},
    {LRK_KERNELS_GENERIC, 40, LRK_DTYPE_BF16}};

START_TEST(sums_are_those_of_the_formulas)
{
    const sums_case *c = &sums_cases[_i];
    sketch_rig_open(c->kernels, 1);
    lrk_sketch_options options = sketch_options(c->directions);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options);
    coded x = coded_make(c->dtype, &sketch_rig.x);
    coded dy0 = coded_make(c->dtype, &sketch_rig.dy[0]), dy1 = coded_make(c->dtype, &sketch_rig.dy[1]);
    lrk_pass *pass = sketch_pass(sketch_rig.set, sketch, SKETCH_ROWS);
    lrk_matrix vx = coded_view(&x, &sketch_rig.x);
    lrk_matrix vdy[2] = {coded_view(&dy0, &sketch_rig.dy[0]), coded_view(&dy1, &sketch_rig.dy[1])};
    for (int times = 0; times < 2; times++)
        ck_assert_int_eq(lrk_backward(pass, sketch_group, 2, &vx, NULL, 0, vdy, NULL), LRK_OK);
    lrk_pass_end(pass);
    for (int32_t i = 0; i < 2; i++)
        check_module(sketch, i, &sketch_rig.x, &sketch_rig.dy[i], 2);
    coded_free(&x);
    coded_free(&dy0);
    coded_free(&dy1);
    lrk_sketch_destroy(sketch);
    sketch_rig_close();
}
END_TEST

START_TEST(a_module_of_rank_0_is_sketched_too)
{
    lrk_sketch_options options = sketch_options(3);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options);
    padded x = padded_make(11, 6, 1, 7), dy = padded_make(11, 9, 0, 8);
    ck_assert_int_eq(sketch_feed_one(sketch_rig.set, sketch, 3, &x, &dy), LRK_OK);
    check_module(sketch, 3, &x, &dy, 1);
    padded_free(&x);
    padded_free(&dy);
    lrk_sketch_destroy(sketch);
}
END_TEST

START_TEST(samples_are_independent_normals_and_prefixes_of_one_matrix_a_width)
{
    lrk_sketch_options options = sketch_options(20);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options);
    const lrki_sketch_module *m = sketch->modules;
    ck_assert_int_eq(m[0].directions, 20);
    ck_assert_int_eq(m[0].samples, 41);
    ck_assert_int_eq(m[1].directions, 17);
    ck_assert_int_eq(m[1].samples, 35); /* 2 min(n_in, n_out) + 1 */
    ck_assert_int_eq(m[3].directions, 6);
    ck_assert_int_eq(m[3].samples, 13);
    ck_assert_ptr_eq(m[0].omega, m[1].omega);
    ck_assert_ptr_ne(m[0].omega, m[2].psi); /* the same width on the other side */
    ck_assert_int_eq(sketch->n_randoms, 7);
    double sum = 0, squares = 0, cross = 0;
    int64_t n = 24 * 41;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)m[0].omega[i];
        squares += (double)m[0].omega[i] * (double)m[0].omega[i];
        cross += (double)m[0].omega[i] * (double)m[2].psi[i];
    }
    /* five standard errors: 1, sqrt(2) and 1 over sqrt(n) */
    ck_assert_double_lt(fabs(sum / (double)n), 5 / sqrt((double)n));
    ck_assert_double_lt(fabs(squares / (double)n - 1), 5 * sqrt(2.0 / (double)n));
    ck_assert_double_lt(fabs(cross / (double)n), 5 / sqrt((double)n));
    lrk_sketch_destroy(sketch);
}
END_TEST

START_TEST(measures_say_what_was_fed)
{
    lrk_sketch_options options = sketch_options(3);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options);
    lrk_sketch_info info = {.struct_size = sizeof info};
    for (int64_t i = 0; i < 5; i++) /* masked tokens */
        memset(sketch_rig.dy[0].data + 9 * i * sketch_rig.dy[0].ld, 0, 30 * sizeof(float));
    ck_assert_int_eq(sketch_feed_group(sketch), LRK_OK);
    ck_assert_int_eq(lrk_sketch_info_get(sketch, 0, &info), LRK_OK);
    ck_assert_int_eq(info.directions, 3);
    ck_assert_int_eq(info.samples, 7);
    ck_assert_double_eq(info.rows, SKETCH_ROWS);
    ck_assert_double_eq(info.active_rows, SKETCH_ROWS - 5);
    double x2 = 0, dy2 = 0;
    for (int64_t t = 0; t < SKETCH_ROWS; t++) {
        for (int64_t i = 0; i < 24; i++)
            x2 += pow((double)sketch_rig.x.data[t * sketch_rig.x.ld + i], 2);
        for (int64_t i = 0; i < 30; i++)
            dy2 += pow((double)sketch_rig.dy[0].data[t * sketch_rig.dy[0].ld + i], 2);
    }
    ck_assert_double_eq_tol(info.x_norm2, x2, 1e-12 * x2);
    ck_assert_double_eq_tol(info.dy_norm2, dy2, 1e-12 * dy2);
    ck_assert_int_eq(lrk_sketch_info_get(sketch, 2, &info), LRK_OK);
    ck_assert_double_eq(info.rows, 0);
    lrk_sketch_destroy(sketch);
}
END_TEST

/* ---- what it leaves alone ------------------------------------------------------------------------------------------ */

static void backward_with(lrk_sketch *sketch, padded *dx)
{
    lrk_pass_options options = pass_options(SKETCH_ROWS);
    options.mode = LRK_PASS_TRAIN; /* with dropout */
    options.nonce = 3;
    options.sketch = sketch;
    lrk_pass *pass = pass_open(sketch_rig.set, options);
    lrk_matrix x = padded_view(&sketch_rig.x);
    lrk_matrix dy[2] = {padded_view(&sketch_rig.dy[0]), padded_view(&sketch_rig.dy[1])};
    lrk_matrix_mut to = padded_mut(dx);
    ck_assert_int_eq(lrk_backward(pass, sketch_group, 2, &x, NULL, 0, dy, &to), LRK_OK);
    lrk_pass_end(pass);
}

/* Gradients and dx have the same bits with a sketch, and the sketch the same bits as one fed alone: x before dropout. */
START_TEST(a_sketch_and_the_pass_do_not_touch_each_other)
{
    lrk_sketch_options options = sketch_options(4);
    lrk_sketch *alone = sketch_make(sketch_rig.set, &options), *along = sketch_make(sketch_rig.set, &options);
    padded dx = padded_make(SKETCH_ROWS, 24, 1, 9), dx2 = padded_copy(&dx);
    float before[2 * 24];
    backward_with(NULL, &dx);
    lrk_tensor grad = set_tensor(sketch_rig.set, 0, LRK_TENSOR_GRAD_A);
    memcpy(before, grad.data, sizeof before);
    ck_assert_int_eq(lrk_adapters_zero_gradients(sketch_rig.set), LRK_OK);
    backward_with(along, &dx2);
    ck_assert_mem_eq(before, grad.data, sizeof before);
    ck_assert(padded_same(&dx, &dx2));
    ck_assert_int_eq(sketch_feed_group(alone), LRK_OK);
    ck_assert_mem_eq(alone->sums, along->sums, (size_t)alone->n_sums * sizeof(float));
    padded_free(&dx);
    padded_free(&dx2);
    lrk_sketch_destroy(alone);
    lrk_sketch_destroy(along);
}
END_TEST

START_TEST(an_inference_only_set_is_sketched_without_derivatives)
{
    lrk_adapters *set =
        set_make(sketch_rig.context, sketch_shapes, SKETCH_MODULES, 0, LRK_ADAPTERS_INFERENCE);
    lrk_sketch_options options = sketch_options(4);
    lrk_sketch *sketch = sketch_make(set, &options), *usual = sketch_make(sketch_rig.set, &options);
    ck_assert_int_eq(sketch_feed_one(set, sketch, 0, &sketch_rig.x, &sketch_rig.dy[0]), LRK_OK);
    ck_assert_int_eq(sketch_feed_one(sketch_rig.set, usual, 0, &sketch_rig.x, &sketch_rig.dy[0]), LRK_OK);
    ck_assert_mem_eq(sketch->sums, usual->sums, (size_t)sketch->n_sums * sizeof(float));
    lrk_sketch_destroy(sketch);
    lrk_sketch_destroy(usual);
    lrk_adapters_destroy(set);
}
END_TEST

/* ---- threads ------------------------------------------------------------------------------------------------------- */

static uint64_t sums_at(int32_t kernels, int32_t threads, int64_t directions)
{
    sketch_rig_open(kernels, threads);
    lrk_sketch_options options = sketch_options(directions);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options);
    padded x = padded_make(700, 40, 0, 11), dy = padded_make(700, 24, 0, 12);
    ck_assert_int_eq(sketch_feed_one(sketch_rig.set, sketch, 2, &x, &dy), LRK_OK);
    ck_assert_int_gt(sketch_rig.host.loop.calls, 0);
    uint64_t hash = 0;
    for (int64_t i = 0; i < sketch->n_sums; i++) {
        uint32_t bits;
        memcpy(&bits, &sketch->sums[i], sizeof bits);
        hash = hash * 31 + bits;
    }
    for (int64_t i = 0; i < SKETCH_MODULES * LRKI_MEASURES; i++) {
        uint64_t bits;
        memcpy(&bits, &sketch->measures[i], sizeof bits);
        hash = hash * 31 + bits;
    }
    padded_free(&x);
    padded_free(&dy);
    lrk_sketch_destroy(sketch);
    sketch_rig_close();
    return hash;
}

START_TEST(the_number_of_threads_changes_no_bit)
{
    const int32_t kernels = _i == 0 ? LRK_KERNELS_BLAS : LRK_KERNELS_AUTO;
    uint64_t one = sums_at(kernels, 1, 6);
    ck_assert_uint_eq(one, sums_at(kernels, 2, 6));
    ck_assert_uint_eq(one, sums_at(kernels, 5, 6));
    ck_assert_uint_ne(one, sums_at(kernels, 1, 7));
}
END_TEST

/* ---- adding up ----------------------------------------------------------------------------------------------------- */

START_TEST(sketches_of_two_batches_add_up_to_that_of_both)
{
    lrk_sketch_options options = sketch_options(4);
    lrk_sketch *parts[2], *both = sketch_make(sketch_rig.set, &options);
    padded x[2], dy[2];
    for (int i = 0; i < 2; i++) {
        parts[i] = sketch_make(sketch_rig.set, &options);
        x[i] = padded_make(33 + 30 * i, 40, 0, 20 + (uint64_t)i);
        dy[i] = padded_make(33 + 30 * i, 24, 0, 30 + (uint64_t)i);
        ck_assert_int_eq(sketch_feed_one(sketch_rig.set, parts[i], 2, &x[i], &dy[i]), LRK_OK);
        ck_assert_int_eq(sketch_feed_one(sketch_rig.set, both, 2, &x[i], &dy[i]), LRK_OK);
    }
    ck_assert_int_eq(lrk_sketch_add(parts[0], parts[1]), LRK_OK);
    const lrki_sketch_module *own = &parts[0]->modules[2], *want = &both->modules[2];
    double w[MOST] = {0}, sizes[MOST] = {0};
    for (int i = 0; i < 2; i++)
        naive_sums(&dy[i], own->psi, own->samples, &x[i], w, sizes);
    for (int64_t i = 0; i < own->samples * 40; i++) {
        ck_assert(oracle_within((double)own->w[i], w[i], sizes[i], 24 + 63 + 63 + 8));
        ck_assert(oracle_within((double)want->w[i], w[i], sizes[i], 24 + 63 + 63 + 8));
    }
    ck_assert_mem_eq(own->measures, want->measures, LRKI_MEASURES * sizeof(double));
    for (int i = 0; i < 2; i++) {
        padded_free(&x[i]);
        padded_free(&dy[i]);
        lrk_sketch_destroy(parts[i]);
    }
    lrk_sketch_destroy(both);
}
END_TEST

/* Another worker's set: other ranks and values, the same shapes. Adding to nothing keeps every bit. */
START_TEST(a_sketch_of_another_workers_set_can_be_added)
{
    lrk_adapters *set = set_make(sketch_rig.context, sketch_shapes, SKETCH_MODULES, 0, 0);
    lrk_sketch_options options = sketch_options(4);
    lrk_sketch *here = sketch_make(sketch_rig.set, &options), *there = sketch_make(set, &options);
    float *sums;
    double *measures;
    int64_t n, n_measures;
    ck_assert_int_eq(sketch_feed_one(set, there, 0, &sketch_rig.x, &sketch_rig.dy[0]), LRK_OK);
    ck_assert_int_eq(lrk_sketch_add(here, there), LRK_OK);
    ck_assert_int_eq(lrk_sketch_sums(here, &sums, &n, &measures, &n_measures), LRK_OK);
    ck_assert_int_eq(n, 9 * (54 + 41 + 64 + 15));
    ck_assert_int_eq(n_measures, 16);
    ck_assert_mem_eq(sums, there->sums, (size_t)n * sizeof(float));
    ck_assert_double_eq(measures[0], SKETCH_ROWS);
    ck_assert_int_eq(lrk_sketch_zero(here), LRK_OK);
    for (int64_t i = 0; i < n; i++)
        ck_assert_float_eq(sums[i], 0);
    ck_assert_double_eq(measures[0], 0);
    lrk_sketch_destroy(here);
    lrk_sketch_destroy(there);
    lrk_adapters_destroy(set);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------------------------------ */

static void refuse_options(lrk_sketch_options options, lrk_status want, const char *words)
{
    lrk_sketch *sketch = (lrk_sketch *)&sketch_rig;
    sketch_expect(lrk_sketch_create(sketch_rig.set, &options, &sketch), want, words);
    ck_assert_ptr_null(sketch);
}

START_TEST(options_out_of_range_are_refused)
{
    lrk_sketch_options options = sketch_options(0);
    refuse_options(options, LRK_ERR_ARGUMENT, "directions must be >= 1");
    options = sketch_options(4);
    options.samples = 4;
    refuse_options(options, LRK_ERR_ARGUMENT, "samples must be above directions, or 0");
    options.samples = -1;
    refuse_options(options, LRK_ERR_ARGUMENT, "samples must be above");
    options.samples = (int64_t)INT32_MAX + 1;
    refuse_options(options, LRK_ERR_ARGUMENT, "31 bits");
    options = sketch_options(4);
    options.flags = 1;
    refuse_options(options, LRK_ERR_ARGUMENT, "flags");
    struct {
        lrk_sketch_options known;
        uint64_t tail;
    } longer = {sketch_options(4), 1};
    longer.known.struct_size = sizeof longer;
    lrk_sketch *sketch;
    ck_assert_int_eq(lrk_sketch_create(sketch_rig.set, &longer.known, &sketch), LRK_ERR_VERSION);
    sketch_expect(lrk_sketch_create(sketch_rig.set, NULL, NULL), LRK_ERR_ARGUMENT, "sketch is NULL");
    ck_assert_int_eq(lrk_sketch_create(NULL, NULL, &sketch), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_sketch_options_init(NULL, 8), LRK_ERR_ARGUMENT);
}
END_TEST

START_TEST(a_sketch_whose_size_overflows_is_refused_by_name)
{
    const shape huge = {INT64_MAX / 64, INT64_MAX / 64, 0, LRK_NO_GROUP, 0, 1.0};
    lrk_adapters *set = set_make(sketch_rig.context, &huge, 1, 0, 0);
    lrk_sketch *sketch;
    sketch_expect(lrk_sketch_create(set, NULL, &sketch), LRK_ERR_SHAPE,
                  "module 'm0': the size of its sketch");
    lrk_adapters_destroy(set);
}
END_TEST

START_TEST(sketches_of_another_kind_do_not_add_up)
{
    lrk_sketch_options options = sketch_options(4);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options), *other;
    const struct {
        lrk_sketch_options options;
        const char *words;
    } cases[] = {{sketch_options(3), "different directions"},
                 {sketch_options(4), "different seeds"},
                 {sketch_options(4), "different samples"}};
    for (int i = 0; i < 3; i++) {
        options = cases[i].options;
        if (i == 1) options.seed++;
        if (i == 2) options.samples = 8;
        other = sketch_make(sketch_rig.set, &options);
        sketch_expect(lrk_sketch_add(sketch, other), LRK_ERR_ARGUMENT, cases[i].words);
        lrk_sketch_destroy(other);
    }
    options = sketch_options(4);
    for (int64_t n = SKETCH_MODULES - 1; n <= SKETCH_MODULES; n++) {
        shape shapes[SKETCH_MODULES];
        memcpy(shapes, sketch_shapes, sizeof shapes);
        shapes[2].n_out++;
        lrk_adapters *set = set_make(sketch_rig.context, shapes, n, 0, 0);
        other = sketch_make(set, &options);
        sketch_expect(lrk_sketch_add(sketch, other), LRK_ERR_ARGUMENT,
                      n < SKETCH_MODULES ? "numbers of modules" : "shapes of modules");
        lrk_sketch_destroy(other);
        lrk_adapters_destroy(set);
    }
    sketch_expect(lrk_sketch_add(sketch, sketch), LRK_ERR_ARGUMENT, "the sketch itself");
    sketch_expect(lrk_sketch_add(sketch, NULL), LRK_ERR_ARGUMENT, "NULL");
    ck_assert_int_eq(lrk_sketch_add(NULL, sketch), LRK_ERR_ARGUMENT);
    lrk_sketch_destroy(sketch);
}
END_TEST

START_TEST(while_a_pass_feeds_a_sketch_it_is_busy)
{
    lrk_sketch_options options = sketch_options(4);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options),
               *other = sketch_make(sketch_rig.set, &options);
    lrk_pass *pass = sketch_pass(sketch_rig.set, sketch, SKETCH_ROWS), *second;
    lrk_pass_options second_options = pass_options(8);
    float *sums;
    double *measures, value;
    int64_t n, n_measures;
    second_options.sketch = sketch;
    sketch_expect(lrk_pass_begin(sketch_rig.set, &second_options, &second), LRK_ERR_BUSY,
                  "another open pass feeds the sketch");
    sketch_expect(lrk_sketch_zero(sketch), LRK_ERR_BUSY, "lrk_sketch_zero: an open pass feeds");
    sketch_expect(lrk_sketch_add(sketch, other), LRK_ERR_BUSY, "feeds the sketch");
    sketch_expect(lrk_sketch_add(other, sketch), LRK_ERR_BUSY, "feeds the other sketch");
    sketch_expect(lrk_sketch_sums(sketch, &sums, &n, &measures, &n_measures), LRK_ERR_BUSY,
                  "lrk_sketch_sums");
    sketch_expect(lrk_sketch_spectrum(sketch, 0, 1, &value, NULL, NULL, NULL), LRK_ERR_BUSY, "spectrum");
    lrk_pass_end(pass);
    /* a pass that is refused for its gradients gives the sketch back */
    lrk_pass_options training = pass_options(8);
    training.mode = LRK_PASS_TRAIN;
    pass = pass_open(sketch_rig.set, training);
    training.sketch = sketch;
    sketch_expect(lrk_pass_begin(sketch_rig.set, &training, &second), LRK_ERR_BUSY, "the set's gradients");
    ck_assert_int_eq(lrk_sketch_zero(sketch), LRK_OK);
    lrk_pass_end(pass);
    lrk_sketch_destroy(other);
    lrk_sketch_destroy(sketch);
}
END_TEST

START_TEST(other_arguments_are_refused)
{
    lrk_adapters *set = set_make(sketch_rig.context, sketch_shapes, SKETCH_MODULES, 0, 0);
    lrk_sketch_options options = sketch_options(4);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options);
    lrk_pass_options opening = pass_options(8);
    lrk_sketch_info info = {.struct_size = sizeof info};
    lrk_pass *pass;
    float *sums;
    double *measures, values[8];
    int64_t n;
    opening.sketch = sketch;
    sketch_expect(lrk_pass_begin(set, &opening, &pass), LRK_ERR_ARGUMENT, "the sketch is of another set");
    sketch_expect(lrk_sketch_sums(sketch, NULL, &n, &measures, &n), LRK_ERR_ARGUMENT, "a result is NULL");
    sketch_expect(lrk_sketch_sums(sketch, &sums, NULL, &measures, &n), LRK_ERR_ARGUMENT, "a result is NULL");
    sketch_expect(lrk_sketch_sums(sketch, &sums, &n, NULL, &n), LRK_ERR_ARGUMENT, "a result is NULL");
    sketch_expect(lrk_sketch_sums(sketch, &sums, &n, &measures, NULL), LRK_ERR_ARGUMENT, "a result is NULL");
    sketch_expect(lrk_sketch_info_get(sketch, 4, &info), LRK_ERR_ARGUMENT, "no module 4");
    sketch_expect(lrk_sketch_info_get(sketch, -1, &info), LRK_ERR_ARGUMENT, "no module -1");
    sketch_expect(lrk_sketch_spectrum(sketch, 4, 1, values, NULL, NULL, NULL), LRK_ERR_ARGUMENT,
                  "no module 4");
    sketch_expect(lrk_sketch_spectrum(sketch, 0, 5, values, NULL, NULL, NULL), LRK_ERR_ARGUMENT,
                  "module 'm0': values is NULL or n is not in 1..4");
    sketch_expect(lrk_sketch_spectrum(sketch, 0, 0, values, NULL, NULL, NULL), LRK_ERR_ARGUMENT, "1..4");
    sketch_expect(lrk_sketch_spectrum(sketch, 0, 1, NULL, NULL, NULL, NULL), LRK_ERR_ARGUMENT, "1..4");
    ck_assert_int_eq(lrk_sketch_zero(NULL), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_sketch_sums(NULL, &sums, &n, &measures, &n), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_sketch_info_get(NULL, 0, &info), LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_sketch_spectrum(NULL, 0, 1, values, NULL, NULL, NULL), LRK_ERR_ARGUMENT);
    lrk_sketch_destroy(NULL);
    lrk_sketch_destroy(sketch);
    lrk_adapters_destroy(set);
}
END_TEST

/* A call that is refused feeds nothing. */
START_TEST(a_refused_backward_leaves_the_sketch)
{
    lrk_sketch_options options = sketch_options(4);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options);
    lrk_pass *pass = sketch_pass(sketch_rig.set, sketch, SKETCH_ROWS);
    lrk_matrix x = padded_view(&sketch_rig.x);
    lrk_matrix dy[2] = {padded_view(&sketch_rig.dy[0]), padded_view(&sketch_rig.dy[0])};
    sketch_expect(lrk_backward(pass, sketch_group, 2, &x, NULL, 0, dy, NULL), LRK_ERR_SHAPE, "module 'm1'");
    lrk_pass_end(pass);
    for (int64_t i = 0; i < sketch->n_sums; i++)
        ck_assert_float_eq(sketch->sums[i], 0);
    ck_assert_double_eq(sketch->measures[0], 0);
    lrk_sketch_destroy(sketch);
}
END_TEST

/* ---- faults and lifetimes ------------------------------------------------------------------------------------------ */

static lrk_sketch *made;

static lrk_status act_create(void *user)
{
    return lrk_sketch_create(sketch_rig.set, user, &made);
}

static void undo_create(void *user)
{
    (void)user;
    lrk_sketch_destroy(made);
}

START_TEST(creating_a_sketch_unwinds_when_any_request_fails)
{
    lrk_sketch_options options = sketch_options(4);
    sets_each_fault(&sketch_rig.host, act_create, undo_create, &options);
}
END_TEST

START_TEST(a_pass_without_room_for_the_sketch_is_refused)
{
    lrk_sketch_options options = sketch_options(4);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options);
    lrk_pass_options opening = pass_options(SKETCH_ROWS);
    lrk_pass *pass = pass_open(sketch_rig.set, opening); /* the pass itself is cached from here on */
    lrk_pass_end(pass);
    opening.sketch = sketch;
    sketch_rig.host.alloc.fail_at = sketch_rig.host.alloc.calls;
    sketch_expect(lrk_pass_begin(sketch_rig.set, &opening, &pass), LRK_ERR_NOMEM, "workspace of a sketch");
    sketch_rig.host.alloc.fail_at = -1;
    ck_assert_int_eq(lrk_sketch_zero(sketch), LRK_OK); /* not claimed */
    pass = pass_open(sketch_rig.set, opening);
    int64_t calls = sketch_rig.host.alloc.calls;
    lrk_matrix x = padded_view(&sketch_rig.x);
    lrk_matrix dy[2] = {padded_view(&sketch_rig.dy[0]), padded_view(&sketch_rig.dy[1])};
    ck_assert_int_eq(lrk_backward(pass, sketch_group, 2, &x, NULL, 0, dy, NULL), LRK_OK);
    ck_assert_int_eq(sketch_rig.host.alloc.calls, calls); /* backward never allocates */
    lrk_pass_end(pass);
    lrk_sketch_destroy(sketch);
}
END_TEST

START_TEST(a_failing_gemm_or_loop_is_reported)
{
    lrk_sketch_options options = sketch_options(4);
    lrk_sketch *sketch = sketch_make(sketch_rig.set, &options);
    fault_counter *counters[] = {&sketch_rig.host.gemm, &sketch_rig.host.loop};
    padded x = padded_make(2000, 40, 0, 1), dy = padded_make(2000, 24, 0, 2);
    for (int i = 0; i < 2; i++) {
        int64_t before = counters[i]->calls;
        ck_assert_int_eq(sketch_feed_one(sketch_rig.set, sketch, 2, &x, &dy), LRK_OK);
        int64_t n = counters[i]->calls - before;
        ck_assert_int_gt(n, 0);
        for (int64_t k = 0; k < n; k++) {
            counters[i]->fail_at = counters[i]->calls + k;
            ck_assert_int_eq(sketch_feed_one(sketch_rig.set, sketch, 2, &x, &dy), LRK_ERR_HOST);
            counters[i]->fail_at = -1;
        }
    }
    padded_free(&x);
    padded_free(&dy);
    lrk_sketch_destroy(sketch);
}
END_TEST

START_TEST(any_order_of_destruction_is_legal)
{
    lrk_sketch_options options = sketch_options(4);
    lrk_adapters *set = set_make(sketch_rig.context, sketch_shapes, SKETCH_MODULES, 0, 0);
    lrk_sketch *sketch = sketch_make(set, &options);
    lrk_pass *pass = sketch_pass(set, sketch, 8);
    lrk_adapters_destroy(set);
    lrk_sketch_destroy(sketch);
    lrk_pass_end(pass);
}
END_TEST

Suite *sketch_suite(void);

Suite *sketch_suite(void)
{
    Suite *suite = suite_create("sketch");
    TCase *own = tcase_create("kernels"), *tcase = tcase_create("sketches");
    tcase_add_loop_test(own, sums_are_those_of_the_formulas, 0,
                        (int)(sizeof sums_cases / sizeof *sums_cases));
    tcase_add_loop_test(own, the_number_of_threads_changes_no_bit, 0, 2);
    suite_add_tcase(suite, own);
    tcase_add_checked_fixture(tcase, open_rig, close_rig);
    tcase_add_test(tcase, a_module_of_rank_0_is_sketched_too);
    tcase_add_test(tcase, samples_are_independent_normals_and_prefixes_of_one_matrix_a_width);
    tcase_add_test(tcase, measures_say_what_was_fed);
    tcase_add_test(tcase, a_sketch_and_the_pass_do_not_touch_each_other);
    tcase_add_test(tcase, an_inference_only_set_is_sketched_without_derivatives);
    tcase_add_test(tcase, sketches_of_two_batches_add_up_to_that_of_both);
    tcase_add_test(tcase, a_sketch_of_another_workers_set_can_be_added);
    tcase_add_test(tcase, options_out_of_range_are_refused);
    tcase_add_test(tcase, a_sketch_whose_size_overflows_is_refused_by_name);
    tcase_add_test(tcase, sketches_of_another_kind_do_not_add_up);
    tcase_add_test(tcase, while_a_pass_feeds_a_sketch_it_is_busy);
    tcase_add_test(tcase, other_arguments_are_refused);
    tcase_add_test(tcase, a_refused_backward_leaves_the_sketch);
    tcase_add_test(tcase, creating_a_sketch_unwinds_when_any_request_fails);
    tcase_add_test(tcase, a_pass_without_room_for_the_sketch_is_refused);
    tcase_add_test(tcase, a_failing_gemm_or_loop_is_reported);
    tcase_add_test(tcase, any_order_of_destruction_is_legal);
    suite_add_tcase(suite, tcase);
    return suite;
}
