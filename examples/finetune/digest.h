/* SPDX-License-Identifier: MIT */
/*
 * FNV-1a over 64 bits, fed piece by piece: what runs must have in common (initial values, order of rows, validation batch)
 * is compared by it.
 */
#ifndef FT_DIGEST_H
#define FT_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define FT_DIGEST_EMPTY 0xcbf29ce484222325u

uint64_t ft_digest(uint64_t digest, const void *data, size_t n_bytes);

#ifdef LORANK
#include "lorank/lorank.h"

/* Of A, B and gates of every module, in order. */
uint64_t ft_digest_adapters(lrk_adapters *adapters);
#endif

#endif
