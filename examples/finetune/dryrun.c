/* SPDX-License-Identifier: MIT */
/*
 * What a run would take: modules and ranks, evaluations, time and peak memory. Counts come from lorank and
 * the configuration, bytes are added up over all that a run holds, times are measured on a few steps.
 */
#ifdef LORANK
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt.h"
#include "bench.h"
#include "commands.h"
#include "dryrun.h"
#include "glue.h"
#include "progress.h"
#include "start.h"

enum { TIMED_STEPS = 3, MAX_KINDS = 64 };

/* Share of live ranks a round above which moving them did harm in every measured task. */
static const double harmful_share = 0.10;

/* ---- memory ---- */

static size_t rows_bytes(const ft_data *data)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < data->n_rows; i++) {
        int64_t end = data->rows[i].begin + data->rows[i].n;
        if (end > tokens) tokens = end;
    }
    return (size_t)tokens * sizeof *data->tokens + (size_t)data->n_rows * sizeof *data->rows;
}

/* H of every module, kept from forward to backward: one float a row and rank. */
static size_t saved_bytes(const ft_trainer *t, int64_t ranks)
{
    int64_t rows = t->settings->batch * t->settings->seq_len,
            scored = t->scorer.batch.view.n_seq * t->scorer.batch.view.seq_len;
    return (size_t)(ranks * (rows > scored ? rows : scored)) * sizeof(float);
}

void ft_estimate_memory(const ft_bench *bench, ft_memory *m)
{
    const ft_trainer *t = &bench->trainer;
    llama_memory_use use;
    llama_run_options options;
    lrk_adapters_info set = {.struct_size = sizeof set};
    lrk_optimizer_info optimizer = {.struct_size = sizeof optimizer};
    ft_trainer_run_options(&bench->task, &bench->settings, &bench->args, 1, &options);
    llama_memory(&bench->task.config, &options, &use);
    lrk_adapters_info_get(t->adapters, &set);
    lrk_optimizer_info_get(t->optimizer, &optimizer);
    *m = (ft_memory){
        .weights = use.weights, .activations = use.activations + use.scratch, .runtime = use.runtime};
    lrk_workspace_size(t->adapters, options.train_tokens, &m->workspace);
    m->activations += saved_bytes(t, set.ranks);
    m->cache = llama_cache_bytes(&bench->task.config, t->scorer.cache_tokens, t->scorer.cache_bytes);
    m->adapters = set.memory + optimizer.memory;
    m->best = (size_t)set.parameters * sizeof(float);
    m->rows = rows_bytes(&bench->task.train) + rows_bytes(&bench->task.dev) + rows_bytes(&bench->task.test);
    m->total =
        m->weights + m->activations + m->runtime + m->workspace + m->cache + m->adapters + m->best + m->rows;
}

static void print_memory(const ft_memory *m)
{
    const struct {
        const char *name;
        size_t bytes;
    } lines[] = {{"frozen weights", m->weights},
                 {"activations", m->activations},
                 {"stage cache", m->cache},
                 {"adapters and optimizer", m->adapters},
                 {"adapter workspace", m->workspace},
                 {"best adapter so far", m->best},
                 {"rows", m->rows},
                 {"program and libraries", m->runtime},
                 {"peak memory", m->total}};
    printf("\n");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        printf("%-24s %9.1f MiB\n", lines[i].name, (double)lines[i].bytes / 1048576.0);
}

/* ---- modules ---- */

typedef struct kind {
    const char *name; /* what follows the last dot of the modules' names */
    int64_t modules, ranks, parameters, n_in, n_out;
} kind;

static void count_module(const lrk_module_info *m, kind *kinds, int *n)
{
    const char *dot = strrchr(m->name, '.'), *name = dot ? dot + 1 : m->name;
    int i = 0;
    while (i < *n &&
           (strcmp(kinds[i].name, name) != 0 || kinds[i].n_in != m->n_in || kinds[i].n_out != m->n_out))
        i++;
    if (i == MAX_KINDS) return;
    if (i == *n) kinds[(*n)++] = (kind){.name = name, .n_in = m->n_in, .n_out = m->n_out};
    kinds[i].modules++;
    kinds[i].ranks += m->rank;
    kinds[i].parameters += m->rank * (m->n_in + m->n_out);
}

static void print_modules(const ft_trainer *t, const lrk_adapters_info *set)
{
    kind kinds[MAX_KINDS];
    int n = 0;
    for (int32_t i = 0; i < set->modules; i++) {
        lrk_module_info m = {.struct_size = sizeof m};
        lrk_adapters_module(t->adapters, i, &m);
        count_module(&m, kinds, &n);
    }
    printf("%-12s %8s %12s %6s %11s\n", "modules", "number", "in x out", "ranks", "parameters");
    for (int i = 0; i < n; i++) {
        char shape[48];
        snprintf(shape, sizeof shape, "%lld x %lld", (long long)kinds[i].n_in, (long long)kinds[i].n_out);
        printf("%-12s %8lld %12s %6lld %11lld\n", kinds[i].name, (long long)kinds[i].modules, shape,
               (long long)kinds[i].ranks, (long long)kinds[i].parameters);
    }
    printf("%-12s %8lld %12s %6lld %11lld\n", "all", (long long)set->modules, "", (long long)set->ranks,
           (long long)set->parameters);
}

/* ---- time ---- */

typedef struct timing {
    double step, forward; /* seconds of a training step and of a forward of the validation batch */
} timing;

