/* SPDX-License-Identifier: MIT */
/*
 * Directions of new ranks: how row j of A starts. All but LRK_INIT_ORTHOGONAL are functions of (seed, identity) alone; that
 * one needs an orthonormal basis of the module's other rows, whose memory is taken before the commit.
 */
#ifndef LRKI_DIRECTION_H
#define LRKI_DIRECTION_H

#include "set.h"

#define LRKI_TRIPLET_DEVIATION 0.02f /* of A and B under LRK_INIT_TRIPLET */

#define LRKI_INIT_UNSET (-1) /* A and B as their memory is: whoever asked for it fills them */

typedef struct lrki_directions {
    int32_t init;  /* LRK_INIT_... or LRKI_INIT_UNSET */
    uint64_t seed; /* of the set   */
    double *basis; /* [held]: n_basis rows of the module's n_in, orthonormal */
    int64_t n_basis;
    int64_t held;
} lrki_directions;

/* Takes the memory that the largest of these changes needs; `init` is set. LRK_ERR_NOMEM. */
lrk_status lrki_directions_prepare(lrk_adapters *adapters, const lrki_module_change *parts,
                                   lrki_directions *directions);
void lrki_directions_free(lrk_adapters *adapters, lrki_directions *directions);

/* Begins with a module whose kept rows are in place. */
void lrki_directions_enter(lrki_directions *directions, const lrki_module *module, const float *a,
                           const lrki_module_change *part);
/* Row i of the module's new A. */
void lrki_direction_begin(lrki_directions *directions, const lrki_module *module, float *a, int64_t i,
                          uint64_t identity);

#endif
