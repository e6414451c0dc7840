/* SPDX-License-Identifier: MIT */
/*
 * Keys: what a text may say and where each value goes; those of methods are in the methods' own files (core/method.h). Names
 * equal the members of the C option structs, so that the checks of the layers, which name members, can be traced to lines.
 * docs/configuration.md describes each.
 */
#include "config.h"

#include <math.h>
#include <string.h>

static const lrki_word init_words[] = {
    {"kaiming_uniform", LRK_INIT_KAIMING_UNIFORM}, {"gaussian", LRK_INIT_GAUSSIAN}, {"zero", LRK_INIT_ZERO},
    {"orthogonal", LRK_INIT_ORTHOGONAL},           {"triplet", LRK_INIT_TRIPLET},   {NULL, 0}};
static const lrki_word new_init_words[] = {{"kaiming_uniform", LRK_INIT_KAIMING_UNIFORM},
                                           {"gaussian", LRK_INIT_GAUSSIAN},
                                           {"orthogonal", LRK_INIT_ORTHOGONAL},
                                           {NULL, 0}};
static const lrki_word unit_words[] = {
    {"ranks", LRK_BUDGET_RANKS}, {"parameters", LRK_BUDGET_PARAMETERS}, {NULL, 0}};
static const lrki_word nested_words[] = {{"none", LRK_NESTED_NONE},
                                         {"cumulative", LRK_NESTED_CUMULATIVE},
                                         {"frozen", LRK_NESTED_FROZEN},
                                         {NULL, 0}};
static const lrki_word uniform_words[] = {{"none", LRKI_NO_UNIFORM}, {NULL, 0}};
static const lrki_word samples_words[] = {{"auto", 0}, {NULL, 0}};
static const lrki_word budget_words[] = {{"initial", LRK_BUDGET_INITIAL}, {NULL, 0}};
static const lrki_word norm_words[] = {{"none", INFINITY}, {NULL, 0}};
static const lrki_word steps_words[] = {
    {"per_rank", LRK_STEPS_PER_RANK}, {"global", LRK_STEPS_GLOBAL}, {NULL, 0}};
static const lrki_word gates_words[] = {
    {"one", LRK_GATES_ONE}, {"gaussian", LRK_GATES_GAUSSIAN}, {"zero", LRK_GATES_ZERO}, {NULL, 0}};
static const lrki_word gate_rule_words[] = {{"soft", LRK_GATE_SOFT}, {"twice", LRK_GATE_TWICE}, {NULL, 0}};
static const lrki_word lr_words[] = {
    {"constant", LRK_LR_CONSTANT}, {"linear", LRK_LR_LINEAR}, {"cosine", LRK_LR_COSINE}, {NULL, 0}};
static const lrki_word time_words[] = {{"steps", LRK_UNIT_STEPS}, {"epochs", LRK_UNIT_EPOCHS}, {NULL, 0}};
static const lrki_word alpha_words[] = {
    {"linear", LRK_SCALE_ALPHA}, {"sqrt", LRK_SCALE_ALPHA_SQRT}, {NULL, 0}};
static const lrki_word cap_words[] = {{"none", LRK_NO_CAP}, {NULL, 0}};

const char *const lrki_config_sections[LRKI_N_SECTIONS] = {
    "adapters", "start", "importance", "allocation", "optimizer", "learning_rate", "schedule", "host"};

#define KEY(...)    LRKI_KEY(OWNER, __VA_ARGS__)
#define WORDS(list) .words = list

