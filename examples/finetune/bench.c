/* SPDX-License-Identifier: MIT */
/*
 * The order of opening is the order of blame: a wrong configuration is reported before a wrong data file,
 * that before wrong weights, and all of them before anything is written.
 */
#ifdef LORANK
#include "bench.h"

#include <math.h>

#include "adapt.h"
#include "glue.h"

static int load_config(ft_bench *bench, const ft_override *overrides, ft_error *error)
{
    lrk_config_destroy(bench->config);
    bench->config = NULL;
    if (ft_settings_load(bench->context, &bench->args, &bench->config, &bench->settings, error)) return -1;
    for (int i = 0; overrides && i < FT_BENCH_OVERRIDES && overrides[i].key; i++)
        if (lrk_config_override(bench->config, overrides[i].key, overrides[i].value))
            return ft_fail_lorank(error, bench->context, NULL);
    return 0;
}

int ft_bench_open(ft_bench *bench, const ft_args *args, ft_error *error)
{
    bench->args = *args;
    return ft_context_create(args->threads, &bench->context, error) || load_config(bench, NULL, error) ||
                   ft_task_load(&bench->args, bench->settings.seq_len, &bench->task, error)
               ? -1
               : 0;
}

void ft_bench_close(ft_bench *bench)
{
    ft_trainer_free(&bench->trainer);
    ft_task_free(&bench->task);
    lrk_config_destroy(bench->config);
    lrk_context_destroy(bench->context);
    *bench = (ft_bench){0};
}

int ft_bench_prepare(ft_bench *bench, const ft_override *overrides, ft_error *error)
{
    ft_trainer_free(&bench->trainer);
    return load_config(bench, overrides, error) ||
                   ft_trainer_create(&bench->task, &bench->settings, &bench->args, 1, &bench->trainer,
                                     error) ||
                   ft_adapt_train(&bench->trainer, bench->context, bench->config, error)
               ? -1
               : 0;
}

int ft_bench_base(ft_bench *bench, ft_loss *dev, ft_loss *test, ft_error *error)
{
    ft_trainer *t = &bench->trainer;
    lrk_adapters *adapters = t->adapters;
    *test = (ft_loss){NAN, NAN};
    t->adapters = NULL;
    int failed = ft_trainer_evaluate(t, &bench->task.dev, dev, error) ||
                 (bench->task.test.n_rows && ft_trainer_evaluate(t, &bench->task.test, test, error));
    t->adapters = adapters;
    return failed ? -1 : 0;
}

int ft_bench_save(ft_bench *bench, const char *directory, ft_error *error)
{
    lrk_peft_options options;
    lrk_peft_options_init(&options, sizeof options);
    options.base_model = bench->args.model;
    options.task_type = "CAUSAL_LM";
    /* with what a start subtracted taken off again, the adapter is one of the model as it was */
    const ft_trainer *t = &bench->trainer;
    lrk_adapters *stacked = NULL;
    lrk_status status = t->begun ? lrk_adapters_stack(t->adapters, t->begun, -1, NULL, &stacked) : LRK_OK;
    if (!status) status = lrk_peft_save(stacked ? stacked : t->adapters, directory, &options);
    lrk_adapters_destroy(stacked);
    return status ? ft_fail_lorank(error, bench->context, NULL) : 0;
}
#endif
