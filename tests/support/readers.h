/* SPDX-License-Identifier: MIT */
/*
 * Every struct that callers fill and a call reads: how to make it right, and the call. All calls are on one world.
 */
#ifndef READERS_H
#define READERS_H

#include "world.h"

/* A struct that is right as a whole, the bytes of it that suffice, and the call that reads it. */
typedef struct reader {
    const char *name;
    size_t size;
    size_t enough;
    void (*make)(void *structure);
    lrk_status (*use)(const void *structure);
} reader;

extern const reader readers[];
extern const int n_readers;

void readers_open(world *of); /* before any make or use */

/* The reader of a type, e.g. "lrk_limit". */
const reader *readers_find(const char *type);

#endif
