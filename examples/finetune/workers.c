/* SPDX-License-Identifier: MIT */
/*
 * Over MPI, with gathers and broadcasts alone: what is summed is summed here, worker after worker. An error in MPI ends
 * all workers, as is MPI's default.
 */
#ifdef LORANK
#include "workers.h"

#include "lorank/lorank.h"

#ifndef FT_MPI

int ft_workers_begin(ft_args *args, ft_error *error)
{
    (void)args;
    (void)error;
    return 0;
}

void ft_workers_end(int status)
{
    (void)status;
}

int ft_workers_many(void)
{
    return 0;
}

const lrk_workers *ft_workers(void)
{
    return NULL;
}

int ft_workers_share(int64_t batch, int64_t *first, int64_t *n, ft_error *error)
{
    (void)error;
    *first = 0;
    *n = batch;
    return 0;
}

void ft_workers_sum(double *values, int n)
{
    (void)values;
    (void)n;
}

int ft_workers_sum_gradients(lrk_adapters *adapters, ft_error *error)
{
    (void)adapters;
    (void)error;
    return 0;
}

int ft_workers_check(const lrk_adapters *adapters, int64_t round, int64_t evaluations, ft_error *error)
{
    (void)adapters;
    (void)round;
    (void)evaluations;
    (void)error;
    return 0;
}

#else
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUMS_MOST    4
#define WORKERS_MOST 256

static char out_path[4096];

static int32_t gather(void *user, const double *own, int64_t n, double *all)
{
    (void)user;
    if (n > INT_MAX) return 1;
    return MPI_Allgather(own, (int)n, MPI_DOUBLE, all, (int)n, MPI_DOUBLE, MPI_COMM_WORLD) != MPI_SUCCESS;
}

static lrk_workers self = {.struct_size = sizeof self, .gather = gather, .n_workers = 1};

static int speak_apart(ft_args *args, ft_error *error)
{
    char log[sizeof out_path + 8];
    snprintf(out_path, sizeof out_path, "%s.worker%d", args->out, (int)self.worker);
    snprintf(log, sizeof log, "%s.log", out_path);
    args->out = out_path;
    if (!freopen(log, "w", stdout) || !freopen(log, "a", stderr))
        return ft_fail(error, "cannot write %s", log);
    return 0;
}

int ft_workers_begin(ft_args *args, ft_error *error)
{
    int worker = 0, n = 1;
    MPI_Init(NULL, NULL);
    MPI_Comm_rank(MPI_COMM_WORLD, &worker);
    MPI_Comm_size(MPI_COMM_WORLD, &n);
    self.worker = worker;
    self.n_workers = n;
    if (n == 1) return 0;
    if (n > WORKERS_MOST) return ft_fail(error, "more than %d workers", WORKERS_MOST);
    if (args->mode != FT_MODE_TRAIN) return ft_fail(error, "several workers only train");
    if (args->resume || args->checkpoint_every)
        return ft_fail(error, "several workers keep no checkpoints: no --resume, no --checkpoint-every");
    return worker == 0 ? 0 : speak_apart(args, error);
}

void ft_workers_end(int status)
{
    int joined = 0;
    MPI_Initialized(&joined);
    if (!joined) return;
    fflush(stdout);
    if (status != 0 && self.n_workers > 1) MPI_Abort(MPI_COMM_WORLD, status);
    MPI_Finalize();
}

int ft_workers_many(void)
{
    return self.n_workers > 1;
}

const lrk_workers *ft_workers(void)
{
    return &self;
}

int ft_workers_share(int64_t batch, int64_t *first, int64_t *n, ft_error *error)
{
    if (batch < self.n_workers)
        return ft_fail(error, "a batch of %lld rows for %d workers", (long long)batch, (int)self.n_workers);
    *first = batch * self.worker / self.n_workers;
    *n = batch * (self.worker + 1) / self.n_workers - *first;
    return 0;
}

void ft_workers_sum(double *values, int n)
{
    double all[SUMS_MOST * WORKERS_MOST];
    (void)gather(NULL, values, n, all);
    for (int i = 0; i < n; i++) {
        values[i] = 0;
        for (int w = 0; w < self.n_workers; w++)
            values[i] += all[w * n + i];
    }
}

