/* SPDX-License-Identifier: MIT */
/*
 * Core: what every layer stands on - memory, error details, option structs, checked sizes, random streams. All
 * allocation of the library goes through here; GEMM and parallel loops go through kernels/kernels.h.
 */
#ifndef LRKI_CORE_H
#define LRKI_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lorank/context.h"
#include "lorank/status.h"

#define LRKI_ALIGN 64 /* of every allocation: a cache line, and the widest vector */

#if defined(__GNUC__)
#define LRKI_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define LRKI_PRINTF(f, a)
#endif

/* ---- context ---------------------------------------------------------------------------------------------------- */

lrk_context *lrki_context_ref(lrk_context *context);
void lrki_context_unref(lrk_context *context);

/* Memory, LRKI_ALIGN-aligned. size 0 gives NULL without failing: use lrki_array() where that matters. */
void *lrki_alloc(lrk_context *context, size_t size);
void *lrki_alloc_zeroed(lrk_context *context, size_t size);
void lrki_free(lrk_context *context, void *memory, size_t size); /* NULL is ignored */

/* n * size bytes (at least 1), zeroed; NULL on overflow or lack of memory. Freed by lrki_array_free() with the same n and size. */
void *lrki_array(lrk_context *context, int64_t n, size_t size);
void lrki_array_free(lrk_context *context, void *memory, int64_t n, size_t size);
char *lrki_text_copy(lrk_context *context,
                     const char *text); /* freed by lrki_text_free(); NULL on lack of memory */
void lrki_text_free(lrk_context *context, char *text);

/* True and *out = a * b (a + b) if the result fits in int64_t and both are >= 0. */
static inline bool lrki_mul(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}

static inline bool lrki_add(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_add_overflow(a, b, out);
}

/* ---- errors: record the calling thread's detail and return `status` ------------------------------------------------ */

#define LRKI_NO_MODULE (-1)

typedef struct lrki_place {
    int32_t module;    /* LRKI_NO_MODULE */
    uint64_t identity; /* 0 */
    int64_t line;      /* 0 */
    int64_t column;    /* 0 */
} lrki_place;

#define LRKI_NOWHERE ((lrki_place){.module = LRKI_NO_MODULE})

lrk_status lrki_fail(lrk_context *context, lrk_status status, const char *format, ...) LRKI_PRINTF(3, 4);
lrk_status lrki_fail_at(lrk_context *context, lrk_status status, lrki_place place, const char *format, ...)
    LRKI_PRINTF(4, 5);
lrk_status lrki_fail_nomem(lrk_context *context, const char *what); /* "out of memory for <what>" */

/*
 * A host callback reported failure: what made it do so is often a call of lorank inside it, whose words would be lost
 * under lorank's own. lrki_failures() before the callback; afterwards the words of the calling thread's failures since
 * then are added to the detail. LRKI_NOT_CALLED adds nothing.
 */
#define LRKI_NOT_CALLED UINT64_MAX

uint64_t lrki_failures(const lrk_context *context);
lrk_status lrki_fail_callback(lrk_context *context, lrk_status status, lrki_place place,
                              uint64_t failures_before, const char *format, ...) LRKI_PRINTF(5, 6);

void lrki_log(lrk_context *context, int32_t level, const char *format, ...) LRKI_PRINTF(3, 4);

/* ---- option structs ------------------------------------------------------------------------------------------------ */

/*
 * Copies a caller's struct over `known`, which holds the defaults. The first 4 bytes of `given` are its struct_size:
 * shorter leaves the defaults, longer is accepted if the tail is zero (LRK_ERR_VERSION), smaller than `least` or more
 * than any struct will ever need (it was never set) is LRK_ERR_ARGUMENT. `given` NULL leaves all defaults. known->struct_size is set to known_size. `name` is for the detail.
 * context may be NULL (no detail recorded).
 */
lrk_status lrki_struct_read(lrk_context *context, void *known, size_t known_size, const void *given,
                            size_t least, const char *name);

/* Writes min(struct_size of `out`, size of `filled`) bytes of `filled` to `out`, keeping out's struct_size; a longer
 * tail is zeroed. */
lrk_status lrki_struct_write(lrk_context *context, void *out, const void *filled, size_t filled_size,
                             const char *name);

/* Body of xxx_init(): writes the defaults into the first struct_size bytes, zeroes a longer tail. */
lrk_status lrki_struct_init(void *out, size_t struct_size, const void *defaults, size_t defaults_size);

/* The same for element i of a caller's array, all of whose elements have the first one's struct_size. */
lrk_status lrki_struct_read_at(lrk_context *context, void *known, size_t known_size, const void *array,
                               int64_t i, size_t least, const char *name);

/* ---- random streams: keyed, never by call order (Philox 4x32-10, Salmon et al. 2011) --------------------------------- */

#define LRKI_STREAM_INIT_A  1u
#define LRKI_STREAM_DROPOUT 2u
#define LRKI_STREAM_SCORE   3u
#define LRKI_STREAM_SKETCH  4u
#define LRKI_STREAM_UNIFORM 5u
#define LRKI_STREAM_GATE    6u
#define LRKI_STREAM_INIT_B  7u
#define LRKI_STREAM_NESTED  8u
#define LRKI_STREAM_WEIGHT  9u

typedef struct lrki_stream {
    uint32_t key[2];
    uint32_t counter[4];
} lrki_stream;

/* The stream of (seed, purpose, identity, nonce). */
lrki_stream lrki_stream_make(uint64_t seed, uint32_t purpose, uint64_t identity, uint64_t nonce);
/* Value number `index` of a stream, random access: 32 random bits. */
uint32_t lrki_stream_bits(const lrki_stream *stream, uint64_t index);
/* The same for index first..first+n-1. */
void lrki_stream_fill_bits(const lrki_stream *stream, uint64_t first, uint32_t *bits, int64_t n);
double lrki_stream_uniform(const lrki_stream *stream, uint64_t index); /* in [0, 1) with 53 bits */
/* The block function itself, for known-answer tests: out = Philox4x32-10(counter, key). */
void lrki_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* Of a sequence of numbers: begin with 0 and mix in one after another. */
uint64_t lrki_hash_mix(uint64_t hash, uint64_t value);
/* The same of n values' bits. */
uint64_t lrki_hash_floats(uint64_t hash, const float *values, int64_t n);
uint64_t lrki_hash_doubles(uint64_t hash, const double *values, int64_t n);
/* Fills n floats from U(-bound, bound), or from N(0, sigma^2). */
void lrki_stream_fill_uniform(const lrki_stream *stream, float bound, float *values, int64_t n);
void lrki_stream_fill_normal(const lrki_stream *stream, float sigma, float *values, int64_t n);

#endif
