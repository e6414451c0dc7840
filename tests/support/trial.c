/* SPDX-License-Identifier: MIT */
/* Trials (trial.h). Comparisons abort by themselves: a ck_assert for every element would write a file for each. */
#include "trial.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

run trial_begin(const trial *t, uint32_t gradients)
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
    r.coded_x = coded_make(t->x_type, &r.x);
    r.coded_dx = coded_make(t->dx_type, &r.dx);
    r.dx_before = padded_copy(&r.dx);
    for (int32_t i = 0; i < t->n; i++) {
        r.modules[i] = i;
        r.y[i] = padded_make(t->rows, t->shapes[i].n_out, i, 20 + (uint64_t)i);
        r.coded_y[i] = coded_make(t->y_type, &r.y[i]);
        r.y_before[i] = padded_copy(&r.y[i]);
        r.dy[i] = padded_make(t->rows, t->shapes[i].n_out, 1 + i, 30 + (uint64_t)i);
        r.coded_dy[i] = coded_make(t->dy_type, &r.dy[i]);
    }
    if (t->saved) {
        ck_assert_int_eq(lrk_saved_size(r.set, r.modules, t->n, t->rows, &r.saved_bytes), LRK_OK);
        r.saved = malloc(r.saved_bytes);
    }
    return r;
}

void trial_forward(const trial *t, run *r)
{
    lrk_matrix x = coded_view(&r->coded_x, &r->x);
    lrk_matrix_mut y[MAX_MODULES];
    for (int32_t i = 0; i < t->n; i++)
        y[i] = coded_mut(&r->coded_y[i], &r->y[i]);
    ck_assert_int_eq(lrk_forward(r->pass, r->modules, t->n, &x, y, r->saved, r->saved_bytes), LRK_OK);
    for (int32_t i = 0; i < t->n; i++)
        coded_take(&r->coded_y[i], &r->y[i]);
}

void trial_backward(const trial *t, run *r, bool wants_dx)
{
    lrk_matrix x = coded_view(&r->coded_x, &r->x), dy[MAX_MODULES];
    lrk_matrix_mut dx = coded_mut(&r->coded_dx, &r->dx);
    for (int32_t i = 0; i < t->n; i++)
        dy[i] = coded_view(&r->coded_dy[i], &r->dy[i]);
    ck_assert_int_eq(
        lrk_backward(r->pass, r->modules, t->n, &x, r->saved, r->saved_bytes, dy, wants_dx ? &dx : NULL),
        LRK_OK);
    coded_take(&r->coded_dx, &r->dx);
}

void trial_end(const trial *t, run *r)
{
    lrk_pass_end(r->pass);
    lrk_mask_destroy(r->mask);
    lrk_sink_destroy(r->sink);
    lrk_adapters_destroy(r->set);
    free(r->saved);
    coded_free(&r->coded_x);
    coded_free(&r->coded_dx);
    padded_free(&r->x);
    padded_free(&r->dx);
    padded_free(&r->dx_before);
    for (int32_t i = 0; i < t->n; i++) {
        coded_free(&r->coded_y[i]);
        coded_free(&r->coded_dy[i]);
        padded_free(&r->y[i]);
        padded_free(&r->y_before[i]);
        padded_free(&r->dy[i]);
    }
}

/* ---- the oracle's view of a run --------------------------------------------------------------------------------------- */

/* What x is multiplied by, from the documented key: group, or 2^32 + module. */
double *keep_of(const trial *t, const run *r, int32_t module)
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

void mask_of(const run *r, int32_t module, float *mask)
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

oracle_case case_of(const trial *t, const run *r, int32_t i, const float *mask, const double *keep)
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

double *zeros(int64_t n)
{
    double *v = calloc((size_t)n + 1, sizeof *v);
    ck_assert_ptr_nonnull(v);
    return v;
}

/*
 * Compares a padded matrix with before + delta within gamma(length) * (|before| + size), and the rounding of that to the
 * matrix's type: once, or after each 512 of `ranks`, then of what a sum may be on the way.
 */
