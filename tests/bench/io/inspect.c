/* SPDX-License-Identifier: MIT */
/*
 * How long `lorank inspect` takes: inspect LORANK FOLDER [MODULES [RUNS]]. Writes an adapter of that many modules, of Llama's
 * names, 2048 x 2048, of ranks 4 to 12 and a scale that changes B, in every format, and runs the command on each. Prints the
 * least and the median of the runs, from the start of the process to its end. What was written is removed.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lorank/lorank.h"

#define WIDTH 2048
#define NAMES 7

extern char **environ;

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void check(const lrk_context *context, lrk_status status)
{
    char text[512];
    if (status == LRK_OK) return;
    lrk_context_error(context, text, sizeof text);
    fail(text);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the adapter ---- */

static void fill(const lrk_context *context, const lrk_adapters *set, int32_t module)
{
    static uint32_t state = 1;
    for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_B; which++) {
        lrk_tensor t = {.struct_size = sizeof t};
        check(context, lrk_adapters_tensor(set, module, which, &t));
        for (int64_t k = 0; k < t.rows * t.cols; k++) {
            state = state * 1664525u + 1013904223u;
            t.data[k] = (float)(int32_t)state * 0x1p-34f;
        }
    }
}

static lrk_adapters *make_set(lrk_context *context, int32_t n)
{
    static const char *const names[NAMES] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                             "self_attn.o_proj", "mlp.up_proj",      "mlp.gate_proj",
                                             "mlp.down_proj"};
    lrk_module_spec *specs = calloc((size_t)n, sizeof *specs);
    char(*texts)[64] = calloc((size_t)n, sizeof *texts);
    lrk_adapters_options options;
    lrk_adapters *set;
    if (specs == NULL || texts == NULL) fail("no memory");
    for (int32_t i = 0; i < n; i++) {
        check(context, lrk_module_spec_init(&specs[i], sizeof specs[i]));
        snprintf(texts[i], sizeof texts[i], "model.layers.%d.%s", (int)(i / NAMES), names[i % NAMES]);
        specs[i].name = texts[i];
        specs[i].n_in = specs[i].n_out = WIDTH;
        specs[i].rank = 4 + i % 9;
        specs[i].scale = 0.75;
    }
    check(context, lrk_adapters_options_init(&options, sizeof options));
    options.flags = LRK_ADAPTERS_INFERENCE;
    check(context, lrk_adapters_create(context, specs, n, &options, &set));
    for (int32_t i = 0; i < n; i++)
        fill(context, set, i);
    free(specs);
    free(texts);
    return set;
}

/* ---- the command ---- */

static double run(const char *lorank, const char *path)
{
    char *arguments[] = {(char *)lorank, "inspect", (char *)path, NULL};
    posix_spawn_file_actions_t quiet;
    pid_t child;
    int status = 1;
    if (posix_spawn_file_actions_init(&quiet) != 0 ||
        posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) != 0)
        fail("no memory");
    double start = now();
    if (posix_spawn(&child, lorank, &quiet, NULL, arguments, environ) != 0 ||
        waitpid(child, &status, 0) != child || status != 0)
        fail("lorank inspect failed");
    posix_spawn_file_actions_destroy(&quiet);
    return now() - start;
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void measure(const char *lorank, const char *what, const char *path, int runs)
{
    double *took = calloc((size_t)runs, sizeof *took);
    if (took == NULL) fail("no memory");
    for (int i = 0; i < runs; i++)
        took[i] = run(lorank, path);
    qsort(took, (size_t)runs, sizeof *took, by_value);
    printf("%-6s least %5.1f ms, median %5.1f ms\n", what, 1e3 * took[0], 1e3 * took[runs / 2]);
    free(took);
}

int main(int argc, char **argv)
{
    char peft[512], gguf[512], kohya[512], file[640];
    lrk_context *context;
    lrk_gguf_options options;
    if (argc < 3) {
        fputs("usage: inspect LORANK FOLDER [MODULES [RUNS]]\n", stderr);
        return 2;
    }
    int32_t n = argc > 3 ? atoi(argv[3]) : 1000;
    int runs = argc > 4 ? atoi(argv[4]) : 31;
    if (n < 1 || runs < 1) fail("MODULES and RUNS: from 1");
    if (lrk_context_create(NULL, &context, NULL, 0) != LRK_OK) fail("no context");
    lrk_adapters *set = make_set(context, n);
    snprintf(peft, sizeof peft, "%s/inspect-peft", argv[2]);
    snprintf(gguf, sizeof gguf, "%s/inspect.gguf", argv[2]);
    snprintf(kohya, sizeof kohya, "%s/inspect.safetensors", argv[2]);
    check(context, lrk_gguf_options_init(&options, sizeof options));
    options.architecture = "qwen2";
    check(context, lrk_peft_save(set, peft, NULL));
    check(context, lrk_gguf_save(set, gguf, &options));
    check(context, lrk_kohya_save(set, kohya, NULL));
    printf("lorank inspect of %d modules, %d runs\n", (int)n, runs);
    measure(argv[1], "PEFT", peft, runs);
    measure(argv[1], "GGUF", gguf, runs);
    measure(argv[1], "kohya", kohya, runs);
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", peft);
    unlink(file);
    snprintf(file, sizeof file, "%s/adapter_config.json", peft);
    unlink(file);
    rmdir(peft);
    unlink(gguf);
    unlink(kohya);
    lrk_adapters_destroy(set);
    lrk_context_destroy(context);
    return 0;
}
