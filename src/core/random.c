/* SPDX-License-Identifier: MIT */
/*
 * Random streams: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3, 2011). A
 * stream is a function of (seed, purpose, identity, nonce) and a value a function of its stream and index, so that no
 * result depends on the order of draws. Block b of a stream holds values 4b..4b+3.
 */
#include <math.h>
#include <string.h>

#include "core.h"

#define ROUNDS       10
#define MULTIPLIER_0 0xD2511F53u
#define MULTIPLIER_1 0xCD9E8D57u
#define WEYL_0       0x9E3779B9u
#define WEYL_1       0xBB67AE85u

#define TWO_PI 6.283185307179586476925286766559

void lrki_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)MULTIPLIER_0 * c0;
        uint64_t p1 = (uint64_t)MULTIPLIER_1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* 224 bits name a stream and Philox takes 192 with the index, so the name is hashed by two chained blocks. */
lrki_stream lrki_stream_make(uint64_t seed, uint32_t purpose, uint64_t identity, uint64_t nonce)
{
    const uint32_t first_key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t first[4] = {(uint32_t)identity, (uint32_t)(identity >> 32), purpose, 0};
    uint32_t middle[4], last[4];
    lrki_philox(first, first_key, middle);
    const uint32_t second[4] = {(uint32_t)nonce, (uint32_t)(nonce >> 32), middle[2], middle[3]};
    lrki_philox(second, middle, last);
    return (lrki_stream){.key = {last[0], last[1]}, .counter = {0, 0, last[2], last[3]}};
}

static void block_of(const lrki_stream *stream, uint64_t block, uint32_t out[4])
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), stream->counter[2],
                                 stream->counter[3]};
    lrki_philox(counter, stream->key, out);
}

uint32_t lrki_stream_bits(const lrki_stream *stream, uint64_t index)
{
    uint32_t words[4];
    block_of(stream, index / 4, words);
    return words[index % 4];
}

void lrki_stream_fill_bits(const lrki_stream *stream, uint64_t first, uint32_t *bits, int64_t n)
{
    uint32_t words[4];
    for (int64_t i = 0; i < n;) {
        uint64_t index = first + (uint64_t)i;
        block_of(stream, index / 4, words);
        for (uint64_t j = index % 4; j < 4 && i < n; j++)
            bits[i++] = words[j];
    }
}

double lrki_stream_uniform(const lrki_stream *stream, uint64_t index)
{
    uint32_t words[4];
    block_of(stream, index / 2, words);
    const uint32_t *pair = words + 2 * (index % 2);
    uint64_t bits = ((uint64_t)pair[0] << 21) ^ (pair[1] >> 11);
    return (double)bits * 0x1p-53;
}

void lrki_stream_fill_uniform(const lrki_stream *stream, float bound, float *values, int64_t n)
{
    uint32_t words[4];
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0) block_of(stream, (uint64_t)i / 4, words);
        /* odd multiples of 2^-24: exact, symmetric about 0, inside (-1, 1) */
        int32_t odd = 2 * (int32_t)(words[i % 4] >> 8) + 1 - (1 << 24);
        values[i] = bound * ((float)odd * 0x1p-24f);
    }
}

/* Box and Muller (1958): two uniforms give two normals; the half keeps the logarithm finite. */
static void normal_pair(const uint32_t words[2], double pair[2])
{
    double radius = sqrt(-2.0 * log(((double)words[0] + 0.5) * 0x1p-32));
    double angle = TWO_PI * ((double)words[1] * 0x1p-32);
    pair[0] = radius * cos(angle);
    pair[1] = radius * sin(angle);
}

void lrki_stream_fill_normal(const lrki_stream *stream, float sigma, float *values, int64_t n)
{
    uint32_t words[4];
    double pair[2];
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0) block_of(stream, (uint64_t)i / 4, words);
        if (i % 2 == 0) normal_pair(words + i % 4, pair);
        values[i] = (float)((double)sigma * pair[i % 2]);
    }
}

uint64_t lrki_hash_mix(uint64_t hash, uint64_t value)
{
    /* the finaliser of SplitMix64 (Steele, Lea, Flood 2014) over the running sum */
    uint64_t z = hash + value + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t lrki_hash_floats(uint64_t hash, const float *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        hash = lrki_hash_mix(hash, bits);
    }
    return hash;
}

uint64_t lrki_hash_doubles(uint64_t hash, const double *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        hash = lrki_hash_mix(hash, bits);
    }
    return hash;
}
