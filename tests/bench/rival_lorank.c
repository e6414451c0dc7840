/* SPDX-License-Identifier: MIT */
/* lorank as a contender (rivals.h), through its public interface: one module, one pass, H kept from forward to backward. */
#include <stdio.h>
#include <stdlib.h>

#include "rivals.h"

static const int32_t module = 0;

void rival_run(const rival *r, int op, int64_t set)
{
    if (op != GRID_BACKWARD) r->forward(r->self, set);
    if (op != GRID_FORWARD) r->backward(r->self, set);
}

void rival_prepare(const rival *r, const operands *o)
{
    for (int64_t i = 0; i < o->n_sets; i++)
        r->forward(r->self, i);
}

static void must(const lorank_rival *r, lrk_status status)
{
    char text[512];
    if (status == LRK_OK) return;
    lrk_context_error(r->context, text, sizeof text);
    fprintf(stderr, "bench-kernels: lorank: %s\n", text);
    exit(2);
}

static lrk_matrix in(const void *data, const bench_shape *s, int64_t cols)
{
    return (lrk_matrix){sizeof(lrk_matrix), s->dtype, data, s->tokens, cols, cols};
}

static lrk_matrix_mut out(void *data, const bench_shape *s, int64_t cols)
{
    return (lrk_matrix_mut){sizeof(lrk_matrix_mut), s->dtype, data, s->tokens, cols, cols};
}

static void begin_pass(lorank_rival *r)
{
    lrk_pass_options options;
    must(r, lrk_pass_options_init(&options, sizeof options));
    options.mode = LRK_PASS_TRAIN;
    options.max_rows = r->o->shape.tokens;
    must(r, lrk_pass_begin(r->adapters, &options, &r->pass));
}

/* As after a step of an optimizer. */
static void change_values(lorank_rival *r)
{
    lrk_pass_end(r->pass);
    must(r, lrk_adapters_values_changed(r->adapters));
    begin_pass(r);
}

static char *saved_of(const lorank_rival *r, int64_t set)
{
    return (char *)r->saved + (size_t)set * r->saved_step;
}

static lrk_status try_forward(lorank_rival *r, int64_t set)
{
    const bench_shape *s = &r->o->shape;
    const lrk_matrix x = in(r->o->sets[set].x, s, s->n_in);
    const lrk_matrix_mut y = out(r->o->sets[set].y, s, s->n_out);
    return lrk_forward(r->pass, &module, 1, &x, &y, saved_of(r, set), r->saved_bytes);
}

static void forward(void *self, int64_t set)
{
    lorank_rival *r = self;
    if (r->fresh) change_values(r);
    must(r, try_forward(r, set));
}

static void backward(void *self, int64_t set)
{
    lorank_rival *r = self;
    const bench_shape *s = &r->o->shape;
    const lrk_matrix x = in(r->o->sets[set].x, s, s->n_in), dy = in(r->o->sets[set].dy, s, s->n_out);
    const lrk_matrix_mut dx = out(r->o->sets[set].dx, s, s->n_in);
    must(r, lrk_backward(r->pass, &module, 1, &x, saved_of(r, set), r->saved_bytes, &dy, &dx));
}

rival lorank_rival_of(lorank_rival *r)
{
    return (rival){.self = r, .forward = forward, .backward = backward};
}

lrk_tensor lorank_tensor(const lorank_rival *r, int32_t which)
{
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    must(r, lrk_adapters_tensor(r->adapters, module, which, &tensor));
    return tensor;
}

/* A as it starts (Kaiming-uniform), B uniform in (-1, 1): a B of zeros would leave half of the arithmetic untested. */
static void make_adapter(lorank_rival *r, int64_t rank)
{
    lrk_module_spec spec;
    must(r, lrk_module_spec_init(&spec, sizeof spec));
    spec.name = "layer";
    spec.n_in = r->o->shape.n_in;
    spec.n_out = r->o->shape.n_out;
    spec.rank = rank;
    spec.scale = RIVAL_SCALE;
    must(r, lrk_adapters_create(r->context, &spec, 1, NULL, &r->adapters));
    lrk_tensor b = lorank_tensor(r, LRK_TENSOR_B);
    bench_random(b.data, b.rows * b.cols, 99);
    must(r, lrk_adapters_values_changed(r->adapters));
}

bool lorank_open(lorank_rival *r, lrk_context *context, const operands *o, int64_t rank)
{
    *r = (lorank_rival){.context = context, .o = o};
    make_adapter(r, rank);
    must(r, lrk_saved_size(r->adapters, &module, 1, o->shape.tokens, &r->saved_bytes));
    r->saved_step = (r->saved_bytes + 63) / 64 * 64;
    r->saved = bench_memory(r->saved_step * (size_t)o->n_sets);
    begin_pass(r);
    lrk_status status = try_forward(r, 0);
    if (status != LRK_ERR_UNSUPPORTED) must(r, status);
    if (status == LRK_ERR_UNSUPPORTED) lorank_close(r);
    return status == LRK_OK;
}

void lorank_close(lorank_rival *r)
{
    lrk_pass_end(r->pass);
    lrk_adapters_destroy(r->adapters);
    free(r->saved);
    *r = (lorank_rival){0};
}
