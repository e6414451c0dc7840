/* SPDX-License-Identifier: MIT */
/*
 * GGUF adapters: LoRA files as llama.cpp reads them (--lora), version 3, little-endian.
 *
 * A module is a pair of tensors "<base>.weight.lora_a" [r x n_in] and "<base>.weight.lora_b" [n_out x r], row-major, and
 * llama.cpp adds  adapter.lora.alpha / r * B' A' x  with the module's own r. With one alpha, lorank writes A' = A and
 * B' = P (B diag(g))^T * (s * r / alpha), the fold of PEFT directories (peft.h), so that this is s B^T diag(g) A.
 *
 * P, the order of rows, is the identity but for q and k of architecture "llama" (Llama, Mistral, ...): there llama.cpp
 * pairs neighbouring rows for its rotation, Hugging Face pairs row i with row i + d / 2 of the head's d rows. Row
 * 2 i + h of a head in the file is row h d / 2 + i of the model, h in {0, 1}. q has n_head heads, k has n_kv_head.
 *
 * Names go through rules, the caller's first, then those of the architecture: "llama" and "qwen2" know
 * [model.]layers.N.self_attn.{q,k,v,o}_proj, [model.]layers.N.mlp.{gate,up,down}_proj and lm_head; "gpt2" knows
 * [transformer.]h.N.attn.{c_attn,c_proj}, [transformer.]h.N.mlp.{c_fc,c_proj} and lm_head. Other architectures need
 * rules of the caller. Token embeddings ("token_embd") are stored otherwise and are refused.
 */
#ifndef LRK_GGUF_H
#define LRK_GGUF_H

#include <stdint.h>

#include "adapters.h"
#include "io.h"
#include "pass.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Order of the rows of B in the file. */
#define LRK_GGUF_ROWS_PLAIN 0
#define LRK_GGUF_ROWS_Q     1 /* permuted within each of n_head heads    */
#define LRK_GGUF_ROWS_K     2 /* permuted within each of n_kv_head heads */

/*
 * Maps modules to tensors: '#' (at most once, in both or in neither) stands for a number, as in
 * "model.layers.#.mlp.router" and "blk.#.ffn_gate_inp". All else is literal.
 */
typedef struct lrk_gguf_rule {
    uint32_t struct_size;
    uint32_t flags;     /* 0                                                                       */
    const char *module; /* the host's name, not empty [NULL: must be set]                          */
    const char *tensor; /* the base model's tensor without ".weight", not empty [NULL: must be set] */
    int32_t rows;       /* LRK_GGUF_ROWS_... [LRK_GGUF_ROWS_PLAIN]                                  */
    int32_t reserved;   /* 0                                                                       */
} lrk_gguf_rule;

#define LRK_GGUF_FILE_NAMES 0x1u /* modules are named as the tensors are ("blk.0.attn_q"): no rule renames them */
#define LRK_GGUF_FILE_ORDER 0x2u /* modules have their rows in the file's order: nothing is permuted            */

typedef struct lrk_gguf_options {
    uint32_t struct_size;
    uint32_t flags;             /* LRK_GGUF_FILE_... [0]                                                          */
    const char *architecture;   /* general.architecture. Writing: must be set. Reading: what it must be [NULL: any] */
    const char *name;           /* writing: general.name [NULL: none]                                             */
    double alpha;               /* writing: adapter.lora.alpha > 0, rounded to f32 [16]                           */
    int64_t n_head;             /* attention heads of the model; needed where rows are permuted [0: unknown]      */
    int64_t n_kv_head;          /* heads of k [0: n_head]                                                         */
    const lrk_gguf_rule *rules; /* tried before the architecture's own, the first that matches holds [NULL]       */
    int64_t n_rules;            /* [0]                                                                            */
    int32_t dtype;              /* writing: LRK_DTYPE_F32, LRK_DTYPE_BF16 or LRK_DTYPE_F16 [LRK_DTYPE_F32]        */
    int32_t reserved;           /* 0                                                                              */
    void *user;             /* of progress                                                                */
    int32_t (*progress)(void *user, uint64_t done, uint64_t total); /* writing: bytes of tensors written; non-zero: LRK_ERR_CANCELLED [NULL] */
} lrk_gguf_options;

