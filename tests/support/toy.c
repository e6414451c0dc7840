/* SPDX-License-Identifier: MIT */
/*
 * The toy model of toy.h in f32. Plain loops; one row of weights at a time, summed in index order.
 */
#include "toy.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_STAGES 30

toy_shape toy_default(void)
{
    return (toy_shape){.stages = 4,
                       .d = 6,
                       .f = 8,
                       .classes = 5,
                       .rows = 24,
                       .parts = 4,
                       .rank = 3,
                       .seed = 1,
                       .size = 0.4f};
}

/* Uniform in [-size, size]. */
static float draw(uint64_t *state, float size)
{
    return size * ((float)(sets_random(state) >> 40) / 8388608.0f - 1.0f);
}

static float *draw_array(uint64_t *state, int64_t n, float size)
{
    float *values = malloc((size_t)n * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (int64_t i = 0; i < n; i++)
        values[i] = draw(state, size);
    return values;
}

static void create_set(toy *t, uint64_t *state)
{
    const toy_shape *s = &t->shape;
    lrk_module_spec specs[2 * MOST_STAGES];
    char names[2 * MOST_STAGES][16];
    ck_assert_int_le(s->stages, MOST_STAGES);
    for (int32_t k = 0; k < s->stages; k++)
        for (int32_t half = 0; half < 2; half++) {
            int32_t m = 2 * k + half;
            snprintf(names[m], sizeof names[m], "%c%d", half == 0 ? 'u' : 'v', (int)k);
            specs[m] = half == 0 ? sets_spec(names[m], s->d, s->f, s->rank)
                                 : sets_spec(names[m], s->f, s->d, s->rank);
            specs[m].stage = k;
        }
    lrk_adapters_options options;
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.dropout = s->dropout;
    t->adapters = sets_create(t->context, specs, 2 * s->stages, &options);
    for (int32_t m = 0; m < 2 * s->stages; m++) {
        lrk_tensor b = sets_tensor(t->adapters, m, LRK_TENSOR_B);
        for (int64_t i = 0; i < b.rows * b.cols; i++)
            b.data[i] = draw(state, s->size);
    }
    ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_OK);
    t->n_ranks = sets_info(t->adapters).ranks;
}

/* Floats of one run's activations: h at every stage boundary, tanh of every stage, logits, and four scratch rows. */
static int64_t activations_of(const toy_shape *s)
{
    return s->rows * ((s->stages + 1) * s->d + s->stages * s->f + s->classes + 2 * s->d + 2 * s->f);
}

toy *toy_create(const toy_shape *shape)
{
    toy *t = calloc(1, sizeof *t);
    ck_assert_ptr_nonnull(t);
    t->shape = *shape;
    uint64_t state = shape->seed;
    fault_reset(&t->fault);
    t->context = fault_context(&t->fault);
    create_set(t, &state);
    t->u = draw_array(&state, shape->stages * shape->f * shape->d, 0.5f);
    t->v = draw_array(&state, shape->stages * shape->d * shape->f, 0.3f);
    t->head = draw_array(&state, shape->classes * shape->d, 1.0f);
    t->x = draw_array(&state, shape->rows * shape->d, 1.0f);
    t->activations = draw_array(&state, activations_of(shape), 1.0f);
    for (int i = 0; i < 2; i++)
        t->cache[i] = draw_array(&state, (shape->stages + 1) * shape->rows * shape->d, 1.0f);
    t->targets = malloc((size_t)shape->rows * sizeof *t->targets);
    ck_assert_ptr_nonnull(t->targets);
    for (int64_t r = 0; r < shape->rows; r++)
        t->targets[r] = (int32_t)(sets_random(&state) % (uint64_t)shape->classes);
    t->use_cache = true;
    t->fail_call = t->cancel_at = -1;
    return t;
}

void toy_destroy(toy *t)
{
    lrk_adapters_destroy(t->adapters);
    lrk_context_destroy(t->context);
    ck_assert_int_eq(t->fault.live, 0);
    ck_assert(!t->fault.bad_release);
    free(t->u);
    free(t->v);
    free(t->head);
    free(t->x);
    free(t->activations);
    free(t->cache[0]);
    free(t->cache[1]);
    free(t->targets);
    free(t);
}

/* ---- forward and backward ------------------------------------------------------------------------------------------------ */

static float *boundary(const toy *t, int32_t stage)
{
    return t->activations + stage * t->shape.rows * t->shape.d;
}

static float *tanhs(const toy *t, int32_t stage)
{
    return boundary(t, t->shape.stages + 1) + stage * t->shape.rows * t->shape.f;
}

static float *logits(const toy *t)
{
    return tanhs(t, t->shape.stages);
}

