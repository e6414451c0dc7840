/* SPDX-License-Identifier: MIT */
/*
 * Loops over a whole piece, of one type and one kind each, so that they are vectorised; one source for all instruction sets.
 */
#include "peft_unfold.h"

#include <math.h>
#include <string.h>

#include "../core/context.h"

#define INLINE       static inline __attribute__((always_inline))
#define LEAST_NORMAL 0x00800000u
#define MAGNITUDE    0x7fffffffu

enum { PIECE = LRKI_UNFOLD_PIECE };

typedef uint32_t words[PIECE];

/* Of a piece, as numbers and as their bits: copies between arrays of both would cost a fifth of the whole. */
typedef union piece {
    float values[PIECE];
    words bits;
} piece;

INLINE void multiply(const float *values, double factor, piece *products)
{
    for (int i = 0; i < PIECE; i++)
        products->values[i] = (float)((double)values[i] * factor);
}

INLINE void multiply_and_keep(const float *values, double factor, piece *kept, piece *products)
{
    for (int i = 0; i < PIECE; i++) {
        kept->values[i] = values[i];
        products->values[i] = (float)((double)values[i] * factor);
    }
}

/* The same, and in bit 31 of `below` whether the product's magnitude lies below that of `folded`. */
INLINE void multiply_and_compare(const float *values, double factor, const float *folded, piece *products,
                                 piece *below)
{
    for (int i = 0; i < PIECE; i++) {
        double product = (double)values[i] * factor;
        products->values[i] = (float)product;
        below->values[i] = (float)(fabs(product) - fabs((double)folded[i])); /* its sign survives underflow */
    }
}

/* What is known of an element, one bit each. */
enum { OPEN, TINY, LOST, DIFFERS };

INLINE void unfold(const float *folded, double factor, lrki_unfolded *u, words known)
{
    piece stored, b0, at, below, next, beside;
    multiply_and_keep(folded, factor == 0 ? 0 : 1 / factor, &stored, &b0);
    multiply_and_compare(b0.values, factor, folded, &at, &below);
    for (int i = 0; i < PIECE; i++)
        next.bits[i] = b0.bits[i] - 1 + 2 * (below.bits[i] >> 31);
    multiply(next.values, factor, &beside);
    for (int i = 0; i < PIECE; i++) {
        uint32_t tiny = (stored.bits[i] & MAGNITUDE) < LEAST_NORMAL;
        uint32_t at_folds = at.bits[i] == stored.bits[i], next_folds = beside.bits[i] == stored.bits[i];
        uint32_t two = at_folds & next_folds & ~tiny;
        uint32_t one = (next_folds & ~at_folds & ~tiny) != 0 ? next.bits[i] : b0.bits[i];
        uint32_t lesser = next.bits[i] < b0.bits[i] ? next.bits[i] : b0.bits[i];
        uint32_t greater = next.bits[i] < b0.bits[i] ? b0.bits[i] : next.bits[i];
        u->first[i] = two != 0 ? lesser : one;
        u->second[i] = two != 0 ? greater : one;
        known[i] = (two | tiny) << OPEN | tiny << TINY | ((at_folds | next_folds | tiny) ^ 1u) << LOST;
    }
}

INLINE void bytes_of(const words known, unsigned char bytes[PIECE])
{
    for (int i = 0; i < PIECE; i++)
        bytes[i] = (unsigned char)known[i];
}

INLINE void unfold_only(const float *folded, double factor, lrki_unfolded *u, unsigned char bytes[PIECE])
{
    words known;
    unfold(folded, factor, u, known);
    bytes_of(known, bytes);
}

INLINE void fold_and_unfold(const float *b, double factor, lrki_unfolded *u, unsigned char bytes[PIECE])
{
    words known;
    piece kept, folded;
    multiply_and_keep(b, factor, &kept, &folded);
    unfold(folded.values, factor, u, known);
    for (int i = 0; i < PIECE; i++)
        known[i] |= (uint32_t)(kept.bits[i] != u->first[i]) << DIFFERS;
    bytes_of(known, bytes);
}

INLINE void choose(const uint64_t chosen[LRKI_UNFOLD_WORDS], lrki_unfolded *u)
{
    for (int begin = 0; begin < PIECE; begin += 32) {
        uint32_t bits = (uint32_t)(chosen[begin / 64] >> begin % 64);
        for (int i = 0; i < 32; i++) {
            uint32_t differ = u->first[begin + i] ^ u->second[begin + i];
            u->first[begin + i] ^= differ & (0 - (bits >> i & 1));
        }
    }
}