/* Setting the defaults. Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_gguf_rule_init(lrk_gguf_rule *rule, size_t struct_size);
LRK_API lrk_status lrk_gguf_options_init(lrk_gguf_options *options, size_t struct_size);

/*
 * Writes the set to a file (under a temporary name, synced and renamed: a crash leaves the old file or the new one), or
 * to a writer. Modules of rank 0 are left out: llama.cpp has no rank 0. Gates and scales are folded into B (in double,
 * rounded once to f32, then to dtype); identities, births and the split of scale and gates are not kept: use PEFT
 * directories or checkpoints for those.
 * Errors   LRK_ERR_ARGUMENT     adapters, options, path or architecture is NULL or empty; unknown flags, dtype or rows; a
 *                               rule that is no rule; alpha is not a finite f32 above 0; n_head is needed and not set;
 *                               two modules that would be one tensor
 *          LRK_ERR_NOT_FOUND    a module that no rule names; the detail names it
 *          LRK_ERR_UNSUPPORTED  every module has rank 0; a token embedding; a tensor name of more than 63 bytes
 *          LRK_ERR_SHAPE        heads do not divide the rows of a permuted module into even parts; a size overflows
 *          LRK_ERR_NONFINITE    a parameter, or a folded one in dtype, is not finite; the detail names the module
 *          LRK_ERR_CANCELLED    progress asked to stop; what the path held stays
 *          LRK_ERR_IO           the detail names path or writer;  LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Threads  shared-read.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_gguf_save(const lrk_adapters *adapters, const char *path,
                                                 const lrk_gguf_options *options);
LRK_API LRK_WARN_UNUSED lrk_status lrk_gguf_write(const lrk_adapters *adapters, const lrk_writer *writer,
                                                  const lrk_gguf_options *options);

/*
 * Loads an adapter, whoever wrote it, as a set with gates 1 and scales alpha / r (1 if alpha is 0 or absent, as in
 * llama.cpp), ranks from the shapes, rows of q and k in the model's order. Tensors of F32, F16 and BF16 become f32.
 * modules  NULL with n_modules 0: one module a pair, in the order of the file, named by the rules' first that fits.
 *          Else the set has exactly these modules in this order, whose rank, scale and scale_rule are ignored where the
 *          file has a pair for them and hold (with rank 0) where it has none. A pair for no module is refused.
 * options may be NULL. adapters_options as for lrk_adapters_create() (init is not used; LRK_ADAPTERS_OUTLINE
 * reads no values).
 * Every length, count and offset is checked against the file before anything is allocated by it.
 * Errors   LRK_ERR_FORMAT       the file breaks the format: lengths, counts, types of keys, alignment, offsets, padding, duplicate
 *                               keys or tensors, half a pair, shapes of a pair that do not conform, dimensions of 0, values
 *                               that are not finite; the detail names key or tensor
 *          LRK_ERR_UNSUPPORTED  version 1 or above 3, or big-endian; not a LoRA adapter; another architecture than
 *                               options says; an adapter that acts after invocation tokens only; a ggml type that
 *                               does not convert; a tensor that is no part of a pair (a norm, say); a pair of more than
 *                               two dimensions (experts); a token embedding
 *          LRK_ERR_NOT_FOUND    no such file; a tensor that no rule names, or that is none of `modules`
 *          LRK_ERR_SHAPE        a pair that does not fit its module, or heads that do not divide its rows
 *          LRK_ERR_ARGUMENT     as above; n_head is needed and not set; two modules for one tensor
 *          LRK_ERR_IO, LRK_ERR_VERSION, LRK_ERR_NOMEM, LRK_ERR_CANCELLED (adapters_options->progress), those of lrk_adapters_create()
 * Threads  any.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_gguf_load(lrk_context *context, const char *path,
                                                 const lrk_gguf_options *options, const lrk_module_spec *modules,
                                                 int64_t n_modules, const lrk_adapters_options *adapters_options,
                                                 lrk_adapters **adapters);
LRK_API LRK_WARN_UNUSED lrk_status lrk_gguf_load_reader(lrk_context *context, const lrk_reader *reader,
                                                        const lrk_gguf_options *options,
                                                        const lrk_module_spec *modules, int64_t n_modules,
                                                        const lrk_adapters_options *adapters_options,
                                                        lrk_adapters **adapters);

#ifdef __cplusplus
}
#endif

#endif
