/* SPDX-License-Identifier: MIT */
/* Options of kohya files, and the names in them. */
#include <string.h>

#include "dtype.h"
#include "kohya_parts.h"

#include "lorank/pass.h"

#define KNOWN_FLAGS (LRK_KOHYA_DOTTED | LRK_KOHYA_ONE_ALPHA)

lrk_status lrk_kohya_options_init(lrk_kohya_options *options, size_t struct_size)
{
    const lrk_kohya_options defaults = {
        .struct_size = sizeof defaults, .prefix = "lora_unet_", .dtype = LRK_DTYPE_F32};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

lrk_status lrki_kohya_options(lrk_context *context, const lrk_kohya_options *options,
                              lrk_kohya_options *known)
{
    (void)lrk_kohya_options_init(known, sizeof *known);
    const char *prefix = known->prefix;
    lrk_status status =
        lrki_struct_read(context, known, sizeof *known, options, 2 * sizeof(uint32_t), "lrk_kohya_options");
    if (status != LRK_OK) return status;
    if (known->prefix == NULL) known->prefix = prefix;
    if ((known->flags & ~KNOWN_FLAGS) != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_kohya_options: unknown flags 0x%x",
                         (unsigned)known->flags);
    if (lrki_dtype_of(known->dtype) == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_kohya_options: unknown dtype %d", (int)known->dtype);
    return LRK_OK;
}

char *lrki_kohya_name(lrk_context *context, const lrk_kohya_options *options, const char *module,
                      const char *suffix)
{
    size_t before = strlen(options->prefix), n = before + strlen(module) + strlen(suffix) + 1;
    char *name = lrki_alloc_zeroed(context, n);
    if (name == NULL) {
        (void)lrki_fail_nomem(context, module);
        return NULL;
    }
    strcat(strcpy(name, options->prefix), module);
    for (char *c = name + before; (options->flags & LRK_KOHYA_DOTTED) == 0 && *c != '\0'; c++)
        if (*c == '.') *c = '_';
    return strcat(name, suffix);
}
