/* SPDX-License-Identifier: MIT */
/*
 * bench-sketch: what a gradient sketch of the bundled model loses against the dense gradient, by directions and samples. The
 * dense gradient is dA of a training pass with B = 1 and A = 0, as many ranks as outputs; its singular values are LAPACK's.
 *     bench-sketch [BATCHES [SEEDS]]
 * Prints, over all modules and seeds: relative errors of the leading singular values; the share of the dense gradient's
 * energy in its k leading directions that the sketch's k right vectors hold; and the share of ranks of a gradient start of 3 times
 * rank 4, in parameters, that are in other modules than by the dense gradient. Memory is that of the sums and of the random
 * matrices, against a set of the same ranks. Then what GoRA's ranks lose, on both tasks (gora.h).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/sketch.h"
#include "examples/finetune/adapt.h"
#include "examples/finetune/bench.h"
#include "examples/finetune/ops.h"
#include "gora.h"
#include "kernels/dense.h"

enum { CAP = 20, MULTIPLE = 3, THREADS = 2 };

typedef struct config {
    int64_t directions, samples;
} config;

static const config configs[] = {{20, 21}, {20, 31}, {20, 41}, {20, 61}, {24, 49},
                                 {28, 57}, {32, 65}, {40, 81}, {48, 97}};
enum { N_CONFIGS = sizeof configs / sizeof *configs };

typedef struct bench {
    ft_bench ft;
    lrk_adapters *plain; /* the set that is sketched                 */
    lrk_adapters *whole; /* B = 1: its dA is the gradient            */
    int32_t *modules;    /* module of each layer of the model, or -1 */
    int64_t n_layers, n_modules, batches;
    double **values; /* [n_modules] of the dense gradient */
    ft_error error;
} bench;

static void die(const bench *b, const char *what)
{
    char text[512] = "";
    if (b->ft.context) lrk_context_error(b->ft.context, text, sizeof text);
    fprintf(stderr, "bench-sketch: %s: %s %s\n", what, b->error.text, text);
    exit(1);
}

static void *take(size_t n, size_t size)
{
    void *memory = calloc(n ? n : 1, size);
    if (memory) return memory;
    fprintf(stderr, "bench-sketch: out of memory\n");
    exit(1);
}

static lrk_module_info info_of(const bench *b, int64_t module)
{
    lrk_module_info info = {.struct_size = sizeof info};
    lrk_adapters_module(b->plain, (int32_t)module, &info);
    return info;
}

/* ---- the dense gradient -------------------------------------------------------------------------------------------- */

static void create_whole(bench *b)
{
    lrk_module_spec *specs = take((size_t)b->n_modules, sizeof *specs);
    lrk_adapters_options options;
    lrk_adapters_options_init(&options, sizeof options);
    options.init = LRK_INIT_ZERO;
    for (int64_t i = 0; i < b->n_modules; i++) {
        lrk_module_info m = info_of(b, i);
        lrk_module_spec_init(&specs[i], sizeof *specs);
        specs[i].name = m.name, specs[i].n_in = m.n_in, specs[i].n_out = m.n_out, specs[i].rank = m.n_out;
        specs[i].input_group = m.input_group;
    }
    if (lrk_adapters_create(b->ft.context, specs, b->n_modules, &options, &b->whole)) die(b, "the dense set");
    free(specs);
    for (int64_t i = 0; i < b->n_modules; i++) {
        lrk_tensor t = {.struct_size = sizeof t};
        if (lrk_adapters_tensor(b->whole, (int32_t)i, LRK_TENSOR_B, &t)) die(b, "B");
        for (int64_t j = 0; j < t.rows; j++)
            t.data[j * t.ld + j] = 1;
    }
    if (lrk_adapters_values_changed(b->whole)) die(b, "B");
}

/* The batches of the trainer's gradient start, through the base model under a pass of `set`. */
static void run_batches(bench *b, lrk_adapters *set, uint32_t gradients, lrk_sketch *sketch, uint64_t seed)
{
    ft_trainer *t = &b->ft.trainer;
    const ft_data *rows = &b->ft.task.train;
    int64_t n = b->ft.settings.batch, *order = take((size_t)rows->n_rows, sizeof *order);
    ft_shuffle(order, rows->n_rows, seed, FT_STREAM_START);
    llama_run_set_adapters(t->run, set, b->modules);
    for (int64_t i = 0; i < b->batches; i++) {
        lrk_pass_options options;
        lrk_pass *pass;
        double weight = 0;
        if (ft_batch_fill(&t->batch, rows, order + i * n, n, &b->error)) die(b, "a batch");
        lrk_pass_options_init(&options, sizeof options);
        options.gradients = gradients, options.sketch = sketch;
        options.max_rows = t->batch.view.n_seq * t->batch.view.seq_len;
        if (lrk_pass_begin(set, &options, &pass)) die(b, "a pass");
        llama_run_set_pass(t->run, pass);
        if (llama_forward_loss(t->run, &t->batch.view, t->scores)) die(b, llama_run_error(t->run));
        for (int64_t r = 0; r < t->batch.view.n_seq; r++)
            weight += t->scores[r].weight;
        if (llama_backward(t->run, 1.0 / weight, NULL)) die(b, llama_run_error(t->run));
        ft_trainer_end_pass(t, pass);
    }
    free(order);
}

