/* SPDX-License-Identifier: MIT */
/*
 * What saving and loading PEFT adapters share: a module as both see it, the fold of scale and gates into B with its exact
 * inverse, adapter_config.json of lorank's own and of other programs' writing, names.
 */
#ifndef LRKI_PEFT_PARTS_H
#define LRKI_PEFT_PARTS_H

#include "dtype.h"
#include "json.h"
#include "lorank/adapters.h"
#include "lorank/safetensors.h"

#define LRKI_PEFT_CONFIG "adapter_config.json"
#define LRKI_PEFT_MODEL  "adapter_model.safetensors"
#define LRKI_PEFT_PREFIX "base_model.model."
#define LRKI_PEFT_A      ".lora_A.weight"
#define LRKI_PEFT_B      ".lora_B.weight"
#define LRKI_PEFT_E      ".lora_E" /* of AdaLoRA */

/* Metadata of the model file. */
#define LRKI_KEYS        "lorank."       /* begins all of them */
#define LRKI_KEY_FORMAT  "lorank.format" /* of the keys below: "1"                                 */
#define LRKI_KEY_VERSION "lorank.version"
#define LRKI_KEY_SET     "lorank.set"     /* JSON: alpha, next_identity                            */
#define LRKI_KEY_MODULES "lorank.modules" /* JSON: every module, rank 0 included                   */
#define LRKI_KEY_FOLD    "lorank.fold"    /* JSON: by module, what the fold's inverse does not give */
#define LRKI_FORMAT      "1"

/* One module. Pointers are borrowed from the set (saving) or from the file's metadata (loading). */
typedef struct lrki_peft_module {
    const char *name;
    int32_t index; /* in the set */
    int64_t n_in;
    int64_t n_out;
    int64_t rank;
    int64_t width; /* ranks in the file: rank, or more, the rest zeros */
    double scale;
    const float *a;     /* [rank x n_in]  */
    const float *b;     /* [rank x n_out] */
    const float *gates; /* [rank]         */
} lrki_peft_module;

/* Module i of a set, its width its rank. */
lrki_peft_module lrki_peft_module_of(const lrk_adapters *adapters, int32_t i);

/* "base_model.model.<name><suffix>", freed by lrki_text_free(); NULL with an error recorded on lack of memory. */
char *lrki_peft_tensor_name(lrk_context *context, const char *name, const char *suffix);

/* ---- fold (peft_fold.c), and its inverse (peft_residual.c) ---- */

/* LRK_ERR_NONFINITE if a value of A, B, gates or folded B is not finite; also once narrowed to dtype. */
lrk_status lrki_fold_check(lrk_context *context, const lrki_peft_module *module, double alpha,
                           const lrki_dtype *dtype);
/*
 * Puts into `fold` under the module's name what lrki_fold_restore() will need beside the folded values; nothing if the
 * inverse is exact. The module has passed lrki_fold_check().
 */
lrk_status lrki_fold_describe(lrk_context *context, const lrki_peft_module *module, double alpha,
                              lrki_json **fold);
/* B' [n_out x width] of PEFT. */
void lrki_fold_store(const lrki_peft_module *module, double alpha, float *stored);
/* b[j * b_step + i] = stored[i * rank + j], i below n: n rows of B' become columns of B [rank x n_out]. */
void lrki_fold_transpose(const float *stored, int64_t rank, int64_t n, float *b, int64_t b_step);
/* B [rank x n_out] in place of the B' that it holds. `entry`: what describe put, or NULL. LRK_ERR_FORMAT if it does not fit. */
lrk_status lrki_fold_restore(lrk_context *context, const lrki_peft_module *module, double alpha,
                             const lrki_json *entry, float *b);

/* ---- adapter_config.json of lorank (peft_config.c) ---- */

typedef struct lrki_peft_facts {
    const char *base_model;
    const char *task_type;
    double alpha;
    const lrki_peft_module *live; /* modules of rank > 0, in module order */
    int64_t n_live;
    int64_t greatest_rank;
    bool is_uniform;
    bool fan_in_fan_out;
} lrki_peft_facts;