/* y = x W^T, W [n_out x n_in], and the adapter's update unless module is negative. */
static bool linear(const toy *t, lrk_pass *pass, int32_t module, const float *w, int64_t n_in, int64_t n_out,
                   const float *x, float *y)
{
    int64_t rows = t->shape.rows;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < n_out; o++) {
            float sum = 0;
            for (int64_t i = 0; i < n_in; i++)
                sum += x[r * n_in + i] * w[o * n_in + i];
            y[r * n_out + o] = sum;
        }
    if (module < 0) return true;
    lrk_matrix in = {.struct_size = sizeof in, .data = x, .rows = rows, .cols = n_in, .ld = n_in};
    lrk_matrix_mut out = {.struct_size = sizeof out, .data = y, .rows = rows, .cols = n_out, .ld = n_out};
    return lrk_forward(pass, &module, 1, &in, &out, NULL, 0) == LRK_OK;
}

/* dx = dy W (not added), and what the adapter adds. */
static bool linear_back(const toy *t, lrk_pass *pass, int32_t module, const float *w, int64_t n_in,
                        int64_t n_out, const float *x, const float *dy, float *dx)
{
    int64_t rows = t->shape.rows;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n_in; i++) {
            float sum = 0;
            for (int64_t o = 0; o < n_out; o++)
                sum += dy[r * n_out + o] * w[o * n_in + i];
            dx[r * n_in + i] = sum;
        }
    if (module < 0) return true;
    lrk_matrix in = {.struct_size = sizeof in, .data = x, .rows = rows, .cols = n_in, .ld = n_in};
    lrk_matrix up = {.struct_size = sizeof up, .data = dy, .rows = rows, .cols = n_out, .ld = n_out};
    lrk_matrix_mut down = {.struct_size = sizeof down, .data = dx, .rows = rows, .cols = n_in, .ld = n_in};
    return lrk_backward(pass, &module, 1, &in, NULL, 0, &up, &down) == LRK_OK;
}

static bool stage_forward(toy *t, lrk_pass *pass, int32_t k)
{
    const toy_shape *s = &t->shape;
    const float *h = boundary(t, k);
    float *a = tanhs(t, k), *next = boundary(t, k + 1);
    if (!linear(t, pass, 2 * k, t->u + k * s->f * s->d, s->d, s->f, h, a)) return false;
    for (int64_t i = 0; i < s->rows * s->f; i++)
        a[i] = tanhf(a[i]);
    if (!linear(t, pass, 2 * k + 1, t->v + k * s->d * s->f, s->f, s->d, a, next)) return false;
    for (int64_t i = 0; i < s->rows * s->d; i++)
        next[i] += h[i];
    t->stage_forwards++;
    return true;
}

static bool forward(toy *t, lrk_pass *pass, int32_t first)
{
    const toy_shape *s = &t->shape;
    for (int32_t k = first; k < s->stages; k++)
        if (!stage_forward(t, pass, k)) return false;
    return linear(t, pass, -1, t->head, s->d, s->classes, boundary(t, s->stages), logits(t));
}

static double log_sum(const float *row, int64_t n)
{
    double most = row[0], sum = 0;
    for (int64_t c = 1; c < n; c++)
        if (row[c] > most) most = row[c];
    for (int64_t c = 0; c < n; c++)
        sum += exp(row[c] - most);
    return most + log(sum);
}

static void losses(const toy *t, lrk_loss_part *parts)
{
    const toy_shape *s = &t->shape;
    for (int32_t p = 0; p < s->parts; p++)
        parts[p] = (lrk_loss_part){0, 0};
    for (int64_t r = 0; r < s->rows; r++) {
        const float *row = logits(t) + r * s->classes;
        parts[r % s->parts].loss_sum += log_sum(row, s->classes) - row[t->targets[r]];
        parts[r % s->parts].weight += 1;
    }
}

/* Backward of the mean loss; dh of the present stage stands in the scratch behind the logits. */
static bool backward(toy *t, lrk_pass *pass)
{
    const toy_shape *s = &t->shape;
    float *z = logits(t), *dh = z + s->rows * s->classes, *part = dh + s->rows * s->d,
          *da = part + s->rows * s->d;
    float *dt = da + s->rows * s->f;
    for (int64_t r = 0; r < s->rows; r++) {
        double total = log_sum(z + r * s->classes, s->classes);
        for (int64_t c = 0; c < s->classes; c++) {
            float *dz = &z[r * s->classes + c];
            *dz = (float)((exp(*dz - total) - (c == t->targets[r])) / (double)s->rows);
        }
    }
    if (!linear_back(t, pass, -1, t->head, s->d, s->classes, boundary(t, s->stages), z, dh)) return false;
    for (int32_t k = s->stages; k-- > 0;) {
        const float *a = tanhs(t, k);
        if (!linear_back(t, pass, 2 * k + 1, t->v + k * s->d * s->f, s->f, s->d, a, dh, dt)) return false;
        for (int64_t i = 0; i < s->rows * s->f; i++)
            da[i] = dt[i] * (1 - a[i] * a[i]);
        if (!linear_back(t, pass, 2 * k, t->u + k * s->f * s->d, s->d, s->f, boundary(t, k), da, part))
            return false;
        for (int64_t i = 0; i < s->rows * s->d; i++)
            dh[i] += part[i];
        t->stage_backwards++;
    }
    return true;
}

