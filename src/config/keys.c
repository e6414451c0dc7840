/* SPDX-License-Identifier: MIT */
/*
 * The table of keys: what a text may say and where each value goes. Names equal the members of the C option structs, so
 * that the checks of the layers, which name members, can be traced to lines. docs/configuration.md describes each.
 */
#include "config.h"

#include <math.h>
#include <string.h>

static const lrki_word init_words[] = {{"kaiming_uniform", LRK_INIT_KAIMING_UNIFORM},
                                       {"gaussian", LRK_INIT_GAUSSIAN},
                                       {"zero", LRK_INIT_ZERO},
                                       {NULL, 0}};
static const lrki_word new_init_words[] = {
    {"kaiming_uniform", LRK_INIT_KAIMING_UNIFORM}, {"gaussian", LRK_INIT_GAUSSIAN}, {NULL, 0}};
static const lrki_word estimator_words[] = {{"ablation", LRKI_ESTIMATOR_ABLATION},
                                            {"random", LRKI_ESTIMATOR_RANDOM},
                                            {"sensitivity", LRKI_ESTIMATOR_SENSITIVITY},
                                            {"taylor", LRKI_ESTIMATOR_TAYLOR},
                                            {"magnitude", LRKI_ESTIMATOR_MAGNITUDE},
                                            {"gate", LRKI_ESTIMATOR_GATE},
                                            {NULL, 0}};
static const lrki_word sensitivity_words[] = {
    {"triplet", LRK_SENSITIVITY_TRIPLET}, {"pair", LRK_SENSITIVITY_PAIR}, {NULL, 0}};
static const lrki_word taylor_words[] = {
    {"absolute", LRK_TAYLOR_ABSOLUTE}, {"signed", LRK_TAYLOR_SIGNED}, {NULL, 0}};
static const lrki_word mode_words[] = {{"exact", LRK_ABLATION_EXACT},
                                       {"screened", LRK_ABLATION_SCREENED},
                                       {"two_point", LRK_ABLATION_TWO_POINT},
                                       {NULL, 0}};
static const lrki_word pool_words[] = {{"auto", LRK_POOL_DEFAULT}, {NULL, 0}};
static const lrki_word unlimited_words[] = {{"unlimited", LRK_POOL_UNLIMITED}, {NULL, 0}};
static const lrki_word policy_words[] = {
    {"alora", LRKI_POLICY_ALORA}, {"fixed", LRKI_POLICY_FIXED}, {NULL, 0}};
static const lrki_word budget_words[] = {{"initial", LRK_BUDGET_INITIAL}, {NULL, 0}};
static const lrki_word unit_words[] = {
    {"ranks", LRK_BUDGET_RANKS}, {"parameters", LRK_BUDGET_PARAMETERS}, {NULL, 0}};
static const lrki_word unpruned_words[] = {
    {"this_round", LRK_UNPRUNED_THIS_ROUND}, {"ever", LRK_UNPRUNED_EVER}, {NULL, 0}};
static const lrki_word scope_words[] = {
    {"global", LRK_SCOPE_GLOBAL}, {"per_stage", LRK_SCOPE_PER_STAGE}, {NULL, 0}};
static const lrki_word receiver_words[] = {
    {"shrink", LRK_NO_RECEIVER_SHRINK}, {"keep", LRK_NO_RECEIVER_KEEP}, {NULL, 0}};
static const lrki_word norm_words[] = {{"none", INFINITY}, {NULL, 0}};
static const lrki_word steps_words[] = {
    {"per_rank", LRK_STEPS_PER_RANK}, {"global", LRK_STEPS_GLOBAL}, {NULL, 0}};
static const lrki_word lr_words[] = {
    {"constant", LRK_LR_CONSTANT}, {"linear", LRK_LR_LINEAR}, {"cosine", LRK_LR_COSINE}, {NULL, 0}};
static const lrki_word time_words[] = {{"steps", LRK_UNIT_STEPS}, {"epochs", LRK_UNIT_EPOCHS}, {NULL, 0}};
static const lrki_word alpha_words[] = {
    {"linear", LRK_SCALE_ALPHA}, {"sqrt", LRK_SCALE_ALPHA_SQRT}, {NULL, 0}};
static const lrki_word cap_words[] = {{"none", LRK_NO_CAP}, {NULL, 0}};

const char *const lrki_config_sections[LRKI_N_SECTIONS] = {
    "adapters", "importance", "allocation", "optimizer", "learning_rate", "schedule", "host"};

