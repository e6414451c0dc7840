/* SPDX-License-Identifier: MIT */
/*
 * The table of keys: what a text may say and where each value goes. Names equal the members of the C option structs, so
 * that the checks of the layers, which name members, can be traced to lines. docs/configuration.md describes each.
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
static const lrki_word uniform_words[] = {{"none", LRKI_NO_UNIFORM}, {NULL, 0}};
static const lrki_word estimator_words[] = {
    {"ablation", LRKI_ESTIMATOR_ABLATION},       {"random", LRKI_ESTIMATOR_RANDOM},
    {"sensitivity", LRKI_ESTIMATOR_SENSITIVITY}, {"taylor", LRKI_ESTIMATOR_TAYLOR},
    {"magnitude", LRKI_ESTIMATOR_MAGNITUDE},     {"gate", LRKI_ESTIMATOR_GATE},
    {"output", LRKI_ESTIMATOR_OUTPUT},           {NULL, 0}};
static const lrki_word sensitivity_words[] = {
    {"triplet", LRK_SENSITIVITY_TRIPLET}, {"pair", LRK_SENSITIVITY_PAIR}, {NULL, 0}};
static const lrki_word taylor_words[] = {
    {"absolute", LRK_TAYLOR_ABSOLUTE}, {"signed", LRK_TAYLOR_SIGNED}, {NULL, 0}};
static const lrki_word output_words[] = {{"rank", LRK_OUTPUT_RANK}, {"module", LRK_OUTPUT_MODULE}, {NULL, 0}};
static const lrki_word mode_words[] = {{"exact", LRK_ABLATION_EXACT},
                                       {"screened", LRK_ABLATION_SCREENED},
                                       {"two_point", LRK_ABLATION_TWO_POINT},
                                       {NULL, 0}};
static const lrki_word pool_words[] = {{"auto", LRK_POOL_DEFAULT}, {NULL, 0}};
static const lrki_word unlimited_words[] = {{"unlimited", LRK_POOL_UNLIMITED}, {NULL, 0}};
static const lrki_word policy_words[] = {
    {"alora", LRKI_POLICY_ALORA},         {"elalora", LRKI_POLICY_ELALORA},
    {"increlora", LRKI_POLICY_INCRELORA}, {"prune", LRKI_POLICY_PRUNE},
    {"adalora", LRKI_POLICY_ADALORA},     {"threshold", LRKI_POLICY_THRESHOLD},
    {"fixed", LRKI_POLICY_FIXED},         {NULL, 0}};
static const lrki_word start_words[] = {{"uniform", LRKI_START_UNIFORM},
                                        {"gradient", LRKI_START_GRADIENT},
                                        {"eva", LRKI_START_EVA},
                                        {"gelora", LRKI_START_GELORA},
                                        {"lora_ga", LRKI_START_LORA_GA},
                                        {"lora_one", LRKI_START_LORA_ONE},
                                        {"pissa", LRKI_START_PISSA},
                                        {"olora", LRKI_START_OLORA},
                                        {"orthogonal", LRKI_START_ORTHOGONAL},
                                        {NULL, 0}};
static const lrki_word estimate_words[] = {
    {"fit", LRK_TWONN_FIT}, {"mle", LRK_TWONN_MLE}, {"unbiased", LRK_TWONN_UNBIASED}, {NULL, 0}};
static const lrki_word samples_words[] = {{"auto", 0}, {NULL, 0}};
static const lrki_word budget_words[] = {{"initial", LRK_BUDGET_INITIAL}, {NULL, 0}};
static const lrki_word unpruned_words[] = {
    {"this_round", LRK_UNPRUNED_THIS_ROUND}, {"ever", LRK_UNPRUNED_EVER}, {NULL, 0}};
static const lrki_word scope_words[] = {
    {"global", LRK_SCOPE_GLOBAL}, {"per_stage", LRK_SCOPE_PER_STAGE}, {NULL, 0}};
static const lrki_word receiver_words[] = {
    {"shrink", LRK_NO_RECEIVER_SHRINK}, {"keep", LRK_NO_RECEIVER_KEEP}, {NULL, 0}};
static const lrki_word module_score_words[] = {{"sum", LRK_MODULE_SUM}, {"mean", LRK_MODULE_MEAN}, {NULL, 0}};
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
    KEY("adapters", "gates", CHOICE, adapters.gates, WORDS(gates_words)),
    KEY("adapters", "uniform", INTEGER, uniform, WORDS(uniform_words)),
    KEY("adapters", "uniform_unit", CHOICE, uniform_unit, WORDS(unit_words)),
    KEY("start", "kind", CHOICE, start, WORDS(start_words)),
    KEY("start", "batches", INTEGER, batches, ),
    KEY("start", "warmup", INTEGER, warmup, ),
    KEY("start", "multiple", REAL, gradient_start.multiple, ),
    KEY("start", "cap", INTEGER, gradient_start.cap, ),
    KEY("start", "length", REAL, gradient_start.length, ),
    KEY("start", "tolerate", FLAG, gradient_start.flags, .bit = LRK_GRADIENT_START_TOLERATE),
    KEY("start", "ranks_only", FLAG, gradient_start.flags, .bit = LRK_GRADIENT_START_RANKS_ONLY),
    KEY("start", "directions", INTEGER, sketch.directions, ),
    KEY("start", "samples", INTEGER, sketch.samples, WORDS(samples_words)),
    KEY("start", "rho", REAL, pca.rho, ),
    KEY("start", "tau", REAL, pca.tau, ),
    KEY("start", "batch_rows", INTEGER, pca.batch_rows, ),
    KEY("start", "whiten", FLAG, eva.flags, .bit = LRK_EVA_WHITEN),
    KEY("start", "estimate", CHOICE, twonn.estimate, WORDS(estimate_words)),
    KEY("start", "discard", REAL, twonn.discard, ),
    KEY("start", "gamma", REAL, gradient_init.gamma, ),
    KEY("start", "iterations", INTEGER4, weight_start.iterations, ),
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
    KEY("importance", "output", CHOICE, output.level, WORDS(output_words)),
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
    KEY("allocation", "nominees", INTEGER, elalora.nominees, ),
    KEY("allocation", "n_move_last", INTEGER, elalora.n_move_last, ),
    KEY("allocation", "n_rounds", INTEGER, elalora.n_rounds, ),
    KEY("allocation", "grow_modules", INTEGER, increlora.grow_modules, ),
    KEY("allocation", "grow_ranks", INTEGER, increlora.grow_ranks, ),
    KEY("allocation", "module_score", CHOICE, increlora.module_score, WORDS(module_score_words)),
    KEY("allocation", "threshold", REAL, threshold.threshold, ),
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

_Static_assert(sizeof lrki_config_keys / sizeof *lrki_config_keys <= LRKI_MAX_KEYS + 1,
               "marks for every key");

const lrki_key *lrki_key_find(const lrki_key *keys, const char *section, const char *name)
{
    for (; keys->name != NULL; keys++) {
        if (strcmp(keys->section, section) == 0 && strcmp(keys->name, name) == 0) return keys;
    }
    return NULL;
}

bool lrki_key_given(const lrki_settings *settings, const char *section, const char *name)
{
    lrki_mark mark = settings->marks[lrki_key_find(lrki_config_keys, section, name) - lrki_config_keys];
    return mark.line > 0 || mark.column > 0;
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
