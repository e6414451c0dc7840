/* SPDX-License-Identifier: MIT */
#include "checksum.h"

#include <zlib.h>

uint32_t lrki_checksum(uint32_t checksum, const void *data, size_t n)
{
    return n == 0 ? checksum : (uint32_t)crc32_z(checksum, data, n);
}