#define OWNER lrki_settings
const lrki_key lrki_general_keys[] = {
    KEY("", "seed", UNSIGNED, seed, ),
    KEY("adapters", "dropout", REAL, adapters.dropout, ),
    KEY("adapters", "init", CHOICE, adapters.init, WORDS(init_words)),
    KEY("adapters", "gates", CHOICE, adapters.gates, WORDS(gates_words)),
    KEY("adapters", "nested", CHOICE, nested, WORDS(nested_words)),
    KEY("adapters", "uniform", INTEGER, uniform, WORDS(uniform_words)),
    KEY("adapters", "uniform_unit", CHOICE, uniform_unit, WORDS(unit_words)),
    KEY("start", "kind", CHOICE, start, WORDS(lrki_start_words)),
    KEY("start", "batches", INTEGER, batches, ),
    KEY("start", "warmup", INTEGER, warmup, ),
    KEY("start", "directions", INTEGER, sketch.directions, ),
    KEY("start", "samples", INTEGER, sketch.samples, WORDS(samples_words)),
    KEY("start", "rho", REAL, pca.rho, ),
    KEY("start", "tau", REAL, pca.tau, ),
    KEY("start", "batch_rows", INTEGER, pca.batch_rows, ),
    KEY("importance", "estimator", CHOICE, estimator, WORDS(lrki_estimator_words)),
    KEY("importance", "reversed", FLAG, reversed, .bit = 1),
    KEY("allocation", "policy", CHOICE, policy, WORDS(lrki_policy_words)),
    KEY("allocation", "n_move", INTEGER, n_move, .rival = "move_share"),
    KEY("allocation", "budget", INTEGER, budget, WORDS(budget_words)),
    KEY("allocation", "budget_unit", CHOICE, budget_unit, WORDS(unit_words)),
    KEY("allocation", "new_rank_init", CHOICE, new_rank_init, WORDS(new_init_words)),
    KEY("allocation", "protect_rounds", INTEGER4, protect_rounds, ),
    KEY("optimizer", "beta1", REAL, adamw.beta1, ),
    KEY("optimizer", "beta2", REAL, adamw.beta2, ),
    KEY("optimizer", "epsilon", REAL, adamw.epsilon, ),
    KEY("optimizer", "weight_decay", REAL, adamw.weight_decay, ),
    KEY("optimizer", "b_ratio", REAL, adamw.b_ratio, ),
    KEY("optimizer", "max_norm", REAL, adamw.max_norm, WORDS(norm_words)),
    KEY("optimizer", "steps", CHOICE, adamw.steps, WORDS(steps_words)),
    KEY("optimizer", "train_gates", FLAG, adamw.flags, .bit = LRK_ADAMW_GATES),
    KEY("optimizer", "gate_rule", CHOICE, adamw.gate_rule, WORDS(gate_rule_words)),
    KEY("optimizer", "gate_ratio", REAL, adamw.gate_ratio, ),
    KEY("optimizer", "gate_l1", REAL, adamw.gate_l1, ),
    KEY("optimizer", "gate_threshold", REAL, adamw.gate_threshold, ),
    KEY("optimizer", "gate_scaled", FLAG, adamw.flags, .bit = LRK_ADAMW_GATE_SCALED),
    KEY("optimizer", "gate_dense_steps", INTEGER, adamw.gate_dense_steps, ),
    KEY("optimizer", "gate_rise_steps", INTEGER, adamw.gate_rise_steps, ),
    KEY("optimizer", "gate_stairs", INTEGER, adamw.gate_stairs, ),
    KEY("optimizer", "orthogonality", REAL, adamw.orthogonality, ),
    KEY("optimizer", "orthogonality_squared", FLAG, adamw.flags, .bit = LRK_ADAMW_ORTHOGONALITY_SQUARED),
    KEY("learning_rate", "kind", CHOICE, lr.kind, WORDS(lr_words)),
    KEY("learning_rate", "peak", REAL, lr.peak, ),
    KEY("learning_rate", "final_ratio", REAL, lr.final_ratio, ),
    KEY("learning_rate", "warmup_steps", INTEGER, lr.warmup_steps, .rival = "warmup_share"),
    KEY("learning_rate", "warmup_share", REAL, warmup_share, .rival = "warmup_steps"),
    KEY("schedule", "unit", CHOICE, schedule.unit, WORDS(time_words)),
    KEY("schedule", "rounds", INTEGER4, schedule.rounds, ),
    KEY("schedule", "warmup", REAL, schedule.warmup, ),
    KEY("schedule", "recovery", REAL, schedule.recovery, ),
    {.name = NULL}};