/* ---- the host's side of scoring ------------------------------------------------------------------------------------------- */

static size_t boundary_bytes(const toy *t)
{
    return (size_t)(t->shape.rows * t->shape.d) * sizeof(float);
}

static bool run_from(toy *t, lrk_pass *pass, int32_t baseline, int32_t first_stage)
{
    bool resume = t->use_cache && first_stage != LRK_NO_STAGE && t->cached[baseline];
    int32_t first = resume ? first_stage : 0;
    const float *from = resume ? t->cache[baseline] + first * t->shape.rows * t->shape.d : t->x;
    memcpy(boundary(t, first), from, boundary_bytes(t));
    return forward(t, pass, first);
}

static void keep(toy *t, int32_t baseline)
{
    memcpy(t->cache[baseline], boundary(t, 0), boundary_bytes(t) * (size_t)(t->shape.stages + 1));
    t->cached[baseline] = true;
}

static bool fails(toy *t)
{
    bool now = t->calls++ == t->fail_call;
    if (now) t->fail_call = -1;
    return now;
}

static int32_t evaluate(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    toy *t = user;
    if (fails(t)) return 1;
    for (int32_t i = 0; i < n; i++) {
        const lrk_evaluation *e = &evaluations[i];
        if (!run_from(t, e->pass, e->baseline, e->first_stage)) return 2;
        if (e->first_stage == LRK_NO_STAGE) keep(t, e->baseline);
        losses(t, e->parts);
    }
    return 0;
}

static int32_t differentiate(void *user, const lrk_evaluation *e)
{
    toy *t = user;
    if (fails(t)) return 1;
    memcpy(boundary(t, 0), t->x, boundary_bytes(t));
    if (!forward(t, e->pass, 0)) return 2;
    if (t->differentiate_fills && e->first_stage == LRK_NO_STAGE) keep(t, e->baseline);
    losses(t, e->parts);
    return backward(t, e->pass) ? 0 : 3;
}

static int32_t progress(void *user, int64_t done, int64_t total)
{
    toy *t = user;
    ck_assert_int_le(done, total);
    bool cancel = t->progressed++ == t->cancel_at;
    if (cancel) t->cancel_at = -1;
    return cancel;
}

lrk_evaluator toy_evaluator(toy *t)
{
    lrk_evaluator evaluator;
    ck_assert_int_eq(lrk_evaluator_init(&evaluator, sizeof evaluator), LRK_OK);
    evaluator.user = t;
    evaluator.evaluate = evaluate;
    evaluator.differentiate = differentiate;
    evaluator.progress = progress;
    evaluator.max_rows = t->shape.rows;
    evaluator.n_parts = t->shape.parts;
    if (t->differentiate_fills) evaluator.flags = LRK_EVALUATOR_DIFFERENTIATE_IS_BASELINE;
    return evaluator;
}

lrk_estimator *toy_estimator(toy *t, const lrk_ablation_options *options)
{
    lrk_evaluator evaluator = toy_evaluator(t);
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, options, &estimator), LRK_OK);
    return estimator;
}

double toy_run(toy *t, lrk_pass_options options)
{
    options.max_rows = t->shape.rows;
    lrk_pass *pass;
    ck_assert_int_eq(lrk_pass_begin(t->adapters, &options, &pass), LRK_OK);
    memcpy(boundary(t, 0), t->x, boundary_bytes(t));
    ck_assert(forward(t, pass, 0));
    lrk_loss_part parts[64];
    ck_assert_int_le(t->shape.parts, 64);
    losses(t, parts);
    ck_assert(backward(t, pass));
    lrk_pass_end(pass);
    t->cached[0] = t->cached[1] = false;
    double sum = 0;
    for (int32_t p = 0; p < t->shape.parts; p++)
        sum += parts[p].loss_sum;
    return sum / (double)t->shape.rows;
}

double toy_train(toy *t, uint64_t nonce)
{
    lrk_pass_options options;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.mode = LRK_PASS_TRAIN;
    options.nonce = nonce;
    return toy_run(t, options);
}

/* Of the backward that ran last: dL/dlogits stands where the logits were. */
void toy_step_head(toy *t, double rate)
{
    const toy_shape *s = &t->shape;
    const float *dz = logits(t), *h = boundary(t, s->stages);
    for (int64_t c = 0; c < s->classes; c++)
        for (int64_t i = 0; i < s->d; i++) {
            double sum = 0;
            for (int64_t r = 0; r < s->rows; r++)
                sum += (double)dz[r * s->classes + c] * (double)h[r * s->d + i];
            t->head[c * s->d + i] -= (float)(rate * sum);
        }
}
