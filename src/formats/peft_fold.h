/* SPDX-License-Identifier: MIT */
/* The arithmetic of the fold B' = B^T diag(g s r / alpha): one rounding to f32, and what comes near its inverse. */
#ifndef LRKI_PEFT_FOLD_H
#define LRKI_PEFT_FOLD_H

#include <string.h>

#include "peft_parts.h"

static inline double lrki_fold_factor(const lrki_peft_module *module, double alpha, int64_t rank_index)
{
    return module->scale * (double)module->width / alpha * (double)module->gates[rank_index];
}

static inline float lrki_fold(float b, double factor)
{
    return factor == 1 ? b : (float)((double)b * factor);
}

static inline uint32_t lrki_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float lrki_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
