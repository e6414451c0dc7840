/* SPDX-License-Identifier: MIT */
#include "gora.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "examples/finetune/bench.h"
#include "examples/finetune/start.h"

#define FEW "24"

static const struct task {
    const char *name, *train, *dev, *config;
} tasks[] = {{"austen", "examples/data/austen/train.jsonl", "examples/data/austen/dev.jsonl",
              "examples/finetune/austen.yaml"},
             {"gloss", "examples/data/gloss/train.jsonl", "examples/data/gloss/dev.jsonl",
              "examples/finetune/gloss.yaml"}};

static void must(int failed, const char *what, const ft_error *error)
{
    if (!failed) return;
    fprintf(stderr, "bench-sketch: gora: %s: %s\n", what, error->text);
    exit(1);
}

/* Ranks of all modules after a fresh start; the caller frees them. */
static int64_t *ranks_of(ft_bench *b, const char *seed, const char *directions, int64_t *n)
{
    const ft_override overrides[FT_BENCH_OVERRIDES] = {{"seed", seed}, {"start.directions", directions}};
    ft_error error = {0};
    int begun = 0;
    lrk_adapters_info info = {.struct_size = sizeof info};
    must(ft_bench_prepare(b, overrides, &error), "the trainer", &error);
    must(ft_start(&b->trainer, b->config, &begun, &error) || !begun, "the start", &error);
    must(lrk_adapters_info_get(b->trainer.adapters, &info), "the set", &error);
    int64_t *ranks = calloc((size_t)info.modules, sizeof *ranks);
    must(ranks == NULL, "memory", &error);
    for (int32_t i = 0; i < info.modules; i++)
        must(lrk_adapters_ranks(b->trainer.adapters, i, NULL, NULL, &ranks[i]), "ranks", &error);
    *n = info.modules;
    return ranks;
}

/* The most directions that a module can have. */
static int64_t all_directions(const lrk_adapters *set)
{
    int64_t most = 0;
    lrk_module_info m = {.struct_size = sizeof m};
    for (int32_t i = 0; lrk_adapters_module(set, i, &m) == LRK_OK; i++) {
        int64_t here = m.n_in < m.n_out ? m.n_in : m.n_out;
        if (here > most) most = here;
    }
    return most;
}

static void compare_task(const struct task *task, const char *batches, int64_t seeds, int64_t threads)
{
    const ft_args args = {.model = "examples/models/gloss-llama",
                          .train = task->train,
                          .dev = task->dev,
                          .config = task->config,
                          .threads = threads,
                          .override_key = {"allocation.policy", "start.kind", "start.batches"},
                          .override_value = {"fixed", "gora", batches},
                          .n_overrides = 3};
    ft_bench b = {0};
    ft_error error = {0};
    char all[24], seed[24];
    must(ft_bench_open(&b, &args, &error) || ft_bench_prepare(&b, NULL, &error), task->name, &error);
    snprintf(all, sizeof all, "%" PRId64, all_directions(b.trainer.adapters));
    for (int64_t s = 1; s <= seeds; s++) {
        int64_t n = 0, apart = 0, total = 0;
        snprintf(seed, sizeof seed, "%" PRId64, s);
        int64_t *few = ranks_of(&b, seed, FEW, &n), *whole = ranks_of(&b, seed, all, &n);
        for (int64_t i = 0; i < n; i++) {
            apart += llabs(few[i] - whole[i]);
            total += whole[i];
        }
        printf("%-8s %6s %10s %10s %8" PRId64 " %8" PRId64 "\n", task->name, seed, FEW, all, apart, total);
        free(few);
        free(whole);
    }
    ft_bench_close(&b);
}

void gora_compare(const char *batches, int64_t seeds, int64_t threads)
{
    printf(
        "\nranks of the start gora by few directions and by all: sum of absolute differences, and all ranks\n"
        "%-8s %6s %10s %10s %8s %8s\n",
        "task", "seed", "few", "all", "apart", "ranks");
    for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++)
        compare_task(&tasks[i], batches, seeds, threads);
}
