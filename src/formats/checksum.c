/* SPDX-License-Identifier: MIT */
#include "checksum.h"

#include <libdeflate.h>

uint32_t lrki_checksum(uint32_t checksum, const void *data, size_t n)
{
    return n == 0 ? checksum : libdeflate_crc32(checksum, data, n);
}
