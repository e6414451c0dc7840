/* SPDX-License-Identifier: MIT */
/*
 * The lorank command. Exit status: 0 done, 1 failed (a line on standard error says why), 2 called wrongly.
 */
#include <stdio.h>
#include <string.h>

#include "lorank/lorank.h"
#include "page.h"
#include "replay_command.h"

static const char help[] =
    "usage: lorank report TRACE.jsonl [-o OUT.html]\n"
    "       lorank replay TRACE.jsonl [--policy NAME] [--n N] [--set KEY=VALUE]... [--json]\n"
    "       lorank --version | --help\n"
    "\n"
    "report   draws a run's trace (docs/trace.md) as one self-contained HTML page. OUT is TRACE with\n"
    "         .html for its last suffix unless -o names it; \"-\" is standard output.\n"
    "replay   what another policy would have done in each round of a run: `lorank replay --help`.\n";

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("lorank %s (ABI %d)\n", lrk_version_text(), (int)lrk_abi_version());
        return 0;
    }
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(help, stdout);
        return 0;
    }
    if (argc >= 2 && strcmp(argv[1], "report") == 0) return report_command(argc - 2, argv + 2);
    if (argc >= 2 && strcmp(argv[1], "replay") == 0) return replay_command(argc - 2, argv + 2);
    if (argc >= 2) fprintf(stderr, "lorank: unknown command '%s'\n", argv[1]);
    fputs(help, stderr);
    return 2;
}
