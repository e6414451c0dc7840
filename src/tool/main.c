/* SPDX-License-Identifier: MIT */
/* The lorank command: one table of commands. */
#include <string.h>

#include "command.h"

static const struct {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"inspect", "modules, ranks, norms and sizes of an adapter, a checkpoint or a model", inspect_command},
    {"convert", "an adapter into another format or element type", convert_command},
    {"merge", "an adapter into its base model, streamed", merge_command},
    {"diff", "how far two adapters are from each other, module by module", diff_command},
    {"resize", "an adapter to other ranks by singular value decomposition", resize_command},
    {"replay", "what another policy would have done in each round of a recorded run", replay_command},
    {"report", "a run's trace as one self-contained HTML page", report_command},
};

#define N_COMMANDS (sizeof commands / sizeof commands[0])

static int print_help(FILE *out, int status)
{
    fputs("usage: lorank COMMAND ...\n       lorank --version | --help\n\n", out);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-9s%s\n", commands[i].name, commands[i].summary);
    fputs("\n`lorank COMMAND --help` tells the rest.\n", out);
    return status;
}

static int run(int argc, char **argv)
{
    if (argc < 2) return print_help(stderr, 2);
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("lorank %s (ABI %d)\n", lrk_version_text(), (int)lrk_abi_version());
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return print_help(stdout, 0);
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 2, argv + 2);
    fprintf(stderr, "lorank: unknown command '%s' (lorank --help)\n", argv[1]);
    return 2;
}

/* What was printed may still be in a buffer: a full disk is told by the last write. */
int main(int argc, char **argv)
{
    int status = run(argc, argv);
    bool is_whole = !ferror(stdout);
    if ((fflush(stdout) == 0 && is_whole) || status != 0) return status;
    fputs("lorank: cannot write to standard output\n", stderr);
    return 1;
}
