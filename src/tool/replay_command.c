/* SPDX-License-Identifier: MIT */
/*
 * lorank replay: what another policy, or the same with other options, would have done in each round of a recorded run
 * (lorank/replay.h). The policy is put together as a configuration does it, so that its keys and their checks are the same.
 */
#include "replay_command.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lorank/lorank.h"
#include "run.h"

#define WORDS_ROOM 1024

static const char usage_text[] =
    "usage: lorank replay TRACE.jsonl [--policy NAME] [--n N] [--set KEY=VALUE]... [--json]\n"
    "\n"
    "Asks a policy what it would have done in each round of a recorded run, from the state and with the\n"
    "scores of that run. NAME, KEY and VALUE are those of `allocation` in docs/configuration.md; --n N is\n"
    "--set n_move=N. The default is alora with move_share 0.03.\n";

/* ---- arguments ------------------------------------------------------------------------------------------------------- */

typedef struct setting {
    char key[80]; /* allocation.KEY */
    const char *value;
} setting;

typedef struct replay_args {
    const char *trace;
    int n_settings;
    setting *settings; /* room for one each argument */
    bool json;
    bool help;
} replay_args;

static const char *add_setting(replay_args *args, const char *key, size_t length, const char *value)
{
    setting *new = &args->settings[args->n_settings];
    if (value == NULL || length == 0 || length > 60) return "not KEY=VALUE";
    snprintf(new->key, sizeof new->key, "allocation.%.*s", (int)length, key);
    new->value = value;
    args->n_settings++;
    return NULL;
}

/* An option that takes a value. */
static const char *parse_pair(replay_args *args, const char *option, const char *value)
{
    if (value == NULL) return "an option lacks its value";
    if (strcmp(option, "--policy") == 0) return add_setting(args, "policy", 6, value);
    if (strcmp(option, "--n") == 0) return add_setting(args, "n_move", 6, value);
    const char *equals = strchr(value, '=');
    return add_setting(args, value, equals != NULL ? (size_t)(equals - value) : 0,
                       equals != NULL ? equals + 1 : NULL);
}

static bool takes_value(const char *option)
{
    return strcmp(option, "--policy") == 0 || strcmp(option, "--n") == 0 || strcmp(option, "--set") == 0;
}

/* What is wrong with the arguments; NULL: nothing. */
static const char *parse(int argc, char **argv, replay_args *args)
{
    for (int i = 0; i < argc; i++) {
        const char *wrong = NULL;
        if (takes_value(argv[i])) {
            const char *option = argv[i++];
            wrong = parse_pair(args, option, i < argc ? argv[i] : NULL);
        } else if (strcmp(argv[i], "--json") == 0) {
            args->json = true;
        } else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            args->help = true;
        } else if (argv[i][0] == '-' && argv[i][1] != '\0') {
            wrong = "unknown option";
        } else {
            wrong = args->trace != NULL ? "more than one trace" : NULL;
            args->trace = argv[i];
        }
        if (wrong != NULL) return wrong;
    }
    return args->trace == NULL && !args->help ? "no trace is given" : NULL;
}

/* ---- one round ------------------------------------------------------------------------------------------------------- */

typedef struct replayed {
    lrk_replay *replay;
    FILE *out;
    bool json;
    int64_t i; /* of the round */
    int32_t n_modules;
    int64_t total[6]; /* dropped and added: recorded, replayed, both */
} replayed;

static lrk_plan_module part_of(const lrk_plan *plan, int32_t module)
{
    lrk_plan_module part = {.struct_size = sizeof part};
    (void)lrk_plan_module_get(plan, module, &part);
    return part;
}

static bool was_dropped(const lrk_replay_round *recorded, uint64_t identity)
{
    for (int64_t k = 0; k < recorded->n_dropped; k++)
        if (recorded->dropped_ids[k] == identity) return true;
    return false;
}

static int64_t dropped_by_both(const replayed *r, const lrk_replay_round *recorded, const lrk_plan *plan)
{
    int64_t both = 0;
    for (int32_t m = 0; m < r->n_modules; m++) {
        lrk_plan_module part = part_of(plan, m);
        for (int64_t j = 0; j < part.n_dropped; j++)
            both += was_dropped(recorded, part.dropped_ids[j]);
    }
    return both;
}

/* New ranks that the same modules got: the recorded number of a module is its rank after less what it kept. */
static int64_t added_by_both(const replayed *r, const lrk_replay_round *recorded, const lrk_scores *scores,
                             const lrk_plan *plan)
{
    int64_t both = 0, at = 0;
    for (int32_t m = 0; m < r->n_modules; m++) {
        lrk_plan_module part = part_of(plan, m);
        int64_t kept = 0;
        for (int64_t j = 0; j < part.rank_before; j++, at++) {
            lrk_score score = {.struct_size = sizeof score};
            (void)lrk_scores_get(scores, at, &score);
            kept += !was_dropped(recorded, score.identity);
        }
        int64_t then = recorded->module_ranks[m] - kept;
        both += then < part.n_added ? then : part.n_added;
    }
    return both;
}

