/* SPDX-License-Identifier: MIT */
/* Sets for tests of GGUF adapters (gguf_sets.h). */
#include "gguf_sets.h"

#include <check.h>
#include <string.h>

#include "sets.h"

fault gguf_host;
lrk_context *gguf_context;

typedef struct known_module {
    const char *architecture;
    const char *name;
    const char *base;
    int64_t n_in, n_out;
    int64_t rank;
    int64_t heads; /* of a Llama */
} known_module;

/* The tables of interop documents, written down again. */
static const known_module known[] = {
    {"llama", "model.layers.0.self_attn.q_proj", "blk.0.attn_q", 5, 16, 2, GGUF_HEADS},
    {"llama", "model.layers.0.self_attn.k_proj", "blk.0.attn_k", 5, 8, 3, GGUF_KV_HEADS},
    {"llama", "model.layers.0.self_attn.v_proj", "blk.0.attn_v", 5, 8, 0, 0},
    {"llama", "model.layers.12.self_attn.o_proj", "blk.12.attn_output", 16, 5, 1, 0},
    {"llama", "model.layers.12.mlp.gate_proj", "blk.12.ffn_gate", 5, 7, 3, 0},
    {"llama", "model.layers.12.mlp.up_proj", "blk.12.ffn_up", 5, 7, 1, 0},
    {"llama", "model.layers.345.mlp.down_proj", "blk.345.ffn_down", 7, 5, 2, 0},
    {"llama", "lm_head", "output", 5, 11, 1, 0},
    {"qwen2", "model.layers.0.self_attn.q_proj", "blk.0.attn_q", 5, 16, 2, 0},
    {"qwen2", "model.layers.0.self_attn.k_proj", "blk.0.attn_k", 5, 8, 3, 0},
    {"qwen2", "model.layers.0.self_attn.v_proj", "blk.0.attn_v", 5, 8, 0, 0},
    {"qwen2", "model.layers.12.self_attn.o_proj", "blk.12.attn_output", 16, 5, 1, 0},
    {"qwen2", "model.layers.12.mlp.gate_proj", "blk.12.ffn_gate", 5, 7, 3, 0},
    {"qwen2", "model.layers.12.mlp.up_proj", "blk.12.ffn_up", 5, 7, 1, 0},
    {"qwen2", "model.layers.345.mlp.down_proj", "blk.345.ffn_down", 7, 5, 2, 0},
    {"qwen2", "lm_head", "output", 5, 11, 1, 0},
    {"gpt2", "transformer.h.0.attn.c_attn", "blk.0.attn_qkv", 4, 12, 3, 0},
    {"gpt2", "transformer.h.0.attn.c_proj", "blk.0.attn_output", 4, 4, 2, 0},
    {"gpt2", "transformer.h.1.mlp.c_fc", "blk.1.ffn_up", 4, 9, 0, 0},
    {"gpt2", "transformer.h.11.mlp.c_fc", "blk.11.ffn_up", 4, 9, 1, 0},
    {"gpt2", "transformer.h.11.mlp.c_proj", "blk.11.ffn_down", 9, 4, 2, 0},
    {"gpt2", "lm_head", "output", 4, 6, 1, 0},
};

void gguf_setup(void)
{
    fault_reset(&gguf_host);
    gguf_context = fault_context(&gguf_host);
}

void gguf_teardown(void)
{
    lrk_context_destroy(gguf_context);
    ck_assert_int_eq(gguf_host.live, 0);
    ck_assert(!gguf_host.bad_release);
}

lrk_gguf_options gguf_options(const char *architecture)
{
    lrk_gguf_options options;
    ck_assert_int_eq(lrk_gguf_options_init(&options, sizeof options), LRK_OK);
    options.architecture = architecture;
    options.alpha = GGUF_ALPHA;
    options.n_head = GGUF_HEADS;
    options.n_kv_head = GGUF_KV_HEADS;
    return options;
}

static const known_module *find_known(const char *architecture, int32_t i)
{
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
        if (strcmp(known[k].architecture, architecture) == 0 && i-- == 0) return &known[k];
    return NULL;
}

const char *gguf_base(const char *architecture, int32_t i, int64_t *heads)
{
    const known_module *found = find_known(architecture, i);
    ck_assert_ptr_nonnull(found);
    *heads = found->heads;
    return found->base;
}

