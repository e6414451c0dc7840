/* SPDX-License-Identifier: MIT */
/* Checksums of files: CRC-32 as in gzip and PNG, by libdeflate, whose header the library includes in checksum.c alone. */
#ifndef LRKI_CHECKSUM_H
#define LRKI_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of what `checksum` was of, and data[0..n) after it; that of nothing is 0. */
uint32_t lrki_checksum(uint32_t checksum, const void *data, size_t n);

#endif
