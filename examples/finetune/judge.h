/* SPDX-License-Identifier: MIT */
/* A second estimator that scores every state too: how many of a round's lowest ranks it finds as well. */
#ifndef FT_JUDGE_H
#define FT_JUDGE_H

#include "failure.h"
#include "lorank/lorank.h"

typedef struct ft_judge {
    uint64_t *identities; /* [n] that it would prune in the round to come */
    int64_t n;
    double agreement_sum; /* over rounds: share of the lowest that both found */
} ft_judge;

/* Lets the estimator score the state that the round is about to score; what it would prune of n is kept. */
lrk_status ft_judge_round(ft_judge *judge, lrk_estimator *estimator, uint64_t round, int64_t n);

/* Compares a round's scores with what was kept. 0, or -1 without memory. */
int ft_judge_compare(ft_judge *judge, const lrk_scores *scores);
void ft_judge_free(ft_judge *judge);

#endif
