/* SPDX-License-Identifier: MIT */
/* The oracle (oracle.h): the formulas, element by element. Slow on purpose; nothing here is shared with the library. */
#include "oracle.h"

#include <math.h>
#include <stddef.h>

static double term(double v, bool sizes)
{
    return sizes ? fabs(v) : v;
}

static double x_at(const oracle_case *c, int64_t t, int64_t i)
{
    double keep = c->keep != NULL ? c->keep[t * c->n_in + i] : 1.0;
    return (double)c->x[t * c->ld_x + i] * keep;
}

static double mask_at(const oracle_case *c, int64_t j)
{
    return c->mask != NULL ? (double)c->mask[j] : 1.0;
}

/* H_tj = sum_i x'_ti A_ji */
static double h_at(const oracle_case *c, int64_t t, int64_t j, bool sizes)
{
    double sum = 0.0;
    for (int64_t i = 0; i < c->n_in; i++)
        sum += term(x_at(c, t, i) * (double)c->a[j * c->n_in + i], sizes);
    return sum;
}

/* Q_tj = s sum_o dy_to B_jo */
static double q_at(const oracle_case *c, int64_t t, int64_t j, bool sizes)
{
    double sum = 0.0;
    for (int64_t o = 0; o < c->n_out; o++)
        sum += term((double)c->dy[t * c->ld_dy + o] * (double)c->b[j * c->n_out + o], sizes);
    return term(c->scale, sizes) * sum;
}

void oracle_forward(const oracle_case *c, double *y, bool sizes)
{
    for (int64_t t = 0; t < c->rows; t++)
        for (int64_t j = 0; j < c->rank; j++) {
            double weight = c->scale * mask_at(c, j) * (double)c->gates[j] * h_at(c, t, j, sizes);
            for (int64_t o = 0; o < c->n_out; o++)
                y[t * c->n_out + o] += term(weight * (double)c->b[j * c->n_out + o], sizes);
        }
}

static void add_row(const oracle_case *c, int64_t t, int64_t j, double h, double q, oracle_gradients g,
                    bool sizes)
{
    double w = mask_at(c, j) * (double)c->gates[j];
    double keep = 1.0;
    for (int64_t i = 0; i < c->n_in; i++) {
        if (c->keep != NULL) keep = c->keep[t * c->n_in + i];
        if (g.dx != NULL) g.dx[t * c->n_in + i] += term(q * w * (double)c->a[j * c->n_in + i] * keep, sizes);
        if (g.grad_a != NULL) g.grad_a[j * c->n_in + i] += term(q * w * x_at(c, t, i), sizes);
    }
    for (int64_t o = 0; o < c->n_out && g.grad_b != NULL; o++)
        g.grad_b[j * c->n_out + o] += term(c->scale * h * w * (double)c->dy[t * c->ld_dy + o], sizes);
    if (g.gates != NULL) g.gates[j] += term(mask_at(c, j) * h * q, sizes);
    if (g.mask != NULL) g.mask[j] += term((double)c->gates[j] * h * q, sizes);
}

void oracle_backward(const oracle_case *c, oracle_gradients g, bool sizes)
{
    for (int64_t t = 0; t < c->rows; t++)
        for (int64_t j = 0; j < c->rank; j++)
            add_row(c, t, j, h_at(c, t, j, sizes), q_at(c, t, j, sizes), g, sizes);
}

double oracle_gamma(int64_t length)
{
    double ku = (double)length * 0x1p-24;
    return ku / (1.0 - ku);
}

bool oracle_within(double got, double want, double size, int64_t length)
{
    return fabs(got - want) <= oracle_gamma(length) * size;
}