/* Runs a few real steps on the adapters, which a dry run throws away. The first one warms caches up. */
static int measure(ft_bench *bench, timing *time, ft_error *error)
{
    ft_trainer *t = &bench->trainer;
    int64_t batch = bench->settings.batch, *rows = calloc((size_t)batch, sizeof *rows);
    double loss = 0, begun = 0;
    int failed = !rows ? ft_fail_memory(error, "a batch") : 0;
    for (int64_t i = 0; i < batch && !failed; i++)
        rows[i] = i;
    for (int i = 0; i <= TIMED_STEPS && !failed; i++) {
        if (i == 1) begun = ft_now();
        failed = ft_trainer_step(t, rows, batch, &loss, error);
    }
    time->step = (ft_now() - begun) / TIMED_STEPS;
    begun = ft_now();
    for (int i = 0; i < TIMED_STEPS && !failed; i++)
        if (llama_evaluate(t->run, &t->scorer.batch.view, t->scorer.scores))
            failed = ft_fail(error, "%s", llama_run_error(t->run));
    time->forward = (ft_now() - begun) / TIMED_STEPS;
    free(rows);
    return failed;
}

/* Mean share of a forward that an evaluation takes, which starts at the block that it touches first. */
static double mean_share(const ft_trainer *t, const lrk_adapters_info *set)
{
    const llama_config *c = &t->task->config;
    const llama_batch *b = &t->scorer.batch.view;
    double block = llama_block_flops(c, b->n_seq, b->seq_len), blocks = 0;
    double head = llama_head_flops(c, b->n_seq * b->seq_len);
    for (int32_t i = 0; i < set->modules; i++) {
        lrk_module_info m = {.struct_size = sizeof m};
        lrk_adapters_module(t->adapters, i, &m);
        blocks += (double)(m.rank * (c->n_layers - m.stage));
    }
    blocks = set->ranks ? blocks / (double)set->ranks : 0;
    return (head + blocks * block) / (head + (double)c->n_layers * block);
}

static int64_t count_rounds(const ft_trainer *t)
{
    int64_t rounds = 0, step = 0;
    while (lrk_schedule_round_step(t->schedule, (int32_t)rounds, &step) == LRK_OK)
        rounds++;
    return rounds;
}

static int64_t count_looks(const ft_trainer *t, int64_t rounds)
{
    int64_t every =
        t->settings->evaluate_every ? t->settings->evaluate_every : ft_steps_per_epoch(t->task, t->settings);
    return ft_total_steps(t->task, t->settings) / every + rounds;
}

static void print_rows(const char *name, const ft_data *data)
{
    if (data->n_rows == 0) return;
    printf("%-12s %8lld %s, %lld targets", name, (long long)data->n_rows,
           data->kind == FT_ROWS_TEXT ? "windows" : "rows", (long long)data->n_targets);
    if (data->dropped) printf(" (%lld tokens at the end fill no window)", (long long)data->dropped);
    printf("\n");
}

/* begun: a start filled the set, and pruning is what the rounds are for. */
static void print_work(const ft_bench *bench, const lrk_adapters_info *set, const timing *time, int begun)
{
    const ft_trainer *t = &bench->trainer;
    lrk_estimate cost = {.struct_size = sizeof cost};
    int64_t rounds = count_rounds(t), steps = ft_total_steps(&bench->task, &bench->settings), n_move = 0;
    int64_t batches = (bench->task.dev.n_rows + bench->settings.batch - 1) / bench->settings.batch;
    lrk_estimator_estimate(t->estimator, &cost);
    lrk_allocator_n_move(t->allocator, &n_move);
    double train = (double)steps * time->step;
    double look = (double)(count_looks(t, rounds) * batches) * time->forward;
    double round = (double)cost.evaluations * mean_share(t, set) * time->forward +
                   (double)cost.differentiations * time->step;
    printf("\nwork\n  %lld steps of %lld rows: %.1f s\n  %lld looks at dev: %.1f s\n", (long long)steps,
           (long long)bench->settings.batch, train, (long long)count_looks(t, rounds), look);
    printf("  %lld rounds, each %lld evaluations (at most %lld) and %lld gradients: %.1f s\n",
           (long long)rounds, (long long)cost.evaluations, (long long)cost.evaluations_most,
           (long long)cost.differentiations, (double)rounds * round);
    printf("  in all about %.1f s on %lld threads\n", train + look + (double)rounds * round,
           (long long)bench->args.threads);
    printf("  each round moves %lld of %lld ranks (%.1f %%)\n", (long long)n_move, (long long)set->ranks,
           set->ranks ? 100.0 * (double)n_move / (double)set->ranks : 0.0);
    if (!begun && (double)n_move > harmful_share * (double)set->ranks)
        printf("  warning: moving more than %.0f %% of the ranks a round did harm wherever it was measured; "
               "about 3 %% "
               "is a good choice\n",
               100 * harmful_share);
}

int ft_command_dry_run(const ft_args *args, ft_error *error)
{
    ft_bench bench = {0};
    timing time = {0};
    ft_memory memory;
    int begun = 0;
    lrk_adapters_info set = {.struct_size = sizeof set};
    int failed = ft_bench_open(&bench, args, error) || ft_bench_prepare(&bench, NULL, error) ||
                 ft_start(&bench.trainer, bench.config, &begun, error) || measure(&bench, &time, error);
    if (!failed) {
        lrk_adapters_info_get(bench.trainer.adapters, &set);
        ft_estimate_memory(&bench, &memory);
        print_modules(&bench.trainer, &set);
        printf("\n");
        print_rows("train", &bench.task.train);
        print_rows("dev", &bench.task.dev);
        print_rows("test", &bench.task.test);
        print_work(&bench, &set, &time, begun);
        print_memory(&memory);
    }
    ft_bench_close(&bench);
    return failed ? FT_EXIT_WRONG : FT_EXIT_OK;
}
#endif