static void print_real(FILE *out, double value)
{
    if (isfinite(value))
        fprintf(out, "%.17g", value);
    else
        fputs("null", out);
}

static void print_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            fprintf(out, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            fputc(*text, out);
    }
    fputc('"', out);
}

static void print_recorded(const replayed *r, const lrk_replay_round *recorded)
{
    fputs("\"recorded\":{\"policy\":", r->out);
    print_text(r->out, recorded->policy);
    fputs(",\"dropped\":[", r->out);
    for (int64_t k = 0; k < recorded->n_dropped; k++)
        fprintf(r->out, "%s%" PRIu64, k > 0 ? "," : "", recorded->dropped_ids[k]);
    fputs("],\"module_ranks\":[", r->out);
    for (int32_t m = 0; m < r->n_modules; m++)
        fprintf(r->out, "%s%" PRId64, m > 0 ? "," : "", recorded->module_ranks[m]);
    fputs("]}", r->out);
}

static void print_replayed(const replayed *r, const lrk_plan *plan, const lrk_plan_info *info)
{
    int64_t n = 0;
    fputs("\"replayed\":{\"dropped\":[", r->out);
    for (int32_t m = 0; m < r->n_modules; m++) {
        lrk_plan_module part = part_of(plan, m);
        for (int64_t j = 0; j < part.n_dropped; j++, n++)
            fprintf(r->out, "%s%" PRIu64, n > 0 ? "," : "", part.dropped_ids[j]);
    }
    fputs("],\"module_ranks\":[", r->out);
    for (int32_t m = 0; m < r->n_modules; m++)
        fprintf(r->out, "%s%" PRId64, m > 0 ? "," : "", part_of(plan, m).rank_after);
    fprintf(r->out, "],\"ranks\":%" PRId64 ",\"parameters\":%" PRId64 ",\"cut\":", info->ranks_after,
            info->parameters_after);
    print_real(r->out, info->cut);
    fputs(",\"cut_next\":", r->out);
    print_real(r->out, info->cut_next);
    fputs("}", r->out);
}

static void print_json_round(const replayed *r, const lrk_replay_round *recorded, const lrk_plan *plan,
                             const lrk_plan_info *info, const int64_t n[6])
{
    fprintf(r->out, "%s\n{\"round\":%" PRId64 ",\"step\":%" PRId64 ",", r->i > 0 ? "," : "", recorded->round,
            recorded->step);
    print_recorded(r, recorded);
    fputc(',', r->out);
    print_replayed(r, plan, info);
    fprintf(r->out, ",\"dropped_by_both\":%" PRId64 ",\"added_by_both\":%" PRId64 "}", n[4], n[5]);
}

static void print_counts(FILE *out, const int64_t n[6])
{
    for (int i = 0; i < 6; i += 2) {
        char text[64];
        snprintf(text, sizeof text, "-%" PRId64 " +%" PRId64, n[i], n[i + 1]);
        fprintf(out, "  %12s", text);
    }
}

static int32_t take_round(void *user, const lrk_scores *scores, const lrk_plan *plan)
{
    replayed *r = user;
    lrk_replay_round recorded = {.struct_size = sizeof recorded};
    lrk_plan_info info = {.struct_size = sizeof info};
    if (lrk_replay_round_get(r->replay, r->i, &recorded) != LRK_OK) return 1;
    if (lrk_plan_info_get(plan, &info) != LRK_OK) return 1;
    const int64_t n[6] = {recorded.n_dropped,
                          recorded.n_added,
                          info.n_dropped,
                          info.n_added,
                          dropped_by_both(r, &recorded, plan),
                          added_by_both(r, &recorded, scores, plan)};
    for (int i = 0; i < 6; i++)
        r->total[i] += n[i];
    if (r->json)
        print_json_round(r, &recorded, plan, &info, n);
    else {
        fprintf(r->out, "%5" PRId64 "  %7" PRId64, recorded.round, recorded.step);
        print_counts(r->out, n);
        fprintf(r->out, "  %8" PRId64 "  %12" PRId64 "\n", info.ranks_after, info.parameters_after);
    }
    r->i++;
    return 0;
}

/* ---- all rounds ------------------------------------------------------------------------------------------------------ */

