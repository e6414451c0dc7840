/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing GGUF adapters: the first byte chooses how the rest, the file, is read: names and rows as in the file or not,
 * with a list of modules or without. What is accepted must come back bit for bit when it is written and read again.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/gguf_parts.h"
#include "lorank/lorank.h"

enum {
    FLAGS = LRK_GGUF_FILE_NAMES | LRK_GGUF_FILE_ORDER,
    LIST = 4,
    NO_HEADS = 8,
    MODULES = 3,
    MOST_BYTES = 1 << 16
};

typedef struct fuzz_file {
    unsigned char *bytes;
    size_t n;
} fuzz_file;

static void must(int holds)
{
    if (!holds) abort();
}

static int32_t append(void *user, const void *data, size_t n)
{
    fuzz_file *file = user;
    file->bytes = realloc(file->bytes, file->n + n);
    must(file->bytes != NULL);
    memcpy(file->bytes + file->n, data, n);
    file->n += n;
    return 0;
}

static lrk_gguf_options options_of(int choice)
{
    static const lrk_gguf_rule rule = {
        .struct_size = sizeof rule, .module = "own.#.gate", .tensor = "own.#", .rows = 1};
    lrk_gguf_options options;
    must(lrk_gguf_options_init(&options, sizeof options) == LRK_OK);
    options.flags = (uint32_t)choice & FLAGS;
    options.n_head = choice & NO_HEADS ? 0 : 2;
    options.n_kv_head = choice & NO_HEADS ? 0 : 1;
    options.rules = &rule;
    options.n_rules = 1;
    return options;
}

static lrk_status load(lrk_context *context, const fuzz_file *file, int choice, lrk_adapters **adapters)
{
    static const char *const names[MODULES] = {"model.layers.0.self_attn.q_proj", "layers.1.mlp.up_proj",
                                               "h.0.attn.c_attn"};
    lrk_module_spec specs[MODULES];
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_gguf_options options = options_of(choice);
    for (int i = 0; i < MODULES; i++) {
        must(lrk_module_spec_init(&specs[i], sizeof specs[i]) == LRK_OK);
        specs[i].name = names[i];
        specs[i].n_in = 3;
        specs[i].n_out = 4;
    }
    must(lrk_reader_memory(&reader, file->bytes, file->n) == LRK_OK);
    return lrk_gguf_load_reader(context, &reader, &options, choice & LIST ? specs : NULL,
                                choice & LIST ? MODULES : 0, NULL, adapters);
}

/* False if the file's alpha cannot be written. */
static bool read_facts(lrk_context *context, const fuzz_file *file, lrk_gguf_options *options,
                       char architecture[64])
{
    lrki_source source;
    lrki_gguf_file header = {0};
    lrk_reader reader = {.struct_size = sizeof reader};
    must(lrk_reader_memory(&reader, file->bytes, file->n) == LRK_OK);
    must(lrki_source_reader(context, &reader, &source) == LRK_OK);
    must(lrki_gguf_file_read(context, &source, &header) == LRK_OK);
    strcpy(architecture, header.architecture);
    options->architecture = architecture;
    options->alpha = (double)header.alpha;
    lrki_gguf_file_free(&header);
    lrki_source_close(&source);
    return options->alpha > 0;
}

static void must_be_same(const lrk_adapters *a, const lrk_adapters *b)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    must(lrk_adapters_info_get(a, &info) == LRK_OK);
    for (int32_t m = 0; m < info.modules; m++) {
        int32_t other;
        lrk_module_info module = {.struct_size = sizeof module};
        must(lrk_adapters_module(a, m, &module) == LRK_OK);
        must(lrk_adapters_find(b, module.name, &other) == LRK_OK);
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
            lrk_tensor x = {.struct_size = sizeof x}, y = {.struct_size = sizeof y};
            must(lrk_adapters_tensor(a, m, which, &x) == LRK_OK);
            must(lrk_adapters_tensor(b, other, which, &y) == LRK_OK);
            must(x.rows == y.rows && x.cols == y.cols);
            must(x.rows == 0 || memcmp(x.data, y.data, (size_t)(x.rows * x.cols) * sizeof *x.data) == 0);
        }
    }
}

/* Scales are alpha / r: with the same alpha the fold multiplies by 1, give or take 2^-53, and changes no f32. */
static void write_and_read_again(lrk_context *context, const lrk_adapters *adapters, const fuzz_file *file,
                                 int choice)
{
    char architecture[64];
    lrk_gguf_options options = options_of(choice);
    if (!read_facts(context, file, &options, architecture)) return;
    fuzz_file copy = {0};
    lrk_writer writer = {.struct_size = sizeof writer, .user = &copy, .write = append};
    lrk_adapters *again;
    must(lrk_gguf_write(adapters, &writer, &options) == LRK_OK);
    must(load(context, &copy, choice, &again) == LRK_OK);
    must_be_same(adapters, again);
    lrk_adapters_destroy(again);
    free(copy.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > MOST_BYTES) return 0;
    int choice = data[0];
    fuzz_file file = {malloc(size), size - 1};
    lrk_context *context;
    lrk_adapters *adapters;
    must(file.bytes != NULL);
    memcpy(file.bytes, data + 1, file.n);
    must(lrk_context_create(NULL, &context, NULL, 0) == LRK_OK);
    if (load(context, &file, choice, &adapters) == LRK_OK) {
        write_and_read_again(context, adapters, &file, choice);
        lrk_adapters_destroy(adapters);
    } else {
        must(adapters == NULL);
    }
    lrk_context_destroy(context);
    free(file.bytes);
    return 0;
}
