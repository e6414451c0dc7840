/* SPDX-License-Identifier: MIT */
/* Compares sets of identities: the lowest of two estimators on the same state. */
#ifdef LORANK
#include "judge.h"

#include <stdlib.h>

/* The identities of the n lowest scores, for the caller to free; NULL without memory. */
static uint64_t *lowest_identities(const lrk_scores *scores, int64_t n)
{
    int64_t *indices = malloc((size_t)n * sizeof *indices + 1);
    uint64_t *identities = malloc((size_t)n * sizeof *identities + 1);
    int failed = !indices || !identities || lrk_scores_lowest(scores, n, indices);
    for (int64_t i = 0; i < n && !failed; i++) {
        lrk_score score = {.struct_size = sizeof score};
        failed = lrk_scores_get(scores, indices[i], &score);
        identities[i] = score.identity;
    }
    free(indices);
    if (!failed) return identities;
    free(identities);
    return NULL;
}

lrk_status ft_judge_round(ft_judge *judge, lrk_estimator *estimator, uint64_t round, int64_t n)
{
    lrk_scores *scores = NULL;
    lrk_status status = lrk_estimator_run(estimator, round, &scores);
    if (status) return status;
    free(judge->identities);
    judge->n = n;
    judge->identities = lowest_identities(scores, n);
    lrk_scores_destroy(scores);
    return judge->identities ? LRK_OK : LRK_ERR_NOMEM;
}

static int64_t count_common(const uint64_t *a, const uint64_t *b, int64_t n)
{
    int64_t common = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            common += a[i] == b[j];
    return common;
}

int ft_judge_compare(ft_judge *judge, const lrk_scores *scores)
{
    if (!judge->identities || judge->n == 0) return 0;
    uint64_t *lowest = lowest_identities(scores, judge->n);
    if (!lowest) return -1;
    judge->agreement_sum += (double)count_common(lowest, judge->identities, judge->n) / (double)judge->n;
    free(lowest);
    return 0;
}

void ft_judge_free(ft_judge *judge)
{
    free(judge->identities);
    *judge = (ft_judge){0};
}
#endif