#define KEY(section_, name_, type_, member, ...)                                                             \
    {                                                                                                        \
        .section = section_, .name = name_, .type = LRKI_KEY_##type_, .offset = offsetof(OWNER, member),     \
        __VA_ARGS__                                                                                          \
    }
#define WORDS(list) .words = list

#define OWNER lrki_settings
const lrki_key lrki_config_keys[] = {
    KEY("", "seed", UNSIGNED, seed, ),
    KEY("adapters", "dropout", REAL, adapters.dropout, ),
    KEY("adapters", "init", CHOICE, adapters.init, WORDS(init_words)),
    KEY("importance", "estimator", CHOICE, estimator, WORDS(estimator_words)),
    KEY("importance", "mode", CHOICE, ablation.mode, WORDS(mode_words)),
    KEY("importance", "noise_floor_repeats", INTEGER4, ablation.noise_floor_repeats, ),
    KEY("importance", "pool", INTEGER, ablation.pool, WORDS(pool_words)),
    KEY("importance", "pool_step", INTEGER, ablation.pool_step, ),
    KEY("importance", "pool_limit", INTEGER, ablation.pool_limit, WORDS(unlimited_words)),
    KEY("importance", "reversed", FLAG, reversed, .bit = 1),
    KEY("importance", "beta1", REAL, sensitivity.beta1, ),
    KEY("importance", "beta2", REAL, sensitivity.beta2, ),
    KEY("importance", "sensitivity", CHOICE, sensitivity.form, WORDS(sensitivity_words)),
    KEY("importance", "corrected", FLAG, sensitivity.flags, .bit = LRK_SENSITIVITY_CORRECTED),
    KEY("importance", "taylor", CHOICE, taylor.form, WORDS(taylor_words)),
    KEY("allocation", "policy", CHOICE, policy, WORDS(policy_words)),
    KEY("allocation", "n_move", INTEGER, alora.n_move, .rival = "move_share"),
    KEY("allocation", "move_share", REAL, alora.move_share, .rival = "n_move"),
    KEY("allocation", "budget", INTEGER, alora.budget, WORDS(budget_words)),
    KEY("allocation", "budget_unit", CHOICE, alora.budget_unit, WORDS(unit_words)),
    KEY("allocation", "unpruned", CHOICE, alora.unpruned, WORDS(unpruned_words)),
    KEY("allocation", "scope", CHOICE, alora.scope, WORDS(scope_words)),
    KEY("allocation", "no_receiver", CHOICE, alora.no_receiver, WORDS(receiver_words)),
    KEY("allocation", "new_rank_init", CHOICE, alora.new_rank_init, WORDS(new_init_words)),
    KEY("allocation", "protect_rounds", INTEGER4, alora.protect_rounds, ),
    KEY("allocation", "refill", FLAG, alora.flags, .bit = LRK_ALORA_REFILL),
    KEY("optimizer", "beta1", REAL, adamw.beta1, ),
    KEY("optimizer", "beta2", REAL, adamw.beta2, ),
    KEY("optimizer", "epsilon", REAL, adamw.epsilon, ),
    KEY("optimizer", "weight_decay", REAL, adamw.weight_decay, ),
    KEY("optimizer", "b_ratio", REAL, adamw.b_ratio, ),
    KEY("optimizer", "max_norm", REAL, adamw.max_norm, WORDS(norm_words)),
    KEY("optimizer", "steps", CHOICE, adamw.steps, WORDS(steps_words)),
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

_Static_assert(sizeof lrki_config_keys / sizeof *lrki_config_keys <= LRKI_MAX_KEYS + 1,
               "marks for every key");

const lrki_key *lrki_key_find(const lrki_key *keys, const char *section, const char *name)
{
    for (; keys->name != NULL; keys++) {
        if (strcmp(keys->section, section) == 0 && strcmp(keys->name, name) == 0) return keys;
    }
    return NULL;
}

int lrki_section_find(const char *name)
{
    for (int i = 0; i < LRKI_N_SECTIONS; i++) {
        if (strcmp(lrki_config_sections[i], name) == 0) return i;
    }
    return -1;
}

const char *lrk_config_word(const char *key, int64_t i)
{
    if (key == NULL || i < 0) return NULL;
    for (const lrki_key *k = lrki_config_keys; k->name != NULL; k++) {
        size_t n = strlen(k->section), after = n > 0 ? n + 1 : 0;
        if (strncmp(key, k->section, n) != 0 || (n > 0 && key[n] != '.') || strcmp(key + after, k->name) != 0)
            continue;
        const lrki_word *word = k->words;
        while (word != NULL && word->word != NULL && i-- > 0)
            word++;
        return word != NULL ? word->word : NULL;
    }
    return NULL;
}
