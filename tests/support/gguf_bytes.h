/* SPDX-License-Identifier: MIT */
/*
 * GGUF files in memory for tests, built byte by byte and taken apart again by the format's text alone: nothing here knows
 * how lorank does it. Everything ck_asserts on failure.
 */
#ifndef GGUF_BYTES_H
#define GGUF_BYTES_H

#include <stddef.h>
#include <stdint.h>

#include "lorank/lorank.h"

#define GGUF_MOST 32 /* keys, and tensors, of a file taken apart */

typedef struct gguf_bytes {
    unsigned char *data;
    size_t n;
    int64_t calls;   /* reads or writes so far            */
    int64_t fail_at; /* the read or write that fails, -1  */
} gguf_bytes;

gguf_bytes gguf_bytes_new(void);
void gguf_bytes_free(gguf_bytes *bytes);
lrk_writer gguf_bytes_writer(gguf_bytes *bytes);
lrk_reader gguf_bytes_reader(gguf_bytes *bytes);

void gguf_put(gguf_bytes *bytes, const void *data, size_t n);
void gguf_put_u32(gguf_bytes *bytes, uint32_t value);
void gguf_put_u64(gguf_bytes *bytes, uint64_t value);
void gguf_put_text(gguf_bytes *bytes, const char *text);
void gguf_pad(gguf_bytes *bytes, size_t alignment);

/* What a file to be built says; everything that is not set is right. gguf_right() is a pair of F32 in two keys more. */
typedef struct gguf_sketch {
    const char *magic;
    uint32_t version;
    int64_t more_tensors; /* added to the true counts */
    int64_t more_keys;
    const char *type;         /* general.type; NULL: left out, as are the next three */
    const char *architecture; /* general.architecture       */
    const char *adapter;      /* adapter.type               */
    const float *alpha;       /* adapter.lora.alpha         */
    uint32_t alignment;       /* general.alignment; 0: left out, and 32 */
    const void *extra;        /* bytes of n_extra whole keys, after the others */
    size_t extra_bytes;
    int64_t n_extra;
    const char *names[2];
    uint32_t n_dims[2];
    uint64_t ne[2][4];
    uint32_t types[2];
    int64_t shift[2];       /* added to the true offsets             */
    int64_t less_data;      /* bytes left out at the end             */
    const float *values[2]; /* of F32 tensors; NULL: 1, 2, 3, ... */
} gguf_sketch;

gguf_sketch gguf_right(void);
/* "blk.0.attn_v.weight", r 2, n_in 3, n_out 4, alpha 8, arch llama: what gguf_right() sketches. */
gguf_bytes gguf_build(const gguf_sketch *sketch);

typedef struct gguf_key {
    char key[64];
    uint32_t type;
    const unsigned char *value;
} gguf_key;

typedef struct gguf_tensor {
    char name[64];
    uint64_t ne[2];
    uint32_t type;
    const unsigned char *data;
} gguf_tensor;

typedef struct gguf_file {
    uint64_t n_keys, n_tensors;
    gguf_key keys[GGUF_MOST];
    gguf_tensor tensors[GGUF_MOST];
    size_t header; /* bytes before the data */
} gguf_file;

/* Only what a strict writer makes: version 3, tensors of two dimensions, all padded, nothing else. */
void gguf_parse(const gguf_bytes *bytes, gguf_file *file);
const gguf_key *gguf_find_key(const gguf_file *file, const char *key);
const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name);
void gguf_expect_text(const gguf_file *file, const char *key, const char *text);
/* Element i of a tensor of F32, F16 or BF16, from its bits. */
double gguf_value(const gguf_tensor *tensor, uint64_t i);

#endif
