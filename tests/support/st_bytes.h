/* SPDX-License-Identifier: MIT */
/*
 * safetensors files in memory for tests, built and looked into by the format's text alone: nothing here knows how lorank
 * does it. Everything ck_asserts on failure.
 */
#ifndef ST_BYTES_H
#define ST_BYTES_H

#include <stdbool.h>

#include "gguf_bytes.h"

typedef struct st_entry {
    const char *name;
    const char *dtype;
    int32_t n_dims;
    int64_t shape[9];
    const void *data; /* NULL: bytes of 1, 2, 3, ... */
    size_t bytes;     /* of data */
} st_entry;

/* The entries in the order given, which need not be the strict one. metadata: JSON, or NULL. */
gguf_bytes st_build(const st_entry *entries, int n, const char *metadata);

typedef struct st_found {
    char dtype[16];
    char shape[64]; /* "2,3" */
    const unsigned char *data;
    size_t bytes;
} st_found;

/* A tensor of a file in the strict form whose name needs no escapes; false if it is not there. */
bool st_look(const gguf_bytes *file, const char *name, st_found *found);
st_found st_find(const gguf_bytes *file, const char *name);
/* Whether the header has this text. */
bool st_has(const gguf_bytes *file, const char *text);
/* Bytes before the data. */
size_t st_header(const gguf_bytes *file);
/* Element i of F32, F16, BF16 or F64. */
double st_value(const st_found *tensor, int64_t i);

#endif
