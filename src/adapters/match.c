/* SPDX-License-Identifier: MIT */
/*
 * Sets from patterns: the host lists its modules once, globs say which of them get an adapter and of what rank. The
 * first pattern that matches decides; a pattern that decides nothing is a mistake and refused by name.
 */
#include <fnmatch.h>

#include "spec.h"

typedef struct rule {
    lrk_module_pattern pattern;
    int64_t matched; /* modules that it matches                       */
    int64_t decided; /* modules of them that no earlier pattern took  */
} rule;

static const lrk_module_pattern pattern_defaults = {.struct_size = sizeof(lrk_module_pattern), .scale = 1.0};

lrk_status lrk_module_pattern_init(lrk_module_pattern *pattern, size_t struct_size)
{
    return lrki_struct_init(pattern, struct_size, &pattern_defaults, sizeof pattern_defaults);
}

lrk_status lrki_pattern_check(lrk_context *context, const lrk_module_pattern *p, int64_t i)
{
    if (p->pattern == NULL || p->pattern[0] == '\0')
        return lrki_fail(context, LRK_ERR_ARGUMENT, "pattern %lld is NULL or empty", (long long)i);
    if ((p->flags & ~LRK_MODULE_MAY_LACK_GRADIENT) != 0 || p->reserved != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "pattern '%s': unknown flag or reserved member set",
                         p->pattern);
    if (p->rank < 0)
        return lrki_fail(context, LRK_ERR_SHAPE, "pattern '%s': rank %lld is negative", p->pattern,
                         (long long)p->rank);
    double scale;
    const char *problem = lrki_scale_resolve(p->scale_rule, p->scale, p->scale_rank, p->rank, &scale);
    if (problem == NULL) return LRK_OK;
    return lrki_fail(context, LRK_ERR_ARGUMENT, "pattern '%s': %s", p->pattern, problem);
}

static lrk_status read_rules(lrk_context *context, const lrk_module_pattern *patterns, int64_t n, rule *rules)
{
    for (int64_t i = 0; i < n; i++) {
        lrk_module_pattern *p = &rules[i].pattern;
        *p = pattern_defaults;
        lrk_status status = lrki_element_read(context, p, sizeof *p, patterns, i, "lrk_module_pattern");
        if (status == LRK_OK) status = lrki_pattern_check(context, p, i);
        if (status != LRK_OK) return status;
    }
    return LRK_OK;
}

/* The rule that decides the module, NULL if none matches. All matches are counted. */
static const rule *decide(rule *rules, int64_t n, const char *name)
{
    rule *first = NULL;
    for (int64_t i = 0; i < n; i++) {
        if (fnmatch(rules[i].pattern.pattern, name, 0) != 0) continue;
        rules[i].matched++;
        if (first == NULL) first = &rules[i];
    }
    if (first != NULL) first->decided++;
    return first;
}

static void apply(const lrk_module_pattern *pattern, lrk_module_spec *spec)
{
    spec->flags |= pattern->flags;
    spec->rank = pattern->rank;
    spec->scale_rule = pattern->scale_rule;
    spec->scale = pattern->scale;
    spec->scale_rank = pattern->scale_rank;
}

/* Fills specs with the modules that a rule decides. */
static lrk_status choose(lrk_context *context, const lrk_module_spec *modules, int64_t n_modules, rule *rules,
                         int64_t n_rules, lrk_module_spec *specs, int64_t *n_specs)
{
    *n_specs = 0;
    for (int64_t i = 0; i < n_modules; i++) {
        lrk_module_spec *spec = &specs[*n_specs];
        lrk_status status = lrki_spec_read(context, modules, i, spec);
        if (status != LRK_OK) return status;
        const rule *by = decide(rules, n_rules, spec->name);
        if (by == NULL) continue;
        apply(&by->pattern, spec);
        (*n_specs)++;
    }
    return LRK_OK;
}

static lrk_status check_decided(lrk_context *context, const rule *rules, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (rules[i].decided > 0) continue;
        const char *pattern = rules[i].pattern.pattern;
        if (rules[i].matched == 0)
            return lrki_fail(context, LRK_ERR_NOT_FOUND, "pattern '%s' matches no module", pattern);
        return lrki_fail(context, LRK_ERR_NOT_FOUND,
                         "pattern '%s' decides no module: earlier patterns took all %lld that it matches",
                         pattern, (long long)rules[i].matched);
    }
    return LRK_OK;
}

lrk_status lrki_specs_match(lrk_context *context, const lrk_module_spec *modules, int64_t n_modules,
                            const lrk_module_pattern *patterns, int64_t n_patterns, lrk_module_spec *specs,
                            int64_t *n_specs)
{
    rule *rules = lrki_array(context, n_patterns, sizeof *rules);
    if (rules == NULL) return lrki_fail_nomem(context, "the patterns of an adapter set");
    lrk_status status = read_rules(context, patterns, n_patterns, rules);
    if (status == LRK_OK) status = choose(context, modules, n_modules, rules, n_patterns, specs, n_specs);
    if (status == LRK_OK) status = check_decided(context, rules, n_patterns);
    lrki_array_free(context, rules, n_patterns, sizeof *rules);
    return status;
}

lrk_status lrk_adapters_create_matching(lrk_context *context, const lrk_module_spec *modules,
                                        int64_t n_modules, const lrk_module_pattern *patterns,
                                        int64_t n_patterns, const lrk_adapters_options *options,
                                        lrk_adapters **adapters)
{
    if (adapters != NULL) *adapters = NULL;
    if (context == NULL) return LRK_ERR_ARGUMENT;
    if (adapters == NULL || modules == NULL || n_modules < 1 || patterns == NULL || n_patterns < 1)
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "lrk_adapters_create_matching: NULL, no modules or no patterns");
    lrk_module_spec *specs = lrki_array(context, n_modules, sizeof *specs);
    if (specs == NULL) return lrki_fail_nomem(context, "the patterns of an adapter set");
    int64_t n_specs;
    lrk_status status = lrki_specs_match(context, modules, n_modules, patterns, n_patterns, specs, &n_specs);
    if (status == LRK_OK) status = lrk_adapters_create(context, specs, n_specs, options, adapters);
    lrki_array_free(context, specs, n_modules, sizeof *specs);
    return status;
}
