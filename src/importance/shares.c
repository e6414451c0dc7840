/* SPDX-License-Identifier: MIT */
/*
 * A run with other workers: that all begin alike, who asks its host what, and that all end with the same scores. With one
 * worker all of it is lrki_ask(). Invariant: what is exchanged depends on nothing that a single worker knows, so that
 * all workers exchange the same until one fails.
 */
#include <string.h>

#include "importance.h"

int32_t lrki_questions_most(const lrk_estimator *estimator, const lrk_evaluator *host)
{
    return host->max_per_call * lrki_workers(estimator->adapters->context);
}

/* ---- beginning and end --------------------------------------------------------------------------------- */

static uint64_t digest_of_ranks(const lrk_adapters *adapters)
{
    uint64_t hash = lrki_hash_mix(0, (uint64_t)adapters->n_modules);
    for (int64_t m = 0; m < adapters->n_modules; m++) {
        const lrki_bank *bank = &adapters->modules[m].bank;
        hash = lrki_hash_mix(hash, (uint64_t)bank->rank);
        for (int64_t i = 0; i < bank->rank; i++)
            hash = lrki_hash_mix(hash, bank->identities[i]);
    }
    return hash;
}

static lrk_status mix_bytes(void *user, void *data, size_t n)
{
    uint64_t *hash = user;
    const unsigned char *bytes = data;
    for (size_t at = 0; at < n; at += sizeof *hash) {
        uint64_t word = 0;
        memcpy(&word, bytes + at, n - at < sizeof word ? n - at : sizeof word);
        *hash = lrki_hash_mix(*hash, word);
    }
    return LRK_OK;
}

/* What a checkpoint would hold of it. */
static lrk_status digest_of_held(const lrk_estimator *estimator, uint64_t *hash)
{
    *hash = 0;
    lrki_state state = {
        .context = estimator->adapters->context, .name = "scoring", .user = hash, .move = mix_bytes};
    lrki_estimator_save(estimator, &state);
    return state.status;
}

lrk_status lrki_estimator_meet(lrk_estimator *estimator, lrk_status own)
{
    const lrk_adapters *adapters = estimator->adapters;
    estimator->talk = lrki_talk_begin(adapters->context, "lrk_estimator_run");
    if (estimator->talk.over) return own;
    uint64_t held = 0;
    if (own == LRK_OK) own = digest_of_held(estimator, &held);
    const lrki_claim claims[] = {{"the ranks of the set", digest_of_ranks(adapters)},
                                 {"the estimator, its paused run or what it observed", held}};
    return lrki_talk_agree(&estimator->talk, "its beginning", own, claims, 2);
}

lrk_status lrki_estimator_agree(lrk_estimator *estimator, lrk_status own, const lrk_scores *scores)
{
    if (estimator->talk.over) return own;
    const lrki_claim claim = {"the scores", own == LRK_OK ? lrki_scores_digest(scores) : 0};
    return lrki_talk_end(&estimator->talk, "its end", own, &claim, 1);
}

/* ---- what all are asked ---------------------------------------------------------------------------------- */

static uint64_t digest_of_parts(const lrk_loss_part *parts, int64_t n)
{
    uint64_t hash = 0;
    (void)mix_bytes(&hash, (void *)parts, (size_t)n * sizeof *parts); /* only reads */
    return hash;
}

static lrk_status agree_on_baseline(lrk_estimator *estimator, const lrk_evaluator *host, lrk_status own,
                                    int32_t baseline, const lrk_loss_part *parts, const double *gradient)
{
    bool all = baseline == LRK_BASELINE_ALL;
    lrki_claim claims[] = {{all ? "the losses with all ranks" : "the losses with no rank", 0},
                           {all ? "the mask derivatives at 1" : "the mask derivatives at 0", 0}};
    if (own == LRK_OK) {
        claims[0].value = digest_of_parts(parts, host->n_parts);
        if (gradient != NULL)
            (void)mix_bytes(&claims[1].value, (void *)gradient,
                            (size_t)estimator->adapters->n_ranks * sizeof *gradient); /* only reads */
    }
    return lrki_talk_agree(&estimator->talk, all ? "the set's losses" : "the base's losses", own, claims, 2);
}

