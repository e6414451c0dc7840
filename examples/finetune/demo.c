/* SPDX-License-Identifier: MIT */
/*
 * The demo: the base model, fixed-rank LoRA, ALoRA with exact scores and ALoRA with screened scores, with
 * one seed and one budget. In the exact run the screened estimator scores every state too, so that the two
 * can be compared on the same states; that costs neither of them anything in the table.
 */
#ifdef LORANK
#include <math.h>
#include <stdio.h>

#include "bench.h"
#include "commands.h"
#include "glue.h"
#include "output.h"
#include "summary.h"

enum { LORA, EXACT, SCREENED, N_METHODS };

static const struct {
    const char *name, *key; /* in the table, in summary.json */
    ft_override overrides[3];
} methods[N_METHODS] = {
    {"LoRA, fixed ranks",
     "lora",
     {{"importance.mode", "exact"}, {"allocation.policy", "fixed"}, {"schedule.rounds", "0"}}},
    {"ALoRA, exact",
     "alora_exact",
     {{"importance.mode", "exact"}, {"allocation.policy", "alora"}, {NULL, NULL}}},
    {"ALoRA, screened",
     "alora_screened",
     {{"importance.mode", "screened"}, {"allocation.policy", "alora"}, {NULL, NULL}}},
};

typedef struct demo {
    ft_bench bench;
    ft_loss base_dev, base_test;
    ft_outcome outcome[N_METHODS];
    char trace[FT_PATH], adapter[FT_PATH], report[FT_PATH], summary[FT_PATH];
} demo;

/* ---- the runs ---- */

/* The estimator that the configuration gives in screened mode, on the trainer of the exact run. */
static int create_judge(ft_bench *bench, lrk_estimator **judge, ft_error *error)
{
    lrk_evaluator evaluator;
    ft_scorer_evaluator(&bench->trainer.scorer, &evaluator);
    evaluator.progress = NULL;
    if (lrk_config_override(bench->config, "importance.mode", "screened") ||
        lrk_config_create_estimator(bench->config, bench->trainer.adapters, &evaluator,
                                    bench->trainer.allocator, judge))
        return ft_fail_lorank(error, bench->context, NULL);
    return 0;
}

static int run_method(demo *d, int method, ft_error *error)
{
    ft_bench *bench = &d->bench;
    lrk_estimator *judge = NULL;
    if (ft_bench_prepare(bench, methods[method].overrides, error)) return -1;
    if (method == EXACT && create_judge(bench, &judge, error)) return -1;
    ft_job job = {.name = methods[method].name,
                  .trace = method == EXACT ? d->trace : NULL,
                  .judge = judge,
                  .seed = lrk_config_seed(bench->config),
                  .config = bench->config};
    int failed = ft_fine_tune(&bench->trainer, &job, &d->outcome[method], error);
    if (!failed && method == EXACT) failed = ft_bench_save(bench, d->adapter, error);
    lrk_estimator_destroy(judge);
    return failed;
}

/* ---- results ---- */

static int write_summary(const demo *d, ft_error *error)
{
    json_t *summary = ft_summary_create(lrk_config_seed(d->bench.config), d->outcome[LORA].initial_ranks,
                                        &d->base_dev, &d->base_test);
    json_t *screened = ft_summary_run(&d->outcome[SCREENED]);
    int failed =
        !summary || !screened ||
        json_object_set_new(screened, "agreement_with_exact", ft_json_number(d->outcome[EXACT].agreement)) ||
        json_object_set_new(summary, methods[LORA].key, ft_summary_losses(&d->outcome[LORA])) ||
        json_object_set_new(summary, methods[EXACT].key, ft_summary_run(&d->outcome[EXACT])) ||
        json_object_set(summary, methods[SCREENED].key, screened);
    failed = failed ? ft_fail_memory(error, "the summary") : ft_output_json(d->summary, summary, error);
    json_decref(screened);
    json_decref(summary);
    return failed;
}

