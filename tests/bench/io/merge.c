/* SPDX-License-Identifier: MIT */
/*
 * Merging a large model: merge FOLDER [GIB]. Writes a synthetic BF16 model of about that size in shards of Llama's shapes,
 * merges an adapter of rank 16 into every linear layer, and prints what that took beside a plain copy of the same bytes,
 * synced likewise. What was written is removed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lorank/lorank.h"

#define WIDTH  4096
#define FFN    11008
#define LAYER  7 /* tensors of a layer; a layer is a shard */
#define RANK   16
#define PIECE  ((size_t)1 << 20)
#define LAYERS 64

static const struct {
    const char *name;
    int64_t n_out, n_in;
} kinds[LAYER] = {{"self_attn.q_proj", WIDTH, WIDTH}, {"self_attn.k_proj", WIDTH, WIDTH},
                  {"self_attn.v_proj", WIDTH, WIDTH}, {"self_attn.o_proj", WIDTH, WIDTH},
                  {"mlp.gate_proj", FFN, WIDTH},      {"mlp.up_proj", FFN, WIDTH},
                  {"mlp.down_proj", WIDTH, FFN}};

typedef struct bench {
    char model[512], merged[512];
    int64_t layers;
    uint64_t state; /* of the values */
    lrk_context *context;
} bench;