static void factor_dense(bench *b)
{
    for (int64_t i = 0; i < b->n_modules; i++) {
        lrk_module_info m = info_of(b, i);
        lrk_tensor g = {.struct_size = sizeof g};
        int64_t k = m.n_in < m.n_out ? m.n_in : m.n_out;
        double *a = take((size_t)(m.n_in * m.n_out), sizeof *a);
        if (lrk_adapters_tensor(b->whole, (int32_t)i, LRK_TENSOR_GRAD_A, &g)) die(b, "the dense gradient");
        for (int64_t j = 0; j < m.n_in * m.n_out; j++)
            a[j] = (double)g.data[j];
        free(b->values[i]);
        b->values[i] = take((size_t)k, sizeof(double));
        if (lrki_svd(b->ft.context, m.n_out, m.n_in, a, NULL, b->values[i], NULL))
            die(b, "the dense gradient");
        free(a);
    }
}

/* ---- comparing ----------------------------------------------------------------------------------------------------- */

/* Ranks of each module by the greedy choice from these values. */
static void choose(const bench *b, double *const *values, int64_t most, int64_t *ranks)
{
    int64_t left = 0;
    for (int64_t i = 0; i < b->n_modules; i++) {
        lrk_module_info m = info_of(b, i);
        left += MULTIPLE * m.initial_rank * (m.n_in + m.n_out);
        ranks[i] = 0;
    }
    for (;;) {
        int64_t best = -1;
        double worth = 0;
        for (int64_t i = 0; i < b->n_modules; i++) {
            lrk_module_info m = info_of(b, i);
            if (ranks[i] >= most || ranks[i] >= m.n_in || ranks[i] >= m.n_out || m.n_in + m.n_out > left)
                continue;
            double mine = pow(values[i][ranks[i]], 2) / (double)(m.n_in + m.n_out);
            if (mine > worth) worth = mine, best = i;
        }
        if (best < 0) return;
        ranks[best]++;
        left -= info_of(b, best).n_in + info_of(b, best).n_out;
    }
}

/* Energy of G in n orthonormal rows. */
static double energy(const lrk_tensor *g, const double *right, int64_t n)
{
    double sum = 0;
    for (int64_t o = 0; o < g->rows; o++)
        for (int64_t j = 0; j < n; j++) {
            double along = 0;
            for (int64_t c = 0; c < g->cols; c++)
                along += (double)g->data[o * g->ld + c] * right[j * g->cols + c];
            sum += along * along;
        }
    return sum;
}

typedef struct tally {
    double *errors[3]; /* relative, of values 1-4, 5-12, 13-20 */
    int64_t n[3];
    double held, least_held;
    int64_t modules, moved, ranks;
    double memory;
} tally;

static int band_of(int64_t i)
{
    return i < 4 ? 0 : i < 12 ? 1 : 2;
}

static void compare_module(bench *b, const lrk_sketch *sketch, int64_t i, tally *t, double *values)
{
    lrk_module_info m = info_of(b, i);
    lrk_sketch_info s = {.struct_size = sizeof s};
    lrk_tensor g = {.struct_size = sizeof g};
    lrk_sketch_info_get(sketch, (int32_t)i, &s);
    double *right = take((size_t)(s.directions * m.n_in), sizeof *right), best = 0;
    if (lrk_sketch_spectrum(sketch, (int32_t)i, s.directions, values, right, NULL, NULL))
        die(b, "a spectrum");
    if (lrk_adapters_tensor(b->whole, (int32_t)i, LRK_TENSOR_GRAD_A, &g)) die(b, "the dense gradient");
    int64_t n = s.directions < CAP ? s.directions : CAP;
    for (int64_t j = 0; j < n; j++) {
        int band = band_of(j);
        t->errors[band][t->n[band]++] = fabs(values[j] - b->values[i][j]) / b->values[i][j];
        best += pow(b->values[i][j], 2);
    }
    double held = energy(&g, right, n) / best;
    t->held += held;
    t->least_held = fmin(t->least_held, held);
    t->modules++;
    free(right);
}

static int64_t moved(const int64_t *a, const int64_t *b, int64_t n, int64_t *total)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += llabs(a[i] - b[i]);
        *total += b[i];
    }
    return sum / 2;
}

