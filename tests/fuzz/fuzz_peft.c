/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing PEFT adapters: the first byte chooses which of the two files the rest is, what the other one is (LoRA, AdaLoRA
 * or lorank's own), and whether there is a list of modules. What is accepted must come back bit for bit when it is written
 * and read again, and a uniform file of it must load as well.
 */
#include <stdlib.h>
#include <string.h>

#include "lorank/lorank.h"

enum { MODEL = 1, LIST = 2, ADALORA = 4, OWN = 8, MODULES = 3, MOST_BYTES = 1 << 16, MOST_TENSORS = 8 };

typedef struct fuzz_file {
    unsigned char *bytes;
    size_t n;
} fuzz_file;

typedef struct fuzz_pair {
    fuzz_file config;
    fuzz_file model;
} fuzz_pair;

static void must(int holds)
{
    if (!holds) abort();
}

static int32_t append(void *user, const void *data, size_t n)
{
    fuzz_file *file = user;
    if (n == 0) return 0;
    file->bytes = realloc(file->bytes, file->n + n);
    must(file->bytes != NULL);
    memcpy(file->bytes + file->n, data, n);
    file->n += n;
    return 0;
}

static int32_t fill(void *user, int64_t tensor, uint64_t offset, void *data, size_t n)
{
    (void)user;
    for (size_t i = 0; i < n / sizeof(float); i++)
        ((float *)data)[i] = (float)(tensor + 1) * 0.25f + (float)(offset + i);
    return 0;
}

static const char *const names[MODULES] = {"model.layers.0.self_attn.q_proj", "layers.1.mlp.up_proj",
                                           "c_attn"};

/* Two modules, of ranks 2 and 1. */
static void write_foreign(lrk_context *context, int choice, fuzz_file *file)
{
    static const char *const lora[] = {".lora_A.weight", ".lora_B.weight"};
    static const char *const adalora[] = {".lora_A", ".lora_B", ".lora_E"};
    lrk_safetensors_item items[MOST_TENSORS];
    char texts[MOST_TENSORS][96];
    lrk_safetensors_content content;
    lrk_writer writer = {.struct_size = sizeof writer, .user = file, .write = append};
    int per_module = choice & ADALORA ? 3 : 2, n = 0;
    memset(items, 0, sizeof items);
    for (int m = 0; m < 2; m++)
        for (int k = 0; k < per_module; k++, n++) {
            int64_t rank = 2 - m;
            strcpy(texts[n], "base_model.model.");
            strcat(strcat(texts[n], names[m]), choice & ADALORA ? adalora[k] : lora[k]);
            items[n] = (lrk_safetensors_item){
                .struct_size = sizeof items[n], .n_dims = 2, .name = texts[n], .dtype = "F32"};
            items[n].shape[0] = k == 1 ? 4 : rank;
            items[n].shape[1] = k == 0 ? 3 : k == 1 ? rank : 1;
        }
    must(lrk_safetensors_content_init(&content, sizeof content) == LRK_OK);
    content.tensors = items;
    content.n_tensors = n;
    content.fill = fill;
    must(lrk_safetensors_write(context, &writer, &content) == LRK_OK);
}

static void put_text(fuzz_file *file, const char *text)
{
    must(append(file, text, strlen(text)) == 0);
}

static void module_specs(lrk_module_spec specs[MODULES], int64_t rank)
{
    for (int i = 0; i < MODULES; i++) {
        must(lrk_module_spec_init(&specs[i], sizeof specs[i]) == LRK_OK);
        specs[i].name = names[i];
        specs[i].n_in = 3;
        specs[i].n_out = 4;
        specs[i].rank = rank;
    }
}

static lrk_status write_pair(const lrk_adapters *adapters, uint32_t flags, fuzz_pair *pair)
{
    lrk_peft_options options;
    lrk_writer config = {.struct_size = sizeof config, .user = &pair->config, .write = append};
    lrk_writer model = {.struct_size = sizeof model, .user = &pair->model, .write = append};
    must(lrk_peft_options_init(&options, sizeof options) == LRK_OK);
    options.flags = flags;
    return lrk_peft_write(adapters, &config, &model, &options);
}

static void make_pair(lrk_context *context, int choice, fuzz_pair *pair)
{
    if (choice & OWN) {
        lrk_module_spec specs[MODULES];
        lrk_adapters *adapters;
        module_specs(specs, 1);
        must(lrk_adapters_create(context, specs, MODULES, NULL, &adapters) == LRK_OK);
        must(write_pair(adapters, 0, pair) == LRK_OK);
        lrk_adapters_destroy(adapters);
        return;
    }
    write_foreign(context, choice, &pair->model);
    put_text(&pair->config, choice & ADALORA
                                ? "{\"peft_type\":\"ADALORA\",\"init_r\":2,\"lora_alpha\":3,\"rank_pattern\":"
                                  "{\"layers.1.mlp.up_proj.lora_E\":[true,false]}}"
                                : "{\"peft_type\":\"LORA\",\"r\":2,\"rank_pattern\":{\"up_proj\":1},"
                                  "\"alpha_pattern\":{\"^layers.1\\\\.mlp.up_proj\":5}}");
}

static lrk_status load(lrk_context *context, const fuzz_pair *pair, int choice, lrk_adapters **adapters)
{
    lrk_module_spec specs[MODULES];
    lrk_reader config = {.struct_size = sizeof config}, model = {.struct_size = sizeof model};
    module_specs(specs, 0);
    must(lrk_reader_memory(&config, pair->config.bytes, pair->config.n) == LRK_OK);
    must(lrk_reader_memory(&model, pair->model.bytes, pair->model.n) == LRK_OK);
    return lrk_peft_load_readers(context, &config, &model, choice & LIST ? specs : NULL,
                                 choice & LIST ? MODULES : 0, NULL, adapters);
}

static void must_be_same(const lrk_adapters *a, const lrk_adapters *b)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    must(lrk_adapters_info_get(a, &info) == LRK_OK);
    for (int32_t m = 0; m < info.modules; m++) {
        lrk_module_info of_a = {.struct_size = sizeof of_a}, of_b = {.struct_size = sizeof of_b};
        must(lrk_adapters_module(a, m, &of_a) == LRK_OK);
        must(lrk_adapters_module(b, m, &of_b) == LRK_OK);
        must(strcmp(of_a.name, of_b.name) == 0 && of_a.scale == of_b.scale);
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
            lrk_tensor x = {.struct_size = sizeof x}, y = {.struct_size = sizeof y};
            must(lrk_adapters_tensor(a, m, which, &x) == LRK_OK);
            must(lrk_adapters_tensor(b, m, which, &y) == LRK_OK);
            must(x.rows == y.rows && x.cols == y.cols);
            must(x.rows == 0 || memcmp(x.data, y.data, (size_t)(x.rows * x.cols) * sizeof *x.data) == 0);
        }
    }
}

