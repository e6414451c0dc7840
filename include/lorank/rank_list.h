/* SPDX-License-Identifier: MIT */
/*
 * Rank lists: the ranks that an earlier run found, as the initial ranks of a new one ("train again from scratch with what
 * was found"). They are read from a trace (docs/trace.md: the end, or as far as it goes), or from the rank_pattern of a PEFT
 * adapter_config.json, and put into the host's specs before lrk_adapters_create(). The policy of such a run is fixed.
 * Threads: handle-exclusive.
 */
#ifndef LRK_RANK_LIST_H
#define LRK_RANK_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "adapters.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_rank_list lrk_rank_list;

/*
 * Reads a list from a file, or from text[0..length) (`name` begins the details). What it is the text itself tells:
 *   a trace           rank of every module by its name
 *   a PEFT config     peft_type LORA. A module that target_modules (a list of whole names or ends of names after a '.';
 *                     "all-linear" or none: every one) leaves out has rank 0; else the first key of rank_pattern that
 *                     matches as PEFT (>= 0.15) matches it, re.match("(.*\\.)?(KEY)$", name), gives its rank, else r
 *   any other object  a rank_pattern by itself: modules that no key matches keep the rank of their spec
 * Errors   LRK_ERR_FORMAT       none of these; the detail names line, field or key
 *          LRK_ERR_UNSUPPORTED  another peft_type; a key that is a regular expression beyond those that docs/peft.md
 *                               says are matched; target_modules as one; layers_to_transform or exclude_modules
 *          LRK_ERR_NOT_FOUND    no such file;  LRK_ERR_IO, LRK_ERR_ARGUMENT, LRK_ERR_NOMEM
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_rank_list_load(lrk_context *context, const char *path, lrk_rank_list **list);
LRK_API LRK_WARN_UNUSED lrk_status lrk_rank_list_parse(lrk_context *context, const char *name, const char *text,
                                                       size_t length, lrk_rank_list **list);

/* NULL is ignored. Since 0.1 */
LRK_API void lrk_rank_list_destroy(lrk_rank_list *list);

/* Rank of a module of that name. Errors: LRK_ERR_NOT_FOUND (the list does not say), LRK_ERR_ARGUMENT. Since 0.1 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_rank_list_rank(const lrk_rank_list *list, const char *module, int64_t *rank);

/*
 * Sets the rank of each spec (array stepped by specs[0].struct_size, which must have all members of 0.1). The scale stays
 * what it is at the rank that the spec had: scale_rank of an alpha rule that lacks one becomes that rank, if it is >= 1.
 * Errors   LRK_ERR_NOT_FOUND  a module that a trace does not name; a name of a trace with a rank above 0, a key or a target
 *                             that is of none of these modules; the detail names it
 *          LRK_ERR_ARGUMENT, LRK_ERR_NOMEM.   The specs are as they were then.
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_rank_list_apply(const lrk_rank_list *list, lrk_module_spec *specs,
                                                       int64_t n_specs);

#ifdef __cplusplus
}
#endif

#endif