static void print_accuracy(double accuracy)
{
    if (isnan(accuracy))
        printf("%8s", "-");
    else
        printf("%7.2f%%", 100 * accuracy);
}

static void print_row(const char *name, const ft_outcome *o)
{
    char forwards[32] = "-";
    if (o->rounds)
        snprintf(forwards, sizeof forwards, "%lld / %lld", (long long)o->layer_forwards,
                 (long long)o->layer_forwards_naive);
    printf("%-18s %8.4f %9.4f ", name, o->dev.loss, o->test.loss);
    print_accuracy(o->test.accuracy);
    printf(" %6lld %10lld %6lld %12lld  %16s %8.1f %8.1f\n", (long long)o->final_ranks,
           (long long)o->final_parameters, (long long)o->pruned,
           (long long)(o->evaluations + o->differentiations), forwards, o->train_seconds, o->scoring_seconds);
}

static void print_table(const demo *d)
{
    printf("\n%-18s %8s %9s %8s %6s %10s %6s %12s  %16s %8s %8s\n", "", "dev loss", "test loss", "exact",
           "ranks", "parameters", "moved", "evaluations", "blocks / naive", "train s", "score s");
    printf("%-18s %8.4f %9.4f ", "base model", d->base_dev.loss, d->base_test.loss);
    print_accuracy(d->base_test.accuracy);
    printf(" %6s %10s %6s %12s  %16s %8s %8s\n", "-", "-", "-", "-", "-", "-", "-");
    for (int i = 0; i < N_METHODS; i++)
        print_row(methods[i].name, &d->outcome[i]);
    printf("\nexact: share of test rows whose completion is matched in full. evaluations: of the validation "
           "batch, two\n"
           "gradients included where scores are screened. blocks / naive: blocks run by scoring, a backward "
           "counted as\n"
           "two, against two forwards of the whole model a rank. ranks, parameters: of the best adapter on "
           "dev.\n"
           "Screened scores found %.1f %% of the exact run's lowest ranks (mean over %lld rounds, on the "
           "same states).\n"
           "One seed is no evidence that a method is better: differences of this size also come from the "
           "seed.\n",
           100 * d->outcome[EXACT].agreement, (long long)d->outcome[EXACT].rounds);
}

/* ---- the command ---- */

static int set_paths(demo *d, const char *out, ft_error *error)
{
    return ft_output_path(out, "trace.jsonl", d->trace, error) ||
           ft_output_path(out, "adapter", d->adapter, error) ||
           ft_output_path(out, "report.html", d->report, error) ||
           ft_output_path(out, "summary.json", d->summary, error);
}

static int run(demo *d, ft_error *error)
{
    if (set_paths(d, d->bench.args.out, error) || ft_output_create(d->bench.args.out, error) ||
        ft_bench_base(&d->bench, &d->base_dev, &d->base_test, error))
        return FT_EXIT_FAILED;
    for (int i = 0; i < N_METHODS; i++) {
        if (run_method(d, i, error)) return FT_EXIT_FAILED;
        if (!d->outcome[i].interrupted) continue;
        ft_fail(error, "interrupted while running %s", methods[i].name);
        return FT_EXIT_INTERRUPTED;
    }
    if (write_summary(d, error) || ft_output_report(d->bench.args.report_command, d->trace, d->report, error))
        return FT_EXIT_FAILED;
    print_table(d);
    printf("Written: %s: adapter/ and trace.jsonl of the exact run, report.html, summary.json\n",
           d->bench.args.out);
    return FT_EXIT_OK;
}

int ft_command_demo(const ft_args *args, ft_error *error)
{
    demo d = {0};
    int wrong = ft_output_check(args->out, error) || ft_bench_open(&d.bench, args, error) ||
                ft_bench_prepare(&d.bench, NULL, error);
    int status = wrong ? FT_EXIT_WRONG : run(&d, error);
    ft_bench_close(&d.bench);
    return status;
}
#endif