static void print_head(const replayed *r, const char *policy)
{
    if (r->json) {
        fputs("{\"policy\":", r->out);
        print_text(r->out, policy);
        fputs(",\"rounds\":[", r->out);
        return;
    }
    fprintf(r->out, "%5s  %7s  %12s  %12s  %12s  %8s  %12s\n", "round", "step", "recorded", policy, "both",
            "ranks", "parameters");
}

static void print_foot(const replayed *r)
{
    if (r->json) {
        fputs("\n]}\n", r->out);
        return;
    }
    fprintf(r->out, "%5s  %7s", "all", "");
    print_counts(r->out, r->total);
    fputc('\n', r->out);
}

typedef struct handles {
    lrk_context *context;
    lrk_config *config;
    lrk_replay *replay;
    lrk_adapters *adapters;
    lrk_allocator *allocator;
} handles;

static void close_handles(handles *h)
{
    lrk_allocator_destroy(h->allocator);
    lrk_adapters_destroy(h->adapters);
    lrk_replay_close(h->replay);
    lrk_config_destroy(h->config);
    lrk_context_destroy(h->context);
}

static lrk_status configure(handles *h, const replay_args *args)
{
    static const char defaults[] = "allocation: {move_share: 0.03}\n";
    lrk_status status = lrk_config_parse(h->context, defaults, sizeof defaults - 1, NULL, 0, &h->config);
    for (int i = 0; i < args->n_settings && status == LRK_OK; i++)
        status = lrk_config_override(h->config, args->settings[i].key, args->settings[i].value);
    return status;
}

static lrk_status open_handles(handles *h, const replay_args *args)
{
    lrk_status status = lrk_replay_open(h->context, args->trace, &h->replay);
    if (status == LRK_OK) status = lrk_replay_create_adapters(h->replay, &h->adapters);
    if (status == LRK_OK) status = lrk_config_create_allocator(h->config, h->adapters, &h->allocator);
    return status;
}

/* The policy's name, as its plans have it. */
static const char *policy_name(const replay_args *args)
{
    const char *name = "alora";
    for (int i = 0; i < args->n_settings; i++)
        if (strcmp(args->settings[i].key, "allocation.policy") == 0) name = args->settings[i].value;
    return name;
}

static lrk_status replay_to(const handles *h, const replay_args *args, FILE *out)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    lrk_status status = lrk_adapters_info_get(h->adapters, &info);
    if (status != LRK_OK) return status;
    replayed r = {.replay = h->replay, .out = out, .json = args->json, .n_modules = (int32_t)info.modules};
    const lrk_round_observer observer = {.struct_size = sizeof observer, .user = &r, .round = take_round};
    print_head(&r, policy_name(args));
    status = lrk_replay_run(h->replay, h->allocator, &observer);
    print_foot(&r);
    return status;
}

static int say(const handles *h, int status)
{
    char words[WORDS_ROOM] = "";
    lrk_context_error(h->context, words, sizeof words);
    fprintf(stderr, "lorank replay: %s\n", words);
    return status;
}

/* The text is printed once all rounds went well. */
static int print_replay(const handles *h, const replay_args *args)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    int status = 1;
    if (out == NULL) {
        fputs("lorank replay: out of memory\n", stderr);
        return 1;
    }
    lrk_status rounds = replay_to(h, args, out);
    bool whole = !ferror(out);
    if (fclose(out) != 0 || !whole)
        fputs("lorank replay: out of memory\n", stderr);
    else if (rounds != LRK_OK)
        status = say(h, 1);
    else if (fwrite(text, 1, n, stdout) != n || fflush(stdout) != 0)
        fputs("lorank replay: cannot write to standard output\n", stderr);
    else
        status = 0;
    free(text);
    return status;
}

static int replay(const replay_args *args)
{
    handles h = {0};
    char words[WORDS_ROOM] = "";
    if (lrk_context_create(NULL, &h.context, words, sizeof words) != LRK_OK) {
        fprintf(stderr, "lorank replay: %s\n", words);
        return 1;
    }
    int status = 0;
    if (configure(&h, args) != LRK_OK)
        status = say(&h, 2);
    else if (open_handles(&h, args) != LRK_OK)
        status = say(&h, 1);
    else
        status = print_replay(&h, args);
    close_handles(&h);
    return status;
}

int replay_command(int argc, char **argv)
{
    replay_args args = {.settings = run_alloc(argc, sizeof *args.settings)};
    const char *wrong = parse(argc, argv, &args);
    int status = 2;
    if (wrong != NULL)
        fprintf(stderr, "lorank replay: %s\n%s", wrong, usage_text);
    else if (args.help)
        status = fputs(usage_text, stdout) < 0;
    else
        status = replay(&args);
    free(args.settings);
    return status;
}
