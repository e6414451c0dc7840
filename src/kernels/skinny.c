/* SPDX-License-Identifier: MIT */
/* Which implementation of skinny.h a choice of kernels means on this processor. */
#include "skinny.h"

#include <stddef.h>

#include "../core/context.h"

static const lrki_skinny *skinny_of(int32_t instructions)
{
    switch (instructions) {
#if defined(__x86_64__)
    case LRK_KERNELS_AVX512:
        return &lrki_skinny_avx512;
    case LRK_KERNELS_AVX2:
        return &lrki_skinny_avx2;
#elif defined(__aarch64__)
    case LRK_KERNELS_NEON:
        return &lrki_skinny_neon;
#endif
    default:
        return &lrki_skinny_generic;
    }
}

const lrki_skinny *lrki_skinny_find(int32_t kernels)
{
    return lrki_processor_runs(kernels) ? skinny_of(lrki_processor_choose(kernels)) : NULL;
}

const lrki_skinny *lrki_skinny_in(const lrk_context *context)
{
    return skinny_of(context->instructions);
}

int64_t lrki_fused_ranks(const lrk_context *context, int64_t rows, int64_t n_in, int64_t n_out)
{
    int32_t kernels = context->host.kernels;
    const lrki_skinny *skinny = lrki_skinny_in(context);
    if (kernels == LRK_KERNELS_BLAS) return 0;
    if (kernels != LRK_KERNELS_AUTO || rows <= LRKI_FEW_TOKENS) return INT64_MAX;
    bool wide = n_in >= LRKI_WIDE || n_out >= LRKI_WIDE - n_in;
    return wide ? skinny->many_wide : skinny->many;
}
