/* SPDX-License-Identifier: MIT */
/* The machine (machine.h). _GNU_SOURCE for the processor sets of sched.h; elsewhere nothing is pinned. */
#define _GNU_SOURCE
#include "machine.h"

#include <cblas.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

/* The word in a file about cache number `index` of the first processor; "" without it. */
static void read_cache_word(int index, const char *file_name, char *word)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, file_name);
    FILE *file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%15s", word) != 1) word[0] = '\0';
    if (file != NULL) fclose(file);
}

/* As Linux lists it: sysconf() gives the whole host's third level inside some virtual machines. */
size_t machine_cache(int level)
{
    static const size_t usual[] = {32 << 10, 512 << 10, 32 << 20};
    for (int index = 0; index < 8; index++) {
        char at[16], type[16], size[16];
        read_cache_word(index, "level", at);
        read_cache_word(index, "type", type);
        read_cache_word(index, "size", size);
        if (atoi(at) == level && strcmp(type, "Instruction") != 0)
            return (size_t)atol(size) << 10; /* "32768K" */
    }
    return usual[level - 1];
}

/* The first "model name" of /proc/cpuinfo. */
static void read_cpu(char *text, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(text, size, "unknown");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(text, size, "%s", strchr(line, ':') + 2);
            break;
        }
    if (file != NULL) fclose(file);
}

/* What of the instruction sets the kernels choose from this processor has. */
static const char *instructions(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return "AVX-512";
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "AVX2+FMA" : "SSE";
#elif defined(__ARM_NEON)
    return "NEON";
#else
    return "generic";
#endif
}

static const char compiler[] =
#ifdef __clang__
    "clang " __clang_version__;
#else
    "gcc " __VERSION__;
#endif

json_t *machine_describe(void)
{
    char cpu[256];
    read_cpu(cpu, sizeof cpu);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s}", "cpu", cpu, "instructions",
                     instructions(), "cpus", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "l1d_bytes",
                     (json_int_t)machine_cache(1), "l2_bytes", (json_int_t)machine_cache(2), "l3_bytes",
                     (json_int_t)machine_cache(3), "compiler", compiler, "openblas", openblas_get_config(),
                     "openblas_core", openblas_get_corename());
}

json_t *machine_pools(void)
{
    int kind = openblas_get_parallel();
    return json_pack("{s:s, s:s, s:s}", "lorank",
                     kind == OPENBLAS_THREAD ? "the caller's thread: OpenBLAS has threads of its own"
                                             : "OpenMP, through the context's default parallel_for",
                     "blas",
                     kind == OPENBLAS_OPENMP   ? "OpenMP, the same pool, split by OpenBLAS"
                     : kind == OPENBLAS_THREAD ? "OpenBLAS's own threads, beside the OpenMP pool of floor"
                                               : "the caller's thread: OpenBLAS is serial",
                     "floor", machine_threads() > 1 ? "OpenMP" : "the caller's thread");
}

int machine_threads(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

int machine_has_threads(int n)
{
    int blas = openblas_get_num_threads(), loop = machine_threads();
    int serial = openblas_get_parallel() == OPENBLAS_SEQUENTIAL;
    if (loop == n && (serial || blas == n)) return 1;
    fprintf(stderr, "bench-kernels: asked for %d threads, OpenMP has %d, OpenBLAS %d\n", n, loop, blas);
    return 0;
}

void machine_pin(int n)
{
#ifdef __linux__
    cpu_set_t may, use;
    CPU_ZERO(&use);
    if (sched_getaffinity(0, sizeof may, &may) != 0 || CPU_COUNT(&may) <= n) return;
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && CPU_COUNT(&use) < n; cpu--)
        if (CPU_ISSET(cpu, &may)) CPU_SET(cpu, &use);
    sched_setaffinity(0, sizeof use, &use);
#else
    (void)n;
#endif
}
