/* SPDX-License-Identifier: MIT */
/* skinny.h with AVX2, FMA and F16C, the x86-64-v3 level; empty unless built for it. */
#include "skinny.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

#define LANES        8
#define REGISTERS    16
#define NAME         lrki_skinny_avx2
#define INSTRUCTIONS "avx2"
#define MANY         32
#define MANY_WIDE    28
#define OWN_BF16
#include "skinny_tile.h"

INLINE vec widen_bf16(bits16 half)
{
    return (vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)half), 16);
}

INLINE bits16 narrow_bf16(vec value)
{
    __m256i bits = (__m256i)value, last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256 nan = _mm256_cmp_ps((__m256)value, (__m256)value, _CMP_UNORD_Q);
    bits = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), last);
    bits = (__m256i)_mm256_blendv_ps((__m256)bits, (__m256)_mm256_set1_epi32(0x7FC00000), nan);
    bits = _mm256_srli_epi32(bits, 16);
    return (bits16)_mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
}

INLINE vec widen_f16(bits16 half)
{
    return (vec)_mm256_cvtph_ps((__m128i)half);
}

INLINE bits16 narrow_f16(vec value)
{
    return (bits16)_mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#endif
