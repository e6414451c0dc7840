/* SPDX-License-Identifier: MIT */
/*
 * Status codes. Every function that can fail returns an lrk_status: 0 is success, failures are negative, numbers are
 * never reused. A caller must tolerate codes it does not know. Words about the last failure of a thread come from
 * lrk_context_error() (context.h).
 *
 * After a failure every handle is as it was before the call and output handles are NULL, unless a function says otherwise.
 */
#ifndef LRK_STATUS_H
#define LRK_STATUS_H

#include <stdint.h>

#include "export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t lrk_status;

#define LRK_OK               0
#define LRK_ERR_NOMEM        (-1)  /* the context's allocator returned NULL                                      */
#define LRK_ERR_ARGUMENT     (-2)  /* an argument violates its contract (NULL, out of range, unknown constant)   */
#define LRK_ERR_SHAPE        (-3)  /* operand shapes do not conform, or a size overflows                         */
#define LRK_ERR_HOST         (-4)  /* a host callback reported failure                                           */
#define LRK_ERR_CONFIG       (-5)  /* a configuration text was rejected                                          */
#define LRK_ERR_BUSY         (-6)  /* the handle is in use: open pass, pending plan, or inside its own callback  */
#define LRK_ERR_STALE        (-7)  /* made before a rank change (or a change of values) that makes it meaningless */
#define LRK_ERR_STATE        (-8)  /* call out of order                                                          */
#define LRK_ERR_NONFINITE    (-9)  /* a loss, gradient, score or parameter is NaN or infinite                    */
#define LRK_ERR_NOT_FOUND    (-10) /* no module, pattern match, tensor or file of that name                      */
#define LRK_ERR_CANCELLED    (-11) /* the host's progress callback asked to stop; the work can be resumed        */
#define LRK_ERR_UNSUPPORTED  (-12) /* well-formed, but a feature that lorank does not have                       */
#define LRK_ERR_FORMAT       (-13) /* a file's content breaks its format                                         */
#define LRK_ERR_IO           (-14) /* the operating system refused to read or write                              */
#define LRK_ERR_VERSION      (-15) /* a struct is larger than known here and its unknown tail is not zero        */
#define LRK_ERR_BUDGET       (-16) /* no plan satisfies the budget, floors and caps                              */
#define LRK_ERR_NO_GRADIENT  (-17) /* a module got no gradient and its spec does not say that it may lack one    */
#define LRK_ERR_REFUSED      (-18) /* a participant refused a plan                                               */
#define LRK_ERR_WORKERS      (-19) /* another worker failed, or the workers differ: workers.h                    */

/* The symbol of a status ("LRK_ERR_NOMEM"), or "LRK_ERR_?" for an unknown one. A literal. Threads: pure. Since 0.1 */
LRK_API const char *lrk_status_name(lrk_status status);

/* One sentence about a status, or "unknown status". A literal. Threads: pure. Since 0.1 */
LRK_API const char *lrk_status_text(lrk_status status);

#ifdef __cplusplus
}
#endif

#endif
