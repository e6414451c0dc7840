/* SPDX-License-Identifier: MIT */
/*
 * The trainer's side of lorank's scoring: evaluates a mask on the validation batch, from the first block
 * that the mask changes, with what the stage cache kept of the baselines.
 */
#ifndef FT_SCORE_H
#define FT_SCORE_H

#include "data.h"
#include "failure.h"
#include "lorank/lorank.h"
#include "model.h"
#include "progress.h"
#include "settings.h"
#include "task.h"

typedef struct ft_scorer {
    llama_run *run;
    const llama_config *config;
    lrk_adapters *adapters;
    const ft_data *data; /* the rows that the batch is drawn from */
    int64_t n_rows;
    uint64_t seed;
    int draws_every_round;
    ft_batch batch; /* each row is a part */
    llama_score *scores;
    llama_cache *cache;
    size_t cache_bytes;      /* limit */
    int64_t cache_tokens;    /* that it was made for */
    uint64_t values_version; /* of the set at the last evaluation */
    uint64_t state; /* counts changes of parameters or of the batch: the version of the cache's content */
    ft_progress progress;
    int (*between)(void *user, int64_t done); /* told between two questions; non-zero stops scoring; NULL */
    void *between_user;
    int64_t evaluations; /* asked of this worker so far */
    ft_error error;      /* why a callback failed, or "" */
} ft_scorer;

/* The scorer starts as {0} and can be freed whether or not this succeeds. */
int ft_scorer_create(ft_scorer *scorer, const ft_task *task, const ft_settings *settings, llama_run *run,
                     lrk_adapters *adapters, uint64_t seed, ft_error *error);
void ft_scorer_free(ft_scorer *scorer);

/* Before a round: draws its rows if they change, and makes the cache start anew. */
int ft_scorer_begin_round(ft_scorer *scorer, int64_t round, ft_error *error);

/* The stage cache starts anew: what it holds depends on what was asked before, and a resumed run does not have it. */
void ft_scorer_forget(ft_scorer *scorer);

/* Of the tokens of the batch that scores are measured on. */
uint64_t ft_scorer_digest(const ft_scorer *scorer);

/* The callbacks to give to lorank; the scorer must stay where it is. */
void ft_scorer_evaluator(ft_scorer *scorer, lrk_evaluator *evaluator);

#endif
