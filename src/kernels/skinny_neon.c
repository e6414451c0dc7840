/* SPDX-License-Identifier: MIT */
/* skinny.h with NEON, which every AArch64 processor has; empty elsewhere. */
#include "skinny.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define LANES        4
#define REGISTERS    32
#define NAME         lrki_skinny_neon
#define INSTRUCTIONS "neon"
#define MANY         32
#define MANY_WIDE    MANY
#include "skinny_tile.h"

INLINE vec widen_f16(bits16 half)
{
    return (vec)vcvt_f32_f16((float16x4_t)half);
}

INLINE bits16 narrow_f16(vec value)
{
    return (bits16)vcvt_f16_f32((float32x4_t)value);
}
#endif
