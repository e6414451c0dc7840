/* SPDX-License-Identifier: MIT */
/*
 * Declares the host's keys with their bounds and reads their values: one table, so that the file format,
 * the defaults and the bounds are said once.
 */
#include "settings.h"

enum { CACHE_MIB = 256 };

void ft_settings_defaults(const ft_args *args, ft_settings *settings)
{
    *settings = (ft_settings){.batch = 16, .seq_len = args->seq_len};
}

#ifdef LORANK
#include "glue.h"

static const lrk_config_key keys[] = {
#define KEY(type, name, least, greatest, value)                                                              \
    {                                                                                                        \
        sizeof(lrk_config_key), type, name, least, greatest, value, NULL                                     \
    }
    KEY(LRK_VALUE_REAL, "epochs", 0.001, 10000, 3),
    KEY(LRK_VALUE_INTEGER, "batch", 1, 65536, 16),
    KEY(LRK_VALUE_INTEGER, "seq_len", 2, 1 << 20, 64),
    KEY(LRK_VALUE_INTEGER, "validation_rows", 1, 4096, 16),
    KEY(LRK_VALUE_BOOLEAN, "redraw_validation", 0, 1, 0),
    KEY(LRK_VALUE_INTEGER, "evaluate_every", 0, 1e9, 0),
    KEY(LRK_VALUE_INTEGER, "patience", 0, 1e9, 0),
    KEY(LRK_VALUE_INTEGER, "cache_mib", 0, 1 << 20, CACHE_MIB),
    KEY(LRK_VALUE_BOOLEAN, "recompute", 0, 1, 0),
#undef KEY
};

static int read_values(const lrk_config *config, ft_settings *s)
{
    int32_t redraw = 0, recompute = 0;
    int64_t cache_mib = 0;
    int failed = lrk_config_real(config, "epochs", &s->epochs) ||
                 lrk_config_integer(config, "batch", &s->batch) ||
                 lrk_config_integer(config, "seq_len", &s->seq_len) ||
                 lrk_config_integer(config, "validation_rows", &s->validation_rows) ||
                 lrk_config_boolean(config, "redraw_validation", &redraw) ||
                 lrk_config_integer(config, "evaluate_every", &s->evaluate_every) ||
                 lrk_config_integer(config, "patience", &s->patience) ||
                 lrk_config_integer(config, "cache_mib", &cache_mib) ||
                 lrk_config_boolean(config, "recompute", &recompute);
    s->redraw_validation = redraw;
    s->recompute = recompute;
    s->cache_bytes = cache_mib << 20;
    return failed;
}

int ft_settings_load(lrk_context *context, const ft_args *args, lrk_config **config, ft_settings *settings,
                     ft_error *error)
{
    *settings = (ft_settings){0};
    if (lrk_config_load(context, args->config, keys, sizeof keys / sizeof *keys, config))
        return ft_fail_lorank(error, context, NULL);
    for (int i = 0; i < args->n_overrides; i++)
        if (lrk_config_override(*config, args->override_key[i], args->override_value[i]))
            return ft_fail_lorank(error, context, "command line");
    return read_values(*config, settings) ? ft_fail_lorank(error, context, args->config) : 0;
}
#endif
