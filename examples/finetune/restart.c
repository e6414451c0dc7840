/* SPDX-License-Identifier: MIT */
/* Settings read before main (restart.h). */
#include "restart.h"

#include <cblas.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whether `name` was missing, and is now set. */
static bool set_missing(const char *name, const char *value)
{
    return value != NULL && getenv(name) == NULL && setenv(name, value, 1) == 0;
}

/* NULL: OpenBLAS knows this processor. */
static const char *better_core(void)
{
#if defined(__x86_64__)
    if (strcmp(openblas_get_corename(), "Prescott") != 0) return NULL;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return "SkylakeX";
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "Haswell" : NULL;
#else
    return NULL;
#endif
}

void ft_restart_tuned(char **argv)
{
    bool waits = set_missing("OMP_WAIT_POLICY", "passive"),
         core = set_missing("OPENBLAS_CORETYPE", better_core());
    if (waits || core) execv("/proc/self/exe", argv);
}
