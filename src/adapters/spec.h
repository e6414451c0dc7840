/* SPDX-License-Identifier: MIT */
/*
 * Module specs: reading a caller's arrays and the bounds of what they say.
 */
#ifndef LRKI_SPEC_H
#define LRKI_SPEC_H

#include "set.h"

/* Reads element i of a caller's array over the defaults in `known`; all elements have the first one's struct_size. */
lrk_status lrki_element_read(lrk_context *context, void *known, size_t known_size, const void *array,
                             int64_t i, const char *name);

/* Reads specs[i] and checks its name. */
lrk_status lrki_spec_read(lrk_context *context, const lrk_module_spec *specs, int64_t i,
                          lrk_module_spec *spec);

/* Checks everything that concerns one spec alone and gives its scale. */
lrk_status lrki_spec_check(lrk_context *context, const lrk_module_spec *spec, int32_t module, double *scale);

/* Checks what a pattern says, the i-th of a caller's; the detail quotes it. */
lrk_status lrki_pattern_check(lrk_context *context, const lrk_module_pattern *pattern, int64_t i);

/* Another initial rank, at the scale that the spec has at its own: an alpha rule without scale_rank gets that one. */
void lrki_spec_set_rank(lrk_module_spec *spec, int64_t rank);

/*
 * specs[0..*n_specs) become those of `modules` that a pattern decides, in order (specs has room for all).
 * Errors: lrk_adapters_create_matching()'s.
 */
lrk_status lrki_specs_match(lrk_context *context, const lrk_module_spec *modules, int64_t n_modules,
                            const lrk_module_pattern *patterns, int64_t n_patterns, lrk_module_spec *specs,
                            int64_t *n_specs);

/* s of a scale rule; otherwise what is wrong with it, as a literal. */
const char *lrki_scale_resolve(int32_t rule, double scale, int64_t scale_rank, int64_t rank, double *s);

/* ---- tables: modules by name or input group ------------------------------------------------------------------------ */

/* False on lack of memory. */
bool lrki_table_init(lrk_context *context, lrki_table *table, int64_t n_modules);
void lrki_table_free(lrk_context *context, lrki_table *table);

/* Index of the module of that name (of that input group), -1 if the table has none. */
int32_t lrki_table_find_name(const lrki_table *table, const lrki_module *modules, const char *name);
int32_t lrki_table_find_group(const lrki_table *table, const lrki_module *modules, int32_t group);
/* Enters a module whose name (group) the table does not have. */
void lrki_table_add_name(lrki_table *table, const lrki_module *modules, int32_t module);
void lrki_table_add_group(lrki_table *table, const lrki_module *modules, int32_t module);

#endif