#undef OWNER

#define OWNER lrki_pattern_entry
const lrki_key lrki_pattern_keys[] = {
    KEY("adapters.modules", "rank", INTEGER, pattern.rank, ),
    KEY("adapters.modules", "scale", REAL, pattern.scale, ),
    KEY("adapters.modules", "alpha", REAL, pattern.scale, ),
    KEY("adapters.modules", "alpha_rule", CHOICE, pattern.scale_rule, WORDS(alpha_words)),
    KEY("adapters.modules", "scale_rank", INTEGER, pattern.scale_rank, ),
    KEY("adapters.modules", "may_lack_gradient", FLAG, pattern.flags, .bit = LRK_MODULE_MAY_LACK_GRADIENT),
    {.name = NULL}};
#undef OWNER

#define OWNER lrki_limit_entry
const lrki_key lrki_limit_keys[] = {KEY("allocation.limits", "floor", INTEGER, limit.floor, ),
                                    KEY("allocation.limits", "cap", INTEGER, limit.cap, WORDS(cap_words)),
                                    {.name = NULL}};
#undef OWNER

const lrki_key *lrki_key_find(const lrki_key *keys, const char *section, const char *name)
{
    for (; keys->name != NULL; keys++) {
        if (strcmp(keys->section, section) == 0 && strcmp(keys->name, name) == 0) return keys;
    }
    return NULL;
}

/* ---- settings: the general keys, then those of every method ---------------------------------------------------------- */

static int count(const lrki_key *keys)
{
    int n = 0;
    while (keys != NULL && keys[n].name != NULL)
        n++;
    return n;
}

bool lrki_setting_at(int i, lrki_setting *setting)
{
    const lrki_key *keys = lrki_general_keys;
    int first = 0;
    setting->base = 0;
    for (int m = 0; i - first >= count(keys); m++) {
        if (m == LRKI_N_METHODS) return false;
        first += count(keys);
        keys = lrki_method_at(m)->keys;
        setting->base = offsetof(lrki_settings, methods) + (size_t)m * sizeof(lrki_method_options);
    }
    setting->key = keys + (i - first);
    setting->index = i;
    return i < LRKI_MAX_KEYS;
}

bool lrki_setting_find(const char *section, const char *name, lrki_setting *setting)
{
    for (int i = 0; lrki_setting_at(i, setting); i++) {
        if (strcmp(setting->key->section, section) == 0 && strcmp(setting->key->name, name) == 0) return true;
    }
    return false;
}

bool lrki_key_given(const lrki_settings *settings, const char *section, const char *name)
{
    lrki_setting setting;
    if (!lrki_setting_find(section, name, &setting)) return false;
    lrki_mark mark = settings->marks[setting.index];
    return mark.line > 0 || mark.column > 0;
}

int lrki_section_find(const char *name)
{
    for (int i = 0; i < LRKI_N_SECTIONS; i++) {
        if (strcmp(lrki_config_sections[i], name) == 0) return i;
    }
    return -1;
}

/* ---- for those who ask ------------------------------------------------------------------------------------------------ */

/* The words of "section.name"; NULL: no such key, or it has none. */
static const lrki_word *words_of(const char *key)
{
    lrki_setting s;
    for (int i = 0; key != NULL && lrki_setting_at(i, &s); i++) {
        size_t n = strlen(s.key->section), after = n > 0 ? n + 1 : 0;
        bool in = strncmp(key, s.key->section, n) == 0 && (n == 0 || key[n] == '.');
        if (in && strcmp(key + after, s.key->name) == 0) return s.key->words;
    }
    return NULL;
}

const char *lrk_config_word(const char *key, int64_t i)
{
    const lrki_word *word = i >= 0 ? words_of(key) : NULL;
    while (word != NULL && word->word != NULL && i-- > 0)
        word++;
    return word != NULL ? word->word : NULL;
}
