/* SPDX-License-Identifier: MIT */
/* lorank resize: an adapter to other ranks, each update by its best approximation. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter_file.h"

static const char help[] =
    "usage: lorank resize IN OUT (--rank N | --ranks FILE.json | --energy SHARE | --first N) [options]\n"
    "\n"
    "Replaces every module's update by its truncated singular value decomposition, the best approximation "
    "of\n"
    "that rank, and tells what was lost: the norm of what is dropped over that of the update.\n"
    "\n"
    "  --rank N             the same rank for all modules\n"
    "  --ranks FILE.json    an object of module names and ranks, or one with such an object as its\n"
    "                       rank_pattern (adapter_config.json); other modules stay as they are\n"
    "  --energy SHARE       the least rank whose squared singular values are SHARE (0 to 1) of all\n"
    "  --first N            no decomposition: the first N ranks of every module as they are, the scale times "
    "what\n"
    "                       it had ranks over what it has; for adapters trained with nested ranks (DyLoRA)\n"
    "  --json               the report as JSON\n" ADAPTER_WRITE_HELP ADAPTER_READ_HELP;

typedef struct resize_args {
    const char *in;
    const char *out;
    const char *rank;
    const char *ranks;
    const char *energy;
    const char *first;
    const char *json;
    int64_t one_rank; /* of `rank`, `first` */
    double share;     /* of `energy`        */
} resize_args;

typedef struct resizing {
    const command_run *run;
    const lrk_adapters *set;
    bool is_quiet;
    int64_t n;
    int64_t *ranks; /* [n] wanted             */
    double *lost;   /* [n] share of the square */
} resizing;

static lrk_module_info module_of(const lrk_adapters *set, int64_t i)
{
    lrk_module_info info = {.struct_size = sizeof info};
    (void)lrk_adapters_module(set, (int32_t)i, &info);
    return info;
}

/* ---- the ranks that are wanted ---- */

/* False: called wrongly, and said so. */
static bool numbers_of(const char *command, resize_args *args)
{
    if (args->rank != NULL)
        return command_integer(command, "--rank", args->rank, 0, INT32_MAX, &args->one_rank);
    if (args->first != NULL)
        return command_integer(command, "--first", args->first, 1, INT32_MAX, &args->one_rank);
    if (args->energy == NULL) return true;
    if (!command_real(command, "--energy", args->energy, &args->share)) return false;
    if (args->share <= 1) return true;
    (void)command_usage(command, "--energy is a share, at most 1, not", args->energy);
    return false;
}

static bool from_number(const resizing *r, int64_t rank)
{
    for (int64_t i = 0; i < r->n; i++)
        r->ranks[i] = rank;
    return true;
}

static bool take_rank(const resizing *r, const char *path, const char *name, const json_t *value)
{
    int32_t module;
    if (lrk_adapters_find(r->set, name, &module) != LRK_OK) {
        (void)command_say(r->run->command, "%s: no module '%s' in the adapter", path, name);
        return false;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > INT32_MAX) {
        (void)command_say(r->run->command, "%s: the rank of '%s' is not a whole number from 0", path, name);
        return false;
    }
    r->ranks[module] = json_integer_value(value);
    return true;
}

static bool from_file(const resizing *r, const char *path)
{
    json_error_t error;
    const char *name;
    json_t *value, *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    bool done = json_is_object(root);
    if (root == NULL) (void)command_say(r->run->command, "%s: %s", path, error.text);
    if (root != NULL && !done)
        (void)command_say(r->run->command, "%s: not an object of modules and ranks", path);
    json_t *pattern = json_object_get(root, "rank_pattern");
    for (int64_t i = 0; i < r->n; i++)
        r->ranks[i] = module_of(r->set, i).rank;
    if (done) json_object_foreach(json_is_object(pattern) ? pattern : root, name, value)
        {
            done = take_rank(r, path, name, value);
            if (!done) break;
        }
    json_decref(root);
    return done;
}

