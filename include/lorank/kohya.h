/* SPDX-License-Identifier: MIT */
/*
 * Adapters in one safetensors file as image tools read them (kohya's sd-scripts, stable-diffusion.cpp, ComfyUI,
 * diffusers): "<name>.lora_down.weight" [r x n_in], "<name>.lora_up.weight" [n_out x r] and a scalar "<name>.alpha" of
 * each module; the tool adds  alpha / r * up down x  with the module's own r, so that ranks may differ. lorank writes
 * down = A, up = (B diag(g))^T and alpha = s * r (F32 whatever the dtype): nothing is folded but the gates. Readers take an
 * alpha of 0 for a scale of 1: where s * r rounds to 0, s is folded into up as well and alpha is r.
 *
 * Names: <name> is prefix + the module's name with '.' as '_' ("lora_unet_" + "down_blocks_0_attentions_0_..."), or, with
 * LRK_KOHYA_DOTTED, prefix + the name as it is ("unet.", diffusers' older form).
 */
#ifndef LRK_KOHYA_H
#define LRK_KOHYA_H

#include <stdint.h>

#include "adapters.h"
#include "io.h"
#include "pass.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LRK_KOHYA_DOTTED    0x1u /* dots of names are kept */
#define LRK_KOHYA_ONE_ALPHA 0x2u /* writing: every alpha is 1 and s * r is folded into up, for readers that mix alphas up */

typedef struct lrk_kohya_options {
    uint32_t struct_size;
    uint32_t flags;     /* LRK_KOHYA_... [0]                                                        */
    const char *prefix; /* before every name: "lora_unet_", "lora_te_", "unet." [NULL: "lora_unet_"] */
    int32_t dtype;      /* writing: LRK_DTYPE_F32, LRK_DTYPE_BF16 or LRK_DTYPE_F16 [LRK_DTYPE_F32]  */
    int32_t reserved;   /* 0                                                                        */
    void *user;             /* of progress                                                                */
    int32_t (*progress)(void *user, uint64_t done, uint64_t total); /* writing: bytes of tensors written; non-zero: LRK_ERR_CANCELLED [NULL] */
} lrk_kohya_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_kohya_options_init(lrk_kohya_options *options, size_t struct_size);

/*
 * Writes the set to a file (under a temporary name, synced and renamed), or to a writer. Modules of rank 0 are left out.
 * options may be NULL.
 * Errors   LRK_ERR_ARGUMENT     two modules that would have one name; unknown flags or dtype
 *          LRK_ERR_UNSUPPORTED  every module has rank 0
 *          LRK_ERR_NONFINITE    a parameter, s * r in f32, or a gated parameter in dtype, is not finite; the detail names the
 *                               module or its tensor
 *          LRK_ERR_CANCELLED    progress asked to stop; what the path held stays
 *          LRK_ERR_IO, LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Threads  shared-read.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_kohya_save(const lrk_adapters *adapters, const char *path,
                                                  const lrk_kohya_options *options);
LRK_API LRK_WARN_UNUSED lrk_status lrk_kohya_write(const lrk_adapters *adapters, const lrk_writer *writer,
                                                   const lrk_kohya_options *options);

/*
 * Loads an adapter of these names, or of diffusers' ("<name>.lora_A.weight", "<name>.lora.down.weight" and their
 * partners, with or without "<name>.alpha"), whoever wrote it: gates 1, s = alpha / r, 1 where alpha is 0 or absent. F32,
 * F16, BF16 and F64 become f32; alpha may be I32 or I64 too. A 1 x 1 convolution ([r, in, 1, 1]) is a linear layer.
 * adapters_options as for lrk_adapters_create() (init is not used; LRK_ADAPTERS_OUTLINE reads no values but alphas).
 * modules  NULL with n_modules 0: one module a pair, in byte order, named as in the file without the prefix; a pair whose
 *          name does not begin with the prefix is one for no module. Else the set has exactly these modules in this order,
 *          each of which has the pair that it would be written to, if there is one (rank, scale and scale_rule then are
 *          the file's; else the rank is 0). A pair for no module is refused.
 * Errors   LRK_ERR_FORMAT       half a pair; no tensors; shapes that do not conform or have a 0; an alpha that is no scalar or
 *                               not finite; a value that is not finite; what lrk_safetensors_open() refuses
 *          LRK_ERR_UNSUPPORTED  tensors of other methods (hada_, lokr_, dora_scale, lora_mid, diff, bias) and other dtypes,
 *                               convolutions of more than one point; the detail names the tensor
 *          LRK_ERR_NOT_FOUND    no such file; a pair for no module
 *          LRK_ERR_SHAPE        a pair that does not fit its module
 *          LRK_ERR_ARGUMENT     modules and n_modules contradict each other; two modules that are one pair; unknown flags
 *          LRK_ERR_IO, LRK_ERR_VERSION, LRK_ERR_NOMEM, LRK_ERR_CANCELLED (adapters_options->progress), those of lrk_adapters_create()
 * Threads  any.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_kohya_load(lrk_context *context, const char *path,
                                                  const lrk_kohya_options *options, const lrk_module_spec *modules,
                                                  int64_t n_modules, const lrk_adapters_options *adapters_options,
                                                  lrk_adapters **adapters);
LRK_API LRK_WARN_UNUSED lrk_status lrk_kohya_load_reader(lrk_context *context, const lrk_reader *reader,
                                                         const lrk_kohya_options *options,
                                                         const lrk_module_spec *modules, int64_t n_modules,
                                                         const lrk_adapters_options *adapters_options,
                                                         lrk_adapters **adapters);

#ifdef __cplusplus
}
#endif

#endif
