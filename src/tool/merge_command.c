/* SPDX-License-Identifier: MIT */
/* lorank merge: an adapter into the safetensors files of its base model. */
#include <inttypes.h>

#include "adapter_file.h"

static const char help[] =
    "usage: lorank merge ADAPTER MODEL OUT [options]\n"
    "\n"
    "Adds the adapter to the weights of MODEL, a safetensors file or a directory with one (or with shards "
    "and\n"
    "their index), and writes OUT, a file or a directory likewise, tensor by tensor in little memory. Sums "
    "are\n"
    "formed in f32 and rounded once to the weight's own type; the rounding error is reported, and an "
    "adapter\n"
    "that is lost to rounding is refused.\n"
    "\n"
    "  --prefix TEXT       the weight of a module is TEXT, its name and \".weight\"\n"
    "  --transposed GLOB   modules whose weight is stored as n_in x n_out (GPT-2's Conv1D: \"*\")\n"
    "  --allow-lost        report what is lost to rounding and go on\n"
    "  --quiet             no progress\n"
    "  --json              the report as JSON\n"
    "  --heads N --kv-heads N   needed for a GGUF adapter of architecture llama\n";

typedef struct merge_args {
    const char *adapter;
    const char *model;
    const char *out;
    const char *prefix;
    const char *transposed;
    const char *allow_lost;
    const char *quiet;
    const char *json;
} merge_args;

static void print_text(const lrk_merge_report *report, const char *worst)
{
    printf("%" PRId64 " of %" PRId64 " tensors in %" PRId64 " files merged; |delta| %.6g\n", report->merged,
           report->tensors, report->files, report->delta_norm);
    printf("rounding: largest %.3g%s", report->largest_error, worst != NULL ? " in " : "");
    command_text(stdout, worst != NULL ? worst : "", 0);
    printf(", mean %.3g\n", report->mean_error);
    if (report->largest_lost > 0)
        printf("lost to rounding: %.1f %% of delta where it is most, over half in %" PRId64 " modules\n",
               100 * report->largest_lost, report->lost);
}

static void print_json(const lrk_merge_report *report, const char *worst)
{
    printf("{\"files\":%" PRId64 ",\"tensors\":%" PRId64 ",\"merged\":%" PRId64 ",\"lost\":%" PRId64,
           report->files, report->tensors, report->merged, report->lost);
    fputs(",\"largest_error\":", stdout);
    command_json_real(stdout, report->largest_error);
    fputs(",\"mean_error\":", stdout);
    command_json_real(stdout, report->mean_error);
    fputs(",\"delta_norm\":", stdout);
    command_json_real(stdout, report->delta_norm);
    fputs(",\"largest_lost\":", stdout);
    command_json_real(stdout, report->largest_lost);
    fputs(",\"worst_module\":", stdout);
    if (worst != NULL)
        command_json_text(stdout, worst);
    else
        fputs("null", stdout);
    fputs("}\n", stdout);
}

static int merge(const command_run *run, const merge_args *args, const lrk_adapters *adapters)
{
    command_progress progress = command_progress_new(args->quiet != NULL, "MB", 1e-6);
    lrk_merge_options options;
    lrk_merge_report report = {.struct_size = sizeof report};
    lrk_module_info worst = {.struct_size = sizeof worst};
    (void)lrk_merge_options_init(&options, sizeof options);
    options.flags = args->allow_lost != NULL ? LRK_MERGE_ALLOW_LOST : 0;
    options.prefix = args->prefix;
    options.transposed = args->transposed;
    options.user = &progress;
    options.progress = command_progress_show;
    if (lrk_merge_model(adapters, args->model, args->out, &options, &report) != LRK_OK) {
        command_progress_end(&progress);
        return command_fail(run);
    }
    if (report.worst_module >= 0) (void)lrk_adapters_module(adapters, report.worst_module, &worst);
    (args->json != NULL ? print_json : print_text)(&report, worst.name);
    return fflush(stdout) == 0 ? 0 : command_say(run->command, "cannot write to standard output");
}

int merge_command(int argc, char **argv)
{
    merge_args args = {0};
    adapter_options options = {.to = "peft"};
    const command_option table[] = {COMMAND_VALUE("--prefix", &args.prefix),
                                    COMMAND_VALUE("--transposed", &args.transposed),
                                    COMMAND_FLAG("--allow-lost", &args.allow_lost),
                                    COMMAND_FLAG("--quiet", &args.quiet),
                                    COMMAND_FLAG("--json", &args.json),
                                    COMMAND_VALUE("--heads", &options.heads),
                                    COMMAND_VALUE("--kv-heads", &options.kv_heads)};
    const command_line line = {
        "merge", help, table, sizeof table / sizeof table[0], {&args.adapter, &args.model, &args.out}, 3};
    command_run run;
    adapter read;
    int status = 2;
    if (!command_parse(&line, argc, argv, &status)) return status;
    if (!adapter_read_check(line.command, &options)) return 2;
    if (!command_begin(&run, line.command)) return 1;
    status = 1;
    if (adapter_read(&run, args.adapter, &options, &read)) status = merge(&run, &args, read.set);
    adapter_free(&read);
    command_end(&run);
    return status;
}