/* Sum of squares of values[first .. n). */
static double energy_of(const double *values, int64_t first, int64_t n)
{
    double sum = 0;
    for (int64_t j = n - 1; j >= first; j--)
        sum += values[j] * values[j];
    return sum;
}

/* The spectrum of module i, freed by the caller; NULL, and said why, on failure. */
static double *spectrum_of(const resizing *r, int64_t i, int64_t rank)
{
    double *values = calloc((size_t)rank + 1, sizeof *values);
    if (values == NULL) {
        (void)command_say(r->run->command, "out of memory");
        return NULL;
    }
    if (lrk_module_spectrum(r->set, (int32_t)i, values, rank) == LRK_OK) return values;
    (void)command_fail(r->run);
    free(values);
    return NULL;
}

static int64_t least_rank(const double *values, int64_t rank, double share)
{
    double all = energy_of(values, 0, rank);
    int64_t least = 0;
    while (least < rank && energy_of(values, least, rank) > (1 - share) * all)
        least++;
    return least;
}

static bool from_energy(const resizing *r, double share)
{
    command_progress progress = command_progress_new(r->is_quiet, "modules", 1);
    for (int64_t i = 0; i < r->n; i++) {
        int64_t rank = module_of(r->set, i).rank;
        double *values = spectrum_of(r, i, rank);
        if (values == NULL) return false;
        r->ranks[i] = least_rank(values, rank, share);
        free(values);
        (void)command_progress_show(&progress, (uint64_t)i + 1, (uint64_t)r->n);
    }
    return true;
}

/* ---- what is lost ---- */

static bool find_lost_of(const resizing *r, int64_t i)
{
    int64_t rank = module_of(r->set, i).rank;
    if (r->ranks[i] >= rank) return true; /* nothing */
    double *values = spectrum_of(r, i, rank);
    if (values == NULL) return false;
    double all = energy_of(values, 0, rank);
    r->lost[i] = all > 0 ? sqrt(energy_of(values, r->ranks[i], rank) / all) : 0;
    free(values);
    return true;
}

static bool find_lost(const resizing *r)
{
    command_progress progress = command_progress_new(r->is_quiet, "modules", 1);
    for (int64_t i = 0; i < r->n; i++) {
        if (!find_lost_of(r, i)) return false;
        (void)command_progress_show(&progress, (uint64_t)i + 1, (uint64_t)r->n);
    }
    return true;
}

static int print_lost(const resizing *r, bool json)
{
    if (json)
        fputs("{\"modules\":[", stdout);
    else
        printf("%-52s %6s %6s %12s\n", "module", "was", "is", "lost");
    for (int64_t i = 0; i < r->n; i++) {
        lrk_module_info info = module_of(r->set, i);
        if (!json) {
            command_text(stdout, info.name, 52);
            printf(" %6" PRId64 " %6" PRId64 " %11.4f%%\n", info.rank, r->ranks[i], 100 * r->lost[i]);
            continue;
        }
        fputs(i > 0 ? ",\n{\"name\":" : "{\"name\":", stdout);
        command_json_text(stdout, info.name);
        printf(",\"rank_before\":%" PRId64 ",\"rank\":%" PRId64 ",\"lost\":", info.rank, r->ranks[i]);
        command_json_real(stdout, r->lost[i]);
        fputc('}', stdout);
    }
    if (json) fputs("]}\n", stdout);
    return fflush(stdout) == 0 ? 0 : command_say(r->run->command, "cannot write to standard output");
}

/* ---- the first ranks ---- */

/* ranks and what is lost follow from the cut. */
static bool cut(const resizing *r, int64_t depth, const lrk_adapters_options *options, lrk_adapters **set)
{
    lrk_distance d = {.struct_size = sizeof d};
    lrk_status status = lrk_adapters_truncate(r->set, depth, options, set);
    for (int32_t i = 0; i < r->n && status == LRK_OK; i++) {
        status = lrk_module_distance(r->set, i, *set, i, &d);
        r->ranks[i] = module_of(*set, i).rank;
        r->lost[i] = d.norm_a > 0 ? d.difference / d.norm_a : 0;
    }
    if (status != LRK_OK) (void)command_fail(r->run);
    return status == LRK_OK;
}

