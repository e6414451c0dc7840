/* SPDX-License-Identifier: MIT */
/*
 * Fills a model from safetensors: one file, or shards listed by an index.
 * Every tensor that the architecture needs must be there with its exact shape
 * and finite values, and none may be left over: an unused tensor means that
 * the file holds another architecture than the config says.
 *
 * The files are read through lorank's public reader, in the plain build too.
 */
#include <jansson.h>
#include <lorank/safetensors.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model_internal.h"

enum { PATH_BYTES = 4096 };

typedef struct shard {
    char *name; /* within the directory */
    lrk_safetensors *file;
    char *used; /* one flag a tensor    */
} shard;

typedef struct source {
    const char *dir;
    lrk_context *context;
    json_t *index; /* the weight map; NULL: a single file */
    shard *shards;
    size_t n_shards;
    char *err;
    size_t err_bytes;
} source;

#define SOURCE_FAIL(s, ...) model_fail((s)->err, (s)->err_bytes, __VA_ARGS__)

static int lorank_failed(source *s)
{
    char text[512];
    lrk_context_error(s->context, text, sizeof text);
    return SOURCE_FAIL(s, "%s", text);
}

/* Opens a file of the directory, once. */
static shard *open_shard(source *s, const char *name)
{
    char path[PATH_BYTES];
    for (size_t i = 0; i < s->n_shards; i++)
        if (strcmp(s->shards[i].name, name) == 0) return &s->shards[i];
    if (strchr(name, '/') != NULL || snprintf(path, sizeof path, "%s/%s", s->dir, name) >= (int)sizeof path) {
        SOURCE_FAIL(s, "%s: the index names a file \"%.64s\" outside of it", s->dir, name);
        return NULL;
    }
    shard *grown = realloc(s->shards, (s->n_shards + 1) * sizeof *grown);
    if (grown == NULL) {
        SOURCE_FAIL(s, "%s: out of memory", path);
        return NULL;
    }
    s->shards = grown;
    shard *added = &grown[s->n_shards++];
    *added = (shard){.name = strdup(name)};
    if (lrk_safetensors_open(s->context, path, &added->file) != LRK_OK) {
        lorank_failed(s);
        return NULL;
    }
    added->used = calloc((size_t)lrk_safetensors_count(added->file) + 1, 1);
    if (added->name != NULL && added->used != NULL) return added;
    SOURCE_FAIL(s, "%s: out of memory", path);
    return NULL;
}

static shard *shard_of(source *s, const char *tensor)
{
    if (s->index == NULL) return &s->shards[0];
    const char *file = json_string_value(json_object_get(s->index, tensor));
    if (file != NULL) return open_shard(s, file);
    SOURCE_FAIL(s, "%s/model.safetensors.index.json: no tensor %s", s->dir, tensor);
    return NULL;
}

static void describe_shape(const lrk_safetensors_tensor *t, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < t->n_dims && i < LRK_SAFETENSORS_MAX_DIMS && used < bytes; i++)
        used +=
            (size_t)snprintf(text + used, bytes - used, i > 0 ? " x %lld" : "%lld", (long long)t->shape[i]);
}

static int check_tensor(source *s, const char *file, const lrk_safetensors_tensor *t, int64_t rows,
                        int64_t columns)
{
    char found[96], wanted[64];
    int fits = columns == 0 ? t->n_dims == 1 && t->shape[0] == rows
                            : t->n_dims == 2 && t->shape[0] == rows && t->shape[1] == columns;
    if (!t->readable)
        return SOURCE_FAIL(s, "%s/%s: tensor %s has dtype %s; f32, f16 and bf16 can be read", s->dir, file,
                           t->name, t->dtype);
    if (fits) return 0;
    describe_shape(t, found, sizeof found);
    snprintf(wanted, sizeof wanted, columns > 0 ? "%lld x %lld" : "%lld", (long long)rows,
             (long long)columns);
    return SOURCE_FAIL(s, "%s/%s: tensor %s is %s, config.json wants %s", s->dir, file, t->name, found,
                       wanted);
}

/* Reads a tensor of rows x columns (columns 0: a vector) into values. */
static int read_tensor(source *s, const char *name, int64_t rows, int64_t columns, float *values)
{
    lrk_safetensors_tensor t = {.struct_size = sizeof t};
    int64_t i, count = rows * (columns > 0 ? columns : 1);
    shard *from = shard_of(s, name);
    if (from == NULL) return -1;
    if (lrk_safetensors_find(from->file, name, &i) != LRK_OK)
        return SOURCE_FAIL(s, "%s/%s: no tensor %s", s->dir, from->name, name);
    if (lrk_safetensors_get(from->file, i, &t) != LRK_OK) return lorank_failed(s);
    if (check_tensor(s, from->name, &t, rows, columns) != 0) return -1;
    if (lrk_safetensors_read_f32(from->file, i, values, count) != LRK_OK) return lorank_failed(s);
    from->used[i] = 1;
    for (int64_t j = 0; j < count; j++)
        if (!isfinite(values[j]))
            return SOURCE_FAIL(s, "%s/%s: tensor %s holds a value that is not finite", s->dir, from->name,
                               name);
    return 0;
}

