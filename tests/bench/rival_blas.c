/* SPDX-License-Identifier: MIT */
/*
 * Whole-matrix BLAS as a contender (rivals.h), with OpenBLAS's own threads:
 *     forward    H = x A^T;   y += s H B
 *     backward   D = s dy B^T;   dx += D A,   dA += D^T x,   dB += s H^T dy
 */
#include <cblas.h>
#include <stdlib.h>
#include <string.h>

#include "rivals.h"

static const float s = (float)RIVAL_SCALE;

static float *h_of(const blas_rival *r, int64_t set)
{
    return r->h + set * r->o->shape.tokens * r->rank;
}

static void forward(void *self, int64_t set)
{
    const blas_rival *r = self;
    const operand_set *o = &r->o->sets[set];
    const blasint t = (blasint)r->o->shape.tokens, n_in = (blasint)r->o->shape.n_in,
                  n_out = (blasint)r->o->shape.n_out, rank = (blasint)r->rank;
    float *h = h_of(r, set);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, t, rank, n_in, 1.0f, o->x, n_in, r->a, n_in, 0.0f, h,
                rank);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, t, n_out, rank, s, h, rank, r->b, n_out, 1.0f,
                o->y, n_out);
}

static void backward(void *self, int64_t set)
{
    const blas_rival *r = self;
    const operand_set *o = &r->o->sets[set];
    const blasint t = (blasint)r->o->shape.tokens, n_in = (blasint)r->o->shape.n_in,
                  n_out = (blasint)r->o->shape.n_out, rank = (blasint)r->rank;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, t, rank, n_out, s, o->dy, n_out, r->b, n_out, 0.0f,
                r->d, rank);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, t, n_in, rank, 1.0f, r->d, rank, r->a, n_in, 1.0f,
                o->dx, n_in);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rank, n_in, t, 1.0f, r->d, rank, o->x, n_in, 1.0f,
                r->grad_a, n_in);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rank, n_out, t, s, h_of(r, set), rank, o->dy, n_out,
                1.0f, r->grad_b, n_out);
}

rival blas_rival_of(blas_rival *r)
{
    return (rival){.self = r, .forward = forward, .backward = backward};
}

static float *zeros(int64_t n)
{
    float *memory = bench_memory((size_t)n * sizeof(float));
    return memset(memory, 0, (size_t)n * sizeof(float));
}

void blas_open(blas_rival *r, const operands *o, int64_t rank, const float *a, const float *b)
{
    const bench_shape *shape = &o->shape;
    *r = (blas_rival){.o = o, .rank = rank, .a = a, .b = b};
    r->grad_a = zeros(rank * shape->n_in);
    r->grad_b = zeros(rank * shape->n_out);
    r->h = zeros(o->n_sets * shape->tokens * rank);
    r->d = zeros(shape->tokens * rank);
}

void blas_close(blas_rival *r)
{
    free(r->grad_a);
    free(r->grad_b);
    free(r->h);
    free(r->d);
    *r = (blas_rival){0};
}
