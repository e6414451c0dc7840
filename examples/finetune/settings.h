/* SPDX-License-Identifier: MIT */
/* The trainer's own keys, section host of the YAML file. What lorank decides stays in the lrk_config. */
#ifndef FT_SETTINGS_H
#define FT_SETTINGS_H

#include <stdint.h>

#include "args.h"
#include "failure.h"

struct lrk_config;
struct lrk_context;

typedef struct ft_settings {
    double epochs;
    int64_t batch;           /* rows a step                                             */
    int64_t seq_len;         /* most inputs of a row, length of a window                */
    int64_t validation_rows; /* rows of dev that scores are measured on                 */
    int redraw_validation;   /* other rows every round                                  */
    int64_t evaluate_every;  /* steps between looks at dev; 0: at the end of each epoch */
    int64_t patience;        /* looks without improvement that end training; 0: never   */
    int64_t cache_bytes;     /* most that the stage cache may take                      */
    int recompute;           /* keep block inputs only, run blocks again in backward    */
} ft_settings;

/* What holds where there is no configuration: evaluation and generation. */
void ft_settings_defaults(const ft_args *args, ft_settings *settings);

/* Load args->config, apply the overrides of the command line, read section host. */
int ft_settings_load(struct lrk_context *context, const ft_args *args, struct lrk_config **config,
                     ft_settings *settings, ft_error *error);

#endif
