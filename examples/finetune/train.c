/* SPDX-License-Identifier: MIT */
/*
 * The command that trains: one run as the configuration says, its adapter, trace, report and summary.
 */
#ifdef LORANK
#include <stdio.h>
#include <sys/resource.h>

#include "bench.h"
#include "commands.h"
#include "nested.h"
#include "output.h"
#include "summary.h"
#include "workers.h"

typedef struct result {
    ft_loss base_dev, base_test;
    ft_outcome outcome;
} result;

static int write_summary(ft_bench *bench, const result *r, ft_error *error)
{
    char path[FT_PATH];
    if (ft_output_path(bench->args.out, "summary.json", path, error)) return -1;
    json_t *summary = ft_summary_create(lrk_config_seed(bench->config), r->outcome.budget_ranks, &r->base_dev,
                                        &r->base_test);
    int failed =
        !summary || json_object_set_new(summary, "run", ft_summary_run(&r->outcome))
            ? ft_fail_memory(error, "the summary")
            : ft_nested_report(&bench->trainer, summary, error) || ft_output_json(path, summary, error);
    json_decref(summary);
    return failed;
}

/* The report is a picture of the trace: if it cannot be drawn, the run is good all the same. */
static void draw_report(const ft_bench *bench, const char *trace)
{
    ft_error why;
    char html[FT_PATH];
    if (ft_output_path(bench->args.out, "report.html", html, &why) ||
        ft_output_report(bench->args.report_command, trace, html, &why))
        fprintf(stderr, "finetune: no report: %s\n", why.text);
}

static double peak_mebibytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

/* There is a test loss only where a test file was given. */
static void print_losses(const char *who, double dev, double test)
{
    printf("%s  dev loss %.4f", who, dev);
    if (test == test) printf("  test loss %.4f", test);
}

static void print_result(const result *r)
{
    const ft_outcome *o = &r->outcome;
    print_losses("base   ", r->base_dev.loss, r->base_test.loss);
    printf("\n");
    print_losses("adapted", o->dev.loss, o->test.loss);
    printf("  (step %lld of %lld)\n", (long long)o->best_step, (long long)o->steps);
    if (o->test.accuracy == o->test.accuracy)
        printf("exact match on test %.4f, base %.4f\n", o->test.accuracy, r->base_test.accuracy);
    printf("ranks %lld -> %lld, parameters %lld -> %lld, %lld rounds, %lld pruned, %lld added\n",
           (long long)o->initial_ranks, (long long)o->final_ranks, (long long)o->initial_parameters,
           (long long)o->final_parameters, (long long)o->rounds, (long long)o->pruned, (long long)o->added);
    printf("training %.1f s, scoring %.1f s, evaluation %.1f s\n", o->train_seconds, o->scoring_seconds,
           o->evaluation_seconds);
    printf("peak memory %.1f MiB\n", peak_mebibytes());
}

static int run(ft_bench *bench, ft_error *error)
{
    result r;
    char trace[FT_PATH], adapter[FT_PATH];
    ft_job job = {.name = "train",
                  .trace = ft_workers_first() ? trace : NULL,
                  .seed = lrk_config_seed(bench->config),
                  .config = bench->config,
                  .saved = &bench->args};
    if (ft_output_create(bench->args.out, error) ||
        ft_output_path(bench->args.out, "trace.jsonl", trace, error) ||
        ft_output_path(bench->args.out, "adapter", adapter, error) ||
        ft_bench_base(bench, &r.base_dev, &r.base_test, error) ||
        ft_fine_tune(&bench->trainer, &job, &r.outcome, error) || ft_bench_save(bench, adapter, error) ||
        write_summary(bench, &r, error))
        return FT_EXIT_FAILED;
    if (job.trace) draw_report(bench, trace);
    print_result(&r);
    if (r.outcome.interrupted) printf("interrupted: the best adapter so far is in %s\n", adapter);
    return r.outcome.interrupted ? FT_EXIT_INTERRUPTED : FT_EXIT_OK;
}

int ft_command_train(const ft_args *args, ft_error *error)
{
    ft_bench bench = {0};
    int wrong = ft_output_check(args->out, error) || ft_bench_open(&bench, args, error) ||
                ft_bench_prepare(&bench, NULL, error);
    int status = wrong ? FT_EXIT_WRONG : run(&bench, error);
    ft_bench_close(&bench);
    return status;
}
#endif
