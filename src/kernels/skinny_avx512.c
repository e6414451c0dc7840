/* SPDX-License-Identifier: MIT */
/* skinny.h with AVX-512 (F, BW, VL, DQ), the x86-64-v4 level; empty unless built for it. */
#include "skinny.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include <immintrin.h>

#define LANES        16
#define REGISTERS    32
#define NAME         lrki_skinny_avx512
#define INSTRUCTIONS "avx512"
#define MANY         128
#define MANY_WIDE    MANY
#define OWN_BF16
#include "skinny_tile.h"

/* Each half becomes the upper word of a lane, and back: one permutation. */
INLINE vec widen_bf16(bits16 half)
{
    const __m512i places = _mm512_set_epi16(15, 0, 14, 0, 13, 0, 12, 0, 11, 0, 10, 0, 9, 0, 8, 0, 7, 0, 6, 0,
                                            5, 0, 4, 0, 3, 0, 2, 0, 1, 0, 0, 0);
    return (vec)_mm512_maskz_permutexvar_epi16(0xAAAAAAAA, places, _mm512_castsi256_si512((__m256i)half));
}

INLINE bits16 narrow_bf16(vec value)
{
    const __m512i places = _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 29, 27, 25,
                                            23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    __m512i bits = (__m512i)value;
    __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    __mmask16 nan = _mm512_cmp_ps_mask((__m512)value, (__m512)value, _CMP_UNORD_Q);
    bits = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF));
    bits = _mm512_mask_sub_epi32(bits, odd, bits, _mm512_set1_epi32(-1));
    bits = _mm512_mask_mov_epi32(bits, nan, _mm512_set1_epi32(0x7FC00000));
    return (bits16)_mm512_castsi512_si256(_mm512_permutexvar_epi16(places, bits));
}

INLINE vec widen_f16(bits16 half)
{
    return (vec)_mm512_cvtph_ps((__m256i)half);
}

INLINE bits16 narrow_f16(vec value)
{
    return (bits16)_mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#endif
