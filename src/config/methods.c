/* SPDX-License-Identifier: MIT */
/*
 * Estimators, policies and starts as a text sees them, from the tables of the layers: words, summaries, options. Knows none
 * of them by name: what one is and asks for is said in its own file.
 */
#include <string.h>

#include "config.h"

/* ---- tables ------------------------------------------------------------------------------------------------------------ */

#define WORD(name) {#name, LRKI_CHOSEN_##name},
const lrki_word lrki_estimator_words[] = {LRKI_CHOSEN_ESTIMATORS(WORD){NULL, 0}};
#undef WORD
#define WORD(name) {#name, LRKI_POLICY_##name},
const lrki_word lrki_policy_words[] = {LRKI_POLICIES(WORD){NULL, 0}};
#undef WORD
#define WORD(name) {#name, LRKI_START_##name},
const lrki_word lrki_start_words[] = {LRKI_STARTS(WORD){NULL, 0}};
#undef WORD

#define ENTRY(name) &lrki_estimator_##name,
static const lrki_estimator_type *const estimators[] = {LRKI_CHOSEN_ESTIMATORS(ENTRY)};
#undef ENTRY
#define ENTRY(name) &lrki_policy_##name,
static const lrki_policy *const policies[] = {LRKI_POLICIES(ENTRY)};
#undef ENTRY
#define ENTRY(name) &lrki_start_##name,
static const lrki_start_kind *const starts[] = {LRKI_STARTS(ENTRY)};
#undef ENTRY

const lrki_method *lrki_method_at(int i)
{
    if (i < LRKI_N_CHOSEN_ESTIMATORS) return &estimators[i]->method;
    i -= LRKI_N_CHOSEN_ESTIMATORS;
    return i < LRKI_N_POLICIES ? &policies[i]->method : &starts[i - LRKI_N_POLICIES]->method;
}

const lrki_estimator_type *lrki_estimator_chosen(const lrki_settings *settings)
{
    return estimators[settings->estimator];
}

const lrki_policy *lrki_policy_chosen(const lrki_settings *settings)
{
    return policies[settings->policy];
}

const lrki_start_kind *lrki_start_chosen(const lrki_settings *settings)
{
    return starts[settings->start];
}

const char *lrk_config_summary(const char *key, int64_t i)
{
    static const struct {
        const char *key;
        int first;
        int n;
    } lists[] = {{"importance.estimator", 0, LRKI_N_CHOSEN_ESTIMATORS},
                 {"allocation.policy", LRKI_N_CHOSEN_ESTIMATORS, LRKI_N_POLICIES},
                 {"start.kind", LRKI_N_CHOSEN_ESTIMATORS + LRKI_N_POLICIES, LRKI_N_STARTS}};
    for (size_t l = 0; key != NULL && l < sizeof lists / sizeof *lists; l++) {
        if (strcmp(lists[l].key, key) == 0 && i >= 0 && i < lists[l].n)
            return lrki_method_at(lists[l].first + (int)i)->summary;
    }
    return NULL;
}

/* ---- options ----------------------------------------------------------------------------------------------------------- */

const void *lrki_method_options_of(const lrki_settings *settings, const lrki_method *method)
{
    const lrki_method *owner = method->like != NULL ? method->like : method;
    int i = 0;
    while (lrki_method_at(i) != owner)
        i++;
    return settings->methods[i].bytes;
}

void lrki_methods_default(lrki_settings *settings)
{
    for (int i = 0; i < LRKI_N_METHODS; i++) {
        const lrki_method *method = lrki_method_at(i);
        if (method->init != NULL) method->init(settings->methods[i].bytes);
    }
}

lrki_policy_terms lrki_config_policy_terms(const lrki_settings *s, const lrk_limit *limits, int64_t n_limits)
{
    const lrki_start_kind *start = lrki_start_chosen(s);
    return (lrki_policy_terms){
        .n_move = s->n_move,
        .budget = s->budget,
        .budget_unit = s->budget_unit,
        .new_rank_init = s->new_rank_init,
        .has_init = lrki_key_given(s, "allocation", "new_rank_init"),
        .trains_gates = (s->adamw.flags & LRK_ADAMW_GATES) != 0,
        .protect_rounds = s->protect_rounds,
        .n_rounds = s->schedule.rounds,
        .multiple = start->multiple != NULL ? start->multiple(lrki_method_options_of(s, &start->method)) : 1,
        .limits = limits,
        .n_limits = n_limits};
}

void lrki_config_start_terms(const lrki_settings *s, const lrk_limit *limits, int64_t n_limits,
                             lrki_start_terms *terms)
{
    terms->budget = s->budget;
    terms->budget_unit = s->budget_unit;
    terms->limits = limits;
    terms->n_limits = n_limits;
    terms->seed = s->seed;
    terms->batches = s->batches;
}

/* ---- checks of a text -------------------------------------------------------------------------------------------------- */

static lrk_status check_estimators(const lrk_config *config)
{
    const lrki_settings *s = &config->settings;
    lrk_status status = LRK_OK;
    for (int i = 0; i < LRKI_N_CHOSEN_ESTIMATORS && status == LRK_OK; i++) {
        const lrki_estimator_type *e = estimators[i];
        if (e->check != NULL) status = e->check(config->context, lrki_method_options_of(s, &e->method));
    }
    return lrki_config_locate(config, "importance", status, LRK_ERR_CONFIG);
}

static lrk_status check_policies(const lrk_config *config)
{
    const lrki_settings *s = &config->settings;
    const lrki_policy_terms terms = lrki_config_policy_terms(s, NULL, 0);
    lrk_status status = LRK_OK;
    for (int i = 0; i < LRKI_N_POLICIES && status == LRK_OK; i++) {
        const lrki_policy *p = policies[i];
        if (p->check != NULL)
            status = p->check(config->context, &terms, lrki_method_options_of(s, &p->method));
    }
    return lrki_config_locate(config, "allocation", status, LRK_ERR_CONFIG);
}

static lrk_status check_starts(const lrk_config *config)
{
    const lrki_settings *s = &config->settings;
    lrki_start_terms terms = {0};
    lrki_config_start_terms(s, NULL, 0, &terms);
    lrk_status status = LRK_OK;
    for (int i = 0; i < LRKI_N_STARTS && status == LRK_OK; i++) {
        const lrki_start_kind *kind = starts[i];
        if (kind->check != NULL)
            status = kind->check(config->context, &terms, lrki_method_options_of(s, &kind->method));
    }
    return lrki_config_locate(config, "start", status, LRK_ERR_CONFIG);
}

lrk_status lrki_methods_check(const lrk_config *config)
{
    lrk_status status = check_estimators(config);
    if (status == LRK_OK)
        status = check_policies(config); /* before starts, which have the budget from them */
    return status == LRK_OK ? check_starts(config) : status;
}
