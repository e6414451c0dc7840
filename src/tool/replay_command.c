/* SPDX-License-Identifier: MIT */
/*
 * lorank replay: what another policy, or the same with other options, would have done in each round of a recorded run
 * (lorank/replay.h). The policy is put together as a configuration does it, so that its keys and their checks are the same.
 */
#include "command.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SETTINGS 32

static const char help[] =
    "usage: lorank replay TRACE.jsonl [--policy NAME] [--n N] [--set KEY=VALUE]... [--json]\n"
    "\n"
    "Asks a policy what it would have done in each round of a recorded run, from the state and with the\n"
    "scores of that run. NAME, KEY and VALUE are those of `allocation` in docs/configuration.md; --n N is\n"
    "--set n_move=N. The default is alora with move_share 0.03.\n";

typedef struct replay_args {
    const char *trace;
    const char *policy;
    const char *n;
    const char *sets[MOST_SETTINGS];
    const char *json;
} replay_args;

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

static void print_recorded(const replayed *r, const lrk_replay_round *recorded)
{
    fputs("\"recorded\":{\"policy\":", r->out);
    command_json_text(r->out, recorded->policy);
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
    command_json_real(r->out, info->cut);
    fputs(",\"cut_next\":", r->out);
    command_json_real(r->out, info->cut_next);
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
        command_json_text(r->out, policy);
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
    command_run run;
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
    command_end(&h->run);
}

/* allocation.KEY = VALUE */
static bool set_key(const handles *h, const char *key, size_t length, const char *value)
{
    char name[96];
    snprintf(name, sizeof name, "allocation.%.*s", length < 64 ? (int)length : 64, key);
    if (lrk_config_override(h->config, name, value) == LRK_OK) return true;
    (void)command_fail(&h->run);
    return false;
}

static bool configure(handles *h, const replay_args *args)
{
    static const char defaults[] = "allocation: {move_share: 0.03}\n";
    if (lrk_config_parse(h->run.context, defaults, sizeof defaults - 1, NULL, 0, &h->config) != LRK_OK) {
        (void)command_fail(&h->run);
        return false;
    }
    if (args->policy != NULL && !set_key(h, "policy", 6, args->policy)) return false;
    if (args->n != NULL && !set_key(h, "n_move", 6, args->n)) return false;
    for (int i = 0; i < MOST_SETTINGS && args->sets[i] != NULL; i++) {
        const char *equals = strchr(args->sets[i], '=');
        if (equals == NULL || equals == args->sets[i]) {
            (void)command_usage(h->run.command, "not KEY=VALUE", args->sets[i]);
            return false;
        }
        if (!set_key(h, args->sets[i], (size_t)(equals - args->sets[i]), equals + 1)) return false;
    }
    return true;
}

static lrk_status open_handles(handles *h, const replay_args *args)
{
    lrk_status status = lrk_replay_open(h->run.context, args->trace, &h->replay);
    if (status == LRK_OK) status = lrk_replay_create_adapters(h->replay, &h->adapters);
    if (status == LRK_OK) status = lrk_config_create_allocator(h->config, h->adapters, &h->allocator);
    return status;
}

/* The policy's name, as its plans have it: the last that the options set. */
static const char *policy_name(const replay_args *args)
{
    const char *name = args->policy != NULL ? args->policy : "alora";
    for (int i = 0; i < MOST_SETTINGS && args->sets[i] != NULL; i++)
        if (strncmp(args->sets[i], "policy=", 7) == 0) name = args->sets[i] + 7;
    return name;
}

static lrk_status replay_to(const handles *h, const replay_args *args, FILE *out)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    lrk_status status = lrk_adapters_info_get(h->adapters, &info);
    if (status != LRK_OK) return status;
    replayed r = {
        .replay = h->replay, .out = out, .json = args->json != NULL, .n_modules = (int32_t)info.modules};
    const lrk_round_observer observer = {.struct_size = sizeof observer, .user = &r, .round = take_round};
    print_head(&r, policy_name(args));
    status = lrk_replay_run(h->replay, h->allocator, &observer);
    print_foot(&r);
    return status;
}

/* The text is printed once all rounds went well. */
static int print_replay(const handles *h, const replay_args *args)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (out == NULL) return command_say(h->run.command, "out of memory");
    if (replay_to(h, args, out) == LRK_OK) return command_print(h->run.command, out, &text, &n);
    fclose(out);
    free(text);
    return command_fail(&h->run);
}

int replay_command(int argc, char **argv)
{
    replay_args args = {0};
    handles h = {0};
    const command_option options[] = {COMMAND_VALUE("--policy", &args.policy), COMMAND_VALUE("--n", &args.n),
                                      COMMAND_VALUES("--set", args.sets, MOST_SETTINGS),
                                      COMMAND_FLAG("--json", &args.json)};
    const command_line line = {"replay", help, options, 4, {&args.trace}, 1};
    int status;
    if (!command_parse(&line, argc, argv, &status)) return status;
    if (!command_begin(&h.run, line.command)) return 1;
    if (!configure(&h, &args))
        status = 2;
    else if (open_handles(&h, &args) != LRK_OK)
        status = command_fail(&h.run);
    else
        status = print_replay(&h, &args);
    close_handles(&h);
    return status;
}
