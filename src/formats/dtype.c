/* SPDX-License-Identifier: MIT */
/*
 * The dtype table, exact widening of f16 and bf16, and narrowing to them. Bits are handled as integers, so that NaN payloads and signed
 * zeros come through.
 */
#include "dtype.h"

#include <string.h>

#include "lorank/pass.h"

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float widen_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1Fu;
    uint32_t fraction = half & 0x3FFu;
    if (exponent == 0x1F) return float_of(sign | 0x7F800000u | fraction << 13);
    if (exponent != 0) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
    float magnitude = (float)fraction * 0x1p-24f; /* subnormal: exact, f32 reaches far lower */
    return sign ? -magnitude : magnitude;
}

static void f16_to_f32(const unsigned char *bytes, float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = widen_f16((uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8));
}

static void bf16_to_f32(const unsigned char *bytes, float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = float_of((uint32_t)bytes[2 * i] << 16 | (uint32_t)bytes[2 * i + 1] << 24);
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* bits >> n with n in [1, 31], to nearest, ties to even. */
static uint32_t shift_rounded(uint32_t bits, int n)
{
    uint32_t half = 1u << (n - 1), rest = bits & ((half << 1) - 1);
    uint32_t kept = bits >> n;
    return kept + (rest > half || (rest == half && (kept & 1u)) ? 1 : 0);
}

static uint16_t narrow_f16(float value)
{
    uint32_t sign = bits_of(value) >> 16 & 0x8000u, bits = bits_of(value) & 0x7FFFFFFFu;
    if (bits > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | (bits >> 13 & 0x3FFu));
    if (bits >= 0x47800000u) return (uint16_t)(sign | 0x7C00u);
    /* a carry out of the fraction goes into the exponent, up to infinity, as it should */
    if (bits >= 0x38800000u) return (uint16_t)(sign | shift_rounded(bits - 0x38000000u, 13));
    int shift = 126 - (int)(bits >> 23); /* subnormal: in units of 2^-24 */
    if (shift > 24) return (uint16_t)sign;
    return (uint16_t)(sign | shift_rounded((bits & 0x7FFFFFu) | 0x800000u, shift));
}

static uint16_t narrow_bf16(float value)
{
    uint32_t bits = bits_of(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)shift_rounded(bits, 16);
}

static void f16_from_f32(const float *values, unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half = narrow_f16(values[i]);
        memcpy(bytes + 2 * i, &half, sizeof half);
    }
}

static void bf16_from_f32(const float *values, unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half = narrow_bf16(values[i]);
        memcpy(bytes + 2 * i, &half, sizeof half);
    }
}

static void f64_to_f32(const unsigned char *bytes, float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double wide;
        memcpy(&wide, bytes + 8 * i, sizeof wide);
        values[i] = (float)wide;
    }
}

/* In the ascending order by which the format lays out tensors: writers put later ones first. */
static const lrki_dtype dtypes[] = {
    {"BOOL", 8, false, NULL, NULL},
    {"F4", 4, false, NULL, NULL},
    {"F6_E2M3", 6, false, NULL, NULL},
    {"F6_E3M2", 6, false, NULL, NULL},
    {"U8", 8, false, NULL, NULL},
    {"I8", 8, false, NULL, NULL},
    {"F8_E5M2", 8, false, NULL, NULL},
    {"F8_E4M3", 8, false, NULL, NULL},
    {"F8_E8M0", 8, false, NULL, NULL},
    {"F8_E4M3FNUZ", 8, false, NULL, NULL},
    {"F8_E5M2FNUZ", 8, false, NULL, NULL},
    {"I16", 16, false, NULL, NULL},
    {"U16", 16, false, NULL, NULL},
    {"F16", 16, true, f16_to_f32, f16_from_f32},
    {"BF16", 16, true, bf16_to_f32, bf16_from_f32},
    {"I32", 32, false, NULL, NULL},
    {"U32", 32, false, NULL, NULL},
    {"F32", 32, true, NULL, NULL},
    {"C64", 64, false, NULL, NULL},
    {"F64", 64, true, f64_to_f32, NULL},
    {"I64", 64, false, NULL, NULL},
    {"U64", 64, false, NULL, NULL},
};

const lrki_dtype *lrki_dtype_find(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, name) == 0) return &dtypes[i];
    return NULL;
}

const lrki_dtype *lrki_dtype_of(int32_t number)
{
    switch (number) {
    case LRK_DTYPE_F32:
        return lrki_dtype_find("F32");
    case LRK_DTYPE_BF16:
        return lrki_dtype_find("BF16");
    case LRK_DTYPE_F16:
        return lrki_dtype_find("F16");
    default:
        return NULL;
    }
}

int32_t lrki_dtype_place(const lrki_dtype *dtype)
{
    return (int32_t)(dtype - dtypes);
}

/* To the end and in one type, so that it is vectorised. */
bool lrki_all_finite(const float *values, int64_t n)
{
    uint32_t any_bad = 0;
    for (int64_t i = 0; i < n; i++)
        any_bad |= (bits_of(values[i]) & 0x7F800000u) == 0x7F800000u;
    return any_bad == 0;
}
