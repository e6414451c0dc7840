/* SPDX-License-Identifier: MIT */
/*
 * What writing and reading kohya files share: names.
 */
#ifndef LRKI_KOHYA_PARTS_H
#define LRKI_KOHYA_PARTS_H

#include "lorank/kohya.h"

#include "../core/core.h"

#define LRKI_KOHYA_DOWN  ".lora_down.weight"
#define LRKI_KOHYA_UP    ".lora_up.weight"
#define LRKI_KOHYA_ALPHA ".alpha"

/* Reads and checks the options; known->prefix is never NULL. */
lrk_status lrki_kohya_options(lrk_context *context, const lrk_kohya_options *options,
                              lrk_kohya_options *known);
/* What a module is called in a file, and its tensors with a suffix. Freed by lrki_text_free(); NULL with an error. */
char *lrki_kohya_name(lrk_context *context, const lrk_kohya_options *options, const char *module,
                      const char *suffix);

#endif
