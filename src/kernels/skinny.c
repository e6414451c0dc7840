/* SPDX-License-Identifier: MIT */
/* Which implementation of skinny.h a choice of kernels means on this processor. */
#include "skinny.h"

#include <stddef.h>

#include "../core/context.h"

static const struct {
    int32_t kernels;
    const lrki_skinny *implementation;
} implementations[] = {/* fastest first */
#if defined(__x86_64__)
                       {LRK_KERNELS_AVX512, &lrki_skinny_avx512},
                       {LRK_KERNELS_AVX2, &lrki_skinny_avx2},
#elif defined(__aarch64__)
                       {LRK_KERNELS_NEON, &lrki_skinny_neon},
#endif
                       {LRK_KERNELS_GENERIC, &lrki_skinny_generic}};

const lrki_skinny *lrki_skinny_find(int32_t kernels)
{
    bool any = kernels == LRK_KERNELS_AUTO || kernels == LRK_KERNELS_BLAS;
    for (size_t i = 0; i < sizeof implementations / sizeof implementations[0]; i++)
        if ((any || implementations[i].kernels == kernels) && lrki_processor_runs(implementations[i].kernels))
            return implementations[i].implementation;
    return NULL;
}
