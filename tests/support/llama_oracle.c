/* SPDX-License-Identifier: MIT */
/* See llama_oracle.h. One sequence at a time; every matrix is tokens x features. */
#include "llama_oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "examples/finetune/model_internal.h"

static double *matrix(int64_t rows, int64_t columns)
{
    return calloc((size_t)(rows * columns), sizeof(double));
}

static double *norm(const llama_config *c, int64_t n, const double *x, const float *gain)
{
    double *y = matrix(n, c->hidden);
    for (int64_t t = 0; t < n; t++) {
        double sum = 0;
        for (int64_t i = 0; i < c->hidden; i++)
            sum += x[t * c->hidden + i] * x[t * c->hidden + i];
        for (int64_t i = 0; i < c->hidden; i++)
            y[t * c->hidden + i] =
                x[t * c->hidden + i] / sqrt(sum / (double)c->hidden + c->rms_norm_eps) * (double)gain[i];
    }
    return y;
}

static const float *weight_of(const llama_model *model, int64_t block, int kind, llama_linear *layer)
{
    llama_linear_describe(&model->config, block, kind, layer);
    int g = (int)(layer->input_group % N_GROUPS);
    const linear_group *group = &model->groups[g];
    return model->blocks[block].group[g] + group->column[kind - group->first_kind] * layer->n_in;
}

static double adapter_delta(const oracle_adapter *a, const llama_linear *layer, const double *x, int64_t out)
{
    double sum = 0;
    for (int64_t j = 0; j < a->rank; j++) {
        double h = 0;
        for (int64_t i = 0; i < layer->n_in; i++)
            h += a->a[j * layer->n_in + i] * x[i];
        sum += a->w[j] * h * a->b[j * layer->n_out + out];
    }
    return sum;
}

static double *linear(const oracle *o, int64_t block, int kind, int64_t n, const double *x)
{
    llama_linear layer;
    const float *w = weight_of(o->model, block, kind, &layer);
    double *y = matrix(n, layer.n_out);
    for (int64_t t = 0; t < n; t++)
        for (int64_t out = 0; out < layer.n_out; out++) {
            double sum = 0;
            for (int64_t i = 0; i < layer.n_in; i++)
                sum += (double)w[out * layer.n_in + i] * x[t * layer.n_in + i];
            if (o->adapters != NULL)
                sum += adapter_delta(&o->adapters[block * LLAMA_N_KINDS + kind], &layer, x + t * layer.n_in,
                                     out);
            y[t * layer.n_out + out] = sum;
        }
    return y;
}

static void rotate_heads(const llama_config *c, int64_t n, int64_t n_heads, double *x)
{
    int64_t half = c->head_dim / 2;
    for (int64_t t = 0; t < n; t++)
        for (int64_t head = 0; head < n_heads; head++)
            for (int64_t i = 0; i < half; i++) {
                double angle = (double)t / pow(c->rope_theta, 2.0 * (double)i / (double)c->head_dim);
                double *first = &x[(t * n_heads + head) * c->head_dim + i], *second = first + half;
                double a = *first, b = *second;
                *first = a * cos(angle) - b * sin(angle);
                *second = b * cos(angle) + a * sin(angle);
            }
}

static void attend_one(const llama_config *c, int64_t t, const double *q, const double *k, const double *v,
                       double *out)
{
    int64_t stride = c->n_kv_heads * c->head_dim;
    double p[1024], top = -INFINITY, sum = 0;
    for (int64_t s = 0; s <= t; s++) {
        p[s] = 0;
        for (int64_t i = 0; i < c->head_dim; i++)
            p[s] += q[i] * k[s * stride + i] / sqrt((double)c->head_dim);
        top = fmax(top, p[s]);
    }
    for (int64_t s = 0; s <= t; s++)
        sum += p[s] = exp(p[s] - top);
    for (int64_t s = 0; s <= t; s++)
        for (int64_t i = 0; i < c->head_dim; i++)
            out[i] += p[s] / sum * v[s * stride + i];
}