/* ---- gradients and parameters ---- */

static int64_t modules_of(const lrk_adapters *adapters)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    (void)lrk_adapters_info_get(adapters, &info);
    return info.modules;
}

/* A, B and gates of a module, or their gradients; empty where there is none. */
static lrk_tensor tensor_of(const lrk_adapters *adapters, int64_t module, int32_t which)
{
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    if (lrk_adapters_tensor(adapters, (int32_t)module, which, &tensor)) tensor.rows = 0;
    return tensor;
}

static const int32_t gradients[] = {LRK_TENSOR_GRAD_A, LRK_TENSOR_GRAD_B, LRK_TENSOR_GRAD_GATES};

/* Between the set's gradients and one run of floats; returns how many there are. floats NULL: counts only. */
static int64_t move_gradients(const lrk_adapters *adapters, float *floats, int into_set)
{
    int64_t n = 0;
    for (int64_t m = 0; m < modules_of(adapters); m++)
        for (int i = 0; i < 3; i++) {
            lrk_tensor t = tensor_of(adapters, m, gradients[i]);
            size_t bytes = (size_t)(t.rows * t.cols) * sizeof *floats;
            if (floats && bytes)
                memcpy(into_set ? t.data : floats + n, into_set ? floats + n : t.data, bytes);
            n += t.rows * t.cols;
        }
    return n;
}

int ft_workers_sum_gradients(lrk_adapters *adapters, ft_error *error)
{
    if (self.n_workers == 1) return 0;
    int64_t n = move_gradients(adapters, NULL, 0);
    float *own = malloc((size_t)n * sizeof *own);
    float *all = self.worker == 0 ? malloc((size_t)(n * self.n_workers) * sizeof *all) : NULL;
    if (n > INT_MAX || !own || (self.worker == 0 && !all)) {
        free(own);
        free(all);
        return ft_fail_memory(error, "the workers' gradients");
    }
    move_gradients(adapters, own, 0);
    MPI_Gather(own, (int)n, MPI_FLOAT, all, (int)n, MPI_FLOAT, 0, MPI_COMM_WORLD);
    for (int64_t i = 0; all && i < n; i++) {
        double sum = 0;
        for (int w = 0; w < self.n_workers; w++)
            sum += (double)all[w * n + i];
        own[i] = (float)sum;
    }
    MPI_Bcast(own, (int)n, MPI_FLOAT, 0, MPI_COMM_WORLD);
    move_gradients(adapters, own, 1);
    free(own);
    free(all);
    return 0;
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t digest_of(const lrk_adapters *adapters)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int64_t m = 0; m < modules_of(adapters); m++) {
        const uint64_t *identities = NULL;
        int64_t rank = 0;
        (void)lrk_adapters_ranks(adapters, (int32_t)m, &identities, NULL, &rank);
        hash = hash_bytes(hash, identities, (size_t)rank * sizeof *identities);
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
            lrk_tensor t = tensor_of(adapters, m, which);
            hash = hash_bytes(hash, t.data, (size_t)(t.rows * t.cols) * sizeof *t.data);
        }
    }
    return hash;
}

int ft_workers_check(const lrk_adapters *adapters, int64_t round, int64_t evaluations, ft_error *error)
{
    uint64_t digest = digest_of(adapters), all[2 * WORKERS_MOST], own[2] = {digest, (uint64_t)evaluations};
    MPI_Allgather(own, 2, MPI_UINT64_T, all, 2, MPI_UINT64_T, MPI_COMM_WORLD);
    for (int w = 1; w < self.n_workers; w++)
        if (all[2 * w] != all[0])
            return ft_fail(error, "after round %lld worker %d has other ranks or parameters than worker 0",
                           (long long)round, w);
    if (self.worker != 0) return 0;
    printf("workers %d  round %lld  digest %016llx  evaluations", (int)self.n_workers, (long long)round,
           (unsigned long long)digest);
    for (int w = 0; w < self.n_workers; w++)
        printf(" %lld", (long long)all[2 * w + 1]);
    printf("\n");
    fflush(stdout);
    return 0;
}
#endif
#endif
