/* SPDX-License-Identifier: MIT */
/*
 * What loading a file of another program as a set takes, whatever its format: the arguments of the call and the host's
 * module specs. The set itself is lrki_adapters_create_unset()'s.
 */
#ifndef LRKI_LOADED_H
#define LRKI_LOADED_H

#include "../core/core.h"
#include "lorank/adapters.h"

/* The arguments that all such calls share; `from` is a path or a reader, `what` its words. *adapters becomes NULL. */
lrk_status lrki_loaded_arguments(lrk_context *context, const void *from, const char *what,
                                 const lrk_module_spec *modules, int64_t n_modules, lrk_adapters **adapters);

/* Spec i of the host's list as it holds where the file has nothing for it: rank 0, its own rank remembered by an alpha rule. */
lrk_status lrki_loaded_spec(lrk_context *context, const lrk_module_spec *modules, int64_t i,
                            lrk_module_spec *spec);

/* Does the set want the file's values (not LRK_ADAPTERS_OUTLINE)? */
bool lrki_loaded_wants_values(const lrk_adapters *adapters);

/* Destroys a set that could not be filled, and hands on why; LRK_OK leaves it. */
lrk_status lrki_loaded_end(lrk_status status, lrk_adapters **adapters);

#endif
