/* SPDX-License-Identifier: MIT */
/*
 * Introduces: a host that gives lorank its own memory, matrix product, parallel loop and log, and answers
 * its question what the model is worth under a mask. The model is one layer with W = 0 whose first rank is
 * made useless: AB-LoRA must score it exactly 0, since with it or without it nothing changes.
 */
#include <lorank/lorank.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 4, ROWS = 3, RANK = 3 };

typedef struct host {
    long blocks, products, evaluations;
} host;

static void *allocate(void *user, size_t size, size_t alignment)
{
    void *memory = NULL;
    ((host *)user)->blocks += posix_memalign(&memory, alignment, size) == 0;
    return memory;
}

static void give_back(void *user, void *memory, size_t size)
{
    ((host *)user)->blocks -= memory != NULL && size > 0;
    free(memory);
}

static int32_t product(void *user, const lrk_gemm_args *g)
{
    ((host *)user)->products++;
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            float sum = 0, *c = &g->c[i * g->ldc + j];
            for (int64_t k = 0; k < g->k; k++)
                sum += (g->trans_a ? g->a[k * g->lda + i] : g->a[i * g->lda + k]) *
                       (g->trans_b ? g->b[j * g->ldb + k] : g->b[k * g->ldb + j]);
            *c = g->alpha * sum + (g->beta == 0 ? 0 : g->beta * *c);
        }
    return 0;
}

static int32_t loop(void *user, int64_t n, void (*task)(void *data, int64_t i), void *data)
{
    (void)user;
    for (int64_t i = 0; i < n; i++)
        task(data, i);
    return 0;
}

static void report(void *user, int32_t level, const char *text)
{
    fprintf(stderr, "lorank, level %d, %ld blocks: %s\n", (int)level, ((host *)user)->blocks, text);
}

/* lorank's question: the loss of the validation batch under the mask of this pass. */
static int32_t evaluate(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    static const float x[ROWS][WIDTH] = {{1, 0, 0, 0}, {0, 1, 0, 1}, {1, 1, 1, 0}};
    const lrk_matrix in = {sizeof in, LRK_DTYPE_F32, x, ROWS, WIDTH, WIDTH};
    for (int32_t e = 0; e < n; e++) {
        float y[ROWS][WIDTH] = {{0}}; /* W = 0: what the layer gives without adapters */
        const lrk_matrix_mut out = {sizeof out, LRK_DTYPE_F32, y, ROWS, WIDTH, WIDTH};
        if (lrk_forward(evaluations[e].pass, &(const int32_t){0}, 1, &in, &out, NULL, 0) != LRK_OK) return 1;
        evaluations[e].parts[0] = (lrk_loss_part){0, ROWS};
        for (int i = 0; i < ROWS * WIDTH; i++)
            evaluations[e].parts[0].loss_sum += 1 - (double)y[i / WIDTH][i % WIDTH];
        ((host *)user)->evaluations++;
    }
    return 0;
}

static void must(lrk_status status)
{
    if (status == LRK_OK) return;
    printf("failed: %s\n", lrk_status_text(status));
    exit(1);
}

/* B is 0.5 throughout, but for the first rank. */
static void make_adapters(lrk_context *context, lrk_adapters **adapters)
{
    lrk_tensor b = {.struct_size = sizeof b};
    lrk_module_spec spec;
    must(lrk_module_spec_init(&spec, sizeof spec));
    spec.name = "layer", spec.n_in = spec.n_out = WIDTH, spec.rank = RANK;
    must(lrk_adapters_create(context, &spec, 1, NULL, adapters));
    must(lrk_adapters_tensor(*adapters, 0, LRK_TENSOR_B, &b));
    for (int i = WIDTH; i < RANK * WIDTH; i++)
        b.data[i] = 0.5f;
    must(lrk_adapters_values_changed(*adapters));
}

int main(void)
{
    host h = {0};
    lrk_host services;
    lrk_evaluator evaluator;
    lrk_context *context;
    lrk_adapters *adapters;
    lrk_estimator *estimator;
    lrk_scores *scores;
    must(lrk_host_init(&services, sizeof services));
    services.memory_user = services.gemm_user = services.parallel_user = services.log_user = &h;
    services.allocate = allocate;
    services.release = give_back;
    services.gemm = product;
    services.parallel_for = loop;
    services.log = report;
    services.threads = 1;
    must(lrk_context_create(&services, &context, NULL, 0));
    make_adapters(context, &adapters);
    must(lrk_evaluator_init(&evaluator, sizeof evaluator));
    evaluator.user = &h, evaluator.evaluate = evaluate, evaluator.max_rows = ROWS;
    must(lrk_estimator_create_ablation(adapters, &evaluator, NULL, &estimator));
    must(lrk_estimator_run(estimator, 0, &scores));
    lrk_score score = {.struct_size = sizeof score};
    for (int i = 0; i < RANK; i++) {
        must(lrk_scores_get(scores, i, &score));
        printf("rank %d: %s\n", i, score.score == 0 ? "no effect" : "has an effect");
    }
    lrk_scores_destroy(scores), lrk_estimator_destroy(estimator), lrk_adapters_destroy(adapters);
    lrk_context_destroy(context);
    printf("%ld evaluations, blocks of memory left: %ld\n", h.evaluations, h.blocks);
    return 0;
}
