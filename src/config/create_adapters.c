/* SPDX-License-Identifier: MIT */
/* Section adapters into a set: patterns give specs, which a rank list or a uniform budget may change. */
#include "../adapters/spec.h"
#include "config.h"
#include "lorank/rank_list.h"

static lrk_status match_specs(const lrk_config *config, const lrk_module_spec *modules, int64_t n_modules,
                              lrk_module_spec *specs, int64_t *n_specs)
{
    int64_t n = config->n_patterns;
    lrk_module_pattern *patterns = lrki_array(config->context, n, sizeof *patterns);
    if (patterns == NULL) return lrki_fail_nomem(config->context, "the patterns");
    for (int64_t i = 0; i < n; i++)
        patterns[i] = config->patterns[i].pattern;
    lrk_status status = lrki_specs_match(config->context, modules, n_modules, patterns, n, specs, n_specs);
    lrki_array_free(config->context, patterns, n, sizeof *patterns);
    return status;
}

static lrk_status apply_rank_list(const lrk_config *config, lrk_module_spec *specs, int64_t n_specs)
{
    lrk_rank_list *list = NULL;
    if (config->ranks_from == NULL) return LRK_OK;
    if (config->settings.uniform != LRKI_NO_UNIFORM)
        return lrki_config_fail(config, config->ranks_from_mark, "ranks_from and uniform exclude each other");
    lrk_status status = lrk_rank_list_load(config->context, config->ranks_from, &list);
    if (status == LRK_OK) status = lrk_rank_list_apply(list, specs, n_specs);
    lrk_rank_list_destroy(list);
    return lrki_config_locate_at(config, config->ranks_from_mark, status);
}

static lrk_status apply_uniform(const lrk_config *config, lrk_module_spec *specs, int64_t n_specs)
{
    const lrki_settings *s = &config->settings;
    if (s->uniform == LRKI_NO_UNIFORM) return LRK_OK;
    return lrki_config_made(
        config, "adapters",
        lrk_specs_uniform(config->context, specs, n_specs, s->uniform, s->uniform_unit, s->seed));
}

static lrk_status create_adapters(const lrk_config *config, lrk_module_spec *specs, int64_t n_specs,
                                  lrk_adapters **adapters)
{
    lrk_adapters_options options = config->settings.adapters;
    options.seed = config->settings.seed;
    lrk_status status = apply_rank_list(config, specs, n_specs);
    if (status == LRK_OK) status = apply_uniform(config, specs, n_specs);
    if (status != LRK_OK) return status;
    status = lrk_adapters_create(config->context, specs, n_specs, &options, adapters);
    return lrki_config_made(config, "adapters", status);
}

/* A pattern that decides nothing is pointed to. */
static lrk_status locate_pattern(const lrk_config *config, lrk_status status)
{
    for (int64_t i = 0; i < config->n_patterns && status != LRK_OK; i++) {
        const lrki_entry *entry = &config->patterns[i].entry;
        if (lrki_entry_named(config, entry))
            return lrki_entry_locate(config, entry, lrki_pattern_keys, status, status);
    }
    return lrki_config_made(config, "adapters", status);
}

lrk_status lrk_config_create_adapters(const lrk_config *config, const lrk_module_spec *modules,
                                      int64_t n_modules, lrk_adapters **adapters)
{
    if (adapters != NULL) *adapters = NULL;
    lrk_status status = lrki_config_check_call(config, modules, adapters);
    if (status != LRK_OK) return status;
    if (n_modules < 1) return lrki_fail(config->context, LRK_ERR_ARGUMENT, "there are no modules to adapt");
    if (config->n_patterns == 0)
        return lrki_config_fail(config, config->settings.sections[lrki_section_find("adapters")],
                                "adapters.modules is missing");
    lrk_module_spec *specs = lrki_array(config->context, n_modules, sizeof *specs);
    if (specs == NULL) return lrki_fail_nomem(config->context, "the modules");
    int64_t n_specs = 0;
    status = locate_pattern(config, match_specs(config, modules, n_modules, specs, &n_specs));
    if (status == LRK_OK) status = create_adapters(config, specs, n_specs, adapters);
    lrki_array_free(config->context, specs, n_modules, sizeof *specs);
    return status;
}