lrk_status lrki_differentiate(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                              const lrki_question *question, int64_t index, lrk_loss_part *parts,
                              double *gradient)
{
    lrk_status status = lrki_ask_gradient(estimator, host, set, question, index, parts, gradient);
    if (estimator->talk.over) return status;
    return agree_on_baseline(estimator, host, status, question->baseline, parts, gradient);
}

/* ---- what is shared out ------------------------------------------------------------------------------------ */

/* The first of n questions that is not an earlier worker's. */
static int32_t first_of(int32_t n, int32_t worker, int32_t n_workers)
{
    return (int32_t)((int64_t)n * worker / n_workers);
}

typedef struct share {
    int32_t n; /* questions of all workers */
    int32_t n_parts;
    int64_t room;         /* numbers that a worker gives: those of the largest share */
    double *own;          /* [room]             */
    double *all;          /* [n_workers x room] */
    lrk_loss_part *parts; /* [n x n_parts]      */
} share;

static lrk_loss_part *parts_of(const share *s, int32_t worker, int32_t n_workers, size_t *bytes)
{
    int32_t first = first_of(s->n, worker, n_workers), end = first_of(s->n, worker + 1, n_workers);
    *bytes = (size_t)(end - first) * (size_t)s->n_parts * sizeof *s->parts;
    return s->parts + (int64_t)first * s->n_parts;
}

/* The answers of all workers go to their places. */
static lrk_status exchange(lrki_talk *talk, const share *s)
{
    int32_t n_workers = lrki_workers(talk->context);
    size_t bytes;
    const lrk_loss_part *mine = parts_of(s, lrki_worker(talk->context), n_workers, &bytes);
    memcpy(s->own, mine, bytes);
    lrk_status status = lrki_talk_gather(talk, s->own, s->room, s->all);
    for (int32_t w = 0; w < n_workers && status == LRK_OK; w++) {
        lrk_loss_part *theirs = parts_of(s, w, n_workers, &bytes);
        memcpy(theirs, s->all + w * s->room, bytes);
    }
    return status;
}

static lrk_status ask_mine(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                           const lrki_question *questions, int64_t index, const share *s)
{
    lrk_context *context = estimator->adapters->context;
    if (s->own == NULL || s->all == NULL) return lrki_fail_nomem(context, "the workers' answers");
    int32_t worker = lrki_worker(context), n_workers = lrki_workers(context);
    int32_t first = first_of(s->n, worker, n_workers), end = first_of(s->n, worker + 1, n_workers);
    if (end == first) return LRK_OK;
    return lrki_ask(estimator, host, set, questions + first, end - first, index + first,
                    s->parts + (int64_t)first * s->n_parts);
}

static lrk_status share_out(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                            const lrki_question *questions, int32_t n, int64_t index, lrk_loss_part *parts)
{
    lrk_context *context = estimator->adapters->context;
    int32_t n_workers = lrki_workers(context), most = (n + n_workers - 1) / n_workers;
    share s = {.n = n, .n_parts = host->n_parts, .room = 2 * (int64_t)most * host->n_parts, .parts = parts};
    s.own = lrki_array(context, s.room, sizeof *s.own);
    s.all = lrki_array(context, s.room, (size_t)n_workers * sizeof *s.all);
    const lrki_claim claims[] = {{"the number of evaluations before", (uint64_t)index},
                                 {"the number asked at once (max_per_call)", (uint64_t)n}};
    lrk_status status = ask_mine(estimator, host, set, questions, index, &s);
    status = lrki_talk_agree(&estimator->talk, "evaluations", status, claims, 2);
    if (status == LRK_OK) status = exchange(&estimator->talk, &s);
    lrki_array_free(context, s.own, s.room, sizeof *s.own);
    lrki_array_free(context, s.all, s.room, (size_t)n_workers * sizeof *s.all);
    return status;
}

lrk_status lrki_evaluate(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                         const lrki_question *questions, int32_t n, int64_t index, lrk_loss_part *parts)
{
    bool baseline = questions[0].flat == LRKI_BASELINE_SELF;
    if (!baseline && !estimator->talk.over)
        return share_out(estimator, host, set, questions, n, index, parts);
    lrk_status status = lrki_ask(estimator, host, set, questions, n, index, parts);
    if (estimator->talk.over) return status;
    return agree_on_baseline(estimator, host, status, questions[0].baseline, parts, NULL);
}
