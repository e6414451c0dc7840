/* SPDX-License-Identifier: MIT */
/*
 * The rig of the tests of passes: one set on the counting host, matrices for its group of modules 0 and 1, and the
 * calls that most tests make. Modules 2 and 3 stand alone, 4 has no rank.
 */
#ifndef PASS_RIG_H
#define PASS_RIG_H

#include "adapters/pass_state.h"
#include "fault.h"
#include "material.h"

#define ROWS    160 /* several chunks, and work enough for a loop */
#define MODULES 5
#define RANKS   12

extern const shape rig_shapes[MODULES];
extern const int32_t rig_group[2]; /* modules 0 and 1 */

extern struct rig {
    fault host;
    lrk_context *context;
    lrk_adapters *set;
    padded x;
    padded dx;
    padded y[2]; /* of the group */
} rig;

void rig_setup(void);
void rig_teardown(void);

/* The status is `want` and the detail has these words in it. */
void rig_expect_words(lrk_status got, lrk_status want, const char *words);
void rig_expect_no_pass(lrk_pass_options options, lrk_status want, const char *words);
lrk_pass *rig_open_mode(int32_t mode, uint32_t gradients, lrk_sink *sink);
lrk_sink *rig_make_sink(uint32_t kinds);
lrk_status rig_forward_group(lrk_pass *pass, void *saved, size_t bytes);
lrk_status rig_backward_group(lrk_pass *pass, const void *saved, size_t bytes); /* y serves as dy */
size_t rig_group_saved_size(void);
/* Drops the first rank of module 2. */
void rig_change_ranks(void);

#endif