static int read_linear(source *s, llama_model *model, int64_t block, int kind)
{
    llama_linear layer;
    char name[96];
    llama_linear_describe(&model->config, block, kind, &layer);
    snprintf(name, sizeof name, "%s.weight", layer.name);
    int g = (int)(layer.input_group % N_GROUPS);
    const linear_group *group = &model->groups[g];
    float *w = model->blocks[block].group[g] + group->column[kind - group->first_kind] * group->n_in;
    return read_tensor(s, name, layer.n_out, layer.n_in, w);
}

static int read_block(source *s, llama_model *model, int64_t block)
{
    const block_weights *w = &model->blocks[block];
    char name[96];
    snprintf(name, sizeof name, "model.layers.%lld.input_layernorm.weight", (long long)block);
    if (read_tensor(s, name, model->config.hidden, 0, w->input_norm) != 0) return -1;
    snprintf(name, sizeof name, "model.layers.%lld.post_attention_layernorm.weight", (long long)block);
    if (read_tensor(s, name, model->config.hidden, 0, w->middle_norm) != 0) return -1;
    for (int kind = 0; kind < LLAMA_N_KINDS; kind++)
        if (read_linear(s, model, block, kind) != 0) return -1;
    return 0;
}

/* Left-overs that do no harm: a tied head stored twice, tables of old checkpoints. */
static int is_redundant(const llama_model *model, const char *name)
{
    size_t length = strlen(name), tail = strlen(".rotary_emb.inv_freq");
    if (model->config.tied_head && strcmp(name, "lm_head.weight") == 0) return 1;
    return length > tail && strcmp(name + length - tail, ".rotary_emb.inv_freq") == 0;
}

static int refuse_left_overs(source *s, const llama_model *model)
{
    lrk_safetensors_tensor t = {.struct_size = sizeof t};
    for (size_t k = 0; k < s->n_shards; k++)
        for (int64_t i = 0; i < lrk_safetensors_count(s->shards[k].file); i++) {
            if (s->shards[k].used[i]) continue;
            if (lrk_safetensors_get(s->shards[k].file, i, &t) != LRK_OK) return lorank_failed(s);
            if (!is_redundant(model, t.name))
                return SOURCE_FAIL(s, "%s/%s: tensor %.128s does not belong to this Llama model", s->dir,
                                   s->shards[k].name, t.name);
        }
    return 0;
}

static int read_all(source *s, llama_model *model)
{
    const llama_config *c = &model->config;
    if (read_tensor(s, "model.embed_tokens.weight", c->vocab, c->hidden, model->embedding) != 0) return -1;
    if (!c->tied_head && read_tensor(s, "lm_head.weight", c->vocab, c->hidden, model->head) != 0) return -1;
    if (read_tensor(s, "model.norm.weight", c->hidden, 0, model->final_norm) != 0) return -1;
    for (int64_t block = 0; block < c->n_layers; block++)
        if (read_block(s, model, block) != 0) return -1;
    return refuse_left_overs(s, model);
}

/* A single file where there is one, else the index of shards. */
static int open_source(source *s)
{
    char path[PATH_BYTES];
    json_error_t problem;
    if (snprintf(path, sizeof path, "%s/model.safetensors", s->dir) >= (int)sizeof path)
        return SOURCE_FAIL(s, "%.64s...: path too long", s->dir);
    if (access(path, F_OK) == 0) return open_shard(s, "model.safetensors") != NULL ? 0 : -1;
    if (snprintf(path, sizeof path, "%s/model.safetensors.index.json", s->dir) >= (int)sizeof path)
        return SOURCE_FAIL(s, "%.64s...: path too long", s->dir);
    if (access(path, F_OK) != 0)
        return SOURCE_FAIL(s, "%s: neither model.safetensors nor model.safetensors.index.json", s->dir);
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
    if (root == NULL) return SOURCE_FAIL(s, "%s:%d: %s", path, problem.line, problem.text);
    s->index = json_incref(json_object_get(root, "weight_map"));
    json_decref(root);
    return json_is_object(s->index) ? 0 : SOURCE_FAIL(s, "%s: weight_map is missing", path);
}

static void close_source(source *s)
{
    for (size_t i = 0; i < s->n_shards; i++) {
        lrk_safetensors_close(s->shards[i].file);
        free(s->shards[i].used);
        free(s->shards[i].name);
    }
    free(s->shards);
    json_decref(s->index);
    lrk_context_destroy(s->context);
}

int weights_read(const char *dir, llama_model *model, char *err, size_t err_bytes)
{
    source s = {.dir = dir, .err = err, .err_bytes = err_bytes};
    if (lrk_context_create(NULL, &s.context, err, err_bytes) != LRK_OK) return -1;
    int status = open_source(&s) == 0 ? read_all(&s, model) : -1;
    close_source(&s);
    return status;
}
