/* SPDX-License-Identifier: MIT */
/*
 * Linkage macros. LRK_API marks an exported function, LRK_WARN_UNUSED one whose result must be looked at.
 */
#ifndef LRK_EXPORT_H
#define LRK_EXPORT_H

#if defined(__GNUC__)
#define LRK_API         __attribute__((visibility("default")))
#define LRK_WARN_UNUSED __attribute__((warn_unused_result))
#else
#define LRK_API
#define LRK_WARN_UNUSED
#endif

#endif
