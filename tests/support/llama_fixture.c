/* SPDX-License-Identifier: MIT */
/* See llama_fixture.h. Tensors are listed once, then written to one file or dealt round to the shards. */
#include "llama_fixture.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/finetune/ops.h"

enum { MOST_TENSORS = 64, MOST_SHARDS = 4, PATH_BYTES = 256, NAME_BYTES = 64 };

typedef struct tensor {
    char name[NAME_BYTES];
    int64_t rows, columns; /* columns 0: a vector */
    const char *dtype;
    int poisoned;
} tensor;

typedef struct listing {
    const fixture_spec *spec;
    tensor tensors[MOST_TENSORS];
    int n;
} listing;

const fixture_spec fixture_small = {
    .config =
        "{\"model_type\": \"llama\", \"hidden_act\": \"silu\", \"hidden_size\": 24, \"intermediate_size\": "
        "40,"
        " \"num_hidden_layers\": 4, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 8,"
        " \"vocab_size\": 50, \"max_position_embeddings\": 160, \"rms_norm_eps\": 1e-5,"
        " \"rope_theta\": 500.0, \"tie_word_embeddings\": true, \"eos_token_id\": [2, 3]}",
    .hidden = 24,
    .intermediate = 40,
    .n_layers = 4,
    .q = 32,
    .kv = 16,
    .vocab = 50,
};

static int is(const char *wanted, const char *name)
{
    return wanted != NULL && strcmp(wanted, name) == 0;
}

static void list(listing *l, const char *name, int64_t rows, int64_t columns)
{
    const fixture_spec *s = l->spec;
    int swapped = is(s->reshape, name);
    if (is(s->omit, name)) return;
    ck_assert_int_lt(l->n, MOST_TENSORS - 1);
    tensor *t = &l->tensors[l->n++];
    *t = (tensor){.rows = swapped ? columns : rows,
                  .columns = swapped ? rows : columns,
                  .dtype = is(s->as_int, name) ? "I32" : "F32",
                  .poisoned = is(s->poison, name)};
    snprintf(t->name, sizeof t->name, "%s", name);
    if (!is(s->rename, name)) return;
    l->tensors[l->n] = *t;
    snprintf(l->tensors[l->n++].name, sizeof t->name, "stray.weight");
}

static void list_block(listing *l, int64_t block)
{
    const fixture_spec *s = l->spec;
    const struct {
        const char *name;
        int64_t rows, columns;
    } parts[] = {
        {"input_layernorm", s->hidden, 0},
        {"post_attention_layernorm", s->hidden, 0},
        {"self_attn.q_proj", s->q, s->hidden},
        {"self_attn.k_proj", s->kv, s->hidden},
        {"self_attn.v_proj", s->kv, s->hidden},
        {"self_attn.o_proj", s->hidden, s->q},
        {"mlp.gate_proj", s->intermediate, s->hidden},
        {"mlp.up_proj", s->intermediate, s->hidden},
        {"mlp.down_proj", s->hidden, s->intermediate},
    };
    char name[NAME_BYTES];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", (int)block, parts[i].name);
        list(l, name, parts[i].rows, parts[i].columns);
    }
}

static void list_all(listing *l)
{
    const fixture_spec *s = l->spec;
    list(l, "model.embed_tokens.weight", s->vocab, s->hidden);
    if (s->untied) list(l, "lm_head.weight", s->vocab, s->hidden);
    list(l, "model.norm.weight", s->hidden, 0);
    for (int64_t block = 0; block < s->n_layers; block++)
        list_block(l, block);
}

static int64_t count_of(const tensor *t)
{
    return t->rows * (t->columns > 0 ? t->columns : 1);
}

