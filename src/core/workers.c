/* SPDX-License-Identifier: MIT */
/*
 * Exchanges between workers. All workers see the same heads and judge them by the same rules, so that they come to the
 * same end without a word more. Numbers travel as doubles that hold 32 bits each, which no copy can change.
 */
#include "workers.h"

#include <inttypes.h>

#include "context.h"

#define WORKERS_MOST 65536

/* A head: where in which call, status, whose it is, claims in halves. */
enum { AT_PLACE = 0, AT_STATUS = 2, AT_WORKER = 3, AT_CLAIMS = 4, HEAD = AT_CLAIMS + 2 * LRKI_CLAIMS };

/* ---- the host's workers ------------------------------------------------------------------------------------------------ */

lrk_status lrk_workers_init(lrk_workers *workers, size_t struct_size)
{
    static const lrk_workers defaults = {.n_workers = 1};
    return lrki_struct_init(workers, struct_size, &defaults, sizeof defaults);
}

lrk_status lrki_workers_read(const lrk_workers *given, lrk_workers *workers, const char **why)
{
    (void)lrk_workers_init(workers, sizeof *workers);
    *why = "lrk_workers: struct_size is too small, or larger than known here and the tail is not zero";
    lrk_status status = lrki_struct_read(NULL, workers, sizeof *workers, given, 8, "lrk_workers");
    if (status != LRK_OK) return status;
    *why = NULL;
    if (workers->flags != 0) *why = "lrk_workers: flags must be 0";
    if (workers->n_workers < 1 || workers->n_workers > WORKERS_MOST)
        *why = "lrk_workers: n_workers must be in 1..65536";
    else if (workers->worker < 0 || workers->worker >= workers->n_workers)
        *why = "lrk_workers: worker must be in 0..n_workers - 1";
    else if (workers->n_workers > 1 && workers->gather == NULL)
        *why = "lrk_workers: gather must not be NULL with more than one worker";
    return *why == NULL ? LRK_OK : LRK_ERR_ARGUMENT;
}

bool lrki_workers_open(lrk_context *context)
{
    if (context->workers.n_workers == 1) return true;
    context->heads = lrki_array(context, context->workers.n_workers, HEAD * sizeof(double));
    return context->heads != NULL;
}

void lrki_workers_close(lrk_context *context)
{
    lrki_array_free(context, context->heads, context->workers.n_workers, HEAD * sizeof(double));
}

int32_t lrki_workers(const lrk_context *context)
{
    return context->workers.n_workers;
}

int32_t lrki_worker(const lrk_context *context)
{
    return context->workers.worker;
}

/* ---- heads ------------------------------------------------------------------------------------------------------------- */

static void put(double *at, uint64_t value)
{
    at[0] = (double)(uint32_t)value;
    at[1] = (double)(uint32_t)(value >> 32);
}

static uint64_t taken(const double *at)
{
    return lrki_talk_word(at[0]) | (uint64_t)lrki_talk_word(at[1]) << 32;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++)
        hash = lrki_hash_mix(hash, (unsigned char)*text);
    return hash;
}

static void fill_head(const lrki_talk *talk, const char *place, lrk_status own, const lrki_claim *claims,
                      int32_t n_claims, double head[HEAD])
{
    put(head + AT_PLACE, hash_text(hash_text(0, talk->call), place));
    head[AT_STATUS] = own;
    head[AT_WORKER] = lrki_worker(talk->context);
    for (int32_t i = 0; i < n_claims; i++)
        put(head + AT_CLAIMS + 2 * (int64_t)i, claims[i].value);
}

static lrk_status failure_of(const double *head)
{
    double status = head[AT_STATUS];
    return status >= INT32_MIN && status <= INT32_MAX ? (lrk_status)status : LRK_ERR_WORKERS;
}