static void compare_matrix(const char *what, const padded *got, const padded *before, const double *delta,
                           const double *size, int64_t length, int32_t dtype, int64_t ranks)
{
    for (int64_t i = 0; i < got->rows; i++)
        for (int64_t j = 0; j < got->cols; j++) {
            double old = (double)before->data[i * before->ld + j];
            double is = (double)got->data[i * got->ld + j], want = old + delta[i * got->cols + j];
            double most = fabs(old) + size[i * got->cols + j], off = oracle_gamma(length) * most;
            if (ranks <= 512)
                off += half_unit(dtype) * (fabs(want) + off) + half_tiny(dtype);
            else
                off += (double)((ranks + 511) / 512) * (half_unit(dtype) * (most + off) + half_tiny(dtype));
            if (!(fabs(is - want) <= off)) /* ck_assert writes a file */
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

void check_forward(const trial *t, const run *r)
{
    float mask[MAX_RANK];
    for (int32_t i = 0; i < t->n; i++) {
        double *keep = keep_of(t, r, i), *y = zeros(t->rows * t->shapes[i].n_out),
               *size = zeros(t->rows * t->shapes[i].n_out);
        mask_of(r, i, mask);
        oracle_case c = case_of(t, r, i, mask, keep);
        oracle_forward(&c, y, false);
        oracle_forward(&c, size, true);
        compare_matrix("y", &r->y[i], &r->y_before[i], y, size, c.n_in + c.rank + 8, t->y_type, c.rank);
        free(keep);
        free(y);
        free(size);
    }
}

static void check_mask_gradients(const trial *t, const run *r, int32_t i, const double *want,
                                 const double *size)
{
    const lrki_module *m = &r->set->modules[i];
    const double *dm, times = t->backwards;
    int64_t n;
    ck_assert_int_eq(lrk_sink_mask_gradients(r->sink, &dm, &n), LRK_OK);
    ck_assert_int_eq(n, r->set->n_ranks);
    for (int64_t j = 0; j < m->bank.rank; j++)
        if (!oracle_within(dm[m->first_rank + j], times * want[j], times * size[j], m->n_in + m->n_out + 8))
            ck_abort_msg("dm[%d] of module %d", (int)j, (int)i);
}

/* The sink's derivatives of one module after t->backwards calls; dx and its size are added up over modules. */
static void check_module_gradients(const trial *t, const run *r, int32_t i, double *dx, double *dx_size)
{
    float mask[MAX_RANK];
    double *keep = keep_of(t, r, i);
    mask_of(r, i, mask);
    oracle_case c = case_of(t, r, i, mask, keep);
    int64_t a = c.rank * c.n_in, b = c.rank * c.n_out, times = t->backwards;
    double *v = zeros(2 * (a + b + 2 * c.rank)), *s = v + a + b + 2 * c.rank;
    oracle_backward(&c, (oracle_gradients){dx, v, v + a, v + a + b, v + a + b + c.rank}, false);
    oracle_backward(&c, (oracle_gradients){dx_size, s, s + a, s + a + b, s + a + b + c.rank}, true);

    lrk_tensor tensor = {.struct_size = sizeof tensor};
    if (r->sink->kinds & LRK_GRAD_PARAMETERS) {
        ck_assert_int_eq(lrk_sink_tensor(r->sink, i, LRK_TENSOR_GRAD_A, &tensor), LRK_OK);
        compare_values("dA", tensor.data, (double)times, v, s, a, c.n_out + times * c.rows + 8);
        ck_assert_int_eq(lrk_sink_tensor(r->sink, i, LRK_TENSOR_GRAD_B, &tensor), LRK_OK);
        compare_values("dB", tensor.data, (double)times, v + a, s + a, b, c.n_in + times * c.rows + 8);
    }
    if (r->sink->kinds & LRK_GRAD_GATES) {
        ck_assert_int_eq(lrk_sink_tensor(r->sink, i, LRK_TENSOR_GRAD_GATES, &tensor), LRK_OK);
        compare_values("dg", tensor.data, (double)times, v + a + b, s + a + b, c.rank, c.n_in + c.n_out + 8);
    }
    if (r->sink->kinds & LRK_GRAD_MASK) check_mask_gradients(t, r, i, v + a + b + c.rank, s + a + b + c.rank);
    free(v);
    free(keep);
}

void check_trial(const trial *t)
{
    run r = trial_begin(t, t->gradients != 0 ? t->gradients : EVERY);
    int64_t n = t->rows * t->shapes[0].n_in, n_out = 0, ranks = 0;
    double *dx = zeros(n), *size = zeros(n);
    trial_forward(t, &r);
    check_forward(t, &r);
    for (int i = 0; i < t->backwards; i++)
        trial_backward(t, &r, i == 0);
    for (int32_t i = 0; i < t->n; i++) {
        check_module_gradients(t, &r, i, dx, size);
        ranks += t->shapes[i].rank;
        if (t->shapes[i].n_out > n_out) n_out = t->shapes[i].n_out;
    }
    compare_matrix("dx", &r.dx, &r.dx_before, dx, size, n_out + ranks + 8, t->dx_type, ranks);
    free(dx);
    free(size);
    trial_end(t, &r);
}

trial group_trial(lrk_context *context, int64_t rows)
{
    return (trial){.context = context,
                   .rows = rows,
                   .n = 3,
                   .shapes = {{19, 40, 5, 7, 0, 0.5}, {19, 17, 0, 7, 0, 2.0}, {19, 150, 3, 7, 0, 1.25}},
                   .backwards = 1,
                   .nonce = 3,
                   .first_row = 1000};
}
