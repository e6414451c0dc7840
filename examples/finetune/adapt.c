/* SPDX-License-Identifier: MIT */
/*
 * Tells lorank about the model's linear layers and tells the model which module belongs to which layer.
 * Which of them are adapted, and all else about training, the configuration decides.
 */
#ifdef LORANK
#include "adapt.h"

#include <math.h>
#include <stdlib.h>

#include "glue.h"

int64_t ft_steps_per_epoch(const ft_task *task, const ft_settings *settings)
{
    return task->train.n_rows / settings->batch;
}

int64_t ft_total_steps(const ft_task *task, const ft_settings *settings)
{
    return llround(settings->epochs * (double)ft_steps_per_epoch(task, settings));
}

/* One entry a layer of the model, adapted or not. */
static llama_linear *describe_layers(const llama_config *config, int64_t *n)
{
    *n = config->n_layers * LLAMA_N_KINDS;
    llama_linear *layers = calloc((size_t)*n, sizeof *layers);
    for (int64_t i = 0; layers && i < *n; i++)
        llama_linear_describe(config, i / LLAMA_N_KINDS, (int)(i % LLAMA_N_KINDS), &layers[i]);
    return layers;
}

static void describe_module(const llama_linear *layer, lrk_module_spec *spec)
{
    lrk_module_spec_init(spec, sizeof *spec);
    spec->name = layer->name;
    spec->stage = (int32_t)layer->stage;
    spec->n_in = layer->n_in;
    spec->n_out = layer->n_out;
    spec->input_group = (int32_t)layer->input_group;
}

static int create_adapters(ft_trainer *trainer, const lrk_config *config, const llama_linear *layers,
                           int64_t n, ft_error *error)
{
    lrk_module_spec *specs = calloc((size_t)n, sizeof *specs);
    if (!specs) return ft_fail_memory(error, "the modules");
    for (int64_t i = 0; i < n; i++)
        describe_module(&layers[i], &specs[i]);
    lrk_status status = lrk_config_create_adapters(config, specs, n, &trainer->adapters);
    free(specs);
    return status ? ft_fail_lorank(error, trainer->context, NULL) : 0;
}

/* A module of the set that the model lacks, or has in another shape, is an error. */
static int check_shapes(const ft_trainer *trainer, const llama_linear *layers, const int32_t *modules,
                        int64_t n, ft_error *error)
{
    lrk_adapters_info set = {.struct_size = sizeof set};
    int64_t found = 0;
    lrk_adapters_info_get(trainer->adapters, &set);
    for (int64_t i = 0; i < n; i++) {
        lrk_module_info m = {.struct_size = sizeof m};
        if (modules[i] < 0) continue;
        found++;
        lrk_adapters_module(trainer->adapters, modules[i], &m);
        if (m.n_in != layers[i].n_in || m.n_out != layers[i].n_out)
            return ft_fail(error, "the adapter of %s is %lld x %lld, the model's layer %lld x %lld", m.name,
                           (long long)m.n_out, (long long)m.n_in, (long long)layers[i].n_out,
                           (long long)layers[i].n_in);
    }
    if (found < set.modules) return ft_fail(error, "the adapter has modules that the model lacks");
    return 0;
}

static int connect_layers(ft_trainer *trainer, const llama_linear *layers, int64_t n, ft_error *error)
{
    int32_t *modules = calloc((size_t)n, sizeof *modules);
    if (!modules) return ft_fail_memory(error, "the modules");
    for (int64_t i = 0; i < n; i++)
        if (lrk_adapters_find(trainer->adapters, layers[i].name, &modules[i])) modules[i] = -1;
    int failed = check_shapes(trainer, layers, modules, n, error);
    if (!failed) llama_run_set_adapters(trainer->run, trainer->adapters, modules);
    free(modules);
    return failed;
}

/* config: make a set by it; NULL: the set is there already. */
static int attach(ft_trainer *trainer, const lrk_config *config, ft_error *error)
{
    int64_t n = 0;
    llama_linear *layers = describe_layers(&trainer->task->config, &n);
    if (!layers) return ft_fail_memory(error, "the modules");
    int failed = config ? create_adapters(trainer, config, layers, n, error) : 0;
    if (!failed) failed = connect_layers(trainer, layers, n, error);
    free(layers);
    return failed;
}

static int create_parts(ft_trainer *trainer, const lrk_config *config, ft_error *error)
{
    const ft_task *task = trainer->task;
    const ft_settings *settings = trainer->settings;
    int64_t total = ft_total_steps(task, settings), epoch = ft_steps_per_epoch(task, settings);
    lrk_evaluator evaluator;
    if (epoch < 1 || total < 1)
        return ft_fail(error, "train has %lld rows: too few for a batch of %lld",
                       (long long)task->train.n_rows, (long long)settings->batch);
    if (ft_scorer_create(&trainer->scorer, task, settings, trainer->run, trainer->adapters,
                         lrk_config_seed(config), error))
        return -1;
    ft_scorer_evaluator(&trainer->scorer, &evaluator);
    trainer->nested = lrk_config_nested(config);
    trainer->learning_rate.struct_size = sizeof trainer->learning_rate;
    if (lrk_config_create_allocator(config, trainer->adapters, &trainer->allocator) ||
        lrk_config_create_estimator(config, trainer->adapters, &evaluator, trainer->allocator,
                                    &trainer->estimator) ||
        lrk_config_create_optimizer(config, trainer->adapters, &trainer->optimizer) ||
        lrk_config_create_schedule(config, epoch, total, &trainer->schedule) ||
        lrk_config_learning_rate(config, total, &trainer->learning_rate))
        return ft_fail_lorank(error, trainer->context, NULL);
    return 0;
}

int ft_adapt_train(ft_trainer *trainer, lrk_context *context, const lrk_config *config, ft_error *error)
{
    trainer->context = context;
    return attach(trainer, config, error) || create_parts(trainer, config, error) ? -1 : 0;
}

int ft_adapt_load(ft_trainer *trainer, lrk_context *context, const char *directory, ft_error *error)
{
    lrk_adapters_options options;
    lrk_adapters_options_init(&options, sizeof options);
    options.flags = LRK_ADAPTERS_INFERENCE;
    trainer->context = context;
    if (lrk_peft_load(context, directory, NULL, 0, &options, &trainer->adapters))
        return ft_fail_lorank(error, context, NULL);
    return attach(trainer, NULL, error);
}

void ft_adapt_free(ft_trainer *trainer)
{
    lrk_schedule_destroy(trainer->schedule);
    lrk_optimizer_destroy(trainer->optimizer);
    lrk_estimator_destroy(trainer->estimator);
    lrk_allocator_destroy(trainer->allocator);
    lrk_mask_destroy(trainer->mask);
    lrk_adapters_destroy(trainer->adapters);
    lrk_adapters_destroy(trainer->begun);
    ft_scorer_free(&trainer->scorer);
}
#endif
