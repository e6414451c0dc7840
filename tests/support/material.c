/* SPDX-License-Identifier: MIT */
/* Material for tests (material.h). Random numbers are SplitMix64, not the library's streams. */
#include "material.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CANARY 0x7fc0deadu

double random_unit(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-52 - 1.0;
}

void random_floats(float *values, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)random_unit(&seed);
}

static void set_canary(float *at)
{
    const uint32_t bits = CANARY;
    memcpy(at, &bits, sizeof bits);
}

padded padded_make(int64_t rows, int64_t cols, int64_t pad, uint64_t seed)
{
    padded m = {.rows = rows, .cols = cols, .ld = cols + pad};
    m.data = malloc((size_t)(rows * m.ld + 1) * sizeof *m.data);
    ck_assert_ptr_nonnull(m.data);
    for (int64_t i = 0; i < rows * m.ld + 1; i++)
        set_canary(&m.data[i]);
    for (int64_t i = 0; i < rows; i++)
        random_floats(m.data + i * m.ld, cols, seed * 1000003 + (uint64_t)i);
    return m;
}

padded padded_copy(const padded *from)
{
    padded m = *from;
    size_t bytes = (size_t)(m.rows * m.ld + 1) * sizeof *m.data;
    m.data = malloc(bytes);
    ck_assert_ptr_nonnull(m.data);
    memcpy(m.data, from->data, bytes);
    return m;
}

void padded_free(padded *matrix)
{
    free(matrix->data);
    matrix->data = NULL;
}

static bool is_canary(const float *at)
{
    uint32_t bits;
    memcpy(&bits, at, sizeof bits);
    return bits == CANARY;
}

bool padded_intact(const padded *m)
{
    if (!is_canary(&m->data[m->rows * m->ld])) return false;
    for (int64_t i = 0; i < m->rows; i++)
        for (int64_t j = m->cols; j < m->ld; j++)
            if (!is_canary(&m->data[i * m->ld + j])) return false;
    return true;
}

bool padded_same(const padded *a, const padded *b)
{
    for (int64_t i = 0; i < a->rows; i++)
        if (memcmp(a->data + i * a->ld, b->data + i * b->ld, (size_t)a->cols * sizeof(float)) != 0)
            return false;
    return a->rows == b->rows && a->cols == b->cols;
}

lrk_matrix padded_view(const padded *m)
{
    return (lrk_matrix){.struct_size = sizeof(lrk_matrix),
                        .dtype = LRK_DTYPE_F32,
                        .data = m->data,
                        .rows = m->rows,
                        .cols = m->cols,
                        .ld = m->ld};
}

lrk_matrix_mut padded_mut(padded *m)
{
    return (lrk_matrix_mut){.struct_size = sizeof(lrk_matrix_mut),
                            .dtype = LRK_DTYPE_F32,
                            .data = m->data,
                            .rows = m->rows,
                            .cols = m->cols,
                            .ld = m->ld};
}

lrk_context *context_of_kernels(int32_t kernels)
{
    lrk_host host;
    lrk_context *context = NULL;
    ck_assert_int_eq(lrk_host_init(&host, sizeof host), LRK_OK);
    host.kernels = kernels;
    lrk_status status = lrk_context_create(&host, &context, NULL, 0);
    ck_assert_msg(status == LRK_OK || status == LRK_ERR_UNSUPPORTED, "%s", lrk_status_name(status));
    return context;
}

lrk_adapters *set_make(lrk_context *context, const shape *shapes, int64_t n, double dropout, uint32_t flags)
{
    char names[16][16];
    lrk_module_spec specs[16];
    ck_assert_int_le(n, 16);
    for (int64_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "m%d", (int)i);
        ck_assert_int_eq(lrk_module_spec_init(&specs[i], sizeof specs[i]), LRK_OK);
        specs[i].name = names[i];
        specs[i].n_in = shapes[i].n_in;
        specs[i].n_out = shapes[i].n_out;
        specs[i].rank = shapes[i].rank;
        specs[i].input_group = shapes[i].group;
        specs[i].stage = shapes[i].stage;
        specs[i].scale = shapes[i].scale;
    }
    lrk_adapters_options options;
    ck_assert_int_eq(lrk_adapters_options_init(&options, sizeof options), LRK_OK);
    options.dropout = dropout;
    options.seed = 20240616;
    options.flags = flags;
    lrk_adapters *adapters = NULL;
    char why[512] = "";
    lrk_status status = lrk_adapters_create(context, specs, n, &options, &adapters);
    lrk_context_error(context, why, sizeof why);
    ck_assert_msg(status == LRK_OK, "%s", why);
    return adapters;
}

lrk_tensor set_tensor(const lrk_adapters *adapters, int32_t module, int32_t which)
{
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    ck_assert_int_eq(lrk_adapters_tensor(adapters, module, which, &tensor), LRK_OK);
    return tensor;
}

void set_fill(lrk_adapters *adapters, uint64_t seed)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_info_get(adapters, &info), LRK_OK);
    for (int32_t m = 0; m < info.modules; m++) {
        lrk_tensor a = set_tensor(adapters, m, LRK_TENSOR_A), b = set_tensor(adapters, m, LRK_TENSOR_B);
        lrk_tensor gates = set_tensor(adapters, m, LRK_TENSOR_GATES);
        random_floats(a.data, a.rows * a.cols, seed * 7919 + 3 * (uint64_t)m);
        random_floats(b.data, b.rows * b.cols, seed * 7919 + 3 * (uint64_t)m + 1);
        random_floats(gates.data, gates.rows, seed * 7919 + 3 * (uint64_t)m + 2);
        for (int64_t j = 0; j < gates.rows; j++)
            gates.data[j] = 1.0f + 0.5f * gates.data[j];
    }
    ck_assert_int_eq(lrk_adapters_values_changed(adapters), LRK_OK);
}

lrk_pass_options pass_options(int64_t max_rows)
{
    lrk_pass_options options;
    ck_assert_int_eq(lrk_pass_options_init(&options, sizeof options), LRK_OK);
    options.max_rows = max_rows;
    return options;
}

lrk_pass *pass_open(lrk_adapters *adapters, lrk_pass_options options)
{
    lrk_pass *pass = NULL;
    ck_assert_int_eq(lrk_pass_begin(adapters, &options, &pass), LRK_OK);
    ck_assert_ptr_nonnull(pass);
    return pass;
}