static double *attend(const llama_config *c, int64_t n, const double *q, const double *k, const double *v)
{
    double *out = matrix(n, c->n_heads * c->head_dim);
    for (int64_t t = 0; t < n; t++)
        for (int64_t head = 0; head < c->n_heads; head++) {
            int64_t at = (t * c->n_heads + head) * c->head_dim;
            int64_t shared = head / (c->n_heads / c->n_kv_heads) * c->head_dim;
            attend_one(c, t, q + at, k + shared, v + shared, out + at);
        }
    return out;
}

static void add_and_free(int64_t n, double *x, double *y)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += y[i];
    free(y);
}

static void run_block(const oracle *o, int64_t block, int64_t n, double *x)
{
    const llama_config *c = &o->model->config;
    const block_weights *w = &o->model->blocks[block];
    double *h = norm(c, n, x, w->input_norm);
    double *q = linear(o, block, LLAMA_Q, n, h), *k = linear(o, block, LLAMA_K, n, h);
    double *v = linear(o, block, LLAMA_V, n, h);
    rotate_heads(c, n, c->n_heads, q);
    rotate_heads(c, n, c->n_kv_heads, k);
    double *attended = attend(c, n, q, k, v);
    add_and_free(n * c->hidden, x, linear(o, block, LLAMA_O, n, attended));
    free(h);
    free(q);
    free(k);
    free(v);
    free(attended);
    h = norm(c, n, x, w->middle_norm);
    double *gate = linear(o, block, LLAMA_GATE, n, h), *up = linear(o, block, LLAMA_UP, n, h);
    for (int64_t i = 0; i < n * c->intermediate; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    add_and_free(n * c->hidden, x, linear(o, block, LLAMA_DOWN, n, gate));
    free(h);
    free(gate);
    free(up);
}

static double cross_entropy(int64_t vocab, const double *logits, int64_t target)
{
    double top = -INFINITY, sum = 0;
    for (int64_t v = 0; v < vocab; v++)
        top = fmax(top, logits[v]);
    for (int64_t v = 0; v < vocab; v++)
        sum += exp(logits[v] - top);
    return log(sum) + top - logits[target];
}

void oracle_embed(const llama_model *model, const llama_batch *batch, double *input)
{
    int64_t hidden = model->config.hidden;
    for (int64_t i = 0; i < batch->n_seq * batch->seq_len * hidden; i++)
        input[i] = (double)model->embedding[batch->tokens[i / hidden] * hidden + i % hidden];
}

static double sequence_loss(const oracle *o, const llama_batch *batch, int64_t seq)
{
    const llama_config *c = &o->model->config;
    int64_t n = batch->seq_len, first = seq * n;
    double *x = matrix(n, c->hidden), *logits = matrix(1, c->vocab), loss = 0;
    if (o->input != NULL)
        memcpy(x, o->input + first * c->hidden, (size_t)(n * c->hidden) * sizeof *x);
    else
        oracle_embed(o->model, &(llama_batch){1, n, batch->tokens + first, NULL}, x);
    for (int64_t block = 0; block < c->n_layers; block++)
        run_block(o, block, n, x);
    double *h = norm(c, n, x, o->model->final_norm);
    for (int64_t t = 0; t < n; t++) {
        for (int64_t v = 0; v < c->vocab; v++) {
            logits[v] = 0;
            for (int64_t i = 0; i < c->hidden; i++)
                logits[v] += h[t * c->hidden + i] * (double)o->model->head[v * c->hidden + i];
            if (o->logits != NULL) o->logits[(first + t) * c->vocab + v] = logits[v];
        }
        if (batch->targets[first + t] >= 0)
            loss += cross_entropy(c->vocab, logits, batch->targets[first + t]);
    }
    free(x);
    free(h);
    free(logits);
    return loss;
}

double oracle_loss(const oracle *o, const llama_batch *batch)
{
    double loss = 0;
    for (int64_t seq = 0; seq < batch->n_seq; seq++)
        loss += sequence_loss(o, batch, seq);
    return loss;
}
