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
#include "skinny_tile.h"

INLINE vec widen_f16(bits16 half)
{
    return (vec)_mm256_cvtph_ps((__m128i)half);
}

INLINE bits16 narrow_f16(vec value)
{
    return (bits16)_mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#endif
