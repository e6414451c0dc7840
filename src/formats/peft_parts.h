/* SPDX-License-Identifier: MIT */
/*
 * What saving and loading a PEFT directory share: a module as both see it, the fold of scale and gates into B with its
 * exact inverse, and adapter_config.json.
 */
#ifndef LRKI_PEFT_PARTS_H
#define LRKI_PEFT_PARTS_H

#include "dtype.h"
#include "json.h"
#include "lorank/adapters.h"

#define LRKI_PEFT_CONFIG "adapter_config.json"
#define LRKI_PEFT_MODEL  "adapter_model.safetensors"
#define LRKI_PEFT_PREFIX "base_model.model."
#define LRKI_PEFT_A      ".lora_A.weight"
#define LRKI_PEFT_B      ".lora_B.weight"

/* Metadata of the model file. */
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
    double scale;
    const float *a;     /* [rank x n_in]  */
    const float *b;     /* [rank x n_out] */
    const float *gates; /* [rank]         */
} lrki_peft_module;

/* "base_model.model.<name><suffix>", freed by lrki_text_free(); NULL with an error recorded on lack of memory. */
char *lrki_peft_tensor_name(lrk_context *context, const char *name, const char *suffix);

/* ---- fold (peft_fold.c) ---- */

#define LRKI_FOLD_ROWS 16 /* of B^T that are transposed at a time: a cache line of B */

/* LRK_ERR_NONFINITE if a value of A, B, gates or folded B is not finite. */
lrk_status lrki_fold_check(lrk_context *context, const lrki_peft_module *module, double alpha);
/*
 * Does lrki_fold_check(), and puts into `fold` under the module's name
 * what lrki_fold_restore() will need beside the folded values; nothing if the inverse is exact.
 */
lrk_status lrki_fold_describe(lrk_context *context, const lrki_peft_module *module, double alpha,
                              lrki_json **fold);
/* B' [n_out x rank] of PEFT. */
void lrki_fold_store(const lrki_peft_module *module, double alpha, float *stored);
/* B [rank x n_out] back from B'. `entry`: what describe put, or NULL. LRK_ERR_FORMAT if it does not fit. */
lrk_status lrki_fold_restore(lrk_context *context, const lrki_peft_module *module, double alpha,
                             const lrki_json *entry, const float *stored, float *b);

/* ---- adapter_config.json (peft_config.c) ---- */

typedef struct lrki_peft_facts {
    const char *base_model;
    const char *task_type;
    double alpha;
    const lrki_peft_module *live; /* modules of rank > 0, in module order */
    int64_t n_live;
} lrki_peft_facts;

bool lrki_peft_task_known(const char *task_type);
/* LRK_ERR_UNSUPPORTED for a name that PEFT would read as something else. */
lrk_status lrki_peft_check_name(lrk_context *context, const char *name);
lrk_status lrki_peft_config_print(lrk_context *context, const lrki_peft_facts *facts, lrki_bytes *text);
/* LRK_ERR_FORMAT if the file at `path` says something else; LRK_ERR_UNSUPPORTED if it is no LoRA. */
lrk_status lrki_peft_config_check(lrk_context *context, const char *path, const lrki_peft_facts *facts);

#endif
