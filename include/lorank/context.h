/* SPDX-License-Identifier: MIT */
/*
 * The context: the host's services (memory, GEMM, parallel loop, log), copied at creation, and the words about errors.
 * Everything else in lorank belongs to one context. Distinct contexts share nothing.
 *
 * Callbacks run synchronously on the thread that called lorank (parallel_for's tasks: on the threads that the host
 * picks), must return normally (no longjmp, no C++ exception), and no lock is held while one runs. docs/callbacks.md
 * lists for each callback what it may call. What failed inside a callback that reports failure is added to the detail.
 */
#ifndef LRK_CONTEXT_H
#define LRK_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "export.h"
#include "status.h"
#include "workers.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_context lrk_context;

#define LRK_LOG_ERROR   0
#define LRK_LOG_WARNING 1
#define LRK_LOG_INFO    2

/*
 * One matrix product C = alpha * op(A) * op(B) + beta * C, row-major f32; op(X) is X or, when trans_x is 1, X^T.
 * op(A) is m x k, op(B) is k x n, C is m x n; ld counts elements. beta 0 means that C is not read.
 */
typedef struct lrk_gemm_args {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    int32_t trans_a;
    int32_t trans_b;
    int64_t m;
    int64_t n;
    int64_t k;
    const float *a;
    int64_t lda;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    float alpha;
    float beta;
} lrk_gemm_args;

/* Which kernels forward and backward use. */
#define LRK_KERNELS_AUTO    0 /* the fastest that the processor runs for few ranks, the GEMM for many */
#define LRK_KERNELS_BLAS    1 /* the GEMM alone                                                       */
#define LRK_KERNELS_GENERIC 2 /* portable C, at any rank; likewise:                                   */
#define LRK_KERNELS_AVX2    3 /* x86-64 with AVX2, FMA, F16C                                          */
#define LRK_KERNELS_AVX512  4 /* x86-64 with AVX-512 F, BW, VL, DQ                                    */
#define LRK_KERNELS_NEON    5 /* AArch64                                                              */

/*
 * The host's services. A NULL function means lorank's default for that service:
 *   allocate/release  libc; both or neither must be given. allocate returns NULL on failure, else memory aligned to
 *                     `alignment` (a power of two >= 8); release gets the size that was asked for. Called from any
 *                     thread that calls lorank, never from a parallel_for task. Default: on Linux, blocks of 2 MiB or
 *                     more begin on such a boundary, and their whole huge pages are advised to be such.
 *   gemm              OpenBLAS through CBLAS. Returns 0 on success. Called from parallel_for tasks too, several at once.
 *   parallel_for      runs task(task_data, i) for every i in [0, n_tasks), each exactly once, in any order and on any
 *                     threads, and returns 0 after all are done. Default: OpenMP when the linked OpenBLAS is serial or
 *                     built on OpenMP, else a serial loop (two pools would spin against each other). Tasks call BLAS
 *                     and LAPACK: a loop of threads that OpenMP does not know should keep them at one thread in every
 *                     task (OpenBLAS' OpenMP build: omp_set_num_threads(1) on each), or the last bits follow their width.
 *   log               text without newline; NULL means silence. lorank never prints.
 * `threads` is the width lorank assumes for parallel_for when it weighs whether splitting pays; 0 lets lorank ask its
 * default. Results never depend on it. They do depend, within the documented bounds, on `kernels`; lrk_context_describe()
 * says what AUTO has become.
 */
typedef struct lrk_host {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    void *memory_user;
    void *(*allocate)(void *user, size_t size, size_t alignment);
    void (*release)(void *user, void *memory, size_t size);
    void *gemm_user;
    int32_t (*gemm)(void *user, const lrk_gemm_args *args);
    void *parallel_user;
    int32_t (*parallel_for)(void *user, int64_t n_tasks, void (*task)(void *task_data, int64_t index), void *task_data);
    void *log_user;
    void (*log)(void *user, int32_t level, const char *text);
    int32_t threads;
    int32_t kernels; /* LRK_KERNELS_... [LRK_KERNELS_AUTO] */
    const lrk_workers *workers; /* the others; copied [NULL: none] */
} lrk_host;

/* Where the last failure of a thread was. -1 or 0 where it does not apply. */
typedef struct lrk_error_info {
    uint32_t struct_size;
    uint32_t flags;
    lrk_status status;
    int32_t module;    /* index in the adapter set, -1 if none */
    uint64_t identity; /* of the rank, 0 if none */
    int64_t line;      /* of a text, from 1; 0 if none */
    int64_t column;    /* of a text, from 1; 0 if none */
} lrk_error_info;

/*
 * Fills `host` with the defaults: every callback NULL, threads 0, kernels LRK_KERNELS_AUTO, no other workers.
 * Errors   LRK_ERR_ARGUMENT  host is NULL or struct_size smaller than its first two members.
 * Threads  pure.   Since 0.1
 */
LRK_API lrk_status lrk_host_init(lrk_host *host, size_t struct_size);

/*
 * Creates a context. `host` may be NULL (all defaults) and is copied.
 * On failure a NUL-terminated sentence goes to error[0..error_size) (truncated to fit; may be NULL with size 0).
 * Errors   LRK_ERR_ARGUMENT  context is NULL; only one of allocate and release given; flags not 0, threads negative,
 *                            unknown kernels; struct_size too small; of workers: flags not 0, worker or n_workers
 *                            out of range, gather NULL with more than one
 *          LRK_ERR_UNSUPPORTED  `kernels` that this build or this processor lacks
 *          LRK_ERR_VERSION   host or workers has a non-zero unknown tail
 *          LRK_ERR_NOMEM
 * Owner    the caller; every handle made from it holds a counted reference, so any order of destruction is legal.
 * Threads  any; the context itself may be used by several threads at once.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_context_create(const lrk_host *host, lrk_context **context, char *error,
                                                      size_t error_size);

/*
 * Gives up the caller's reference; its services are used until the last handle made from it is gone. NULL is ignored.
 * Threads: any. Since 0.1
 */
LRK_API void lrk_context_destroy(lrk_context *context);

/*
 * Copies the sentence about the calling thread's last failure within the context into text[0..size), NUL-terminated and
 * truncated to fit, and returns the bytes that the whole sentence needs with its NUL. "" before the first failure; a
 * success does not clear it. text may be NULL with size 0. A call that got NULL for its handle, and xxx_init(), know no
 * context: after them it is still the sentence of an earlier failure. context NULL: "".
 * Threads  any.   Since 0.1
 */
LRK_API size_t lrk_context_error(const lrk_context *context, char *text, size_t size);

/*
 * Where the calling thread's last failure was. info->struct_size must be set.
 * Errors   LRK_ERR_ARGUMENT.   Threads any.   Since 0.1
 */
LRK_API lrk_status lrk_context_error_info(const lrk_context *context, lrk_error_info *info);

/*
 * Describes the services in use, e.g. "memory=libc gemm=OpenBLAS 0.3.21 Haswell (OpenMP) parallel_for=OpenMP threads=2
 * kernels=avx2". After the version stand the kernels that OpenBLAS chose: "Prescott" with AVX2 or better means that it does not
 * know the processor and takes 3 to 5 times as long (set OPENBLAS_CORETYPE before the process starts). Same buffer rule as
 * lrk_context_error(). Threads any. Since 0.1
 */
LRK_API size_t lrk_context_describe(const lrk_context *context, char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
