/* SPDX-License-Identifier: MIT */
/* lrk_context_describe(): which services a context uses. Here because the defaults are the kernels'. */
#include <stdio.h>

#include "../core/context.h"
#include "kernels.h"
#include "skinny.h"

size_t lrk_context_describe(const lrk_context *context, char *text, size_t size)
{
    if (context == NULL) return lrki_text_give("", text, size);
    const lrk_host *host = &context->host;
    char gemm[64], all[256];
    if (host->gemm == NULL)
        lrki_gemm_describe(gemm, sizeof gemm);
    else
        snprintf(gemm, sizeof gemm, "host");
    const char *kernels = host->kernels == LRK_KERNELS_BLAS ? "blas" : lrki_skinny_in(context)->name;
    snprintf(all, sizeof all, "memory=%s gemm=%s parallel_for=%s threads=%d kernels=%s",
             lrki_memory_is_libc(context) ? "libc" : "host", gemm,
             host->parallel_for == NULL ? lrki_parallel_name() : "host", (int)lrki_parallel_width(context),
             kernels);
    return lrki_text_give(all, text, size);
}
