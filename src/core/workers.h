/* SPDX-License-Identifier: MIT */
/*
 * What workers say to each other in a collective call. A talk is a sequence of exchanges; in each of them every worker
 * gives its status and up to LRKI_CLAIMS numbers that must be the same on all. The first exchange that does not succeed,
 * on any worker, ends the talk on all of them: afterwards nothing is exchanged, so that a worker may give its failure to
 * whichever exchange comes next and leave. With one worker a talk passes on the status that it is given.
 */
#ifndef LRKI_WORKERS_H
#define LRKI_WORKERS_H

#include "core.h"
#include "lorank/workers.h"

#define LRKI_CLAIMS 4

typedef struct lrki_claim {
    const char *what; /* "the scores": what differs */
    uint64_t value;
} lrki_claim;

typedef struct lrki_talk {
    lrk_context *context;
    const char *call; /* for details */
    bool over;
} lrki_talk;

int32_t lrki_workers(const lrk_context *context); /* how many  */
int32_t lrki_worker(const lrk_context *context);  /* which one */

lrki_talk lrki_talk_begin(lrk_context *context, const char *call);

/*
 * An exchange. `place` says where in the call it is, and so may not be the text of another place. LRK_OK: all workers
 * succeeded and claim the same. Else `own` if that is a failure; LRK_ERR_CANCELLED if others failed and with nothing
 * else; LRK_ERR_WORKERS; LRK_ERR_HOST if the exchange failed. Once the talk is over: `own`.
 */
lrk_status lrki_talk_agree(lrki_talk *talk, const char *place, lrk_status own, const lrki_claim *claims,
                           int32_t n_claims);
/* The last exchange of a talk. */
lrk_status lrki_talk_end(lrki_talk *talk, const char *place, lrk_status own, const lrki_claim *claims,
                         int32_t n_claims);
/* After an agreement, with more than one worker: the host's gather of n finite numbers. */
lrk_status lrki_talk_gather(lrki_talk *talk, const double *own, int64_t n, double *all);

/* The 32 bits that a gathered number holds. 0 where the host's copy holds none. */
uint32_t lrki_talk_word(double number);

#endif