static void compare(bench *b, const config *c, uint64_t seed, tally *t)
{
    lrk_sketch_options options;
    lrk_sketch *sketch;
    lrk_sketch_options_init(&options, sizeof options);
    options.directions = c->directions, options.samples = c->samples, options.seed = seed;
    if (lrk_sketch_create(b->plain, &options, &sketch)) die(b, "a sketch");
    run_batches(b, b->plain, 0, sketch, seed);
    double **values = take((size_t)b->n_modules, sizeof *values);
    int64_t *ranks = take((size_t)b->n_modules, sizeof *ranks),
            *dense = take((size_t)b->n_modules, sizeof *dense);
    for (int64_t i = 0; i < b->n_modules; i++) {
        values[i] = take((size_t)c->directions, sizeof(double));
        compare_module(b, sketch, i, t, values[i]);
    }
    int64_t most = c->directions < CAP ? c->directions : CAP;
    choose(b, values, most, ranks);
    choose(b, b->values, most, dense);
    t->moved += moved(ranks, dense, b->n_modules, &t->ranks);
    double floats = (double)sketch->n_sums;
    for (int64_t i = 0; i < sketch->n_randoms; i++)
        floats += (double)(sketch->randoms[i].rows * sketch->randoms[i].width);
    t->memory = floats * sizeof(float) / 1048576.0;
    for (int64_t i = 0; i < b->n_modules; i++)
        free(values[i]);
    free(values);
    free(ranks);
    free(dense);
    lrk_sketch_destroy(sketch);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const config *c, tally *t)
{
    printf("%10lld %7lld %7.2f ", (long long)c->directions, (long long)c->samples, t->memory);
    for (int band = 0; band < 3; band++) {
        qsort(t->errors[band], (size_t)t->n[band], sizeof(double), ascending);
        if (t->n[band] == 0)
            printf(" %7s %7s", "-", "-");
        else
            printf(" %6.2f%% %6.2f%%", 100 * t->errors[band][t->n[band] / 2],
                   100 * t->errors[band][t->n[band] * 95 / 100]);
        free(t->errors[band]);
    }
    printf(" %7.2f%% %7.2f%% %7.2f%%\n", 100 * t->held / (double)t->modules, 100 * t->least_held,
           100 * (double)t->moved / (double)t->ranks);
}

/* ---- the program --------------------------------------------------------------------------------------------------- */

static void open_bench(bench *b)
{
    const ft_args args = {.model = "examples/models/gloss-llama",
                          .train = "examples/data/austen/train.jsonl",
                          .dev = "examples/data/austen/dev.jsonl",
                          .config = "examples/finetune/austen.yaml",
                          .threads = THREADS};
    ops_set_threads(THREADS);
    if (ft_bench_open(&b->ft, &args, &b->error) || ft_bench_prepare(&b->ft, NULL, &b->error))
        die(b, "the model");
    lrk_adapters_info info = {.struct_size = sizeof info};
    b->plain = b->ft.trainer.adapters;
    lrk_adapters_info_get(b->plain, &info);
    b->n_modules = info.modules;
    b->n_layers = b->ft.task.config.n_layers * LLAMA_N_KINDS;
    b->modules = take((size_t)b->n_layers, sizeof *b->modules);
    b->values = take((size_t)b->n_modules, sizeof *b->values);
    for (int64_t i = 0; i < b->n_layers; i++) {
        llama_linear layer;
        llama_linear_describe(&b->ft.task.config, i / LLAMA_N_KINDS, (int)(i % LLAMA_N_KINDS), &layer);
        if (lrk_adapters_find(b->plain, layer.name, &b->modules[i])) b->modules[i] = -1;
    }
    create_whole(b);
}

int main(int argc, char **argv)
{
    bench b = {.batches = argc > 1 ? atoll(argv[1]) : 8};
    int64_t seeds = argc > 2 ? atoll(argv[2]) : 3;
    tally tallies[N_CONFIGS];
    open_bench(&b);
    for (int c = 0; c < N_CONFIGS; c++) {
        tallies[c] = (tally){.least_held = 1};
        for (int band = 0; band < 3; band++)
            tallies[c].errors[band] = take((size_t)(seeds * b.n_modules * CAP), sizeof(double));
    }
    for (int64_t seed = 1; seed <= seeds; seed++) {
        if (lrk_adapters_zero_gradients(b.whole)) die(&b, "zero");
        run_batches(&b, b.whole, LRK_GRAD_PARAMETERS, NULL, (uint64_t)seed);
        factor_dense(&b);
        for (int c = 0; c < N_CONFIGS; c++)
            compare(&b, &configs[c], (uint64_t)seed, &tallies[c]);
    }
    printf("%lld modules, %lld batches of %lld rows, %lld seeds; errors: median and 95th percentile\n",
           (long long)b.n_modules, (long long)b.batches, (long long)b.ft.settings.batch, (long long)seeds);
    printf("%10s %7s %7s  %15s %15s %15s %8s %8s %8s\n", "directions", "samples", "MiB", "sigma 1-4",
           "sigma 5-12", "sigma 13-20", "held", "least", "misplaced");
    for (int c = 0; c < N_CONFIGS; c++)
        print(&configs[c], &tallies[c]);
    for (int64_t i = 0; i < b.n_modules; i++)
        free(b.values[i]);
    free(b.values);
    free(b.modules);
    lrk_adapters_destroy(b.whole);
    ft_bench_close(&b.ft);
    gora_compare(argc > 1 ? argv[1] : "8", seeds, THREADS);
    return 0;
}