/* ---- the command ---- */

static bool wanted_ranks(const resizing *r, const resize_args *args)
{
    if (args->rank != NULL) return from_number(r, args->one_rank);
    if (args->ranks != NULL) return from_file(r, args->ranks);
    return from_energy(r, args->share);
}

/* False: failed, and said so. */
static bool make(const resizing *r, const resize_args *args, const lrk_adapters_options *options,
                 lrk_adapters **resized)
{
    if (args->first != NULL) return cut(r, args->one_rank, options, resized);
    if (!wanted_ranks(r, args) || !find_lost(r)) return false;
    lrk_adapters_options shown = *options;
    command_progress progress = command_progress_new(r->is_quiet, "MB", 1e-6);
    shown.user = &progress;
    shown.progress = command_progress_show;
    lrk_status status = lrk_adapters_resize(r->set, r->ranks, &shown, resized);
    command_progress_end(&progress);
    if (status == LRK_OK) return true;
    (void)command_fail(r->run);
    return false;
}

static int resize(const command_run *run, const resize_args *args, const adapter_options *options,
                  const adapter *read)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    lrk_adapters_options inference;
    lrk_adapters *resized = NULL;
    int status = 1;
    (void)lrk_adapters_info_get(read->set, &info);
    (void)lrk_adapters_options_init(&inference, sizeof inference);
    inference.flags = LRK_ADAPTERS_INFERENCE;
    resizing r = {.run = run, .set = read->set, .is_quiet = options->quiet != NULL, .n = info.modules};
    r.ranks = calloc((size_t)info.modules, sizeof *r.ranks);
    r.lost = calloc((size_t)info.modules, sizeof *r.lost);
    if (r.ranks == NULL || r.lost == NULL) {
        status = command_say(run->command, "out of memory");
    } else if (make(&r, args, &inference, &resized)) {
        status = adapter_write(run, read, resized, args->out, options);
        if (status == 0) status = print_lost(&r, args->json != NULL);
    }
    lrk_adapters_destroy(resized);
    free(r.ranks);
    free(r.lost);
    return status;
}

int resize_command(int argc, char **argv)
{
    resize_args args = {0};
    adapter_options options = {0};
    const command_option table[] = {COMMAND_VALUE("--rank", &args.rank),
                                    COMMAND_VALUE("--ranks", &args.ranks),
                                    COMMAND_VALUE("--energy", &args.energy),
                                    COMMAND_VALUE("--first", &args.first),
                                    COMMAND_FLAG("--json", &args.json),
                                    ADAPTER_WRITE_OPTIONS(options),
                                    ADAPTER_READ_OPTIONS(options)};
    const command_line line = {"resize", help, table, sizeof table / sizeof table[0], {&args.in, &args.out},
                               2};
    command_run run;
    adapter read = {0};
    int status = 2;
    if (!command_parse(&line, argc, argv, &status)) return status;
    if ((args.rank != NULL) + (args.ranks != NULL) + (args.energy != NULL) + (args.first != NULL) != 1)
        return command_usage(line.command, "one of --rank, --ranks, --energy and --first is needed", NULL);
    if (!numbers_of(line.command, &args)) return 2;
    if (!adapter_options_check(line.command, &options, args.in, args.out)) return 2;
    if (!command_begin(&run, line.command)) return 1;
    if (options.to == NULL) options.to = file_kind_name(file_kind_of(args.in));
    status = 1;
    if (adapter_read(&run, args.in, &options, &read)) status = resize(&run, &args, &options, &read);
    adapter_free(&read);
    command_end(&run);
    return status;
}
