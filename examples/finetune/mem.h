/* SPDX-License-Identifier: MIT */
/*
 * The trainer's one allocator: 64-byte aligned blocks, zero-filled, counted.
 * Every buffer of the model goes through it, so that the dry run's estimate
 * (llama_memory) can be held against what was really asked for.
 * Counts are exact in bytes requested; they are not protected by a lock:
 * allocate from one thread only.
 */
#ifndef FINETUNE_MEM_H
#define FINETUNE_MEM_H

#include <stddef.h>
#include <stdint.h>

/* NULL if bytes is 0 or memory is short; callers treat both as their error. */
void *mem_alloc(size_t bytes);

/* n items of item_bytes; NULL as well when the product overflows. */
void *mem_alloc_array(int64_t n, size_t item_bytes);

void mem_free(void *block);

size_t mem_bytes_now(void);
size_t mem_bytes_peak(void);

#endif
