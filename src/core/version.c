/* SPDX-License-Identifier: MIT */
/* The version that the library was built as, to compare with the header that a program was built against. */
#include "lorank/version.h"

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

uint32_t lrk_version(void)
{
    return LRK_VERSION_MAJOR * 1000000u + LRK_VERSION_MINOR * 1000u + LRK_VERSION_PATCH;
}

const char *lrk_version_text(void)
{
    return TEXT(LRK_VERSION_MAJOR) "." TEXT(LRK_VERSION_MINOR) "." TEXT(LRK_VERSION_PATCH);
}

int32_t lrk_abi_version(void)
{
    return LRK_ABI;
}