static void pair_free(fuzz_pair *pair)
{
    free(pair->config.bytes);
    free(pair->model.bytes);
}

/* Names that PEFT would take for patterns, a set without ranks and folds that overflow cannot be written. */
static void write_and_read_again(lrk_context *context, const lrk_adapters *adapters)
{
    for (uint32_t flags = 0; flags <= LRK_PEFT_UNIFORM; flags++) {
        fuzz_pair copy = {0};
        lrk_adapters *again;
        lrk_status status = write_pair(adapters, flags, &copy);
        must(status == LRK_OK || status == LRK_ERR_UNSUPPORTED || status == LRK_ERR_NONFINITE);
        if (status == LRK_OK) {
            must(load(context, &copy, 0, &again) == LRK_OK);
            if (flags == 0) must_be_same(adapters, again);
            lrk_adapters_destroy(again);
        }
        pair_free(&copy);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > MOST_BYTES) return 0;
    int choice = data[0];
    fuzz_pair pair = {0};
    lrk_context *context;
    lrk_adapters *adapters;
    must(lrk_context_create(NULL, &context, NULL, 0) == LRK_OK);
    make_pair(context, choice, &pair);
    fuzz_file *own = choice & MODEL ? &pair.model : &pair.config;
    free(own->bytes);
    *own = (fuzz_file){malloc(size), 0};
    must(own->bytes != NULL);
    own->n = size - 1;
    memcpy(own->bytes, data + 1, own->n);
    if (load(context, &pair, choice, &adapters) == LRK_OK) {
        write_and_read_again(context, adapters);
        lrk_adapters_destroy(adapters);
    } else {
        must(adapters == NULL);
    }
    lrk_context_destroy(context);
    pair_free(&pair);
    return 0;
}
