/* SPDX-License-Identifier: MIT */
/*
 * Introduces: a host with an optimizer of its own, here SGD with momentum. lorank moves ranks; the host's
 * velocities follow by the plan's kept lists, in two phases: prepare may fail, commit may not.
 */
#include <lorank/lorank.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MODULES = 3, IN = 4, OUT = 2, COLS = IN + OUT, RANK = 2 };

/* Velocities of a module: for each rank a row of IN for A, then OUT for B. */
typedef struct momentum {
    float *rows[MODULES];
    float *next[MODULES]; /* made by prepare, taken into use by commit */
} momentum;

static lrk_context *context;

static int32_t prepare(void *user, const lrk_plan *plan)
{
    momentum *v = user;
    for (int32_t m = 0; m < MODULES; m++) {
        lrk_plan_module part = {.struct_size = sizeof part};
        if (lrk_plan_module_get(plan, m, &part) != LRK_OK) return 1;
        v->next[m] = calloc((size_t)part.rank_after * COLS + 1, sizeof(float)); /* new ranks start at rest */
        if (!v->next[m]) return 1;
        for (int64_t i = 0; i < part.n_kept; i++)
            memcpy(v->next[m] + i * COLS, v->rows[m] + part.kept[i] * COLS, COLS * sizeof(float));
    }
    return 0;
}

static void abandon(void *user, const lrk_plan *plan)
{
    momentum *v = user;
    (void)plan;
    for (int m = 0; m < MODULES; m++)
        free(v->next[m]), v->next[m] = NULL;
}

static void commit(void *user, const lrk_plan *plan)
{
    momentum *v = user;
    (void)plan;
    for (int m = 0; m < MODULES; m++)
        free(v->rows[m]), v->rows[m] = v->next[m], v->next[m] = NULL;
}

static void must(lrk_status status)
{
    char words[256];
    if (status == LRK_OK) return;
    lrk_context_error(context, words, sizeof words);
    printf("failed: %s: %s\n", lrk_status_text(status), words);
    exit(1);
}

/* velocity = 0.9 velocity + gradient, parameter -= 0.1 velocity; `which` is A or B. */
static void step(lrk_adapters *set, int32_t module, int32_t which, float *velocity)
{
    lrk_tensor p = {.struct_size = sizeof p}, g = {.struct_size = sizeof g};
    must(lrk_adapters_tensor(set, module, which, &p));
    must(lrk_adapters_tensor(set, module, which == LRK_TENSOR_A ? LRK_TENSOR_GRAD_A : LRK_TENSOR_GRAD_B, &g));
    for (int64_t i = 0; i < p.rows * p.cols; i++) {
        float *v = &velocity[i / p.cols * COLS + i % p.cols];
        g.data[i] = (float)(module * RANK + i / p.cols + 1); /* stands for backward: the rank's identity */
        *v = 0.9f * *v + g.data[i];
        p.data[i] -= 0.1f * *v;
    }
}

/* Scores are given: the first rank of module 1 is the worst, and module 2 has the highest mean. */
static void move_one_rank(lrk_adapters *set, momentum *v)
{
    const double values[MODULES * RANK] = {5, 4, 1, 3, 6, 7};
    lrk_allocator *allocator;
    lrk_scores *scores;
    lrk_plan *plan;
    lrk_alora_options options;
    must(lrk_alora_options_init(&options, sizeof options));
    options.n_move = 1;
    lrk_participant momentum_follows = {sizeof momentum_follows, 0, v, "momentum", prepare, commit, abandon};
    must(lrk_allocator_create_alora(set, &options, &allocator));
    must(lrk_scores_create(set, values, MODULES * RANK, &scores));
    must(lrk_allocator_plan(allocator, scores, 1, &plan));
    must(lrk_plan_prepare(plan, &momentum_follows, 1));
    must(lrk_plan_commit(plan));
    lrk_plan_destroy(plan), lrk_scores_destroy(scores), lrk_allocator_destroy(allocator);
}

int main(void)
{
    static const char *const names[MODULES] = {"first", "second", "third"};
    momentum v = {0};
    lrk_adapters *set;
    lrk_module_spec spec[MODULES];
    for (int m = 0; m < MODULES; m++) {
        must(lrk_module_spec_init(&spec[m], sizeof spec[m]));
        spec[m].name = names[m], spec[m].n_in = IN, spec[m].n_out = OUT, spec[m].rank = RANK;
        v.rows[m] = calloc(RANK * COLS, sizeof(float));
        must(v.rows[m] ? LRK_OK : LRK_ERR_NOMEM);
    }
    must(lrk_context_create(NULL, &context, NULL, 0));
    must(lrk_adapters_create(context, spec, MODULES, NULL, &set));
    for (int32_t m = 0; m < MODULES; m++)
        step(set, m, LRK_TENSOR_A, v.rows[m]), step(set, m, LRK_TENSOR_B, v.rows[m] + IN);
    must(lrk_adapters_values_changed(set));
    move_one_rank(set, &v);
    for (int32_t m = 0; m < MODULES; m++) {
        const uint64_t *ids;
        int64_t n = 0;
        must(lrk_adapters_ranks(set, m, &ids, NULL, &n));
        for (int64_t i = 0; i < n; i++)
            printf("%s, rank %d: velocity %g\n", names[m], (int)ids[i], (double)v.rows[m][i * COLS]);
        free(v.rows[m]);
    }
    lrk_adapters_destroy(set), lrk_context_destroy(context);
    return 0;
}
