/* SPDX-License-Identifier: MIT */
/*
 * Parallel loops: the only caller of the host's loop and the only place that knows OpenMP. The default is OpenMP unless
 * the BLAS keeps threads of its own (two pools would spin against each other) or the caller is already inside a
 * parallel region; else a serial loop. Thread counts are read, never set.
 */
#include <stdint.h>

#include "../core/context.h"
#include "kernels.h"

#ifdef _OPENMP
#include <omp.h>
#endif

static void run_serially(int64_t n, void (*task)(void *data, int64_t index), void *data)
{
    for (int64_t i = 0; i < n; i++)
        task(data, i);
}

#ifdef _OPENMP
static bool openmp_in_use(void)
{
    return !lrki_blas_has_own_threads();
}

/*
 * A single task still gets a team of two: inside an active region OpenBLAS keeps to one thread, so that the bits of a
 * product do not depend on how many tasks there are or how many threads the process has.
 */
static void run_by_default(int64_t n, void (*task)(void *data, int64_t index), void *data)
{
    int width = omp_get_max_threads();
    if (width < 2 || omp_in_parallel() || !openmp_in_use()) {
        run_serially(n, task, data);
        return;
    }
    int team = n >= width ? width : n < 2 ? 2 : (int)n;
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (int64_t i = 0; i < n; i++)
        task(data, i);
}

static int32_t default_width(void)
{
    return openmp_in_use() ? (int32_t)omp_get_max_threads() : 1;
}

const char *lrki_parallel_name(void)
{
    return openmp_in_use() ? "OpenMP" : "serial";
}
#else
static void run_by_default(int64_t n, void (*task)(void *data, int64_t index), void *data)
{
    run_serially(n, task, data);
}

static int32_t default_width(void)
{
    return 1;
}

const char *lrki_parallel_name(void)
{
    return "serial";
}
#endif

lrk_status lrki_parallel_for(lrk_context *context, int64_t n, void (*task)(void *data, int64_t index),
                             void *data)
{
    const lrk_host *host = &context->host;
    if (n <= 0) return LRK_OK;
    if (host->parallel_for == NULL) {
        run_by_default(n, task, data);
        return LRK_OK;
    }
    if (host->parallel_for(host->parallel_user, n, task, data) != 0)
        return lrki_fail(context, LRK_ERR_HOST, "the host's parallel_for reported failure");
    return LRK_OK;
}

int32_t lrki_parallel_width(const lrk_context *context)
{
    if (context->host.threads > 0) return context->host.threads;
    return context->host.parallel_for == NULL ? default_width() : 1;
}
