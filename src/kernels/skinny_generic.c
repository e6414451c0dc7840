/* SPDX-License-Identifier: MIT */
/* skinny.h in plain C with the compiler's vectors of four floats, for every processor. f16 by integer arithmetic. */
#define LANES        4
#define REGISTERS    16
#define NAME         lrki_skinny_generic
#define INSTRUCTIONS "generic"
#define MANY         32
#define MANY_WIDE    MANY
#include "skinny_tile.h"

INLINE bits32 choose(bits32 where, bits32 yes, bits32 no)
{
    return (where & yes) | (~where & no);
}

/* Magnitude bits moved into place are the value times 2^-112; infinity and NaN get the exponent of f32's. */
INLINE vec widen_f16(bits16 half)
{
    bits32 bits = __builtin_convertvector(half, bits32);
    bits32 magnitude = (bits & 0x7FFF) << 13;
    bits32 finite = (bits32)((vec)magnitude * 0x1p112f);
    bits32 special = (bits32)((bits & 0x7FFF) >= 0x7C00);
    return (vec)(choose(special, magnitude | 0x7F800000, finite) | (bits & 0x8000) << 16);
}

/*
 * Normal results round by adding half a unit of the last place kept, less one if that bit is 0; subnormal ones by adding
 * 0.5, whose last place is 2^-24. Both are to nearest even.
 */
INLINE bits16 narrow_f16(vec value)
{
    bits32 bits = (bits32)value, sign = bits & 0x80000000, magnitude = bits ^ sign;
    bits32 normal = (magnitude - (112 << 23) + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
    bits32 small = (bits32)((vec)magnitude + 0.5f) - 0x3F000000;
    bits32 result = choose((bits32)(magnitude < 0x38800000), small, normal);         /* below 2^-14  */
    result = choose((bits32)(magnitude >= 0x47800000), result * 0 + 0x7C00, result); /* 65536 and up */
    result = choose((bits32)(magnitude > 0x7F800000), (magnitude >> 13 & 0x3FF) | 0x7E00, result);
    return __builtin_convertvector(result | sign >> 16, bits16);
}
