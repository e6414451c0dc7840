/* SPDX-License-Identifier: MIT */
/*
 * PEFT adapter directories: adapter_config.json and adapter_model.safetensors as Hugging Face PEFT reads them.
 *
 * PEFT's factor of a module is lora_alpha / r with the module's own r (rank_pattern). With one global lora_alpha,
 * lorank writes A' = A [r x n_in] and B' = (B diag(g))^T * (s * r / lora_alpha) [n_out x r], so that PEFT computes
 * s B^T diag(g) A. Modules of rank 0 are left out, since PEFT has no rank 0. What PEFT's form cannot hold (scales,
 * gates, identities, births, rank-0 modules, the rounding of the fold) is kept in the file's metadata under "lorank.",
 * so that loading gives back every value bit for bit.
 */
#ifndef LRK_PEFT_H
#define LRK_PEFT_H

#include <stdint.h>

#include "adapters.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_peft_options {
    uint32_t struct_size;
    uint32_t flags;         /* 0                                                                          */
    const char *base_model; /* base_model_name_or_path [NULL: null]                                       */
    const char *task_type;  /* "CAUSAL_LM", "SEQ_CLS", ... one of PEFT's [NULL: null]                     */
    double alpha;           /* lora_alpha > 0 [16]                                                        */
} lrk_peft_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_peft_options_init(lrk_peft_options *options, size_t struct_size);

/*
 * Writes the directory (created if absent; its parent must exist). Each file is written under a temporary name, synced
 * and renamed, the model first: a crash leaves the old file or the new one. options may be NULL.
 * Errors   LRK_ERR_UNSUPPORTED  every module has rank 0; a module name holds characters that PEFT's patterns would take
 *                               for a regular expression (other than '.')
 *          LRK_ERR_NONFINITE    a parameter, or a folded one, is not finite; the detail names the module
 *          LRK_ERR_IO           the detail names path and reason; LRK_ERR_ARGUMENT, LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Threads  shared-read.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_peft_save(const lrk_adapters *adapters, const char *directory,
                                                 const lrk_peft_options *options);

/*
 * Loads a directory that lorank wrote: the same modules in the same order, the same bits, identities and births.
 * `options` as for lrk_adapters_create() (init is not used).
 * Errors   LRK_ERR_UNSUPPORTED  an adapter of another program, or of a newer lorank
 *          LRK_ERR_FORMAT       files that contradict each other or themselves; the detail names the tensor
 *          LRK_ERR_NOT_FOUND, LRK_ERR_IO, LRK_ERR_NOMEM, those of lrk_adapters_create()
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_peft_load(lrk_context *context, const char *directory,
                                                 const lrk_adapters_options *options, lrk_adapters **adapters);

#ifdef __cplusplus
}
#endif

#endif
