/* SPDX-License-Identifier: MIT */
/*
 * For tests of GGUF adapters: a context that counts, sets with the names of an architecture, and saving and loading in
 * memory. Everything ck_asserts on failure.
 */
#ifndef GGUF_SETS_H
#define GGUF_SETS_H

#include "fault.h"
#include "gguf_bytes.h"
#include "lorank/lorank.h"

#define GGUF_HEADS    4
#define GGUF_KV_HEADS 2
#define GGUF_ALPHA    12.0

extern fault gguf_host;
extern lrk_context *gguf_context;

void gguf_setup(void);
void gguf_teardown(void);

/* alpha and heads as above. */
lrk_gguf_options gguf_options(const char *architecture);

/* Modules of ranks 0 to 3 and scales of every sort, with values and gates; all that the architecture names. */
lrk_adapters *gguf_set(const char *architecture);
/* The same with scales alpha / r and gates 1: the fold's factor is 1 and B goes through bit for bit. */
lrk_adapters *gguf_plain_set(const char *architecture);
/* The tensor of module i of these sets, without suffix, and the heads in which its rows are interleaved (0: none). */
const char *gguf_base(const char *architecture, int32_t i, int64_t *heads);
/* Fills specs[0..8) and returns how many; ranks are 0. */
int32_t gguf_specs(const char *architecture, lrk_module_spec *specs);

gguf_bytes gguf_save(const lrk_adapters *adapters, const lrk_gguf_options *options);
lrk_status gguf_try(gguf_bytes *bytes, const lrk_gguf_options *options, const lrk_module_spec *modules,
                    int64_t n, lrk_adapters **adapters);
lrk_adapters *gguf_load(gguf_bytes *bytes, const lrk_gguf_options *options);
/* Names, shapes, ranks, scales, A, B and gates are the same, module by module. */
bool gguf_equal(const lrk_adapters *a, const lrk_adapters *b);
lrk_module_info gguf_module(const lrk_adapters *adapters, int32_t module);

#endif
