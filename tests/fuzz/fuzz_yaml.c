/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing configurations: the text is parsed, and all that it describes is created for a small model. A refusal of
 * the text must say where it is. Memory is limited, since a text may ask for any rank.
 */
#include <stdlib.h>
#include <string.h>

#include "lorank/lorank.h"

enum { MOST_BYTES = 1 << 14, MODULES = 3, MOST_MEMORY = 1 << 24 };

static void must(int holds)
{
    if (!holds) abort();
}

static void *allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    return size > MOST_MEMORY ? NULL
                              : aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

static void release(void *user, void *memory, size_t size)
{
    (void)user;
    (void)size;
    free(memory);
}

static int32_t evaluate(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user;
    (void)evaluations;
    return n;
}

static int32_t differentiate(void *user, const lrk_evaluation *evaluation)
{
    (void)user;
    (void)evaluation;
    return 1;
}

static lrk_adapters *create_adapters(const lrk_config *config)
{
    static const char *const names[MODULES] = {"layers.0.q", "layers.0.up", "layers.1.q"};
    lrk_module_spec modules[MODULES];
    lrk_adapters *adapters = NULL;
    for (int i = 0; i < MODULES; i++) {
        must(lrk_module_spec_init(&modules[i], sizeof modules[i]) == LRK_OK);
        modules[i].name = names[i];
        modules[i].n_in = 4;
        modules[i].n_out = 3;
        modules[i].stage = i;
    }
    lrk_status status = lrk_config_create_adapters(config, modules, MODULES, &adapters);
    must((status == LRK_OK) == (adapters != NULL));
    return adapters;
}

static void create_rest(const lrk_config *config, lrk_adapters *adapters)
{
    lrk_allocator *allocator = NULL;
    lrk_estimator *estimator = NULL;
    lrk_optimizer *optimizer = NULL;
    lrk_evaluator evaluator;
    must(lrk_evaluator_init(&evaluator, sizeof evaluator) == LRK_OK);
    evaluator.evaluate = evaluate;
    evaluator.differentiate = differentiate;
    evaluator.max_rows = 4;
    lrk_status status = lrk_config_create_allocator(config, adapters, &allocator);
    must((status == LRK_OK) == (allocator != NULL));
    status = lrk_config_create_estimator(config, adapters, &evaluator, allocator, &estimator);
    must((status == LRK_OK) == (estimator != NULL));
    status = lrk_config_create_optimizer(config, adapters, &optimizer);
    must((status == LRK_OK) == (optimizer != NULL));
    lrk_optimizer_destroy(optimizer);
    lrk_estimator_destroy(estimator);
    lrk_allocator_destroy(allocator);
}

static void create_all(const lrk_config *config)
{
    lrk_schedule *schedule = NULL;
    lrk_lr_options rates = {.struct_size = sizeof rates};
    int64_t integer;
    const char *text;
    lrk_adapters *adapters = create_adapters(config);
    if (adapters != NULL) create_rest(config, adapters);
    lrk_adapters_destroy(adapters);
    lrk_status status = lrk_config_create_schedule(config, 10, 40, &schedule);
    must((status == LRK_OK) == (schedule != NULL));
    lrk_schedule_destroy(schedule);
    if (lrk_config_learning_rate(config, 40, &rates) == LRK_OK) must(rates.total_steps == 40);
    must(lrk_config_integer(config, "epochs", &integer) == LRK_OK);
    must(lrk_config_text(config, "data", &text) == LRK_OK);
    (void)lrk_config_seed(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const lrk_config_key keys[] = {{sizeof keys[0], LRK_VALUE_INTEGER, "epochs", 1, 9, 3, NULL},
                                          {sizeof keys[0], LRK_VALUE_REAL, "share", 0, 1, 0.5, NULL},
                                          {sizeof keys[0], LRK_VALUE_TEXT, "data", 0, 0, 0, "none"},
                                          {sizeof keys[0], LRK_VALUE_BOOLEAN, "shuffle", 0, 0, 1, NULL}};
    lrk_host host;
    lrk_context *context;
    lrk_config *config = NULL;
    lrk_error_info where = {.struct_size = sizeof where};
    if (size > MOST_BYTES) return 0;
    must(lrk_host_init(&host, sizeof host) == LRK_OK);
    host.allocate = allocate;
    host.release = release;
    must(lrk_context_create(&host, &context, NULL, 0) == LRK_OK);
    lrk_status status = lrk_config_parse(context, (const char *)data, size, keys, 4, &config);
    must((status == LRK_OK) == (config != NULL));
    if (status == LRK_OK) {
        create_all(config);
    } else {
        must(status == LRK_ERR_CONFIG || status == LRK_ERR_NOMEM);
        if (status == LRK_ERR_CONFIG) {
            must(lrk_context_error_info(context, &where) == LRK_OK);
            must(where.line >= 1 && where.column >= 1);
        }
    }
    lrk_config_destroy(config);
    lrk_context_destroy(context);
    return 0;
}
