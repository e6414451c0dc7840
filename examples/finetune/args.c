/* SPDX-License-Identifier: MIT */
/*
 * Parses the command line and decides the mode. Says what is missing; whether files can be read is found
 * out by those who read them.
 */
#include "args.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char ft_usage[] =
    "usage: finetune --model DIR --train F --dev F [--test F] --config Y --out DIR   train an adapter\n"
    "       finetune --model DIR --train F --dev F --config Y --dry-run             say what that would "
    "take\n"
    "       finetune --model DIR [--adapter DIR] [--dev F] [--test F]               evaluate\n"
    "       finetune --model DIR [--adapter DIR] --generate PROMPT                  continue a text, "
    "greedily\n"
    "       finetune --demo TASK --out DIR                                          LoRA against ALoRA, "
    "bundled task\n"
    "       finetune --list                                                         every estimator, policy "
    "and "
    "initial\n"
    "                                                                               allocation, by its name "
    "in "
    "the YAML\n"
    "\n"
    "  --model DIR           Hugging Face directory: config.json, model.safetensors, tokenizer.json\n"
    "  --train, --dev, --test FILE   JSON lines, {\"prompt\", \"completion\"} or {\"text\"}\n"
    "  --config FILE         YAML; section host holds the trainer's own keys\n"
    "  --out DIR             gets adapter/, trace.jsonl, report.html and summary.json; made if absent\n"
    "  --adapter DIR         a saved adapter to evaluate or generate with\n"
    "  --set KEY=VALUE       put a value in place of the configuration's, as in importance.mode=screened\n"
    "  --seed S              the same as --set seed=S\n"
    "  --threads N           default: one for each processor; results do not depend on it\n"
    "  --seq-len N           longest sequence where no configuration says it (64)\n"
    "  --max-tokens N        longest continuation (64)\n"
    "  --checkpoint-every N  save the run every N steps, and within scoring every N evaluations, in DIR of "
    "--out\n"
    "  --resume              go on with the run in --out as if it had not stopped; from the start if it has "
    "no\n"
    "                        checkpoint. Everything else must be given as it was\n"
    "  --report-command C    the lorank command that draws report.html (default: lorank next to this "
    "program)\n"
    "  --help\n"
    "\n"
    "Ctrl-C ends training after the step and saves the best adapter, and the run if it has checkpoints; a "
    "second\n"
    "one kills.\n"
    "Exit status: 0 done, 2 something is wrong with what was given (nothing is written then),\n"
    "1 failed on the way, 130 ended by Ctrl-C.\n";

enum {
    OPT_MODEL = 256,
    OPT_LIST,
    OPT_TRAIN,
    OPT_DEV,
    OPT_TEST,
    OPT_CONFIG,
    OPT_OUT,
    OPT_ADAPTER,
    OPT_SET,
    OPT_SEED,
    OPT_THREADS,
    OPT_SEQ_LEN,
    OPT_MAX_TOKENS,
    OPT_REPORT,
    OPT_CHECKPOINT_EVERY,
    OPT_RESUME,
    OPT_DRY_RUN,
    OPT_GENERATE,
    OPT_DEMO,
    OPT_HELP
};

static const struct option options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"train", required_argument, NULL, OPT_TRAIN},
    {"dev", required_argument, NULL, OPT_DEV},
    {"test", required_argument, NULL, OPT_TEST},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"out", required_argument, NULL, OPT_OUT},
    {"adapter", required_argument, NULL, OPT_ADAPTER},
    {"set", required_argument, NULL, OPT_SET},
    {"seed", required_argument, NULL, OPT_SEED},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"seq-len", required_argument, NULL, OPT_SEQ_LEN},
    {"max-tokens", required_argument, NULL, OPT_MAX_TOKENS},
    {"report-command", required_argument, NULL, OPT_REPORT},
    {"checkpoint-every", required_argument, NULL, OPT_CHECKPOINT_EVERY},
    {"resume", no_argument, NULL, OPT_RESUME},
    {"dry-run", no_argument, NULL, OPT_DRY_RUN},
    {"generate", required_argument, NULL, OPT_GENERATE},
    {"demo", required_argument, NULL, OPT_DEMO},
    {"list", no_argument, NULL, OPT_LIST},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static int read_number(const char *name, const char *text, int64_t most, int64_t *value, ft_error *error)
{
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno || end == text || *end || number < 1 || number > most)
        return ft_fail(error, "--%s: '%s' is not a number from 1 to %lld", name, text, (long long)most);
    *value = number;
    return 0;
}

static int add_override(ft_args *args, const char *key, const char *value, ft_error *error)
{
    if (args->n_overrides == FT_MAX_OVERRIDES) return ft_fail(error, "--set: more than %d", FT_MAX_OVERRIDES);
    args->override_key[args->n_overrides] = key;
    args->override_value[args->n_overrides++] = value;
    return 0;
}

