/* SPDX-License-Identifier: MIT */
/* Digests of bytes, and of what a set of adapters holds. */
#include "digest.h"

uint64_t ft_digest(uint64_t digest, const void *data, size_t n_bytes)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < n_bytes; i++)
        digest = (digest ^ bytes[i]) * 0x100000001b3u;
    return digest;
}

#ifdef LORANK
static uint64_t digest_tensor(uint64_t digest, lrk_adapters *adapters, int32_t module, int32_t which)
{
    lrk_tensor t = {.struct_size = sizeof t};
    if (lrk_adapters_tensor(adapters, module, which, &t)) return digest;
    for (int64_t row = 0; row < t.rows; row++)
        digest = ft_digest(digest, t.data + row * t.ld, (size_t)t.cols * sizeof *t.data);
    return digest;
}

uint64_t ft_digest_adapters(lrk_adapters *adapters)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    uint64_t digest = FT_DIGEST_EMPTY;
    lrk_adapters_info_get(adapters, &info);
    for (int32_t module = 0; module < info.modules; module++)
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++)
            digest = digest_tensor(digest, adapters, module, which);
    return digest;
}
#endif
