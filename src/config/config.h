/* SPDX-License-Identifier: MIT */
/*
 * Configuration, internal: a text becomes a tree of nodes with positions (yaml.c), the tree becomes settings by a table
 * of keys (keys.c, methods.c, apply.c, scalar.c), settings are checked (check.c) and become handles (create_....c). Positions
 * of keys are kept, so that a check
 * that fails later, in the layer that owns the value, still points to the line (locate.c).
 */
#ifndef LRKI_CONFIG_H
#define LRKI_CONFIG_H

#include "../allocation/start.h"
#include "../core/core.h"
#include "../core/method.h"
#include "../importance/importance.h"
#include "lorank/config.h"

#define LRKI_CONFIG_MAX_BYTES   ((size_t)1 << 20)
#define LRKI_CONFIG_MAX_DEPTH   8    /* of maps and lists in each other */
#define LRKI_CONFIG_MAX_ENTRIES 1024 /* of one map or list: duplicates are looked for pairwise */

#define LRKI_CONFIG_DETAIL 512 /* bytes of other layers' details that are kept */

/* ---- tree ---------------------------------------------------------------------------------------------------------- */

/* Where something was given: line from 1, or 0 with column 1 for an override, or zeros: nowhere. */
typedef struct lrki_mark {
    int64_t line;
    int64_t column;
} lrki_mark;

#define LRKI_NODE_SCALAR 0
#define LRKI_NODE_LIST   1
#define LRKI_NODE_MAP    2

/* One value; entries of lists and maps are chained through next. */
typedef struct lrki_node {
    int32_t kind;
    bool plain; /* a scalar without quotes */
    char *key;  /* of a map entry, else NULL */
    char *text; /* of a scalar */
    lrki_mark mark;
    lrki_mark key_mark;
    struct lrki_node *first;
    struct lrki_node *next;
} lrki_node;

/* ---- settings ------------------------------------------------------------------------------------------------------ */

/* Which a text chose: places in the tables of the layers, and in those words. */
#define LRKI_CHOSEN(name) LRKI_CHOSEN_##name,
enum { LRKI_CHOSEN_ESTIMATORS(LRKI_CHOSEN) LRKI_N_CHOSEN_ESTIMATORS };
#undef LRKI_CHOSEN
#define LRKI_CHOSEN(name) LRKI_POLICY_##name,
enum { LRKI_POLICIES(LRKI_CHOSEN) LRKI_N_POLICIES };
#undef LRKI_CHOSEN
#define LRKI_CHOSEN(name) LRKI_START_##name,
enum { LRKI_STARTS(LRKI_CHOSEN) LRKI_N_STARTS };
#undef LRKI_CHOSEN

#define LRKI_N_METHODS (LRKI_N_CHOSEN_ESTIMATORS + LRKI_N_POLICIES + LRKI_N_STARTS)

#define LRKI_NO_UNIFORM (-1)

#define LRKI_MAX_KEYS   128 /* of the settings, and of a list */
#define LRKI_N_SECTIONS 8

/* What entries of both lists have; a list's own struct begins with it. */
typedef struct lrki_entry {
    char *pattern;
    lrki_mark mark;                 /* of the pattern               */
    lrki_mark marks[LRKI_MAX_KEYS]; /* of the list's table's keys   */
} lrki_entry;

typedef struct lrki_pattern_entry {
    lrki_entry entry;
    lrk_module_pattern pattern;
} lrki_pattern_entry;

typedef struct lrki_limit_entry {
    lrki_entry entry;
    lrk_limit limit;
} lrki_limit_entry;

/* The options of a method, by its place among all. */
typedef union lrki_method_options {
    unsigned char bytes[LRKI_METHOD_BYTES];
    int64_t integer; /* for alignment */
    double real;
    void *pointer;
} lrki_method_options;

/* Plain values alone: an override that fails puts back a copy. */
typedef struct lrki_settings {
    uint64_t seed;
    lrk_adapters_options adapters;
    int64_t uniform; /* LRKI_NO_UNIFORM: none */
    int32_t uniform_unit;
    int32_t nested;
    int32_t estimator;
    uint32_t reversed; /* 1: the scores are negated */
    int32_t start;
    int64_t batches; /* that a start looks at */
    int64_t warmup;  /* steps of the host's head before a gradient start */
    lrk_sketch_options sketch;
    lrk_pca_options pca;
    int32_t policy;
    int32_t budget_unit;
    int64_t n_move; /* what policies share, from here */
    int64_t budget;
    int32_t new_rank_init;
    int32_t protect_rounds;
    lrki_method_options methods[LRKI_N_METHODS];
    lrk_adamw_options adamw;
    lrk_lr_options lr;
    double warmup_share; /* NaN: unset */
    lrk_schedule_options schedule;
    lrki_mark sections[LRKI_N_SECTIONS];
    lrki_mark marks[LRKI_MAX_KEYS]; /* of setting i */
} lrki_settings;

/* A key of section host: what the host declared, and the value that holds. */
typedef struct lrki_host_value {
    char *name;
    int32_t type;
    double least;
    double greatest;
    int64_t integer;
    double real;
    char *text;
} lrki_host_value;

struct lrk_config {
    lrk_context *context;
    char *path; /* of the file, for details; NULL */
    lrki_settings settings;
    char *ranks_from; /* path of a rank list; NULL: none */
    lrki_mark ranks_from_mark;
    lrki_pattern_entry *patterns;
    int64_t n_patterns;
    lrki_limit_entry *limits;
    int64_t n_limits;
    lrki_host_value *host;
    int64_t n_host;
};

