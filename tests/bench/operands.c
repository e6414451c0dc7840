/* SPDX-License-Identifier: MIT */
/* Operands (operands.h). bf16 and f16 are converted here in plain C, on their own, since the library is what is tested. */
#include "operands.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

void *bench_memory(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes + 64) != 0) {
        fprintf(stderr, "bench-kernels: no memory for %zu bytes\n", bytes);
        exit(2);
    }
    return memory;
}

/* Multiples of 2^-23 with an odd numerator: never 0. */
void bench_random(float *values, int64_t n, uint64_t seed)
{
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)((int32_t)(state >> 40) * 2 + 1 - (1 << 24)) * 0x1p-24f;
    }
}

/* ---- 16-bit elements --------------------------------------------------------------------------------------------- */

static uint16_t bf16_from(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float bf16_to(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* |value| < 65504. */
static uint16_t f16_from(float value)
{
    int exponent;
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    float size = fabsf(value);
    (void)frexpf(size, &exponent);
    if (size < 0x1p-14f) return (uint16_t)(sign + (uint16_t)lrintf(size * 0x1p24f));
    return (uint16_t)(sign + (uint16_t)((exponent + 13) * 1024 + (int)lrintf(ldexpf(size, 11 - exponent))));
}

static float f16_to(uint16_t half)
{
    int exponent = half >> 10 & 31;
    float mantissa = (float)(half & 1023), sign = half & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 31) return mantissa == 0.0f ? sign * INFINITY : NAN;
    return sign * (exponent == 0 ? ldexpf(mantissa, -24) : ldexpf(1024.0f + mantissa, exponent - 25));
}

float operand_read(const void *data, int64_t index, int32_t dtype)
{
    if (dtype == GRID_BF16) return bf16_to(((const uint16_t *)data)[index]);
    if (dtype == GRID_F16) return f16_to(((const uint16_t *)data)[index]);
    return ((const float *)data)[index];
}

static void narrow(const float *values, uint16_t *out, int64_t n, int32_t dtype)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = dtype == GRID_BF16 ? bf16_from(values[i]) : f16_from(values[i]);
}

/* ---- sets -------------------------------------------------------------------------------------------------------- */

/* A number of sets that three contenders, one call each, do not share out among them: no multiple of 3. */
static int64_t sets_for(size_t forward_bytes)
{
    size_t l2 = machine_cache(2), last = machine_cache(3);
    if (2 * forward_bytes <= l2 / 2) return 1;
    int64_t n = (int64_t)(2 * last / forward_bytes) + 2;
    return n % 3 == 0 ? n + 1 : n;
}

static void *values_of(int64_t n, size_t element, int32_t dtype, uint64_t seed)
{
    float *values = bench_memory((size_t)n * sizeof(float));
    bench_random(values, n, seed);
    if (dtype == GRID_F32) return values;
    uint16_t *out = bench_memory((size_t)n * element);
    narrow(values, out, n, dtype);
    free(values);
    return out;
}

operands operands_make(const bench_shape *shape, int64_t n_sets)
{
    int64_t n_x = shape->tokens * shape->n_in, n_y = shape->tokens * shape->n_out;
    size_t element = shape->dtype == GRID_F32 ? 4 : 2;
    operands o = {.shape = *shape,
                  .element = element,
                  .x_bytes = (size_t)n_x * element,
                  .y_bytes = (size_t)n_y * element};
    o.n_sets = n_sets > 0 ? n_sets : sets_for(o.x_bytes + o.y_bytes);
    o.sets = bench_memory((size_t)o.n_sets * sizeof *o.sets);
    for (int64_t i = 0; i < o.n_sets; i++) {
        uint64_t seed = 4 * (uint64_t)i;
        o.sets[i] = (operand_set){.x = values_of(n_x, element, shape->dtype, seed + 1),
                                  .y = values_of(n_y, element, shape->dtype, seed + 2),
                                  .dy = values_of(n_y, element, shape->dtype, seed + 3),
                                  .dx = values_of(n_x, element, shape->dtype, seed + 4)};
    }
    return o;
}

void operands_free(operands *o)
{
    for (int64_t i = 0; i < o->n_sets; i++) {
        free(o->sets[i].x);
        free(o->sets[i].y);
        free(o->sets[i].dy);
        free(o->sets[i].dx);
    }
    free(o->sets);
    *o = (operands){0};
}
