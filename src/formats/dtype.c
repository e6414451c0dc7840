/* SPDX-License-Identifier: MIT */
/*
 * The dtype table, and exact widening of f16 and bf16. Bits are handled as integers, so that NaN payloads and signed
 * zeros come through.
 */
#include "dtype.h"

#include <string.h>

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

static void f64_to_f32(const unsigned char *bytes, float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double wide;
        memcpy(&wide, bytes + 8 * i, sizeof wide);
        values[i] = (float)wide;
    }
}

static const lrki_dtype dtypes[] = {
    {"F32", 32, true, NULL},       {"BF16", 16, true, bf16_to_f32}, {"F16", 16, true, f16_to_f32},
    {"F64", 64, true, f64_to_f32}, {"BOOL", 8, false, NULL},        {"F4", 4, false, NULL},
    {"F6_E2M3", 6, false, NULL},   {"F6_E3M2", 6, false, NULL},     {"U8", 8, false, NULL},
    {"I8", 8, false, NULL},        {"F8_E5M2", 8, false, NULL},     {"F8_E4M3", 8, false, NULL},
    {"F8_E8M0", 8, false, NULL},   {"F8_E4M3FNUZ", 8, false, NULL}, {"F8_E5M2FNUZ", 8, false, NULL},
    {"I16", 16, false, NULL},      {"U16", 16, false, NULL},        {"I32", 32, false, NULL},
    {"U32", 32, false, NULL},      {"C64", 64, false, NULL},        {"I64", 64, false, NULL},
    {"U64", 64, false, NULL},
};

const lrki_dtype *lrki_dtype_find(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, name) == 0) return &dtypes[i];
    return NULL;
}
