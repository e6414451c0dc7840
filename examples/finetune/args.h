/* SPDX-License-Identifier: MIT */
/* The command line. */
#ifndef FT_ARGS_H
#define FT_ARGS_H

#include <stdint.h>

#include "failure.h"

#define FT_MODE_TRAIN    0
#define FT_MODE_DRY_RUN  1
#define FT_MODE_EVALUATE 2 /* no --train: the loss of --dev and --test */
#define FT_MODE_GENERATE 3
#define FT_MODE_DEMO     4
#define FT_MODE_HELP     5
#define FT_MODE_LIST     6 /* what a configuration can choose from */

enum { FT_MAX_OVERRIDES = 32 };

typedef struct ft_args {
    int mode; /* FT_MODE_... */
    const char *model, *train, *dev, *test, *config, *out, *adapter;
    const char *prompt; /* --generate */
    const char *report_command;
    const char *override_key[FT_MAX_OVERRIDES]; /* --set KEY=VALUE, --seed S */
    const char *override_value[FT_MAX_OVERRIDES];
    int n_overrides;
    int64_t threads;
    int64_t seq_len;          /* without --config */
    int64_t max_tokens;       /* of --generate */
    int64_t checkpoint_every; /* steps, and questions of a scoring run; 0: never */
    int resume;               /* go on from the checkpoint in out, if there is one */
    char storage[4][64];      /* paths of the bundled task */
} ft_args;

extern const char ft_usage[];

/* Fills args, which keeps pointers into argv. argv is changed: --set is cut at its '='. */
int ft_args_parse(int argc, char **argv, ft_args *args, ft_error *error);

#endif