/* ---- keys ---------------------------------------------------------------------------------------------------------- */

extern const char *const lrki_config_sections[LRKI_N_SECTIONS];
extern const lrki_key lrki_general_keys[]; /* over lrki_settings; ends with name NULL */
extern const lrki_key lrki_pattern_keys[]; /* over lrki_pattern_entry */
extern const lrki_key lrki_limit_keys[];   /* over lrki_limit_entry */

/* A key of a table, NULL if it has none of that name. */
const lrki_key *lrki_key_find(const lrki_key *keys, const char *section, const char *name);

/* A key of the settings: one of the general, or of a method. */
typedef struct lrki_setting {
    const lrki_key *key;
    size_t base; /* in lrki_settings of the struct that the key is over */
    int index;   /* among all                                           */
} lrki_setting;

/* Setting i of all; false past the last. */
bool lrki_setting_at(int i, lrki_setting *setting);
/* The setting of that name; false: none. */
bool lrki_setting_find(const char *section, const char *name, lrki_setting *setting);
/* Whether a text or an override gave the key. */
bool lrki_key_given(const lrki_settings *settings, const char *section, const char *name);
/* Index in lrki_config_sections, -1 if it has none of that name. */
int lrki_section_find(const char *name);

/* ---- methods (methods.c) --------------------------------------------------------------------------------------------- */

extern const lrki_word lrki_estimator_words[];
extern const lrki_word lrki_policy_words[];
extern const lrki_word lrki_start_words[];

/* All of them: estimators, policies, starts. */
const lrki_method *lrki_method_at(int i);
const lrki_estimator_type *lrki_estimator_chosen(const lrki_settings *settings);
const lrki_policy *lrki_policy_chosen(const lrki_settings *settings);
const lrki_start_kind *lrki_start_chosen(const lrki_settings *settings);
/* The options that a method has in the settings. */
const void *lrki_method_options_of(const lrki_settings *settings, const lrki_method *method);
void lrki_methods_default(lrki_settings *settings);
/* Checks the options of all, chosen or not, as the layers do. */
lrk_status lrki_methods_check(const lrk_config *config);

/* What else a policy is told, and a start beside what it is shown; limits are borrowed. */
lrki_policy_terms lrki_config_policy_terms(const lrki_settings *settings, const lrk_limit *limits,
                                           int64_t n_limits);
void lrki_config_start_terms(const lrki_settings *settings, const lrk_limit *limits, int64_t n_limits,
                             lrki_start_terms *terms);

/* ---- between the files --------------------------------------------------------------------------------------------- */

/* LRK_ERR_CONFIG with "<path>:<line>:<column>: " before the sentence, as far as there are such. */
lrk_status lrki_config_fail(const lrk_config *config, lrki_mark mark, const char *format, ...)
    LRKI_PRINTF(3, 4);
void lrki_settings_default(lrki_settings *settings);

/* yaml.c: parses a text into a tree; node NULL for an empty text. */
lrk_status lrki_yaml_parse(const lrk_config *config, const char *text, size_t length, lrki_node **root);
void lrki_node_free(const lrk_config *config, lrki_node *node);

/* scalar.c: converts a scalar and stores it at base + key->offset. */
lrk_status lrki_scalar_store(const lrk_config *config, const lrki_key *key, const lrki_node *node,
                             void *base);
void lrki_scalar_copy(const lrki_key *key, const void *from, void *to);
lrk_status lrki_scalar_host(const lrk_config *config, const lrki_node *node, lrki_host_value *value);

/* apply.c: the tree into the settings. */
lrk_status lrki_config_apply(lrk_config *config, const lrki_node *root);

/*
 * locate.c: a failure of another layer gets the position of the key that its detail names first, or of its section, in
 * front of its words. `as` is the status to return; LRK_OK and LRK_ERR_NOMEM pass unchanged.
 */
lrk_status lrki_config_locate(const lrk_config *config, const char *section, lrk_status status,
                              lrk_status as);
/* The same where the position is known. */
lrk_status lrki_config_locate_at(const lrk_config *config, lrki_mark mark, lrk_status status);
/* The same for an entry of a list. */
lrk_status lrki_entry_locate(const lrk_config *config, const lrki_entry *entry, const lrki_key *keys,
                             lrk_status status, lrk_status as);
/* Whether the thread's last detail quotes the entry's pattern. */
bool lrki_entry_named(const lrk_config *config, const lrki_entry *entry);

/* check.c: checks the settings as the layers that own them do. */
lrk_status lrki_config_check(const lrk_config *config);

/* LRK_ERR_ARGUMENT if one is NULL. */
static inline lrk_status lrki_config_check_call(const lrk_config *config, const void *input, const void *out)
{
    if (config == NULL) return LRK_ERR_ARGUMENT;
    if (input == NULL || out == NULL)
        return lrki_fail(config->context, LRK_ERR_ARGUMENT, "an argument of lrk_config_create_... is NULL");
    return LRK_OK;
}

/* create.c: a failed creation, located in a section. */
lrk_status lrki_config_made(const lrk_config *config, const char *section, lrk_status status);
/* The same where it may be that of a limit. */
lrk_status lrki_config_made_with_limits(const lrk_config *config, const char *section, lrk_status status);
/* The limits as an array; lrki_array_free() with n_limits. NULL on lack of memory (recorded). */
lrk_limit *lrki_config_limits(const lrk_config *config);

#endif