int32_t gguf_specs(const char *architecture, lrk_module_spec *specs)
{
    int32_t n = 0;
    for (const known_module *m; (m = find_known(architecture, n)) != NULL; n++)
        specs[n] = sets_spec(m->name, m->n_in, m->n_out, 0);
    return n;
}

static lrk_adapters *make_set(const char *architecture, bool plain)
{
    static const double scales[] = {0.7, 1.0 / 3, 5, 2, -0.4, 1, 16, 1e-3};
    lrk_module_spec specs[8];
    int32_t n = gguf_specs(architecture, specs);
    for (int32_t i = 0; i < n; i++) {
        specs[i].rank = find_known(architecture, i)->rank;
        specs[i].scale = scales[i];
        if (plain) specs[i].scale = specs[i].rank > 0 ? GGUF_ALPHA / (double)specs[i].rank : 1;
    }
    lrk_adapters *adapters = sets_create(gguf_context, specs, n, NULL);
    sets_fill(adapters);
    for (int32_t i = 0; plain && i < n; i++) {
        lrk_tensor gates = sets_tensor(adapters, i, LRK_TENSOR_GATES);
        for (int64_t j = 0; j < gates.rows; j++)
            gates.data[j] = 1;
    }
    return adapters;
}

lrk_adapters *gguf_set(const char *architecture)
{
    return make_set(architecture, false);
}

lrk_adapters *gguf_plain_set(const char *architecture)
{
    return make_set(architecture, true);
}

/* ---- in memory ----------------------------------------------------------------------------------------------------- */

static void expect_ok(lrk_status status)
{
    char text[512];
    lrk_context_error(gguf_context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s: %s", lrk_status_name(status), text);
}

gguf_bytes gguf_save(const lrk_adapters *adapters, const lrk_gguf_options *options)
{
    gguf_bytes bytes = gguf_bytes_new();
    lrk_writer writer = gguf_bytes_writer(&bytes);
    expect_ok(lrk_gguf_write(adapters, &writer, options));
    return bytes;
}

lrk_status gguf_try(gguf_bytes *bytes, const lrk_gguf_options *options, const lrk_module_spec *modules,
                    int64_t n, lrk_adapters **adapters)
{
    lrk_reader reader = gguf_bytes_reader(bytes);
    return lrk_gguf_load_reader(gguf_context, &reader, options, modules, n, NULL, adapters);
}

lrk_adapters *gguf_load(gguf_bytes *bytes, const lrk_gguf_options *options)
{
    lrk_adapters *adapters = NULL;
    expect_ok(gguf_try(bytes, options, NULL, 0, &adapters));
    return adapters;
}

lrk_module_info gguf_module(const lrk_adapters *adapters, int32_t module)
{
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(adapters, module, &info), LRK_OK);
    return info;
}

static bool same_tensor(const lrk_adapters *a, const lrk_adapters *b, int32_t module, int32_t which)
{
    lrk_tensor s = {.struct_size = sizeof s}, t = {.struct_size = sizeof t};
    return lrk_adapters_tensor(a, module, which, &s) == LRK_OK &&
           lrk_adapters_tensor(b, module, which, &t) == LRK_OK && s.rows == t.rows && s.cols == t.cols &&
           (s.rows == 0 || memcmp(s.data, t.data, (size_t)(s.rows * s.cols) * sizeof *s.data) == 0);
}

/* Without an assertion for each value: each is a message of the test framework. */
bool gguf_equal(const lrk_adapters *a, const lrk_adapters *b)
{
    lrk_adapters_info x = {.struct_size = sizeof x}, y = {.struct_size = sizeof y};
    bool equal = lrk_adapters_info_get(a, &x) == LRK_OK && lrk_adapters_info_get(b, &y) == LRK_OK &&
                 x.modules == y.modules;
    for (int32_t m = 0; equal && m < x.modules; m++) {
        lrk_module_info s = {.struct_size = sizeof s}, t = {.struct_size = sizeof t};
        equal = lrk_adapters_module(a, m, &s) == LRK_OK && lrk_adapters_module(b, m, &t) == LRK_OK &&
                strcmp(s.name, t.name) == 0 && s.scale == t.scale;
        for (int32_t which = LRK_TENSOR_A; equal && which <= LRK_TENSOR_GATES; which++)
            equal = same_tensor(a, b, m, which);
    }
    return equal;
}
