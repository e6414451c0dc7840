/* SPDX-License-Identifier: MIT */
/*
 * Introduces: files. An adapter as another program leaves it, in PEFT's form with a rank of its own for each module, is
 * loaded, looked at, resized to the ranks that its updates need, and written for image tools and for llama.cpp. What was
 * written is read back and compared.
 *
 * q_proj has 4 ranks of which two repeat the others, so that 2 hold its whole update. Files go to a temporary folder.
 */
#include <lorank/lorank.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MODULES = 2, TENSORS = 2 * MODULES, MOST = 4, PATH = 64 };

static const char *const names[MODULES] = {"model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"};
static const int64_t n_in[MODULES] = {8, 8}, n_out[MODULES] = {8, 16}, rank[MODULES] = {4, 2};
static const char *const config = "{\"peft_type\": \"LORA\", \"r\": 4, \"rank_pattern\": {\"up_proj\": 2}, "
                                  "\"lora_alpha\": 8, \"target_modules\": [\"q_proj\", \"up_proj\"]}";
static const char *const files[] = {"adapter_model.safetensors", "adapter_config.json", "image.safetensors",
                                    "adapter.gguf"};

static lrk_context *context;
static char folder[] = "/tmp/lorank-XXXXXX";

static void must(lrk_status status)
{
    char words[512];
    if (status == LRK_OK) return;
    lrk_context_error(context, words, sizeof words);
    printf("failed: %s: %s\n", lrk_status_text(status), words);
    exit(1);
}

static const char *path(int file)
{
    static char text[PATH];
    snprintf(text, sizeof text, "%s/%s", folder, files[file]);
    return text;
}

/* A [rank x n_in], then B [n_out x rank] of each module; columns 2 and 3 of B repeat 0 and 1. */
static int32_t fill(void *user, int64_t tensor, uint64_t offset, void *data, size_t n)
{
    int64_t module = tensor / 2, first = (int64_t)(offset / sizeof(float));
    float *values = data;
    (void)user;
    for (int64_t i = 0; i < (int64_t)(n / sizeof(float)); i++) {
        int64_t at = first + i, row = at / rank[module], column = at % rank[module] % 2;
        values[i] = tensor % 2 == 0 ? sinf((float)(at * at + module)) : cosf((float)(5 * row + 3 * column));
    }
    return 0;
}

/* What another program would have left: two files, without anything of lorank's. */
static void make_their_adapter(void)
{
    char text[TENSORS][PATH];
    lrk_safetensors_item tensors[TENSORS];
    lrk_safetensors_content content;
    must(lrk_safetensors_content_init(&content, sizeof content));
    for (int i = 0; i < TENSORS; i++) {
        int m = i / 2, b = i % 2;
        snprintf(text[i], PATH, "base_model.model.%s.lora_%c.weight", names[m], "AB"[b]);
        tensors[i] = (lrk_safetensors_item){.struct_size = sizeof *tensors, .n_dims = 2, .dtype = "F32"};
        tensors[i].name = text[i];
        tensors[i].shape[0] = b ? n_out[m] : rank[m], tensors[i].shape[1] = b ? rank[m] : n_in[m];
    }
    content.tensors = tensors, content.n_tensors = TENSORS, content.fill = fill;
    must(lrk_safetensors_save(context, path(0), &content));
    FILE *file = fopen(path(1), "w");
    if (file == NULL || fputs(config, file) < 0 || fclose(file) != 0) exit(1);
}

/* The least rank whose squared singular values are 99.9 % of all. */
static int64_t needed(const lrk_adapters *set, int32_t module, int64_t n)
{
    double values[MOST], all = 0, kept = 0;
    int64_t least = 0;
    must(lrk_module_spectrum(set, module, values, n));
    for (int64_t i = 0; i < n; i++)
        all += values[i] * values[i];
    while (least < n && kept < 0.999 * all)
        kept += values[least] * values[least], least++;
    return least;
}

/* Every update of `other` is that of `set` up to rounding. */
static void compare(const char *what, const lrk_adapters *set, const lrk_adapters *other)
{
    double worst = 0;
    for (int32_t m = 0; m < MODULES; m++) {
        lrk_distance d = {.struct_size = sizeof d};
        must(lrk_module_distance(set, m, other, m, &d));
        worst = fmax(worst, d.difference / d.norm_a);
    }
    printf("%s holds the same updates: %s\n", what, worst < 1e-6 ? "yes" : "no");
}

/* Names of image tools do not say where the dots were, and llama.cpp has names of its own: the list of modules says. */
static void write_and_read_back(const lrk_adapters *set, const lrk_module_spec *spec)
{
    lrk_kohya_options image;
    lrk_gguf_options gguf;
    lrk_adapters *back;
    must(lrk_kohya_options_init(&image, sizeof image));
    image.prefix = "lora_te_";
    must(lrk_kohya_save(set, path(2), &image));
    must(lrk_kohya_load(context, path(2), &image, spec, MODULES, NULL, &back));
    compare(files[2], set, back);
    lrk_adapters_destroy(back);
    must(lrk_gguf_options_init(&gguf, sizeof gguf));
    gguf.architecture = "llama", gguf.n_head = 2; /* whose q and k have their rows in another order there */
    must(lrk_gguf_save(set, path(3), &gguf));
    must(lrk_gguf_load(context, path(3), &gguf, spec, MODULES, NULL, &back));
    compare(files[3], set, back);
    lrk_adapters_destroy(back);
}

int main(void)
{
    lrk_module_spec spec[MODULES];
    lrk_adapters *theirs, *small;
    int64_t ranks[MODULES];
    for (int m = 0; m < MODULES; m++) {
        must(lrk_module_spec_init(&spec[m], sizeof spec[m]));
        spec[m].name = names[m], spec[m].n_in = n_in[m], spec[m].n_out = n_out[m];
    }
    must(lrk_context_create(NULL, &context, NULL, 0));
    if (mkdtemp(folder) == NULL) return 1;
    make_their_adapter();
    must(lrk_peft_load(context, folder, spec, MODULES, NULL, &theirs));
    for (int32_t m = 0; m < MODULES; m++) {
        lrk_module_info info = {.struct_size = sizeof info};
        must(lrk_adapters_module(theirs, m, &info));
        ranks[m] = needed(theirs, m, info.rank);
        printf("%s: %d x %d, scale %g, %d ranks, %d needed\n", info.name, (int)info.n_out, (int)info.n_in,
               info.scale, (int)info.rank, (int)ranks[m]);
    }
    must(lrk_adapters_resize(theirs, ranks, NULL, &small));
    compare("the resized set", theirs, small);
    write_and_read_back(small, spec);
    for (int i = 0; i < (int)(sizeof files / sizeof *files); i++)
        remove(path(i));
    remove(folder);
    lrk_adapters_destroy(theirs), lrk_adapters_destroy(small), lrk_context_destroy(context);
    return 0;
}
