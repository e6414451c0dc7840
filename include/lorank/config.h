/* SPDX-License-Identifier: MIT */
/*
 * YAML configuration: seed and sections adapters, start, importance, allocation, optimizer, learning_rate, schedule and host
 * (docs/configuration.md lists every key). Strict: unknown and duplicate keys, wrong types, values out of range, aliases,
 * tags, several documents, more than 8 levels or 1 MiB are errors with line and column; every value passes the same
 * checks as through the C API. A key that is absent has the C default. libyaml takes its memory from libc.
 * Threads: shared-read after parsing (lrk_config_override() is exclusive).
 */
#ifndef LRK_CONFIG_H
#define LRK_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "adapters.h"
#include "allocation.h"
#include "eva.h"
#include "gelora.h"
#include "gradient_init.h"
#include "gradient_start.h"
#include "importance.h"
#include "nested.h"
#include "optimizer.h"
#include "schedule.h"
#include "weight_start.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_config lrk_config;

#define LRK_VALUE_INTEGER 0
#define LRK_VALUE_REAL    1
#define LRK_VALUE_TEXT    2
#define LRK_VALUE_BOOLEAN 3

/* A key that the host allows in the section "host", with its bounds (numbers) and a default, which may lie outside. */
typedef struct lrk_config_key {
    uint32_t struct_size;
    int32_t type;             /* LRK_VALUE_...                       */
    const char *name;         /* copied                              */
    double least;             /* numbers: least and greatest allowed */
    double greatest;
    double default_number;    /* booleans: 0 or 1                    */
    const char *default_text; /* copied; may be NULL                 */
} lrk_config_key;

/*
 * Parses text[0..length). keys: what section host may hold (array stepped by keys[0].struct_size; NULL with 0: nothing).
 * Errors   LRK_ERR_CONFIG with line and column;  LRK_ERR_ARGUMENT, LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_parse(lrk_context *context, const char *text, size_t length,
                                                    const lrk_config_key *keys, int64_t n_keys, lrk_config **config);

/* The same from a file; details begin with its path. Errors: also LRK_ERR_NOT_FOUND, LRK_ERR_IO. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_load(lrk_context *context, const char *path, const lrk_config_key *keys,
                                                   int64_t n_keys, lrk_config **config);

/* NULL is ignored. Since 0.1 */
LRK_API void lrk_config_destroy(lrk_config *config);

/*
 * Sets one scalar as if the text had said so, e.g. ("importance.mode", "screened"), ("seed", "7"). Not for lists. One of
 * n_move and move_share, or of warmup_steps and warmup_share, unsets the other. A failure changes nothing.
 * Errors   LRK_ERR_CONFIG (unknown key, bad value; names the key), LRK_ERR_ARGUMENT, LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_override(lrk_config *config, const char *key, const char *value);

/* The seed [0]. Since 0.1 */
LRK_API uint64_t lrk_config_seed(const lrk_config *config);

/* LRK_NESTED_... of adapters.nested (nested.h): what the host is to do in a training step. LRK_NESTED_NONE for NULL. Since 0.1 */
LRK_API int32_t lrk_config_nested(const lrk_config *config);

/* The word of start.kind ["uniform"]; NULL for NULL. Since 0.1 */
LRK_API const char *lrk_config_start(const lrk_config *config);

/*
 * Steps that the host trains what stands behind the adapters and starts at zero, as the head of a classifier does, with the adapters
 * silent, before it feeds the sketch of a start from a gradient (start.warmup): lorank has no part in them. Until then that gradient is 0,
 * and a start from it LRK_ERR_NO_GRADIENT. 0 for other starts and for NULL. Since 0.1
 */
LRK_API int64_t lrk_config_start_warmup(const lrk_config *config);

/*
 * Whether the host must subtract the start's product from its frozen weights once the plan is committed (start.kind lora_ga, pissa,
 * olora; weight_start.h). 0 for NULL. Since 0.1
 */
LRK_API int32_t lrk_config_start_subtracts(const lrk_config *config);

/*
 * Word i that a key may have as its value ("importance.estimator", "allocation.policy"), in the order of the
 * documentation; NULL past the last, and for keys that are unknown or have no words. Threads: pure. Since 0.1
 */
LRK_API const char *lrk_config_word(const char *key, int64_t i);

/*
 * One line on word i of importance.estimator, allocation.policy or start.kind, in the order of lrk_config_word(): what it does and
 * what it asks for. NULL past the last, and for other keys. Threads: pure. Since 0.1
 */
