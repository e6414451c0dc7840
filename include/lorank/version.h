/* SPDX-License-Identifier: MIT */
/*
 * Version and ABI number. LRK_ABI is the number in the SONAME: 0 promises nothing yet. From 1 on it grows when,
 * and only when, a program built against an older header of the same ABI number could break (docs/abi.md).
 */
#ifndef LRK_VERSION_H
#define LRK_VERSION_H

#include <stdint.h>

#include "export.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LRK_VERSION_MAJOR 0
#define LRK_VERSION_MINOR 1
#define LRK_VERSION_PATCH 0
#define LRK_ABI           0

/* The library's version as major * 1000000 + minor * 1000 + patch. Threads: pure. Since 0.1 */
LRK_API uint32_t lrk_version(void);

/* The library's version as "major.minor.patch", a literal. Threads: pure. Since 0.1 */
LRK_API const char *lrk_version_text(void);

/* The library's ABI number, to compare with the header's LRK_ABI. Threads: pure. Since 0.1 */
LRK_API int32_t lrk_abi_version(void);

#ifdef __cplusplus
}
#endif

#endif
