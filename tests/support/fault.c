/* SPDX-License-Identifier: MIT */
/*
 * The counting host (fault.h). Counters are atomic, for GEMMs come from parallel tasks. Every block carries its size in
 * front, so that a release is checked against the request. The GEMM is a plain triple loop: its bits do not depend on
 * threads, and it stays apart from the library under test.
 */
#include "fault.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#define BLOCK_MAGIC 0x6c6f72616e6b2121u
#define MAX_THREADS 16

typedef struct block {
    uint64_t magic;
    size_t size;
    void *base;
} block;

/* Counts a request; true if it is to fail. */
static bool count(fault_counter *c)
{
    int64_t number = __atomic_fetch_add(&c->calls, 1, __ATOMIC_RELAXED);
    if (c->fail_at < 0) return false;
    return c->sticky ? number >= c->fail_at : number == c->fail_at;
}

static void *counting_allocate(void *user, size_t size, size_t alignment)
{
    fault *f = user;
    if (count(&f->alloc)) return NULL;
    ck_assert_uint_gt(size, 0);
    ck_assert(alignment >= 8 && (alignment & (alignment - 1)) == 0);
    unsigned char *base = malloc(size + alignment + sizeof(block));
    ck_assert_ptr_nonnull(base);
    uintptr_t first = (uintptr_t)base + sizeof(block);
    unsigned char *memory = base + ((first + alignment - 1) / alignment * alignment - (uintptr_t)base);
    block head = {.magic = BLOCK_MAGIC, .size = size, .base = base};
    memcpy(memory - sizeof head, &head, sizeof head);
    memset(memory, 0xFF, size); /* NaN: a value that nobody wrote shows */
    __atomic_add_fetch(&f->live, 1, __ATOMIC_RELAXED);
    size_t live = __atomic_add_fetch(&f->live_bytes, size, __ATOMIC_RELAXED);
    size_t peak = __atomic_load_n(&f->peak_bytes, __ATOMIC_RELAXED);
    while (live > peak && !__atomic_compare_exchange_n(&f->peak_bytes, &peak, live, false, __ATOMIC_RELAXED,
                                                       __ATOMIC_RELAXED))
        ;
    return memory;
}

static void counting_release(void *user, void *memory, size_t size)
{
    fault *f = user;
    block head;
    memcpy(&head, (unsigned char *)memory - sizeof head, sizeof head);
    if (head.magic != BLOCK_MAGIC || head.size != size) {
        f->bad_release = true;
        return;
    }
    memset((unsigned char *)memory - sizeof head, 0, sizeof head);
    __atomic_sub_fetch(&f->live, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&f->live_bytes, size, __ATOMIC_RELAXED);
    free(head.base);
}

static int32_t counting_gemm(void *user, const lrk_gemm_args *g)
{
    fault *f = user;
    if (count(&f->gemm)) return 1;
    __atomic_add_fetch(&f->multiply_adds, g->m * g->n * g->k, __ATOMIC_RELAXED);
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            float sum = 0.0f;
            for (int64_t k = 0; k < g->k; k++)
                sum += (g->trans_a ? g->a[k * g->lda + i] : g->a[i * g->lda + k]) *
                       (g->trans_b ? g->b[j * g->ldb + k] : g->b[k * g->ldb + j]);
            float *c = &g->c[i * g->ldc + j];
            *c = g->alpha * sum + (g->beta == 0.0f ? 0.0f : g->beta * *c);
        }
    return 0;
}

typedef struct loop {
    int64_t n;
    int64_t next; /* atomic */
    void (*task)(void *data, int64_t index);
    void *data;
} loop;

/* Of the calling thread's OpenBLAS: a loop of threads that OpenMP does not know keeps it at one, so that bits are the same on all. */
static int set_blas_width(int width)
{
#ifdef _OPENMP
    int before = omp_get_max_threads();
    omp_set_num_threads(width);
    return before;
#else
    return width;
#endif
}

static void *work(void *argument)
{
    loop *l = argument;
    int width = set_blas_width(1);
    for (int64_t i; (i = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED)) < l->n;)
        l->task(l->data, i);
    (void)set_blas_width(width);
    return NULL;
}

static int32_t counting_parallel_for(void *user, int64_t n, void (*task)(void *data, int64_t index),
                                     void *data)
{
    fault *f = user;
    if (count(&f->loop)) return 1;
    loop l = {.n = n, .task = task, .data = data};
    pthread_t threads[MAX_THREADS];
    int started = 0;
    while (started < f->threads - 1 && started < MAX_THREADS) {
        if (pthread_create(&threads[started], NULL, work, &l) != 0) break;
        started++;
    }
    work(&l);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

static void keep_log(void *user, int32_t level, const char *text)
{
    fault *f = user;
    snprintf(f->log, sizeof f->log, "%d: %s", (int)level, text);
}

void fault_reset(fault *f)
{
    *f = (fault){.alloc.fail_at = -1,
                 .gemm.fail_at = -1,
                 .loop.fail_at = -1,
                 .threads = 1,
                 .kernels = LRK_KERNELS_BLAS};
}

lrk_host fault_host(fault *f)
{
    lrk_host host;
    ck_assert_int_eq(lrk_host_init(&host, sizeof host), LRK_OK);
    host.memory_user = f;
    host.allocate = counting_allocate;
    host.release = counting_release;
    host.gemm_user = f;
    host.gemm = counting_gemm;
    host.parallel_user = f;
    host.parallel_for = counting_parallel_for;
    host.log_user = f;
    host.log = keep_log;
    host.threads = f->threads;
    host.kernels = f->kernels;
    return host;
}

lrk_context *fault_context(fault *f)
{
    char error[256];
    lrk_host host = fault_host(f);
    lrk_context *context = NULL;
    ck_assert_msg(lrk_context_create(&host, &context, error, sizeof error) == LRK_OK, "%s", error);
    return context;
}