bool lrki_peft_task_known(const char *task_type);
/* LRK_ERR_UNSUPPORTED for a name that PEFT would read as something else. */
lrk_status lrki_peft_check_name(lrk_context *context, const char *name);
lrk_status lrki_peft_config_print(lrk_context *context, const lrki_peft_facts *facts, lrki_bytes *text);
/* LRK_ERR_FORMAT if the configuration (of the file `path`) says something else; LRK_ERR_UNSUPPORTED if it is no LoRA. */
lrk_status lrki_peft_config_check(lrk_context *context, const char *path, const lrki_json *config,
                                  const lrki_peft_facts *facts);

/* ---- metadata of the model file (peft_metadata.c) ---- */

/* An object of texts; lorank's own keys only if the tensors give every value back. */
lrk_status lrki_peft_metadata_make(const lrk_adapters *adapters, const lrki_peft_facts *facts, bool is_exact,
                                   lrki_json **metadata);

/* ---- adapter_config.json of other programs (peft_terms.c, peft_pattern.c) ---- */

typedef struct lrki_peft_terms {
    const char *file; /* for details */
    bool is_adalora;
    bool is_rslora;
    int64_t rank; /* r, or init_r of AdaLoRA */
    double alpha;
    const lrki_json *rank_pattern; /* borrowed from the configuration */
    const lrki_json *alpha_pattern;
} lrki_peft_terms;

/* LRK_ERR_UNSUPPORTED, LRK_ERR_FORMAT; the detail names the field. `file` and `config` must outlive the terms. */
lrk_status lrki_peft_terms_read(lrk_context *context, const char *file, const lrki_json *config,
                                lrki_peft_terms *terms);
/* The scale s of a module of that rank; LRK_ERR_FORMAT if the configuration states another rank for it. */
lrk_status lrki_peft_terms_scale(lrk_context *context, const lrki_peft_terms *terms, const char *module,
                                 int64_t rank, double *scale);

/* Is the key matched exactly as Python would? */
bool lrki_peft_pattern_known(const char *key);
/* re.match("(.*\\.)?(KEY)$", name), for a known key and UTF-8. */
bool lrki_peft_pattern_matches(const char *key, const char *name);
/* The value of the first key that matches, else of the key that is the name itself; NULL. */
const lrki_json *lrki_peft_pattern_get(const lrki_json *pattern, const char *name);

/* ---- names (peft_names.c) ---- */

#define LRKI_NAMES_NONE    (-1)
#define LRKI_NAMES_SEVERAL (-2)

typedef struct lrki_peft_names {
    lrk_context *context;
    const lrk_module_spec *specs;
    int64_t n;
    const lrk_module_spec **sorted;
} lrki_peft_names;

/* Over specs that outlive it, all with names. */
lrk_status lrki_peft_names_make(lrk_context *context, const lrk_module_spec *specs, int64_t n,
                                lrki_peft_names *names);
void lrki_peft_names_free(lrki_peft_names *names); /* right at any time */
/* `dotted`: a dot and a name. Index of the module of that name, else of the only one that ends with it or that it ends
 * with, after a dot. */
int64_t lrki_peft_names_find(const lrki_peft_names *names, const char *dotted);

/* ---- loading ---- */

/* Both files, opened and parsed. */
typedef struct lrki_peft_files {
    lrk_context *context;
    const char *model_name;
    const lrk_safetensors *model;
    const char *config_name;
    const lrki_json *config;
} lrki_peft_files;

/* Does the model file hold metadata of lorank? */
bool lrki_peft_is_own(const lrk_safetensors *model);
lrk_status lrki_peft_own_load(const lrki_peft_files *files, const lrk_adapters_options *options,
                              lrk_adapters **adapters);
lrk_status lrki_peft_foreign_load(const lrki_peft_files *files, const lrk_module_spec *modules,
                                  int64_t n_modules, const lrk_adapters_options *options,
                                  lrk_adapters **adapters);

#endif