/* ---- instruction sets ---- */

/* Of a whole piece of B' or B; what is known of its elements in bytes. */
typedef void (*unfold_call)(const float *values, double factor, lrki_unfolded *u, unsigned char bytes[PIECE]);

#define BUILT_FOR(set, attributes)                                                                           \
    attributes static void unfold_##set(const float *values, double factor, lrki_unfolded *u,                \
                                        unsigned char bytes[PIECE])                                          \
    {                                                                                                        \
        unfold_only(values, factor, u, bytes);                                                               \
    }                                                                                                        \
    attributes static void fold_and_unfold_##set(const float *values, double factor, lrki_unfolded *u,       \
                                                 unsigned char bytes[PIECE])                                 \
    {                                                                                                        \
        fold_and_unfold(values, factor, u, bytes);                                                           \
    }                                                                                                        \
    attributes static void choose_##set(const uint64_t chosen[LRKI_UNFOLD_WORDS], lrki_unfolded *u)          \
    {                                                                                                        \
        choose(chosen, u);                                                                                   \
    }

BUILT_FOR(baseline, )
#if defined(__x86_64__)
BUILT_FOR(avx2, __attribute__((target("avx2"))))
BUILT_FOR(avx512, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))))
#define CHOSEN(name, set)                                                                                    \
    ((set) == LRK_KERNELS_AVX512 ? name##_avx512 : (set) == LRK_KERNELS_AVX2 ? name##_avx2 : name##_baseline)
#else
#define CHOSEN(name, set) ((void)(set), name##_baseline)
#endif

/* ---- masks ---- */

/* What is known of any. */
static unsigned union_of(const unsigned char *bytes)
{
    unsigned char any = 0;
    for (int i = 0; i < PIECE; i++)
        any |= bytes[i];
    return any;
}

/* Bit i = whether bytes[i] has that bit: eight bytes of 0 or 1 times the constant have theirs in the uppermost. */
static uint64_t word_of(const unsigned char *bytes, unsigned bit)
{
    uint64_t word = 0;
    for (int k = 0; k < 8; k++) {
        uint64_t eight = 0;
        for (int i = 0; i < 8; i++)
            eight |= (uint64_t)bytes[8 * k + i] << 8 * i;
        word |= ((eight >> bit & 0x0101010101010101u) * 0x0102040810204080u >> 56) << 8 * k;
    }
    return word;
}

static void mask_of(const unsigned char *bytes, unsigned any, unsigned bit, uint64_t mask[LRKI_UNFOLD_WORDS])
{
    for (int k = 0; k < LRKI_UNFOLD_WORDS; k++)
        mask[k] = (any >> bit & 1) != 0 ? word_of(bytes + 64 * k, bit) : 0;
}

/* Elements past the piece of n are in no mask. `differs` may be NULL. */
static void run(unfold_call call, const float *values, int64_t n, double factor, lrki_unfolded *u,
                uint64_t *differs)
{
    float copy[PIECE];
    unsigned char bytes[PIECE];
    if (n < PIECE) {
        memcpy(copy, values, (size_t)n * sizeof *values);
        memset(copy + n, 0, (size_t)(PIECE - n) * sizeof *values);
    }
    call(n < PIECE ? copy : values, factor, u, bytes);
    memset(bytes + n, 0, (size_t)(PIECE - n));
    unsigned any = union_of(bytes);
    mask_of(bytes, any, OPEN, u->open);
    mask_of(bytes, any, TINY, u->tiny);
    mask_of(bytes, any, LOST, u->lost);
    if (differs != NULL) mask_of(bytes, any, DIFFERS, differs);
}

void lrki_unfold(const lrk_context *context, const float *folded, int64_t n, double factor,
                 lrki_unfolded *unfolded)
{
    run(CHOSEN(unfold, context->instructions), folded, n, factor, unfolded, NULL);
}

void lrki_fold_and_unfold(const lrk_context *context, const float *b, int64_t n, double factor,
                          lrki_unfolded *unfolded, uint64_t differs[LRKI_UNFOLD_WORDS])
{
    run(CHOSEN(fold_and_unfold, context->instructions), b, n, factor, unfolded, differs);
}

void lrki_unfold_choose(const lrk_context *context, const uint64_t chosen[LRKI_UNFOLD_WORDS],
                        lrki_unfolded *unfolded)
{
    CHOSEN(choose, context->instructions)(chosen, unfolded);
}