/* Whether others failed: LRK_ERR_CANCELLED if all that did were told to stop. */
static lrk_status judge_failures(const lrki_talk *talk, lrk_status own)
{
    const double *heads = talk->context->heads;
    int32_t failed = -1, n = lrki_workers(talk->context);
    bool cancelled = true;
    for (int32_t w = n - 1; w >= 0; w--) {
        lrk_status status = failure_of(heads + (int64_t)w * HEAD);
        if (status == LRK_OK) continue;
        failed = w;
        cancelled = cancelled && status == LRK_ERR_CANCELLED;
    }
    if (failed < 0 || own != LRK_OK) return own;
    return lrki_fail(talk->context, cancelled ? LRK_ERR_CANCELLED : LRK_ERR_WORKERS,
                     "%s: worker %d of %d failed: %s", talk->call, (int)failed, (int)n,
                     lrk_status_name(failure_of(heads + (int64_t)failed * HEAD)));
}

static lrk_status judge_place(const lrki_talk *talk, int32_t w, const char *place)
{
    const double *first = talk->context->heads, *head = first + (int64_t)w * HEAD;
    if (taken(head + AT_PLACE) == taken(first + AT_PLACE)) return LRK_OK;
    return lrki_fail(talk->context, LRK_ERR_WORKERS,
                     "%s: workers 0 and %d are at different places; this one is at %s", talk->call, (int)w,
                     place);
}

/* Shares of the work go by the workers' numbers: copies in another order would be scores of other ranks. */
static lrk_status judge_number(const lrki_talk *talk, int32_t w)
{
    double number = talk->context->heads[(int64_t)w * HEAD + AT_WORKER];
    if (number == w) return LRK_OK;
    return lrki_fail(talk->context, LRK_ERR_HOST,
                     "%s: gather() gave what worker %g sent where that of worker %d belongs", talk->call,
                     number, (int)w);
}

static lrk_status judge_claim(const lrki_talk *talk, int32_t w, const lrki_claim *claims, int32_t i)
{
    const double *first = talk->context->heads, *head = first + (int64_t)w * HEAD;
    int32_t at = AT_CLAIMS + 2 * i;
    if (taken(head + at) == taken(first + at)) return LRK_OK;
    return lrki_fail(talk->context, LRK_ERR_WORKERS,
                     "%s: worker %d differs from worker 0 in %s (%016" PRIx64 ", %016" PRIx64 ")", talk->call,
                     (int)w, claims[i].what, taken(head + at), taken(first + at));
}

/* ---- exchanges --------------------------------------------------------------------------------------------------------- */

uint32_t lrki_talk_word(double number)
{
    return number >= 0 && number <= UINT32_MAX ? (uint32_t)number : 0;
}

lrki_talk lrki_talk_begin(lrk_context *context, const char *call)
{
    return (lrki_talk){context, call, lrki_workers(context) == 1};
}

lrk_status lrki_talk_gather(lrki_talk *talk, const double *own, int64_t n, double *all)
{
    const lrk_workers *workers = &talk->context->workers;
    int32_t answer = workers->gather(workers->user, own, n, all);
    if (answer == 0) return LRK_OK;
    talk->over = true;
    return lrki_fail(talk->context, LRK_ERR_HOST, "%s: gather() returned %d", talk->call, (int)answer);
}

lrk_status lrki_talk_agree(lrki_talk *talk, const char *place, lrk_status own, const lrki_claim *claims,
                           int32_t n_claims)
{
    if (talk->over) return own;
    double head[HEAD] = {0};
    fill_head(talk, place, own, claims, n_claims, head);
    lrk_status status = lrki_talk_gather(talk, head, HEAD, talk->context->heads);
    if (status != LRK_OK) return own != LRK_OK ? own : status;
    status = judge_failures(talk, own);
    int32_t n = lrki_workers(talk->context);
    for (int32_t w = 1; w < n && status == LRK_OK; w++)
        status = judge_place(talk, w, place);
    for (int32_t w = 0; w < n && status == LRK_OK; w++)
        status = judge_number(talk, w);
    for (int32_t i = 0; i < n_claims; i++)
        for (int32_t w = 1; w < n && status == LRK_OK; w++)
            status = judge_claim(talk, w, claims, i);
    talk->over = status != LRK_OK;
    return status;
}

lrk_status lrki_talk_end(lrki_talk *talk, const char *place, lrk_status own, const lrki_claim *claims,
                         int32_t n_claims)
{
    lrk_status status = lrki_talk_agree(talk, place, own, claims, n_claims);
    talk->over = true;
    return status;
}
