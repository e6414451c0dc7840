/* SPDX-License-Identifier: MIT */
/*
 * The model's shape and its weights in memory: one block of storage, every
 * tensor at a 64-byte boundary, the members of a linear group side by side.
 */
#include "model.h"

#include <stdio.h>

#include "mem.h"
#include "model_internal.h"

static const char *const kind_names[LLAMA_N_KINDS] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj",
};

static const int kind_group[LLAMA_N_KINDS] = {GROUP_QKV,     GROUP_QKV,     GROUP_QKV, GROUP_O,
                                              GROUP_GATE_UP, GROUP_GATE_UP, GROUP_DOWN};

static int64_t kind_out(const llama_config *c, int kind)
{
    switch (kind) {
    case LLAMA_Q:
        return c->n_heads * c->head_dim;
    case LLAMA_K:
    case LLAMA_V:
        return c->n_kv_heads * c->head_dim;
    case LLAMA_GATE:
    case LLAMA_UP:
        return c->intermediate;
    default:
        return c->hidden;
    }
}

static int64_t kind_in(const llama_config *c, int kind)
{
    if (kind == LLAMA_O) return c->n_heads * c->head_dim;
    return kind == LLAMA_DOWN ? c->intermediate : c->hidden;
}

void model_groups(const llama_config *config, linear_group groups[N_GROUPS])
{
    for (int g = 0; g < N_GROUPS; g++)
        groups[g] = (linear_group){0};
    for (int kind = 0; kind < LLAMA_N_KINDS; kind++) {
        linear_group *group = &groups[kind_group[kind]];
        if (group->n_kinds == 0) group->first_kind = kind;
        group->n_in = kind_in(config, kind);
        group->column[group->n_kinds] = group->n_out;
        group->member_out[group->n_kinds++] = kind_out(config, kind);
        group->n_out += kind_out(config, kind);
    }
}

void llama_linear_describe(const llama_config *config, int64_t block, int kind, llama_linear *out)
{
    snprintf(out->name, sizeof out->name, "model.layers.%lld.%s", (long long)block, kind_names[kind]);
    out->n_in = kind_in(config, kind);
    out->n_out = kind_out(config, kind);
    out->stage = block;
    out->input_group = block * N_GROUPS + kind_group[kind];
}

int64_t llama_n_parameters(const llama_config *c)
{
    int64_t block = 2 * c->hidden;
    for (int kind = 0; kind < LLAMA_N_KINDS; kind++)
        block += kind_in(c, kind) * kind_out(c, kind);
    return c->n_layers * block + c->hidden + c->vocab * c->hidden * (c->tied_head ? 1 : 2);
}

/* Hands out consecutive tensors of the storage, or counts them while base is NULL. */
typedef struct carver {
    float *base;
    size_t used;
} carver;

static float *carve(carver *s, int64_t rows, int64_t columns)
{
    float *at = s->base != NULL ? s->base + s->used : NULL;
    s->used += ((size_t)rows * (size_t)columns + 15) / 16 * 16;
    return at;
}

static size_t carve_model(const llama_config *c, llama_model *model, float *base)
{
    carver s = {.base = base};
    linear_group groups[N_GROUPS];
    model_groups(c, groups);
    float *embedding = carve(&s, c->vocab, c->hidden);
    float *head = c->tied_head ? embedding : carve(&s, c->vocab, c->hidden);
    float *final_norm = carve(&s, c->hidden, 1);
    for (int64_t b = 0; b < c->n_layers; b++) {
        block_weights block;
        block.input_norm = carve(&s, c->hidden, 1);
        block.middle_norm = carve(&s, c->hidden, 1);
        for (int g = 0; g < N_GROUPS; g++)
            block.group[g] = carve(&s, groups[g].n_out, groups[g].n_in);
        if (model != NULL) model->blocks[b] = block;
    }
    if (model != NULL) {
        model->embedding = embedding;
        model->head = head;
        model->final_norm = final_norm;
    }
    return s.used;
}

size_t model_weight_floats(const llama_config *config)
{
    return carve_model(config, NULL, NULL);
}

static llama_model *model_allocate(const llama_config *config)
{
    llama_model *model = mem_alloc(sizeof *model);
    if (model == NULL) return NULL;
    model->config = *config;
    model_groups(config, model->groups);
    model->blocks = mem_alloc_array(config->n_layers, sizeof *model->blocks);
    model->storage = mem_alloc_array((int64_t)model_weight_floats(config), sizeof *model->storage);
    if (model->blocks == NULL || model->storage == NULL) {
        llama_free(model);
        return NULL;
    }
    carve_model(config, model, model->storage);
    return model;
}

int llama_load(const char *dir, llama_model **out, char *err, size_t err_bytes)
{
    llama_config config;
    *out = NULL;
    if (llama_config_read(dir, &config, err, err_bytes) != 0) return -1;
    llama_model *model = model_allocate(&config);
    if (model == NULL)
        return model_fail(err, err_bytes, "%s: out of memory: the weights need %zu bytes", dir,
                          model_weight_floats(&config) * sizeof(float));
    if (weights_read(dir, model, err, err_bytes) != 0) {
        llama_free(model);
        return -1;
    }
    *out = model;
    return 0;
}

void llama_free(llama_model *model)
{
    if (model == NULL) return;
    mem_free(model->blocks);
    mem_free(model->storage);
    mem_free(model);
}

const llama_config *llama_model_config(const llama_model *model)
{
    return &model->config;
}

float *llama_weight(llama_model *model, int64_t block, int kind)
{
    for (int g = 0; g < N_GROUPS; g++) {
        const linear_group *group = &model->groups[g];
        int i = kind - group->first_kind;
        if (i >= 0 && i < group->n_kinds)
            return model->blocks[block].group[g] + group->column[i] * group->n_in;
    }
    return NULL;
}
