/* SPDX-License-Identifier: MIT */
/* A set of three modules and six ranks for tests of what estimators observe; every helper ck_asserts that it succeeds. */
#ifndef OBSERVED_H
#define OBSERVED_H

#include "small_set.h"

extern const small_module observed_shapes[3];

/* A, B and gates become random. */
void observed_fill(const small_set *s, uint64_t *random);
/* The caller destroys. */
lrk_scores *observed_scores(lrk_estimator *estimator);
lrk_score observed_score(const lrk_scores *scores, int64_t i);
lrk_estimator *observed_sensitivity(const small_set *s, int32_t form, uint32_t flags, double b1, double b2);
lrk_estimator *observed_taylor(const small_set *s, int32_t form);

#endif
