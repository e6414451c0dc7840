/* SPDX-License-Identifier: MIT */
/*
 * PEFT adapters: adapter_config.json and adapter_model.safetensors as Hugging Face PEFT reads and writes them.
 *
 * PEFT's factor of a module is lora_alpha / r with the module's own r (rank_pattern). With one global lora_alpha,
 * lorank writes A' = A [r x n_in] and B' = (B diag(g))^T * (s * r / lora_alpha) [n_out x r], so that PEFT computes
 * s B^T diag(g) A. Modules of rank 0 are left out, since PEFT has no rank 0. What PEFT's form cannot hold (scales,
 * gates, identities, births, rank-0 modules, the rounding of the fold) is kept in the model's metadata under "lorank.",
 * so that loading gives back every value bit for bit; uniform and 16-bit files, which lose some of it, hold none of it
 * and load as another program's would.
 */
#ifndef LRK_PEFT_H
#define LRK_PEFT_H

#include <stdint.h>

#include "adapters.h"
#include "io.h"
#include "pass.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * One rank for all: A' gets rows of zeros and B' columns of zeros up to R = the greatest rank, r = R, no rank_pattern,
 * B' = (B diag(g))^T * (s * R / lora_alpha): for readers without rank_pattern (vLLM and the like), at the cost of size.
 */
#define LRK_PEFT_UNIFORM        0x1u
#define LRK_PEFT_FAN_IN_FAN_OUT 0x2u /* fan_in_fan_out true: for GPT-2's Conv1D. The tensors are the same. */

typedef struct lrk_peft_options {
    uint32_t struct_size;
    uint32_t flags;         /* LRK_PEFT_... [0]                                                           */
    const char *base_model; /* base_model_name_or_path [NULL: null]                                       */
    const char *task_type;  /* "CAUSAL_LM", "SEQ_CLS", ... one of PEFT's [NULL: null]                     */
    double alpha;           /* lora_alpha > 0 [16]                                                        */
    int32_t dtype;          /* LRK_DTYPE_F32, LRK_DTYPE_BF16 or LRK_DTYPE_F16 [LRK_DTYPE_F32]             */
    int32_t reserved;       /* 0                                                                          */
    void *user;             /* of progress                                                                */
    int32_t (*progress)(void *user, uint64_t done, uint64_t total); /* bytes of tensors written; non-zero: LRK_ERR_CANCELLED [NULL] */
} lrk_peft_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_peft_options_init(lrk_peft_options *options, size_t struct_size);

/*
 * Writes the directory (created if absent; its parent must exist). Each file is written under a temporary name, synced
 * and renamed, the model first: a crash leaves the old file or the new one. Or writes the two files to writers, the
 * model first. options may be NULL.
 * Errors   LRK_ERR_UNSUPPORTED  every module has rank 0; a module name holds characters that PEFT's patterns would take
 *                               for a regular expression (other than '.')
 *          LRK_ERR_NONFINITE    a parameter, or a folded one in dtype, is not finite; the detail names the module
 *          LRK_ERR_CANCELLED    progress asked to stop; what the path held stays
 *          LRK_ERR_IO           the detail names path and reason; LRK_ERR_ARGUMENT, LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Threads  shared-read.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_peft_save(const lrk_adapters *adapters, const char *directory,
                                                 const lrk_peft_options *options);
LRK_API LRK_WARN_UNUSED lrk_status lrk_peft_write(const lrk_adapters *adapters, const lrk_writer *config,
                                                  const lrk_writer *model, const lrk_peft_options *options);

/*
 * Loads an adapter, whoever wrote it. `adapters_options` as for lrk_adapters_create() (init is not used);
 * LRK_ADAPTERS_OUTLINE reads no values.
 *
 * With lorank's own metadata: the same modules in the same order, the same bits, identities and births; `modules` must
 * then be NULL.
 * Without: peft_type LORA or ADALORA, ranks from the shapes, gates 1, F32, F16, BF16 and F64 tensors become f32.
 *   LORA     s = alpha / r, or alpha / sqrt(r) with use_rslora; alpha of the first key of alpha_pattern that matches as PEFT
 *            (>= 0.15) matches it, re.match("(.*\\.)?(KEY)$", name), else lora_alpha; r of rank_pattern or r must be the
 *            shapes'.
 *   ADALORA  delta = B (A * E) * lora_alpha / (init_r + 1e-5): lora_E goes into the gates, the factor is s.
 *   modules NULL with n_modules 0: one module a pair, in byte order of its name, named as in PEFT without
 *   "base_model.model.". Else the set has exactly these modules in this order: a pair belongs to the module whose name is
 *   its own, else to the only one of which one name ends with the other after a '.'; rank, scale and scale_rule of a spec
 *   are ignored where the file has a pair for it; elsewhere the rank is 0 and the scale holds (by an alpha rule: for the
 *   spec's rank).
 * Errors   LRK_ERR_UNSUPPORTED  what lorank does not compute; the detail names the field or tensor: another peft_type,
 *                               use_dora (lora_magnitude_vector), bias other than "none", modules_to_save, embeddings,
 *                               convolutions, lora_bias, trainable_token_indices, target_parameters, layer_replication,
 *                               megatron_config, alora_invocation_tokens, an init_lora_weights that changes the base
 *                               model ("pissa", "olora", "corda", "loftq", ...), a pattern that is a regular expression
 *                               beyond what lorank matches exactly (docs/peft.md); a field that is not known and on; a
 *                               newer lorank. A number in an unknown field is logged as a warning
 *          LRK_ERR_FORMAT       files that contradict each other or themselves; the detail names key or tensor
 *          LRK_ERR_NOT_FOUND    no such file; a pair for none of `modules`
 *          LRK_ERR_SHAPE        a pair that does not fit its module
 *          LRK_ERR_ARGUMENT     a pair that fits several modules, a module that several pairs fit; `modules` with lorank's own metadata
 *          LRK_ERR_IO, LRK_ERR_NOMEM, LRK_ERR_VERSION, LRK_ERR_CANCELLED (adapters_options->progress), those of lrk_adapters_create()
 * Threads  any.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_peft_load(lrk_context *context, const char *directory,
                                                 const lrk_module_spec *modules, int64_t n_modules,
                                                 const lrk_adapters_options *adapters_options,
                                                 lrk_adapters **adapters);
LRK_API LRK_WARN_UNUSED lrk_status lrk_peft_load_readers(lrk_context *context, const lrk_reader *config,
                                                         const lrk_reader *model, const lrk_module_spec *modules,
                                                         int64_t n_modules,
                                                         const lrk_adapters_options *adapters_options,
                                                         lrk_adapters **adapters);

#ifdef __cplusplus
}
#endif

#endif