static FILE *open_in(const char *dir, const char *name)
{
    char path[PATH_BYTES + NAME_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    return f;
}

/* Uniform values whose size keeps every layer's output near 1; norms' gains lie around 1. */
static void write_values(FILE *f, const tensor *t, uint64_t *state)
{
    double reach = t->columns > 0 ? sqrt(3.0 / (double)t->columns) : 0.3;
    for (int64_t i = 0; i < count_of(t); i++) {
        *state = *state * 6364136223846793005U + 1442695040888963407U;
        double unit = (double)(*state >> 11) / 9007199254740992.0 * 2 - 1;
        float value = (float)(t->columns > 0 ? reach * unit : 1 + reach * unit);
        if (t->poisoned && i == 0) value = NAN;
        fwrite(&value, sizeof value, 1, f);
    }
}

static uint64_t seed_of(const char *name)
{
    uint64_t seed = 99;
    for (const char *c = name; *c != '\0'; c++)
        seed = seed * 131 + (unsigned char)*c;
    return seed;
}

/* The tensors shard, shard + n_shards, ... of the list as one file. */
static void write_shard(const listing *l, const char *dir, const char *name, int shard, int n_shards)
{
    char header[16384] = "{";
    size_t used = 1;
    int64_t at = 0;
    for (int i = shard; i < l->n; i += n_shards) {
        const tensor *t = &l->tensors[i];
        int64_t end = at + count_of(t) * 4;
        char shape[48];
        snprintf(shape, sizeof shape, t->columns > 0 ? "%d,%d" : "%d", (int)t->rows, (int)t->columns);
        used +=
            (size_t)snprintf(header + used, sizeof header - used,
                             "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%lld,%lld]}",
                             used > 1 ? "," : "", t->name, t->dtype, shape, (long long)at, (long long)end);
        at = end;
    }
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    FILE *f = open_in(dir, name);
    uint64_t length = used;
    fwrite(&length, sizeof length, 1, f);
    fwrite(header, 1, used, f);
    for (int i = shard; i < l->n; i += n_shards) {
        uint64_t state = seed_of(l->tensors[i].name);
        write_values(f, &l->tensors[i], &state);
    }
    fclose(f);
}

static void shard_name(int shard, char *name, size_t bytes)
{
    snprintf(name, bytes, "model-%d.safetensors", shard);
}

static void write_sharded(const listing *l, const char *dir, int n_shards)
{
    FILE *f = open_in(dir, "model.safetensors.index.json");
    char name[NAME_BYTES];
    fputs("{\"weight_map\": {", f);
    for (int i = 0; i < l->n; i++) {
        shard_name(i % n_shards, name, sizeof name);
        fprintf(f, "%s\"%s\": \"%s\"", i > 0 ? ", " : "", l->tensors[i].name, name);
    }
    fputs("}}", f);
    fclose(f);
    for (int shard = 0; shard < n_shards; shard++) {
        shard_name(shard, name, sizeof name);
        write_shard(l, dir, name, shard, n_shards);
    }
}

const char *fixture_write(const fixture_spec *spec)
{
    static char dir[PATH_BYTES];
    listing l = {.spec = spec};
    snprintf(dir, sizeof dir, "/tmp/lorank-llama-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    FILE *f = open_in(dir, "config.json");
    fputs(spec->config, f);
    fclose(f);
    list_all(&l);
    if (spec->shards > 1)
        write_sharded(&l, dir, spec->shards);
    else
        write_shard(&l, dir, "model.safetensors", 0, 1);
    return dir;
}

void fixture_remove(const char *dir)
{
    static const char *const fixed[] = {"config.json", "model.safetensors", "model.safetensors.index.json"};
    char path[PATH_BYTES + NAME_BYTES], name[NAME_BYTES];
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, fixed[i]);
        unlink(path);
    }
    for (int shard = 0; shard < MOST_SHARDS; shard++) {
        shard_name(shard, name, sizeof name);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        unlink(path);
    }
    rmdir(dir);
}

llama_model *fixture_load(const fixture_spec *spec)
{
    char err[256] = "";
    llama_model *model;
    const char *dir = fixture_write(spec);
    ck_assert_msg(llama_load(dir, &model, err, sizeof err) == 0, "%s", err);
    fixture_remove(dir);
    return model;
}

llama_run *fixture_run(const llama_model *model, int64_t tokens, int64_t seq_len, int recompute)
{
    char err[256] = "";
    llama_run *run;
    llama_run_options options = {.train_tokens = tokens,
                                 .eval_tokens = tokens,
                                 .max_seq_len = seq_len,
                                 .recompute = recompute,
                                 .n_threads = 2};
    ops_set_threads(1);
    ck_assert_msg(llama_run_create(model, &options, &run, err, sizeof err) == 0, "%s", err);
    return run;
}

llama_batch fixture_batch(int64_t n_seq, int64_t seq_len, int64_t vocab)
{
    int64_t n = n_seq * seq_len;
    int32_t *tokens = malloc((size_t)n * 2 * sizeof *tokens), *targets = tokens + n;
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)((i * i * 7 + i * 13 + 5) % vocab);
        targets[i] = i % 3 == 2 ? -1 : (int32_t)((i * 31 + 17) % vocab);
    }
    return (llama_batch){.n_seq = n_seq, .seq_len = seq_len, .tokens = tokens, .targets = targets};
}

void fixture_batch_free(llama_batch *batch)
{
    free((void *)batch->tokens);
}

double fixture_total(const llama_score *scores, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += scores[i].loss_sum;
    return sum;
}

double fixture_bound(const llama_config *c)
{
    double k = (double)(c->intermediate > c->hidden ? c->intermediate : c->hidden);
    return 2 * k * (double)(4 * c->n_layers + 1) * ldexp(1, -24);
}
