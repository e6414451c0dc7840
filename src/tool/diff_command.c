/* SPDX-License-Identifier: MIT */
/* lorank diff: how far the updates of two adapters are from each other, without forming them. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "adapter_file.h"

static const char help[] =
    "usage: lorank diff A B [--json]\n"
    "\n"
    "For every module the Frobenius norms of its update in A and in B, of their difference, and the latter\n"
    "over the larger of the two; modules that only one has count with the other's update 0.\n"
    "\n" ADAPTER_READ_HELP;

typedef struct diff_line {
    const char *name;
    double norm_a; /* NaN: not in A */
    double norm_b;
    double difference;
} diff_line;

typedef struct diff {
    const command_run *run;
    const adapter *a;
    const adapter *b;
    diff_line *lines;
    int64_t n;
    diff_line total; /* sums of squares, until all are there */
} diff;

static lrk_status norm_of(const lrk_adapters *set, int32_t module, double *norm)
{
    lrk_distance distance = {.struct_size = sizeof distance};
    lrk_status status = lrk_module_distance(set, module, set, module, &distance);
    *norm = distance.norm_a;
    return status;
}

static void add_line(diff *d, const diff_line *line)
{
    d->lines[d->n++] = *line;
    d->total.norm_a += isnan(line->norm_a) ? 0 : line->norm_a * line->norm_a;
    d->total.norm_b += isnan(line->norm_b) ? 0 : line->norm_b * line->norm_b;
    d->total.difference += line->difference * line->difference;
}

/* Module m of A, and what B has of that name. */
static lrk_status compare_module(diff *d, int32_t m)
{
    int32_t other;
    lrk_module_info info = {.struct_size = sizeof info};
    lrk_distance distance = {.struct_size = sizeof distance};
    lrk_status status = lrk_adapters_module(d->a->set, m, &info);
    diff_line line = {.name = info.name, .norm_b = NAN};
    if (status == LRK_OK && lrk_adapters_find(d->b->set, info.name, &other) == LRK_OK) {
        status = lrk_module_distance(d->a->set, m, d->b->set, other, &distance);
        line = (diff_line){info.name, distance.norm_a, distance.norm_b, distance.difference};
    } else if (status == LRK_OK) {
        status = norm_of(d->a->set, m, &line.norm_a);
        line.difference = line.norm_a;
    }
    if (status == LRK_OK) add_line(d, &line);
    return status;
}

/* Module m of B, if A has none of that name. */
static lrk_status compare_rest(diff *d, int32_t m)
{
    int32_t other;
    lrk_module_info info = {.struct_size = sizeof info};
    lrk_status status = lrk_adapters_module(d->b->set, m, &info);
    if (status != LRK_OK || lrk_adapters_find(d->a->set, info.name, &other) == LRK_OK) return status;
    diff_line line = {.name = info.name, .norm_a = NAN};
    status = norm_of(d->b->set, m, &line.norm_b);
    line.difference = line.norm_b;
    if (status == LRK_OK) add_line(d, &line);
    return status;
}

static int64_t modules_of(const adapter *a)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    (void)lrk_adapters_info_get(a->set, &info);
    return info.modules;
}

static lrk_status compare(diff *d)
{
    lrk_status status = LRK_OK;
    for (int32_t m = 0; m < modules_of(d->a) && status == LRK_OK; m++)
        status = compare_module(d, m);
    for (int32_t m = 0; m < modules_of(d->b) && status == LRK_OK; m++)
        status = compare_rest(d, m);
    d->total = (diff_line){"total", sqrt(d->total.norm_a), sqrt(d->total.norm_b), sqrt(d->total.difference)};
    return status;
}

static double relative(const diff_line *line)
{
    double larger = fmax(line->norm_a, line->norm_b); /* fmax passes over NaN */
    return larger > 0 ? line->difference / larger : 0;
}

static void print_line(const diff_line *line)
{
    command_text(stdout, line->name, 52);
    for (int i = 0; i < 2; i++) {
        double norm = i == 0 ? line->norm_a : line->norm_b;
        if (isnan(norm))
            printf(" %12s", "-");
        else
            printf(" %12.6g", norm);
    }
    printf(" %12.6g %10.3g\n", line->difference, relative(line));
}

static void print_text(const diff *d)
{
    printf("%-52s %12s %12s %12s %10s\n", "module", "|A|", "|B|", "|A - B|", "relative");
    for (int64_t i = 0; i < d->n; i++)
        print_line(&d->lines[i]);
    print_line(&d->total);
}

static void print_json_line(const diff_line *line)
{
    fputs("{\"name\":", stdout);
    command_json_text(stdout, line->name);
    fputs(",\"norm_a\":", stdout);
    command_json_real(stdout, line->norm_a);
    fputs(",\"norm_b\":", stdout);
    command_json_real(stdout, line->norm_b);
    fputs(",\"difference\":", stdout);
    command_json_real(stdout, line->difference);
    fputs(",\"relative\":", stdout);
    command_json_real(stdout, relative(line));
    fputc('}', stdout);
}

static void print_json(const diff *d)
{
    fputs("{\"modules\":[", stdout);
    for (int64_t i = 0; i < d->n; i++) {
        if (i > 0) fputs(",\n", stdout);
        print_json_line(&d->lines[i]);
    }
    fputs("],\"total\":", stdout);
    print_json_line(&d->total);
    fputs("}\n", stdout);
}

static int diff_adapters(const command_run *run, const adapter *a, const adapter *b, bool json)
{
    diff d = {.run = run, .a = a, .b = b};
    d.lines = calloc((size_t)(modules_of(a) + modules_of(b)), sizeof *d.lines);
    if (d.lines == NULL) return command_say(run->command, "out of memory");
    int status = 0;
    if (compare(&d) != LRK_OK)
        status = command_fail(run);
    else
        (json ? print_json : print_text)(&d);
    free(d.lines);
    if (status == 0 && fflush(stdout) != 0)
        status = command_say(run->command, "cannot write to standard output");
    return status;
}

int diff_command(int argc, char **argv)
{
    const char *path_a = NULL, *path_b = NULL, *json = NULL;
    adapter_options options = {.to = "peft"};
    const command_option table[] = {COMMAND_FLAG("--json", &json), ADAPTER_READ_OPTIONS(options)};
    const command_line line = {"diff", help, table, sizeof table / sizeof table[0], {&path_a, &path_b}, 2};
    command_run run;
    adapter a = {0}, b = {0};
    int status = 2;
    if (!command_parse(&line, argc, argv, &status)) return status;
    if (!adapter_read_check(line.command, &options)) return 2;
    if (!command_begin(&run, line.command)) return 1;
    status = 1;
    if (adapter_read(&run, path_a, &options, &a) && adapter_read(&run, path_b, &options, &b))
        status = diff_adapters(&run, &a, &b, json != NULL);
    adapter_free(&a);
    adapter_free(&b);
    command_end(&run);
    return status;
}
