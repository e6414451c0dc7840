/* SPDX-License-Identifier: MIT */
/*
 * The context's life: reading the host's services, defaults for memory (libc), counted references. Defaults for GEMM
 * and the parallel loop stay NULL here and are resolved in kernels/, the layer that knows a BLAS.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "context.h"

/* ---- default memory --------------------------------------------------------------------------------------------------- */

/* Bytes of one of x86-64, and of AArch64 with pages of 4 KiB; elsewhere the advice is without effect. */
#define HUGE_PAGE ((size_t)1 << 21)

/* AddressSanitizer sees the ends of blocks only where they are those of libc's. GCC and Clang tell of it in words of their own. */
#if defined(__SANITIZE_ADDRESS__)
#define IS_WATCHED 1
#elif defined(__has_feature)
#define IS_WATCHED __has_feature(address_sanitizer)
#else
#define IS_WATCHED 0
#endif

#if defined(MADV_HUGEPAGE) && !IS_WATCHED
enum { HAS_HUGE_PAGES = 1 };
static void advise(void *block, size_t size)
{
    (void)madvise(block, size, MADV_HUGEPAGE);
}
#else /* where systems have no such advice, madvise() may be undeclared */
enum { HAS_HUGE_PAGES = 0 };
static void advise(const void *block, size_t size)
{
    (void)block;
    (void)size;
}
#endif

static bool is_large(size_t size)
{
    return HAS_HUGE_PAGES && size >= HUGE_PAGE;
}

/*
 * A large block begins on a huge page, and Linux is advised to use such pages within it: not for its tail, of which a whole one
 * would be resident. What becomes of the advice does not matter (decision 18). By malloc() with room in front, where its own
 * pointer is kept: of aligned blocks that are freed and taken again glibc would make a new mapping every time.
 */
static void *allocate_large(size_t size)
{
    char *whole, *block;
    if (size > SIZE_MAX - HUGE_PAGE - sizeof whole) return NULL;
    whole = malloc(size + HUGE_PAGE + sizeof whole);
    if (whole == NULL) return NULL;
    block = whole + sizeof whole;
    block += (HUGE_PAGE - (uintptr_t)block % HUGE_PAGE) % HUGE_PAGE;
    memcpy(block - sizeof whole, &whole, sizeof whole);
    advise(block, size - size % HUGE_PAGE);
    return block;
}

static void release_large(const char *block)
{
    char *whole;
    memcpy(&whole, block - sizeof whole, sizeof whole);
    free(whole);
}

/* lorank asks for no alignment above a huge page. */
static void *libc_allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    if (is_large(size)) return allocate_large(size);
    if (size > SIZE_MAX - alignment) return NULL;
    size_t rounded = (size + alignment - 1) / alignment * alignment; /* aligned_alloc wants a multiple */
    return aligned_alloc(alignment, rounded);
}

static void libc_release(void *user, void *memory, size_t size)
{
    (void)user;
    if (is_large(size))
        release_large(memory);
    else
        free(memory);
}

/* ---- contexts ---------------------------------------------------------------------------------------------------------- */

bool lrki_memory_is_libc(const lrk_context *context)
{
    return context->host.allocate == libc_allocate;
}

lrk_status lrk_host_init(lrk_host *host, size_t struct_size)
{
    lrk_host defaults = {.struct_size = sizeof defaults};
    return lrki_struct_init(host, struct_size, &defaults, sizeof defaults);
}

static lrk_status refuse(lrk_status status, const char *why, char *error, size_t error_size)
{
    lrki_text_give(why, error, error_size);
    return status;
}

/* Reads and checks the caller's host; memory functions are filled in. */
static lrk_status read_host(const lrk_host *given, lrk_host *host, char *error, size_t error_size)
{
    lrk_host_init(host, sizeof *host);
    lrk_status status = lrki_struct_read(NULL, host, sizeof *host, given, 2 * sizeof(uint32_t), "lrk_host");
    if (status == LRK_ERR_VERSION)
        return refuse(status, "lrk_host is larger than this library knows and its tail is not zero", error,
                      error_size);
    if (status != LRK_OK)
        return refuse(status, "lrk_host: struct_size cannot be: lrk_host_init() sets it", error, error_size);
    if (host->flags != 0) return refuse(LRK_ERR_ARGUMENT, "lrk_host: flags must be 0", error, error_size);
    if (host->kernels < LRK_KERNELS_AUTO || host->kernels > LRK_KERNELS_NEON)
        return refuse(LRK_ERR_ARGUMENT, "lrk_host: unknown kernels", error, error_size);
    if (!lrki_processor_runs(host->kernels))
        return refuse(LRK_ERR_UNSUPPORTED, "lrk_host: this build or this processor lacks these kernels",
                      error, error_size);
    if (host->threads < 0)
        return refuse(LRK_ERR_ARGUMENT, "lrk_host: threads must not be negative", error, error_size);
    if ((host->allocate == NULL) != (host->release == NULL))
        return refuse(LRK_ERR_ARGUMENT, "lrk_host: allocate and release must be given together", error,
                      error_size);
    if (host->allocate == NULL) {
        host->allocate = libc_allocate;
        host->release = libc_release;
    }
    return LRK_OK;
}

lrk_status lrk_context_create(const lrk_host *given, lrk_context **out, char *error, size_t error_size)
{
    lrk_host host;
    if (out != NULL) *out = NULL;
    if (error != NULL && error_size > 0) error[0] = '\0';
    if (out == NULL) return refuse(LRK_ERR_ARGUMENT, "context must not be NULL", error, error_size);
    lrk_status status = read_host(given, &host, error, error_size);
    if (status != LRK_OK) return status;
    lrk_workers workers;
    const char *why;
    status = lrki_workers_read(host.workers, &workers, &why);
    if (status != LRK_OK) return refuse(status, why, error, error_size);

    lrk_context *context = host.allocate(host.memory_user, sizeof *context, LRKI_ALIGN);
    if (context == NULL) return refuse(LRK_ERR_NOMEM, "out of memory for the context", error, error_size);
    *context = (lrk_context){.references = 1,
                             .host = host,
                             .instructions = lrki_processor_choose(host.kernels),
                             .workers = workers};
    context->host.workers = NULL; /* the caller's */
    bool opened = lrki_workers_open(context);
    if (!opened || pthread_mutex_init(&context->errors_lock, NULL) != 0) {
        lrki_workers_close(context);
        host.release(host.memory_user, context, sizeof *context);
        return refuse(LRK_ERR_NOMEM, "out of memory for the context", error, error_size);
    }
    *out = context;
    return LRK_OK;
}

lrk_context *lrki_context_ref(lrk_context *context)
{
    __atomic_add_fetch(&context->references, 1, __ATOMIC_RELAXED);
    return context;
}

void lrki_context_unref(lrk_context *context)
{
    if (context == NULL || __atomic_sub_fetch(&context->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    lrk_host host = context->host;
    lrki_workers_close(context);
    pthread_mutex_destroy(&context->errors_lock);
    host.release(host.memory_user, context, sizeof *context);
}

void lrk_context_destroy(lrk_context *context)
{
    lrki_context_unref(context);
}