static int read_override(ft_args *args, char *text, ft_error *error)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text) return ft_fail(error, "--set: '%s' is not KEY=VALUE", text);
    *equals = '\0';
    return add_override(args, text, equals + 1, error);
}

/* The bundled task's files, relative to the top of the source tree. */
static int set_demo(ft_args *args, const char *task, ft_error *error)
{
    static const char *const place[] = {"examples/data/%s/train.jsonl", "examples/data/%s/dev.jsonl",
                                        "examples/data/%s/test.jsonl", "examples/finetune/%s.yaml"};
    const char **target[] = {&args->train, &args->dev, &args->test, &args->config};
    if (strcmp(task, "austen") != 0 && strcmp(task, "gloss") != 0)
        return ft_fail(error, "--demo: no task '%s' (austen and gloss are bundled)", task);
    for (int i = 0; i < 4; i++) {
        snprintf(args->storage[i], sizeof args->storage[i], place[i], task);
        if (!*target[i]) *target[i] = args->storage[i];
    }
    if (!args->model) args->model = "examples/models/gloss-llama";
    args->mode = FT_MODE_DEMO;
    return 0;
}

static const char **text_option(ft_args *args, int option)
{
    switch (option) {
    case OPT_MODEL:
        return &args->model;
    case OPT_TRAIN:
        return &args->train;
    case OPT_DEV:
        return &args->dev;
    case OPT_TEST:
        return &args->test;
    case OPT_CONFIG:
        return &args->config;
    case OPT_OUT:
        return &args->out;
    case OPT_ADAPTER:
        return &args->adapter;
    case OPT_REPORT:
        return &args->report_command;
    case OPT_GENERATE:
        return &args->prompt;
    default:
        return NULL;
    }
}

static int read_option(ft_args *args, int option, char *value, const char **demo, ft_error *error)
{
    const char **text = text_option(args, option);
    if (text) {
        *text = value;
        return 0;
    }
    switch (option) {
    case OPT_SET:
        return read_override(args, value, error);
    case OPT_SEED:
        return add_override(args, "seed", value, error);
    case OPT_THREADS:
        return read_number("threads", value, 1024, &args->threads, error);
    case OPT_SEQ_LEN:
        return read_number("seq-len", value, 1 << 20, &args->seq_len, error);
    case OPT_MAX_TOKENS:
        return read_number("max-tokens", value, 1 << 20, &args->max_tokens, error);
    case OPT_CHECKPOINT_EVERY:
        return read_number("checkpoint-every", value, INT32_MAX, &args->checkpoint_every, error);
    case OPT_RESUME:
        args->resume = 1;
        return 0;
    case OPT_DRY_RUN:
        args->mode = FT_MODE_DRY_RUN;
        return 0;
    case OPT_LIST:
        args->mode = FT_MODE_LIST;
        return 0;
    case OPT_DEMO:
        *demo = value;
        return 0;
    default:
        args->mode = FT_MODE_HELP;
        return 0;
    }
}

static int missing(const char *name, const char *what, ft_error *error)
{
    return ft_fail(error, "%s needs --%s (see --help)", what, name);
}

/* Without --dry-run or --demo, what was given says what to do. */
static int decide_mode(ft_args *args, const char *demo, ft_error *error)
{
    if (args->mode == FT_MODE_HELP || args->mode == FT_MODE_LIST) return 0;
    if (demo && set_demo(args, demo, error)) return -1;
    if (args->mode == FT_MODE_TRAIN && args->prompt) args->mode = FT_MODE_GENERATE;
    if (args->mode == FT_MODE_TRAIN && !args->train && (args->dev || args->test))
        args->mode = FT_MODE_EVALUATE;
    if (args->mode != FT_MODE_TRAIN && (args->resume || args->checkpoint_every))
        return ft_fail(error, "--checkpoint-every and --resume are for training");
    int reads_config = args->mode != FT_MODE_EVALUATE && args->mode != FT_MODE_GENERATE;
    if (!args->model) return missing("model", "finetune", error);
    if (!reads_config) return 0;
    if (!args->train) return missing("train", "training", error);
    if (!args->dev) return missing("dev", "training", error);
    if (!args->config) return missing("config", "training", error);
    if (!args->out && args->mode != FT_MODE_DRY_RUN) return missing("out", "training", error);
    if (args->adapter)
        return ft_fail(error, "--adapter is for evaluation and generation; training starts anew");
    return 0;
}

int ft_args_parse(int argc, char **argv, ft_args *args, ft_error *error)
{
    const char *demo = NULL;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    *args = (ft_args){.threads = processors > 0 ? processors : 1, .seq_len = 64, .max_tokens = 64};
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == '?')
            return ft_fail(error, "'%s' is no option, or lacks its value (see --help)", argv[optind - 1]);
        if (read_option(args, option, optarg, &demo, error)) return -1;
    }
    if (optind < argc) return ft_fail(error, "unexpected argument '%s' (see --help)", argv[optind]);
    return decide_mode(args, demo, error);
}
