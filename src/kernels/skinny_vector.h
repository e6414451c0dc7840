/* SPDX-License-Identifier: MIT */
/*
 * Vectors of LANES floats for skinny_tile.h: values of any dtype loaded and stored, whole or in part, and the sums of
 * several vectors at once. The file that includes skinny_tile.h has widen_f16() and narrow_f16() for its instructions, and
 * with OWN_BF16 also widen_bf16() and narrow_bf16().
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#if defined(__x86_64__)
#define PIN(v) __asm__("" : "+v"(v))
#elif defined(__aarch64__)
#define PIN(v) __asm__("" : "+w"(v))
#else
#define PIN(v)
#endif

#define F32  0
#define BF16 1
#define F16  2

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef float vec_memory __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint32_t bits32 __attribute__((vector_size(LANES * 4)));
typedef uint16_t bits16 __attribute__((vector_size(LANES * 2)));
typedef uint16_t bits16_memory __attribute__((vector_size(LANES * 2), aligned(2), may_alias));

INLINE vec widen_f16(bits16 half);
INLINE bits16 narrow_f16(vec value);

/* ---- loads and stores ---------------------------------------------------------------------------------------------- */

#ifdef OWN_BF16 /* the compiler makes poor code of what follows */
INLINE vec widen_bf16(bits16 half);
INLINE bits16 narrow_bf16(vec value);
#else
INLINE vec widen_bf16(bits16 half)
{
    return (vec)(__builtin_convertvector(half, bits32) << 16);
}

/* To nearest even; a NaN stays one. */
INLINE bits16 narrow_bf16(vec value)
{
    bits32 bits = (bits32)value;
    bits32 rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    bits32 quiet = (bits >> 16) | 0x40;
    bits32 is_nan = (bits32)(value != value);
    return __builtin_convertvector((is_nan & quiet) | (~is_nan & rounded), bits16);
}
#endif

INLINE const char *at(const void *row, const int dtype, int64_t k)
{
    return (const char *)row + k * (dtype == F32 ? 4 : 2);
}

INLINE void *at_mut(void *row, const int dtype, int64_t k)
{
    return (char *)row + k * (dtype == F32 ? 4 : 2);
}

INLINE vec load(const void *p, const int dtype)
{
    if (dtype == F32) return *(const vec_memory *)p;
    bits16 half = *(const bits16_memory *)p;
    return dtype == BF16 ? widen_bf16(half) : widen_f16(half);
}

INLINE void store(void *p, const int dtype, vec value)
{
    if (dtype == F32)
        *(vec_memory *)p = value;
    else
        *(bits16_memory *)p = dtype == BF16 ? narrow_bf16(value) : narrow_f16(value);
}

/* The first n < LANES values; the others are 0. */
INLINE vec load_part(const void *p, const int dtype, int64_t n)
{
    float whole[LANES] = {0};
    memcpy(whole, p, (size_t)n * (dtype == F32 ? 4 : 2));
    return load(whole, dtype);
}

INLINE void store_part(void *p, const int dtype, vec value, int64_t n)
{
    float whole[LANES];
    store(whole, dtype, value);
    memcpy(p, whole, (size_t)n * (dtype == F32 ? 4 : 2));
}

INLINE vec broadcast(float value)
{
    return value - (vec){0};
}

/* ---- sums over a vector ---------------------------------------------------------------------------------------------- */

/*
 * JOIN_w(a, b): in each run of 2w lanes, the sums of a's run folded to w lanes, then b's. Joining v0..v3 with v4..v7, then
 * halves again, puts the sums of 8 vectors beside each other in order.
 */
#define SHUFFLE __builtin_shufflevector
#if LANES == 16
#define JOIN_8(a, b)                                                                                         \
    (SHUFFLE(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +                                 \
     SHUFFLE(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#define JOIN_4(a, b)                                                                                         \
    (SHUFFLE(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +                               \
     SHUFFLE(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
#define JOIN_2(a, b)                                                                                         \
    (SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +                               \
     SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
#define JOIN_1(a, b)                                                                                         \
    (SHUFFLE(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +                              \
     SHUFFLE(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
#elif LANES == 8
#define JOIN_4(a, b) (SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15))
#define JOIN_2(a, b) (SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13) + SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15))
#define JOIN_1(a, b) (SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14) + SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15))
#else
#define JOIN_2(a, b) (SHUFFLE(a, b, 0, 1, 4, 5) + SHUFFLE(a, b, 2, 3, 6, 7))
#define JOIN_1(a, b) (SHUFFLE(a, b, 0, 4, 2, 6) + SHUFFLE(a, b, 1, 5, 3, 7))
#endif

/* Vector i of a list that ends with zeros. */
INLINE vec one_of(const vec *v, const int n, const int i)
{
    return i < n ? v[i] : (vec){0};
}

typedef float quad __attribute__((vector_size(16)));
typedef float quad_memory __attribute__((vector_size(16), aligned(4), may_alias));

/* Sums of n <= 4 vectors. */
INLINE quad four_sums(const vec *v, const int n)
{
    vec a = one_of(v, n, 0), b = one_of(v, n, 1), c = one_of(v, n, 2), d = one_of(v, n, 3);
#if LANES == 16
    vec quads = JOIN_4(JOIN_8(a, c), JOIN_8(b, d)), pairs = JOIN_2(quads, quads), sums = JOIN_1(pairs, pairs);
    return SHUFFLE(sums, sums, 0, 4, 8, 12);
#elif LANES == 8
    vec pairs = JOIN_2(JOIN_4(a, c), JOIN_4(b, d)), sums = JOIN_1(pairs, pairs);
    return SHUFFLE(sums, sums, 0, 2, 4, 6);
#else
    return JOIN_1(JOIN_2(a, c), JOIN_2(b, d));
#endif
}

/* The same of n <= 8 vectors. */
INLINE void eight_sums(const vec *v, const int n, quad sums[2])
{
#if LANES == 16
    vec a = JOIN_8(one_of(v, n, 0), one_of(v, n, 4)), b = JOIN_8(one_of(v, n, 1), one_of(v, n, 5)),
        c = JOIN_8(one_of(v, n, 2), one_of(v, n, 6)), d = JOIN_8(one_of(v, n, 3), one_of(v, n, 7));
    vec pairs = JOIN_2(JOIN_4(a, c), JOIN_4(b, d)), all = JOIN_1(pairs, pairs);
    sums[0] = SHUFFLE(all, all, 0, 2, 4, 6);
    sums[1] = SHUFFLE(all, all, 8, 10, 12, 14);
#else
    sums[0] = four_sums(v, n < 4 ? n : 4);
    sums[1] = four_sums(v + 4, n - 4);
#endif
}

/* out[0..n) (+)= sums of the n <= 8 vectors. */
INLINE void give_sums(const vec *v, const int n, const bool add, float *out)
{
    quad sums[2];
    if (n > 4)
        eight_sums(v, n, sums);
    else
        sums[0] = four_sums(v, n);
    UNROLL for (int from = 0; from < n; from += 4)
    {
        quad part = sums[from / 4];
        quad_memory *whole = (quad_memory *)(out + from);
        if (from + 4 <= n) {
            if (add) part += *whole;
            *whole = part;
        } else {
            UNROLL for (int i = from; i < n; i++) out[i] = add ? out[i] + part[i - from] : part[i - from];
        }
    }
}
