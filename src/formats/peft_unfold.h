/* SPDX-License-Identifier: MIT */
/*
 * Which values a fold can have had, a piece of a rank's row at a time. With f the factor and b0 = B' / f rounded to f32, B was
 * b0 or one of its two neighbours: |B' / f - B| is at most 1/|m_f| <= 1 unit in the last place of B, m_f the significand of f
 * in [1, 2), since a unit of B' is at most 2 of f times a unit of B; what doubles round is far below the half unit that is left.
 * Of these three, those that fold to B' are two at most, as they lie m_f > 1 units of B apart and what rounds to B' is no wider
 * than 2: b0 and, if b0 f lies below B', the neighbour above it, else the one below (all in magnitude; of b0 f = B' only a neighbour
 * below can fold to B', the least normal number, under which units do not shrink). Where it is one, B is known; where it is two, a bit
 * must say which. Where B' is 0 or subnormal (underflow, a gate of 0, B = 0) a bit must say whether B is b0.
 */
#ifndef LRKI_PEFT_UNFOLD_H
#define LRKI_PEFT_UNFOLD_H

#include "../core/core.h"

enum { LRKI_UNFOLD_WORDS = 4, LRKI_UNFOLD_PIECE = 64 * LRKI_UNFOLD_WORDS };

/* Values as bits; of masks, bit i % 64 of word i / 64 is element i's. Elements past the piece are in no mask. */
typedef struct lrki_unfolded {
    uint32_t first
        [LRKI_UNFOLD_PIECE]; /* B unless in `open`; there the one of lesser magnitude, or b0 if in `tiny` */
    uint32_t second[LRKI_UNFOLD_PIECE]; /* that of greater magnitude, else `first` */
    uint64_t open[LRKI_UNFOLD_WORDS];   /* a bit must say */
    uint64_t tiny[LRKI_UNFOLD_WORDS];   /* B' is 0 or subnormal */
    uint64_t lost[LRKI_UNFOLD_WORDS];   /* not tiny, and none of the three folds to B' */
} lrki_unfolded;

/* The n <= LRKI_UNFOLD_PIECE values of B' `folded`, with the context's instructions; the same bits with all of them. */
void lrki_unfold(const lrk_context *context, const float *folded, int64_t n, double factor,
                 lrki_unfolded *unfolded);

/* The same of the folds of b, and in `differs` which of b are not `first`. */
void lrki_fold_and_unfold(const lrk_context *context, const float *b, int64_t n, double factor,
                          lrki_unfolded *unfolded, uint64_t differs[LRKI_UNFOLD_WORDS]);

/* Puts `second` in place of `first` where `chosen` has a bit. */
void lrki_unfold_choose(const lrk_context *context, const uint64_t chosen[LRKI_UNFOLD_WORDS],
                        lrki_unfolded *unfolded);

#endif
