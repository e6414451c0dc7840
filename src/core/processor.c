/* SPDX-License-Identifier: MIT */
/*
 * Which kernels (LRK_KERNELS_...) this build has and this processor runs. A context asks once: under a hypervisor the question
 * can take longer than a call of the kernels.
 */
#include "context.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* clang's __builtin_cpu_supports() does not know it. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* AVX2 includes the operating system's word that it keeps the registers. */
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

bool lrki_processor_runs(int32_t kernels)
{
    switch (kernels) {
    case LRK_KERNELS_AUTO:
    case LRK_KERNELS_BLAS:
    case LRK_KERNELS_GENERIC:
        return true;
#if defined(__x86_64__)
    case LRK_KERNELS_AVX2:
        return has_avx2();
    case LRK_KERNELS_AVX512:
        return has_avx512();
#elif defined(__aarch64__)
    case LRK_KERNELS_NEON:
        return true;
#endif
    default:
        return false;
    }
}

int32_t lrki_processor_choose(int32_t kernels)
{
    static const int32_t fastest_first[] = {LRK_KERNELS_AVX512, LRK_KERNELS_AVX2, LRK_KERNELS_NEON,
                                            LRK_KERNELS_GENERIC};
    if (kernels != LRK_KERNELS_AUTO && kernels != LRK_KERNELS_BLAS) return kernels;
    int i = 0;
    while (!lrki_processor_runs(fastest_first[i]))
        i++;
    return fastest_first[i];
}