static void check(const bench *b, lrk_status status, const char *what)
{
    char text[512];
    if (status == LRK_OK) return;
    lrk_context_error(b->context, text, sizeof text);
    fprintf(stderr, "%s: %s: %s\n", what, lrk_status_name(status), text);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double peak_mib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* bf16 of magnitudes 2^-8 to 2^-4, either sign. */
static int32_t fill(void *user, int64_t tensor, uint64_t offset, void *data, size_t n)
{
    bench *b = user;
    uint64_t *words = data;
    (void)tensor;
    (void)offset;
    for (size_t i = 0; i < n / sizeof *words; i++)
        words[i] = (next(&b->state) & 0x81FF81FF81FF81FFu) | 0x3C003C003C003C00u;
    return 0;
}

static void tensor_name(char name[96], int64_t layer, int kind)
{
    snprintf(name, 96, "model.layers.%d.%s", (int)layer, kinds[kind].name);
}

static void path_of(char path[640], const char *folder, int64_t layer)
{
    snprintf(path, 640, "%s/model-%05d.safetensors", folder, (int)layer);
}

static void write_shard(bench *b, int64_t layer, FILE *index)
{
    char names[LAYER][96], path[640];
    lrk_safetensors_item items[LAYER];
    lrk_safetensors_content content;
    for (int k = 0; k < LAYER; k++) {
        tensor_name(names[k], layer, k);
        strcat(names[k], ".weight");
        items[k] = (lrk_safetensors_item){.struct_size = sizeof items[k],
                                          .n_dims = 2,
                                          .name = names[k],
                                          .dtype = "BF16",
                                          .shape = {kinds[k].n_out, kinds[k].n_in}};
        fprintf(index, "%s\"%s\": \"model-%05d.safetensors\"", layer + k > 0 ? ",\n" : "", names[k],
                (int)layer);
    }
    check(b, lrk_safetensors_content_init(&content, sizeof content), "content");
    content.tensors = items;
    content.n_tensors = LAYER;
    content.user = b;
    content.fill = fill;
    path_of(path, b->model, layer);
    check(b, lrk_safetensors_save(b->context, path, &content), "writing the model");
}

static void write_model(bench *b)
{
    char path[640];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", b->model);
    FILE *index = mkdir(b->model, 0777) == 0 ? fopen(path, "w") : NULL;
    if (index == NULL) {
        perror(b->model);
        exit(1);
    }
    fputs("{\"weight_map\": {", index);
    for (int64_t layer = 0; layer < b->layers; layer++)
        write_shard(b, layer, index);
    fputs("}}\n", index);
    fclose(index);
}

static lrk_adapters *make_adapters(bench *b)
{
    static char names[LAYERS * LAYER][96];
    static lrk_module_spec specs[LAYERS * LAYER];
    lrk_adapters *adapters;
    lrk_adapters_options options;
    for (int64_t i = 0; i < b->layers * LAYER; i++) {
        tensor_name(names[i], i / LAYER, (int)(i % LAYER));
        check(b, lrk_module_spec_init(&specs[i], sizeof specs[i]), "spec");
        specs[i].name = names[i];
        specs[i].n_in = kinds[i % LAYER].n_in;
        specs[i].n_out = kinds[i % LAYER].n_out;
        specs[i].rank = RANK;
    }
    check(b, lrk_adapters_options_init(&options, sizeof options), "options");
    options.flags = LRK_ADAPTERS_INFERENCE;
    check(b, lrk_adapters_create(b->context, specs, b->layers * LAYER, &options, &adapters), "adapters");
    for (int32_t m = 0; m < b->layers * LAYER; m++) {
        lrk_tensor t = {.struct_size = sizeof t};
        check(b, lrk_adapters_tensor(adapters, m, LRK_TENSOR_B, &t), "B");
        for (int64_t i = 0; i < t.rows * t.cols; i++)
            t.data[i] = (float)(int64_t)(next(&b->state) & 0xFFF) * 0x1p-14f - 0x1p-3f;
    }
    return adapters;
}

static uint64_t copy_file(const char *from, const char *to, char *piece)
{
    uint64_t n = 0;
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    for (ssize_t got = 0; (got = read(in, piece, PIECE)) > 0; n += (uint64_t)got)
        if (write(out, piece, (size_t)got) != got) {
            perror(to);
            exit(1);
        }
    if (in < 0 || out < 0 || fsync(out) != 0) {
        perror(to);
        exit(1);
    }
    close(in);
    close(out);
    return n;
}

static double time_copy(const bench *b, uint64_t *bytes)
{
    static char piece[PIECE];
    char from[640], to[640];
    double start = now();
    *bytes = 0;
    for (int64_t layer = 0; layer < b->layers; layer++) {
        path_of(from, b->model, layer);
        path_of(to, b->merged, layer);
        *bytes += copy_file(from, to, piece);
    }
    return now() - start;
}

static void remove_all(const bench *b, const char *folder)
{
    char path[640];
    for (int64_t layer = 0; layer < b->layers; layer++) {
        path_of(path, folder, layer);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    unlink(path);
    rmdir(folder);
}

int main(int argc, char **argv)
{
    bench b = {.state = 0x9E3779B97F4A7C15u};
    uint64_t bytes;
    if (argc < 2) {
        fputs("usage: merge FOLDER [GIB]\n", stderr);
        return 2;
    }
    double per_layer = 2.0 * (4.0 * WIDTH * WIDTH + 3.0 * WIDTH * FFN) / 0x1p30;
    b.layers = (int64_t)((argc > 2 ? atof(argv[2]) : 4) / per_layer + 1);
    if (b.layers > LAYERS) b.layers = LAYERS;
    snprintf(b.model, sizeof b.model, "%s/base", argv[1]);
    snprintf(b.merged, sizeof b.merged, "%s/merged", argv[1]);
    check(&b, lrk_context_create(NULL, &b.context, NULL, 0), "context");
    write_model(&b);
    lrk_adapters *adapters = make_adapters(&b);
    double before = peak_mib(), start = now();
    lrk_merge_report report = {.struct_size = sizeof report};
    check(&b, lrk_merge_model(adapters, b.model, b.merged, NULL, &report), "merging");
    double took = now() - start, after = peak_mib(), copied = time_copy(&b, &bytes);
    printf("%.2f GB in %d shards, %d weights merged at rank %d, in BF16\n", (double)bytes * 1e-9,
           (int)report.files, (int)report.merged, RANK);
    printf("merge %.1f s, %.0f MB/s; copy %.1f s, %.0f MB/s\n", took, (double)bytes * 1e-6 / took, copied,
           (double)bytes * 1e-6 / copied);
    printf("peak of the process %.0f MiB, %.0f MiB more than before the merge (adapters %.0f MiB)\n", after,
           after - before, (double)b.layers * LAYER * RANK * 4 * 2 * WIDTH * 0x1p-20);
    printf("error: largest %.3g, mean %.3g; share lost %.3g at most\n", report.largest_error,
           report.mean_error, report.largest_lost);
    lrk_adapters_destroy(adapters);
    lrk_context_destroy(b.context);
    remove_all(&b, b.merged);
    remove_all(&b, b.model);
    return 0;
}
