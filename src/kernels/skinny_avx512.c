/* SPDX-License-Identifier: MIT */
/* skinny.h with AVX-512 (F, BW, VL, DQ), the x86-64-v4 level; empty unless built for it. */
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include <immintrin.h>

#define LANES        16
#define REGISTERS    32
#define NAME         lrki_skinny_avx512
#define INSTRUCTIONS "avx512"
#include "skinny_tile.h"

INLINE vec widen_f16(bits16 half)
{
    return (vec)_mm512_cvtph_ps((__m256i)half);
}

INLINE bits16 narrow_f16(vec value)
{
    return (bits16)_mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#endif
