/* SPDX-License-Identifier: MIT */
/*
 * Failing the allocations of Jansson, which the context does not see. One allocator a process: restore it after use.
 */
#ifndef JSON_FAULT_H
#define JSON_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "lorank/lorank.h"

/*
 * Fails each of Jansson's allocations that `act` makes, one at a time: each time `act` must give LRK_ERR_NOMEM and
 * Jansson hold no more memory than before; healthy again it must succeed. `undo` releases what a success made.
 * If `act` parses: LRK_ERR_FORMAT is right as well, and requests that may be growth of the parser's token buffer, which
 * Jansson does not check, are spared.
 */
void json_each_fault(lrk_status (*act)(void *user), void (*undo)(void *user), void *user, bool parses);

#endif