LRK_API const char *lrk_config_summary(const char *key, int64_t i);

/*
 * The handles that the text describes. Failures add the line of the key concerned where there is one.
 *   adapters   by patterns over the host's modules (rank and scale in `modules` are ignored)
 *   estimator  n_cut is the allocator's n_move, at least 1 (NULL if the mode needs none)
 *   schedule   total_steps and steps_per_epoch from the host
 *   sketch     of start.kind gradient, lora_ga, lora_one and gora; *batches says on how many batches the host is to run forward and backward with it before
 *              training. Under another start.kind *sketch is NULL and *batches 0
 *   pca        of start.kind eva: forward alone; *batches are the most, settle_eva says after each whether it was the last
 *   twonn      how start.kind gelora estimates dimensions (options->struct_size set), and on how many batches' hidden states
 *   plan_weights  of start.kind pissa, olora and orthogonal; under another *plan is NULL
 *   plan_gradients  as plan_start, for those that want the frozen weights too (gora); weight as in lrk_weight_start_options
 *   plan_...   the plan of that start, with budget and limits of section allocation. The allocator is made before the plan is
 *              committed: a budget `initial` is what adapters.modules say, and multiples of it are what a start fills
 * Errors: those of the lrk_xxx_create() functions, LRK_ERR_CONFIG if a needed section is missing, LRK_ERR_ARGUMENT if plan_start,
 * plan_gradients, settle_eva, plan_eva or plan_gelora is not for the start that the text names. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_create_adapters(const lrk_config *config, const lrk_module_spec *modules,
                                                              int64_t n_modules, lrk_adapters **adapters);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_create_sketch(const lrk_config *config, lrk_adapters *adapters,
                                                            lrk_sketch **sketch, int64_t *batches);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_plan_start(const lrk_config *config, const lrk_sketch *sketch,
                                                         int64_t step, lrk_plan **plan);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_plan_gradients(const lrk_config *config, const lrk_sketch *sketch,
                                                             int32_t (*weight)(void *user, int32_t module,
                                                                               lrk_weight *weight),
                                                             void *user, int64_t step, lrk_plan **plan);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_create_pca(const lrk_config *config, lrk_adapters *adapters,
                                                         lrk_pca **pca, int64_t *batches);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_settle_eva(const lrk_config *config, lrk_pca *pca, int64_t *open);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_plan_eva(const lrk_config *config, const lrk_pca *pca, int64_t step,
                                                       lrk_plan **plan);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_twonn(const lrk_config *config, lrk_twonn_options *options,
                                                    int64_t *batches);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_plan_gelora(const lrk_config *config, lrk_adapters *adapters,
                                                          const double *dimensions, int64_t n, int64_t step,
                                                          lrk_plan **plan);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_plan_weights(const lrk_config *config, lrk_adapters *adapters,
                                                           int32_t (*weight)(void *user, int32_t module,
                                                                             lrk_weight *weight),
                                                           void *user, int64_t step, lrk_plan **plan);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_create_allocator(const lrk_config *config, lrk_adapters *adapters,
                                                               lrk_allocator **allocator);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_create_estimator(const lrk_config *config, lrk_adapters *adapters,
                                                               const lrk_evaluator *evaluator,
                                                               const lrk_allocator *allocator,
                                                               lrk_estimator **estimator);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_create_optimizer(const lrk_config *config, lrk_adapters *adapters,
                                                               lrk_optimizer **optimizer);
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_create_schedule(const lrk_config *config, int64_t steps_per_epoch,
                                                              int64_t total_steps, lrk_schedule **schedule);

/*
 * The learning-rate schedule over total_steps. options->struct_size must be set.
 * Errors: LRK_ERR_ARGUMENT (total_steps not above the warm-up). Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_config_learning_rate(const lrk_config *config, int64_t total_steps,
                                                            lrk_lr_options *options);

/*
 * Values of section host: what the text says, else the key's default. Text is borrowed until the config is destroyed.
 * Errors: LRK_ERR_ARGUMENT (no such key, or of another type). Since 0.1
 */
LRK_API lrk_status lrk_config_integer(const lrk_config *config, const char *name, int64_t *value);
LRK_API lrk_status lrk_config_real(const lrk_config *config, const char *name, double *value);
LRK_API lrk_status lrk_config_boolean(const lrk_config *config, const char *name, int32_t *value);
LRK_API lrk_status lrk_config_text(const lrk_config *config, const char *name, const char **value);

#ifdef __cplusplus
}
#endif

#endif
